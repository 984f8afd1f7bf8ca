"""All runs priced at every offer of the price book: where a model of a certain quality would have been made for the least money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench import prices
from workbench.estimate import Estimate
from workbench.front.confirmed import corrected_points
from workbench.front.view import View
from workbench.prices import Offer
from workbench.quantities import banded, dollars, many, number
from workbench.report.text import describe, peak_memory
from workbench.result import Result

CANDIDATES = 300
"""Of more points that reach a target, those cheapest at the view's own price are priced everywhere: each takes 0.2 ms an offer."""


@dataclass(frozen=True)
class Elsewhere:
    """The cheapest model that reaches a target, on one offer.

    Attributes:
        offer: The offer.
        point: The model.
        usd: What it costs there, from cold, labels included.
        seconds: How long it takes there.
        fits: Whether its memory fits there; None where that is unknown, as after a run without a GPU.
    """

    offer: Offer
    point: Result
    usd: Estimate
    seconds: Estimate
    fits: bool | None


def elsewhere(results: Sequence[Result], view: View, offers: Sequence[Offer], target: float | None = None) -> list[Elsewhere]:
    """The cheapest model that reaches a target on each offer, the cheapest offer first.

    Offers are left out on which no such model has a known cost (`prices.carry`), or none fits into memory.

    Args:
        results: All Results of the study.
        view: Prices and objectives; its offer is looked at only as one of `offers`.
        offers: Where.
        target: The least score; None for any.
    """
    points = [r for r in corrected_points(results, view) if _reaches(r, view, target)]
    usd = {id(r): view.cost(r, "usd") for r in points}
    points.sort(key=lambda r: (usd[id(r)] is None, usd[id(r)] or 0.0, -r.scores[view.maximize]))
    found = [each for offer in offers if (each := _cheapest(points[:CANDIDATES], replace(view, offer=offer))) is not None]
    return sorted(found, key=lambda each: (each.usd.value, each.offer.name))


def _reaches(r: Result, view: View, target: float | None) -> bool:
    scored = r.status == "complete" and r.replicate_of is None and view.maximize in r.scores
    return scored and (target is None or r.scores[view.maximize] >= target)


def _cheapest(points: Sequence[Result], view: View) -> Elsewhere | None:
    best: tuple[float, Result] | None = None
    for r in points:
        usd = view.cost(r, "usd")
        if usd is not None and (best is None or usd < best[0]) and _fits(r, view.offer) is not False:
            best = usd, r
    if best is None:
        return None
    point = best[1]
    money, seconds = view.estimate(point, "usd"), view.estimate(point, "seconds")
    return None if money is None or seconds is None else Elsewhere(view.offer, point, money, seconds, _fits(point, view.offer))


def _fits(r: Result, offer: Offer) -> bool | None:
    """Whether a point's memory fits on an offer. A process's memory says nothing of a GPU's, nor the other way round."""
    peak = peak_memory(r.cold)
    return None if peak is None or bool(r.device) != bool(offer.gpus) else prices.fits(peak, offer)


def rented(found: Sequence[Elsewhere]) -> list[Elsewhere]:
    """Those that somebody rents out, spot prices left out: they end at any time."""
    return [each for each in found if each.offer.commitment not in ("owned", "spot")]


def elsewhere_text(found: Sequence[Elsewhere], view: View, target: float | None = None) -> str:
    """The sentence above the prices: the cheapest place for a target, against the one that the view is at, and how sure that is."""
    quality = f"{view.maximize} {target:g}" if target is not None else "any quality"
    if not found:
        return f"No model that reaches {quality} has a known cost on any offer of the price book."
    first = found[0]
    said = f"The cheapest place for {quality} is {first.offer.name}: {banded(first.usd, dollars)} for {describe(first.point)}"
    here = next((each for each in found if each.offer.id == view.offer.id), None)
    if here is not None and here is not first and first.usd.value > 0:
        said += f", {number(here.usd.value / first.usd.value)} times less than on {here.offer.name} ({banded(here.usd, dollars)})"
    others = [each for each in found[1:] if each.usd.low <= first.usd.high]
    if not others:
        return f"{said}."
    overlap = f"{many(len(others), 'other offer')} {'has' if len(others) == 1 else 'have'} a band that reaches below its upper end"
    return f"{said}. {overlap}: what is known does not tell {'it' if len(others) == 1 else 'them'} from it."
