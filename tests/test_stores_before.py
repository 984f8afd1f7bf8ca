"""A ledger and an MLflow store of the version before Results recorded causes: they open, and go on,
as they did there.

`fixtures/stores_before_causes.py` says how that version made them.
"""

import json
import sqlite3
import tarfile
from pathlib import Path

import pytest
from test_sweep import OFFER, Ear

from workbench.ledger import Ledger, default_url
from workbench.prices import Prices
from workbench.report.failures import kind
from workbench.result import Cause, Result, by_run
from workbench.search import left_alone, unfinished
from workbench.search.history import asked_again, stopped
from workbench.study import load
from workbench.sweep import Job, Limits, sweep
from workbench.testing import FakeMeter
from workbench.tracking import Listener, MlflowTracker, default_uri

STORES = Path(__file__).parent / "fixtures" / "stores_before_causes.tar.xz"

ENDS = [
    (0, "infeasible", Cause.DIVERGED, False, "diverged"),
    (1, "interrupted", Cause.OUT_OF_MEMORY, True, "to be tried again"),
    (2, "infeasible", Cause.FAULT, False, "fault of the model"),
    (4, "interrupted", Cause.STOPPED_BY_PERSON, False, "stopped"),
    (5, "interrupted", Cause.STOPPED_BY_BUDGET, False, "stopped"),
    (6, "interrupted", Cause.STOPPED_BY_SIGNAL, False, "stopped"),
    (7, "interrupted", Cause.DIED, False, "worker died"),
    (8, "interrupted", Cause.BUG, False, "bug"),
    (9, "interrupted", Cause.FAULT, False, "fault of the machine"),
    (18, "interrupted", Cause.OUT_OF_MEMORY, True, "to be tried again"),
    (20, "interrupted", Cause.OUT_OF_MEMORY, True, "to be tried again"),
    (22, "interrupted", Cause.STOPPED_BY_PERSON, False, "stopped"),
]
"""Number, status, cause, whether another try was asked for, and what people are told, of all that
ended without a checkpoint.
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the stores are unpacked; MLflow's files are to go there too."""
    with tarfile.open(STORES) as archive:
        archive.extractall(tmp_path, filter="data")
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        places = "replace(artifact_location, '/tmp/runner/fx/out', ?)"
        store.execute(f"UPDATE experiments SET artifact_location = {places}", (str(tmp_path),))
        store.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, '/tmp/runner/fx/out', ?)", (str(tmp_path),))
    store.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ledger_of(folder: Path) -> Ledger:
    return Ledger.find(None, default_url(folder))


def test_the_records_have_no_cause_and_are_read_with_the_one_they_meant(folder):
    with sqlite3.connect(folder / "optuna.db") as store:
        rows = store.execute("SELECT value_json FROM trial_user_attributes WHERE key = 'workbench:result'").fetchall()
    store.close()
    assert len(rows) == 23
    assert not any("cause" in json.loads(text) for (text,) in rows)
    results = ledger_of(folder).results()
    ended = [(r.number, r.status, r.cause, r.retry, kind(r)) for r in results if r.status != "complete"]
    assert ended == ENDS
    assert all(r.cause is None and not r.retry for r in results if r.status == "complete")
    written = json.loads(json.dumps([r.to_json() for r in results]))
    assert [Result.from_json(record).cause for record in written] == [r.cause for r in results]


def test_the_search_sees_what_it_saw(folder):
    results = ledger_of(folder).results()
    runs = {r.trial: r.run_id for r in results}
    assert asked_again(results) == [runs[1]]
    assert stopped(results) == {runs[21]: 4.0}
    assert left_alone(results) == set()
    assert [r.trial for r in unfinished(results)] == [1, 21]


def test_the_commands_read_them(folder, command):
    code, out, _ = command("runs", "--json")
    entries = {entry["trial"]: entry for entry in json.loads(out)}
    assert code == 0
    assert {trial: (e["status"], e["cause"], e["retry"]) for trial, e in entries.items()} == {
        0: ("infeasible", "diverged", False),
        1: ("interrupted", "out_of_memory", True),
        2: ("infeasible", "fault", False),
        **dict.fromkeys((3, 12, 15, 19), ("complete", None, False)),
        21: ("interrupted", "stopped_by_person", False),
    }
    assert entries[2]["reason"] == "fault: RuntimeError out of the model: no such layer"
    code, out, _ = command("runs")
    assert code == 0
    for words in ("infeasible (diverged)", "interrupted (to be tried again)", "infeasible (fault)", "interrupted (stopped)"):
        assert words in out
    code, out, err = command("front", "tiny")
    assert code == 0
    assert "The best is" in out + err
    code, out, err = command("status", "tiny")
    assert code == 0
    code, out, err = command("run", "3")
    assert code == 0
    assert "died: its worker (process" in out


def test_a_sweep_goes_on_from_them_in_both_stores(folder):
    study, meter = load(folder / "tiny.py"), FakeMeter()
    before = Ledger.open(study, default_url(folder)).results()
    ledger = Ledger.open(study, default_url(folder))
    notebook = MlflowTracker(study, default_uri(folder), Prices(OFFER), listener=Listener(on_run=ledger.note_mlflow_run))
    ear = Ear(meter)
    known = {"ledger": ledger, "notebook": notebook, "offer": OFFER, "label_usd": 0.0, "observer": ear, "meter": meter}
    outcome = sweep(Job(study=study, limits=Limits(trials=7), folder=folder / "states", **known))
    assert notebook.close(20.0) == 0
    assert outcome.results[: len(before)] == before
    assert "Continuing: 8 runs in the ledger" in ear.notes[0]
    done = {r.trial: max(each.epochs for each in run) for run in by_run(outcome.results).values() for r in run if not r.cause}
    assert done.keys() == {1, 3, 12, 15, 19, 21}  # the one that was asked for again, and the one that was stopped, among them
    assert [r.status for r in outcome.results[len(before) :]] == ["complete"] * (len(outcome.results) - len(before))
    assert ear.runs[0][0] in {r.run_id for r in before if r.trial in (1, 21)}

    from mlflow import MlflowClient

    client = MlflowClient(default_uri(folder))
    experiment = client.get_experiment_by_name(study.name)
    runs = client.search_runs([experiment.experiment_id], "tags.`workbench.kind` = 'run'")
    status = {int(run.data.tags["workbench.trial"]): run.info.status for run in runs}
    assert status == dict.fromkeys((0, 2), "FAILED") | dict.fromkeys((1, 3, 12, 15, 19, 21), "FINISHED")
