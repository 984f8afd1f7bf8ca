"""What reading a large file takes: seconds, rows a second and memory, and whether that grows as the rows do.

For each size a file of JSON lines is made, every row a paragraph of its own (the worst case for splitting it into sides), and read
in a fresh process: `read_seconds` is all of `load` (parsing, checking each answer against its offset, splitting by paragraph, the
digest), `shuffle_seconds` what ordering the examples adds to it, `peak_bytes` the most memory that the process had.
`per_row_ratio` is the time of a row over that of the smallest file's: 1 is linear; eight times the rows in quadratic time give 8.

    python tests/benchmarks/reading.py [--rows 20000 160000 1000000] [--repeats 3] [--out results/reading.json]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench.meter import Meter

READ = """
import json, resource, sys, time
from workbench.data import load
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
began, cpu = time.perf_counter(), time.process_time()
data = load(sys.argv[1])
read, read_cpu = time.perf_counter() - began, time.process_time() - cpu
began = time.perf_counter()
for side in ("train", "dev", "test"):
    data.shuffled(side)
print(json.dumps({
    "rows": len(data.train) + len(data.dev) + len(data.test),
    "sides": [len(data.train), len(data.dev), len(data.test)],
    "read_seconds": read,
    "read_cpu_seconds": read_cpu,
    "shuffle_seconds": time.perf_counter() - began,
    "bytes_before": before,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
}))
"""


def write(file: Path, rows: int) -> None:
    """A file of JSON lines: as many paragraphs of some thirty words, with a question each."""
    towns = ["Bern", "Oslo", "Riga", "Pisa", "Lyon", "Graz", "Cork", "Brno"]
    with file.open("w", encoding="utf-8") as lines:
        for i in range(rows):
            town = towns[i % len(towns)]
            context = (
                f"In {1800 + i % 200} the engineer of number {i} moved to {town} and built a small mill beside the river, which "
                "for some forty years ground the corn of all the villages around it."
            )
            answers = {"text": [town], "answer_start": [context.index(town)]}
            row = {"id": f"q{i}", "question": f"Where did number {i} move?", "context": context, "answers": answers}
            lines.write(json.dumps(row) + "\n")


def measured(rows: int, repeats: int) -> dict[str, Any]:
    """The figures of one size: of the run with the median time, and all times."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        write(file, rows)
        found = []
        for _ in range(repeats):
            done = subprocess.run([sys.executable, "-c", READ, file], capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout))
        size = file.stat().st_size
    times = sorted(each["read_seconds"] for each in found)
    middle = next(each for each in found if each["read_seconds"] == statistics.median_low(times))
    return middle | {
        "file_bytes": size,
        "rows_per_second": rows / middle["read_seconds"],
        "bytes_per_row": (middle["peak_bytes"] - middle["bytes_before"]) / rows,
        "all_read_seconds": times,
    }


def main() -> None:
    """Read files of every size, and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, nargs="+", default=[20_000, 160_000, 1_000_000])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "reading.json")
    chosen = options.parse_args()
    with Meter() as meter:
        description = meter.description
    kept = ("system", "cpu", "logical_cpus", "cpus_held", "memory_bytes")
    load_before = os.getloadavg()
    sizes = [measured(rows, chosen.repeats) for rows in sorted(chosen.rows)]
    for each in sizes:
        each["per_row_ratio"] = sizes[0]["rows_per_second"] / each["rows_per_second"]
        each["per_row_cpu_ratio"] = each["read_cpu_seconds"] / each["rows"] / (sizes[0]["read_cpu_seconds"] / sizes[0]["rows"])
    record = {
        "what": __doc__,
        "machine": {name: description[name] for name in kept},
        "load_average": load_before,
        "versions": {"python": platform.python_version(), "workbench": metadata.version("workbench")},
        "repeats": chosen.repeats,
        "sizes": sizes,
    }
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(sizes, indent=1))


if __name__ == "__main__":
    main()
