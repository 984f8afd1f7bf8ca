"""Text generation and translation: scores of the field, conversations of several turns, and a sweep of a tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import untuned_loss
from sacrebleu.metrics import BLEU, CHRF

from workbench import Recipe, full, zero_shot
from workbench.data import models
from workbench.errors import DataError, UsageError
from workbench.objectives import NO_TARGET
from workbench.tasks import text_generation, translation
from workbench.tasks.text_scores import signature, text_scores, translation_scores
from workbench.testing import tiny_decoder, tiny_model, tiny_seq2seq
from workbench.training import train

GIVEN = ["the cat sat on the mat", "a quick brown fox", "Hello, world!", ""]
WANTED = ["the cat sat on a mat", "the quick brown fox jumped", "Hello world", "nothing at all"]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_decoder(tmp_path_factory.mktemp("chat"))


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "data.jsonl")


def pairs(count: int = 40) -> list[dict[str, Any]]:
    return [{"prompt": f"say {i}", "completion": f"it is {i}"} for i in range(count)]


def test_translations_are_scored_as_sacrebleu_does() -> None:
    found = translation_scores(GIVEN, WANTED)
    assert found["bleu"] == pytest.approx(BLEU().corpus_score(GIVEN, [WANTED]).score)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(GIVEN, [WANTED]).score)
    assert "tok:13a" in signature()
    assert "tok:zh" in signature("zh")
    assert translation_scores(WANTED, WANTED) == pytest.approx({"bleu": 100, "chrf": 100})


def test_texts_are_scored_by_kept_rules() -> None:
    found = text_scores(GIVEN, WANTED)
    assert found["exact_match"] == 0
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(GIVEN, [WANTED]).score)
    # The longest common words are 5 of 6 and 6, 3 of 4 and 5, 2 of 2 and 2, and none.
    assert found["rouge_l"] == pytest.approx(100 * (5 / 6 + 2 * 3 / 9 + 1 + 0) / 4)
    assert text_scores([], []) == translation_scores([], []) == {}
    assert text_scores([" a b\n"], ["a b"])["exact_match"] == 100
    assert text_scores(["A b"], ["a b"])["exact_match"] == 0


CONVERSATION = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "2"},
]


def test_every_turn_of_the_assistant_is_learned_and_the_last_is_asked_for(chat: str, tmp_path: Path) -> None:
    task = text_generation(written(tmp_path, [{"messages": CONVERSATION}] + [{"messages": CONVERSATION[1:3]}] * 0), train=1)
    form, tokenizer = task.formulation("decoder"), models.processor(chat)
    example = {"messages": CONVERSATION}
    (row,), (labels,) = (form.encode([example], tokenizer).columns[name] for name in ("input_ids", "labels"))
    assert tokenizer.decode(row) == tokenizer.decode(
        tokenizer(tokenizer.apply_chat_template(CONVERSATION, tokenize=False), add_special_tokens=False)["input_ids"]
    )
    targets = "".join(tokenizer.decode([token]) for token in labels if token != NO_TARGET)
    assert targets == "1<over>2<over>"
    (asked,) = form.encode([example], tokenizer, answers=False).columns["input_ids"]
    assert list(row[: len(asked)]) == list(asked)
    assert list(row[len(asked) :]) == [token for token in labels[len(asked) :] if token != NO_TARGET]


def test_a_template_that_tells_earlier_turns_otherwise_leaves_the_last_to_learn(chat: str, tmp_path: Path) -> None:
    import copy

    tokenizer = copy.copy(models.processor(chat))
    tokenizer.chat_template = (
        "{% for turn in messages %}{% if not loop.last or turn['role'] != 'assistant' %}<{{ turn['role'] }}>"
        "{{ turn['content'] | upper }}<over>{% else %}<assistant>{{ turn['content'] }}<over>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    talk = [{"role": turn["role"], "content": turn["content"].replace("1", "one")} for turn in CONVERSATION]
    form = text_generation("unread.jsonl", train=1).formulation("decoder")
    rows = form.encode([{"messages": talk}], tokenizer)
    (labels,) = rows.columns["labels"]
    assert tokenizer.decode([token for token in labels if token != NO_TARGET]) == "2<over>"
    assert len(labels) == len(rows.columns["input_ids"][0])


def test_examples_stand_before_a_question_in_any_form(tmp_path: Path) -> None:
    plain = models.processor(tiny_decoder(tmp_path / "plain", chat=False))
    form = text_generation("unread.jsonl", train=1).formulation("decoder")
    a, b = (
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": r}]}
        for q, r in (("1+1=", "2"), ("2+2=", "4"))
    )
    (asked,) = form.encode([b], plain, answers=False, shots=[a]).columns["input_ids"]
    assert plain.decode(asked, skip_special_tokens=True) == "1+1= 2\n\n2+2="
    (row,) = form.encode([b], plain, shots=[a]).columns["input_ids"]
    assert plain.decode(row, skip_special_tokens=True) == "1+1= 2\n\n2+2= 4"


@pytest.mark.parametrize("kind", ["chat", "seq2seq"])
def test_text_is_learned_and_asked_for(kind: str, tmp_path: Path) -> None:
    model = tiny_decoder(tmp_path / "m") if kind == "chat" else tiny_seq2seq(tmp_path / "m")
    task = text_generation(written(tmp_path, pairs()), train=24, dev=6, max_new_tokens=8)
    made = Recipe(task=task, model=model, method=full(learning_rate=5e-3), epochs=1, batch_size=8)
    *_, last = train(made)
    assert set(last.scores) == {*task.metrics, "dev_loss"}
    assert all(0 <= last.scores[name] <= 100 for name in task.metrics)
    (asked,) = train(Recipe(task=task, model=model, method=zero_shot(), epochs=0))
    assert asked.labels == 0
    assert asked.scores.keys() == {*task.metrics}  # its loss would take a pass of its own
    assert last.scores["dev_loss"] < untuned_loss(asked.recipe)


def test_a_translation_is_asked_for_by_its_languages(chat: str, tmp_path: Path) -> None:
    rows = [{"translation": {"en": f"word {i}", "de": f"Wort {i}"}} for i in range(40)]
    task = translation(
        written(tmp_path, rows), languages=("English", "German"), source="en", target="de", train=8, dev=4, max_new_tokens=8
    )
    assert "sacreBLEU's: BLEU|nrefs:1|case:mixed|eff:no|tok:13a" in task.notes()[-1]
    example = task.splits().train[0]
    (asked,) = task.formulation("decoder").encode([example], models.processor(chat), answers=False).columns["input_ids"]
    assert f"Translate from English to German.\n\n{example['source']}" in models.processor(chat).decode(asked)
    (only,) = train(Recipe(task=task, model=chat, method=zero_shot(), epochs=0))
    assert set(only.scores) == {"bleu", "chrf"}
    with pytest.raises(DataError, match="Say which languages are meant"):
        translation(written(tmp_path, rows), languages=("English", "German"), train=8).splits()


def test_an_encoder_writes_no_text(tmp_path: Path) -> None:
    task = text_generation(written(tmp_path, pairs()), train=4)
    with pytest.raises(UsageError, match="a model of kind 'encoder' cannot do TextGeneration: it writes no text"):
        task.formulation(models.kind(tiny_model(tmp_path / "bert")))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_a_bound_of_answers_is_a_whole_number(value: Any) -> None:
    for make in (
        lambda: text_generation("x", train=1, max_new_tokens=value),
        lambda: translation("x", languages=("a", "b"), train=1, max_new_tokens=value),
    ):
        with pytest.raises(UsageError, match="max_new_tokens must be a whole number of at least 1"):
            make()


def test_answers_that_are_longer_than_allowed_are_told(chat: str, tmp_path: Path) -> None:
    task = text_generation(written(tmp_path, pairs()), train=8, max_new_tokens=4)
    reach = task.formulation("decoder").reach(task.splits().train, models.processor(chat))
    assert (reach.targets, reach.missed) == (8, {"longer than 4 tokens": 8})
    assert np.isclose(reach.share_missed, 1)
