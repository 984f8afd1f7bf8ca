"""The sentences and records that the command line and the dashboard share. Pure functions of Results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import pareto
from workbench.prices import Offer
from workbench.result import Result, cost, spent_usd
from workbench.usage import Usage, add_phases, total

UNITS = {"usd": "US$", "usd_compute": "US$ of compute", "labels": "labels", "seconds": "s", "energy_j": "J"}
_LEAST = {
    "usd": "cheapest",
    "usd_compute": "cheapest to compute",
    "labels": "one with the fewest labels",
    "seconds": "quickest",
    "energy_j": "one with the least energy",
}
_SAVED = {
    "usd": "{} cheaper",
    "usd_compute": "with {} less spent on compute",
    "labels": "with {} fewer labels",
    "seconds": "in {} less time",
    "energy_j": "with {} less energy",
}


@dataclass(frozen=True)
class View:
    """Results seen at one offer and one price of a label.

    Attributes:
        maximize: The score.
        minimize: The costs.
        reference: The point of every objective that hypervolume is measured against, stored when the study was made.
        offer: What prices compute.
        label_usd: What a label costs, in US$.
    """

    maximize: str
    minimize: tuple[str, ...]
    reference: Mapping[str, float]
    offer: Offer
    label_usd: float

    @classmethod
    def of(cls, description: Mapping[str, Any], offer: Offer, label_usd: float) -> View:
        """The view that a ledger's description asks for."""
        return cls(description["maximize"], tuple(description["minimize"]), description["reference"], offer, label_usd)

    def cost(self, result: Result, name: str) -> float | None:
        """One cost of a point at this view's prices; None where it is unknown."""
        return cost(result, name, self.offer, self.label_usd)

    def coordinates(self, result: Result) -> tuple[float, ...] | None:
        """The point for dominance, everything minimised: minus the score, then the costs. None where one is unknown."""
        costs = [self.cost(result, name) for name in self.minimize]
        if result.status != "complete" or self.maximize not in result.scores or any(c is None for c in costs):
            return None
        return (-result.scores[self.maximize], *(c for c in costs if c is not None))


def front(results: Sequence[Result], view: View) -> list[Result]:
    """The points that no other dominates, cheapest first."""
    points = [(result, view.coordinates(result)) for result in results]
    known = [(result, point) for result, point in points if point is not None]
    kept = [known[i] for i in pareto.front([point for _, point in known])]
    return [result for result, _ in sorted(kept, key=lambda pair: (pair[1][1:], pair[1][0]))]


def hypervolume(results: Sequence[Result], view: View) -> float:
    """Dominated volume in score x decades of cost (log10), below the study's reference point; 0 without a point.

    In logarithms a halving of cost counts the same at a cent as at a hundred dollars.
    """
    points = [view.coordinates(result) for result in results]
    reference = (-view.reference[view.maximize], *(_log(view.reference[name]) for name in view.minimize))
    return pareto.hypervolume([(p[0], *map(_log, p[1:])) for p in points if p is not None], reference)


def answer(results: Sequence[Result], view: View, *, budget_usd: float | None = None, target: float | None = None) -> str:
    """The sentence that answers the study's question.

    Args:
        results: All Results of the study.
        view: Prices and objectives.
        budget_usd: Name the best point whose cost from cold (compute and labels) is at most this.
        target: Name the cheapest point whose score is at least this.
    """
    known = [r for r in results if view.coordinates(r) is not None]
    if not known:
        return "No run has finished yet: there is nothing to choose from."
    best = max(known, key=lambda r: (r.scores[view.maximize], -_first(view, r)))
    sentences = []
    if budget_usd is not None:
        sentences.append(_within(known, view, budget_usd))
    if target is not None:
        reaching = [r for r in known if r.scores[view.maximize] >= target]
        if reaching:
            least = min(reaching, key=lambda r: (_first(view, r), -r.scores[view.maximize]))
            sentences.append(f"The {_LEAST[view.minimize[0]]} that reaches {view.maximize} {target:g} is {_point(least, view)}.")
        else:
            sentences.append(f"No run reached {view.maximize} {target:g}; the best is {_point(best, view)}.")
    return " ".join(sentences) or f"The best is {_point(best, view)}.{_nearly_as_good(known, best, view)}"


def _within(known: Sequence[Result], view: View, budget_usd: float) -> str:
    """The best point that costs at most so much."""
    usd = {id(r): view.cost(r, "usd") or 0.0 for r in known}
    within = [r for r in known if usd[id(r)] <= budget_usd]
    if within:
        best = max(within, key=lambda r: (r.scores[view.maximize], -usd[id(r)]))
        return f"Within {dollars(budget_usd)} the best is {_point(best, view, 'usd')}."
    cheapest = min(known, key=lambda r: usd[id(r)])
    return f"Nothing costs {dollars(budget_usd)} or less; the cheapest is {_point(cheapest, view, 'usd')}."


