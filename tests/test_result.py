"""The record of a recipe that was run: its JSON, its costs, and the bill of many."""

import dataclasses
import json
from decimal import Decimal
from typing import Any

import pytest

from workbench.prices import Offer
from workbench.result import (
    COSTS,
    MINIMIZABLE,
    Cause,
    Result,
    carried,
    cost,
    estimate,
    labels_bought,
    mean_costs,
    same_machine,
    spending,
    spent_usd,
)
from workbench.result.record import SCHEMA
from workbench.usage import DeviceUsage, Usage, Work

HOUR = Offer("p", "m", "", 0, "", "owned", Decimal("3.6"), "here", "2026-01-01")  # a tenth of a cent a second


def a_result(**changes: Any) -> Result:
    recipe = {"task": {"type": "T", "data": "d", "seed": 0}, "model": "m", "method": {"name": "lora"}, "epochs": 2, "seed": 3}
    usage = {"train": Usage(seconds=8.0, cpu_energy_j=50.0), "evaluate": Usage(seconds=2.0, cpu_energy_j=10.0)}
    fields = {
        "recipe_id": "r1",
        "run_id": "run1",
        "recipe": recipe,
        "settings": {"method": "lora", "lora.r": 8, "epochs": 2, "averaging": None},
        "status": "complete",
        "scores": {"f1": 60.0, "dev_loss": 0.5},
        "usage": usage,
        "spent": {"train": Usage(seconds=20.0)},
        "labels": 100,
        "step": 7,
        "started": 1.0,
        "finished": 2.0,
    }
    return Result(**(fields | changes))


def on(data: str | None, seed: int | None = 0, **changes: Any) -> Result:
    return a_result(recipe={**a_result().recipe, "task": {"type": "T", "data": data, "seed": seed}}, **changes)


def test_a_result_survives_json() -> None:
    result = a_result(trainable_parameters=12, provenance={"git": None, "versions": {"torch": "2"}}, offer={"id": "o"}, trial=4)
    record = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert record["schema"] == SCHEMA == 1
    assert Result.from_json(record) == result
    assert Result.from_json(record).usage["train"].seconds == 8.0


def test_a_compact_record_says_common_sources_once_and_reads_the_same() -> None:
    windows = {name: Usage(1.0, sources={"cpu_seconds": "a long text", "seconds": name}) for name in ("load", "train")}
    result = a_result(usage=windows, spent={"train": windows["train"]})
    record = json.loads(json.dumps(result.to_json(compact=True)))
    assert json.dumps(record).count("a long text") == 1
    assert Result.from_json(record) == result
    assert Result.from_json(a_result(usage={}, spent={}).to_json(compact=True)) == a_result(usage={}, spent={})


@pytest.mark.parametrize(
    ("status", "reason", "cause"),
    [
        ("infeasible", "out_of_memory: 24 GiB", Cause.OUT_OF_MEMORY),
        ("infeasible", "diverged: the training loss is nan", Cause.DIVERGED),
        ("infeasible", "fault: no such layer: x", Cause.FAULT),
        ("interrupted", "fault: the disk is full.", Cause.FAULT),
        ("interrupted", "bug: KeyError: 1", Cause.BUG),
        ("interrupted", "died: its worker (process 7 on host) is gone", Cause.DIED),
        ("interrupted", "stopped: by a person", Cause.STOPPED_BY_PERSON),
        ("interrupted", "stopped: by SIGTERM", Cause.STOPPED_BY_SIGNAL),
        ("interrupted", "stopped: the budget of $1.00 is spent ($0.9999)", Cause.STOPPED_BY_BUDGET),
        ("interrupted", "canceled: manually canceled", Cause.CANCELED),
        ("interrupted", "failed: so", Cause.FAILED),
        ("interrupted", "success: the file has no test accuracy", Cause.UNKNOWN),
        ("interrupted", "", None),
        ("complete", "", None),
        ("running", "", None),
    ],
)
def test_a_record_without_a_cause_has_the_one_that_its_reason_told(status: str, reason: str, cause: Cause | None) -> None:
    record = a_result(status=status, reason=reason).to_json()
    del record["cause"]
    read = Result.from_json(record)
    assert (read.cause, read.reason) == (cause, reason)
    again = json.loads(json.dumps(read.to_json()))
    assert again["cause"] == (None if cause is None else str(cause))
    assert Result.from_json(again) == read


