"""Windows cover every context, and spans of tokens are the characters they stand for."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.windows import best_span, token_span, windows
from workbench.errors import UsageError


@pytest.fixture(scope="module")
def tokenizer():
    """Words as tokens: small enough to reason about, and of the class that real models have."""
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(100)), "?", "."]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special)


def text(count):
    return " ".join(f"w{i}" for i in range(count))


def test_a_short_context_is_one_window(tokenizer):
    found = windows(["w1 w2 ?"], ["w3 w4 ."], tokenizer, max_length=32, stride=4)
    assert found.example.tolist() == [0]
    assert len(found.inputs["input_ids"][0]) == 9
    assert found.first.tolist() == [5]
    assert found.offsets[0].tolist() == [[0, 2], [3, 5], [6, 7]]
    assert found.inputs["input_ids"][0].dtype == np.int32
    assert "attention_mask" not in found.inputs


def test_windows_of_a_long_context_cover_it_and_overlap(tokenizer):
    found = windows(["w1 ?", "w2"], [text(60), text(3)], tokenizer, max_length=20, stride=4)
    assert found.example.tolist() == [0] * 6 + [1]
    assert max(map(len, found.inputs["input_ids"])) <= 20
    ranges = [(offsets[0, 0], offsets[-1, 1]) for offsets in found.offsets[:-1]]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(text(60))
    for (_, end), (start, _) in itertools.pairwise(ranges):
        assert len(text(60)[start:end].split()) == 4


def test_an_over_long_question_keeps_its_beginning(tokenizer):
    found = windows([text(90)], [text(30)], tokenizer, max_length=32, stride=4)
    assert found.first[0] == 1 + 16 + 1
    assert found.inputs["input_ids"][0][1:4].tolist() == [4, 5, 6]
    assert found.offsets[-1][-1, 1] == len(text(30))


def test_an_empty_context_has_no_token_but_a_row(tokenizer):
    found = windows(["w1"], [""], tokenizer, max_length=32, stride=4)
    assert found.offsets[0].shape == (0, 2)


def test_many_pairs_are_tokenised_in_parts_and_come_out_the_same(tokenizer, monkeypatch):
    questions, contexts = ["w1 ?", "w2", "w3 w4", "w5", text(90)], [text(60), text(3), "", text(70), text(40)]
    whole = windows(questions, contexts, tokenizer, max_length=32, stride=4)
    monkeypatch.setattr("workbench.data.windows.PAIRS_AT_ONCE", 2)
    parts = windows(questions, contexts, tokenizer, max_length=32, stride=4)
    assert parts.example.tolist() == whole.example.tolist()
    assert parts.first.tolist() == whole.first.tolist()
    assert [each.tolist() for each in parts.offsets] == [each.tolist() for each in whole.offsets]
    for name, rows in whole.inputs.items():
        assert [row.tolist() for row in parts.inputs[name]] == [row.tolist() for row in rows]


@pytest.mark.parametrize(("max_length", "stride", "says"), [(65, 4, "more than the 64"), (32, 13, "no room")])
def test_lengths_that_cannot_be(tokenizer, max_length, stride, says):
    with pytest.raises(UsageError, match=says):
        windows(["w1"], ["w2"], tokenizer, max_length=max_length, stride=stride)


def test_token_spans():
    offsets = np.array([[10, 14], [15, 20], [20, 21]])
    assert token_span(offsets, 10, 14) == (0, 0)
    assert token_span(offsets, 15, 21) == (1, 2)
    assert token_span(offsets, 12, 17) == (0, 1)  # parts of tokens take the whole
    assert token_span(offsets, 14, 15) is None  # only the space between
    assert token_span(offsets, 9, 12) is None
    assert token_span(offsets, 20, 22) is None
    assert token_span(np.empty((0, 2), np.int64), 0, 1) is None


@settings(max_examples=60)
@given(
    st.integers(1, 12).flatmap(lambda n: st.lists(st.lists(st.integers(-50, 50), min_size=n, max_size=n), min_size=2, max_size=2)),
    st.integers(1, 15),
)
def test_best_span_is_the_best_of_all(rows, most):
    logits = np.array(rows, np.float32)
    tokens = logits.shape[1]
    spans = [(logits[0, a] + logits[1, b], a, b) for a in range(tokens) for b in range(a, min(tokens, a + most))]
    score, start, end = best_span(logits, most)
    assert score == max(spans)[0]
    assert (score, start, end) in spans
