"""What is known of a study's data before anything is spent on it."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from workbench import Recipe, Study, choice, full, integers
from workbench.data import load
from workbench.errors import DataError, UsageError
from workbench.formulations import Rows
from workbench.objectives import NO_TARGET
from workbench.sweep import check_data
from workbench.tasks import question_answering, tables
from workbench.testing import TinyTask
from workbench.testing.tiny import TinyFormulation


@pytest.fixture(autouse=True)
def _nothing_remembered():
    forget()


def forget():
    """As if the process were new: a file is read once in one."""
    load.cache_clear()
    tables._shuffled.cache_clear()


def written(path, long=(0, 0, 0)):
    """A folder of 20 + 10 + 10 questions, of which so many a side have an answer of forty words, the others one of three."""
    path.mkdir(exist_ok=True)
    for side, count, so_many in zip(("train", "dev", "test"), (20, 10, 10), long, strict=True):
        lines = []
        for i in range(count):
            words = [f"w{4 + (i + k) % 60}" for k in range(100)]
            answer = " ".join(words[20 : 60 if i < so_many else 23])
            row = {"id": f"{side}{i}", "question": f"w{i % 50 + 4}", "context": " ".join(words)}
            lines.append(json.dumps({**row, "answer": answer, "answer_start": row["context"].index(answer)}))
        (path / f"{side}.jsonl").write_text("\n".join(lines))
    return str(path)


def study(task, model):
    return Study(Recipe(task=task, model=model, method=full(learning_rate=1e-3), epochs=1), maximize="f1")


def qa(data, **settings):
    return question_answering(data, **{"train": 20, "max_length": 32, "stride": 8} | settings)


def test_nothing_is_said_where_all_can_be_given(tmp_path, tiny):
    assert check_data(study(qa(written(tmp_path / "d")), tiny)) == []


def test_what_cannot_be_given_is_told_by_side(tmp_path, tiny):
    told = check_data(study(qa(written(tmp_path / "d", (5, 1, 10))), tiny))
    why = "whole in no window of max_length=32 with stride=8. Raise stride or max_length: the longest has 40 tokens."
    assert told == [
        f"5 of 20 train answers (25 %) cannot be given: 5 {why}",
        f"1 of 10 dev answers (10 %) cannot be given: 1 {why}",
    ]


@pytest.mark.parametrize("long", [(11, 0, 0), (0, 6, 0)])
def test_a_study_of_which_little_is_left_is_refused(tmp_path, tiny, long):
    with pytest.raises(UsageError, match=r"cannot be given: .* Raise stride or max_length.* Too little is left"):
        check_data(study(qa(written(tmp_path / "d", long)), tiny))


def test_as_many_examples_count_as_the_study_may_take(tmp_path, tiny):
    told = check_data(study(qa(written(tmp_path / "d", (5, 0, 0)), train=choice(4, 20), seed=integers(0, 3)), tiny))
    assert [line.split(" (")[0] for line in told] == ["5 of 20 train answers"]


def test_a_length_that_is_searched_is_told_and_not_refused_where_another_is_enough(tmp_path, tiny):
    data = written(tmp_path / "d", (20, 10, 0))
    told = check_data(study(qa(data, max_length=choice(32, 128)), tiny))
    assert [line.split(":")[0] for line in told] == [
        "20 of 20 train answers (100 %) cannot be given",
        "10 of 10 dev answers (100 %) cannot be given",
    ]
    assert check_data(study(qa(data, max_length=integers(100, 128)), tiny)) == []
    with pytest.raises(UsageError, match="Too little is left"):
        check_data(study(qa(data, max_length=integers(32, 40)), tiny))


def test_every_data_set_of_a_study_is_read(tmp_path, tiny):
    good, other = written(tmp_path / "a"), written(tmp_path / "b", (5, 0, 0))
    (told,) = check_data(study(qa(choice(good, other)), tiny))
    assert f"5 of 20 train answers of data={other!r} (25 %)" in told
    (told,) = check_data(study(choice(qa(good, name="first"), qa(other, name="second")), tiny))
    assert "5 of 20 train answers of second (25 %)" in told
    (tmp_path / "b" / "dev.jsonl").write_text("{")
    forget()
    with pytest.raises(DataError, match=r"dev\.jsonl, line 1"):
        check_data(study(qa(choice(good, other)), tiny))


def test_models_are_named_where_their_tokenisers_differ(tmp_path, tiny):
    from workbench.testing import tiny_model

    same = tiny_model(tmp_path / "same")
    other = tiny_model(tmp_path / "other")
    settings = json.loads((tmp_path / "other" / "tokenizer.json").read_text())
    settings["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(settings))
    data = written(tmp_path / "d", (5, 0, 0))
    assert len(check_data(study(qa(data), choice(tiny, same)))) == 1
    told = check_data(study(qa(data), choice(tiny, same, other)))
    assert [line.split(" (")[0] for line in told] == [f"5 of 20 train answers for {model}" for model in (tiny, other)]


def test_plan_says_it_and_refuses(tmp_path, tiny, command):
    data = written(tmp_path / "d", (0, 1, 0))
    text = (
        "from workbench import Recipe, Study, full\nfrom workbench.tasks import question_answering\nstudy = Study(Recipe("
        f"task=question_answering({data!r}, train=20, max_length=32, stride=8), model={tiny!r}, method=full(learning_rate=1e-3), "
        "epochs=1), maximize='f1')\n"
    )
    (tmp_path / "s.py").write_text(text)
    code, _, err = command("plan", "s.py")
    assert code == 0
    assert " ".join(err.split()).count("1 of 10 dev answers (10 %) cannot be given: 1 whole in no window of max_length=32") == 1
    written(tmp_path / "d", (0, 6, 0))
    forget()
    for name in ("plan", "sweep"):
        code, out, err = command(name, "s.py")
        assert (code, out) == (2, "")
        assert "6 of 10 dev answers (60 %) cannot be given" in " ".join(err.split())
    assert not (tmp_path / "optuna.db").exists()


@dataclass(frozen=True)
class _Twice(TinyFormulation):
    """Each sentence twice, the second time without a target."""

    def encode(self, examples, processor, *, answers=True, shots=()):
        rows = super().encode(examples, processor)
        twice = np.repeat(np.arange(len(rows)), 2)
        items = np.tile((1, 0), len(rows))
        labels = np.where(items, rows.columns["labels"][twice], NO_TARGET)
        columns = {"input_ids": [rows.columns["input_ids"][i] for i in twice], "labels": labels}
        return Rows(columns, rows.example[twice], items, rows.collate)

    def decode(self, examples, rows, outputs, processor):
        return list(outputs)[::2]


@dataclass(frozen=True)
class _WithEmptyRows(TinyTask):
    def formulation(self, kind):
        return _Twice()


def test_rows_without_a_target_change_neither_the_gradient_nor_a_loss(tmp_path):
    torch = pytest.importorskip("torch")
    from workbench.testing import tiny_model
    from workbench.training import train

    model = tiny_model(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | still))
    recipe = Recipe(task=TinyTask(train=16, dev=16), model=model, method=full(learning_rate=1e-3), epochs=1, batch_size=4)
    *_, plain = train(recipe)
    *_, padded = train(replace(recipe, task=_WithEmptyRows(train=16, dev=16)))
    assert padded.scores == pytest.approx(plain.scores, rel=1e-4)
    for name, weight in plain.weights().items():
        assert torch.allclose(weight, padded.weights()[name], atol=1e-5), name
