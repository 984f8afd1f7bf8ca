"""The record of one recipe that was run: scores, usage and provenance. Written once, read for ever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from workbench import carbon, prices
from workbench.estimate import Estimate
from workbench.prices import Carried, Offer
from workbench.space import Value
from workbench.usage import Usage, total

SCHEMA = 1
STATUSES = ("complete", "infeasible", "interrupted", "running")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One recipe's outcome: a checkpoint of a run, or how a run ended without one.

    Attributes:
        recipe_id: Identity of the recipe with its data.
        run_id: Identity of the run: what checkpoints of one training share.
        recipe: The whole recipe as plain data.
        settings: The study's settings that made it, by path; `epochs` is this checkpoint's.
        status: One of `STATUSES`.
        reason: Why it is infeasible or was interrupted, else empty.
        scores: The task's scores and `dev_loss`; empty unless complete.
        usage: The cold cost by phase: what this checkpoint alone would have consumed from nothing. It has its own single
            evaluation and no earlier one, and shared things in full.
        spent: What was really consumed since the run's previous Result, by phase.
        labels: Distinct labelled examples whose labels reached the loss.
        step: Optimiser steps done.
        examples: Training examples processed, repeats included.
        tokens: Training tokens processed, padding excluded.
        trainable_parameters: How many numbers were tuned.
        serving: Speed of its predictions as measured: `latency_seconds` of one alone, `predictions_per_second` in batches.
        provenance: Versions, device, commit, times: what is needed to read the figures years later.
        offer: The offer at which the stored objective values were computed, as plain data.
        label_usd: The price of a label then.
        started: Seconds since 1970 at the start of this segment.
        finished: Seconds since 1970 at its end.
        trial: Number of the run's first trial in the ledger; None before it is written.
        number: Number of its own trial in the ledger.
    """

    recipe_id: str
    run_id: str
    recipe: Mapping[str, Any]
    settings: Mapping[str, Value]
    status: str
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, Usage] = field(default_factory=dict)
    spent: Mapping[str, Usage] = field(default_factory=dict)
    labels: int = 0
    step: int = 0
    examples: int = 0
    tokens: int = 0
    trainable_parameters: int | None = None
    serving: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    offer: Mapping[str, Any] = field(default_factory=dict)
    label_usd: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    trial: int | None = None
    number: int | None = None

    @property
    def epochs(self) -> float:
        return float(self.recipe["epochs"])

    @property
    def method(self) -> str:
        return str(self.recipe["method"]["name"])

    @property
    def model(self) -> str:
        return str(self.recipe["model"])

    @property
    def seed(self) -> int:
        return int(self.recipe["seed"])

    @property
    def device(self) -> str | None:
        """Product name of the GPU it ran on; None for a run on processors."""
        gpus = self.provenance.get("device", {}).get("gpus") or ()
        return str(gpus[0]["name"]) if gpus else None

    @cached_property
    def cold(self) -> Usage:
        """The cold cost of the point, all phases together."""
        return total(self.usage.values())

    @cached_property
    def _carried(self) -> dict[Offer, Carried | None]:
        """What `carried` has worked out, by offer: a view asks for it a dozen times a point."""
        return {}

    @cached_property
    def consumed(self) -> Usage:
        """What this segment really consumed, all phases together."""
        return total(self.spent.values())

    def to_json(self, *, compact: bool = False) -> dict[str, Any]:
        """A JSON object of plain data, with its schema number.

        With `compact`, as ledgers keep it: what all windows say of their sources is said once, under `sources`.
        """
        record = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("usage", "spent", "number")}
        phases = {name: {p: u.to_json() for p, u in getattr(self, name).items()} for name in ("usage", "spent")}
        if compact:
            windows = [window for by_phase in phases.values() for window in by_phase.values()]
            shared = set.intersection(*(set(w["sources"].items()) for w in windows)) if windows else set()
            for window in windows:
                window["sources"] = {name: text for name, text in window["sources"].items() if (name, text) not in shared}
            record["sources"] = dict(sorted(shared))
        return {"schema": SCHEMA} | record | phases

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Result:
        """Rebuild from `to_json`; keys of a later schema are ignored."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        shared = record.get("sources", {})
        for name in ("usage", "spent"):
            windows = record.get(name, {})
            known[name] = {p: Usage.from_json({**u, "sources": {**shared, **u.get("sources", {})}}) for p, u in windows.items()}
        return cls(**known)


COSTS = ("usd", "usd_compute", "usd_labels", "labels", "seconds", "energy_j", "grams_co2e")
"""What a point costs: US$ of compute and labels together and apart, labels, and physical quantities. See `estimate`."""


def cost(result: Result, name: str, offer: Offer, label_usd: float) -> float | None:
    """One of `COSTS` for this point from cold, at these prices: the value of `estimate`; None where it is unknown."""
    if name in ("usd", "usd_compute") and _same_machine(result, offer):  # by far the most frequent question, without a band
        compute = prices.usd(result.cold, offer)
        return compute if compute is None or name == "usd_compute" else compute + result.labels * label_usd
    found = estimate(result, name, offer, label_usd)
    return None if found is None else found.value


def estimate(result: Result, name: str, offer: Offer, label_usd: float) -> Estimate | None:
    """One of `COSTS` for this point from cold, at these prices, with its band.

    The objective is `minimise C + D, maximise P`. C is `usd_compute`: what loading, data, pre-training, training and one
    evaluation cost, seconds held x the offer's rate (and joules x the price of electricity, for hardware one owns). D is
    `usd_labels`: distinct labels that reached the loss x the price of a label. `usd` is C + D; P is the task's score.

    Seconds, joules and dollars are as measured where the offer is the machine it ran on, or has the same GPU; elsewhere
    they are carried over by stated ratios (`workbench.prices.carry`), and the basis says `scaled`.

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
    known: dict[str, Estimate | None] = {"usd_compute": there.usd, "seconds": there.seconds, "energy_j": there.energy_j}
    return known[name]


