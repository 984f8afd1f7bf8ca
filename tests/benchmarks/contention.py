"""What other busy programs do to a run, and how well the meter tells what the run would have taken alone.

policies   seconds of a training step (minilm-l3, full, two threads and more) alone and beside one busy program, for what OpenMP's
           threads do at barriers: spin as they do by default, or sleep after so many looks (`GOMP_SPINCOUNT`,
           `OMP_WAIT_POLICY=passive`); each in a process of its own, as OpenMP reads its environment once
estimates  a whole recipe (load, data, training, evaluation) alone, and beside one and two busy programs: real seconds, what they
           would have been alone by the meter's estimate, and the error of that against the median of those alone

Rounds are interleaved, one of each kind after another. Nothing else may run on the machine.

    python tests/benchmarks/contention.py [--rounds 10] [--out results/contention.json]
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

POLICIES: dict[str, dict[str, str]] = {
    "default": {"GOMP_SPINCOUNT": "", "OMP_WAIT_POLICY": ""},
    "passive": {"GOMP_SPINCOUNT": "", "OMP_WAIT_POLICY": "passive"},
    "spin 300": {"GOMP_SPINCOUNT": "300"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 3000": {"GOMP_SPINCOUNT": "3000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
}
BUSY = "while True: sum(i * i for i in range(10000))"
STEPS = 30


def steps() -> dict[str, Any]:
    """Seconds of a training step of the loop."""
    import torch

    from workbench import training
    from workbench.training.tuning import Tuning

    recipe = recipe_of("full", train=128)
    training.warm_up(recipe)
    tuning = Tuning(recipe, torch.device("cpu"), None)
    rows = tuning.formulation.encode(recipe.task.splits().train, tuning.processor)
    tuning.run(rows, 4, 128, training.Progress())
    began, used = time.perf_counter(), time.process_time()
    tuning.run(rows, 4 + STEPS, 128, training.Progress())
    return {"step_seconds": (time.perf_counter() - began) / STEPS, "step_cpu_seconds": (time.process_time() - used) / STEPS}


def recipe_of(method: str, train: int) -> Any:
    from workbench import Recipe, full, peft
    from workbench.tasks import question_answering

    methods = {"full": full(learning_rate=1e-4), "ia3": peft("ia3", learning_rate=1e-2)}
    task = question_answering("pydocs", train=train, dev=64)
    return Recipe(task=task, model="minilm-l3", method=methods[method], epochs=1, batch_size=4)


def run() -> dict[str, Any]:
    """A recipe's cold cost, as measured and as estimated of the machine alone."""
    from workbench import training
    from workbench.meter import training_meter
    from workbench.usage import total

    recipe = recipe_of("ia3", train=256)
    training.warm_up(recipe)
    with training_meter() as meter, meter.hold(name="contention") as holder:
        *_, last = training.train(recipe, meter=holder)
    usage = total(last.usage.values())
    alone = [sum(u.undisturbed(sign).seconds for u in last.usage.values()) for sign in (-1, 0, 1)] if usage.contended else None
    low, value, high = alone or [usage.seconds] * 3
    fields = ("seconds", "cpu_seconds", "waited_seconds", "stalled_seconds", "others_cpu_seconds", "contended")
    return {name: getattr(usage, name) for name in fields} | {"estimate": value, "low": low, "high": high}


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """So many other programs that compute."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(programs)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(what: str, programs: int, environment: dict[str, str]) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    known = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    }
    # What is empty is not set; a policy that is none of the library's has the package leave everything as it is.
    stated = {name: value for name, value in environment.items() if value}
    if environment and not stated:
        stated = {"OMP_WAIT_POLICY": "undefined"}
    with busy(programs):
        command = [sys.executable, __file__, "--child", what]
        done = subprocess.run(command, env=known | stated, capture_output=True, text=True, check=True)
    return {"programs": programs} | json.loads(done.stdout.splitlines()[-1])


def summary(policies: list[dict[str, Any]], estimates: list[dict[str, Any]]) -> dict[str, Any]:
    def median(name: str, programs: int) -> float:
        return statistics.median(m["step_seconds"] for m in policies if (m["policy"], m["programs"]) == (name, programs))

    told: dict[str, Any] = {"policies": {}}
    for name in dict.fromkeys(m["policy"] for m in policies):
        told["policies"][name] = {
            "alone_ms": 1000 * median(name, 0),
            "beside_one_ms": 1000 * median(name, 1),
            "alone_over_default": median(name, 0) / median("default", 0),
            "default_over_it_beside_one": median("default", 1) / median(name, 1),
        }
    quiet = statistics.median(m["seconds"] for m in estimates if m["programs"] == 0)
    told["alone_seconds"] = quiet
    for programs in (0, 1, 2):
        of = [m for m in estimates if m["programs"] == programs]
        errors = sorted(abs(m["estimate"] / quiet - 1) for m in of)
        told[f"beside_{programs}"] = {
            "real_over_alone": statistics.median(m["seconds"] / quiet for m in of),
            "estimate_over_alone": statistics.median(m["estimate"] / quiet for m in of),
            "error_median": statistics.median(errors),
            "within_25_percent": sum(e <= 0.25 for e in errors) / len(errors),
            "inside_band": sum(m["low"] <= quiet <= m["high"] for m in of) / len(of),
            "marked": sum(bool(m["contended"]) for m in of) / len(of),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--policy-rounds", type=int, default=3)
    parser.add_argument("--policies", nargs="*", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "contention.json")
    parser.add_argument("--child", choices=("steps", "run"))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(steps() if options.child == "steps" else run()))
        return
    policies = [
        {"policy": name} | measure("steps", programs, POLICIES[name])
        for _ in range(options.policy_rounds)
        for name in options.policies
        for programs in (0, 1)
    ]
    estimates = [measure("run", programs, {}) for _ in range(options.rounds) for programs in (0, 1, 2)]
    record = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "system": platform.platform()},
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "peft")},
        "rounds": options.rounds,
        "policy_rounds": options.policy_rounds,
        "summary": summary(policies, estimates),
        "policies": policies,
        "estimates": estimates,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["summary"], indent=1))


if __name__ == "__main__":
    main()
