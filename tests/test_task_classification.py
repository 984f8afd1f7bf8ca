"""Classification: what a model sees, what is read back, how it is graded, and what is refused before anything is spent."""

import json
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from workbench import Recipe, Study, choice, full, peft, space
from workbench.data import fingerprints, load, models
from workbench.errors import DataError, UsageError
from workbench.formulations import Labelled
from workbench.sweep import check_data
from workbench.tasks import classification
from workbench.tasks.class_scores import calibration_error, class_scores, several_scores

torch = pytest.importorskip("torch")

LABELS = ("first_one", "second", "third")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


def row(i, **more):
    """A text of which the third word tells the label."""
    rng = random.Random(i)
    words = [f"w{rng.randrange(10, 60)}" for _ in range(rng.randrange(4, 12))]
    words[2] = f"w{5 + i % 3}"
    return {"text": " ".join(words), "label": LABELS[i % 3], **more}


ROWS = [row(i) for i in range(120)]


def written(file, rows=ROWS):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def task(data, **settings):
    return classification(data, **{"train": 32, "dev": 16, "test": 8, "max_length": 32} | settings)


def study(of, model, maximize="accuracy"):
    return Study(Recipe(task=of, model=model, method=full(learning_rate=1e-2), epochs=1, batch_size=8), maximize=maximize)


# Data


def test_splits_are_cut_to_what_is_asked_for_and_smaller_ones_are_prefixes(tmp_path):
    data = written(tmp_path / "a.jsonl")
    few, many = task(data, train=8).splits(), task(data, train=64).splits()
    assert (len(few.train), len(few.dev), len(few.test)) == (8, 12, 8)
    assert list(many.train[:8]) == list(few.train)
    assert task(data, seed=1).splits().dev == few.dev
    assert task(data, seed=1).splits().train != task(data).splits().train
    with pytest.raises(UsageError, match=r"train=500: .* has 96 examples to train on. Ask for at most that many"):
        task(data, train=500).splits()


def test_spellings_of_a_label_are_one_where_that_is_said(tmp_path):
    data = written(tmp_path / "a.jsonl", [*ROWS, row(1, label="First_One"), row(2, label="FIRST one")])
    with pytest.raises(UsageError, match=r"'First_One' stands in 1 row .*line 121.*fold_labels=True"):
        task(data).words()
    folded = task(data, fold_labels=True)
    assert folded.words() == {"first one": "first one", "second": "second", "third": "third"}
    named = task(data, fold_labels=True, labels={"First_one": "1", "SECOND": "two", "third": "three"})
    assert named.words() == {"first one": "1", "second": "two", "third": "three"}
    assert {label for example in named.splits().dev for label in example["labels"]} <= {*named.words()}
    record = {
        name: value for name, value in vars(task(data)).items() if name not in ("fold_labels", "redact", "perturb", "opposites")
    }
    assert Recipe(task=task(data), model="m", method=full(learning_rate=1), epochs=1).to_json()["task"].keys() - {"type"} == {
        *record
    }
    with pytest.raises(UsageError, match="fold_labels must be True or False"):
        task(data, fold_labels=choice(True, False))


def test_labels_are_those_of_train_in_order_or_those_given(tmp_path):
    data = written(tmp_path / "a.jsonl")
    assert task(data).words() == {"first_one": "first one", "second": "second", "third": "third"}
    named = task(data, labels={"third": "the third", "first_one": "1", "second": "two"})
    assert list(named.words().items()) == [("third", "the third"), ("first_one", "1"), ("second", "two")]
    assert task(data, labels=LABELS).digest() == task(data).digest()
    numbers = written(tmp_path / "b.jsonl", [each | {"label": LABELS.index(each["label"]) * 5} for each in ROWS])
    assert [*task(numbers).words()] == ["0", "5", "10"]
    assert task(numbers, labels={0: "a", 5: "b", 10: "c"}).words() == {"0": "a", "5": "b", "10": "c"}


