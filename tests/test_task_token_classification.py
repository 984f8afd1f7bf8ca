"""Entities: what is read of each format, what a model sees, what is read back, and how it is graded."""

import json
import os
import random
from pathlib import Path

import kinds
import numpy as np
import pytest

from workbench import Study
from workbench.data import fingerprints, load, models
from workbench.data.tagged import TaggedWords, _bio
from workbench.errors import DataError, UsageError
from workbench.formulations import TokenClassification
from workbench.sweep import check_data
from workbench.tasks import token_classification
from workbench.tasks.entity_scores import entity_scores
from workbench.testing import tiny_decoder

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


def row(i):
    """A person is w7 or w8, a place w9 w10."""
    rng = random.Random(i)
    tokens = [f"w{rng.randrange(20, 60)}" for _ in range(rng.randrange(5, 14))]
    tags = ["O"] * len(tokens)
    place = rng.randrange(len(tokens) - 1)
    tokens[place], tags[place] = (rng.choice(("w7", "w8")), "B-PER") if i % 2 else ("w9", "B-LOC")
    if not i % 2:
        tokens[place + 1], tags[place + 1] = "w10", "I-LOC"
    return {"tokens": tokens, "ner_tags": tags}


ROWS = [row(i) for i in range(120)]


def written(file, rows=ROWS):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def task(data, **settings):
    return token_classification(data, **{"train": 32, "dev": 16, "test": 8, "max_length": 16, "stride": 4} | settings)


def read(file, **settings):
    return load(str(file), TaggedWords(**settings))


# Data


def test_the_same_sentences_in_four_formats(tmp_path):
    lists = read(written(tmp_path / "a.jsonl"))
    sentences = ("\n".join(f"{w} x {t}" for w, t in zip(r["tokens"], r["ner_tags"], strict=True)) for r in ROWS)
    (tmp_path / "b.conll").write_text("-DOCSTART- -X- O\n\n" + "\n\n".join(sentences))
    (tmp_path / "c.csv").write_text("words,tags\n" + "".join(f"{' '.join(r['tokens'])},{' '.join(r['ner_tags'])}\n" for r in ROWS))
    names = ["O", "B-PER", "B-LOC", "I-LOC"]
    numbers = [r | {"ner_tags": [names.index(tag) for tag in r["ner_tags"]]} for r in ROWS]
    by_number = read(written(tmp_path / "d.jsonl", numbers), names=tuple(names))
    assert lists.train == read(tmp_path / "b.conll").train == read(tmp_path / "c.csv").train == by_number.train
    assert lists.train[0].keys() == {"id", "tokens", "tags"}
    assert (len(lists.train), len(lists.dev), len(lists.test)) == (96, 12, 12)


def test_a_folder_of_text_files_by_side(tmp_path):
    for side in ("train", "dev", "test"):
        (tmp_path / f"{side}.txt").write_text(f"# text = Anna\nAnna B-PER\n{side} O\n")
    found = read(tmp_path)
    assert found.dev[0]["tokens"] == ["Anna", "dev"]
    assert found.train[0]["tags"] == ["B-PER", "O"]


def test_other_schemes_are_read_as_bio():
    assert _bio(["B-a", "I-a", "E-a", "S-a", "O"]) == (["B-a", "I-a", "I-a", "B-a", "O"], 0)
    assert _bio(["B-a", "L-a", "U-b", "U-b"]) == (["B-a", "I-a", "B-b", "B-b"], 0)
    assert _bio(["I-a", "I-a", "I-b", "O", "I-b"]) == (["B-a", "I-a", "B-b", "O", "B-b"], 3)
    assert _bio(["S-a", "I-a"]) == (["B-a", "B-a"], 1)


