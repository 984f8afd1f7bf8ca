"""The command line: what it prints where, and with which code it exits. Most of it in this process, the rest as users run it."""

import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ANSI, study_text

from workbench import __version__
from workbench.cli import _COMMANDS


def one_error(err):
    """Standard error holds one error, said in few lines, and returns it."""
    lines = [line for line in err.splitlines() if line and not line.endswith(" …")]
    assert lines[0].startswith("Error: ") or lines[0].startswith("Usage: "), err
    assert sum(line.startswith("Error: ") for line in lines) == 1
    return "\n".join(lines)


# Help


@pytest.mark.parametrize("name", [[], *([name] for name in _COMMANDS)])
def test_help(command, name):
    code, out, err = command(*name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: workbench")
    assert out == command(*name, "-h")[1]
    assert all(len(line) <= 110 for line in out.splitlines())


def test_help_lists_every_command_and_no_command_shows_it(command):
    _code, out, _ = command("--help")
    for name, (_, text) in _COMMANDS.items():
        assert name in out
        assert text.split()[0] in out


def test_help_is_quick_because_nothing_heavy_is_imported():
    code = "import sys, runpy; sys.argv = ['workbench', '--help']\n"
    code += "try:\n runpy.run_module('workbench', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'transformers', 'mlflow', 'optuna', 'streamlit', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_m_workbench(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"python -m workbench, version {__version__}\n"


@pytest.mark.parametrize(
    "words, said",
    [
        (["swep"], "Did you mean 'sweep'"),
        (["sweep"], "Missing argument 'STUDY'"),
        (["sweep", "x.py", "--trials", "0"], "--trials"),
        (["sweep", "x.py", "--max-usd", "0"], "--max-usd"),
        (["sweep", "x.py", "--stop-below", "0"], "--stop-below"),
        (["sweep", "x.py", "--tirals", "2"], "--trials"),
        (["front", "--target", "high"], "--target"),
    ],
)
def test_wrong_words(command, words, said):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert said in one_error(err)


# What a sweep leaves


def test_sweep_prints_data_alone_on_standard_output(swept):
    folder, done = swept
    record = json.loads(done.stdout)
    assert record["study"].startswith("tiny-")
    assert {p["trial"] for p in record["points"]} == {0, *{p["trial"] for p in record["points"]}}
    assert not ANSI.search(done.stderr)
    assert "Warning" not in done.stderr
    assert "[3/3] trial" in done.stderr
    assert done.stderr.count("Next: ") == 0  # a program reads
    assert "1 epochs" not in done.stderr
    assert {p.name for p in folder.iterdir()} >= {"optuna.db", "mlflow.db", ".workbench"}


def test_front_runs_and_run_as_json(swept, command, monkeypatch):
    folder, done = swept
    monkeypatch.chdir(folder)
    fronts = [command("front", *words, "--json") for words in ([], ["tiny"], ["tiny.py"])]
    for code, out, err in fronts:
        assert (code, err) == (0, "")
        assert json.loads(out) == json.loads(done.stdout)
    points = json.loads(done.stdout)["points"]
    assert set(points[0]) >= {
        *("trial", "recipe_id", "step", "model", "method", "settings", "score", "usd", "usd_compute", "usd_labels", "labels"),
        *("seconds", "energy_j", "peak_memory_bytes", "offer_id", "price_date", "on_front"),
    }
    code, out, err = command("runs", "--json")
    runs = json.loads(out)
    assert (code, err, len(runs)) == (0, "", 3)
    assert set(runs[0]) >= {
        *("trial", "recipe_id", "status", "reason", "model", "method", "settings", "seed", "scores", "usage", "usd"),
        *("mlflow_run_id", "started", "seconds"),
    }
    assert all(run["mlflow_run_id"] for run in runs)
    code, out, err = command("run", runs[1]["trial"], "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["run"]["recipe_id"] == runs[1]["recipe_id"]


@pytest.mark.slow
def test_a_sweep_leaves_its_summary_its_front_and_what_it_was_made_with_in_mlflow(swept, command, monkeypatch):
    from mlflow import MlflowClient

    folder, done = swept
    monkeypatch.chdir(folder)
    record, runs = json.loads(done.stdout), json.loads(command("runs", "--json")[1])
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name(record["study"]).experiment_id])
    (parent,) = [run for run in found if run.data.tags["workbench.kind"] == "sweep"]
    members = {p["recipe_id"] for p in record["points"] if p["on_front"]}
    assert parent.data.metrics["front/size"] == len(members)
    assert parent.data.metrics["front/hypervolume"] == pytest.approx(record["hypervolume"])
    assert parent.data.metrics["spent/usd"] == pytest.approx(record["spent_usd"])
    assert record["answer"] in parent.data.tags["mlflow.note.content"]
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"front.html", "front.md", "runs.csv", "tiny.py", "prices.json", "environment.json", "sweep.json"}

    def text(name):
        return Path(client.download_artifacts(parent.info.run_id, name)).read_text()

    assert "Plotly.newPlot" in text("front.html")
    assert "<script src=" not in text("front.html")  # it needs no network
    rows = csv.DictReader(io.StringIO(text("runs.csv")))
    assert list(dict.fromkeys(row["run_id"] for row in rows)) == [run["run_id"] for run in runs]
    prices = json.loads(text("prices.json"))
    assert prices["offer"]["id"] == record["points"][0]["offer_id"]
    assert len(prices["book"]) > 50
    assert {"mlflow", "torch"} <= json.loads(text("environment.json"))["packages"].keys()
    children = {run.info.run_id: run for run in found if run.data.tags["workbench.kind"] == "run"}
    for run in runs:
        child = children[run["mlflow_run_id"]]
        points = {c["recipe_id"]: c["scores"][record["maximize"]] for c in run["checkpoints"]}
        assert child.data.tags["workbench.on_front"] == ("true" if points.keys() & members else "false")
        assert child.data.metrics[f"best/{record['maximize']}"] == max(points.values())


