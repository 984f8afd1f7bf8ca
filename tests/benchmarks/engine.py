"""What a sweep's loop saves: the same recipes with the same results by three loops of others, and by the workbench's own.

One fixed list of recipes is replayed in every arm (`engine_arms.py`): same order of examples, initial weights,
precision, effective batch and evaluation, a constant learning rate, no averaging of weights, and no dropout, so that
results can be compared. An arm whose loss on the dev set differs from N2's by more than 1e-4 is void, except N3, whose
batches are others, and `ours, bfloat16`, all else being in float32: how far its loss is from N2's is shown
(`loss_apart`). Texts are made of words of docstrings, their lengths drawn from a lognormal distribution: `chat`
(median 11 tokens, padded to 128 by N1), `paragraphs` (median 64 tokens, cut at 512) and `128` (the same, cut at 128).
Arms are interleaved, in another order in every round; figures are medians over rounds of ratios within a round. Steps
and evaluation are compared; what a run takes beside them stands apart (`fixed_seconds`).

    python tests/benchmarks/engine.py [--minutes 8] [--out results/engine.json] [--encoder minilm-l3]
    python tests/benchmarks/engine.py --table        # prints the table for README.md of the record
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import importlib.util
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
GATE = 1e-4
"""The most by which losses on the dev set may differ."""

PROFILES = {  # median of tokens, sigma of their logarithm, tokens at most, training examples, dev examples
    "chat": (11, 0.65, 128, 96, 56),
    "128": (64, 0.8, 128, 64, 40),
    "paragraphs": (64, 0.8, 512, 64, 40),
}
"""More than half as many dev examples as training examples: a run is evaluated once, at its end."""

BATCH = 32
PER_WORD = 1.3
"""Tokens of a word of these texts, about."""
ARMS = ("N1", "N2", "N3", "ours")
TRL = "TRL"
"""`SFTTrainer`, of language models alone, and where it is installed."""
IN_BFLOAT16 = "ours, bfloat16"
"""Ours as `precision="auto"` has it on machines with the instructions; all others are in float32."""
WHOLE = "N2, whole runs"
"""All that a run takes, over what ours takes: reading the model, records, the latency of a prediction."""
WITHOUT = ("ours without packed rows", "ours without similar lengths")
"""Rows padded in micro-batches of similar length; and padded to the longest of the whole step."""


def write_data(folder: Path, name: str, median: float, sigma: float) -> Path:
    """Write a folder of tables of texts of these lengths, and return its path."""
    from workbench.tasks import classification

    said = classification("pytopics", train=600, dev=8, test=8).splits().train
    rng, place, number = np.random.default_rng(0), folder / name, 0
    place.mkdir()
    for side, count in (("train", 160), ("validation", 100), ("test", 16)):
        with (place / f"{side}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            for _ in range(count):
                wanted = max(2, round((median * float(np.exp(sigma * rng.standard_normal())) - 2) / PER_WORD))
                words: list[str] = said[number]["text"].split()
                while len(words) < wanted:
                    words += said[int(rng.integers(len(said)))]["text"].split()
                # Numbered, so that no text is twice among them.
                table.writerow([" ".join([*words[: wanted - 1], str(number)]), said[number]["labels"][0]])
                number += 1
    return place


def write_questions(folder: Path) -> Path:
    """Write a table of prompts with short answers, and return its path."""
    from workbench.tasks import classification

    said = classification("pytopics", train=96, dev=8, test=8).splits().train
    path = folder / "questions.jsonl"
    lines = [{"prompt": f"What is this about? {each['text']}", "completion": each["labels"][0]} for each in said]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_model(folder: Path, model: str, auto_class: str) -> str:
    """Write a built-in model without dropout into a folder, and return its name for a recipe."""
    from workbench.data import models

    place = folder / model
    built = models.build(model, auto_class)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(built.config, name):
            setattr(built.config, name, 0.0)
    built.save_pretrained(place)
    models.tokenizer(model).save_pretrained(place)
    return str(place)


def jobs_of(folder: Path, encoder: str, writer: str, only: str = "") -> list[Any]:
    """The recipes whose name holds `only`, with what every arm of them starts from."""
    import torch
    from engine_arms import Job

    from workbench import Recipe, full, head, peft, training
    from workbench.tasks import classification, text_generation
    from workbench.training.tuning import Tuning

    def lora(rate: float) -> Any:
        return peft("lora", learning_rate=rate, r=8, lora_alpha=16, target_modules="all-linear")

    made: list[tuple[str, str, Recipe]] = []
    how: dict[str, Any] = {"epochs": 1, "warmup_steps": 0, "averaging": None, "precision": "float32"}
    model = write_model(folder, encoder, "AutoModel")
    for profile, (median, sigma, most, train, dev) in PROFILES.items():
        data = write_data(folder, profile, median, sigma)
        task = classification(str(data), train=train, dev=dev, test=8, max_length=most)
        for method in (full(learning_rate=1e-4), lora(1e-3), head(learning_rate=1e-2)):
            recipe = Recipe(task=task, model=model, method=method, batch_size=BATCH, **how)
            made.append((f"{method.name}, {profile}", profile, recipe))
    if writer:
        model = write_model(folder, writer, "AutoModelForCausalLM")
        task = text_generation(str(write_questions(folder)), train=16, dev=10, test=8, max_new_tokens=8)
        recipe = Recipe(task=task, model=model, method=lora(2e-4), batch_size=8, **how)
        made.append(("lora, generation", "generation", recipe))
    found = []
    for name, profile, recipe in made:
        if only not in name:
            continue
        training.warm_up(recipe)
        start = Tuning(recipe, torch.device("cpu"), None)
        found.append(Job(name, profile, recipe, {n: p.detach().clone() for n, p in start.parameters.items()}))
    return found


def floor_flops(job: Any) -> float:
    """F*: the operations that a run's useful tokens need; of a frozen body once a row, though runs of a sweep share it."""
    import torch

    from workbench import flops
    from workbench.data import models
    from workbench.training.grading import questions
    from workbench.training.tuning import Tuning

    recipe = job.recipe
    shape = flops.shape(Tuning(recipe, torch.device("cpu"), None).model)
    if shape is None:
        raise AssertionError(f"{job.name}: its operations cannot be counted")
    processor, splits = models.processor(recipe.model), recipe.task.splits()
    rows = recipe.formulation.encode(splits.train, processor)
    dev = questions(recipe.formulation, splits.dev, processor)
    asked = [] if dev.asked is dev.labelled else [n + recipe.task.max_new_tokens for n in dev.asked.lengths.tolist()]
    lengths = [rows.lengths[i] for some in job.batches for i in some]
    return flops.training(shape, lengths) + flops.forward(shape, [*dev.labelled.lengths.tolist(), *asked])


