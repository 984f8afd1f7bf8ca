"""The ledger: every Result of a study in Optuna's storage, the single truth that fronts, budgets and searches read.

One trial per Result, written once. While a worker makes the next Result, a RUNNING trial is its lease: it carries the
heartbeat and what was consumed so far, so that a dead worker is told from a live one and its spend is not lost. A worker
on this host is alive when its process is; one elsewhere until its beat has not changed for `SILENCE_SECONDS` of the reader's
own time: no two hosts' clocks are compared.

    RUNNING   running        lease, heartbeat
    COMPLETE  complete       values of the study's objectives
    PRUNED    infeasible     with a constraint
    FAIL      interrupted    the recipe may be tried again

A trial that FAILed without a Result is a lease that was given back unused.

    address           addresses of ledgers that are SQLite files
    completion        a quick look for a shell's completion, without Optuna
    create            how a study comes into a storage: whole or not at all
    faults            a database's own errors, said as ours
    forgetting        takes samples of an example out of all Results
    imported          Results that others published
    inputs            which Results are of inputs that have changed since
    leases            a worker's right to make one Result, and its heartbeat
    ledger            opens a study's ledger; leases and Results are written into it
    patience          how long a ledger that does not answer is waited for
    reading           a study's Results and leases, each finished Result read once
    statements        writes trials into Optuna's tables, in few statements
    store             opening the database that holds ledgers
    study_attributes  what is noted of a study in its storage
    trials            how Results and studies are written as Optuna's trials
"""

from workbench.ledger import store
from workbench.ledger.address import default_url
from workbench.ledger.faults import shown
from workbench.ledger.imported import ImportedLedger
from workbench.ledger.leases import HEARTBEAT_SECONDS, SILENCE_SECONDS, Lease, Worker, alive, new_token
from workbench.ledger.ledger import Ledger
from workbench.ledger.patience import AWAY_SECONDS, OPENING_SECONDS, Away, Patience
from workbench.ledger.reading import LedgerSnapshot
from workbench.ledger.trials import distribution

__all__ = [
    "AWAY_SECONDS",
    "Away",
    "HEARTBEAT_SECONDS",
    "ImportedLedger",
    "Lease",
    "Ledger",
    "Patience",
    "LedgerSnapshot",
    "OPENING_SECONDS",
    "SILENCE_SECONDS",
    "Worker",
    "alive",
    "default_url",
    "distribution",
    "examine",
    "new_token",
    "shown",
]


def examine(url: str) -> str:
    """What the database at `url` holds, in words, changing nothing. Raises EnvironmentFault when it cannot be used."""
    path = store.sqlite_path(url)
    if path is not None and not path.exists():
        return f"{path} (not there yet; made by the first sweep)"
    names = Ledger.names(url)
    return f"{shown(url)}: {', '.join(names) if names else 'no study yet'}"
