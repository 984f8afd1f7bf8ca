"""The MLflow notebook against the real MLflow, on SQLite, and against servers that are down or hung."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import stores
from commands import forks, start, study_text
from servers import free_port

from workbench import Recipe, Study, choice, full, integers, loguniform, peft, prices
from workbench.cli.notebook import end_notebook
from workbench.errors import EnvironmentFault, UsageError
from workbench.formulations import Formulation
from workbench.front.objectives import View
from workbench.prices import Prices
from workbench.result import Result
from workbench.sweep import Outcome
from workbench.tasks.base import Splits, Task
from workbench.tracking import Listener, MlflowTracker, default_uri, experiment, serve, store, tags_and_metrics, ui_command
from workbench.tracking.retry_queue import Job, RetryQueue
from workbench.tracking.session import Session
from workbench.usage import Usage

OFFER = prices.find("local")
PARENT = {
    "question": "Which is best?",
    "command": "workbench sweep studies/qa.py",
    "limits": {"trials": 12, "max_usd": None},
    "git": {"commit": "abc123", "dirty": False},
    "long": "x" * 600,
}


@dataclass(frozen=True)
class WordTask(Task):
    """A task that is never trained."""

    data: str = "words"
    train: int = 8

    metrics: ClassVar[tuple[str, ...]] = ("f1", "exact_match")

    def splits(self) -> Splits:
        return Splits([], [], [])

    def digest(self) -> str:
        return "d" * 64

    def formulation(self, kind: str) -> Formulation:
        raise NotImplementedError

    def score(self, examples: Sequence[Mapping[str, Any]], predictions: Sequence[Any]) -> dict[str, float]:
        raise NotImplementedError


STUDY = Study(
    Recipe(
        task=WordTask(train=choice(8, 16)),
        model=choice("minilm-l3", "minilm-l6"),
        method=choice(
            full(learning_rate=loguniform(1e-5, 1e-3)), peft("lora", learning_rate=loguniform(1e-5, 1e-2), r=choice(4, 8))
        ),
        epochs=integers(1, 4, log=True),
    ),
    maximize="f1",
    label_usd=0.1,
    question="Which is best?",
)


def a_result(trial: int = 42, step: int = 4, status: str = "complete", **changes: Any) -> Result:
    """A checkpoint of the LoRA run of a trial; a quarter of an epoch is one step."""
    settings: dict[str, Any] = {
        "task.train": 8,
        "model": "minilm-l3",
        "method": "lora",
        "lora.learning_rate": 2e-4,
        "lora.r": 8,
        "epochs": max(1, step) / 4,
    }
    recipe = STUDY.resolve({**settings, "epochs": 1}).with_epochs(settings["epochs"])
    recipe = replace(recipe, seed=trial)
    known: dict[str, Any] = {
        "recipe_id": recipe.id,
        "run_id": recipe.run_id,
        "recipe": recipe.to_json(),
        "settings": settings,
        "status": status,
        "scores": {"f1": 50.0 + step, "exact_match": 40.0, "dev_loss": 1.5} if status == "complete" else {},
        "usage": {"train": Usage(seconds=36.0 * step, cpu_energy_j=None), "evaluate": Usage(seconds=36.0)},
        "spent": {"train": Usage(seconds=36.0)},
        "labels": 8,
        "step": step,
        "tokens": 1000 * step,
        "trial": trial,
        "started": 1000.0 + 10 * trial,
        "finished": 1000.0 + 10 * trial + step,
    }
    return Result(**known | changes)


class Read:
    """What a test asks MLflow."""

    def __init__(self, uri: str) -> None:
        self.session = Session(STUDY, uri)
        self.client = self.session.client
        self.experiment = self.client.get_experiment_by_name(STUDY.name)

    def runs(self, kind: str = "run") -> list[Any]:
        return list(self.session.search(kind))

    def history(self, run: Any, name: str) -> list[tuple[int, float]]:
        return [(m.step, m.value) for m in self.client.get_metric_history(run.info.run_id, name)]


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: MLflow takes seconds to make one, a copy takes none."""
    uri = default_uri(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(stores.EMPTY)
        store.connect(uri)
    path = store.sqlite_path(uri)
    assert path is not None
    return path


@pytest.fixture
def uri(fresh: Path, tmp_path: Path) -> str:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "mlflow.db").write_bytes(fresh.read_bytes())
    return default_uri(tmp_path / "a folder")


@pytest.fixture
def hung() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def down() -> str:
    return f"http://127.0.0.1:{free_port()}"


def a_notebook(uri: str, *, sweep: str | None = None, pause_seconds: float = 1.0, **told: Any) -> MlflowTracker:
    prices, listener = Prices(OFFER, STUDY.label_usd), Listener(**told)
    return MlflowTracker(STUDY, uri, prices, listener=listener, sweep=sweep, pause_seconds=pause_seconds)


