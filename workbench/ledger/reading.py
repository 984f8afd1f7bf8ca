"""A study's Results and leases, read from its storage, each finished Result once."""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from workbench.errors import EnvironmentFault
from workbench.ledger import leases, trials
from workbench.ledger.create import RESULT, STUDY
from workbench.ledger.faults import mapped, shown
from workbench.ledger.leases import HEARTBEAT_SECONDS, Lease, Worker
from workbench.ledger.patience import Patience
from workbench.ledger.statements import BEAT, LEASE
from workbench.ledger.study_attributes import STEPS, NotedStudy, description_of, ended_of, mapping, mlflow_runs_of
from workbench.result import Result, again

INPUTS = "workbench:inputs"
"""Key of the fingerprints of the study's inputs, as its last sweep knew them."""

RETRIED = "workbench:retried"
"""Key of the last trial, by run id, of those that no longer speak against a run."""

MOST_ROWS = 10_000
"""So many rows are read at a time, of some kilobytes each: a million Results need not lie in memory twice."""

_NONE = -1
"""The id of no trial."""


@dataclass(frozen=True)
class LedgerSnapshot:
    """What a ledger says of its study at one moment.

    Attributes:
        description: What was noted when it was made: question, objectives, reference point; and `limits` of its last sweep.
        results: Finished Results in the order of their trials.
        leases: Leases of the Results being made, each with its worker's record.
        ended: How the last sweep ended; None while one works, or was killed.
        mlflow_runs: MLflow's run id for each run id that has one.
    """

    description: Mapping[str, Any]
    results: Sequence[Result]
    leases: Sequence[tuple[Lease, Mapping[str, Any]]]
    ended: Mapping[str, Any] | None
    mlflow_runs: Mapping[str, str]


