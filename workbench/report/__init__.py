"""The sentences and records that the command line and the dashboard share. Pure functions of Results.

text      numbers, settings and recipes as people write them
view      Results at one offer and one price of a label: front, hypervolume
bill      what a point costs beside its making: serving, break-even, means
confirmed what new seeds say of the front: intervals, ties, the front as it stands then
points    a study's points at one view, worked out once; marginal prices, baselines
axes      costs in the units that people read them in
outdated  what is said of Results whose inputs have changed since
answers   the sentence that answers the study's question
tables    rows for the dashboard's tables and for CSV
reproduce how a point is made again by hand
records   plain data for programs, tables for people
rows      one row for each Result, every figure in a column of its own
progress  how a sweep stands: spend, rate, time left, workers
course    what the front had come to by the time that so much was spent
curves    quality as runs go on, and whether it still rises where they end
matters   which settings matter, and how surely that can be said
labels    quality against the number of labels, and what more of them would buy
doubts    what is to be doubted: nothing learned, too few dev examples
elsewhere all runs priced at every offer
failures  what failed, what did not fit, and what that cost
"""

from workbench.report.answers import UNITS, Pick, answer, contended_text, cost_text, picks, score_text
from workbench.report.axes import AXES, Axis, axes
from workbench.report.bill import BreakEven, Serving, break_even, peak_share, phases_spent, serving
from workbench.front.confirmed import Confirmed, Interval, confirmed, corrected, holm, standing
from workbench.report.course import Stage, course, course_text
from workbench.report.curves import ALONG, SHOWN, Curve, chosen, curves, curves_text
from workbench.report.doubts import doubts
from workbench.report.elsewhere import Elsewhere, elsewhere, elsewhere_text
from workbench.report.failures import Failure, Fit, failures, failures_text, memory_map, memory_text, settings_words, waste
from workbench.report.labels import MORE, Best, Line, best_by_labels, labels_text, line
from workbench.report.matters import (
    Effect,
    Matters,
    best_of_runs,
    matters,
    matters_text,
    setting,
    short_name,
    slice_text,
    swept,
    swing_text,
)
from workbench.result.outdated import changes, outdated_record, outdated_text
from workbench.front.points import Points, baselines, marginal, stopped, ties_text
from workbench.report.progress import Bound, Progress, Settled, Worker, bounds, progress, seconds_left, spent_text
from workbench.report.records import find_run, front_markdown, front_record, runs_record
from workbench.report.reproduce import reproduce
from workbench.report.tables import best_within, budgets_text, differing, flat, front_rows, ladder, run_rows, sample_rows
from workbench.report.text import (
    banded,
    count,
    describe,
    describe_plan,
    dollars,
    duration,
    many,
    number,
    settings_text,
    short_settings,
    usage_cells,
)
from workbench.front.view import View, cheapest, front, hypervolume
from workbench.result import by_run, carried

__all__ = [
    "ALONG",
    "AXES",
    "MORE",
    "SHOWN",
    "UNITS",
    "Axis",
    "Best",
    "Bound",
    "BreakEven",
    "Confirmed",
    "Curve",
    "Effect",
    "Elsewhere",
    "Failure",
    "Fit",
    "Interval",
    "Line",
    "Matters",
    "Pick",
    "Points",
    "Progress",
    "Serving",
    "Settled",
    "Stage",
    "View",
    "Worker",
    "answer",
    "axes",
    "banded",
    "baselines",
    "best_by_labels",
    "best_of_runs",
    "best_within",
    "bounds",
    "break_even",
    "budgets_text",
    "by_run",
    "carried",
    "changes",
    "cheapest",
    "chosen",
    "confirmed",
    "contended_text",
    "corrected",
    "cost_text",
    "count",
    "course",
    "course_text",
    "curves",
    "curves_text",
    "describe",
    "describe_plan",
    "differing",
    "dollars",
    "doubts",
    "duration",
    "elsewhere",
    "elsewhere_text",
    "failures",
    "failures_text",
    "find_run",
    "flat",
    "front",
    "front_markdown",
    "front_record",
    "front_rows",
    "holm",
    "hypervolume",
    "labels_text",
    "ladder",
    "line",
    "many",
    "marginal",
    "matters",
    "matters_text",
    "memory_map",
    "memory_text",
    "number",
    "outdated_record",
    "outdated_text",
    "peak_share",
    "phases_spent",
    "picks",
    "progress",
    "reproduce",
    "run_rows",
    "runs_record",
    "sample_rows",
    "score_text",
    "seconds_left",
    "serving",
    "setting",
    "settings_text",
    "settings_words",
    "short_name",
    "short_settings",
    "slice_text",
    "spent_text",
    "standing",
    "stopped",
    "swept",
    "swing_text",
    "ties_text",
    "usage_cells",
    "waste",
]