def mirrored(
    uri: str, *results: Result, known: Sequence[Result] = (), front: Collection[str] | None = None, **arguments: Any
) -> None:
    """A sweep, whole: each result with the start and end of its run."""
    notebook = a_notebook(uri, **arguments)
    notebook.start(PARENT, known, front=front)
    for result in results:
        notebook.running(result)
        notebook.record(result)
        notebook.finished(result.run_id, tags_and_metrics.RUN_STATUS[result.status])
    notebook.end({"spend_usd": 0.5, "hypervolume": None}, "| front |")
    assert notebook.close(60) == 0


def test_a_sweep_in_the_notebook(uri: str) -> None:
    told: list[tuple[str, str]] = []
    problems: list[str] = []
    first, second = a_result(step=2), a_result(step=4)
    mirrored(uri, first, second, on_run=lambda *ids: told.append(ids), on_problem=problems.append)
    read = Read(uri)
    assert problems == []
    assert read.experiment.tags["mlflow.note.content"].startswith("Which is best?\n\nMaximise `f1`, minimise `usd`.")
    assert read.experiment.artifact_location.endswith(f"a%20folder/mlartifacts/{STUDY.name}")

    (parent,), (child,) = read.runs("sweep"), read.runs()
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert told == [(first.run_id, child.info.run_id)]
    assert child.info.run_name == "0042 lora r8 lr2e-4 minilm-l3 train8 s42"
    assert child.data.params == {
        "task.train": "8",
        "model": "minilm-l3",
        "method": "lora",
        "lora.learning_rate": "0.0002",
        "lora.r": "8",
    }
    assert read.history(child, "quality/f1") == [(2, 52.0), (4, 54.0)]
    assert [value for _, value in read.history(child, "cost/usd_labels")] == pytest.approx([0.8, 0.8])
    assert child.data.metrics["cost/usd"] == pytest.approx(0.8 + 180 / 3600 * float(OFFER.usd_per_hour))
    assert read.history(child, "hp/lora.r") == [(0, 8)]
    assert child.data.metrics["epochs"] == 1
    assert "cost/energy_kwh" not in child.data.metrics  # unknown
    assert len(child.data.metrics) < 40
    assert (child.data.tags["workbench.status"], child.data.tags["workbench.trial"]) == ("complete", "42")
    assert (child.info.start_time, child.info.end_time) == (1420_000, child.info.end_time)

    (data,) = child.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("words", "d" * 36)
    assert json.loads(data.dataset.profile) == {"digest": "d" * 64}
    recipe = json.loads(Path(read.client.download_artifacts(child.info.run_id, "recipe.json")).read_text())
    assert recipe == second.recipe

    assert parent.data.metrics == {"spend_usd": 0.5}
    assert parent.data.params["limits.trials"] == "12"
    assert "limits.max_usd" not in parent.data.params
    assert parent.data.params["long"] == "600 characters: see the artifact long/long.txt"
    assert Path(read.client.download_artifacts(parent.info.run_id, "long/long.txt")).read_text() == "x" * 600
    assert Path(read.client.download_artifacts(parent.info.run_id, "front.md")).read_text() == "| front |"
    assert parent.data.tags["mlflow.source.git.commit"] == "abc123"
    assert "| front |" in parent.data.tags["mlflow.note.content"]


def test_a_run_is_continued_by_a_later_sweep(uri: str) -> None:
    mirrored(uri, a_result(step=2))
    mirrored(uri, a_result(step=8), known=[a_result(step=2)])
    read = Read(uri)
    first, second = read.runs("sweep")
    (child,) = read.runs()
    assert child.data.tags["mlflow.parentRunId"] == first.info.run_id
    assert child.data.tags["workbench.sweep"] == second.data.tags["workbench.sweep"]
    assert read.history(child, "epochs") == [(2, 0.5), (8, 2.0)]
    assert child.info.status == "FINISHED"


def test_mirroring_twice_changes_nothing(uri: str) -> None:
    results = [a_result(step=2), a_result(step=4), a_result(trial=7, step=2, status="infeasible", reason="out_of_memory")]
    mirrored(uri, *results)
    mirrored(uri, *results, known=results)
    dearer = MlflowTracker(STUDY, uri, Prices(replace(OFFER, amount=OFFER.amount * 2), 1.0))
    dearer.start(PARENT, results)
    for result in results:
        dearer.record(result)
    assert dearer.close(60) == 0
    read = Read(uri)
    assert len(read.runs()) == 2
    assert len(read.runs("sweep")) == 3
    lora = next(run for run in read.runs() if run.data.tags["workbench.trial"] == "42")
    for name in lora.data.metrics:
        whole = name.startswith(("hp/", "best/"))
        steps = [step for step, _ in read.history(lora, name)]
        assert steps == ([2, 4] if not whole else [0] if name.startswith("hp/") else [0, 0]), name


