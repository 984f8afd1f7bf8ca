"""The task's head is found from the model and learns with every method, for every architecture that answers questions."""

import functools
from typing import Any

import pytest
import torch
import transformers
from products import once_each
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

from workbench import Method, bitfit, head, peft
from workbench.data import hub, models
from workbench.errors import UsageError
from workbench.methods import apply, plain_name

QA = "AutoModelForQuestionAnswering"
SIZE = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_key_value_heads"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head"), 4),
    "vocab_size": 64,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_labels": 2,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
MORE: dict[str, dict[str, Any]] = {
    "funnel": {"num_hidden_layers": None, "block_sizes": [1, 1]},
    "gpt_neo": {"num_hidden_layers": None, "num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "ministral": {"head_dim": 8},
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8)},
    "squeezebert": {"embedding_size": 32},
    "xlnet": {"max_position_embeddings": None},
}
"""What some architectures want otherwise; None: they do not know it."""
CANNOT = {"layoutlmv2": "detectron2"}
"""Those that cannot be built here, and the package that they want."""
NOT_CALLED_SO = {
    "big_bird": {"qa_classifier"},
    "lxmert": {"answer_head"},
    "modernbert": {"head", "classifier"},
    "splinter": {"splinter_qass"},
}
"""Heads with other names than `qa_outputs`."""
KINDS = sorted(MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES)


@functools.cache
def configuration(kind: str) -> Any:
    return CONFIG_MAPPING[kind](**{name: value for name, value in (SIZE | MORE.get(kind, {})).items() if value is not None})


def bare(kind: str, device: str = "meta") -> Any:
    with torch.device(device), hub.quiet():
        return getattr(transformers, QA).from_config(configuration(kind))


def learning(model: torch.nn.Module) -> set[str]:
    """Names of what learns, as the model has them without what is wrapped around it."""
    names = {plain_name(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name.removeprefix("base_model.model.").removeprefix("base_model.").replace(".base_layer.", ".") for name in names}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if i % 2 and kind not in (*CANNOT, *NOT_CALLED_SO) else [])
        for i, kind in enumerate(KINDS)
    ],
)
def test_the_head_is_what_the_model_has_beside_its_base(kind: str) -> None:
    if kind in CANNOT:
        with pytest.raises(ImportError, match=CANNOT[kind]):
            bare(kind)
        return
    found = models.head(bare(kind))
    assert {name.split(".")[0] for name in found} == NOT_CALLED_SO.get(kind, {"qa_outputs"})
    assert {name.rpartition(".")[2] for name in found} >= {"weight"}


METHODS = [
    head(learning_rate=1e-3),
    bitfit(learning_rate=1e-3),
    peft("lora", learning_rate=1e-3, target_modules="all-linear"),
    peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=2),
]


@once_each(
    "kind, method",
    sorted(set(KINDS) - set(CANNOT)),
    METHODS,
    label=lambda value: value if isinstance(value, str) else value.name,
    share=3,
)
def test_the_head_learns_with_every_method(kind: str, method: Method) -> None:
    device = "cpu" if kind == "xlnet" else "meta"  # PEFT makes the prompt of this one on the CPU
    model = bare(kind, device)
    own, total = {*models.head(model)}, sum(1 for _ in model.parameters())
    if (kind, method.kind) == ("ibert", "lora"):
        with pytest.raises(UsageError, match="PEFT cannot apply 'lora'"):  # to its quantised layers
            apply(method, model, auto_class=QA)
        return
    with torch.device(device):
        tuned = apply(method, model, auto_class=QA)
    assert own <= learning(tuned)
    if method.kind == "head":
        assert own == learning(tuned)
    else:
        frozen = {name for name, p in tuned.named_parameters() if not p.requires_grad and "original_module" not in name}
        assert len(frozen) > total / 4  # and the base model does not


def test_a_head_that_is_trained_already_is_still_the_head(tmp_path: Any) -> None:
    with hub.quiet():
        getattr(transformers, QA).from_config(configuration("bert")).save_pretrained(tmp_path)
    assert models.head(models.build(str(tmp_path), QA)) == ("qa_outputs.weight", "qa_outputs.bias")


def test_a_head_whose_name_ends_another_modules_name_is_trained_in_its_place() -> None:
    """PEFT would take both: it looks for names that end so."""
    model = bare("bert")
    model.bert.encoder.layer[0].add_module("more_qa_outputs", torch.nn.Linear(32, 2, device="meta"))
    with torch.device("meta"):
        tuned: Any = apply(peft("ia3", learning_rate=1e-3), model, auto_class=QA)
    assert tuned.peft_config["default"].modules_to_save is None
    assert {"qa_outputs.weight", "qa_outputs.bias"} <= learning(tuned)
    assert not any("more_qa_outputs" in name for name in learning(tuned))


@pytest.mark.parametrize("method", ["lora", "prompt_tuning", "poly"])
@pytest.mark.parametrize("kind", ["bert", "big_bird", "modernbert", "splinter"])
def test_an_adapters_configuration_names_its_base_and_each_head_once(kind: str, method: str) -> None:
    more = {"num_virtual_tokens": 2} if method == "prompt_tuning" else {"target_modules": ["dense", "Wqkv", "query"]}
    model = bare(kind)
    model.name_or_path = "mine"
    with torch.device("meta"):
        tuned: Any = apply(peft(method, learning_rate=1e-3, **more), model, auto_class=QA)
    config = tuned.peft_config["default"]
    assert sorted(config.modules_to_save) == sorted(NOT_CALLED_SO.get(kind, {"qa_outputs"}))
    assert config.base_model_name_or_path == "mine"
