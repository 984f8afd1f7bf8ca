"""The record of one recipe that was run: scores, usage and provenance. Written once, read for ever."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from workbench.prices import Carried, Offer
from workbench.result.causes import Cause
from workbench.result.legacy import upgraded
from workbench.result.model_names import model_name
from workbench.result.recorded_offer import recorded_offer
from workbench.result.usage_parts import UsagePart, rest
from workbench.space import Value
from workbench.usage import Usage, total

SCHEMA = 1
STATUSES = ("complete", "infeasible", "interrupted", "running")

AGAIN = "to be tried again"
"""What people are told of a failure after which somebody has asked for another try."""


# Without slots: `cached_property` keeps its value in `__dict__`, past the frozen `__setattr__`.
@dataclass(frozen=True, kw_only=True)
class Result:
    """One recipe's outcome: a checkpoint of a run, or how a run ended without one.

    Attributes:
        recipe_id: Identity of the recipe with its inputs.
        run_id: Identity of the run: what checkpoints of one training share.
        recipe: The whole recipe as plain data.
        settings: The study's settings that made it, by path; `epochs` is this checkpoint's.
        status: One of `STATUSES`.
        cause: Why it is infeasible or was interrupted; None otherwise.
        reason: The cause in words for people, else empty: no program reads it.
        scores: The task's scores and `dev_loss`; empty unless complete.
        usage: The cold cost by phase: what this checkpoint alone would have consumed from nothing.
            It has its own single evaluation and no earlier one, and shared things in full.
        elsewhere: What of `usage` was consumed on machines of other offers than `offer`; empty where one machine has made all of
            it.
        spent: What was really consumed since the run's previous Result, by phase.
        labels: Distinct labelled examples whose labels reached the loss, those of what it started from included.
        bought: Of each label that was paid for its example's place in the task's pool, where a
            strategy chose it; empty where the task's own order says which they are.
        step: Optimiser steps done.
        examples: Training examples processed, repeats included.
        tokens: Training tokens processed, padding excluded.
        trainable_parameters: How many numbers were tuned.
        serving: Speed of its predictions as measured: `latency_seconds` of one alone,
            `predictions_per_second` in batches.
        samples: Examples of the dev set with what was predicted, as `{"example": …, "prediction":
            …}`; empty unless asked for.
        inputs: Fingerprints of what stood behind the recipe's names when it was run:
            `Recipe.inputs`. Empty in records made before there were any.
        provenance: Versions, device, commit, times: what is needed to read the figures years later.
        offer: The offer at which the stored objective values were computed, as plain data.
        label_usd: The price of a label then.
        started: Seconds since 1970 at the start of this segment.
        finished: Seconds since 1970 at its end.
        replicate_of: Of a confirmation: the recipe that was run again with another seed, by its id.
            It tells of that recipe's point and is none of its own; its `settings` are that
            recipe's. None for all that a sweep runs.
        test_scores: Scores on the held-out test split, by recipe id: its own, and, where the work
            also graded the weights of points that a sweep had made, theirs. Empty for all that a
            sweep runs.
        labels_by_order: `labels` by the order in which they are bought (`workbench.result.label_order`) where what it started from
            was made with other labels; empty else. Of a Result that is being made what it will have used.
        trial: Number of the run's first trial in the ledger; None before it is written.
        number: Number of its own trial in the ledger.
        retry: Whether it is a failure after which a person has asked for another try, as its ledger
            sees it. Not part of the record.
        outdated: Which of its inputs are no longer what they were, out of
            `workbench.result.inputs.KINDS`, as its ledger sees it: such a Result is on the bill,
            and no point. Not part of the record.
    """

    recipe_id: str
    run_id: str
    recipe: Mapping[str, Any]
    settings: Mapping[str, Value]
    status: str
    cause: Cause | None = None
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, Usage] = field(default_factory=dict)
    elsewhere: Sequence[UsagePart] = ()
    spent: Mapping[str, Usage] = field(default_factory=dict)
    labels: int = 0
    bought: Sequence[int] = field(default_factory=list)
    step: int = 0
    examples: int = 0
    tokens: int = 0
    trainable_parameters: int | None = None
    serving: Mapping[str, float] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = field(default_factory=list)
    inputs: Mapping[str, str | int] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    offer: Mapping[str, Any] = field(default_factory=dict)
    label_usd: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    replicate_of: str | None = None
    test_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    labels_by_order: Mapping[str, int] = field(default_factory=dict)
    trial: int | None = None
    number: int | None = None
    retry: bool = False
    outdated: tuple[str, ...] = ()

    @property
    def epochs(self) -> float:
        return float(self.recipe["epochs"])

    @property
    def run_settings(self) -> dict[str, Value]:
        """The settings that all checkpoints of its run share: all but how long it was trained."""
        return {name: value for name, value in self.settings.items() if name != "epochs"}

    @property
    def method(self) -> str:
        return str(self.recipe["method"]["name"])

    @property
    def model(self) -> str:
        """What people call its model, with what that learned before: `minilm-l3 + masked_lm`."""
        return model_name(self.recipe)

    @property
    def seed(self) -> int:
        return int(self.recipe["seed"])

    @property
    def device(self) -> str | None:
        """Product name of the GPU it ran on; None for a run on processors."""
        gpus = self.provenance.get("device", {}).get("gpus") or ()
        return str(gpus[0]["name"]) if gpus else None

    @property
    def devices(self) -> int:
        """How many GPUs held its model together."""
        return int(self.provenance.get("devices", 1))

    @property
    def taken_over(self) -> bool:
        """Whether it was made before the study was edited: it is on the bill of the study as it was."""
        return "taken_over_from" in self.provenance

    @cached_property
    def cold(self) -> Usage:
        """The cold cost of the point, all phases together."""
        return total(self.usage.values())

    @property
    def contended(self) -> bool | None:
        """Whether others used the machine so much that the point's cost is an estimate of it alone; None where unknown."""
        return self.cold.contended if self.usage else None

    @cached_property
    def undisturbed(self) -> Mapping[str, Usage]:
        """The cold cost by phase as it would be on a machine that does nothing else: `usage` itself unless it is contended."""
        return {name: usage.undisturbed() for name, usage in self.usage.items()} if self.contended else self.usage

    @cached_property
    def alone(self) -> Usage:
        """All phases of `undisturbed` together: what fronts, searches and forecasts go by."""
        return total(self.undisturbed.values()) if self.contended else self.cold

    @property
    def detail(self) -> str:
        """Its reason without the word of its cause."""
        return self.reason.removeprefix(self.cause.reason("")) if self.cause else self.reason

    @property
    def died(self) -> bool:
        """Whether its worker died, or met a bug, and nobody has asked for another try since."""
        return self.status == "interrupted" and not self.retry and self.cause is not None and self.cause.is_death

    @property
    def stopped(self) -> bool:
        """Whether it was stopped on purpose, and nobody has asked for another try since."""
        return self.status == "interrupted" and not self.retry and self.cause is not None and self.cause.is_stop

    @cached_property
    def paid(self) -> Offer | None:
        """The offer at which it was paid, as far as its price goes; None where none is on record."""
        return recorded_offer(self.offer)

    @cached_property
    def parts(self) -> tuple[Result, ...]:
        """The cost of the point by the machine that it was consumed on: Results that hold only that, its own machine's first.
        Itself alone where one machine has made all of it.
        """
        if not self.elsewhere:
            return (self,)
        own = replace(self, usage=rest(self.usage, self.elsewhere), elsewhere=())
        others = (replace(own, usage=part.usage, offer=part.offer, provenance={"device": _device(part)}) for part in self.elsewhere)
        return (own, *others)

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
        apart = ("usage", "elsewhere", "spent", "number", *_SEEN)
        record = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in apart}
        phases = {name: {p: u.to_json() for p, u in getattr(self, name).items()} for name in ("usage", "spent")}
        elsewhere = [part.to_json() for part in self.elsewhere]
        if compact:
            # Most windows of a record name the same meters: said once, ten thousand Results read
            # quicker.
            windows = [w for of in (*phases.values(), *(part["usage"] for part in elsewhere)) for w in of.values()]
            shared = set.intersection(*(set(w["sources"].items()) for w in windows)) if windows else set()
            for window in windows:
                window["sources"] = {name: text for name, text in window["sources"].items() if (name, text) not in shared}
            record["sources"] = dict(sorted(shared))
        return {"schema": SCHEMA} | record | phases | ({"elsewhere": elsewhere} if elsewhere else {})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Result:
        """Rebuild from `to_json`, of this or any earlier version; keys of a later schema are ignored."""
        # The one place where old records are made new: nothing above asks which version wrote one.
        record = upgraded(record)
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record and name not in _SEEN}
        known["cause"] = None if record["cause"] is None else Cause(record["cause"])
        shared = _same(tuple(record.get("sources", {}).items()))

        def windows(of: Mapping[str, Any]) -> dict[str, Usage]:
            return {phase: Usage.from_json(usage, shared) for phase, usage in of.items()}

        known |= {name: windows(record.get(name, {})) for name in ("usage", "spent")}
        parts = record.get("elsewhere", ())
        known["elsewhere"] = tuple(UsagePart(part["offer"], part["device"], windows(part["usage"])) for part in parts)
        return cls(**known)