def test_what_was_missed_is_caught_up(uri: str, down: str) -> None:
    problems: list[str] = []
    results = [a_result(step=2), a_result(step=4), a_result(trial=7, step=3, status="interrupted", reason="killed")]
    away = a_notebook(down, on_problem=problems.append, pause_seconds=0.01)
    away.start(PARENT, [])
    for result in results:
        away.record(result)
    assert away.close(30) == 3
    assert len(problems) == 1
    assert "cannot be reached" in problems[0]
    assert "safe in the ledger" in problems[0]

    mirrored(uri, known=results)
    read = Read(uri)
    killed, complete = read.runs()
    assert (killed.info.status, killed.info.end_time) == ("KILLED", 1073_000)
    assert (killed.data.tags["workbench.status"], killed.data.tags["workbench.reason"]) == ("interrupted", "killed")
    assert {name for name in killed.data.metrics if not name.startswith("hp/")} == {"spent/seconds", "spent/usd"}
    assert (complete.info.status, complete.info.end_time) == ("FINISHED", 1424_000)
    assert read.history(complete, "quality/f1") == [(2, 52.0), (4, 54.0)]


def test_a_store_that_comes_back_is_written_to(uri: str, tmp_path: Path) -> None:
    path = store.sqlite_path(uri)
    assert path is not None
    good = path.read_bytes()
    path.write_bytes(b"this is no database, and it is long enough to be one" * 100)
    problems: list[str] = []
    away, back = threading.Event(), threading.Event()

    def note(message: str) -> None:
        problems.append(message)
        (away if "cannot be reached" in message else back).set()

    notebook = a_notebook(uri, on_problem=note, pause_seconds=0.01)
    notebook.start(PARENT, [])
    notebook.record(a_result())
    assert away.wait(20)
    assert "not a database" in problems[0]
    assert "once the file is moved away" in problems[0]
    path.write_bytes(good)
    assert back.wait(20)
    assert notebook.close(60) == 0
    assert len(problems) == 2
    assert len(Read(uri).runs()) == 1


def test_a_hung_server_holds_nobody_back(hung: str) -> None:
    notebook = a_notebook(hung)
    notebook.start(PARENT, [])
    for step in range(1, 4):
        notebook.record(a_result(step=step))
    assert notebook.close(0.2) == 3
    threads = [t for t in threading.enumerate() if t.name == "mlflow-writer" and t.is_alive()]
    assert threads
    assert all(t.daemon for t in threads)  # still waiting for the answer, and no reason for the process to


class Refusing(BaseHTTPRequestHandler):
    """A server that answers everything with one error, slowly."""

    code = 500

    def answer(self) -> None:
        time.sleep(0.05)
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(b"<html>no</html>")

    do_GET = do_POST = do_PUT = do_PATCH = answer

    def log_message(self, *arguments: Any) -> None:
        """Quietly."""


