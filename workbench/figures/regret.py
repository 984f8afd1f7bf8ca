"""Any-time curves of searches on recorded runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.figures.style import COLOURS, DASHES
from workbench.quantities import many

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def regret(record: Mapping[str, Any]) -> Figure:
    """Draw the any-time curves of `workbench replay`: a panel for each table and number of workers, a line for each method.

    The x axis is the share of the budget spent (logarithmic), the y axis the mean hypervolume regret: 1 with nothing, 0 with
    the best front.
    """
    from plotly.subplots import make_subplots

    protocol, tables = record["protocol"], [table["table"] for table in record["tables"]]
    panels = [(table, workers) for table in tables for workers in protocol["workers"]]
    titles = [f"{table}, {many(workers, 'worker')}" for table, workers in panels]
    columns = len(protocol["workers"])
    figure = make_subplots(rows=len(tables), cols=columns, subplot_titles=titles, shared_xaxes=True, shared_yaxes=True)
    for row in record["results"]:
        at, method = panels.index((row["table"], row["workers"])), protocol["methods"].index(row["method"])
        line = {
            "color": COLOURS[method % len(COLOURS)],
            # More methods than colours: each further round of the palette has another dash.
            "dash": DASHES[method // len(COLOURS) % len(DASHES)],
            "width": 3 if row["method"] == protocol["against"] else 1.5,
            "shape": "hv",
        }
        # One legend for all panels: that of the first.
        more = {"name": row["method"], "legendgroup": row["method"], "showlegend": at == 0, "mode": "lines", "line": line}
        hover = "%{y:.3f} at %{x:.1%} of the budget"
        place = {"row": at // columns + 1, "col": at % columns + 1}
        figure.add_scatter(x=protocol["curve_shares"], y=row["curve"], hovertemplate=hover, **place, **more)
    figure.update_xaxes(type="log", tickvals=list(protocol["shares"]), tickformat=",.0%")
    figure.update_xaxes(title="share of the budget spent (logarithmic)", row=len(tables))
    figure.update_yaxes(range=[0, 1.02])
    figure.update_yaxes(title="hypervolume regret", col=1)
    figure.update_layout(template="plotly_white", width=max(700, 480 * columns), height=120 + 320 * len(tables), font={"size": 13})
    return figure
