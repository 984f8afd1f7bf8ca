"""A model as a folder that other software loads: PEFT's adapter, or one whole model; graded again, with a model card."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from workbench import Recipe, adapter, full, knn, peft
from workbench.errors import Refused, UsageError
from workbench.serving.evidence import Evidence
from workbench.serving.packaging import package
from workbench.tasks import classification
from workbench.testing import TinyText, tiny_decoder, tiny_model
from workbench.training import train

LORA = peft("lora", learning_rate=2e-2, r=4, target_modules="all-linear")
FULL = full(learning_rate=3e-3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"encoder": tiny_model(folder / "encoder"), "decoder": tiny_decoder(folder / "decoder")}


def known_of(recipe: Recipe, score: float, **more: Any) -> Evidence:
    about: dict[str, Any] = {
        "study": "my-1", "trial": 3, "recipe_id": recipe.id, "model": recipe.model, "method": recipe.method.name, "epochs": 2.0,
        "labels": 64, "metric": "accuracy", "score": score, "mean": None, "low": None, "high": None, "seeds": 0, "test": None,
        "usd": 0.002, "usd_per_1000": 0.0001, "offer": "local", "seconds": 12.0, "energy_j": 3600.0, "grams_co2e": 0.45,
        "country": "country/FRA", "hardware": "a processor", "data": "tiny", "data_digest": "abc", "licence_model": "MIT",
    }  # fmt: skip
    return Evidence(**about | more)


def made(folder: Path, model: str, method: Any) -> tuple[Recipe, Any, Path]:
    recipe = Recipe(task=TinyText(train=64, dev=16), model=model, method=method, epochs=2, batch_size=8)
    *_, last = train(recipe)
    save_file(last.weights(), folder / "kept.safetensors")
    return recipe, last, folder / "kept.safetensors"


@torch.inference_mode()
def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    batch = tokenizer(["w8 w7 w9", "w10 w11"], padding=True, return_tensors="pt")
    found: torch.Tensor = model.eval()(**batch).logits
    return found


def as_the_card_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the lines of Python at the head of a card make."""
    found: dict[str, Any] = {}
    with monkeypatch.context() as there:
        there.chdir(folder)
        exec((folder / "README.md").read_text().split("```python\n")[1].split("```")[0], found)
    return found