@pytest.mark.parametrize("code", [401, 404, 429, 500, 503, 200])
def test_a_server_that_answers_with_errors_holds_nobody_back(code: int) -> None:
    """200 is a page that is not MLflow's, such as a proxy's for logging in."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Refusing,), {"code": code}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    problems: list[str] = []
    told = threading.Event()
    notebook = a_notebook(
        f"http://127.0.0.1:{server.server_port}", on_problem=lambda text: (problems.append(text), told.set()), pause_seconds=0.01
    )
    notebook.start(PARENT, [a_result(trial=1)])
    notebook.record(a_result(step=2))
    notebook.record(a_result(step=4))
    assert told.wait(60)
    notebook.end({}, "")
    assert notebook.close(60) == 3
    assert len(problems) == 1
    assert "cannot be reached" in problems[0]
    assert "safe in the ledger" in problems[0]
    server.shutdown()
    server.server_close()


def test_what_dead_sweeps_left_open_is_put_right(uri: str) -> None:
    complete, stopped, unknown, alive = a_result(1), a_result(2, status="interrupted"), a_result(3), a_result(4)
    dead = a_notebook(uri)
    dead.start(PARENT, [])
    for result in (complete, stopped, unknown):
        dead.running(result)
    dead.record(complete)
    assert dead.close(60) == 0
    live = a_notebook(uri)
    live.start(PARENT, [complete])
    live.running(alive)
    assert live.close(60) == 0
    read = Read(uri)
    parents = read.runs("sweep")
    read.client.set_tag(parents[0].info.run_id, "workbench.process_started", "1.0")  # a process of that number, but another

    mirrored(uri, known=[complete, stopped, a_result(4, status="running", scores={}, finished=0.0)])
    states = {run.data.tags["workbench.trial"]: run.info.status for run in Read(uri).runs()}
    assert states == {"1": "FINISHED", "2": "KILLED", "3": "KILLED", "4": "RUNNING"}
    assert [run.info.status for run in Read(uri).runs("sweep")] == ["KILLED", "RUNNING", "FINISHED"]


def test_the_table_shows_the_best_checkpoint_in_whatever_order_they_came(uri: str) -> None:
    good, worse, worst = (
        a_result(step=step, scores={"f1": score, "exact_match": 1.0}) for step, score in ((2, 60.0), (4, 55.0), (8, 50.0))
    )
    mirrored(uri, worse, worst)
    (child,) = Read(uri).runs()
    assert (child.data.metrics["best/f1"], child.data.metrics["quality/f1"]) == (55.0, 50.0)
    mirrored(uri, known=[good, worse, worst])  # the first was missed, and comes last
    mirrored(uri, known=[good, worse, worst])
    read = Read(uri)
    (child,) = read.runs()
    shown = {name.removeprefix("best/"): value for name, value in child.data.metrics.items() if name.startswith("best/")}
    assert shown == pytest.approx({"f1": 60.0, "usd": child.data.metrics["cost/usd_labels"] + 108 / 3600 * 0.05, "epochs": 0.5})
    assert child.data.tags["workbench.best_recipe_id"] == good.recipe_id
    assert sorted(read.history(child, "quality/f1")) == [(2, 60.0), (4, 55.0), (8, 50.0)]
    assert read.history(child, "best/f1") == [(0, 55.0), (0, 60.0)]


def test_a_store_of_an_older_version_gets_what_is_new(uri: str) -> None:
    results = [a_result(step=2), a_result(step=4)]
    mirrored(uri, *results)
    path = store.sqlite_path(uri)
    assert path is not None
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for table in ("metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE key LIKE 'best/%'")
        database.execute("DELETE FROM tags WHERE key IN ('workbench.on_front', 'workbench.best_recipe_id')")
        database.execute("DELETE FROM experiment_tags WHERE key LIKE '%View%'")
        database.execute("UPDATE experiment_tags SET value = 'mine' WHERE key = 'mlflow.note.content'")
    mirrored(uri, known=results, front={results[0].run_id})
    read = Read(uri)
    (child,) = read.runs()
    assert child.data.metrics["best/f1"] == 54.0
    assert child.data.tags["workbench.on_front"] == "true"
    assert read.history(child, "quality/f1") == [(2, 52.0), (4, 54.0)]
    assert read.experiment.tags["mlflow.note.content"] == "mine"
    assert f"mlflow.sharedViewState.{experiment.VIEW}" in read.experiment.tags


def test_the_front_is_kept_right_when_a_later_run_dominates_an_earlier_one(uri: str) -> None:
    def on_front() -> dict[str, str]:
        return {run.data.tags["workbench.trial"]: run.data.tags["workbench.on_front"] for run in Read(uri).runs()}

    first, second, third = (a_result(trial) for trial in (1, 2, 3))
    notebook = a_notebook(uri)
    notebook.start(PARENT | {"sampler": "confirm"}, [])
    notebook.record(first)
    notebook.front({first.run_id})
    notebook.record(second)
    notebook.front({second.run_id})
    assert notebook.close(60) == 0
    assert on_front() == {"1": "false", "2": "true"}

    worker, other = a_notebook(uri, sweep="one"), a_notebook(uri, sweep="one")
    worker.start(PARENT, [first, second], front={first.run_id})  # at other prices it is the first again
    other.join()
    other.record(third)
    other.front({third.run_id})
    assert other.close(60) == 0
    worker.end({}, "", front={second.run_id})  # the end has the last word, over what other workers said too
    assert worker.close(60) == 0
    assert on_front() == {"1": "false", "2": "true", "3": "false"}
    assert [run.info.run_name.split()[0] for run in Read(uri).runs("sweep")] == ["confirmation", "sweep"]


def test_what_a_killed_worker_left_unwritten_is_caught_up_at_once(uri: str) -> None:
    done, next_one, stopped = a_result(step=2), a_result(step=4), a_result(step=5, status="interrupted", reason="died")
    supervisor, worker = a_notebook(uri, sweep="one"), a_notebook(uri, sweep="one")
    supervisor.start(PARENT, [])
    worker.join()
    worker.running(done)
    worker.record(done)
    assert worker.close(60) == 0  # and is killed here, with the rest unwritten
    supervisor.catch_up([done, next_one, stopped])
    supervisor.catch_up([done, next_one, stopped])
    assert supervisor.close(60) == 0
    read = Read(uri)
    (child,) = read.runs()
    assert (child.info.status, child.data.tags["workbench.reason"]) == ("KILLED", "died")
    assert read.history(child, "quality/f1") == [(2, 52.0), (4, 54.0)]


@pytest.mark.parametrize(
    ("status", "mlflow_status"), [("complete", "FINISHED"), ("infeasible", "FAILED"), ("interrupted", "KILLED")]
)
def test_status(uri: str, status: str, mlflow_status: str) -> None:
    mirrored(uri, a_result(status=status, reason="" if status == "complete" else "diverged"))
    (child,) = Read(uri).runs()
    assert child.info.status == mlflow_status
    assert child.data.tags["workbench.status"] == status


def test_a_run_deleted_in_the_page_is_written_anew(uri: str) -> None:
    notebook = a_notebook(uri)
    notebook.start(PARENT, [])
    notebook.record(a_result(step=2))
    written = threading.Event()
    notebook._writer.put(Job("a wait", written.set))
    assert written.wait(30)
    read = Read(uri)
    read.client.delete_run(read.runs()[0].info.run_id)
    notebook.record(a_result(step=4))
    assert notebook.close(60) == 0
    assert [read.history(run, "quality/f1") for run in read.runs()] == [[(4, 54.0)]]


def test_metrics_are_finite_known_and_few() -> None:
    result = a_result(scores={"f1": float("nan"), "exact_match": float("inf"), "dev_loss": 1.0})
    numbers = tags_and_metrics.metrics(result, OFFER, 0.0)
    assert [name for name in numbers if name.startswith("quality/")] == ["quality/dev_loss"]
    assert "cost/energy_kwh" not in numbers
    assert numbers["cost/gpu_hours"] == 0.0
    many = replace(
        a_result(),
        settings={f"x{i}": i for i in range(100)},
        usage={f"phase{i}": Usage(seconds=1.0) for i in range(30)},
        test_scores={a_result().recipe_id: {"f1": 1.0}},
    )
    study = replace(STUDY, minimize=("labels", "seconds", "energy_j", "grams_co2e", "usd_compute"))
    kinds = (
        tags_and_metrics.metrics(many, OFFER, 0.0),
        tags_and_metrics.mirrors(many),
        tags_and_metrics.best_metrics(many, study, OFFER, 0.0),
    )
    assert sum(map(len, kinds)) == len(set().union(*kinds)) < 40
    assert all(kinds)
    assert {"test/f1", "cost/usd", "cost/usd_labels", "cost/gpu_hours"} <= kinds[0].keys()


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (2e-4, "2e-4"),
        (0.00025, "2.5e-4"),
        (0.25, "0.25"),
        (128, "128"),
        (1e7, "1e7"),
        ("/a/model/", "model"),
        (True, "True"),
        (0.0, "0"),
    ],
)
def test_values_in_names(value: Any, word: str) -> None:
    assert tags_and_metrics._short(value) == word


def test_what_is_too_long_is_cut_where_it_is_seen() -> None:
    assert len(tags_and_metrics.run_name(a_result(settings={"model": "m", "note": "x" * 1000}))) == 250
    assert tags_and_metrics.run_name(a_result(settings={"note": "x" * 1000})).endswith("…")
    assert tags_and_metrics.run_name(a_result(settings={"adam.beta1": 0.9, "task.train": 8})) == "0042 beta1=0.9 train8 s42"
    table = "The answer.\n\n" + "| row |\n" * 1000
    assert tags_and_metrics.sweep_note("Which?", table) == "Which?\n\nThe answer.\n\nThe front is the artifact `front.md`."
    assert len(tags_and_metrics.sweep_note("Which?" * 1000, table)) < 5000
    assert "front.md" in tags_and_metrics.sweep_note("Which?" * 1000, table)


def test_the_store_is_made_whole_and_in_wal_mode(fresh: Path) -> None:
    assert [p.name for p in fresh.parent.iterdir() if not p.name.startswith(("mlflow.db", ".workbench.lock"))] == []
    database = sqlite3.connect(fresh)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("SELECT artifact_location FROM experiments").fetchone() == (
        f"{(fresh.parent / 'mlartifacts').as_uri()}/0",
    )
    database.close()


def test_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_uri(Path()) == f"sqlite:///{tmp_path}/mlflow.db"
    assert store.absolute("sqlite:///mlflow.db?timeout=3") == f"sqlite:///{tmp_path}/mlflow.db?timeout=3"
    assert store.absolute("http://localhost:5000") == "http://localhost:5000"
    assert store.artifact_root("https://server") is None


def test_the_page_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="workbench sweep"):
        ui_command(default_uri(tmp_path))
    with pytest.raises(UsageError, match="browser"):
        ui_command("http://localhost:5000")
    (tmp_path / "mlflow.db").touch()
    assert ui_command(default_uri(tmp_path))[-2:] == ["--workers", "1"]
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(EnvironmentFault, match="--port"):
        serve(default_uri(tmp_path), port=server.getsockname()[1])


def test_one_bad_record_does_not_keep_the_others_out() -> None:
    refused, written = [], []
    writer = RetryQueue(lambda: None, lambda error: None, lambda: None, lambda job, error: refused.append((job.what, str(error))))

    def bad() -> None:
        raise ValueError("no")

    writer.put(Job("bad", bad, frozenset({"a", "b"})))
    writer.put(Job("good", lambda: written.append(1), frozenset({"b", "c"})))  # b once more, and now it is written
    assert writer.close(10) == 1
    assert (refused, written) == ([("bad", "no")], [1])


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A real browser, which keeps nothing and asks nobody outside."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page(viewport={"width": 1500, "height": 900})
        browser.close()


@pytest.mark.slow
def test_the_page_shows_the_runs_and_the_front(tmp_path: Path, chromium: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its API and in a browser: what people see of a sweep that has ended, whatever the folder is called."""
    folder = tmp_path / "a?b#c 100%25 数据"
    folder.mkdir()
    uri = default_uri(folder)
    monkeypatch.chdir(tmp_path)
    results = [a_result(step=2), a_result(step=4), a_result(trial=7, step=4, scores={"f1": 40.0})]
    view = View("f1", ("usd",), {"f1": 0.0, "usd": 10.0}, OFFER, 0.1)
    notebook = a_notebook(uri)
    notebook.start(PARENT, results)
    end_notebook(notebook, Outcome(results, "2 of 2 trials are done"), view)
    port = free_port()
    command = [sys.executable, "-m", "workbench", "mlflow", "--port", str(port), "--tracking-uri", uri]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(line.split()[-1] for line in process.stderr if line.split()[:1] == [STUDY.name])
            worse, best, parent = sorted(_asked(url, address.split("/")[5]), key=lambda run: str(run["info"]["run_name"]))
            for run, on_front in ((worse, "false"), (best, "true")):
                assert {"key": "workbench.on_front", "value": on_front} in run["data"]["tags"]
            front = f"{url}/get-artifact?path=front.html&run_id={parent['info']['run_id']}"
            assert "Plotly.newPlot" in urllib.request.urlopen(front, timeout=10).read().decode()
            recipe = f"{url}/get-artifact?path=recipe.json&run_id={best['info']['run_id']}"
            assert json.load(urllib.request.urlopen(recipe, timeout=10))["model"] == "minilm-l3"

            outside: list[str] = []
            chromium.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else outside.append(r.url))
            chromium.goto(address)
            chromium.get_by_role("link", name="0042 lora r8 lr2e-4 minilm-l3 train8 s42").wait_for()
            scores = chromium.locator("[role=gridcell][col-id='metrics.`best/f1`']").all_inner_texts()
            assert [float(text) for text in scores] == [54.0, 40.0]
            chromium.goto(f"{url}/#/experiments/1/runs/{parent['info']['run_id']}/artifacts/front.html")
            drawn = chromium.frame_locator("iframe").locator(".js-plotly-plot .legend")
            drawn.get_by_text("lora").wait_for()
            assert outside == []
        finally:
            process.terminate()
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=10):
        pytest.fail("the server has outlived the command")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def _asked(url: str, experiment_id: str) -> list[dict[str, Any]]:
    """The runs, as the page's own API tells them."""
    body = json.dumps({"experiment_ids": [experiment_id], "max_results": 10}).encode()
    request = urllib.request.Request(f"{url}/ajax-api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"})
    runs: list[dict[str, Any]] = json.load(urllib.request.urlopen(request, timeout=10))["runs"]
    return runs


