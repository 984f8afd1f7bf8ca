"""What a point costs beside its making: serving, break-even, and what its cost is divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench import carbon, prices
from workbench.estimate import Estimate
from workbench.front.view import View
from workbench.result import Result, carried, mean_costs, same_machine
from workbench.usage import Usage, add_phases, total


@dataclass(frozen=True)
class Serving:
    """What predictions of a point cost on the view's machine.

    Attributes:
        usd_per_1000: US$ for 1,000 predictions at the stated load, with its band.
        predictions_per_second: Throughput of one device there, with its band.
        latency_seconds: Seconds of one prediction alone, as measured; None on another device.
    """

    usd_per_1000: Estimate
    predictions_per_second: Estimate
    latency_seconds: float | None


def serving(result: Result, view: View, load_per_second: float | None = None) -> Serving | None:
    """What serving a point costs, from its measured throughput; None where that was not measured, or says nothing of the device.

    On another device the throughput is carried over as its evaluation is, and its band with it.

    Args:
        result: A point.
        view: Prices.
        load_per_second: Predictions asked for, on average; None for a machine that is fully used.
    """
    measured = result.serving.get("predictions_per_second")
    evaluation = result.usage.get("evaluate")
    if not measured or evaluation is None or not evaluation.seconds:
        return None
    same, contended = same_machine(result, view.offer), bool(result.contended)
    there = prices.carry({"evaluate": evaluation}, result.device, view.offer, same_machine=same, contended=contended)
    if there is None or not there.seconds.low:
        return None
    seconds = there.seconds
    fast, slow, best = (measured * evaluation.seconds / each for each in (seconds.low, seconds.high, seconds.value))
    speed = Estimate(best, slow, fast, there.basis, there.note)
    joules, examples = there.phases["evaluate"].energy_j, evaluation.work.examples
    per_prediction = joules / examples if joules is not None and examples else None
    usd = [
        prices.serving_usd_per_1000(view.offer, rate, load_per_second, energy_j_per_prediction=per_prediction)
        for rate in (speed.value, speed.high, speed.low)
    ]
    value, low, high = usd
    if value is None or low is None or high is None:
        return None
    # The median of a few single predictions: a burst of others does not move it.
    latency = result.serving.get("latency_seconds") if there.basis in ("measured", "contended") else None
    return Serving(Estimate(value, low, high, there.basis, there.note), speed, latency)


@dataclass(frozen=True)
class BreakEven:
    """How a point compares with a rival as predictions are made, making and serving together.

    Attributes:
        predictions: After how many both have cost the same; None where they never do.
        cheaper_before: Whether the point is the cheaper one until then, or from the start where they never meet.
    """

    predictions: float | None
    cheaper_before: bool


def break_even(rival: Result, point: Result, view: View, load_per_second: float | None = None) -> BreakEven | None:
    """After how many predictions a point and its rival have cost the same; None where a cost is unknown."""
    usd = [view.cost(r, "usd") for r in (rival, point)]
    serve = [serving(r, view, load_per_second) for r in (rival, point)]
    if usd[0] is None or usd[1] is None or serve[0] is None or serve[1] is None:
        return None
    each = [s.usd_per_1000.value for s in serve if s is not None]
    meet = prices.break_even_predictions(usd[0], each[0], usd[1], each[1])
    return BreakEven(meet or None, (usd[1], each[1]) < (usd[0], each[0]))


def peak_share(result: Result) -> float | None:
    """Achieved FLOP/s of training over the peak of its GPU by the datasheet, dense; None where either is unknown.

    The tokens' FLOPs count, padding does not. The peak is that of the precision it trained in.
    """
    train = result.undisturbed.get("train")
    gpu = prices.gpu(result.device) if result.device else None
    achieved = train.flops_per_second if train else None
    peak = gpu and (gpu.fp32_tflops if result.recipe.get("precision") == "float32" else gpu.tensor_tflops)
    return achieved / (peak * 1e12) if achieved and peak else None


def phases_spent(results: Sequence[Result]) -> dict[str, Usage]:
    """What was really consumed, by phase, over all Results."""
    spent: dict[str, Usage] = {}
    for result in results:
        spent = add_phases(spent, result.spent)
    return spent


def bill_record(r: Result, view: View) -> dict[str, Any]:
    """A point's costs with their band, and the denominators of its cost."""
    usd, mean, there = view.estimate(r, "usd"), mean_costs(r, view.offer), carried(r, view.offer)
    train = r.undisturbed.get("train", Usage())
    return {
        "basis": None if usd is None else usd.basis,
        "contended": r.contended,
        "stalled_seconds": r.cold.stalled_seconds if r.usage else None,
        "seconds_measured": r.cold.seconds if r.usage else None,
        "usd_low": None if usd is None else usd.low,
        "usd_high": None if usd is None else usd.high,
        "grams_co2e": view.cost(r, "grams_co2e"),
        "embodied_grams_co2e": None if there is None else carbon.embodied_grams_co2e(total(there.phases.values()), view.offer),
        "usd_per_pretraining_example": mean.pretraining_example,
        "usd_per_tuning_example": mean.tuning_example,
        "usd_mean_costs": mean.sum,
        "flops": train.work.flops or None,
        "flops_formula": train.work.formula or None,
        "flops_per_second": train.flops_per_second,
        "peak_share": peak_share(r),
        "tokens": r.tokens,
        "padded_tokens": train.work.padded_tokens or None,
    }


def serving_record(r: Result, view: View, load_per_second: float | None, against: Result | None) -> dict[str, Any]:
    """What serving a point costs, and after how many predictions it has overtaken `against`."""
    served = serving(r, view, load_per_second)
    meets = None if against is None or against is r else break_even(against, r, view, load_per_second)
    return {
        "usd_per_1000_predictions": None if served is None else served.usd_per_1000.value,
        "predictions_per_second": None if served is None else served.predictions_per_second.value,
        "latency_seconds": None if served is None else served.latency_seconds,
        "break_even_predictions": None if meets is None else meets.predictions,
        "cheaper_before_break_even": None if meets is None else meets.cheaper_before,
    }
