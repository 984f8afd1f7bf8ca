"""The command line as a whole: whose word counts, what comes next, what a shell completes, what is begun, shown and kept."""

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from commands import study_text

from workbench import prices, settings
from workbench.cli import _COMMANDS, _GROUPS, cli, options, spending, terminal
from workbench.cli.forecasting import warn_if_busy
from workbench.cli.init import STUDY
from workbench.cli.printing import messages
from workbench.errors import StudyError, UsageError
from workbench.ledger import ImportedLedger, Ledger, default_url
from workbench.meter import host
from workbench.study import load
from workbench.sweep import Limits


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in (*settings.OPTIONS, "settings", "quiet", "no_progress"):
        monkeypatch.delenv(settings.variable(name), raising=False)


@pytest.fixture
def in_swept(swept, command, monkeypatch):
    monkeypatch.chdir(swept[0])
    return swept[0]


def complete(*words):
    """What Tab gives after these words, the last of which was begun."""
    line = {"COMP_WORDS": " ".join(("workbench", *words)), "COMP_CWORD": str(len(words)), "_WORKBENCH_COMPLETE": "bash_complete"}
    said = CliRunner().invoke(cli, env=line, prog_name="workbench")
    assert said.exit_code == 0, said.output
    return [row.split(",", 1)[1] for row in said.output.splitlines() if row]


# Help


def test_every_command_stands_in_one_group_of_the_help(command):
    named = [name for names in _GROUPS.values() for name in names]
    assert sorted(named) == sorted(_COMMANDS)
    out = command("--help")[1]
    places = [out.index(f"\n{title}:") for title in _GROUPS]
    assert places == sorted(places)
    assert all(len(line) <= 80 for line in out.splitlines())
    assert all(f"\n  {name} " in out for name in _COMMANDS)


def test_what_stands_for_all_commands_may_stand_before_and_after(in_swept, command):
    plain = command("runs")
    for words in (("--quiet", "runs"), ("runs", "--quiet"), ("runs", "-q"), ("-q", "runs", "-q")):
        assert command(*words) == (0, plain[1], "")
        assert not messages.quiet
    assert plain[2]


def test_quiet_by_variable_leaves_errors(in_swept, command, monkeypatch):
    monkeypatch.setenv("WORKBENCH_QUIET", "1")
    assert command("front")[2] == ""
    code, out, err = command("front", "tinny")
    assert (code, out) == (2, "")
    assert "Did you mean 'tiny'" in err


@pytest.mark.parametrize("words", ["runs", "run 0", "front", "status", "prices", "platforms", "config", "config --origin"])
def test_the_end_names_the_next_command_once_and_to_people_alone(in_swept, command, words):
    code, out, err = command(*words.split())
    assert code == 0
    assert "Next: " not in out
    assert (err.count("Next: "), err.splitlines()[-1][:6]) == (1, "Next: ")
    for program in ("--json", "--quiet"):
        assert "Next: " not in command(*words.split(), program)[2]


# Whose word counts


def origins(command, *words):
    code, out, err = command("config", *words, "--json")
    assert (code, err) == (0, "")
    return {each["name"]: (each["value"], each["origin"].split(":")[0]) for each in json.loads(out)}


def stating(tiny, tmp_path, **said):
    """A study file that states these fields, and no other that has a default."""
    text = study_text(tiny)
    words = "".join(f", {name}={value!r}" for name, value in said.items())
    path = tmp_path / "stating.py"
    path.write_text(text.replace("maximize='accuracy')", f"maximize='accuracy'{words})"))
    return path


