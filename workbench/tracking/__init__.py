"""The MLflow mirror of a sweep, which people read. The only house of `mlflow`.

The ledger is the truth and MLflow its mirror, written by one daemon thread, so that a tracking server that is slow, hung
or down never holds a trial back. What MLflow misses, the next sweep's `MlflowTracker.start` catches up from the ledger.

    tracker           what a sweep calls: returns at once
    retry_queue       the queue and the thread that empties it, retrying
    mirror            one parent run a sweep, one child run a run; idempotent
    mirrored_run      what is known of a run there
    session           one experiment in one store, with MLflow's limits kept
    tags_and_metrics  what a Result says there: name, settings, metrics, tags
    experiment        what it says of its study: question, kind, saved views
    sweep_process     which process a sweep is, and whether it lives
    forgetting        takes samples of an example out of the artifacts
    store             opening the store
    ui                the web page on it

Importing this package does not import mlflow.
"""

from workbench.tracking import forgetting
from workbench.tracking.store import default_file, default_uri, examine
from workbench.tracking.tracker import Listener, MlflowTracker
from workbench.tracking.ui import Page, serve, ui_command

__all__ = ["Listener", "MlflowTracker", "Page", "default_file", "default_uri", "examine", "forgetting", "serve", "ui_command"]
