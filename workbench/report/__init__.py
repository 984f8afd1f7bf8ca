"""The sentences and records that the command line and the dashboard share. Pure functions of Results.

text      numbers, settings and recipes as people write them
view      Results at one offer and one price of a label: front, hypervolume
bill      what a point costs beside its making: serving, break-even, means
confirmed what new seeds say of the front: intervals, ties, the front as it stands then
points    a study's points at one view, worked out once; marginal prices, baselines
axes      costs in the units that people read them in
answers   the sentence that answers the study's question
tables    rows for the dashboard's tables and for CSV
reproduce how a point is made again by hand
records   plain data for programs, tables for people
rows      one row for each Result, every figure in a column of its own
"""

from workbench.report.answers import UNITS, Pick, answer, cost_text, picks, score_text
from workbench.report.axes import AXES, Axis, axes
from workbench.report.bill import BreakEven, Serving, break_even, peak_share, phases_spent, serving
from workbench.report.confirmed import Confirmed, Interval, confirmed, corrected, holm, standing
from workbench.report.points import Points, baselines, marginal, stopped
from workbench.report.records import find_run, front_markdown, front_record, runs_record
from workbench.report.reproduce import reproduce
from workbench.report.tables import best_within, differing, flat, front_rows, ladder, run_rows
from workbench.report.text import banded, describe, dollars, duration, many, number, settings_text, short_settings, usage_cells
from workbench.report.view import View, cheapest, front, hypervolume
from workbench.result import by_run, carried

__all__ = [
    "AXES",
    "UNITS",
    "Axis",
    "BreakEven",
    "Confirmed",
    "Interval",
    "Pick",
    "Points",
    "Serving",
    "View",
    "answer",
    "axes",
    "banded",
    "baselines",
    "best_within",
    "break_even",
    "by_run",
    "carried",
    "cheapest",
    "confirmed",
    "corrected",
    "cost_text",
    "describe",
    "differing",
    "dollars",
    "duration",
    "find_run",
    "flat",
    "front",
    "front_markdown",
    "front_record",
    "front_rows",
    "holm",
    "hypervolume",
    "ladder",
    "many",
    "marginal",
    "number",
    "peak_share",
    "phases_spent",
    "picks",
    "reproduce",
    "run_rows",
    "runs_record",
    "score_text",
    "serving",
    "settings_text",
    "short_settings",
    "standing",
    "stopped",
    "usage_cells",
]
