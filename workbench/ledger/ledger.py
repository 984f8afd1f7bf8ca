"""One study's ledger: opening, reading, and the writing of leases and Results."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from workbench import prices, process
from workbench.errors import EnvironmentFault, UsageError, did_you_mean
from workbench.ledger import trials
from workbench.ledger.create import CONSTRAINTS, RESULT, STUDY, create, finished, others, studies, take_over
from workbench.ledger.faults import mapped, shown
from workbench.ledger.inputs import Judge
from workbench.ledger.patience import OPENING_SECONDS, Away, Patience
from workbench.ledger.store import open_storage, sqlite_path
from workbench.prices import Offer
from workbench.result import Cause, Result, again
from workbench.study import Study
from workbench.usage import Usage, add_phases, total

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import Executable

HEARTBEAT_SECONDS = 1.0
_LEASE, _MLFLOW, _BEGUN, _ENDED = "workbench:lease", "workbench:mlflow:", "workbench:begun", "workbench:ended"
_GRADING = "workbench:grading"  # how many dev examples grade its points, and what one answer to all of them would score
_INPUTS = "workbench:inputs"  # fingerprints of the study's inputs, as its last sweep knew them
_RETRIED = "workbench:retried"  # by run id the last trial of those that no longer speak against it
_TOKEN = "workbench:token"  # noqa: S105  of the attempt that a trial was made by

T = TypeVar("T")


def _token() -> str:
    return uuid.uuid4().hex


@dataclass
class Lease:
    """The right to make one Result, as far as it is known. `trial_id` is that of its RUNNING trial.

    `token` stands in the trial's attributes: by it an attempt is known again whose answer was lost.
    """

    trial_id: int
    result: Result
    finished: bool = False
    token: str = field(default_factory=_token)

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
    """All Results of one study in one storage.

    All that is asked of it or written into it may be done again when the storage was away, and comes to the same; how long that
    is tried is `patience`'s to say. Two threads need a `reader` each; a beat may come from any.
    """

    def __init__(
        self, storage: RDBStorage, study_id: int, name: str, patience: Patience | None = None, judge: Judge | None = None
    ) -> None:
        self._storage, self._study_id, self.name = storage, study_id, name
        self._judge = judge or Judge()
        self._url = str(storage.url)
        self.patience = patience or Patience()
        self._heard: Mapping[int, tuple[float, float]] = {}  # of each lease its last beat, and since when we know of no later one
        self._read: dict[int, Result] = {}
        self._seen = 0  # every trial below it is finished, and read: it never changes again; but for those that were running
        self._running: list[int] = []

    # Opening

    @classmethod
    def open(cls, study: Study, url: str, patience: Patience | None = None) -> Ledger:
        """The study's ledger, made if it is not there yet; a new one takes over what an older form of the study found.

        Args:
            study: The study.
            url: The database.
            patience: How long a database that is away is waited for, now and later; some seconds when not given.

        Raises:
            UsageError: Another program's study has its name there.
            EnvironmentFault: The storage cannot be opened or written; `Away` where that may pass.
        """

        def opened() -> Ledger:
            storage = open_storage(url, create=True)
            with mapped(url):
                ids = studies(storage)
                if study.name not in ids:
                    stem = study.name.rsplit("-", 1)[0]
                    older = {name: cls(storage, i, name).results() for name, i in ids.items() if name.rsplit("-", 1)[0] == stem}
                    create(storage, study.name, trials.describe(study), lambda i: take_over(storage, i, study, older))
                return cls(storage, _own(storage, study.name, url), study.name, patience, Judge(study))

        patience = patience or Patience(OPENING_SECONDS)
        return patience.tried(opened)

    @classmethod
    def open_imported(cls, name: str, description: Mapping[str, Any], url: str) -> Ledger:
        """The ledger of Results that others published, made if it is not there yet. No file is behind it: it cannot be swept.

        Args:
            name: Its full name in the store: a stem, a dash and a digest, as that of a study.
            description: Noted when it is made: `question`, `maximize`, `minimize`, `label_usd`, `platform`, `reference`.
            url: The database.

        Raises:
            UsageError: Another program's study has its name there.
            EnvironmentFault: The storage cannot be opened or written; `Away` where that may pass.
        """

        def opened() -> Ledger:
            storage = open_storage(url, create=True)
            with mapped(url):
                if name not in studies(storage):
                    create(storage, name, {"path": None, **description, "created": time.time(), "schema": 1})
                return cls(storage, _own(storage, name, url), name, patience)

        patience = Patience(OPENING_SECONDS)
        return patience.tried(opened)

    @classmethod
    def find(cls, name: str | None, url: str, *, path: str = "", read_only: bool = False, study: Study | None = None) -> Ledger:
        """The ledger of a study by its name in the store, or by its file's stem: the newest. None is the newest of all.

        With `study`, which is then the one that is looked for, Results are judged by its inputs as they are now
        (`workbench.result.inputs`); without it as its last sweep knew them.

        With `read_only` the database refuses to be written through it, it holds no writer up, and waits for none that is away.

        Raises:
            UsageError: No study of the workbench has that name.
            EnvironmentFault: The storage cannot be opened; `Away` where that may pass.
        """
        patience = Patience(0.0 if read_only else OPENING_SECONDS)
        storage = patience.tried(lambda: open_storage(url, create=False, read_only=read_only))

        def found() -> tuple[dict[str, int], dict[str, str]]:
            with mapped(url):
                known = studies(storage)
                return known, others(storage) if name not in known else {}

        known, foreign = patience.tried(found)
        stems = {n.rsplit("-", 1)[0]: n for n in known}
        if name in foreign:
            raise UsageError(_foreign(str(name), url, foreign[str(name)]))
        if not known:
            beside = f", only of other programs ({', '.join(foreign)})" if foreign else ""
            raise UsageError(f"{shown(url)} holds no study yet{beside}. Run `workbench sweep {path or 'STUDY'}` first.")
        full = name if name in known else stems.get(name) if name else list(known)[-1]
        if full is None and path:
            raise UsageError(_not_swept(path, stems.get(str(name).rsplit("-", 1)[0])))
        if full is None:
            raise UsageError(f"{shown(url)} holds no study {name!r}.{did_you_mean(str(name), stems)}")
        return cls(storage, known[full], full, patience, Judge(study))

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
        return [name for name in self._tried(lambda: studies(self._storage)) if name != self.name]

    @property
    def description(self) -> dict[str, Any]:
        """What was noted of the study when its ledger was made: question, objectives, reference point.

        With it `limits`, those of the sweep that began last, by the names of `workbench.sweep.Limits`, and `grading`, what it noted
        of the dev examples; empty where none noted any.
        """
        return _description(self._attributes())

    @property
    def mlflow_runs(self) -> dict[str, str]:
        """MLflow's run id for each run id that has one."""
        return _mlflow_runs(self._attributes())

    def note_mlflow_run(self, run_id: str, mlflow_run_id: str) -> None:
        """Remember which MLflow run mirrors a run."""
        self._note(_MLFLOW + run_id, mlflow_run_id)

    @property
    def ended(self) -> dict[str, Any] | None:
        """How the last sweep or confirmation ended; None while one works, or was killed.

        `reason` in words, `interrupted` by a person, `at`, and `what` it was: `sweep` or `confirmation`.
        """
        return _ended(self._attributes())

    def note_begin(self, limits: Mapping[str, float | None]) -> None:
        """Remember that a sweep has begun, within which limits, and by which inputs."""
        self.note_inputs()
        self._note(_BEGUN, {"limits": dict(limits), "at": time.time()})
        self._note(_ENDED, {})

    def note_inputs(self) -> None:
        """Remember the study's inputs as they are now: who reads this ledger without the study's files judges by them."""
        self.results(running=True)  # all have been looked at
        known = self._judge.known
        if known != self._noted().get(_INPUTS, {}):
            self._note(_INPUTS, known)

    @property
    def changed_since(self) -> list[str]:
        """Which inputs are now other than the last sweep knew them, out of `workbench.result.inputs.KINDS`."""
        return self._judge.since_noted(self.results(running=True))

    @property
    def unseen(self) -> str:
        """Why the study's inputs cannot be looked at now, in words; empty where they can. Then what was noted is believed."""
        self.results(running=True)
        return self._judge.problem

    def note_grading(self, grading: Mapping[str, Any]) -> None:
        """Remember what grades the study's points (`workbench.sweep.graded_by`): `grading` in `description`."""
        if grading != _mapping(self._noted().get(_GRADING)):
            self._note(_GRADING, dict(grading))

    def note_end(self, reason: str, *, interrupted: bool = False, what: str = "sweep") -> None:
        """Remember why a sweep, or a confirmation, ended."""
        self._note(_ENDED, {"reason": reason, "interrupted": interrupted, "at": time.time(), "what": what})

    def retry(self, run_ids: Iterable[str]) -> None:
        """Let runs be tried again: what ended them until now no longer speaks against them, and the next sweep takes them up.

        No Result is changed, nor what was spent: `results` gives those failures as interruptions (`workbench.result.again`).
        """
        with self._alone():
            last = max((r.number or 0 for r in self.results()), default=0)
            self._note(_RETRIED, _mapping(self._noted().get(_RETRIED)) | dict.fromkeys(run_ids, last))

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """One at a time, of those who read and then write on what they have read. Only in a file: a server's users are few."""
        path = sqlite_path(self._url)
        return process.exclusive(path.absolute().parent) if path else contextlib.nullcontext()

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
        """What `call` gives, the storage's errors said as ours, and made again where they pass: it must come to the same then."""
        return self.patience.tried(lambda: self._once(call))

    def _once(self, call: Callable[[], T]) -> T:
        try:
            with mapped(self._url):
                return call()
        except Away:
            self._heard = {}  # others may not have been able to beat either
            raise

    # Reading

    def reader(self) -> Ledger:
        """The same ledger for another thread: it shares the database's connections, and remembers by itself what it has read.

        It waits for no database that is away.
        """
        return self.patient(Patience())

    def patient(self, patience: Patience) -> Ledger:
        """The same ledger, with another patience."""
        return Ledger(self._storage, self._study_id, self.name, patience, self._judge)

    def results(self, *, running: bool = False) -> list[Result]:
        """All finished Results in the order of their trials, by one query; with `running` those being made too.

        Through Optuna 10,000 trials would take 7 s. What was read once is not read again: a finished trial never changes.
        """
        leased = {lease.number: lease.result for lease, _ in self._update()}
        found = self._read | leased if running else self._read
        return self._as_seen(found, self._noted())

    def _as_seen(self, found: Mapping[int, Result], attributes: Mapping[str, Any]) -> list[Result]:
        """Results as they count, in the order of their trials, by what is noted of the study."""
        self._judge.hear(_mapping(attributes.get(_INPUTS)), foreign=_mapping(attributes.get(STUDY)).get("path") is None)
        retried = _mapping(attributes.get(_RETRIED))
        return [_seen(found[number], retried, self._judge.changed(found[number])) for number in sorted(found)]

    def _noted(self) -> dict[str, Any]:
        """The attributes of the study by which its Results are seen."""
        import sqlalchemy as sql

        query = sql.text("SELECT key, value_json FROM study_user_attributes WHERE study_id = :study AND key IN (:a, :b, :c)")
        rows = self._asked(query, study=self._study_id, a=_RETRIED, b=_INPUTS, c=STUDY)
        with mapped(self._url):
            return {key: json.loads(text) for key, text in rows}

    def read(self) -> Reading:
        """All that is known of the study now, by two queries: what a page of it shows."""
        attributes = self._attributes()
        leases = self._update()
        return Reading(
            description=_description(attributes),
            results=self._as_seen(self._read, attributes),
            leases=leases,
            ended=_ended(attributes),
            mlflow_runs=_mlflow_runs(attributes),
        )

    def heard(self, reading: Reading, now: float) -> Reading:
        """The same reading with the beats that came since, for people to read, by our clock: `now`, in seconds since 1970.

        Only where a worker of another host seems silent, whose clock may be apart from ours: then it is waited for a few beats.
        """
        silent = {x.trial_id: r["beat"] for x, r in reading.leases if trials.lives(r) is None and not trials.alive(r, now)}
        if not silent:
            return reading
        time.sleep(3 * HEARTBEAT_SECONDS)
        beats = {lease.trial_id: record["beat"] for lease, record in self.leases()}
        beaten = {i for i, beat in silent.items() if beats.get(i, beat) != beat}
        return replace(reading, leases=[(x, {**r, "beat": now} if x.trial_id in beaten else r) for x, r in reading.leases])

    def _update(self) -> list[tuple[Lease, Mapping[str, Any]]]:
        """Read what has been finished since the last time; returns the leases now held."""
        held = []
        seen = self._seen
        with _no_collector():
            for trial_id, number, state, record in self._rows():
                if state == "RUNNING":
                    held.append((self._lease_of(trial_id, number, record), record))
                else:
                    result = self._parsed(Result.from_json, record, number)
                    self._read[number] = replace(result, number=number, trial=number if result.trial is None else result.trial)
                seen = max(seen, number + 1)
        self._seen, self._running = seen, [lease.number for lease, _ in held]
        return held

    def leases(self) -> list[tuple[Lease, Mapping[str, Any]]]:
        """All leases now held, each with its record: worker, heartbeat, usage so far."""
        return [
            (self._lease_of(trial_id, number, record), record)
            for trial_id, number, state, record in self._rows()
            if state == "RUNNING"
        ]

    def _lease_of(self, trial_id: int, number: int, record: Mapping[str, Any]) -> Lease:
        return Lease(trial_id, self._parsed(lambda r: trials.of_lease(r, number), record, number))

    def _parsed(self, parse: Callable[[Any], Result], record: Mapping[str, Any], number: int) -> Result:
        try:
            return parse(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EnvironmentFault(
                f"trial {number} of {self.name} in {shown(self._url)} cannot be read: {type(error).__name__}: {error}. "
                "Another program has changed it, or a newer version has written it: use that, or take the trial out of the store."
            ) from error

    def _rows(self) -> list[tuple[int, int, str, Any]]:
        """Id, number and state of each trial that was not read as finished, with its lease where it is running, else its Result.

        Trials that other programs have put into the study are passed over.
        """
        import sqlalchemy as sql

        query = sql.text(
            "SELECT t.trial_id, t.number, t.state, a.value_json FROM trials t "
            "JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
            "WHERE t.study_id = :study AND (t.number >= :first OR t.number IN :running) "
            "AND (t.state = 'RUNNING' AND a.key = :lease OR t.state <> 'RUNNING' AND a.key = :result) ORDER BY t.number"
        ).bindparams(sql.bindparam("running", expanding=True))
        values = {"study": self._study_id, "first": self._seen, "running": self._running, "result": RESULT, "lease": _LEASE}
        rows = self._asked(query, **values)
        with mapped(self._url):
            found = [(trial_id, number, state, json.loads(text)) for trial_id, number, state, text in rows]
        found = [row for row in found if (trials.is_lease if row[2] == "RUNNING" else trials.is_result)(row[3])]
        now, heard = time.monotonic(), self._heard
        beats = {trial_id: float(record["beat"]) for trial_id, _, state, record in found if state == "RUNNING"}
        self._heard = {i: heard[i] if i in heard and heard[i][0] == beat else (beat, now) for i, beat in beats.items()}
        return found

    def _lives(self, trial_id: int, record: Mapping[str, Any]) -> bool:
        """Whether the worker of a lease lives, as far as it was read lately.

        The clock of another host may be any time apart from ours. So its worker is silent once its beat has not changed for
        `SILENCE_SECONDS` of our own, in all of which the ledger could be read.
        """
        known = trials.lives(record)
        beat, since = self._heard.get(trial_id, (None, time.monotonic()))
        return known if known is not None else beat is None or time.monotonic() - since < trials.SILENCE_SECONDS

    # Writing

    def lease(self, study: Study, result: Result, spent: Mapping[str, Usage] | None = None) -> Lease | None:
        """Take the right to make `result`; None when a live worker is making the same run, or has since `results` was called.

        `spent` is what the worker has consumed already since its previous Result.
        """
        lease = self._new(study, result, spent or {}, _token(), self._seen)
        known = set(self._read)
        others = [r.number for r in self.results() if r.run_id == result.run_id and r.number not in known]
        held = [(held, record) for held, record in self.leases() if held.result.run_id == result.run_id]
        others += [each.number for each, record in held if self._lives(each.trial_id, record)]
        if min((n for n in others if n is not None), default=lease.number) < lease.number:
            self.release(lease)  # two workers chose the same run at the same moment: the earlier one keeps it
            return None
        return lease

    def release(self, lease: Lease) -> None:
        """Give a lease back unused."""
        self._tried(lambda: self._drop(lease.trial_id))
        lease.finished = True

    def _drop(self, trial_id: int) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with contextlib.suppress(UpdateFinishedTrialError):  # by an attempt before
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def beat(self, lease: Lease, spent: Mapping[str, Usage], labels: int = 0) -> None:
        """Heartbeat: the worker lives, and has consumed this much by phase, and so many labels, since its previous Result.

        It is not tried again: the next one says more.
        """
        record = trials.lease_record(replace(lease.result, labels=labels), spent)
        self._once(lambda: self._storage.set_trial_user_attr(lease.trial_id, _LEASE, record))

    def finish(self, lease: Lease, result: Result, study: Study, offer: Offer) -> Result:
        """Write a Result in its lease's place: from here on it is never changed. May be called again after a failure."""
        from optuna.exceptions import UpdateFinishedTrialError

        result = replace(result, trial=lease.result.trial, number=lease.number)

        def write() -> bool:
            try:
                self._storage.set_trial_user_attr(lease.trial_id, RESULT, result.to_json(compact=True))
                self._close(lease.trial_id, result, study, offer)
            except UpdateFinishedTrialError:
                return False
            return True

        if not self._tried(write):
            result = self._finish_late(lease, result, study, offer)
        assert result.number is not None
        self._read[result.number] = result
        lease.finished = True
        return result

    def _finish_late(self, lease: Lease, result: Result, study: Study, offer: Offer) -> Result:
        """The place is taken: by this Result, written by an attempt whose answer was lost, or because we were held dead."""
        self.results()
        written = self._read.get(lease.number)
        if written is not None and (written == result or written.status == result.status != "interrupted"):
            return written
        # This host was silent for so long (asleep, cut off) that another one held its worker dead and charged what it knew of.
        charged = written.spent if written is not None else {}
        left = {name: usage - charged[name] if name in charged else usage for name, usage in result.spent.items()}
        place = self._new(study, result, {}, f"{lease.token}+", lease.number)
        return self.finish(place, replace(result, spent=left), study, offer)

    def lease_of(self, token: str, result: Result) -> Lease | None:
        """The lease with this token, whatever has become of it; None where this study has none. `result` is what was to be made."""
        found = self._tried(lambda: self._made_by(token, 0))
        return Lease(found[0][0], replace(result, number=found[0][1]), token=token) if found else None

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
            for result in new.values():
                trial = finished(result, objectives, offer)
                self._made(trial, _token(), 0)
            return [r for r in self.results() if r.run_id in new]

    def reconcile(self, study: Study, offer: Offer) -> list[Result]:
        """Put right what dead workers left: finish what was half written, mark the rest interrupted with its spend.

        A worker may have lived for up to one heartbeat after its last one; that time is charged at its rate until then, never less.

        Returns:
            The Results that this made known: interrupted ones, and those that were half written.
        """
        mended = []
        for lease, record in self.leases():
            if self._lives(lease.trial_id, record):
                continue
            reason = Cause.DIED.reason(f"its worker (process {record['pid']} on {record['host'].split('/')[0]}) is gone")
            last = total(lease.result.spent.values()).at_this_rate(HEARTBEAT_SECONDS, "its worker died: at the rate until then")
            spent = add_phases(lease.result.spent, {"idle": last})
            result = replace(lease.result, status="interrupted", cause=Cause.DIED, reason=reason)
            result = replace(result, spent=spent, finished=record["beat"])
            attributes = self._tried(functools.partial(self._storage.get_trial_user_attrs, lease.trial_id))
            half = attributes.get(RESULT)
            if half is not None and trials.is_result(half):
                result = replace(self._parsed(Result.from_json, half, lease.number), number=lease.number)
            mended += [result] if self._tried(functools.partial(self._mend, lease.trial_id, result, study, offer)) else []
        return mended

    def _mend(self, trial_id: int, result: Result, study: Study, offer: Offer) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self._storage.set_trial_user_attr(trial_id, RESULT, result.to_json(compact=True))
            self._close(trial_id, result, study, offer)
        except UpdateFinishedTrialError:  # another worker, starting at the same moment, has put it right
            return False
        return True

    def _new(self, study: Study, result: Result, spent: Mapping[str, Usage], token: str, first: int) -> Lease:
        """A RUNNING trial for a Result, made by the attempt with this token; no trial before the number `first` can be its."""
        from optuna.trial import TrialState, create_trial

        template = create_trial(
            state=TrialState.RUNNING,
            user_attrs={_LEASE: trials.lease_record(result, spent), _TOKEN: token},
            system_attrs={CONSTRAINTS: trials.FEASIBLE},
            **trials.parameters(study, {name: value for name, value in result.settings.items() if name != "epochs"}),
        )
        trial_id, number = self._made(template, token, first)
        trial = number if result.trial is None else result.trial
        return Lease(trial_id, replace(result, trial=trial, number=number), token=token)

    def _made(self, template: FrozenTrial, token: str, first: int) -> tuple[int, int]:
        """Id and number of a trial like this, made once by the attempt with this token, however often its answer was lost."""
        template.user_attrs[_TOKEN] = token

        def make() -> tuple[int, int]:
            if not self._made_by(token, first):
                try:
                    self._storage.create_new_trial(self._study_id, template)
                except ValueError as error:  # Optuna compares distributions with those of the trials before
                    raise EnvironmentFault(
                        f"another program has put other trials into {self.name} in {shown(self._url)}: {error} "
                        "Take them out of the store, or name another with --storage."
                    ) from error
            (mine, *more) = self._made_by(token, first)
            for trial_id, _ in more:  # Optuna itself tries again what may have been done
                self._drop(trial_id)
            return mine

        return self._tried(make)

    def _made_by(self, token: str, first: int) -> list[tuple[int, int]]:
        """Ids and numbers of the trials from the number `first` on that the attempt with this token has made."""
        import sqlalchemy as sql

        query = sql.text(
            "SELECT t.trial_id, t.number FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
            "WHERE t.study_id = :study AND t.number >= :first AND a.key = :key AND a.value_json = :token ORDER BY t.number"
        )
        values = {"study": self._study_id, "first": first, "key": _TOKEN, "token": json.dumps(token)}
        with self._storage.engine.connect() as connection:
            return [(trial_id, number) for trial_id, number in connection.execute(query, values).all()]

    def _close(self, trial_id: int, result: Result, study: Study, offer: Offer) -> None:
        state, values = trials.outcome(result, study, offer)
        if (
            "epochs" in study.dimensions and "epochs" in result.settings
        ):  # only now is it known: a checkpoint has fewer than the run it belongs to
            space = trials.distribution(study.dimensions["epochs"])
            self._storage.set_trial_param(trial_id, "epochs", space.to_internal_repr(result.epochs), space)
        if result.status == "infeasible":
            self._storage.set_trial_system_attr(trial_id, CONSTRAINTS, trials.INFEASIBLE)
        self._storage.set_trial_state_values(trial_id, state, values)


def _seen(result: Result, retried: Mapping[str, int], changed: tuple[str, ...]) -> Result:
    """A Result as it counts: a failure of a run that was since released to be tried again is an interruption."""
    result = replace(result, outdated=changed) if changed else result
    failed = result.status in ("infeasible", "interrupted")
    return again(result) if failed and (result.number or 0) <= retried.get(result.run_id, -1) else result


def _not_swept(path: str, older: str | None) -> str:
    if older is None:
        return f"{path} has not been swept yet. Run `workbench sweep {path}` first."
    return (
        f"{path} has not been swept as it stands now: it was changed since. Run `workbench sweep {path}`, which takes the older "
        f"results over, or give the older study by its name, {older}."
    )


def _own(storage: RDBStorage, name: str, url: str) -> int:
    """The id of the study with this name, which is there. Raises UsageError where it is another program's."""
    foreign = others(storage)
    if name in foreign:
        raise UsageError(_foreign(name, url, foreign[name]))
    return studies(storage)[name]


def _foreign(name: str, url: str, lacks: str) -> str:
    what = f"{name!r} in {shown(url)} is not a study of the workbench: it has {lacks}."
    return f"{what} Name another study, or another store with --storage."


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _description(attributes: Mapping[str, Any]) -> dict[str, Any]:
    limits = _mapping(_mapping(attributes.get(_BEGUN)).get("limits"))
    return {**_mapping(attributes.get(STUDY)), "limits": limits, "grading": _mapping(attributes.get(_GRADING))}


def _ended(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    ended = _mapping(attributes.get(_ENDED))
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
