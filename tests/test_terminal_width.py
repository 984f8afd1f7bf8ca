"""What is printed on a terminal: tables and a moving line no wider than it is; and elsewhere a line now and then."""

import io
import time
from dataclasses import replace
from typing import Any

import made
import pytest
import sweeps
from test_contention import disturbed

from workbench.cli import printing, progress
from workbench.cli.front import show_front
from workbench.cli.printing import Table, messages, print_table
from workbench.cli.progress import Progress
from workbench.cli.runs import _table as table_of_runs
from workbench.front.points import Points
from workbench.result import Result
from workbench.sweep import Budget, Limits

LINE = 100


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard output as a terminal of 100 columns."""
    told = io.StringIO()
    known: dict[str, Any] = {"highlight": False, "emoji": False, "color_system": None}
    monkeypatch.setattr(printing, "console", printing._Console(file=told, force_terminal=True, width=LINE, **known))
    return told


def contended(count: int) -> list[Result]:
    """Points of a front that others have disturbed, confirmed by new seeds."""
    settings = {"lora.learning_rate": 0.00123, "lora.r": 16, "lora.target_modules": "all-linear"}
    found = [disturbed(f"{i}", seconds=100.0 + 20 * i, f1=50.0 + i, model="minilm-l6", settings=settings) for i in range(count)]
    points = sweeps.numbered([replace(r, labels=1024 * (i + 1)) for i, r in enumerate(found)])
    return [*points, *(made.again(r, seed, r.scores["f1"] + seed) for r in points for seed in (1, 2, 3))]


def lines(told: io.StringIO) -> list[str]:
    return told.getvalue().rstrip("\n").split("\n")


def test_a_front_with_bands_and_intervals_has_its_rows_on_lines_that_fit(terminal: io.StringIO, capsys: Any) -> None:
    results = contended(4)
    points = Points.of(results, sweeps.VIEW)
    assert len(points.members) == len(points.confirmed) == 4
    show_front(points)
    *found, beneath = lines(terminal)
    assert len(found) == 5
    assert max(map(len, found)) <= LINE
    assert beneath == "The 95 % intervals are over new seeds and share one variance, that of 4 points together."
    assert all(row.split()[0] == str(r.trial) for row, r in zip(found[1:], points.members, strict=True))
    head = found[0].split()
    assert {"trial", "model", "f1", "US$"} <= {*head}
    assert "×/÷" in found[1]
    assert "Left out, as the terminal is too narrow: time" in capsys.readouterr().err


def test_runs_have_their_rows_on_lines_that_fit(terminal: io.StringIO, capsys: Any) -> None:
    results = contended(3)
    shown, trials = [[r] for r in results], {r.recipe_id: r.trial for r in results}
    print_table(table_of_runs(shown, sweeps.VIEW, trials), lambda: table_of_runs(shown, sweeps.VIEW, trials, narrow=True))
    found = lines(terminal)
    assert len(found) == 1 + len(results)
    assert max(map(len, found)) <= LINE
    assert "contended" not in found[1], "of all of them the sentence below says it"
    assert "Left out, as the terminal is too narrow: time, compute spent" in capsys.readouterr().err


def test_runs_that_others_disturbed_are_marked_beside_one_that_was_alone(terminal: io.StringIO) -> None:
    disturbed_one, alone = contended(1)[0], made.run(7)
    print_table(table_of_runs([[disturbed_one], [alone]], sweeps.VIEW, {}, narrow=True))
    assert ["contended" in line for line in lines(terminal)] == [False, True, False]


def test_nothing_is_left_out_where_there_is_room_or_nobody_looks(terminal: io.StringIO, capsys: Any) -> None:
    table = Table()
    table.add_column("a", spare=1)
    table.add_column("b")
    table.add_row("x" * 40, "y" * 58)
    print_table(table)
    assert lines(terminal)[1] == f"{'x' * 40}  {'y' * 58}"
    table.add_row("x", "z" * 90)
    print_table(table)
    assert lines(terminal)[-1] == "z" * 90
    assert capsys.readouterr().err == "Left out, as the terminal is too narrow: a.\n"


def observer(clock: Any = time.monotonic, **limits: Any) -> Progress:
    return Progress(sweeps.VIEW, Budget(Limits(**limits), sweeps.RATE, 0.0), clock=clock)


def test_a_line_says_that_the_work_goes_on_where_nothing_was_said_for_a_while(capsys: Any) -> None:
    now = [0.0]
    told = observer(lambda: now[0])
    now[0] = 40.0
    told.beat()
    assert capsys.readouterr().err == ""  # it was told of nothing that is done: a supervisor's workers say it
    told.doing("Training")
    now[0] = 69.0
    told.note("something")
    now[0] = 98.0
    told.beat()
    assert capsys.readouterr().err == "something\n"
    now[0] = 100.0
    told.beat()
    told.beat()
    assert capsys.readouterr().err == "    Training 1 min 00 s\n"


def test_such_lines_come_by_themselves_off_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_LOOKS_SECONDS", 0.01)
    seen = ""
    with observer() as told:
        told.doing("Training")
        until = time.monotonic() + 20
        while "Training" not in seen and time.monotonic() < until:
            time.sleep(0.01)
            seen += capsys.readouterr().err
    assert "    Training" in seen
    monkeypatch.setattr(messages, "quiet", True)
    with observer() as told:
        told.doing("Training")
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_the_moving_line_is_cut_to_what_there_is_room_for(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told = observer(trials=12, max_usd=1.0, max_hours=1.0)
    results = sweeps.numbered([sweeps.result("a", 0.5, 33.6), sweeps.result("b", 1.0, 40.1)])
    told._run, told._whole, told._target = "[3/12]", 2.0, 2.0
    told.doing("Training")
    told.recorded(results[0], results)
    monkeypatch.setattr(messages, "_width", width)
    line = told._line().plain
    assert len(line) <= width
    assert line.startswith("[3/12] Training 0.0 s")
    assert ("left" in line) == (width > 40)
    assert ("f1 33.6 at 0.5 of 2 epochs" in line) == (width > 60)
    assert ("/h)" in line) == (width == 200)


def test_epochs_are_told_of_those_that_a_run_may_have_in_all(capsys: Any) -> None:
    told = observer()
    results = sweeps.numbered([sweeps.result("a", epochs, 33.6) for epochs in (0.5, 1.0, 2.0)])
    lease: Any = type("Lease", (), {"result": results[1]})
    told.started(lease, 1, 1.0, whole=2.0, since=0.0)
    for r in results:
        told.recorded(r, results)
        told.continuing(2.0)
    started, *recorded = capsys.readouterr().err.splitlines()
    assert ", to 1 of 2 epochs" in started
    assert ["at 0.5 of 2 epochs for" in recorded[0], "at 1 of 2 epochs for" in recorded[1], "at 2 epochs for" in recorded[2]]
