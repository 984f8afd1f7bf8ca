"""What the dashboard costs: readers beside a writing ledger, and 10,000 runs in a browser.

    python tests/benchmarks/dashboard.py [--runs 10000] [--seconds 20] [--ledger URL] [--out FILE]

Writes a ledger of made-up runs in a temporary folder (`tests/made.py`), and measures

- how long a write of a Result takes alone, and beside eight readers that read all of it without a pause, four of them by a new
  connection and a parse of everything each time; and whether any write or read failed;
- reading and working out at 10,000 runs, in CPU time of this process: parsing, the points, the figure, what a slider changes;
- in Chromium, which draws in software where there is no GPU, through the real command: the first paint of the front (a fresh
  server, so nothing is cached; and later visitors), and from a key on a slider to the answer and to the line in the figure.

It is measured, not asserted: a test that fails because a machine is busy tells nothing of the code.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import made
from servers import free_port
from test_dashboard_browser import CHROMIUM, wait_for

from workbench import figures
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.ledger import Ledger
from workbench.report.answers import answer, picks
from workbench.report.tables import front_rows, run_rows

READERS = 8


def milliseconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """The median CPU time of a piece of work in this process: other work on the machine does not lengthen it."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - began))
    return round(statistics.median(taken), 1)


def quantiles(taken: list[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum, in milliseconds."""
    ordered = sorted(1000 * t for t in taken)
    return {
        "count": len(ordered),
        "median_ms": round(statistics.median(ordered), 2),
        "p95_ms": round(ordered[int(0.95 * (len(ordered) - 1))], 2),
        "max_ms": round(ordered[-1], 2),
    }


def write_for(folder: Path, seconds: float, first: int) -> list[float]:
    """Write Results one after the other; how long each took."""
    url = made.write(folder, [])
    ledger = Ledger.find(None, url)
    from workbench.ledger.create import finished
    from workbench.ledger.trials import Objectives

    taken: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        trial = finished(made.run(first + len(taken)), Objectives("f1", ("usd",)), made.OFFER)
        began = time.perf_counter()
        ledger._storage.create_new_trial(ledger._study_id, trial)
        taken.append(time.perf_counter() - began)
        time.sleep(0.01)  # a sweep trains between two of them
    return taken


READER = """
import json, sys, time
sys.path[:0] = sys.argv[4:]
from workbench.ledger import Ledger
url, seconds, fresh = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "fresh"
kept, count, faults, last = Ledger.find(None, url, read_only=True), 0, [], 0
until = time.perf_counter() + seconds
while time.perf_counter() < until:
    try:
        found = len((Ledger.find(None, url, read_only=True) if fresh else kept).read().results)
        assert found >= last, "a Result was lost"
        last, count = found, count + 1
    except Exception as error:
        faults.append(repr(error))
print(json.dumps({"reads": count, "faults": faults, "seen": last}))
"""


def contention(folder: Path, seconds: float) -> dict[str, Any]:
    """Writes alone, and beside readers in processes of their own."""
    url = made.write(folder, made.runs(200))
    alone = write_for(folder, seconds, 10**5)
    words = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, url, str(seconds), "fresh" if i % 2 else "kept", *words],
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(READERS)
    ]
    beside = write_for(folder, seconds, 2 * 10**5)
    found = [json.loads(reader.communicate(timeout=120)[0]) for reader in readers]
    return {
        "readers": READERS,
        "seconds": seconds,
        "write_alone": quantiles(alone),
        "write_beside_readers": quantiles(beside),
        "writes_failed": 0,  # one would have raised
        "reads": sum(f["reads"] for f in found),
        "reads_failed": sum(len(f["faults"]) for f in found),
        "faults": sorted({fault for f in found for fault in f["faults"]})[:5],
        "results_written": len(Ledger.find(None, url).results()),
    }


def inside(url: str) -> dict[str, Any]:
    """What the pages' work takes in this process."""
    ledger = Ledger.find(None, url, read_only=True)
    began = time.process_time()
    first = ledger.read()
    parsed = 1000 * (time.process_time() - began)
    view = View.of(first.description, made.OFFER, 0.0)
    began = time.process_time()
    points = Points.of(first.results, view)
    worked = 1000 * (time.process_time() - began)
    drawn = figures.front(points)
    asked = {"budget": 1.0, "target": 60.0}
    return {
        "first_read_ms": round(parsed, 1),
        "next_read_ms": milliseconds(ledger.read),
        "points_ms": round(worked, 1),
        "figure_ms": milliseconds(lambda: figures.front(points), 3),
        "figure_bytes": len(drawn.to_json()),
        "slider_answer_ms": milliseconds(lambda: answer(points, **asked)),
        "slider_picks_ms": milliseconds(lambda: picks(points, **asked)),
        "front_rows_ms": milliseconds(lambda: front_rows(points)),
        "run_rows_ms": milliseconds(lambda: run_rows(first.results, view, first.mlflow_runs), 3),
    }


def in_browser(url: str, folder: Path) -> dict[str, Any]:
    """First paint and sliders, as a reader sees them."""
    from playwright.sync_api import sync_playwright

    port = free_port()
    words = ["dashboard", "--no-browser", "--port", str(port), "--storage", url]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "workbench", *words], cwd=folder, stdout=log, stderr=log, env=env)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, folder / "log.txt")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 1100})
            first = _paint(page, port)
            spent = cpu_seconds()
            sliders = [_slide(page, "ArrowLeft" if i < 6 else "ArrowRight") for i in range(11)]
            each = (cpu_seconds() - spent) / len(sliders)
            again = [_visit(browser, port) for _ in range(3)]
            browser.close()
    finally:
        server.terminate()
        server.wait(20)
    return {
        "fresh_server": first,
        "next_visitors": {name: statistics.median(visit[name] for visit in again) for name in first},
        "slider_cpu_seconds": round(each, 3),
        "slider_to_answer_ms": quantiles([s[0] / 1000 for s in sliders]),
        "slider_to_figure_ms": quantiles([s[1] / 1000 for s in sliders]),
    }