def test_tables_are_plain_and_not_folded_where_nobody_looks(swept, command, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "40")
    code, out, err = command("runs")
    said = [line for line in err.splitlines() if "contended" not in line]  # a machine that runs tests may be busy
    assert (code, len(said)) == (0, 1)
    assert said[0].startswith("Next: `workbench run ")
    assert len(out.splitlines()) == 4  # the head and three runs, however long the model's name
    code, out, err = command("front", "--all")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(json.loads(swept[1].stdout)["points"]) + out.count("The best is")
    code, out, err = command("run", "0")
    said = [line for line in err.splitlines() if "contended" not in line]
    assert (code, said) == (0, [f"Next: `workbench front {json.loads(swept[1].stdout)['study'].rsplit('-', 1)[0]}`"])
    for word in ("Checkpoints", "The bill", "versions", "train", "idle"):
        assert word in out


def test_front_answers_a_budget_and_a_target(swept, command, monkeypatch):
    monkeypatch.chdir(swept[0])
    assert "ithin $" in command("front", "--budget-usd", "1")[1]
    assert "accuracy 0" in command("front", "--target", "0")[1]
    assert "No run reached" in command("front", "--target", "1000")[1]


def test_prices_are_a_view(swept, command, monkeypatch):
    monkeypatch.chdir(swept[0])
    cheap, dear = (json.loads(command("front", "--json", "--label-usd", price)[1])["points"][0]["usd"] for price in ("0", "1"))
    assert dear - cheap == pytest.approx(32)
    assert command("front", "--platform", "nowhere")[0] == 2


