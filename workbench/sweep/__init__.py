"""The sweep: decide, train under the meter, record; again until a limit is reached. Running again is resuming.

work           the loop, and one run of it
confirming     the front's members once more with new seeds, and on the held-out test split
chooser        what is next: the search's decision within the budgets
file_lock      one worker at a time chooses
outlook        what lies ahead of runs, forecast for the search
observer       who listens, and how a sweep ends
limits         when it ends
budget         what may still be spent, and the watch that stops before it is passed
accumulator    what was consumed since the last Result
account        what is spent and bought so far, and whether what comes next fits
checks         what can be known to be wrong before
shelf          the folder of states and of the front's weights
unwritten      what the ledger was away for
heart          tells the ledger that this worker lives
disturbance    says that others use the machine, and when they are done
regularly      the thread in which these two, and the watch, do so
interruptions  Ctrl-C, and where it may break in
workers        several of them on one machine, and who looks after them
provenance     what must be known to read the figures years later
"""

from workbench.sweep.account import Account
from workbench.sweep.budget import OVERSHOOT_SECONDS, Budget
from workbench.sweep.checks import check_data, check_offer, graded_by
from workbench.sweep.confirming import SEEDS, Replicate, confirm, expected, left, longest, nothing_fits, replicates
from workbench.sweep.limits import Limits
from workbench.sweep.observer import Observer, Outcome
from workbench.sweep.unwritten import Unwritten
from workbench.sweep.work import sweep
from workbench.sweep.workers import MAX_DEATHS, Neighbours, Orders, Supervisor

__all__ = [
    "MAX_DEATHS",
    "OVERSHOOT_SECONDS",
    "SEEDS",
    "Account",
    "Budget",
    "Limits",
    "Neighbours",
    "Observer",
    "Orders",
    "Outcome",
    "Replicate",
    "Supervisor",
    "Unwritten",
    "check_data",
    "check_offer",
    "graded_by",
    "confirm",
    "expected",
    "left",
    "longest",
    "nothing_fits",
    "replicates",
    "sweep",
]
