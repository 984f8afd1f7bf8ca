"""A whole sweep of a study of `studies/` in an empty folder, for its record, its picture and what `studies/README.md` shows of it.

    python tests/benchmarks/studies.py support [--trials 12] [--out FOLDER] [--while "alone on the machine"]
    SUPPORT=path/to/banking77 python tests/benchmarks/studies.py support --as support-banking77

Run it while nothing else runs, or say so with --while. Without --out it replaces `results/NAME.json`, `studies/NAME.png` and in
`studies/README.md` the front, the table of scores and the sentence that says how long it took. What is written around them is to be
read again: `tests/test_rooms.py` holds the figures alone. The picture needs playwright and Chromium. With --as only the record is
written, under that name: of data of one's own, that the study reads by its variables.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MACHINE = ("python", "packages", "device", "CPU threads", "CPU meter")
"""What a record tells of the machine, of what `workbench doctor` finds."""

SCORES = {
    "support": {
        "answer F1": "answer_f1",
        "recall@10": "recall_at_10",
        "handed over": "hand_over_rate",
        "right": "answer_precision",
        "US$ per 1,000": "usd_per_1000_predictions",
    },
    "sentiment": {
        "right": "alarm_precision",
        "delay": "alarm_delay",
        "false alarms": "false_alarm_rate",
        "calibration": "calibration_error",
        "accuracy": "accuracy",
    },
    "recommend": {
        "NDCG@10": "ndcg_at_10",
        "recall@10": "recall_at_10",
        "MRR": "mrr",
        "cold NDCG@10": "cold_ndcg_at_10",
        "cold recall@10": "cold_recall_at_10",
    },
}
"""What a system is judged by, beside the score that is maximised: a column and the score, or the price, that stands in it."""


def scores_table(name: str, record: dict[str, Any]) -> str:
    """The front's other scores in markdown, a row for each of its points; empty where the record has none."""
    columns = SCORES.get(name, {})
    points = [p for p in sorted(record["points"], key=lambda p: p["usd"]) if p["on_front"] and "scores" in p]
    if not columns or not points:
        return ""
    rows = [["trial", "method", "model", "labels", *columns], ["---:", "---", "---", "---:", *["---:"] * len(columns)]]
    for point in points:
        own = [str(point["trial"]), point["method"], point["model"], f"{point['labels']:,}"]
        rows.append(own + [_cell(key, point.get(key, point["scores"].get(key))) for key in columns.values()])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(key: str, value: float | None) -> str:
    from workbench.quantities import dollars

    return "" if value is None else dollars(value) if key.startswith("usd") else f"{value:.1f}"


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command, with the package that stands beside this file."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    known = os.environ | {"PYTHONPATH": paths, "COLUMNS": "100"}
    found = subprocess.run(
        [sys.executable, "-m", "workbench", *words], cwd=folder, env=known, capture_output=True, text=True, check=False
    )
    if found.returncode:
        sys.exit(f"workbench {' '.join(words)} gave {found.returncode}:\n{found.stdout}{found.stderr}")
    return found


def swept(name: str, folder: Path, trials: int | None, how: str) -> tuple[dict[str, Any], str]:
    """Sweep in an empty folder; the record, and the front as it is printed."""
    file = str(ROOT / "studies" / f"{name}.py")
    told = command(folder, "sweep", file, "--no-progress", *(["--trials", str(trials)] if trials else [])).stderr
    spent = re.search(r"Spent in all: (\S+) and (.*?) for (\d+) runs", " ".join(told.split()))
    if spent is None:
        sys.exit(f"the sweep does not say what it has spent:\n{told}")
    machine = {each["subject"]: each["text"] for each in json.loads(command(folder, "doctor", "--json").stdout)}
    record = {
        "what": f"What `workbench front studies/{name}.py --json` printed after `workbench sweep studies/{name}.py` in an empty "
        f"folder, {how}",
        "time_of_the_sweep": spent[2],
        "runs": int(spent[3]),
        "machine": {each: machine[each] for each in MACHINE if each in machine},
    } | json.loads(command(folder, "front", file, "--json").stdout)
    return record, command(folder, "front", file).stdout