def test_runs_by_status_and_names_that_are_not_there(swept, command, monkeypatch):
    monkeypatch.chdir(swept[0])
    code, out, err = command("runs", "--status", "infeasible")
    assert (code, out) == (0, "")
    assert "No run is infeasible" in err
    assert json.loads(command("runs", "--status", "infeasible", "--json")[1]) == []
    for words, said in (
        (["front", "tinny"], "Did you mean 'tiny'"),
        (["run", "999"], "no run '999'"),
        (["run", "tiny.py", "1"], "A study is named by --study: `workbench run 1 --study tiny.py`."),
        (["run", "1", "tiny.py"], "got '1 tiny.py'. A study is named by --study: `workbench run 1 --study tiny.py`."),
        (["run", "tiny", "1"], "`workbench run 1 --study tiny`."),
    ):
        code, out, err = command(*words)
        assert (code, out) == (2, "")
        assert said in one_error(err)


@pytest.mark.parametrize("words", [["sweep"], ["plan"], ["front"], ["runs"], ["config"], ["run", "1", "--study"]])
def test_data_in_place_of_a_study_are_told_apart(command, tmp_path, words):
    for name in ("tickets.csv", "tickets.jsonl.gz", "tickets.conll", "tickets.txt"):
        (tmp_path / name).write_text("text,label\nI pay twice,bill\n")
        code, out, err = command(*words, name)
        assert (code, out) == (2, "")
        assert f"{name} is data, not a study, which is a Python file. `workbench init {name}` writes a study of it." in one_error(
            err
        )


