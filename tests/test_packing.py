"""Rows without padding: the same numbers as padded ones, or padded ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradients import packed_and_padded

from workbench import Recipe, full, peft
from workbench.objectives import packing
from workbench.tasks import classification
from workbench.testing import tiny_decoder, tiny_model
from workbench.training import passes
from workbench.training.batches import PACKED_TOKENS, cuts, micro_batches, packs
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")

CPU = torch.device("cpu")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 60}


def built(name: str, **more: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    grouped = {"num_key_value_heads": 1} if name in ("Qwen2", "Mistral", "Gemma2") else {}
    config = getattr(transformers, f"{name}Config")(**SIZES | grouped | more)
    if name == "DistilBert":
        config = transformers.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=24, vocab_size=60)
    kind = "ForCausalLM" if name in ("Llama", "Qwen2", "Mistral", "Gemma2") else "ForSequenceClassification"
    return getattr(transformers, name + kind)._from_config(config)


@pytest.mark.parametrize("name", ["Bert", "Roberta", "Electra", "DistilBert", "Llama", "Qwen2"])
def test_layers_without_padding_give_the_numbers_of_padded_rows(name: str) -> None:
    model = built(name)
    layers = packing.layers_of(model)
    assert layers is not None
    assert packing.proven(model, layers)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.config._attn_implementation == "sdpa"
    # And they do see tokens alone.
    seen = []
    layers[0].register_forward_hook(lambda module, args, output: seen.append(args[0].shape if args else None))
    mask = (torch.arange(7) < torch.tensor([3, 7, 1])[:, None]).long()
    with packing.packed(model, layers), torch.no_grad():
        model(input_ids=mask * 9, attention_mask=mask)
    assert seen == [(1, 11, 16)]


@pytest.mark.parametrize(("name", "more"), [("ModernBert", {}), ("Mistral", {"sliding_window": 4}), ("Gemma2", {"head_dim": 8})])
def test_layers_that_look_at_a_window_are_left_alone(name: str, more: dict[str, Any]) -> None:
    # A trial with short rows could not tell that they do.
    more = (
        more
        if name != "ModernBert"
        else {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    )
    assert packing.layers_of(built(name, **more)) is None


def test_a_method_that_looks_for_a_word_in_each_row_is_left_alone() -> None:
    from peft import LoraConfig, get_peft_model

    how: dict[str, Any] = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", "r": 2}
    assert packing.layers_of(get_peft_model(built("Llama", num_key_value_heads=1), LoraConfig(**how))) is not None
    alora = LoraConfig(**how, alora_invocation_tokens=[5])
    assert packing.layers_of(get_peft_model(built("Llama", num_key_value_heads=1), alora)) is None


def test_a_layer_in_which_rows_meet_is_found_out() -> None:
    class Mixing(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            # Each token with the one before it: harmless in padded rows, wrong where a row begins.
            found = self.inner(*args, **kwargs)
            return found + 0.1 * torch.nn.functional.pad(found, (0, 0, 1, 0))[:, :-1]

    model = built("Bert")
    stack = model.bert.encoder.layer
    stack[1] = Mixing(stack[1])
    layers = packing.layers_of(model)
    assert layers is not None
    assert not packing.proven(model, layers)
    assert model.config._attn_implementation == "sdpa"


def test_packs_are_few_and_even() -> None:
    assert packs([5] * 10, 20) == [(0, 3), (3, 7), (7, 10)]
    rng = np.random.default_rng(0)
    for most in (8, 64, 500):
        lengths = sorted(rng.integers(1, 90, 40).tolist())
        found = packs(lengths, most)
        assert [a for a, _ in found] == [0, *[b for _, b in found[:-1]]]
        assert found[-1][1] == 40
        assert all(sum(lengths[a:b]) <= most or b - a == 1 for a, b in found)
    assert packs([], 10) == []
    assert cuts([3, 4], "cpu", packed=True) == [(0, 2)]


def of_lengths(folder: Path) -> Path:
    lines = ["text,label"] + [
        f"{' '.join(f'w{4 + (i * 7 + n) % 60}' for n in range(1 + i * 5 % 23))},{'ab'[i % 2]}" for i in range(60)
    ]
    (folder / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "data.csv"


@pytest.mark.parametrize("method", [full(learning_rate=1e-3), peft("lora", learning_rate=1e-2, r=4, target_modules="all-linear")])
def test_a_step_has_the_gradient_of_padded_rows_and_counts_no_padding(tmp_path: Path, method: Any, monkeypatch: Any) -> None:
    task = classification(str(of_lengths(tmp_path)), train=24, dev=8, test=4, max_length=32)
    recipe = Recipe(task=task, model=tiny_model(tmp_path / "model"), method=method, batch_size=16, epochs=1)
    packed, padded = packed_and_padded(recipe, 16)
    for name, gradient in packed.items():
        assert float((gradient - padded[name]).norm()) <= 1e-5 * float(padded[name].norm()) + 1e-7
    monkeypatch.delitem(PACKED_TOKENS, "cpu")  # as on a device where rows are never packed
    assert not Tuning(recipe, CPU, None).packs


def test_weights_in_bfloat16_are_tried_as_they_are_multiplied(tmp_path: Path) -> None:
    """Beside what learns in float32: a pass without autocast would fail."""
    task = classification(str(of_lengths(tmp_path)), train=24, dev=8, test=4, max_length=32)
    lora = peft("lora", learning_rate=1e-2, r=4, target_modules="all-linear")
    recipe = Recipe(task=task, model=tiny_model(tmp_path / "model", width=64), method=lora, weights="bfloat16", epochs=1)
    packed, padded = (torch.cat([each.flatten() for each in found.values()]) for found in packed_and_padded(recipe, 16))
    assert float((packed - padded).norm()) <= packing.TOLERANCE[True] * float(padded.norm())


def test_a_model_that_fails_its_trial_has_its_rows_padded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_proven", {})
    monkeypatch.setattr(packing, "proven", lambda model, layers, **how: False)
    task = classification(str(of_lengths(tmp_path)), train=24, dev=8, test=4, max_length=32)
    tuning = Tuning(Recipe(task=task, model=tiny_model(tmp_path / "model"), method=full(learning_rate=1e-3), epochs=1), CPU, None)
    assert not tuning.packs
    rows = tuning.formulation.encode(task.splits().train, tuning.processor)
    lengths = [len(set(rows.lengths[some].tolist())) for some, _ in micro_batches(rows, np.arange(24), CPU, packed=tuning.packs)]
    assert len(lengths) > 1


def test_what_was_tried_before_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a run's rows are packed depends on its own model, with its method on it."""
    name = tiny_model(tmp_path / "model")
    task = classification(str(of_lengths(tmp_path)), train=24, dev=8, test=4, max_length=32)

    def lora(rank: int, rate: float = 1e-2, seed: int = 0) -> Recipe:
        method = peft("lora", learning_rate=rate, r=rank, target_modules="all-linear")
        return Recipe(task=task, model=name, method=method, epochs=1, seed=seed)

    tried: list[int] = []

    def proven(model: Any, layers: Any, **how: Any) -> bool:
        tried.append(model.peft_config["default"].r)
        return tried[-1] == 2  # as if a model would fail with another rank

    monkeypatch.setattr(packing, "proven", proven)
    for order in ((2, 4), (4, 2)):
        monkeypatch.setattr(passes, "_proven", {})
        assert {rank: Tuning(lora(rank), CPU, None).packs for rank in order} == {2: True, 4: False}
    tried.clear()
    assert Tuning(lora(2, 3e-2), CPU, None).packs  # a learning rate is no part of the model
    assert not tried
    assert Tuning(lora(2, seed=1), CPU, None).packs
    assert tried == [2]


def test_layers_that_are_computed_again_have_their_rows_padded(tmp_path: Path) -> None:
    task = classification(str(of_lengths(tmp_path)), train=24, dev=8, test=4, max_length=32)
    tuning = Tuning(Recipe(task=task, model=tiny_model(tmp_path / "model"), method=full(learning_rate=1e-3), epochs=1), CPU, None)
    assert tuning._recompute()
    assert not tuning.packs


def test_a_decoder_that_writes_reads_padded_prompts(tmp_path: Path) -> None:
    """Its keys and values are kept row by row."""
    from workbench.data import models

    model = models.build(tiny_decoder(tmp_path / "model"), "AutoModelForCausalLM").eval()
    layers = packing.layers_of(model)
    assert layers is not None
    mask = (torch.arange(6) >= torch.tensor([0, 3])[:, None]).long()
    inputs = {"input_ids": mask * 7, "attention_mask": mask, "max_new_tokens": 4, "do_sample": False}
    expected = model.generate(**inputs)
    with packing.packed(model, layers):
        assert torch.equal(model.generate(**inputs), expected)
