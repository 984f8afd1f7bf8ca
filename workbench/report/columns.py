"""The one table of a Result's columns: the name, the unit and the value that every record, export and table of
Results takes from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from workbench.front.objectives import View
from workbench.quantities import count
from workbench.report.text import peak_memory, settings_text
from workbench.result import COSTS, Result


@dataclass(frozen=True)
class Column:
    """A figure of a Result, or a fact about it.

    Attributes:
        name: Its key in records and its head in tables.
        unit: The unit of its value; empty where it is a plain number or no number at all.
        value: Takes the plain value of a Result at a view; None where it is unknown.
        text: Writes it for people to read.
        counts: Whether it is a number, which tables align to the right.
    """

    name: str
    unit: str
    value: Callable[[Result, View], Any]
    text: Callable[[Result, View], str]
    counts: bool = False


def values(result: Result, view: View, *names: str) -> dict[str, Any]:
    """Return the plain values of some columns by name, in the order asked for.

    Raises:
        KeyError: There is no such column.
    """
    return {name: COLUMNS[name].value(result, view) for name in names}


def cells(result: Result, view: View, *names: str) -> list[str]:
    """Return some columns as people read them, in the order asked for.

    Raises:
        KeyError: There is no such column.
    """
    return [COLUMNS[name].text(result, view) for name in names]


def _attribute(name: str, unit: str = "", write: Callable[[Any], str] = str, *, counts: bool = False) -> Column:
    """A column that a Result has under the same name."""
    return Column(
        name,
        unit,
        lambda result, view: getattr(result, name),
        lambda result, view: write(getattr(result, name)),
        counts,
    )


def _derived(name: str, unit: str, value: Callable[[Result], Any], write: Callable[[Result], str] | None = None) -> Column:
    """A column that follows from the Result alone."""
    text = write or (lambda result: str(value(result)))
    return Column(name, unit, lambda result, view: value(result), lambda result, view: text(result), bool(unit))


# Functions at module level, not lambdas in the loop below: those would all see its last name.
def _cost_value(name: str, result: Result, view: View) -> float | None:
    return view.cost(result, name)


def _cost_text(name: str, result: Result, view: View) -> str:
    known = view.cost(result, name)
    return "unknown" if known is None else COSTS[name].text(known)


_EPOCHS = "{:g}".format

COLUMNS: Mapping[str, Column] = {
    column.name: column
    for column in (
        *(  # `labels` and `gpu_seconds` are facts of the Result, whatever the prices
            Column(name, cost.unit, partial(_cost_value, name), partial(_cost_text, name), counts=True)
            for name, cost in COSTS.items()
            if name not in ("labels", "gpu_seconds")
        ),
        _attribute("number", counts=True),
        _attribute("trial", counts=True),
        _attribute("run_id"),
        _attribute("recipe_id"),
        _attribute("status"),
        _attribute("cause"),
        _attribute("retry"),
        _attribute("reason"),
        _attribute("replicate_of"),
        _attribute("contended"),
        _attribute("model"),
        _attribute("method"),
        _attribute("seed"),
        _attribute("epochs", "epochs", _EPOCHS, counts=True),
        _attribute("step", "steps", count, counts=True),
        _attribute("examples", "examples", count, counts=True),
        _attribute("tokens", "tokens", count, counts=True),
        _attribute("labels", "labels", count, counts=True),
        _attribute("trainable_parameters", counts=True),
        _derived("settings", "", lambda r: dict(r.settings), settings_text),
        _derived("scores", "", lambda r: dict(r.scores)),
        _derived("test_scores", "", lambda r: dict(r.test_scores.get(r.recipe_id, {}))),
        Column(
            "score",
            "",
            lambda r, view: r.scores.get(view.maximize),
            lambda r, view: f"{r.scores[view.maximize]:.1f}" if view.maximize in r.scores else "",
            counts=True,
        ),
        _derived("gpu_seconds", "GPU-s", lambda r: r.alone.gpu_seconds),
        _derived("seconds_measured", "s", lambda r: r.cold.seconds),
        _derived("stalled_seconds", "s", lambda r: r.cold.stalled_seconds),
        _derived("peak_memory_bytes", "B", lambda r: peak_memory(r.cold)),
    )
}
"""The columns by name. What a Result spent, and what the front says of it, is not its own: that is added where it is known."""

POINT = ("trial", "model", "method", "settings", "labels", "epochs")
"""What says which point it is, in the tables of a front."""