def test_a_cause_that_only_a_later_version_knows_is_read_as_unknown() -> None:
    record = a_result(status="interrupted").to_json() | {"cause": "struck_by_lightning"}
    assert Result.from_json(record).cause is Cause.UNKNOWN


def test_an_offer_on_record_names_its_machine_though_only_its_name_did_before() -> None:
    there = {"name": "q:four:us:on_demand", "usd_per_hour": "14.4", "date": "2026-01-01"}
    record = a_result(offer=there, spent={"train": Usage(100.0, gpu_seconds=100.0)}).to_json()
    record["provenance"] = {"device": {"gpus": [{"name": "NVIDIA L40S"}]}}
    read = Result.from_json(record)
    assert (read.offer["platform"], read.offer["instance"], read.offer["gpus"]) == ("q", "four", 1)
    assert same_machine(read, Offer("q", "four", "NVIDIA L40S", 1, "eu", "spot", Decimal(9), "x", "2026"))
    assert not same_machine(read, Offer("q", "other", "NVIDIA L40S", 1, "", "spot", Decimal(9), "x", "2026"))
    assert spending([read], HOUR, 0.0).usd == pytest.approx(0.4)
    assert read.paid is not None
    assert read.paid.usd_per_hour == Decimal("14.4")
    assert a_result().paid is None


def test_the_number_of_its_trial_is_the_ledgers_to_give() -> None:
    assert "number" not in a_result(number=5).to_json()


def test_what_was_not_measured_stays_unknown_in_json() -> None:
    result = a_result(usage={"train": Usage(seconds=1.0, cpu_energy_j=None, gpu_seconds=None)})
    again = Result.from_json(json.loads(json.dumps(result.to_json())))
    assert again.usage["train"].cpu_energy_j is None
    assert again.usage["train"].gpu_seconds is None
    assert again.cold.energy_j is None


def test_a_record_of_a_later_schema_can_be_read() -> None:
    record = a_result().to_json() | {
        "schema": 2,
        "carbon": 3,
        "usage": {"train": Usage(seconds=1.0).to_json() | {"network_bytes": 5}},
    }
    assert Result.from_json(record) == a_result(usage={"train": Usage(seconds=1.0)})


def test_a_record_without_what_may_be_left_out_can_be_read() -> None:
    needed = {"recipe_id": "a", "run_id": "b", "recipe": {}, "settings": {}, "status": "interrupted"}
    assert Result.from_json(needed) == Result(**needed)  # type: ignore[arg-type]


def test_what_a_result_tells_of_its_recipe() -> None:
    result = a_result()
    assert (result.model, result.method, result.seed, result.epochs) == ("m", "lora", 3, 2.0)
    assert result.cold.seconds == 10.0
    assert result.consumed.seconds == 20.0


@pytest.mark.parametrize(
    "name, expected",
    [("usd", 0.01 + 25), ("usd_compute", 0.01), ("usd_labels", 25), ("labels", 100), ("seconds", 10), ("energy_j", 60)],
)
def test_costs_are_views_of_what_was_used_from_cold(name: str, expected: float) -> None:
    assert cost(a_result(), name, HOUR, 0.25) == pytest.approx(expected)


def test_every_cost_that_a_study_can_minimise_is_a_view() -> None:
    assert all(cost(a_result(), name, HOUR, 0.25) is not None for name in MINIMIZABLE)


