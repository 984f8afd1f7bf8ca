"""What recipes will take, known before anything is spent: parameters, memory, FLOPs, seconds and energy, each with band and basis.

`plan` and `check` build every model and method of a study without weights. A `Forecaster` tells what a recipe will take: by a
formula and assumed constants, corrected by a short timing of this machine (`calibrate`), corrected by the Results of the study.
"""

from workbench.forecast.calibration import Calibration, calibrate
from workbench.forecast.forecast import Forecast
from workbench.forecast.forecaster import Forecaster
from workbench.forecast.machine import Machine, device_memory_bytes
from workbench.forecast.pairs import Plan, check, plan, problems
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
    "is_price_of",
    "of_runs",
    "on_offer",
    "plan",
    "problems",
    "rank",
    "trials_within",
    "typical",
]