def test_the_order_of_precedence(command, tiny, tmp_path, monkeypatch):
    path = stating(tiny, tmp_path, trials=7)
    assert origins(command)["trials"] == (16, "default")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mine"\n[tool.workbench]\ntrials = 3\nmax_usd = 0.5\nworkers = 2\n')
    assert origins(command)["trials"] == (3, "file")
    assert origins(command)["workers"] == (2, "file")
    (tmp_path / "workbench.toml").write_text("trials = 4\nmax_usd = 1.5\nlabel_usd = 0.25\n")
    found = origins(command)
    assert (found["trials"], found["max_usd"], found["workers"]) == ((4, "file"), (1.5, "file"), (1, "default"))
    found = origins(command, path)
    assert (found["trials"], found["max_usd"], found["label_usd"]) == ((7, "study"), (1.5, "file"), (0.25, "file"))
    monkeypatch.setenv("WORKBENCH_TRIALS", "8")
    monkeypatch.setenv("WORKBENCH_WORKERS", "3")
    found = origins(command, path)
    assert (found["trials"], found["workers"]) == ((8, "environment"), (3, "environment"))


def test_no_password_is_shown(command, monkeypatch):
    monkeypatch.setenv("WORKBENCH_STORAGE", "postgresql+psycopg2://me:secret@host/name")
    monkeypatch.setenv("WORKBENCH_TRACKING_URI", "https://me:secret@host/mlflow")
    assert "secret" not in command("config")[1] + command("config", "--json", "--origin")[1]


def test_a_study_that_states_its_default_is_taken_at_its_word(command, tiny, tmp_path):
    (tmp_path / "workbench.toml").write_text('label_usd = 0.25\nplatform = "aws:g5.xlarge"\ntrials = 3\nmax_usd = 1\n')
    said = origins(command, stating(tiny, tmp_path, label_usd=0.0, platform="local", trials=16, max_usd=None))
    of_studies = [said[name] for name in settings.OF_STUDIES]
    assert of_studies == [("local", "study"), (0.0, "study"), (16, "study"), (None, "study"), (1, "default")]


def test_prices_of_a_ledger_go_by_the_same_order(in_swept, command, tmp_path, monkeypatch):
    def label():
        return json.loads(command("front", "--json")[1])["view"]["label_usd"]

    assert label() == 0
    (tmp_path / "workbench.toml").write_text("label_usd = 0.25")
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(tmp_path / "workbench.toml"))
    assert label() == 0.25
    monkeypatch.setenv("WORKBENCH_LABEL_USD", "0.5")
    assert label() == 0.5
    assert json.loads(command("front", "--json", "--label-usd", "1")[1])["view"]["label_usd"] == 1


def test_the_sweep_goes_by_it(in_swept, command, tmp_path, monkeypatch):
    (tmp_path / "workbench.toml").write_text("trials = 2")
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(tmp_path / "workbench.toml"))
    assert "Nothing to do: 3 of 2 trials are done" in command("sweep", "tiny.py")[2]
    monkeypatch.setenv("WORKBENCH_TRIALS", "1")
    code, out, err = command("--quiet", "sweep", "tiny.py")
    assert (code, err) == (0, "")
    assert "The best is" in out
    err = command("sweep", "tiny.py", "--trials", "3")[2]
    assert "Nothing to do: 3 of 3 trials are done" in err
    assert "Next: `workbench confirm tiny.py`: " in err


def test_what_comes_next_keeps_to_the_limit_of_this_start(in_swept, command):
    assert "Next: `workbench confirm tiny.py --max-usd 5`: " in command("sweep", "tiny.py", "--trials", "3", "--max-usd", "5")[2]
    spent = "Next: `workbench confirm tiny.py` with a higher limit than --max-usd 1e-07: "
    assert spent in command("sweep", "tiny.py", "--trials", "3", "--max-usd", "1e-7")[2]


