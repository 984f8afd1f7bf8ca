"""What a point costs from cold, at any offer: as measured on the machine it ran on, carried over to another."""

from __future__ import annotations

from dataclasses import dataclass

from workbench import carbon, prices
from workbench.estimate import Estimate
from workbench.prices import Carried, Offer
from workbench.result.record import Result
from workbench.usage import total

COSTS = ("usd", "usd_compute", "usd_labels", "labels", "seconds", "gpu_seconds", "energy_j", "grams_co2e")
"""What a point costs: US$ of compute and labels together and apart, labels, and physical quantities. See `estimate`."""


def cost(result: Result, name: str, offer: Offer, label_usd: float) -> float | None:
    """One of `COSTS` for this point from cold, at these prices: the value of `estimate`; None where it is unknown."""
    if (
        name in ("usd", "usd_compute") and result.usage and same_machine(result, offer)
    ):  # by far the most frequent question, without a band
        compute = prices.usd(result.alone, offer)
        return compute if compute is None or name == "usd_compute" else compute + result.labels * label_usd
    found = estimate(result, name, offer, label_usd)
    return None if found is None else found.value


def estimate(result: Result, name: str, offer: Offer, label_usd: float) -> Estimate | None:
    """One of `COSTS` for this point from cold, at these prices, with its band.

    The objective is `minimise C + D, maximise P`. C is `usd_compute`: what loading, data, pre-training, training and one
    evaluation cost, seconds held x the offer's rate (and joules x the price of electricity, for hardware one owns). D is
    `usd_labels`: distinct labels that reached the loss x the price of a label. `usd` is C + D; P is the task's score.

    Seconds, joules and dollars are as measured where the offer is the machine it ran on, or has the same GPU; elsewhere
    they are carried over by stated ratios (`workbench.prices.carry`), and the basis says `scaled`. Where others used the machine
    meanwhile they are what the point would have taken without them, by estimate, and the basis says `contended`.

    Returns:
        The number, or None where it was not measured, or cannot be carried over to the offer's device.
    """
    if name == "labels":
        return Estimate.exact(float(result.labels))
    if name == "usd_labels":
        return Estimate.exact(result.labels * label_usd)
    there = carried(result, offer)
    if there is None:
        return None
    if name == "grams_co2e":
        per_joule = carbon.grams_per_joule(offer)
        return None if there.energy_j is None or per_joule is None else there.energy_j * per_joule
    if name == "usd":
        return None if there.usd is None else there.usd + Estimate.exact(result.labels * label_usd)
    if name == "gpu_seconds":  # as many devices as were held, for the seconds there
        held = total(there.phases.values()).gpu_seconds
        return None if held is None or not there.seconds.value else there.seconds * (held / there.seconds.value)
    known: dict[str, Estimate | None] = {"usd_compute": there.usd, "seconds": there.seconds, "energy_j": there.energy_j}
    return known[name]


def carried(result: Result, offer: Offer) -> Carried | None:
    """The point's cold usage on the machine of an offer; None where nothing is known of it there, or it is no point yet."""
    if not result.usage:
        return None
    known = result._carried
    if offer not in known:
        same, contended = same_machine(result, offer), bool(result.contended)
        known[offer] = prices.carry(result.usage, result.device, offer, same_machine=same, contended=contended)
    return known[offer]


@dataclass(frozen=True)
class MeanCosts:
    """The two terms of the document's second line, `1/N_D Σ C_i(θ, T) + 1/N_T Σ C_i(θ, D)`, in US$ of compute.

    Attributes:
        pretraining_example: Cost of the phase `pretrain` / examples processed in it; None without pre-training.
        tuning_example: Cost of the phase `train` / examples processed in it, repeats included; None where unknown.
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
    """What one pre-training example and one tuning example cost on average, on the machine of an offer."""
    there = carried(result, offer)
    phases = {} if there is None else there.phases

    def mean(name: str, examples: int) -> float | None:
        usd = prices.usd(phases[name], offer) if name in phases else None
        return None if usd is None or not examples else usd / examples

    pretrained = phases["pretrain"].work.examples if "pretrain" in phases else 0
    return MeanCosts(mean("pretrain", pretrained), mean("train", result.examples))


def same_machine(result: Result, offer: Offer) -> bool:
    """Whether the offer is a price of the machine it ran on. A machine with another GPU is another machine, whatever was said."""
    if offer.gpus and result.device and prices.same_gpu(result.device, offer.gpu) is False:
        return False
    known = result.offer
    if known.get("id") == offer.id:
        return True
    return bool(known) and (known.get("platform"), known.get("instance")) == (offer.platform, offer.instance)
