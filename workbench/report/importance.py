"""Which settings matter, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.front.importance import LEAST_RUNS, Effect, Importance, setting
from workbench.front.objectives import View
from workbench.quantities import many, number
from workbench.result import COSTS, Result, originals


def slice_text(points: Sequence[Result], view: View, name: str) -> str:
    """Say what each value of a setting came to at its best: `Best f1 by model, minilm-l6: 84.6 (8 runs); …`."""
    groups: dict[Any, list[Result]] = {}
    for r in points:
        groups.setdefault(setting(r, name), []).append(r)
    best = sorted(
        ((max(r.scores[view.maximize] for r in group), value, group) for value, group in groups.items()), key=lambda b: -b[0]
    )
    # Eight values are as many as a sentence holds. It also
    # stands for the figure where a reader cannot see it.
    told = [f"{number(value)}: {score:.1f} ({many(len({r.run_id for r in group}), 'run')})" for score, value, group in best[:8]]
    rest = f", and {len(best) - len(told)} more" if len(best) > len(told) else ""
    return f"Best {view.maximize} by {short_name(name)}, {'; '.join(told)}{rest}."


def importance_text(found: Importance | None, view: View, results: Sequence[Result]) -> str:
    """Say which settings the score and the cost depend on, and how sure that is."""
    if found is None:
        runs = len({r.run_id for r in originals(results) if view.coordinates(r) is not None})
        return f"{many(runs, 'run')} cannot say what matters: it takes {LEAST_RUNS}, and settings that vary."
    quality = _told(view.maximize, found.quality, "points")
    cost = _told(COSTS[found.cost_name].phrases.noun, found.cost, "")
    shares = [f"{max(0.0, share):.0%}" for share in found.explained]
    return (
        f"{quality[:1].upper()}{quality[1:]}; {cost}. From {found.runs} runs, each predicted from the others: the settings explain "
        f"{shares[0]} of the scatter in {view.maximize}, {shares[1]} of that in cost."
    )


def short_name(name: str) -> str:
    """Write the path of a setting as a reader says it: `lora learning rate`, `labels`."""
    return {"task.train": "labels"}.get(name, name.replace(".", " ").replace("_", " "))


def swing_text(effect: Effect, unit: str) -> str:
    """Write the effect of a setting with its band: `12.3 f1 (8.1 to 15)`; of a cost, as a factor: `x 2.9 (2.7 to 3.1)`."""
    low, value, high = (number(round(x, 2)) for x in (effect.swing.low, effect.swing.value, effect.swing.high))
    return f"{value} {unit} ({low} to {high})" if unit else f"x {value} ({low} to {high})"


def _told(outcome: str, effects: Sequence[Effect], unit: str) -> str:
    sure = [effect for effect in effects if effect.sure]
    named = [f"{short_name(effect.name)} ({swing_text(effect, unit).split(' (')[0]})" for effect in (sure or effects)[:3]]
    if not sure:
        return f"no setting's effect on {outcome} can be told apart from chance yet, the largest is that of {named[0]}"
    return f"{outcome} depends most on {', '.join(named)}"