def to_be_killed(where: str, results: Sequence[Result], begun: Any) -> None:
    notebook = a_notebook(where)
    notebook.start(PARENT, results[:10])
    for result in results:
        notebook.running(result)
        notebook.record(result)
    begun.set()
    notebook.close(60)


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path, made_anew: None) -> None:
    """Kills while the store is made, while runs are made, while Results are written: the next sweep has each once."""
    where = default_uri(tmp_path)
    results = [a_result(trial, step) for trial in range(20) for step in (2, 4)]
    for delay in (0.2, 0.8, 1.6, 0.05, 0.2, 0.4):
        begun = forks().Event()
        process = forks().Process(target=to_be_killed, args=(where, results, begun))
        start(process)
        assert begun.wait(120)
        time.sleep(delay)
        process.kill()
        process.join()
    mirrored(where, known=results)
    read = Read(where)
    runs = read.runs()
    assert len(runs) == 20
    for run in runs:
        assert run.info.status == "FINISHED"
        assert read.history(run, "quality/f1") == [(2, 52.0), (4, 54.0)]
        assert len(run.inputs.dataset_inputs) == 1
        assert run.data.params
    assert [run.info.status for run in read.runs("sweep")][-1] == "FINISHED"
    assert {path.name for path in tmp_path.glob(".*")} <= {".workbench.lock"}
    assert "RUNNING" not in {run.info.status for run in read.runs("sweep")}


