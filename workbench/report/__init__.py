"""The sentences and records that the command line and the dashboard share. Pure functions of Results.

text      numbers, settings and recipes as people write them
view      Results at one offer and one price of a label: front, hypervolume
bill      what a point costs beside its making: serving, break-even, means
confirmed what new seeds say of the front: intervals, ties, the front as it stands then
axes      costs in the units that people read them in
answers   the sentence that answers the study's question
records   plain data for programs, tables for people
progress  how a sweep stands: spend, rate, time left, workers
"""

from workbench.report.answers import UNITS, answer, cost_text, score_text
from workbench.report.axes import AXES, Axis, axes
from workbench.report.bill import BreakEven, Serving, break_even, peak_share, phases_spent, serving
from workbench.report.confirmed import Confirmed, Interval, confirmed, corrected, standing
from workbench.report.progress import Bound, Progress, Worker, bounds, progress, seconds_left, spent_text
from workbench.report.records import by_run, find_run, front_markdown, front_record, runs_record
from workbench.report.text import banded, describe, dollars, duration, number, settings_text, short_settings, usage_cells
from workbench.report.view import View, cheapest, front, hypervolume
from workbench.result import carried

__all__ = [
    "AXES",
    "UNITS",
    "Axis",
    "Bound",
    "BreakEven",
    "Confirmed",
    "Interval",
    "Progress",
    "Serving",
    "View",
    "Worker",
    "answer",
    "axes",
    "banded",
    "bounds",
    "break_even",
    "by_run",
    "carried",
    "cheapest",
    "confirmed",
    "corrected",
    "cost_text",
    "describe",
    "dollars",
    "duration",
    "find_run",
    "front",
    "front_markdown",
    "front_record",
    "hypervolume",
    "number",
    "peak_share",
    "phases_spent",
    "progress",
    "runs_record",
    "score_text",
    "seconds_left",
    "serving",
    "settings_text",
    "short_settings",
    "spent_text",
    "standing",
    "usage_cells",
]