class ReadableLedger(NotedStudy):
    """What a ledger says of its study: Results, leases, and which inputs have changed."""

    def reader(self) -> Self:
        """The same ledger for another thread: it shares the database's connections, and has its own memory of what it has read.

        It does not wait for a database that is away.
        """
        return self.patient(Patience())

    def patient(self, patience: Patience) -> Self:
        """The same ledger, with another patience."""
        return type(self)(self._storage, self._study_id, self.name, patience, self._judge)

    def results(self, *, running: bool = False) -> list[Result]:
        """All finished Results in the order of their trials, by one query; with `running` those being made too.

        Through Optuna 10,000 trials would take 7 s. What was read once is not read again: a finished trial never changes.
        """
        self._update()
        self._attributes_known = self._noted()
        return self.known(running=running)

    def known(self, *, running: bool = False) -> list[Result]:
        """What `results` would give, as the ledger was when it was read last: by `results`, or when a lease was taken."""
        if self._attributes_known is None:
            self._attributes_known = self._noted()
        leased = {lease.number: lease.result for lease, _ in self._held}
        by_number = leased | self._read if running else self._read  # what was finished since those were read counts
        return self._as_seen(by_number, self._attributes_known)

    def _as_seen(self, by_number: Mapping[int, Result], attributes: Mapping[str, Any]) -> list[Result]:
        """Results as they count, in the order of their trials, by what is noted of the study."""
        self._judge.hear(mapping(attributes.get(INPUTS)), foreign=mapping(attributes.get(STUDY)).get("path") is None)
        retried = mapping(attributes.get(RETRIED))
        return [_seen(by_number[number], retried, self._judge.changed(by_number[number])) for number in sorted(by_number)]

    def _noted(self) -> dict[str, Any]:
        """The attributes of the study by which its Results are seen."""
        import sqlalchemy as sql

        query = sql.text("SELECT key, value_json FROM study_user_attributes WHERE study_id = :study AND key IN (:a, :b, :c, :d)")
        rows = self._asked(query, study=self._study_id, a=RETRIED, b=INPUTS, c=STUDY, d=STEPS)
        with mapped(self._url):
            return {key: json.loads(text) for key, text in rows}

    def read(self) -> LedgerSnapshot:
        """All that the ledger says of the study now, by two queries; a page shows it."""
        attributes = self._attributes()
        leases = self._update()
        return LedgerSnapshot(
            description=description_of(attributes),
            results=self._as_seen(self._read, attributes),
            leases=leases,
            ended=ended_of(attributes),
            mlflow_runs=mlflow_runs_of(attributes),
        )

    def heard(self, reading: LedgerSnapshot, now: float) -> LedgerSnapshot:
        """The same reading with the beats that came since, for people to read, by our clock: `now`, in seconds since 1970.

        It waits for a few beats only where a worker of another host seems silent, because that host's clock may be apart from
        ours.
        """
        silent = {x.trial: r["beat"] for x, r in reading.leases if leases.lives(r) is None and not leases.alive(r, now)}
        if not silent:
            return reading
        time.sleep(3 * HEARTBEAT_SECONDS)
        beats = {lease.trial: record["beat"] for lease, record in self.leases()}
        beaten = {i for i, beat in silent.items() if beats.get(i, beat) != beat}
        return replace(reading, leases=[(x, {**r, "beat": now} if x.trial_id in beaten else r) for x, r in reading.leases])

    def _update(self) -> list[tuple[Lease, Mapping[str, Any]]]:
        """Read what has been finished since the last time, and return the leases now held."""
        held = []
        seen = self._seen  # taken over at the end: a record that cannot be read must be met again by the next reading
        with _no_collector():
            for trial_id, number, state, record in self._rows():
                if state == "RUNNING":
                    held.append((self._lease_of(trial_id, number, record), record))
                else:
                    self._read[number] = self._result_of(number, record)
                seen = max(seen, trial_id)
        self._seen, self._running, self._held = seen, [lease.trial for lease, _ in held], held
        return held

    def _result_of(self, number: int, record: Mapping[str, Any]) -> Result:
        result = self._parsed(Result.from_json, record, number)
        return replace(result, number=number, trial=number if result.trial is None else result.trial)

    def leases(self) -> list[tuple[Lease, Mapping[str, Any]]]:
        """All leases now held, each with its record: worker, heartbeat, usage so far."""
        return [
            (self._lease_of(trial_id, number, record), record)
            for trial_id, number, state, record in self._rows()
            if state == "RUNNING"
        ]

    @property
    def at_work(self) -> Mapping[Worker, Result]:
        """What each worker that held a lease was making when the ledger was read last."""
        return {Worker.of(record): lease.result for lease, record in self._held}

    def _lease_of(self, trial_id: int, number: int, record: Mapping[str, Any]) -> Lease:
        return Lease(trial_id, self._parsed(lambda r: leases.of_lease(r, number), record, number))

    def _parsed(self, parse: Callable[[Any], Result], record: Mapping[str, Any], number: int) -> Result:
        try:
            return parse(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EnvironmentFault(
                f"trial {number} of {self.name} in {shown(self._url)} cannot be read: {type(error).__name__}: {error}. "
                "Another program has changed it, or a newer version has written it: use that, or take the trial out of the store."
            ) from error

    def _rows(self) -> list[tuple[int, int, str, Any]]:
        """Id, number, state and record of each trial that was not yet read as finished: its lease while it runs, then its Result.

        Of a lease that was read before only its last beat is asked for. Trials that other programs have put into the study are
        passed over.
        """
        texts: dict[int, tuple[int, str, dict[str, Any]]] = {}
        for rows in self._new_rows():
            with mapped(self._url):
                for trial_id, number, state, key, text in rows:
                    texts.setdefault(trial_id, (number, state, {}))[2][key] = json.loads(text)
        records = []
        for trial_id, (number, state, found) in texts.items():
            whole: Any = found.get(RESULT) if state != "RUNNING" else self._whole(trial_id, found)
            if (leases.is_lease if state == "RUNNING" else trials.is_result)(whole):
                records.append((trial_id, number, state, whole))
        # A beat counts from when we first saw it, by our own clock: clocks of two hosts may be any time apart.
        now, heard = time.monotonic(), self._heard
        running = {trial_id: record for trial_id, _, state, record in records if state == "RUNNING"}
        beats = {trial_id: float(record["beat"]) for trial_id, record in running.items()}
        self._heard = {i: heard[i] if i in heard and heard[i][0] == beat else (beat, now) for i, beat in beats.items()}
        # One of an older version beats into its lease's record: that is read each time.
        self._leased = {i: record for i, record in running.items() if BEAT in texts[i][2]}
        return records

    def _whole(self, trial_id: int, found: Mapping[str, Any]) -> object:
        """A lease's record with its last beat."""
        record = found.get(LEASE, self._leased.get(trial_id))
        beat = found.get(BEAT)
        return {**record, **beat} if isinstance(record, dict) and isinstance(beat, dict) else record

    def _new_rows(self) -> Iterator[Sequence[Any]]:
        """Id, number and state of trials, each with the key and the text of an attribute, in the order of the trials, some at a
        time.
        """
        import sqlalchemy as sql

        # Ids of one study's trials grow as they are made, since the study's row is locked meanwhile.
        query = sql.text(
            "SELECT t.trial_id, t.number, t.state, a.key, a.value_json FROM trials t "
            "JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
            "WHERE t.study_id = :study AND (t.trial_id > :after OR t.trial_id IN :running) "
            "AND (t.state = 'RUNNING' AND (a.key = :beat OR a.key = :lease AND t.trial_id NOT IN :leased) "
            "OR t.state <> 'RUNNING' AND a.key = :result) ORDER BY t.trial_id LIMIT :most"
        ).bindparams(sql.bindparam("running", expanding=True), sql.bindparam("leased", expanding=True))
        values = {"study": self._study_id, "result": RESULT, "lease": LEASE, "beat": BEAT, "most": MOST_ROWS}
        after, running, leased = self._seen, self._running, list(self._leased)
        while True:
            # Never an empty list: that is a subquery, for which the database would look at every trial there is.
            rows = self._asked(query, **values, after=after, running=running or [_NONE], leased=leased or [_NONE])
            if len(rows) < MOST_ROWS:
                yield rows
                return
            # The last trial's rows may go on in the next part: they are read again.
            last = rows[-1][0]
            yield [row for row in rows if row[0] != last]
            after, running = max(after, last - 1), [i for i in running if i >= last]

    def _lives(self, trial_id: int, record: Mapping[str, Any]) -> bool:
        """Whether the worker of a lease lives, as far as it was read lately.

        The clock of another host may be any time apart from ours. So its worker is silent once its beat has not changed for
        `SILENCE_SECONDS` of our own, in all of which the ledger could be read.
        """
        by_host = leases.lives(record)
        beat, since = self._heard.get(trial_id, (None, time.monotonic()))
        return by_host if by_host is not None else beat is None or time.monotonic() - since < leases.SILENCE_SECONDS

    @property
    def changed_since(self) -> list[str]:
        """Which inputs are now other than the last sweep knew them, out of `workbench.result.inputs.KINDS`."""
        return self._judge.since_noted(self.results(running=True))

    @property
    def unseen(self) -> str:
        """Why the study's inputs cannot be looked at now, in words; empty where they can. Then what was noted is believed."""
        self.results(running=True)
        return self._judge.problem


def _seen(result: Result, retried: Mapping[str, int], changed: tuple[str, ...]) -> Result:
    """A Result as it counts: a failure of a run that was since released to be tried again is an interruption."""
    result = replace(result, outdated=changed) if changed else result
    failed = result.status in ("infeasible", "interrupted")
    return again(result) if failed and (result.number or 0) <= retried.get(result.run_id, -1) else result


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Python collects no garbage in the block: half of the time that 10,000 Results take to read went into looking for it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
