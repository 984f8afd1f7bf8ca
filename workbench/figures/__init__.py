"""Figures of Results and replays for the browser. The only house of `plotly`, which is imported when a figure is drawn.

style      colours, shapes and ticks that all share; one HTML file with everything in it
front      cost from cold against the score
regret     any-time curves of searches on recorded runs
"""

from workbench.figures.front import front
from workbench.figures.regret import regret
from workbench.figures.style import COLOURS, DASHES, SYMBOLS, html, write_html

__all__ = ["COLOURS", "DASHES", "SYMBOLS", "front", "html", "regret", "write_html"]