def picture(name: str, folder: Path, path: Path) -> None:
    """The front as `workbench front --html` draws it."""
    from playwright.sync_api import sync_playwright

    page = folder / "front.html"
    command(folder, "front", str(ROOT / "studies" / f"{name}.py"), "--html", str(page))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page(viewport={"width": 1020, "height": 580})
        shown.goto(page.as_uri())
        shown.wait_for_timeout(1500)
        shown.screenshot(path=str(path))
        browser.close()


def front_table(printed: str) -> str:
    """The rows of the front as they are printed, without the bands of what other programs disturbed: the record has them."""
    head, *rest = printed[printed.index("trial ") :].splitlines()
    rows = [head, *itertools.takewhile(lambda line: re.match(r" *\d", line), rest)]
    plain = [re.sub(r" \([^()]*(?: to |contended)[^()]*\)", "", row) for row in rows]
    cells = [re.match(r"(.*\S) {2,}(\S+) {2,}(\S(?: ?\S)*)$", row) for row in plain]
    parts = [found.groups() for found in cells if found]
    usd, time = (max(len(part[place]) for part in parts) for place in (1, 2))
    return "\n".join(f"{first}  {dollars:>{usd}}  {taken:>{time}}" for first, dollars, taken in parts)


def rewritten(room: str, name: str, record: dict[str, Any], printed: str) -> str:
    """The README with a study's front, its other scores and its time; the rest as it is."""
    begin = room.index(f"`workbench sweep studies/{name}.py`")
    end = room.find("\n### ", begin) if "\n### " in room[begin:] else len(room)
    section = room[begin:end]
    front = front_table(printed)
    section = re.sub(r"```\ntrial .*?\n(?=\n|```)", lambda _: f"```\n{front}\n", section, count=1, flags=re.S)
    section = re.sub(r"\n\| trial \|.*?\n(?=\n)", "", section, count=1, flags=re.S)
    if table := scores_table(name, record):
        head, tail = section.split("\n```\n\n", 1) if "\n```\n\n" in section else (section.rstrip("\n").removesuffix("\n```"), "")
        section = f"{head}\n```\n\n{table}\n\n{tail}"
    took = f"{record['runs']} runs took {record['time_of_the_sweep']}"
    section = re.sub(r"\d+\s+runs\s+took\s[^.]*?(?=\s+on\s+two\s+cores)", lambda _: took, section, count=1)
    if "alone on the machine" in record["what"]:  # then nothing is to be said of who else was at work
        section = re.sub(r"(runs took [^.]*?\son\s+two\s+cores)[^.]*\.", r"\1.", section, count=1)
    return room[:begin] + section + room[end:]


def main() -> None:
    """Sweep, and write what came of it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("name", choices=sorted(path.stem for path in (ROOT / "studies").glob("*.py")))
    options.add_argument("--trials", type=int, help="fewer runs than the study has, for a trial of this script")
    options.add_argument("--out", type=Path, help="a folder for all that is written, in the project's place")
    options.add_argument("--while", dest="how", default="alone on the machine", help="what else ran: a part of the record")
    options.add_argument("--as", dest="name_of_record", help="write the record alone, under this name")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        record, printed = swept(asked.name, Path(place), asked.trials, asked.how)
        results, studies = ((asked.out or ROOT) / part for part in ("tests/benchmarks/results", "studies"))
        for folder in (results, studies):
            folder.mkdir(parents=True, exist_ok=True)
        record_file = results / f"{asked.name_of_record or asked.name}.json"
        record_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if asked.name_of_record:
            print(printed)
            return
        picture(asked.name, Path(place), studies / f"{asked.name}.png")
    room = rewritten((ROOT / "studies" / "README.md").read_text(encoding="utf-8"), asked.name, record, printed)
    (studies / "README.md").write_text(room, encoding="utf-8")
    print(f"{record['runs']} runs, {record['time_of_the_sweep']}; contended: {sum(p['contended'] for p in record['points'])} of "
          f"{len(record['points'])} points")  # fmt: skip
    print(printed)


if __name__ == "__main__":
    main()
