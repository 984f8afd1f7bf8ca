"""All that a log says of the models that were served, as one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench import prices
from workbench.errors import UsageError
from workbench.prices import Offer
from workbench.watching import alarms, drift, use
from workbench.watching.alarms import Watched
from workbench.watching.drift import Drift
from workbench.watching.feedback import Quality
from workbench.watching.history import History
from workbench.watching.reference import Reference
from workbench.watching.shadow import Agreement, agreements
from workbench.watching.use import Use


@dataclass(frozen=True)
class Model:
    """A model that was served.

    Attributes:
        use: How it was used, and what that cost.
        evidence: What was known of it when it was deployed (`serving.evidence.Evidence.to_json`).
        drifts: Whether its rows and answers are distributed as on the dev set; nothing where too few came.
        has_reference: Whether it was deployed with the dev set's distributions.
        watched: Its classes over time, and the alarms.
        quality: Its score in use, by the right answers that are known; None: there are none.
    """

    use: Use
    evidence: Mapping[str, Any]
    drifts: Sequence[Drift]
    has_reference: bool
    watched: Watched
    quality: Quality | None

    @property
    def disturbed(self) -> bool:
        """Whether something in the latest `drift.RECENT` rows is not as it was: it drifted, or an alarm was raised."""
        recent = [each for each in self.watched.alarms if each.row > self.watched.rows - drift.RECENT]
        return bool(recent) or any(each.drifted for each in self.drifts)


@dataclass(frozen=True)
class Overview:
    """What a log says.

    Attributes:
        offer: The machine that prices the servers.
        models: The models, the latest last.
        shadows: Second models that answered unseen.
    """

    offer: Offer
    models: Sequence[Model]
    shadows: Sequence[Agreement]

    def to_json(self) -> dict[str, Any]:
        """The overview as plain data."""
        return {
            "offer": self.offer.name,
            "models": [
                {
                    **asdict(each.use),
                    "energy_j_per_1000": each.use.energy_j_per_1000,
                    "evidence": dict(each.evidence),
                    "drift": [{**asdict(one), "drifted": one.drifted} for one in each.drifts],
                    "classes": asdict(each.watched),
                    "disturbed": each.disturbed,
                    "quality": None if each.quality is None else each.quality.to_json(),
                }
                for each in self.models
            ],
            "shadows": [each.to_json() for each in self.shadows],
        }


def overview(history: History, quality: Mapping[str, Quality], offer: Offer) -> Overview:
    """Read a log.

    Args:
        history: The log.
        quality: Scores in use, by the model's id.
        offer: The machine that prices the servers, as `offer_of` finds it.

    Raises:
        UsageError: No server wrote this log.
    """
    _check(history)
    models = [_model(history, each, quality.get(each.model_id)) for each in use.uses(history, offer)]
    return Overview(offer, models, agreements(history, offer))


def offer_of(history: History, platform: str | None) -> Offer:
    """The offer that prices the servers of a log.

    Args:
        history: The log.
        platform: The name of an offer; None: that of the latest model's study.

    Raises:
        UsageError: No server wrote this log, or no offer has that name.
    """
    _check(history)
    evidence = history.start_of(history.models[-1]).get("evidence") or {}
    return prices.offer_of(platform, {"platform": evidence.get("offer") or prices.DEFAULT})


def _check(history: History) -> None:
    if not history.models:
        raise UsageError("this is no log of a server, or its head is missing. `workbench serve NAME` writes one.")


def _model(history: History, used: Use, quality: Quality | None) -> Model:
    start, rows = history.start_of(used.model_id), history.of(used.model_id)
    known = Reference.from_json(start.get("reference") or {})
    words, embeddings = (
        [line for line in lines if line["model_id"] == used.model_id] for lines in (history.words, history.embeddings)
    )
    return Model(
        used,
        start.get("evidence") or {},
        drift.drifts(known, rows, words, embeddings),
        known.examples > 0,
        alarms.watch(rows),
        quality,
    )
