"""Replays conserve cost, credit nothing beyond the budget, measure what the plain hypervolume measures, and refuse bad tables."""

import gzip
import itertools
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import figures, pareto
from workbench.errors import DataError, UsageError
from workbench.replay import halving, methods, parallel, statistics, tables
from workbench.replay import protocol as protocols
from workbench.replay.protocol import Protocol, replay
from workbench.replay.regret import Goal, Staircase
from workbench.replay.simulation import Assignment, Idle, simulate
from workbench.search.baseline import Peer
from workbench.space import Choice, Dimension, Integers

REAL = Path(os.environ.get("WORKBENCH_DATA", "nowhere")) / "tables"
SIMPLE = ("front", "random", "random-cheap", "cheapest-first", "one-epoch-top-k", "mo-asha")
SAMPLERS = ("optuna:TPESampler", "optuna:TPESampler-group", "optuna:NSGAIISampler")
SPACE = {
    "method": {"type": "categorical", "choices": ["full", "lora"]},
    "rate": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
    "lora.r": {"type": "int", "low": 2, "high": 64, "log": True},
    "fixed": {"type": "int", "low": 8, "high": 8, "log": False},
}


def records(count: int = 24, *, failing: int = 2) -> list[dict]:
    """Runs of a made-up task: the dearer the better, rates matter, some diverge after their second checkpoint."""
    rng = np.random.default_rng(7)
    found = []
    for i in range(count):
        lora = bool(i % 2)
        rate = float(np.exp(rng.uniform(np.log(1e-5), np.log(1e-2))))
        config = {"method": "lora" if lora else "full", "rate": rate, "fixed": 8} | (
            {"lora.r": int(rng.integers(2, 65))} if lora else {}
        )
        stops, step = int(rng.integers(4, 9)), (1.0 if lora else 3.0) * float(rng.uniform(0.5, 2))
        height = 1 - 0.1 * abs(math.log(rate / 5e-4)) - (0.1 if lora else 0.0)
        curve = [[step * k, height * (1 - math.exp(-k / 3))] for k in range(1, stops + 1)]
        broken = i < failing
        found.append({"config": config, "curve": curve[:2] if broken else curve, "status": "diverged" if broken else "ok"})
    return found


def write(path: Path, runs: list, space: object = SPACE, **meta: object) -> Path:
    lines = [json.dumps({"meta": {"table": "made-up", "space": space, **meta}}), *(json.dumps(run) for run in runs)]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tables.Table:
    return tables.read(write(tmp_path_factory.mktemp("table") / "made.jsonl.gz", records()))


class Script:
    """A method that gives out what it was told to, then stops."""

    def __init__(self, *work: object) -> None:
        self.work, self.seen = list(work), []

    def next(self, state):
        self.seen.append((state.spent, state.passed.copy(), state.pending.copy(), state.failed.copy()))
        return self.work.pop(0) if self.work else Idle.STOP


# Tables


def test_a_table_is_read_plain_or_compressed(tmp_path: Path) -> None:
    plain, packed = (tables.read(write(tmp_path / name, records())) for name in ("a.jsonl", "b.jsonl.gz"))
    assert plain.digest == packed.digest
    assert plain.name == "made-up"
    assert len(plain.runs) == 24
    assert plain.dimensions["lora.r"].when == (("method", "lora"),)
    assert plain.dimensions["rate"].when == ()
    assert plain.dimensions["fixed"].space == Choice((8,))
    assert "lora.r" not in plain.runs[0].settings


def test_a_run_that_failed_looks_like_any_other_beforehand(table: tables.Table) -> None:
    failed = table.runs[0]
    assert failed.failed
    assert len(failed.qualities) == 2
    assert len(failed.costs) == np.median([len(run.costs) for run in table.runs if not run.failed])
    assert np.allclose(np.diff(failed.costs), failed.costs[0])
    assert failed.recorded == failed.costs[1]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, None])
def test_a_curve_ends_where_its_quality_is_no_number(tmp_path: Path, broken: float | None) -> None:
    runs = records()
    runs[5]["curve"][2][1] = broken
    run = tables.read(write(tmp_path / "t.jsonl", runs)).runs[5]
    assert (run.status, len(run.qualities)) == ("diverged", 2)
    assert run.failing_cost == runs[5]["curve"][2][0]


