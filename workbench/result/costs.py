"""What a point costs from cold, at any offer: as measured on the machine it ran on, carried over to another.

`COSTS` is the one table of all costs.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from workbench import carbon, prices
from workbench.estimate import Estimate, total
from workbench.prices import Carried, Offer
from workbench.quantities import count, dollars, duration, many, number
from workbench.result.record import Result
from workbench.usage import Usage

SECONDS_PER_DAY = 86400.0
DAY_JOULES = SECONDS_PER_DAY * 1000
"""Joules of a machine that draws 1 kW for a day: the reference of energy, and of what follows from it."""


class ComputeAmounts(Protocol):
    """What compute takes on the machine of an offer, as measured, carried over or forecast."""

    @property
    def seconds(self) -> Estimate:
        """Wall-clock seconds."""

    @property
    def gpu_seconds(self) -> Estimate | None:
        """GPUs held x seconds; None where it is unknown."""

    @property
    def usd(self) -> Estimate | None:
        """US$ of compute; None where it is unknown."""

    @property
    def energy_j(self) -> Estimate | None:
        """Joules of processors and GPU boards; None where it is unknown."""


class Axis(NamedTuple):
    """A cost as an axis of a figure.

    Attributes:
        title: The name of the cost, with its unit.
        unit: The unit in which it is read.
        per_unit: How many of the stored unit are one of this unit: an hour is 3,600 seconds.
    """

    title: str
    unit: str
    per_unit: float = 1.0

    @property
    def money(self) -> bool:
        """Whether the cost is in US$."""
        return self.unit == "US$"

    @property
    def counted(self) -> bool:
        """Whether the cost is a number of things, which is never rounded."""
        return self.unit == "labels"

    def text(self, stored: float) -> str:
        """Write a stored amount in this unit: `$0.0021`, `0.35 kWh`, `1,024 labels`."""
        value = stored / self.per_unit
        if self.counted:
            return f"{count(value)} {self.unit}"
        return dollars(value) if self.money else f"{number(float(value))} {self.unit}"


class Phrases(NamedTuple):
    """How sentences speak of a cost.

    Attributes:
        noun: What a score or a setting is compared with: `US$ of compute`.
        least: The point that costs least, after `the`: `cheapest`.
        saved: What a cheaper point saves, with a place for the share: `{} cheaper`.
    """

    noun: str
    least: str
    saved: str


@dataclass(frozen=True)
class Cost:
    """One cost of a point: what it is called, how it is written, and how it is worked out.

    A cost is the sum of what compute takes and of what the labels count for; most have one of the two only.

    Attributes:
        name: Its name in study files, records and columns.
        unit: The unit of a stored amount, as tables write it.
        phrases: How sentences speak of it.
        text: Writes a stored amount with its unit.
        axis: The axis of a figure that is drawn over it; None where none is.
        of_compute: The part that is due to compute, on the machine of an offer, in the stored unit; None (the function)
            where compute does not count, None (its value) where the part is unknown.
        per_label: What one label counts for, in the stored unit, by its price in US$; None where labels do not count.
        reference: The coordinate of a study's reference point, by its offer, the most labels that a run uses, and the
            price of a label. Nobody's model is worse than score 0 for a day of the machine (1 kW, 1.8 kg CO2e/kWh) with
            all labels bought. None for a cost that no study can minimise.
        usd_each: US$ for one stored unit, by offer and price of a label; its value is None where the cost has no price.
        least: The smallest amount that is told apart from 0, for logarithms.
    """

    name: str
    unit: str
    phrases: Phrases
    text: Callable[[float], str]
    axis: Axis | None = None
    of_compute: Callable[[ComputeAmounts, Offer], Estimate | None] | None = None
    per_label: Callable[[float], float] | None = None
    reference: Callable[[Offer, float, float], float] | None = None
    usd_each: Callable[[Offer, float], float | None] = lambda offer, label_usd: None
    least: float = 1e-12

    @property
    def pays_compute(self) -> bool:
        """Whether it holds US$ of compute, alone or beside labels."""
        return self.of_compute is _compute_usd

    def of_labels(self, labels: int, label_usd: float) -> float | None:
        """Return what so many labels count for, in the stored unit; None where labels do not count."""
        return None if self.per_label is None else labels * self.per_label(label_usd)

    @property
    def mixes_labels(self) -> bool:
        """Whether labels count beside compute."""
        return self.of_compute is not None and self.per_label is not None

    def of(self, there: ComputeAmounts | None, labels: int, offer: Offer, label_usd: float) -> Estimate | None:
        """Return the cost of compute and labels; None where it is unknown.

        Args:
            there: What compute takes on the machine of the offer; None where that is unknown.
            labels: How many distinct labels are used.
            offer: The priced machine.
            label_usd: Price of one labelled example in US$.
        """
        of_labels = self.of_labels(labels, label_usd)
        if self.of_compute is None:
            return None if of_labels is None else Estimate.exact(of_labels)
        compute = None if there is None else self.of_compute(there, offer)
        return compute if compute is None or of_labels is None else compute + Estimate.exact(of_labels)


def _compute_usd(there: ComputeAmounts, offer: Offer) -> Estimate | None:
    return there.usd


def _grams_co2e(there: ComputeAmounts, offer: Offer) -> Estimate | None:
    per_joule = carbon.grams_per_joule(offer)
    return None if there.energy_j is None or per_joule is None else there.energy_j * per_joule


def _day_usd(offer: Offer) -> float:
    """US$ of a day of the machine at 1 kW."""
    return float(offer.usd_per_hour) * 24 + (prices.electricity_usd(DAY_JOULES, offer) or 0.0)


def _second_usd(offer: Offer, label_usd: float) -> float | None:
    return prices.usd(Usage(1.0, gpu_seconds=1.0 if offer.gpus else 0.0), offer)


_GPU_HOURS = Axis("GPU-hours", "GPU-hours", 3600.0)
_KWH = Axis("energy, kWh", "kWh", prices.JOULES_PER_KWH)
_GRAMS = Axis("g CO2e", "g CO2e")

COSTS: Mapping[str, Cost] = {
    cost.name: cost
    for cost in (
        Cost(
            "usd",
            "US$",
            Phrases("US$", "cheapest", "{} cheaper"),
            dollars,
            Axis("US$, compute + labels (C + D)", "US$"),
            of_compute=_compute_usd,
            per_label=lambda label_usd: label_usd,
            reference=lambda offer, labels, label_usd: _day_usd(offer) + labels * label_usd,
            usd_each=lambda offer, label_usd: 1.0,
        ),
        Cost(
            "usd_compute",
            "US$ of compute",
            Phrases("US$ of compute", "cheapest to compute", "with {} less spent on compute"),
            dollars,
            Axis("US$, compute alone (C)", "US$"),
            of_compute=_compute_usd,
            reference=lambda offer, labels, label_usd: _day_usd(offer),
            usd_each=lambda offer, label_usd: 1.0,
        ),
        Cost(
            "usd_labels",
            "US$ of labels",
            Phrases("US$ of labels", "one with the cheapest labels", "with {} less spent on labels"),
            dollars,
            per_label=lambda label_usd: label_usd,
            usd_each=lambda offer, label_usd: 1.0,
        ),
        Cost(
            "gpu_seconds",
            "GPU-s",
            Phrases("gpu_seconds", "one with the least GPU time", "with {} less GPU time"),
            _GPU_HOURS.text,
            _GPU_HOURS,
            of_compute=lambda there, offer: there.gpu_seconds,
        ),
        Cost(
            "energy_j",
            "J",
            Phrases("energy", "one with the least energy", "with {} less energy"),
            lambda joules: _KWH.text(joules) if joules >= 0.1 * prices.JOULES_PER_KWH else f"{joules:,.0f} J",
            _KWH,
            of_compute=lambda there, offer: there.energy_j,
            reference=lambda offer, labels, label_usd: DAY_JOULES,
        ),
        Cost(
            "grams_co2e",
            "g CO2e",
            Phrases("CO2e", "one with the least CO2e", "with {} less CO2e"),
            _GRAMS.text,
            _GRAMS,
            of_compute=_grams_co2e,
            reference=lambda offer, labels, label_usd: DAY_JOULES * 1800 / prices.JOULES_PER_KWH,
        ),
        Cost(
            "seconds",
            "s",
            Phrases("seconds", "quickest", "in {} less time"),
            duration,
            Axis("seconds", "s"),
            of_compute=lambda there, offer: there.seconds,
            reference=lambda offer, labels, label_usd: SECONDS_PER_DAY,
            usd_each=_second_usd,
        ),
        Cost(
            "labels",
            "labels",
            Phrases("labels", "one with the fewest labels", "with {} fewer labels"),
            lambda labels: many(labels, "label"),
            Axis("labels bought (D)", "labels"),
            per_label=lambda label_usd: 1.0,
            reference=lambda offer, labels, label_usd: 10.0 * labels,
            # Labels that cost nothing have no price to be weighed by.
            usd_each=lambda offer, label_usd: label_usd or None,
            least=1.0,  # no label counts as one
        ),
    )
}
"""What a point costs, by name: US$ of compute and labels together and apart, labels, and physical quantities.

