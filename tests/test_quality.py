"""The card of a study's data says what is in them, where it stands, and what does not apply."""

import json
import random

import numpy as np
import pytest

from workbench import Recipe, Study, choice, full, logistic
from workbench.data import load
from workbench.quality import cards
from workbench.quality.contents import slips
from workbench.quality.label_noise import label_noise
from workbench.quality.repeats import repeats
from workbench.tasks import classification, question_answering, text_generation
from workbench.testing import TinyTask, tiny_decoder


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()


def rows(count, *, wrong=()):
    """Sentences of two classes with words of their own; those in `wrong` have the other one's label."""
    draw = random.Random(0)
    for i in range(count):
        words = [f"w{draw.randint(4, 32) + 30 * (i % 2)}" for _ in range(9)]
        yield {"text": " ".join(words), "label": ("low", "high")[(i + (i in wrong)) % 2], "group": ("a", "b", "b")[i % 3]}


def written(path, given):
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return str(path)


def study(task, *models, method=None):
    recipe = Recipe(
        task=task, model=choice(*models) if models[1:] else models[0], method=method or full(learning_rate=1e-3), epochs=1
    )
    return Study(recipe, maximize=recipe.task.metrics[0])


def test_sizes_lengths_classes_and_groups_are_told(tmp_path, tiny):
    data = written(tmp_path / "d.jsonl", rows(80))
    (card,) = cards(study(classification(data, train=choice(16, 48), dev=6, test=5, max_length=8), tiny))
    assert card.splits == {"train": 48, "dev": 6, "test": 5}
    assert {split: sum(of.values()) for split, of in card.classes.items()} == card.splits
    assert {*card.groups["train"]} == {"a", "b"}
    first = card.lengths[0]
    assert (first.model, first.split, first.shortest, first.longest) == (tiny, "train", 9, 9)
    assert first.cut == 48
    assert "Raise max_length" in first.why


def test_near_duplicates_are_found_within_a_split_and_across():
    long = [f"word{i} and then word{i + 1}" for i in range(0, 40, 2)]
    text = " ".join("abcdefghijklmnopqrst")
    splits = {
        "train": [{"id": "1", "t": text}, {"id": "2", "t": text.upper() + "!"}, *({"id": each, "t": each} for each in long)],
        "dev": [{"id": "3", "t": f"{text} u"}, {"id": "4", "t": "something else is said here"}],
        "test": [{"id": "5", "t": "nothing of all that stands here"}],
    }
    found = repeats(splits, lambda example: "".join(example["t"].translate(str.maketrans("0123456789", "klmnopqrst"))))
    assert found.within == {"train": 1, "dev": 0, "test": 0}
    assert found.across == {"dev in train": 1, "test in train": 0, "test in dev": 0}
    assert [(pair.id, pair.other_id) for pair in found.pairs] == [("3", "1"), ("3", "2"), ("2", "1")], (
        "those across splits come first"
    )
    assert repeats(splits, lambda example: "") is None


def test_exchanged_labels_are_found_and_counted():
    pytest.importorskip("cleanlab")
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 400)
    vectors = np.eye(16)[right] + 0.25 * rng.normal(size=(400, 16))
    wrong = rng.choice(400, 24, replace=False)
    given = right.copy()
    given[wrong] = (given[wrong] + 1) % 4
    names = np.array(["north", "east", "south", "west"])
    found = label_noise(vectors, [*names[given], "rare"][:400])
    told = {each.number: each for each in found.suspects}
    hit = len({*told} & {*wrong})
    assert hit >= 0.8 * len(wrong)
    assert hit >= 0.9 * len(told)
    assert abs(found.share - 24 / 400) < 0.02
    assert all(told[i].likelier == names[right[i]] and told[i].given == names[given[i]] for i in {*told} & {*wrong})


def test_rare_classes_are_left_out_of_the_estimate():
    pytest.importorskip("cleanlab")
    vectors = np.random.default_rng(0).normal(size=(24, 4))
    assert label_noise(vectors, ["a"] * 10 + ["b"] * 10 + ["c"] * 4).left_out == 4
    assert label_noise(vectors, ["a"] * 20 + ["c"] * 4).share is None


