"""A job: what a sweep or a confirmation is given, and the context that is opened for it while it
works.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import training
from workbench.errors import UsageError
from workbench.forecast import Forecaster
from workbench.ledger import AWAY_SECONDS, Ledger, Patience
from workbench.meter import Meter, Tenant, Window
from workbench.prices import Offer
from workbench.result import UsagePart, offer_record
from workbench.study import Study
from workbench.sweep import provenance
from workbench.sweep.account import Account
from workbench.sweep.budget import Budget
from workbench.sweep.checkpoint_store import CheckpointStore
from workbench.sweep.file_lock import FileLock
from workbench.sweep.interruptions import Interruptions
from workbench.sweep.limits import Limits
from workbench.sweep.observer import Observer
from workbench.sweep.open_bill import OpenBill
from workbench.sweep.pending_results import Unwritten
from workbench.tracking import MlflowTracker
from workbench.training import SharedFiles, shared_parents
from workbench.usage import Usage


@dataclass
class Standing:
    """How a worker stands beside others of its sweep on this machine, as its supervisor says it while they work.

    Attributes:
        apart: Whether it has a GPU, or a machine, to itself, for which nobody is charged while it waits. Only then may it wait:
            on a shared machine the others are charged for all of it.
        leaves: Whether it is to end at its next decision, and to leave its device to the others.
    """

    apart: bool = False
    leaves: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one start of a sweep, of one of its workers, or of a confirmation is given.

    Attributes:
        study: The study.
        ledger: Where its Results are read and written.
        notebook: MLflow's copy of them, which nothing waits for.
        offer: The offer that prices compute.
        label_usd: The price of a label, in US$.
        limits: When to stop. A confirmation has budgets alone. Both count all that the study has
            spent.
        folder: Where states and weights are kept.
        observer: Is told what happens.
        meter: The meter; None for a new one.
        holder: The meter's tenant whose windows are the bill, which is its share where others use
            the GPU too; None for a new one.
        window: A window of that tenant, opened when the work began. What was consumed since is
            charged to the first Result. None for a new one.
        before: What was consumed before that window. It is charged with it.
        forecaster: Forecasts runs, so that none is started that does not fit a budget; None for a
            new one.
        workers: The number of sweeps of this study that work at once on this machine, this one
            included.
        joined: Whether this is one worker of a sweep whose beginning and end somebody else notes.
            While it waits it is charged nothing.
        standing: How such a worker stands beside the others of its machine.
        log_samples: The first so many examples of the dev set are put on record with the
            predictions of each checkpoint.
        sweep: The id of the sweep in the notebook, which machines that join it are told by the
            ledger.
        devices: How many GPUs hold the model of a run together, each a part of it.
        notice: Says why this machine is about to be taken away, empty while it is not; may raise
            where that is unknown. None: nobody is asked.
        states: Where the machines of a sweep find each other's states and weights; None: they stay
            in `folder`, and going on elsewhere begins anew.
    """

    study: Study
    ledger: Ledger
    notebook: MlflowTracker
    offer: Offer
    label_usd: float
    limits: Limits
    folder: Path
    observer: Observer = field(default_factory=Observer)
    meter: Meter | None = None
    holder: Tenant | None = None
    window: Window | None = None
    before: Usage | None = None
    forecaster: Forecaster | None = None
    workers: int = 1
    joined: bool = False
    standing: Standing = field(default_factory=Standing)
    log_samples: int = 0
    sweep: str = ""
    notice: Callable[[], str] | None = None
    states: SharedFiles | None = None
    devices: int = 1


@dataclass(frozen=True, kw_only=True)
class Context:
    """A job at work: what it was given, and what was opened for it.

    Attributes:
        job: What it was given.
        ledger: The job's ledger, which is waited for where it is away.
        meter: The meter.
        holder: The meter's tenant whose windows are the bill.
        interruptions: Ctrl-C, SIGTERM, and the end of a budget.
        account: What is spent and bought so far.
        checkpoints: States that runs are continued from, and the weights of the front.
        lock: The lock that a worker holds while it chooses.
        bill: What was consumed since the last Result.
        unwritten: Results that wait for a ledger that was away.
        provenance: What all Results of this start are made with, as plain data.
        shards: The processes that hold the model of a run together; None: it is whole.
    """

    job: Job
    ledger: Ledger
    meter: Meter
    holder: Tenant
    interruptions: Interruptions
    account: Account
    checkpoints: CheckpointStore
    lock: FileLock
    bill: OpenBill
    unwritten: Unwritten
    provenance: Mapping[str, Any]
    shards: training.Shards | None = None

    @property
    def study(self) -> Study:
        """The job's."""
        return self.job.study

    @property
    def observer(self) -> Observer:
        """The job's."""
        return self.job.observer

    @property
    def notebook(self) -> MlflowTracker:
        """The job's."""
        return self.job.notebook

    @property
    def budget(self) -> Budget:
        """The job's limits at its prices."""
        return self.account.budget


@contextlib.contextmanager
def opened(job: Job) -> Iterator[Context]:
    """Open all that a job needs, for as long as it works.

    Raises:
        UsageError: A run is to be held by more GPUs than there are.
    """
    with contextlib.ExitStack() as stack:
        meter = job.meter or stack.enter_context(Meter())
        if 0 < len(meter.devices) < job.devices:
            raise UsageError(f"{job.devices} devices are to hold a run, and {len(meter.devices)} can be seen here.")
        shards = training.Shards(job.devices, job.study.path) if job.devices > 1 else None
        if shards is not None:
            stack.callback(shards.close)
        interruptions = stack.enter_context(Interruptions(job.observer.stopping))
        holder = job.holder or stack.enter_context(meter.hold(name=job.study.name))
        budget = Budget(job.limits, job.offer, job.label_usd, gpus=len(meter.devices))
        device = meter.devices[0].name if meter.devices else None
        machine = UsagePart(offer_record(job.offer), device)
        checkpoints = CheckpointStore(job.folder, job.observer.note, job.states, machine)
        stack.enter_context(shared_parents.sharing(job.states, machine, job.observer.note))
        patience = Patience(AWAY_SECONDS, job.observer.note, checkpoints.make_room, interruptions.check)
        yield Context(
            job=job,
            ledger=job.ledger.patient(patience),
            meter=meter,
            holder=holder,
            interruptions=interruptions,
            account=Account(budget, job.forecaster or Forecaster(job.study)),
            checkpoints=checkpoints,
            lock=FileLock(job.folder, job.observer.note),
            bill=OpenBill(holder, job.window, job.before),
            unwritten=Unwritten(job.folder),
            provenance=provenance.of(job.study, meter) | ({"devices": job.devices} if job.devices > 1 else {}),
            shards=shards,
        )
