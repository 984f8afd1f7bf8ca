"""The ledger on real databases: SQLite files, and a PostgreSQL server of its own."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from workbench import ledger as ledgers
from workbench import prices, process
from workbench.errors import EnvironmentFault, UsageError
from workbench.ledger import Away, Ledger, Patience, alive, completion, default_url, faults, store
from workbench.ledger import ledger as ledger_module
from workbench.ledger import patience as patience_module
from workbench.ledger import reading as reading_module
from workbench.result import Cause, Result, spending
from workbench.study import load
from workbench.usage import Usage

OFFER = prices.find(prices.DEFAULT)
FULL = {"task.train": 32, "method": "full", "full.learning_rate": 2e-3, "epochs": 2}
LORA = {"task.train": 64, "method": "lora", "lora.learning_rate": 2e-3, "lora.r": 4, "epochs": 4}


@pytest.fixture
def study(study_file):
    return load(study_file)


@pytest.fixture
def url(tmp_path):
    return default_url(tmp_path)


@pytest.fixture
def ledger(study, url):
    return Ledger.open(study, url)


def stub(study, settings, **changes):
    recipe = study.resolve(settings)
    known = {
        "recipe_id": recipe.id,
        "run_id": recipe.run_id,
        "recipe": recipe.to_json(),
        "settings": settings,
        "inputs": recipe.inputs,
    }
    return Result(**{**known, "status": "running", "started": time.time()} | changes)


def complete(result, accuracy=50.0, seconds=1.0, epochs=None):
    usage = {"train": Usage(seconds=seconds)}
    recipe = result.recipe if epochs is None else {**result.recipe, "epochs": epochs}
    settings = result.settings if epochs is None else {**result.settings, "epochs": epochs}
    scores = {"accuracy": accuracy, "dev_loss": 0.5}
    done = {"status": "complete", "scores": scores, "usage": usage, "spent": usage, "labels": 32, "step": 4}
    return replace(result, recipe=recipe, settings=settings, finished=time.time(), **done)


def record(ledger, study, settings, **changes):
    lease = ledger.lease(study, stub(study, settings))
    assert lease is not None
    return ledger.finish(lease, complete(lease.result, **changes), study, OFFER)


def abandon(ledger, lease, *, host=None, beat=None):
    """Make a lease look like that of a worker that died, or of one on another host."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    record = dict(next(r for held, r in ledger.leases() if held.trial_id == lease.trial_id))
    record |= {"pid": child.pid, "process_started": 1.0, "host": host or process.host(), "beat": beat or record["beat"]}
    child.wait()
    beat = {name: value for name, value in record.items() if name != "result"}
    ledger._storage.set_trial_user_attr(lease.trial_id, "workbench:beat", beat)


@contextlib.contextmanager
def away(ledger, times, *, late=False, error="connection refused"):
    """The database is away for so many statements that write or ask; `late`: it does them, and the answer is lost."""
    from sqlalchemy import event
    from sqlalchemy.exc import OperationalError

    left = [times]

    def fail(connection, cursor, statement, parameters, context, executemany):
        if left[0] > 0:
            left[0] -= 1
            raise OperationalError(statement, parameters, Exception(error))

    def fail_after(connection):
        if left[0] > 0:
            left[0] -= 1
            connection.connection.commit()
            raise OperationalError("COMMIT", {}, Exception(error))

    moment, listener = ("commit", fail_after) if late else ("before_cursor_execute", fail)
    event.listen(ledger._storage.engine, moment, listener)
    try:
        yield left
    finally:
        event.remove(ledger._storage.engine, moment, listener)


# One trial per Result


def test_a_result_comes_back_as_it_was_written(ledger, study, url):
    written = record(ledger, study, FULL)
    for reader in (ledger, Ledger.find(study.name, url), Ledger.find("tiny", url), Ledger.find(None, url)):
        assert reader.results() == [written]
    assert (written.trial, written.number) == (0, 0)


