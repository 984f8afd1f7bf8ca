"""Methods of our own that ask a model for its layers: the last of them tuned alone, and adapters behind their parts."""

import functools
from typing import Any

import pytest
import torch
import transformers
from kinds import KINDS, tiny_of, untuned_loss

from workbench import Recipe, Study, adapter, choice, full, methods
from workbench.data import models
from workbench.errors import UsageError
from workbench.forecast import pairs
from workbench.methods.layers import layers, of_last_layers
from workbench.testing import TinyTask, TinyText, tiny_decoder
from workbench.training import train
from workbench.training.tuning import Tuning


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return functools.cache(lambda kind: tiny_of(kind, tmp_path_factory.mktemp(kind)))


def recipe(model: str, method: Any, **more: Any) -> Recipe:
    settings = {"task": TinyText(train=8, dev=4), "epochs": 1, "batch_size": 4, "averaging": None, **more}
    return Recipe(model=model, method=method, **settings)


FAMILIES: dict[str, tuple[str, dict[str, Any], int]] = {
    "BertConfig": ("AutoModelForSequenceClassification", {}, 3),
    "DistilBertConfig": ("AutoModelForSequenceClassification", {"n_layers": 3, "dim": 32, "n_heads": 2, "hidden_dim": 64}, 3),
    "DebertaV2Config": ("AutoModelForSequenceClassification", {}, 3),
    "ModernBertConfig": ("AutoModelForSequenceClassification", {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}, 3),
    "ViTConfig": ("AutoModelForImageClassification", {"image_size": 32, "patch_size": 16}, 3),
    "Wav2Vec2Config": ("AutoModelForAudioClassification", {"conv_dim": (8, 8), "conv_kernel": (3, 3), "conv_stride": (2, 2)}, 3),
    "LlamaConfig": ("AutoModelForCausalLM", {"num_key_value_heads": 2}, 3),
    "GPT2Config": ("AutoModelForCausalLM", {"n_embd": 32, "n_layer": 3, "n_head": 2}, 3),
    "GPTNeoXConfig": ("AutoModelForCausalLM", {}, 3),
    "OPTConfig": ("AutoModelForCausalLM", {"word_embed_proj_dim": 32, "ffn_dim": 64}, 3),
    "FalconConfig": ("AutoModelForCausalLM", {}, 3),
    "Qwen2Config": ("AutoModelForCausalLM", {"num_key_value_heads": 2}, 3),
    "T5Config": ("AutoModelForSeq2SeqLM", {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 3, "num_heads": 2}, 6),
    "BartConfig": (
        "AutoModelForSeq2SeqLM",
        {"d_model": 32, "encoder_layers": 3, "decoder_layers": 3, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        6,
    ),
}  # fmt: skip
SIZE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}


def of_family(family: str) -> tuple[Any, str, int]:
    """A model of a family on the meta device, its class, and how many layers it has."""
    auto_class, more, count = FAMILIES[family]
    config = getattr(transformers, family)(**(SIZE | more) if "hidden_size" not in more else more)
    with torch.device("meta"):
        return getattr(transformers, auto_class).from_config(config), auto_class, count


def learning(model: torch.nn.Module) -> set[str]:
    return {each for each, parameter in model.named_parameters() if parameter.requires_grad}


