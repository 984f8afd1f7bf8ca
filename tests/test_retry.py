"""Another try for what failed: the sweep takes it up again, first; no record is changed, and the bill keeps what was spent."""

from dataclasses import replace

import pytest
from test_sweep import OFFER, WHOLE, Bench, Told, finite, made

from workbench import search, training
from workbench.errors import Infeasible
from workbench.front.objectives import View
from workbench.ledger import default_url
from workbench.report.records import runs_record
from workbench.result import Cause, spending
from workbench.search import MAX_INTERRUPTIONS
from workbench.sweep import Limits


@pytest.fixture
def bench(study_file, tmp_path):
    return Bench(study_file, tmp_path)


@pytest.fixture
def failed(bench, monkeypatch):
    """A sweep of two runs, of which the one that tunes all ran out of memory while something else held it."""
    finite(bench, "full(learning_rate=1e-3), bitfit(learning_rate=1e-3)", "1")
    train = training.train

    def short_of_memory(recipe, *args, **known):
        if recipe.method.name == "full":
            raise Infeasible("out_of_memory", "there was none")
        return train(recipe, *args, **known)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", short_of_memory)
        bench.sweep(Limits())
    return bench


def by_method(results):
    return {r.method: r for r in results}


@pytest.mark.parametrize("sampler", [pytest.param("front", marks=pytest.mark.slow), WHOLE])
def test_a_failed_run_is_taken_up_again_and_counts_from_then_on(failed, sampler):
    ledger = failed.ledger
    before = by_method(ledger.results())
    assert before["full"].status == "infeasible"
    assert failed.sweep(Limits(), sampler=sampler).results == ledger.results()  # of itself it is not tried again
    ledger.retry([before["full"].run_id])
    outcome = failed.sweep(Limits(), sampler=sampler)
    after = [r for r in outcome.results if r.method == "full"]
    assert after[0].status == "interrupted"
    assert after[-1].status == "complete"
    assert after[0].reason == "to be tried again: out_of_memory: there was none"
    assert after[0].trial == after[-1].trial == before["full"].trial
    view = View.of(ledger.description, OFFER, 0.0)
    entry = next(e for e in runs_record(outcome.results, view, {}) if e["method"] == "full")
    assert entry["status"] == "complete"
    assert failed.sweep(Limits(), sampler=sampler).results == outcome.results


def test_nothing_that_is_stored_is_changed_and_the_bill_stays(failed):
    ledger = failed.ledger
    before, stored = ledger.results(), [t.user_attrs["workbench:result"] for t in plain(failed).trials]
    ledger.retry([by_method(before)["full"].run_id])
    after = failed.ledger.results()
    assert spending(after, OFFER, 0.1) == spending(before, OFFER, 0.1)
    assert [r.consumed for r in after] == [r.consumed for r in before]
    assert [t.user_attrs["workbench:result"] for t in plain(failed).trials] == stored
    plainly = {"status": "", "reason": "", "retry": False}
    assert [replace(r, **plainly) for r in after] == [replace(r, **plainly) for r in before]


def plain(bench):
    import optuna

    return optuna.load_study(study_name=bench.study.name, storage=default_url(bench.folder))


@pytest.mark.slow
def test_one_that_fails_again_is_left_alone_again(bench):
    finite(bench, "full(learning_rate=1e30), bitfit(learning_rate=1e-3)", "1")
    bench.sweep(Limits())
    ledger = bench.ledger
    bad = by_method(ledger.results())["full"]
    ledger.retry([bad.run_id])
    tries = [r for r in bench.sweep(Limits()).results if r.run_id == bad.run_id]
    assert [r.status for r in tries] == ["interrupted", "infeasible"]
    assert tries[-1].consumed.seconds > 0
    assert len(bench.sweep(Limits()).results) == len(ledger.results())


@pytest.mark.slow
def test_it_goes_before_anything_new_and_only_within_the_budget(failed):
    failed.edit("bitfit(learning_rate=1e-3)", "bitfit(learning_rate=choice(1e-3, 2e-3, 3e-3))")  # it takes the failure over
    recipe = failed.study.resolve({"method": "full"})
    failed.ledger.retry([recipe.run_id])
    dear = Told(failed.study, lambda r: 1e9 if r.method.name == "full" else 1.0)
    failed.sweep(Limits(max_hours=1, trials=3), forecaster=dear)
    assert recipe.run_id not in [run for run, *_ in failed.ear.runs]
    failed.sweep(Limits(trials=5))
    assert failed.ear.runs[0][0] == recipe.run_id


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["front", WHOLE])
def test_what_killed_its_worker_again_and_again_may_be_tried_again(bench, sampler):
    finite(bench, "bitfit(learning_rate=1e-3)", "1")
    study, ledger = bench.study, bench.ledger
    recipe = study.resolve({"method": "bitfit"})
    for _ in range(MAX_INTERRUPTIONS):
        lease = ledger.lease(study, made(recipe, {"method": "bitfit"}))
        ledger.finish(lease, replace(lease.result, status="interrupted", cause=Cause.DIED, reason="died: so"), study, OFFER)
    assert search.left_alone(ledger.results()) == {recipe.run_id}
    assert not any(r.status == "complete" for r in bench.sweep(Limits(), sampler=sampler).results)
    ledger.retry([recipe.run_id])
    assert search.left_alone(ledger.results()) == set()
    assert bench.sweep(Limits(), sampler=sampler).results[-1].status == "complete"


def test_the_command_retry(failed, command):
    code, out, err = command("retry", "tiny.py")
    assert (code, out) == (0, "")
    assert "to be tried again: full" in err
    assert err.endswith(f"Next: `workbench sweep {failed.file.name}`\n")
    assert by_method(failed.ledger.results())["full"].retry
    good = by_method(failed.ledger.results())["bitfit"]
    code, _, err = command("retry", "tiny", good.trial)
    assert code == 3
    assert f"trial {good.trial} has not failed: it is complete" in err
    code, _, err = command("retry", "tiny", "77")
    assert code == 2
    assert "has no run '77'. Its runs are trials 0, 1; " in err
    assert "interrupted (to be tried again)" in command("runs")[1]


def test_a_second_retry_says_its_reason_once_and_the_front_says_what_comes_next(failed, command):
    command("retry", "tiny.py")
    _, _, err = command("retry", "tiny.py")
    assert err.count("to be tried again") == 1
    assert "(out_of_memory: there was none)" in err
    following = err.splitlines()[-1]
    assert following == f"Next: `workbench sweep {failed.file.name}`"
    assert command("front", "tiny.py")[2].splitlines()[-1] == following


def test_nothing_failed(command, swept, monkeypatch):
    monkeypatch.chdir(swept[0])
    assert command("retry", "tiny") == (0, "", "No run failed: there is nothing to try again.\n")
