"""Folders that PEFT wrote as starting points: merged into their models on loading, or refused in words."""

import json
import shutil
from pathlib import Path
from typing import Any

import peft as library
import pytest
import torch
from kinds import untuned_loss

from workbench import Recipe, Study, full, peft, zero_shot
from workbench.data import fingerprints, models
from workbench.errors import EnvironmentFault, UsageError
from workbench.forecast import pairs
from workbench.testing import TinyText, tiny_decoder, tiny_model, tiny_seq2seq
from workbench.training import train

AUTO = {"decoder": "AutoModelForCausalLM", "seq2seq": "AutoModelForSeq2SeqLM", "encoder": "AutoModelForSequenceClassification"}
TYPES = {"decoder": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "encoder": "SEQ_CLS"}
MAKERS = {"decoder": tiny_decoder, "seq2seq": tiny_seq2seq, "encoder": tiny_model}


@pytest.fixture(scope="module", params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def base_of(kind: str, folder: Path, **more: Any) -> str:
    return MAKERS[kind](folder / "base", **more)


def write_adapter(base: str, kind: str, folder: Path, config: Any = None, auto: str = "") -> Any:
    """An adapter whose numbers are random, as PEFT saves it; return the model that it makes."""
    torch.manual_seed(1)
    model = models.build(base, auto or AUTO[kind])
    made = config or library.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type=TYPES[kind])
    wrapped = library.get_peft_model(model, made)
    wrapped.save_pretrained(folder)
    return wrapped.eval()


def say(folder: str | Path, **changes: Any) -> None:
    path = Path(folder, "adapter_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def batch(kind: str) -> dict[str, torch.Tensor]:
    ids = torch.randint(8, 60, (2, 6), generator=torch.Generator().manual_seed(0))
    more = {"decoder_input_ids": ids[:, :3]} if kind == "seq2seq" else {}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}


def recipe(model: str, method: Any = None, **more: Any) -> Recipe:
    settings = {"task": TinyText(train=8, dev=4), "epochs": 1, "batch_size": 4, **more}
    return Recipe(model=model, method=method or zero_shot(), **settings)


@torch.no_grad()
def test_an_adapter_is_merged_into_its_model(kind: str, tmp_path: Path) -> None:
    base = base_of(kind, tmp_path)
    expected = write_adapter(base, kind, tmp_path / "a")(**batch(kind)).logits
    name = str(tmp_path / "a")
    assert models.kind(name) == models.kind(base)
    built = models.build(name, AUTO[kind])
    assert type(built) is type(models.build(base, AUTO[kind]))
    assert all(p.requires_grad and p.dtype == torch.float32 for p in built.parameters())
    torch.testing.assert_close(built(**batch(kind)).logits, expected, rtol=1e-4, atol=1e-5)  # head and all
    assert not torch.allclose(models.build(base, AUTO[kind])(**batch(kind)).logits, expected)
    half = models.build(name, AUTO[kind], weights="bfloat16")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    before = torch.get_rng_state()
    models.build(name, AUTO[kind])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(zero_shot(), marks=pytest.mark.slow),
        pytest.param(full(learning_rate=1e-3), marks=pytest.mark.slow),
        peft("lora", learning_rate=1e-3, r=2),
    ],
    ids=lambda each: each.name,
)
def test_it_is_asked_and_tuned_as_any_model(kind: str, method: Any, tmp_path: Path) -> None:
    base = base_of(kind, tmp_path)
    write_adapter(base, kind, tmp_path / "a")
    made = recipe(str(tmp_path / "a"), method)
    (plan,) = pairs.plan(Study(made, maximize="accuracy"))
    assert plan.problem == ""
    *_, last = train(made)
    assert last.trainable_parameters == plan.trainable_parameters
    *_, bare = train(recipe(base, method))
    if made.learns:
        assert last.scores["dev_loss"] != bare.scores["dev_loss"]
    else:
        assert untuned_loss(made) != untuned_loss(bare.recipe)


@torch.no_grad()
def test_the_head_of_another_task_is_left_out(tmp_path: Path) -> None:
    base = base_of("encoder", tmp_path)
    write_adapter(base, "encoder", tmp_path / "a")
    name = str(tmp_path / "a")
    spans = models.build(name, "AutoModelForQuestionAnswering", seed=3)
    assert torch.equal(spans.qa_outputs.weight, models.build(base, "AutoModelForQuestionAnswering", seed=3).qa_outputs.weight)
    three = models.build(name, AUTO["encoder"], seed=3, num_labels=3)
    assert torch.equal(three.classifier.weight, models.build(base, AUTO["encoder"], seed=3, num_labels=3).classifier.weight)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(
        dict(spans.named_parameters())[query], dict(models.build(base, AUTO["encoder"]).named_parameters())[query]
    )
    assert torch.equal(dict(spans.named_parameters())[query], dict(three.named_parameters())[query])
    models.check(name, "AutoModelForQuestionAnswering")


