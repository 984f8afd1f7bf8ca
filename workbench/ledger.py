"""The ledger: every Result of a study in Optuna's storage, the single truth that fronts, budgets and searches read.

One trial per Result, written once. While a worker makes the next Result, a RUNNING trial is its lease: it carries the
heartbeat and what was consumed so far, so that a dead worker is told from a live one and its spend is not lost. A worker
on this host is alive when its process is; one elsewhere when its heart beat in the last `SILENCE_SECONDS`.

    RUNNING   running        lease, heartbeat
    COMPLETE  complete       values of the study's objectives
    PRUNED    infeasible     with a constraint
    FAIL      interrupted    the recipe may be tried again
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import prices, process
from workbench.errors import EnvironmentFault, UsageError, did_you_mean
from workbench.prices import Offer
from workbench.result import Result, cost
from workbench.space import Choice, Dimension, Integers, Uniform, Value
from workbench.study import Study
from workbench.usage import Usage, add_phases

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 60.0
_RESULT, _LEASE, _STUDY, _MLFLOW = "workbench:result", "workbench:lease", "workbench:study", "workbench:mlflow:"


def default_url(folder: Path) -> str:
    """The default storage: a SQLite file in `folder`."""
    return f"sqlite:///{folder.resolve() / 'optuna.db'}"


def examine(url: str) -> str:
    """What the store at `url` holds, in words, changing nothing. Raises EnvironmentFault when it cannot be used."""
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.exists():
        return f"{path} (not there yet; made by the first sweep)"
    storage = _storage(url, create=False)
    with _mapped(url):
        names = [s.study_name for s in storage.get_all_studies()]
    return f"{_shown(url)}: {', '.join(names) if names else 'no study yet'}"


@dataclass
class Lease:
    """The right to make one Result, as far as it is known. `trial_id` and `number` are those of its RUNNING trial."""

    trial_id: int
    number: int
    result: Result
    finished: bool = False


class Ledger:
    """All Results of one study in one storage."""

    def __init__(self, storage: RDBStorage, study_id: int, name: str) -> None:
        self._storage, self._study_id, self.name = storage, study_id, name

    # Opening

    @classmethod
    def open(cls, study: Study, url: str) -> Ledger:
        """The study's ledger, made if it is not there yet; a new one takes over what an older form of the study found.

        Raises:
            EnvironmentFault: The storage cannot be opened or written.
        """
        from optuna.study import StudyDirection

        storage = _storage(url, create=True)
        with _mapped(url):
            ids = {s.study_name: s._study_id for s in storage.get_all_studies()}
            if study.name in ids:
                return cls(storage, ids[study.name], study.name)
            directions = [StudyDirection.MAXIMIZE] + [StudyDirection.MINIMIZE] * len(study.costs)
            ledger = cls(storage, storage.create_new_study(directions, study.name), study.name)
            storage.set_study_user_attr(ledger._study_id, _STUDY, _describe(study))
            storage.set_study_system_attr(ledger._study_id, "study:metric_names", [study.maximize, *study.costs])
            ledger._take_over(study, [cls(storage, i, n) for n, i in ids.items() if n.rsplit("-", 1)[0] == study.name.rsplit("-", 1)[0]])
            return ledger

    @classmethod
    def find(cls, name: str | None, url: str, *, path: str = "") -> Ledger:
        """The ledger of a study by its name in the store, or by its file's stem: the newest. None is the newest of all.

        Raises:
            UsageError: No study has that name.
            EnvironmentFault: The storage cannot be opened.
        """
        storage = _storage(url, create=False)
        with _mapped(url):
            studies = {s.study_name: s._study_id for s in storage.get_all_studies()}
        stems = {n.rsplit("-", 1)[0]: n for n in sorted(studies, key=lambda n: studies[n])}
        if not studies:
            raise UsageError(f"{_shown(url)} holds no study yet. Run `workbench sweep {path or 'STUDY'}` first.")
        full = name if name in studies else stems.get(name) if name else max(studies, key=lambda n: studies[n])
        if full is None and path:
            raise UsageError(f"{path} has not been swept as it stands now. Run `workbench sweep {path}`; its older results are taken over.")
        if full is None:
            raise UsageError(f"{_shown(url)} holds no study {name!r}.{did_you_mean(str(name), stems)}")
        return cls(storage, studies[full], full)

    @property
    def description(self) -> dict[str, Any]:
        """What was noted of the study when its ledger was made: question, objectives, reference point."""
        attrs = self._storage.get_study_user_attrs(self._study_id)
        return dict(attrs.get(_STUDY, {}))

    @property
    def mlflow_runs(self) -> dict[str, str]:
        """MLflow's run id for each run id that has one."""
        attrs = self._storage.get_study_user_attrs(self._study_id)
        return {key.removeprefix(_MLFLOW): value for key, value in attrs.items() if key.startswith(_MLFLOW)}

    def note_mlflow_run(self, run_id: str, mlflow_run_id: str) -> None:
        """Remember which MLflow run mirrors a run."""
        self._storage.set_study_user_attr(self._study_id, _MLFLOW + run_id, mlflow_run_id)

    # Reading

    def results(self, *, running: bool = False) -> list[Result]:
        """All finished Results in the order of their trials, by one query; with `running` those being made too."""
        import sqlalchemy as sql

        query = sql.text(
            "SELECT t.number, t.state, a.key, a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
            "WHERE t.study_id = :study AND a.key IN (:result, :lease) ORDER BY t.number, a.key DESC"
        )
        found: dict[int, Result] = {}
        with self._storage.engine.connect() as connection:
            for number, state, key, text in connection.execute(query, {"study": self._study_id, "result": _RESULT, "lease": _LEASE}):
                if key == _RESULT and state != "RUNNING":
                    found[number] = replace(Result.from_json(json.loads(text)), number=number)
                elif key == _LEASE and state == "RUNNING" and running:
                    found[number] = replace(_of_lease(json.loads(text)), number=number, status="running")
        return [found[number] for number in sorted(found)]

    def leases(self) -> list[tuple[Lease, Mapping[str, Any]]]:
        """All leases now held, each with its record: worker, heartbeat, usage so far."""
        from optuna.trial import TrialState

        trials = self._storage.get_all_trials(self._study_id, deepcopy=False, states=(TrialState.RUNNING,))
        held = [(t, t.user_attrs[_LEASE]) for t in trials if _LEASE in t.user_attrs]
        return [(Lease(t._trial_id, t.number, replace(_of_lease(record), number=t.number)), record) for t, record in held]

    # Writing

    def lease(self, study: Study, result: Result) -> Lease | None:
        """Take the right to make `result`; None when a live worker is making the same recipe."""
        from optuna.trial import TrialState, create_trial

        with _mapped(self._url):
            params, distributions = self._params(study, result)
            template = create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=distributions,
                user_attrs={_LEASE: _lease_record(result, {})},
            )
            trial_id = self._storage.create_new_trial(self._study_id, template)
            number = self._storage.get_trial_number_from_id(trial_id)
            first = min((lease.number for lease, record in self.leases() if lease.result.run_id == result.run_id and alive(record)), default=number)
            if first < number:  # two workers chose the same recipe at the same moment: the earlier one keeps it
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
                return None
        lease = Lease(trial_id, number, replace(result, trial=number if result.trial is None else result.trial, number=number))
        self.beat(lease, {})
        return lease

    def beat(self, lease: Lease, spent: Mapping[str, Usage]) -> None:
        """Heartbeat: the worker lives, and has consumed this much by phase since the run's previous Result."""
        self._storage.set_trial_user_attr(lease.trial_id, _LEASE, _lease_record(lease.result, spent))

    def finish(self, lease: Lease, result: Result, study: Study, offer: Offer) -> Result:
        """Write a Result in its lease's place: from here on it is never changed."""
        result = replace(result, trial=lease.result.trial, number=lease.number)
        with _mapped(self._url):
            self._storage.set_trial_user_attr(lease.trial_id, _RESULT, result.to_json())
            self._close(lease.trial_id, result, study, offer)
        lease.finished = True
        return result

    def reconcile(self, study: Study, offer: Offer) -> list[Result]:
        """Put right what dead workers left: finish what was half written, mark the rest interrupted with its spend.

        A worker may have lived for up to one heartbeat after its last one; that time is charged, never less.
        """
        mended = []
        with _mapped(self._url):
            for lease, record in self.leases():
                attrs = self._storage.get_trial_user_attrs(lease.trial_id)
                if alive(record):
                    continue
                if _RESULT in attrs:
                    self._close(lease.trial_id, Result.from_json(attrs[_RESULT]), study, offer)
                    continue
                spent = {name: Usage.from_json(u) for name, u in record["spent"].items()}
                spent = add_phases(spent, {"idle": Usage(seconds=HEARTBEAT_SECONDS, cpu_seconds=None, cpu_energy_j=None)})
                reason = f"its worker (process {record['pid']} on {record['host']}) died"
                mended.append(
                    self.finish(lease, replace(lease.result, status="interrupted", reason=reason, spent=spent, finished=record["beat"]), study, offer)
                )
        return mended

    def _close(self, trial_id: int, result: Result, study: Study, offer: Offer) -> None:
        from optuna.trial import TrialState

        if result.status == "complete":
            costs = [cost(result, name, offer, result.label_usd) for name in study.costs]
            values = [float(result.scores[study.maximize]), *(c for c in costs if c is not None)]
            known = len(values) == 1 + len(study.costs)
            self._storage.set_trial_system_attr(trial_id, "constraints", [-1.0])
            # Optuna has no value for a cost that is unknown: such a Result is kept, and is no trial that samplers can read.
            self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE if known else TrialState.PRUNED, values if known else None)
        elif result.status == "infeasible":
            self._storage.set_trial_system_attr(trial_id, "constraints", [1.0])
            self._storage.set_trial_state_values(trial_id, TrialState.PRUNED)
        else:
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _take_over(self, study: Study, older: Sequence[Ledger]) -> None:
        """Copy the Results of older forms of the study that lie in its space, so that nothing is paid for twice.

        Recipes are recognised by resolving the old settings in the new space: a record never makes a recipe.
        """
        from optuna.trial import TrialState, create_trial

        seen: set[str] = set()
        firsts: dict[str, int] = {}
        for ledger in older:
            for result in ledger.results():
                if result.status not in ("complete", "infeasible") or result.recipe_id in seen:
                    continue
                if not _contains(study, result) or (result.status == "complete" and study.maximize not in result.scores):
                    continue
                seen.add(result.recipe_id)
                params, distributions = self._params(study, result)
                trial_id = self._storage.create_new_trial(
                    self._study_id, create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
                )
                number = self._storage.get_trial_number_from_id(trial_id)
                # Taken over, not run here: what it cost was spent in the older study's sweep.
                copied = replace(result, trial=firsts.setdefault(result.run_id, number), spent={}, provenance={**result.provenance, "taken_over_from": ledger.name})
                self._storage.set_trial_user_attr(trial_id, _RESULT, copied.to_json())
                self._close(trial_id, copied, study, prices.find(study.platform))

    def _params(self, study: Study, result: Result) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        params = {n: v for n, v in result.settings.items() if n in study.dimensions}
        spaces = {name: distribution(study.dimensions[name]) for name in params}
        return params, spaces

    @property
    def _url(self) -> str:
        return str(self._storage.url)


