"""The sweep in this process: real training, a real ledger, a meter that moves a clock by hand."""

import contextlib
import errno
import math
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest
from test_ledger import abandon

from workbench import prices, process, search, training
from workbench import result as result
from workbench.errors import DataError, EnvironmentFault, Infeasible, Refused, UsageError
from workbench.estimate import Estimate
from workbench.forecast import Forecaster
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger import Away, Ledger, Patience, default_url, patience
from workbench.ledger.leases import Worker
from workbench.objectives import Classes
from workbench.prices import Prices
from workbench.report.answers import cost_text
from workbench.report.bill import phases_spent
from workbench.report.failures import kind
from workbench.result import Cause, Spending, by_run, offer_record, spent_usd
from workbench.search import MAX_INTERRUPTIONS, unfinished
from workbench.study import load
from workbench.sweep import Account, Budget, Job, Limits, Observer, check_offer, current_work, job, sweep
from workbench.sweep.current_work import CurrentWork
from workbench.sweep.file_lock import FileLock
from workbench.sweep.interruptions import Interruptions
from workbench.sweep.limits import TO_COME
from workbench.sweep.repair import Mending
from workbench.testing import FakeHost, FakeMeter, TinyTask
from workbench.tracking import Listener, MlflowTracker
from workbench.usage import Usage, total

OFFER = prices.find(prices.DEFAULT)
WHOLE = "optuna:TPESampler"
"""A sampler of whole runs: what the search itself leaves and takes up again, this one runs to its end."""


