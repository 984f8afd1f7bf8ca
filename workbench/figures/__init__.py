"""Figures of Results and replays for the browser. The only house of `plotly`, which is imported when a figure is drawn.

style      colours, shapes and ticks that all share; one HTML file with everything in it
front      cost from cold against the score; front_3d where there are two costs
compare    methods as the budget grows; one run: its curve, its phases
regret     any-time curves of searches on recorded runs
"""

from workbench.figures.compare import by_method, phases, run_curve
from workbench.figures.front import CLOUD, front, mark
from workbench.figures.front_3d import front_3d
from workbench.figures.regret import regret
from workbench.figures.style import COLOURS, DASHES, GREY, INK, SYMBOLS, html, write_html

__all__ = [
    "CLOUD",
    "COLOURS",
    "DASHES",
    "GREY",
    "INK",
    "SYMBOLS",
    "by_method",
    "front",
    "front_3d",
    "html",
    "mark",
    "phases",
    "regret",
    "run_curve",
    "write_html",
]
