"""What used an example is known, its text goes from all that is kept here, and nothing else changes."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from workbench import Recipe, Study, choice, distil, few_shot, full, logistic, uncertainty, zero_shot
from workbench.data import fingerprints, load
from workbench.errors import UsageError
from workbench.result import Result
from workbench.sweep.forgetting import (
    GRADED,
    INHERITED,
    MAY,
    SHOWN,
    TESTED,
    TRAINED,
    Wanted,
    files_with,
    parents_of,
    texts_of,
    uses,
    weights_of,
)
from workbench.tasks import classification

SECRET = "the secret of w7 is forty two"


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


@pytest.fixture
def data(tmp_path):
    words = [f"w{4 + i % 50} w{4 + 3 * i % 50} w{4 + 7 * i % 50} {i}" for i in range(60)]
    words[8], words[9] = SECRET, f"{SECRET.upper()} too"
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": "ab"[i % 2]}) + "\n" for i, text in enumerate(words)))
    return str(path)


def study(data, method, tiny="tiny", train=16, **more):
    recipe = Recipe(
        task=classification(data, train=train, dev=6, test=6), model=tiny, method=method, epochs=1, batch_size=4, **more
    )
    return Study(recipe, maximize="accuracy")


def result(study, settings=None, **more):
    recipe = study.resolve(settings or {})
    known = {"recipe_id": "r", "run_id": "run", "recipe": recipe.to_json(), "settings": settings or {}, "status": "complete"}
    return Result(**known | {"scores": {"accuracy": 50.0}, "labels": 16, "step": 4} | more)


def how(study, wanted, **more):
    return [use.how for use in uses(study, [result(study, **more)], Wanted(id=wanted))]


def test_who_used_an_example_follows_from_its_split_and_its_place(data):
    made = study(data, full(learning_rate=1e-3))
    splits, pool = made.recipe.task.splits(), made.recipe.task.pool()
    assert how(made, splits.train[0]["id"]) == [(TRAINED,)]
    assert how(made, pool[16]["id"]) == [], "behind what was bought"
    assert how(made, splits.dev[0]["id"]) == [(GRADED,)]
    assert how(made, splits.test[0]["id"]) == []
    assert how(made, splits.test[0]["id"], test_scores={"r": {"accuracy": 1.0}}) == [(TESTED,)]
    assert how(made, "unheard of") == []


def test_a_checkpoint_within_the_first_epoch_has_seen_what_its_steps_had(data):
    from workbench.training import step_examples

    made = study(data, full(learning_rate=1e-3))
    train = made.recipe.task.splits().train
    seen = {int(i) for i in step_examples(0, 4, 16, 0)}
    short = replace(result(made), recipe={**result(made).recipe, "epochs": 0.25}, step=1)
    for i, example in enumerate(train):
        used = uses(made, [short], Wanted(id=example["id"]))
        assert bool(used) == (i in seen)


def test_who_is_only_asked_learns_nothing_and_may_have_been_shown_it(data):
    made = study(data, choice(zero_shot(), few_shot(shots=2), few_shot(shots=2, choose="nearest", name="near")))
    first, third = (made.recipe.task.splits().train[i]["id"] for i in (0, 2))
    for name, of_first, of_third in (("zero_shot", [], []), ("few_shot", [(SHOWN,)], []), ("near", [(SHOWN,)], [(SHOWN,)])):
        for wanted, expected in ((first, of_first), (third, of_third)):
            assert how(made, wanted, settings={"method": name}) == expected, name
    assert not uses(made, [result(made, {"method": "near"})], Wanted(id=first))[0].learned


def test_of_examples_that_were_chosen_it_is_said_that_they_may_have_been(data):
    made = study(data, full(learning_rate=1e-3), acquire=uncertainty())
    assert how(made, made.recipe.task.pool()[30]["id"]) == [(MAY,)]


def test_weights_are_those_of_points_and_of_runs_that_learned(data, tmp_path):
    made = study(data, logistic())
    for path in ("weights/r.safetensors", "prefixes/run.safetensors", "weights/other.safetensors"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    splits = made.recipe.task.splits()
    learned = uses(made, [result(made)], Wanted(id=splits.train[0]["id"]))
    assert [path.name for path in weights_of(tmp_path, learned)] == ["r.safetensors", "run.safetensors"]
    assert weights_of(tmp_path, uses(made, [result(made)], Wanted(id=splits.dev[0]["id"]))) == []


@pytest.mark.parametrize("given", [{}, {"id": ""}, {"text": "  "}, {"id": "a", "text": "b"}])
def test_one_example_is_to_be_named(given):
    with pytest.raises(UsageError, match="which example"):
        Wanted(**given)


def test_models_that_others_start_from_or_are_taught_by_are_found(data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    plain = study(data, full(learning_rate=1e-3)).recipe
    started = Study(replace(plain, model=plain), maximize="accuracy")
    taught = Study(replace(plain, pseudo=distil(plain)), maximize="accuracy")
    asked = Study(replace(plain, pseudo=distil(replace(plain, method=few_shot(shots=2), epochs=0))), maximize="accuracy")
    first, behind = plain.task.splits().train[0]["id"], plain.task.pool()[16]["id"]
    assert how(started, first) == [(TRAINED, INHERITED)]
    assert how(started, behind) == []
    assert how(taught, first) == how(asked, first) == [(MAY, INHERITED)]
    assert how(asked, plain.task.splits().train[2]["id"]) == [(MAY,)], "it stood before no question"
    # The models themselves, as the cache has them, made on any machine.
    for name, recipe in (("mine", plain), ("other", replace(plain, seed=1)), ("needed", plain)):
        (tmp_path / "cache" / "parents" / name).mkdir(parents=True)
        (tmp_path / "cache" / "parents" / name / "record.json").write_text(json.dumps({"recipe": recipe.to_json()}))
    (tmp_path / "cache" / "parents" / "needed" / "deployed").touch()
    state = tmp_path / "cache" / "parents" / "states" / f"{plain.run_id}.safetensors"
    state.parent.mkdir()
    state.touch()
    for made in (started, taught):
        parents, needed = parents_of(made, [result(made)], Wanted(id=first))
        assert {path.name for path in parents} == {"mine", state.name}
        assert [path.name for path in needed] == ["needed"]
        assert parents_of(made, [], Wanted(id=behind)) == ([], [])
    assert parents_of(asked, [], Wanted(id=first)) == ([], []), "what is only asked is no model of its own"


def test_files_of_labels_that_hold_it_are_named(data, tmp_path):
    made = study(data, full(learning_rate=1e-3))
    (tmp_path / "a.csv").write_text('id,text\n1,"He said ""THE  secret"" of w7 is forty two"\n')
    (tmp_path / "b.csv").write_text("id,text\n1,nothing\n")
    files = [tmp_path / name for name in ("a.csv", "b.csv", "none.csv", "a.csv")]
    assert files_with(['said "the secret" of'], files) == [tmp_path / "a.csv"]
    assert files_with(["", "else"], files) == []
    logs = [tmp_path / name for name in ("m.jsonl", "m.jsonl.1", "n.jsonl", "m.jsonl.answers.csv")]
    asked = {"asked": [{"text": "Olá, write to [EMAIL]\n  at once"}], "answers": ["a"]}
    for log in logs[:2]:
        log.write_text("torn {\n" + json.dumps(asked) + "\n")
    logs[2].write_text(json.dumps({"asked": [{"text": "Olá"}]}) + "\n")
    logs[3].write_text("text,label\nOlá\n")
    assert files_with(["olá, write to ada.king@example.com at once"], logs) == logs[:2], "as it is logged, redacted"
    assert files_with(["olá"], logs) == logs
    task = made.recipe.task
    (known,) = {each["id"] for of in (task.pool(), task.splits().dev, task.splits().test) for each in of if each["text"] == SECRET}
    assert texts_of(made, Wanted(id=known)) == [SECRET]
    assert texts_of(made, Wanted(text="a b")) == ["a b"]


STUDY = """
from workbench import Recipe, Study, full
from workbench.tasks import classification
task = classification("d.jsonl", train=16, dev=60, max_length=16)
study = Study(Recipe(task=task, model={model!r}, method=full(learning_rate=1e-3), epochs=1), maximize="accuracy", trials=1)
"""


@pytest.mark.slow
def test_the_text_goes_from_the_ledger_and_from_mlflow_and_again_does_no_harm(command, data, tmp_path, tiny):
    for side, places in (("train", range(40)), ("dev", range(40, 60))):  # the secret is to be in dev, where samples come from
        rows = Path(data).read_text().splitlines()
        order = [*range(10, 50), *range(10), *range(50, 60)]
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / f"{side}.jsonl").write_text("\n".join(rows[order[i]] for i in places) + "\n")
    (tmp_path / "s.py").write_text(STUDY.format(model=tiny).replace("d.jsonl", "d"))
    share = ("--states", f"file://{tmp_path / 'shared'}")
    assert command("sweep", "s.py", "--log-samples", "60", *share)[0] == 0
    held = [path for path in tmp_path.rglob("*") if path.is_file() and b"forty two" in path.read_bytes()]
    assert any(path.suffix == ".json" for path in held), "MLflow has it"
    before = json.loads(command("front", "s.py", "--json")[1])["points"]
    source = (tmp_path / "d" / "dev.jsonl").read_bytes()
    code, out, err = command("forget", "s.py", "--text", "The secret  of W7", "--weights", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert sorted(told["examples"].values()) == ["dev", "dev"]
    assert {tuple(row["how"]) for row in told["results"]} == {(GRADED,)}
    assert told["samples_dropped"] == {"ledger": 2 * len(before), "mlflow": 2 * len(before)}
    assert told["weights"] == [], "nothing has learned from dev"
    assert (tmp_path / "d" / "dev.jsonl").read_bytes() == source
    left = [p for p in tmp_path.rglob("*") if p.is_file() and p.parent.name != "d" and b"forty two" in p.read_bytes().lower()]
    assert left == [Path(data)]
    assert json.loads(command("front", "s.py", "--json")[1])["points"] == before
    code, out, _ = command("forget", "s.py", "--text", "the secret of w7")
    assert code == 0
    assert "Samples dropped: 0 from the ledger, 0 from MLflow's artifacts." in out
    learned = json.loads((tmp_path / "d" / "train.jsonl").read_text().splitlines()[0])["text"]
    weights = []
    for line in (tmp_path / "d" / "train.jsonl").read_text().splitlines():
        found = json.loads(command("forget", "s.py", "--text", json.loads(line)["text"], "--json")[1])
        weights = found["weights"]
        if weights:
            learned = json.loads(line)["text"]
            break
    assert weights
    assert all(Path(path).is_file() for path in weights)
    assert list((tmp_path / "shared").rglob("*.safetensors"))
    assert "file://" in command("forget", "s.py", "--text", learned, "--weights", *share)[1]
    assert not list((tmp_path / "shared").rglob("*.safetensors"))
    assert not any(Path(path).exists() for path in weights)
    with sqlite3.connect(tmp_path / "optuna.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_logs_of_servers_that_hold_it_are_named(command, data, tmp_path, tiny):
    (tmp_path / "s.py").write_text(STUDY.format(model=tiny))
    log = tmp_path / ".workbench" / "serving" / "model.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({"request": "1", "asked": [{"text": f"{SECRET}?"}], "answers": ["a"]}) + "\n")
    code, out, err = command("forget", "s.py", "--text", SECRET, "--json")
    assert code == 0, err
    assert json.loads(out)["held_by"] == [str(log.relative_to(tmp_path))]
    log.write_text(json.dumps({"request": "1", "labels": ["a"]}) + "\n")
    assert json.loads(command("forget", "s.py", "--text", SECRET, "--json")[1])["held_by"] == []


def test_what_nobody_has_heard_of_is_refused(command, data, tmp_path, tiny):
    (tmp_path / "s.py").write_text(STUDY.format(model=tiny))
    code, _, err = command("forget", "s.py", "--example", "nobody")
    assert code == 2
    assert "no example" in err
