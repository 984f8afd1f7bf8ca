"""Confirmation: real training with new seeds, the test split, the bill, kills and budgets."""

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest
from commands import Command, study_text, workbench
from test_sweep import FINITE, OFFER, Bench, Ear, Quiet, Told, finite

from workbench import search
from workbench.errors import Refused, UsageError
from workbench.front.confirmed import confirmations, confirmed_front
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger import Ledger, default_url
from workbench.objectives import Classes
from workbench.prices import Prices
from workbench.result import Cause, Result, by_run, last_start, originals, spending
from workbench.study import load
from workbench.sweep import Account, Budget, Limits, asked, confirm, disturbance, expected, left, longest, nothing_fits, replicates
from workbench.testing import FakeMeter, TinyTask
from workbench.usage import Usage, total


def copied(of, to):
    """The ledger and the states of a folder, in another one."""
    with closing(sqlite3.connect(of / "optuna.db")) as ledger, closing(sqlite3.connect(to / "optuna.db")) as copy:
        ledger.backup(copy)
    shutil.copytree(of / "states", to / "states")


class Desk(Bench):
    """A study that is swept and confirmed as often as wanted."""

    def __init__(self, study_file, folder, swept):
        super().__init__(study_file, folder)
        self.before = swept

    def swept(self, trials):
        """The Results of a sweep that is made once for all tests that begin with it."""
        kept = self.before / f"{hashlib.sha256(self.file.read_bytes()).hexdigest()}-{trials}"
        if kept.exists():
            copied(kept, self.folder)
        else:
            self.sweep(Limits(trials=trials))
            kept.mkdir()
            copied(self.folder, kept)
        return self.ledger.results()

    @property
    def view(self):
        return View.of(self.ledger.description, OFFER, 0.0)

    def confirm(self, limits=None, *, seeds=2, meter=None, **options):
        self.meter = meter or FakeMeter()
        self.ear, self.notebook = Ear(self.meter), Quiet()
        return confirm(self.job(limits or Limits(), **options), self.view, seeds)

    @property
    def members(self):
        return pareto_front(self.ledger.results(), self.view)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Holds the sweeps that tests begin with."""
    return tmp_path_factory.mktemp("before")


@pytest.fixture
def desk(study_file, tmp_path, before):
    return Desk(study_file, tmp_path, before)


@pytest.fixture
def reads(monkeypatch):
    """How often the test split was scored."""
    score, seen = TinyTask.score, []

    def counting(self, examples, predictions):
        if any(example["id"].startswith("2/") for example in examples):
            seen.append(len(examples))
        return score(self, examples, predictions)

    monkeypatch.setattr(TinyTask, "score", counting)
    return seen


def new(results):
    return [r for r in results if r.replicate_of is not None]


def test_every_member_is_run_with_new_seeds_and_graded_once(desk, reads):
    before = desk.sweep(Limits(trials=2)).results
    assert reads == []  # no sweep reads the test split
    members = desk.members
    outcome = desk.confirm(seeds=2)
    assert outcome.reason == "every member of the front has been run with 2 new seeds"
    assert outcome.results[: len(before)] == before
    made = outcome.results[len(before) :]
    assert sorted((r.replicate_of, r.seed) for r in made) == sorted((m.recipe_id, seed) for m in members for seed in (1, 2))
    by_id = {m.recipe_id: m for m in members}
    for r in made:
        member = by_id[r.replicate_of]
        assert {**r.recipe, "seed": 0} == dict(member.recipe)
        assert (r.status, r.settings, r.labels) == ("complete", member.settings, member.labels)
        assert set(r.test_scores[r.recipe_id]) == {"accuracy", "test_loss"}
        assert "test" in r.spent, sorted(r.spent)
        assert "test" not in r.usage  # grading is on the sweep's bill, and no cost of the point
    graded = [name for r in made for name in r.test_scores]
    assert sorted(graded) == sorted({r.recipe_id for r in made} | by_id.keys())
    assert len(reads) == 3 * len(members)
    assert total(r.consumed for r in made).seconds == pytest.approx(desk.ear.clock)
    assert desk.members == members
    assert [call[1] for call in desk.notebook.told if call[0] == "record"] == made
    assert desk.confirm(seeds=2).results == outcome.results
    assert len(reads) == 3 * len(members)


def seedless(desk):
    """A study of which nothing takes a seed."""
    desk.edit("import Recipe", "import zero_shot, Recipe").edit(FINITE, "zero_shot(), epochs=1,")


def test_what_no_seed_changes_is_graded_once_where_nothing_else_is_on_the_front(desk, reads, command):
    seedless(desk)
    desk.sweep(Limits(trials=1))
    (member,) = desk.members
    assert reads == []
    code, out, err = command("confirm", "tiny.py", "--json")
    assert code == 0, err
    assert "1 member of the front that no seed changes is graded once on the test split." in err
    assert (
        "The confirmation ended: 1 model that no seed changes was graded once on the test split; new seeds have no effect on it.\n"
        in err
    )
    assert "with new seeds" not in err
    (point,) = [p for p in json.loads(out)["points"] if p["on_front"]]
    assert (point["confirmed"]["seeds"], point["confirmed"]["mean"]) == (0, point["score"])
    assert point["confirmed"]["test_mean"] is not None
    assert len(reads) == 1
    assert desk.members == [member]
    (made,) = new(desk.ledger.results())
    assert (made.status, made.scores, made.replicate_of) == ("complete", {}, member.recipe_id)
    assert "test" in made.spent
    for words in (("runs",), ("run", member.trial), ("status",), ("front",), ("export", "tiny.py", "csv"), ("plan", "tiny.py")):
        code, _, err = command(*words)
        assert code == 0, err
    code, _, err = command("confirm", "tiny.py")
    assert (code, "Nothing to do: the front is confirmed" in err) == (0, True)
    assert len(reads) == 1


def test_what_is_no_better_than_chance_is_left_out_where_something_is(desk):
    finite(desk, "zero_shot(), full(learning_rate=5e-3)", "8").edit("import Recipe", "import zero_shot, Recipe")
    desk.edit('minimize="usd"', 'minimize=("usd", "labels")').edit("train=32", "train=256")  # enough to learn from
    results = desk.sweep(Limits()).results
    asked_at = min(m.scores["accuracy"] for m in desk.members)
    desk.ledger.note_grading({"constant_score": asked_at})
    better = {m.recipe_id for m in desk.members if m.scores["accuracy"] > asked_at}
    assert better
    assert better < {m.recipe_id for m in desk.members}
    plan = replicates(load(desk.file), results, desk.view, 2)
    assert {each.member.recipe_id for each in plan} == better
    assert asked(results, desk.view) == []
    reason = desk.confirm(seeds=1).reason
    assert reason == "every member of the front has been run with 1 new seed"
    assert {r.replicate_of for r in new(desk.ledger.results())} == better


@pytest.mark.slow
def test_the_end_says_new_seeds_of_what_learns_alone(desk, reads):
    desk.edit("import Recipe", "import zero_shot, Recipe").edit('minimize="usd"', 'minimize=("usd", "labels")')
    finite(desk, "zero_shot(), full(learning_rate=5e-3)", "8").edit("train=32", "train=256")  # enough to learn from
    desk.sweep(Limits())
    learned_epochs = [m.epochs for m in desk.members if m.epochs]
    assert 1 <= len(learned_epochs) == len(desk.members) - 1
    learned = "every member of the front that learns has been run with 1 new seed"
    assert desk.confirm(seeds=1).reason == f"{learned}; 1 model that no seed changes was graded once on the test split"
    assert len(reads) == 1 + 2 * len(learned_epochs)


def test_checkpoints_of_one_run_are_made_by_one_run_again(desk):
    finite(desk, "full(learning_rate=5e-3)", "4")
    desk.swept(1)
    made = new(desk.confirm(seeds=1).results)
    assert len(made) == len(desk.members)
    assert len({r.run_id for r in made}) == 1


@pytest.mark.parametrize("does", ["sweep", "confirm"])
@pytest.mark.slow
def test_while_others_disturb_it_that_is_said(does, desk, monkeypatch):
    finite(desk, "full(learning_rate=5e-3)", "4")
    if does == "confirm":
        desk.sweep(Limits(trials=1))
    monkeypatch.setattr(disturbance, "LOOK_SECONDS", 0.001)
    getattr(desk, does)(Limits(trials=1), meter=FakeMeter(stalled_share=0.5))
    (said,) = [note for note in desk.ear.notes if "Other programs use this machine" in note]
    assert "2.0 times as long" in said


@pytest.mark.slow
def test_more_seeds_add_to_those_there_are(desk):
    desk.swept(2)
    first = desk.confirm(seeds=1).results
    more = desk.confirm(seeds=3).results
    assert more[: len(first)] == first
    assert {r.seed for r in new(more)} == {1, 2, 3}


@pytest.mark.slow
def test_the_search_and_its_limits_do_not_see_replicates(desk):
    desk.swept(2)
    results = desk.confirm().results
    proposed = {
        "now": search.propose(desk.study, results, Prices(OFFER)),
        "before": search.propose(desk.study, originals(results), Prices(OFFER)),
    }
    assert proposed["now"] == proposed["before"]
    assert desk.sweep(Limits(trials=2)).results == results
    assert len(originals(desk.sweep(Limits(trials=3)).results)) > len(originals(results))
    assert spending(results, OFFER, 1.0).labels == spending(originals(results), OFFER, 1.0).labels
    assert spending(results, OFFER, 0.0).seconds > spending(originals(results), OFFER, 0.0).seconds


@pytest.mark.slow
def test_a_searched_seed_stays_a_setting_and_new_ones_lie_beyond(desk):
    desk.edit("batch_size=8,", "batch_size=8, seed=choice(0, 4),")
    desk.sweep(Limits(trials=2))
    made = new(desk.confirm(seeds=2).results)
    assert {r.seed for r in made} == {5, 6}
    assert all("seed" not in r.settings for r in made)
    assert confirmations(desk.ledger.results(), desk.view).keys() == {m.recipe_id for m in desk.members}


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_where_it_stood(desk, monkeypatch, reads):
    finite(desk, "full(learning_rate=5e-3)", "4")
    desk.swept(1)
    members = desk.members
    beginning, seen = Ear.recorded, []

    def stop(self, result, results):
        beginning(self, result, results)
        seen.append(result)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Ear, "recorded", stop)
        stopped = desk.confirm(seeds=2)
    assert stopped.interrupted
    held = stopped.results
    assert [r.status for r in new(held)][:1] == ["complete"]
    results = desk.confirm(seeds=2).results
    assert results[: len(held)] == held
    done = [r for r in new(results) if r.status == "complete"]
    assert sorted((r.replicate_of, r.seed) for r in done) == sorted((m.recipe_id, s) for m in members for s in (1, 2))
    assert len(reads) == 3 * len(members)
    for run in by_run(done).values():  # nothing was trained twice
        assert sum(r.spent["train"].work.steps for r in run if "train" in r.spent) <= run[-1].step
    desk.sweep(Limits(trials=1))
    assert desk.ledger.results() == results  # a sweep does not take up what a confirmation left


@pytest.mark.slow
def test_a_dead_worker_keeps_what_it_had_graded(desk, reads):
    desk.swept(1)
    (member, *_) = desk.members
    ledger, study = desk.ledger, desk.study
    plan = replicates(study, ledger.results(), desk.view, 1)
    recipe = next(each.recipe for each in plan if each.member == member)
    stub = replace(
        member, recipe_id=recipe.id, run_id=recipe.run_id, recipe=recipe.to_json(), status="running", scores={}, usage={}, spent={}
    )
    lease = ledger.lease(study, replace(stub, replicate_of=member.recipe_id, trial=None, number=None))
    lease.result = replace(lease.result, test_scores={member.recipe_id: {"accuracy": 12.0, "test_loss": 1.0}})
    ledger.beat(lease, {})
    ended = ledger.finish(
        lease,
        replace(lease.result, status="interrupted", cause=Cause.DIED, reason="died: gone", finished=time.time()),
        study,
        OFFER,
    )
    assert ended.test_scores[member.recipe_id]["accuracy"] == 12.0
    results = desk.confirm(seeds=1).results
    assert confirmations(results, desk.view)[member.recipe_id].test_original == 12.0
    assert len(reads) == 2 * len(desk.members) - 1


@pytest.mark.slow
def test_seeds_that_diverge_are_recorded_and_not_tried_again(desk, monkeypatch):
    finite(desk, "full(learning_rate=5e-3)", "1")
    desk.sweep(Limits(trials=1))
    monkeypatch.setattr(Classes, "loss", lambda self, output, batch: output.logits.sum() * float("nan"))
    outcome = desk.confirm(seeds=2)
    assert outcome.reason.endswith(f"but for {2 * len(desk.members)} that could not be trained")
    assert {r.status for r in new(outcome.results)} == {"infeasible"}
    assert confirmed_front(outcome.results, desk.view) == []
    assert desk.confirm(seeds=2).results == outcome.results


@pytest.mark.slow
def test_a_budget_that_is_spent_or_too_small_stops_it(desk):
    swept = desk.swept(2)
    assert "is spent" in desk.confirm(Limits(max_hours=1e-4)).reason
    hours = spending(swept, OFFER, 0.0).seconds / 3600 + 100 / 3600
    outcome = desk.confirm(Limits(max_hours=hours), forecaster=Told(desk.study, lambda recipe: 2000.0))
    assert "fits the budget" in outcome.reason
    assert outcome.results == swept
    assert not outcome.interrupted
    assert desk.ledger.ended["what"] == "confirmation"


def test_a_start_is_in_the_forecast_of_a_confirmation(desk):
    swept = desk.swept(2)
    plan = replicates(desk.study, swept, desk.view, 1)
    alone, whole = (expected(plan, swept, desk.view, start=start) for start in (None, Usage(20.0)))
    assert whole.seconds.value == pytest.approx(alone.seconds.value + 20.0)
    rate = float(OFFER.usd_per_hour) / 3600
    assert whole.cost("usd_compute").value == pytest.approx(alone.cost("usd_compute").value + 20.0 * rate)
    long, again, moment = (
        replace(swept[0], started=float(i), spent={"provision": Usage(took)}) for i, took in enumerate((90.0, 20.0, 0.2))
    )
    assert last_start([moment, again, long]) == Usage(20.0)  # the latest, whatever the order; a moment is no start
    assert last_start([moment]) == last_start([]) == Usage()


@pytest.mark.slow
def test_what_fits_is_known_before_anything_is_begun(desk):
    swept = desk.swept(2)
    plan = replicates(desk.study, swept, desk.view, 2)
    spent = spending(swept, OFFER, 0.0).seconds

    def refused(seconds, started=0.0):
        budget = Budget(Limits(max_hours=(spent + seconds) / 3600), OFFER, 0.0)
        account = Account(budget, Told(desk.study, lambda recipe: 100.0 * recipe.epochs))
        return nothing_fits(plan, swept, desk.view, account, Usage(started))

    dearest = 100.0 * max(each.recipe.epochs for each in plan)
    assert refused(dearest + 50) == ""
    assert refused(50).startswith("no run that is left fits the budget (the cheapest one looked at would take ")
    assert refused(dearest + 50, started=dearest) != ""
    account = Account(Budget(Limits(max_hours=1e-9), OFFER, 0.0), Told(desk.study, float))
    assert nothing_fits([], swept, desk.view, account, Usage()) == ""


@pytest.mark.slow
def test_what_a_run_took_with_the_first_seed_counts_where_a_forecast_says_less(desk):
    swept = desk.swept(2)
    plan = replicates(desk.study, swept, desk.view, 1)
    seconds = expected(plan, swept, desk.view).seconds.value
    assert seconds > sum(each.member.cold.seconds for each in longest(plan))  # grading comes to it
    quickest = min(
        expected([e for e in plan if e.recipe.run_id == run.recipe.run_id], swept, desk.view).seconds.value for run in longest(plan)
    )
    spent = spending(swept, OFFER, 0.0).seconds
    for more, fits in ((0.9 * quickest, False), (1.1 * quickest + 2, True)):
        budget = Budget(Limits(max_hours=(spent + more) / 3600), OFFER, 0.0)
        account = Account(budget, Told(desk.study, lambda recipe: 1e-3))
        assert (nothing_fits(plan, swept, desk.view, account, Usage()) == "") == fits


@pytest.mark.slow
def test_changed_data_are_refused(desk, monkeypatch):
    desk.swept(1)
    monkeypatch.setattr(TinyTask, "digest", lambda self: "other")
    with pytest.raises(Refused, match="cannot be made again: the study's data"):
        desk.confirm()


@pytest.mark.slow
def test_an_edited_study_takes_its_confirmation_over(desk):
    desk.swept(2)
    results = desk.confirm().results
    before = confirmations(results, desk.view)
    desk.edit("integers(1, 4, log=True)", "integers(1, 8, log=True)")
    after = confirmations(desk.ledger.results(), desk.view)
    assert {n: (c.score, c.test) for n, c in after.items()} == {n: (c.score, c.test) for n, c in before.items()}
    assert left(replicates(desk.study, desk.ledger.results(), desk.view, 2), desk.ledger.results()) == []


@pytest.mark.slow
def test_missing_weights_are_told_and_cost_no_more(desk):
    desk.swept(1)
    for path in (desk.states / "weights").iterdir():
        path.unlink()
    results = desk.confirm(seeds=1).results
    assert any("not here" in note for note in desk.ear.notes)
    assert all(r.test_scores.keys() == {r.recipe_id} for r in new(results))


def test_a_share_is_kept_of_what_is_bounded():
    kept = Limits(trials=3, max_usd=10.0, max_labels=9).keeping(0.2)
    assert kept == Limits(trials=3, max_usd=8.0, max_labels=9)
    with pytest.raises(UsageError, match="no budget to keep a share of"):
        Limits(trials=3).keeping(0.2)


def test_records_from_before_read_as_ever():
    fields = {"recipe_id": "r", "run_id": "u", "recipe": {"epochs": 1, "seed": 0}, "settings": {}, "status": "complete"}
    old = Result.from_json(fields)
    assert (old.replicate_of, old.test_scores) == (None, {})
    assert Result.from_json(json.loads(json.dumps(old.to_json()))) == old


# The command


@pytest.mark.slow
def test_the_command(command, tmp_path, tiny):
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    code, out, err = command("confirm", "tiny.py")
    assert (code, out) == (2, "")
    command("sweep", "tiny.py", "--trials", "2")
    code, out, err = command("front")
    assert "workbench confirm" in err
    code, _, err = command("confirm", "tiny.py", "--max-usd", "0.0000001")
    assert (code, "is spent" in err) == (1, True)
    code, out, err = command("confirm", "tiny.py", "--seeds", "2", "--json")
    assert code == 0, err
    foretold = r"with new seeds: forecast to take .* and \$.*, by what the same runs took with the first seed"
    assert re.search(foretold + r"\. The study has spent .* and \$[0-9.]+ so far\.", err), err
    record = json.loads(out)
    lines = [line for line in err.splitlines() if line.startswith("    ") and "on the test split" in line]
    assert lines
    assert all(re.search(r"about .* left$", line) for line in lines[:-1])
    assert "left" not in lines[-1]
    confirmed = [p for p in record["points"] if p["confirmed"]]
    assert confirmed
    for p in confirmed:
        known = p["confirmed"]
        assert (known["seeds"], known["failed"]) == (2, 0)
        assert known["low"] <= known["mean"] <= known["high"]
        assert known["test_low"] <= known["test_mean"] <= known["test_high"]
        assert known["test_original"] is not None
        assert set(known["tied_with"]) <= {q["recipe_id"] for q in confirmed}
    assert any(p["on_front"] for p in confirmed)
    assert json.loads(command("front", "--json")[1])["points"] == record["points"]
    code, out, err = command("front")
    assert code == 0
    assert "2 new seeds" in out
    assert "test split" in out
    assert "workbench confirm" not in err
    runs = json.loads(command("runs", "--json")[1])
    again = [r for r in runs if r["replicate_of"]]
    assert {r["seed"] for r in again} == {1, 2}
    assert all(r["test_scores"]["accuracy"] >= 0 for r in again)
    out = command("runs")[1]
    assert re.search(r"complete.* \(seed 1 of trial \d+\)", out)
    assert "confirms" in command("run", again[0]["trial"])[1]
    code, out, err = command("confirm", "tiny.py", "--seeds", "2")
    assert (code, "Nothing to do: the front is confirmed" in err) == (0, True)
    code, _, err = command("confirm", "tiny.py", "--seeds", "9", "--max-usd", "0.0000001")
    assert (code, "is spent" in err) == (0, True)


@pytest.mark.slow
def test_a_sweep_can_keep_a_share_for_it(command, tmp_path, tiny):
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    assert command("sweep", "tiny.py", "--confirm-share", "0.2")[0] == 2
    words = ("--trials", "2", "--max-hours", "1", "--confirm-share", "0.2", "--confirm-seeds", "1", "--json")
    code, out, err = command("sweep", "tiny.py", *words)
    assert code == 0, err
    record = json.loads(out)
    assert "of 48 min" in err
    assert "The sweep ended: 2 of 2 trials are done" in err
    assert "The confirmation ended: every member of the front has been run with 1 new seed." in err
    assert all(p["confirmed"]["low"] is None for p in record["points"] if p["confirmed"])
    code, out, err = command("sweep", "tiny.py", *words)
    assert (code, json.loads(out)["points"]) == (0, record["points"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_kills_in_the_middle_lose_nothing(tmp_path, tiny):
    text = study_text(tiny, "full(learning_rate=3e-3)", "TinyTask(train=256)").replace("epochs=2", "epochs=16")
    (tmp_path / "tiny.py").write_text(text)
    assert workbench("sweep", "tiny.py", "--trials", "1", cwd=tmp_path).returncode == 0
    study = load(tmp_path / "tiny.py")
    held, under_way = Ledger.open(study, default_url(tmp_path)).results(), []
    for kill in range(2):
        log = tmp_path / f"{kill}.log"
        log.touch()
        process = Command(["confirm", "tiny.py"], cwd=tmp_path, out=log, err=log)
        deadline = time.monotonic() + 120
        while log.read_text().count("[seed") < 2 and time.monotonic() < deadline:  # in the middle of the second run of this start
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        ledger = Ledger.open(study, default_url(tmp_path))
        under_way.append(len(ledger.leases()))
        results = ledger.results()
        assert results[: len(held)] == held
        held = results
    assert any(under_way)
    done = workbench("confirm", "tiny.py", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("was interrupted" in done.stderr) == bool(under_way[-1])  # a quick machine may be between two runs when it is killed
    ledger = Ledger.open(study, default_url(tmp_path))
    results = ledger.results(running=True)
    assert results[: len(held)] == held
    view = View.of(ledger.description, OFFER, 0.0)
    members = pareto_front(results, view)
    made = [r for r in new(results) if r.status == "complete"]
    assert sorted((r.replicate_of, r.seed) for r in made) == sorted((m.recipe_id, s) for m in members for s in (1, 2, 3))
    assert all(r.consumed.seconds > 0 for r in new(results))
    graded = [name for r in new(results) for name in r.test_scores]
    assert len(graded) == len(set(graded)) == 4 * len(members)
