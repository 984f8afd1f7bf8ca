"""How a sweep stands, in figures and sentences: the same for the command line and the dashboard."""

import os
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from workbench import process
from workbench.front.budgets import budget_uses, seconds_left
from workbench.front.objectives import View
from workbench.ledger.leases import lease_record
from workbench.prices import Offer
from workbench.report.progress import Settled, progress, spent_text
from workbench.result import Cause, Result, Spending
from workbench.usage import Usage

RATE = Offer("here", "m", "", 0, "", "owned", Decimal("3.6"), "assumed", "2026-01-01")  # a tenth of a cent a second
VIEW = View("f1", ("usd",), {"f1": 0.0, "usd": 1.0}, RATE, 0.0)
NOW = 1000.0


def result(number: int, run: str = "", status: str = "complete", f1: float = 50.0, seconds: float = 100.0, **more: Any) -> Result:
    task = {"data": "x", "seed": 0, "train": 512}
    recipe = {"task": task, "model": "m", "method": {"name": "lora"}, "epochs": more.pop("epochs", 2), "seed": 0}
    used = {"train": Usage(seconds=seconds)}
    known = {"recipe_id": f"r{number}", "run_id": run or f"run{number}", "trial": number, "number": number, "recipe": recipe}
    known |= {"settings": {"method": "lora", "lora.r": 8}, "status": status, "spent": used, "offer": {"id": RATE.id}}
    known |= {"usage": used, "scores": {"f1": f1}} if status == "complete" else {}
    return Result(**(known | more))


def lease(made: Result, beat: float = NOW - 0.5, **changes: Any) -> Mapping[str, Any]:
    record = lease_record(replace(made, spent={}), made.spent)
    return record | {"beat": beat} | changes


def test_a_sweep_at_work_tells_spend_rate_and_time_left_of_those_who_work() -> None:
    results = [
        result(0),
        result(1, f1=60.0, seconds=200.0),
        result(2, status="infeasible", cause=Cause.DIVERGED, reason="diverged: x"),
    ]
    leases = [lease(result(3, status="running")), lease(result(4, status="running"), pid=os.getpid())]
    found = progress(Settled.of(results, VIEW), leases, None, VIEW, now=NOW, limits={"trials": 10, "max_usd": 1.2})
    assert (found.state, found.runs, found.trials, found.points, found.failed) == ("working", 5, 10, 2, 1)
    assert found.spent == Spending(usd=pytest.approx(0.6), seconds=600.0, energy_j=0.0)
    assert found.usd_per_hour == pytest.approx(7.2), "two at once spend twice as fast"
    assert found.seconds_left == pytest.approx(300), "half of the money is spent, and two go on"
    first, second, third, *workers = found.sentences()
    assert first == "2 workers at work: 5 of 10 runs begun, 1 infeasible."
    assert second == "$0.60 of $1.20 spent ($7.20/h) in 10 min 00 s of work, about 5 min 00 s left."
    assert third.startswith("2 points to choose from, 2 of them on the front, hypervolume ")
    host = process.host().split("/")[0]
    assert workers[0] == (
        f"Process {os.getpid()} on {host}: trial 3, lora (r=8) on m, 512 labels, 2 epochs; 1 min 40 s since its last result, "
        "heartbeat 0.5 s ago."
    )


def test_the_trials_end_it_where_they_are_sooner_done_than_the_budget_spent() -> None:
    spent = Spending(usd=1.0, seconds=100.0, energy_j=0.0)
    assert seconds_left(spent, {"max_usd": 4.0}, 0) == pytest.approx(300)
    assert seconds_left(spent, {"max_usd": 4.0, "max_hours": 200 / 3600}, 0) == pytest.approx(100)
    assert seconds_left(spent, {"max_usd": 4.0, "trials": 6}, 5) == pytest.approx(20)
    assert seconds_left(spent, {"trials": 3}, 0) is None, "no run is done to go by"
    assert seconds_left(Spending(), {"max_usd": 4.0}, 0) is None
    assert seconds_left(replace(spent, labels=50), {"max_labels": 100}, 0) is None, "labels are no matter of time"


def test_every_budget_is_named_with_what_is_spent_of_it() -> None:
    spent = Spending(usd=0.5, seconds=1800.0, energy_j=3.6e6, labels=256)
    limits = {"max_usd": 1.0, "max_hours": 1.0, "max_energy_kwh": 2.0, "max_labels": 1000, "trials": 3, "stop_below": None}
    assert spent_text(spent, limits) == (
        "$0.50 of $1.00, 30 min 00 s of 1 h 00 min, 1 kWh of 2 kWh, 256 of 1,000 labels spent ($1.00/h)"
    )
    assert [bound.share for bound in budget_uses(spent, limits)] == [0.5, 0.5, 0.5, 0.256]
    assert spent_text(spent, {}) == "$0.50 spent ($1.00/h)"


