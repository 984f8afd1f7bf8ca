"""What is said of served models: their load and costs, drift, alarms, quality in use, second models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.front.serving import BreakEven, break_even, serving
from workbench.quantities import dollars, duration, many
from workbench.report.text import describe
from workbench.result import Result
from workbench.watching import alarms, drift
from workbench.watching.overview import Model, Overview
from workbench.watching.shadow import Agreement

_WHAT = {
    "length": "the length of rows",
    "class": "the share of classes",
    "confidence": "the confidence",
    "words": "the words",
    "embeddings": "the embeddings",
}


def use_rows(found: Overview) -> list[dict[str, Any]]:
    """A row for each model, the latest first: what runs, its load, its latency, its costs."""
    return [_use_row(each) for each in reversed(found.models)]


def _use_row(model: Model) -> dict[str, Any]:
    used = model.use
    return {
        "model": f"{used.model} {used.version}",
        "state": {True: "runs", False: "ended", None: "unknown"}[used.runs],
        "requests": used.requests,
        "refused": used.refused,
        "failed": used.failed,
        "rows": used.rows,
        "tokens": used.tokens,
        "p50": used.p50,
        "p95": used.p95,
        "p99": used.p99,
        "up": used.up_seconds,
        "rows/s": used.load_per_second,
        "J for 1,000": used.energy_j_per_1000,
        "US$": used.usd,
        "US$ for 1,000": used.usd_per_1000,
        "US$ for 1,000, never idle": used.full_usd_per_1000,
    }


def _cost_text(model: Model, found: Overview) -> str:
    """What a model's predictions cost, in a sentence."""
    used = model.use
    if not used.rows:
        return f"{used.model} {used.version} has answered no request yet."
    text = (
        f"{used.model} {used.version} answered {many(used.rows, 'row')} in {duration(used.up_seconds)} on {found.offer.name}: "
        f"{dollars(used.usd_per_1000)} for 1,000, idle time included"
    )
    return text + (f", and {dollars(used.full_usd_per_1000)} on a machine that is never idle." if used.full_usd_per_1000 else ".")


def _drift_texts(model: Model) -> list[str]:
    """Whether a model's rows are like those of the dev set, in sentences."""
    if not model.has_reference:
        return ["It was deployed without the dev set's distributions (`--no-check`): nothing is known of drift."]
    if not model.drifts:
        return [f"Of drift nothing can be said before {drift.FEWEST} rows."]
    moved = [each for each in model.drifts if each.drifted]
    rows = max(each.rows for each in model.drifts)
    if not moved:
        what = ", ".join(_WHAT[each.what].removeprefix("the ") for each in model.drifts)
        return [f"No drift in the last {rows:,} rows: {what} are as on the dev set."]
    return [
        f"Drift against the dev set: {_WHAT[each.what]} in the last {many(each.rows, 'row')} "
        f"({each.measure} {each.value:.2f}, above {each.threshold:.2f})."
        for each in moved
    ]


def drift_rows(model: Model) -> list[dict[str, Any]]:
    """A row for each thing that is compared with the dev set."""
    return [
        {"what": each.what, "measure": each.measure, "value": each.value, "threshold": each.threshold,
         "drifted": "yes" if each.drifted else "no", "rows": each.rows, "dev examples": each.examples}
        for each in model.drifts
    ]  # fmt: skip


def alarm_texts(model: Model) -> list[str]:
    """The alarms of a model, the latest first, or that there are none."""
    watched = model.watched
    told = [
        f"Alarm at row {each.row:,}, {moment(each.time)}: {each.label} {'rose' if each.rose else 'fell'} from "
        f"{100 * each.before:.0f} to {100 * each.after:.0f} % of rows, since about row {each.since_row:,}."
        for each in reversed(watched.alarms)
    ]
    if not watched.rows:
        return ["Its answers are no classes: there is no rate to watch."] if model.use.rows else []
    if not watched.usual:
        since = watched.rows - watched.alarms[-1].row if watched.alarms else watched.rows
        return [*told, f"Usual shares of classes are learned from {alarms.NEEDED} rows: {since:,} have come."]
    return told or [f"No alarm in {many(watched.rows, 'row')}."]


def _alarm_rule(model: Model) -> str:
    """How alarms are raised, with their rate of false ones and their delay."""
    rule = f"Alarms are set so that of a hundred unchanged streams of {alarms.HORIZON:,} rows one raises a false one."
    # What is more than a third of all rows does not double: it is taken to rise half of the way to all of them.
    common = sorted(
        (each for each in model.watched.usual.items() if 1 / alarms.NEEDED < each[1] <= 1 / 3), key=lambda item: -item[1]
    )
    delays: dict[int | None, list[str]] = {}
    for name, share in common[:6]:
        delays.setdefault(model.watched.delays.get(name), []).append(f"{name} ({100 * share:.0f} %)")
    told = [f"of {', '.join(names)} {_within(rows)} rows" for rows, names in delays.items()]
    return f"{rule} In 19 of 20 cases a share that doubles from now on is noticed: {'; '.join(told)}." if told else rule