def distribution(dimension: Dimension) -> BaseDistribution:
    """The Optuna distribution of a dimension, as the ledger stores it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space = dimension.space
    if isinstance(space, Choice):
        if dimension.name == "epochs":  # checkpoints lie between and below the options
            numbers = [float(x) for x in space.labels if isinstance(x, (int, float))]
            return FloatDistribution(min(numbers) / 1024, max(numbers))
        return CategoricalDistribution(space.labels)
    assert isinstance(space, (Uniform, Integers))
    if dimension.name == "epochs":
        return FloatDistribution(space.low / 1024, float(space.high), log=space.log)
    if isinstance(space, Integers):
        return IntDistribution(space.low, space.high, log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def alive(record: Mapping[str, Any]) -> bool:
    """Whether the worker of a lease still lives."""
    known = process.lives(record)
    return time.time() - float(record["beat"]) < SILENCE_SECONDS if known is None else known


def _lease_record(result: Result, spent: Mapping[str, Usage]) -> dict[str, Any]:
    return {
        **process.this_process(),
        "beat": time.time(),
        "spent": {name: u.to_json() for name, u in spent.items()},
        "result": result.to_json(),
    }


def _of_lease(record: Mapping[str, Any]) -> Result:
    spent = {name: Usage.from_json(u) for name, u in record["spent"].items()}
    return replace(Result.from_json(record["result"]), spent=spent, finished=record["beat"])


def _contains(study: Study, result: Result) -> bool:
    settings = {name: value for name, value in result.settings.items() if name in study.dimensions}
    epochs = settings.get("epochs")
    space = study.dimensions["epochs"].space if "epochs" in study.dimensions else None
    try:
        if space is not None and epochs is not None and not space.contains(epochs):
            # A checkpoint between the options: its recipe is in the space when a longer run of it is.
            longer = max((v for v in _ends(space)), default=None)
            if longer is None or float(epochs) > float(longer):  # type: ignore[arg-type]
                return False
            return study.resolve({**settings, "epochs": longer}).run_id == result.run_id
        return study.resolve(settings).run_id == result.run_id
    except UsageError:
        return False


def _ends(space: Any) -> Iterator[Value]:
    yield from space.labels if isinstance(space, Choice) else (space.low, space.high)


def _describe(study: Study) -> dict[str, Any]:
    labels = study.dimensions.get("task.train")
    train = max((int(v) for v in _ends(labels.space)), default=1) if labels else getattr(study.recipe.task, "train", 1)  # type: ignore[arg-type]
    day = Usage(seconds=86400.0)
    usd = prices.usd(day, prices.find(study.platform))
    reference = {"usd": usd + train * study.label_usd, "usd_compute": usd, "labels": 10.0 * train, "seconds": day.seconds, "energy_j": day.seconds * 1000}
    return {
        "question": study.question,
        "path": str(study.path) if study.path else None,
        "maximize": study.maximize,
        "minimize": list(study.costs),
        "label_usd": study.label_usd,
        "platform": study.platform,
        # Score 0 for a day of the machine, all labels bought (1 kW for energy): nobody's model is worse.
        "reference": {study.maximize: 0.0} | {name: reference[name] for name in study.costs},
        "created": time.time(),
        "schema": 1,
    }


def _storage(url: str, *, create: bool) -> RDBStorage:
    import warnings

    import optuna
    from sqlalchemy import event

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" not in url:
        raise UsageError(f"--storage {url!r} is not a database URL. Use for instance sqlite:///optuna.db or postgresql://user@host/name.")
    sqlite = url.startswith("sqlite:///")
    path = Path(url.removeprefix("sqlite:///"))
    if sqlite and not create and not path.is_file():
        raise UsageError(f"there is no ledger {path}. Run `workbench sweep STUDY` first, or name the store with --storage.")
    if sqlite and create and not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise EnvironmentFault(f"the ledger {path} cannot be written. Work in a folder that you may write to, or name another store with --storage.")
    with _mapped(url), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A writer waits for another rather than failing: a checkpoint must not be lost to a busy file.
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True})
        if sqlite:
            event.listen(storage.engine, "connect", _fast_sqlite)
            storage.engine.dispose()
            with storage.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    return storage


def _fast_sqlite(connection: Any, _: Any) -> None:
    # In WAL mode NORMAL loses nothing to a kill of the process, only, at worst, the last commits to a power cut.
    connection.execute("PRAGMA synchronous=NORMAL")


@contextlib.contextmanager
def _mapped(url: str) -> Iterator[None]:
    """The storage's own errors, said as ours."""
    import sqlalchemy.exc as sql
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sql.DBAPIError, sql.ArgumentError, sql.NoSuchModuleError, StorageInternalError, RuntimeError, ImportError) as error:
        if isinstance(error, RuntimeError) and "optuna" not in str(error).lower() and "storage" not in str(error).lower():
            raise
        cause: BaseException = error
        while isinstance(cause, StorageInternalError) and cause.__cause__:
            cause = cause.__cause__
        detail = str(getattr(cause, "orig", cause) or cause).strip().splitlines()[0]
        raise EnvironmentFault(f"the ledger {_shown(url)} cannot be used: {detail}. {_advice(detail)}") from error


def _shown(url: str) -> str:
    """The URL without a password."""
    from sqlalchemy import make_url

    with contextlib.suppress(Exception):
        return make_url(url).render_as_string(hide_password=True)
    return url


def _advice(detail: str) -> str:
    hints = {
        "not a database": "Move that file away, or name another store with --storage.",
        "full": "Free some disk space and run the same command again: it continues.",
        "readonly": "Work in a folder that you may write to, or name another store with --storage.",
        "unable to open": "Check the folder, or name another store with --storage.",
        "locked": "Another program holds it; close that and run the same command again.",
        "module": "Install the database's Python driver.",
    }
    return next((hint for word, hint in hints.items() if word.lower() in detail.lower()), "Check the address and that the server is up.")