class Quiet:
    """A notebook that only remembers what it was told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *arguments, **named: self.told.append((name, *arguments))


class Ear(Observer):
    def __init__(self, meter):
        self.meter, self.notes, self.runs, self.aims, self.written, self.clock = meter, [], [], [], [], 0.0

    def note(self, text):
        self.notes.append(text)

    def started(self, lease, run, target, *, whole, since):
        self.runs.append((lease.result.run_id, run, target))

    def continuing(self, target):
        self.aims.append(target)

    def recorded(self, result, results):
        assert result in results
        self.written.append(result)
        self.clock = self.meter.clock.now


class Bench:
    """A study in a folder, swept as often as wanted."""

    def __init__(self, study_file, folder):
        self.file, self.folder = study_file, folder

    @property
    def study(self):
        return load(self.file)

    @property
    def ledger(self):
        return Ledger.open(self.study, default_url(self.folder))

    @property
    def states(self):
        return self.folder / "states"

    def edit(self, old, new):
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))
        return self

    def sweep(self, limits=None, *, notebook=None, meter=None, label_usd=0.0, **options):
        self.meter = meter or FakeMeter()
        self.ear, self.notebook = Ear(self.meter), notebook or Quiet()
        search = {name: options.pop(name) for name in ("sampler", "seed") if name in options}
        return sweep(self.job(limits or Limits(trials=3), label_usd=label_usd, **options), **search)

    def job(self, limits, **options):
        known = {"offer": OFFER, "label_usd": 0.0, "observer": self.ear, "meter": self.meter, "notebook": self.notebook}
        return Job(study=self.study, ledger=self.ledger, limits=limits, folder=self.states, **known | options)


@pytest.fixture
def bench(study_file, tmp_path):
    return Bench(study_file, tmp_path)


FINITE = """choice(
            full(learning_rate=loguniform(1e-3, 1e-2)),
            peft("lora", learning_rate=loguniform(1e-3, 1e-2), r=choice(2, 4)),
            bitfit(learning_rate=loguniform(1e-3, 1e-2)),
        ),
        epochs=integers(1, 4, log=True),"""


def finite(bench, methods, epochs):
    return bench.edit(FINITE, f"choice({methods}), epochs={epochs},").edit("train=choice(32, 64)", "train=32")


def interrupt_at(monkeypatch, evaluation, *signals):
    """Send signals to this process during one of the evaluations to come."""
    score, seen = TinyTask.score, []

    def interrupted(self, examples, predictions):
        seen.append(1)
        if len(seen) == evaluation:
            for number in signals:
                os.kill(os.getpid(), number)
                time.sleep(0)  # here Python calls the handler
        return score(self, examples, predictions)

    monkeypatch.setattr(TinyTask, "score", interrupted)


# What is recorded


def test_the_ledger_holds_what_was_told_and_all_that_was_spent(bench):
    outcome = bench.sweep(Limits(trials=3))
    assert outcome.reason == "3 of 3 trials are done"
    assert outcome.results == bench.ear.written == bench.ledger.results()
    assert (bench.ledger.ended["reason"], bench.ledger.ended["interrupted"]) == (outcome.reason, False)
    assert bench.ledger.description["limits"]["trials"] == 3
    assert {r.status for r in outcome.results} == {"complete"}
    assert [run for _, run, _ in bench.ear.runs][:3] == [1, 2, 3]
    assert {run for _, run, _ in bench.ear.runs} == {1, 2, 3}  # those begun were taken up again
    assert total(r.consumed for r in outcome.results).seconds == pytest.approx(bench.ear.clock)
    phases = phases_spent(outcome.results)
    assert {"provision", "load", "data", "train", "evaluate", "checkpoint", "decide", "idle"} == set(phases)
    told = [call for call in bench.notebook.told if call[0] == "record"]
    assert [result for _, result in told] == outcome.results
    assert [call[2] for call in bench.notebook.told if call[0] == "finished"] == ["FINISHED"] * len(bench.ear.runs)
    for r in outcome.results:
        assert r.provenance["git_commit"] is None  # a folder that is no repository
        assert {"torch", "optuna"} <= set(r.provenance["versions"])
        assert r.offer["usd_per_hour"] == str(OFFER.usd_per_hour)


@pytest.mark.slow
def test_what_came_before_the_sweep_is_charged_too(bench):
    meter = FakeMeter()
    window = meter.window()
    meter.clock.advance(100)
    first = bench.sweep(Limits(trials=1), meter=meter, window=window).results[0]
    assert first.spent["provision"].seconds >= 100
    assert first.cold.seconds < 20


def test_runs_from_before_an_edit_are_trials_and_on_another_bill(bench):
    finite(bench, "full(learning_rate=1e-3)", "1")
    bench.sweep(Limits(trials=1))
    bench.edit("full(learning_rate=1e-3)", "full(learning_rate=1e-3), bitfit(learning_rate=1e-3)")
    results = bench.sweep(Limits(trials=2)).results
    told = "Continuing: 1 run in the ledger, $0.00 spent so far; on the bill from before the study was edited: 1 run."
    assert told in bench.ear.notes
    assert [r.taken_over for r in results] == [True, False]


def test_what_a_start_took_that_began_no_run_is_told(bench):
    bench.sweep(Limits(trials=1))
    assert not any("on no bill" in note for note in bench.ear.notes)
    bench.sweep(Limits(trials=1), meter=FakeMeter(12.0))
    assert any(note.startswith("No run was begun: what the start took (") for note in bench.ear.notes)


def test_running_again_goes_on_and_ends_at_once_when_all_is_done(bench):
    bench.sweep(Limits(trials=1))
    before = bench.ledger.results()
    assert bench.sweep(Limits(trials=1)).results == before
    assert "Continuing: 1 run in the ledger" in bench.ear.notes[0]
    after = bench.sweep(Limits(trials=2)).results
    assert after[: len(before)] == before
    assert len(by_run(after)) == 2
    assert [run for _, run, _ in bench.ear.runs] == [2]


@pytest.mark.slow
def test_a_configuration_is_never_run_twice(bench):
    finite(bench, "full(learning_rate=1e-3), bitfit(learning_rate=1e-3)", "choice(1, 2)")
    outcome = bench.sweep(Limits())
    assert outcome.reason == "every configuration of the space has been run"
    recipes = [r.recipe_id for r in outcome.results]
    assert sorted(set(recipes)) == sorted(recipes)
    assert sorted((r.method, r.epochs) for r in outcome.results) == [("bitfit", 1), ("bitfit", 2), ("full", 1), ("full", 2)]
    assert bench.sweep(Limits()).results == outcome.results


def test_infeasible_runs_are_recorded_and_the_search_goes_on(bench):
    finite(bench, "full(learning_rate=1e30), bitfit(learning_rate=1e-3)", "1")
    outcome = bench.sweep(Limits())
    ends = {r.method: r for r in outcome.results}
    assert (ends["full"].status, ends["full"].reason.split(":")[0]) == ("infeasible", "diverged")
    assert ends["full"].cold.seconds > 0
    assert ends["bitfit"].status == "complete"
    assert outcome.reason == "every configuration of the space has been run"
    assert total(r.consumed for r in outcome.results).seconds == pytest.approx(bench.ear.clock)
    assert ("finished", ends["full"].run_id, "FAILED") in bench.notebook.told


# Limits


class Told:
    """A forecaster that says of every run what a test wants it to."""

    def __init__(self, study, seconds):
        self.real, self.seconds, self.learnt = Forecaster(study), seconds, 0

    def learn(self, results):
        self.learnt += 1

    def __getattr__(self, name):
        return getattr(self.real, name)

    def segment(self, recipe, from_epochs, to_epochs, *, cold=None):
        seconds = self.seconds(recipe)
        return replace(
            self.real.segment(recipe, from_epochs, to_epochs, cold=cold),
            spent_seconds=None if seconds is None else Estimate.within(seconds, 1.5, "formula"),
            spent_energy_j=None if seconds is None else Estimate.within(FakeHost().watts * seconds, 1.5, "formula"),
        )


LIMITS = [
    ("max_hours", 100 / 3600),
    ("max_usd", 100 / 3600 * float(OFFER.usd_per_hour)),
    ("max_energy_kwh", 100 * FakeHost().watts / 3.6e6),
]


@pytest.fixture
def unwatched(monkeypatch):
    """Budgets end a sweep at its checkpoints alone. The watch looks by the real clock, and the fake one moves meanwhile."""
    monkeypatch.setattr("workbench.sweep.budget.WATCH_SECONDS", 3600.0)


@pytest.mark.parametrize(("limit", "most"), LIMITS)
@pytest.mark.slow
def test_a_run_whose_forecast_does_not_fit_is_not_started(bench, limit, most, unwatched):
    told = Told(bench.study, lambda recipe: 40.0 if recipe.method.name == "bitfit" else 2000.0)
    outcome = bench.sweep(Limits(**{limit: most}), forecaster=told)
    assert {r.method for r in outcome.results} == {"bitfit"}
    assert "fits the budget" in outcome.reason or "is spent" in outcome.reason
    assert total(r.consumed for r in outcome.results).seconds <= 100
    assert told.learnt > 1
    nothing = bench.sweep(Limits(**{limit: most * 1e-3}), forecaster=told)
    assert nothing.results == outcome.results
    assert not nothing.interrupted


@pytest.mark.slow
def test_no_run_is_started_when_none_fits(bench):
    outcome = bench.sweep(Limits(max_hours=100 / 3600), forecaster=Told(bench.study, lambda recipe: 2000.0))
    assert outcome.results == []
    assert "33 min 20 s, of 1 min" in outcome.reason


@pytest.mark.parametrize(("limit", "most"), [LIMITS[1], *(pytest.param(*each, marks=pytest.mark.slow) for each in LIMITS[::2])])
def test_a_run_that_would_overrun_is_stopped_at_the_checkpoint_before(bench, limit, most, unwatched):
    finite(bench, "bitfit(learning_rate=1e-3)", "4")
    meter = FakeMeter(9.5)
    outcome = bench.sweep(Limits(**{limit: most}), meter=meter, forecaster=Told(bench.study, lambda recipe: None))
    last = outcome.results[-1]
    assert (last.status, last.epochs < 4) == ("complete", True)
    assert total(r.consumed for r in outcome.results).seconds <= 100
    if limit == "max_usd":  # what the budget's end counts, and no Result holds
        assert any(note.startswith("What came after the last result (") for note in bench.ear.notes)


@pytest.mark.slow
def test_labels_are_a_budget_that_is_kept_to_the_last_one(bench):
    outcome = bench.sweep(Limits(max_labels=40, trials=4))
    assert max(r.labels for r in outcome.results) == 32
    assert {r.recipe["task"]["train"] for r in outcome.results if r.epochs >= 1} == {32}
    assert len(by_run(outcome.results)) == 4
    none = bench.sweep(Limits(max_labels=8, trials=9))
    assert "labels is spent (32)" in none.reason


@pytest.mark.slow
def test_the_watch_ends_what_no_forecast_saw(bench, monkeypatch):
    finite(bench, "bitfit(learning_rate=1e-3)", "4")
    meter, loss = FakeMeter(), Classes.loss

    def slow(self, *arguments):
        meter.clock.advance(2.0)
        time.sleep(0.3)  # the watch looks in between
        return loss(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Classes, "loss", slow)
        outcome = bench.sweep(
            Limits(max_usd=12 / 3600 * float(OFFER.usd_per_hour)), meter=meter, forecaster=Told(bench.study, lambda recipe: None)
        )
    assert not outcome.interrupted
    last = outcome.results[-1]
    assert (last.status, last.reason.split(" (")[0]) == ("interrupted", "stopped: the budget of $0.000167 is spent")
    assert last.labels > 0
    assert last.consumed.work.steps > 0
    assert bench.sweep(Limits(max_usd=12 / 3600 * float(OFFER.usd_per_hour))).results == outcome.results
    roomy = bench.sweep(Limits(max_usd=1.0, trials=1)).results
    assert (roomy[-1].status, roomy[-1].epochs) == ("complete", 4)


@pytest.mark.slow
def test_what_another_sweep_spends_meanwhile_counts_too(bench, monkeypatch):
    finite(bench, "bitfit(learning_rate=1e-3)", "4")
    loss, seen = Classes.loss, []

    def slow(self, *arguments):
        ledger = bench.ledger
        if not seen and (held := next((lease for lease, _ in ledger.leases()), None)):  # the forecast asks for a loss too
            seen.append(1)  # another sweep, on this machine, has been at work for long
            other = ledger.lease(bench.study, replace(held.result, run_id="other", recipe_id="other", trial=None, number=None))
            ledger.beat(other, {"train": Usage(1000.0)})
        time.sleep(0.3)
        return loss(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Classes, "loss", slow)
        outcome = bench.sweep(Limits(max_hours=500 / 3600), forecaster=Told(bench.study, lambda recipe: None))
    assert "the budget of 8 min 20 s is spent (16 min" in outcome.reason
    assert [r.status for r in outcome.results] == ["interrupted"]


@pytest.mark.slow
def test_a_stop_while_a_result_is_written_counts_no_work_twice(bench, monkeypatch):
    finite(bench, "bitfit(learning_rate=1e-3)", "4")
    finish, seen = Ledger.finish, []

    def interrupted(self, *arguments):
        seen.append(1)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return finish(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "finish", interrupted)
        stopped = bench.sweep(sampler=WHOLE).results
    assert [r.status for r in stopped] == ["complete", "complete", "interrupted"]
    assert stopped[-1].consumed.work.steps == 0
    whole = bench.sweep(sampler=WHOLE).results
    trained = [r.spent["train"].work.steps for r in whole if "train" in r.spent]
    assert sum(trained) == whole[-1].step


def test_a_gpu_is_never_billed_as_another_one():
    meter = FakeMeter(host=FakeHost(gpus=1))
    meter.devices = tuple(replace(device, name="NVIDIA L40S") for device in meter.devices)
    check_offer(prices.find("aws:g6e.xlarge"), meter)
    with pytest.raises(Refused, match=r"has a NVIDIA L40S, and 'aws:g5.xlarge.* prices a A10G.*--gpu L40S"):
        check_offer(prices.find("aws:g5.xlarge"), meter)


@pytest.mark.slow
def test_a_spend_that_is_unknown_ends_a_budget_of_it(bench):
    outcome = bench.sweep(Limits(max_energy_kwh=1.0), meter=FakeMeter(unknown=("cpu_energy_j",)))
    assert "cannot be measured here" in outcome.reason
    assert len(outcome.results) <= 1
    assert bench.sweep(Limits(max_usd=1.0, trials=1), meter=FakeMeter(unknown=("cpu_energy_j",))).results[-1].status == "complete"


@pytest.mark.slow
def test_examples_and_predictions_are_on_record_only_where_asked_for(bench):
    first = bench.sweep(Limits(trials=1)).results
    assert [r.samples for r in first] == [[]] * len(first)
    asked = [r for r in bench.sweep(Limits(trials=3), log_samples=3).results if r.samples]
    assert asked
    dev = bench.study.resolve(first[0].settings).task.splits().dev
    for r in asked:
        assert [s["example"] for s in r.samples] == list(dev[:3])
        assert {s["prediction"] for s in r.samples} <= {0, 1}
    assert [r.samples for r in bench.ledger.results() if r.samples] == [r.samples for r in asked]
    assert [call[1].samples for call in bench.notebook.told if call[0] == "record" and call[1].samples]


@pytest.mark.slow
def test_labels_are_bought_once(bench):
    outcome = bench.sweep(Limits(max_usd=1000.0, trials=4), label_usd=1.0)
    labels = max(r.labels for r in outcome.results)
    assert spent_usd(outcome.results, OFFER, 1.0) == pytest.approx(labels, abs=0.1)
    broke = bench.sweep(Limits(max_usd=labels - 1.0), label_usd=1.0)
    assert "budget" in broke.reason


@pytest.mark.slow
def test_a_cost_that_cannot_be_measured_is_refused_and_its_spend_kept(bench):
    bench.edit('minimize="usd"', 'minimize="energy_j"')
    with pytest.raises(Refused, match="energy_j cannot be measured"):
        bench.sweep(meter=FakeMeter(unknown=("cpu_energy_j",)))
    (result,) = bench.ledger.results()
    assert (result.status, result.reason.split(":")[0]) == ("interrupted", "fault")
    assert result.consumed.seconds > 0


def test_a_gpu_is_never_billed_as_a_desktop():
    with pytest.raises(Refused, match="has a fake"):
        check_offer(OFFER, FakeMeter(host=FakeHost(gpus=1)))
    check_offer(OFFER, FakeMeter())


# Interruptions


@pytest.mark.slow
def test_one_interruption_ends_a_whole_run_at_the_next_checkpoint_and_it_goes_on_from_there(bench, monkeypatch):
    finite(bench, "bitfit(learning_rate=1e-3)", "4")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, signal.SIGINT)
        outcome = bench.sweep(sampler=WHOLE)
    assert (outcome.interrupted, outcome.reason) == (True, "you stopped it")
    (first, cut) = outcome.results
    assert (first.status, first.epochs < 4, cut.status, cut.reason) == ("complete", True, "interrupted", "stopped: by a person")
    assert bench.ledger.leases() == []
    whole = bench.sweep(Limits(trials=1), sampler=WHOLE).results
    assert [r.epochs for r in whole if r.status == "complete"] == [1, 2, 4]
    assert {r.run_id for r in whole} == {first.run_id}


def test_one_interruption_stops_at_the_next_checkpoint(bench, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)  # a job in the background begins with none
    interrupt_at(monkeypatch, 1, signal.SIGINT)
    outcome = bench.sweep()
    assert (outcome.interrupted, outcome.reason) == (True, "you stopped it")
    assert bench.ledger.ended["interrupted"]
    assert len(by_run(outcome.results)) == 1
    assert len(outcome.results) == 1
    assert outcome.results[-1].epochs <= bench.ear.runs[0][2]
    for _ in range(100):  # it is said by a thread
        if bench.ear.notes:
            break
        time.sleep(0.01)
    assert "again to stop now" in bench.ear.notes[-1]
    assert signal.getsignal(signal.SIGINT) == handler


def test_an_interruption_while_it_decides_begins_no_run(bench, monkeypatch):
    decide = search.decide

    def pressed(*words, **named):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
        return decide(*words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(search, "decide", pressed)
        outcome = bench.sweep()
    assert (outcome.interrupted, outcome.reason) == (True, "you stopped it")
    assert [(r.status, r.reason) for r in outcome.results] == [("interrupted", "stopped: by a person")]
    assert bench.ear.runs == []
    assert outcome.results[0].consumed.seconds > 0, "what was consumed until then is charged"
    assert len(by_run(bench.sweep(Limits(trials=1)).results)) == 1, "and its start is not lost"


@pytest.mark.parametrize("signals", [pytest.param((signal.SIGINT, signal.SIGINT), marks=pytest.mark.slow), (signal.SIGTERM,)])
def test_stopping_at_once_keeps_the_spend_and_the_run_goes_on_from_its_state(bench, monkeypatch, signals):
    finite(bench, "bitfit(learning_rate=1e-3)", "4")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, *signals)
        outcome = bench.sweep(sampler=WHOLE)
    by = ("SIGTERM", "SIGTERM") if signals == (signal.SIGTERM,) else ("you", "a person")
    assert (outcome.interrupted, outcome.reason) == (True, f"{by[0]} stopped it at once")
    assert [(r.status, r.epochs) for r in outcome.results] == [("complete", 1), ("interrupted", 4)]
    assert outcome.results[-1].reason == f"stopped: by {by[1]}"
    assert outcome.results[-1].consumed.seconds > 0
    assert ("finished", outcome.results[0].run_id, "KILLED") in bench.notebook.told
    assert bench.ledger.leases() == []
    resumed = []
    train = training.train
    monkeypatch.setattr(
        training, "train", lambda recipe, resume, **kw: resumed.append(resume and resume.epochs) or train(recipe, resume, **kw)
    )
    after = bench.sweep(sampler=WHOLE).results
    assert [(r.status, r.epochs) for r in after] == [("complete", 1), ("interrupted", 4), ("complete", 2), ("complete", 4)]
    assert resumed == [1]
    assert {r.trial for r in after} == {0}
    straight = Bench(bench.file, bench.folder / "straight")
    straight.folder.mkdir()
    whole = straight.sweep(sampler=WHOLE).results
    assert whole[-1].scores == after[-1].scores  # bit for bit
    assert whole[-1].cold.seconds == after[-1].cold.seconds  # a point's cost is cold


@pytest.mark.slow
def test_a_state_that_is_gone_costs_more_and_repeats_no_result(bench, monkeypatch):
    finite(bench, "bitfit(learning_rate=1e-3)", "4")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGTERM)
        bench.sweep()
    shutil.rmtree(bench.states)
    after = bench.sweep().results
    assert [(r.status, r.epochs) for r in after if r.status == "complete"] == [("complete", e) for e in (1, 2, 4)]
    assert [r.status for r in after].index("interrupted") == 1
    assert total(r.consumed for r in bench.ear.written).seconds == pytest.approx(bench.ear.clock)
    assert after[2].consumed.seconds > after[2].cold.seconds


def test_an_interruption_while_nothing_is_held_leaves_nothing(bench, monkeypatch):
    decide = search.decide
    monkeypatch.setattr(search, "decide", lambda *a, **kw: (os.kill(os.getpid(), signal.SIGTERM), decide(*a, **kw))[1])
    outcome = bench.sweep()
    assert (outcome.interrupted, outcome.results) == (True, [])
    assert bench.ledger.results(running=True) == []


@pytest.mark.slow
def test_a_signal_in_a_write_waits_for_its_end(bench, monkeypatch):
    finish = Ledger.finish

    def interrupted(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return finish(self, *arguments)

    monkeypatch.setattr(Ledger, "finish", interrupted)
    outcome = bench.sweep()
    assert outcome.interrupted
    assert [r.status for r in outcome.results][:1] == ["complete"]
    assert {r.status for r in outcome.results[1:]} <= {"interrupted"}
    assert bench.ledger.leases() == []


@pytest.mark.slow
def test_a_bug_is_recorded_and_shows(bench, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(TinyTask, "score", broken)
        with pytest.raises(ZeroDivisionError):
            bench.sweep()
    (result,) = bench.ledger.results()
    assert bench.ledger.ended is None  # it did not end, it broke
    assert (result.status, result.reason) == ("interrupted", "bug: ZeroDivisionError: a bug")
    assert result.consumed.seconds > 0
    assert bench.sweep(Limits(trials=1), sampler=WHOLE).results[-1].run_id == result.run_id


def failing(monkeypatch, error, *methods):
    """From now on the training of these methods, or of all, raises the error."""
    train = training.train

    def fail(recipe, *args, **known):
        if not methods or recipe.method.name in methods:
            raise error
        return train(recipe, *args, **known)

    monkeypatch.setattr(training, "train", fail)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UsageError("PEFT cannot apply it:\n  no"), "fault: PEFT cannot apply it: no"),
        (Infeasible("fault", "IndexError out of the model: index out of range"), "fault: IndexError out of the model: index"),
    ],
    ids=["it cannot be made", "it fails at work"],
)
@pytest.mark.parametrize("sampler", ["front", pytest.param(WHOLE, marks=pytest.mark.slow)])
def test_a_pair_that_fails_is_recorded_once_and_the_others_go_on(bench, monkeypatch, error, reason, sampler):
    finite(bench, "full(learning_rate=1e-3), bitfit(learning_rate=1e-3)", "1")
    failing(monkeypatch, error, "full")
    results = bench.sweep(Limits(), sampler=sampler).results
    (fault,) = [r for r in results if r.status != "complete"]
    assert (fault.method, fault.status, fault.reason.startswith(reason)) == ("full", "infeasible", True)
    assert {r.method for r in results if r.status == "complete"} == {"bitfit"}
    assert kind(fault) == "fault of the model"
    assert bench.sweep(Limits(), sampler=sampler).results == results  # it is not tried again


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["front", WHOLE])
def test_a_sweep_in_which_nothing_works_ends_by_itself(bench, monkeypatch, sampler):
    failing(monkeypatch, UsageError("no."))
    outcome = bench.sweep(Limits(trials=500), sampler=sampler)
    assert outcome.reason == "no model could be trained with any method; last: no."
    assert {r.status for r in outcome.results} == {"infeasible"}
    assert {r.method for r in outcome.results} == {"full", "lora", "bitfit"}
    assert bench.sweep(Limits(trials=500), sampler=sampler).results == outcome.results


@pytest.mark.slow
@pytest.mark.parametrize("error", [DataError("line 3 is no JSON."), EnvironmentFault("the GPU failed.")])
def test_a_fault_of_the_data_or_the_machine_ends_the_sweep_and_can_be_mended(bench, monkeypatch, error):
    with monkeypatch.context() as patch:
        failing(patch, error)
        with pytest.raises(type(error)):
            bench.sweep(Limits(trials=2))
    (result,) = bench.ledger.results()
    assert (result.status, result.reason) == ("interrupted", f"fault: {error}")
    assert "complete" in {r.status for r in bench.sweep(Limits(trials=1)).results}


def test_a_run_that_kills_its_worker_again_and_again_is_left_alone(bench):
    study, ledger = bench.study, bench.ledger
    settings = search.propose(study, [], Prices(OFFER))
    recipe = study.resolve(settings)
    for i in range(MAX_INTERRUPTIONS):
        assert len(unfinished(ledger.results())) == min(i, 1)
        lease = ledger.lease(study, made(recipe, settings))
        ledger.finish(lease, replace(lease.result, status="interrupted", cause=Cause.DIED, reason="died: so"), study, OFFER)
    assert unfinished(ledger.results()) == []
    lease = ledger.lease(study, made(recipe, settings))  # a checkpoint shows that it can be done
    usage = {"train": Usage(seconds=1.0)}
    done = replace(
        lease.result, status="complete", scores={"accuracy": 1.0}, usage=usage, recipe={**recipe.to_json(), "epochs": 0.5}
    )
    ledger.finish(lease, done, study, OFFER)
    assert bool(unfinished(ledger.results())) == (recipe.epochs > 0.5)


def made(recipe, settings):
    from workbench.result import Result

    return Result(recipe_id=recipe.id, run_id=recipe.run_id, recipe=recipe.to_json(), settings=settings, status="running")


def test_what_a_person_stopped_is_taken_up_again_however_often(bench):
    study, ledger = bench.study, bench.ledger
    settings = search.propose(study, [], Prices(OFFER))
    for _ in range(MAX_INTERRUPTIONS + 1):
        lease = ledger.lease(study, made(study.resolve(settings), settings))
        ledger.finish(
            lease,
            replace(lease.result, status="interrupted", cause=Cause.STOPPED_BY_PERSON, reason="stopped: by a person"),
            study,
            OFFER,
        )
    assert len(unfinished(ledger.results())) == 1


# Freezing and thawing


class Script:
    """Decisions of a test: each `(method, epochs)` takes the run of that method to there."""

    def __init__(self, *steps):
        self.steps, self.asked = list(steps), []

    def __call__(self, study, results, costs, strategy, allowance, states):
        self.asked.append((states.current, set(states.cached)))
        if not self.steps:
            return search.Step("stop", reason="the script is over")
        method, until = self.steps.pop(0)
        known = any(r.method == method for r in results)
        return search.Step("continue" if known else "start", {"method": method, "epochs": 4}, float(until))


def two_methods(folder, tiny):
    """A study of two runs that have nothing but a method and a length, and dropout in both."""
    file = folder / "two.py"
    file.write_text(
        "from workbench import Recipe, Study, bitfit, choice, full, integers\nfrom workbench.testing import TinyTask\n\n"
        f"study = Study(Recipe(task=TinyTask(train=32), model={tiny!r}, "
        "method=choice(full(learning_rate=3e-3), bitfit(learning_rate=3e-3)), epochs=integers(1, 4), batch_size=8), "
        'maximize="accuracy", minimize="usd")\n'
    )
    return Bench(file, folder)


@pytest.mark.slow
def test_a_run_that_was_frozen_and_thawed_gives_the_scores_of_one_that_never_stopped(tmp_path, tiny, monkeypatch):
    """From memory, and through the disk, where another run has drawn its random numbers in between."""
    outcomes = []
    for i, steps in enumerate(
        [
            [("full", 4), ("bitfit", 4)],
            [("full", 1), ("full", 2), ("full", 4), ("bitfit", 4)],
            [("full", 1), ("bitfit", 2), ("full", 2), ("bitfit", 4), ("full", 4)],
        ]
    ):
        folder = tmp_path / str(i)
        folder.mkdir()
        bench, script = two_methods(folder, tiny), Script(*steps)
        monkeypatch.setattr(search, "decide", script)
        outcome = bench.sweep(Limits())
        assert outcome.reason == "the script is over"
        assert {r.status for r in outcome.results} == {"complete"}
        assert total(r.consumed for r in outcome.results).seconds == pytest.approx(bench.ear.clock)
        outcomes.append({(r.method, r.epochs): (r.scores, r.cold.seconds, r.trial) for r in outcome.results})
        loads = sum("load" in r.spent for r in outcome.results)
        assert loads == [2, 2, 5][i]
    assert len(outcomes[0]) == 6
    assert {at: scores for at, (scores, *_) in outcomes[0].items()} == {at: scores for at, (scores, *_) in outcomes[1].items()}
    assert outcomes[1].keys() == outcomes[2].keys()
    assert all(outcomes[0][at][:2] == outcomes[2][at][:2] for at in outcomes[0])  # bit for bit; and a point's cost is cold
    assert {trial for *_, trial in outcomes[2].values()} == {0, 1}


@pytest.mark.slow
def test_the_search_is_asked_at_every_target_and_told_what_is_in_memory(tmp_path, tiny, monkeypatch):
    bench, script = two_methods(tmp_path, tiny), Script(("full", 2), ("full", 4), ("bitfit", 1))
    monkeypatch.setattr(search, "decide", script)
    results = bench.sweep(Limits()).results
    full, bitfit = results[0].run_id, results[-1].run_id
    assert [current for current, _ in script.asked] == [None, full, None, bitfit]
    assert script.asked[1][1] == {full}
    assert [target for *_, target in bench.ear.runs] == [2, 1]
    assert bench.ear.aims == [4]


@pytest.mark.slow
def test_all_of_a_small_space_is_run_in_the_end_and_each_checkpoint_once(bench):
    finite(bench, "full(learning_rate=1e-3), bitfit(learning_rate=1e-3)", "choice(1, 4)")
    outcome = bench.sweep(Limits())
    assert outcome.reason == "every configuration of the space has been run"
    assert sorted((r.method, r.epochs) for r in outcome.results) == [(m, e) for m in ("bitfit", "full") for e in (1, 2, 4)]
    assert len({r.recipe_id for r in outcome.results}) == 6


# Neighbours that fail


@pytest.mark.slow
def test_mlflow_being_down_never_stops_it(bench):
    problems = []
    notebook = MlflowTracker(bench.study, "http://127.0.0.1:9", Prices(OFFER), listener=Listener(problems.append))
    outcome = bench.sweep(notebook=notebook)
    assert outcome.reason == "3 of 3 trials are done"
    assert notebook.close(10) == len(outcome.results)
    assert len(problems) == 1
    assert "cannot be reached" in problems[0]


@pytest.fixture
def impatient(monkeypatch):
    """A ledger's pauses take no time, and it is waited for half a second."""
    monkeypatch.setattr(patience, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(job, "AWAY_SECONDS", 0.5)


def away_at(monkeypatch, *calls, closes=None):
    """The ledger is away at these attempts to write a Result, as they are numbered; `closes` is called at the first of them."""
    close, seen = Ledger._close, []

    def closing(self, *arguments):
        seen.append(1)
        if len(seen) in calls:
            if closes is not None and len(seen) == calls[0]:
                closes()
            raise Away("the server is starting", "starting")
        return close(self, *arguments)

    monkeypatch.setattr(Ledger, "_close", closing)


@pytest.mark.slow
def test_a_ledger_that_is_away_for_a_moment_loses_nothing(bench, monkeypatch, impatient):
    # Only writing a Result fails here. A beat beside the work would be answered, and tell that the ledger is back.
    monkeypatch.setattr("workbench.sweep.heartbeat.HEARTBEAT_SECONDS", 3600.0)
    away_at(monkeypatch, 1, 2, 4)
    outcome = bench.sweep(Limits(trials=1))
    assert {r.status for r in outcome.results} == {"complete"}
    assert total(r.consumed for r in outcome.results).seconds == pytest.approx(bench.ear.clock)
    assert sum("The ledger is away (starting)" in note for note in bench.ear.notes) == 3
    assert bench.ear.notes.count("The ledger is back.") == 3


@pytest.mark.slow
@pytest.mark.parametrize("pressed", [False, True])
def test_a_ledger_that_stays_away_ends_it_and_the_next_start_writes_what_was_made(bench, monkeypatch, impatient, pressed):
    press = (lambda: os.kill(os.getpid(), signal.SIGINT)) if pressed else None
    with monkeypatch.context() as patch:
        away_at(patch, *range(2, 10**4), closes=press)
        if pressed:
            patch.setattr(job, "AWAY_SECONDS", 600.0)
            outcome = bench.sweep(Limits(trials=1))
            assert (outcome.interrupted, outcome.reason) == (True, "you stopped it at once")
        else:
            with pytest.raises(Away, match="starting"):
                bench.sweep(Limits(trials=1))
    assert any("the result is kept here" in note for note in bench.ear.notes)
    (first,) = bench.ledger.results()
    (kept,) = (bench.states / "unwritten").glob("*.json")
    assert first.recipe_id not in kept.read_text() or first.step
    outcome = bench.sweep(Limits(trials=1))
    assert any("is in the ledger now" in note for note in bench.ear.notes)
    assert not kept.exists()
    assert {r.status for r in outcome.results} == {"complete"}
    recipes = [r.recipe_id for r in outcome.results]
    assert sorted(set(recipes)) == sorted(recipes)
    assert len({r.run_id for r in outcome.results}) == 1
    trained = [r.spent["train"].work.steps for r in outcome.results if "train" in r.spent]
    assert sum(trained) == max(r.step for r in outcome.results)  # it went on from the state of the kept one


@pytest.mark.slow
def test_what_others_spend_while_the_ledger_is_away_is_reckoned(bench, monkeypatch):
    """A budget is not passed because nobody can say what they spend."""
    monkeypatch.setattr(current_work, "SILENT_SECONDS", 0.1)
    loss, results, seen = Classes.loss, Ledger.results, []

    def slow(self, *arguments):
        ledger = bench.ledger
        if not seen and (held := next((lease for lease, _ in ledger.leases()), None)):
            seen.append(1)
            other = ledger.lease(bench.study, replace(held.result, run_id="other", recipe_id="other", trial=None, number=None))
            ledger.beat(other, {"train": Usage(10.0)})
            time.sleep(1.5)  # the watch hears of it
            monkeypatch.setattr(Ledger, "results", away)
        time.sleep(0.3)
        return loss(self, *arguments)

    def away(self, **named):
        if threading.current_thread() is threading.main_thread():
            return results(self, **named)
        raise Away("the server is away", "away")

    monkeypatch.setattr(Classes, "loss", slow)
    outcome = bench.sweep(Limits(max_hours=25 / 3600), forecaster=Told(bench.study, lambda recipe: None))
    assert "the budget of 25 s is spent" in outcome.reason


@pytest.mark.slow
def test_who_waits_for_the_ledger_ends_with_its_budget_and_hands_in_what_it_has_made(bench, monkeypatch):
    """Another worker was seen, and is between two leases when the ledger goes away."""
    monkeypatch.setattr(current_work, "SILENT_SECONDS", 0.6)
    monkeypatch.setattr(current_work, "READING_SECONDS", 0.1)
    monkeypatch.setattr(current_work, "READING_SHARE", 1.0)
    monkeypatch.setattr(job, "AWAY_SECONDS", 30.0)
    loss, results, close, unseen, handing_in = (
        Classes.loss,
        Ledger.results,
        Ledger._close,
        Account.unseen,
        Interruptions.handing_in,
    )
    seen, gone = [], []

    def slow(self, *arguments):
        if not seen and (held := next((lease for lease, _ in bench.ledger.leases()), None)):
            ledger = bench.ledger
            other = ledger.lease(bench.study, replace(held.result, run_id="other", recipe_id="other", trial=None, number=None))
            abandon(ledger, other, host="elsewhere")
            time.sleep(1.5)  # the watch hears of it
            ledger.release(other)
            seen.append(other)
        return loss(self, *arguments)

    def away(self, **named):
        def asked():
            if gone:
                raise Away("the server is away", "away")
            return results(self, **named)

        return self.patience.tried(asked)

    def closing(self, *arguments):
        try:
            return close(self, *arguments)
        finally:
            gone.append(1)  # with the first Result

    def back(self):
        gone.clear()
        monkeypatch.setattr(Ledger, "_close", close)
        return handing_in(self)

    for owner, name, put in (
        (Classes, "loss", slow),
        (Ledger, "results", away),
        (Ledger, "_close", closing),
        (Account, "unseen", lambda self, seconds, others: unseen(self, 10_000 * seconds, others)),
        (Interruptions, "handing_in", back),
    ):
        monkeypatch.setattr(owner, name, put)
    outcome = bench.sweep(Limits(max_hours=1.0), sampler=WHOLE)
    assert "the budget of 1 h 00 min is spent" in outcome.reason
    assert any(note.startswith("What it waited for the ledger (") for note in bench.ear.notes)
    assert "complete" in {r.status for r in outcome.results}, "it has been handed in"
    assert total(r.consumed for r in outcome.results).seconds == pytest.approx(bench.ear.clock), "no wait is on the bill"


def test_what_others_spend_unheard_is_priced_by_the_machine_of_each(bench):
    recipe = bench.study.resolve({"task.train": 32, "method": "bitfit", "bitfit.learning_rate": 1e-3, "epochs": 1})
    rented = replace(OFFER, instance="rented", commitment="on_demand", amount=Decimal(36), usd_per_kwh=None)
    of_two = replace(rented, gpus=2, amount=Decimal(144))
    others = [replace(made(recipe, {}), offer=offer_record(offer)) for offer in (rented, of_two)]
    unseen = Account(Budget(Limits(max_usd=1.0), OFFER, 0.0), Forecaster(bench.study)).unseen(10.0, others)
    assert (unseen.usd, unseen.seconds) == (pytest.approx(0.1 + 0.2), 20.0)


def test_a_worker_between_two_leases_is_taken_to_be_at_work_for_a_minute(bench, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(current_work.time, "monotonic", lambda: now[0])
    recipe = bench.study.resolve({"task.train": 32, "method": "bitfit", "bitfit.learning_rate": 1e-3, "epochs": 1})
    making, held = replace(made(recipe, {}), status="running", number=7), {}
    account = SimpleNamespace(
        note=lambda results: None,
        with_work=lambda usage, labels: Spending(),
        unseen=lambda seconds, others: Spending(seconds=seconds * len(others)),
    )
    ledger = SimpleNamespace(
        reader=lambda: ledger, results=lambda running: list(held.values()), at_work=held, patience=Patience(), known=None
    )
    unwritten = SimpleNamespace(written=list, forget=lambda written: None, overlaid=list)
    bill = SimpleNamespace(settling=threading.Lock(), consumed=Usage)
    budget = SimpleNamespace(exhausted=lambda spent: "")
    work = CurrentWork(SimpleNamespace(ledger=ledger, account=account, unwritten=unwritten, bill=bill, budget=budget))
    dead = Worker(process.host(), 2**22 + 1, 1.0)

    def silent(*workers):
        """Seconds that the others are taken to have spent ten seconds after a reading with these at work."""
        held.clear()
        held.update({worker: replace(making, number=i) for i, worker in enumerate(workers)})
        work.read()
        now[0] += 10.0
        work._due = math.inf  # the ledger is away for the watch
        return work._reckoned(False).seconds

    with bill.settling:  # a lease is on its way into the ledger, which is away
        monkeypatch.setattr(current_work, "SETTLING_SECONDS", 0.01)
        work._read_at = now[0]
        assert work._reckoned(False).seconds == 0.0
        work._others = [making]
        now[0] += 10.0
        assert work._reckoned(False).seconds == 10.0
    there, here = Worker("elsewhere", 1, 1.0), Worker.of(process.this_process())
    assert silent(here) == 10.0, "another one of this process"
    assert silent(there, dead) == 20.0
    assert [silent() for _ in range(5)] == [10.0] * 5, "of those on this host it is known who is gone"
    assert silent() == 0.0


@pytest.mark.slow
def test_who_begins_while_the_ledger_is_away_is_charged_for_no_waiting(bench, monkeypatch):
    reconcile, tries = Mending.reconcile, []

    def away(self):
        tries.append(1)
        if len(tries) == 1:
            raise Away("the server is away", "away")
        if len(tries) == 2:  # it is waited for
            bench.meter.clock.advance(1000.0)
        return reconcile(self)

    monkeypatch.setattr(Mending, "reconcile", away)
    outcome = bench.sweep(Limits(trials=1))
    assert total(r.consumed for r in outcome.results).seconds == pytest.approx(bench.ear.clock - 1000.0)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = (
        os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=False)


def fill(path):
    """Take all space that is left."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.slow
def test_a_full_disk_is_freed_of_states_before_a_result_is_lost(bench, small_disk, monkeypatch):
    monkeypatch.setattr(patience, "_FIRST_PAUSE_SECONDS", 0.01)
    crowded = Bench(bench.file, small_disk)
    score = TinyTask.score

    def crowd(self, examples, predictions):
        (crowded.states / "prefixes").mkdir(parents=True, exist_ok=True)
        fill(crowded.states / "prefixes" / "older.safetensors")
        return score(self, examples, predictions)

    monkeypatch.setattr(TinyTask, "score", crowd)
    outcome = crowded.sweep(Limits(trials=2))
    assert outcome.reason == "2 of 2 trials are done"
    assert total(r.consumed for r in outcome.results).seconds == pytest.approx(crowded.ear.clock)
    assert any("could not be" in note for note in crowded.ear.notes)
    assert not list((crowded.states / "prefixes").glob("*.tmp"))


# Weights


@pytest.mark.slow
def test_weights_of_the_front_are_kept_and_of_nothing_else(bench):
    outcome = bench.sweep(Limits(trials=4))
    view = View.of(bench.ledger.description, OFFER, 0.0)
    members = {r.recipe_id for r in pareto_front(outcome.results, view)}
    assert {path.stem for path in (bench.states / "weights").iterdir()} == members
    assert len(members) < len(outcome.results)


# Two at once


@pytest.mark.slow
def test_two_workers_share_one_ledger_and_pay_once(bench):
    finite(bench, "full(learning_rate=1e-3), bitfit(learning_rate=1e-3), full(learning_rate=2e-3, name='other')", "2")
    other = Bench(bench.file, bench.folder)
    outcomes = []
    workers = [threading.Thread(target=lambda b=b: outcomes.append(b.sweep(Limits()))) for b in (bench, other)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(outcomes) == 2
    results = bench.ledger.results()
    recipes = [r.recipe_id for r in results]
    assert sorted(set(recipes)) == sorted(recipes)
    assert {(r.method, r.status) for r in results} == {("full", "complete"), ("bitfit", "complete"), ("other", "complete")}
    assert sorted(r.number for r in [*bench.ear.written, *other.ear.written]) == sorted(r.number for r in results)


@pytest.mark.slow
def test_a_busy_machine_makes_points_contended_and_the_sweep_as_dear_as_it_is(bench, monkeypatch):
    monkeypatch.setattr("workbench.training.encoding._encoded", {})  # what its slower meter measures is no other test's
    monkeypatch.setattr("workbench.training.passes.PACKED_TOKENS", {})  # no trial of packed rows is in one of the sweeps alone
    quiet = bench.sweep(Limits(trials=2), sampler=WHOLE).results
    shutil.rmtree(bench.states)
    for left in bench.folder.glob("optuna.db*"):
        left.unlink()
    busy = bench.sweep(Limits(trials=2), sampler=WHOLE, meter=FakeMeter(2.0, stalled_share=0.5)).results
    assert [r.recipe_id for r in busy] == [r.recipe_id for r in quiet]
    assert all(r.contended for r in busy)
    assert not any(r.contended for r in quiet)
    view = View.of(bench.ledger.description, OFFER, 0.0)
    alone = [view.cost(r, "usd") for r in busy]
    expected = pytest.approx([view.cost(r, "usd") for r in quiet], rel=0.02)
    assert alone == expected, "everything took twice as long, half of it for others"
    assert spent_usd(busy, OFFER, 0.0) == pytest.approx(2 * spent_usd(quiet, OFFER, 0.0), rel=0.2)
    assert "contended" in cost_text(view, busy[0], "usd", band=True)


# Limits are exact


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [search.DEFAULT, "optuna:RandomSampler"])
def test_several_workers_make_no_run_more_than_may_be(bench, sampler):
    bench.edit("epochs=integers(1, 4, log=True)", "epochs=1").edit("train=choice(32, 64)", "train=choice(16, 32)")
    benches = [Bench(bench.file, bench.folder) for _ in range(3)]
    workers = [threading.Thread(target=lambda b=b: b.sweep(Limits(trials=4), sampler=sampler)) for b in benches]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    results = bench.ledger.results(running=True)
    assert {r.status for r in results} == {"complete"}
    assert len(by_run(results)) == 4


@pytest.mark.slow
def test_of_machines_that_share_no_folder_the_earlier_keeps_the_last_start(bench, monkeypatch):
    """The other one takes the last start between this one's choice and its lease."""
    bench.edit("epochs=integers(1, 4, log=True)", "epochs=1")
    bench.sweep(Limits(trials=1))
    lease, taken = Ledger.lease, []

    def late(self, study, result, spent=None):
        if not taken:
            taken.append(1)
            other = bench.ledger
            held = lease(other, study, replace(result, run_id="other", recipe_id="other", trial=None, number=None))
            taken.append((other, held))
        return lease(self, study, result, spent)

    monkeypatch.setattr(Ledger, "lease", late)
    bench.sweep(Limits(trials=2))
    assert len({r.run_id for r in bench.ledger.results(running=True)}) == 2
    assert [lease.result.run_id for lease, _ in bench.ledger.leases()] == ["other"]


@pytest.mark.slow
def test_a_run_that_died_before_its_first_checkpoint_has_used_its_start_and_is_taken_up_again(bench):
    recipe = bench.study.resolve({"task.train": 32, "method": "bitfit", "bitfit.learning_rate": 1e-3, "epochs": 1})
    settings = {"task.train": 32, "method": "bitfit", "bitfit.learning_rate": 1e-3, "epochs": 1}
    ledger = bench.ledger
    lease = ledger.lease(bench.study, made(recipe, settings))
    ledger.finish(lease, replace(lease.result, status="interrupted", cause=Cause.DIED, reason="died: so"), bench.study, OFFER)
    outcome = bench.sweep(Limits(trials=2))
    assert outcome.reason == "2 of 2 trials are done"
    assert len(by_run(outcome.results)) == 2
    assert {r.run_id for r in outcome.results if r.status == "complete"} == {r.run_id for r in outcome.results}


def test_labels_that_others_are_about_to_use_are_bought(bench):
    of, limits = bench.study, Limits(max_labels=64)
    recipe = of.resolve({"task.train": 64, "method": "bitfit", "bitfit.learning_rate": 1e-3, "epochs": 1})
    result = made(recipe, {})
    theirs = replace(result, status="running", number=1, run_id="theirs", provenance={TO_COME: 64})
    other = replace(result, status="running", number=2, recipe={**result.recipe, "task": {**result.recipe["task"], "seed": 1}})
    assert limits.admit(replace(result, number=2), 64, [theirs])  # the same labels
    assert not limits.admit(other, 1, [theirs])
    assert limits.admit(replace(other, number=0), 1, [theirs])  # it was first
    account = Account(Budget(limits, OFFER, 0.0), Forecaster(of))
    account.note([theirs])
    assert account._bought == {"tiny/0": 64}


def test_a_question_about_the_budget_is_answered_while_the_ledger_is_read(bench):
    class Slow(Told):
        def segment(self, *args, **options):
            account.note([])  # as another thread does meanwhile
            return super().segment(*args, **options)

    account = Account(Budget(Limits(max_hours=1.0), OFFER, 0.0), Slow(bench.study, lambda recipe: 10.0))
    recipe = bench.study.resolve({"task.train": 64, "method": "bitfit", "bitfit.learning_rate": 1e-3, "epochs": 1})
    assert account.admits(recipe, [])


# Folders that machines share


def test_a_folder_that_cannot_be_locked_is_told_once(tmp_path, monkeypatch):
    import fcntl

    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    notes = []
    lock = FileLock(tmp_path / "there", notes.append)
    for _ in range(2):
        with lock.taken(), lock.taken():
            pass
    assert len(notes) == 1
    assert "cannot be locked (No locks available)" in notes[0]