def test_a_task_is_a_value(tmp_path):
    one = task(written(tmp_path / "a.jsonl"), text="text", labels=[*LABELS])
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(task(str(tmp_path / "a.jsonl"), text="text", labels=LABELS))
    assert one != task(str(tmp_path / "a.jsonl"), text="text", labels=LABELS, several=True)
    formulation = one.formulation("encoder")
    assert pickle.loads(pickle.dumps(formulation)).labels == LABELS


# An encoder


def test_rows_hold_tokens_and_the_number_of_the_class(tmp_path, tiny):
    one = task(written(tmp_path / "a.jsonl"), max_length=8)
    tokenizer, formulation = models.tokenizer(tiny), one.formulation("encoder")
    examples = [
        {"id": "a", "text": "w5 w6", "labels": ["third"]},
        {"id": "b", "text": " ".join(["w9"] * 20), "labels": ["first_one"]},
    ]
    rows = formulation.encode(examples, tokenizer)
    assert [ids.tolist() for ids in rows.columns["input_ids"]] == [[5, 6], [9] * 8]
    assert rows.columns["labels"].tolist() == [2, 0]
    assert rows.items.tolist() == [1, 1]
    assert "labels" not in formulation.encode(examples, tokenizer, answers=False).columns
    assert formulation.settings["id2label"] == dict(enumerate(LABELS))


def test_a_pair_of_texts_is_read_as_a_pair(tmp_path, tiny):
    rows = [{"a": each["text"], "b": f"w{i % 50 + 5}", "label": each["label"]} for i, each in enumerate(ROWS)]
    one = task(written(tmp_path / "a.jsonl", rows), text=("a", "b"))
    example = one.splits().train[0]
    encoded = one.formulation("encoder").encode([example], models.tokenizer(tiny))
    assert one.formulation("decoder").prompt(example).startswith("First text: {}\nSecond text: {}\n\n".format(*example["text"]))
    assert models.tokenizer(tiny).decode(encoded.columns["input_ids"][0]) == " ".join(example["text"])


def test_the_likeliest_class_is_predicted_with_its_probability(tmp_path, tiny):
    formulation = task(written(tmp_path / "a.jsonl")).formulation("encoder")
    outputs = [np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.05, 0.05])]
    examples = [{"id": "a", "text": "w5", "labels": ["second"]}] * 2
    found = formulation.decode(examples, None, outputs, None)
    assert found == [Labelled(("second",), 0.5), Labelled(("first_one",), 0.9)]
    several = task(str(tmp_path / "a.jsonl"), several=True).formulation("encoder")
    assert several.decode(examples, None, outputs, None) == [Labelled(("second",), None), Labelled(("first_one",), None)]


@pytest.mark.parametrize("several", [False, True])
def test_a_row_alone_gives_what_it_gives_in_a_batch(tmp_path, tiny, several):
    """To 1e-5, and so does its loss."""
    from workbench.training.tuning import Tuning

    one = task(written(tmp_path / "a.jsonl"), several=several)
    tuning = Tuning(study(one, tiny, "macro_f1").recipe, torch.device("cpu"), None)
    tuning.model.eval()
    rows = tuning.formulation.encode(one.splits().train[:9], tuning.processor)
    assert len({*rows.lengths.tolist()}) > 3
    with torch.inference_mode():
        together = rows.batch(range(9))
        alone = [rows.batch([i]) for i in range(9)]
        for batch, of in ((together, range(9)), *((each, [i]) for i, each in enumerate(alone))):
            for i, found in zip(of, tuning.inference(tuning.model, batch), strict=True):
                np.testing.assert_allclose(found, tuning.inference(tuning.model, alone[i])[0], atol=1e-5)
        losses = [float(tuning.objective.loss(tuning.objective.forward(tuning.model, each), each)) for each in (together, *alone)]
    assert losses[0] == pytest.approx(sum(losses[1:]), abs=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_the_gradient_of_three_micro_batches_is_that_of_one(tmp_path, tiny, several):
    from workbench.training.tuning import Tuning

    one = task(written(tmp_path / "a.jsonl"), several=several)
    tuning = Tuning(study(one, tiny, "macro_f1").recipe, torch.device("cpu"), None)
    tuning.model.eval()
    rows = tuning.formulation.encode(one.splits().train[:12], tuning.processor)

    def gradient(*pieces):
        tuning.optimizer.zero_grad(set_to_none=True)
        for piece in pieces:
            inputs = rows.batch(piece)
            (tuning.objective.loss(tuning.objective.forward(tuning.model, inputs), inputs) / rows.items.sum()).backward()
        return {name: p.grad.clone() for name, p in tuning.parameters.items() if p.grad is not None}

    whole, cut = gradient(range(12)), gradient([0, 5, 7], [1, 2, 3, 4, 6], [8, 9, 10, 11])
    assert whole.keys() == cut.keys()
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-4, atol=1e-6)


