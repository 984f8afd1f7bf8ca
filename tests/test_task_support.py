"""Customer service: what past answers are, when a question is handed over, and how that is scored."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from workbench import Recipe, full, zero_shot
from workbench.data import fingerprints, load, past_answers, pysearch, pysupport
from workbench.data.past_answers import PastAnswers
from workbench.errors import DataError, UsageError
from workbench.study import load as load_study
from workbench.tasks import question_answering, support
from workbench.tasks.hand_over import Reply, hand_over_scores, threshold

STUDY = Path(__file__).parents[1] / "studies" / "support.py"


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


def intents(path, count=200, labels=10):
    """Questions whose third word tells the intent."""
    rows = ["text,category"]
    for i in range(count):
        rng = random.Random(i)
        words = [f"w{rng.randrange(30, 60)}" for _ in range(6)]
        words[2] = f"w{5 + i % labels}"
        rows.append(f"{' '.join(words)},intent_{i % labels}")
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def squad(path, paragraphs):
    """A SQuAD file of contexts, each with its questions and their answers, "" for none."""
    content = [
        {
            "context": context,
            "qas": [
                {
                    "id": f"{path.stem}-{i}-{question}",
                    "question": question,
                    "is_impossible": not answer,
                    "answers": [{"text": answer, "answer_start": context.index(answer)}] if answer else [],
                }
                for question, answer in asked.items()
            ],
        }
        for i, (context, asked) in enumerate(paragraphs)
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": content}]}))


def bookings(first, last):
    """What guests write: a time, a number of people, both, or neither."""
    for i in range(first, last):
        time, people = f"at {i} o'clock", f"{i} people"
        said = (time, people, f"{people} {time}", f"hello {i}")[i % 4]
        asked = {"When?": time if i % 4 in (0, 2) else "", "How many?": people if i % 4 in (1, 2) else ""}
        yield said, asked


# Data


def test_short_answers_that_repeat_are_those_of_past_questions(tmp_path):
    one = support(intents(tmp_path / "a.csv"), train=16)
    splits, answers = one.splits(), one.answers
    assert set(answers.values()) < {f"intent {i}" for i in range(10)}
    assert len(set(answers.values())) == 8, "one in five is left out"
    asked = {example["id"]: example for example in (*splits.train, *splits.dev, *splits.test)}
    for example in splits.train:
        ((name, grade),) = example["relevant"].items()
        assert grade == 1
        assert name != example["id"]
        assert answers[name] == example["answer"]
    for example in (*splits.dev, *splits.test):
        assert example["id"] not in answers, "what is graded is no past question"
        assert bool(example["relevant"]) == (example["answer"] in set(answers.values()))
    assert any(not example["relevant"] for example in splits.dev)
    assert all(" " in one.texts[name] for name in answers)
    assert asked.keys() - answers.keys() >= {example["id"] for example in splits.dev}
    assert any("have no answer in the collection: to be handed over" in note for note in one.notes())


def test_the_first_examples_are_a_draw_and_not_those_of_one_answer(tmp_path):
    data = intents(tmp_path / "a.csv", count=400)
    first = [example["answer"] for example in support(data, train=32).splits().train]
    assert len({*first}) >= 6, "of eight"
    assert first != sorted(first)
    assert len({example["answer"] for example in support(data, train=8, dev=20).splits().dev}) >= 6, "of ten"
    assert [example["answer"] for example in support(data, train=32, seed=1).splits().train] != first
    own = support("pysupport", train=64).splits().train
    assert [example["answer"] for example in own] != sorted(example["answer"] for example in own)


def test_long_or_different_answers_are_searched_themselves(tmp_path):
    rows = [json.dumps({"question": f"w{i} w5", "answer": f"w{i} w6 x{i // 2}"}) for i in range(100)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    one = support(str(tmp_path / "a.jsonl"), train=8)
    assert all(text == one.answers[name] for name, text in one.texts.items())
    splits = one.splits()
    out = [example for example in (*splits.dev, *splits.test) if not example["relevant"]]
    assert len(out) == (len(splits.dev) + len(splits.test)) // 5
    assert not {example["answer"] for example in out} & {*one.answers.values()}
    long = [json.dumps({"question": f"w{i} w5", "answer": f"passage {i % 9} " + "w7 " * 100}) for i in range(100)]
    (tmp_path / "b.jsonl").write_text("\n".join(long))
    assert all(text.startswith("passage") for text in support(str(tmp_path / "b.jsonl"), train=8).texts.values())


def test_questions_without_an_answer_are_those_to_hand_over(tmp_path):
    text = Path(intents(tmp_path / "a.csv")).read_text() + "".join(f"w9 w{i} what?,\n" for i in range(40))
    (tmp_path / "a.csv").write_text(text)
    one = support(str(tmp_path / "a.csv"), train=16)
    assert len(set(one.answers.values())) == 10, "nothing else is left out"
    splits = one.splits()
    assert {example["answer"] == "" for example in splits.dev} == {True, False}
    assert all(example["answer"] for example in splits.train)
    (tmp_path / "b.csv").write_text("question,answer\n" + "".join(f"w{i},yes\n" for i in range(40)))
    with pytest.raises(DataError, match="fewer than two answers"):
        support(str(tmp_path / "b.csv"), train=4).splits()
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"question": "w1", "answer": [1]}) for _ in range(40)))
    with pytest.raises(DataError, match=r"line 1: 'answer' must be an answer, got list"):
        support(str(tmp_path / "c.jsonl"), train=4).splits()


def test_what_is_personal_is_replaced_in_questions_and_answers(tmp_path):
    rows = [json.dumps({"question": f"who is w{i}?", "answer": f"write to w{i}@shop.com"}) for i in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows[:2] + [each.replace("@shop.com", " instead") for each in rows[2:]]))
    one = support(str(tmp_path / "a.jsonl"), train=8, redact="email")
    assert not any("@" in text for text in (*one.texts.values(), *one.answers.values()))
    assert not any("@" in example["answer"] for of in vars(one.splits()).values() for example in of)


def test_squad_files_are_messages_or_passages(tmp_path):
    squad(tmp_path / "messages.json", bookings(0, 80))
    one = support(str(tmp_path / "messages.json"), train=8)
    splits = one.splits()
    assert set(one.answers.values()) == {"When?", "How many?", "How many? When?"}
    for example in (*splits.train, *splits.dev):
        said = example["query"]
        assert example["answer"].split("? ") == [
            *(["How many?"] if "people" in said and "at" not in said else []),
            *(["When?"] if "at" in said and "people" not in said else []),
            *(["How many", "When?"] if "people" in said and "at" in said else []),
        ] or (not example["answer"] and said.startswith("hello"))
    squad(
        tmp_path / "passages.json",
        [(f"w{i} is w{i + 1}.", {f"What is w{i}?": f"w{i + 1}", f"Who is w{i}?": ""}) for i in range(60)],
    )
    other = support(str(tmp_path / "passages.json"), train=8)
    assert all(text.startswith("w") for text in other.texts.values())
    assert {e["query"].split()[0] for e in other.splits().dev if not e["answer"]} == {"Who"}


def test_parts_of_a_training_side_beside_the_whole_are_left_out_and_told(tmp_path):
    folder = tmp_path / "restaurant"
    folder.mkdir()
    squad(folder / "train_0.squad.json", bookings(0, 80))
    squad(folder / "train_3.squad.json", bookings(0, 20))
    squad(folder / "train_5.squad.json", bookings(8, 12))
    squad(folder / "test.squad.json", bookings(80, 100))
    one = support(str(folder), train=16)
    assert len(one.splits().test) == 20
    left = "All of train_3.squad.json stands in train_0.squad.json, too: train_3.squad.json is left out."
    assert left in one.notes()
    assert len([note for note in one.notes() if "is left out." in note]) == 2
    # Questions are asked of it as before: which file is meant has to be said.
    with pytest.raises(DataError, match=r"3 files for train: train_0.squad.json.*which is meant"):
        question_answering(str(folder), train=16).splits()
    # One row that the largest does not have, and it is no part of it.
    squad(folder / "train_5.squad.json", bookings(200, 204))
    load.cache_clear()
    fingerprints.look_again()
    with pytest.raises(DataError, match="3 files for train"):
        support(str(folder), train=16).splits()
    # Of two that are alike neither is the whole.
    (folder / "train_5.squad.json").write_bytes((folder / "train_0.squad.json").read_bytes().replace(b"train_0", b"train_5"))
    assert past_answers.held_by_another(folder, PastAnswers()) == {}


def test_real_customers_are_read_in_one_command():
    if "WORKBENCH_DATA" not in os.environ:
        pytest.skip("WORKBENCH_DATA does not name the folder with real data")
    data = Path(os.environ["WORKBENCH_DATA"]) / "text"
    one = support(str(data / "restaurant8k"), train=256)
    assert any("train_3.squad.json stands in train_0.squad.json" in note for note in one.notes())
    assert 0 < sum(not example["relevant"] for example in one.splits().dev) < 20
    bank = support(str(data / "banking77"), train=256, dev=2000)
    assert len(set(bank.answers.values())) == 62
    assert 150 < sum(not example["relevant"] for example in bank.splits().dev) < 250


def test_some_documents_of_pysupport_are_not_there(monkeypatch):
    sides = {
        side: [{"id": f"{side}{i}", "query": f"q{i}", "relevant": {f"{side}{i}": 1}, "negatives": []} for i in range(20)]
        for side in ("train", "dev", "test")
    }
    documents = [{"id": each["id"], "text": f"about {each['id']}"} for of in sides.values() for each in of]
    monkeypatch.setattr(pysearch, "load", lambda: {**sides, "documents": documents})
    found = pysupport.load()
    there = {each["id"] for each in found["documents"]}
    for side, count in (("train", 0), ("dev", 4), ("test", 4)):
        assert sum(each["id"] not in there for each in found[side]) == count
        assert all(bool(each["relevant"]) == (each["id"] in there) for each in found[side])


# Handing over


def replies(count, seed=0, skill=2.0):
    """Replies of which seven of ten are right, and surer where they are."""
    rng = np.random.default_rng(seed)
    right = rng.random(count) < 0.7
    sure = rng.normal(size=count) + skill * right
    return [Reply("yes", (float(s), -float(s)), bool(r), "yes" if r else "no") for s, r in zip(sure, right, strict=True)]


@pytest.mark.parametrize("precision", [0.8, 0.9, 0.95])
def test_the_answers_given_keep_the_stated_precision(precision):
    found = [hand_over_scores(replies(256, seed), precision) for seed in range(30)]
    kept = [each["answer_precision"] for each in found if "answer_precision" in each]
    assert len(kept) > 25
    assert 100 * precision - 1 <= np.mean(kept) <= 100 * precision + 4
    assert all(each["answered_at_precision"] + each["hand_over_rate"] == pytest.approx(100) for each in found)


def test_who_knows_better_when_it_is_right_answers_more():
    sharp, dull = (
        np.mean([hand_over_scores(replies(256, seed, skill), 0.9)["answered_at_precision"] for seed in range(10)])
        for skill in (3.0, 0.5)
    )
    assert sharp > 60 > 30 > dull


def test_the_measure_that_tells_best_is_taken():
    noise = np.random.default_rng(0).normal(size=256)
    plain = replies(256)
    alone, beside = (
        [
            Reply(each.text, (*of, *([each.sure[0]] if known else [])), each.right, each.gold)
            for each, *of in zip(plain, noise.tolist(), strict=True)
        ]
        for known in (False, True)
    )
    assert hand_over_scores(alone, 0.9)["answered_at_precision"] < 5
    assert hand_over_scores(beside, 0.9) == hand_over_scores(plain, 0.9)


def test_a_threshold_by_hand():
    sure = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    right = np.array([True, True, True, True, False, False])
    # Of the first four none is wrong: one of five is counted as wrong.
    assert threshold(sure, right, 0.8) == 0.6
    assert threshold(sure, right, 0.81) == float("inf")
    assert threshold(sure, right, 0.7) == 0.6
    assert threshold(sure, right, 0.6) == 0.5
    assert threshold(np.full(6, 0.5), right, 0.8) == float("inf"), "equal ones are answered together or not at all"


def test_words_of_an_answer_count_and_handing_over_is_right_where_there_is_none():
    sure = [Reply("lost card", (0.9,), True, "lost card")] * 20
    unsure = [Reply("lost card", (0.1,), False, ""), Reply("lost card", (0.1,), False, "card arrival")]
    found = hand_over_scores([*sure, *unsure], 0.9)
    assert found["answered_at_precision"] == pytest.approx(100 * 20 / 22)
    assert found["answer_precision"] == 100
    assert found["answer_f1"] == pytest.approx(100 * 21 / 22)
    bold = [Reply("lost card", (0.9,), False, "stolen card"), Reply("lost card", (0.9,), False, "")]
    # Half of the words of the first are right; the second should not have been answered.
    assert hand_over_scores([*sure * 2, *bold], 0.8)["answer_f1"] == pytest.approx(100 * 40.5 / 42)


# The task


def test_scores_of_rankings(tmp_path):
    one = support(intents(tmp_path / "a.csv", count=600), train=16, dev=60, documents=None)
    examples, answers = one.splits().dev, one.answers
    by_answer = {answer: name for name, answer in reversed(answers.items())}
    other = next(iter(by_answer.values()))
    perfect, late = [], []
    for example in examples:
        name = by_answer.get(example["answer"])
        perfect.append(((name, 0.9),) if name else ((other, 0.1),))
        wrong = next(each for answer, each in by_answer.items() if answer != example["answer"])
        late.append(((wrong, 0.9), (name or other, 0.8)))
    answerable = sum(bool(example["relevant"]) for example in examples)
    scores = one.grade(examples, perfect)
    assert {*one.metrics, *one.lower_is_better} == scores.keys()
    assert scores["recall_at_1"] == scores["answer_f1"] == scores["answer_precision"] == 100
    assert scores["answered_at_precision"] == pytest.approx(100 * answerable / len(examples)) != 100
    missed = one.grade(examples, late)
    assert (missed["recall_at_1"], missed["recall_at_10"], missed["answered_at_precision"]) == (0, 100, 0)
    with pytest.raises(UsageError, match="precision must be a share between 0 and 1"):
        support("pysupport", train=8, precision=1)


@pytest.mark.parametrize("method", [zero_shot(), full(learning_rate=3e-3)], ids=("untuned", "full"))
def test_a_tiny_model_learns_to_answer(tmp_path, tiny, method):
    from workbench.training import train

    one = support(intents(tmp_path / "a.csv", count=400, labels=5), train=96, dev=40, max_length=16)
    recipe = Recipe(task=one, model=tiny, method=method, epochs=4 if method.trains else 0, batch_size=16)
    *_, last = train(recipe)
    assert {"answered_at_precision", "hand_over_rate", "answer_f1", "recall_at_1", "recall_at_10"} <= last.scores.keys()
    assert ("dev_loss" in last.scores) == method.trains
    if method.trains:
        assert last.scores["recall_at_1"] > 60, "an untuned one of five finds the right one of five intents in a third"


def test_the_study_reads_built_in_data_or_what_it_is_given(monkeypatch):
    study = load_study(STUDY)
    assert study.recipe.task.data == "pysupport"
    assert study.question.startswith("Answer a customer or hand over")
    monkeypatch.setenv("SUPPORT", "some/folder")
    monkeypatch.setenv("SUPPORT_ANSWER", "reply")
    task = load_study(STUDY).recipe.task
    assert (task.data, task.positive) == ("some/folder", "reply")
