"""Every method of the installed PEFT, and two of ours, on each kind of model: kept weights answer alike, or the plan says why."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from kinds import KINDS, tiny_of
from safetensors.torch import save_file
from test_formulations_text import encoded, losses, shaken
from test_methods import NEEDED

from workbench import Method, Recipe, adapter, full, peft
from workbench.errors import UsageError
from workbench.forecast import pairs
from workbench.methods import peft_methods
from workbench.study import Study
from workbench.testing import TinyText
from workbench.training import test as score_test_split
from workbench.training import train
from workbench.training.tuning import Tuning

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    # what differs from those for an encoder of width 32: how a Llama's and a T5's layers are called, and a Llama's keys of width 16
    "adaption_prompt": {"decoder": {"adapter_len": 4, "adapter_layers": 2}},
    "fourierft": {"decoder": {"n_frequency": 64}},
    "ln_tuning": {"decoder": {}, "seq2seq": {}},
    "psoft": {"decoder": {"r": 8}},
    "shadow": {"decoder": {}, "seq2seq": {}},
}

CANNOT: dict[str, dict[str, str]] = {
    "adaption_prompt": {
        "encoder": "Unsupported model type for adaption prompt: 'bert'",
        "seq2seq": "Unsupported model type for adaption prompt: 't5'",
    },
    "cpt": dict.fromkeys(("encoder", "seq2seq"), "CPTConfig only supports task_type = CAUSAL_LM"),
    "multitask_prompt_tuning": {"seq2seq": "with tokens in front of its answers, and asks it without them"},
    "shadow": {"seq2seq": "of decoder layers (expected `.layers`/`.h`)"},  # with layers named, it calls a T5 with two inputs
    "xlora": dict.fromkeys(KINDS, "`use_cache` must be False"),  # and it mixes adapters that are there: it tunes none
}
"""What PEFT cannot do, and why, in the words of the plan."""

IN_FRONT = ("prompt_tuning", "multitask_prompt_tuning", "p_tuning", "prefix_tuning", "cartridge", "cpt", "adaption_prompt")
"""Methods whose tokens stand in front of a row."""


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return functools.cache(lambda kind: tiny_of(kind, tmp_path_factory.mktemp(kind)))


OURS = {"adapter": adapter(learning_rate=1e-2, bottleneck=4), "last layer": full(learning_rate=1e-2, trainable_layers=1)}
"""Methods of our own that look for the layers of a model."""


def recipe(model: str, kind: str, method: str) -> Recipe:
    made: Method = OURS.get(method) or peft(
        method, learning_rate=1e-2, **SETTINGS.get(method, {}).get(kind, NEEDED.get(method, {}))
    )
    return Recipe(task=TinyText(train=8, dev=4), model=model, method=made, epochs=1, batch_size=4, averaging=None)


def is_possible(kind: str, method: str) -> bool:
    return kind not in CANNOT.get(method, {})


PAIRS = [(kind, method) for method in (*peft_methods(), *OURS) for kind in KINDS]


EVERYWHERE = {*IN_FRONT, *SETTINGS, *OURS, "lora"}
"""Methods for which kinds of models differ; each of the others is tried on one of them."""
TRIED = [
    (kind, method)
    for i, (kind, method) in enumerate(PAIRS)
    if is_possible(kind, method) and (method in EVERYWHERE or i % len(KINDS) == i // len(KINDS) % len(KINDS))
]


@pytest.mark.slow
@pytest.mark.parametrize("kind, method", TRIED)
def test_two_steps_are_learned_kept_and_taken_up(name: Any, kind: str, method: str, tmp_path: Any) -> None:
    made = recipe(name(kind), kind, method)
    (plan,) = pairs.plan(Study(made, maximize="accuracy"))
    assert plan.problem == ""
    first = Tuning(made, torch.device("cpu"), None).averaged()
    *_, last = train(made)
    weights = last.weights()
    assert last.step == 2
    assert last.trainable_parameters == sum(each.numel() for each in weights.values()) == plan.trainable_parameters
    assert any(not torch.equal(weights[each], first[each]) for each in first)
    save_file(weights, tmp_path / "w.safetensors")
    assert score_test_split(made, tmp_path / "w.safetensors") == last.test()  # by another model, built anew


@pytest.mark.parametrize(
    "kind, method",
    [
        pytest.param(*pair, marks=[pytest.mark.slow] if pair in (("decoder", "xlora"), ("seq2seq", "xlora")) else [])
        for pair in PAIRS
        if not is_possible(*pair)
    ],
)
def test_what_cannot_be_is_said_by_the_plan_and_by_the_training(name: Any, kind: str, method: str) -> None:
    made = recipe(name(kind), kind, method)
    (plan,) = pairs.plan(Study(made, maximize="accuracy"))
    assert CANNOT[method][kind] in plan.problem
    assert "Traceback" not in plan.problem
    with pytest.raises(UsageError) as error:
        next(train(made))
    assert str(error.value) == plan.problem


def test_what_cannot_be_is_no_list_of_what_once_could_not() -> None:
    assert CANNOT.keys() <= set(peft_methods())


PREFIXED = [(kind, method) for kind, method in PAIRS if kind != "encoder" and method in IN_FRONT and is_possible(kind, method)]
PREFIXED += [("gpt2", "prompt_tuning"), ("gpt2", "prefix_tuning")]
FEW_PREFIXED = {
    *(("decoder", method) for method in ("prompt_tuning", "adaption_prompt", "cpt")),
    *(("seq2seq", "prefix_tuning"), ("gpt2", "prefix_tuning")),
}
"""Tokens before the text, before its keys, inside a layer, and given as text; a model that writes alone, one that reads first, and
one whose places are learned."""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "kind, method", [pytest.param(*pair, marks=[] if pair in FEW_PREFIXED else [pytest.mark.slow]) for pair in PREFIXED]
)
@torch.no_grad()
def test_tokens_in_front_do_not_part_a_row_from_its_padding(name: Any, kind: str, method: str) -> None:
    """PEFT puts them in front of the padding: what a row gives then depends on the longest of its batch."""
    of = shaken(Tuning(recipe(name(kind), kind, method), torch.device("cpu"), None))
    of.model.eval()
    rows, asked = encoded(of), encoded(of, answers=False)
    for parameter in of.parameters.values():
        parameter.normal_(std=0.5)
    alone = [losses(of, rows, [i]) for i in range(6)]
    torch.testing.assert_close(losses(of, rows, list(range(6))), torch.stack(alone).sum(), rtol=1e-5, atol=1e-4)
    together = of.inference(of.model, asked.batch(range(6)))
    for i, answer in enumerate(together):
        (single,) = of.inference(of.model, asked.batch([i]))
        assert answer.tolist() == single.tolist()
        # And what it writes is what it was taught to: the likeliest token behind the prompt and those before it.
        ids, written = asked.columns["input_ids"][i].astype(np.int64), single.astype(np.int64)
        whole = np.concatenate([ids, written]) if kind != "seq2seq" else ids
        targets = np.concatenate([np.full(len(ids), -100), written]) if kind != "seq2seq" else written
        batch = {"input_ids": torch.tensor(whole[None]), "labels": torch.tensor(targets[None])}
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        logits = of.objective.forward(of.model, batch)["logits"][0]
        told = logits[-len(written) - 1 : -1] if kind != "seq2seq" else logits
        assert told.argmax(-1).tolist() == written.tolist()