def test_spans_of_characters_become_tags(tmp_path):
    rows = [{"text": f"Anna-{i} was in New York.", "spans": [{"start": 15, "end": 23, "label": "place"}, [0, 4, "person"]]}
            for i in range(10, 50)]  # fmt: skip
    found = read(written(tmp_path / "a.jsonl", rows))
    assert found.train[0]["tokens"][0] == "Anna"
    assert found.train[0]["tags"] == ["B-person", "O", "O", "O", "O", "B-place", "I-place", "O"]
    within = [row | {"spans": [[0, 2, "person"]]} for row in rows]
    assert "entities of train begin or end within a word" in read(written(tmp_path / "b.jsonl", within)).notes[0]
    assert "moved" not in read(tmp_path / "b.jsonl").train[0]
    over = [rows[0] | {"spans": [[0, 4, "a"], [0, 4, "b"]]}, *rows]
    assert "1 of 41 train rows are with entities that lie over each other" in read(written(tmp_path / "c.jsonl", over)).notes[0]
    chinese = [{"text": f"我在北京{i}", "spans": [[2, 4, "place"]]} for i in range(40)]
    assert read(written(tmp_path / "d.jsonl", chinese)).train[0]["tokens"][:4] == list("我在北京")


def test_questions_of_a_squad_file_are_types(tmp_path):
    def paragraph(i):
        text = f"For {i} people on May {i}."
        qas = [{"id": f"{i}-people", "question": "How many?", "answers": [{"text": str(i), "answer_start": 4}]},
               {"id": f"{i}-date", "question": "When?", "answers": [{"text": f"May {i}", "answer_start": text.index("May")}]},
               {"id": f"{i}-time", "question": "At what time?", "answers": [], "is_impossible": True}]  # fmt: skip
        return {"context": text, "qas": qas}

    document = {"data": [{"paragraphs": [paragraph(i) for i in range(10, 60)]}]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = read(tmp_path / "a.json")
    assert found.train[0]["tags"] == ["O", "B-people", "O", "O", "B-date", "I-date", "O"]
    assert len(found.train) == 40


@pytest.mark.skipif("WORKBENCH_DATA" not in os.environ, reason="real data are not at hand: set WORKBENCH_DATA")
def test_restaurant8k_is_read():
    data = Path(os.environ["WORKBENCH_DATA"], "text/restaurant8k/train_5.squad.json")
    one = token_classification(str(data), train=32)
    assert [*one.words()] == ["date", "first_name", "last_name", "people", "time"]
    assert any("lie over each other" in note for note in one.notes())


@pytest.mark.parametrize(
    "content, said",
    [
        ('{"tokens": ["a", "b"], "tags": ["O"]}', r"line 1: 2 words in 'tokens' and 1 tags. Give every word one tag"),
        ('{"tokens": ["a"], "tags": ["X-PER"]}', r"has the tag 'X-PER', and tags are O, B-type and I-type"),
        ('{"tokens": ["a"], "tags": [3]}', r"has the tag number 3, and give their names in order: names="),
        ('{"tokens": [1], "tags": ["O"]}', r"'tokens' must be a list of words, got '\[1\]'"),
        ('{"tokens": {"a": 1}, "tags": ["O"]}', r"'tokens' must be a list of words, got dict"),
        ('{"tokens": "[\'a\']", "tags": ["O"]}', r"is text that looks like a list"),
        ('{"tokens": ["a"], "tags": ["O"], "ner_tags": ["O"]}', r"'tags' and 'ner_tags' may both be the tags"),
        ('{"text": "ab", "spans": [{"start": 0, "end": 9, "label": "x"}]}', r"the span 0 to 9 \(x\) holds no word of a text of 2"),
        ('{"text": "ab", "spans": [[0, "b", "x"]]}', r"must be a list of spans, each with start, end and label"),
        ('{"text": "ab", "spans": 3}', r"must be a list of spans"),
        ('{"a": 1}', r"has no column 'tokens'"),
    ],
)
def test_what_is_no_tagged_text_is_refused(tmp_path, content, said):
    (tmp_path / "a.jsonl").write_text(f"{content}\n{content}\n")
    with pytest.raises(DataError, match=said):
        read(tmp_path / "a.jsonl")


def test_files_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "a.conll").write_text("Anna B-PER\nwas\n")
    with pytest.raises(DataError, match=r"line 2: 'was' has no tag. Write a word, a blank and its tag a line"):
        read(tmp_path / "a.conll")
    plain = [r | {"ner_tags": ["O"] * len(r["tokens"])} for r in ROWS]
    with pytest.raises(DataError, match="no row of train has an entity"):
        read(written(tmp_path / "b.jsonl", plain))
    with pytest.raises(DataError, match=r"entities of train are of the type 'LOC', which labels= does not name"):
        task(written(tmp_path / "c.jsonl"), labels=["PER"]).splits()
    with pytest.raises(UsageError, match="max_length must be a whole number of at least 8"):
        task("a", max_length=4)