def _within(rows: int | None) -> str:
    return f"after more than {alarms.HORIZON:,}" if rows is None else f"within {rows:,}"


def quality_text(model: Model) -> str:
    """The score in use beside that on the dev set, in a sentence."""
    found, known = model.quality, model.evidence
    dev = f"{known.get('metric')} {known['score']:.1f} on the dev set" if known.get("score") is not None else ""
    if found is None:
        return f"{dev[:1].upper()}{dev[1:]}; in use unknown: `workbench feedback FILE` takes right answers." if dev else ""
    band = "" if found.low is None or found.high is None else f" ({found.low:.1f} to {found.high:.1f}, 95 %)"
    text = f"In use {found.metric} {found.value:.1f}{band} by {many(found.examples, 'right answer')}"
    if found.metric != known.get("metric") or not dev:
        return f"{text}; {dev}." if dev else f"{text}."
    if found.low is None or found.high is None:
        return f"{text}; {dev}."
    score = float(known["score"])
    verdict = "clearly above" if score < found.low else "clearly below" if score > found.high else "as"
    return f"{text}, {verdict} {score:.1f} on the dev set."


def shadow_text(found: Agreement) -> str:
    """How often a second model agrees, and what the switch would save."""
    name = f"{found.model} {found.version}"
    dropped = f" {many(found.dropped, 'request')} passed it by while it was busy." if found.dropped else ""
    if not found.rows:
        return f"{name} has seen no request yet.{dropped}"
    share = f"{100 * (found.share or 0):.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f}, 95 %)"
    text = f"{name}, unseen, gave the same answer to {share} of {many(found.rows, 'row')}."
    if found.saves_usd_per_1000 is None:
        return f"{text} What it would cost is unknown.{dropped}"
    saves = found.saves_usd_per_1000
    verb = "would save" if saves >= 0 else "would cost"
    more = "" if saves >= 0 else " more"
    what = f"On machines that are never idle the switch {verb} {dollars(abs(saves))}{more} for 1,000 rows"
    return f"{text} {what} ({found.basis}).{dropped}"


def latency_text(median: float, p99: float) -> str:
    """Two latencies in milliseconds: `18 ms, 92 ms`."""
    return f"{1000 * median:,.0f} ms, {1000 * p99:,.0f} ms"


def rival_rows(results: Sequence[Result], view: View, model: Model) -> list[dict[str, Any]]:
    """What the members of the front would cost at the load that a served model really had, against it; cheapest first.

    Empty where it is no point of these results, or has answered nothing.
    """
    served = next((r for r in results if r.recipe_id == model.evidence.get("recipe_id")), None)
    load = model.use.load_per_second
    if served is None or not load:
        return []
    rows = []
    for r in pareto_front(results, view):
        there = serving(r, view, load)
        meets = "is served" if r.recipe_id == served.recipe_id else meets_text(break_even(served, r, view, load))
        rows.append(
            {
                "trial": r.trial,
                "model": describe(r),
                view.maximize: r.scores[view.maximize],
                "US$": view.cost(r, "usd"),
                "US$ for 1,000": None if there is None else there.usd_per_1000.value,
                "against what is served": meets,
            }
        )
    return rows


def rival_text(view: View, model: Model) -> str:
    """At which load rivals are reckoned, in a sentence."""
    load = model.use.load_per_second or 0.0
    return (
        f"US$ to make each, and for 1,000 predictions at {load:.3g} a second on {view.offer.name}, by the speed that the sweep "
        "measured: as many whole machines are held as that load needs."
    )


def meets_text(found: BreakEven | None) -> str:
    """Write a break-even: `cheaper after 12,000 predictions`."""
    if found is None:
        return "unknown"
    if found.predictions is None:
        return "always cheaper" if found.cheaper_before else "never cheaper"
    return f"cheaper {'until' if found.cheaper_before else 'after'} {found.predictions:,.0f} predictions"


def moment(seconds: float) -> str:
    """A moment in this place's time: `2026-11-30 14:05`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def sentences(model: Model, found: Overview) -> Sequence[str]:
    """All that is said of a model."""
    rule = [_alarm_rule(model)] if model.watched.usual else []
    told = [_cost_text(model, found), *_drift_texts(model), *alarm_texts(model), *rule, quality_text(model)]
    return [each for each in told if each]
