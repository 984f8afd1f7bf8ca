"""Does a sweep over several nodes live through what happens to nodes and to its database? Seeded rounds of faults.

In three rounds of five three nodes sweep one study on one PostgreSQL database, by the sweep itself: its runner, ledger, heartbeat,
write-ahead files, budgets. Only training is replaced, by recorded curves and pauses, and MLflow is left out. Each node is a
process under a host name of its own, in a folder of its own; where one is killed it is begun again. The other rounds are the
command itself, with the same in the place of training and of MLflow: `workbench sweep --workers 2`, and `workbench sweep --ray` on
a cluster of two machines with unequal offers. The driver, which has started their workers, is begun again where it is killed.
Meanwhile some of these happen:

    killed       kill -9 of a node's sweep, or of a driver's worker
    driver       kill -9 of the driver, in each round that has one
    machine      a machine of Ray's is gone, its worker with it or not, and another comes, in each round that has them
    frozen       a node, or a worker, stops for longer than the others bear, and goes on
    clock        a node's clock is up to a day ahead or behind
    restarted    the server crashes and starts
    away         the server is away, for up to `--away` seconds
    cut          all connections are cut
    crowded      others take all the server's connections
    full         the disk of the database is full (a small tmpfs; skipped where none can be mounted)

Others of the same round are held dead after three seconds in the place of sixty, so that leases are lost and taken over as often as
can be. Afterwards the ledger is held against what each node noted for itself: every Result that was finished, and every
twentieth of a second that was trained, at the offer of its machine. The table that is printed at the end is that of README.md.

    python tests/benchmarks/chaos.py [--rounds 100] [--away 60] [--seed 0] [--out results/chaos.json]
    python tests/benchmarks/chaos.py --rounds 12 --budgets --only away --away 15 --least-away 15 --out results/chaos_away.json
"""

import argparse
import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import chaos_nodes as nodes_of
import psycopg2
import ray_cluster
from chaos_nodes import SLICE_SECONDS, Driver, Node
from servers import Server, made_on, server

from workbench.ledger import HEARTBEAT_SECONDS, Ledger
from workbench.sweep import OVERSHOOT_SECONDS, Limits
from workbench.sweep.limits import started
from workbench.usage import total

NODES, WORKERS = 3, 2
TRIALS = 9
WORK_SECONDS = 12.0
"""The budget of rounds that have one, of all nodes together."""

KINDS = ("killed", "frozen", "clock", "restarted", "away", "cut", "crowded", "full")
ROUNDS = ("nodes", "nodes", "workers", "nodes", "cluster")
"""What sweeps, round after round."""

ALWAYS = {"nodes": (), "workers": ("driver",), "cluster": ("driver", "machine")}
"""What happens in each round of a kind, beside some of `KINDS`."""


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


