"""What Optuna's samplers and MO-ASHA pay to reach 95 % of a table's hypervolume, over what `front` pays: from records of replays.

    workbench replay TABLE… --budget 60 --workers 1 --json > results/replay-60.json
    workbench replay TABLE… --methods optuna:GPSampler --budget 240 --workers 1 --json > results/replay-gp-240.json
    python tests/benchmarks/samplers.py results/replay-60.json results/replay-gp-240.json … > results/samplers.json

A method that seldom gets there within one budget is replayed with a larger one. No method here knows its budget, so that its course
in one record is that in another as far as both go, and `front` needs no longer one than it took; of several records of a method on
a table that with the largest budget counts. Seeds are paired; a seed that never got there pays more than anybody.
"""

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from workbench.replay.statistics import median_interval

AGAINST = "front"


def longest(records: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[float, list[float]]]:
    """By table and method the budget, in full runs, and each seed's cost to 95 %: infinite where it was not reached."""
    found: dict[tuple[str, str], tuple[float, list[float]]] = {}
    for record in records:
        budget = record["protocol"]["budget"]
        for row in record["results"]:
            key = row["table"], row["method"]
            if row["workers"] == 1 and (key not in found or budget > found[key][0]):
                costs = [seed["cost_to_95"] for seed in row["seeds"]]
                found[key] = budget, [math.inf if cost is None else cost for cost in costs]
    return found


def ratio(costs: list[float], base: list[float]) -> dict[str, Any]:
    """The median of what one pays over what another pays, seed by seed, with its bootstrap interval; None: no end is known."""
    ratios = np.array([cost / other for cost, other in zip(costs, base, strict=True)])
    never = int(np.isinf(ratios).sum())
    interval = median_interval(np.minimum(ratios, 1e9))  # only where half never got there does that show, as a bound without end
    median, low, high = (None if end >= 1e8 else round(float(end), 2) for end in (interval.median, interval.low, interval.high))
    return {"median": median, "low": low, "high": high, "seeds": len(ratios), "never": never}


def main() -> None:
    records = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    known = longest(records)
    tables = list(dict.fromkeys(table for table, _ in known))
    methods = [m for m in dict.fromkeys(method for _, method in known) if m != AGAINST]
    rows = []
    for method in methods:
        on = {t: ratio(known[t, method][1], known[t, AGAINST][1]) for t in tables if (t, method) in known}
        medians = [math.inf if each["median"] is None else each["median"] for each in on.values()]
        whole = statistics.median(medians) if len(on) == len(tables) else None
        rows.append({"method": method, "tables": on, "median_over_tables": whole if whole is None or whole < math.inf else None})
    samplers = [row for row in rows if row["method"].startswith("optuna:")]
    cheapest = {}
    for table in tables:
        there = [(row["tables"][table]["median"], row["method"]) for row in samplers if table in row["tables"]]
        cheapest[table] = dict(zip(("ratio", "method"), min(pair for pair in there if pair[0] is not None), strict=True))
    print(
        json.dumps(
            {
                "benchmark": "samplers",
                "records": [Path(name).name for name in sys.argv[1:]],
                "methods": rows,
                "cheapest_sampler": cheapest,
                "cheapest_sampler_median_over_tables": statistics.median(each["ratio"] for each in cheapest.values()),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