@pytest.mark.parametrize(
    "name, reference, written, usd_each",
    [
        ("usd", 86.4 + 24 * 0.15 + 50.0, "$7,200.00", 1.0),
        ("usd_compute", 86.4 + 24 * 0.15, "$7,200.00", 1.0),
        ("labels", 2000.0, "7,200 labels", 0.25),
        ("seconds", 86400.0, "2 h 00 min", 0.001),
        ("energy_j", 86.4e6, "7,200 J", None),
        ("grams_co2e", 43200.0, "7200 g CO2e", None),
        ("gpu_seconds", None, "2 GPU-hours", None),
        ("usd_labels", None, "$7,200.00", 1.0),
    ],
)
def test_a_cost_says_its_reference_its_words_and_its_price(
    name: str, reference: float | None, written: str, usd_each: float | None
) -> None:
    asked, offer = COSTS[name], dataclasses.replace(HOUR, amount=Decimal("3.6"), usd_per_kwh=Decimal("0.15"))
    assert (asked.name, asked.text(7200.0)) == (name, written)
    assert asked.reference is None or asked.reference(offer, 200.0, 0.25) == pytest.approx(reference)
    assert (name in MINIMIZABLE) == (reference is not None)
    assert asked.usd_each(offer, 0.25) == pytest.approx(usd_each)


def test_an_unknown_cost_is_none_and_one_that_does_not_exist_is_a_bug() -> None:
    result = a_result(usage={"train": Usage(seconds=1.0, cpu_energy_j=None)})
    assert cost(result, "energy_j", HOUR, 0.0) is None
    with pytest.raises(KeyError):
        cost(result, "grams", HOUR, 0.0)


def test_what_was_spent_counts_every_segment_and_each_label_once() -> None:
    results = [
        a_result(labels=100),
        a_result(labels=100),
        a_result(labels=250, run_id="run2"),
        a_result(labels=0, status="interrupted", scores={}, usage={}),
        a_result(labels=40, status="infeasible", scores={}),
        on("other", labels=10),
    ]
    assert labels_bought(results) == {"d/0": 250, "other/0": 10}
    assert spent_usd(results, HOUR, 2.0) == pytest.approx(6 * 20.0 * 0.001 + 2.0 * 260)
    assert spent_usd(results, HOUR, 0.0) == pytest.approx(0.12)
    assert spent_usd([], HOUR, 2.0) == 0


def test_labels_of_another_order_are_other_labels() -> None:
    """A smaller training set is a prefix of a larger one only under the same seed."""
    assert labels_bought([on("d", 0, labels=5), on("d", 1, labels=7), on("d", 0, labels=3)]) == {"d/0": 5, "d/1": 7}
    assert labels_bought([on(None, None, labels=5)]) == {"None/None": 5}


def test_a_result_is_written_once() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_result().status = "complete"  # type: ignore[misc]


# Another machine

L40S = Offer("q", "one", "L40S", 1, "", "on_demand", Decimal("1.0"), "here", "2026-01-01")
A100 = Offer("q", "other", "A100-80GB", 1, "", "on_demand", Decimal("2.0"), "here", "2026-01-01")


def on_gpu(**changes: Any) -> Result:
    held = {"gpu_seconds": 8.0, "gpu_board_energy_j": 800.0, "devices": (DeviceUsage("GPU-a", "NVIDIA L40S", 8.0),)}
    usage = {"load": Usage(seconds=2.0, gpu_seconds=2.0), "train": Usage(seconds=8.0, work=Work(examples=16, flops=1e12), **held)}
    source = {"device": {"gpus": [{"name": "NVIDIA L40S", "uuid": "GPU-a"}]}}
    return a_result(usage=usage, provenance=source, offer={"id": "o", "platform": "q", "instance": "one"}, **changes)


def test_the_same_gpu_is_as_measured_at_any_price() -> None:
    dearer = dataclasses.replace(L40S, platform="r", amount=Decimal(3))
    for offer, usd in ((L40S, 10 / 3600), (dearer, 30 / 3600)):
        found = estimate(on_gpu(), "usd_compute", offer, 0.0)
        assert found is not None
        assert (found.basis, found.value) == ("measured", pytest.approx(usd))
        assert found.low == found.high == found.value


def test_another_gpu_is_scaled_with_a_band_and_the_record_stays() -> None:
    result = on_gpu()
    before = result.to_json()
    found = estimate(result, "usd", A100, 0.5)
    assert found is not None
    assert found.basis == "scaled"
    assert found.low < found.value < found.high
    assert found.value > 50.0  # a hundred labels
    seconds = estimate(result, "seconds", A100, 0.0)
    assert seconds is not None
    assert seconds.low > 2.0  # loading is not scaled
    assert cost(result, "usd", A100, 0.5) == found.value
    assert result.to_json() == before


