"""All runs priced at every offer of the price book: where a model of a certain quality would have been made for the least money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench import prices
from workbench.estimate import Estimate
from workbench.front.confirmed import corrected_points
from workbench.front.objectives import View
from workbench.prices import Offer
from workbench.quantities import banded, dollars, many, number
from workbench.report.text import describe, peak_memory
from workbench.result import Result

CANDIDATES = 300
"""Of more points that reach a target, those cheapest at the view's own price are priced everywhere: each takes 0.2 ms an offer."""


@dataclass(frozen=True)
class Elsewhere:
    """The cheapest model that reaches a target, at one offer.

    Attributes:
        offer: The offer.
        point: The model.
        usd: Its US$ from cold at that offer, labels included.
        seconds: Its seconds at that offer.
        fits: Whether it fits into the memory there; None where that is unknown, as after a run without a GPU.
    """

    offer: Offer
    point: Result
    usd: Estimate
    seconds: Estimate
    fits: bool | None


def elsewhere(results: Sequence[Result], view: View, offers: Sequence[Offer], target: float | None = None) -> list[Elsewhere]:
    """Return the cheapest model that reaches a target at each offer, the cheapest offer first.

    Offers at which no such model has a known cost (`prices.carry`), or none fits into memory, are left out.

    Args:
        results: All Results of the study.
        view: Prices and objectives. Its own offer counts only as one of `offers`.
        offers: The offers that are compared.
        target: The least score; None for any.
    """
    points = [r for r in corrected_points(results, view) if _reaches(r, view, target)]
    # Keyed by identity: a Result holds dicts and has no
    # hash, and imported runs may share a recipe's id.
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
        # An unknown fit is not refused: a run on a CPU says nothing about the memory of a GPU.
        if usd is not None and (best is None or usd < best[0]) and _fits(r, view.offer) is not False:
            best = usd, r
    if best is None:
        return None
    point = best[1]
    money, seconds = view.estimate(point, "usd"), view.estimate(point, "seconds")
    return None if money is None or seconds is None else Elsewhere(view.offer, point, money, seconds, _fits(point, view.offer))


def _fits(r: Result, offer: Offer) -> bool | None:
    """Return whether a point fits into the memory of an offer. A process's memory says nothing of a GPU's, nor the reverse."""
    peak = peak_memory(r.cold)
    return None if peak is None or bool(r.device) != bool(offer.gpus) else prices.fits(peak, offer)


def rented(found: Sequence[Elsewhere]) -> list[Elsewhere]:
    """Return the offers that somebody rents out, without spot prices, which may end at any time."""
    return [each for each in found if each.offer.commitment not in ("owned", "spot")]


def elsewhere_text(found: Sequence[Elsewhere], view: View, target: float | None = None) -> str:
    """Say where the target is reached for the least money, compared with the view's own offer, and how sure that is."""
    quality = f"{view.maximize} {target:g}" if target is not None else "any quality"
    if not found:
        return f"No model that reaches {quality} has a known cost on any offer of the price book."
    first = found[0]
    said = f"The cheapest place for {quality} is {first.offer.name}: {banded(first.usd, dollars)} for {describe(first.point)}"
    here = next((each for each in found if each.offer.id == view.offer.id), None)
    if here is not None and here is not first and first.usd.value > 0:
        said += f", {number(here.usd.value / first.usd.value)} times less than on {here.offer.name} ({banded(here.usd, dollars)})"
    # Where bands overlap the order of the offers is not known, and that has to be said.
    others = [each for each in found[1:] if each.usd.low <= first.usd.high]
    if not others:
        return f"{said}."
    overlap = f"{many(len(others), 'other offer')} {'has' if len(others) == 1 else 'have'} a band that reaches below its upper end"
    return f"{said}. {overlap}: what is known does not tell {'it' if len(others) == 1 else 'them'} from it."
