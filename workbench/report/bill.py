"""The bill of a point as plain data: its costs with their bands, what they are divided by, and serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench import carbon, prices
from workbench.front.objectives import View
from workbench.front.serving import Form, Load, break_even, serving
from workbench.result import Result, carried, mean_costs
from workbench.usage import Usage, add_phases, total

PHASE_MEANINGS = {
    "provision": "programs, models and data made ready",
    "load": "the model's weights read",
    "data": "examples encoded",
    "pretrain": "what the model learned first",
    "train": "tuning",
    "evaluate": "grading on the dev set",
    "test": "grading on the test split",
    "checkpoint": "states and weights written",
    "decide": "choosing what is next",
    "idle": "the rest",
}
"""What is done in each phase, in a few words."""


def peak_share(result: Result) -> float | None:
    """Return the FLOP/s that training achieved, as a share of the GPU's dense peak by its datasheet; None where either is unknown.

    The FLOPs of tokens count, those of padding do not. The peak is that of the precision in which the recipe trains.
    """
    train = result.parts[0].undisturbed.get("train")  # its own machine's part: another one has another peak
    gpu = prices.gpu(result.device) if result.device else None
    # `undisturbed` leaves out the time that other programs
    # took: the share is that of this training alone.
    achieved = train.flops_per_second if train else None
    peak = gpu and (gpu.fp32_tflops if result.recipe.get("precision") == "float32" else gpu.tensor_tflops)
    return achieved / (peak * 1e12) if achieved and peak else None


def phases_spent(results: Sequence[Result]) -> dict[str, Usage]:
    """Return what was really consumed in each phase, over all Results."""
    spent: dict[str, Usage] = {}
    for result in results:
        spent = add_phases(spent, result.spent)
    return spent


def bill_record(r: Result, view: View) -> dict[str, Any]:
    """Return a point's costs with their bands, and the denominators of its mean costs, as plain data."""
    usd, mean, there = view.estimate(r, "usd"), mean_costs(r, view.offer), carried(r, view.offer)
    train = r.undisturbed.get("train", Usage())
    return {
        "basis": None if usd is None else usd.basis,
        "contended": r.contended,
        "stalled_seconds": r.cold.stalled_seconds if r.usage else None,
        # Without usage the Result is no point; a sum over
        # nothing would be 0 s, which reads as measured.
        "seconds_measured": r.cold.seconds if r.usage else None,
        "usd_low": None if usd is None else usd.low,
        "usd_high": None if usd is None else usd.high,
        "grams_co2e": view.cost(r, "grams_co2e"),
        "embodied_grams_co2e": None if there is None else carbon.embodied_grams_co2e(total(there.phases.values()), view.offer),
        "usd_per_pretraining_example": mean.pretraining_example,
        "usd_per_tuning_example": mean.tuning_example,
        "usd_mean_costs": mean.sum,
        # A count of 0 means that nothing was counted, which is unknown.
        "flops": train.work.flops or None,
        "flops_formula": train.work.formula or None,
        "flops_per_second": train.flops_per_second,
        "peak_share": peak_share(r),
        "tokens": r.tokens,
        "padded_tokens": train.work.padded_tokens or None,
    }


def form_records(r: Result, view: View, load: Load, forms: Sequence[Form]) -> list[dict[str, Any]]:
    """Return as plain data the forms of a point, each with what serving it costs."""
    return [
        {
            "form": each.name,
            "score": each.score,
            "bytes": each.bytes,
            "speedup": each.speedup,
            "answers_changed": each.answers_changed,
            **serving_record(r, view, load, each),
        }
        for each in forms
    ]


def serving_record(r: Result, view: View, load: Load, form: Form | None = None) -> dict[str, Any]:
    """Return as plain data what serving a point costs, and after how many predictions it has overtaken the one of the load."""
    served, against = serving(r, view, load.per_second, form), load.against
    # A point does not break even with itself.
    own = against is r and form is None
    meets = None if against is None or own else break_even(against, r, view, load.per_second, form)
    return {
        "usd_per_1000_predictions": None if served is None else served.usd_per_1000.value,
        "predictions_per_second": None if served is None else served.predictions_per_second.value,
        "latency_seconds": None if served is None else served.latency_seconds,
        "break_even_predictions": None if meets is None else meets.predictions,
        "cheaper_before_break_even": None if meets is None else meets.cheaper_before,
    }