def test_a_desktop_says_nothing_of_a_run_on_a_gpu() -> None:
    desktop = Offer("local", "cpu", "", 0, "", "owned", Decimal("0.05"), "here", "2026-01-01")
    assert estimate(on_gpu(), "usd", desktop, 0.0) is None
    assert carried(on_gpu(), desktop) is None


def test_what_was_spent_elsewhere_is_what_was_paid_there() -> None:
    desktop = Offer("local", "cpu", "", 0, "", "owned", Decimal("0.05"), "here", "2026-01-01")
    paid = {"id": "o", "platform": "q", "instance": "four", "usd_per_hour": "14.4", "gpus": 4}
    elsewhere = dataclasses.replace(on_gpu(spent={"train": Usage(100.0, gpu_seconds=100.0)}), offer=paid)
    assert spending([elsewhere], desktop, 0.0).usd == pytest.approx(0.1)
    assert spending([elsewhere], L40S, 0.0).usd == pytest.approx(0.1)
    metered = {**paid, "gpus": 0, "usd_per_hour": "3.6", "usd_per_kwh": "0.36"}
    at_home = dataclasses.replace(elsewhere, offer=metered, spent={"train": Usage(1.0, cpu_energy_j=1e5)})
    assert spending([at_home], L40S, 0.0).usd == pytest.approx(0.001 + 0.01)


def test_labels_that_an_older_form_of_the_study_bought_are_not_spent_again() -> None:
    before = a_result(labels=80, spent={}, provenance={"taken_over_from": "older"})
    spent = spending([before, a_result(labels=100), a_result(labels=60)], HOUR, 1.0)
    assert (spent.labels, spent.usd) == (20, pytest.approx(20 + 0.04))
    assert labels_bought([before, a_result(labels=60)]) == {"d/0": 80}


def test_a_machine_with_another_gpu_is_another_machine_whatever_was_said() -> None:
    mistaken = dataclasses.replace(on_gpu(), offer={"id": A100.id, "platform": "q", "instance": "other"})
    found = estimate(mistaken, "usd", A100, 0.0)
    assert found is not None
    assert found.basis == "scaled"


def test_a_run_that_is_no_point_yet_has_no_cold_cost() -> None:
    unfinished = a_result(status="interrupted", usage={})
    for name in ("usd", "usd_compute", "seconds", "energy_j", "grams_co2e"):
        assert estimate(unfinished, name, HOUR, 1.0) is None
        assert cost(unfinished, name, HOUR, 1.0) is None


def test_the_documents_means_are_of_tuning_and_of_pre_training_examples() -> None:
    phases = {
        "pretrain": Usage(seconds=100.0, work=Work(examples=1000)),
        "train": Usage(seconds=8.0),
        "evaluate": Usage(seconds=2.0),
    }
    both = mean_costs(a_result(usage=phases, examples=40, offer={"id": HOUR.id}), HOUR)
    assert both.pretraining_example == pytest.approx(0.1 / 1000)
    assert both.tuning_example == pytest.approx(0.008 / 40)
    assert both.sum == pytest.approx(0.1 / 1000 + 0.008 / 40)
    tuned = mean_costs(a_result(examples=40, offer={"id": HOUR.id}), HOUR)
    assert (tuned.pretraining_example, tuned.sum) == (None, tuned.tuning_example)
    assert mean_costs(a_result(), HOUR).sum is None


def test_grams_follow_joules() -> None:
    desktop = Offer("local", "cpu", "", 0, "FRA", "owned", Decimal("0.05"), "here", "2026-01-01")
    grams = cost(a_result(), "grams_co2e", desktop, 0.0)
    assert grams == pytest.approx(60 / 3.6e6 * 56.039)
    assert cost(a_result(usage={"train": Usage(1.0, cpu_energy_j=None)}), "grams_co2e", desktop, 0.0) is None
