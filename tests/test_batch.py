"""Where many workers are at work one decides for several: distinct steps, each handed out once, and none that has become stale."""

from dataclasses import replace

import pytest
from test_next_run import carried_out, decide, result
from test_search import study as space

from workbench.ledger import Ledger, default_url
from workbench.search import Step
from workbench.study import load
from workbench.sweep import batch


@pytest.fixture(scope="module")
def of():
    return space()


@pytest.mark.parametrize("steps", [3, 12])
def test_further_steps_are_others_and_the_first_is_the_same(of, steps):
    results = carried_out(of, steps, seed=1)
    asked = {"seed": 1, "may_wait": False}
    alone, first = decide(of, results, **asked), decide(of, results, **asked, ahead=5)
    assert replace(first, further=()) == alone
    runs = [of.resolve(step.settings).run_id for step in (first, *first.further)]
    assert len(first.further) == 5
    assert len(set(runs)) == 6
    assert decide(of, results, **asked, ahead=5) == first


def test_no_more_runs_are_started_than_may_be(of):
    first = decide(of, carried_out(of, 2, seed=1), seed=1, ahead=8, starts=3)
    assert sum(step.action == "start" for step in (first, *first.further)) == 3


FULL = {"task.train": 32, "method": "full", "full.learning_rate": 2e-3, "epochs": 4}


class Chosen:
    """A study's ledger, and what two workers take of its steps."""

    def __init__(self, study_file, folder):
        self.study = load(study_file)
        self.ledger = Ledger.open(self.study, default_url(folder))
        self.steps = [Step("start", {**FULL, "full.learning_rate": 1e-3 * (i + 2)}, 1.0) for i in range(3)]

    def batch(self, admits=lambda step: True):
        ledger = self.ledger.reader()
        ledger.results()
        return batch.Batch(ledger, self.study.resolve, admits)

    def made(self, step, status):
        return result(self.study, step.settings, 1.0, status, number=0)


@pytest.fixture
def chosen(study_file, tmp_path):
    return Chosen(study_file, tmp_path)


def test_each_step_is_handed_out_once(chosen):
    first = replace(chosen.steps[0], further=tuple(chosen.steps[1:]))
    chosen.batch().keep(first, [])
    assert [chosen.batch().take([], None, None) for _ in range(3)] == [*chosen.steps[1:], None]


def test_the_run_in_memory_goes_on_if_it_may(chosen):
    chosen.batch().keep(replace(chosen.steps[0], further=tuple(chosen.steps[1:])), [])
    current = chosen.study.resolve(chosen.steps[2].settings).run_id
    assert chosen.batch().take([], current, None) == chosen.steps[2]


def test_what_is_of_no_use_any_more_is_passed_over(chosen):
    chosen.batch().keep(replace(chosen.steps[0], further=tuple(chosen.steps[1:])), [])
    assert chosen.batch(lambda step: step == chosen.steps[1]).take([chosen.made(chosen.steps[1], "running")], None, None) is None
    for results, starts in (
        ([], 0),  # no run may be started any more
        ([chosen.made(chosen.steps[1], "running"), chosen.made(chosen.steps[2], "complete")], None),  # others are there
        ([chosen.made(chosen.steps[0], "complete")] * 7, None),  # much has been learnt since
    ):
        chosen.batch().keep(replace(chosen.steps[0], further=tuple(chosen.steps[1:])), [])
        assert chosen.batch().take(results, None, starts) is None
        assert chosen.batch().take([], None, None) is None  # nor is it kept


def test_few_workers_decide_for_themselves(chosen):
    at_work = [chosen.made(step, "running") for step in chosen.steps] * 5
    assert [batch.ahead(at_work[:n]) for n in (0, 1, 15)] == [0, 0, 0]
    assert batch.ahead(at_work + at_work[:1]) == 1
    assert batch.ahead(at_work * 5) == 8