def test_the_loss_is_that_of_the_model_itself(tmp_path, tiny):
    from workbench.training.tuning import Tuning

    one = task(written(tmp_path / "a.jsonl"))
    tuning = Tuning(study(one, tiny).recipe, torch.device("cpu"), None)
    tuning.model.eval()
    batch = tuning.formulation.encode(one.splits().train[:8], tuning.processor).batch(range(8))
    ours = tuning.objective.loss(tuning.objective.forward(tuning.model, batch), batch) / 8
    torch.testing.assert_close(ours, tuning.model(**batch).loss, rtol=1e-5, atol=1e-6)


def test_a_blank_batch_of_several_classes_has_a_column_a_class(tmp_path, tiny):
    one = task(written(tmp_path / "a.jsonl"), several=True)
    rows = one.formulation("encoder").encode(one.splits().train[:3], models.tokenizer(tiny))
    blank = rows.blank(2, 17)
    assert tuple(blank["labels"].shape) == (2, 3)
    assert tuple(blank["input_ids"].shape) == (2, 17)


# A language model


class Spoken:
    """A tokeniser that gives back what a model wrote."""

    def __init__(self, *texts):
        self.texts = list(texts)

    def batch_decode(self, outputs, **more):
        return self.texts


class Asked:
    """Rows of which each is of the next example."""

    def __init__(self, count):
        self.example = np.arange(count)


def test_a_language_model_may_write_the_labels_in_words_and_nothing_else(tmp_path):
    one = task(written(tmp_path / "a.jsonl"), instruction="Which one is it?")
    formulation = one.formulation("decoder")
    assert formulation.choices == ("first one", "second", "third")
    example = {"id": "a", "text": "w5 w6", "labels": ["first_one"]}
    assert formulation.answer(example) == "first one"
    assert formulation.prompt(example) == "w5 w6\n\nWhich one is it?"
    found = formulation.decode([example] * 3, Asked(3), [None] * 3, Spoken("first one", "Third ", ""))
    assert [prediction.labels for prediction in found] == [("first_one",), ("third",), ()]
    assert one.score([example] * 3, found)["accuracy"] == pytest.approx(100 / 3)
    assert "calibration_error" not in one.score([example] * 3, found)
    assert one.formulation("encoder-decoder").choices == formulation.choices
    for kind in ("vision", "audio"):
        with pytest.raises(UsageError, match="writes no text"):
            one.formulation(kind)


def test_several_labels_are_written_one_after_another(tmp_path):
    formulation = task(written(tmp_path / "a.jsonl"), several=True).formulation("decoder")
    assert not formulation.choices
    example = {"id": "a", "text": "w5", "labels": ["first_one", "third"]}
    assert formulation.answer(example) == "first one, third"
    assert formulation.answer(example | {"labels": []}) == "none"
    assert "of first one, second, third; else say none. The topic" in formulation.prompt(example)
    found = formulation.decode([example] * 2, Asked(2), [None] * 2, Spoken("third, first one, what", "none"))
    assert [prediction.labels for prediction in found] == [("third", "first_one"), ()]


