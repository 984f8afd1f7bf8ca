"""The sweep: decide, train under the meter, record; again until a limit is reached. Running again is resuming.

sweeping          a sweep: the runner with the search's planner, or Optuna's
confirming        the front's members with new seeds and on the test split
runner            the one runner: acts on decisions until nothing is left to do
planner           what comes next: the search's decision within the budgets
batch             steps that one worker decides for several, where many are at work
lease_taking      takes the lease of what was proposed, or finds that it ends
actions           what a worker does next, said explicitly
training_run      one run at work
recording         how Results are made and written
grading           what a run is graded on beside the dev set
runs              a run at its full length, and its checkpoints
job               what a sweep is given, and what is opened for it
current_work      what a worker is making now, for the heartbeat and for the watch
repair            puts right what dead workers left behind
observer          is told what happens, and how the sweep ended
other_machines    which run is left to another machine, since that makes it for less
outlook           forecasts of the checkpoints ahead, for the search
limits            when a sweep ends
budget            what may still be spent, and the watch that stops before it is passed
account           what is spent and bought so far, and whether the next run fits
open_bill         what was consumed since the last Result
checks            finds mistakes before anything is spent
checkpoint_store  the folder of states and of the front's weights
forgetting        which Results used an example, and what learned from it
pending_results   the write-ahead files: Results that wait for a ledger that is away
file_lock         lets one worker at a time choose
heartbeat         tells the ledger that this worker lives
disturbance       says when others use the machine, and when they are done
periodic          the thread of the heartbeat, the disturbance and the watch
interruptions     Ctrl-C, and where it may break in
workers           several workers, and their supervisor
device_sharing    how many workers share one device, by measurement
autoscaling       as many workers as a machine's devices are worth
launching         where workers can be, and how one is started there
ray_launcher      the same on a cluster of Ray's
ray_nodes         what its machines cost, and how many runs they hold
machine_files     what starts workers on rented or scheduled machines, as files
to_label          which texts are worth a label next
answered          right answers from use, as labels
provenance        what a reader of the figures must know years later
"""

from workbench.sweep.account import Account
from workbench.sweep.autoscaling import Autoscaler, most_on, on_processors
from workbench.sweep.budget import OVERSHOOT_SECONDS, Budget
from workbench.sweep.checks import check_data, check_offer, graded_by
from workbench.sweep.confirming import (
    SEEDS,
    Replicate,
    asked,
    confirm,
    expected,
    left,
    longest,
    nothing_fits,
    recipe_of,
    replicates,
)
from workbench.sweep.device_sharing import Pace
from workbench.sweep.job import Job, Standing
from workbench.sweep.launching import Launcher, LocalLauncher, Place
from workbench.sweep.limits import Limits
from workbench.sweep.observer import Observer, Outcome
from workbench.sweep.pending_results import Unwritten
from workbench.sweep.ray_launcher import RayLauncher
from workbench.sweep.ray_nodes import Needs
from workbench.sweep.sweeping import sweep
from workbench.sweep.workers import MAX_DEATHS, Neighbours, Orders, Supervisor

__all__ = [
    "MAX_DEATHS",
    "OVERSHOOT_SECONDS",
    "SEEDS",
    "Account",
    "Autoscaler",
    "Budget",
    "Job",
    "Launcher",
    "LocalLauncher",
    "Pace",
    "Place",
    "RayLauncher",
    "Limits",
    "Needs",
    "Neighbours",
    "Observer",
    "Orders",
    "Outcome",
    "Replicate",
    "Standing",
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
    "most_on",
    "nothing_fits",
    "on_processors",
    "recipe_of",
    "replicates",
    "sweep",
]