def test_losses_are_read_and_are_a_second_view_that_can_be_left_out(tmp_path: Path) -> None:
    runs = records()
    for run in runs:
        run["curve"] = [[cost, quality, math.exp(-quality)] for cost, quality in run["curve"]]
    with_losses, without = (tables.read(write(tmp_path / f"{n}.jsonl", each)) for n, each in enumerate((runs, records())))
    assert all(len(run.losses) == len(run.qualities) for run in with_losses.runs)
    assert not any(run.losses for run in without.runs)
    budget = without.budget(5)
    plain, blind = (
        simulate(t, methods.make(name, 0), budget=budget) for t, name in ((without, "front"), (with_losses, "front:no-loss"))
    )
    assert plain.run.tolist() == blind.run.tolist()
    assert simulate(with_losses, methods.make("front", 0), budget=budget).run.tolist() != plain.run.tolist()


def test_where_a_checkpoint_has_no_loss_its_run_has_none(tmp_path: Path) -> None:
    runs = records()
    runs[5]["curve"][0].append(0.5)
    assert tables.read(write(tmp_path / "t.jsonl", runs)).runs[5].losses == ()


def test_a_run_without_memory_costs_its_launch_only(tmp_path: Path) -> None:
    runs = records(failing=0)
    runs[3] |= {"status": "out_of_memory", "curve": []}
    found = tables.read(write(tmp_path / "t.jsonl", runs))
    trace = simulate(found, Script(Assignment(3, 0)), budget=100.0, cold_start_cost=2.0)
    assert (trace.total_spent, trace.failures, len(trace.run)) == (2.0, 1, 0)


def made(curves: list, statuses: list[str] | None = None) -> list:
    """Runs of these curves, each with a rate of its own."""
    rates = np.geomspace(1e-5, 1e-2, max(2, len(curves)))
    statuses = statuses or ["ok"] * len(curves)
    return [
        {"config": {"rate": float(rate)}, "curve": curve, "status": status}
        for rate, curve, status in zip(rates, curves, statuses, strict=False)
    ]


def change(runs: list, index: int, **more: object) -> list:
    runs[index] = runs[index] | more
    return runs


