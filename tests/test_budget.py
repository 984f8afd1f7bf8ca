"""Budgets: what is spent, what would overrun, what is unknown, and the watch that stops before a bound."""

import importlib
import signal
import threading
import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.cli.setup import Measured
from workbench.ledger import Away
from workbench.prices import Offer
from workbench.result import Cause, Result, Spending, spending
from workbench.sweep.budget import RESERVE_SECONDS, Budget, watch
from workbench.sweep.interruptions import Interruptions
from workbench.sweep.limits import Limits
from workbench.testing import FakeMeter
from workbench.usage import Usage

HOUR = Offer("p", "m", "", 0, "", "owned", Decimal("3.6"), "here", "2026-01-01")  # a tenth of a cent a second
FOUR_GPUS = Offer("p", "four", "L40S", 4, "", "on_demand", Decimal("14.4"), "here", "2026-01-01")


def a_result(labels: int = 0, seconds: float = 10.0, **changes: object) -> Result:
    fields = {
        "recipe_id": f"r{labels}{seconds}",
        "run_id": f"run{labels}{seconds}",
        "recipe": {"task": {"data": "d", "seed": 0}, "model": "m", "method": {"name": "lora"}, "epochs": 1, "seed": 0},
        "settings": {},
        "status": "complete",
        "spent": {"train": Usage(seconds, cpu_energy_j=seconds * 100)},
        "labels": labels,
        "offer": {"id": HOUR.id},
    }
    return Result(**(fields | changes))  # type: ignore[arg-type]


def budget(label_usd: float = 0.0, offer: Offer = HOUR, gpus: int = 0, **limits: float) -> Budget:
    return Budget(Limits(**limits), offer, label_usd, gpus=gpus)  # type: ignore[arg-type]


def test_spending_counts_failures_and_each_label_once() -> None:
    results = [
        a_result(labels=100),
        a_result(labels=40, status="interrupted"),
        a_result(labels=120, status="infeasible", cause=Cause.DIVERGED, reason="diverged: x"),
    ]
    spent = spending(results, HOUR, label_usd=0.5)
    assert spent == Spending(usd=pytest.approx(0.03 + 60), seconds=30, energy_j=3000, labels=120)


def test_what_is_left_is_the_least_of_what_is_bounded_in_dollars_or_hours() -> None:
    spent = Spending(usd=0.1, seconds=100.0)
    assert budget(max_labels=5).usd_left(spent) is None
    assert budget(max_usd=1.0).usd_left(spent) == pytest.approx(0.9)
    assert budget(max_hours=0.1).usd_left(spent) == pytest.approx(260 * 0.001)
    assert budget(max_usd=1.0, max_hours=0.1).usd_left(spent) == pytest.approx(0.26)
    assert budget(max_usd=0.05).usd_left(spent) == 0.0


def test_unknown_spending_is_unknown_and_ends_the_budget_that_it_is_counted_by() -> None:
    dark = a_result(spent={"train": Usage(5.0, cpu_energy_j=None)})
    spent = spending([a_result(), dark], HOUR, 0.0)
    assert (spent.usd, spent.energy_j) == (pytest.approx(0.015), None)
    assert "cannot be measured here" in budget(max_energy_kwh=1.0).exhausted(spent)
    assert budget(max_usd=1.0).exhausted(spent) == ""
    metered = Offer("p", "n", "", 0, "", "owned", Decimal(1), "here", "2026-01-01", usd_per_kwh=Decimal("0.3"))
    assert "cannot be measured here" in budget(offer=metered, max_usd=1.0).reached([dark])


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_usd": 0.01}, "budget of $0.01 is spent"),
        ({"max_hours": 10 / 3600}, "budget of 10 s is spent"),
        ({"max_energy_kwh": 1000 / 3.6e6}, "kWh is spent"),
        ({"max_labels": 50}, "budget of 50 labels is spent"),
        ({"trials": 1}, "1 of 1 trials are done"),
    ],
)
def test_a_limit_that_is_reached_is_named(limits: dict[str, float], words: str) -> None:
    assert words in budget(**limits).reached([a_result(labels=51)])
    roomy = {name: value * 3 for name, value in limits.items()}
    assert budget(**roomy).reached([a_result(labels=51)]) == ""