# An encoder


@pytest.fixture
def one(tmp_path):
    return task(written(tmp_path / "a.jsonl"))


def test_the_head_has_an_output_for_each_tag(one):
    formulation = one.formulation("encoder")
    assert formulation.tags == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert formulation.settings["id2label"][3] == "B-PER"


def test_labels_stand_at_the_first_token_of_a_word(tmp_path):
    """Of a tokeniser that makes bytes of words, with a blank before each."""
    tokenizer = models.tokenizer(tiny_decoder(tmp_path))
    formulation = TokenClassification(("O", "B-x", "I-x"), lambda e: e["tokens"], lambda e: e["tags"], 64, 4)
    example = {"tokens": ["Anna", "saw", "New", "York", "."], "tags": ["O", "O", "B-x", "I-x", "O"]}
    rows = formulation.encode([example], tokenizer)
    assert rows.columns["labels"][0][:4].tolist() == [0, -100, -100, -100]
    assert sorted(rows.columns["labels"][0][rows.columns["labels"][0] >= 0].tolist()) == [0, 0, 0, 1, 2]
    assert rows.items.tolist() == [5]


@pytest.mark.parametrize("stride", [0, 3, 6])
def test_each_word_of_a_long_text_is_told_once_whatever_the_windows(tmp_path, stride):
    tokenizer = models.tokenizer(tiny_decoder(tmp_path))
    rng = random.Random(0)
    tags = ("O", "B-x", "I-x")
    examples = [{"tokens": ["ab" * rng.randrange(1, 9) for _ in range(n)], "tags": rng.choices(tags, k=n)} for n in (1, 7, 23, 60)]
    formulation = TokenClassification(tags, lambda e: e["tokens"], lambda e: e["tags"], 16, stride)
    rows = formulation.encode(examples, tokenizer)
    assert max(rows.lengths) == 16
    assert [rows.items[rows.example == i].sum() for i in range(4)] == [1, 7, 23, 60]
    outputs = [np.where(labels < 0, 2, labels) for labels in rows.columns["labels"]]  # as if the model had told each right
    assert formulation.decode(examples, rows, outputs, tokenizer) == [example["tags"] for example in examples]
    assert "labels" not in formulation.encode(examples, tokenizer, answers=False).columns


def test_a_word_in_two_windows_is_told_where_it_has_more_beside_it(tiny):
    formulation = TokenClassification(("O", "B-x"), lambda e: e["tokens"], lambda e: ["O"] * len(e["tokens"]), 8, 4)
    rows = formulation.encode([{"tokens": [f"w{i}" for i in range(10, 22)]}], models.tokenizer(tiny))
    assert [words[:, 0].tolist() for words in rows.extra] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_windows_that_cannot_be_are_refused(one, tiny):
    tokenizer = models.tokenizer(tiny)
    with pytest.raises(UsageError, match="leaves no room for stride=16"):
        task(one.data, stride=16).formulation("encoder").encode(one.splits().train, tokenizer)
    with pytest.raises(UsageError, match="cannot do TokenClassification: it writes no text"):
        one.formulation("vision")


def test_words_without_a_token_are_counted(one, tmp_path):
    formulation = one.formulation("encoder")
    example = {"tokens": ["w5", "", "w7"], "tags": ["O", "B-PER", "I-PER"]}

    found = formulation.reach([example, one.splits().train[0]], models.tokenizer(tiny_decoder(tmp_path)))
    assert (found.targets, sum(found.missed.values())) == (2, 1)


def test_it_is_an_encoder_like_any_other(one, tiny):
    of = kinds.tuned(one, tiny)
    rows = of.formulation.encode(one.splits().train[:9], of.processor)
    kinds.batch_is_alone(of, rows)
    kinds.cuts_change_no_gradient(of, rows)
    batch = rows.batch(range(5))
    own = of.model(**batch).loss * int(rows.items[:5].sum())
    torch.testing.assert_close(kinds.loss(of, batch), own, rtol=1e-5, atol=1e-4)