# Folders whose names mean something in a URL

ODD = ("a?b#c", "100%25 %3F", "Größe 数据", """it's a&b=c;d?e=f "x" """.strip())


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ODD[:-1]), ODD[-1]])
def test_store_and_artifacts_lie_in_a_folder_whatever_its_name(tmp_path: Path, name: str, monkeypatch, made_anew: None) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    problems: list[str] = []
    study = replace(STUDY, path=folder / "q#1%2F?.py")
    study.path.write_text("# the study\n")
    for _ in range(2):  # the second one reads what the first has written
        notebook = MlflowTracker(study, default_uri(folder), Prices(OFFER), listener=Listener(problems.append))
        notebook.start(PARENT, [a_result()])
        assert notebook.close(60) == 0
    assert problems == []
    assert store.sqlite_path(default_uri(folder)) == folder / "mlflow.db"
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing beside it
    assert {path.name for path in folder.iterdir()} <= {
        "mlflow.db",
        "mlflow.db-wal",
        "mlflow.db-shm",
        "mlartifacts",
        ".workbench.lock",
        study.path.name,
    }
    session = Session(study, store.absolute("sqlite:///mlflow.db"))
    (run,) = session.search("run")
    files = [path.name for path in (folder / "mlartifacts").rglob("*") if path.is_file()]
    assert {"recipe.json", "sweep.json", "q_1_2F_.py"} <= set(files)
    assert {file.path for file in session.client.list_artifacts(run.info.run_id)} >= {"recipe.json"}
    assert "3 runs" in store.examine(default_uri(folder))


