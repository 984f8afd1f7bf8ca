"""The four factors of efficiency: what they are made of, that they multiply to the share of the peak, and that unknown stays so."""

from dataclasses import replace
from typing import Any

import pytest

from workbench.forecast import Calibration
from workbench.report.efficiency import efficiency_record, efficiency_rows, efficiency_text
from workbench.result import Result
from workbench.result.efficiency import efficiency
from workbench.usage import DeviceUsage, Usage, Work

CPU = {"device": {"cpu": "some CPU", "cpus_held": 2.0, "gpus": []}}
HERE = Calibration("2 x some CPU", "2026-01-01", {}, (), peak_flops=1e11)


def result(status: str = "complete", spent: dict[str, Usage] | None = None, **more: Any) -> Result:
    spent = (
        {"load": busy(2.0), "train": busy(6.0, 60, 80, 2.4e11), "evaluate": busy(2.0, 20, 20, 0.6e11)} if spent is None else spent
    )
    return Result(recipe_id="a", run_id="a", recipe={}, settings={}, status=status, spent=spent, provenance=CPU, **more)


def busy(seconds: float, tokens: int = 0, padded: int = 0, flops: float | None = 0.0) -> Usage:
    return Usage(seconds=seconds, work=Work(tokens=tokens, padded_tokens=padded, flops=flops, formula="f"))


def test_the_factors_multiply_to_the_share_of_the_peak_that_became_results() -> None:
    broken = result("interrupted", {"train": busy(5.0, 20, 25, 1e11)})
    found = efficiency([result(), broken], 1e11)
    assert found.useful_tokens == pytest.approx(100 / 125)
    assert found.useful_work == pytest.approx(3e11 / 4e11)
    assert found.execution == pytest.approx(4e11 * 125 / 100 / (13.0 * 1e11))
    assert found.busy == pytest.approx(13 / 15)
    # What finished work needed, by what the machine could have done in all the time: nothing else is left of the product.
    assert found.peak_share == pytest.approx(3e11 / (15.0 * 1e11))


def test_what_is_unknown_stays_unknown() -> None:
    without_peak = efficiency([result()])
    assert without_peak.useful_tokens == pytest.approx(0.8)
    assert (without_peak.execution, without_peak.peak_share) == (None, None)
    uncounted = efficiency([result(spent={"load": busy(1.0), "train": busy(3.0)})], 1e11)
    assert (uncounted.useful_tokens, uncounted.useful_work, uncounted.execution, uncounted.peak_share) == (None,) * 4
    assert uncounted.busy == pytest.approx(0.75)
    one_unknown = efficiency([result(), result("interrupted", {"train": busy(3.0, 10, 10, None)})], 1e11)
    assert (one_unknown.useful_work, one_unknown.peak_share) == (None, None)
    nothing = efficiency([], 1e11)
    assert (nothing.useful_tokens, nothing.useful_work, nothing.execution, nothing.busy) == (None,) * 4


def test_a_gpu_is_busy_while_kernels_run_and_held_all_the_time() -> None:
    gpu = DeviceUsage("GPU-1", seconds=4.0, busy_seconds=3.0)
    train = replace(busy(2.0, 10, 10, 9e12), gpu_seconds=4.0, gpu_busy_seconds=3.0, devices=(gpu,))
    found = efficiency([result(spent={"train": train})], 1e13)
    assert found.busy == pytest.approx(3 / 4)
    assert found.execution == pytest.approx(9e12 / (3 * 1e13))
    dark = efficiency([result(spent={"train": replace(train, gpu_seconds=None, gpu_busy_seconds=None)})], 1e13)
    assert (dark.busy, dark.execution) == (None, None)


def test_a_share_of_a_host_is_held_and_not_all_of_it() -> None:
    half = replace(busy(10.0, 10, 10, 1e11), others_seconds=5.0)
    found = efficiency([result(spent={"train": half})], 1e11)
    assert found.execution == pytest.approx(1e11 / (5.0 * 1e11))


def test_a_peak_counts_for_its_own_machine_alone() -> None:
    assert efficiency_record([result()], HERE)["peak_flops"] == 1e11
    assert efficiency_record([result()], replace(HERE, machine="4 x another CPU"))["peak_flops"] is None
    elsewhere = replace(result(), provenance={"device": {"gpus": [{"name": "a GPU"}]}})
    assert efficiency_record([result(), elsewhere], HERE)["peak_flops"] is None
    assert efficiency_record([result()], replace(HERE, peak_flops=None))["peak_share"] is None


def test_it_is_said_in_words() -> None:
    told = efficiency_text([result()], HERE)
    assert told == (
        "30 % of the machine's peak (100 GFLOP/s): 80 % tokens that are no padding x 100 % work that was finished x 46.9 % "
        "speed while computing x 80 % time spent computing."
    )
    unknown = efficiency_text([result()])
    assert unknown.startswith("80 % tokens")
    assert "speed while computing" not in unknown
    assert "--calibrate" in unknown
    assert efficiency_text([]) == ""
    assert efficiency_text([result(spent={"load": busy(1.0)})], HERE) == ""
    assert [row["share"] for row in efficiency_rows([result()], HERE)] == ["80 %", "100 %", "46.9 %", "80 %", "30 %"]


def test_the_record_has_the_product_of_its_factors() -> None:
    record = efficiency_record([result()], HERE)
    product = 1.0
    for name in ("useful_tokens", "useful_work", "execution", "busy"):
        product *= record[name] or 0.0
    assert record["peak_share"] == pytest.approx(product)