def test_unknown_spend_is_unknown() -> None:
    spent = Spending(usd=None, seconds=10.0, energy_j=None)
    assert spent_text(spent, {"max_energy_kwh": 1.0}) == "unknown, unknown of 1 kWh spent"
    assert seconds_left(spent, {"max_usd": 1.0}, 0) is None


@pytest.mark.parametrize(
    ("leases", "ended", "state", "words"),
    [
        (
            [],
            {"reason": "12 of 12 trials are done", "interrupted": False, "what": "sweep"},
            "ended",
            "The sweep ended: 12 of 12 trials are done.",
        ),
        ([], None, "broken", "Nobody works on this study"),
        ([lease(result(1, status="running"), process_started=-9.0)], None, "broken", "Nobody works on this study"),
        (
            [lease(result(1, status="running"))],
            {"reason": "an earlier end", "what": "sweep"},
            "working",
            "1 worker at work: 2 runs begun.",
        ),
    ],
)
def test_who_is_gone_works_no_more(leases: list[Any], ended: Any, state: str, words: str) -> None:
    found = progress(Settled.of([result(0)], VIEW), leases, ended, VIEW, now=NOW, limits={"max_hours": 1.0})
    assert found.state == state
    assert found.sentences()[0].startswith(words)
    assert (found.usd_per_hour is None) == (found.seconds_left is None and state != "working")


def test_a_worker_elsewhere_is_dead_after_a_minute_of_silence() -> None:
    running = result(1, status="running")
    leases = [lease(running, host="there/1", beat=NOW - silent) for silent in (5.0, 61.0)]
    found = progress(Settled.of([], VIEW), leases, None, VIEW, now=NOW)
    assert [worker.lives for worker in found.workers] == [True, False]
    assert found.sentences()[-1].endswith("gone for 1 min 01 s.")
    assert found.at_work == 1


def test_between_two_leases_what_is_next_is_being_chosen() -> None:
    done = Settled.of([replace(result(0), finished=NOW - 5.0)], VIEW)
    limits = {"trials": 12.0}
    found = progress(done, [], None, VIEW, now=NOW, limits=limits)
    assert (found.state, found.sentences()[0]) == ("choosing", "What is next is being chosen: 1 of 12 runs begun.")
    for later in (NOW + 60.0, NOW - 10.0):  # nobody came back; a clock that is ahead says nothing
        assert progress(done, [], None, VIEW, now=later, limits=limits).state == "broken"
    dead = lease(result(1, status="running"), process_started=-9.0)
    assert progress(done, [dead], None, VIEW, now=NOW, limits=limits).state == "broken"
    assert progress(done, [], {"reason": "you stopped it", "what": "sweep"}, VIEW, now=NOW, limits=limits).state == "ended"


def test_nothing_yet_is_said_so() -> None:
    assert progress(Settled.of([], VIEW), [], None, VIEW, now=NOW).sentences() == ["No sweep has begun yet."]
    begun = progress(Settled.of([], VIEW), [], None, VIEW, now=NOW, limits={"trials": 12})
    assert (begun.state, begun.sentences()) == ("starting", ["A sweep has begun: its first run is being chosen."])
    stopped = progress(Settled.of([], VIEW), [], {"reason": "you stopped it", "what": "sweep"}, VIEW, now=NOW)
    assert stopped.sentences() == ["The sweep ended: you stopped it. 0 runs begun."]


def test_runs_that_are_being_made_are_counted_once() -> None:
    running = result(1, run="a", status="running", epochs=4)
    found = progress(Settled.of([result(0, run="a"), running], VIEW), [lease(running)], None, VIEW, now=NOW, limits={"trials": 2})
    assert found.runs == 1
    assert found.spent.seconds == 200.0
    assert found.seconds_left is None, "no run is done"


def test_objectives_that_the_study_has_no_reference_for_have_no_hypervolume() -> None:
    view = replace(VIEW, minimize=("seconds",))
    found = progress(Settled.of([result(0)], view), [], None, view, now=NOW)
    assert found.hypervolume is None
    assert found.sentences()[-1] == "1 point to choose from, 1 of them on the front."
