"""The question-answering task: what a model sees, what is read back, and how it is graded."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from workbench import Recipe, Study, full, integers, space
from workbench.data import load
from workbench.errors import DataError, UsageError
from workbench.formulations import spans as module
from workbench.objectives import NO_TARGET
from workbench.tasks import QuestionAnswering, question_answering

torch = pytest.importorskip("torch")
FIXTURE = str(Path(__file__).parent / "fixtures" / "squad_v2.json")


@pytest.fixture(scope="module")
def tokenizer():
    """Lower-cased words and punctuation as tokens, learnt from the fixture."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    splitter = tokenizers.pre_tokenizers.Whitespace()
    texts = [example[key] for example in examples() for key in ("question", "context")]
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = splitter
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=256, **special)


def examples():
    data = load(FIXTURE)
    return sorted((*data.train, *data.dev, *data.test), key=lambda example: example["id"])


def targets(rows):
    """First and last token of each row's answer, shape (rows, 2)."""
    return np.stack((rows.columns["start_positions"], rows.columns["end_positions"]), 1)


def certain(rows, likely=None):
    """What `read` gives of a model that is sure of the targets, each as sure as `likely` says."""
    read = []
    for i, (length, (start, end)) in enumerate(zip(rows.lengths, targets(rows), strict=True)):
        logits = np.zeros((2, length), np.float32)
        logits[0, start] = logits[1, end] = 5 if likely is None else likely[i]
        read.append(logits)
    return read


def encode(qa, examples, tokenizer):
    return qa.formulation("encoder").encode(examples, tokenizer)


def reach(qa, examples, tokenizer):
    return qa.formulation("encoder").reach(examples, tokenizer)


def decoded(qa, examples, rows, outputs):
    return qa.formulation("encoder").decode(examples, rows, outputs, None)


def task(**settings):
    return question_answering(FIXTURE, **{"train": 2, "max_length": 64, "stride": 8} | settings)


def test_a_model_that_is_sure_of_the_targets_is_always_right(tokenizer):
    qa, asked = task(), examples()
    rows = encode(qa, asked, tokenizer)
    predictions = decoded(qa, asked, rows, certain(rows))
    assert predictions == [(example["answers"]["text"] or [""])[0] for example in asked]
    assert qa.score(asked, predictions) == {"exact_match": 100, "f1": 100}
    assert len(rows) == len(asked)
    assert {len(ids) for ids in rows.columns["input_ids"]} == set(rows.lengths.tolist())


def test_best_span_across_windows(tokenizer):
    qa, asked = task(max_length=32), examples()
    rows = encode(qa, asked, tokenizer)
    assert len(rows) > len(asked)
    for i, example in enumerate(asked):
        held = targets(rows)[rows.example == i].any(axis=1)
        assert held.any() == bool(example["answers"]["text"])  # windows without the answer point at the first token
    assert qa.score(asked, decoded(qa, asked, rows, certain(rows))) == {"exact_match": 100, "f1": 100}


def test_the_likeliest_window_wins(tokenizer):
    qa = task(max_length=32)
    (asked,) = [example for example in examples() if example["id"] == "built"]
    rows = encode(qa, [asked], tokenizer)
    assert len(rows) >= 2
    read = [np.zeros((2, length), np.float32) for length in rows.lengths]
    read[0][:, rows.extra[0][0]] = 3
    read[1][:, rows.extra[1][0] + 1] = 4
    start, end = rows.extra[1][1][1]
    assert decoded(qa, [asked], rows, read) == [asked["context"][start:end]]


def test_no_answer_needs_to_be_likelier_by_the_threshold(tokenizer):
    (asked,) = [example for example in examples() if example["id"] == "bern"]
    rows = encode(task(), [asked], tokenizer)
    logits = certain(rows)
    logits[0][:, 0] = 6  # 2 more than the span's 10 in the sum of both ends
    assert decoded(task(), [asked], rows, logits) == [""]
    assert decoded(task(null_threshold=2.0), [asked], rows, logits) == ["The Aare"]