BAD = {
    "no meta": ([], None, "line 1"),
    "no space": (records(), "nothing", "space"),
    "type": (records(), SPACE | {"rate": {"type": "real", "low": 0, "high": 1}}, "type 'real'.*Known|type 'real'"),
    "range": (records(), SPACE | {"rate": {"type": "float", "low": 1, "high": 0}}, "line 1.*'rate'"),
    "log of 0": (records(), SPACE | {"rate": {"type": "float", "low": 0, "high": 1, "log": True}}, "above 0"),
    "no config": (change(records(), 3, config=None), SPACE, "line 5.*config"),
    "setting": (change(records(), 3, config={"rat": 1e-3}), SPACE, "line 5.*Did you mean 'rate'"),
    "choices of text": ([], SPACE | {"method": {"type": "categorical", "choices": "ab"}}, "line 1.*'method'.*must be a list"),
    "choices of lists": ([], SPACE | {"method": {"type": "categorical", "choices": [["a"]]}}, "line 1.*an option must be"),
    "log of text": ([], SPACE | {"rate": {"type": "float", "low": 1, "high": 2, "log": "no"}}, "line 1.*true or false"),
    "status": (change(records(), 3, status=3), SPACE, "line 5.*status.*3"),
    "status of others": (change(records(), 3, status="Completed"), SPACE, "line 5.*'Completed' would count as a failure"),
    "cost beyond floats": (change(records(), 3, curve=[[10**400, 1.0]]), SPACE, "line 5.*finite number"),
    "costs too large": (made([[[1e308, 1.0]], [[1e308, 2.0]]]), SPACE, "too large"),
    "qualities too far apart": (made([[[1, -1e308]], [[1, 1e308]]]), SPACE, "too large"),
    "equal costs": (change(records(), 3, curve=[[1, 0.5], [1, 0.6]]), SPACE, "line 5.*must increase"),
    "cost below 0": (change(records(), 3, curve=[[-1, 0.5]]), SPACE, "line 5.*above 0"),
    "cost is endless": (change(records(), 3, curve=[[math.inf, 0.5]]), SPACE, "line 5.*finite.*inf"),
    "curve of one point": (change(records(), 3, curve={"cost": 1}), SPACE, "line 5.*no curve"),
    "option": (change(records(), 3, config={"method": "ia3"}), SPACE, "line 5.*ia3"),
    "no curve": (change(records(), 3, curve=[]), SPACE, "line 5.*no curve"),
    "curve of words": (change(records(), 3, curve=["a"]), SPACE, "line 5.*checkpoint 1"),
    "cost is NaN": (change(records(), 3, curve=[[math.nan, 1.0]]), SPACE, "line 5.*cost of checkpoint 1.*nan"),
    "cost of 0": (change(records(), 3, curve=[[0, 1.0]]), SPACE, "line 5.*above 0"),
    "costs fall": (change(records(), 3, curve=[[2, 1.0], [1, 1.0]]), SPACE, "line 5.*must increase.*1 after 2"),
    "quality": (change(records(), 3, curve=[[1, "good"]]), SPACE, "line 5.*quality of checkpoint 1"),
    "loss": (change(records(), 3, curve=[[1, 0.5, math.nan]]), SPACE, "line 5.*loss of checkpoint 1.*nan"),
    "too many": (change(records(), 3, curve=[[1, 0.5, 0.1, 3]]), SPACE, r"line 5.*\[cost, quality, loss\]"),
    "all failed": (records(4, failing=4), SPACE, "no run that finished"),
    "all alike": ([r | {"curve": [[1, 0.5]], "status": "ok"} for r in records()], SPACE, "same quality"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_with_their_line(tmp_path: Path, case: str) -> None:
    runs, space, said = BAD[case]
    path = write(tmp_path / "bad.jsonl", runs, space)
    if case == "no meta":
        path.write_text(json.dumps(records()[0]))
    with pytest.raises(DataError, match=said):
        tables.read(path)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "empty"),
        (b'{"meta": {"space"', "line 1 is no JSON"),
        (b"[1]\n", "line 1"),
        (b"[" * 100_000, "line 1 is no JSON"),
        (b'{"meta": ' + b"1" * 5000 + b"}", "line 1 is no JSON"),
        (b"\x1f\x8bxx", "cannot be read"),
        (b"\xff\xfe", "read"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        tables.read(path)
    with pytest.raises(UsageError, match="no table"):
        tables.read(tmp_path / "none.jsonl")


def test_a_table_may_begin_with_a_mark_and_hold_separators_of_unicode(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines = [{"meta": {"table": "a\u2028b", "space": SPACE}}, *records()]
    path.write_text("\ufeff" + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    assert tables.read(path).name == "a\u2028b"


WRONG = st.sampled_from([None, True, 0, -1, 3, 0.5, math.nan, math.inf, 10**400, "", "ok", "x", [], [1], {}, {"a": 1}])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_table_with_anything_anywhere_is_read_or_refused_with_its_file(data: st.DataObject) -> None:
    """Some place of a good table holds something else, or nothing."""
    lines: list[Any] = json.loads(json.dumps([{"meta": {"table": "t", "space": SPACE}}, *records(4, failing=1)]))
    at: Any = lines
    while True:
        keys = sorted(at) if isinstance(at, dict) else range(len(at))
        key = data.draw(st.sampled_from(list(keys)))
        if not (isinstance(at[key], (dict, list)) and at[key]) or data.draw(st.integers(0, 3)) == 0:
            break
        at = at[key]
    if data.draw(st.booleans()):
        at[key] = data.draw(WRONG)
    else:
        del at[key]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        said = None
        try:
            found = tables.read(path)
        except DataError as error:
            said = str(error)
    if said is not None:
        assert str(path) in said
        return
    trace = simulate(found, methods.make("mo-asha", 0), budget=found.budget(3))
    assert trace.total_spent <= found.budget(3)


def test_numbers_may_be_rounded_and_options_written_as_text(tmp_path: Path) -> None:
    runs = records()
    runs[3]["config"]["rate"] = 1e-2 * (1 + 1e-7)
    runs[4]["config"]["fixed"] = 8.0
    space = SPACE | {
        "method": {"type": "categorical", "choices": ["full", "lora"]},
        "bits": {"type": "categorical", "choices": ["4", "8"]},
    }
    runs[5]["config"]["bits"] = 4
    found = tables.read(write(tmp_path / "t.jsonl", runs, space))
    assert found.runs[3].settings["rate"] == 1e-2
    assert found.runs[5].settings["bits"] == "4"
    runs[3]["config"]["rate"] = 2e-2
    with pytest.raises(DataError, match=r"line 5.*rate = 0.02"):
        tables.read(write(tmp_path / "t.jsonl", runs, space))


def test_a_table_without_a_point_that_counts_is_refused(tmp_path: Path) -> None:
    runs = [{"config": {"rate": 1e-3}, "curve": [[1, 0.9], [2, 0.1]]} for _ in range(4)]
    found = tables.read(write(tmp_path / "t.jsonl", runs))
    assert Goal(found).best > 0
    with pytest.raises(DataError, match="no point to be found"):
        replay([found], Protocol(methods=("random",), credit="finished"))


# Virtual time


def test_one_worker_pays_one_thing_after_the_other(table: tables.Table) -> None:
    script = Script(Assignment(2, 1), Assignment(3, 0), Assignment(2, 2))
    trace = simulate(table, script, budget=1e9, cold_start_cost=0.5)
    a, b = table.runs[2].costs, table.runs[3].costs
    assert trace.spent == pytest.approx([0.5 + a[0], 0.5 + a[1], 1 + a[1] + b[0], 1 + a[2] + b[0]])
    assert trace.time == pytest.approx(trace.spent)
    assert (trace.launches, trace.total_spent) == (2, pytest.approx(1 + a[2] + b[0]))


def test_a_failure_is_paid_for_and_seen(table: tables.Table) -> None:
    script = Script(Assignment(0, 3), Assignment(3, 0))
    trace = simulate(table, script, budget=1e9, cold_start_cost=0.0)
    assert list(zip(trace.run, trace.stop, strict=True)) == [(0, 0), (0, 1), (3, 0)]
    assert script.seen[1][0] == pytest.approx(table.runs[0].costs[2])
    assert script.seen[1][3][0]
    assert script.seen[1][2][0] == -1


def test_two_workers_see_only_what_is_reached(table: tables.Table) -> None:
    script = Script(Assignment(2, 3), Assignment(3, 0))
    simulate(table, script, budget=1e9, workers=2, cold_start_cost=0.0)
    (_, _, before, _), (spent, passed, pending, _) = script.seen[1:]
    quick = table.runs[3].costs[0]
    assert (before[2], before[3]) == (3, -1)
    assert spent == pytest.approx(2 * quick)
    assert passed[3] == 1
    assert passed[2] == np.searchsorted(table.runs[2].costs, quick, side="right")
    assert pending[2] == 3


def test_what_is_not_free_cannot_be_given_out(table: tables.Table) -> None:
    for script in (
        Script(Assignment(2, 1), Assignment(2, 1)),
        Script(Assignment(2, 99)),
        Script(Assignment(0, 3), Assignment(0, 3)),
    ):
        with pytest.raises(RuntimeError, match="cannot be taken"):
            simulate(table, script, budget=1e9, workers=1)


def test_moments_that_fall_together_are_seen_together(tmp_path: Path) -> None:
    runs = [{"config": {"rate": 1e-3}, "curve": [[1, 0.1 * i], [2, 0.2 * i]]} for i in range(4)]
    script = Script(Assignment(0, 0), Assignment(1, 0), Assignment(2, 0))
    simulate(tables.read(write(tmp_path / "t.jsonl", runs)), script, budget=100, workers=2, cold_start_cost=0.0)
    assert list(script.seen[2][1]) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "name, workers",
    [
        *itertools.product(SIMPLE, (1, 3, 64)),
        *((name, 3) for name in SAMPLERS),
        *(pytest.param(name, workers, marks=pytest.mark.slow) for name in SAMPLERS for workers in (1, 64)),
    ],
)
def test_cost_is_conserved_and_the_budget_is_kept(table: tables.Table, name: str, workers: int) -> None:
    budget = 0.4 * table.budget(1e9)
    trace = simulate(table, methods.make(name, 1), budget=budget, workers=workers, cold_start_cost=0.3)
    assert 0 < trace.total_spent <= budget
    assert np.all(np.diff(trace.spent) >= 0)
    assert np.all(trace.spent <= trace.total_spent)
    assert trace.total_spent <= workers * trace.total_time * (1 + 1e-9)
    paid, stops = 0.3 * trace.launches, {}
    for run, stop in zip(trace.run.tolist(), trace.stop.tolist(), strict=True):
        assert stop == stops.get(run, -1) + 1  # one after another, none twice
        stops[run] = stop
    paid += sum(float(table.runs[run].costs[stop]) for run, stop in stops.items())
    underway = sum(float(np.diff(table.runs[run].costs, prepend=0).max()) for run in range(len(table.runs)))
    assert paid - 0.3 * trace.launches <= trace.total_spent
    assert trace.total_spent <= paid + underway
    again = simulate(table, methods.make(name, 1), budget=budget, workers=workers, cold_start_cost=0.3)
    assert np.array_equal(again.run, trace.run)
    assert np.array_equal(again.spent, trace.spent)


@pytest.mark.parametrize("name", [*SIMPLE, *SAMPLERS])
def test_with_money_for_all_a_method_ends_by_itself_and_the_sum_is_exact(table: tables.Table, name: str) -> None:
    trace = simulate(table, methods.make(name, 2), budget=1e9, workers=3, cold_start_cost=0.25)
    paid = 0.25 * trace.launches
    for i, run in enumerate(table.runs):
        passed = int((trace.run == i).sum())
        failed = run.failed and passed == len(run.qualities)
        paid += run.failing_cost if failed else float(run.costs[passed - 1]) if passed else 0.0
    if name in ("random", "random-cheap", "cheapest-first", *SAMPLERS):
        assert trace.total_spent == pytest.approx(paid)
        assert trace.failures == 2
        assert len(trace.run) == len(table.points)
    assert trace.total_spent < 1e9


def test_the_methods_know_what_they_are_called(table: tables.Table) -> None:
    for name in (*methods.METHODS, "front:no-dollars", "front:no-freeze:no-loss", "front:no-cheap-start", "optuna:RandomSampler"):
        assert callable(methods.make(name, 0).next)
    for name, said in (("moasha", "mo-asha"), ("front:no-money", "front:no-"), ("optuna:TPE", "optuna:TPESampler")):
        with pytest.raises(UsageError, match=said):
            methods.make(name, 0)
    with pytest.raises(UsageError, match="no groups"):
        simulate(table, methods.make("optuna:NSGAIISampler-group", 0), budget=10.0)


@pytest.mark.slow
def test_methods_from_elsewhere_are_compared_too(table: tables.Table) -> None:
    more = {"theirs": halving.MoAsha}
    protocol = Protocol(("theirs", "mo-asha"), seeds=2, workers=(1,))
    for processes in (1, 2):
        theirs, ours = replay([table], protocol, processes=processes, more=more)["results"]
        assert theirs["area"] == ours["area"]
    with pytest.raises(UsageError, match="theirs"):
        replay([table], Protocol(("their",)), more=more)


def test_orders_are_what_they_say(table: tables.Table) -> None:
    cheapest = simulate(table, methods.make("cheapest-first", 0), budget=1e9)
    firsts = [int(run) for run, stop in zip(cheapest.run, cheapest.stop, strict=True) if stop == 0]
    assert firsts == list(np.argsort(table.full_costs, kind="stable"))
    starts = [simulate(table, methods.make("random-cheap", seed), budget=1e9).run[0] for seed in range(60)]
    assert np.mean(table.full_costs[starts]) < np.mean(table.full_costs)


def test_top_k_trains_a_quarter_of_all_then_the_best(table: tables.Table) -> None:
    trace = simulate(table, methods.make("one-epoch-top-k", 3), budget=1e9, cold_start_cost=0.0)
    rungs = {i: max(1, round(0.25 * len(run.costs))) for i, run in enumerate(table.runs)}
    first = sum(rungs.values())
    assert all(stop < rungs[run] for run, stop in zip(trace.run[:first].tolist(), trace.stop[:first].tolist(), strict=True))
    best = max((i for i in rungs if not table.runs[i].failed), key=lambda i: table.runs[i].qualities[rungs[i] - 1])
    assert trace.run[first] == best


def test_halving_promotes_a_third() -> None:
    points = np.array([[0.0, 0.0], [1.0, -1.0], [0.5, -0.5], [2.0, 0.0], [1.5, -0.2]])
    assert halving.priority(points, 3) == [1, 0, 2]  # the best quality, the farthest from it, the one between
    assert sorted(halving.priority(points, 5)) == list(range(5))
    assert [halving.stop_of(rung, 27) for rung in range(4)] == [0, 2, 8, 26]
    assert [halving.stop_of(rung, 2) for rung in range(4)] == [0, 0, 0, 1]


EVERY = (*methods.METHODS, *(f"front:no-{part}" for part in methods.ABLATIONS))
LENGTHS = {
    "one checkpoint each": [1] * 6,
    "two": [2] * 6,
    "three": [3] * 6,
    "long": [180, 180],
    "of all lengths": [1, 2, 3, 180, 60, 1, 2],
    "a single run": [3],
    "many of one and few of many": [1, 1, 1, 1, 1, 1, 180, 1, 2],
}


def replay_all(found: tables.Table, name: str, cold_start_cost: float | None = None) -> None:
    """A method on a table, with little money and with enough for all: it ends, and spends no more than it may."""
    for budget, workers in ((found.budget(1.5), 1), (10 * found.budget(1e9), 2)):
        trace = simulate(found, methods.make(name, 1), budget=budget, workers=workers, cold_start_cost=cold_start_cost)
        assert 0 <= trace.total_spent <= budget
        assert len(set(zip(trace.run.tolist(), trace.stop.tolist(), strict=True))) == len(trace.run)  # nothing is paid twice
    if name in ("front", "random", "mo-asha"):
        assert len(trace.run) == len(found.points)  # there was money for all that could be reached


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.slow
def test_every_method_ends_whatever_the_lengths_of_curves(tmp_path: Path, case: str, name: str) -> None:
    curves = [[[k * (1.0 + i), 0.1 * i + 0.01 * k] for k in range(1, n + 1)] for i, n in enumerate(LENGTHS[case])]
    replay_all(tables.read(write(tmp_path / "t.jsonl", made(curves))), name)


@pytest.mark.parametrize("case", LENGTHS)
def test_halving_ends_whatever_the_lengths_of_curves(tmp_path: Path, case: str) -> None:
    """Rungs of a run of one checkpoint all lie on it: it is at its end in the first, and was taken up again."""
    curves = [[[k * (1.0 + i), 0.1 * i + 0.01 * k] for k in range(1, n + 1)] for i, n in enumerate(LENGTHS[case])]
    replay_all(tables.read(write(tmp_path / "t.jsonl", made(curves))), "mo-asha")


@st.composite
def odd_tables(draw: st.DrawFn) -> list:
    """Runs that end at once, fail, cost the same, score the same."""
    curves, statuses = [[[1.0, 0.5], [2.0, 0.6]]], ["ok"]
    for n in draw(st.lists(st.sampled_from([0, 1, 2, 5, 40]), max_size=6)):
        step = draw(st.sampled_from([1.0, 1e-9, 1e9]))
        height = draw(st.sampled_from([0.0, 0.5, -1e6, 1e6]))
        curves.append([[step * k, height] for k in range(1, n + 1)])
        statuses.append("ok" if n and draw(st.booleans()) else draw(st.sampled_from(["diverged", "oom"])))
    return made(curves, statuses)


@pytest.mark.parametrize("name", ["random", "random-cheap", "cheapest-first", "one-epoch-top-k", "mo-asha"])
@settings(max_examples=25, deadline=None)
@given(runs=odd_tables(), cold_start_cost=st.sampled_from([0.0, 0.5]))
def test_every_method_ends_on_odd_tables(name: str, runs: list, cold_start_cost: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = tables.read(write(Path(folder) / "t.jsonl", runs))
    replay_all(found, name, cold_start_cost)


@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith(("front", "optuna"))])
@settings(max_examples=8, deadline=None)
@given(runs=odd_tables(), cold_start_cost=st.sampled_from([0.0, 0.5]))
@pytest.mark.slow
def test_every_search_ends_on_odd_tables(name: str, runs: list, cold_start_cost: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = tables.read(write(Path(folder) / "t.jsonl", runs))
    replay_all(found, name, cold_start_cost)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12), st.data())
def test_priority_is_by_dominance(points: list, data: st.DataObject) -> None:
    places = data.draw(st.integers(1, len(points)))
    order = halving.priority(np.array(points, float), places)
    assert len(set(order)) == places
    for i in set(range(len(points))) - set(order):
        assert not any(pareto.dominates(points[i], points[chosen]) for chosen in order)


# Regret


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(-2, 5)), max_size=15))
def test_a_growing_front_has_the_plain_hypervolume(points: list) -> None:
    stairs, done, before = Staircase(7.0, 0.0), [], 0.0
    for cost, quality in points:
        growth = stairs.add(float(cost), float(quality))
        done.append((float(cost), -float(quality)))
        assert stairs.volume == pytest.approx(pareto.hypervolume(done, (7.0, 0.0)))
        assert growth == pytest.approx(stairs.volume - before)
        before = stairs.volume


