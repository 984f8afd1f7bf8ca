"""What many workers on one PostgreSQL ledger wait for: decisions, leases, writes; and what that grows to with the results there.

Workers are fake and the ledger is real. Each works as one of a sweep does: it reads what is new, waits for its turn, has the search
decide, or takes a step that another has decided, takes the lease, "trains" by sleeping, beats each second, watches what the
others spend, and writes a made-up result. They are threads of a few processes, each with connections of its own, beside the
server on the same cores: what they lose is an upper bound of what they would lose on machines of their own. A run takes
`--run-seconds`, and 15 s of up to eight workers. Where that is less than a minute the share of a worker's time that is lost is
that of a minute all the same: seconds lost for a result, over these and sixty; the load is then so much higher.

The tables that are printed at the end are those of README.md.

    python tests/benchmarks/scale.py [--workers 1 8 64 256] [--seconds 60] [--run-seconds 60]
                                     [--held 1000 10000 100000 1000000] [--out results/scale.json]
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import sqlalchemy
from servers import Server, made_on, server

from workbench import Recipe, Study, choice, full, integers, loguniform, peft, prices, search
from workbench.ledger import Ledger, Patience
from workbench.ledger.statements import TOKEN
from workbench.prices import Prices
from workbench.result import Result, spending
from workbench.search import CheckpointForecast
from workbench.space import Value
from workbench.study import Recipe as AnyRecipe
from workbench.sweep import batch
from workbench.testing import TinyTask
from workbench.usage import Usage

OFFER = prices.find("local")
EPOCHS = (0.5, 1.0, 2.0, 4.0)
OTHERS_A_SECOND = 16  # as `workbench.sweep.current_work` reads
MOST_READ = 100_000
"""Of more results not all are read: what that takes grows with their number, and a million would need the memory of a server."""


def study(model: str) -> Study:
    """A space that no number of workers exhausts."""
    rate = loguniform(1e-4, 1e-2)
    method = choice(full(learning_rate=rate), peft("lora", learning_rate=rate, r=choice(2, 4, 8)))
    recipe = Recipe(task=TinyTask(train=choice(32, 64)), model=model, method=method, epochs=integers(1, 4, log=True))
    return replace(Study(recipe, maximize="accuracy", minimize="usd"), path=Path("scale.py"))


def checkpoints(recipe: AnyRecipe) -> list[CheckpointForecast]:
    """Those that a recipe passes: a US$ an epoch."""
    train = recipe.task.train  # type: ignore[attr-defined]
    return [CheckpointForecast(e, e * train, min(1.0, e) * train, e, e) for e in EPOCHS if e <= recipe.epochs]


def stub(of: Study, settings: dict[str, Value], epochs: float) -> Result:
    """The Result of a checkpoint, before it is made."""
    recipe = of.resolve(of.longest(settings)).with_epochs(epochs)
    told = {**of.longest(settings), "epochs": epochs}
    known = {"recipe": recipe.to_json(), "settings": told, "inputs": recipe.inputs}
    return Result(recipe_id=recipe.id, run_id=recipe.run_id, status="running", started=time.time(), **known)


def complete(lease: Result, rng: random.Random, seconds: float) -> Result:
    """What came of it: made up."""
    rate = next(float(v) for n, v in lease.settings.items() if n.endswith("learning_rate"))
    score = 90 - 8 * abs(rate * 1000 - 2) - 20 / (1 + 2 * lease.epochs) + rng.gauss(0, 2)
    usage = {"train": Usage(seconds=seconds, cpu_seconds=seconds), "evaluate": Usage(seconds=0.1, cpu_seconds=0.1)}
    seen = {"step": int(8 * lease.epochs), "examples": int(64 * lease.epochs), "labels": 64}
    scores = {"accuracy": score, "dev_loss": 3 - score / 40}
    return replace(lease, status="complete", scores=scores, usage=usage, spent=usage, finished=time.time(), **seen)


class Worker(threading.Thread):
    """One worker, and how long each thing that it did took."""

    def __init__(self, number: int, of: Study, url: str, until: float, seconds: float) -> None:
        super().__init__(daemon=True)
        self.took: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self.of, self.until, self.seconds, self.rng = of, until, seconds, random.Random(number)
        self.ledger = Ledger.find(of.name, url).patient(Patience(60.0))
        self.watching = self.ledger.reader()
        self.costs = search.Costs(Prices(OFFER, 0.0), checkpoints)

    def run(self) -> None:
        time.sleep(self.rng.uniform(0, self.seconds))  # they do not begin at once, nor end
        while time.time() < self.until:
            try:
                self.one()
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}"[:200])

    def one(self) -> None:
        began = time.perf_counter()
        with self.ledger.choosing():
            waited = time.perf_counter()
            results = self.ledger.results(running=True)
            more = batch.ahead(results)
            steps = batch.Batch(self.ledger, self.of.resolve, lambda step: True)
            step = steps.take(results, None, None) if more else None
            if step is None:
                step = search.decide(self.of, results, self.costs, search.Strategy(may_wait=False, ahead=more))
                steps.keep(step, results)
                self.took["search"].append(time.perf_counter() - waited)
            assert step.settings is not None, step
            leasing = time.perf_counter()
            lease = self.ledger.lease(self.of, stub(self.of, step.settings, step.until or 4.0))
        now = time.perf_counter()
        self.took["turn"].append(waited - began)
        self.took["lease"].append(now - leasing)
        self.took["decision"].append(now - began)  # all of it
        if lease is None:
            self.took["refused"].append(now - began)
            return
        beats = self.train(lease)
        done = complete(lease.result, self.rng, self.seconds)
        writing = time.perf_counter()
        self.ledger.finish(lease, done, self.of, OFFER)
        self.took["write"].append(time.perf_counter() - writing)
        self.took["beat"] += beats

    def train(self, lease: Any) -> list[float]:
        """Sleep, and do beside it what the threads of a worker do."""
        end, looked, beats = time.monotonic() + self.seconds, 0.0, []
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            began = time.perf_counter()
            self.ledger.beat(lease, {"train": Usage(seconds=self.seconds - max(0.0, left))})
            beats.append(time.perf_counter() - began)
            if time.monotonic() >= looked:
                began = time.perf_counter()
                found = self.watching.results(running=True)
                spending(found, OFFER, 0.0)
                self.took["watch"].append(time.perf_counter() - began)
                others = sum(r.status == "running" for r in found)
                looked = time.monotonic() + max(1.0, others / OTHERS_A_SECOND, 50 * self.took["watch"][-1])
        return beats


def process(numbers: list[int], of: Study, url: str, until: float, seconds: float, told: Any) -> None:
    """Some of the workers."""
    workers = [Worker(n, of, url, until, seconds) for n in numbers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=max(0.0, until + 4 * seconds + 60 - time.time()))
    took = {name: [t for w in workers for t in list(w.took[name])] for name in {n for w in workers for n in list(w.took)}}
    told.put((took, [e for w in workers for e in w.errors], sum(w.is_alive() for w in workers)))


def row(workers: int, of: Study, database: Server, options: Any) -> dict[str, Any]:
    """So many workers on a ledger of their own."""
    Ledger.open(of, database.url)
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    parts = min(workers, options.processes)
    until = time.time() + options.seconds + 10  # 10: they are started
    arguments = [(list(range(workers))[i::parts], of, database.url, until, options.run_seconds, told) for i in range(parts)]
    started = [context.Process(target=process, args=each) for each in arguments]
    for each in started:
        each.start()
    answers = [told.get() for _ in started]
    for each in started:
        each.join()
    took: dict[str, list[float]] = defaultdict(list)
    for answer, _, _ in answers:
        for name, times in answer.items():
            took[name] += times
    results = Ledger.find(of.name, database.url).results()
    recipes = [r.recipe_id for r in results]
    made = max(1, len(results))
    lost = (sum(took["decision"]) + sum(took["write"])) / made
    span = max(r.finished for r in results) - min(r.started for r in results) if results else 0.0
    return {
        "workers": workers,
        "run_seconds": options.run_seconds,
        "processes": parts,
        "results": len(results),
        "twice": len(recipes) - len(set(recipes)),
        "results_per_second": round(len(results) / span, 2) if span else None,
        "searches": len(took["search"]),
        "leases_refused": len(took["refused"]),
        "lost_seconds_per_result": round(lost, 3),
        "lost_share_of_a_minute": round(lost / (lost + 60), 4),
        **{f"{name}_seconds": quantiles(took[name]) for name in ("turn", "search", "decision", "lease", "write", "beat", "watch")},
        "errors": sorted({error for _, errors, _ in answers for error in errors})[:3],
        "stuck": sum(alive for _, _, alive in answers),
    }


def quantiles(times: list[float]) -> dict[str, float] | None:
    if not times:
        return None
    times = sorted(times)
    return {f"p{q}": round(times[min(len(times) - 1, int(q / 100 * len(times)))], 4) for q in (50, 95, 99)}


def fill(of: Study, database: Server, most: int) -> None:
    """Results up to so many, written by the server itself from one that a worker wrote."""
    ledger = Ledger.open(of, database.url)
    if not ledger.results():
        settings: dict[str, Value] = {"task.train": 32, "method": "full", "full.learning_rate": 2e-3}
        lease = ledger.lease(of, stub(of, settings, 4.0))
        assert lease is not None
        ledger.finish(lease, complete(lease.result, random.Random(0), 1.0), of, OFFER)
    one = ledger.results()[0]
    engine, study_id = ledger._storage.engine, ledger._study_id
    with engine.begin() as connection:
        have = connection.execute(sqlalchemy.text("SELECT count(*) FROM trials WHERE study_id = :s"), {"s": study_id}).scalar_one()
        first = connection.execute(
            sqlalchemy.text("SELECT min(trial_id) FROM trials WHERE study_id = :s"), {"s": study_id}
        ).scalar_one()
        last = connection.execute(sqlalchemy.text("SELECT max(trial_id) FROM trials")).scalar_one()
        values: dict[str, Any] = {"s": study_id, "have": have, "most": most, "first": first, "last": last, "token": TOKEN}
        values |= {"recipe": one.recipe_id, "run": one.run_id}
        for text in (
            "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) "
            "SELECT n, :s, 'COMPLETE', now(), now() FROM generate_series(:have, :most - 1) n ORDER BY n",
            # Another recipe and another score each; the rest is the first one's.
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) SELECT t.trial_id, a.key, CASE WHEN a.key = :token "
            "THEN '\"' || md5(t.trial_id::text) || '\"' "
            "ELSE replace(replace(a.value_json, :recipe, md5('r' || t.trial_id)), :run, md5(t.trial_id::text)) END "
            "FROM trials t, trial_user_attributes a WHERE t.study_id = :s AND t.trial_id > :last AND a.trial_id = :first",
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) SELECT t.trial_id, p.param_name, "
            "p.param_value, p.distribution_json FROM trials t, trial_params p "
            "WHERE t.study_id = :s AND t.trial_id > :last AND p.trial_id = :first",
            "INSERT INTO trial_values (trial_id, objective, value, value_type) SELECT t.trial_id, v.objective, "
            "v.value * (0.5 + random()), v.value_type FROM trials t, trial_values v "
            "WHERE t.study_id = :s AND t.trial_id > :last AND v.trial_id = :first",
        ):
            connection.execute(sqlalchemy.text(text), {n: v for n, v in values.items() if f":{n}" in text})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def read(of: Study, database: Server) -> dict[str, Any]:
    """What reading all results takes one who has read none."""
    ledger = Ledger.find(of.name, database.url, read_only=True)
    before, began = psutil.Process().memory_info().rss, time.perf_counter()
    results = ledger.results()
    seconds, size = time.perf_counter() - began, psutil.Process().memory_info().rss - before
    return {
        "read_all_seconds": round(seconds, 2),
        "kib_each": round(size / len(results) / 1024, 1),
    }


def growth(held: int, of: Study, database: Server) -> dict[str, Any]:
    """What a ledger with so many results takes: of a worker that has read them, and of a reader that has not."""
    began = time.perf_counter()
    fill(of, database, held)
    filled = time.perf_counter() - began
    all_of_it = read(of, database) if held <= MOST_READ else {}
    ledger = Ledger.find(of.name, database.url)
    # As a worker that has read all of it: a million Results need not lie in memory to time the next one.
    ledger._seen = ledger._asked(sqlalchemy.text("SELECT max(trial_id) FROM trials"))[0][0]
    rng, took = random.Random(held), defaultdict(list)
    for i in range(30):
        settings: dict[str, Value] = {"task.train": 32, "method": "full", "full.learning_rate": rng.uniform(1e-4, 1e-2)}
        began = time.perf_counter()
        lease = ledger.lease(of, stub(of, settings, 4.0))
        took["lease"].append(time.perf_counter() - began)
        assert lease is not None, i
        began = time.perf_counter()
        ledger.beat(lease, {})
        took["beat"].append(time.perf_counter() - began)
        began = time.perf_counter()
        ledger.finish(lease, complete(lease.result, rng, 1.0), of, OFFER)
        took["write"].append(time.perf_counter() - began)
        began = time.perf_counter()
        ledger.results(running=True)
        took["read_what_is_new"].append(time.perf_counter() - began)
    return {
        "held": held,
        **{f"{name}_seconds": quantiles(times) for name, times in took.items()},
        **all_of_it,
        "filled_in_seconds": round(filled, 1),
    }


def table_of(record: dict[str, Any]) -> str:
    """The tables of `tests/benchmarks/README.md`."""

    def ms(times: dict[str, float] | None) -> str:
        return "–" if times is None else ", ".join(f"{1000 * times[q]:,.0f}" for q in ("p50", "p95", "p99"))

    lines = [
        "| workers | results a second | a write, ms | a lease, ms | a decision, with the wait for it, ms | lost of a minute |",
        "|---|---|---|---|---|---|",
    ]
    for each in record["workers"]:
        times = " | ".join(ms(each[f"{name}_seconds"]) for name in ("write", "lease", "decision"))
        lines.append(
            f"| {each['workers']} | {each['results_per_second']:.2f} | {times} | {100 * each['lost_share_of_a_minute']:.1f} % |"
        )
    read = {"all, s": "read_all_seconds", "KiB each": "kib_each"}
    read = {title: name for title, name in read.items() if any(name in each for each in record["growth"])}
    heads = ["results held", "a write, ms", "a lease, ms", "what is new, ms", *read]
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for each in record["growth"]:
        times = [ms(each[f"{name}_seconds"]) for name in ("write", "lease", "read_what_is_new")]
        cells = [f"{each['held']:,}", *times, *(f"{each[name]:.1f}" if name in each else "–" for name in read.values())]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Make all rows and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    options.add_argument("--workers", type=int, nargs="*", default=[1, 8, 64, 256])
    options.add_argument("--seconds", type=float, default=60.0, help="of each number of workers, the last runs come on top")
    options.add_argument("--run-seconds", type=float, default=60.0)
    options.add_argument("--held", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    options.add_argument("--processes", type=int, default=8)
    chosen = options.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started: workers are many, and none has the machine to itself
    from workbench.testing import tiny_model

    rows, grown = [], []
    with tempfile.TemporaryDirectory() as name:
        of = study(tiny_model(Path(name) / "model"))
        for workers in chosen.workers:
            with server(max_connections=1500, shared_buffers="256MB") as database:
                # Few workers hold nobody up, however long their runs are.
                few = argparse.Namespace(run_seconds=min(15.0, chosen.run_seconds), seconds=min(30.0, chosen.seconds))
                options_of = argparse.Namespace(**{**vars(chosen), **(vars(few) if workers <= 8 else {})})
                rows.append(row(workers, of, database, options_of))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        with server(shared_buffers="256MB", max_wal_size="4GB") as database:
            for held in chosen.held:
                grown.append(growth(held, of, database))
                print(json.dumps(grown[-1]), file=sys.stderr, flush=True)
    record = {
        "what": __doc__,
        **made_on(),
        "options": {"seconds": chosen.seconds, "run_seconds": chosen.run_seconds, "processes": chosen.processes},
        "workers": rows,
        "growth": grown,
        "median_write_ratio": _ratio(grown),
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table_of(record))


def _ratio(grown: list[dict[str, Any]]) -> float | None:
    """The median write with the most results over that with the fewest."""
    medians = [statistics.fmean([each["write_seconds"]["p50"], each["lease_seconds"]["p50"]]) for each in grown]
    return round(medians[-1] / medians[0], 2) if len(medians) > 1 else None


if __name__ == "__main__":
    main()
