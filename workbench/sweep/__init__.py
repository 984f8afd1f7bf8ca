"""The sweep: propose, train under the meter, record; again until a limit is reached. Running again is resuming.

work           the loop, and one run of it
confirming     the front's members once more with new seeds, and on the held-out test split
limits         when it ends
budget         what may still be spent, and the watch that stops before it is passed
account        what is spent and bought so far, and whether what comes next fits
checks         what can be known to be wrong before
shelf          the folder of states and of the front's weights
heart          the thread that tells the ledger that this worker lives
interruptions  Ctrl-C, and where it may break in
provenance     what must be known to read the figures years later
"""

from workbench.sweep.budget import OVERSHOOT_SECONDS, Budget
from workbench.sweep.checks import check_data, check_offer
from workbench.sweep.confirming import Replicate, confirm, left, replicates
from workbench.sweep.limits import MAX_INTERRUPTIONS, Limits
from workbench.sweep.work import Observer, Outcome, sweep

__all__ = [
    "MAX_INTERRUPTIONS",
    "OVERSHOOT_SECONDS",
    "Budget",
    "Limits",
    "Observer",
    "Outcome",
    "Replicate",
    "check_data",
    "check_offer",
    "confirm",
    "left",
    "replicates",
    "sweep",
]