@pytest.mark.parametrize("cost", ["log", "linear"])
@pytest.mark.parametrize("credit", ["checkpoints", "finished"])
def test_regret_is_that_of_what_is_credited(table: tables.Table, credit: str, cost: str) -> None:
    goal = Goal(table, credit, cost)
    budget = table.budget(6)
    trace = simulate(table, methods.make("random", 4), budget=budget)
    curve = goal.curve(trace)
    limit, least = goal.reference
    scale = math.log if cost == "log" else float
    points = []
    for run, stop in zip(trace.run.tolist(), trace.stop.tolist(), strict=True):
        record = table.runs[run]
        if credit == "checkpoints" or (record.status == "ok" and stop == len(record.costs) - 1):
            points.append((scale(record.costs[stop]), -record.qualities[stop]))
    share = pareto.hypervolume(points, (scale(limit), -least)) / goal.best
    assert curve.at([budget])[0] == pytest.approx(1 - share)
    assert curve.at([0.0])[0] == 1.0
    assert np.all(np.diff(curve.regret) < 0)
    everything = simulate(table, methods.make("random", 4), budget=1e9)
    assert goal.curve(everything).regret[-1] == pytest.approx(0, abs=1e-9)


def test_area_and_reach_are_those_of_a_step_function(table: tables.Table) -> None:
    curve = Goal(table).curve(simulate(table, methods.make("random-cheap", 5), budget=table.budget(15)))
    budget = table.budget(15)
    grid = np.exp((np.arange(200_000) + 0.5) / 200_000 * math.log(200)) * budget / 200
    assert curve.area(budget) == pytest.approx(float(np.mean(curve.at(grid))), abs=1e-4)
    reached = curve.reach(0.5)
    assert reached is not None
    assert curve.at([reached[0]])[0] <= 0.5 < curve.at([reached[0] * 0.999])[0]
    assert curve.reach(1.01) is None


