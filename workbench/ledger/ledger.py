"""One study's ledger: opening, reading, and the writing of leases and Results."""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workbench import prices, process
from workbench.errors import EnvironmentFault, UsageError, did_you_mean
from workbench.ledger import trials
from workbench.ledger.create import CONSTRAINTS, RESULT, STUDY, create, finished, studies, take_over
from workbench.ledger.store import mapped, open_storage, shown, sqlite_path
from workbench.prices import Offer
from workbench.result import Result, again
from workbench.study import Study
from workbench.usage import Usage, add_phases, total

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

HEARTBEAT_SECONDS = 1.0
_LEASE, _MLFLOW, _BEGUN, _ENDED = "workbench:lease", "workbench:mlflow:", "workbench:begun", "workbench:ended"
_RETRIED = "workbench:retried"  # by run id the last trial of those that no longer speak against it


@dataclass
class Lease:
    """The right to make one Result, as far as it is known. `trial_id` is that of its RUNNING trial."""

    trial_id: int
    result: Result
    finished: bool = False

    @property
    def number(self) -> int:
        assert self.result.number is not None
        return self.result.number


@dataclass(frozen=True)
class Reading:
    """All that a ledger says of its study at one moment.

    Attributes:
        description: What was noted when it was made: question, objectives, reference point; and `limits` of its last sweep.
        results: Finished Results in the order of their trials.
        leases: Those being made, each with its worker's record.
        ended: How the last sweep ended; None while one works, or was killed.
        mlflow_runs: MLflow's run id for each run id that has one.
    """

    description: Mapping[str, Any]
    results: Sequence[Result]
    leases: Sequence[tuple[Lease, Mapping[str, Any]]]
    ended: Mapping[str, Any] | None
    mlflow_runs: Mapping[str, str]


