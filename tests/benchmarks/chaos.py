"""Does a sweep over several nodes live through what happens to nodes and to its database? Seeded rounds of faults.

In each round three nodes sweep one study on one PostgreSQL database, by the sweep itself: its runner, ledger, heartbeat,
write-ahead files, budgets. Only training is replaced, by recorded curves and pauses, and MLflow is left out. Each node is a
process under a host name of its own, in a folder of its own; where one is killed it is begun again. Meanwhile some of these
happen:

    killed       kill -9 of a node's sweep
    frozen       a node stops for longer than the others bear, and goes on
    clock        a node's clock is up to a day ahead or behind
    restarted    the server crashes and starts
    away         the server is away, for up to `--away` seconds
    cut          all connections are cut
    crowded      others take all the server's connections
    full         the disk of the database is full (a small tmpfs; skipped where none can be mounted)

Others of the same round are held dead after three seconds in the place of sixty, so that leases are lost and taken over as often as
can be. Afterwards the ledger is held against what each node noted for itself: every Result that was finished, and every
twentieth of a second that was trained. The table that is printed at the end is that of README.md.

    python tests/benchmarks/chaos.py [--rounds 100] [--away 60] [--seed 0] [--out results/chaos.json]
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg2
from servers import Server, made_on, server

from workbench import prices, process, training
from workbench.ledger import HEARTBEAT_SECONDS, Ledger, Patience, leases
from workbench.result import Result
from workbench.study import load
from workbench.sweep import OVERSHOOT_SECONDS, Job, Limits, Observer, sweep
from workbench.sweep.checkpoint_store import CheckpointStore
from workbench.sweep.limits import started
from workbench.usage import Usage, total

NODES = 3
TRIALS = 9
WORK_SECONDS = 12.0
"""The budget of rounds that have one, of all nodes together."""

SILENCE_SECONDS = 3.0
SLICE_SECONDS = 0.05
EPOCHS = (0.5, 1.0, 2.0)
KINDS = ("killed", "frozen", "clock", "restarted", "away", "cut", "crowded", "full")
OFFER = prices.find("local")

STUDY = '''"""Which?"""

from workbench import Recipe, Study, bitfit, choice, full, loguniform, peft
from workbench.testing import TinyTask

RATE = loguniform(1e-3, 1e-2)
study = Study(
    Recipe(
        task=TinyTask(train=64),
        model={model!r},
        method=choice(full(learning_rate=RATE), peft("lora", learning_rate=RATE, r=choice(2, 4)), bitfit(learning_rate=RATE)),
        epochs=2,
        batch_size=8,
    ),
    maximize="accuracy",
)
'''


# A node


class Recorded:
    """What stands in the place of training: a curve by the recipe's id, at so many seconds an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained = 0.0
        self.journal = (folder / f"trained.{os.getpid()}").open("wb", buffering=0)

    def train(self, recipe: Any, resume: Any = None, *, meter: Any = None, progress: Any = None) -> Any:
        """Checkpoints, as `training.train` yields them."""
        luck = random.Random(recipe.run_id)
        pace, best = luck.uniform(0.3, 0.8), luck.uniform(50, 90)
        at = resume.epochs if resume else 0.0
        for i, epochs in enumerate(EPOCHS):
            if epochs <= at:
                continue
            self._pause((epochs - at) * pace)
            usage, at = Usage(seconds=epochs * pace, cpu_seconds=epochs * pace), epochs
            steps = int(8 * epochs)
            yield SimpleNamespace(
                recipe=recipe.with_epochs(epochs),
                scores={"accuracy": best * (1 - math.exp(-2 * epochs)), "dev_loss": math.exp(-epochs)},
                labels=64,
                bought=(),
                labels_by_order={},
                step=steps,
                examples=8 * steps,
                tokens=80 * steps,
                next_step=None if i == len(EPOCHS) - 1 else int(8 * EPOCHS[i + 1]),
                next_labels=64,
                trainable_parameters=1000,
                usage={"train": usage, "evaluate": Usage(seconds=0.01, cpu_seconds=0.01)},
                spent={},
                serving={},
                predictions=(),
                resume_state=lambda epochs=epochs: SimpleNamespace(run_id=recipe.run_id, epochs=epochs),
                weights=dict,
                test=dict,
            )

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            began = time.monotonic()
            time.sleep(min(SLICE_SECONDS, left))
            # A slice in which the whole node was frozen was no work of that length.
            self.trained += min(time.monotonic() - began, 2 * SLICE_SECONDS)
            os.pwrite(self.journal.fileno(), f"{self.trained:.4f}".encode(), 0)

    def state(self, store: Any, run_id: str) -> Any:
        """Where a run was left."""
        with contextlib.suppress(OSError, ValueError):
            return SimpleNamespace(run_id=run_id, epochs=float((self.folder / f"{run_id}.state").read_text()))
        return None

    def save_state(self, store: Any, state: Any) -> None:
        """Leave it there."""
        (self.folder / f"{state.run_id}.state").write_text(str(state.epochs))