# Statistics


def test_statistics_are_those_of_the_books() -> None:
    assert statistics.rank_test([1, 2, 3], [1, 2, 3]) == 1.0
    assert statistics.rank_test(list(range(1, 11)), [0] * 10) == pytest.approx(2 / 2**10)
    # Demšar 2006, table 6: four classifiers on fourteen data sets: F statistics aside, q for four methods is 2.569
    values = np.random.default_rng(0).random((14, 4))
    found = statistics.ranking(values)
    assert found.critical_difference == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert sum(found.mean_ranks) == pytest.approx(10)
    assert statistics.ranking(values[:1]).friedman_p is None
    interval = statistics.median_interval(np.random.default_rng(1).normal(5, 1, 400))
    assert interval.low < interval.median < interval.high
    assert (interval.low, interval.high) == pytest.approx((5, 5), abs=0.3)


# Peers


def test_a_peer_is_told_what_was_run_in_its_place(table: tables.Table) -> None:
    peer = Peer(table.dimensions, "TPESampler", seed=0, parallel=True)
    for run in table.runs[2:6]:
        proposed, number = peer.ask()
        assert ("lora.r" in proposed) == (proposed["method"] == "lora")
        number = peer.instead(number, run.settings)
        peer.tell(number, [1.0, 2.0])
    told = [trial for trial in peer._study.trials if trial.values]
    assert [trial.params for trial in told] == [dict(run.settings) for run in table.runs[2:6]]


