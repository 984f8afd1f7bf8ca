"""The ledger of a study: it is opened, and leases and Results are written into it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from workbench.errors import EnvironmentFault, UsageError, did_you_mean
from workbench.ledger import leases, statements, trials
from workbench.ledger.create import RESULT, create, foreign_text, others, own, studies, take_over
from workbench.ledger.faults import mapped, shown
from workbench.ledger.inputs import Judge
from workbench.ledger.leases import HEARTBEAT_SECONDS, Lease, new_token
from workbench.ledger.patience import OPENING_SECONDS, Patience
from workbench.ledger.reading import INPUTS, RETRIED, ReadableLedger
from workbench.ledger.statements import BEAT, LEASE, TOKEN
from workbench.ledger.store import open_storage
from workbench.ledger.study_attributes import BEGUN, ENDED, mapping
from workbench.prices import Offer
from workbench.result import Cause, Result
from workbench.study import Study
from workbench.usage import Usage, add_phases, total


class Ledger(ReadableLedger):
    """All Results of one study in one storage.

    All that is asked of it or written into it may be done again when the storage was away, and comes to the same; how long that
    is tried is `patience`'s to say. Two threads need a `reader` each; a beat may come from any.
    """

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
                return cls(storage, own(storage, study.name, url), study.name, patience, Judge(study))

        patience = patience or Patience(OPENING_SECONDS)
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
                ids = studies(storage)
                return ids, others(storage) if name not in ids else {}

        ids, foreign = patience.tried(found)
        stems = {n.rsplit("-", 1)[0]: n for n in ids}
        if name in foreign:
            raise UsageError(foreign_text(str(name), url, foreign[str(name)]))
        if not ids:
            beside = f", only of other programs ({', '.join(foreign)})" if foreign else ""
            raise UsageError(f"{shown(url)} holds no study yet{beside}. Run `workbench sweep {path or 'STUDY'}` first.")
        full = name if name in ids else stems.get(name) if name else list(ids)[-1]
        if full is None and path:
            raise UsageError(_not_swept(path, stems.get(str(name).rsplit("-", 1)[0])))
        if full is None:
            raise UsageError(f"{shown(url)} holds no study {name!r}.{did_you_mean(str(name), stems)}")
        return cls(storage, ids[full], full, patience, Judge(study))

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

    # Writing

    def note_begin(self, limits: Mapping[str, float | None], sweep: str = "") -> None:
        """Remember that a sweep has begun, within which limits, and by which inputs; `sweep` is its id in the notebook."""
        self.note_inputs()
        ever = self.description["limits_had"] | {name: most for name, most in limits.items() if most is not None}
        self._note(BEGUN, {"limits": dict(limits), "limits_had": ever, "at": time.time(), "sweep": sweep})
        self._note(ENDED, {})

    def note_inputs(self) -> None:
        """Remember the study's inputs as they are now: who reads this ledger without the study's files judges by them."""
        self.results(running=True)  # all have been looked at
        fingerprints = self._judge.known
        if fingerprints != self._noted().get(INPUTS, {}):
            self._note(INPUTS, fingerprints)

    def lease(
        self, study: Study, result: Result, spent: Mapping[str, Usage] | None = None, token: str | None = None
    ) -> Lease | None:
        """Take the right to make `result`; None when a live worker is making the same run, or has since `results` was called.

        Seven statements. What it has read of the others meanwhile is `known`.

        Args:
            study: The study.
            result: What is to be made.
            spent: What the worker has consumed already since its previous Result.
            token: A new name for the attempt, by which it is found should its answer be lost; None makes one.
        """
        # The trial is made first and then compared with others: reading first would let two workers that chose
        # at the same moment both find nobody there.
        lease = self._new(study, result, spent or {}, token or new_token())
        return lease if self._is_first(lease) else None

    def enter(self, lease: Lease, study: Study) -> None:
        """Make known a lease that was taken while the ledger was away; `finish` says whether its Result is one."""
        made = self._new(study, replace(lease.result, number=None), {}, lease.token, 0)
        lease.trial_id, lease.result = made.trial_id, made.result

    def _is_first(self, lease: Lease) -> bool:
        """Whether nobody has taken or finished the run of a new lease before it, since Results were read; else it is given back."""
        run_id, read_before = lease.result.run_id, set(self._read)
        held = self._update()  # one reading: of a worker that ends one lease and takes another it sees either, never neither
        others = [number for number, r in self._read.items() if r.run_id == run_id and number not in read_before]
        others += [each.number for each, record in held if each.result.run_id == run_id and self._lives(each.trial, record)]
        if min(others, default=lease.number) < lease.number:
            self.release(lease)  # the earlier trial keeps the run: numbers are given by the database, in one order for all
            self._held = [(each, record) for each, record in held if each.trial_id != lease.trial_id]
            return False
        return True

    def release(self, lease: Lease) -> None:
        """Give a lease back unused."""
        self._tried(lambda: self._drop(lease.trial))
        lease.finished = True

    def _drop(self, trial_id: int) -> None:
        from optuna.trial import TrialState

        statements.close_trial(self._storage.engine, trial_id, TrialState.FAIL)  # nothing where an attempt before has done it

    def beat(self, lease: Lease, spent: Mapping[str, Usage], labels: int = 0) -> None:
        """Heartbeat: the worker lives, and has consumed this much by phase, and so many labels, since its previous Result.

        It is not tried again: the next one says more.
        """
        record = leases.beat_record(spent, labels)
        self._once(lambda: statements.update_beat(self._storage.engine, lease.trial, record))

    def finish(self, lease: Lease, result: Result, study: Study, offer: Offer) -> Result:
        """Write a Result in its lease's place: from here on it is never changed. May be called again after a failure."""
        result = replace(result, trial=lease.result.trial, number=lease.number)
        if lease.after is not None:  # it began while the ledger was away, and others may not have known
            result = self._if_nobody_else(result, {lease.number})
        if not self._tried(lambda: self._close(lease.trial, result, study, offer)):
            result = self._finish_late(lease, result, study, offer)
        assert result.number is not None
        self._read[result.number] = result
        lease.finished = True
        return result

    def _finish_late(self, lease: Lease, result: Result, study: Study, offer: Offer) -> Result:
        """The place is taken: by this Result, written by an attempt whose answer was lost, or by one who held us dead."""
        self.results()
        written = self._read.get(lease.number)
        if written is not None and (written == result or written.status == result.status != "interrupted"):
            return written
        # This host was silent for so long (asleep, cut off) that another one held its worker dead and charged what it knew
        # of. The Result is kept in a trial of its own, unless another worker has taken the run up since, and only what was not
        # charged yet is.
        charged = written.spent if written is not None else {}
        left = {name: usage - charged[name] if name in charged else usage for name, usage in result.spent.items()}
        place = self._new(study, replace(result, number=None), {}, f"{lease.token}+", lease.trial)
        result = self._if_nobody_else(replace(result, spent=left), {lease.number, place.number})
        return self.finish(place, result, study, offer)

    def _if_nobody_else(self, result: Result, own: set[int]) -> Result:
        """A Result as it is to be written: where another worker has taken its run up, what it consumed alone.

        Args:
            result: What was made while this worker was silent.
            own: Numbers of the trials that stand for it.
        """
        held = self._update()
        others = [x for x, record in held if x.number not in own and not leases.is_own(record) and self._lives(x.trial, record)]
        again = any(x.result.run_id == result.run_id for x in others)
        same = any(r.recipe_id == result.recipe_id and r.status == "complete" and n not in own for n, r in self._read.items())
        if result.status == "interrupted" or not (again or same):
            return result
        reason = Cause.DIED.reason(
            "its worker was silent for so long that another one took the run up; what it made is not counted"
        )
        bare = replace(result, usage={}, scores={}, test_scores={}, samples=(), serving={})
        return replace(bare, status="interrupted", cause=Cause.DIED, reason=reason)

    def lease_of(self, token: str | None, result: Result) -> Lease | None:
        """The lease with this token, whatever has become of it; None where this study has none. `result` is what was to be made."""
        attempts = self._tried(lambda: self._made_by(token, 0)) if token else []
        return Lease(attempts[0][0], replace(result, number=attempts[0][1]), token=str(token)) if attempts else None

    def reconcile(self, study: Study, offer: Offer) -> list[Result]:
        """Put right what dead workers left: finish what was half written, and mark the rest interrupted with its spend.

        A worker may have lived for up to one heartbeat after its last one: that time is charged at its rate until then, because a
        budget must never be passed by what nobody saw.

        Returns:
            The Results that this made known: interrupted ones, and those that were half written.
        """
        mended = []
        for lease, record in self.leases():
            if self._lives(lease.trial, record):
                continue
            reason = Cause.DIED.reason(f"its worker (process {record['pid']} on {record['host'].split('/')[0]}) is gone")
            last = total(lease.result.spent.values()).at_this_rate(HEARTBEAT_SECONDS, "its worker died: at the rate until then")
            spent = add_phases(lease.result.spent, {"idle": last})
            result = replace(lease.result, status="interrupted", cause=Cause.DIED, reason=reason)
            result = replace(result, spent=spent, finished=record["beat"])
            attributes = self._tried(functools.partial(self._storage.get_trial_user_attrs, lease.trial))
            half = attributes.get(RESULT)
            if half is not None and trials.is_result(half):
                result = replace(self._parsed(Result.from_json, half, lease.number), number=lease.number)
            mended += [result] if self._tried(functools.partial(self._close, lease.trial, result, study, offer)) else []
        return mended

    def _new(self, study: Study, result: Result, spent: Mapping[str, Usage], token: str, after: int | None = None) -> Lease:
        """A lease for a Result: a RUNNING trial, made by the attempt with this token. Its id is above `after`, which is given where
        an earlier attempt may have made it.
        """
        record = leases.lease_record(result, spent)
        beat = {name: value for name, value in record.items() if name != "result"}
        settings = trials.parameters(study, result.run_settings)
        params = {name: (value, settings["distributions"][name]) for name, value in settings["params"].items()}
        self._tried(lambda: self._check(params))
        records = {LEASE: record, BEAT: beat, TOKEN: token}
        make = functools.partial(statements.insert_lease, self._storage.engine, self._study_id, records, params)
        made = self._made(make, token, self._seen if after is None else after, is_new=after is None)
        trial = made[1] if result.trial is None else result.trial
        return Lease(made[0], replace(result, trial=trial, number=made[1]), token=token)

    def _check(self, params: statements.Params) -> None:
        """Raise where Optuna would refuse parameters beside those that are there; each is asked about once."""
        new = {name: known for name, known in params.items() if name not in self._checked}
        if text := statements.incompatible(self._storage.engine, self._study_id, new):
            raise self._mixed(text)
        self._checked |= new.keys()

    def _mixed(self, text: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"another program has put other trials into {self.name} in {shown(self._url)}: {text} "
            "Take them out of the store, or name another with --storage."
        )

    def _made(self, make: Callable[[], tuple[int, int]], token: str, after: int, *, is_new: bool = True) -> tuple[int, int]:
        """Id and number of the trial that `make` makes, once for this token, however often the answer was lost.

        A token that `is_new` is not looked for before the first attempt.
        """
        attempts = itertools.count(0 if is_new else 1)

        def once() -> tuple[int, int]:
            there = self._made_by(token, after) if next(attempts) else []
            return there[0] if there else make()

        return self._tried(once)

    def _made_by(self, token: str, after: int) -> list[tuple[int, int]]:
        """Ids and numbers of the trials with ids above `after` that the attempt with this token has made."""
        import sqlalchemy as sql

        query = sql.text(
            "SELECT t.trial_id, t.number FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
            "WHERE t.study_id = :study AND t.trial_id > :after AND a.key = :key AND a.value_json = :token ORDER BY t.trial_id"
        )
        values = {"study": self._study_id, "after": after, "key": TOKEN, "token": json.dumps(token)}
        with self._storage.engine.connect() as connection:
            return [(trial_id, number) for trial_id, number in connection.execute(query, values).all()]

    def _close(self, trial_id: int, result: Result, study: Study, offer: Offer) -> bool:
        """Write a finished Result, its values and its state, whole or not at all; whether its trial was still to be ended."""
        state, values = trials.outcome(result, study, offer)
        params: statements.Params = {}
        # Epochs are known only now: a checkpoint has fewer than the run it belongs to.
        if "epochs" in study.dimensions and "epochs" in result.settings:
            params = {"epochs": (result.epochs, trials.distribution(study.dimensions["epochs"]))}
        return statements.close_trial(
            self._storage.engine,
            trial_id,
            state,
            values=values,
            result=result.to_json(compact=True),
            constraints=trials.INFEASIBLE if result.status == "infeasible" else trials.FEASIBLE,
            params=params,
        )

    def retry(self, run_ids: Iterable[str]) -> None:
        """Let runs be tried again: what ended them until now no longer speaks against them, and the next sweep takes them up.

        No Result is changed, nor what was spent: `results` gives those failures as interruptions (`workbench.result.again`).
        """
        with self._alone():
            last = max((r.number or 0 for r in self.results()), default=0)
            self._note(RETRIED, mapping(self._noted().get(RETRIED)) | dict.fromkeys(run_ids, last))


def _not_swept(path: str, older: str | None) -> str:
    if older is None:
        return f"{path} has not been swept yet. Run `workbench sweep {path}` first."
    return (
        f"{path} has not been swept as it stands now: it was changed since. Run `workbench sweep {path}`, which takes the older "
        f"results over, or give the older study by its name, {older}."
    )
