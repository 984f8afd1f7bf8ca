"""Encoders as files of ONNX: graded again, served, and a point of their own in serving."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from test_report import BEST, view
from test_report_confirmed import FRONT, MIDDLE, seeds
from test_serving_packaging import known_of

from workbench import Recipe, full, peft
from workbench.errors import EnvironmentFault, Refused, UsageError
from workbench.front.points import Points
from workbench.front.serving import break_even, forms_of, serving
from workbench.quantities import dollars
from workbench.result import Result
from workbench.serving import bundle, evidence, packaging, registry, requirements
from workbench.serving.card import changed_text
from workbench.serving.loading import Deployed
from workbench.tasks import classification
from workbench.testing import TinyText, tiny_decoder, tiny_model
from workbench.training import Predictor, train
from workbench.training.onnx_models import CLASSES, refusal
from workbench.usage import Usage, Work


def made(folder: Path, model: str, method: Any) -> tuple[Recipe, Any, Path]:
    recipe = Recipe(task=TinyText(train=64, dev=16), model=model, method=method, epochs=2, batch_size=8)
    *_, last = train(recipe)
    save_file(last.weights(), folder / "kept.safetensors")
    return recipe, last, folder / "kept.safetensors"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Any, Path]:
    folder = tmp_path_factory.mktemp("encoder")
    return made(folder, tiny_model(folder / "model"), peft("lora", learning_rate=2e-2, r=4, target_modules="all-linear"))


@pytest.mark.slow
def test_a_model_in_onnx_answers_as_it_was_graded_and_loads_in_plain_onnx_runtime(encoder: Any, tmp_path: Path) -> None:
    import onnxruntime
    from transformers import AutoTokenizer

    recipe, last, weights = encoder
    known = known_of(recipe, last.scores["accuracy"])
    found = packaging.package(recipe, weights, known, tmp_path / "out", "onnx")
    assert found.score == last.scores["accuracy"]
    assert found.served is not None
    assert found.served.bytes == (tmp_path / "out" / "model.onnx").stat().st_size <= found.bytes
    assert 'library_name: "onnx"' in (tmp_path / "out" / "README.md").read_text()
    # As whoever is given the folder reads it, with any number of rows and of tokens.
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    labels = json.loads((tmp_path / "out" / "config.json").read_text())["id2label"]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    dev = recipe.task.splits().dev
    rows = [recipe.task.question(example) for example in dev]
    texts = [" ".join(f"w{word}" for word in row["words"]) for row in rows]
    inputs = tokenizer(texts, padding=True, return_tensors="np")
    (logits,) = session.run(["logits"], {each.name: inputs[each.name].astype(np.int64) for each in session.get_inputs()})
    assert [labels[str(number)] for number in logits.argmax(-1)] == [labels_of(value) for value in last.predictions]
    # And as it is served.
    bundle.write(tmp_path / "bundle", recipe, tmp_path / "out" / "model.onnx", None, {})
    assert not (tmp_path / "bundle" / bundle.WEIGHTS).exists()
    served = Deployed(tmp_path / "bundle").predictions(rows)
    assert [labels_of(value) for value in served] == [labels_of(value) for value in last.predictions]
    assert [value.confidence for value in served] == pytest.approx([value.confidence for value in last.predictions], rel=1e-4)
    assert any(name.startswith("onnxruntime==") for name in requirements.needed(recipe, onnx=True))
    (tmp_path / "bundle" / bundle.ONNX).write_bytes(b"no model")
    with pytest.raises(EnvironmentFault, match="ONNX Runtime cannot read"):
        Predictor(recipe, tmp_path / "bundle" / bundle.ONNX)


@pytest.mark.slow
def test_weights_of_eight_bits_are_smaller_and_graded_for_themselves(encoder: Any, tmp_path: Path) -> None:
    import onnx

    recipe, last, weights = encoder
    known = known_of(recipe, last.scores["accuracy"])
    found = packaging.package(recipe, weights, known, tmp_path / "out", "int8")
    assert found.served is not None
    assert abs(found.score - last.scores["accuracy"]) <= packaging.most_of("int8", recipe.task, "accuracy")
    card = (tmp_path / "out" / "README.md").read_text()
    # Also where the score stays: how many answers are others than those in torch.
    files = Predictor(recipe, tmp_path / "out" / "model.onnx"), Predictor(recipe, weights)
    one, other = ([labels_of(value) for value in predictor(recipe.task.splits().dev).values] for predictor in files)
    changed = float(np.mean([a != b for a, b in zip(one, other, strict=True)]))
    assert found.served.answers_changed == pytest.approx(changed)
    assert f"| answers | {100 * changed:.1f} % of the dev set's answers are others than in torch |" in card
    assert known.usd_per_1000 is not None
    assert f"| cost of 1,000 predictions | {dollars(known.usd_per_1000 / found.served.speedup)} |" in card
    operators = {node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= operators
    with pytest.raises(Refused, match="the sweep measured"):
        packaging.export(recipe, weights, replace(known, score=known.score + 40), tmp_path / "model.onnx", "int8")


def labels_of(value: Any) -> Any:
    return value.labels[0]


def test_a_model_that_writes_has_no_such_form(tmp_path: Path) -> None:
    recipe = Recipe(task=TinyText(), model=tiny_decoder(tmp_path / "m"), method=full(learning_rate=1e-3), epochs=1)
    assert recipe.formulation.auto_class not in CLASSES
    with pytest.raises(UsageError, match=r"AutoModelForCausalLM, which has no form in ONNX: .* Take merged"):
        packaging.package(recipe, None, known_of(recipe, 50.0), tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()
    assert refusal(replace(recipe, model=tiny_model(tmp_path / "e"))) == ""


def test_what_exports_is_asked_for_where_it_is_missing(encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, last, weights = encoder
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name))
    with pytest.raises(EnvironmentFault, match=r"onnx and onnxscript and onnxruntime, not installed .*'workbench\[onnx\]'"):
        packaging.package(recipe, weights, known_of(recipe, last.scores["accuracy"]), tmp_path / "out", "int8")
    assert not (tmp_path / "out").exists()


def test_a_form_is_as_much_cheaper_as_it_was_faster_beside_the_original() -> None:
    evaluated = {"evaluate": Usage(seconds=2.0, work=Work(examples=256))}
    point = replace(BEST, serving={"predictions_per_second": 128.0, "latency_seconds": 0.01}, usage={**BEST.usage, **evaluated})
    record = {"name": "int8", "score": 60.0, "bytes": 5, "predictions_per_second": 300.0, "latency_seconds": 0.002}
    record |= {"original_per_second": 100.0, "original_latency_seconds": 0.004, "of a newer workbench": 1}
    (form,) = forms_of({"int8": record})
    plain, served = serving(point, view()), serving(point, view(), form=form)
    assert plain is not None
    assert served is not None
    assert served.predictions_per_second.value == pytest.approx(3 * plain.predictions_per_second.value)
    assert served.usd_per_1000.value == pytest.approx(plain.usd_per_1000.value / 3)
    assert served.latency_seconds == pytest.approx((plain.latency_seconds or 0.0) / 2)
    meets = break_even(point, point, view(), form=form)
    assert meets is not None
    assert meets.cheaper_before  # for the same training it is always cheaper
    assert form.answers_changed is None  # a record of before it was counted
    assert changed_text(None) == "not compared"


def test_what_new_seeds_got_on_the_test_split_goes_with_a_model() -> None:
    def graded(result: Result, score: float, **more: dict[str, float]) -> Result:
        return replace(result, test_scores={result.recipe_id: {"f1": score}, **more})

    first, second = seeds(MIDDLE, 62.0, 63.0)
    results = [*FRONT, graded(first, 58.0, **{MIDDLE.recipe_id: {"f1": 57.0}}), graded(second, 60.0)]
    recipe = Recipe(task=TinyText(), model="minilm-l2", method=full(learning_rate=1e-3), epochs=1)
    known = evidence.of(MIDDLE, recipe, Points.of(results, view()), "s-1")
    assert (known.confirmed, known.seeds, known.mean) == (True, 2, 62.5)
    assert (known.test, known.test_mean) == (57.0, 59.0)
    assert known.test_low is not None
    assert known.test_high is not None
    assert known.test_low < 59.0 < known.test_high
    assert known.licence_data == "unknown"
    of_built_in = replace(recipe, task=classification("pytopics", train=8))
    assert "numpy (BSD-3-Clause" in evidence.of(MIDDLE, of_built_in, Points.of(results, view()), "s-1").licence_data
    tags = registry.tags(known)
    assert tags["workbench.test_low"] == str(known.test_low)
    assert tags["workbench.confirmed"] == "true"
    assert "workbench.test_low" not in registry.tags(evidence.of(BEST, recipe, Points.of(results, view()), "s-1"))
