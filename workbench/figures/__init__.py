"""Figures of Results and replays for the browser. The only house of `plotly`, which is imported when a figure is drawn.

style         colours, shapes and ticks that all share; one HTML file with everything in it
front         cost from cold against the score; front_3d where there are two costs
compare       methods as the budget grows; one run: its curve, its phases
other_offers  what one quality costs at each offer
curves        quality as runs go on
settings      how much each setting matters, quality by one of them, all side by side
labels        quality against the number of labels
in_use        shares of classes of a served model
trajectory    hypervolume against spend
failures      work that bought no model, and what fitted into memory
regret        any-time curves of searches on recorded runs
front_3d      the front of two costs, in space
"""

from workbench.figures.compare import by_method, phases, run_curve
from workbench.figures.curves import curves
from workbench.figures.failures import failures, memory
from workbench.figures.front import CLOUD, front, mark
from workbench.figures.front_3d import front_3d
from workbench.figures.in_use import FEWEST as FEWEST_ROWS
from workbench.figures.in_use import class_shares
from workbench.figures.labels import labels
from workbench.figures.other_offers import elsewhere
from workbench.figures.regret import regret
from workbench.figures.settings import by_setting, importance, parallel
from workbench.figures.style import GREY, html, looks, write_html
from workbench.figures.trajectory import course

__all__ = [
    "CLOUD",
    "FEWEST_ROWS",
    "GREY",
    "by_method",
    "by_setting",
    "class_shares",
    "course",
    "curves",
    "elsewhere",
    "failures",
    "front",
    "front_3d",
    "html",
    "importance",
    "labels",
    "looks",
    "mark",
    "memory",
    "parallel",
    "phases",
    "regret",
    "run_curve",
    "write_html",
]