def fixed_costs(folder: Path, arm: str, encoder: str, runs: int = 4) -> dict[str, Any]:
    """Seconds beside steps and evaluation, of the first run of a process and (the median) of later ones; `main` calls this in a
    process of its own."""
    began = time.perf_counter()
    import torch  # noqa: F401
    import transformers  # noqa: F401
    from engine_arms import arms_of, ours, without

    import workbench.training.loop  # noqa: F401
    from workbench.meter import Meter
    from workbench.sweep.training_run import _leave_imports_out_of_collections

    imported = time.perf_counter() - began
    with Meter() as meter:
        job = next(job for job in jobs_of(folder, encoder, "", "lora, chat"))
        _leave_imports_out_of_collections()  # as a sweep does after it has warmed up
        _forget()
        taken = [arms_of(job, meter)[arm]() for _ in range(runs)]
        beside = [each.wall - each.steps for each in taken]
        found = {"imports": imported, "first": beside[0], "later": statistics.median(beside[1:])}
        if arm == "ours":
            for part in ("kept tokens", "kept bases"):
                lacking = []
                for _ in range(runs - 1):
                    with without(part):
                        each = ours(job, meter)
                    lacking.append(each.wall - each.steps)
                found[f"later, without {part}"] = statistics.median(lacking)
            found["latency"] = statistics.median(each.latency for each in taken)
    return found


def _forget() -> None:
    """Nothing is at hand, as in a new process: making the jobs has read models and data."""
    from workbench.data import bases
    from workbench.training import encoding

    bases.forget()
    encoding._encoded.clear()


