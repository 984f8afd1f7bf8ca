"""Forecast against outcome: seconds and memory.

(a) A study that was swept here: the formula, the calibration that was kept before the sweep, and each run by the others alone.
    The committed figures: `make sweep` of studies/qa.py in a fresh clone, seed 0, 12 runs, two virtual CPUs, of which others used
    a part for three of its ten minutes, calibrated just before. What a sweep's process holds beside the model was set after seeing
    earlier ones; the spread of calibrated seconds was set on six runs of an earlier sweep, and the formula's constants were rounded
    from calibrations of these models.
(b) The 53 rows of LitGPT's table (Lightning-AI/litgpt@2685705): the formula from parameter counts. The table says nothing of
    tokens; LitGPT's page says Alpaca 2k, bfloat16 and one GPU (the rows of full tuning on 4 seem to use them, and are apart below).
    Tokens of an example are fitted: one constant for the whole table, which takes up what the GPU really reaches too. So this tests
    how rows compare with each other, not how long they take.
(c) The 63 runs of PEFT's comparison (huggingface/peft@5d602fd): Llama-3.2-3B on one L40S, with their tokens. Nothing is fitted.

    python tests/benchmarks/forecast.py [--study STUDY --storage URL [--calibration FILE]] [--data FOLDER] [--out FILE]

A row's ratio is forecast / outcome. The formula's band is a factor of 3 each way; its constants are those of the package, not
fitted to these tables. Peaks are dense bfloat16 tensor FLOP/s: L40S 362e12 (NVIDIA's data sheet: 733e12 with sparsity), A10G 70e12
(assumed for AWS's variant of the A10, whose own is 125e12; the constant that is fitted in (b) makes up for it). "foreseen" are the
rows out of memory whose forecast is above 22.5 GiB.
"""

import argparse
import csv
import json
import math
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench import flops
from workbench.forecast.timing import GPU_CONSTANTS, formula
from workbench.meter import Meter
from workbench.prices.datasheets import ARITHMETIC_SHARE

BAND = 3.0
L40S_FLOPS, A10G_FLOPS, A10G_GIB = 362e12, 70e12, 22.5
EXAMPLES = 2000  # of Alpaca 2k

# Parameters in 1e9, layers, heads x size of a head, vocabulary, and width of an untied input embedding (0: tied), by the models'
# published configurations.
LITGPT = {
    "falcon-7b": (7.22, 32, 4544, 65024, 0),
    "gemma-2b": (2.51, 18, 2048, 256000, 0),
    "gemma-7b": (8.54, 28, 4096, 256000, 0),
    "gemma2-2b": (2.61, 26, 2048, 256000, 0),
    "gemma2b": (2.61, 26, 2048, 256000, 0),
    "gemma2-9b": (9.24, 42, 4096, 256000, 0),
    "llama-2-7b": (6.74, 32, 4096, 32000, 4096),
    "llama-3-8b": (8.03, 32, 4096, 128256, 4096),
    "llama-3.1-8b": (8.03, 32, 4096, 128256, 4096),
    "llama-3.2-1b": (1.24, 16, 2048, 128256, 0),
    "llama-3.2-3b": (3.21, 28, 3072, 128256, 0),
    "mistral-7b": (7.24, 32, 4096, 32000, 4096),
    "mistral-7b-v0.2": (7.24, 32, 4096, 32000, 4096),
    "phi-2": (2.78, 32, 2560, 51200, 2560),
    "phi-3": (3.82, 32, 3072, 32064, 3072),
    "stablelm-base-alpha-3b": (3.64, 16, 4096, 50688, 4096),
    "tiny-llama": (1.10, 22, 2048, 32000, 2048),
}


def summary(pairs: Iterable[tuple[float, float]], band: float = BAND) -> dict[str, Any]:
    """How forecasts (first) and outcomes (second) compare."""
    ratios = [forecast / outcome for forecast, outcome in pairs]
    if not ratios:
        return {"rows": 0}
    logs = [math.log(ratio) for ratio in ratios]
    centre = statistics.median(logs)
    return {
        "rows": len(ratios),
        "median_ratio": round(math.exp(centre), 3),
        "median_factor_off": round(math.exp(statistics.median(map(abs, logs))), 3),
        "median_factor_off_when_scaled": round(math.exp(statistics.median(abs(x - centre) for x in logs)), 3),
        "share_in_band": round(sum(abs(x) <= math.log(band) for x in logs) / len(logs), 3),
    }