def test_it_is_taken_up_where_it_was_left(one, tiny):
    kinds.resumed_is_unbroken(kinds.recipe(one, tiny, epochs=2))


@pytest.mark.slow
def test_it_learns_and_its_weights_answer_the_same_elsewhere(one, tiny, tmp_path):
    made = "Recipe(task=token_classification(data, train=64, dev=12, test=8, max_length=16, stride=4), model=model, epochs=16, "
    made += "batch_size=8, method=full(learning_rate=1e-2))"
    kinds.kept_weights_answer_the_same(made, tmp_path, {"data": one.data, "model": tiny})
    *_, last = kinds.train(kinds.recipe(task(one.data, train=90), tiny, epochs=30, method=kinds.full(learning_rate=1e-2)))
    assert last.scores["f1"] > 60
    assert check_data(Study(kinds.recipe(one, tiny), maximize="f1")) == []


# A language model


def test_entities_are_written_and_found_again(one):
    formulation = task(one.data, labels={"PER": "person", "LOC": "place"}).formulation("decoder")
    example = {"tokens": ["Anna", "saw", "New", "York", "and", "Anna"], "tags": ["B-PER", "O", "B-LOC", "I-LOC", "O", "B-PER"]}
    assert formulation.answer(example) == "person: Anna; place: New York; person: Anna"
    assert formulation.prompt(example).startswith("Anna saw New York and Anna\n\nName every person, place in this text")
    assert formulation._read(formulation.answer(example), example) == example["tags"]
    said = "Place : NewYork;  person:anna; what: saw; person: Bob; person:; saw"
    assert formulation._read(said, example)[:4] == example["tags"][:4]
    assert formulation._read("none", example) == ["O"] * 6
    assert formulation.answer(example | {"tags": ["O"] * 6}) == "none"


def test_a_decoder_answers_with_tags_and_what_cannot_be_told_is_counted(one, tmp_path):
    model = tiny_decoder(tmp_path / "m")
    *_, last = kinds.train(kinds.recipe(task(one.data, dev=4, max_new_tokens=8), model))
    assert [len(p) for p in last.predictions] == [len(e["tokens"]) for e in task(one.data, dev=4).splits().dev]
    example = {"tokens": ["a", "a"], "tags": ["O", "B-PER"]}
    found = one.formulation("decoder").reach([example], models.tokenizer(model))
    assert found.cut == {"with entities that their words alone do not tell apart": 1}


# Scores


def test_scores_are_seqevals_strict_ones():
    """Those of an example in its documentation, and what differs from its default: an entity that does not begin with B-."""
    truth = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    given = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert entity_scores(truth, given) == {"f1": 50, "precision": 50, "recall": 50, "token_accuracy": 80}
    assert entity_scores([["B-NP", "I-NP", "O"]], [["I-NP", "I-NP", "O"]])["f1"] == 0
    assert entity_scores([["O"]], [["O"]]) == {"token_accuracy": 100}
    assert entity_scores([["B-a", "O"]], [["O", "O"]])["recall"] == 0


def test_scores_are_those_of_counted_spans():
    rng = random.Random(0)

    def spans(rows):
        found = set()
        for i, tags in enumerate(rows):
            for j, tag in enumerate(tags):
                if tag.startswith("B-"):
                    k = j + 1
                    while k < len(tags) and tags[k] == f"I-{tag[2:]}":
                        k += 1
                    found.add((i, j, k, tag))
        return found

    for _ in range(20):
        truth, given = ([rng.choices(["O", "B-a", "I-a", "B-b", "I-b"], k=9) for _ in range(6)] for _ in range(2))
        right, wanted, told = len(spans(truth) & spans(given)), len(spans(truth)), len(spans(given))
        found = entity_scores(truth, given)
        assert found["precision"] == pytest.approx(100 * right / told)
        assert found["recall"] == pytest.approx(100 * right / wanted)
        assert found["f1"] == pytest.approx(200 * right / (told + wanted))