def test_a_limit_that_this_start_has_not_is_told_and_none_that_allows_no_run_is_gone_on_with(study_file, command):
    code, _, err = command("sweep", study_file.name, "--max-usd", "1e-7")
    assert (code, "MLflow lacks" in err) == (1, False)
    assert err.endswith(f"Next: `workbench sweep {study_file.name}` with a higher limit than --max-usd 1e-07\n")
    ledger = Ledger.find(None, default_url(study_file.parent))
    ledger.note_begin(dataclasses.asdict(Limits(trials=1, max_usd=5.0)))
    assert "An earlier start had" not in command("sweep", study_file.name, "--trials", "1", "--max-usd", "5")[2]
    ledger.note_begin(dataclasses.asdict(Limits(trials=1)))  # what a start in between has not is remembered still
    err = command("sweep", study_file.name, "--trials", "2")[2]
    assert "\nAn earlier start had --max-usd 5: this one has none.\n" in err
    assert "of it to start: programs, models and data made ready.\n" in err


def test_old_ledgers_did_not_note_what_was_stated():
    old = {"label_usd": 0.3, "platform": "local"}
    assert settings.origin("label_usd", None, old) == (0.3, "study")
    assert settings.origin("platform", None, old) == ("local", "default")


def test_who_asks_for_no_flag_goes_by_the_same_order(tmp_path, monkeypatch):
    """The dashboard has no flags: what it shows at first are the prices that every command goes by."""
    of_ledger = {"label_usd": 0.0, "platform": "local", "stated": []}
    (tmp_path / "workbench.toml").write_text('label_usd = 0.25\nplatform = "aws:g5.xlarge"')
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(tmp_path / "workbench.toml"))
    assert prices.label_usd_of(None, of_ledger) == 0.25
    assert prices.label_usd_of(None, {**of_ledger, "stated": ["label_usd"]}) == 0
    assert prices.offer_of(None, of_ledger).instance == "g5.xlarge"
    monkeypatch.setenv("WORKBENCH_LABEL_USD", "0.5")
    monkeypatch.setenv("WORKBENCH_PLATFORM", "local")
    assert prices.label_usd_of(None, {**of_ledger, "stated": ["label_usd"]}) == 0.5
    assert prices.label_usd_of(1.0, of_ledger) == 1
    assert prices.offer_of(None, of_ledger).platform == "local"


@pytest.mark.parametrize(
    ("name", "value"), [("WORKBENCH_LABEL_USD", "dear"), ("WORKBENCH_LABEL_USD", "-1"), ("WORKBENCH_TRIALS", "2.5")]
)
def test_a_wrong_value_of_a_variable_is_said_with_its_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=rf"{name} must be .* got '{value}'"):
        settings.in_environment(name.removeprefix("WORKBENCH_").lower())


def test_a_wrong_platform_is_said_with_the_place_where_it_stands(tmp_path, monkeypatch):
    of_ledger = {"label_usd": 0.0, "platform": "local", "stated": []}
    (tmp_path / "workbench.toml").write_text('platform = "nowhere"')
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(tmp_path / "workbench.toml"))
    with pytest.raises(UsageError, match=r"platform in .*workbench.toml: no offer is called 'nowhere'"):
        prices.offer_of(None, of_ledger)
    monkeypatch.setenv("WORKBENCH_PLATFORM", "elsewhere")
    with pytest.raises(UsageError, match="the environment variable WORKBENCH_PLATFORM: no offer is called 'elsewhere'"):
        prices.offer_of(None, of_ledger)