def test_a_peer_may_meet_a_long_range_of_whole_numbers() -> None:
    space = {"parameters": Dimension("parameters", Integers(64, 3_212_749_824, log=True))}
    peer = Peer(space, "GPSampler", seed=0)
    for _ in range(12):  # ten random starts first
        proposed, number = peer.ask()
        peer.tell(peer.instead(number, {"parameters": 1000}), [1.0, 2.0])
        assert 64 <= proposed["parameters"] <= 3_212_749_824


def test_a_sampler_for_one_objective_is_refused(table: tables.Table) -> None:
    with pytest.raises(UsageError, match=r"optuna:CmaEsSampler cannot search"):
        simulate(table, methods.make("optuna:CmaEsSampler", 0), budget=1e9)


# The protocol


@pytest.mark.slow
def test_the_record_tells_all_and_depends_on_nothing_but_the_seeds(table: tables.Table) -> None:
    protocol = Protocol(methods=("front", "random", "mo-asha"), seeds=3, budget=6, workers=(1, 4))
    seen: list[tuple[int, int]] = []
    record = replay([table], protocol, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 18) for i in range(19)]
    assert [(r["workers"], r["method"]) for r in record["results"]] == [(w, m) for w in (1, 4) for m in protocol.methods]
    for row in record["results"]:
        assert 0 <= row["area"]["mean"] <= 1
        assert row["regret"] == sorted(row["regret"], reverse=True)
        assert (row["versus"] is None) == (row["method"] == "front")
        assert (row["cost_to_95_over_one_worker"] is None) == (row["workers"] == 1)
        reached = [seed["cost_to_95"] for seed in row["seeds"] if seed["cost_to_95"] is not None]
        assert row["cost_to_95"]["reached"] == len(reached)
        assert all(cost <= record["tables"][0]["budget"] for cost in reached)
        assert (row["cost_to_95"]["median"] is None) == (len(reached) < 2)
        for ratio in filter(None, (row["cost_to_95"]["ratio"], row["cost_to_99"]["ratio"])):
            assert (ratio["least"] or 0) <= ratio["median"] <= (ratio["most"] or math.inf)
            if not ratio["at_least"] and not ratio["at_most"]:
                assert ratio["least"] == ratio["median"] == ratio["most"]
    text = json.dumps(record, allow_nan=False)
    assert str(Path.cwd()) not in text
    others = replay([table], protocol, processes=2)
    timeless = [{k: v for k, v in row.items() if k != "seconds_per_decision"} for row in record["results"]]
    assert [{k: v for k, v in row.items() if k != "seconds_per_decision"} for row in others["results"]] == timeless


