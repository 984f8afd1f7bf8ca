"""The sentence that answers a study's question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.front.confirmed import Confirmed
from workbench.front.intervals import Interval
from workbench.front.objectives import View, bounds_text
from workbench.front.points import Points
from workbench.quantities import banded, duration, many, number
from workbench.report.text import describe
from workbench.result import COSTS, Result, originals
from workbench.result.outdated import changes, kinds

_MOST_TIED = 6
"""How many points that tie, or that are guesses, are named."""


GUESS = " (a guess)"
"""Stands behind the score of a point that does no better than the commonest answer given to everything."""


@dataclass(frozen=True)
class Pick:
    """A point that an answer names.

    Attributes:
        why: Why it is named: it is the best `within` the budget, the cheapest `reaching` the target, the `best`, `tied`
            with the best, or `nearly` as good.
        point: The point, with its confirmed score where it has one.
    """

    why: str
    point: Result


def answer(points: Points, *, budget_usd: float | None = None, target: float | None = None, budget: float | None = None) -> str:
    """Return the sentence that answers the study's question.

    Points that were confirmed have their mean score over new seeds, with its 95 % interval. Of the points that are tied
    with the best one, the cheapest is the answer. Where no point does better than the commonest answer given to everything,
    there is none.

    Args:
        points: The points of the study.
        budget_usd: Name the best point whose cost from cold, compute and labels, is at most this many US$.
        target: Name the cheapest point whose score is at least this.
        budget: As `budget_usd`, but in the unit of the view's first cost.
    """
    view, known, of = points.view, points.candidates, points.confirmed
    if not known and points.unknown:
        return f"No finished run has a known cost on {view.offer.name}: there is nothing to choose from at this price."
    if not known and points.unmet:
        return f"No point has {bounds_text(view.require)}, as the study requires. {_closest(points)}"
    if not known and points.outdated:
        count, why = len(points.outdated), changes(kinds(points.outdated))
        all_are = "The one finished result is" if count == 1 else f"All {count:,} finished results are"
        return f"{all_are} of other inputs ({why}): there is nothing to choose from until the study is swept again."
    if not known:
        return "No run has finished yet: there is nothing to choose from."
    sentences = []
    if budget_usd is not None:
        sentences.append(_within(points, "usd", budget_usd))
    elif budget is not None:
        sentences.append(_within(points, view.minimize[0], budget))
    if target is not None:
        reaching = _reaching(points, target)
        if reaching is not None:
            least = COSTS[view.minimize[0]].phrases.least
            text = f"The {least} that reaches {view.maximize} {target:g} is {_point(reaching, view, of)}."
            text += _just_below_text(points, target, reaching)
        else:
            best = _best(points)
            text = f"No run reached {view.maximize} {target:g}; the best is {_point(best, view, of)}."
            text += f" That is {_missed(best, view, target)}." if _seems(best, view, target) else ""
        sentences.append(text)
    if sentences:
        return " ".join(sentences) + _unmet_text(points)
    return _best_text(points) + _unmet_text(points)


def _best_text(points: Points) -> str:
    """Say which point is the answer where nothing else was asked for."""
    view, of, best = points.view, points.confirmed, _best(points)
    if view.by_chance(best):
        return f"Nothing found beats {_commonest(view)}; the highest is {_point(best, view, of, told=False)}."
    cheaper = _tied(points, best)
    if cheaper is None:
        return f"The best is {_point(best, view, of)}.{_nearly_text(points, best)}"
    least = COSTS[view.minimize[0]].phrases.saved.format(f"{_saved(view, best, cheaper)}%")
    tie = f"It comes {least} than {checkpoint_text(best)}, and new seeds do not tell the two apart"
    return f"The answer is {_point(cheaper, view, of)}. {tie}; that one is {_point(best, view, of)}."


def _commonest(view: View) -> str:
    return f"the commonest answer given to everything, which has {view.maximize} {view.grading['constant_score']:.1f}"


def checkpoint_text(result: Result) -> str:
    """Name a point by its trial: `trial 0 at 2 epochs`; one that is not trained in epochs `trial 3`."""
    return f"trial {result.trial}" + (f" at {many(result.epochs, 'epoch')}" if result.epochs else "")


def guesses_text(points: Points) -> str:
    """Say which members of the front do no better than the commonest answer; empty where none or all do: the answer says that."""
    guesses = [r for r in points.best if points.view.by_chance(r)]
    if not guesses or len(guesses) == len(points.best):
        return ""
    names = ", ".join(map(checkpoint_text, guesses[:_MOST_TIED])) + (" and others" if len(guesses) > _MOST_TIED else "")
    return f"No better than {_commonest(points.view)}: {names}."


def _unmet_text(points: Points) -> str:
    """Say how many points the study's bounds leave off; empty where they leave off none."""
    count, total = len(points.unmet), len(points.unmet) + len(points.candidates)
    if not count:
        return ""
    has = "has" if count == 1 else "have"
    return f" Only points with {bounds_text(points.view.require)} count: {count:,} of {many(total, 'point')} {has} not."