@functools.lru_cache(maxsize=256)
def _same(sources: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """One mapping for all records that say the same: of a hundred thousand in memory each would hold its own."""
    return dict(sources)


def _device(part: UsagePart) -> dict[str, Any]:
    return {} if part.device is None else {"gpus": [{"name": part.device}]}


_SEEN = ("retry", "outdated")
"""Fields that say how a Result counts now, and not what happened: they are no part of its record."""


def again(result: Result) -> Result:
    """A failure as it is seen once a person has asked for another try: as an interruption that speaks against nothing.

    The record is not changed, nor what it has spent; its reason says what it was.
    """
    return replace(result, status="interrupted", retry=True, reason=f"{AGAIN}: {result.reason}")


def by_run(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by run id, in the order in which the runs began."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.run_id, []).append(result)
    return groups


def furthest(segments: Iterable[Result]) -> Result | None:
    """The checkpoint of a run that was trained longest; None where it has none."""
    return max((r for r in segments if r.status == "complete"), key=lambda r: r.epochs, default=None)


def originals(results: Iterable[Result]) -> list[Result]:
    """All but replicates and Results of other inputs: what a sweep of the study as it is has run.

    Whoever searches or counts runs reads these; who counts money reads all.
    """
    return [r for r in results if r.replicate_of is None and not r.outdated]
