"""The sweep: decide, train under the meter, record; again until a limit is reached. Running again is resuming.

sweeping           a sweep: the runner with the search's planner, or Optuna's
confirming         the front's members once more with new seeds, and on the held-out test split: the runner with a plan
runner             the one runner: acts on decisions until nothing is left to do
planner            what comes next: the search's decision within the budgets
deciding           takes the lease of what was proposed, or finds that it ends
decisions          what a worker does next, said explicitly
training_run       one run at work
recording          how Results are made and written
grading            what a run is graded on beside the dev set
runs               a run to its longest, and a checkpoint of it
job                what it is all given, and what is opened for it
current            what a worker is making now, as the heartbeat tells it and the watch counts it
mending            what workers that died left behind
observer           who listens, and how a sweep ends
outlook            what lies ahead of runs, forecast for the search
limits             when it ends
budget             what may still be spent, and the watch that stops before it is passed
account            what is spent and bought so far, and whether what comes next fits
accumulator        what was consumed since the last Result
checks             what can be known to be wrong before
checkpoint_store   the folder of states and of the front's weights
unwritten          what the ledger was away for
file_lock          one worker at a time chooses
heartbeat          tells the ledger that this worker lives
disturbance        says that others use the machine, and when they are done
regularly          the thread in which these two, and the watch, do so
interruptions      Ctrl-C, and where it may break in
workers            several of them on one machine, and who looks after them
provenance         what must be known to read the figures years later
"""

from workbench.sweep.account import Account
from workbench.sweep.budget import OVERSHOOT_SECONDS, Budget
from workbench.sweep.checks import check_data, check_offer, graded_by
from workbench.sweep.confirming import SEEDS, Replicate, asked, confirm, expected, left, longest, nothing_fits, replicates
from workbench.sweep.job import Job
from workbench.sweep.limits import Limits
from workbench.sweep.observer import Observer, Outcome
from workbench.sweep.sweeping import sweep
from workbench.sweep.unwritten import Unwritten
from workbench.sweep.workers import MAX_DEATHS, Neighbours, Orders, Supervisor

__all__ = [
    "MAX_DEATHS",
    "OVERSHOOT_SECONDS",
    "SEEDS",
    "Account",
    "Budget",
    "Job",
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
    "asked",
    "confirm",
    "expected",
    "left",
    "longest",
    "nothing_fits",
    "replicates",
    "sweep",
]
