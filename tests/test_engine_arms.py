"""The arms of the engine's benchmark give one result, whoever's loop it is and whatever part of ours is taken out."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from workbench import Recipe, full, head, peft
from workbench.meter import Meter
from workbench.tasks import classification, text_generation
from workbench.testing import tiny_decoder, tiny_model
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")

BENCHMARKS = str(Path(__file__).parent / "benchmarks")


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import engine_arms

    yield engine_arms
    sys.modules.pop("engine_arms", None)


def job(arms: Any, folder: Path, method: Any) -> Any:
    model = tiny_model(folder / "model")
    config = folder / "model" / "config.json"
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | dropout))
    place = folder / "data"
    place.mkdir()
    for side, count in (("train", 24), ("validation", 20), ("test", 8)):
        with (place / f"{side}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            for i in range(count):
                table.writerow([" ".join(f"w{4 + (i * 7 + n * len(side)) % 60}" for n in range(2 if i % 8 else 24)), "ab"[i % 2]])
    task = classification(str(place), train=24, dev=20, test=8, max_length=32)
    how: dict[str, Any] = {"epochs": 1, "warmup_steps": 0, "averaging": None, "precision": "float32"}
    recipe = Recipe(task=task, model=model, method=method, batch_size=8, **how)
    start = Tuning(recipe, torch.device("cpu"), None)
    return arms.Job("tiny", "chat", recipe, {name: p.detach().clone() for name, p in start.parameters.items()})


@pytest.mark.slow
def test_all_arms_give_the_same_writer(arms: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_OUT", str(tmp_path / "trainer"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    data = tmp_path / "questions.jsonl"
    said = [{"prompt": f"say {i} " + "es " * (i % 7 * 3), "completion": f"it is {'ab'[i % 2]}"} for i in range(120)]
    data.write_text("".join(json.dumps(each) + "\n" for each in said))
    task = text_generation(str(data), train=16, dev=10, test=8, max_new_tokens=4)
    method = peft("lora", learning_rate=1e-2, r=4, lora_alpha=8, target_modules="all-linear")
    how: dict[str, Any] = {"epochs": 1, "warmup_steps": 0, "averaging": None, "precision": "float32"}
    recipe = Recipe(task=task, model=tiny_decoder(tmp_path / "model"), method=method, batch_size=8, **how)
    start = Tuning(recipe, torch.device("cpu"), None)
    made = arms.Job("tiny", "generation", recipe, {name: p.detach().clone() for name, p in start.parameters.items()})
    with Meter() as meter:
        run = arms.arms_of(made, meter)
        loss = {name: run[name]().loss for name in run if name.startswith(("ours", "TRL")) and "bfloat16" not in name}
    others = arms.own_loop(made, records=False)
    assert "TRL" in loss
    assert loss == pytest.approx(dict.fromkeys(loss, others.loss), abs=1e-5)
    assert arms.own_loop(made, grouped=True, records=False).tokens > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        full(learning_rate=1e-2),
        head(learning_rate=1e-1),
        peft("lora", learning_rate=1e-2, r=4, lora_alpha=8, target_modules="all-linear"),
    ],
    ids=lambda method: method.name,
)
def test_all_arms_give_the_same_model(arms: Any, tmp_path: Path, method: Any) -> None:
    made = job(arms, tmp_path, method)
    with Meter() as meter:
        run = arms.arms_of(made, meter)
        loss = {name: run[name]().loss for name in run if name.startswith("ours") and "bfloat16" not in name}
        for part in ("kept tokens", "kept bases"):
            with arms.without(part):
                loss[part] = arms.ours(made, meter).loss
        mine = run["ours"]()
    others = arms.own_loop(made, records=False)
    grouped = arms.own_loop(made, grouped=True, records=False)
    assert others.loss != pytest.approx(0.6931, abs=1e-3)  # it has learnt something
    assert loss == pytest.approx(dict.fromkeys(loss, others.loss), abs=1e-5)
    assert others.tokens == grouped.tokens == mine.tokens
    assert mine.padded < others.padded
