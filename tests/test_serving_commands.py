"""`workbench deploy` and `workbench serve`, from a sweep to an answer over HTTP."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from commands import here
from served import ask
from servers import free_port

from workbench.cli.serve import _token
from workbench.errors import UsageError
from workbench.ledger import Ledger
from workbench.process import this_process
from workbench.serving import registry
from workbench.serving.evidence import Evidence
from workbench.serving.log import Entry, Log
from workbench.study import load
from workbench.sweep import recipe_of
from workbench.watching import history

STUDY = """
from workbench import Recipe, Study, choice, full, zero_shot
from workbench.testing import TinyText

study = Study(
    Recipe(
        task=TinyText(train=64, dev=16),
        model={model!r},
        method=choice(zero_shot(), full(learning_rate=choice(3e-3, 1e-2))),
        epochs=8,
        batch_size=8,
    ),
    maximize="accuracy",
    trials=3,
)
"""


class Swept(NamedTuple):
    folder: Path
    results: list[Any]


@pytest.fixture(scope="module")
def swept_texts(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Swept:
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "my.py").write_text(STUDY.format(model=tiny))
    done = here("sweep", "my.py", "--log-samples", "16", cwd=folder)
    assert done.returncode == 0, done.stderr
    return Swept(folder, Ledger.find("my", f"sqlite:///{folder / 'optuna.db'}").results())


def said(swept: Swept, *words: str, code: int = 0) -> tuple[Any, str]:
    done = here(*words, cwd=swept.folder)
    assert done.returncode == code, done.stderr
    return (json.loads(done.stdout) if "--json" in words else done.stdout), done.stderr


@pytest.mark.slow
def test_deploying_makes_a_champion_and_rolling_back_the_one_before(swept_texts: Swept) -> None:
    import mlflow

    first, errors = said(swept_texts, "deploy", "my.py", "--json")
    assert "It is not confirmed" in errors
    best = max(swept_texts.results, key=lambda r: r.scores["accuracy"])
    assert (first["number"], first["new"], first["name"]) == (1, True, "my")
    assert first["evidence"]["score"] == best.scores["accuracy"]
    assert said(swept_texts, "deploy", "my.py", "--json")[0] | {"new": True} == first
    assert said(swept_texts, "deploy", "my.py", "--json")[0]["new"] is False
    untuned = next(r for r in swept_texts.results if r.method == "zero_shot")
    assert untuned.recipe_id != best.recipe_id
    found, _ = said(swept_texts, "deploy", "my.py", "--trial", str(untuned.trial), "--no-check")
    assert "Version 2 of my is the champion" in found
    said(swept_texts, "deploy", "my.py", "--trial", "99", code=2)
    said(swept_texts, "deploy", "my.py", "--trial", "0", "--target", "1", code=2)
    assert (
        "Version 1 of my is the champion again; version 2 is the one before" in said(swept_texts, "deploy", "my", "--rollback")[0]
    )
    errors = said(swept_texts, "serve", "my@7", code=2)[1]
    assert "the model 'my' has no version '7'. It has 1 (champion), 2 (previous)." in errors
    errors = said(swept_texts, "serve", "my", "--shadow", "my:2", code=2)[1]
    assert "--shadow my:2: '2' is no share of the requests" in errors
    assert "there is no model 'other'" in said(swept_texts, "deploy", "other", "--rollback", code=2)[1]
    client = mlflow.MlflowClient(f"sqlite:///{swept_texts.folder / 'mlflow.db'}")
    version = client.get_model_version_by_alias("my", "champion")
    logged = client.get_logged_model(version.tags["workbench.model_id"])
    assert logged.source_run_id == Ledger.find("my", f"sqlite:///{swept_texts.folder / 'optuna.db'}").mlflow_runs[best.run_id]
    metrics = {metric.key: metric.value for metric in logged.metrics}
    assert metrics["quality/accuracy"] == best.scores["accuracy"]
    assert metrics["cost/usd"] == pytest.approx(first["evidence"]["usd"])
    assert metrics["serving/usd_per_1000"] == pytest.approx(first["evidence"]["usd_per_1000"])
    assert logged.tags["workbench.data_digest"] == first["evidence"]["data_digest"]
    assert logged.tags["workbench.confirmed"] == "false"
    run = client.get_run(logged.source_run_id)
    assert [each.model_id for each in run.outputs.model_outputs] == [logged.model_id]
    # What becomes known of it later, as by `workbench confirm`, is told of the version that there is.
    confirmed = replace(Evidence(**first["evidence"]), test=61.5)
    recipe = recipe_of(load(swept_texts.folder / "my.py"), best)
    member = registry.Member(recipe, None, None, confirmed, logged.source_run_id, best.step)
    again, new, _ = registry.Registry(f"sqlite:///{swept_texts.folder / 'mlflow.db'}").deploy("my", member, None)
    assert (again.number, new) == (1, False)
    version = client.get_model_version_by_alias("my", "champion")
    assert (version.tags["workbench.test"], version.tags["workbench.confirmed"]) == ("61.5", "true")
    assert {metric.key: metric.value for metric in client.get_logged_model(again.model_id).metrics}["test/accuracy"] == 61.5
    # Who is to be forgotten: the version that has learned it is named, the one that was only asked is not.
    told, _ = said(swept_texts, "forget", "my.py", "--example", "0/1", "--json")
    assert [held for held in told["held_by"] if held.startswith("models:")] == ["models:/my/1"]
    graded, _ = said(swept_texts, "forget", "my.py", "--example", "1/1", "--json")
    assert not [held for held in graded["held_by"] if held.startswith("models:")]


@pytest.mark.slow
def test_a_champion_that_is_not_as_it_would_be_deployed_now_is_deployed_again(swept_texts: Swept) -> None:
    def deployed(*more: str) -> tuple[int, bool, str | None]:
        made, _ = said(swept_texts, "deploy", "my.py", "--name", "mended", "--json", *more)
        return made["number"], made["new"], made["mended"]

    def folder(number: int) -> Path:
        at = mlflow.MlflowClient(uri).get_logged_model(store.version("mended", str(number)).model_id).artifact_location
        return Path(at.removeprefix("file://"))

    import mlflow

    uri = f"sqlite:///{swept_texts.folder / 'mlflow.db'}"
    store = registry.Registry(uri)
    assert deployed("--no-check") == (1, True, None)
    assert deployed("--no-check") == (1, False, None)
    assert deployed() == (2, True, "it was never graded as it is loaded")
    assert deployed() == (2, False, None)
    (weights,) = folder(2).rglob("weights.safetensors")
    weights.unlink()
    number, new, mended = deployed("--no-check")
    assert (number, new) == (3, True)
    assert mended is not None
    assert "weights.safetensors is not the file that was deployed: it was changed or lost" in mended
    required = folder(3) / "requirements.txt"
    required.write_text(required.read_text().replace("transformers==", "transformers==0."))
    number, new, mended = deployed("--no-check")
    assert (number, new) == (4, True)
    assert mended == f"it requires other packages than are installed, which are transformers=={metadata.version('transformers')}"
    # The same model is nothing to go back to.
    assert store.find("mended", "previous") is None
    untuned = next(r for r in swept_texts.results if r.method == "zero_shot")
    assert deployed("--no-check", "--trial", str(untuned.trial)) == (5, True, None)
    assert store.version("mended", "previous").number == 4


@pytest.mark.slow
def test_what_is_served_is_what_the_sweep_put_on_record(swept_texts: Swept) -> None:
    made, _ = said(swept_texts, "deploy", "my.py", "--name", "served", "--json")
    samples = next(r.samples for r in swept_texts.results if r.recipe_id == made["recipe_id"])
    port = free_port()
    command = [sys.executable, "-m", "workbench", "serve", "served", "--port", str(port), "--queue", "3"]
    environment = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    server = subprocess.Popen(command, cwd=swept_texts.folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        assert f"Version 1 of served answers at http://127.0.0.1:{port}/invocations" in server.stdout.readline()
        shown = server.stdout.readline()
        body = re.search(r"-d '(.*)'$", shown.strip())
        assert body
        assert ask(port, body[1].encode())[0] == 200  # what is shown to be tried
        rows = [{"words": sample["example"]["words"], "id": sample["example"]["id"]} for sample in samples]
        status, found = ask(port, {"dataframe_records": rows})
        assert status == 200
        for prediction, sample in zip(found["predictions"], samples, strict=True):
            labels, confidence = sample["prediction"]
            assert prediction["labels"] == labels
            assert prediction["confidence"] == pytest.approx(confidence, rel=1e-5)
        status, found = ask(port, b'{"instances": [5]}')
        assert (status, found) == (400, {"error": "row 0: words must be a list of whole numbers, and not empty; got 5."})
        written = (swept_texts.folder / ".workbench/serving/served.jsonl").read_text().splitlines()
        start, *lines = [line for line in map(json.loads, written) if line.get("event") != "usage"]
        assert (start["event"], start["evidence"]["recipe_id"]) == ("start", made["recipe_id"])
        assert start["reference"]["examples"] == sum(start["reference"]["labels"].values()) == 16
        assert [(line["status"], line["rows"], line["version"]) for line in lines] == [(200, 1, 1), (200, 16, 1), (400, 0, 1)]
        assert lines[1]["model_id"] == made["model_id"]
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(60)
    assert code == 0
    last = [
        json.loads(line)["event"] for line in (swept_texts.folder / ".workbench/serving/served.jsonl").read_text().splitlines()[-2:]
    ]
    assert last == ["usage", "stop"]  # the energy up to its end, and that it was no crash
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
def test_a_form_is_deployed_and_stands_beside_the_original_in_serving(swept_texts: Swept) -> None:
    made, _ = said(swept_texts, "deploy", "my.py", "--name", "small", "--as", "int8", "--tolerance", "30", "--json")
    best = max(swept_texts.results, key=lambda r: r.scores["accuracy"])
    assert (made["form"], made["evidence"]["form"], made["recipe_id"]) == ("int8", "int8", best.recipe_id)
    record, _ = said(swept_texts, "front", "my.py", "--json")
    (point,) = [p for p in record["points"] if p["recipe_id"] == best.recipe_id]
    (form,) = point["forms"]
    assert (form["form"], form["score"]) == ("int8", made["evidence"]["score"])
    assert form["answers_changed"] == made["evidence"]["answers_changed"]
    assert 0 <= form["answers_changed"] <= 1
    assert form["usd_per_1000_predictions"] == pytest.approx(made["evidence"]["usd_per_1000"])
    assert form["usd_per_1000_predictions"] * form["speedup"] == pytest.approx(point["usd_per_1000_predictions"])
    shown, _ = said(swept_texts, "front", "my.py", "--load", "1")
    assert re.search(rf"{best.trial} .* int8 ", shown)
    assert f"{100 * form['answers_changed']:.1f} %" in shown
    # The same model in another form is another version.
    plain, _ = said(swept_texts, "deploy", "my.py", "--name", "small", "--no-check", "--json")
    assert (plain["number"], plain["new"], plain["form"]) == (2, True, "torch")


@pytest.mark.slow
def test_right_answers_give_the_score_in_use_beside_that_of_the_sweep(swept_texts: Swept) -> None:
    made, _ = said(swept_texts, "deploy", "my.py", "--name", "used", "--json")
    samples = next(r.samples for r in swept_texts.results if r.recipe_id == made["recipe_id"])
    about = {"model": "used", "version": made["number"], "model_id": made["model_id"]}
    log = Log(swept_texts.folder / ".workbench/serving/used.jsonl", about, {"words": "numbers"})
    log.event("start", process=this_process(), evidence=made["evidence"])
    labels, scores = ([*each] for each in zip(*[(s["prediction"][0][0], s["prediction"][1]) for s in samples], strict=True))
    rows = [{"words": s["example"]["words"], "id": f"row-{place}"} for place, s in enumerate(samples)]
    log.write(Entry("r", 64, 0.1, 0.1, scores, labels), 200, 0.1, rows)
    log.close()
    right = ["no" if s["example"]["label"] == 0 else "yes it is" for s in samples]
    (swept_texts.folder / "right.csv").write_text("id,label\n" + "".join(f"row-{i},{a}\n" for i, a in enumerate(right)))
    found, _ = said(swept_texts, "feedback", "right.csv", "used", "--json")
    quality = found["quality"][made["model_id"]]
    assert (found["joined"], found["unknown"], quality["examples"]) == (16, 0, 16)
    assert quality["value"] == pytest.approx(made["evidence"]["score"])  # the very examples that graded it
    assert quality["low"] <= quality["value"] <= quality["high"]
    told, _ = said(swept_texts, "watch", "used")
    assert f"In use accuracy {quality['value']:.1f}" in told
    assert "by 16 right answers, as" in told
    (swept_texts.folder / "wrong.csv").write_text("id,label\nrow-0,maybe\n")
    assert "'row-0' was answered by" in said(swept_texts, "feedback", "wrong.csv", "used", code=2)[1]


@pytest.mark.slow
def test_several_models_are_served_and_killing_loses_no_line_and_leaves_no_server(swept_texts: Swept) -> None:
    names = ["one", "two"]
    best = max(swept_texts.results, key=lambda r: r.scores["accuracy"])
    untuned = next(r for r in swept_texts.results if r.method == "zero_shot")
    for name, result in zip(names, (best, untuned), strict=True):
        said(swept_texts, "deploy", "my.py", "--name", name, "--trial", str(result.number), "--no-check")
    said(swept_texts, "serve", "one", "one", code=2)
    port = free_port()
    command = [sys.executable, "-m", "workbench", "serve", *names, "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    server = subprocess.Popen(
        command, cwd=swept_texts.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout
    assert 'rows with "model": "one"' in server.stdout.readline()
    children = psutil.Process(server.pid).children(recursive=True)
    rows = [{"model": name, "words": sample["example"]["words"]} for sample in best.samples for name in names]
    status, found = ask(port, {"dataframe_records": rows})
    assert status == 200
    for i, result in enumerate((best, untuned)):
        told = [prediction["labels"] for prediction in found["predictions"][i::2]]
        assert told == [sample["prediction"][0] for sample in result.samples]
    answered = set[str]()

    def load(client: int) -> None:
        for i in range(100_000):
            row = {"model": names[i % 2], "words": [8, 9 + i % 5], "id": f"{client}-{i}"}
            try:
                if ask(port, {"instances": [row]})[0] == 200:
                    answered.add(str(row["id"]))
            except (OSError, http.client.HTTPException):
                return

    threads = [threading.Thread(target=load, args=(client,)) for client in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 40:
        time.sleep(0.05)
    for child in children:  # the server itself, in the middle of its work
        child.kill()
    assert server.wait(60) == 4
    assert server.stderr
    assert "the server has ended by itself, by signal 9" in server.stderr.read()
    for thread in threads:
        thread.join()
    files = [swept_texts.folder / f".workbench/serving/{name}.jsonl" for name in names]
    logged = {known for file in files for row in history.read(file).rows for known in [row.id]}
    assert answered <= logged
    assert len(answered) >= 40


@pytest.mark.slow
def test_a_server_ends_with_the_command_that_started_it_however_that_ends(swept_texts: Swept) -> None:
    said(swept_texts, "deploy", "my.py", "--name", "brief", "--no-check")
    port = free_port()
    command = [sys.executable, "-m", "workbench", "serve", "brief", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    server = subprocess.Popen(command, cwd=swept_texts.folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    assert "answers at" in server.stdout.readline()
    children = psutil.Process(server.pid).children(recursive=True)
    assert children
    server.kill()
    server.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    lines = (swept_texts.folder / ".workbench/serving/brief.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "stop"
    # And by Ctrl-C at a terminal, which goes to all of a group, while libraries are still loaded.
    pipe = subprocess.PIPE
    server = subprocess.Popen(
        command, cwd=swept_texts.folder, env=environment, stdout=pipe, stderr=pipe, text=True, process_group=0
    )
    while not (children := psutil.Process(server.pid).children(recursive=True)):
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(server.pid, signal.SIGINT)
    _, errors = server.communicate(timeout=60)
    assert "Traceback" not in errors
    assert server.returncode == 0
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_other_addresses_than_this_machine_s_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_TOKEN", raising=False)
    assert _token("127.0.0.1") == ""
    with pytest.raises(
        UsageError, match=r"--host 0\.0\.0\.0 can be reached by other machines: set the environment variable WORKBENCH_TOKEN"
    ):
        _token("0.0.0.0")
    monkeypatch.setenv("WORKBENCH_TOKEN", "short")
    with pytest.raises(UsageError, match="16 ASCII characters or more"):
        _token("127.0.0.1")
    monkeypatch.setenv("WORKBENCH_TOKEN", "long-enough-to-be-a-secret")
    assert _token("0.0.0.0") == "long-enough-to-be-a-secret"


def test_what_is_not_there_is_not_served(command: Any) -> None:
    code, _, errors = command("serve", "nobody")
    assert code == 2
    assert "no model is deployed in" in errors
    assert not Path("mlflow.db").exists()
    store = f"sqlite:///{Path.cwd() / 'other.db'}"
    code, _, errors = command("serve", "nobody", "--tracking-uri", store)
    assert code == 2
    assert "there is no model 'nobody'" in errors
    assert "None is deployed yet" in errors


def test_a_study_that_is_not_there_is_told_before_answers_are_kept(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("right.csv").write_text("id,label\na/0,no\n")
    code, _, errors = command("feedback", "right.csv", "my", "--study", "mine.py")
    assert code == 2
    assert "mine.py" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["right.csv"]
