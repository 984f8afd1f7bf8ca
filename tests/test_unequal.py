"""Unequal machines in one sweep: each Result at its own price, and each run where it is made for the least."""

from types import SimpleNamespace

import pytest
from sweeps import RATE, VIEW, numbered, result

from workbench.front.members import pareto_front
from workbench.front.objectives import PAID, View, view_of
from workbench.prices import usd
from workbench.result import spending
from workbench.sweep.other_machines import DEARER, GONE_SECONDS, OtherMachines

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
    study = SimpleNamespace(costs=(cost,), resolve=lambda settings: SimpleNamespace(model_name=settings["model"]))
    job = SimpleNamespace(joined=joined, standing=SimpleNamespace(apart=True), offer=RATE)
    clock = Clock()
    # Here a run costs two cents, whatever it is.
    found = OtherMachines(SimpleNamespace(job=job, study=study), lambda recipe, epochs: 0.020, clock)
    return found, clock


def recipe(model):
    return SimpleNamespace(model_name=model)


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


@pytest.mark.parametrize("how", [{"joined": False}, {"cost": "seconds"}])
def test_who_may_not_wait_leaves_nothing_to_others_and_seconds_have_no_price(how):
    found, _ = others(**how)
    found.look([*made(), running(CHEAP)])
    assert not found.at_work
    assert not found.cheaper(recipe("l3"))