def test_what_a_study_states_survives_its_loading(tiny, tmp_path):
    assert load(stating(tiny, tmp_path, trials=7)).stated == {"recipe", "maximize", "trials"}
    text = stating(tiny, tmp_path, trials=7).read_text()
    (tmp_path / "wrong.py").write_text(text.replace("trials=7", "trails=7"))
    with pytest.raises(StudyError, match=r"'trails'.*Did you mean 'trials'"):
        load(tmp_path / "wrong.py")


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("WORKBENCH_TRIALS", "many", "the environment variable WORKBENCH_TRIALS: 'many' is not a whole number."),
        ("WORKBENCH_TRIALS", "0", "WORKBENCH_TRIALS: 0 is too small: give a number of at least 1."),
        ("WORKBENCH_TRIALS", "9000000000", "9000000000 is too large: give a number of at most 1000000000."),
        ("WORKBENCH_MAX_USD", "-1", "the environment variable WORKBENCH_MAX_USD"),
        ("WORKBENCH_CONFIRM_SHARE", "2", "the environment variable WORKBENCH_CONFIRM_SHARE"),
        ("WORKBENCH_QUIET", "perhaps", "WORKBENCH_QUIET"),
    ],
)
def test_a_wrong_variable_is_named(command, monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    code, out, err = command("sweep", "x.py")
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("text", ["²", "+-5", "1e400", "nan", "inf"])
def test_what_is_no_number_or_none_that_a_float_holds_is_refused(monkeypatch, text):
    monkeypatch.setenv("WORKBENCH_LABEL_USD", text)
    with pytest.raises(UsageError, match="the environment variable WORKBENCH_LABEL_USD must be a number, 0 or more; got"):
        settings.in_environment("label_usd")


@pytest.mark.parametrize(
    "file, text, said",
    [
        ("workbench.toml", "trials = 0", "workbench.toml: trials must be a whole number above 0; got 0"),
        ("workbench.toml", "trails = 1", "there is no setting 'trails'. Did you mean 'trials'"),
        ("workbench.toml", "confirm_share = 1", "confirm_share must be a share above 0, below 1"),
        ("pyproject.toml", "[tool.workbench]\nworkers = true", "pyproject.toml, [tool.workbench]: workers must be"),
        ("pyproject.toml", "[tool]\nworkbench = 1", "[tool.workbench] is a table"),
    ],
)
def test_a_wrong_file_is_named(command, tmp_path, file, text, said):
    (tmp_path / file).write_text(text)
    code, out, err = command("sweep", "x.py")
    assert (code, out) == (2, "")
    assert said in err
    assert command("sweep", "--help")[0] == command("--help")[0] == 0


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("storage", "here", "'here' is not a database URL"),
        ("platform", "nowhere", "no offer is called 'nowhere'"),
        ("sampler", "optuna:Best", "there is no sampler 'optuna:Best'"),
    ],
)
def test_what_is_wrong_in_a_value_is_said_with_its_place(command, tiny, tmp_path, monkeypatch, name, value, said):
    words = ("sweep", stating(tiny, tmp_path))
    flag = f"--{name}"
    assert said in command(*words, flag, value)[2]
    (tmp_path / "workbench.toml").write_text(f'{name} = "{value}"')
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert f"{name} in {tmp_path / 'workbench.toml'}: {said}" in err
    monkeypatch.setenv(f"WORKBENCH_{name.upper()}", value)
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert f"the environment variable WORKBENCH_{name.upper()}: {said}" in err


def test_a_pyproject_of_others_says_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.other]\ntrials = 3")
    assert settings.load().options == {}
    assert settings.load().path is None


def test_every_setting_is_an_option_of_the_sweep():
    from workbench.cli.sweep import sweep

    known = {param.name for param in sweep.params if isinstance(param, options.Setting)}
    assert known == set(settings.OPTIONS)


# Beginning


def test_init_writes_a_study_that_loads_and_overwrites_nothing(command, tmp_path):
    code, out, err = command("init", "studies/mine.py")
    assert (code, out) == (0, "")
    assert err.endswith("Next: `workbench plan studies/mine.py`\n")
    study = load(tmp_path / "studies" / "mine.py")
    assert study.stated == {"recipe", "maximize", "minimize", "trials"}
    assert set(study.dimensions) == {
        "task.train",
        "model",
        "method",
        *(f"{m}.learning_rate" for m in ("full", "bitfit", "lora")),
        "lora.r",
    }
    assert study.question.startswith("Which small encoder")
    (tmp_path / "studies" / "mine.py").write_text("mine")
    code, out, err = command("init", "studies/mine.py")
    assert (code, out) == (2, "")
    assert "is there already, and nothing was written" in err
    assert (tmp_path / "studies" / "mine.py").read_text() == "mine"
    assert command("init", "study")[0] == command("init", "studies/mine.py/other.py")[0] == 2