def cpu_seconds() -> float:
    """CPU seconds of this process and all below it, server and browser: what other work on the machine does not lengthen."""
    import psutil

    spent = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system
    return spent


def _paint(page: Any, port: int) -> dict[str, float]:
    """Milliseconds from the address to the first content, to the answer, and to all points drawn; CPU seconds of all processes."""
    began, spent = time.perf_counter(), cpu_seconds()
    page.goto(f"http://127.0.0.1:{port}")
    page.get_by_text("The best is").first.wait_for(timeout=120_000)
    answered = time.perf_counter() - began
    page.wait_for_function("document.querySelector('.js-plotly-plot')?._fullData?.length > 3", timeout=120_000)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    drawn = time.perf_counter() - began
    return {
        "first_content_ms": round(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")),
        "answer_ms": round(1000 * answered),
        "all_points_ms": round(1000 * drawn),
        "cpu_seconds": round(cpu_seconds() - spent, 2),
    }


def _visit(browser: Any, port: int) -> dict[str, float]:
    """As `_paint`, of somebody who has not been here, and leaves again: a page behind another one is not drawn."""
    page = browser.new_page(viewport={"width": 1440, "height": 1100})
    taken = _paint(page, port)
    page.close()
    return taken


def _slide(page: Any, key: str) -> tuple[float, float]:
    """Milliseconds from a key on the budget's slider to the new answer, and to the line in the figure."""
    page.get_by_role("slider").first.focus()
    page.evaluate(
        """() => {
            const said = /(Within .{1,20}|Nothing costs .{1,20}|The best is)/;
            const text = () => document.querySelector('[data-testid=stMain]').innerText.match(said)?.[0];
            const line = () => JSON.stringify(document.querySelector('.js-plotly-plot')?.layout?.shapes);
            const before = [text(), line()], found = window.found = [0, 0];
            document.addEventListener('keydown', () => {
                const began = performance.now();
                const look = () => {
                    if (!found[0] && text() !== before[0]) found[0] = performance.now() - began;
                    if (!found[1] && line() && line() !== before[1]) found[1] = performance.now() - began;
                    if (!found[0] || !found[1]) requestAnimationFrame(look);
                };
                look();
            }, {once: true, capture: true});
        }"""
    )
    page.keyboard.press(key)
    page.wait_for_function("window.found[0] && window.found[1]", timeout=60_000)
    taken = page.evaluate("window.found")
    page.wait_for_timeout(700)
    return taken[0], taken[1]


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--ledger", help="a ledger that was written before, in place of a new one: writing it takes minutes")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        beside = Path(name) / "beside"
        beside.mkdir()
        stress = contention(beside, asked.seconds)
        print(json.dumps(stress, indent=2), flush=True)
        url = asked.ledger or made.write(Path(name), (made.run(n) for n in range(asked.runs)))
        work = inside(url)
        print(json.dumps(work, indent=2), flush=True)
        pages = in_browser(url, Path(name))
    record = {
        "benchmark": "dashboard",
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load": round(os.getloadavg()[0], 2)},
        "versions": {n: version(n) for n in ("streamlit", "plotly", "pandas", "optuna", "playwright")}
        | {"python": platform.python_version()},
        "runs": len(Ledger.find(None, url, read_only=True).results()) if asked.ledger else asked.runs,
        "readers_against_a_writer": stress,
        "in_process": work,
        "in_chromium": pages,
    }
    text = json.dumps(record, indent=2) + "\n"
    if asked.out:
        asked.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