def carried(result: Result, offer: Offer) -> Carried | None:
    """The point's cold usage on the machine of an offer; None where nothing is known of it there."""
    known = result._carried
    if offer not in known:
        known[offer] = prices.carry(result.usage, result.device, offer, same_machine=_same_machine(result, offer))
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


@dataclass(frozen=True)
class Spending:
    """What a sweep has spent: all segments really run, finished or not, and each label once. None is unknown.

    Attributes:
        usd: US$ of compute and labels.
        seconds: Seconds of work.
        energy_j: Joules of processors and GPU boards.
        labels: Distinct labels bought.
    """

    usd: float | None = 0.0
    seconds: float = 0.0
    energy_j: float | None = 0.0
    labels: int = 0

    def __add__(self, other: Spending) -> Spending:
        """Sum; unknown stays unknown."""
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        energy_j = None if self.energy_j is None or other.energy_j is None else self.energy_j + other.energy_j
        return Spending(usd, self.seconds + other.seconds, energy_j, self.labels + other.labels)


def spending(results: Iterable[Result], offer: Offer, label_usd: float) -> Spending:
    """What all these Results together have consumed, at these prices, wherever the machine of the offer is another: carried over.

    A task's smaller training set is a prefix of its larger one, so labels of one data set are bought once: the
    largest number used of each.
    """
    known = list(results)
    compute = [_spent_usd(r, offer) for r in known if r.spent]
    joules = [r.consumed.energy_j for r in known]
    labels = sum(labels_bought(known).values())
    return Spending(
        usd=None if None in compute else sum(c for c in compute if c is not None) + label_usd * labels,
        seconds=sum(r.consumed.seconds for r in known),
        energy_j=None if None in joules else sum(j for j in joules if j is not None),
        labels=labels,
    )


def _spent_usd(r: Result, offer: Offer) -> float | None:
    if _same_machine(r, offer):
        return prices.usd(r.consumed, offer)
    there = prices.carry(r.spent, r.device, offer)
    return None if there is None or there.usd is None else there.usd.value


def spent_usd(results: Sequence[Result], offer: Offer, label_usd: float) -> float | None:
    """US$ of `spending`; None where it is unknown."""
    return spending(results, offer, label_usd).usd


def labels_bought(results: Iterable[Result]) -> dict[str, int]:
    """Distinct labelled examples bought, by data set and data seed."""
    bought: dict[str, int] = {}
    for r in results:
        key = labelled_set(r.recipe["task"])
        bought[key] = max(bought.get(key, 0), r.labels)
    return bought


def labelled_set(task: Mapping[str, Any]) -> str:
    """Which labels a task buys, from its record: data set and order, of which a smaller training set is a prefix."""
    return f"{task.get('data')}/{task.get('seed')}"


def _same_machine(result: Result, offer: Offer) -> bool:
    """Whether the offer is the machine it ran on, be it at another price."""
    if result.offer.get("id") == offer.id:
        return True
    known = result.offer
    if "platform" in known:
        return (known["platform"], known["instance"]) == (offer.platform, offer.instance)
    # Records from before the two were kept apart have them in the name.
    return bool(known) and str(known.get("name")).split(":")[:2] == [offer.platform, offer.instance]
