"""The parts of `gpu.py`: each measures one thing on the first GPU, and gives plain data.

Every part takes a `Size`. `DRY` is a few seconds on a CPU, for trying the code: what it gives says nothing about a GPU, and the
meter reads a simulated NVML library.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from workbench import Recipe, Study, full, head, peft
from workbench.meter import Meter
from workbench.prices import Offer, carry
from workbench.tasks import classification, text_generation
from workbench.usage import Usage, total

COMPUTING = ("train", "evaluate")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        where: `cuda`, or `cpu` for trying the code.
        seconds: Of each thing that is held for a while.
        texts: Examples that an encoder is trained on.
        graded: Examples that grade it.
        most: Tokens of a text at most.
        seeds: Runs of each setting whose scores are compared.
        width: Width of the language model, whose weights are random.
        layers: Its layers.
        prompts: Examples that it is trained on.
        written: Tokens of each of them, about.
        steps: Optimiser steps that are timed, of each way.
        rounds: How often arms are run in turn.
        at_once: Numbers of runs at once.
        backend: What `torch.compile` makes code with.
        matrix: Width of the matrices that keep a card busy.
        room: Bytes that a run may have where it is to lack memory; on a CPU rows of a micro-batch.
    """

    where: str = "cuda"
    seconds: float = 10.0
    texts: int = 1024
    graded: int = 400
    most: int = 128
    seeds: int = 2
    width: int = 2048
    layers: int = 12
    prompts: int = 128
    written: int = 256
    steps: int = 20
    rounds: int = 3
    at_once: tuple[int, ...] = (1, 2, 3, 4)
    backend: str = "inductor"
    matrix: int = 4096
    room: tuple[int, int] = (2 << 30, 8 << 30)


DRY = Size("cpu", 0.6, 32, 16, 24, 1, 64, 1, 8, 24, 2, 1, (1, 2), "eager", 64, (0, 2))


# What is trained


@dataclass(frozen=True)
class Place:
    """Where a part writes, and what it is given.

    Attributes:
        folder: Where it writes.
        encoder: The encoder that it trains: a built-in model's name, or a folder.
        part: The part's name; empty where nobody asks for what it has so far.
    """

    folder: Path
    encoder: str
    part: str = ""

    def so_far(self, found: Mapping[str, Any]) -> None:
        """Keep what the part has found until now: it is what remains of one that fails later, or takes too long."""
        if self.part:
            draft = self.folder / f"{self.part}.tmp"
            draft.write_text(json.dumps(found), encoding="utf-8")
            draft.replace(kept(self.folder, self.part))


def kept(folder: Path, part: str) -> Path:
    """The file of what a part has found so far."""
    return folder / f"{part}.json"


@contextlib.contextmanager
def contained(found: dict[str, Any], name: str) -> Iterator[None]:
    """An error of the block is written down in its place, and the rest goes on."""
    try:
        yield
    except Exception as error:
        found[name] = {"error": f"{type(error).__name__}: {error}"[:1000]}
        with contextlib.suppress(ImportError):
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def lora(rate: float) -> Any:
    """LoRA as most people begin with it."""
    return peft("lora", learning_rate=rate, r=16, lora_alpha=32, target_modules="all-linear")


def reader(place: Place, size: Size, method: Any, **more: Any) -> Recipe:
    """An encoder that learns how people speak of something (`opinions`, which comes with the package)."""
    task = classification("opinions", train=size.texts, dev=size.graded, test=8, max_length=size.most)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": min(32, size.texts // 2), **more}
    return Recipe(task=task, model=place.encoder, method=method, **settings)


