"""The record of one recipe that was run: scores, usage and provenance. Written once, read for ever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench import prices
from workbench.prices import Offer
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
    def cold(self) -> Usage:
        """The cold cost of the point, all phases together."""
        return total(self.usage.values())

    @property
    def consumed(self) -> Usage:
        """What this segment really consumed, all phases together."""
        return total(self.spent.values())

    def to_json(self) -> dict[str, Any]:
        """A JSON object of plain data, with its schema number."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("usage", "spent", "number")}
        phases = {name: {p: u.to_json() for p, u in getattr(self, name).items()} for name in ("usage", "spent")}
        return {"schema": SCHEMA} | record | phases

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Result:
        """Rebuild from `to_json`; keys of a later schema are ignored."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        for name in ("usage", "spent"):
            known[name] = {p: Usage.from_json(u) for p, u in record.get(name, {}).items()}
        return cls(**known)


def cost(result: Result, name: str, offer: Offer, label_usd: float) -> float | None:
    """One of the costs a study can minimise, for this point from cold, at these prices.

    C is `usd_compute`: seconds of the run x the offer's rate. D is `usd_labels`: labels used x the price of a label.
    `usd` is C + D.

    Returns:
        The number, or None where it was not measured.
    """
    cold = result.cold
    compute, labels = prices.usd(cold, offer), result.labels * label_usd
    views = {
        "usd": None if compute is None else compute + labels,
        "usd_compute": compute,
        "usd_labels": labels,
        "labels": float(result.labels),
        "seconds": cold.seconds,
        "energy_j": cold.energy_j,
    }
    return views[name]


def spent_usd(results: Sequence[Result], offer: Offer, label_usd: float) -> float | None:
    """What a sweep has spent: all segments really run, finished or not, and each label once.

    A task's smaller training set is a prefix of its larger one, so labels of one data set are bought once: the
    largest number used of each.
    """
    parts = [prices.usd(r.consumed, offer) for r in results]
    compute = sum(part for part in parts if part is not None)
    return None if None in parts else compute + label_usd * sum(labels_bought(results).values())


def labels_bought(results: Iterable[Result]) -> dict[str, int]:
    """Distinct labelled examples bought, by data set and data seed."""
    bought: dict[str, int] = {}
    for r in results:
        task = r.recipe["task"]
        key = f"{task.get('data')}/{task.get('seed')}"
        bought[key] = max(bought.get(key, 0), r.labels)
    return bought