@pytest.mark.parametrize("uri", ["sqlite:////tmp/a?b/mlflow.db", "sqlite:///a?b=c/mlflow.db", "sqlite:///x?timeout=1&y/mlflow.db"])
def test_a_path_that_would_be_read_as_options_is_refused_with_the_way_to_say_it(uri: str) -> None:
    with pytest.raises(UsageError, match=r"read as options.*Give that path so: 'sqlite\+pysqlite:") as said:
        MlflowTracker(STUDY, uri, Prices(OFFER))
    meant = str(said.value).rsplit("'", 2)[1]
    assert store.sqlite_path(meant) == Path(uri.split("///", 1)[1]).absolute() or store.sqlite_path(meant) == Path(
        uri.split("///")[1]
    )


def test_options_of_the_driver_are_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store.absolute("sqlite:///x.db?timeout=3") == f"sqlite:///{tmp_path}/x.db?timeout=3"
    kept = store.absolute("sqlite:///file:x.db?mode=ro&uri=true")
    assert store.sqlite_path(kept) == tmp_path / "x.db"
    assert "mode=ro" in kept
    assert store.sqlite_path("sqlite:///:memory:") is None
    assert store.sqlite_path("sqlite:///file::memory:?uri=true&cache=shared") is None


# Stores that the installed MLflow cannot use


def an_older_store(path: Path, version: str = "cfd24bdc0731") -> None:
    """A store as an MLflow of that schema left it."""
    from alembic import command
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine(store.uri_of(path))
    utils.InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(store.uri_of(path))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()


def complaints(uri: str) -> tuple[str, str, list[str]]:
    """What doctor, the page's command and a sweep's notebook say of a store."""
    problems: list[str] = []
    notebook = MlflowTracker(STUDY, uri, Prices(OFFER), listener=Listener(problems.append))
    notebook.start(PARENT, [a_result()])
    notebook.close(20)
    with pytest.raises(EnvironmentFault) as looked:
        store.examine(uri)
    with pytest.raises(EnvironmentFault) as served:
        ui_command(uri)
    return str(looked.value), str(served.value), problems


def test_the_versions_of_the_schema_are_those_that_mlflow_would_ask_for() -> None:
    from mlflow.store.db import utils

    head, known = store.schemas()
    assert head == utils._get_latest_schema_revision()
    assert {head, "cfd24bdc0731"} < known