class Ledger:
    """All Results of one study in one storage."""

    def __init__(self, storage: RDBStorage, study_id: int, name: str) -> None:
        self._storage, self._study_id, self.name = storage, study_id, name
        self._url = str(storage.url)
        self._read: dict[int, Result] = {}
        self._seen = 0  # every trial below it is finished, and read: it never changes again; but for those that were running
        self._running: list[int] = []

    # Opening

    @classmethod
    def open(cls, study: Study, url: str) -> Ledger:
        """The study's ledger, made if it is not there yet; a new one takes over what an older form of the study found.

        Raises:
            EnvironmentFault: The storage cannot be opened or written.
        """
        storage = open_storage(url, create=True)
        with mapped(url):
            ids = studies(storage)
            if study.name not in ids:
                stem = study.name.rsplit("-", 1)[0]
                older = {name: cls(storage, i, name).results() for name, i in ids.items() if name.rsplit("-", 1)[0] == stem}
                create(storage, study.name, trials.describe(study), lambda i: take_over(storage, i, study, older))
                ids = studies(storage)
            return cls(storage, ids[study.name], study.name)

    @classmethod
    def open_imported(cls, name: str, description: Mapping[str, Any], url: str) -> Ledger:
        """The ledger of Results that others published, made if it is not there yet. No file is behind it: it cannot be swept.

        Args:
            name: Its full name in the store: a stem, a dash and a digest, as that of a study.
            description: Noted when it is made: `question`, `maximize`, `minimize`, `label_usd`, `platform`, `reference`.
            url: The database.

        Raises:
            EnvironmentFault: The storage cannot be opened or written.
        """
        storage = open_storage(url, create=True)
        with mapped(url):
            if name not in studies(storage):
                create(storage, name, {"path": None, **description, "created": time.time(), "schema": 1})
            return cls(storage, studies(storage)[name], name)

    @classmethod
    def find(cls, name: str | None, url: str, *, path: str = "", read_only: bool = False) -> Ledger:
        """The ledger of a study by its name in the store, or by its file's stem: the newest. None is the newest of all.

        With `read_only` the database refuses to be written through it, and it holds no writer up.

        Raises:
            UsageError: No study has that name.
            EnvironmentFault: The storage cannot be opened.
        """
        storage = open_storage(url, create=False, read_only=read_only)
        with mapped(url):
            known = studies(storage)
        stems = {n.rsplit("-", 1)[0]: n for n in known}
        if not known:
            raise UsageError(f"{shown(url)} holds no study yet. Run `workbench sweep {path or 'STUDY'}` first.")
        full = name if name in known else stems.get(name) if name else list(known)[-1]
        if full is None and path:
            raise UsageError(_not_swept(path, stems.get(str(name).rsplit("-", 1)[0])))
        if full is None:
            raise UsageError(f"{shown(url)} holds no study {name!r}.{did_you_mean(str(name), stems)}")
        return cls(storage, known[full], full)

    @staticmethod
    def holds(name: str, url: str) -> bool:
        """Whether there is a ledger of the study with this full name; not, too, where no database can be read."""
        with contextlib.suppress(UsageError, EnvironmentFault):
            return name in Ledger.names(url)
        return False

    @staticmethod
    def names(url: str) -> list[str]:
        """Names of all studies in the database, oldest first. Raises as `find` does."""
        with mapped(url):
            return list(studies(open_storage(url, create=False)))

    @property
    def others(self) -> list[str]:
        """Names of the other studies in the same storage, oldest first."""
        with mapped(self._url):
            return [name for name in studies(self._storage) if name != self.name]

    @property
    def description(self) -> dict[str, Any]:
        """What was noted of the study when its ledger was made: question, objectives, reference point.

        With it `limits`, those of the sweep that began last, by the names of `workbench.sweep.Limits`; empty where none noted any.
        """
        return _description(self._attributes())

    @property
    def mlflow_runs(self) -> dict[str, str]:
        """MLflow's run id for each run id that has one."""
        return _mlflow_runs(self._attributes())

    def note_mlflow_run(self, run_id: str, mlflow_run_id: str) -> None:
        """Remember which MLflow run mirrors a run."""
        with mapped(self._url):
            self._storage.set_study_user_attr(self._study_id, _MLFLOW + run_id, mlflow_run_id)

    @property
    def ended(self) -> dict[str, Any] | None:
        """How the last sweep or confirmation ended; None while one works, or was killed.

        `reason` in words, `interrupted` by a person, `at`, and `what` it was: `sweep` or `confirmation`.
        """
        return _ended(self._attributes())

    def note_begin(self, limits: Mapping[str, float | None]) -> None:
        """Remember that a sweep has begun, and within which limits."""
        with mapped(self._url):
            self._storage.set_study_user_attr(self._study_id, _BEGUN, {"limits": dict(limits), "at": time.time()})
            self._storage.set_study_user_attr(self._study_id, _ENDED, {})

    def note_end(self, reason: str, *, interrupted: bool = False, what: str = "sweep") -> None:
        """Remember why a sweep, or a confirmation, ended."""
        with mapped(self._url):
            noted = {"reason": reason, "interrupted": interrupted, "at": time.time(), "what": what}
            self._storage.set_study_user_attr(self._study_id, _ENDED, noted)

    def retry(self, run_ids: Iterable[str]) -> None:
        """Let runs be tried again: what ended them until now no longer speaks against them, and the next sweep takes them up.

        No Result is changed, nor what was spent: `results` gives those failures as interruptions (`workbench.result.again`).
        """
        with self._alone():
            last = max((r.number or 0 for r in self.results()), default=0)
            noted = self._retried() | dict.fromkeys(run_ids, last)
            with mapped(self._url):
                self._storage.set_study_user_attr(self._study_id, _RETRIED, noted)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """One at a time, of those who read and then write on what they have read. Only in a file: a server's users are few."""
        path = sqlite_path(self._url)
        return process.exclusive(path.absolute().parent) if path else contextlib.nullcontext()

    def _attributes(self) -> dict[str, Any]:
        import sqlalchemy as sql

        query = sql.text("SELECT key, value_json FROM study_user_attributes WHERE study_id = :study")
        with (
            mapped(self._url),
            self._storage.engine.connect() as connection,
        ):  # there is one a run: as objects they take 20 times as long
            return {key: json.loads(text) for key, text in connection.execute(query, {"study": self._study_id}).all()}

    # Reading

    def reader(self) -> Ledger:
        """The same ledger for another thread: it shares the database's connections, and remembers by itself what it has read."""
        return Ledger(self._storage, self._study_id, self.name)

    def results(self, *, running: bool = False) -> list[Result]:
        """All finished Results in the order of their trials, by one query; with `running` those being made too.

        Through Optuna 10,000 trials would take 7 s. What was read once is not read again: a finished trial never changes.
        """
        leased = {lease.number: lease.result for lease, _ in self._update()}
        found = self._read | leased if running else self._read
        retried = self._retried()
        return [_seen(found[number], retried) for number in sorted(found)]

    def _retried(self) -> dict[str, int]:
        import sqlalchemy as sql

        query = sql.text("SELECT value_json FROM study_user_attributes WHERE study_id = :study AND key = :key")
        with mapped(self._url), self._storage.engine.connect() as connection:
            text = connection.execute(query, {"study": self._study_id, "key": _RETRIED}).scalar()
        return dict(json.loads(text)) if text else {}

    def read(self) -> Reading:
        """All that is known of the study now, by two queries: what a page of it shows."""
        attributes = self._attributes()
        leases, retried = self._update(), attributes.get(_RETRIED, {})
        return Reading(
            description=_description(attributes),
            results=[_seen(self._read[number], retried) for number in sorted(self._read)],
            leases=leases,
            ended=_ended(attributes),
            mlflow_runs=_mlflow_runs(attributes),
        )

    def _update(self) -> list[tuple[Lease, Mapping[str, Any]]]:
        """Read what has been finished since the last time; returns the leases now held."""
        held = []
        seen = self._seen
        with _no_collector():
            for trial_id, number, state, record in self._rows():
                if state == "RUNNING":
                    held.append((Lease(trial_id, trials.of_lease(record, number)), record))
                else:
                    result = Result.from_json(record)
                    self._read[number] = replace(result, number=number, trial=number if result.trial is None else result.trial)
                seen = max(seen, number + 1)
        self._seen, self._running = seen, [lease.number for lease, _ in held]
        return held

    def leases(self) -> list[tuple[Lease, Mapping[str, Any]]]:
        """All leases now held, each with its record: worker, heartbeat, usage so far."""
        return [
            (Lease(trial_id, trials.of_lease(record, number)), record)
            for trial_id, number, state, record in self._rows()
            if state == "RUNNING"
        ]

    def _rows(self) -> list[tuple[int, int, str, Any]]:
        """Id, number and state of each trial that was not read as finished, with its lease where it is running, else its Result."""
        import sqlalchemy as sql

        query = sql.text(
            "SELECT t.trial_id, t.number, t.state, a.value_json FROM trials t "
            "JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
            "WHERE t.study_id = :study AND (t.number >= :first OR t.number IN :running) "
            "AND (t.state = 'RUNNING' AND a.key = :lease OR t.state <> 'RUNNING' AND a.key = :result) ORDER BY t.number"
        ).bindparams(sql.bindparam("running", expanding=True))
        values = {"study": self._study_id, "first": self._seen, "running": self._running, "result": RESULT, "lease": _LEASE}
        with mapped(self._url), self._storage.engine.connect() as connection:
            rows = connection.execute(query, values).all()
        return [(trial_id, number, state, json.loads(text)) for trial_id, number, state, text in rows]

    # Writing

    def lease(self, study: Study, result: Result, spent: Mapping[str, Usage] | None = None) -> Lease | None:
        """Take the right to make `result`; None when a live worker is making the same run, or has since `results` was called.

        `spent` is what the worker has consumed already since its previous Result.
        """
        lease = self._new(study, result, spent or {})
        known = set(self._read)
        others = [r.number for r in self.results() if r.run_id == result.run_id and r.number not in known]
        others += [held.number for held, record in self.leases() if held.result.run_id == result.run_id and trials.alive(record)]
        if min((n for n in others if n is not None), default=lease.number) < lease.number:
            self.release(lease)  # two workers chose the same run at the same moment: the earlier one keeps it
            return None
        return lease

    def release(self, lease: Lease) -> None:
        """Give a lease back unused."""
        from optuna.trial import TrialState

        with mapped(self._url):
            self._storage.set_trial_state_values(lease.trial_id, TrialState.FAIL)
        lease.finished = True

    def beat(self, lease: Lease, spent: Mapping[str, Usage], labels: int = 0) -> None:
        """Heartbeat: the worker lives, and has consumed this much by phase, and so many labels, since its previous Result."""
        result = replace(lease.result, labels=labels)
        with mapped(self._url):
            self._storage.set_trial_user_attr(lease.trial_id, _LEASE, trials.lease_record(result, spent))

    def finish(self, lease: Lease, result: Result, study: Study, offer: Offer) -> Result:
        """Write a Result in its lease's place: from here on it is never changed. May be called again after a failure."""
        from optuna.exceptions import UpdateFinishedTrialError

        result = replace(result, trial=lease.result.trial, number=lease.number)
        with mapped(self._url):
            try:
                self._storage.set_trial_user_attr(lease.trial_id, RESULT, result.to_json(compact=True))
                self._close(lease.trial_id, result, study, offer)
            except UpdateFinishedTrialError:
                result = self._finish_late(lease, result, study, offer)
        assert result.number is not None
        self._read[result.number] = result
        lease.finished = True
        return result

    def _finish_late(self, lease: Lease, result: Result, study: Study, offer: Offer) -> Result:
        written = next((r for r in self.results() if r.number == lease.number), None)
        if written is not None and written.status == result.status:  # the failure that made us call again came after the writing
            return written
        # This host was silent for so long (asleep, cut off) that another one held its worker dead and charged what it knew of.
        charged = written.spent if written is not None else {}
        left = {name: usage - charged[name] if name in charged else usage for name, usage in result.spent.items()}
        return self.finish(self._new(study, result, {}), replace(result, spent=left), study, offer)

    def add(self, results: Sequence[Result]) -> list[Result]:
        """Write Results that others finished, each a run of its own, into a ledger of `open_imported`.

        A run that it holds already is left out, so that the same import twice adds nothing.

        Returns:
            Those that are new, as they were written.
        """
        with self._alone():  # or two imports add the same
            known = {r.run_id for r in self.results()}
            new = {r.run_id: r for r in results if r.run_id not in known}
            description = self.description
            objectives = trials.Objectives(description["maximize"], tuple(description["minimize"]))
            offer = prices.find(description["platform"])
            with mapped(self._url):
                for result in new.values():
                    self._storage.create_new_trial(self._study_id, finished(result, objectives, offer))
            return [r for r in self.results() if r.run_id in new]

    def reconcile(self, study: Study, offer: Offer) -> list[Result]:
        """Put right what dead workers left: finish what was half written, mark the rest interrupted with its spend.

        A worker may have lived for up to one heartbeat after its last one; that time is charged at its rate until then, never less.

        Returns:
            The Results that this made known: interrupted ones, and those that were half written.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        mended = []
        for lease, record in self.leases():
            if trials.alive(record):
                continue
            reason = f"died: its worker (process {record['pid']} on {record['host'].split('/')[0]}) is gone"
            last = total(lease.result.spent.values()).at_this_rate(HEARTBEAT_SECONDS, "its worker died: at the rate until then")
            spent = add_phases(lease.result.spent, {"idle": last})
            result = replace(lease.result, status="interrupted", reason=reason, spent=spent, finished=record["beat"])
            with mapped(self._url):
                half = self._storage.get_trial_user_attrs(lease.trial_id).get(RESULT)
                result = replace(Result.from_json(half), number=lease.number) if half else result
                try:
                    if not half:
                        self._storage.set_trial_user_attr(lease.trial_id, RESULT, result.to_json(compact=True))
                    self._close(lease.trial_id, result, study, offer)
                except UpdateFinishedTrialError:  # another worker, starting at the same moment, has put it right
                    continue
            mended.append(result)
        return mended

    def _new(self, study: Study, result: Result, spent: Mapping[str, Usage]) -> Lease:
        from optuna.trial import TrialState, create_trial

        template = create_trial(
            state=TrialState.RUNNING,
            user_attrs={_LEASE: trials.lease_record(result, spent)},
            system_attrs={CONSTRAINTS: trials.FEASIBLE},
            **trials.parameters(study, {name: value for name, value in result.settings.items() if name != "epochs"}),
        )
        with mapped(self._url):
            trial_id = self._storage.create_new_trial(self._study_id, template)
            number = self._storage.get_trial_number_from_id(trial_id)
        return Lease(trial_id, replace(result, trial=number if result.trial is None else result.trial, number=number))

    def _close(self, trial_id: int, result: Result, study: Study, offer: Offer) -> None:
        state, values = trials.outcome(result, study, offer)
        if "epochs" in study.dimensions:  # only now is it known: a checkpoint has fewer than the run it belongs to
            space = trials.distribution(study.dimensions["epochs"])
            self._storage.set_trial_param(trial_id, "epochs", space.to_internal_repr(result.epochs), space)
        if result.status == "infeasible":
            self._storage.set_trial_system_attr(trial_id, CONSTRAINTS, trials.INFEASIBLE)
        self._storage.set_trial_state_values(trial_id, state, values)


def _seen(result: Result, retried: Mapping[str, int]) -> Result:
    """A Result as it counts: a failure of a run that was since released to be tried again is an interruption."""
    failed = result.status in ("infeasible", "interrupted")
    return again(result) if failed and (result.number or 0) <= retried.get(result.run_id, -1) else result


def _not_swept(path: str, older: str | None) -> str:
    if older is None:
        return f"{path} has not been swept yet. Run `workbench sweep {path}` first."
    return (
        f"{path} has not been swept as it stands now: it was changed since. Run `workbench sweep {path}`, which takes the older "
        f"results over, or give the older study by its name, {older}."
    )


def _description(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {**attributes.get(STUDY, {}), "limits": attributes.get(_BEGUN, {}).get("limits", {})}


def _ended(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    ended = attributes.get(_ENDED)
    return {"what": "sweep"} | ended if ended else None


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Half of the time that 10,000 Results take to read goes into looking for garbage among them, where there is none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _mlflow_runs(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {key.removeprefix(_MLFLOW): value for key, value in attributes.items() if key.startswith(_MLFLOW)}
