"""Bills as platforms round them, predictions served, and the point where one model overtakes another."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import prices
from workbench.errors import UsageError
from workbench.prices import Offer
from workbench.usage import Usage

GPU = Offer("p", "big", "H100", 8, "", "on_demand", Decimal("28.8"), "here", "2026", billing_seconds=60, minimum_seconds=120)
OWNED = Offer("desk", "cpu", "", 0, "", "owned", Decimal("3.6"), "here", "2026", usd_per_kwh=Decimal("0.3"))


@pytest.mark.parametrize("seconds, billed", [(0, 0), (1, 120), (120, 120), (121, 180), (180, 180), (3601, 3660)])
def test_time_is_rounded_up_as_it_is_billed(seconds: float, billed: float) -> None:
    assert prices.billed_seconds(seconds, GPU) == billed
    assert prices.billed_usd(seconds, GPU) == pytest.approx(billed * 0.008)


def test_the_platforms_own_rounding_stands_where_an_offer_states_none() -> None:
    aws, lambda_ = prices.find("aws:g6.xlarge"), prices.find("lambda:gpu_1x_a6000")
    assert prices.billed_seconds(10, aws) == 60
    assert prices.billed_seconds(60.5, aws) == 61
    assert prices.billed_seconds(61, lambda_) == 120
    assert prices.billed_seconds(10, replace(aws, minimum_seconds=0)) == 10


def test_rounding_that_is_unknown_is_no_rounding_to_rely_on() -> None:
    assert prices.billed_usd(10, prices.find("azure")) is None
    assert prices.billed_usd(10, prices.find("vast")) is None  # by the second, and the minimum is not known
    assert prices.billed_usd(10, replace(GPU, billing_seconds=None, minimum_seconds=None)) is None


def test_the_whole_instance_is_billed_and_an_owner_pays_what_was_used() -> None:
    held = Usage(seconds=3600.0, gpu_seconds=3600.0)
    assert prices.usd(held, GPU) == pytest.approx(3.6)
    assert prices.billed_usd(3600, GPU) == pytest.approx(28.8)
    assert prices.billed_usd(1, OWNED) is None
    assert prices.billed_usd(1, OWNED, energy_j=3.6e6) == pytest.approx(0.301)
    assert prices.billed_usd(1, replace(OWNED, usd_per_kwh=None)) == pytest.approx(0.001)


@given(st.floats(0, 1e7), st.floats(0, 1e7), st.floats(0.1, 7200), st.floats(0, 7200), st.integers(1, 8))
def test_a_bill_grows_with_time_and_is_never_below_direct(
    seconds: float, more: float, step: float, least: float, held: int
) -> None:
    offer = replace(GPU, billing_seconds=step, minimum_seconds=least)
    bill, longer = prices.billed_usd(seconds, offer), prices.billed_usd(seconds + more, offer)
    direct = prices.usd(Usage(seconds=seconds, gpu_seconds=seconds * held), offer)
    assert bill is not None
    assert longer is not None
    assert direct is not None
    assert longer >= bill
    assert bill >= direct * (1 - 1e-12)


def test_serving_at_full_use_and_at_a_load() -> None:
    one = replace(GPU, gpus=1, amount=Decimal("3.6"))  # a tenth of a cent a second
    assert prices.serving_usd_per_1000(one, 10) == pytest.approx(0.1)
    assert prices.serving_usd_per_1000(one, 10, 10) == pytest.approx(0.1)
    assert prices.serving_usd_per_1000(one, 10, 1) == pytest.approx(1.0)  # nine tenths of the machine wait
    assert prices.serving_usd_per_1000(one, 10, 11) == pytest.approx(2 * 0.001 / 11 * 1000)
    assert prices.serving_usd_per_1000(one, 1 / 3, 1) == pytest.approx(3.0)
    assert prices.serving_usd_per_1000(GPU, 10) == pytest.approx(0.1)  # all eight at work
    assert prices.serving_usd_per_1000(GPU, 10, 1) == pytest.approx(8.0)  # and rented whole


def test_serving_on_ones_own_machine_needs_the_joules() -> None:
    assert prices.serving_usd_per_1000(OWNED, 10) is None
    assert prices.serving_usd_per_1000(OWNED, 10, energy_j_per_prediction=3600) == pytest.approx(0.1 + 0.3)


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e5))
def test_a_load_is_never_cheaper_than_full_use(throughput: float, load: float) -> None:
    full, at_load = prices.serving_usd_per_1000(GPU, throughput), prices.serving_usd_per_1000(GPU, throughput, load)
    assert full is not None
    assert at_load is not None
    assert at_load >= full * (1 - 1e-8)


@pytest.mark.parametrize("throughput, load", [(0, None), (-1, None), (1, 0), (1, float("inf")), (float("nan"), None)])
def test_a_throughput_or_load_of_nothing_is_refused(throughput: float, load: float | None) -> None:
    with pytest.raises(UsageError, match="must be above 0 predictions a second"):
        prices.serving_usd_per_1000(GPU, throughput, load)


def test_where_two_models_have_cost_the_same() -> None:
    assert prices.break_even_predictions(11.0, 0.5, 1.0, 1.5) == pytest.approx(10_000)
    assert prices.break_even_predictions(1.0, 1.5, 11.0, 0.5) == pytest.approx(10_000)
    assert prices.break_even_predictions(1.0, 0.5, 11.0, 1.5) is None  # cheaper in both: never overtaken
    assert prices.break_even_predictions(1.0, 0.5, 2.0, 0.5) is None
    assert prices.break_even_predictions(1.0, 0.5, 1.0, 0.7) == 0


amounts = st.floats(0.001, 1000)


@given(amounts, amounts, amounts, amounts)
def test_at_the_break_even_both_cost_the_same(train_a: float, serve_a: float, train_b: float, serve_b: float) -> None:
    n = prices.break_even_predictions(train_a, serve_a, train_b, serve_b)
    if n is not None:
        assert train_a + n * serve_a / 1000 == pytest.approx(train_b + n * serve_b / 1000, rel=1e-6)