def _closest(points: Points) -> str:
    """Say how near to each bound any point comes."""
    parts = []
    for name, bound in points.view.require.items():
        scores = [r.scores[name] for r in points.unmet if name in r.scores]
        nearest, what = (min, "least") if "at_most" in bound else (max, "best")
        parts.append(f"The {what} {name} is {nearest(scores):.1f}." if scores else f"No point has a {name}.")
    return " ".join(parts)


def picks(points: Points, *, budget: float | None = None, target: float | None = None) -> list[Pick]:
    """Return the points that `answer` names, the one to take first; none where there is nothing to choose from.

    Args:
        points: The points of a study.
        budget: What a point may cost, in the unit of the view's first cost; None for no limit.
        target: The score that it must reach; None for none.
    """
    if not points.candidates:
        return []
    best = _best(points)
    if budget is None and target is None:
        other, why = _tied(points, best), "tied"
        if other is None:
            other, why = _nearly(points, best), "nearly"
        found = [Pick("best", best), *([] if other is None else [Pick(why, other)])]
        # Of points that new seeds do not tell apart the cheaper one is the
        # one to take. One that is nearly as good is only an alternative.
        return found[::-1] if why == "tied" else found
    within = None if budget is None else _affordable(points, points.view.minimize[0], budget)
    reaching = None if target is None else _reaching(points, target)
    return [Pick(why, r) for why, r in (("within", within), ("reaching", reaching)) if r is not None]


def within_usd(points: Points, budget_usd: float) -> Result | None:
    """Return the best point that costs at most so many US$, compute and labels; None where there is none."""
    return _affordable(points, "usd", budget_usd)


def cost_text(view: View, result: Result, name: str, *, band: bool = False) -> str:
    """Write one cost of a point with its unit, and with its band if asked for; `unknown` where it was not measured."""
    found = view.estimate(result, name)
    if found is None:
        return "unknown"
    return banded(found, COSTS[name].text) if band else COSTS[name].text(found.value)


def cost_cells(view: View, result: Result, names: Sequence[str]) -> list[str]:
    """Costs of a point as `cost_text` has them, with bands, for a row of a table: what they rest on is said once, in the first."""
    bases: set[str] = set()
    cells = []
    for name in names:
        found = view.estimate(result, name)
        text = cost_text(view, result, name, band=True)
        if found is not None and found.basis in bases:
            text = text.replace(f", {found.basis})", ")").replace(f" ({found.basis})", "")
        cells.append(text)
        bases |= {found.basis} if found is not None else set()
    return cells


def contended_text(results: Sequence[Result]) -> str:
    """Say what the costs of contended points are, and which point others disturbed most; empty where none is contended.

    `2 of 9 points are contended: other programs used the machine meanwhile, and their costs are what they would take
    alone, by estimate. Trial 28 took 15 min 02 s, and would take 21 s.`
    """
    points = [r for r in originals(results) if r.status == "complete"]
    contended = [r for r in points if r.contended]
    if not contended:
        return ""
    # The extreme case is named, since it shows why the measured seconds are not compared.
    worst = max(contended, key=lambda r: r.cold.seconds - r.alone.seconds)
    are = "is" if len(contended) == 1 else "are"
    text = f"{len(contended)} of {many(len(points), 'point')} {are} contended: other programs used the machine meanwhile, and "
    text += "costs are what a point would take alone, by estimate."
    if worst.alone.seconds < worst.cold.seconds:
        text += f" Trial {worst.trial} took {duration(worst.cold.seconds)}, and would take {duration(worst.alone.seconds)}."
    return text


def ties_text(members: Sequence[Result], view: View) -> str:
    """Say which members of a front tie exactly in all objectives of the view; empty where none do.

    Args:
        members: The members of the front with their confirmed scores, as in `Points.best`.
        view: Prices and objectives.
    """
    groups: dict[tuple[float, ...] | None, list[Result]] = {}
    for r in members:
        groups.setdefault(view.coordinates(r), []).append(r)
    sentences = []
    for tied in groups.values():
        if len(tied) > 1:
            names = [f"{r.trial} at {many(r.epochs, 'epoch')}" for r in tied[:_MOST_TIED]]
            more = f" and {len(tied) - _MOST_TIED} more" if len(tied) > _MOST_TIED else ""
            sentences.append(f"{len(tied)} points tie exactly: trials {', '.join(names)}{more}.")
    return " ".join(sentences)