def test_sweeping_again_has_nothing_to_do(swept, command, monkeypatch):
    monkeypatch.chdir(swept[0])
    code, out, err = command("sweep", "tiny.py", "--trials", "3", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(swept[1].stdout)
    assert "Nothing to do: 3 of 3 trials are done" in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no sh")
@pytest.mark.parametrize("words", ["runs", "runs --json", "export tiny csv"])
def test_a_reader_that_leaves_early_is_no_error(swept, words):
    script = Path(sys.executable).with_name("workbench")
    shell = f"{{ {script} {words}; echo $? >&2; }} | true"
    done = subprocess.run(["sh", "-c", shell], cwd=swept[0], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "0\n"


def test_what_is_left_of_a_budget_is_told_where_the_trials_end_a_sweep(command, study_file):
    _, _, err = command("sweep", study_file, "--trials", "1", "--max-usd", "5")
    assert "1 of 1 trials are done. $" in err
    assert "of $5.00 are left: --trials 2 goes on for them." in " ".join(err.split())


def test_why_a_sweep_ended_can_be_told_later(swept, command, monkeypatch):
    monkeypatch.chdir(swept[0])
    assert "The last sweep ended: 3 of 3 trials are done." in command("front")[2]


def test_a_stop_by_growth_is_for_those_that_know_what_growth_to_expect(command, tiny, tmp_path):
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    code, _, err = command("sweep", "tiny.py", "--stop-below", "1", "--sampler", "optuna:RandomSampler")
    assert code == 2
    assert "--stop-below is for the sampler front" in one_error(err)


# Nothing yet


def test_front_before_any_sweep(command):
    code, out, err = command("front")
    assert (code, out) == (2, "")
    assert "there is no ledger" in one_error(err)
    assert list(Path.cwd().iterdir()) == []


def test_front_before_anything_has_finished(command, tiny, tmp_path):
    from workbench.ledger import Ledger, default_url
    from workbench.study import load

    (tmp_path / "tiny.py").write_text(study_text(tiny))
    Ledger.open(load(tmp_path / "tiny.py"), default_url(tmp_path))
    code, out, err = command("front", "tiny.py")
    assert (code, err) == (1, "Next: `workbench sweep tiny.py`\n")
    assert "No run has finished yet" in out
    code, out, err = command("front", "tiny.py", "--json")
    assert (code, json.loads(out)["points"]) == (1, [])
    assert "No run yet" in command("runs")[2]
    assert json.loads(command("runs", "--json")[1]) == []


@pytest.mark.slow
def test_all_runs_infeasible_is_no_finished_run(command, tiny, tmp_path):
    (tmp_path / "tiny.py").write_text(study_text(tiny, "full(learning_rate=1e30)"))
    code, out, err = command("sweep", "tiny.py")
    assert code == 1
    assert "infeasible (diverged" in err
    assert "No run has finished" in out


# Bad input: one clear message, no traceback, exit code 2 or 4


def test_no_such_study(command):
    code, _, err = command("sweep", "studies/nothing.py")
    assert code == 2
    assert "there is no study file studies/nothing.py" in one_error(err)


@pytest.mark.parametrize(
    "method, said",
    [
        ("peft('lorra', learning_rate=1e-3)", "line 7.*lorra.*Did you mean 'lora'"),
        ("full(learning_rate=loguniform(1e-2, 1e-3))", "line 7.*is empty"),
        ("choice()", "line 7.*empty"),
        ("full(learning_rat=1e-3)", "line 7.*learning_rat"),
    ],
)
@pytest.mark.parametrize("verb", ["sweep", "plan", "front"])
def test_a_study_with_a_mistake(command, tiny, tmp_path, verb, method, said):
    (tmp_path / "bad.py").write_text(study_text(tiny, method))
    code, out, err = command(verb, "bad.py")
    assert (code, out) == (2, "")
    assert re.search(said, one_error(err), re.DOTALL)


@pytest.mark.parametrize("verb", ["sweep", "plan"])
def test_a_model_that_does_not_exist(command, tmp_path, verb):
    (tmp_path / "bad.py").write_text(study_text("no-such/model"))
    code, out, err = command(verb, "bad.py")
    assert (code, out) in ((2, ""), (4, ""))
    assert "no-such/model" in one_error(err)


def squad(tmp_path, tiny, text):
    (tmp_path / "data.json").write_text(text)
    task = f"question_answering({str(tmp_path / 'data.json')!r}, train=1, dev=1, test=0)"
    (tmp_path / "bad.py").write_text(study_text(tiny, "full(learning_rate=1e-3)", task))


def test_a_corrupt_squad_file(command, tmp_path, tiny):
    squad(tmp_path, tiny, '{"version": "1.1", "data": [{"title": ')
    code, out, err = command("sweep", "bad.py")
    assert (code, out) == (2, "")
    assert "data.json" in one_error(err)


def test_an_answer_that_is_not_at_its_offset(command, tmp_path, tiny):
    answers = [{"text": "Paris", "answer_start": 3}]
    questions = [{"id": "q1", "question": "Where?", "answers": answers}, {"id": "q2", "question": "Where?", "answers": answers}]
    text = json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "It is in Paris.", "qas": questions}]}]})
    squad(tmp_path, tiny, text)
    code, out, err = command("sweep", "bad.py")
    assert (code, out) == (2, "")
    assert re.search("data.json.*q1", one_error(err), re.DOTALL)


@pytest.mark.parametrize("words", [["sweep", "tiny.py"], ["front"], ["runs"], ["run", "0"]])
def test_a_database_that_is_not_one(command, tmp_path, tiny, words):
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    (tmp_path / "optuna.db").write_text("notes of mine, and no database\n" * 100)
    code, out, err = command(*words)
    assert (code, out) == (4, "")
    assert "is not a database. Move that file away" in one_error(err)


@pytest.mark.slow
def test_an_mlflow_store_that_is_not_one_stops_nothing(command, tmp_path, tiny):
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    (tmp_path / "mlflow.db").write_text("notes of mine, and no database\n" * 100)
    code, _out, err = command("sweep", "tiny.py", "--trials", "1")
    assert code == 0
    assert err.count("cannot be reached") == 1
    assert "records behind" in err or "record behind" in err