def writer(place: Place, size: Size, method: Any, **more: Any) -> Recipe:
    """A language model with random weights that learns to say what a text is about: its time and memory are a real one's, its
    scores are nobody's."""
    model = place.folder / f"writer-{size.width}x{size.layers}"
    if not (model / "config.json").is_file():
        _write_writer(model, size)
    data = place.folder / f"prompts-{size.prompts}.jsonl"
    if not data.is_file():
        data.write_text("".join(json.dumps(each) + "\n" for each in _prompts(size)), encoding="utf-8")
    task = text_generation(str(data), train=size.prompts, dev=8, test=8, max_new_tokens=4)
    settings: dict[str, Any] = {"epochs": 1, "batch_size": min(16, size.prompts // 2), **more}
    return Recipe(task=task, model=str(model), method=method, **settings)


def _write_writer(folder: Path, size: Size) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from workbench.testing import tiny_decoder

    tiny_decoder(folder)  # for its tokeniser
    words = AutoTokenizer.from_pretrained(folder)
    words.model_max_length = 4 * size.written
    config = LlamaConfig(
        vocab_size=32000 if size.width >= 512 else len(words),
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=max(4, size.width // 128),
        num_key_value_heads=max(2, size.width // 512),
        max_position_embeddings=4 * size.written,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    torch.manual_seed(0)
    with torch.device(size.where):  # drawing half a billion numbers takes a CPU many seconds
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)


def _prompts(size: Size) -> list[dict[str, str]]:
    said = classification("opinions", train=600, dev=8, test=8).splits().train
    rng, found = np.random.default_rng(0), []
    for i in range(size.prompts + 16):
        wanted = max(8, round(size.written * float(np.exp(0.5 * rng.standard_normal() - 0.3))))
        text = str(i)
        while len(text) < wanted:  # the tokeniser reads bytes
            text += " " + said[int(rng.integers(len(said)))]["text"]
        found.append({"prompt": text[: 2 * size.written], "completion": said[i]["labels"][0]})
    return found


def trained(recipe: Recipe, meter: Meter) -> dict[str, Any]:
    """Train a recipe: its scores, and what it took cold, as plain data."""
    from workbench import training

    *_, last = training.train(recipe, meter=meter)
    phases = {name: each.to_json() for name, each in last.usage.items()}
    return {"scores": dict(last.scores), "step": last.step, "examples": last.examples, "tokens": last.tokens, "phases": phases}


def computing(run: Mapping[str, Any]) -> Usage:
    """What training and evaluation took, of what `trained` gives."""
    return total(Usage.from_json(each) for name, each in run["phases"].items() if name in COMPUTING)


def brief(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a record keeps of a run."""
    used = computing(run)
    seconds = Usage.from_json(run["phases"]["train"]).seconds
    return {
        **{name: run[name] for name in ("scores", "step", "examples", "tokens")},
        "train_seconds": seconds,
        "step_seconds": seconds / run["step"] if run["step"] else None,
        "computing_seconds": used.seconds,
        "gpu_board_energy_j": used.gpu_board_energy_j,
        "gpu_busy_seconds": used.gpu_busy_seconds,
        "gpu_peak_memory_bytes": used.gpu_peak_memory_bytes,
        "flops": used.work.flops,
    }


@contextlib.contextmanager
def metered(size: Size) -> Iterator[Meter]:
    """A meter; of a GPU that does not exist where this is a trial on a CPU."""
    with contextlib.ExitStack() as stack:
        if size.where == "cpu":
            from workbench.testing import FakeGpu, FakeNvml

            stack.enter_context(FakeNvml([FakeGpu(power_w=200.0)], clock=time.perf_counter).installed())
            yield stack.enter_context(Meter(environ={}))
        else:
            yield stack.enter_context(Meter())


# The parts


def energy(place: Place, size: Size) -> dict[str, Any]:
    """The meter's joules against power read often and integrated; the cost of its calls; two processes on one card."""
    import meter as meters

    found: dict[str, Any] = {}
    with metered(size) as meter:
        found |= {"device": meter.devices[0].name, "driver": meter.description["gpu_driver"]}
        with contained(found, "energy"):
            found["energy"] = meters.against_instant_power(meter, size.seconds, size.where, size.matrix)
        place.so_far(found)
        with contained(found, "two_processes"):
            found["two_processes"] = meters.two_processes(meter, size.seconds, size.where, size.matrix)
        place.so_far(found)
        with contained(found, "calls_seconds"):
            found["calls_seconds"] = meters.calls(20 if size.where == "cpu" else 500)
    return found


def peak(place: Place, size: Size) -> dict[str, Any]:
    """What the card reaches in products of matrices, and the share of it that training a language model in full reaches."""
    import torch

    from workbench.forecast.machine import measured_peak_flops

    width = 8192 if size.where == "cuda" else 256
    found: dict[str, Any] = {"measured_peak_flops": measured_peak_flops()}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(width, width, device=size.where, dtype=dtype) for _ in range(2))
        taken = min(_timed(size, lambda a=a, b=b: torch.mm(a, b)) for _ in range(5))
        found[f"random_{str(dtype).rpartition('.')[2]}_flops"] = 2.0 * width**3 / taken
        del a, b
    place.so_far(found)
    with metered(size) as meter:
        runs = [trained(writer(place, size, full(learning_rate=1e-5)), meter) for _ in range(2)]
    used = Usage.from_json(runs[-1]["phases"]["train"])  # the first run of a process compiles and chooses kernels
    return found | {
        "run": brief(runs[-1]),
        "share_of_peak": (used.work.flops or 0.0) / used.seconds / found["measured_peak_flops"],
        "useful_tokens": used.work.tokens / max(1, used.work.padded_tokens),
    }


def _timed(size: Size, act: Callable[[], object]) -> float:
    import torch

    wait = torch.cuda.synchronize if size.where == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    act()
    wait()
    return time.perf_counter() - began


def precision(place: Place, size: Size) -> dict[str, Any]:
    """Scores in bfloat16 against float32, beside how far two seeds lie apart."""
    rows = []
    with metered(size) as meter:
        for method in (full(learning_rate=1e-4), lora(1e-3)):
            for seed in range(size.seeds):
                for kind in ("float32", "bfloat16"):
                    run = trained(reader(place, size, method, precision=kind, seed=seed), meter)
                    rows.append({"method": method.name, "seed": seed, "precision": kind, **brief(run)})
                    place.so_far({"rows": rows})
    apart = [half["scores"]["dev_loss"] - whole["scores"]["dev_loss"] for whole, half in zip(rows[::2], rows[1::2], strict=True)]
    return {"rows": rows, "bfloat16_minus_float32_dev_loss": apart}


def scaling(place: Place, size: Size) -> dict[str, Any]:
    """Forecasts of this card against outcomes: carried from a CPU, by the formula, and by a calibration of seconds.

    `gpu.py --against` carries the phases to the card of another record.
    """
    from workbench import forecast

    small = dataclasses.replace(size, width=min(size.width, 512), layers=min(size.layers, 4), prompts=min(size.prompts, 32))
    recipes = {
        "encoder, full": reader(place, size, full(learning_rate=1e-4), epochs=1),
        "encoder, lora": reader(place, size, lora(1e-3), epochs=1),
        "encoder, head": reader(place, size, head(learning_rate=1e-2), epochs=1),
        "decoder, lora": writer(place, small, lora(1e-4)),
    }
    processors = json.loads(child(place, small, "on_processors", environment={"CUDA_VISIBLE_DEVICES": ""})[-1])
    found: dict[str, Any] = {}
    with metered(size) as meter:
        device = meter.devices[0]
        machine = forecast.Machine.here()
        for name, recipe in recipes.items():
            trained(recipe, meter)  # the first run of a process is slower
            run = trained(recipe, meter)
            study = Study(recipe, maximize=recipe.task.metrics[0])
            told = {"formula": forecast.Forecaster(study).run(recipe)}
            told["calibrated"] = forecast.Forecaster(study, calibration=forecast.calibrate(study, size.seconds / 5)).run(recipe)
            phases = {n: Usage.from_json(each) for n, each in processors[name]["phases"].items() if n in COMPUTING}
            moved = carry(phases, None, offer_of(device.name))
            taken = computing(run).seconds
            found[name] = {
                **brief(run),
                "phases": run["phases"],
                "cpu_seconds": total(phases.values()).seconds,
                "carried_from_cpu": None if moved is None else _against(moved.seconds, taken),
                **{how: _against(_total(each.phases), taken) for how, each in told.items()},
            }
            place.so_far({"device": device.name, "recipes": found})
    return {"device": device.name, "machine": dataclasses.asdict(machine), "recipes": found}


def on_processors(place: Place, size: Size) -> dict[str, Any]:
    """The recipes of `scaling` on the CPU; called in a process that sees no GPU."""
    cpu = dataclasses.replace(size, where="cpu")
    with Meter(gpu=False) as meter:
        return {
            "encoder, full": trained(reader(place, cpu, full(learning_rate=1e-4), epochs=1), meter),
            "encoder, lora": trained(reader(place, cpu, lora(1e-3), epochs=1), meter),
            "encoder, head": trained(reader(place, cpu, head(learning_rate=1e-2), epochs=1), meter),
            "decoder, lora": trained(writer(place, cpu, lora(1e-4)), meter),
        }


def offer_of(gpu: str) -> Offer:
    """One GPU of a name; a card that the table of datasheets has where this is a trial on a CPU."""
    return Offer("here", "card", gpu, 1, "", "on_demand", Decimal(1), "here", "2026-01-01")


def _total(phases: Mapping[str, Any]) -> Any:
    from workbench import estimate

    return estimate.total([phases[name] for name in COMPUTING])


def _against(told: Any, taken: float) -> dict[str, Any] | None:
    if told is None:
        return None
    band = {"forecast_seconds": told.value, "low": told.low, "high": told.high}
    return band | {"ratio": told.value / taken, "within": told.low <= taken <= told.high}


def shortage(place: Place, size: Size) -> dict[str, Any]:
    """Too little memory: a run for which there is none ends as a result, the next goes on in the same process; one that fits in
    smaller pieces gives what it gives with plenty."""
    import torch

    from workbench import training
    from workbench.errors import Infeasible

    # Of 190 million numbers: weights, gradients, moments, averages and the copy while these are graded take 4.5 GB, and a whole
    # step's activations twice that. The first room does not hold the one, the second not both.
    recipe = writer(place, _smaller(size), full(learning_rate=1e-5), precision="float32")
    found: dict[str, Any] = {}
    with metered(size) as meter:
        with _room(size, size.room[0]):
            try:
                list(training.train(recipe, meter=meter))
                found["none"] = "it fitted"
            except Infeasible as error:
                found["none"] = {"reason": error.reason, "detail": error.detail}
            if size.where == "cuda":
                found["allocated_after_bytes"] = torch.cuda.memory_allocated()
        place.so_far(found)
        with _room(size, size.room[1]), mock.patch("workbench.training.memory.room", return_value=1 << 60):
            small = brief(trained(recipe, meter))  # planned as if there were plenty: the shortage itself is met
        plenty = brief(trained(recipe, meter))
    apart = abs(small["scores"]["dev_loss"] - plenty["scores"]["dev_loss"])
    return found | {"little": small, "plenty": plenty, "dev_loss_apart": apart}


@contextlib.contextmanager
def _room(size: Size, room: int) -> Iterator[None]:
    """As if there were so little memory."""
    import torch

    if size.where == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, room / whole))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    from workbench.training import tuning

    real = tuning.Tuning._pieces

    def pieces(self: Any, rows: Any, batch: Any) -> Any:
        most = self.cut.most
        if most is None or most > room * 4 * size.written:
            raise torch.OutOfMemoryError("CUDA out of memory. This is a trial")
        return real(self, rows, batch)

    with mock.patch.object(tuning.Tuning, "_pieces", pieces):
        yield


def engine(place: Place, size: Size) -> dict[str, Any]:
    """The workbench's loop against a well-written one (N2) and one that groups by length (N3), as in `engine.py`."""
    import torch
    from engine_arms import Job, arms_of

    from workbench.training.tuning import Tuning

    how: dict[str, Any] = {"warmup_steps": 0, "averaging": None, "epochs": 1}
    bare = _without_dropout(place)
    recipes = {
        "full, opinions": reader(bare, size, full(learning_rate=1e-4), **how),
        "lora, opinions": reader(bare, size, lora(1e-3), **how),
        "lora, generation": writer(place, _smaller(size), lora(1e-4), **how),
    }
    rows = []
    with metered(size) as meter:
        for name, recipe in recipes.items():
            start = Tuning(recipe, torch.device("cpu"), None)
            initial = {n: p.detach().clone() for n, p in start.parameters.items()}
            arms = arms_of(Job(name, "gpu", recipe, initial), meter, records=False)
            for number in range(size.rounds + 1):
                for arm in ("N2", "N3", "ours"):
                    taken = arms[arm]()
                    if number:  # in the first round kernels are chosen
                        rows.append({"job": name, "arm": arm, "round": number, **vars(taken)})
                        place.so_far({"rows": rows})
    ratios: dict[str, Any] = {}
    for name in recipes:
        for arm in ("N2", "N3"):
            pairs = [
                (a["steps"] / b["steps"], abs(a["loss"] - b["loss"]))
                for a in rows
                for b in rows
                if (a["job"], a["arm"], b["arm"], b["job"]) == (name, arm, "ours", name) and a["round"] == b["round"]
            ]
            ratios.setdefault(name, {})[arm] = {
                "median": statistics.median(each[0] for each in pairs),
                "loss_apart": max(each[1] for each in pairs),
            }
    return {"over_ours": ratios, "rows": rows}


def _smaller(size: Size) -> Size:
    """With a language model of a fifth of the size."""
    return dataclasses.replace(size, width=min(size.width, 1024), layers=min(size.layers, 8))


def _without_dropout(place: Place) -> Place:
    from workbench.data import models

    folder = place.folder / "encoder"
    if not folder.is_dir():
        built = models.build(place.encoder, "AutoModel")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if hasattr(built.config, name):
                setattr(built.config, name, 0.0)
        built.save_pretrained(folder)
        models.tokenizer(place.encoder).save_pretrained(folder)
    return dataclasses.replace(place, encoder=str(folder))


def qlora(place: Place, size: Size) -> dict[str, Any]:
    """LoRA on weights in four bits against weights in 16 and 32: memory, seconds a step, and the loss."""
    import torch

    found: dict[str, Any] = {}
    with metered(size) as meter:
        for weights in ("float32", "bfloat16", "nf4"):
            if size.where == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with contained(found, weights):  # bitsandbytes may not be there
                run = brief(trained(writer(place, size, lora(1e-4), weights=weights), meter))
                found[weights] = run | ({"peak_allocated_bytes": torch.cuda.max_memory_allocated()} if size.where == "cuda" else {})
            place.so_far(found)
    return found


def together(place: Place, size: Size) -> dict[str, Any]:
    """Several runs at once on one card: how busy it is, what they do together, how the meter shares its joules, and how many of
    them `--workers auto` would keep."""
    found: dict[str, Any] = {}
    with metered(size) as meter:
        for count in size.at_once:
            loads = begun(place, size, "repeated", count)
            whole = meter.window()
            tenants = [meter.hold(pid=load.pid) for load in loads]
            windows = [tenant.window() for tenant in tenants]
            for load in loads:
                load.stdin.write("\n")  # type: ignore[union-attr]
                load.stdin.flush()  # type: ignore[union-attr]
            said = [json.loads(load.communicate()[0].splitlines()[-1]) for load in loads]
            shares = [window.close() for window in windows]
            for tenant in tenants:
                tenant.close()
            used = whole.close()
            examples = sum(each["examples"] / each["seconds"] for each in said)
            found[str(count)] = {
                "examples_per_second": examples,
                "gpu_utilisation": used.gpu_busy_seconds / used.gpu_seconds,
                "gpu_board_energy_j": used.gpu_board_energy_j,
                "shares_j": [each.gpu_board_energy_j for each in shares],
                "shared_by": [each.devices[0].shared_by for each in shares if each.devices],
                "gpu_peak_memory_bytes": used.gpu_peak_memory_bytes,
                "growth": examples / found[str(count - 1)]["examples_per_second"] if str(count - 1) in found else None,
            }
            place.so_far(found)
    return found | {"auto": _kept(found)}


def _kept(found: Mapping[str, Any]) -> int:
    """How many workers the measured utilisation and growth would leave on the card, by the rules of `--workers auto`."""
    from workbench.sweep import device_sharing

    workers = 1
    while (more := found.get(str(workers + 1))) and workers < device_sharing.MOST:
        utilisation = found[str(workers)]["gpu_utilisation"]
        if utilisation is None or utilisation >= device_sharing.ROOM_BELOW or more["growth"] < device_sharing.GROWTH:
            break
        workers += 1
    return workers


def repeated(place: Place, size: Size) -> dict[str, Any]:
    """Train one small recipe again and again for a while, once told to begin; called in a process of its own."""
    from workbench import training

    recipe = reader(place, size, lora(1e-3), epochs=1)
    examples = 0
    with Meter(gpu=False) as meter:
        list(training.train(recipe, meter=meter))
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.perf_counter()
        while time.perf_counter() - began < 0.6 * size.seconds:
            *_, last = training.train(recipe, meter=meter)
            examples += last.examples
        return {"examples": examples, "seconds": time.perf_counter() - began}


def choices(place: Place, size: Size) -> dict[str, Any]:
    """Seconds a step in float32, in bfloat16, compiled, and with an optimiser's state in 8 bits; after how many steps compiling has
    paid for itself; and what the loop itself finds about compiling where a sweep has a hundred thousand such steps ahead."""
    found: dict[str, Any] = {}
    recipes = {
        "encoder, full": reader(place, size, full(learning_rate=1e-4)),
        "encoder, lora": reader(place, size, lora(1e-3)),
        "decoder, lora": writer(place, size, lora(1e-4)),
    }
    for name, recipe in recipes.items():
        found[name] = ways(recipe, size, lambda own, name=name: place.so_far({**found, name: own}))
        place.so_far(found)
    return found


def ways(recipe: Recipe, size: Size, so_far: Callable[[dict[str, Any]], object] = lambda own: None) -> dict[str, Any]:
    """What `choices` finds of one recipe."""
    from workbench.training import compiling

    own: dict[str, Any] = {}
    with mock.patch.multiple(compiling, DEVICES={size.where}, BACKEND=size.backend):
        with contained(own, "verdict"):  # first: it is to pay for all that is compiled
            own["verdict"] = _verdict(dataclasses.replace(recipe, precision="bfloat16"), size)
        for way, more, change in (
            ("float32", {"precision": "float32"}, None),
            ("bfloat16", {"precision": "bfloat16"}, None),
            ("compiled", {"precision": "bfloat16"}, _compiled),
            ("8-bit moments", {"precision": "bfloat16"}, _eight_bits),
        ):
            with contained(own, way):  # what one way lacks, the others may have
                own[way] = _steps(dataclasses.replace(recipe, **more), size, change)
            so_far(own)
    if (verdict := own["verdict"]) and verdict.get("compiled_seconds") is not None:
        gain = verdict["plain_seconds"] - verdict["compiled_seconds"]
        own["steps_until_compiling_pays"] = verdict["cost_seconds"] / gain if gain > 0 else None
    return own


def _compiled(of: Any) -> None:
    """Have a model's layers compiled, as the loop does."""
    from workbench.training import compiling

    of.layers = None  # on a CPU rows are packed, and layers not compiled
    of.compiled = compiling.Compiled(compiling._layers(of))


def _verdict(recipe: Recipe, size: Size) -> dict[str, Any] | None:
    """What the loop finds in a process that has compiled nothing yet, but for code that is kept on disk."""
    import torch

    from workbench import training
    from workbench.training import compiling

    torch._dynamo.reset()
    of = training.Tuning(recipe, torch.device(size.where), None)
    of.layers = None
    splits = recipe.task.splits()
    rows = of.formulation.encode(splits.train, of.processor)
    found = compiling.choose(of, rows, len(splits.train), 1e5 if size.where == "cuda" else 1e9, {})
    return None if found is None else found.to_json()


def _eight_bits(of: Any) -> None:
    import bitsandbytes

    of.optimizer = bitsandbytes.optim.AdamW8bit(of.optimizer.param_groups, lr=of.rate, weight_decay=of.recipe.weight_decay)


def _steps(recipe: Recipe, size: Size, change: Callable[[Any], None] | None) -> dict[str, Any]:
    """Median seconds of a step, and what all first steps took beyond that: compiling, choosing kernels."""
    import torch

    from workbench import training

    training.warm_up(recipe)
    of = training.Tuning(recipe, torch.device(size.where), None)
    if change is not None:
        change(of)
    splits = recipe.task.splits()
    rows = of.formulation.encode(splits.train, of.processor)
    taken, losses = [], []
    if size.where == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for i in range(3 * size.steps):
        places = [(i * recipe.batch_size + k) % len(splits.train) for k in range(recipe.batch_size)]
        batch = np.concatenate([np.flatnonzero(rows.example == place) for place in places])
        taken.append(_timed(size, lambda batch=batch: losses.append(of.make_step(rows, batch, recipe.batch_size)[0])))
    usual = statistics.median(taken[-size.steps :])
    return {
        "step_seconds": usual,
        "first_seconds": sum(taken[: 2 * size.steps]) - 2 * size.steps * usual,
        "loss": float(losses[-1]),
        "peak_allocated_bytes": torch.cuda.max_memory_allocated() if size.where == "cuda" else None,
    }


PARTS: dict[str, tuple[Callable[[Place, Size], dict[str, Any]], float]] = {
    "energy": (energy, 70),
    "peak": (peak, 70),
    "together": (together, 130),
    "choices": (choices, 150),
    "engine": (engine, 100),
    "precision": (precision, 80),
    "shortage": (shortage, 60),
    "scaling": (scaling, 130),
    "qlora": (qlora, 80),
}
"""What is measured, what is least known first, and the seconds after which each part is given up."""

CHILDREN = {"on_processors": on_processors, "repeated": repeated}
"""What parts start in processes of their own."""


def _command(place: Place, size: Size, name: str) -> list[str]:
    words = ["--child", name, "--folder", str(place.folder), "--encoder", place.encoder]
    return [sys.executable, str(Path(__file__).with_name("gpu.py")), *words, "--size", json.dumps(dataclasses.asdict(size))]


def child(place: Place, size: Size, name: str, environment: Mapping[str, str]) -> Sequence[str]:
    """The lines that a part in a process of its own prints."""
    done = subprocess.run(
        _command(place, size, name), env={**os.environ, **environment}, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-1500:]}")
    return done.stdout.splitlines()


def begun(place: Place, size: Size, name: str, count: int) -> list[subprocess.Popen[str]]:
    """A part in so many processes of its own, each of which waits for a line before it begins."""
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(_command(place, size, name), stdin=pipe, stdout=pipe, text=True) for _ in range(count)]
    for process in processes:
        if not any(line == "ready\n" for line in process.stdout or ()):
            raise RuntimeError(f"{name} ended with {process.wait()} before it was ready")
    return processes