def score_text(score: float, known: Confirmed | None, *, brief: bool = False) -> str:
    """Write a score, or what new seeds say of it: `68.9 (67.5 to 70.3, 3 new seeds)`; `brief`: `68.9 (67.5…70.3)`."""
    if known is None or not known.seeds:
        return f"{score:.1f}"
    failed = f"{known.failed} more failed" if known.failed else ""
    seeds = f"{many(known.seeds, 'new seed')}{' alike' if known.fixed else ''}"
    return _with_interval(known.score, [*([] if brief else [seeds]), failed], brief=brief)


def held_out_text(known: Confirmed | None, *, brief: bool = False) -> str:
    """Write the score on the test split with its interval: over new seeds, or, where no seed changes it, over the examples:
    `63.2 (57.1 to 69.0 over 256 examples)`. Empty where there is none.
    """
    if known is None or known.test is None:
        return ""
    return _with_interval(known.test, [], f" over {many(known.examples, 'example')}" if known.examples else "", brief=brief)


def intervals_text(points: Points, shown: Sequence[Result] | None = None) -> str:
    """Say what the intervals of confirmed points rest on, in a sentence or two; empty where there are none.

    `shown` are the points that it is said of; None for the members of the front.

    `The 95 % intervals are over new seeds and share one variance, that of 3 points together. What no new seed changed has none.`
    """
    shown = points.members if shown is None else shown
    confirmed = [points.confirmed[r.recipe_id] for r in shown if r.recipe_id in points.confirmed]
    found = [known.score for known in confirmed if known.score.low is not None]
    pooled, own = sum(each.pooled for each in found), sum(not each.pooled for each in found)
    told = []
    if pooled:
        but = f"; {own} {'has its' if own == 1 else 'have their'} own" if own else ""
        told.append(f"The 95 % intervals are over new seeds and share one variance, that of {pooled} points together{but}.")
    elif own:
        are, why = ("interval is", "") if own == 1 else ("intervals are", ", each with its own variance: these differ")
        told.append(f"The 95 % {are} over new seeds{why}.")
    if any(known.fixed and known.seeds for known in confirmed):
        over = ", and on the test split one over the examples" if any(known.examples for known in confirmed) else ""
        told.append(f"What no new seed changed has none over seeds{over}.")
    return " ".join(told)


def _with_interval(found: Interval, more: Sequence[str], over: str = "", *, brief: bool) -> str:
    """Write a mean with its interval and what is told behind it."""
    known = found.low is not None and found.high is not None
    between = f"{found.low:.1f}{'…' if brief else ' to '}{found.high:.1f}{'' if brief else over}" if known else ""
    told = ", ".join(filter(None, (between, *more)))
    return f"{found.mean:.1f} ({told})" if told else f"{found.mean:.1f}"


def _best(points: Points) -> Result:
    """Return the point with the highest score; of equal ones the cheapest."""
    view = points.view
    return max(points.best, key=lambda r: (r.scores[view.maximize], -_first(view, r)))


def _reaching(points: Points, target: float) -> Result | None:
    """Return the cheapest point whose score is at least the target; None where there is none."""
    view = points.view
    reaching = [r for r in points.best if r.scores[view.maximize] >= target]
    return min(reaching, key=lambda r: (_first(view, r), -r.scores[view.maximize]), default=None)


def _just_below_text(points: Points, target: float, reaching: Result) -> str:
    """Name the best of the cheaper points whose rounded score seems to reach the target, since it would seem to be passed over."""
    view = points.view
    cheaper = [r for r in points.best if _seems(r, view, target) and _first(view, r) < _first(view, reaching)]
    if not cheaper:
        return ""
    r = max(cheaper, key=lambda r: r.scores[view.maximize])
    return f" Cheaper, at {cost_text(view, r, view.minimize[0])}, and {_missed(r, view, target)}: {describe(r)}."


def _seems(result: Result, view: View, target: float) -> bool:
    """Return whether a score below the target reaches it once it is rounded to be shown."""
    score: float = result.scores[view.maximize]
    # A score of 39.96 is shown as 40.0. Saying only that
    # it misses a target of 40 would read as a mistake.
    return score < target <= round(score, 1)