# The last layers alone


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_of_a_model_are_told_by_itself(family: str) -> None:
    model, auto_class, count = of_family(family)
    found = layers(model)
    own = [each for each in found if not any("conv_layers" in path for path in each)]
    assert len(own) == count
    assert found[-count:] == own  # whatever comes before them
    tuned = methods.apply(full(learning_rate=1e-3, trainable_layers=1), model, auto_class=auto_class)
    last = next(iter(found[-1]))
    inside = {each for each in learning(tuned) if each.startswith(f"{last}.")}
    assert inside == {each for each, _ in tuned.named_parameters() if each.startswith(f"{last}.")} != set()
    beside = learning(tuned) - inside
    assert {*models.head(tuned)} <= learning(tuned)
    words = ("norm", "ln_f", "pooler", "classifier", "score", "head", "projector")
    assert all(any(word in each for word in words) for each in beside), beside
    assert not any("embed" in each or each in ("shared.weight", "lm_head.weight") for each in beside)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_last_layers_change(name: Any, kind: str) -> None:
    made = recipe(name(kind), full(learning_rate=1e-2, trainable_layers=1))
    of = Tuning(made, torch.device("cpu"), None)
    before = {each: p.detach().clone() for each, p in of.model.named_parameters()}
    rows = of.formulation.encode(made.task.splits().train, of.processor)
    of.make_step(rows, rows.example, 8)
    changed = {each for each, p in of.model.named_parameters() if not torch.equal(p, before[each])}
    assert changed <= set(of.parameters)
    last = {"encoder": "bert.encoder.layer.1.", "decoder": "model.layers.1.", "seq2seq": "decoder.block.1."}[kind]
    assert {each for each in of.parameters if each.startswith(last)} <= changed
    others = {each for each in changed if not each.startswith(last)}
    assert not {each for each in others if ".0." in each or "embed" in each or each.startswith(("encoder.", "shared."))}
    (plan,) = pairs.plan(Study(made, maximize="accuracy"))
    assert (plan.problem, plan.trainable_parameters) == ("", sum(p.numel() for p in of.parameters.values()))


def test_beyond_the_decoder_come_the_encoders_layers(name: Any) -> None:
    of = Tuning(recipe(name("seq2seq"), full(learning_rate=1e-2, trainable_layers=3)), torch.device("cpu"), None)
    assert {each.partition(".layer")[0] for each in of.parameters if ".block." in each} == {
        *("decoder.block.0", "decoder.block.1", "encoder.block.1"),
    }
    assert "encoder.final_layer_norm.weight" in of.parameters


def test_more_layers_than_there_are_is_a_mistake_that_the_plan_tells(name: Any) -> None:
    study = Study(recipe(name("encoder"), full(learning_rate=1e-2, trainable_layers=choice(1, 3))), maximize="accuracy")
    assert "full.trainable_layers" in study.dimensions
    fine, wrong = pairs.plan(study)
    assert fine.problem == ""
    assert wrong.problem.startswith("trainable_layers=3: this model has 2. Give fewer")
    with pytest.raises(UsageError, match="trainable_layers=3: this model has 2"):
        next(train(recipe(name("encoder"), full(learning_rate=1e-2, trainable_layers=3))))
    with pytest.raises(UsageError, match="trainable_layers=1: in this model no layers can be told"):
        of_last_layers(torch.nn.Linear(2, 2), 1)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "all", choice(1, 0)])
def test_layers_are_counted_in_whole_numbers(count: Any) -> None:
    with pytest.raises(UsageError, match="trainable_layers must be a whole number, at least 1; got"):
        full(learning_rate=1e-3, trainable_layers=count)


def test_full_tuning_is_the_recipe_that_it_was() -> None:
    made = recipe("m", full(learning_rate=1e-3), task=TinyTask())
    assert made.to_json()["method"]["settings"] == {}
    assert recipe("m", full(learning_rate=1e-3, trainable_layers=2), task=TinyTask()).id != made.id
    assert full(learning_rate=1e-3, trainable_layers=2).changes_weights  # so four bits are refused


