"""FLOPs by the formula, against the operations that torch counts as they run on the meta device with eager attention."""

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from workbench import adapter, bitfit, flops, full, head, methods, peft
from workbench.data import models

QA, CLASSES, CAUSAL = "AutoModelForQuestionAnswering", "AutoModelForSequenceClassification", "AutoModelForCausalLM"
ROWS = ((16, 4), (64, 2), (192, 3))
"""Tokens of a row, and rows."""

EVERY = [
    full(learning_rate=1e-3),
    peft("lora", learning_rate=1e-3, r=16, target_modules="all-linear"),
    peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=10),
]
ENCODERS = [
    *EVERY,
    bitfit(learning_rate=1e-3),
    head(learning_rate=1e-3),
    full(learning_rate=1e-3, trainable_layers=1),
    adapter(learning_rate=1e-3, bottleneck=16),
    peft("ia3", learning_rate=1e-3),
    peft("prefix_tuning", learning_rate=1e-3, num_virtual_tokens=10),
]
MORE_ENCODERS = [
    peft("lora", learning_rate=1e-3),
    peft("lora", learning_rate=1e-3, layers_to_transform=[1], target_modules=["query", "value"]),
    peft("road", learning_rate=1e-3),
    peft("p_tuning", learning_rate=1e-3, num_virtual_tokens=10),
]
TOLERANCE = {"p_tuning": 0.02, "ia3": 0.015}
"""Relative. P-tuning's encoder runs once a step and is not in the formula. IA3 adapts keys and values only, so that the gradient of
the lowest layer's scores does not reach its queries; LoRA on queries and values likewise. Small models are worst."""


def built(name: str, method: Any, auto_class: str = QA, **sizes: Any) -> Any:
    """A model on the meta device, wrapped."""
    with torch.device("meta"):
        if name.startswith("minilm"):
            model = models.build(name, auto_class, device="meta", attn_implementation="eager")
        else:
            config = getattr(transformers, name)(**sizes)
            model = getattr(transformers, auto_class).from_config(config, attn_implementation="eager")
        return methods.apply(method, model, auto_class=auto_class)


def counted(model: Any, tokens: int, rows: int) -> int:
    """Operations of a forward and a backward pass, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        output = model(input_ids=torch.zeros((rows, tokens), dtype=torch.long, device="meta"))
        sum(value.sum() for key, value in output.items() if key.endswith("logits")).backward()
    return int(counter.get_total_flops())


def agree(model: Any, tolerance: float) -> None:
    of = flops.shape(model)
    assert of is not None
    for tokens, rows in ROWS:
        assert flops.training(of, [tokens] * rows) == pytest.approx(counted(model, tokens, rows), rel=tolerance)


@pytest.mark.parametrize("model", [pytest.param("minilm-l6", marks=pytest.mark.slow), "minilm-l2"])
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(m, id=f"{m.name}{len(m.settings)}", marks=[pytest.mark.slow] if m in MORE_ENCODERS else [])
        for m in (*ENCODERS, *MORE_ENCODERS)
    ],
)
def test_encoders(model: str, method: Any) -> None:
    agree(built(model, method), TOLERANCE.get(method.name, 0.015))


SMALL = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 1000}


@pytest.mark.parametrize(
    "method", [*(pytest.param(each, marks=pytest.mark.slow) for each in EVERY[::2]), EVERY[1]], ids=lambda m: m.name
)
def test_what_is_all_matrices_is_exact(method: Any) -> None:
    agree(built("LlamaConfig", method, CAUSAL, **SMALL, num_key_value_heads=2, head_dim=24), 1e-9)
    agree(built("minilm-l2", method), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [*EVERY, peft("lora", learning_rate=1e-3), peft("ia3", learning_rate=1e-3)], ids=lambda m: m.name
)
def test_other_architectures(method: Any) -> None:
    agree(built("LlamaConfig", method, CAUSAL, **SMALL, num_key_value_heads=2), 0.02)
    agree(built("GPT2Config", method, CAUSAL, n_embd=128, n_layer=4, n_head=8, bos_token_id=0, eos_token_id=0), 0.02)
    agree(built("BertConfig", method, CLASSES, **SMALL), 0.02)


def test_a_tied_head_is_a_matrix_though_its_weights_are_those_of_the_embedding() -> None:
    tied, apart = (
        flops.shape(built("LlamaConfig", full(learning_rate=1e-3), CAUSAL, **SMALL, tie_word_embeddings=tie))
        for tie in (True, False)
    )
    assert tied == apart
    assert tied is not None
    assert tied.weights == 4 * (4 * 128**2 + 3 * 128 * 352) + 1000 * 128


def test_the_formula_in_numbers() -> None:
    every = flops.Shape(100, 100, 100, 2, 8)
    assert flops.forward(every, [10]) == 2 * 100 * 10 + 4 * 2 * 100 * 8
    assert flops.training(every, [10]) == 6 * 100 * 10 + 3 * 4 * 2 * 100 * 8
    assert flops.training(every, [10], recompute=True) == flops.training(every, [10]) + flops.forward(every, [10])
    adapters = flops.Shape(110, 10, 110, 2, 8)
    assert flops.training(adapters, [10]) == 4 * 100 * 10 + 6 * 10 * 10 + 3 * 4 * 2 * 100 * 8
    alone = flops.Shape(110, 10, 0, 2, 8)
    assert flops.training(alone, [10]) == flops.forward(alone, [10]) + 2 * 10 * 10
    assert flops.forward(flops.Shape(100, 0, 0, 2, 8, virtual_tokens=5), [10, 20]) == flops.forward(every, [15, 25])


@given(st.lists(st.integers(1, 500), max_size=8), st.lists(st.integers(1, 500), max_size=8), st.integers(0, 20))
def test_rows_add_up(some: list[int], more: list[int], virtual: int) -> None:
    of = flops.Shape(1000, 10, 800, 3, 16, virtual, backward_layers=2)
    for count in (flops.forward, flops.training):
        assert count(of, some + more) == pytest.approx(count(of, some) + count(of, more))
    assert flops.training(of, some) >= flops.forward(of, some)


@pytest.mark.parametrize(
    "name, auto_class, sizes",
    [
        (
            "T5Config",
            "AutoModelForSeq2SeqLM",
            {"d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2, "d_kv": 16, "vocab_size": 50},
        ),
        ("MixtralConfig", CAUSAL, {**SMALL, "num_key_value_heads": 2, "num_local_experts": 2}),
        ("AlbertConfig", QA, {**SMALL, "embedding_size": 32}),
        ("MambaConfig", CAUSAL, {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 50}),
    ],
)
def test_what_the_formula_does_not_know_is_unknown(name: str, auto_class: str, sizes: Any) -> None:
    with torch.device("meta"):
        model = getattr(transformers, auto_class).from_config(getattr(transformers, name)(**sizes))
    assert flops.shape(model) is None


def test_no_transformer_is_unknown() -> None:
    assert flops.shape(torch.nn.Linear(2, 2)) is None


def test_weights_of_half_a_byte_count_as_what_they_stand_for() -> None:
    model = built("LlamaConfig", full(learning_rate=1e-3), CAUSAL, **SMALL)
    before = flops.shape(model)
    packed = model.model.layers[0].mlp.up_proj
    packed.weight = torch.nn.Parameter(torch.zeros((128 * 352 // 2, 1), dtype=torch.uint8, device="meta"), requires_grad=False)
    after = flops.shape(model)
    assert before is not None
    assert after is not None
    assert after.weights == before.weights
    assert after.trainable_weights == before.trainable_weights - 128 * 352