class Journal(Observer):
    """Notes each Result that the node takes for recorded, and what it is told."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "recorded.jsonl").open("a", buffering=1)
        self._notes = (folder / "notes.txt").open("a", buffering=1)

    def recorded(self, result: Result, results: Any) -> None:
        """A Result is in the ledger, or in a write-ahead file."""
        self._file.write(json.dumps([result.recipe_id, result.status]) + "\n")

    def note(self, text: str) -> None:
        """Something that a person should read."""
        self._notes.write(f"{os.getpid()} {text}\n")


def node(number: int, folder: Path, url: str, limits: Limits, skew: float, sampler: str, seed: int) -> None:
    """One start of a node's sweep; its exit code is 0 where it ended by itself."""
    os.chdir(folder)
    with (folder / "err.txt").open("a") as err:
        os.dup2(err.fileno(), 2)
    recorded = Recorded(folder)
    clock = time.time
    replaced = {
        "train": recorded.train,
        "warm_up": lambda recipe: None,
    }
    states = {
        "state": lambda store, run_id: recorded.state(store, run_id),
        "save_state": lambda store, state: recorded.save_state(store, state),
        "kept": lambda store: {path.stem for path in folder.glob("*.state")},
        "save_weights": lambda store, recipe_id, weights: None,
        "keep_weights": lambda store, members: None,
    }
    with (
        mock.patch.multiple(training, **replaced),
        mock.patch.multiple(CheckpointStore, **states),
        mock.patch.object(process, "host", return_value=f"node{number}/boot/pid"),
        mock.patch.object(leases, "SILENCE_SECONDS", SILENCE_SECONDS),
        mock.patch.object(time, "time", side_effect=lambda: clock() + skew),
    ):
        study = load(folder / "study.py")
        ledger = Ledger.open(study, url, Patience(300.0))
        job = Job(
            study=study,
            ledger=ledger,
            notebook=mock.MagicMock(),
            offer=OFFER,
            label_usd=0.0,
            limits=limits,
            folder=folder,
            observer=Journal(folder),
        )
        outcome = sweep(job, sampler=sampler, seed=seed)
        (folder / "reason.txt").write_text(outcome.reason)


class Node:
    """A node: the process that sweeps, and how often it was begun."""

    def __init__(self, context: Any, number: int, folder: Path, arguments: tuple[Any, ...]) -> None:
        self.folder, self.number, self.context = folder, number, context
        self.arguments = (number, folder, *arguments)
        self.killed = self.frozen = 0
        self.thaw: float | None = None
        self.begin()

    def begin(self) -> None:
        """Begin its sweep, for the first time or again."""
        self.process = self.context.Process(target=node, args=self.arguments)
        self.process.start()

    def signal(self, number: int) -> None:
        """Send its process a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it, and begin it again."""
        if not self.process.is_alive():
            return
        self.killed += 1
        self.thaw = None
        self.signal(signal.SIGKILL)
        self.process.join()
        self.begin()

    @property
    def trained(self) -> float:
        """Seconds that it trained, by its own journals."""
        return sum(float(path.read_text() or 0) for path in self.folder.glob("trained.*"))


# What happens to them


class Disk:
    """A small file system for a database; None of it where none can be mounted."""

    def __init__(self, database: Server) -> None:
        self.place = database.folder / "small"  # which is the server's own
        self.place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "size=96m,mode=0777", "tmpfs", str(self.place)]
        self.mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0
        if self.mounted:
            own = self.place / "data"
            own.mkdir(mode=0o700)
            subprocess.run(["chown", "postgres", str(own)], check=True)
            told(database, "postgres", f"CREATE TABLESPACE small LOCATION '{own}'")

    def fill(self) -> None:
        """Leave no room on it."""
        with contextlib.suppress(OSError), (self.place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65536)

    def clear(self) -> None:
        """Leave room again."""
        (self.place / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.place)], check=False)


def told(database: Server, name: str, *statements: str) -> None:
    """Have the server do something in a database of its."""
    connection = psycopg2.connect(host="127.0.0.1", port=database.port, user="tuner", dbname=name)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for each in statements:
                cursor.execute(each)
    finally:
        connection.close()


def crowd(database: Server, seconds: float) -> None:
    """Take all connections there are for a while."""
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(psycopg2.Error):
            taken.append(psycopg2.connect(host="127.0.0.1", port=database.port, user="tuner", dbname="postgres"))
            continue
        time.sleep(0.05)
    for each in taken:
        each.close()