def test_what_would_overrun_is_named_with_what_is_left() -> None:
    assert budget(max_usd=0.02).overrun(Spending(0.01, 10, 0.0), Spending(0.011, 11, 0.0)) == "$0.011, of $0.01 left"
    assert budget(max_hours=1).overrun(Spending(0, 3000, 0), Spending(0, 700, 0)) == "11 min 40 s, of 10 min 00 s left"
    assert budget(max_labels=100).overrun(Spending(labels=60), Spending(labels=41)) == "41 more labels, of 40 left"
    assert budget(max_labels=100).overrun(Spending(labels=60), Spending(labels=40)) == ""
    assert budget(max_energy_kwh=1).overrun(Spending(0, 10, 1e6), Spending(0, 10, None)) == ""  # the watch sees what it will be


@settings(deadline=None, max_examples=100)
@given(st.floats(0.001, 10), st.floats(0, 10), st.floats(0, 10))
def test_nothing_that_is_admitted_leaves_less_than_the_reserve(most: float, spent: float, more: float) -> None:
    limit = budget(max_usd=most)
    before, after = Spending(spent, spent * 1000, 0.0), Spending(spent, spent * 1000, 0.0) + Spending(more, more * 1000, 0.0)
    if not limit.overrun(before, Spending(more, more * 1000, 0.0)):
        assert after.usd is not None
        assert after.usd + RESERVE_SECONDS / 1000 <= most
    if limit.exhausted(before) == "" and more == 0:
        assert limit.overrun(before, Spending()) == ""


def test_work_on_one_of_several_gpus_is_priced_as_one() -> None:
    assert budget(offer=FOUR_GPUS, gpus=1).of_work(100, 5.0, 0).usd == pytest.approx(0.1)
    assert budget(label_usd=2.0).of_work(100, None, 3) == Spending(pytest.approx(6.1), 100, None, 3)


def test_the_watch_stops_the_main_thread_and_says_why() -> None:
    notes: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with Interruptions(notes.append) as interruptions:
        seen: list[int] = []

        def spent() -> Spending:
            seen.append(1)
            return Spending(usd=1.0 if len(seen) > 2 else 0.0, seconds=1.0)

        def work() -> None:
            with interruptions.breakable():
                while True:
                    time.sleep(0.01)

        with watch(budget(max_usd=0.5), spent, interruptions.explain), pytest.raises(KeyboardInterrupt):
            work()
    assert "budget of $0.50 is spent ($1.00)" in interruptions.reason
    assert len(seen) == 3
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_watch_waits_until_what_must_not_be_torn_apart_is_done() -> None:
    with Interruptions(lambda text: None) as interruptions:
        with watch(budget(max_usd=0.5), lambda: Spending(usd=1.0, seconds=1.0), interruptions.explain):
            while not interruptions.requested:  # a write: nothing breaks it off
                time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt), interruptions.breakable():
            pytest.fail("what may be torn apart begins after the end of the budget")
    assert interruptions.requested


def test_with_a_budget_waiting_ends_but_that_for_what_is_to_be_handed_in() -> None:
    with Interruptions(lambda text: None) as interruptions:
        interruptions.check()
        interruptions.explain("the budget of $1.00 is spent")
        signal.raise_signal(signal.SIGTERM)
        with interruptions.handing_in():
            interruptions.check()
        with pytest.raises(KeyboardInterrupt):
            interruptions.check()
        signal.raise_signal(signal.SIGTERM)  # somebody else's
        with interruptions.handing_in(), pytest.raises(KeyboardInterrupt):
            interruptions.check()


def test_the_watch_survives_a_failed_reading_and_keeps_still_without_a_budget() -> None:
    looks: list[int] = []

    def broken() -> Spending:
        looks.append(1)
        raise OSError

    threads = threading.active_count()
    with watch(budget(trials=3), broken, pytest.fail):
        assert threading.active_count() == threads
    with watch(budget(max_hours=1), broken, pytest.fail):
        while len(looks) < 2:
            time.sleep(0.01)
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads


def test_a_start_that_waits_for_the_ledger_is_not_charged_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    command: Any = importlib.import_module("workbench.cli.sweep")  # whose name in its package is the command's
    meter, tries = FakeMeter(), list[int]()
    holder = meter.hold()
    measured = Measured(meter, holder, holder.window())

    def opening(*words: object) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise Away("the server is starting", "starting")
        meter.clock.advance(100.0)
        return "the ledger"

    monkeypatch.setattr(Measured, "of", lambda *words: measured)
    monkeypatch.setattr(command.Ledger, "open", opening)
    known = {"check": lambda *words: None, "loaded": None, "together": 1, "storage": None, "limits": Limits, "confirm_share": None}
    setup = command.opened(SimpleNamespace(**known), HOUR, 0.0, lambda: meter.clock.advance(2.0))
    meter.clock.advance(1.0)
    assert (setup.ledger, setup.measured.closed().seconds) == ("the ledger", 3.0)