def test_its_files_and_its_models_are_part_of_a_recipe(tmp_path: Path) -> None:
    base = base_of("decoder", tmp_path)
    write_adapter(base, "decoder", tmp_path / "a")
    name = str(tmp_path / "a")

    def now() -> str:
        fingerprints.look_again()
        return fingerprints.model(name)

    first = now()
    assert first == now() != ""
    (tmp_path / "a" / "README.md").write_text("nothing that is loaded")
    assert now() == first
    config = Path(base, "config.json")
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    second = now()
    assert second != first
    say(tmp_path / "a", lora_alpha=16)
    with pytest.raises(EnvironmentFault, match="changed while this command was at work"):
        fingerprints.check_model(name)
    assert now() not in (first, second)


def test_its_model_is_found_by_name_by_path_and_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter("minilm-l2", "encoder", tmp_path / "built-in")
    assert models.resolve(str(tmp_path / "built-in")) == models.resolve("minilm-l2")
    assert models.config(str(tmp_path / "built-in")).num_hidden_layers == 2
    models.build(str(tmp_path / "built-in"), AUTO["encoder"])
    base = base_of("decoder", tmp_path)
    write_adapter(base, "decoder", tmp_path / "a")
    for stated, here in (("../base", tmp_path), ("./base", tmp_path), ("a/../base", tmp_path)):
        monkeypatch.chdir(here)
        say(tmp_path / "a", base_model_name_or_path=stated)
        models.build(str(tmp_path / "a"), AUTO["decoder"])


def test_the_tokeniser_that_it_was_trained_with_is_taken(tmp_path: Path) -> None:
    base = base_of("decoder", tmp_path)
    write_adapter(base, "decoder", tmp_path / "a")
    assert models.tokenizer(str(tmp_path / "a")).chat_template == models.tokenizer(base).chat_template
    words = models.tokenizer(base)
    words.chat_template = "{{ messages[0]['content'] }}!"
    words.save_pretrained(tmp_path / "a")
    assert models.tokenizer(str(tmp_path / "a")).chat_template.endswith("!")


@pytest.mark.parametrize(
    "stated, message",
    [
        (None, "does not say what it is for. Write base_model_name_or_path into its adapter_config.json"),
        ("./gone", "is for the model './gone', which is not there"),
        ("/gone/away/model", "is for the model '/gone/away/model', which is not there"),
        ("../a", "is for another adapter"),
        ("minilm-l7", "there is no model 'minilm-l7'. Did you mean 'minilm-l6'"),
    ],
)
def test_a_model_that_is_not_there_is_named(stated: Any, message: str, tmp_path: Path) -> None:
    base = base_of("decoder", tmp_path)
    write_adapter(base, "decoder", tmp_path / "a")
    say(tmp_path / "a", base_model_name_or_path=stated)
    with pytest.raises(UsageError) as error:
        next(train(recipe(str(tmp_path / "a"))))
    assert message in str(error.value)


def test_an_adapter_of_another_model_is_told_by_the_plan(tmp_path: Path) -> None:
    base = base_of("decoder", tmp_path)
    write_adapter(base, "decoder", tmp_path / "a")
    others = {
        tiny_decoder(tmp_path / "wide", width=64): " for this model (",
        tiny_seq2seq(tmp_path / "t5"): "not found in the base model",
    }
    for other, message in others.items():
        folder = shutil.copytree(tmp_path / "a", f"{other}-adapter")
        say(folder, base_model_name_or_path=other)
        (plan,) = pairs.plan(Study(recipe(str(folder)), maximize="accuracy"))
        assert message in plan.problem
        with pytest.raises(UsageError) as error:
            next(train(recipe(str(folder))))
        assert str(error.value) == plan.problem


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    base = base_of("decoder", tmp_path)
    config = library.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    write_adapter(base, "decoder", tmp_path / "p", config)
    with pytest.raises(UsageError, match="is of prompt_tuning, whose tokens in front of the input cannot be merged"):
        models.build(str(tmp_path / "p"), AUTO["decoder"])
    write_adapter(base, "decoder", tmp_path / "a")
    with pytest.raises(UsageError, match="merged into a model of four bits it is lost"):
        models.build(str(tmp_path / "a"), AUTO["decoder"], weights="nf4")
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(UsageError, match="cannot be merged into"):
        models.build(str(tmp_path / "a"), AUTO["decoder"])
    (tmp_path / "a" / "adapter_config.json").write_text("{")
    with pytest.raises(UsageError, match="does not say what it is for"):
        models.config(str(tmp_path / "a"))


def test_a_folder_with_both_is_an_adapter(tmp_path: Path) -> None:
    base = base_of("decoder", tmp_path)
    write_adapter(base, "decoder", tmp_path / "a")
    shutil.copy(Path(base, "config.json"), tmp_path / "a")
    assert models.resolve(str(tmp_path / "a")) == (base, None)
