"""What is private is found, and nothing that only looks like it; placeholders stand where it stood, before anything is kept."""

import importlib.util
import json
import sys
import types

import personal
import pytest

from workbench import Recipe, causal_lm, choice, distil, full, masked_lm
from workbench.data import fingerprints, load, names
from workbench.data.redaction import KINDS, checked, finders, redacted
from workbench.errors import UsageError
from workbench.quality import cards
from workbench.study import loading
from workbench.tasks import (
    classification,
    continual,
    language_modelling,
    monitoring,
    question_answering,
    ranking,
    retrieval,
    support,
    text_generation,
    token_classification,
    translation,
)

NUMBERS = ("email", "iban", "card", "phone")
SECRET = "ada.king@example.com"
CARD = "4111 1111 1111 1111"


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


# What is found


@pytest.mark.parametrize("kind", personal.KINDS)
def test_nineteen_in_twenty_are_found_and_nothing_else(kind):
    found = right = 0
    for text, thing in personal.texts(kind, 400):
        at = text.index(thing)
        for start, end, named in redacted(text, NUMBERS).spans:
            found += 1
            right += named == kind and (start, end) == (at, at + len(thing))
    assert right >= 0.95 * 400, "recall"
    assert right >= 0.95 * found, "precision"


def test_texts_that_only_look_as_if_stay_as_they_are():
    touched = {text: redacted(text, NUMBERS).text for text in personal.NOTHING}
    assert {text: said for text, said in touched.items() if said != text} == {}


def test_a_number_is_one_of_a_telephone_where_words_say_so():
    texts = list(personal.said_phones(200))
    assert sum("[PHONE]" in redacted(text, NUMBERS).text for text in texts) >= 190
    assert redacted("It has 912 345 678 parts.", NUMBERS).spans == ()


def test_everything_in_a_text_is_replaced_and_only_what_was_asked_for():
    text = f"I am at {SECRET}, +49 30 1234567, card {CARD}, account DE89 3704 0044 0532 0130 00."
    assert redacted(text, NUMBERS).text == "I am at [EMAIL], [PHONE], card [CARD], account [IBAN]."
    assert redacted(text, ("card",)).text == text.replace(CARD, "[CARD]")
    assert redacted(text, NUMBERS).counts == {"email": 1, "phone": 1, "card": 1, "iban": 1}
    again = redacted(redacted(text, NUMBERS).text, NUMBERS)
    assert again.spans == ()


def test_places_behind_a_placeholder_move_with_it():
    text = f"Write to {SECRET} or to Bob in Rome."
    found = redacted(text, NUMBERS)
    for word in ("Write", "Bob", "Rome"):
        start = text.index(word)
        begin, end = found.moved(start, start + len(word))
        assert found.text[begin:end] == word
    begin, end = found.moved(text.index("king"), text.index("king") + 4)
    assert found.text[begin:end] == "[EMAIL]", "a part of what was replaced is all of its placeholder"


# Names


def test_names_are_found_by_what_stands_before_them(monkeypatch):
    monkeypatch.setattr(names, "finder_is_patterns", lambda: True)
    kinds = ("name by patterns",)
    assert redacted("Dear Mr. John Q. Smith, my name is Ana María López.", kinds).text == "Dear Mr. [NAME], my name is [NAME]."
    assert redacted("I am Sorry. Dear Customer, this is The end.", kinds).spans == ()