def test_its_comments_are_true(tmp_path):
    """What is commented out can be put in."""
    path = tmp_path / "all.py"
    path.write_text(
        STUDY.replace("    # label_usd", "    label_usd")
        .replace("    # max_usd", "    max_usd")
        .replace("    # platform", "    platform")
    )
    study = load(path)
    assert (study.label_usd, study.max_usd, study.platform) == (0.05, 1.0, "aws:g5.xlarge")


def test_a_bare_name_finds_the_study_file_below(command, tmp_path):
    command("init", "studies/mine.py")
    assert "Did you mean 'studies/mine.py'" in command("sweep", "mine")[2]


# Completion


def test_commands_and_options_are_completed():
    assert complete("s") == ["sweep", "status", "serve"]
    assert "--max-usd" in complete("sweep", "--max")
    assert "--no-progress" in complete("front", "--no")
    assert complete("export", "x", "p") == ["parquet"]


def test_study_files_and_studies_are_completed(swept, command, tmp_path, monkeypatch):
    command("init", "tinier.py")
    command("init", "below/other.py")
    (tmp_path / "note.py").write_text("# no study = Study(")
    monkeypatch.setenv("WORKBENCH_STORAGE", default_url(swept[0]))
    assert complete("sweep", "") == ["tinier.py", "below/other.py"]
    assert complete("sweep", "below/") == ["below/other.py"]
    assert complete("front", "ti") == ["tinier.py", "tiny", *Ledger.names(default_url(swept[0]))]
    assert complete("front", "--platform", "aws") == ["aws"]
    assert all(word.startswith("aws:g5") for word in complete("front", "--platform", "aws:g5"))


def test_runs_are_completed(in_swept, command):
    trials = [str(run["trial"]) for run in json.loads(command("runs", "--json")[1])]
    assert sorted(complete("run", "")) == sorted(trials)
    assert complete("run", trials[1]) == [t for t in trials if t.startswith(trials[1])]
    assert sorted(complete("retry", "tiny.py", trials[0], "")) == sorted(trials[1:])
    assert complete("run", "9") == []


def test_completion_is_never_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complete("run", "") == []
    (tmp_path / "optuna.db").write_text("notes of mine")
    (tmp_path / "workbench.toml").write_text("wrong")
    assert complete("run", "") == complete("front", "x") == complete("front", "--platform", "a") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_for_a_shell(command, shell):
    code, out, err = command("completion", shell)
    assert (code, err) == (0, "")
    assert f"_WORKBENCH_COMPLETE={shell}_complete" in out
    assert out == CliRunner().invoke(cli, env={"_WORKBENCH_COMPLETE": f"{shell}_source"}, prog_name="workbench").output


# How it stands


def test_status(in_swept, command):
    code, out, err = command("status", "tiny")
    assert code == 0
    assert "The sweep ended: 3 of 3 trials are done." in out
    assert err == "Next: `workbench front tiny`\n"
    code, out, err = command("status", "--json")
    record = json.loads(out)
    assert (code, err, record["state"], record["runs"], record["workers"]) == (0, "", "ended", 3, [])
    assert record["spent"]["usd"] > 0


def test_where_a_person_stopped_a_sweep_it_goes_on_next(in_swept, command):
    ledger = Ledger.find("tiny", default_url(in_swept))
    before = ledger.ended
    try:
        ledger.note_end("stopped by Ctrl-C", interrupted=True)
        assert command("status", "tiny")[2].startswith("Next: `workbench sweep tiny.py")
    finally:
        ledger.note_end(before["reason"], what=before["what"])