def seconds(of: flops.Shape, lengths: Sequence[float], steps: float, passes: float, peak: float) -> float:
    """The formula's seconds of training on rows of these lengths."""
    constants = {**GPU_CONSTANTS, "flops": 1 / (ARITHMETIC_SHARE * peak)}
    amounts = {"flops": flops.training(of, [round(n) for n in lengths]), "layer_passes": passes * of.layers}
    return formula(amounts | {"updates": steps * of.trainable_weights}, constants)


def gib(weights: float, of: flops.Shape, rows: int, tokens: int, vocabulary: int) -> float:
    """Weights and states, what 16-bit layers keep (34 bytes a token, layer and width), logits at 16 and twice at 32 bits."""
    kept = flops.KEPT_FLOATS * rows * tokens * of.layers * of.width
    return (weights + kept + 10.0 * rows * tokens * vocabulary) / 2**30


def litgpt(data: Path) -> dict[str, Any]:
    """(b)."""
    with (data / "recorded" / "litgpt" / "finetune_configs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    known = []
    for row in rows:
        name, kind = row["config"].removesuffix(".yaml").split("/")
        parameters, layers, width, vocabulary, untied = LITGPT[name]
        weights = round(parameters * 1e9 - vocabulary * untied)
        learns = weights if kind == "full" else 0
        of = flops.Shape(weights, learns, weights, layers, width)
        micro, epochs = int(row["micro_batch"]), int(row["epochs"])
        bytes_ = parameters * 1e9 * {"full": 8.0, "lora": 2.0, "qlora": 0.6}[kind]
        peak = gib(bytes_, of, micro, int(row["max_seq_len"]), vocabulary)
        known.append((row, kind, of, micro, epochs, peak))
    done = [k for k in known if k[0]["train_runtime"] != "OOM"]

    def forecast(k: Any, tokens: float) -> float:
        _, _, of, micro, epochs, _ = k
        count = EXAMPLES * epochs
        return seconds(of, [tokens], 0, 0, A10G_FLOPS) * count + seconds(of, [], count / 16, count / micro, A10G_FLOPS)

    def outcome(k: Any) -> float:
        return 60 * float(k[0]["train_runtime"].split()[0])

    tokens = fitted(lambda t: statistics.median(math.log(forecast(k, t) / outcome(k)) for k in done))
    groups: dict[str, list[Any]] = defaultdict(list)
    for k in done:
        groups[k[1] if k[1] != "full" else f"full on {k[0]['machine'][0]}"].append(k)
    ooms = [k[-1] > A10G_GIB for k in known if k[0]["train_runtime"] == "OOM"]
    return {
        "fitted_tokens_of_an_example": round(tokens, 1),
        "seconds": summary((forecast(k, tokens), outcome(k)) for k in done),
        "seconds_by_kind": {name: summary((forecast(k, tokens), outcome(k)) for k in of) for name, of in sorted(groups.items())},
        "memory": summary(((k[-1] * 2**30 / 1e9, float(k[0]["peak_memory"].split()[0])) for k in done), 2.0),
        "out_of_memory": {
            "rows": len(ooms),
            "foreseen": sum(ooms),
            "false_alarms": sum(k[-1] > A10G_GIB for k in done),
            "of_rows_that_ran": len(done),
        },
    }


def fitted(error: Callable[[float], float]) -> float:
    """Where a rising function is 0, by halving."""
    low, high = 1.0, 2000.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if error(middle) < 0 else (low, middle)
    return low


def peft(data: Path) -> dict[str, Any]:
    """(c)."""
    layers, width, vocabulary = 28, 3072, 128256
    base = 3_212_749_824  # tied: the embedding is the head's matrix
    found, by_memory = [], []
    for path in sorted((data / "peft_results" / "MetaMathQA" / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        info, settings = record["train_info"], record["run_info"]["train_config"]
        method = record["run_info"]["peft_config"] or {}
        kind = method.get("peft_type")
        measured = [m for m in info["metrics"] if "train time" in m]
        tokens = sum(m["tokens / sec"] * m["train time"] for m in measured)
        steps, rows = settings["max_steps"], settings["max_steps"] * settings["batch_size"]
        virtual = method.get("num_virtual_tokens") or 0
        prefix = virtual if kind == "PREFIX_TUNING" else 0
        matrices = 0 if virtual or kind == "LN_TUNING" else info["num_trainable_params"]
        full = kind is None
        of = flops.Shape(
            base + (0 if full else matrices),
            matrices,
            base + (0 if full else matrices),
            layers,
            width,
            virtual - prefix,
            None,
            prefix,
        )
        expected = rows * seconds(of, [tokens / rows], 0, 0, L40S_FLOPS) + seconds(of, [], steps, steps, L40S_FLOPS)
        found.append((path.stem, expected, sum(m["train time"] for m in measured)))
        states = base * 8.0 if full else base * 2.0 + info["num_trainable_params"] * 16.0
        peak = gib(states, of, settings["batch_size"], settings["max_seq_length"], vocabulary)
        by_memory.append((peak, info["accelerator_memory_max"] / 2**30))
    return {
        "seconds": summary((f, o) for _, f, o in found),
        "memory_against_the_most_reserved": summary(by_memory, 2.0),
        "five_worst": [
            {"run": name, "forecast_s": round(f), "outcome_s": round(o)}
            for name, f, o in sorted(found, key=lambda row: -abs(math.log(row[1] / row[2])))[:5]
        ],
    }


def swept(study: str, storage: str, calibration: Path | None) -> dict[str, Any]:
    """(a)."""
    from workbench.forecast import Calibration, Forecaster, Machine, plan
    from workbench.ledger import Ledger
    from workbench.study import load

    loaded = load(study)
    results = [r for r in Ledger.find(loaded.name, storage, path=study).results() if r.status == "complete"]
    last = list({r.run_id: r for r in sorted(results, key=lambda r: r.step)}.values())
    kept = Calibration.from_json(json.loads(calibration.read_text(encoding="utf-8"))) if calibration else None
    list(plan(loaded))  # as the command does: what that imports is memory that a sweep holds too
    machine = Machine.here()
    plain, timed = Forecaster(loaded, machine=machine), Forecaster(loaded, calibration=kept, machine=machine)
    ways: dict[str, Callable[[Any], Forecaster]] = {"formula": lambda r: plain}
    if kept:
        ways["calibrated before"] = lambda r: timed
    ways["measured, each run by the others"] = lambda r: Forecaster(
        loaded, [x for x in results if x.run_id != r.run_id], kept, machine=machine
    )
    found: dict[str, Any] = {"runs": len(last)}
    for way, forecaster in ways.items():
        forecasts = [(forecaster(r).run(loaded.resolve(r.settings)), r) for r in last]
        wanted: dict[str, Callable[[Any], float | None]] = {
            "seconds": lambda r: r.cold.seconds,
            "energy_j": lambda r: r.cold.energy_j,
            "peak_memory_bytes": lambda r: r.cold.gpu_peak_memory_bytes or r.cold.peak_memory_bytes,
        }
        found[way] = {}
        for name, of in wanted.items():
            pairs = [(getattr(f, name), outcome) for f, r in forecasts if (outcome := of(r)) and getattr(f, name) is not None]
            inside = [e.low <= outcome <= e.high for e, outcome in pairs]
            record = summary(((e.value, outcome) for e, outcome in pairs))
            if inside:
                record["share_in_band"] = round(sum(inside) / len(inside), 3)
                record["median_band_factor"] = round(statistics.median(e.high / e.value for e, _ in pairs), 3)
            found[way][name] = record
    return found


def main() -> None:
    """Compare what there is, and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--study", help="A study file that was swept on this machine.")
    options.add_argument("--storage", default="sqlite:///optuna.db")
    options.add_argument("--calibration", type=Path, help="What `workbench plan --calibrate` kept before that sweep.")
    options.add_argument("--data", type=Path, default=os.environ.get("WORKBENCH_DATA"), help="Folder of the two tables.")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "forecast.json")
    chosen = options.parse_args()
    record: dict[str, Any] = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.is_file() else {}
    with Meter() as meter:
        record |= {"what": __doc__, "machine": meter.description}
    record["versions"] = {"python": platform.python_version()} | {n: metadata.version(n) for n in ("torch", "transformers", "peft")}
    if chosen.data is None or not Path(chosen.data).is_dir():
        print("No tables: give --data or WORKBENCH_DATA.")
    else:
        record |= {"litgpt": litgpt(Path(chosen.data)), "peft": peft(Path(chosen.data))}
    if chosen.study:
        record["swept"] = swept(chosen.study, chosen.storage, chosen.calibration)
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in record.items() if name != "what"}, indent=1))


if __name__ == "__main__":
    main()