@pytest.fixture
def unwritable(tmp_path):
    """A folder that even root cannot write."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    yield_text = (folder / "tiny.py").write_text
    yield_text("")
    if os.geteuid() != 0:
        folder.chmod(0o555)
    elif subprocess.run(["chattr", "+i", folder], capture_output=True, check=False).returncode:
        pytest.skip("as root, a folder can be sealed by chattr only, and this file system does not take it")
    yield folder
    if os.geteuid() == 0:
        subprocess.run(["chattr", "-i", folder], check=False)
    folder.chmod(0o755)


def test_a_folder_that_cannot_be_written(command, tmp_path, tiny, unwritable, monkeypatch):
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    monkeypatch.chdir(unwritable)
    code, out, err = command("sweep", tmp_path / "tiny.py")
    assert (code, out) == (4, "")
    assert "cannot be written. Work in a folder that you may write to" in one_error(err)
    code, out, err = command("doctor", "--json")
    assert code == 4
    assert {"subject": "folder", "state": "fail"}.items() <= next(f for f in json.loads(out) if f["subject"] == "folder").items()


@pytest.mark.slow
def test_a_folder_for_states_that_cannot_be_written_costs_no_result(command, tmp_path, tiny, unwritable):
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    (tmp_path / ".workbench").symlink_to(unwritable)
    code, _out, err = command("sweep", "tiny.py", "--trials", "1")
    assert code == 0
    assert "could not be saved" in err


# plan, doctor, mlflow


def test_plan(command, tmp_path, tiny):
    (tmp_path / "tiny.py").write_text(study_text(tiny))
    code, out, _ = command("plan", "tiny.py", "--json")
    assert code == 0
    pairs = json.loads(out)
    assert [(p["method"], p["fits"]) for p in pairs] == [("full", True), ("bitfit", True)]
    assert 0 < pairs[1]["trainable_parameters"] < pairs[0]["trainable_parameters"]
    code, out, _err = command("plan", "tiny.py")
    assert len(out.splitlines()) == 3
    assert re.search(r" full +lr=0.001…0.01 ", out), "a range is shown by its ends"
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.py"}


def test_plan_refuses_what_cannot_be_trained(command, tmp_path, tiny):
    (tmp_path / "tiny.py").write_text(
        study_text(tiny, "choice(full(learning_rate=1e-3), peft('lora', learning_rate=1e-3, target_modules=['nothing']))")
    )
    code, out, err = command("plan", "tiny.py")
    assert code == 2  # as of `sweep`
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["yes", "no"]
    assert "lora on" in err
    assert "nothing" in err
    code, out, err = command("sweep", "tiny.py")
    assert (code, out) == (2, "")
    assert "1 of 2" in one_error(err)
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.py"}  # no empty study is left behind


@pytest.fixture
def told(command):
    """What the plan says of the runs of a study."""

    def told():
        code, _, err = command("plan", "tiny.py")
        assert code == 0
        return [line for line in err.splitlines() if "of this study" in line or "more run" in line or "Next" in line]

    return told


def test_plan_forecasts_one_run_where_there_is_one(command, tmp_path, tiny, told):
    (tmp_path / "tiny.py").write_text(study_text(tiny, "full(learning_rate=2e-3)"))
    assert told()[0].startswith("1 run of this study is forecast to take ")
    assert "1 run of this study is forecast to take " in command("sweep", "tiny.py", "--sampler", "optuna:RandomSampler")[2]
    assert told()[0] == "The one run of this study has been made."
    assert "A sweep of 1 run of tiny.py" in command("platforms", "tiny.py")[1]


@pytest.mark.slow
def test_plan_forecasts_what_is_left_and_no_more_runs_than_there_are(command, tmp_path, tiny, told):
    (tmp_path / "tiny.py").write_text(study_text(tiny, "choice(full(learning_rate=1e-3), bitfit(learning_rate=1e-3))"))
    assert told()[0].startswith("2 runs of this study are forecast to take ")  # of the 16 that a study allows
    sampler = ("--sampler", "optuna:RandomSampler")
    assert command("sweep", "tiny.py", "--trials", "1", *sampler)[0] == 0
    assert told()[0] == "1 of 2 runs of this study has been made."
    assert told()[1].startswith("1 more run is forecast to take ")
    err = command("sweep", "tiny.py", *sampler)[2]
    assert "1 more run is forecast to take " in err
    assert told() == ["All 2 runs of this study have been made.", "Next: `workbench front tiny.py`"]
    assert "forecast to take" not in command("sweep", "tiny.py", *sampler)[2]


def test_a_sweep_that_learned_nothing_says_so(command, tmp_path, tiny):
    rows = [{"text": f"w{10 + i % 40} w{10 + i % 7}", "label": "rare" if i % 10 == 0 else "common"} for i in range(160)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "s.py").write_text(
        "from workbench import Recipe, Study, full\nfrom workbench.tasks import classification\n"
        f"study = Study(Recipe(task=classification('d.jsonl', train=32, max_length=8), model={tiny!r}, "
        "method=full(learning_rate=1e-9), epochs=1, batch_size=8), maximize='accuracy')\n"
    )
    code, out, err = command("sweep", "s.py")
    assert code == 0, err
    front, text = command("front", "s.py")[1:]
    for answer in (out, front):
        assert "Nothing found beats the commonest answer given to everything, which has accuracy " in answer
        assert "The best is" not in answer
        assert "(a guess)" in answer
    for told in (err, text):
        assert "No point has learned more than one answer to everything (accuracy " in told
        assert "dev examples grade every point: a score of 50 is known to about ±" in told


@pytest.mark.slow
def test_a_run_that_several_studies_have_is_told_of(command, tmp_path, tiny):
    for i, trials in enumerate((2, 1)):
        (tmp_path / f"s{i}.py").write_text(study_text(tiny, task=f"TinyTask(train={32 + i})"))
        assert command("sweep", f"s{i}.py", "--trials", trials, "--sampler", "optuna:RandomSampler")[0] == 0
    code, out, err = command("run", "0")
    assert (code, out[:8]) == (0, "Trial 0 ")
    first = next(word.strip(",.") for word in err.split() if word.startswith("s0-"))
    assert f"There is one in {first}, too: `workbench run 0 --study {first}`." in err
    assert "There is one in" not in command("run", "0", "--study", "s1.py")[2]
    code, out, err = command("run", "2")  # each run has two checkpoints, and their numbers name it, too
    assert (code, out) == (2, "")
    assert f"has no run '2', and {first} has: `workbench run 2 --study {first}`." in err
    assert "and s0" not in command("run", "77")[2]


def test_doctor(command):
    code, out, _ = command("doctor", "--json")
    findings = json.loads(out)
    assert code == (4 if any(f["state"] == "fail" for f in findings) else 0)
    assert {f["subject"] for f in findings} >= {"python", "packages", "device", "disk", "ledger", "MLflow store"}
    code, out, _err = command("doctor")
    assert out.splitlines()[0].startswith("ok    python")
    assert list(Path.cwd().iterdir()) == []


def test_mlflow_needs_a_store_and_a_port(command):
    code, out, err = command("mlflow")
    assert (code, out) == (4, "")
    assert "there is no MLflow store" in one_error(err)
    assert command("mlflow", "--tracking-uri", "http://127.0.0.1:9")[0] == 2


# A terminal


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
def test_a_terminal_shows_what_goes_on(tmp_path, tiny):
    import pty

    (tmp_path / "tiny.py").write_text(study_text(tiny))
    leader, follower = pty.openpty()
    script = Path(sys.executable).with_name("workbench")
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(
        [script, "sweep", "tiny.py", "--trials", "2"], cwd=tmp_path, env=env, stdout=follower, stderr=follower
    ) as process:
        os.close(follower)
        seen = b""
        with contextlib.suppress(OSError):
            while piece := os.read(leader, 65536):
                seen += piece
    os.close(leader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert process.returncode == 0
    for words in ("Preparing data and models", "Starting MLflow", "Training", "spent", "The best is"):
        assert words in text