def test_names_are_found_by_presidio_where_it_is_there(monkeypatch):
    """By one that is made up here: a model of spaCy is on no index."""
    asked = []

    class Engine:
        def __init__(self, nlp_engine, supported_languages):
            asked.append(nlp_engine)

        def analyze(self, text, language, entities):
            assert (language, entities) == ("en", ["PERSON"])
            at = text.find("Zoe")
            return [types.SimpleNamespace(start=at, end=at + 3)] if at >= 0 else []

    class Provider:
        def __init__(self, nlp_configuration):
            self.how = nlp_configuration

        def create_engine(self):
            return self.how

    found = types.ModuleType("presidio_analyzer")
    inner = types.ModuleType("presidio_analyzer.nlp_engine")
    found.AnalyzerEngine, inner.NlpEngineProvider = Engine, Provider
    monkeypatch.setitem(sys.modules, "presidio_analyzer", found)
    monkeypatch.setitem(sys.modules, "presidio_analyzer.nlp_engine", inner)
    there = importlib.util.find_spec
    known = {"presidio_analyzer", "en_core_web_sm"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: True if name in known else None if name in names.MODELS else there(name)
    )
    monkeypatch.setattr(names.metadata, "version", lambda name: {"presidio-analyzer": "2.2", "en-core-web-sm": "3.8"}[name])
    names.finder_is_patterns.cache_clear()
    names._engine.cache_clear()
    try:
        assert finders(("name",)) == ("name by presidio 2.2 with en_core_web_sm 3.8",)
        assert redacted("We met Zoe there.", finders(("name",))).text == "We met [NAME] there."
        assert asked == [{"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_sm"}]}]
    finally:
        names.finder_is_patterns.cache_clear()
        names._engine.cache_clear()


# Tasks


def corpus(data, *, train, **redact):
    """The task by which a model learns from plain texts before it is tuned."""
    return masked_lm(data, steps=1, batch_size=train, **redact).task_of(1)


def rows(make, count=30):
    """Rows, every third of which has something private in it."""
    return [make(i, f"ask {SECRET} about {i}" if i % 3 == 0 else f"plain text number {i}") for i in range(count)]