# Adapters


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_stand_behind_attention_and_feed_forward_of_every_layer(family: str) -> None:
    model, auto_class, count = of_family(family)
    width = int(getattr(model.config, "hidden_size", 0) or model.config.d_model)
    norms = {
        f"{path}.{own}"
        for path, module in model.named_modules()
        if type(module).__name__.endswith("Norm")
        for own, _ in module.named_parameters()
    }
    top = {*models.head(model)}
    tuned = methods.apply(adapter(learning_rate=1e-3, bottleneck=5), model, auto_class=auto_class)
    assert tuned is model
    inside = {each for each, _ in tuned.named_parameters() if ".adapter." in each}
    assert learning(tuned) == inside | norms | top
    places = count * 2 + (count // 2 if tuned.config.is_encoder_decoder else 0)
    assert len(inside) == 4 * places
    assert sum(p.numel() for n, p in tuned.named_parameters() if n in inside) == places * (2 * 5 * width + 5 + width)
    for layer in layers(tuned)[-count:]:
        own = [path for path, module in next(iter(layer.values())).named_modules() if path.endswith(".adapter")]
        words = ("attention", "attn", "layer.0", "layer.1")
        behind_attention = [any(word in path.lower() for word in words) for path in own]
        if not tuned.config.is_encoder_decoder:
            assert sorted(behind_attention) == [False, True], own


@pytest.mark.parametrize("kind", [*KINDS, "gpt2"])
def test_an_adapter_adds_what_it_makes_of_a_parts_output_and_begins_near_it(name: Any, kind: str) -> None:
    made = recipe(name(kind), adapter(learning_rate=1e-2, bottleneck=4))
    of = Tuning(made, torch.device("cpu"), None)
    of.model.eval()
    bare = Tuning(recipe(name(kind), full(learning_rate=1e-2)), torch.device("cpu"), None)
    bare.model.eval()
    batch = of.formulation.encode(made.task.splits().train, of.processor).batch(range(4))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    places = [module for module in of.model.modules() if hasattr(module, "adapter")]
    for place in places:
        place.adapter.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    with torch.no_grad():
        logits = of.objective.forward(of.model, batch)["logits"]
        expected = bare.objective.forward(bare.model, batch)["logits"]
        torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)
        assert not torch.equal(logits, expected)
        assert len(seen) == len(places)
        for place, (given, output) in zip(places, seen, strict=True):
            down, up = place.adapter.down, place.adapter.up
            by_hand = given + torch.nn.functional.gelu(given @ down.weight.T + down.bias) @ up.weight.T + up.bias
            torch.testing.assert_close(output, by_hand)
            assert 0 < float(up.weight.abs().max()) <= 0.02
            place.adapter.up.weight.zero_()
        torch.testing.assert_close(of.objective.forward(of.model, batch)["logits"], expected)  # the identity itself


def test_adapters_are_drawn_by_the_recipes_seed_and_all_of_them_learn(name: Any) -> None:
    def start(seed: int) -> dict[str, torch.Tensor]:
        made = recipe(name("decoder"), adapter(learning_rate=1e-2, bottleneck=4), seed=seed)
        return Tuning(made, torch.device("cpu"), None).averaged() or {}

    made = recipe(name("decoder"), adapter(learning_rate=1e-2, bottleneck=4), averaging=4.0)
    of = Tuning(made, torch.device("cpu"), None)
    first = of.averaged()
    assert all(torch.equal(first[each], start(0)[each]) for each in first)
    assert not all(torch.equal(first[each], start(1)[each]) for each in first)
    rows = of.formulation.encode(made.task.splits().train, of.processor)
    of.make_step(rows, rows.example, 8)
    assert all(not torch.equal(first[each], p) for each, p in of.parameters.items())


@pytest.mark.parametrize("weights", [pytest.param("bfloat16", marks=pytest.mark.slow), "nf4"])
def test_adapters_learn_in_float32_beside_weights_of_fewer_bits(tmp_path: Any, weights: str) -> None:
    made = recipe(tiny_decoder(tmp_path, width=64), adapter(learning_rate=1e-2), weights=weights)
    of = Tuning(made, torch.device("cpu"), None)
    assert {p.dtype for p in of.parameters.values()} == {torch.float32}
    *_, last = train(made)
    assert last.scores["dev_loss"] < untuned_loss(recipe(made.model, made.method, weights=weights, epochs=0))


@pytest.mark.parametrize(
    "family, more, message",
    [
        ("XLNetConfig", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}, "its attention has no matrices of its own"),
        ("MixtralConfig", {"num_key_value_heads": 2, "num_local_experts": 2}, "experts, each token meeting other ones"),
        ("MambaConfig", {"state_size": 4}, "no layers with attention can be told"),
    ],
)
def test_where_there_is_no_place_for_adapters_it_is_said_why(family: str, more: dict[str, Any], message: str) -> None:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, family)(**(SIZE | more)))
        with pytest.raises(UsageError, match=message):
            methods.apply(adapter(learning_rate=1e-3), model, auto_class="AutoModelForCausalLM")


@pytest.mark.parametrize("bottleneck", [0, -1, 1.5, True, "64"])
def test_a_bottleneck_is_a_whole_number(bottleneck: Any) -> None:
    with pytest.raises(UsageError, match="bottleneck must be a whole number, at least 1; got"):
        adapter(learning_rate=1e-3, bottleneck=bottleneck)
