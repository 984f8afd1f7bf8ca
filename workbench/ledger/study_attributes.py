"""What is noted of a study in its storage, and how the storage is asked: once more where it was away."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from workbench import process
from workbench.ledger.create import STUDY, studies
from workbench.ledger.faults import mapped
from workbench.ledger.inputs import Judge
from workbench.ledger.leases import Lease
from workbench.ledger.patience import Away, Patience
from workbench.ledger.store import sqlite_path
from workbench.result import Result

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import Connection, Executable

BEGUN, ENDED = "workbench:begun", "workbench:ended"
"""Keys of how the last sweep began (limits, time) and ended (reason, time)."""

STEPS = "workbench:steps"
"""Key of the steps that were decided for workers to come."""

_MLFLOW = "workbench:mlflow:"  # before a run id: the id of the MLflow run that mirrors it
_FORM = "workbench:form:"  # before a recipe id, and the name of a form of its model
_SHARING = "workbench:sharing:"  # before a host: how many workers shared its devices in the last sweep, and why
_GRADING = "workbench:grading"  # how many dev examples grade its points, and what one answer to all of them would score

CHOOSING_SECONDS = 30
"""How long a worker waits until the others have chosen, and half of how long the database bears one that has stopped meanwhile."""

T = TypeVar("T")


class NotedStudy:
    """A study in one storage, and what is noted of it beside its Results.

    Args:
        storage: Optuna's storage.
        study_id: Optuna's id of the study there.
        name: The study's full name.
        patience: How long a storage that is away is waited for; None: not at all.
        judge: Says which inputs of a Result have changed; None: by what the ledger noted.
    """

    def __init__(
        self, storage: RDBStorage, study_id: int, name: str, patience: Patience | None = None, judge: Judge | None = None
    ) -> None:
        self._storage, self._study_id, self.name = storage, study_id, name
        self._judge = judge or Judge()
        self._url = str(storage.url)
        self.patience = patience or Patience()
        # By trial id the last beat of each lease, and since when (by our clock) we know of no later one.
        self._heard: Mapping[int, tuple[float, float]] = {}
        # Finished Results by trial number, read once: a finished trial never changes. All trials up to the id `_seen`
        # were read, but for those in `_running`, which are read again.
        self._read: dict[int, Result] = {}
        self._seen = 0
        self._running: list[int] = []
        # Leases as they were read last; the records of those whose worker beats apart from them, by trial id; and what
        # was noted of the study then.
        self._held: list[tuple[Lease, Mapping[str, Any]]] = []
        self._leased: Mapping[int, Mapping[str, Any]] = {}
        self._attributes_known: dict[str, Any] | None = None
        self._checked: set[str] = set()  # parameters that were found to be like those of the trials before

    @property
    def others(self) -> list[str]:
        """Names of the other studies in the same storage, oldest first."""
        return [name for name in self._tried(lambda: studies(self._storage)) if name != self.name]

    @property
    def description(self) -> dict[str, Any]:
        """What was noted of the study when its ledger was made: question, objectives, reference point.

        With it `limits`, those of the sweep that began last, by the names of `workbench.sweep.Limits`; `limits_had`, the latest of
        each that any start had; its id in the notebook (`sweep`); `grading`, what it noted of the dev examples; and `sharing`, how
        many workers shared its devices; empty where none noted any.
        """
        return description_of(self._attributes())

    @property
    def mlflow_runs(self) -> dict[str, str]:
        """MLflow's run id for each run id that has one."""
        return mlflow_runs_of(self._attributes())

    def note_mlflow_run(self, run_id: str, mlflow_run_id: str) -> None:
        """Remember which MLflow run mirrors a run."""
        self._note(_MLFLOW + run_id, mlflow_run_id)

    @property
    def forms(self) -> dict[str, dict[str, Any]]:
        """Forms that points' models were given, by recipe id and name: records of `workbench.front.serving.Form`."""
        found: dict[str, dict[str, Any]] = {}
        for key, value in self._attributes().items():
            if key.startswith(_FORM):
                recipe_id, _, name = key.removeprefix(_FORM).partition(":")
                found.setdefault(recipe_id, {})[name] = mapping(value)
        return found

    def note_form(self, recipe_id: str, record: Mapping[str, Any]) -> None:
        """Remember a form that a point's model was given; a later one of its name takes its place."""
        self._note(f"{_FORM}{recipe_id}:{record['name']}", dict(record))

    @property
    def ended(self) -> dict[str, Any] | None:
        """How the last sweep or confirmation ended; None while one works, or was killed.

        `reason` in words, `interrupted` by a person, `at`, and `what` it was: `sweep` or `confirmation`.
        """
        return ended_of(self._attributes())

    @property
    def steps(self) -> dict[str, Any]:
        """The steps that were decided for workers to come, as they were when the ledger was read last; empty where none were."""
        steps = mapping((self._attributes_known or {}).get(STEPS))
        return steps if {"seen", "size", "steps"} <= steps.keys() else {}

    def note_steps(self, steps: Mapping[str, Any]) -> None:
        """Note steps for workers to come in the place of those before."""
        self._note(STEPS, dict(steps))

    def note_grading(self, grading: Mapping[str, Any]) -> None:
        """Remember what grades the study's points (`workbench.sweep.graded_by`): `grading` in `description`."""
        if grading != mapping(self._attributes().get(_GRADING)):
            self._note(_GRADING, dict(grading))

    def note_sharing(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Remember how many workers share the devices of this host (`workbench.sweep.device_sharing.Change`), in the place of what
        was noted before: `sharing` in `description`.
        """
        self._note(_SHARING + process.host().partition("/")[0], [dict(record) for record in records])

    def note_end(self, reason: str, *, interrupted: bool = False, what: str = "sweep") -> None:
        """Remember why a sweep, or a confirmation, ended."""
        self._note(ENDED, {"reason": reason, "interrupted": interrupted, "at": time.time(), "what": what})

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """A lock for those who read and then write on what they have read; in a file only, as a server has few such users."""
        path = sqlite_path(self._url)
        return process.exclusive(path.absolute().parent) if path else contextlib.nullcontext()

    @contextlib.contextmanager
    def choosing(self) -> Iterator[None]:
        """One worker of all machines at a time in the block: who chooses takes its lease before anybody else chooses.

        In PostgreSQL alone, by an advisory lock. The leases keep workers apart without it; but of many that choose at once most
        would choose the same, and choose again. So nobody waits for it for ever: not for a worker that is frozen, which loses it
        with its session, and not while the ledger is away.
        """
        connection = self._chooses() if self._storage.engine.name == "postgresql" else None
        try:
            yield
        finally:
            if connection is not None:
                with contextlib.suppress(Exception):  # it was cut meanwhile, and the lock with it
                    connection.rollback()
                with contextlib.suppress(Exception):
                    connection.close()

    def _chooses(self) -> Connection | None:
        """A connection that holds the lock; None where the ledger is away, or who holds it does not let it go."""
        import sqlalchemy as sql

        # Two schemas of one database have two tables.
        lock = sql.text("SELECT pg_advisory_xact_lock(('studies'::regclass::oid::bigint << 32) | :study)")
        connection = None
        try:
            with mapped(self._url):
                connection = self._storage.engine.connect()
                connection.exec_driver_sql(
                    f"SET LOCAL lock_timeout = '{CHOOSING_SECONDS}s'; "
                    f"SET LOCAL idle_in_transaction_session_timeout = '{2 * CHOOSING_SECONDS}s'"
                )
                connection.execute(lock, {"study": self._study_id})
        except Away:
            pass
        return connection

    def _attributes(self) -> dict[str, Any]:
        import sqlalchemy as sql

        query = sql.text("SELECT key, value_json FROM study_user_attributes WHERE study_id = :study")
        rows = self._asked(query, study=self._study_id)  # there is one a run: as objects they take 20 times as long
        with mapped(self._url):
            return {key: json.loads(text) for key, text in rows}

    def _note(self, key: str, value: object) -> None:
        self._tried(lambda: self._storage.set_study_user_attr(self._study_id, key, value))

    def _asked(self, query: Executable, **values: object) -> Sequence[Any]:
        """The rows of a query."""

        def ask() -> Sequence[Any]:
            with self._storage.engine.connect() as connection:
                return connection.execute(query, values).all()

        return self._tried(ask)

    def _tried(self, call: Callable[[], T]) -> T:
        """What `call` gives. Errors of the storage become ours, and the call is repeated where they pass.

        It must come to the same however often it is made: the answer of an attempt that succeeded may have been lost.
        """
        return self.patience.tried(lambda: self._once(call))

    def _once(self, call: Callable[[], T]) -> T:
        try:
            with mapped(self._url):
                return call()
        except Away:
            # While the storage was away no worker could beat: their silence counts from now, or a server's
            # restart of a minute would have all workers of other hosts held dead, and their runs repeated.
            self._heard = {}
            raise


def mapping(value: object) -> dict[str, Any]:
    """The value where it is a dict; an empty one where another program has put something else in its place."""
    return value if isinstance(value, dict) else {}


def description_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """`NotedStudy.description` from the attributes of a study."""
    begun = mapping(attributes.get(BEGUN))
    limits = mapping(begun.get("limits"))
    had = mapping(begun.get("limits_had")) or {name: most for name, most in limits.items() if most is not None}
    noted = {"limits": limits, "limits_had": had, "sweep": str(begun.get("sweep") or "")}
    return {
        **mapping(attributes.get(STUDY)),
        **noted,
        "grading": mapping(attributes.get(_GRADING)),
        "sharing": _sharing(attributes, float(begun.get("at") or 0.0)),
    }


def _sharing(attributes: Mapping[str, Any], since: float) -> list[dict[str, Any]]:
    """What hosts have noted of their devices since the last sweep began, oldest first."""
    noted = [
        {"host": key.removeprefix(_SHARING), **mapping(record)}
        for key, records in attributes.items()
        if key.startswith(_SHARING) and isinstance(records, list)
        for record in records
    ]
    return sorted((r for r in noted if isinstance(r.get("at"), float) and r["at"] >= since), key=lambda r: r["at"])


def ended_of(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """`NotedStudy.ended` from the attributes of a study."""
    ended = mapping(attributes.get(ENDED))
    return {"what": "sweep"} | ended if ended else None


def mlflow_runs_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """`NotedStudy.mlflow_runs` from the attributes of a study."""
    return {key.removeprefix(_MLFLOW): value for key, value in attributes.items() if key.startswith(_MLFLOW)}
