"""What `workbench front --load` and `--against` show: predictions, and which model they make cheaper in the long run."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.cli.common import Table, messages, print_table, print_text
from workbench.errors import UsageError
from workbench.front.members import cheapest, pareto_front
from workbench.front.objectives import View
from workbench.front.serving import BreakEven, break_even, serving
from workbench.quantities import banded, dollars
from workbench.report.records import find_run
from workbench.report.text import describe
from workbench.result import Result


def rival_of(results: Sequence[Result], view: View, wanted: str | None) -> Result | None:
    """Return the point that others are compared with: the best of the run asked for, else the cheapest of the front."""
    if wanted is None:
        return cheapest(results, view)
    segments = find_run(results, wanted)
    one = [r for r in segments if str(r.number) == wanted and wanted != str(r.trial)]  # a checkpoint by its own number
    points = [r for r in one or segments if view.coordinates(r) is not None]
    if not points:
        raise UsageError(f"there is no finished run {wanted!r} to compare with. `workbench runs` lists them.")
    return max(points, key=lambda r: r.scores[view.maximize])


def show_serving(results: Sequence[Result], view: View, load_per_second: float | None, rival: Result) -> None:
    """Print what predictions of the front's members cost, and after how many a member has overtaken the rival."""
    if not any(r.serving for r in results):
        messages.print("How fast these models predict was not measured: nothing is known of serving them.", style="yellow")
        return
    table = Table(title=_serving_title(view, load_per_second))
    for name in ("trial", "epochs", view.maximize, "US$", "predictions/s", "latency", "US$ for 1,000", "against it"):
        table.add_column(name, justify="left" if name == "against it" else "right")
    for r in pareto_front(results, view):
        served = serving(r, view, load_per_second)
        cells = ["unknown"] * 3
        if served is not None:
            latency = "unknown" if served.latency_seconds is None else f"{served.latency_seconds * 1000:.1f} ms"
            speed = banded(served.predictions_per_second, lambda rate: f"{rate:,.0f}")
            cells = [speed, latency, banded(served.usd_per_1000, dollars)]
        meets = "" if r is rival else _meets(break_even(rival, r, view, load_per_second))
        score = f"{r.scores[view.maximize]:.1f}"
        table.add_row(str(r.trial), f"{r.epochs:g}", score, dollars(view.cost(r, "usd")), *cells, meets)
    print_table(table)
    print_text(f"Against {describe(rival)}.\n")


def _meets(found: BreakEven | None) -> str:
    """Write a break-even: `cheaper after 12,000 predictions`."""
    if found is None:
        return "unknown"
    if found.predictions is None:
        return "always cheaper" if found.cheaper_before else "never cheaper"
    return f"cheaper {'until' if found.cheaper_before else 'after'} {found.predictions:,.0f} predictions"


def _serving_title(view: View, load_per_second: float | None) -> str:
    load = f"{load_per_second:g} predictions a second" if load_per_second else "machines fully used"
    return f"Serving on {view.offer.name}, {load}"