def test_the_card_names_the_rows_whose_labels_look_wrong(tmp_path, tiny):
    pytest.importorskip("cleanlab")
    wrong = {3, 14, 25, 36, 47, 58, 69, 80}
    data = written(tmp_path / "d.jsonl", rows(120, wrong=wrong))
    (card,) = cards(study(classification(data, train=96), tiny, method=logistic()))
    named = {each["row"]: (each["given"], each["likelier"]) for each in card.suspects()}
    pairs = (("high", "low"), ("low", "high"))
    right = {f"{data}, line {i + 1}": pairs[i % 2] for i in wrong}
    assert len(right.items() & named.items()) >= 5
    assert len(named) <= 10
    assert card.to_json()["label_noise"]["model"] == tiny


def test_what_does_not_apply_is_said(tmp_path, tiny):
    (card,) = cards(study(TinyTask(), tiny))
    assert {*card.does_not_apply} == {"lengths", "near_duplicates", "classes", "groups", "label_noise"}
    assert card.repeats is card.noise is card.classes is None


def test_every_task_of_a_choice_has_its_card(tmp_path, tiny):
    turns = ({"prompt": f"say {i}", "completion": f"well {i}"} for i in range(40))
    words = [tiny_decoder(tmp_path / "decoder")]
    (card,) = cards(study(text_generation(written(tmp_path / "g.jsonl", turns), train=20), *words))
    assert card.lengths
    assert {*card.does_not_apply} == {"classes", "groups", "label_noise"}
    two = [classification(written(tmp_path / f"{i}.jsonl", rows(60)), train=20, name=f"n{i}") for i in range(2)]
    recipe = Recipe(task=choice(*two), model=tiny, method=full(learning_rate=1e-3), epochs=1)
    assert [card.task for card in cards(Study(recipe, maximize="accuracy"))] == ["n0", "n1"]


def test_questions_have_a_card(tmp_path, tiny):
    lines = []
    for i in range(40):
        context = " ".join(f"w{4 + (7 * i + k) % 60}" for k in range(12))
        lines.append({"id": str(i), "question": f"w{4 + i}", "context": context, "answer": context.split()[0], "answer_start": 0})
    task = question_answering(written(tmp_path / "q.jsonl", lines), train=20, max_length=32, stride=4)
    (card,) = cards(study(task, tiny))
    assert card.lengths[0].shortest == 13, "question and context"
    assert card.repeats.across.keys() == {"dev in train", "test in train", "test in dev"}


def test_the_command_prints_the_card(command, tmp_path, tiny):
    data = written(tmp_path / "d.jsonl", rows(80))
    (tmp_path / "s.py").write_text(
        "from workbench import Recipe, Study, full\nfrom workbench.tasks import classification\n"
        f"task = classification({data!r}, train=32)\n"
        f"study = Study(Recipe(task=task, model={tiny!r}, method=full(learning_rate=1e-3), epochs=1), maximize='accuracy')\n"
    )
    code, out, err = command("data", "s.py")
    assert code == 0, err
    assert "Examples of each class" in out
    assert "high" in out
    assert not (tmp_path / "optuna.db").exists(), "nothing is written"
    code, out, _ = command("data", "s.py", "--json")
    assert (code, json.loads(out)["tasks"][0]["splits"]["train"]) == (0, 32)


def test_a_study_that_asks_for_too_many_examples_is_refused(command, tmp_path, tiny):
    data = written(tmp_path / "d.jsonl", rows(80))
    (tmp_path / "s.py").write_text(
        "from workbench import Recipe, Study, full\nfrom workbench.tasks import classification\n"
        f"task = classification({data!r}, train=3200)\n"
        f"study = Study(Recipe(task=task, model={tiny!r}, method=full(learning_rate=1e-3), epochs=1), maximize='accuracy')\n"
    )
    code, _, err = command("data", "s.py")
    assert code == 2
    assert "train=3200" in err


def test_a_class_that_looks_like_a_slip_is_named():
    counts = {"train": {"technical": 50, "billing": 45, "technicla": 1, "bill": 40}, "dev": {"technical": 9, "billings": 2}}
    assert slips(counts) == {"technicla": "technical", "billings": "billing"}
    assert slips({"train": {"cat": 9, "cats": 8}}) == {}  # both are common
