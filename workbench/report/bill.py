"""What a point costs beside its making: serving, break-even, and what its cost is divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench import prices
from workbench.report.view import View
from workbench.result import Result, carried, mean_costs
from workbench.usage import Usage, add_phases


@dataclass(frozen=True)
class Serving:
    """What predictions of a point cost on the view's machine.

    Attributes:
        usd_per_1000: US$ for 1,000 predictions at the stated load.
        predictions_per_second: Throughput of one device there.
        latency_seconds: Seconds of one prediction alone, as measured; None on another device.
    """

    usd_per_1000: float
    predictions_per_second: float
    latency_seconds: float | None


def serving(result: Result, view: View, load_per_second: float | None = None) -> Serving | None:
    """What serving a point costs, from its measured throughput; None where that was not measured, or says nothing of the device.

    On another device the throughput is carried over as its evaluation is.

    Args:
        result: A point.
        view: Prices.
        load_per_second: Predictions asked for, on average; None for a machine that is fully used.
    """
    there = carried(result, view.offer)
    measured = result.serving.get("predictions_per_second")
    if there is None or not measured or "evaluate" not in result.usage or not there.phases["evaluate"].seconds:
        return None
    speed = result.usage["evaluate"].seconds / there.phases["evaluate"].seconds
    joules = there.phases["evaluate"].energy_j
    examples = result.usage["evaluate"].work.examples
    per_prediction = joules / examples if joules is not None and examples else None
    usd = prices.serving_usd_per_1000(view.offer, measured * speed, load_per_second, energy_j_per_prediction=per_prediction)
    latency = result.serving.get("latency_seconds") if there.basis == "measured" else None
    return None if usd is None else Serving(usd, measured * speed, latency)


def break_even(a: Result, b: Result, view: View, load_per_second: float | None = None) -> float | None:
    """After how many predictions two points have cost the same, making and serving together; None where never, or unknown."""
    usd = [view.cost(r, "usd") for r in (a, b)]
    serve = [serving(r, view, load_per_second) for r in (a, b)]
    if usd[0] is None or usd[1] is None or serve[0] is None or serve[1] is None:
        return None
    return prices.break_even_predictions(usd[0], serve[0].usd_per_1000, usd[1], serve[1].usd_per_1000)


def peak_share(result: Result) -> float | None:
    """Achieved FLOP/s of training over the peak of its GPU by the datasheet, dense; None where either is unknown.

    The tokens' FLOPs count, padding does not. The peak is that of the precision it trained in.
    """
    train = result.usage.get("train")
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
    usd, mean = view.estimate(r, "usd"), mean_costs(r, view.offer)
    train = r.usage.get("train", Usage())
    return {
        "basis": None if usd is None else usd.basis,
        "usd_low": None if usd is None else usd.low,
        "usd_high": None if usd is None else usd.high,
        "grams_co2e": view.cost(r, "grams_co2e"),
        "usd_per_pretraining_example": mean.pretraining_example,
        "usd_per_tuning_example": mean.tuning_example,
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
    return {
        "usd_per_1000_predictions": None if served is None else served.usd_per_1000,
        "predictions_per_second": None if served is None else served.predictions_per_second,
        "latency_seconds": None if served is None else served.latency_seconds,
        "break_even_predictions": None if against is None else break_even(against, r, view, load_per_second),
    }