def test_what_was_imported_is_not_swept(command, tmp_path):
    described = {"question": "Q?", "maximize": "f1", "minimize": ["usd"], "label_usd": 0.0, "platform": "local"}
    described |= {"reference": {"f1": 0.0, "usd": 1.0}}
    ImportedLedger.open_imported("theirs-1234", described, default_url(tmp_path))
    code, out, err = command("status", "theirs")
    assert (code, out) == (0, "Q?\ntheirs-1234 was imported: no sweep works on it.\n")
    assert err == "Next: `workbench front theirs`\n"
    code, out, err = command("retry", "theirs")
    assert (code, out) == (3, "")
    assert "theirs-1234 was imported: there is no study to run again" in err


def test_a_run_that_was_meant_is_named(in_swept, command):
    run_id = json.loads(command("runs", "--json")[1])[0]["run_id"]
    assert command("run", run_id[:6])[0] == 0
    wrong = run_id[:5] + ("x" if run_id[5] != "x" else "y") + run_id[6:8]
    code, out, err = command("run", wrong)
    assert (code, out) == (2, "")
    assert f"Did you mean '{run_id[:8]}'" in err
    assert "Its runs are trials 0, " in command("run", "99")[2]


# Export


def table(command, *words):
    code, out, err = command("export", "tiny", *words)
    assert (code, err) == (0, "")
    return out


def test_export_has_a_row_for_every_result_and_the_units_in_its_columns(in_swept, command):
    results = Ledger.find("tiny", default_url(in_swept)).results()
    rows = list(csv.DictReader(io.StringIO(table(command, "csv"))))
    assert [row["number"] for row in rows] == [str(r.number) for r in results]
    assert float(rows[0]["score_accuracy"]) == results[0].scores["accuracy"]
    assert float(rows[0]["train_seconds"]) == results[0].usage["train"].seconds
    assert {"usd", "seconds", "energy_j", "grams_co2e", "peak_memory_bytes", "spent_seconds", "setting_method"} <= set(rows[0])
    assert not [name for name in rows[0] if name in ("cost", "time", "memory", "energy")]
    points = {p["recipe_id"]: p for p in json.loads(command("front", "--json")[1])["points"]}
    for row in rows:
        assert float(row["usd"]) == points[row["recipe_id"]]["usd"]
        assert (row["on_front"] == "True") == points[row["recipe_id"]]["on_front"]
    dear = list(csv.DictReader(io.StringIO(table(command, "csv", "--label-usd", "1"))))
    assert float(dear[0]["usd"]) - float(rows[0]["usd"]) == pytest.approx(int(rows[0]["labels"]))


def test_all_formats_hold_the_same(in_swept, command, tmp_path):
    rows = json.loads(table(command, "json"))
    assert len({tuple(row) for row in rows}) == 1
    code, out, err = command("export", "tiny", "parquet", "--output", tmp_path / "runs.parquet")
    assert (code, out) == (0, "")
    assert "Next: " in err
    read = pd.read_parquet(tmp_path / "runs.parquet")
    assert read.columns.tolist() == list(rows[0])
    assert read["number"].tolist() == [row["number"] for row in rows]
    assert str(read["labels"].dtype).lower() == "int64"
    assert read["usd"].tolist() == [row["usd"] for row in rows]


