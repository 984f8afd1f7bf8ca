"""The study that asks: each model with each of its methods once, of both families."""

from pathlib import Path

from workbench import space
from workbench.study import load


def test_it_runs_each_model_with_each_of_its_methods_once() -> None:
    study = load(Path(__file__).parents[1] / "studies" / "ask.py")
    assert study.question.startswith("Is it best to ask a language model")
    models, methods = (study.dimensions[name].space.options for name in ("model", "method"))  # type: ignore[attr-defined]
    pairs = [{"model": model, "method": method.name} for model in models for method in methods]
    allowed = [pair for pair in pairs if space.allowed(study.dimensions, pair)]
    assert study.dimensions.keys() == {"model", "method"}, "a hole more is a run more"
    assert len(allowed) == study.trials == 8
    assert {pair["method"] for pair in allowed if pair["model"] == "smollm2-135m"} == {
        "zero_shot",
        "few_shot",
        "lora",
        "full-writer",
    }
    for pair in allowed:
        assert study.resolve(pair).model == pair["model"]