def happen(kind: str, nodes: list[Node], database: Server, disk: Disk, rng: random.Random, longest: float) -> None:
    """One fault."""
    one = rng.choice(nodes)
    if kind == "killed":
        one.kill()
    elif kind == "frozen" and one.process.is_alive() and one.thaw is None:
        one.frozen += 1
        one.signal(signal.SIGSTOP)
        one.thaw = time.monotonic() + rng.uniform(0.5, 3) * SILENCE_SECONDS
    elif kind == "restarted":
        database.restart()
    elif kind == "away":
        database.stop()
        # Most are short, so that many rounds take minutes; one in six is a failover.
        end = time.monotonic() + (longest if rng.random() < 1 / 6 else rng.uniform(0.5, min(8.0, longest)))
        while time.monotonic() < end:
            time.sleep(0.2)
            if rng.random() < 0.05:
                rng.choice(nodes).kill()  # while the ledger cannot be told
        database.start()
    elif kind == "cut":
        told(database, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    elif kind == "crowded":
        crowd(database, rng.uniform(1, 4))
    elif kind == "full" and disk.mounted:
        disk.fill()
        time.sleep(rng.uniform(1, 4))
        disk.clear()


def round_of(number: int, folder: Path, model: str, database: Server, disk: Disk, options: Any) -> dict[str, Any]:
    """One round, and what became of it."""
    rng = random.Random(f"{options.seed}/{number}")
    faults = rng.sample(KINDS, min(len(KINDS), rng.randint(1, 3)))
    bounded = number % 3 == 2
    limits = Limits(max_hours=WORK_SECONDS / 3600) if bounded else Limits(trials=TRIALS)
    name = f"round{number}"
    small = "full" in faults and disk.mounted
    told(database, "postgres", f"CREATE DATABASE {name}" + (" TABLESPACE small" if small else ""))
    url = database.url.rpartition("/")[0] + f"/{name}"
    sampler = "front" if number % 4 == 0 else "optuna:RandomSampler"
    nodes, began = [], time.monotonic()
    for i in range(NODES):
        own = folder / name / f"node{i}"
        own.mkdir(parents=True)
        (own / "study.py").write_text(STUDY.format(model=model))
        skew = rng.uniform(-86400, 86400) if "clock" in faults and i == 0 else 0.0
        nodes.append(Node(multiprocessing.get_context("forkserver"), i, own, (url, limits, skew, sampler, number)))
    plan = sorted((rng.uniform(0.0, 3.0), kind) for kind in faults for _ in range(rng.randint(1, 2)) if kind != "clock")
    deadline, happened = began + options.away + 240, []
    while time.monotonic() < deadline and not any(each.trained for each in nodes):
        time.sleep(0.05)  # until the first of them is at work: others may be on their way
    faults_from = time.monotonic()
    while any(each.process.is_alive() for each in nodes) and time.monotonic() < deadline:
        time.sleep(0.02)
        for each in nodes:
            if each.thaw is not None and time.monotonic() > each.thaw:
                each.signal(signal.SIGCONT)
                each.thaw = None
        if plan and time.monotonic() - faults_from > plan[0][0]:
            kind = plan.pop(0)[1]
            happened.append(kind)
            happen(kind, nodes, database, disk, rng, options.away)
    seconds = time.monotonic() - began
    stuck = sum(each.process.is_alive() for each in nodes)
    for each in nodes:
        each.process.kill()
        each.process.join()
    row = judged(nodes, url, bounded) | {"round": number, "faults": faults, "happened": happened, "seconds": round(seconds, 1)}
    row |= {"sampler": sampler, "stuck": stuck, "exit_codes": [each.process.exitcode for each in nodes]}
    row["holds"] = not (stuck or any(row["exit_codes"]) or row["lost"] or row["twice"] or row["uncounted_seconds"])
    row["holds"] = row["holds"] and not (row["passed"] or row["left_running"] or row["left_in_files"])
    told(database, "postgres", f"DROP DATABASE {name} WITH (FORCE)")
    return row


def judged(nodes: list[Node], url: str, bounded: bool) -> dict[str, Any]:
    """The ledger, held against the journals of the nodes."""
    results = Ledger.find(None, url).results(running=True)
    recipes = Counter(r.recipe_id for r in results if r.status == "complete")
    noted = [tuple(json.loads(line)) for each in nodes for line in _lines(each.folder / "recorded.jsonl")]
    killed, frozen = sum(each.killed for each in nodes), sum(each.frozen for each in nodes)
    died = sum(r.status == "interrupted" for r in results)
    spent, trained = total(r.consumed for r in results).seconds, sum(each.trained for each in nodes)
    # Of what a killed process had trained since its last beat up to a second is charged at its rate: what a beat that came late
    # lacks beyond is the bound of the heartbeat, two slices.
    slack = 0.1 + 4 * SLICE_SECONDS * (killed + frozen)
    waited = spent - trained  # choosing, waiting for the database, and being begun are work as well
    most = WORK_SECONDS + NODES * (OVERSHOOT_SECONDS + HEARTBEAT_SECONDS) + died * HEARTBEAT_SECONDS
    return {
        "results": len(results),
        "complete": sum(recipes.values()),
        "interrupted": died,
        "killed": killed,
        "frozen": frozen,
        "lost": sum(status == "complete" and recipe not in recipes for recipe, status in noted),
        "twice": sum(count - 1 for count in recipes.values()),
        "left_running": sum(r.status == "running" for r in results),
        "left_in_files": sum(len(list(each.folder.glob("unwritten/*.json"))) for each in nodes),
        "trained_seconds": round(trained, 2),
        "spent_seconds": round(spent, 2),
        "uncounted_seconds": round(max(0.0, trained - spent - slack), 2),
        "beside_training_seconds": round(waited, 2),
        "checkpoints_by_run": sorted(Counter(r.run_id for r in results if r.status == "complete").values()),
        "runs_started": len(started(results)),
        "passed": (spent > most) if bounded else len(started(results)) > TRIALS,
        "budget_seconds": WORK_SECONDS if bounded else None,
        "reasons": sorted({(each.folder / "reason.txt").read_text() for each in nodes if (each.folder / "reason.txt").exists()}),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def rounds(numbers: Any, options: Any, folder: Path) -> Any:
    """Rows of rounds."""
    from workbench.testing import tiny_model

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    model = tiny_model(folder / "model")
    paths = os.pathsep.join(filter(None, sys.path))
    with (
        mock.patch.dict(os.environ, {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}),  # three nodes share this machine
        server(max_connections=30, log_min_messages="panic") as database,
    ):
        disk = Disk(database)
        try:
            for number in numbers:
                yield round_of(number, folder, model, database, disk, options)
        finally:
            with contextlib.suppress(psycopg2.Error):  # a round that failed has left its database
                told(database, "postgres", "DROP TABLESPACE IF EXISTS small")
            disk.close()


def table_of(record: dict[str, Any]) -> str:
    """The table of `tests/benchmarks/README.md`."""
    known = record["summary"]
    shown = {
        "rounds that hold": f"{known['that_hold']} of {known['rounds']}",
        "what happened": ", ".join(f"{kind} {count}" for kind, count in sorted(known["happened"].items())),
        "results": f"{known['complete']:,} complete, {known['interrupted']:,} interrupted",
        "lost, twice": f"{known['lost']}, {known['twice']}",
        "trained, charged": f"{known['trained_seconds']:,.0f} s, {known['spent_seconds']:,.0f} s",
        "trained and not charged": f"{known['uncounted_seconds']:.1f} s",
        "limits passed beyond their bound": str(known["limits_passed"]),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in shown.items())])


