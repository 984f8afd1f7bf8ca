"""What the first layers give, below all that learns, is computed once a row: no result depends on it, and forecasts know."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from products import once_each

from workbench import Recipe, Study, bitfit, flops, full, head, methods, peft
from workbench.data import models
from workbench.forecast.forecaster import Forecaster
from workbench.methods import Method
from workbench.testing import TinyText, tiny_decoder, tiny_model, tiny_seq2seq
from workbench.training import features, train
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("nothing_at_hand")
PLACES = ["query", "value", "q_proj", "v_proj"]
"""Of encoders and of decoders."""
METHODS = {
    "full": full(learning_rate=3e-3, trainable_layers=1),
    "lora": peft("lora", learning_rate=1e-2, r=2, target_modules=PLACES, layers_to_transform=[1]),
}
FIRST = {"encoder": "encoder.layer.0", "decoder": "layers.0"}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"encoder": tiny_model(tmp_path_factory.mktemp("encoder")), "decoder": tiny_decoder(tmp_path_factory.mktemp("decoder"))}


def recipe(model: str, method: Method, **more: Any) -> Recipe:
    settings = {"task": TinyText(train=40, dev=12), "epochs": 2, "batch_size": 8, "precision": "float32", **more}
    return Recipe(model=model, method=method, **settings)


def outcome(made: Recipe) -> list[Any]:
    return [(c.recipe.epochs, dict(c.scores), c.weights(), dict(c.usage)) for c in train(made)]


def encoded(of: Tuning) -> Any:
    return of.formulation.encode(of.recipe.task.splits().train, of.processor)


def first_layer(of: Tuning) -> Any:
    kind = models.kind(of.recipe.architecture)
    return next(module for path, module in of.model.named_modules() if path.endswith(FIRST[kind]))


@once_each("kind, method", ["encoder", "decoder"], [*METHODS])
def test_results_are_those_of_the_loop_without(
    names: dict[str, str], kind: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(names[kind], METHODS[method])
    found = outcome(made)
    assert features._kept
    features._kept.clear()
    monkeypatch.setattr(features, "MOST_BYTES", 0)
    plain = outcome(made)
    assert not features._kept
    assert len(found) == len(plain) > 1
    for (epochs, scores, weights, usage), (same, others, wanted, whole) in zip(found, plain, strict=True):
        assert epochs == same
        assert scores == pytest.approx(others, abs=1e-5)
        for name, value in weights.items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5)
        if epochs > 1:
            assert usage["train"].work.flops < whole["train"].work.flops


@once_each("kind, method", ["encoder", "decoder"], [*METHODS])
def test_a_step_has_the_gradient_of_all_layers(names: dict[str, str], kind: str, method: str) -> None:
    """Also where rows are padded on the left, and where the learning layers see no padding."""
    from workbench.meter import Meter

    gradients = []
    for kept in (True, False):
        of = Tuning(recipe(names[kind], METHODS[method]), CPU, None)
        rows = encoded(of)
        assert len({*rows.lengths.tolist()}) > 1
        passed: list[int] = []
        inner = next(module for module in first_layer(of).modules() if isinstance(module, torch.nn.Linear))
        inner.register_forward_hook(lambda *_, passed=passed: passed.append(1))
        with Meter() as meter:
            if kept:
                of.prepare(rows, 16, meter.window)
                assert of.at_hand(rows, np.arange(16))
        of.model.eval()  # dropout above the frozen layers is not what is asked about
        passed.clear()
        of.gradient(rows, np.arange(16))
        assert (not passed) is kept
        gradients.append({name: p.grad for name, p in of.parameters.items() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() != set()
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-4, atol=1e-6)


def test_further_runs_with_other_methods_find_what_the_first_has_computed(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = outcome(recipe(names["encoder"], METHODS["full"]))
    calls: list[int] = []
    real = features.Features._last
    monkeypatch.setattr(features.Features, "_last", lambda self, inputs: calls.append(1) or real(self, inputs))
    again = outcome(recipe(names["encoder"], METHODS["full"]))
    assert not calls
    for one, other in zip(first, again, strict=True):
        assert one[:2] == other[:2]
        assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])
        assert {name: usage.work for name, usage in one[3].items()} == {name: usage.work for name, usage in other[3].items()}
    outcome(recipe(names["encoder"], METHODS["lora"], seed=1))
    assert not calls
    outcome(recipe(names["encoder"], head(learning_rate=1e-2)))  # another part of the model
    assert calls


def test_nothing_is_dropped_out_below_what_learns(names: dict[str, str]) -> None:
    for method in METHODS.values():
        of = Tuning(recipe(names["encoder"], method), CPU, None)
        bare = flops.unwrapped(of.model)
        still = (bare.bert.embeddings, bare.bert.encoder.layer[0])
        assert not any(module.training for part in still for module in part.modules())
        assert all(module.training for module in bare.bert.encoder.layer[1].modules())
        of.make_step(encoded(of), np.arange(4), 4)
        of.learn()
        assert not bare.bert.embeddings.dropout.training
        assert bare.bert.encoder.training


def test_what_learns_further_down_or_elsewhere_is_passed_whole(names: dict[str, str], tmp_path: Path) -> None:
    lora = {"learning_rate": 1e-2, "r": 2, "target_modules": PLACES}
    for method in (
        full(learning_rate=1e-3),
        full(learning_rate=1e-3, trainable_layers=2),
        bitfit(learning_rate=1e-3),
        peft("lora", **lora),
        peft("lora", **lora, layers_to_transform=[0, 1]),
        peft("lora", **lora, layers_to_transform=[1], modules_to_save=["word_embeddings"]),
    ):
        of = Tuning(recipe(names["encoder"], method), CPU, None)
        assert of.frozen is None
        assert of.features is None
        assert all(module.training for module in of.model.modules())
    twofold = recipe(tiny_seq2seq(tmp_path / "seq2seq"), METHODS["full"])
    assert Tuning(twofold, CPU, None).frozen is None


def test_only_such_methods_make_another_model_than_before() -> None:
    lora = {"learning_rate": 1e-3, "r": 2}
    assert [methods.revision(method) for method in METHODS.values()] == [1, 2]
    assert methods.revision(peft("lora", **lora, layers_to_transform=1)) == 2
    assert [methods.revision(peft("lora", **lora, layers_to_transform=of)) for of in ([0, 1], [], None)] == [1, 1, 1]
    assert methods.revision(full(learning_rate=1e-3)) == 0


def test_the_work_of_both_parts_is_that_of_the_whole(names: dict[str, str]) -> None:
    for kind in ("encoder", "decoder"):
        for method in METHODS.values():
            of = Tuning(recipe(names[kind], method), CPU, None)
            assert of.shape is not None
            assert of.parts is not None
            below, above = of.parts
            assert 0 < below.weights < of.shape.weights
            assert (below.layers, above.layers) == (1, 1)
            lengths = [7, 3, 12]
            assert flops.forward(below, lengths) + flops.forward(above, lengths) == flops.forward(of.shape, lengths)
            assert flops.forward(below, lengths) + flops.training(above, lengths) == flops.training(of.shape, lengths)


@once_each("kind, method", ["encoder", "decoder"], [*METHODS])
def test_a_forecast_knows_what_further_epochs_cost(
    names: dict[str, str], kind: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(names[kind], METHODS[method], epochs=4)
    amounts = Forecaster(Study(made, maximize="accuracy")).amounts(made)["train"]
    *_, (_, _, _, usage) = outcome(made)
    assert amounts["flops"] == pytest.approx(usage["train"].work.flops, rel=0.1)
    monkeypatch.setattr(features, "MOST_BYTES", 0)
    assert Forecaster(Study(made, maximize="accuracy")).amounts(made)["train"]["flops"] > 1.1 * amounts["flops"]


def test_what_is_kept_of_layers_is_bounded(names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(names["encoder"], METHODS["full"], epochs=1)
    outcome(made)
    of = Tuning(made, CPU, None)
    dev = of.formulation.encode(made.task.splits().dev, of.processor)
    sizes = [int(rows.lengths.sum()) * 32 * 4 for rows in (encoded(of), dev)]
    assert sum(piece.size for piece in features._kept.values()) == sum(sizes)
    features._kept.clear()
    monkeypatch.setattr(features, "MOST_BYTES", 2 * max(sizes) - 1)  # a half has room for the dev rows alone
    outcome(made)
    assert sum(piece.size for piece in features._kept.values()) == min(sizes)
