"""The runner and what is given to it: decisions, runs and their checkpoints, and a planner that no
search is behind.
"""

import pytest
from test_sweep import Bench, Ear, Quiet, finite

from workbench.result import Cause
from workbench.sweep import Limits, runner
from workbench.sweep.actions import Done, Proposal, Wait
from workbench.sweep.runs import LongestRun
from workbench.testing import FakeMeter


@pytest.fixture
def bench(study_file, tmp_path):
    bench = Bench(study_file, tmp_path)
    finite(bench, "full(learning_rate=1e-3), bitfit(learning_rate=1e-3)", "choice(1, 4)")
    bench.meter = FakeMeter()
    bench.ear, bench.notebook = Ear(bench.meter), Quiet()
    return bench


class Scripted:
    """Answers one after another, whatever the results are."""

    what, how = "script", {"sampler": "script", "seed": 0}

    def __init__(self, *answers):
        self.answers, self.asked, self.left = list(answers), [], []

    def over(self, results):
        return None

    def next(self, results, current=None):
        self.asked.append(current)
        return self.answers.pop(0) if self.answers else Done("the script is over")

    def leave(self, run_id):
        self.left.append(run_id)


def longest(bench, method):
    settings = {"method": method, "epochs": 4}
    return LongestRun(bench.study.resolve(settings), settings)


def test_a_checkpoint_of_a_run_is_its_recipe_and_its_settings_with_fewer_epochs(bench):
    run = longest(bench, "full")
    half = run.at(2.0)
    assert (half.recipe, half.settings) == (run.recipe.with_epochs(2), {"method": "full", "epochs": 2})
    assert half.recipe.run_id == run.run_id
    assert (run.at().recipe, run.at().epochs, run.epochs) == (run.recipe, 4.0, 4.0)
    assert run.settings == {"method": "full", "epochs": 4}
    assert run.wants(half.recipe.id)
    assert half.replicate_of is None


def test_settings_have_no_epochs_where_the_study_searches_none(bench):
    run = longest(bench, "full")
    fixed = LongestRun(run.recipe, {"method": "full"})
    assert fixed.at(1).settings == {"method": "full"}


def test_of_a_replicate_only_the_members_checkpoints_are_wanted(bench):
    run = longest(bench, "full")
    half, end = run.at(2), run.at()
    replicate = LongestRun(run.recipe, run.settings, {end.recipe.id: "member"})
    assert not replicate.wants(half.recipe.id)
    assert replicate.at().replicate_of == "member"


@pytest.mark.parametrize(
    ("cause", "interrupted"),
    [
        (None, False),
        (Cause.STOPPED_BY_BUDGET, False),
        (Cause.STOPPED_BY_PERSON, True),
        (Cause.STOPPED_BY_SIGNAL, True),
    ],
)
def test_an_end_is_an_interruption_where_somebody_asked_for_it(cause, interrupted):
    assert Done("so", cause).interrupted is interrupted


def test_a_planner_decides_and_the_runner_continues_switches_and_ends(bench):
    full, bitfit = longest(bench, "full"), longest(bench, "bitfit")
    script = Scripted(Proposal(full, 1.0), Proposal(full, 2.0), Proposal(bitfit, 1.0), Proposal(full, None))
    outcome = runner.run(bench.job(Limits()), lambda context: script)
    assert (outcome.reason, outcome.interrupted) == ("the script is over", False)
    made = [(r.method, r.epochs, r.status) for r in outcome.results]
    assert made == [("full", 1, "complete"), ("full", 2, "complete"), ("bitfit", 1, "complete"), ("full", 4, "complete")]
    # In memory at each question; at the end of a run nothing is.
    assert script.asked == [None, full.run_id, full.run_id, bitfit.run_id, None]
    assert [target for *_, target in bench.ear.runs] == [1, 1, 4]
    assert bench.ear.aims == [2]
    assert bench.ledger.ended["what"] == "script"
    assert bench.ledger.leases() == []


def test_a_run_in_which_nothing_is_left_to_do_is_not_asked_for_again(bench):
    full = longest(bench, "full")
    script = Scripted(Proposal(full, None), Proposal(full, None))
    outcome = runner.run(bench.job(Limits()), lambda context: script)
    assert [r.epochs for r in outcome.results if r.status == "complete"][-1] == 4
    assert len({r.recipe_id for r in outcome.results}) == len(outcome.results)
    assert script.left == [full.run_id]


def test_who_is_to_wait_lets_the_run_in_memory_go_and_is_asked_again(bench):
    full = longest(bench, "full")
    script = Scripted(Proposal(full, 1.0), Wait(), Proposal(full, 2.0))
    outcome = runner.run(bench.job(Limits()), lambda context: script)
    assert [r.epochs for r in outcome.results] == [1, 2]
    assert script.asked == [None, full.run_id, None, full.run_id]
    assert sum("load" in r.spent for r in outcome.results) == 2  # it was loaded anew


def test_a_worker_process_has_the_words_of_its_sweep():
    from workbench.cli.workers import worker_words

    words = ["-q", "sweep", "sweep.py", "--workers", "2"]
    assert worker_words(words) == ["-q", "worker", "sweep.py", "--workers", "2", "--supervised"]
    assert worker_words(["worker", "sweep.py"]) == ["worker", "sweep.py", "--supervised"]
