"""Seconds that one decision of the search takes, by the number of runs that are known: five checkpoints a run, scores and losses.

    python tests/benchmarks/decisions.py > tests/benchmarks/results/decisions.json

Each figure is the median of five decisions from cold, as a sweep takes them: the model is fitted anew for every one. The runs are
made up; the time does not depend on what they scored.
"""

import json
import os
import platform
import statistics
import time
from dataclasses import replace

import numpy as np
import scipy
from threadpoolctl import threadpool_info

from workbench.meter.host import cpu_model
from workbench.search.arms import Arm, Milestone
from workbench.search.engine import FrontSearch, Reference
from workbench.space import Choice, Dimension, Uniform

DIMENSIONS = {
    "rate": Dimension("rate", Uniform(1e-5, 1e-2, log=True)),
    "model": Dimension("model", Choice(("a", "b", "c"))),
    "method": Dimension("method", Choice(("full", "bitfit", "ia3", "lora"))),
    "lora.r": Dimension("lora.r", Choice((4, 16)), (("method", "lora"),)),
    "train": Dimension("train", Choice((256, 1024))),
}


def arms(known: int, new: int = 300, pending: int = 0) -> list[Arm]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(known + new):
        settings = {
            "rate": float(10 ** rng.uniform(-5, -2)),
            "model": str(rng.choice(["a", "b", "c"])),
            "train": int(rng.choice([256, 1024])),
        }
        settings["method"] = str(rng.choice(["full", "bitfit", "ia3", "lora"]))
        if settings["method"] == "lora":
            settings["lora.r"] = int(rng.choice([4, 16]))
        cost = float(rng.uniform(1, 9))
        arm = Arm(i, settings, [Milestone(2.0**k, min(2.0**k, 8.0), cost * 2.0**k) for k in range(5)])
        if i < known:
            scores = np.sort(rng.uniform(0, 80, 4)).tolist()
            arm = replace(arm, scores=scores, losses=[3 - s / 40 for s in scores], pending=4 if i < pending else None)
        found.append(arm)
    return found


def seconds(known: int, pending: int) -> float:
    taken = []
    for seed in range(5):
        of = arms(known, pending=pending)
        began = time.perf_counter()
        FrontSearch(DIMENSIONS, seed=seed, reference=Reference(score=0.0)).decide(of)
        taken.append(time.perf_counter() - began)
    return round(statistics.median(taken), 3)


if __name__ == "__main__":
    record = {
        "what": __doc__.splitlines()[0],
        "machine": f"{cpu_model()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "blas_threads": [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"],
        "seconds": [{"runs": n, "pending": p, "median": seconds(n, p)} for n in (10, 50, 100, 500) for p in (0, 7)],
    }
    print(json.dumps(record, indent=1))
