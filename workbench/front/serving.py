"""What serving a point costs, and after how many predictions a cheaper service has paid for a dearer training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from workbench import prices
from workbench.estimate import Estimate
from workbench.front.objectives import View
from workbench.result import Result, same_machine


@dataclass(frozen=True)
class Serving:
    """What the predictions of a point cost on the view's machine.

    Attributes:
        usd_per_1000: US$ for 1,000 predictions at the stated load, with their band.
        predictions_per_second: Throughput of one device of the machine, with its band.
        latency_seconds: Seconds that one prediction alone takes, as measured; None on another device.
    """

    usd_per_1000: Estimate
    predictions_per_second: Estimate
    latency_seconds: float | None


@dataclass(frozen=True)
class Load:
    """The load at which points are served, and the point that the others are compared with.

    Attributes:
        per_second: Predictions asked for each second, on average; None for a machine that is fully used.
        against: The point that break-evens are counted against; None for the cheapest of the front.
    """

    per_second: float | None = None
    against: Result | None = None


@dataclass(frozen=True)
class Form:
    """A point's model in another form than it was trained in, as it was measured when it was made: a point of its own in serving.

    Attributes:
        name: `onnx` or `int8`.
        score: The study's score on the dev set.
        bytes: Size of its file.
        predictions_per_second: In batches, on the CPU.
        latency_seconds: Median of one prediction alone.
        original_per_second: Predictions per second of the model as it was trained, on the same machine just before.
        original_latency_seconds: Its latency then.
        answers_changed: Share of the answers to the dev set that are others than the original's, 0 to 1: a score that stays may
            hide many. None where it was not counted.
    """

    name: str
    score: float
    bytes: int
    predictions_per_second: float
    latency_seconds: float
    original_per_second: float
    original_latency_seconds: float
    answers_changed: float | None = None

    @property
    def speedup(self) -> float:
        """How many times as fast as the original it predicts: of two that were measured together, what else a machine does is
        in neither's favour.
        """
        return self.predictions_per_second / self.original_per_second


def forms_of(records: Mapping[str, Any]) -> list[Form]:
    """The forms of a point, as a ledger has noted them; of a newer workbench's what is known here."""
    names = {each.name for each in fields(Form)}
    return [Form(**{key: value for key, value in one.items() if key in names}) for one in records.values()]


def serving(result: Result, view: View, load_per_second: float | None = None, form: Form | None = None) -> Serving | None:
    """Return what serving a point costs; None where its throughput was not measured, or cannot be carried to the device.

    The throughput is that of the point's evaluation. On another device it is scaled as the evaluation is, and has the
    band of that scaling.

    Args:
        result: A point.
        view: The prices.
        load_per_second: Predictions asked for, on average; None for a machine that is fully used.
        form: The form that is served: it is as much faster than the point as it was when both were measured, and takes as much
            less energy. Of a point that was measured on a GPU nothing is known, as forms are measured on CPUs.
    """
    if form is not None and result.device:
        return None
    faster = 1.0 if form is None else form.speedup
    measured = result.serving.get("predictions_per_second")
    evaluation = result.usage.get("evaluate")
    if not measured or evaluation is None or not evaluation.seconds:
        return None
    same, contended = same_machine(result, view.offer), bool(result.contended)
    there = prices.carry({"evaluate": evaluation}, result.device, view.offer, same_machine=same, contended=contended)
    if there is None or not there.seconds.low:
        return None
    seconds = there.seconds
    # The fewest seconds are the highest throughput: the ends of the band change places.
    fast, slow, best = (faster * measured * evaluation.seconds / each for each in (seconds.low, seconds.high, seconds.value))
    speed = Estimate(best, slow, fast, there.basis, there.note)
    joules, examples = there.phases["evaluate"].energy_j, evaluation.work.examples
    per_prediction = joules / examples / faster if joules is not None and examples else None
    usd = [
        prices.serving_usd_per_1000(view.offer, rate, load_per_second, energy_j_per_prediction=per_prediction)
        for rate in (speed.value, speed.high, speed.low)
    ]
    per_1000 = Estimate.of_ends(usd, there.basis, there.note)
    if per_1000 is None:
        return None
    # The median of a few single predictions: a burst of others does not move it.
    latency = result.serving.get("latency_seconds") if there.basis in ("measured", "contended") else None
    if form is not None and latency is not None:
        latency *= form.latency_seconds / form.original_latency_seconds
    return Serving(per_1000, speed, latency)


@dataclass(frozen=True)
class BreakEven:
    """How the whole cost of a point, training and serving, compares with that of a rival as predictions are made.

    Attributes:
        predictions: The number of predictions after which both have cost the same; None where they never do.
        cheaper_before: Whether the point is the cheaper one before that, or always where the two never meet.
    """

    predictions: float | None
    cheaper_before: bool


def break_even(
    rival: Result, point: Result, view: View, load_per_second: float | None = None, form: Form | None = None
) -> BreakEven | None:
    """Return after how many predictions a point, or a form of it, and its rival have cost the same; None: a cost is unknown."""
    usd = [view.cost(r, "usd") for r in (rival, point)]
    serve = [serving(rival, view, load_per_second), serving(point, view, load_per_second, form)]
    if usd[0] is None or usd[1] is None or serve[0] is None or serve[1] is None:
        return None
    each = [s.usd_per_1000.value for s in serve if s is not None]
    meet = prices.break_even_predictions(usd[0], each[0], usd[1], each[1])
    # Two that meet at 0 never meet again. Before a meeting the cheaper training leads; of equal
    # trainings the cheaper service.
    return BreakEven(meet or None, (usd[1], each[1]) < (usd[0], each[0]))