def happen(kind: str, nodes: list[Node], database: Server, disk: Disk, rng: random.Random, options: Any) -> None:
    """One fault."""
    longest, least = options.away, options.least_away
    one = rng.choice(nodes)
    if kind == "killed":
        one.kill(rng)
    elif kind == "driver" and isinstance(one, Driver):
        one.kill_driver()
    elif kind == "machine" and isinstance(one, Driver):
        one.lose_machine(rng)
    elif kind == "frozen":
        one.freeze(rng)
    elif kind == "restarted":
        database.restart()
    elif kind == "away":
        database.stop()
        # Most are short, so that many rounds take minutes; one in six is a failover.
        end = time.monotonic() + (longest if rng.random() < 1 / 6 else rng.uniform(least, max(least, min(8.0, longest))))
        while time.monotonic() < end:
            time.sleep(0.2)
            if rng.random() < 0.05:
                another = rng.choice(nodes)  # while the ledger cannot be told
                if isinstance(another, Driver) and rng.random() < 0.3:
                    another.kill_driver()
                else:
                    another.kill(rng)
        database.start()
    elif kind == "cut":
        told(database, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    elif kind == "crowded":
        crowd(database, rng.uniform(1, 4))
    elif kind == "full" and disk.mounted:
        disk.fill()
        time.sleep(rng.uniform(1, 4))
        disk.clear()


# A round


def kind_of(number: int) -> tuple[str, bool]:
    """What sweeps in a round, and whether within a budget: the start of a command's worker is on no budget's watch yet."""
    kind = ROUNDS[number % len(ROUNDS)]
    return kind, kind == "nodes" and number % 3 == 2


def round_of(
    number: int, folder: Path, model: str, database: Server, disk: Disk, cluster: Callable[[], Any], options: Any
) -> dict[str, Any]:
    """One round, and what became of it.

    Args:
        number: The round's.
        folder: For what the nodes leave behind.
        model: The name of a tiny model.
        database: The server.
        disk: A small one for its files.
        cluster: Gives the cluster, where the round needs it.
        options: The command's.
    """
    rng = random.Random(f"{options.seed}/{number}")
    kind, bounded = kind_of(number)
    # A driver's workers have the clock of this machine.
    kinds = [each for each in options.only or KINDS if kind == "nodes" or each != "clock"]
    faults = [*ALWAYS[kind], *rng.sample(kinds, min(len(kinds), rng.randint(1, 3)))]
    name, place = f"round{number}", folder / f"round{number}"
    small = "full" in faults and disk.mounted
    told(database, "postgres", f"CREATE DATABASE {name}" + (" TABLESPACE small" if small else ""))
    url = database.url.rpartition("/")[0] + f"/{name}"
    sampler = "front" if number % 4 == 0 else "optuna:RandomSampler"
    study, began, nodes = nodes_of.STUDY.format(model=model), time.monotonic(), list[Node]()
    if kind == "nodes":
        limits = Limits(max_hours=WORK_SECONDS / 3600) if bounded else Limits(trials=TRIALS)
        for i in range(NODES):
            own = _folder(place / f"node{i}", study)
            skew = rng.uniform(-86400, 86400) if "clock" in faults and i == 0 else 0.0
            nodes.append(Node(own, nodes_of.node, i, own, url, limits, skew, sampler, number))
    else:
        own = _folder(place, study + nodes_of.STANDS_IN)
        (own / "workbench.toml").write_text(nodes_of.OFFERS)
        words = f"sweep study.py --storage {url} --trials {TRIALS} --sampler {sampler} --seed {number} --yes".split()
        more = ["--ray", cluster().address] if kind == "cluster" else ["--workers", str(WORKERS)]
        nodes.append(Driver(own, words + more, cluster() if kind == "cluster" else None))
    # A driver's workers begin anew from nothing, in some seconds.
    within = 3.0 if kind == "nodes" else 6.0
    plan = sorted((rng.uniform(0.0, within), what) for what in faults for _ in range(rng.randint(1, 2)) if what != "clock")
    deadline, happened = began + options.away + 240, []
    while time.monotonic() < deadline and not any(each.trained() for each in nodes):
        time.sleep(0.05)  # until the first of them is at work: others may be on their way
    faults_from = time.monotonic()
    while any(each.is_at_work for each in nodes) and time.monotonic() < deadline:
        time.sleep(0.02)
        for each in nodes:
            each.look()
        if plan and time.monotonic() - faults_from > plan[0][0]:
            what = plan.pop(0)[1]
            happened.append(what)
            happen(what, nodes, database, disk, rng, options)
    seconds = time.monotonic() - began
    stuck = sum(each.is_at_work for each in nodes)
    for each in nodes:
        each.close()
    row = judged(nodes, url, bounded) | {"round": number, "of": kind, "faults": faults, "happened": happened}
    row |= {"seconds": round(seconds, 1), "sampler": sampler, "stuck": stuck}
    row["exit_codes"] = [each.process.exitcode for each in nodes]
    row["holds"] = not (stuck or any(row["exit_codes"]) or row["lost"] or row["twice"] or row["uncounted_seconds"])
    row["holds"] = row["holds"] and not (row["passed"] or row["left_running"] or row["left_in_files"])
    told(database, "postgres", f"DROP DATABASE {name} WITH (FORCE)")
    return row


def _folder(path: Path, study: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "study.py").write_text(study)
    return path


def judged(nodes: list[Node], url: str, bounded: bool) -> dict[str, Any]:
    """The ledger, held against the journals of the nodes."""
    results = Ledger.find(None, url).results(running=True)
    recipes = Counter(r.recipe_id for r in results if r.status == "complete")
    noted = [tuple(json.loads(line)) for each in nodes for line in _lines(each.folder / "recorded.jsonl")]
    counts = {name: sum(getattr(each, name) for each in nodes) for name in ("killed", "frozen", "drivers_killed", "machines_lost")}
    died = sum(r.status == "interrupted" for r in results)
    spent, trained, uncounted = 0.0, 0.0, 0.0
    # Of what a killed process had trained since its last beat up to a second is charged at its rate: what a beat that came late
    # lacks beyond is the bound of the heartbeat, two slices. A driver's death ends its workers.
    ended = counts["killed"] + counts["frozen"] + WORKERS * (counts["drivers_killed"] + counts["machines_lost"])
    for offer in (nodes_of.OFFER.platform, *nodes_of.MACHINES):
        work = sum(each.trained(offer) for each in nodes)
        charged = total(r.consumed for r in results if r.offer["platform"] == offer).seconds
        uncounted += max(0.0, work - charged - 0.1 - 4 * SLICE_SECONDS * ended)
        spent, trained = spent + charged, trained + work
    # Each of the nodes may pass a budget by what cannot be broken off and what is not told yet, and each that died by a beat:
    # no more with the server away, where each spends its share alone (workbench/sweep/budget.py).
    most = WORK_SECONDS + NODES * (OVERSHOOT_SECONDS + HEARTBEAT_SECONDS) + died * HEARTBEAT_SECONDS
    return {
        "results": len(results),
        "complete": sum(recipes.values()),
        "interrupted": died,
        **counts,
        "lost": sum(status == "complete" and recipe not in recipes for recipe, status in noted),
        "twice": sum(count - 1 for count in recipes.values()),
        "left_running": sum(r.status == "running" for r in results),
        "left_in_files": sum(len(list(each.folder.rglob("unwritten/*.json"))) for each in nodes),
        "trained_seconds": round(trained, 2),
        "spent_seconds": round(spent, 2),
        "uncounted_seconds": round(uncounted, 2),
        # Choosing, waiting for the database, and being begun are work as well.
        "beside_training_seconds": round(spent - trained, 2),
        "checkpoints_by_run": sorted(Counter(r.run_id for r in results if r.status == "complete").values()),
        "runs_started": len(started(results)),
        "passed": (spent > most) if bounded else len(started(results)) > TRIALS,
        "budget_seconds": WORK_SECONDS if bounded else None,
        "reasons": sorted({reason for each in nodes for reason in each.reasons}),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def rounds(numbers: Any, options: Any, folder: Path) -> Any:
    """Rows of rounds."""
    from workbench.testing import tiny_model

    multiprocessing.get_context("forkserver").set_forkserver_preload(["preloaded"])
    model = tiny_model(folder / "model")
    paths = os.pathsep.join(filter(None, sys.path))
    with (
        mock.patch.dict(os.environ, {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}),  # three nodes share this machine
        server(max_connections=30, log_min_messages="panic") as database,
        contextlib.ExitStack() as stack,
    ):

        @functools.cache
        def cluster() -> Any:
            made = stack.enter_context(ray_cluster.cluster())
            made.machines = {}
            for name in nodes_of.MACHINES:
                nodes_of.add_machine(made, name)
            return made

        disk = Disk(database)
        try:
            for number in numbers:
                yield round_of(number, folder, model, database, disk, cluster, options)
        finally:
            with contextlib.suppress(psycopg2.Error):  # a round that failed has left its database
                told(database, "postgres", "DROP TABLESPACE IF EXISTS small")
            disk.close()


def summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All rounds together."""
    faults = ("killed", "frozen", "drivers_killed", "machines_lost")
    summed = ("results", "complete", "interrupted", *faults, "lost", "twice", "left_running", "left_in_files", "stuck")
    return {
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


def table_of(record: dict[str, Any]) -> str:
    """The table of `tests/benchmarks/README.md`."""
    known, of = record["summary"], Counter(row["of"] for row in record["rows"])
    shown = {
        "rounds that hold": f"{known['that_hold']} of {known['rounds']}",
        "what swept": f"three nodes in {of['nodes']}, `--workers {WORKERS}` in {of['workers']}, `--ray` in {of['cluster']}",
        "what happened": ", ".join(f"{kind} {count}" for kind, count in sorted(known["happened"].items())),
        "killed": f"{known['killed']} workers, {known['drivers_killed']} drivers, {known['machines_lost']} machines of Ray's",
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
    options.add_argument("--least-away", type=float, default=0.5, help="and at least")
    options.add_argument("--only", nargs="*", choices=KINDS, help="the faults that are chosen among, beside those of each round")
    options.add_argument("--budgets", action="store_true", help="only rounds that have a budget")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keep", type=Path, help="a folder for what the nodes leave behind")
    chosen = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        numbers = (i for i in itertools.count(chosen.first) if kind_of(i)[1] or not chosen.budgets)
        for row in rounds(itertools.islice(numbers, chosen.rounds), chosen, chosen.keep or Path(name)):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    record = {
        "what": __doc__,
        **made_on(),
        "options": {name: value for name, value in vars(chosen).items() if name not in ("out", "keep")},
        "summary": summary_of(rows),
        "rows": rows,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table_of(record))


if __name__ == "__main__":
    main()