def memory_over_runs(job: Any, runs: int) -> dict[str, Any]:
    """Resident memory of the process over many runs, and whether the model that they share is bit for bit what it was."""
    from engine_arms import _status, ours

    from workbench.data import bases
    from workbench.meter import Meter

    def content() -> list[str]:
        kept = (base.model for base in bases._kept.values())
        return [hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for model in kept for p in model.parameters()]

    sizes = []
    with Meter() as meter:
        for i in range(runs):
            taken = ours(job, meter)
            sizes.append((i + 1, _status("VmRSS"), taken.wall - taken.steps))
            if i == 0:
                before = content()
    early = sizes[min(9, runs // 4)]
    return {
        "runs": runs,
        "resident_bytes_early": early[1],
        "resident_bytes_last": sizes[-1][1],
        "growth": None if not early[1] or not sizes[-1][1] else sizes[-1][1] / early[1] - 1,
        "early_run": early[0],
        "base_bit_identical": before == content(),
        "fixed_seconds_median": statistics.median(each[2] for each in sizes[1:]),
    }


def asked_costs(writer: str, examples: int) -> dict[str, float]:
    """Seconds of asking a language model about examples, by how likely it finds each of eleven answers behind four examples.

    It is asked as it is; with the beginning that all prompts share read in every row; and with each answer in a pass of its own
    behind a whole prompt, as a plain loop has it.
    """
    from unittest import mock

    from workbench import Recipe, few_shot, training
    from workbench.meter import Meter
    from workbench.objectives import likelihood, prompts
    from workbench.tasks import classification

    task = classification("pytopics", train=64, dev=examples, test=8, max_length=64)
    recipe = Recipe(task=task, model=writer, method=few_shot(shots=4, read="likelihood"), epochs=0)
    found: dict[str, Any] = {"examples": examples}
    changes: dict[str, Any] = {
        "ours": contextlib.nullcontext(),
        "ours without a shared beginning": mock.patch.object(prompts, "WORTH_A_PASS", 1 << 60),
        "an answer a pass": mock.patch.object(likelihood, "cache_of", return_value=None),
    }
    with Meter() as meter:
        for name, change in changes.items():
            with change:
                *_, last = training.train(recipe, meter=meter)
            found[name] = last.usage["evaluate"].seconds
            found[f"accuracy, {name}"] = last.scores["accuracy"]
    return found


def rounds_of(jobs: Sequence[Any], deadline: float, least: int) -> list[dict[str, Any]]:
    """Run every arm of every job, round by round, until the time is over: one row an arm, job and round."""
    from engine_arms import arms_of

    from workbench.meter import Meter

    rows: list[dict[str, Any]] = []
    number, longest = 0, 0.0
    with Meter() as meter:
        while number < least or time.monotonic() + longest < deadline:
            began = time.monotonic()
            for job in jobs:
                arms = arms_of(job, meter)
                names = [*arms]
                names = names[number % len(names) :] + names[: number % len(names)]
                if "ours, first" in arms:  # a later run finds what the first has computed
                    arms["ours, first"]()
                for name in names:
                    taken = arms[name]()
                    if name == "ours without kept features":
                        arms["ours, first"]()
                    rows.append({"job": job.name, "profile": job.profile, "arm": name, "round": number, **vars(taken)})
                    print(f"{number} {job.name:>24} {name:<28} {taken.steps:7.2f} s of {taken.wall:6.2f} s, loss {taken.loss:.5f}",
                          file=sys.stderr, flush=True)  # fmt: skip
            number, longest = number + 1, max(longest, time.monotonic() - began)
    return rows


def summary_of(rows: Sequence[dict[str, Any]], jobs: dict[str, float], peak: float | None) -> list[dict[str, Any]]:
    """One entry a job and arm: medians over rounds, ratios to ours within a round, the gate, and the factors of efficiency."""
    from workbench.result.efficiency import Efficiency

    by = {(row["job"], row["arm"], row["round"]): row for row in rows}
    found = []
    for job, arm in dict.fromkeys((row["job"], row["arm"]) for row in rows):
        own = [row for row in rows if (row["job"], row["arm"]) == (job, arm)]
        ratios = sorted(row["steps"] / by[job, "ours", row["round"]]["steps"] for row in own)
        whole = sorted(row["wall"] / by[job, "ours", row["round"]]["wall"] for row in own)
        apart = max(abs(row["loss"] - by[job, "N2", row["round"]]["loss"]) for row in own)
        middle = sorted(own, key=lambda row: row["steps"])[len(own) // 2]
        useful = Efficiency(
            floor_flops=jobs[job],
            flops=jobs[job],
            tokens=middle["tokens"],
            padded_tokens=middle["padded"],
            busy_seconds=middle["steps"],
            seconds=middle["wall"],
            peak_flops=peak,
        )
        found.append(
            {
                "job": job,
                "profile": own[0]["profile"],
                "arm": arm,
                "rounds": len(own),
                "void": arm not in ("N3", IN_BFLOAT16) and apart > GATE,
                "loss_apart": apart,
                "steps_seconds": statistics.median(row["steps"] for row in own),
                "wall_seconds": statistics.median(row["wall"] for row in own),
                "cpu_seconds": statistics.median(row["cpu"] for row in own),
                "peak_bytes": max((row["peak"] for row in own if row["peak"] is not None), default=None),
                "over_ours": {"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]},
                "wall_over_ours": {"median": statistics.median(whole), "low": whole[0], "high": whole[-1]},
                "useful_tokens": useful.useful_tokens,
                "busy": useful.busy,
                "peak_share_of_floor": useful.peak_share,
            }
        )
    return found


def over_profiles(rows: Sequence[dict[str, Any]], summary: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of steps of all recipes of a profile that learn more than a head, over ours; medians over rounds."""
    void = {(each["job"], each["arm"]) for each in summary if each["void"]}
    found: dict[str, Any] = {}
    for profile in dict.fromkeys(row["profile"] for row in rows):
        of = [row for row in rows if row["profile"] == profile and not row["job"].startswith("head")]
        for arm in (*ARMS[:3], TRL, *WITHOUT, IN_BFLOAT16):
            jobs = {row["job"] for row in of}
            if arm not in {row["arm"] for row in of}:
                continue
            if any((job, arm) in void or (job, "ours") in void for job in jobs):
                found.setdefault(profile, {})[arm] = None
                continue
            found.setdefault(profile, {})[arm] = _over(of, arm, "steps")
        if found[profile]["N2"] is not None:
            found[profile][WHOLE] = _over(of, "N2", "wall")
    return found


def _over(rows: Sequence[dict[str, Any]], arm: str, what: str) -> dict[str, float]:
    """What an arm took of something over what ours took, all recipes together: median over rounds, lowest and highest."""

    def taken(of: str, number: int) -> float:
        return sum(float(row[what]) for row in rows if (row["arm"], row["round"]) == (of, number))

    ratios = sorted(taken(arm, number) / taken("ours", number) for number in sorted({row["round"] for row in rows}))
    return {"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]}


def table_of(record: dict[str, Any]) -> str:
    """The table of README.md: seconds of others over ours, by profile and by recipe."""
    # In the order of the profile that has most: TRL's is of language models alone.
    shown = [*max(record["profiles"].values(), key=len)]
    lines = [f"| recipes | {' | '.join(shown)} |", "|---" * (1 + len(shown)) + "|"]

    def cell(of: dict[str, Any] | None) -> str:
        return "void" if of is None else f"{of['median']:.1f} ({of['low']:.1f} to {of['high']:.1f})"

    for profile, arms in record["profiles"].items():
        of = "LoRA" if profile == "generation" else "full and LoRA"
        lines.append(f"| {of}, {profile} | {' | '.join(cell(arms[arm]) if arm in arms else '' for arm in shown)} |")
    by = {(each["job"], each["arm"]): each for each in record["summary"]}
    for job in dict.fromkeys(each["job"] for each in record["summary"] if each["job"].startswith("head")):
        told = [None if by[job, arm]["void"] or by[job, "ours"]["void"] else by[job, arm]["over_ours"] for arm in ARMS[:3]]
        lines.append(f"| {job}, after the first run | {' | '.join(map(cell, told))} |" + " |" * (len(shown) - 3))
    return "\n".join(lines)


def main() -> None:
    """Run all arms and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=RESULTS / "engine.json")
    options.add_argument("--minutes", type=float, default=8.0, help="for everything; a round that was begun is ended")
    options.add_argument("--rounds", type=int, default=3, help="at least, whatever the minutes")
    options.add_argument("--encoder", default="minilm-l3")
    options.add_argument("--writer", default="smollm2-135m", help="a language model; nothing: none")
    options.add_argument("--runs", type=int, default=200, help="of which resident memory is followed")
    options.add_argument("--asked", type=int, default=24, help="examples that a language model is asked about")
    options.add_argument("--only", default="", help="jobs whose name holds this, without fixed costs")
    options.add_argument("--table", action="store_true", help="print the table of the record, and do nothing else")
    options.add_argument("--fixed", default="", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.table:
        print(table_of(json.loads(chosen.out.read_text(encoding="utf-8"))))
        return
    deadline = time.monotonic() + 60 * chosen.minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "ENGINE_OUT": str(folder / "trainer")}
        os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
        _quiet()
        if chosen.fixed:
            print(json.dumps(fixed_costs(folder, chosen.fixed, chosen.encoder)))
            return
        record = _measured(folder, chosen, deadline)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table_of(record))


def _quiet() -> None:
    warnings.simplefilter("ignore")
    for name in ("mlflow", "mlflow.store.db.utils", "alembic", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.suppress(ImportError):
        from transformers.utils import logging as told

        told.set_verbosity_error()
        told.disable_progress_bar()


def _measured(folder: Path, chosen: argparse.Namespace, deadline: float) -> dict[str, Any]:
    import torch

    from workbench.forecast.machine import measured_peak_flops
    from workbench.meter import host
    from workbench.sweep.training_run import _leave_imports_out_of_collections

    before, fixed = os.getloadavg(), {}
    for arm in () if chosen.only else ARMS:
        command = [sys.executable, __file__, "--fixed", arm, "--encoder", chosen.encoder]
        fixed[arm] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print(arm, fixed[arm], file=sys.stderr, flush=True)
    jobs = jobs_of(folder, chosen.encoder, chosen.writer, chosen.only)
    peaks = [measured_peak_flops(precision="float32")]
    _leave_imports_out_of_collections()  # as a sweep does
    small = min(jobs, key=lambda job: (job.profile != "chat", not job.name.startswith("lora")))
    memory = memory_over_runs(small, chosen.runs) if chosen.runs else None
    asked = asked_costs(chosen.writer, chosen.asked) if chosen.writer and chosen.asked else None
    for job in jobs:  # whatever a process does once is done before anything is timed
        if job.profile in ("chat", "generation"):
            _warmed(job)
    rows = rounds_of(jobs, deadline, chosen.rounds)
    peaks.append(measured_peak_flops(precision="float32"))
    peak = max(each for each in peaks if each is not None)
    summary = summary_of(rows, {job.name: floor_flops(job) for job in jobs}, peak)
    packages = ("torch", "transformers", "peft", "trl", "mlflow", "accelerate", "tokenizers", "workbench")
    return {
        "what": __doc__,
        "machine": {
            "cpu": host.cpu_model(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "system": platform.platform(),
            "gomp_spincount": os.environ.get("GOMP_SPINCOUNT"),
            "load_average": [before, os.getloadavg()],
            "peak_flops": peaks,
        },
        "versions": {"python": platform.python_version()}
        | {each: metadata.version(each) for each in packages if importlib.util.find_spec(each)},
        "options": {n: v for n, v in vars(chosen).items() if n in ("minutes", "rounds", "encoder", "writer", "runs", "only")},
        "rounds": 1 + max(row["round"] for row in rows),
        "fixed_seconds": fixed,
        "memory": memory,
        "asked_seconds": asked,
        "profiles": over_profiles(rows, summary),
        "summary": summary,
        "rows": rows,
    }


def _warmed(job: Any) -> None:
    from engine_arms import arms_of

    from workbench.meter import Meter

    with Meter() as meter:
        for name in ARMS:
            arms_of(job, meter)[name]()


if __name__ == "__main__":
    main()