# Scores


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, given = (rng.choice(["a", "b", "c", "d"], 50, p=[0.6, 0.2, 0.15, 0.05]).tolist() for _ in range(2))
        found = class_scores(truth, given, [None] * 50)
        assert found.keys() == {"accuracy", "macro_f1"}
        assert found["accuracy"] == pytest.approx(100 * np.mean(np.array(truth) == np.array(given)))
        assert found["macro_f1"] == pytest.approx(100 * sklearn.metrics.f1_score(truth, given, average="macro"))
        wanted, said = (rng.random((50, 4)) < 0.3 for _ in range(2))
        names = np.array(["a", "b", "c", "d"])
        found = several_scores([names[each].tolist() for each in wanted], [names[each].tolist() for each in said], names.tolist())
        for average in ("micro", "macro"):
            score = sklearn.metrics.f1_score(wanted, said, average=average, zero_division=0)
            assert found[f"{average}_f1"] == pytest.approx(100 * score)
        assert found["subset_accuracy"] == pytest.approx(100 * np.mean((wanted == said).all(1)))


def test_no_label_is_wrong_and_no_class_of_its_own():
    assert class_scores(["a", "b"], ["a", ""], [None, None]) == {"accuracy": 50, "macro_f1": 50}


def test_the_calibration_error_is_that_of_torchmetrics():
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(0)
    for classes in (2, 5):
        logits = torch.from_numpy(rng.normal(size=(400, classes)) * 2).float()
        truth = torch.from_numpy(rng.integers(0, classes, 400))
        confidence, given = logits.softmax(-1).max(-1)
        ours = calibration_error(confidence.numpy().astype(float), (given == truth).numpy().astype(float))
        theirs = multiclass_calibration_error(logits.softmax(-1), truth, num_classes=classes, n_bins=15, norm="l1")
        assert ours == pytest.approx(100 * float(theirs), abs=1e-3)
    assert calibration_error(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0
    assert calibration_error(np.array([1.0, 1.0]), np.array([0.0, 1.0])) == 50


def test_scores_of_the_worst_group_and_the_gap(tmp_path):
    one = task(written(tmp_path / "a.jsonl"))
    examples = [{"id": str(i), "text": "w5", "labels": ["second"], "group": "ab"[i % 2]} for i in range(8)]
    given = [Labelled(("second" if i % 2 or i < 2 else "third",), 0.5) for i in range(8)]
    found = one.grade(examples, given)
    assert found["accuracy"] == 62.5
    assert (found["worst_group_accuracy"], found["gap_accuracy"]) == (25, 75)
    assert found["worst_group_macro_f1"] == one.score(examples[::2], given[::2])["macro_f1"]
    assert not any("calibration" in name and "group" in name for name in found)
    same = [example | {"group": "a"} for example in examples]
    assert one.grade(same, given) == one.score(same, given)


def test_what_can_be_maximised(tmp_path, tiny):
    data = written(tmp_path / "a.jsonl", [each | {"group": f"g{i % 2}"} for i, each in enumerate(ROWS)])
    assert check_data(study(task(data), tiny, "worst_group_macro_f1")) == []
    with pytest.raises(
        UsageError, match=r"maximize='calibration_error': lower is better. It is recorded; maximize accuracy or macro"
    ):
        study(task(data), tiny, "calibration_error")
    with pytest.raises(UsageError, match="lower is better"):
        study(task(data), tiny, "gap_accuracy")
    with pytest.raises(UsageError, match=r"'subset_accuracy' is not a score of the task"):
        study(task(data), tiny, "subset_accuracy")
    assert study(task(data, several=True), tiny, "subset_accuracy")
    plain = written(tmp_path / "b.jsonl")
    with pytest.raises(UsageError, match=r"needs groups to compare, and the dev examples have 0.*group=, or name .accuracy."):
        check_data(study(task(plain), tiny, "worst_group_accuracy"))


# What is told and refused


def test_texts_that_lose_their_end_are_told_and_not_refused(tmp_path, tiny):
    rows = [each | {"text": each["text"] + " w9" * (30 if i % 4 else 0)} for i, each in enumerate(ROWS)]
    told = check_data(study(task(written(tmp_path / "a.jsonl", rows), train=96, dev=12), tiny))
    assert len(told) == 2
    assert "dev texts (" in told[1]
    assert "lose a part: " in told[1]
    assert "longer than max_length=32. Raise max_length: the longest has 41 tokens." in told[0]
    same = check_data(study(task(str(tmp_path / "a.jsonl"), max_length=choice(32, 64)), tiny))
    assert len(same) == 2


def test_what_was_left_out_is_told_before_anything_is_spent(tmp_path, tiny):
    rows = [*ROWS, {"text": "w9", "label": ""}, {"text": "", "label": "third"}]
    told = check_data(study(task(written(tmp_path / "a.jsonl", rows)), tiny))
    assert [line.partition(" (")[0] for line in told] == [
        "1 of 122 train rows are without a label in 'label'",
        "1 of 122 train rows are without a text in 'text'",
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train": -1}, "train must be a whole number of at least 0; got -1"),
        ({"dev": 0}, "dev must be a whole number of at least 1; got 0"),
        ({"max_length": 2}, "max_length must be a whole number of at least 8; got 2"),
        ({"text": ("a", "b", "c")}, "name one column, or the two of a pair"),
        ({"label": ("a", "b")}, "names 2 columns: give several=True"),
        ({"label": ""}, "names no column"),
        ({"labels": "good"}, "give all labels in a list"),
        ({"labels": {"a": "Same", "b": "same"}}, "the labels 'a' and 'b' are both 'same' in words"),
        ({"name": 3}, "name must be a name, or None; got 3"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(UsageError, match=says):
        task("a.jsonl", **settings)


def test_settings_of_the_data_are_refused():
    with pytest.raises(UsageError, match="data must be the name of a data set"):
        task("")
    with pytest.raises(TypeError, match="trian"):
        classification("a.jsonl", trian=3)  # type: ignore[call-arg]


BAD = {
    "no label column": ([{"text": "a"}], DataError, "has no column 'label'.*label="),
    "no text column": ([{"label": "a"}], DataError, "has no column 'text'.*text="),
    "one label": ([each | {"label": "same"} for each in ROWS], DataError, "all rows of train have the label 'same'.*label="),
    "labels that collide": (
        [*ROWS, ROWS[0] | {"text": "x", "label": "first one"}], UsageError, "the labels 'first one' and 'first_one' are both"
    ),
    "labels that are real numbers": ([each | {"label": 0.5} for each in ROWS], DataError, r"must be a label, got float '0\.5'"),
    "a huge field": ([*ROWS, {"text": "x" * 10_000_000, "label": "third"}], DataError, "10,000,000 characters.*Shorten or cut"),
    "few rows": (ROWS[:3], DataError, "has too few rows to split dev off. Give at least 20"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_by_plan_in_words(name, tmp_path, tiny, command):
    rows, _, says = BAD[name]
    written(tmp_path / "a.jsonl", rows)
    (tmp_path / "s.py").write_text(STUDY.format(model=tiny, data="a.jsonl", settings=""))
    code, out, err = command("plan", "s.py")
    assert code == 2
    assert not out
    assert re.search(says, " ".join(err.split())), err


def test_an_unknown_label_in_dev_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    written(tmp_path / "d" / "train.jsonl")
    written(tmp_path / "d" / "dev.jsonl", [ROWS[0] | {"text": "x", "label": "thrid"}])
    with pytest.raises(DataError, match=r"1 rows of dev have the label 'thrid', which no row of train has. Did you mean 'third'"):
        task(str(tmp_path / "d")).splits()


# The whole way

STUDY = '''"""Which way tells the third word?"""

from workbench import Recipe, Study, bitfit, choice, full, loguniform
from workbench.tasks import classification

study = Study(
    Recipe(
        task=classification({data!r}, train=choice(32, 64), dev=16, test=8, max_length=32{settings}),
        model={model!r},
        method=choice(full(learning_rate=loguniform(3e-3, 1e-2)), bitfit(learning_rate=loguniform(3e-3, 3e-2))),
        epochs=4,
        batch_size=8,
    ),
    maximize="macro_f1",
    trials=3,
)
'''


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["", ", several=True, label='tags'"])
def test_a_study_of_a_csv_file_is_swept(tmp_path, tiny, command, settings):
    lines = [
        "text,label,tags,group",
        *(f"{each['text']},{each['label']},{'a|b' if i % 3 else ''},g{i % 2}" for i, each in enumerate(ROWS)),
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    (tmp_path / "s.py").write_text(STUDY.format(model=tiny, data="a.csv", settings=settings))
    assert command("plan", "s.py")[0] == 0
    code, out, err = command("sweep", "s.py", "--json", "--log-samples", "2")
    assert code == 0, err
    points = json.loads(out)["points"]
    assert {point["labels"] for point in points} <= {*range(1, 65)}
    runs = json.loads(command("runs", "s.py", "--json")[1])
    assert len({each["settings"]["method"] for each in runs}) >= 1
    wanted = {"macro_f1", "worst_group_macro_f1", "gap_macro_f1", "dev_loss"} | (
        {"subset_accuracy"} if settings else {"calibration_error"}
    )
    assert all(wanted <= each["scores"].keys() for each in runs)
    assert max(each["scores"]["macro_f1"] for each in runs) > 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_a_language_model_is_asked_and_tuned_for_the_same_task(tmp_path, kind):
    """It may say nothing but the labels, and learns them."""
    from kinds import untuned_loss

    from workbench import few_shot, zero_shot
    from workbench.testing import tiny_decoder, tiny_seq2seq
    from workbench.training import train

    model = tiny_decoder(tmp_path / "m") if kind == "decoder" else tiny_seq2seq(tmp_path / "m")
    one = task(written(tmp_path / "a.jsonl", [row | {"text": row["text"][:40]} for row in ROWS]), dev=8, instruction="Which?")

    def trained(method, **more):
        return [*train(Recipe(task=one, model=model, method=method, **{"epochs": 1, "batch_size": 4} | more))]

    for method in (zero_shot(), few_shot(shots=1), full(learning_rate=3e-3)):
        (*_, checkpoint) = trained(method)
        assert all(prediction.labels[0] in LABELS for prediction in checkpoint.predictions)
        assert checkpoint.labels == (0 if method.kind == "zero_shot" else 1 if method.kind == "few_shot" else 32)
        assert {"accuracy", "macro_f1", *(("dev_loss",) if method.trains else ())} == checkpoint.scores.keys()
    untrained = untuned_loss(trained(zero_shot())[0].recipe)
    assert trained(full(learning_rate=3e-3), epochs=4)[-1].scores["dev_loss"] < untrained / 2


def test_the_study_of_intents_reads_built_in_data_or_what_it_is_given(monkeypatch):
    from workbench.study import load as load_study

    path = Path(__file__).parents[1] / "studies" / "intents.py"
    study = load_study(path)
    assert study.recipe.task.data == "pytopics"
    assert study.question.startswith("What is a function about?")
    monkeypatch.setenv("INTENTS", "some/folder")
    other = load_study(path)
    assert other.recipe.task.data == "some/folder"
    assert other.name != study.name
    settings = {"model": "minilm-l3", "method": "zero_shot"}
    assert not space.allowed(study.dimensions, settings)
    assert space.allowed(study.dimensions, settings | {"model": "smollm2-135m"})


@pytest.mark.parametrize("method", [full(learning_rate=1e-2), peft("lora", learning_rate=1e-2, r=2, target_modules="all-linear")])
def test_a_tuned_model_is_used_as_its_docstring_shows(tmp_path, tiny, method):
    from safetensors.torch import save_file

    from workbench.training import train, tuned_model

    recipe = Recipe(task=task(written(tmp_path / "a.jsonl")), model=tiny, method=method, epochs=1, batch_size=8)
    (*_, last) = train(recipe)
    save_file(last.weights(), tmp_path / "w.safetensors")
    weights = tmp_path / "w.safetensors"
    shown = re.findall(r"^ *>>> (.*)$", tuned_model.__doc__, re.MULTILINE)
    names = {"tuned_model": tuned_model, "recipe": recipe, "weights": weights}
    exec("\n".join(shown[:2]), names)
    for example, predicted in zip(recipe.task.splits().dev, last.predictions, strict=True):
        exec(shown[2].replace('"Where is my parcel?"', repr(example["text"])), names)
        assert eval(shown[3], names) == predicted.labels[0]
