"""A thousand bad inputs: each is refused in words, none with a traceback, none in silence."""

import contextlib
import os
import shutil
import sys
import warnings
from pathlib import Path

import bad_inputs
import pytest
import sweeps

from workbench import forecast
from workbench.cli import main
from workbench.data import load
from workbench.errors import WorkbenchError
from workbench.study import load as load_study
from workbench.sweep import check_data

pytestmark = pytest.mark.slow

INPUTS = bad_inputs.everything()


class Started(BaseException):
    """A sweep was begun: what it was given was taken for good."""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder in which everything is right: a study, its data, its model, and a store of another study."""
    from workbench.testing import tiny_model

    folder = tmp_path_factory.mktemp("good")
    tiny_model(folder / "tiny")
    (folder / "s.py").write_text(bad_inputs.STUDY, encoding="utf-8")
    bad_inputs.write_rows(folder / "d.jsonl", bad_inputs.rows())
    sweeps.ledger_of(folder, sweeps.numbered(sweeps.sweep(3)), ended="all trials are done")
    return folder


@pytest.fixture
def place(good, tmp_path, monkeypatch):
    """Makes a fresh copy of it the current folder."""

    def fresh():
        here = tmp_path / "here"
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(good, here)
        monkeypatch.chdir(here)
        forget()
        return here

    return fresh


def forget():
    """What is kept in memory by name would be of the folder before."""
    from workbench.data import readers
    from workbench.tasks import QuestionAnswering, tables

    for cached in (readers.load, *vars(tables).values(), *vars(sys.modules[QuestionAnswering.__module__]).values()):
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


def checked(bad, folder):
    """Have the part that meets such an input read it; what it says."""
    if bad.words is not None:
        return said_by_command(bad.words)
    if bad.kind == "data":
        file = next(p for p in folder.iterdir() if p.stem == "d")
        load(str(file))
        return ""
    study = load_study("s.py")
    forecast.check(study)
    check_data(study)
    return ""


def said_by_command(words):
    with (
        pytest.MonkeyPatch.context() as patch,
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        patch.setattr(sys, "argv", ["workbench", *words])
        patch.setattr("workbench.cli.sweep.work", begin)
        try:
            main()
        except SystemExit as end:
            if end.code == 0:
                return ""
            raise WorkbenchError(f"exit code {end.code}") from None


def begin(*_, **__):
    raise Started


def verdict(bad, folder):
    """`refused`, `accepted`, or how it went wrong."""
    bad.make(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checked(bad, folder)
    except WorkbenchError as error:
        return "refused" if str(error).strip() else "refused without a word"
    except Started:
        pass
    except BaseException as error:  # every kind of it is a traceback to its user
        return f"{type(error).__name__}: {error}"[:200]
    return "accepted, and is bad" if bad.surely else "accepted"


@pytest.mark.parametrize("kind", sorted({bad.kind for bad in INPUTS}))
def test_bad_inputs_are_refused_in_words(kind, place):
    assert len(INPUTS) >= 1000
    mine = [bad for bad in INPUTS if bad.kind == kind]
    verdicts = {bad.name: verdict(bad, place()) for bad in mine}
    wrong = {name: told for name, told in verdicts.items() if told not in ("refused", "accepted")}
    assert not wrong, "\n".join(f"{name}: {told}" for name, told in wrong.items())


def test_what_they_are_made_from_is_good(place):
    folder = place()
    good = bad_inputs.Bad("study", "nothing", lambda folder: None)
    assert verdict(good, folder) == "accepted, and is bad"
    assert len(load("d.jsonl").train) > 8
    for words in (("front", "qa"), ("status", "qa"), ("runs", "qa"), ("export", "qa", "csv")):
        assert said_by_command(words) == "", words
