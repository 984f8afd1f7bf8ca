"""What recipes will take, known before anything is spent: parameters, memory, FLOPs, seconds and energy, each with band and basis.

`plan` and `check` build every model and method of a study without weights. A `Forecaster` tells what a recipe will take: by a
formula and assumed constants, corrected by a short timing of this machine (`calibrate`), corrected by the Results of the study.

    amounts      how much work a recipe is: FLOPs, layer passes, updates, tokens
    calibration  a short timing of this machine by real steps
    forecast     what a forecast says
    forecaster   seconds, energy and memory of a recipe, before it is trained
    machine      the machine that a forecast is for
    memory       memory of training: weights, and what a micro-batch keeps
    starts       what a study tunes: its models, with what they learn before
    pairs        every model with every method of a study, built without weights
    passes       a pass through a model without weights
    pricing      what a forecast comes to on an offer
    sample       how many rows and tokens a task's examples are, from a sample
    timing       amounts of work become seconds, by a formula that runs correct
    typical      the average run of a study, and what many of it take
"""

from workbench.forecast.calibration import Calibration, calibrate
from workbench.forecast.forecast import Forecast
from workbench.forecast.forecaster import Forecaster
from workbench.forecast.machine import Machine, device_memory_bytes
from workbench.forecast.pairs import Plan, check, find_models, plan, problems
from workbench.forecast.pricing import Compute, CostForecast, is_price_of, on_offer
from workbench.forecast.timing import Timing
from workbench.forecast.typical import Ranked, Terms, Typical, of_runs, rank, trials_within, typical

__all__ = [
    "Calibration",
    "Compute",
    "CostForecast",
    "Forecast",
    "Forecaster",
    "Machine",
    "Plan",
    "Ranked",
    "Terms",
    "Timing",
    "Typical",
    "calibrate",
    "check",
    "device_memory_bytes",
    "find_models",
    "is_price_of",
    "of_runs",
    "on_offer",
    "plan",
    "problems",
    "rank",
    "trials_within",
    "typical",
]