@pytest.mark.parametrize(
    ("seeds", "said"),  # of each seed what front and the other paid until they were there; None where they never were
    [
        ([(1, 3), (1, 4), (1, 5)], (4, 4)),
        ([(1, 3), (1, 4), (1, None)], (4, 4)),  # whatever the last would have paid, it is more
        ([(1, 3), (1, None), (1, None)], (10, None)),
        ([(None, 2), (None, 3), (1, 5)], (None, 0.3)),
        ([(1, 2), (1, None), (None, 4)], (2, 2)),
        ([(1, 3), (5, None), (1, 5)], (3, 5)),
        ([(1, 2), (None, None), (None, None)], (None, None)),
        ([(None, None)] * 3, (None, None)),
    ],
)
def test_a_ratio_is_told_as_far_as_it_is_known(seeds: list[tuple[Any, Any]], said: tuple[Any, Any]) -> None:
    cells = []
    for costs in zip(*seeds, strict=True):
        cells.append(protocols._Cell(10.0, [], [Reached(cost) for cost in costs]))
    base, cell = cells
    ratio = protocols._ratio(cell, base, 0.95)
    assert (ratio["least"], ratio["most"]) == pytest.approx(said)


class Reached:
    """A curve that reaches everything at one cost, or never."""

    def __init__(self, cost: float | None) -> None:
        self.cost = cost

    def reach(self, share: float) -> tuple[float, float] | None:
        return None if self.cost is None else (self.cost, self.cost)