The objective is `minimise C + D, maximise P`. C is `usd_compute`: what loading, data, pre-training, training and one
evaluation cost, seconds held x the offer's rate (and joules x the price of electricity, for hardware one owns). D is
`usd_labels`: distinct labels that reached the loss x the price of a label. `usd` is C + D; P is the task's score.
"""

MINIMIZABLE = tuple(name for name, cost in COSTS.items() if cost.reference)
"""Names of the costs that a study can minimise."""


def cost(result: Result, name: str, offer: Offer, label_usd: float, *, own: bool = False) -> float | None:
    """Return the value of `estimate`: one of `COSTS` for a point from cold; None where it is
    unknown.
    """
    asked = COSTS[name]
    if asked.pays_compute and result.usage and not result.elsewhere:  # by far the most frequent question, without a band
        at = offer_for(result, offer, own=own)
        if same_machine(result, at):
            compute, of_labels = prices.usd(result.alone, at), asked.of_labels(result.labels, label_usd)
            return compute if compute is None or of_labels is None else compute + of_labels
    found = estimate(result, name, offer, label_usd, own=own)
    return None if found is None else found.value


def estimate(result: Result, name: str, offer: Offer, label_usd: float, *, own: bool = False) -> Estimate | None:
    """Return one of `COSTS` for a point from cold, with its band.

    Seconds, joules and dollars are as measured where the offer is the machine it ran on, or has the
    same GPU; elsewhere they are carried over by stated ratios (`workbench.prices.carry`), and the
    basis says `scaled`. Where others used the machine meanwhile they are what the point would have
    taken without them, by estimate, and the basis says `contended`. What was consumed on several
    machines is priced part by part.

    Args:
        result: The point.
        name: Of the cost.
        offer: The priced machine.
        label_usd: Price of one labelled example in US$.
        own: Whether what was consumed on another machine than the offer's is priced as it was paid
            there, and not carried over.

    Returns:
        The number, or None where it was not measured, or cannot be carried over to the offer's
        device.
    """
    asked = COSTS[name]
    of_labels = asked.of_labels(result.labels, label_usd)
    if asked.of_compute is None:  # labels need no machine: their cost is known where nothing can be carried over
        return None if of_labels is None else Estimate.exact(of_labels)
    each = []
    for part in result.parts:
        at = offer_for(part, offer, own=own)
        there = carried(part, at)
        each.append(None if there is None else asked.of_compute(there, at))
    compute = total(each)
    return compute if compute is None or of_labels is None else compute + Estimate.exact(of_labels)


def offer_for(result: Result, offer: Offer, *, own: bool) -> Offer:
    """The offer that prices a Result: this one, or with `own` that of its own machine."""
    return (result.paid if own and not same_machine(result, offer) else None) or offer


def carried(result: Result, offer: Offer) -> Carried | None:
    """Carry a point's cold usage over to the machine of an offer; None where nothing is known
    there, or it is no point.
    """
    if not result.usage:
        return None
    known = result._carried
    if offer not in known:
        # Worked out once for each offer: a view asks for it a dozen times a point.
        same, contended = same_machine(result, offer), bool(result.contended)
        if result.elsewhere:
            known[offer] = _together([carried(part, offer) for part in result.parts])
        else:
            known[offer] = prices.carry(result.usage, result.device, offer, same_machine=same, contended=contended)
    return known[offer]


def _together(parts: Sequence[Carried | None]) -> Carried | None:
    """What several machines took, carried over to one; None where that is not known of one of them."""
    found = [part for part in parts if part is not None]
    return functools.reduce(operator.add, found) if len(found) == len(parts) else None


@dataclass(frozen=True)
class MeanCosts:
    """Mean costs of an example, `1/N_D Σ C_i(θ, T) + 1/N_T Σ C_i(θ, D)`: of pre-training and of
    tuning, in US$ of compute.

    Attributes:
        pretraining_example: Cost of the phase `pretrain` / examples processed in it; None without
            pre-training.
        tuning_example: Cost of the phase `train` / examples processed in it, repeats included; None
            where unknown.
    """

    pretraining_example: float | None
    tuning_example: float | None

    @property
    def sum(self) -> float | None:
        """Both terms; without pre-training it is that of tuning alone."""
        if self.tuning_example is None:
            return None
        return self.tuning_example + (self.pretraining_example or 0.0)


def mean_costs(result: Result, offer: Offer) -> MeanCosts:
    """Return the mean costs of a pre-training example and of a tuning example on the machine of an
    offer.
    """
    there = carried(result, offer)
    phases = {} if there is None else there.phases

    def mean(name: str, examples: int) -> float | None:
        usd = prices.usd(phases[name], offer) if name in phases else None
        return None if usd is None or not examples else usd / examples

    pretrained = phases["pretrain"].work.examples if "pretrain" in phases else 0
    return MeanCosts(mean("pretrain", pretrained), mean("train", result.examples))


def same_machine(result: Result, offer: Offer) -> bool:
    """Whether an offer prices the machine that a Result was made on. Another GPU is another
    machine, whatever was said.
    """
    # The GPU decides first: a run that was priced by mistake at an offer of another GPU is scaled.
    if offer.gpus and result.device and prices.same_gpu(result.device, offer.gpu) is False:
        return False
    known = result.offer
    # An id changes with the price and its date; at a newer price platform and instance still tell.
    if known.get("id") == offer.id:
        return True
    return bool(known) and (known.get("platform"), known.get("instance")) == (offer.platform, offer.instance)
