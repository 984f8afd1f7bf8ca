"""What `workbench front --load` and `--against` show: predictions, and which model they make cheaper in the long run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.cli.printing import Table, messages, print_table, print_text
from workbench.errors import UsageError
from workbench.front.members import cheapest, pareto_front
from workbench.front.objectives import View
from workbench.front.serving import Form, Load, break_even, forms_of, serving
from workbench.quantities import banded, dollars
from workbench.report.in_use import meets_text
from workbench.report.records import asked_for, find_run
from workbench.report.text import describe
from workbench.result import Result


def rival_of(results: Sequence[Result], view: View, wanted: str | None) -> Result | None:
    """Return the point that others are compared with: the best of the run asked for, else the cheapest of the front."""
    if wanted is None:
        return cheapest(results, view)
    points = [r for r in asked_for(find_run(results, wanted), wanted) if view.coordinates(r) is not None]
    if not points:
        raise UsageError(f"there is no finished run {wanted!r} to compare with. `workbench runs` lists them.")
    return max(points, key=lambda r: r.scores[view.maximize])


def show_serving(results: Sequence[Result], view: View, load: Load, forms: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what predictions of the front's members, and of their forms, cost, and after how many one has overtaken the rival.

    Args:
        results: All of the study.
        view: The prices.
        load: At which serving is priced, with the rival.
        forms: As `Ledger.forms` has them.
    """
    if not any(r.serving for r in results):
        messages.print("How fast these models predict was not measured: nothing is known of serving them.", style="yellow")
        return
    members = pareto_front(results, view)
    shown = [(r, form) for r in members for form in (None, *forms_of(forms.get(r.recipe_id, {})))]
    table, has_forms = Table(title=_serving_title(view, load.per_second)), len(shown) > len(members)
    names = ["trial", "epochs", *(["form"] if has_forms else []), view.maximize, *(["other answers"] if has_forms else [])]
    for name in (*names, "US$", "predictions/s", "latency", "US$ for 1,000", "against it"):
        # The rest is asked for: US$ of a point stand in the table above, and latency is in --json.
        spare = {"latency": 2, "US$": 1}.get(name, 0)
        table.add_column(name, justify="left" if name in ("against it", "form") else "right", spare=spare)
    for r, form in shown:
        what = [str(r.trial), f"{r.epochs:g}", *([form.name if form else "torch"] if has_forms else [])]
        score = r.scores[view.maximize] if form is None else form.score
        what += [f"{score:.1f}", *([_changed(form)] if has_forms else []), dollars(view.cost(r, "usd"))]
        table.add_row(*what, *_cells(r, view, load, form))
    print_table(table)
    if load.against is not None:
        print_text(f"Against {describe(load.against)}.\n")


def _changed(form: Form | None) -> str:
    """How many answers to the dev set a form changes."""
    if form is None:
        return ""
    return "unknown" if form.answers_changed is None else f"{100 * form.answers_changed:.1f} %"


def _cells(r: Result, view: View, load: Load, form: Form | None) -> list[str]:
    """Speed, latency and cost of a point or of a form of it, and what they make of the rival."""
    served, cells = serving(r, view, load.per_second, form), ["unknown"] * 3
    if served is not None:
        latency = "unknown" if served.latency_seconds is None else f"{served.latency_seconds * 1000:.1f} ms"
        cells = [banded(served.predictions_per_second, lambda rate: f"{rate:,.0f}"), latency, banded(served.usd_per_1000, dollars)]
    if load.against is None or (r is load.against and form is None):
        return [*cells, ""]
    return [*cells, meets_text(break_even(load.against, r, view, load.per_second, form))]


def _serving_title(view: View, load_per_second: float | None) -> str:
    load = f"{load_per_second:g} predictions a second" if load_per_second else "machines fully used"
    return f"Serving on {view.offer.name}, {load}"