def _nearly_as_good(known: Sequence[Result], best: Result, view: View) -> str:
    """What is given up, and saved, by the cheapest point with nine tenths of the best score."""
    top, price = best.scores[view.maximize], _first(view, best)
    enough = [r for r in known if r.scores[view.maximize] >= 0.9 * top]
    cheaper = min(enough, key=lambda r: (_first(view, r), -r.scores[view.maximize]), default=best)
    saved = math.floor(100 * (1 - _first(view, cheaper) / price)) if price > 0 else 0
    if top <= 0 or saved < 1:
        return ""
    share = math.floor(100 * cheaper.scores[view.maximize] / top)
    return f" {share}% of that quality comes {_SAVED[view.minimize[0]].format(f'{saved}%')}: {_point(cheaper, view)}."


def front_record(
    name: str, results: Sequence[Result], view: View, *, budget_usd: float | None = None, target: float | None = None
) -> dict[str, Any]:
    """The study's points as plain data: the contract of `workbench front --json`."""
    members = {id(r) for r in front(results, view)}
    return {
        "study": name,
        "maximize": view.maximize,
        "minimize": list(view.minimize),
        "answer": answer(results, view, budget_usd=budget_usd, target=target),
        "hypervolume": hypervolume(results, view),
        "points": [
            {
                "trial": r.trial,
                "recipe_id": r.recipe_id,
                "step": r.step,
                "model": r.model,
                "method": r.method,
                "settings": dict(r.settings),
                "score": r.scores.get(view.maximize),
                "usd": view.cost(r, "usd"),
                "usd_compute": view.cost(r, "usd_compute"),
                "usd_labels": view.cost(r, "usd_labels"),
                "labels": r.labels,
                "seconds": r.cold.seconds,
                "energy_j": r.cold.energy_j,
                "peak_memory_bytes": _peak_memory(r.cold),
                "offer_id": view.offer.id,
                "price_date": view.offer.date,
                "on_front": id(r) in members,
                "epochs": r.epochs,
                "seed": r.seed,
                "trainable_parameters": r.trainable_parameters,
            }
            for r in results
            if r.status == "complete"
        ],
    }