def main() -> None:
    """Make all rounds and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "chaos.json")
    options.add_argument("--rounds", type=int, default=100)
    options.add_argument("--first", type=int, default=0, help="the first round's number")
    options.add_argument("--away", type=float, default=60.0, help="seconds that the server is away at most")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keep", type=Path, help="a folder for what the nodes leave behind")
    chosen = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for row in rounds(range(chosen.first, chosen.first + chosen.rounds), chosen, chosen.keep or Path(name)):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    summed = ("results", "complete", "interrupted", "killed", "frozen", "lost", "twice", "left_running", "left_in_files", "stuck")
    summary = {
        "rounds": len(rows),
        "that_hold": sum(row["holds"] for row in rows),
        "happened": dict(Counter(kind for row in rows for kind in row["happened"]))
        | {"clock": sum("clock" in r["faults"] for r in rows)},
        **{name: sum(row[name] for row in rows) for name in summed},
        **{name: round(sum(row[name] for row in rows), 1) for name in ("trained_seconds", "spent_seconds", "uncounted_seconds")},
        "limits_passed": sum(row["passed"] for row in rows),
        "most_over_budget_seconds": max(
            (row["spent_seconds"] - row["budget_seconds"] for row in rows if row["budget_seconds"]), default=None
        ),
    }
    record = {
        "what": __doc__,
        **made_on(),
        "options": {"rounds": chosen.rounds, "away": chosen.away, "seed": chosen.seed},
        "summary": summary,
        "rows": rows,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table_of(record))


if __name__ == "__main__":
    main()
