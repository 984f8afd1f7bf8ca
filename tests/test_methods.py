"""What each tuning method changes in a model, for every method of the installed PEFT."""

import dataclasses
import functools
import sys
import warnings
from typing import Any

import pytest
import torch
from products import once_each

from workbench import Method, bitfit, choice, full, head, methods, peft
from workbench.data import models
from workbench.errors import UsageError
from workbench.methods import apply, peft_methods
from workbench.methods.config_fields import settings_of

HEADS = {
    "AutoModelForSequenceClassification": ("classifier",),
    "AutoModelForQuestionAnswering": ("qa_outputs",),
    "AutoModelForTokenClassification": ("classifier",),
}
CLASSES, SPANS, TAGS = HEADS

NEEDED: dict[str, dict[str, Any]] = {
    # what PEFT demands, or what its defaults exceed in a model of width 32
    "adalora": {"total_step": 100},
    "c3a": {"block_size": 16},
    "cartridge": {"num_virtual_tokens": 3},
    "ln_tuning": {"target_modules": ["LayerNorm"]},
    "miss": {"r": 4},
    "multitask_prompt_tuning": {"num_virtual_tokens": 3, "num_tasks": 1},
    "p_tuning": {"num_virtual_tokens": 3, "encoder_hidden_size": 16},
    "prefix_tuning": {"num_virtual_tokens": 3},
    "prompt_tuning": {"num_virtual_tokens": 3},
    "road": {"group_size": 16},
    "shadow": {"target_modules": ["encoder.layer.0", "encoder.layer.1"]},
    "shira": {"r": 4},
    "trainable_tokens": {"token_indices": [8, 9]},
    "vblora": {"vector_length": 16},
    "waveft": {"n_frequency": 64},
}
NOT_FOR_BERT = {
    "adaption_prompt": "Unsupported model type for adaption prompt: 'bert'",
    "cpt": "only supports task_type = CAUSAL_LM",
    "xlora": "`use_cache` must be False",
}
UNREACHED = ("shadow",)
"""Methods with parameters that a task's loss does not reach: here the update after the last layer, and a spare embedding."""


def tuned(name: str, method: Method, auto_class: str) -> Any:
    return apply(method, models.build(name, auto_class), auto_class=auto_class)


