"""Unequal machines in one sweep: each Result at its own price, and each run where it is made for the least."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sweeps import RATE, VIEW, numbered, result

from workbench.front.members import pareto_front
from workbench.front.objectives import PAID, View, view_of
from workbench.prices import usd
from workbench.result import Result, UsagePart, spending
from workbench.result.recorded_offer import recorded_offer
from workbench.search import Step
from workbench.sweep.actions import Done, Wait
from workbench.sweep.other_machines import DEARER, GONE_SECONDS, OtherMachines
from workbench.sweep.planner import _Search
from workbench.usage import Usage, Work

CHEAP = {"id": "c", "name": "desk:cpu", "platform": "desk", "instance": "cpu", "gpus": 0, "usd_per_hour": "0.36"}
GPU = {"id": "g", "name": "aws:g6", "platform": "aws", "instance": "g6", "gpus": 1, "usd_per_hour": "36"}
WITH_GPU = {"device": {"gpus": [{"name": "NVIDIA L4"}]}}


def made():
    """A run here at a tenth of a cent a second, one on a cheap machine, and one on a GPU."""
    return numbered(
        [
            result("here", 1.0, 50.0, 10.0),
            result("cheap", 1.0, 55.0, 20.0, offer=CHEAP),
            result("gpu", 1.0, 70.0, 2.0, offer=GPU, provenance=WITH_GPU),
        ]
    )


def test_each_result_is_priced_by_its_own_offer_and_so_is_what_was_spent():
    here, cheap, gpu = made()
    own = View(VIEW.maximize, VIEW.minimize, {}, RATE, 0.0, own=True)
    paid = [own.cost(r, "usd") for r in (here, cheap, gpu)]
    assert paid == pytest.approx([0.010, 0.002, 0.020])
    assert paid[1:] == pytest.approx([usd(r.alone, r.paid) for r in (cheap, gpu)])
    assert own.estimate(gpu, "usd").basis == "measured"
    assert spending(made(), RATE, 0.0).usd == pytest.approx(sum(paid))
    assert {r.run_id for r in pareto_front(made(), own)} == {"cheap", "gpu"}


def test_at_one_offer_all_are_carried_over_to_it_and_the_front_is_another():
    _, cheap, gpu = made()
    assert VIEW.cost(cheap, "usd") == pytest.approx(0.020), "20 seconds at the price here"
    assert VIEW.cost(gpu, "usd") is None, "nothing honest can be said of a GPU's work on processors"
    assert {r.run_id for r in pareto_front(made(), VIEW)} == {"here", "cheap"}


def test_the_view_is_asked_for_by_name():
    description = {"maximize": "f1", "minimize": ["usd"], "reference": {}, "platform": "local", "label_usd": 0.0}
    assert view_of(description, PAID).own
    assert not view_of(description).own


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def others(*, joined=True, cost="usd"):
    study = SimpleNamespace(
        costs=(cost,), longest=dict, resolve=lambda settings: recipe(settings["model"], settings.get("size", 1))
    )
    job = SimpleNamespace(joined=joined, standing=SimpleNamespace(apart=True), offer=RATE)
    clock = Clock()
    # Here a run costs two cents an epoch, or as many times that as it is large.
    found = OtherMachines(SimpleNamespace(job=job, study=study), lambda recipe, epochs: 0.020 * epochs * recipe.size, clock)
    return found, clock


def recipe(model, size=1):
    return SimpleNamespace(model_name=model, size=size, epochs=1)


def running(offer):
    return result("busy", 1.0, None, 1.0, status="running", offer=offer)


def test_a_run_is_left_to_a_machine_at_work_that_makes_it_for_less_and_taken_when_that_is_gone():
    found, clock = others()
    done = numbered([result("cheap", 1.0, 55.0, 20.0, offer=CHEAP)])
    found.look(done)
    assert not found.cheaper(recipe("l3")), "nobody is at work there"
    found.look([*done, running(CHEAP)])
    assert found.at_work == {"desk:cpu"}
    assert found.cheaper(recipe("l3")), "a fifth of a cent there, two cents here"
    assert found.left
    assert not found.cheaper(recipe("l6")), "nothing is known of that model there"
    clock.now += GONE_SECONDS + 1
    found.look(done)
    assert not found.left
    assert not found.cheaper(recipe("l3"))


@pytest.mark.parametrize(("seconds", "left"), [(0.99 * 20 / DEARER, True), (1.01 * 20 / DEARER, False), (100.0, False)])
def test_a_machine_has_to_be_cheaper_by_more_than_forecasts_are_off(seconds, left):
    found, _ = others()
    rate = {**CHEAP, "usd_per_hour": "3.6"}
    found.look([*numbered([result("there", 1.0, 55.0, seconds, offer=rate)]), running(rate)])
    assert found.cheaper(recipe("l3")) is left


def test_a_run_is_judged_by_those_of_like_size():
    """What takes little is made cheaply there, and what takes much is not: as on processors beside a GPU."""
    found, _ = others()
    small, large = (
        result(f"of {size}", 1.0, 55.0, seconds, offer=CHEAP, settings={"size": size}) for size, seconds in ((1, 20), (9, 3000))
    )
    found.look([*numbered([small, large]), running(CHEAP)])
    assert [found.cheaper(recipe("l3", size)) for size in (0.4, 0.6, 1, 1.9, 3, 9)] == [False, True, True, True, False, False]


@pytest.mark.parametrize("how", [{"joined": False}, {"cost": "seconds"}])
def test_who_may_not_wait_leaves_nothing_to_others_and_seconds_have_no_price(how):
    found, _ = others(**how)
    found.look([*made(), running(CHEAP)])
    assert not found.at_work
    assert not found.cheaper(recipe("l3"))


def part(offer, **usage):
    return UsagePart(offer, None, {phase: Usage(seconds=seconds) for phase, seconds in usage.items()})


def test_what_was_begun_on_a_machine_and_gone_on_with_on_another_is_priced_part_by_part():
    """Ten seconds on the cheap machine, two of them of loading, then five here: each at its own price, whoever looks."""
    usage = {"load": Usage(2.0), "train": Usage(13.0, work=Work(steps=10)), "evaluate": Usage(1.0)}
    both = result("a", 1.0, 60.0, usage=usage, elsewhere=(part(CHEAP, load=2.0, train=8.0),))
    own, other = both.parts
    assert {phase: of.seconds for phase, of in own.usage.items()} == {"train": 5.0, "evaluate": 1.0}
    assert own.usage["train"].work.steps == 10
    assert (other.paid.platform, other.cold.seconds) == ("desk", 10.0)
    paid = View(VIEW.maximize, VIEW.minimize, {}, RATE, 0.0, own=True)
    assert paid.cost(both, "usd") == pytest.approx(6 * 0.001 + 10 * 0.0001)
    there = replace(paid, offer=recorded_offer(CHEAP))
    assert there.cost(both, "usd") == paid.cost(both, "usd"), "the view's own offer changes nothing of what was paid"
    assert paid.estimate(both, "usd").value == pytest.approx(paid.cost(both, "usd"))
    assert VIEW.cost(both, "usd") == pytest.approx(0.016), "all of it at one offer, where it is asked for"
    alone = result("b", 1.0, 60.0, 12.0)
    assert {r.run_id for r in pareto_front([both, alone], paid)} == {"a"}, "0.7 of a cent against 1.2"
    assert {r.run_id for r in pareto_front([both, alone], VIEW)} == {"b"}, "1.6 against 1.2"
    assert Result.from_json(json.loads(json.dumps(both.to_json(compact=True)))).elsewhere == both.elsewhere


def test_a_gpus_part_has_no_price_on_processors_and_keeps_the_one_that_was_paid():
    gpu = replace(part(GPU, load=1.0), device="NVIDIA L4", usage={"load": Usage(1.0, gpu_seconds=1.0)})
    both = result("a", 1.0, 60.0, usage={"load": Usage(1.0, gpu_seconds=1.0), "train": Usage(5.0)}, elsewhere=(gpu,))
    assert VIEW.cost(both, "usd") is None
    assert replace(VIEW, own=True).cost(both, "usd") == pytest.approx(0.010 + 0.005)


def test_a_machine_learns_nothing_of_another_by_what_both_have_made():
    found, _ = others()
    both = result("both", 1.0, 55.0, 20.0, offer=CHEAP, elsewhere=(part(GPU, train=10.0),))
    found.look([*numbered([both]), running(CHEAP)])
    assert not found.cheaper(recipe("l3"))


def test_nobody_is_waited_for_once_the_others_have_ended_the_sweep():
    step, ledger = Step("stop", None, None, reason="nothing is left"), SimpleNamespace(ended=None)
    asked = object.__new__(_Search)
    asked._context, asked._others = SimpleNamespace(ledger=ledger), SimpleNamespace(left=True)
    assert isinstance(asked.answer(step, []), Wait)
    ledger.ended = {"reason": "3 of 3 trials are done"}
    assert asked.answer(step, []) == Done("nothing is left")