@pytest.mark.slow
def test_an_error_in_a_process_is_the_users_to_read(table: tables.Table) -> None:
    jobs = [parallel.Job(0, "optuna:CmaEsSampler", 1, seed, 1e9, 0.0) for seed in range(2)]
    with pytest.raises(UsageError, match="cannot search"):
        list(parallel.run([table], jobs, 2))


def test_the_curves_are_drawn(table: tables.Table) -> None:
    record = replay([table], Protocol(methods=("random", "cheapest-first"), seeds=2, workers=(1, 2)))
    drawn = figures.regret(record)
    assert len(drawn.data) == 4
    assert [line.name for line in drawn.data if line.showlegend] == ["random", "cheapest-first"]
    assert list(drawn.data[0].y) == record["results"][0]["curve"]


@pytest.mark.slow
def test_the_command_prints_tables_or_json(command, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", records(), cost_unit="seconds")
    words = ("replay", path, "--methods", "front,random", "--seeds", 2, "--workers", "1,2", "--jobs", 1)
    code, out, err = command(*words, "--html", "curves.html")
    assert code == 0
    assert "made-up: 24 runs, 2 workers" in out
    assert "seconds" in out
    assert "Replaying 8 searches" in err
    assert "Plotly.newPlot" in (tmp_path / "curves.html").read_text(encoding="utf-8")
    code, out, _ = command(*words, "--json", "--credit", "finished", "--cost", "linear")
    assert code == 0
    record = json.loads(out)
    assert (record["protocol"]["credit"], record["protocol"]["cost"]) == ("finished", "linear")
    assert record["versions"]["optuna"]


@pytest.mark.parametrize(
    "words, said",
    [
        (("none.jsonl",), "no table"),
        (("t.jsonl", "--methods", "font"), "Did you mean 'front'"),
        (("t.jsonl", "--methods", ","), "names nothing"),
        (("t.jsonl", "--workers", "0"), "above 0"),
        (("t.jsonl", "t.jsonl"), "called alike"),
        (("t.jsonl", "--budget", "nan"), "finite"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(command, tmp_path: Path, words: tuple, said: str) -> None:
    write(tmp_path / "t.jsonl", records())
    code, out, err = command("replay", *words)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.skipif(not REAL.is_dir(), reason="WORKBENCH_DATA names no folder that holds tables of recorded runs")
def test_the_given_tables_are_read_and_replayed() -> None:
    for path in sorted(REAL.glob("*.jsonl.gz")):
        found = tables.read(path)
        trace = simulate(found, methods.make("mo-asha", 0), budget=found.budget(2), workers=8)
        assert 0 < Goal(found).curve(trace).area(found.budget(2)) < 1
