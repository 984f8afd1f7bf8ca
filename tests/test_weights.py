"""What holds a model's own weights: float32, bfloat16 or four bits, while what learns stays exact."""

from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import untuned_loss

from workbench import Recipe, Study, bitfit, choice, full, peft, zero_shot
from workbench.errors import UsageError
from workbench.forecast.memory import state_bytes
from workbench.testing import TinyText, tiny_decoder
from workbench.training import train
from workbench.training.tuning import Tuning


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_decoder(tmp_path_factory.mktemp("tiny"), width=64)


def recipe(model: str, weights: Any = "float32", method: Any = None) -> Recipe:
    lora = peft("lora", learning_rate=1e-2, r=4, target_modules="all-linear")
    return Recipe(task=TinyText(train=16, dev=8), model=model, method=method or lora, epochs=1, batch_size=4, weights=weights)


@pytest.mark.parametrize("weights", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16", "nf4"])
def test_adapters_learn_in_float32_beside_weights_of_any_kind(model: str, weights: str) -> None:
    tuning = Tuning(recipe(model, weights), torch.device("cpu"), None)
    assert {p.dtype for p in tuning.parameters.values()} == {torch.float32}
    own = tuning.model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
    assert own.dtype == {"float32": torch.float32, "bfloat16": torch.bfloat16, "nf4": torch.uint8}[weights]
    *_, last = train(recipe(model, weights))
    *_, exact = train(recipe(model))
    assert last.scores["dev_loss"] == pytest.approx(exact.scores["dev_loss"], rel=0.05)
    (asked,) = train(recipe(model, weights, zero_shot()))
    assert untuned_loss(asked.recipe) > last.scores["dev_loss"]


def test_they_are_settings_of_the_recipe_and_no_word_of_one_that_has_none(model: str) -> None:
    assert len({recipe(model, weights).id for weights in ("float32", "bfloat16", "nf4")}) == 3
    assert "weights" not in recipe(model).to_json()
    assert recipe(model, "nf4").to_json()["weights"] == "nf4"


@pytest.mark.parametrize(
    "method", [full(learning_rate=1e-3), bitfit(learning_rate=1e-3), choice(zero_shot(), full(learning_rate=1e-3))]
)
def test_weights_that_learn_are_float32(model: str, method: Any) -> None:
    with pytest.raises(UsageError, match="changes the model's own weights, which must be float32 then"):
        recipe(model, choice("float32", "bfloat16"), method)


def test_a_choice_of_weights_is_searched(model: str) -> None:
    study = Study(recipe(model, choice("float32", "bfloat16")), maximize="accuracy")
    assert study.resolve({"weights": "bfloat16"}) == recipe(model, "bfloat16")
    with pytest.raises(UsageError, match="weights must be one of 'float32', 'bfloat16', 'nf4'; got 'int3'"):
        recipe(model, "int3")


def test_a_model_that_is_put_together_of_layers_is_not_held_in_four_bits(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'minilm-l2' is put together of layers"):
        Tuning(recipe("minilm-l2", "nf4"), torch.device("cpu"), None)


def test_memory_counts_what_holds_them() -> None:
    assert state_bytes(1000, 0) == 4000
    assert state_bytes(1000, 0, "bfloat16") == 2000
    assert 500 < state_bytes(1000, 0, "nf4") < 600
    assert state_bytes(1000, 10, "bfloat16") - state_bytes(1000, 0, "bfloat16") == 24 * 10 - 2 * 10