def test_data_in_which_everything_has_an_answer_never_says_none(tokenizer, tmp_path):
    import json

    rows = [example for example in examples() if example["answers"]["text"]]
    for side in ("train", "dev", "test"):
        (tmp_path / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    qa = question_answering(str(tmp_path), train=1)
    encoded = encode(qa, rows, tokenizer)
    logits = certain(encoded)
    for each in logits:
        each[:, 0] = 99
    assert decoded(qa, rows, encoded, logits) == [row["answers"]["text"][0] for row in rows]


def test_answers_end_after_they_start_and_are_no_longer_than_allowed(tokenizer):
    qa, asked = task(max_answer_tokens=2, null_threshold=1e9), examples()
    rows = encode(qa, asked, tokenizer)
    rng = np.random.default_rng(0)
    read = [rng.normal(size=(2, length)).astype(np.float32) for length in rows.lengths]
    for example, answer in zip(asked, decoded(qa, asked, rows, read), strict=True):
        assert answer
        assert answer in example["context"]
        assert len(tokenizer.tokenize(answer)) <= 2


def asked(*golds, words=90):
    """A question with these gold answers, each a range of the numbered words of its context; 10 and after are of two digits."""
    context = " ".join(f"{i}" for i in range(10, 10 + words))
    texts = [" ".join(f"{i}" for i in range(first, last)) for first, last in golds]
    answers = {"text": texts, "answer_start": [context.index(text) for text in texts]}
    return {"id": "q", "question": "Which?", "context": context, "answers": answers}


def test_an_answer_that_no_window_holds_teaches_nothing(tokenizer):
    qa = task(max_length=32, stride=8)
    far, near, none = asked((20, 60)), asked((20, 24)), asked()
    rows = encode(qa, [far, near, none], tokenizer)
    assert (targets(rows.of_example(0)) == NO_TARGET).all()
    assert len(rows.of_example(0)) > 2
    assert rows.items.tolist() == [0] * len(rows.of_example(0)) + [1] * len(rows.of_example(1)) * 2
    assert targets(rows.of_example(1)).any(axis=1).sum() >= 1
    assert not targets(rows.of_example(2)).any()
    logits = {name: torch.randn(len(rows), 32, requires_grad=True) for name in ("start_logits", "end_logits")}
    batch = rows.batch(range(len(rows))) | {"attention_mask": torch.ones(len(rows), 32)}
    loss = qa.formulation("encoder").objective.loss(logits, batch)
    loss.backward()
    for each in logits.values():
        assert ((each.grad == 0).all(1) == (torch.tensor(rows.items) == 0)).all()


def test_of_several_gold_answers_the_first_that_can_be_given_is_learned(tokenizer):
    qa = task(max_length=32, stride=8, max_answer_tokens=5)
    for golds in ([(20, 60), (40, 44)], [(38, 46), (40, 44)], [(40, 44), (20, 60)]):
        rows = encode(qa, [asked(*golds)], tokenizer)
        assert {tuple(span) for span in (targets(rows)[:, 1] - targets(rows)[:, 0])[:, None].tolist()} == {(0,), (3,)}
    rows = encode(qa, [asked((20, 60), (38, 46))], tokenizer)  # too long to be given, but where it is can be learned
    assert 7 in targets(rows)[:, 1] - targets(rows)[:, 0]


def test_answers_that_cannot_be_given_are_counted(tokenizer):
    qa = task(max_length=32, stride=8, max_answer_tokens=5)
    apart, long, fine, none = asked((20, 60)), asked((38, 46)), asked((40, 43)), asked()
    either = asked((20, 60), (40, 43))
    found = reach(qa, [apart, long, fine, none, either], tokenizer)
    assert (found.targets, found.share_missed) == (4, 0.5)
    assert found.told("dev answers") == (
        "2 of 4 dev answers (50 %) cannot be given: 1 longer than max_answer_tokens=5, 1 whole in no window of max_length=32 "
        "with stride=8. Raise max_answer_tokens, and stride or max_length: the longest has 40 tokens."
    )
    assert reach(qa, [fine, none], tokenizer).told("dev answers") == ""
    assert reach(qa, [none], tokenizer).share_missed == 0
    assert reach(task(max_length=256, stride=8, max_answer_tokens=40), [apart, long, fine], tokenizer).missed == {}
    told = reach(qa, [apart], tokenizer).told("train answers")
    assert "Raise max_answer_tokens, and stride or max_length: the longest has 40 tokens." in told
    blank = {"id": "q", "question": "?", "context": "a  b", "answers": {"text": [" "], "answer_start": [2]}}
    assert "1 of characters that this model has no token for. Mend" in reach(qa, [blank], tokenizer).told("train answers")


def test_what_is_short_enough_for_certain_can_be_given(tokenizer, monkeypatch):
    """The shortcut that spares encoding finds what encoding finds."""
    cases = [asked((first, first + length), words=80) for first in range(10, 80, 3) for length in (1, 2, 4, 5, 7, 10)]
    for stride, most in ((0, 3), (4, 4), (8, 30), (12, 6)):
        qa = task(max_length=40, stride=stride, max_answer_tokens=most)
        found = reach(qa, cases, tokenizer)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_is_short", lambda text, most: False)
            assert reach(qa, cases, tokenizer) == found


def test_loss_and_read_of_a_padded_batch(tokenizer):
    from transformers import BertConfig, BertForQuestionAnswering

    qa, asked = task(), examples()
    rows = encode(qa, asked, tokenizer)
    size = {
        "vocab_size": len(tokenizer),
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    torch.manual_seed(0)
    model = BertForQuestionAnswering(BertConfig(**size)).eval()

    form = qa.formulation("encoder")

    def run(which):
        batch = rows.batch(which)
        with torch.no_grad():
            return form.objective.forward(model, batch), batch

    every = list(range(len(rows)))
    output, batch = run(every)
    assert len({len(ids) for ids in rows.columns["input_ids"]}) > 1
    read = form.inference(tokenizer)(model.requires_grad_(False), batch)
    assert [each.shape for each in read] == [(2, length) for length in rows.lengths]
    assert all(each.dtype == np.float32 for each in read)
    summed = 0.0
    for i in every:  # padding changes nothing
        alone = form.objective.loss(*run([i]))
        summed += float(alone)
        with torch.no_grad():
            expected = model(
                input_ids=torch.tensor(rows.columns["input_ids"][i][None].astype(np.int64)),
                start_positions=torch.tensor(targets(rows)[i : i + 1, 0]),
                end_positions=torch.tensor(targets(rows)[i : i + 1, 1]),
            )
        assert float(expected.loss) == pytest.approx(float(alone), abs=1e-5)
        for ours, whole in zip(form.inference(tokenizer)(model, rows.batch([i])), [read[i]], strict=True):
            np.testing.assert_allclose(ours, whole, atol=1e-5)
    assert float(form.objective.loss(output, batch)) == pytest.approx(summed, abs=1e-4)


def test_a_smaller_training_set_is_a_prefix_and_the_seed_orders_it(tmp_path):
    import json

    rows = [{"id": i, "question": "q", "context": f"context {i}", "answers": []} for i in range(60)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = str(tmp_path / "data.jsonl")
    small, large, other = (
        question_answering(data, **settings).splits() for settings in ({"train": 8}, {"train": 30}, {"train": 8, "seed": 1})
    )
    assert small.train == large.train[:8] != other.train
    assert small.dev == large.dev == other.dev
    assert len(question_answering(data, train=8, dev=3, test=2).splits().dev) == 3
    assert len(question_answering(data, train=8, dev=3, test=0).splits().test) == 0
    assert not {example["id"] for example in large.train} & {example["id"] for example in (*large.dev, *large.test)}


def test_more_labels_than_there_are():
    with pytest.raises(UsageError, match=r"train=500: .* has 3 examples"):
        task(train=500).splits()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train": -1}, "train must be .* got -1"),
        ({"train": integers(-1, 4)}, "train must be .* got -1"),
        ({"train": 2.5}, "train must be .* got 2.5"),
        ({"train": True}, "train must be .* got True"),
        ({"dev": 0}, "dev must be .* got 0"),
        ({"max_length": 8}, "at least 32"),
        ({"language": "klingon"}, "no published rule"),
    ],
)
def test_a_value_out_of_its_range(settings, says):
    with pytest.raises(UsageError, match=says):
        task(**settings)


def grouped(path, group):
    """Questions from two places; those of the second are the harder ones."""
    rows = [
        {"id": str(i), "question": f"where {i}?", "context": f"{i} In Rome.", "answer": "Rome", "answer_start": len(f"{i} In ")}
        | ({group: ["near", "far"][i % 2]} if group else {})
        for i in range(40)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_scores_of_groups_are_told_apart(tmp_path):
    qa = question_answering(grouped(tmp_path / "q.jsonl", "place"), train=8, dev=8, group="place")
    dev = qa.splits().dev
    assert {example["group"] for example in dev} == {"near", "far"}
    found = qa.grade(dev, ["Rome" if example["group"] == "near" else "" for example in dev])
    assert (found["worst_group_f1"], found["gap_f1"]) == (0.0, 100.0)
    bare = question_answering(qa.data, train=8, dev=8)
    assert not any("group" in example for example in bare.splits().dev)
    assert bare.digest() != qa.digest()
    study = Study(
        Recipe(task=qa, model="minilm-l3", method=full(learning_rate=1e-4), epochs=1),
        maximize="worst_group_f1",
        require={"gap_f1": 20},
    )
    assert "group" not in Recipe(task=bare, model="minilm-l3", method=full(learning_rate=1e-4), epochs=1).to_json()["task"]
    assert study.bounds == {"gap_f1": {"at_most": 20.0}}


def test_groups_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no question of .* has 'place' \(group=\)"):
        question_answering(grouped(tmp_path / "q.jsonl", ""), train=8, group="place").splits()
    data = grouped(tmp_path / "r.jsonl", "place")
    Path(data).write_text(Path(data).read_text().replace('"near"', '["near"]', 1))
    with pytest.raises(DataError, match=r"line 1, question 0: 'place' must be text.*Name each group"):
        question_answering(data, train=8, group="place").splits()


def test_no_data_at_all():
    with pytest.raises(UsageError, match="data must be the name of a data set"):
        question_answering("", train=1)


def test_holes_are_kept_until_they_are_filled():
    qa = question_answering("pydocs", train=space.choice(128, 512), max_length=space.integers(64, 128))
    assert set(space.dimensions(qa)) == {"train", "max_length"}
    filled = space.resolve(qa, {"train": 128, "max_length": 64})
    assert filled == question_answering("pydocs", train=128, max_length=64)
    with pytest.raises(UsageError, match=r"train must be .* got -1"):
        space.resolve(question_answering("pydocs", train=space.choice(-1)), {"train": -1})


def test_a_task_is_a_plain_value():
    qa = task()
    assert pickle.loads(pickle.dumps(qa)) == qa
    assert hash(qa) == hash(task())
    assert isinstance(qa, QuestionAnswering)
    assert dataclasses.replace(qa, train=3).train == 3
    assert task().digest() == task(train=1, seed=3).digest() == load(FIXTURE).digest