def _missed(result: Result, view: View, target: float) -> str:
    return f"only {number(float(target - result.scores[view.maximize]))} below it"


def _priced(points: Points, name: str) -> list[tuple[float, Result]]:
    """Return the points that may be the best within a budget of this cost, each behind what it costs."""
    # A cost that the front does not minimise may be lowest
    # at a dominated point, so all points are looked at.
    of = points.best if name in points.view.minimize else points.candidates
    return [(price, r) for r in of if (price := points.view.cost(r, name)) is not None]


def _affordable(points: Points, name: str, budget: float) -> Result | None:
    """Return the best point that costs at most the budget; None where there is none."""
    within = [(price, r) for price, r in _priced(points, name) if price <= budget]
    return max(within, key=lambda pair: (pair[1].scores[points.view.maximize], -pair[0]), default=(0.0, None))[1]


def _within(points: Points, name: str, budget: float) -> str:
    """Say which point is the best within a budget."""
    view, of, priced = points.view, points.confirmed, _priced(points, name)
    if not priced:
        return f"What the points cost in US$ is unknown on {view.offer.name}."
    best = _affordable(points, name, budget)
    if best is not None:
        return f"Within {COSTS[name].text(budget)} the best is {_point(best, view, of, name)}."
    cheapest = min(priced, key=lambda pair: pair[0])[1]
    return f"Nothing costs {COSTS[name].text(budget)} or less; the cheapest is {_point(cheapest, view, of, name)}."


def _tied(points: Points, best: Result) -> Result | None:
    """Return the cheapest point that new seeds do not tell apart from the best one; None where none is cheaper.

    Its mean must also lie within the interval of the best: few seeds tell little apart, and a tie alone would then name
    almost any point.
    """
    of, view = points.confirmed, points.view
    if best.recipe_id not in of:
        return None
    low = of[best.recipe_id].score.low
    tied = {name for name in of[best.recipe_id].tied_with or () if low is not None and of[name].score.mean >= low}
    cheaper = min(
        (r for r in points.candidates if r.recipe_id in tied and not view.by_chance(r)), key=lambda r: _first(view, r), default=best
    )
    return cheaper if _saved(view, best, cheaper) >= 1 else None


def _nearly(points: Points, best: Result) -> Result | None:
    """Return the cheapest point with nine tenths of the best score; None where none is cheaper."""
    view = points.view
    top = best.scores[view.maximize]
    enough = [r for r in points.best if r.scores[view.maximize] >= 0.9 * top and not view.by_chance(r)]
    cheaper = min(enough, key=lambda r: (_first(view, r), -r.scores[view.maximize]), default=best)
    return cheaper if top > 0 and _saved(view, best, cheaper) >= 1 else None


def _nearly_text(points: Points, best: Result) -> str:
    """Say what share of the quality a nearly as good point has, and what it saves."""
    cheaper, view = _nearly(points, best), points.view
    if cheaper is None:
        return ""
    # Rounded down, as the saving is: neither is promised better than it is.
    share = math.floor(100 * cheaper.scores[view.maximize] / best.scores[view.maximize])
    saved = COSTS[view.minimize[0]].phrases.saved.format(f"{_saved(view, best, cheaper)}%")
    return f" {share}% of that quality comes {saved}: {_point(cheaper, view, points.confirmed)}."


def _saved(view: View, best: Result, cheaper: Result) -> int:
    """Return by how many percent the cheaper point is cheaper, rounded down."""
    price = _first(view, best)
    return math.floor(100 * (1 - _first(view, cheaper) / price)) if price > 0 else 0


def _point(result: Result, view: View, of: Mapping[str, Confirmed], *more: str, told: bool = True) -> str:
    """Write a point with its score and costs, `more` ones too; with `told`, that it is a guess where it is one."""
    costs = " and ".join(cost_text(view, result, name) for name in dict.fromkeys((*view.minimize, *more)))
    known = of.get(result.recipe_id)
    score = score_text(result.scores[view.maximize], known) + (" (not confirmed)" if of and known is None else "")
    # The interval over seeds stands beside the score already; that over examples is the only one there is.
    graded = "" if known is None or known.test is None else held_out_text(known) if known.examples else f"{known.test.mean:.1f}"
    test = f", {graded} on the test split" if graded else ""
    guess = (
        f", no better than the commonest answer ({view.grading['constant_score']:.1f})," if told and view.by_chance(result) else ""
    )
    return f"{describe(result)}: {view.maximize} {score}{test}{guess} for {costs}"


def _first(view: View, result: Result) -> float:
    value = view.cost(result, view.minimize[0])
    return math.inf if value is None else value