def test_an_adapter_is_what_peft_loads(tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    import peft as library

    recipe, last, weights = made(tmp_path, models["encoder"], LORA)
    score = last.scores["accuracy"]
    found = package(recipe, weights, known_of(recipe, score), tmp_path / "out", "adapter")
    assert found.score == score
    assert found.bytes == sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.name != "README.md" and p.is_file())
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == models["encoder"]
    loaded = as_the_card_says(tmp_path / "out", monkeypatch)["model"]
    assert isinstance(loaded, library.PeftModel)
    merged = tmp_path / "whole"
    package(recipe, weights, known_of(recipe, score), merged, "merged")
    whole, tokenizer = map(as_the_card_says(merged, monkeypatch).get, ("model", "tokenizer"))
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
    assert whole.config.id2label == {0: "no", 1: "yes it is"}
    torch.testing.assert_close(logits(loaded, tokenizer), logits(whole, tokenizer), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_a_language_model_is_packaged_without_modules_to_save(form: str, tmp_path: Path, models: dict[str, str]) -> None:
    recipe, last, weights = made(tmp_path, models["decoder"], LORA)
    found = package(recipe, weights, known_of(recipe, last.scores["accuracy"]), tmp_path / "out", form)
    assert found.score == last.scores["accuracy"]
    if form == "adapter":  # vLLM refuses adapters with whole modules in them
        assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["modules_to_save"] is None
    assert not list((tmp_path / "out").rglob("*.bin"))


def test_the_card_has_what_a_hub_reads(tmp_path: Path, models: dict[str, str]) -> None:
    from huggingface_hub import ModelCard

    recipe, last, weights = made(tmp_path, models["encoder"], FULL)
    known = known_of(recipe, last.scores["accuracy"], mean=61.0, low=58.0, high=64.0, seeds=3, test=60.5)
    found = package(recipe, weights, known, tmp_path / "out", "merged")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "mit"
    assert card.data.base_model == models["encoder"]
    assert card.data.co2_eq_emissions == {
        "emissions": 0.45,
        "source": "joules as measured or estimated by workbench, by the location-based average of the grid",
        "training_type": "fine-tuning",
        "geographical_location": "country/FRA",
        "hardware_used": "a processor",
    }
    for said in (
        "$0.002",
        "0.001 kWh",
        "accuracy 60.50 on the held-out test split",
        "3 new seeds 61.00",
        "content abc",
        f"{found.score:.2f}",
    ):
        assert said in card.text
    less: dict[str, Any] = {"licence_model": "unknown", "grams_co2e": None, "usd": None, "energy_j": None}
    unknown = known_of(recipe, last.scores["accuracy"], epochs=1.0, **less)
    package(recipe, weights, unknown, tmp_path / "other", "merged")
    card = ModelCard.load(tmp_path / "other" / "README.md")
    assert "license" not in card.data.to_dict()
    assert "co2_eq_emissions" not in card.data.to_dict()
    assert "| energy | unknown |" in card.text
    assert "Made from 64 labelled examples in 1 epoch, trial 3" in card.text


def test_a_model_whose_score_has_moved_is_not_given_away(tmp_path: Path, models: dict[str, str]) -> None:
    recipe, last, weights = made(tmp_path, models["encoder"], FULL)
    moved = known_of(recipe, last.scores["accuracy"] + 13)
    with pytest.raises(Refused, match=r"loaded again the model has accuracy .* and the sweep measured .*: more than 6\.25 apart"):
        package(recipe, weights, moved, tmp_path / "out", "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.safetensors"]
    assert package(recipe, weights, moved, tmp_path / "out", "merged", most=13.0).score == last.scores["accuracy"]
    with pytest.raises(UsageError, match="out is there already"):
        package(recipe, weights, moved, tmp_path / "out", "merged")


@pytest.mark.parametrize(
    ("method", "form", "said"),
    [
        (FULL, "adapter", "full is no method of PEFT: there is no adapter to give away. Take --as merged"),
        (peft("prompt_tuning", learning_rate=1e-2, num_virtual_tokens=2), "merged", "cannot be merged. Take --as adapter"),
        (adapter(learning_rate=1e-2, bottleneck=4), "merged", "only workbench computes"),
    ],
    ids=["full", "prompt", "houlsby"],
)
def test_a_method_without_such_a_form_is_refused(method: Any, form: str, said: str, tmp_path: Path, models: dict[str, str]) -> None:
    recipe, last, weights = made(tmp_path, models["encoder"], method)
    with pytest.raises(UsageError, match=said):
        package(recipe, weights, known_of(recipe, last.scores["accuracy"]), tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


def test_a_fitted_head_is_refused(tmp_path: Path, models: dict[str, str]) -> None:
    data = "".join(json.dumps({"text": f"w{4 + i % 30}", "label": "ab"[i % 2]}) + "\n" for i in range(40))
    (tmp_path / "data.jsonl").write_text(data)
    task = classification(str(tmp_path / "data.jsonl"), train=16, dev=4, max_length=16)
    recipe = Recipe(task=task, model=models["encoder"], method=knn(neighbours=3), epochs=0)
    *_, last = train(recipe)
    save_file(last.weights(), tmp_path / "kept.safetensors")
    with pytest.raises(UsageError, match="knn makes a model that only workbench computes"):
        package(recipe, tmp_path / "kept.safetensors", known_of(recipe, 50.0), tmp_path / "out", "merged")


@pytest.mark.slow
def test_the_adapter_of_a_built_in_model_has_that_model_beside_it(tmp_path: Path) -> None:
    import peft as library
    from transformers import AutoModelForSequenceClassification

    recipe = Recipe(task=TinyText(train=8, dev=8), model="minilm-l2", method=LORA, epochs=1, batch_size=4)
    *_, last = train(recipe)
    save_file(last.weights(), tmp_path / "kept.safetensors")
    package(recipe, tmp_path / "kept.safetensors", known_of(recipe, last.scores["accuracy"]), tmp_path / "out", "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "base")
    library.PeftModel.from_pretrained(base, tmp_path / "out")
    assert base.config.num_hidden_layers == 2