def front_markdown(results: Sequence[Result], view: View) -> str:
    """The front as a markdown table under the answer, for whoever reads the notebook."""
    names = ["trial", "model", "method", "settings", "labels", "epochs", view.maximize, *view.minimize]
    lines = [answer(results, view), "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for r in front(results, view):
        cells = [
            str(r.trial),
            r.model,
            r.method,
            settings_text(r),
            str(r.labels),
            f"{r.epochs:g}",
            f"{r.scores[view.maximize]:.1f}",
        ]
        lines.append(f"| {' | '.join([*cells, *(cost_text(view, r, name) for name in view.minimize)])} |")
    return "\n".join(lines) + "\n"


def runs_record(results: Sequence[Result], view: View, mlflow_runs: Mapping[str, str]) -> list[dict[str, Any]]:
    """One entry per run as plain data: the contract of `workbench runs --json`. A run stands as its last word does."""
    entries = []
    for segments in by_run(results):
        last = _last_word(segments)
        usage = last.usage or last.spent
        entries.append(
            {
                "trial": last.trial,
                "recipe_id": last.recipe_id,
                "status": last.status,
                "reason": last.reason,
                "model": last.model,
                "method": last.method,
                "settings": dict(last.settings),
                "seed": last.seed,
                "scores": dict(last.scores),
                "usage": total(usage.values()).to_json() | {"phases": {p: u.to_json() for p, u in usage.items()}},
                "usd": view.cost(last, "usd") if last.usage else spent_usd([last], view.offer, view.label_usd),
                "mlflow_run_id": mlflow_runs.get(last.run_id),
                "started": segments[0].started,
                "seconds": total(usage.values()).seconds,
                "run_id": last.run_id,
                "labels": last.labels,
                "epochs": last.epochs,
                "step": last.step,
                "usd_spent": spent_usd(segments, view.offer, 0.0),
                "checkpoints": [
                    {
                        "recipe_id": r.recipe_id,
                        "number": r.number,
                        "status": r.status,
                        "epochs": r.epochs,
                        "step": r.step,
                        "scores": dict(r.scores),
                        "usd": view.cost(r, "usd") if r.usage else None,
                    }
                    for r in segments
                ],
            }
        )
    return entries


def by_run(results: Sequence[Result]) -> list[list[Result]]:
    """Results grouped by run, in the order in which the runs began."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.run_id, []).append(result)
    return list(groups.values())


def find_run(results: Sequence[Result], wanted: str) -> list[Result]:
    """The Results of a run by its trial number, or by the beginning of its run id or of a recipe id; empty if there is none."""
    runs = by_run(results)
    for segments in runs:
        if any(wanted in (str(r.trial), str(r.number)) for r in segments):
            return segments
    for segments in runs:
        if len(wanted) >= 4 and any(name.startswith(wanted) for r in segments for name in (r.run_id, r.recipe_id)):
            return segments
    return []


def phases_spent(results: Sequence[Result]) -> dict[str, Usage]:
    """What was really consumed, by phase, over all Results."""
    spent: dict[str, Usage] = {}
    for result in results:
        spent = add_phases(spent, result.spent)
    return spent


def dollars(value: float | None) -> str:
    """US$ to the cent, below a dollar to three significant digits: `$12.30`, `$0.00042`; `unknown` for None."""
    if value is None:
        return "unknown"
    if not 0 < abs(value) < 1:
        return f"${value:,.2f}"
    cents, digits = f"{value:.{2 - math.floor(math.log10(abs(value)))}f}".split(".")
    return f"${cents}.{digits.rstrip('0'):0<2}"


def duration(seconds: float) -> str:
    """`1.2 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def number(value: Any) -> str:
    """A setting as people write it: `2e-4` rather than 0.00020134, `128` rather than 128.0."""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def short_settings(settings: Mapping[str, Any]) -> str:
    """Settings in a few characters: `r=8, lr=2e-4`; a setting is called by the last part of its path."""
    names = {name: name.rsplit(".", 1)[-1].replace("learning_rate", "lr") for name in settings}
    return ", ".join(f"{names[name]}={number(value)}" for name, value in settings.items())


def settings_text(result: Result) -> str:
    """The settings of the method that the study left open."""
    return short_settings({name: value for name, value in result.settings.items() if name.startswith(f"{result.method}.")})


def describe(result: Result) -> str:
    """A recipe in a few words: `lora (r=8, lr=2e-4) on minilm-l6, 512 labels, 2 epochs`."""
    own = settings_text(result)
    method = f"{result.method} ({own})" if own else result.method
    return f"{method} on {result.model}, {_many(result.labels, 'label')}, {_many(result.epochs, 'epoch')}"


def usage_cells(usage: Usage | None) -> tuple[str, str, str, str]:
    """Time, CPU time, energy and peak memory of a window as text; `unknown` where it was not measured."""
    if usage is None:
        return ("", "", "", "")
    cpu = "unknown" if usage.cpu_seconds is None else duration(usage.cpu_seconds)
    energy = "unknown" if usage.energy_j is None else f"{usage.energy_j:,.0f} J"
    peak = _peak_memory(usage)
    return duration(usage.seconds), cpu, energy, "unknown" if peak is None else f"{peak / 2**20:,.0f} MiB"


def _many(count: float, noun: str) -> str:
    """`1 label`, `512 labels`, `0.5 epochs`."""
    return f"{count:,.10g} {noun}{'' if count == 1 else 's'}"


def _point(result: Result, view: View, *more: str) -> str:
    costs = " and ".join(cost_text(view, result, name) for name in dict.fromkeys((*view.minimize, *more)))
    return f"{describe(result)}: {view.maximize} {result.scores[view.maximize]:.1f} for {costs}"


def cost_text(view: View, result: Result, name: str) -> str:
    """One cost of a point with its unit, `unknown` where it was not measured."""
    value = view.cost(result, name)
    if value is None or name.startswith("usd"):
        return dollars(value)
    if name == "seconds":
        return duration(value)
    return _many(value, "label") if name == "labels" else f"{value:,.0f} {UNITS[name]}"


def _first(view: View, result: Result) -> float:
    value = view.cost(result, view.minimize[0])
    return math.inf if value is None else value


def _last_word(segments: Sequence[Result]) -> Result:
    """What a run has come to: that it is being made, is infeasible, its furthest checkpoint, or an interruption."""
    rank = {"running": 3, "infeasible": 2, "complete": 1, "interrupted": 0}
    last = max(segments, key=lambda r: (rank[r.status], r.epochs))
    newest = max(segments, key=lambda r: r.number or 0)
    return newest if newest.status == "interrupted" and last.status == "complete" and last.epochs < newest.epochs else last


def _peak_memory(usage: Usage) -> int | None:
    return usage.gpu_peak_memory_bytes if usage.gpu_seconds else usage.peak_memory_bytes


def _log(value: float) -> float:
    return math.log10(max(value, 1e-12))