TASKS = {
    "classification": (classification, lambda i, text: {"text": text, "label": "ab"[i % 2]}, {}),
    "text_generation": (text_generation, lambda i, text: {"prompt": text, "completion": f"{text} again"}, {}),
    "translation": (translation, lambda i, text: {"source": text, "target": text}, {"languages": ("English", "English")}),
    "language_modelling": (language_modelling, lambda i, text: {"text": text}, {}),
    "pretraining": (corpus, lambda i, text: {"text": text}, {}),
    "monitoring": (monitoring, lambda i, text: {"text": text, "label": ("negative", "neutral")[i % 2]}, {}),
    "support": (support, lambda i, text: {"question": text, "answer": f"{text} found {i}"}, {}),
    "retrieval": (retrieval, lambda i, text: {"query": text, "positive": f"{text} found {i}"}, {}),
    "ranking": (ranking, lambda i, text: {"query": text, "positive": f"{text} found {i}"}, {}),
    "tokens": (token_classification, lambda i, text: {"tokens": text.split(), "tags": ["B-x", *"O" * (len(text.split()) - 1)]}, {}),
    "spans": (
        token_classification,
        lambda i, text: {"text": text, "spans": [{"start": len(text) - 1, "end": len(text), "label": "x"}]},
        {},
    ),
    "question_answering": (
        question_answering,
        lambda i, text: {"question": f"who? {text}", "context": f"{text} is {i}", "answer": "is", "answer_start": len(text) + 1},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_nothing_private_is_read_by_any_task(tmp_path, name):
    make, row, more = TASKS[name]
    data = lines(tmp_path / "d.jsonl", rows(row))
    task = make(data, train=10, redact="email", **more)
    splits = task.splits()
    everything = json.dumps([[*splits.train, *splits.dev, *splits.test], [*task.searchable()]])
    assert "ada" not in everything
    assert "EMAIL" in everything
    found = task.redaction()
    assert found["kinds"] == ["email"]
    assert found["redacted"] > 0
    assert found["counts"]["email"] >= found["redacted"]
    assert any("Redacted in" in note for note in task.notes())
    bare = make(data, train=10, **more)
    assert "ada" in json.dumps([*bare.splits().train, *bare.splits().dev])
    assert bare.digest() != task.digest(), "other data, another recipe"
    assert bare.redaction() is None


def private(data, **more):
    """A recipe whose own task redacts."""
    task = classification(data, train=8, redact=("email", "card"))
    return Recipe(**{"task": task, "model": "minilm-l3", "method": full(learning_rate=1e-3), "epochs": 1} | more)


def test_what_one_part_of_a_recipe_is_rid_of_is_read_in_no_other(tmp_path):
    data = lines(tmp_path / "d.jsonl", rows(TASKS["classification"][1]))
    bare, some = classification(data, train=8, name="bare"), classification(data, train=8, name="some", redact="card")
    before = private(data, task=bare)
    parts = {
        "masked_lm": {"pretrain": masked_lm(data, steps=choice(1, 2))},
        "causal_lm": {"pretrain": choice(None, causal_lm(data, steps=1))},
        "a task of also=": {"also": [some]},
        "the recipe in model=": {"model": choice("minilm-l3", before)},
        "the teacher of 'distil'": {"pseudo": distil(before)},
        "the task": {"task": continual([private(data).task, bare])},
    }
    for where, part in parts.items():
        with pytest.raises(UsageError) as told:
            private(data, **part)
        assert str(told.value).startswith(f"{where} reads {data!r} with email"), where
        assert "redact=('email', 'card')" in str(told.value)
    with pytest.raises(UsageError, match=r"^the task reads .* with iban, phone, name in it.*redact='all' too"):
        private(data, pretrain=masked_lm(data, steps=1, redact=("phone", "card", "iban", "name")))
    with pytest.raises(UsageError, match="the task reads"):  # and the other way round
        private(data, task=bare, model=private(data))


def test_a_recipe_that_redacts_throughout_is_made(tmp_path):
    data = lines(tmp_path / "d.jsonl", rows(TASKS["classification"][1]))
    also = [classification(data, train=8, name="more", redact=("card", "email")), classification("pytopics", train=1)]
    before = private(data, pretrain=masked_lm("pydocs", steps=1))
    made = private(data, pretrain=masked_lm(data, steps=1, redact=["email", "card"]), also=also, model=before)
    (texts,) = {example["text"].partition(" about")[0] for example in made.start.task.splits().dev if "ask" in example["text"]}
    assert texts == "ask [EMAIL]"
    assert made.to_json()["pretrain"]["redact"] == ["email", "card"]
    assert "redact" not in private(data, pretrain=masked_lm("pydocs", steps=1)).to_json()["pretrain"]


def test_an_answer_stays_where_it_stands(tmp_path):
    context = f"Write to {SECRET} or to Bob. Bob is kind."
    rows = [
        {
            "id": str(i),
            "question": f"who {i}?",
            "context": f"{i} {context}",
            "answer": "Bob",
            "answer_start": f"{i} {context}".index("Bob"),
        }
        for i in range(20)
    ]
    rows[0] |= {"answer": SECRET, "answer_start": rows[0]["context"].index(SECRET)}
    task = question_answering(lines(tmp_path / "q.jsonl", rows), train=1, redact=("email",))
    splits = task.splits()
    for example in [*splits.train, *splits.dev, *splits.test, *load(task.data, task.form).train]:
        for text, start in zip(example["answers"]["text"], example["answers"]["answer_start"], strict=True):
            assert example["context"][start : start + len(text)] == text
            assert text == ("[EMAIL]" if example["id"] == "0" else "Bob")


def test_a_span_stays_on_its_word_and_words_keep_their_tags(tmp_path):
    texts = [f"{SECRET} lives in no. {i}, Rome" for i in range(30)]
    spans = [{"text": text, "spans": [{"start": text.index("Rome"), "end": len(text), "label": "place"}]} for text in texts]
    task = token_classification(lines(tmp_path / "s.jsonl", spans), train=1, redact=("email",))
    (one,) = task.splits().train
    assert one["tokens"][-1] == "Rome"
    assert one["tags"][-1] == "B-place"
    words = [{"tokens": ["call", "+49", "30", "1234567", f"w{i}"], "tags": ["O", "O", "O", "O", "B-x"]} for i in range(30)]
    (one,) = token_classification(lines(tmp_path / "w.jsonl", words), train=1, redact="phone").splits().train
    assert one["tokens"][:4] == ["call", "[PHONE]", "[PHONE]", "[PHONE]"]
    assert len(one["tokens"]) == len(one["tags"]) == 5
    assert one["redacted"] == {"phone": 1}


def test_labels_and_groups_stay_as_they_are(tmp_path):
    data = lines(tmp_path / "d.jsonl", rows(lambda i, text: {"text": text, "label": f"{'ab'[i % 2]}@example.com", "group": SECRET}))
    splits = classification(data, train=10, redact="all").splits()
    assert {example["labels"][0] for example in splits.train} == {"a@example.com", "b@example.com"}
    assert {example["group"] for example in splits.train} == {SECRET}


def test_texts_that_are_the_same_once_redacted_stand_on_one_side(tmp_path):
    data = lines(
        tmp_path / "d.jsonl",
        [{"text": f"write to user{i % 40}@example.com about {i // 40}", "label": "ab"[i // 40 % 2]} for i in range(800)],
    )
    sides = load(data, classification(data, train=1, redact="email").form)
    held = [{example["text"] for example in side} for side in (sides.train, sides.dev, sides.test)]
    assert not held[0] & held[1]
    assert not (held[0] | held[1]) & held[2]


def test_a_recipe_without_redaction_has_the_record_it_had(tmp_path, tiny):
    data = lines(tmp_path / "d.jsonl", rows(TASKS["classification"][1]))
    made = Recipe(task=classification(data, train=8), model=tiny, method=full(learning_rate=1e-3), epochs=1)
    assert "redact" not in made.to_json()["task"]
    private = Recipe(
        task=classification(data, train=8, redact=["phone", "email"]), model=tiny, method=full(learning_rate=1e-3), epochs=1
    )
    assert private.to_json()["task"]["redact"] == ["email", "phone"]
    assert private.id != made.id


@pytest.mark.parametrize("given", ["mail", ("email", "nmae"), (), 3])
def test_what_cannot_be_redacted_is_refused(given):
    with pytest.raises(UsageError, match="redact="):
        classification("d.csv", train=1, redact=given)
    assert checked("all") == KINDS


def test_built_in_data_are_not_redacted():
    with pytest.raises(UsageError, match="texts of your own"):
        classification("pytopics", train=1, redact="email").splits()


# What is told


STUDY = """
from workbench import Recipe, Study, full
from workbench.tasks import classification
task = classification("d.jsonl", train=24, dev=8, max_length=16, redact="all")
study = Study(Recipe(task=task, model={model!r}, method=full(learning_rate=1e-3), epochs=1), maximize="accuracy", trials=1)
"""


@pytest.mark.slow
def test_plan_data_sweep_and_front_say_what_was_redacted_and_nothing_private_is_kept(command, tmp_path, tiny):
    lines(tmp_path / "d.jsonl", rows(lambda i, text: {"text": f"w4 w5 {text}", "label": "ab"[i % 2]}, 60))
    (tmp_path / "s.py").write_text(STUDY.format(model=tiny))
    for words in (("plan", "s.py"), ("data", "s.py"), ("sweep", "s.py", "--log-samples", "4"), ("front", "s.py")):
        code, out, err = command(*words)
        assert code == 0, err
        assert "e-mail addresses" in out + err, words
    assert "most are missed" in command("plan", "s.py")[2]
    front = json.loads(command("front", "s.py", "--json")[1])
    assert front["redaction"]["counts"]["email"] == front["redaction"]["redacted"] > 0
    (card,) = cards(loading.load(tmp_path / "s.py"))
    assert card.redaction["examples"] == sum(card.splits.values())
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "d.jsonl":
            assert b"ada.king" not in path.read_bytes(), path