def test_a_page_needs_no_network(in_swept, command, tmp_path):
    assert command("export", "tiny", "html", "-o", tmp_path / "front.html")[0] == 0
    text = (tmp_path / "front.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    assert 'src="http' not in text


def test_a_file_that_cannot_be_written_is_said(in_swept, command, tmp_path):
    for words in (("export", "tiny", "csv", "--output"), ("front", "--html")):
        code, out, err = command(*words, tmp_path / "nowhere" / "file")
        assert (code, out) == (4, "")
        assert "cannot be written: No such file or directory. Name another file." in err


def test_a_column_of_mixed_settings_is_text(tmp_path):
    from workbench.cli.export import _table

    made = _table([{"a": 1, "b": 4, "c": None}, {"a": None, "b": "all", "c": None}])
    assert str(made["a"].dtype) == "Int64"
    assert made["b"].tolist() == ["4", "all"]
    made.to_parquet(tmp_path / "mixed.parquet")


# What a terminal lacks


def test_nothing_moves_where_that_was_asked(monkeypatch):
    monkeypatch.setattr(messages, "_force_terminal", True)
    assert messages.moves
    for words in (["--no-progress", "runs"], ["-q", "runs"]):
        with cli.make_context("workbench", words):
            assert not messages.moves
        assert messages.moves
    monkeypatch.setenv("WORKBENCH_NO_PROGRESS", "1")
    with cli.make_context("workbench", ["runs"]):
        assert not messages.moves


def test_colour_is_left_out_where_that_was_asked(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")
    assert terminal.is_coloured()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.is_coloured()


def test_letters_that_a_terminal_lacks_are_written_plainly():
    terminal.write_what_it_can()
    assert "×/÷ 3 … ≥ 2 中".encode("ascii", "workbench") == b"x// 3 ... >= 2 ?"


@pytest.mark.skipif(sys.platform == "win32", reason="other terminals")
def test_a_terminal_without_unicode_and_a_narrow_one(in_swept):
    script = Path(sys.executable).with_name("workbench")
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "COLUMNS": "20"}
    done = subprocess.run([script, "front", "tinny…"], cwd=in_swept, env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"holds no study 'tinny...'. Did you mean 'tiny'" in done.stderr


@pytest.mark.parametrize(("load", "in_use", "warned"), [(999.0, 500.0, True), (999.0, 0.0, False), (0.0, 500.0, False)])
def test_a_machine_that_was_busy_a_moment_ago_is_not_called_busy(monkeypatch, load, in_use, warned):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    readings, here, measure = iter((0.0, in_use)), threading.get_ident(), host.cpu_time
    # A meter that another test left open reads it too, from its own thread.
    monkeypatch.setattr(host, "cpu_time", lambda: host.CpuTime(next(readings)) if threading.get_ident() == here else measure())
    with messages.capture() as said:
        assert warn_if_busy() == warned
    assert ("This machine is busy" in said.get()) == warned


def test_a_sweep_that_was_stopped_is_told_to_go_on_within_the_same_limits(tmp_path, monkeypatch):
    file = tmp_path / "a study.py"
    file.write_text(STUDY)
    words = [str(file), "--trials", "4", "--max-usd", "0.5", "--yes"]
    monkeypatch.setattr(sys, "argv", ["workbench", "sweep", *words])
    with cli.get_command(cli.make_context("workbench", ["sweep"]), "sweep").make_context("sweep", words):
        following = spending._following(None, [], None, Limits(max_usd=0.5), "sweep")
    assert following == f"`workbench sweep '{file}' --trials 4 --max-usd 0.5 --yes` goes on"


def test_a_worker_joins_a_sweep_that_has_noted_its_beginning_while_the_worker_prepared(command, monkeypatch, study_file):
    from workbench.cli import worker as module
    from workbench.sweep import Outcome

    seen, storage = [], "sqlite:///optuna.db"

    def meanwhile(study, *_):
        Ledger.open(study, storage).note_begin(dataclasses.asdict(Limits(trials=2, max_usd=0.5)), "the sweep's id")

    def joined(setup, asked, sweep_id):
        seen.append((setup.limits, sweep_id))
        return Outcome([], "a test", False), 0

    monkeypatch.setattr(module, "check_study", lambda study: None)
    monkeypatch.setattr(module, "forecaster_of", meanwhile)
    monkeypatch.setattr(module, "_joined", joined)
    assert command("worker", study_file.name, "--storage", storage)[0] == 0
    assert command("worker", study_file.name, "--storage", storage, "--trials", "9")[0] == 0
    assert seen == [(Limits(trials=trials, max_usd=0.5), "the sweep's id") for trials in (2, 9)]