def test_states_and_constraints_as_plain_optuna_sees_them(ledger, study, url):
    record(ledger, study, FULL, accuracy=60.0, seconds=36.0)
    for status in ("infeasible", "interrupted"):
        lease = ledger.lease(study, stub(study, {**FULL, "full.learning_rate": 3e-3 if status == "infeasible" else 4e-3}))
        ledger.finish(lease, replace(lease.result, status=status, reason="why: so"), study, OFFER)
    ledger.lease(study, stub(study, LORA))
    plain = optuna.load_study(study_name=study.name, storage=url)
    assert [t.state for t in plain.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert plain.trials[0].values == pytest.approx([60.0, 36.0 * float(OFFER.usd_per_hour) / 3600])
    assert plain.trials[0].params == FULL
    assert plain.trials[0].system_attrs["constraints"][0] <= 0 < plain.trials[1].system_attrs["constraints"][0]
    assert plain.metric_names == ["accuracy", "usd"]
    assert [t.number for t in plain.best_trials] == [0]
    assert len(plain.trials_dataframe()) == 4


def test_a_checkpoint_between_the_options_of_epochs_is_a_trial_too(ledger, study, url):
    lease = ledger.lease(study, stub(study, LORA))
    ledger.finish(lease, complete(lease.result, epochs=0.5), study, OFFER)
    (trial,) = optuna.load_study(study_name=study.name, storage=url).trials
    assert trial.params["epochs"] == 0.5


def test_a_cost_that_is_unknown_is_kept_and_is_no_value(study_file, url):
    study = load(study_file)
    study = replace(study, minimize=("energy_j",))
    ledger = Ledger.open(study, url)
    lease = ledger.lease(study, stub(study, FULL))
    unknown = replace(complete(lease.result), usage={"train": Usage(seconds=1.0, cpu_energy_j=None)})
    ledger.finish(lease, unknown, study, OFFER)
    assert ledger.results()[0].cold.energy_j is None
    assert optuna.load_study(study_name=study.name, storage=url).trials[0].state == TrialState.PRUNED


def test_results_of_a_run_share_the_number_of_its_first_trial(ledger, study):
    first = record(ledger, study, LORA, epochs=1)
    lease = ledger.lease(study, stub(study, LORA, trial=first.trial))
    second = ledger.finish(lease, complete(lease.result), study, OFFER)
    assert [(r.trial, r.number) for r in (first, second)] == [(0, 0), (0, 1)]


def test_a_finished_result_is_never_changed(ledger, study):
    lease = ledger.lease(study, stub(study, FULL))
    first = ledger.finish(lease, complete(lease.result), study, OFFER)
    again = ledger.finish(lease, complete(lease.result, accuracy=99.0), study, OFFER)  # as after a lost answer
    assert again == first
    assert ledger.results() == [first]


@pytest.fixture
def statements(ledger):
    """All that is sent to the ledger's database."""
    from sqlalchemy import event

    sent = []
    event.listen(ledger._storage.engine, "before_cursor_execute", lambda *known: sent.append(known[2]))
    return sent


def test_a_lease_a_beat_and_a_result_are_few_statements(ledger, study, statements):
    record(ledger, study, LORA)
    before = ledger.results()
    statements.clear()
    lease = ledger.lease(study, stub(study, {**LORA, "lora.r": 2}))
    assert len(statements) <= 7, statements
    assert ledger.known(running=True) == [*before, replace(lease.result, finished=ledger.known(running=True)[-1].finished)]
    statements.clear()
    ledger.beat(lease, {"train": Usage(seconds=1.0)}, 8)
    assert len(statements) == 1
    assert (ledger.results(running=True)[-1].consumed.seconds, ledger.results(running=True)[-1].labels) == (1.0, 8)
    statements.clear()
    ledger.finish(lease, complete(lease.result), study, OFFER)
    assert len(statements) <= 7, statements


def test_of_a_lease_that_was_read_only_its_beat_is_read_again(ledger, study, url):
    lease = ledger.lease(study, stub(study, FULL))
    reader = ledger.reader()
    reader.results(running=True)
    assert {row[3] for rows in reader._new_rows() for row in rows} == {"workbench:beat"}
    ledger.beat(lease, {"train": Usage(seconds=5.0)})
    assert reader.results(running=True)[0].consumed.seconds == 5.0
    ledger.finish(lease, complete(lease.result), study, OFFER)
    assert reader.results(running=True) == ledger.results()
    assert [row for rows in reader._new_rows() for row in rows] == []


def test_results_are_read_in_parts(ledger, study, url, monkeypatch):
    held = [ledger.lease(study, stub(study, {**FULL, "full.learning_rate": 1e-3 + i * 1e-4})) for i in range(7)]
    reader = ledger.reader()
    reader.results(running=True)
    for lease in held[1:5]:
        ledger.finish(lease, complete(lease.result), study, OFFER)
    monkeypatch.setattr(reading_module, "MOST_ROWS", 3)
    for each in (reader, ledger.reader()):
        found = each.results(running=True)
        assert [r.number for r in found] == list(range(7))
        assert [r.status for r in found] == ["running", *["complete"] * 4, *["running"] * 2]


def test_many_results_are_read_by_one_query_and_only_once(ledger, study):
    from sqlalchemy import event

    for i in range(20):
        record(ledger, study, {**FULL, "full.learning_rate": 1e-3 + i * 1e-5})
    reader = Ledger(ledger._storage, ledger._study_id, ledger.name)
    statements = []
    event.listen(ledger._storage.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    assert len(reader.results()) == 20
    assert sum("FROM trials" in statement for statement in statements) == 1
    assert reader._rows() == []
    held = reader.lease(study, stub(study, LORA))
    late = record(ledger, study, FULL)
    assert [r.number for r in reader.results(running=True)] == [*range(20), held.number, late.number]
    reader.finish(held, complete(held.result), study, OFFER)
    assert [r.number for r in reader.results()] == [*range(20), held.number, late.number]


# Leases


def test_a_running_result_is_seen_with_what_it_has_spent(ledger, study):
    lease = ledger.lease(study, stub(study, FULL), {"train": Usage(seconds=3.0)})
    (running,) = ledger.results(running=True)
    assert (running.status, running.consumed.seconds, running.trial) == ("running", 3.0, 0)
    assert ledger.results() == []
    ledger.beat(lease, {"train": Usage(seconds=5.0)})
    assert ledger.results(running=True)[0].consumed.seconds == 5.0


def test_two_workers_on_one_run_the_earlier_keeps_it(ledger, study, url):
    other = Ledger.find(study.name, url)
    mine = ledger.lease(study, stub(study, FULL))
    assert other.lease(study, stub(study, {**FULL, "epochs": 4})) is None
    assert other.lease(study, stub(study, LORA)) is not None
    ledger.finish(mine, complete(mine.result), study, OFFER)
    assert [r.status for r in other.results(running=True)] == ["complete", "running"]


def test_a_run_that_another_worker_has_finished_meanwhile_is_not_paid_for_again(ledger, study, url):
    other = Ledger.find(study.name, url)
    assert other.results() == []
    record(ledger, study, FULL)
    assert other.lease(study, stub(study, FULL)) is None
    assert other.results(running=True) == ledger.results()


def test_a_live_worker_is_left_alone(ledger, study):
    ledger.lease(study, stub(study, FULL))
    assert ledger.reconcile(study, OFFER) == []
    assert ledger.results(running=True)[0].status == "running"


def test_a_dead_worker_is_charged_for_what_it_spent(ledger, study):
    lease = ledger.lease(study, stub(study, FULL))
    ledger.beat(lease, {"train": Usage(seconds=7.0)})
    abandon(ledger, lease)
    (mended,) = ledger.reconcile(study, OFFER)
    assert (mended.status, mended.reason.split(":")[0]) == ("interrupted", "died")
    assert mended.consumed.seconds == 7.0 + ledgers.HEARTBEAT_SECONDS
    assert ledger.results() == [mended]
    assert ledger.reconcile(study, OFFER) == []


def test_a_dead_workers_last_heartbeat_costs_what_the_ones_before_did_and_its_labels_are_bought(ledger, study):
    lease = ledger.lease(study, stub(study, FULL))
    ledger.beat(lease, {"train": Usage(seconds=4.0, cpu_energy_j=80.0, gpu_seconds=4.0)}, 24)
    abandon(ledger, lease)
    (mended,) = ledger.reconcile(study, OFFER)
    assert mended.labels == 24
    assert mended.consumed.energy_j == 100.0
    assert mended.consumed.gpu_seconds == 5.0
    spent = spending(ledger.results(), OFFER, 1.0)
    assert (spent.usd, spent.energy_j, spent.labels) == (pytest.approx(24 + 5 * float(OFFER.usd_per_hour) / 3600), 100.0, 24)


class Clock:
    """This host's monotonic clock, moved by hand."""

    def __init__(self, monkeypatch):
        self.now = time.monotonic()
        monkeypatch.setattr(ledger_module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.mark.parametrize("skew", [0.0, 61.0, -61.0, 86400.0, -86400.0])
def test_a_worker_of_another_host_is_judged_by_its_silence_whatever_its_clock_says(ledger, study, clock, skew):
    lease = ledger.lease(study, stub(study, FULL))
    for i in range(4):  # it beats
        abandon(ledger, lease, host="elsewhere", beat=time.time() + skew + i)
        assert ledger.reconcile(study, OFFER) == []
        assert ledger.lease(study, stub(study, FULL)) is None
        clock.now += ledgers.SILENCE_SECONDS - 1
    clock.now += 2
    assert [r.status for r in ledger.reconcile(study, OFFER)] == ["interrupted"]


@pytest.mark.parametrize("beats", [True, False])
def test_a_worker_whose_clock_is_slow_is_told_from_a_silent_one(ledger, study, monkeypatch, beats):
    lease, now = ledger.lease(study, stub(study, FULL)), time.time()
    abandon(ledger, lease, host="elsewhere", beat=now - 61)
    monkeypatch.setattr(ledger_module.time, "sleep", lambda _: abandon(ledger, lease, host="elsewhere", beat=now - 61 + beats))
    ((_, record),) = ledger.heard(ledger.read(), now).leases
    assert alive(record, now) is beats


def test_a_worker_is_not_held_dead_for_the_time_in_which_the_ledger_was_away(ledger, study, clock, monkeypatch):
    lease = ledger.lease(study, stub(study, FULL))
    abandon(ledger, lease, host="elsewhere")
    assert ledger.reconcile(study, OFFER) == []
    clock.now += ledgers.SILENCE_SECONDS + 1
    with away(ledger, 1), pytest.raises(Away):
        ledger.beat(lease, {})
    assert ledger.reconcile(study, OFFER) == []
    clock.now += ledgers.SILENCE_SECONDS + 1
    assert [r.status for r in ledger.reconcile(study, OFFER)] == ["interrupted"]


@pytest.mark.skipif(sys.platform != "linux", reason="this host's starts are not told apart")
def test_a_worker_from_before_this_hosts_last_start_is_gone(ledger, study):
    lease = ledger.lease(study, stub(study, FULL))
    name = process.host().split("/")[0]
    abandon(ledger, lease, host=f"{name}/00000000/1", beat=time.time())
    assert ledger.reconcile(study, OFFER) == []  # another one of the same name: this one has not started since
    abandon(ledger, lease, host=f"{name}/00000000/1", beat=time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - 60)
    assert [r.status for r in ledger.reconcile(study, OFFER)] == ["interrupted"]


def test_a_worker_that_was_only_asleep_keeps_its_result_and_is_not_charged_twice(ledger, study, url, clock):
    lease = ledger.lease(study, stub(study, FULL))
    ledger.beat(lease, {"train": Usage(seconds=3.0)})
    abandon(ledger, lease, host="elsewhere", beat=1.0)
    other = Ledger.find(study.name, url)
    other.reconcile(study, OFFER)
    clock.now += ledgers.SILENCE_SECONDS + 1
    other.reconcile(study, OFFER)
    late = ledger.finish(lease, complete(lease.result, seconds=10.0), study, OFFER)
    assert [r.status for r in ledger.results()] == ["interrupted", "complete"]
    assert late.consumed.seconds == 7.0
    assert late.trial == lease.number
    assert lease.finished


def test_a_half_written_result_is_finished(ledger, study, url):
    lease = ledger.lease(study, stub(study, FULL))
    whole = replace(complete(lease.result), trial=lease.number)
    ledger._storage.set_trial_user_attr(lease.trial_id, "workbench:result", whole.to_json())
    abandon(ledger, lease)
    assert ledger.results() == []
    assert [r.status for r in ledger.reconcile(study, OFFER)] == ["complete"]
    assert ledger.results() == [replace(whole, number=0)]
    (trial,) = optuna.load_study(study_name=study.name, storage=url).trials
    assert trial.state == TrialState.COMPLETE


def test_two_that_reconcile_at_once_charge_once(ledger, study, url):
    for i in range(5):
        abandon(ledger, ledger.lease(study, stub(study, {**FULL, "full.learning_rate": 1e-3 + i * 1e-4})))
    found = []
    workers = [
        threading.Thread(target=lambda: found.extend(Ledger.find(study.name, url).reconcile(study, OFFER))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [r.status for r in ledger.results()] == ["interrupted"] * 5


def test_a_lease_given_back_leaves_nothing(ledger, study):
    ledger.release(ledger.lease(study, stub(study, FULL)))
    assert ledger.results(running=True) == []
    assert ledger.lease(study, stub(study, FULL)) is not None


# A database that comes and goes


@pytest.fixture
def patient(ledger, monkeypatch):
    """The ledger with all the patience of a sweep, and what it said; its pauses take no time."""
    monkeypatch.setattr(patience_module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(patience_module, "_LONGEST_PAUSE_SECONDS", 0.002)
    monkeypatch.setattr("optuna.storages._rdb.storage.random", SimpleNamespace(random=lambda: 0.0))  # Optuna pauses by chance
    notes = []
    return ledger.patient(Patience(note=notes.append, seconds=600)), notes


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("late", [False, True])
def test_a_lease_is_taken_once_however_often_the_answer_is_lost(patient, study, times, late):
    ledger, _ = patient
    with away(ledger, times, late=late) as left:
        lease = ledger.lease(study, stub(study, FULL))
    assert left == [times - 1 if late else 0]  # it commits once
    assert [held.trial_id for held, _ in ledger.leases()] == [lease.trial_id]
    assert ledger.reader().lease(study, stub(study, FULL)) is None  # nobody else has the run
    ledger.finish(lease, complete(lease.result), study, OFFER)
    assert ledger.leases() == []
    assert [r.status for r in ledger.results(running=True)] == ["complete"]


@pytest.mark.parametrize("times", [1, 2, 3, 4, *(pytest.param(times, marks=pytest.mark.slow) for times in (5, 6, 7))])
@pytest.mark.parametrize("late", [False, True])
def test_a_result_is_written_once_however_often_the_answer_is_lost(patient, study, url, times, late):
    ledger, notes = patient
    lease = ledger.lease(study, stub(study, LORA))
    with away(ledger, times, late=late) as left:
        written = ledger.finish(lease, complete(lease.result), study, OFFER)
        ledger.note_end("so")
        ledger.release(ledger.lease(study, stub(study, FULL)))
    assert left == [0]
    assert Ledger.find(study.name, url).results(running=True) == [written]
    assert ledger.ended["reason"] == "so"
    assert optuna.load_study(study_name=study.name, storage=url).trials[0].state == TrialState.COMPLETE
    assert [notes[0][:20], *notes[1:2]] == ["The ledger is away (", "The ledger is back."]
    assert "tried again for 10 minutes; nothing is lost" in notes[0]


def test_what_was_interrupted_by_another_is_no_answer_that_was_lost(ledger, study, url, clock):
    lease = ledger.lease(study, stub(study, FULL))
    abandon(ledger, lease, host="elsewhere")
    other = Ledger.find(study.name, url)
    other.reconcile(study, OFFER)
    clock.now += ledgers.SILENCE_SECONDS + 1
    assert len(other.reconcile(study, OFFER)) == 1
    ours = replace(
        lease.result,
        status="interrupted",
        cause=Cause.STOPPED_BY_PERSON,
        reason="stopped: by a person",
        spent={"train": Usage(seconds=9.0)},
    )
    for _ in range(2):  # and an answer is lost, too
        ledger.finish(lease, ours, study, OFFER)
    results = ledger.results(running=True)
    assert [r.reason.split(":")[0] for r in results] == ["died", "stopped"]
    assert sum(r.consumed.seconds for r in results) == pytest.approx(9.0 + ledgers.HEARTBEAT_SECONDS)


def test_patience_has_an_end_and_begins_anew_once_it_was_answered(patient, study, monkeypatch):
    ledger, notes = patient
    ledger.patience.seconds = 0.05
    with away(ledger, 10**9):
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(Away, match="connection refused"):
                ledger.results()
    assert time.monotonic() - began < 0.04  # it had been waited for
    ledger.results()
    with away(ledger, 2):
        ledger.results()
    assert [note.split(" (")[0] for note in notes] == ["The ledger is away", "The ledger is back."] * 2


def test_a_person_ends_the_waiting_at_once(patient):
    ledger, _ = patient

    def pressed():
        raise KeyboardInterrupt

    ledger.patience.check = pressed
    with away(ledger, 10**9), pytest.raises(KeyboardInterrupt):
        ledger.results()


def test_a_full_server_is_waited_for_as_one_that_is_away_and_a_full_disk_of_ours_is_not():
    from sqlalchemy.exc import OperationalError

    driver = Exception("could not extend file: No space left on device")
    driver.pgcode = "53100"
    for url, full in (("postgresql://host/name", False), ("sqlite:////tmp/x.db", True)):
        if full:
            driver = sqlite3.OperationalError("database or disk is full")
            driver.sqlite_errorcode = sqlite3.SQLITE_FULL
        with pytest.raises(Away) as caught, faults.mapped(url):
            raise OperationalError("INSERT", {}, driver)
        assert caught.value.full is full


@pytest.mark.parametrize(
    "error, state, is_passing",
    [
        ("connection refused", None, True),
        ("server closed the connection unexpectedly", None, True),
        ("FATAL:  the database system is starting up", None, True),
        ("FATAL:  the database system is shutting down", None, True),
        ("terminating connection due to administrator command", "57P01", True),
        ("deadlock detected", "40P01", True),
        ("FATAL:  sorry, too many clients already", None, True),
        ("FATAL:  could not write init file", None, True),
        ("could not extend file: No space left on device", "53100", True),
        ("terminating connection due to idle-in-transaction timeout", "25P03", True),
        ("canceling statement due to lock timeout", "55P03", True),
        ('FATAL:  password authentication failed for user "me"', None, False),
        ('FATAL:  database "x" does not exist', None, False),
        ('relation "studies" does not exist', "42P01", False),
        ("cannot execute INSERT in a read-only transaction", "25006", False),
    ],
)
def test_what_passes_by_itself_is_told_from_what_stays(error, state, is_passing):
    from sqlalchemy.exc import OperationalError

    driver = Exception(error)
    driver.pgcode = state
    assert faults.passes(OperationalError("SELECT 1", {}, driver)) is is_passing


def test_a_file_that_another_program_holds_passes_and_one_that_may_not_be_written_does_not(ledger, study, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with contextlib.closing(sqlite3.connect(tmp_path / "optuna.db", timeout=0)) as other:
            with pytest.raises(sqlite3.OperationalError) as busy:
                other.execute("CREATE TABLE more (x)")
            assert faults.passes(busy.value)
            other.execute("PRAGMA query_only=ON")
            with pytest.raises(sqlite3.OperationalError) as refused:
                other.execute("CREATE TABLE more (x)")
            assert not faults.passes(refused.value)


# An edited study


def edited(study_file, old, new):
    text = study_file.read_text()
    assert old in text
    study_file.write_text(text.replace(old, new))
    return load(study_file)


def test_an_edited_space_takes_over_the_results_it_contains(study_file, study, ledger, url):
    record(ledger, study, FULL, epochs=1)
    record(ledger, study, LORA)
    record(ledger, study, {**FULL, "full.learning_rate": 9e-3})  # outside of the new range
    failed = ledger.lease(study, stub(study, {**FULL, "full.learning_rate": 1.5e-3}))
    ledger.finish(failed, replace(failed.result, status="infeasible", cause=Cause.DIVERGED, reason="diverged: nan"), study, OFFER)
    gone = ledger.lease(study, stub(study, {**FULL, "full.learning_rate": 1.6e-3}))
    ledger.finish(gone, replace(gone.result, status="interrupted", spent={"train": Usage(seconds=1.0)}), study, OFFER)
    narrower = edited(study_file, "full(learning_rate=loguniform(1e-3, 1e-2))", "full(learning_rate=loguniform(1e-3, 5e-3))")
    assert narrower.name != study.name
    taken = Ledger.open(narrower, url).results()
    assert [(r.method, r.status, r.epochs) for r in taken] == [
        ("full", "complete", 1),
        ("lora", "complete", 4),
        ("full", "infeasible", 2),
    ]
    assert all(r.consumed.seconds == 0 and r.provenance["taken_over_from"] == study.name for r in taken)
    assert [r.trial for r in taken] == [r.number for r in taken] == [0, 1, 2]
    assert taken[0].usage == ledger.results()[0].usage
    assert len(Ledger.open(narrower, url).results()) == 3  # once, not again at the next start
    assert len(Ledger.open(study, url).results()) == 5  # the older study is as it was
    assert Ledger.find("tiny", url).name == narrower.name


def test_a_setting_that_was_fixed_and_is_searched_now_is_recognised(study_file, study, ledger, url):
    record(ledger, study, LORA)
    record(ledger, study, FULL)
    wider = edited(study_file, "batch_size=8", "batch_size=choice(8, 16), seed=choice(0, 1)")
    assert [dict(r.settings) for r in Ledger.open(wider, url).results()] == [
        {**LORA, "batch_size": 8, "seed": 0},
        {**FULL, "batch_size": 8, "seed": 0},
    ]
    fixed = edited(
        study_file,
        'peft("lora", learning_rate=loguniform(1e-3, 1e-2), r=choice(2, 4))',
        'peft("lora", learning_rate=loguniform(1e-3, 1e-2), r=2)',
    )
    assert [r.method for r in Ledger.open(fixed, url).results()] == ["full"]


def test_fewer_epochs_leave_longer_checkpoints_behind(study_file, study, ledger, url):
    record(ledger, study, LORA, epochs=1)
    lease = ledger.lease(study, stub(study, LORA, trial=0))
    ledger.finish(lease, complete(lease.result), study, OFFER)
    shorter = edited(study_file, "epochs=integers(1, 4, log=True)", "epochs=2")
    assert [r.epochs for r in Ledger.open(shorter, url).results()] == [1]


def test_other_objectives_take_over_what_has_the_score(study_file, study, ledger, url):
    record(ledger, study, FULL)
    other = edited(study_file, 'minimize="usd"', 'minimize=("labels", "seconds")')
    plain_url = Ledger.open(other, url) and url
    assert len(optuna.load_study(study_name=other.name, storage=plain_url).trials[0].values) == 3


def test_a_study_is_there_whole_or_not_at_all(study, url, monkeypatch):
    from workbench.ledger import ledger as module

    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(module, "take_over", killed)
        with pytest.raises(SystemExit):
            Ledger.open(study, url)
    with pytest.raises(UsageError, match="no study yet"):
        Ledger.find(None, url)
    assert Ledger.open(study, url).description["maximize"] == "accuracy"


@pytest.mark.slow
def test_many_workers_open_a_new_ledger_at_once(study_file, url):
    code = (
        "from workbench.ledger import Ledger; from workbench.study import load; "
        f"print(Ledger.open(load({str(study_file)!r}), {url!r}).description['maximize'])"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    answers = [worker.communicate(timeout=120) for worker in workers]
    assert [out for out, _ in answers] == ["accuracy\n"] * 4, answers
    assert len(Ledger.names(url)) == 1


# Studies and trials of other programs


def plain(url, name="mine"):
    """A study of plain Optuna, with two trials."""
    optuna.create_study(storage=url, study_name=name, directions=["maximize", "minimize"]).optimize(
        lambda trial: (trial.suggest_float("x", 0, 1), 1), n_trials=2
    )


@pytest.mark.slow
def test_studies_of_other_programs_are_passed_over_and_named_when_asked_for(study, url):
    plain(url)
    with pytest.raises(UsageError, match=r"holds no study yet, only of other programs \(mine\)"):
        Ledger.find(None, url)
    ledger = Ledger.open(study, url)
    written = record(ledger, study, FULL)
    plain(url, "newer")
    for value in ("a note of mine", {"maximize": 3}, None, {**ledger.description, "platform": 7}):
        odd = f"odd {json.dumps(value)[:9]}"
        plain(url, odd)
        optuna.load_study(study_name=odd, storage=url).set_user_attr("workbench:study", value)
        with pytest.raises(UsageError, match="is not a study of the workbench: it has no "):
            Ledger.find(odd, url)
    assert Ledger.names(url) == [study.name]
    assert Ledger.find(None, url).results() == [written]
    assert Ledger.find(None, url).others == []
    assert ledgers.examine(url).endswith(study.name)
    assert study.name in completion.names(url)
    assert not {"mine", "newer"} & set(completion.names(url))
    with pytest.raises(UsageError, match=r"'mine' in .* is not a study of the workbench: it has no attribute 'workbench:study'"):
        Ledger.find("mine", url)
    assert not Ledger.holds("mine", url)


def test_a_study_of_another_program_with_our_name_is_told(study, url):
    plain(url, study.name)
    with pytest.raises(UsageError, match="is not a study of the workbench"):
        Ledger.open(study, url)


def test_trials_that_another_program_puts_into_our_study_are_passed_over(ledger, study, url):
    written = record(ledger, study, FULL)
    theirs = optuna.load_study(study_name=study.name, storage=url)
    theirs.enqueue_trial({"task.train": 32})
    theirs.tell(theirs.ask(), [50.0, 1.0])
    asked = theirs.ask()
    for value in ("mine", 3, None, [], {"run_id": 1}):
        asked.set_user_attr("workbench:lease", value)
        trial = theirs.ask()
        trial.set_user_attr("workbench:result", value)
        theirs.tell(trial, [50.0, 1.0])
    theirs.set_user_attr("workbench:begun", "mine")
    theirs.set_user_attr("workbench:ended", 3)
    theirs.set_user_attr("workbench:retried", [])
    for reader in (ledger, Ledger.find(None, url, read_only=True)):
        assert reader.results(running=True) == [written]
        assert reader.leases() == []
        assert (reader.read().ended, reader.description["limits"]) == (None, {})
    assert ledger.reconcile(study, OFFER) == []
    second = record(ledger, study, LORA)
    assert Ledger.find(None, url).results() == [written, second]
    assert list(completion.runs(url, None, "", 50)) == [second.trial, written.trial]


def test_a_record_of_ours_that_was_changed_is_told(ledger, study, url):
    lease = ledger.lease(study, stub(study, FULL))
    broken = complete(lease.result).to_json() | {"spent": [3]}
    optuna.load_study(study_name=study.name, storage=url)._storage.set_trial_user_attr(lease.trial_id, "workbench:result", broken)
    ledger._storage.set_trial_state_values(lease.trial_id, TrialState.FAIL)
    with pytest.raises(EnvironmentFault, match=r"trial 0 of .* cannot be read: AttributeError"):
        ledger.results()


# Folders of any name

NAMES = [
    "a?b",
    "a#b",
    "100%25",
    "with space",
    "Größe 数据",
    "it's",
    'q"q',
    "a&b=c;d",
    "a{b}",
    "back\\slash",
    "a?b=c&uri=true",
    "plus+",
]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in ("with space", "it's", "plus+", "a?b") else []) for n in NAMES]
)
def test_a_ledger_lies_in_its_folder_whatever_that_is_called(study, tmp_path, name, made_anew):
    folder = tmp_path / name
    folder.mkdir()
    url = default_url(folder)
    written = record(Ledger.open(study, url), study, FULL)
    assert (folder / "optuna.db").stat().st_size > 0
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir() or "tiny" not in p.name) == [name]
    assert Ledger.find(None, url, read_only=True).results() == [written]
    assert optuna.load_study(study_name=study.name, storage=url.replace("{", "{{").replace("}", "}}")).trials[0].number == 0
    assert ledgers.shown(url) == str(folder / "optuna.db")
    assert completion.names(url) == [study.name]
    assert store.sqlite_path(url) == folder / "optuna.db"


def test_two_folders_side_by_side_keep_apart(study, tmp_path):
    for name in ("a?b", "a?c", "a"):
        (tmp_path / name).mkdir()
    record(Ledger.open(study, default_url(tmp_path / "a?b")), study, FULL)
    assert Ledger.open(study, default_url(tmp_path / "a?c")).results() == []
    assert list((tmp_path / "a").iterdir()) == []


def test_a_path_with_a_question_mark_is_refused_where_it_would_be_cut(study, tmp_path):
    (tmp_path / "a?b").mkdir()
    with pytest.raises(
        UsageError, match=r"a '\?' in a path begins options, and 'b/optuna.db' is none\. Write sqlite:////.*/a%3Fb/optuna.db"
    ):
        Ledger.open(study, f"sqlite:///{tmp_path}/a?b/optuna.db")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file() and p.suffix != ".py") == []


def test_options_of_a_url_are_heeded(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///optuna.db?timeout=3", "sqlite:///file:other.db?uri=true", "sqlite+pysqlite:///third.db"):
        Ledger.open(study, url)
    assert {p.name for p in tmp_path.glob("*.db")} == {"optuna.db", "other.db", "third.db"}


# Places where no ledger can be


def test_write_ahead_logging_is_on(ledger, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "optuna.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_is_no_database(study, tmp_path):
    (tmp_path / "optuna.db").write_bytes(b"these are my notes, and no database " * 50)
    for look in (
        lambda: Ledger.open(study, default_url(tmp_path)),
        lambda: Ledger.find(None, default_url(tmp_path)),
        lambda: ledgers.examine(default_url(tmp_path)),
    ):
        with pytest.raises(EnvironmentFault, match=r"optuna\.db cannot be used: file is not a database\. Move that file away"):
            look()


def test_reading_makes_nothing(tmp_path):
    with pytest.raises(UsageError, match="there is no ledger"):
        Ledger.find(None, default_url(tmp_path))
    assert "not there yet" in ledgers.examine(default_url(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_program(study, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    url = f"sqlite:///{tmp_path / 'other.db'}"
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(EnvironmentFault, match=r"other\.db"):
        Ledger.find(None, url)
    with pytest.raises(EnvironmentFault):
        ledgers.examine(url)
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_folder_that_is_not_there(study, tmp_path):
    with pytest.raises(EnvironmentFault, match="nowhere"):
        Ledger.open(study, f"sqlite:///{tmp_path}/nowhere/optuna.db")


@pytest.mark.parametrize(
    "url, said",
    [
        ("optuna.db", "not a database URL"),
        ("sqlite://", "names no file"),
        ("oracle9://me@host/name", "driver|plugin"),
        ("mysql+pymysql://me:secret@127.0.0.1:9/name", "driver"),
        ("postgresql+psycopg2://me:secret@127.0.0.1:9/name", "refused"),
    ],
)
def test_addresses_that_lead_nowhere(study, url, said, monkeypatch):
    monkeypatch.setattr(ledger_module, "OPENING_SECONDS", 0.3)
    with pytest.raises((UsageError, EnvironmentFault), match=said) as caught:
        Ledger.open(study, url)
    assert "secret" not in str(caught.value)


def test_no_such_study_names_the_nearest(ledger, study, url):
    with pytest.raises(UsageError, match="Did you mean 'tiny'"):
        Ledger.find("tinny", url)
    with pytest.raises(UsageError, match=f"has not been swept as it stands now.*give the older study by its name, {ledger.name}"):
        Ledger.find("tiny-00000000", url, path="tiny.py")
    with pytest.raises(UsageError, match=r"new.py has not been swept yet\."):
        Ledger.find("new-00000000", url, path="new.py")
    assert Ledger.holds(ledger.name, url)
    assert not Ledger.holds("tiny-00000000", url)
    assert not Ledger.holds(ledger.name, f"{url}.none")


# PostgreSQL


def test_on_postgresql(postgresql, study, study_file, monkeypatch):
    url, control = postgresql.url, postgresql.control
    ledger = Ledger.open(study, url).reader()
    written = record(ledger, study, FULL, accuracy=70.0)
    other = Ledger.find("tiny", url)
    assert other.results() == [written]
    held = ledger.lease(study, stub(study, LORA))
    assert other.lease(study, stub(study, LORA)) is None
    abandon(ledger, held)
    assert [r.status for r in other.reconcile(study, OFFER)] == ["interrupted"]
    plain = optuna.load_study(study_name=study.name, storage=url)
    assert [t.state for t in plain.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    assert plain.best_trials[0].values[0] == 70.0
    control("restart")  # connections that a restart has cut are opened again
    assert [r.status for r in other.results()] == ["complete", "interrupted"]
    assert study.name in ledgers.examine(url)
    wider = edited(study_file, "batch_size=8", "batch_size=choice(8, 16)")
    assert len(Ledger.open(wider, url).results()) == 1
    control("stop")
    with pytest.raises(EnvironmentFault, match="refused"):
        ledger.results()
    monkeypatch.setattr(ledger_module, "OPENING_SECONDS", 0.3)
    with pytest.raises(EnvironmentFault, match="refused"):
        Ledger.open(study, url)


def test_results_are_plain_json(ledger, study, tmp_path):
    record(ledger, study, FULL)
    with contextlib.closing(sqlite3.connect(tmp_path / "optuna.db")) as connection:
        (text,) = connection.execute("SELECT value_json FROM trial_user_attributes WHERE key = 'workbench:result'").fetchone()
    assert json.loads(text)["schema"] == 1


def test_the_beginning_of_a_sweep_is_noted_with_its_limits(ledger):
    assert ledger.description["limits"] == {}
    ledger.note_end("12 of 12 trials are done")
    ledger.note_begin({"trials": 12, "max_usd": 0.5, "max_hours": None})
    assert ledger.ended is None
    assert ledger.description["limits"] == {"trials": 12, "max_usd": 0.5, "max_hours": None}
    assert ledger.description["maximize"] == "accuracy"