@pytest.mark.slow
def test_an_older_store_is_named_by_all_with_the_command_that_mends_it(tmp_path: Path) -> None:
    folder = tmp_path / "my store?"
    folder.mkdir()
    path = folder / "mlflow.db"
    an_older_store(path)
    before = path.read_bytes()
    looked, served, problems = complaints(store.uri_of(path))
    assert looked == served
    assert problems == [
        f"MLflow cannot be written to. {looked} The runs are safe in the ledger; the next sweep writes them once that is mended."
    ]
    assert f"{path} was made by an older MLflow: its schema is cfd24bdc0731" in looked
    assert "Copy the file" in looked
    with contextlib.closing(sqlite3.connect(path)) as database:  # nothing was migrated
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("cfd24bdc0731",)]
    told = looked.split("run `")[1].removesuffix("`.")
    said = subprocess.run([sys.executable, "-m", *shlex.split(told)], capture_output=True, text=True, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert len(before) < path.stat().st_size
    assert "0 runs" in store.examine(store.uri_of(path))
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]


def test_a_newer_store_is_not_called_an_older_one(tmp_path: Path) -> None:
    an_older_store(tmp_path / "mlflow.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    looked, served, problems = complaints(default_uri(tmp_path))
    assert looked == served
    assert "was made by a newer MLflow" in looked
    assert "pip install --upgrade mlflow" in looked
    assert looked in problems[0]


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")  # Optuna has one too
        database.execute("CREATE TABLE studies (study_id INTEGER)")
    looked, served, problems = complaints(default_uri(tmp_path))
    assert looked == served
    assert "another program's database (it holds alembic_version, studies)" in looked
    assert looked in problems[0]
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert {name for (name,) in database.execute("SELECT name FROM sqlite_master")} == {"alembic_version", "studies"}


@pytest.mark.slow
def test_an_empty_file_is_made_a_store(tmp_path: Path, made_anew: None) -> None:
    (tmp_path / "mlflow.db").touch()
    assert "an empty file" in store.examine(default_uri(tmp_path))
    notebook = MlflowTracker(STUDY, default_uri(tmp_path), Prices(OFFER))
    notebook.start(PARENT, [a_result()])
    assert notebook.close(60) == 0
    assert "2 runs" in store.examine(default_uri(tmp_path))


def test_a_server_is_asked_whether_it_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentFault, match="does not answer") as said:
            store.examine(address)
    assert "secret" not in str(said.value)

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/base/health" else 404)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert store.examine(f"http://127.0.0.1:{server.server_port}/base/").endswith("answers")
    server.shutdown()
    server.server_close()


# An MLflow that was away for a whole sweep


@pytest.mark.slow
def test_what_mlflow_missed_is_written_before_nothing_is_done_and_by_a_command_of_its_own(
    command, tmp_path: Path, tiny: str
) -> None:
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    away = ("--tracking-uri", "http://127.0.0.1:9")
    code, _, err = command("sweep", "tiny.py", "--trials", "1", *away)
    assert code == 0
    assert "`workbench mlflow STUDY --catch-up`" in err

    code, out, err = command("mlflow", "tiny.py", "--catch-up", *away)
    assert (code, out) == (4, "")
    assert "cannot be reached" in err

    code, _, err = command("sweep", "tiny.py", "--trials", "1", *away)  # still away: said, and no error
    assert code == 0
    assert err.index("cannot be reached") < err.index("Nothing to do")

    def kinds(uri: str) -> list[str]:
        client = store.connect(store.absolute(uri))
        (experiment,) = [each for each in client.search_experiments() if each.name != "Default"]
        return sorted(run.data.tags["workbench.kind"] for run in client.search_runs([experiment.experiment_id]))

    code, _, err = command("sweep", "tiny.py", "--trials", "1", "--tracking-uri", "sqlite:///mine.db")
    assert code == 0
    assert err.index("MLflow lacked 1 run: caught up") < err.index("Nothing to do")
    assert kinds("sqlite:///mine.db") == ["run", "sweep"]
    code, _, err = command("confirm", "tiny.py", "--max-usd", "1e-9", "--tracking-uri", "sqlite:///third.db")
    assert "MLflow lacked 1 run: caught up" in err
    assert kinds("sqlite:///third.db") == ["run", "sweep"]

    code, out, err = command("mlflow", "tiny.py", "--catch-up")
    assert (code, out) == (0, "")
    assert "1 run written" in err
    assert kinds("sqlite:///mlflow.db") == ["run", "sweep"]
    code, _, err = command("mlflow", "tiny.py", "--catch-up")
    assert "nothing was missing" in err
    assert kinds("sqlite:///mlflow.db") == ["run", "sweep"]
    assert command("mlflow", "--catch-up")[0] == 2
    assert command("mlflow", "tiny.py")[0] == 2
