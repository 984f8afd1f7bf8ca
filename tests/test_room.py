"""What ran out of memory on one machine and may fit into another: only devices that hold no more are spared another try."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from sweeps import failed, numbered
from sweeps import result as point
from test_next_run import decide, result
from test_search import FINITE, study
from test_sweep import WHOLE, Bench, finite

from workbench import search, training
from workbench.errors import Infeasible
from workbench.report.failures import memory_map
from workbench.report.records import last_word
from workbench.result import Cause, Room, seen_from, settled, too_large
from workbench.sweep import Limits, provenance
from workbench.sweep.confirming import Replicate, left
from workbench.sweep.launching import Place
from workbench.sweep.workers import Orders, Supervisor

GIB = 1 << 30


def gpus(name, gib, count=1, devices=1):
    return {"device": {"gpus": [{"name": name, "memory_bytes": gib and gib * GIB}] * count}, "devices": devices}


def processors(gib, name="EPYC"):
    return {"device": {"gpus": [], "cpu": name, "memory_bytes": gib and gib * GIB}}


L4, H100, TWO_L4 = gpus("NVIDIA L4", 23), gpus("NVIDIA H100 80GB HBM3", 80), gpus("NVIDIA L4", 23, 4, 2)


@pytest.mark.parametrize(
    ("there", "here", "fits_not"),
    [
        (L4, L4, True),
        (L4, H100, False),
        (H100, L4, True),
        (L4, TWO_L4, False),  # which hold it together
        (TWO_L4, L4, True),
        (processors(16), processors(16.1), True),  # two machines of one kind
        (processors(16), processors(32), False),
        (processors(16), L4, False),
        (gpus("NVIDIA L4", None), H100, False),  # the datasheet says what the record does not
        (H100, gpus("NVIDIA L4", None), True),
        (gpus("One", None), gpus("One", None), True),
        (gpus("One", None), gpus("Other", None), False),
        ({}, H100, True),  # an older record, which names no device
        (L4, {}, True),
    ],
)
def test_out_of_memory_counts_on_devices_that_hold_no_more(there, here, fits_not):
    lost = failed("a", "out_of_memory: 24 GiB", provenance=there)
    assert too_large(lost, Room.of(here)) is fits_not
    assert (seen_from([lost], Room.of(here))[0].status == "infeasible") is fits_not
    diverged = failed("a", "diverged: nan", provenance=there)
    assert seen_from([diverged], Room.of(here)) == [diverged]


LOST = {"cause": Cause.OUT_OF_MEMORY, "reason": "out_of_memory: 24 GiB", "provenance": L4}
ONE = {"method": "full", "task.train": 32, "model": "a", "epochs": 1}


@pytest.mark.parametrize("sampler", ["front", "optuna:TPESampler"])
def test_what_did_not_fit_into_the_small_one_is_made_by_the_large_one_alone(sampler):
    of = study(**FINITE | {"epochs": 1, "model": "a", "task": study().recipe.task.__class__(train=32)})
    one, other = {"method": "full"}, {"method": "bitfit"}
    made = [result(of, one, 1, "infeasible", number=0, **LOST), result(of, other, 1, number=1, provenance=H100)]

    def next_on(here, **more):
        return decide(of, made, sampler=sampler, room=Room.of(here) if here else None, **more)

    for here in (L4, gpus("NVIDIA T4", 15), None):
        assert next_on(here).end is search.End.EXHAUSTED
    step = next_on(H100)
    assert (step.action, step.settings["method"]) == ("continue", "full")
    # It has used its start: where no other may begin it may go on.
    assert next_on(H100, starts=0).settings["method"] == "full"
    made.append(result(of, one, 1, "running", number=2, provenance=H100))
    assert next_on(H100).action in ("wait", "stop")
    made[-1] = result(of, one, 1, "infeasible", number=2, **LOST | {"provenance": H100})
    assert next_on(H100).end is search.End.EXHAUSTED, "now it has not fitted into that one either"


def test_a_seed_of_a_confirmation_is_made_where_it_fits():
    of = study(**FINITE)
    lost = result(of, ONE, 1, "infeasible", replicate_of="x", number=0, **LOST)
    plan = [Replicate(lost, of.resolve(of.longest(ONE)))]
    assert left(plan, seen_from([lost], Room.of(L4))) == []
    assert left(plan, seen_from([lost], Room.of(H100))) == plan


def test_a_run_that_has_gone_further_on_a_larger_machine_did_not_fail():
    run = numbered([failed("a", "out_of_memory: 24 GiB", provenance=L4), point("a", 1.0, 60.0, provenance=H100)])
    assert settled(run) == run[1:]
    assert last_word(run) == run[1]
    assert [fit.verdict for fit in memory_map(run)] == ["fits"]
    assert last_word(run[:1]).status == "infeasible"
    backwards = [replace(r, number=1 - i) for i, r in enumerate(run)]
    assert settled(backwards) == backwards, "later it failed"


@pytest.mark.parametrize("sampler", [pytest.param("front", marks=pytest.mark.slow), WHOLE])
def test_a_sweep_ends_on_the_small_machine_and_goes_on_on_the_large_one(sampler, study_file, tmp_path, monkeypatch):
    bench = Bench(study_file, tmp_path)
    finite(bench, "full(learning_rate=1e-3), bitfit(learning_rate=1e-3)", "1")
    train, of = training.train, provenance.of

    def sweep_on(device):
        def within(recipe, *args, **known):
            if recipe.method.name == "full" and device is L4:
                raise Infeasible("out_of_memory", "24 GiB")
            return train(recipe, *args, **known)

        with monkeypatch.context() as patch:
            patch.setattr(provenance, "of", lambda *known: of(*known) | device)
            patch.setattr(training, "train", within)
            return bench.sweep(Limits(trials=2), sampler=sampler)

    first = sweep_on(L4)
    assert {r.status for r in first.results} == {"infeasible", "complete"}
    assert sweep_on(L4).results == first.results
    outcome = sweep_on(H100)
    assert [(r.method, r.status) for r in outcome.results[len(first.results) :]] == [("full", "complete")]
    assert sweep_on(H100).results == sweep_on(L4).results == outcome.results
    assert len({r.trial for r in outcome.results if r.method == "full"}) == 1


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        ("front", "every configuration of the space has been run; 2 runs ran out of this machine's memory"),
        (WHOLE, "2 of 2 trials are done"),
    ],
)
def test_the_end_says_what_did_not_fit_and_that_a_larger_machine_may_go_on(study_file, tmp_path, monkeypatch, sampler, reason):
    bench = Bench(study_file, tmp_path)
    finite(bench, "full(learning_rate=1e-3), bitfit(learning_rate=1e-3)", "1")

    def short_of_memory(recipe, *args, **known):
        raise Infeasible("out_of_memory", "24 GiB")

    monkeypatch.setattr(training, "train", short_of_memory)
    outcome = bench.sweep(Limits(trials=3 if sampler == "front" else 2), sampler=sampler)
    assert outcome.reason == reason
    assert outcome.here_alone


@pytest.mark.parametrize(("here_alone", "started"), [(True, ["small", "large"]), (False, ["small"])])
def test_a_larger_machine_that_comes_late_is_begun_only_where_something_may_fit_it(here_alone, started):
    places, begun = [Place("small", "small")], []
    launcher = SimpleNamespace(places=lambda: places)
    supervisor = object.__new__(Supervisor)
    supervisor._launcher, supervisor._orders, supervisor._workers = launcher, Orders(1, "s"), []
    supervisor._requested = supervisor.failure = 0
    supervisor._start = lambda worker, orders: begun.append(worker.place.name)
    supervisor._fill()
    supervisor._workers[0].ended = {"ended": "nothing is left", "interrupted": False, "here_alone": here_alone}
    places.append(Place("large", "large"))
    supervisor._fill()
    assert begun == started


def test_where_a_machine_is_taken_away_the_others_go_on_and_one_that_comes_is_begun():
    places, begun, notes = [Place("spot", "spot"), Place("other", "other")], [], []
    launcher = SimpleNamespace(places=lambda: places)
    supervisor = object.__new__(Supervisor)
    supervisor._launcher, supervisor._orders, supervisor._workers, supervisor._note = launcher, Orders(1, "s"), [], notes.append
    supervisor._requested = supervisor.failure = 0
    supervisor._start = lambda worker, orders: begun.append(worker.place.name)
    supervisor._read = list
    supervisor._fill()
    spot, other = supervisor._workers
    spot.ended = {"ended": "SIGTERM stopped it at once", "interrupted": True, "here_alone": False}
    supervisor._gone(spot, SimpleNamespace(returncode=130))
    assert notes == ["Worker 0 has left (SIGTERM stopped it at once): the others go on."]
    assert not supervisor._ends
    places.append(Place("new", "new"))
    supervisor._fill()
    assert begun == ["spot", "other", "new"]
    assert supervisor._outcome().interrupted, "nobody is left who has ended it"
    other.ended = {"ended": "all is done", "interrupted": False, "here_alone": False}
    outcome = supervisor._outcome()
    assert (outcome.reason, outcome.interrupted) == ("all is done", False)
