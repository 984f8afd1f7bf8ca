"""The sentence that answers a study's question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from workbench.report.confirmed import Confirmed, confirmed, corrected
from workbench.report.text import banded, describe, dollars, duration, many, number
from workbench.report.view import View
from workbench.result import Result

UNITS = {
    "usd": "US$",
    "usd_compute": "US$ of compute",
    "labels": "labels",
    "seconds": "s",
    "energy_j": "J",
    "grams_co2e": "g CO2e",
}
_LEAST = {
    "usd": "cheapest",
    "usd_compute": "cheapest to compute",
    "labels": "one with the fewest labels",
    "seconds": "quickest",
    "energy_j": "one with the least energy",
    "grams_co2e": "one with the least CO2e",
}
_SAVED = {
    "usd": "{} cheaper",
    "usd_compute": "with {} less spent on compute",
    "labels": "with {} fewer labels",
    "seconds": "in {} less time",
    "energy_j": "with {} less energy",
    "grams_co2e": "with {} less CO2e",
}


def answer(results: Sequence[Result], view: View, *, budget_usd: float | None = None, target: float | None = None) -> str:
    """The sentence that answers the study's question.

    Points that were confirmed stand at their mean over new seeds, with its 95 % interval; of those tied with the best the
    cheapest is named.

    Args:
        results: All Results of the study.
        view: Prices and objectives.
        budget_usd: Name the best point whose cost from cold (compute and labels) is at most this.
        target: Name the cheapest point whose score is at least this.
    """
    known = [r for r in corrected(results, view) if view.coordinates(r) is not None]
    of = confirmed(results, view)
    if not known and any(r.status == "complete" for r in results):
        return f"No finished run has a known cost on {view.offer.name}: there is nothing to choose from at this price."
    if not known:
        return "No run has finished yet: there is nothing to choose from."
    best = max(known, key=lambda r: (r.scores[view.maximize], -_first(view, r)))
    sentences = []
    if budget_usd is not None:
        sentences.append(_within(known, view, of, budget_usd))
    if target is not None:
        reaching = [r for r in known if r.scores[view.maximize] >= target]
        if reaching:
            least = min(reaching, key=lambda r: (_first(view, r), -r.scores[view.maximize]))
            sentences.append(
                f"The {_LEAST[view.minimize[0]]} that reaches {view.maximize} {target:g} is {_point(least, view, of)}."
            )
        else:
            sentences.append(f"No run reached {view.maximize} {target:g}; the best is {_point(best, view, of)}.")
    if sentences:
        return " ".join(sentences)
    also = _tied(known, best, view, of) or _nearly_as_good(known, best, view, of)
    return f"The best is {_point(best, view, of)}.{also}"


def cost_text(view: View, result: Result, name: str, *, band: bool = False) -> str:
    """One cost of a point with its unit, `unknown` where it was not measured; with `band` also how far it may be off."""
    found = view.estimate(result, name)
    if found is None:
        return "unknown"
    return banded(found, lambda value: _amount(value, name)) if band else _amount(found.value, name)


def _amount(value: float, name: str) -> str:
    if name.startswith("usd"):
        return dollars(value)
    if name == "seconds":
        return duration(value)
    if name == "grams_co2e":
        return f"{number(float(value))} {UNITS[name]}"
    return many(value, "label") if name == "labels" else f"{value:,.0f} {UNITS[name]}"


def score_text(score: float, known: Confirmed | None) -> str:
    """A score, or what new seeds say of it: `68.9 (67.5 to 70.3, 3 new seeds)`."""
    if known is None:
        return f"{score:.1f}"
    mean, low, high = known.score.mean, known.score.low, known.score.high
    band = "" if low is None or high is None else f"{low:.1f} to {high:.1f}, "
    failed = f", {known.failed} more failed" if known.failed else ""
    return f"{mean:.1f} ({band}{many(known.seeds, 'new seed')}{failed})"


def _within(known: Sequence[Result], view: View, of: Mapping[str, Confirmed], budget_usd: float) -> str:
    """The best point that costs at most so much."""
    usd = {id(r): price for r in known if (price := view.cost(r, "usd")) is not None}
    if not usd:
        return f"What the points cost in US$ is unknown on {view.offer.name}."
    priced = [r for r in known if id(r) in usd]
    within = [r for r in priced if usd[id(r)] <= budget_usd]
    if within:
        best = max(within, key=lambda r: (r.scores[view.maximize], -usd[id(r)]))
        return f"Within {dollars(budget_usd)} the best is {_point(best, view, of, 'usd')}."
    cheapest = min(priced, key=lambda r: usd[id(r)])
    return f"Nothing costs {dollars(budget_usd)} or less; the cheapest is {_point(cheapest, view, of, 'usd')}."


def _tied(known: Sequence[Result], best: Result, view: View, of: Mapping[str, Confirmed]) -> str:
    """The cheapest point that new seeds do not tell apart from the best; empty where none is cheaper.

    Its mean must also lie within the best's interval: few seeds leave much untold, and a tie alone would then name anything.
    """
    if best.recipe_id not in of:
        return ""
    low = of[best.recipe_id].score.low
    near = (name for name in of[best.recipe_id].tied_with or () if low is not None and of[name].score.mean >= low)
    tied = set(near)
    cheaper = min((r for r in known if r.recipe_id in tied), key=lambda r: _first(view, r), default=best)
    price = _first(view, best)
    saved = math.floor(100 * (1 - _first(view, cheaper) / price)) if price > 0 else 0
    if saved < 1:
        return ""
    least = _SAVED[view.minimize[0]].format(f"{saved}%")
    return f" New seeds do not tell it apart from one that comes {least}: take {_point(cheaper, view, of)}."


def _nearly_as_good(known: Sequence[Result], best: Result, view: View, of: Mapping[str, Confirmed]) -> str:
    """What is given up, and saved, by the cheapest point with nine tenths of the best score."""
    top, price = best.scores[view.maximize], _first(view, best)
    enough = [r for r in known if r.scores[view.maximize] >= 0.9 * top]
    cheaper = min(enough, key=lambda r: (_first(view, r), -r.scores[view.maximize]), default=best)
    saved = math.floor(100 * (1 - _first(view, cheaper) / price)) if price > 0 else 0
    if top <= 0 or saved < 1:
        return ""
    share = math.floor(100 * cheaper.scores[view.maximize] / top)
    return f" {share}% of that quality comes {_SAVED[view.minimize[0]].format(f'{saved}%')}: {_point(cheaper, view, of)}."


def _point(result: Result, view: View, of: Mapping[str, Confirmed], *more: str) -> str:
    costs = " and ".join(cost_text(view, result, name) for name in dict.fromkeys((*view.minimize, *more)))
    known = of.get(result.recipe_id)
    score = score_text(result.scores[view.maximize], known) + (" (not confirmed)" if of and known is None else "")
    test = "" if known is None or known.test is None else f", {known.test.mean:.1f} on the test split"
    return f"{describe(result)}: {view.maximize} {score}{test} for {costs}"


def _first(view: View, result: Result) -> float:
    value = view.cost(result, view.minimize[0])
    return math.inf if value is None else value
