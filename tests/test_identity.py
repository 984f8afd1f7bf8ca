"""What a result depends on is known by its content: data, the model's files, the task's code, the form of its method."""

import csv
import io
import json
import os
import random
import shutil
import textwrap
import time
from pathlib import Path

import pytest

from workbench import Recipe, bitfit, full, methods, peft
from workbench.data import fingerprints, hub, readers
from workbench.errors import DataError, EnvironmentFault
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger import Ledger, default_url
from workbench.result import Cause, Result, originals, spending
from workbench.result.outdated import outdated_text
from workbench.study import load
from workbench.sweep import Limits
from workbench.tasks import question_answering, source
from workbench.testing import TinyTask
from workbench.tracking import store

WORDS = ["Ada", "Bert", "Cleo", "Dora", "Egon", "Fay"]


def write_data(path: Path, seed: int = 1, count: int = 60) -> None:
    """Questions whose answers are drawn anew for each seed, in a file of always the same size."""
    rng, rows = random.Random(seed), []
    for i in range(count):
        names = rng.sample([f"w{n}" for n in range(10, 60)], 6)
        rows.append(
            {"id": f"q{i}", "question": f"w5 w{i % 50 + 10}", "context": f"w6 {i} " + " ".join(names)}
            | {"answers": {"text": [names[2]], "answer_start": [len(f"w6 {i} ") + sum(len(n) + 1 for n in names[:2])]}}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settle(path)


def settle(path: Path, seconds: float = 60.0) -> None:
    """As if it was last changed a while ago, each time another one."""
    now = time.time() - seconds + random.random()
    os.utime(path, (now, now))


def write_study(
    path: Path, model: str, task: str = 'question_answering("d.jsonl", train=16, dev=8, test=8, max_length=32, stride=4)'
) -> Path:
    path.write_text(
        textwrap.dedent(f"""
        from workbench import Recipe, Study, full
        from workbench.tasks import question_answering
        from workbench.testing import TinyTask

        study = Study(
            Recipe(task={task}, model={model!r}, method=full(learning_rate=1e-3), epochs=1, batch_size=8),
            maximize={"accuracy" if "Tiny" in task else "f1"!r}, minimize="usd", trials=1,
        )
        """),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def place(tmp_path, tiny, monkeypatch):
    """A folder with a study of a file and of a model's folder, both its own."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    fingerprints.look_again()
    shutil.copytree(tiny, tmp_path / "model")
    write_data(tmp_path / "d.jsonl")
    write_study(tmp_path / "s.py", "./model")
    yield tmp_path
    fingerprints.look_again()


def spoil(folder: Path) -> None:
    """Other weights of the same size."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4:] = b"\x00\x00\x00\x3f" if content[-4:] != b"\x00\x00\x00\x3f" else b"\x00\x00\x80\x3f"
    path.write_bytes(content)


# Ids


def test_ids_of_recipes_whose_names_say_all_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed before there was more than the data's digest in them: ledgers hold them."""
    monkeypatch.setitem(fingerprints._fixed, ("data", "pydocs"), "d46c7f77a7ae310f")
    study = load(Path(__file__).parents[1] / "studies" / "qa.py")
    monkeypatch.setitem(fingerprints._fixed, ("data", "pydocs"), "d46c7f77a7ae310f")
    common = {"model": "minilm-l3", "task.train": 256, "epochs": 1}
    pinned = {
        "full": ({"full.learning_rate": 0.0003494554804760667}, "ba80fdf0a01d0127", "0314beeddcd7c0a6"),
        "bitfit": ({"bitfit.learning_rate": 0.013978219219042671}, "3f1b677b3f9a6b04", "b79e7735de032aa5"),
    }
    for method, (settings, recipe_id, run_id) in pinned.items():
        recipe = study.resolve({**common, "method": method, **settings})
        assert (recipe.id, recipe.run_id, recipe.inputs) == (recipe_id, run_id, {"data": "d46c7f77a7ae310f"})
    lora = study.resolve({**common, "method": "lora", "lora.learning_rate": 0.0014888392148097052, "lora.r": 16})
    assert lora.run_id != "59ec4a5f9af11b2e"  # PEFT's methods are given segment ids since
    assert lora.inputs == {"data": "d46c7f77a7ae310f", "method": 1}


def test_a_method_has_a_revision() -> None:
    assert [methods.revision(m) for m in (full(learning_rate=1), bitfit(learning_rate=1), peft("lora", learning_rate=1))] == [
        0,
        0,
        1,
    ]


# Data


def test_data_are_known_by_their_content_and_read_once(place, monkeypatch) -> None:
    monkeypatch.setattr(fingerprints, "_SETTLING_SECONDS", -60.0)  # files made by a test are all new
    before = fingerprints.data("d.jsonl")
    assert before == readers.load("d.jsonl").digest
    fingerprints.look_again()
    real = readers.load
    monkeypatch.setattr(readers, "load", lambda name: pytest.fail("read again"))
    assert fingerprints.data("d.jsonl") == before  # from the cache's memory
    settle(place / "d.jsonl", 500)
    monkeypatch.setattr(readers, "load", real)
    fingerprints.look_again()
    assert fingerprints.data("d.jsonl") == before  # another time is no other content
    write_data(place / "d.jsonl", seed=2)
    assert fingerprints.data("d.jsonl") == before  # as long as a study stays loaded it is what was read
    fingerprints.look_again()
    assert fingerprints.data("d.jsonl") != before


def test_a_change_of_equal_size_and_time_is_seen(place, monkeypatch) -> None:
    monkeypatch.setattr(fingerprints, "_SETTLING_SECONDS", -60.0)
    path = place / "d.jsonl"
    before, stat = fingerprints.data("d.jsonl"), path.stat()
    path.write_text(path.read_text().replace('"question": "w5', '"question": "w7'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    fingerprints.look_again()
    assert fingerprints.data("d.jsonl") != before


def test_what_changed_just_now_is_not_remembered(place) -> None:
    (place / "d.jsonl").touch()
    fingerprints.data("d.jsonl")
    assert not list(place.glob("cache/fingerprints/*"))


def test_examples_are_those_of_the_digest(place) -> None:
    task = question_answering("d.jsonl", train=16, dev=8, test=8)
    first = [e["context"] for e in task.splits().train]
    write_data(place / "d.jsonl", seed=2)
    assert [e["context"] for e in task.splits().train] == first  # read already
    readers.load.cache_clear()
    with pytest.raises(DataError, match="changed while this command was at work"):
        question_answering("d.jsonl", train=16, dev=8, test=8, seed=1).splits()
    fingerprints.look_again()
    assert [e["context"] for e in task.splits().train] != first


def test_a_folder_of_data_and_a_cache_that_cannot_be_written(place, monkeypatch) -> None:
    (place / "data").mkdir()
    write_data(place / "data" / "train.jsonl")
    before = fingerprints.data("data")
    write_data(place / "data" / "dev.jsonl", seed=3, count=20)
    monkeypatch.setenv("WORKBENCH_CACHE", str(place / "d.jsonl" / "no"))
    fingerprints.look_again()
    assert fingerprints.data("data") != before


# Models


def test_a_model_folder_is_known_by_what_is_loaded_from_it(place) -> None:
    def now() -> str:
        fingerprints.look_again()
        return fingerprints.model("./model")

    before = now()
    assert before
    assert before == now()
    for name in ("README.md", ".cache", "optimizer.pt", "trainer_state.json", "LICENSE"):
        (place / "model" / name).write_text("nothing that is loaded")
    (place / "model" / "checkpoint-1").mkdir()
    settle(place / "model" / "model.safetensors")
    assert now() == before
    spoil(place / "model")
    spoiled = now()
    assert spoiled != before
    config = place / "model" / "config.json"
    config.write_text(config.read_text().replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-11'))
    assert now() not in (before, spoiled)
    spoil(place / "model")
    with pytest.raises(EnvironmentFault, match="changed while this command was at work"):
        fingerprints.check_model("./model")
    assert fingerprints.model("minilm-l3") == ""
    assert fingerprints.model("./not-there") == ""


def test_a_name_on_the_hub_is_known_by_its_commit(monkeypatch) -> None:
    fingerprints.look_again()
    monkeypatch.setattr(hub, "commit", lambda name, revision: f"commit of {name} {revision}")
    assert fingerprints.model("owner/name") == "commit of owner/name None"
    assert fingerprints.model("owner/name@v1") == "commit of owner/name v1"
    assert fingerprints.model(f"owner/name@{'a' * 40}") == ""  # the name says it
    fingerprints.look_again()


def test_a_commit_that_cannot_be_told_is_empty() -> None:
    assert hub.commit("no-such-owner/no-such-name") == ""


# Code

OWN = '''
"""A study with a task of its own."""

from dataclasses import dataclass
from typing import ClassVar

import helpers
from parts.more import bonus as extra
from workbench import Recipe, Study, full
from workbench.testing import TinyTask

SCALE = 1.0
UNUSED = 3


def unused():
    return UNUSED


def scaled(x):
    return x * SCALE


@dataclass(frozen=True)
class Own(TinyTask):
    """Its own scores."""

    def score(self, examples, predictions):
        # as it is
        found = super().score(examples, predictions)
        return {name: scaled(value) + helpers.bonus() + extra() for name, value in found.items()}


study = Study(Recipe(task=Own(train=32), model=MODEL, method=full(learning_rate=1e-3), epochs=1, batch_size=8),
              maximize="accuracy", minimize="usd", trials=1)
'''


@pytest.fixture
def own(tmp_path, tiny, monkeypatch):
    """Writes a study with a task of its own, with changes; gives the code's fingerprint."""
    import sys

    (tmp_path / "helpers.py").write_text("def bonus():\n    return 0.0\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "more.py").write_text(
        "from .deep import ZERO\n\n\ndef bonus():\n    return ZERO\n\n\ndef other():\n    return 1\n"
    )
    (tmp_path / "parts" / "deep.py").write_text("ZERO = 0.0\n")
    monkeypatch.chdir(tmp_path)

    def forget() -> None:
        for name in ("helpers", "parts", "parts.more", "parts.deep"):
            sys.modules.pop(name, None)

    def write(old: str = "", new: str = "", file: str = "own.py") -> str:
        if file == "own.py":
            assert old in OWN
            (tmp_path / file).write_text(
                OWN.replace("MODEL", repr(tiny)).replace(old, new, 1) if old else OWN.replace("MODEL", repr(tiny))
            )
        else:
            text = (tmp_path / file).read_text()
            assert old in text
            (tmp_path / file).write_text(text.replace(old, new, 1))
        forget()
        return str(load(tmp_path / "own.py").recipe.task and source.fingerprint(load(tmp_path / "own.py").recipe.task))

    yield write
    forget()  # the dashboard has modules of these names


@pytest.mark.parametrize(
    ("old", "new", "file"),
    [
        ("# as it is", "# as it was, but longer", "own.py"),
        ('"""Its own scores."""', '"""What it is called."""', "own.py"),
        ("found = super()", "found  =  super()", "own.py"),
        ("UNUSED = 3", "UNUSED = 4", "own.py"),
        ("trials=1", "trials=2", "own.py"),
        ("return 1\n", "return 2\n", "parts/more.py"),
        ("def bonus():", "def bonus():\n    # nothing", "helpers.py"),
    ],
)
def test_what_a_task_does_not_run_by_changes_no_fingerprint(own, old, new, file) -> None:
    before = own()
    assert len(before) == 16
    assert own(old, new, file) == before


@pytest.mark.parametrize(
    ("old", "new", "file"),
    [
        ("+ extra()", "- extra()", "own.py"),
        ("return x * SCALE", "return x / SCALE", "own.py"),
        ("SCALE = 1.0", "SCALE = 0.5", "own.py"),
        ("return 0.0", "return 1.0", "helpers.py"),
        ("return ZERO", "return ZERO + 1", "parts/more.py"),
        ("ZERO = 0.0", "ZERO = 1.0", "parts/deep.py"),
    ],
)
def test_what_a_task_runs_by_changes_its_fingerprint(own, old, new, file) -> None:
    assert own() != own(old, new, file)


def test_code_of_workbench_has_no_fingerprint_and_code_without_a_file_has_one() -> None:
    assert source.fingerprint(TinyTask()) == source.fingerprint(question_answering("d", train=1)) == ""
    made: dict[str, object] = {"__name__": "nowhere"}
    text = "from workbench.testing import TinyTask\nclass Made(TinyTask):\n    def digest(self):\n        return {!r}\n"
    exec(text.format("a"), made)
    first = source.fingerprint(made["Made"]())  # type: ignore[operator]
    exec(text.format("b"), made)
    assert first
    assert first != source.fingerprint(made["Made"]())


# The ledger


def written(ledger: Ledger, study, **changes) -> Result:
    recipe: Recipe = study.resolve({})
    from workbench import prices
    from workbench.usage import Usage

    usage = {"train": Usage(seconds=1.0)}
    known = {"recipe_id": recipe.id, "run_id": recipe.run_id, "recipe": recipe.to_json(), "settings": {}, "status": "complete"}
    known |= {"inputs": recipe.inputs, "scores": {"f1": 50.0}, "usage": usage, "spent": usage, "labels": 8, "started": time.time()}
    result = Result(**(known | changes))
    lease = ledger.lease(study, result)
    assert lease is not None
    return ledger.finish(lease, result, study, prices.find(study.platform))


def test_results_of_other_inputs_are_on_the_bill_and_nothing_else(place) -> None:
    study, url = load("s.py"), default_url(place)
    ledger = Ledger.open(study, url)
    written(ledger, study)
    ledger.note_inputs()
    write_data(place / "d.jsonl", seed=2)
    spoil(place / "model")
    study = load("s.py")
    for now in (Ledger.open(study, url), Ledger.find("s", url, study=study, read_only=True)):
        (result,) = now.results()
        assert result.outdated == ("data", "model")
        assert now.read().results == [result]
        assert now.changed_since == ["data", "model"]
        assert originals([result]) == []
        assert pareto_front([result], View.of(now.description, now_offer(), 0.0)) == []
        assert Limits(trials=1).done([result]) == ""
        assert spending([result], now_offer(), 0.0).seconds == 1.0
        assert "outdated" not in result.to_json()
        assert outdated_text([result]) == (
            "1 result is of other inputs (the data changed, the model's files changed) and left off the front; "
            "what it cost stays on the bill."
        )
    asleep = Ledger.find("s", url)
    assert [r.outdated for r in asleep.results()] == [()]  # as the last sweep knew it
    Ledger.open(study, url).note_inputs()
    assert [r.outdated for r in asleep.results()] == [("data", "model")]  # the same reader, once it was noted
    write_data(place / "d.jsonl", seed=1)
    (place / "model" / "model.safetensors").unlink()
    assert [r.outdated for r in Ledger.find("s", url, study=load("s.py")).results()] == [("model",)]
    (place / "d.jsonl").unlink()
    gone = Ledger.find("s", url, study=load("s.py"))
    assert [r.outdated for r in gone.results()] == [("data", "model")]  # what was noted is believed
    assert "there is no file" in gone.unseen


def test_results_made_before_there_were_fingerprints(place, tiny) -> None:
    """Their data have a digest; a folder's content or a PEFT method's form is in no id of theirs."""
    study, url = load(write_study(place / "s.py", "minilm-l2")), default_url(place)
    ledger = Ledger.open(study, url)
    digest = {"data_digest": study.recipe.task.digest()}
    written(ledger, study, inputs={}, provenance=digest)
    assert [r.outdated for r in ledger.results()] == [()]
    assert [r.outdated for r in Ledger.find("s", url).results()] == [()]
    folder = load(write_study(place / "f.py", "./model"))
    ledger = Ledger.open(folder, url)
    written(ledger, folder, inputs={}, provenance=digest, run_id="an older id")
    written(ledger, folder, inputs={}, provenance=digest)
    assert [r.outdated for r in ledger.results()] == [("model",), ()]
    ledger.note_inputs()
    assert [r.outdated for r in Ledger.find("f", url).results()] == [("model",), ()]
    lora = place / "l.py"
    text = (place / "s.py").read_text()
    lora.write_text(text.replace("full(", 'peft("lora", ').replace(", full", ", peft"))
    wrapped = load(lora)
    ledger = Ledger.open(wrapped, url)
    written(ledger, wrapped, inputs={}, provenance=digest, run_id="an older id")
    assert [r.outdated for r in ledger.results()] == [("method",)]
    assert [r.outdated for r in Ledger.find("l", url).results()] == [("method",)]


def test_an_older_form_of_a_study_hands_on_what_is_of_its_inputs(place) -> None:
    study, url = load("s.py"), default_url(place)
    written(Ledger.open(study, url), study)
    text = (place / "s.py").read_text()
    (place / "s.py").write_text(text.replace('"usd"', '"seconds"'))
    assert len(Ledger.open(load("s.py"), url).results()) == 1
    write_data(place / "d.jsonl", seed=2)
    (place / "s.py").write_text(text.replace('"usd"', '("usd", "seconds")'))
    assert Ledger.open(load("s.py"), url).results() == []


# The commands


def agree(command, place: Path, points: list[int], outdated: int) -> None:
    """All commands, by file and by stem, know the same points, and leave off as many results."""
    for name in ("s.py", "s"):
        code, out, _ = command("front", name, "--json")
        record = json.loads(out)
        assert [p["trial"] for p in record["points"]] == points
        assert record["outdated"]["results"] == outdated
        assert code == (0 if points else 1)
        _, _, err = command("front", name)
        assert ("of other inputs" in err) == bool(outdated)
        told = json.loads(command("status", name, "--json")[1])
        assert (told["runs"], told["points"], told["outdated"]) == (len({*points}), len(points), outdated)
        assert ("of other inputs" in command("status", name)[1]) == bool(outdated)
        listed = json.loads(command("runs", name, "--json")[1])
        assert sorted({e["trial"] for e in listed if not e["outdated"]}) == sorted({*points})
        rows = list(csv.DictReader(io.StringIO(command("export", name, "csv")[1])))
        assert sum(bool(row["outdated"]) for row in rows) == outdated
        assert not any(row["on_front"] == "True" and row["outdated"] for row in rows)


def sweep(command, *more) -> str:
    code, _, err = command("sweep", "s.py", "--no-progress", "--sampler", "optuna:RandomSampler", *more)
    assert code == 0, err
    return err


@pytest.mark.slow
def test_edited_data_are_other_data_and_the_old_ones_come_back(place, command) -> None:
    sweep(command)
    first = json.loads(command("front", "s.py", "--json")[1])
    points = [p["trial"] for p in first["points"]]
    agree(command, place, points, 0)
    write_data(place / "d.jsonl", seed=2)
    code, _out, err = command("front", "s.py")
    assert code == 1
    assert "Since the last sweep the data changed." in err
    assert "of other inputs (the data changed)" in err
    assert "the data changed" in command("confirm", "s.py", "--yes")[2]
    err = sweep(command)
    assert "Nothing to do" not in err
    assert "of other inputs (the data changed)" in err
    second = json.loads(command("front", "s", "--json")[1])
    assert not {p["recipe_id"] for p in second["points"]} & {p["recipe_id"] for p in first["points"]}
    assert second["spent_usd"] > first["spent_usd"]
    agree(command, place, [p["trial"] for p in second["points"]], len(points))
    settle(place / "d.jsonl", 900)
    assert "Nothing to do" in sweep(command)
    write_data(place / "d.jsonl", seed=1)
    assert "Nothing to do" in sweep(command)  # nothing is paid twice
    agree(command, place, points, len(second["points"]))
    third = json.loads(command("front", "s", "--json")[1])
    assert third["spent_usd"] == second["spent_usd"]
    assert third["points"] == first["points"]
    assert command("confirm", "s.py", "--yes", "--seeds", "1")[0] == 0


@pytest.mark.slow
def test_replaced_weights_are_another_model(place, command) -> None:
    sweep(command)
    first = json.loads(command("front", "s.py", "--json")[1])
    spoil(place / "model")
    err = sweep(command)
    assert "of other inputs (the model's files changed)" in err
    assert "Nothing to do" not in err
    second = json.loads(command("front", "s", "--json")[1])
    agree(command, place, [p["trial"] for p in second["points"]], len(first["points"]))
    from workbench.cli.studies import open_ledger

    reading = open_ledger("s", None).read()  # what the dashboard reads
    view = View.of(reading.description, now_offer(), 0.0)
    assert {r.trial for r in pareto_front(reading.results, view)} <= {p["trial"] for p in second["points"]}


@pytest.mark.slow
def test_edited_code_of_a_task_is_another_task(place, own, command) -> None:
    own()
    words = ("sweep", "own.py", "--no-progress", "--sampler", "optuna:RandomSampler")
    assert command(*words)[0] == 0
    own("# as it is", "# said otherwise")
    assert "Nothing to do" in command(*words)[2]
    own("SCALE = 1.0", "SCALE = 0.25")
    code, _out, err = command(*words)
    assert code == 0
    assert "Nothing to do" not in err
    assert "of other inputs (the task's code changed)" in err
    record = json.loads(command("front", "own", "--json")[1])
    assert max(p["score"] for p in record["points"]) <= 25.0
    assert record["outdated"]["changed"] == ["code"]


def test_what_mlflow_lacks_is_judged_by_the_data_as_they_are_now(place, command) -> None:
    study, url = load("s.py"), default_url(place)
    ledger = Ledger.open(study, url)
    written(ledger, study)
    ledger.note_inputs()
    write_data(place / "d.jsonl", seed=2)
    code, _, err = command("mlflow", "s.py", "--catch-up")
    assert (code, "1 run written" in err) == (0, True), err
    client = store.connect(store.absolute("sqlite:///mlflow.db"))
    (experiment,) = [each for each in client.search_experiments() if each.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id], "tags.`workbench.kind` = 'sweep'")
    assert run.data.metrics["front/size"] == 0


def test_a_model_of_other_inputs_is_not_given_away(place, command) -> None:
    study = load("s.py")
    ledger = Ledger.open(study, default_url(place))
    code, _, err = command("package", "s.py", "--to", "out")
    assert (code, "No run has finished yet" in err, "Run `workbench sweep s.py` first." in err) == (2, True, True), err
    written(ledger, study)
    ledger.note_inputs()
    write_data(place / "d.jsonl", seed=2)
    assert "The one finished result is of other inputs (the data changed)" in command("front", "s.py")[1]
    code, _, err = command("deploy", "s.py")
    assert code == 2
    assert "The one finished result is of other inputs (the data changed)" in err
    assert "Run `workbench sweep s.py` first." in err
    code, _, err = command("deploy", "s.py", "--trial", "0")
    assert code == 2
    assert "is of other inputs: the data changed since. Run `workbench sweep s.py` first" in err


def test_a_failed_run_of_other_inputs_is_not_tried_again(place, command) -> None:
    study = load("s.py")
    ledger = Ledger.open(study, default_url(place))
    written(ledger, study, status="infeasible", cause=Cause.DIVERGED, reason="diverged: loss", scores={}, usage={})
    write_data(place / "d.jsonl", seed=2)
    assert "nothing to try again" in command("retry", "s.py")[2]
    code, _, err = command("retry", "s.py", "0")
    assert code == 3
    assert "the data changed since" in err


def now_offer():
    from workbench import prices

    return prices.find(prices.DEFAULT)