def learning(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def batch(rows: int = 2, width: int = 6) -> dict[str, torch.Tensor]:
    ids = torch.randint(8, 60, (rows, width), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


# Ours


@pytest.mark.parametrize("auto_class", [CLASSES, SPANS])
def test_full_head_and_bitfit_choose_exactly_their_parameters(tiny: str, auto_class: str) -> None:
    everything = {name for name, _ in models.build(tiny, auto_class).named_parameters()}
    (prefix,) = HEADS[auto_class]
    top = {f"{prefix}.weight", f"{prefix}.bias"}
    biases = {name for name in everything if name.rpartition(".")[2] == "bias"}
    assert top < everything
    assert learning(tuned(tiny, full(learning_rate=1e-3), auto_class)) == everything
    assert learning(tuned(tiny, head(learning_rate=1e-3), auto_class)) == top
    assert learning(tuned(tiny, bitfit(learning_rate=1e-3), auto_class)) == biases | top
    assert len(biases) > 10


def test_our_methods_change_the_model_itself_and_no_number_in_it(tiny: str) -> None:
    model = models.build(tiny, CLASSES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert apply(bitfit(learning_rate=1e-3), model, auto_class=CLASSES) is model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_a_head_has_no_head_to_tune(tiny: str) -> None:
    with pytest.raises(UsageError, match="'head' has nothing to tune in this model"):
        apply(head(learning_rate=1e-3), models.build(tiny, "AutoModel"), auto_class="AutoModel")


# PEFT's


def test_peft_methods_are_those_of_the_library_read_without_it() -> None:
    import peft as library

    assert list(peft_methods()) == [kind.value.lower() for kind in library.PeftType]
    assert len(peft_methods()) > 20


@functools.cache
def attempt(name: str, kind: str, auto_class: str) -> tuple[Any, Any, str]:
    """The wrapped model and its output after a backward pass, or why there is none."""
    torch.manual_seed(0)
    try:
        model = tuned(name, peft(kind, learning_rate=1e-3, **NEEDED.get(kind, {})), auto_class)
    except UsageError as error:
        return None, None, str(error)
    output = model.train()(**batch())
    sum(value.float().square().mean() for key, value in output.items() if key.endswith("logits")).backward()
    return model, output, ""


@once_each("kind, auto_class", sorted(peft_methods()), [CLASSES, SPANS])
def test_every_method_of_peft_trains_or_says_why_not(tiny: str, kind: str, auto_class: str) -> None:
    model, output, reason = attempt(tiny, kind, auto_class)
    if kind in NOT_FOR_BERT:
        assert reason.startswith(f"PEFT cannot apply '{kind}' to this model: ")
        assert NOT_FOR_BERT[kind] in reason
        return
    assert not reason
    (prefix,) = HEADS[auto_class]
    names = {name for name in learning(model) if "original_module" not in name}
    top = {name for name in names if f".{prefix}." in name}
    assert {name.rpartition(".")[2] for name in top} == {"weight", "bias"}  # the head learns
    assert names - top  # and something besides
    assert sum(p.numel() for n, p in model.named_parameters() if n in names) < sum(p.numel() for p in model.parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or (name in learning(model) and bool(parameter.grad.isfinite().all())), name
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if name in names}
    unreached = {name for name, grad in grads.items() if grad is None}
    assert not unreached & top
    assert bool(unreached) == (kind in UNREACHED)
    assert any(grad.any() for name, grad in grads.items() if name in names - top - unreached)
    widths = {value.shape[1] for key, value in output.items() if key.endswith("logits")}
    assert widths == {2 if auto_class == CLASSES else batch()["input_ids"].shape[1]}


@pytest.mark.slow
def test_the_methods_that_bert_cannot_take_are_these(tiny: str) -> None:
    """An upgrade of PEFT shows here."""
    assert {kind for kind in peft_methods() if attempt(tiny, kind, CLASSES)[2]} == set(NOT_FOR_BERT)
    assert set(NEEDED) | set(NOT_FOR_BERT) <= set(peft_methods())


@pytest.mark.parametrize("kind", ["prompt_tuning", "p_tuning", "multitask_prompt_tuning"])
def test_virtual_tokens_are_cut_off_the_front(tiny: str, kind: str) -> None:
    """What is left are the places of the text: they are what the whole output ends with."""
    model = tuned(tiny, peft(kind, learning_rate=1e-3, **NEEDED[kind]), SPANS).eval()
    whole: list[torch.Tensor] = []
    model.base_model.register_forward_hook(lambda module, args, output: whole.append(output.start_logits.clone()))
    trimmed = model(**batch()).start_logits
    assert whole[0].shape == (2, 9)
    assert torch.equal(trimmed, whole[0][:, 3:])


def test_scores_of_classes_are_not_taken_for_places_of_tokens(tiny: str) -> None:
    """Nine classes, six tokens and three virtual ones: the same width, and nothing is cut."""
    base = models.build(tiny, CLASSES, num_labels=9)
    model = apply(peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=3), base, auto_class=CLASSES)
    assert model(**batch()).logits.shape == (2, 9)


def test_tags_of_tokens_are_cut_too(tiny: str) -> None:
    model = tuned(tiny, peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=3), TAGS)
    assert model(**batch()).logits.shape == (2, 6, 2)


CHANGED_FROM_THE_START = {
    *("cartridge", "multitask_prompt_tuning", "p_tuning", "prefix_tuning", "prompt_tuning"),  # other tokens are before the text
    *("c3a", "fourierft", "vblora"),
}
"""Methods that change the output before anything is learnt."""


@once_each("kind, auto_class", sorted(set(peft_methods()) - set(NOT_FOR_BERT)), [CLASSES, SPANS, TAGS], share=2)
def test_every_input_reaches_the_model_through_every_method(tiny: str, kind: str, auto_class: str) -> None:
    torch.manual_seed(0)
    bare = models.build(tiny, auto_class)
    model = tuned(tiny, peft(kind, learning_rate=1e-3, **NEEDED.get(kind, {})), auto_class).eval()
    inputs = batch() | {"token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]])}
    reached: list[torch.Tensor] = []
    segments = next(module for name, module in model.named_modules() if name.endswith("token_type_embeddings"))
    segments.register_forward_hook(lambda module, args, output: reached.append(args[0]))
    with torch.no_grad():
        output, plain = model(**inputs), model(**batch())
        expected = bare(**inputs)
    front = reached[0].shape[1] - inputs["input_ids"].shape[1]
    assert front == (3 if kind in ("p_tuning", "prompt_tuning", "multitask_prompt_tuning") else 0)
    assert torch.equal(reached[0][:, front:], inputs["token_type_ids"])
    assert not reached[0][:, :front].any()
    assert reached[1][:, front:].shape == inputs["input_ids"].shape
    assert not reached[1].any()  # nothing is kept from one batch to the next
    for name in (key for key in expected if key.endswith("logits")):
        assert not torch.allclose(output[name], plain[name])
        if kind not in CHANGED_FROM_THE_START:
            torch.testing.assert_close(output[name], expected[name], rtol=1e-4, atol=1e-5)


def test_recipes_that_train_another_model_than_before_are_of_another_revision() -> None:
    assert [methods.revision(m(learning_rate=1e-3)) for m in (full, bitfit)] == [0, 0]
    assert methods.revision(head(learning_rate=1e-3)) == 1  # no dropout below a head that learns alone
    assert {methods.revision(Method("x", kind, 1e-3)) for kind in peft_methods()} == {1}


def test_tuning_changes_what_is_tuned_and_nothing_else(tiny: str) -> None:
    """One step of every kind of wrapping: frozen numbers stay as they are."""
    for kind in ("lora", "ia3", "prompt_tuning", "trainable_tokens"):
        model = tuned(tiny, peft(kind, learning_rate=1e-3, **NEEDED.get(kind, {})), CLASSES)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model(**batch()).logits.square().sum().backward()
        optimizer.step()
        changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
        assert changed
        assert changed <= learning(model)


# Settings


def test_an_unknown_method_is_answered_with_a_near_one() -> None:
    with pytest.raises(UsageError, match=r"PEFT has no method 'lroa'. Did you mean 'lora'"):
        peft("lroa", learning_rate=1e-3)
    assert peft("LoRA", learning_rate=1e-3).kind == peft("lora", learning_rate=1e-3).name == "lora"


def test_a_setting_that_peft_does_not_have_is_told_when_the_method_is_named() -> None:
    with pytest.raises(UsageError, match=r"PEFT's 'lora' has no setting 'lora_alfa'. Did you mean 'lora_alpha'"):
        peft("lora", learning_rate=1e-3, lora_alfa=8)
    assert peft("lora", learning_rate=1e-3, lora_alpha=choice(8, 16)).settings


def test_settings_are_read_from_the_source_as_peft_has_them() -> None:
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS

    for kind in peft_methods():
        assert settings_of(kind) == {each.name for each in dataclasses.fields(CONFIGS[PeftType[kind.upper()]])}, kind


@pytest.mark.parametrize(
    "method, message",
    [
        (Method("lora", "lora", 1e-3, {"lora_alhpa": 8}), "LoraConfig has no setting 'lora_alhpa'. Did you mean 'lora_alpha'"),
        (peft("lora", learning_rate=1e-3, r=0), r"PEFT cannot apply 'lora' to this model: ValueError"),
        (
            peft("lora", learning_rate=1e-3, name="mine", target_modules=["nowhere"]),
            r"PEFT cannot apply 'mine'.*check your `target_modules`",
        ),
        (peft("prompt_tuning", learning_rate=1e-3), "PEFT cannot apply 'prompt_tuning'"),
        (peft("trainable_tokens", learning_rate=1e-3, token_indices=[]), "'trainable_tokens' has nothing to tune.*is empty"),
    ],
)
def test_settings_that_peft_refuses(tiny: str, method: Method, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        tuned(tiny, method, CLASSES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory: 8 bytes")])
def test_a_lack_of_memory_is_no_mistake_of_the_settings(tiny: str, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import peft as library

    def get_peft_model(*_: Any) -> None:
        raise error

    monkeypatch.setattr(library, "get_peft_model", get_peft_model)
    with pytest.raises(type(error)) as caught:
        tuned(tiny, peft("lora", learning_rate=1e-3), CLASSES)
    assert caught.value is error


def test_settings_reach_peft_and_are_left_as_they_were(tiny: str) -> None:
    pattern = {"layer.0.attention.self.query": 2}
    method = peft("lora", learning_rate=1e-3, r=8, target_modules=["query"], rank_pattern=pattern, modules_to_save=["pooler"])
    model = tuned(tiny, method, CLASSES)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if "lora_A" in name}
    assert sorted(shapes.values()) == [(2, 32), (8, 32)]
    assert all("query" in name for name in shapes)
    assert any("pooler.modules_to_save" in name for name in learning(model))
    assert any("classifier.modules_to_save" in name for name in learning(model))
    assert method.settings["target_modules"] == ["query"]
    assert model.peft_config["default"].rank_pattern == pattern
    assert model.peft_config["default"].rank_pattern is not pattern  # which PEFT may change


def test_users_see_no_warning_that_they_cannot_mend(tiny: str) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for kind in ("lora", "prompt_tuning", "boft"):
            tuned(tiny, peft(kind, learning_rate=1e-3, **NEEDED.get(kind, {})), CLASSES)
    assert not [str(w.message) for w in seen]


def test_warming_up_imports_peft_for_its_methods_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # to import it is an error now
    methods.warm_up(bitfit(learning_rate=1e-3))
    with pytest.raises(ImportError):
        methods.warm_up(peft("lora", learning_rate=1e-3))
