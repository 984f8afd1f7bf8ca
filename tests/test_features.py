"""What does not learn is computed once a process; no result depends on it, and every run is billed as if it had been alone."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from workbench import Recipe, Study, bitfit, full, head, methods, peft, zero_shot
from workbench.data import models
from workbench.forecast.forecaster import Forecaster
from workbench.tasks import classification, question_answering
from workbench.testing import TinyTask
from workbench.training import features, train, tuned_model
from workbench.training import test as score_test_split
from workbench.training.tuning import Tuning
from workbench.usage import total

torch = pytest.importorskip("torch")

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("nothing_at_hand")


def questions_file(folder: Path) -> str:
    rng, rows = random.Random(1), []
    for i in range(80):
        names = rng.sample([f"w{n}" for n in range(10, 60)], 2 + i % 38)
        rows.append(
            {"id": f"q{i}", "question": f"w5 w{i % 50 + 10}", "context": "w6 " + " ".join(names)}
            | {"answers": {"text": [names[1]], "answer_start": [len("w6 ") + len(names[0]) + 1]}}
        )
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def task_of(kind: str, folder: Path) -> Any:
    if kind == "words":
        return TinyTask(train=80, dev=20)
    return question_answering(questions_file(folder), train=48, dev=8, test=8, max_length=32, stride=8)


def recipe(task: Any, model: str, method: Any = None, **more: Any) -> Recipe:
    settings = {"epochs": 2, "batch_size": 8, **more}
    return Recipe(task=task, model=model, method=method or head(learning_rate=1e-2), **settings)


def outcome(made: Recipe, resume: Any = None) -> list[Any]:
    return [(c.recipe.epochs, dict(c.scores), c.weights(), dict(c.usage), c.resume_state(), c.tokens) for c in train(made, resume)]


def test_a_later_run_passes_nothing_through_the_body_for_its_features(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(TinyTask(train=40, dev=20), tiny, epochs=1)
    first = outcome(made)
    passed: list[int] = []
    for each in ("_output", "_last"):
        monkeypatch.setattr(features.Features, each, lambda self, inputs: passed.append(1))
    again = outcome(made)
    assert not passed
    for (_, scores, weights, *_), (_, others, wanted, *_) in zip(first, again, strict=True):
        assert scores == others
        assert all(torch.equal(value, wanted[name]) for name, value in weights.items())


@pytest.mark.parametrize("kind", ["spans", pytest.param("words", marks=pytest.mark.slow)])
def test_results_are_those_of_the_loop_without(tiny: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(task_of(kind, tmp_path), tiny)
    found = outcome(made)
    assert features._kept
    features._kept.clear()
    monkeypatch.setattr(features, "MOST_BYTES", 0)
    plain = outcome(made)
    assert not features._kept
    for (epochs, scores, weights, *_), (same, others, wanted, *_) in zip(found, plain, strict=True):
        assert epochs == same
        assert scores == pytest.approx(others, abs=1e-5)
        for name, value in weights.items():
            # The gradient of a bias that all ends of a span share is 0, of which AdamW makes steps out of rounding errors.
            if name != "qa_outputs.bias":
                torch.testing.assert_close(value, wanted[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["words", pytest.param("spans", marks=pytest.mark.slow)])
def test_what_was_there_before_changes_no_bit_and_no_bill(
    tiny: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(task_of(kind, tmp_path), tiny)
    first = outcome(made)
    calls: list[int] = []
    real = features.Features._computed
    monkeypatch.setattr(features.Features, "_computed", lambda *args, **how: calls.append(1) or real(*args, **how))
    second = outcome(made)
    assert not calls
    assert first[0][3]["evaluate"].work.flops > 0
    for one, other in zip(first, second, strict=True):
        assert one[:2] == other[:2]
        assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])
        assert {name: usage.work for name, usage in one[3].items()} == {name: usage.work for name, usage in other[3].items()}
        for phase in ("train", "evaluate"):
            assert other[3][phase].seconds > 0


def test_a_smaller_training_set_shares_what_a_larger_one_has(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome(recipe(TinyTask(train=96, dev=16), tiny))
    calls: list[int] = []
    real = features.Features._computed
    monkeypatch.setattr(features.Features, "_computed", lambda *args, **how: calls.append(1) or real(*args, **how))
    outcome(recipe(TinyTask(train=64, dev=16), tiny, head(learning_rate=3e-2), batch_size=4))
    assert not calls
    outcome(recipe(TinyTask(train=64, dev=16, seed=1), tiny))
    assert len(calls) == 3


@pytest.mark.parametrize("kind", ["spans", pytest.param("words", marks=pytest.mark.slow)])
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one_and_costs_the_same(tiny: str, tmp_path: Path, kind: str) -> None:
    made = recipe(task_of(kind, tmp_path), tiny)
    whole = outcome(made)
    place = [epochs for epochs, *_ in whole].index(1)
    features._kept.clear()  # as in another process
    rest = outcome(made, whole[place][4])
    for one, other in zip(whole[place + 1 :], rest, strict=True):
        assert one[:2] == other[:2]
        assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])
        assert {name: usage.work for name, usage in one[3].items()} == {name: usage.work for name, usage in other[3].items()}


def test_each_row_is_paid_for_once_however_many_epochs(tiny: str) -> None:
    task = TinyTask(train=80, dev=20)
    made = recipe(task, tiny, epochs=4)
    of = Tuning(made, CPU, None)
    rows = of.formulation.encode(task.splits().train, of.processor)
    once = of.work_of(rows.lengths.tolist(), 0, 0, lambda shape, lengths: features_flops(shape, lengths)).flops
    found = outcome(made)
    *_, last = found
    steps = last[3]["train"].work
    assert steps.steps == 40
    assert once <= steps.flops < 1.01 * once  # the head of a sentence counts for nothing
    shortest = next(each for each in found if each[0] == 0.25)
    assert shortest[3]["train"].work.flops < 0.5 * once  # those that it saw, and the rest of their piece
    assert last[3]["evaluate"].work.flops == shortest[3]["evaluate"].work.flops


def features_flops(shape: Any, lengths: Any) -> float:
    from workbench import flops

    return flops.forward(shape, lengths)


def test_the_speed_of_predictions_counts_what_is_at_hand(tiny: str) -> None:
    found = [c.serving for c in train(recipe(TinyTask(train=80, dev=64), tiny), clock=lambda: 0.0)]
    assert all(each["predictions_per_second"] < 1e6 for each in found)


def test_nothing_is_dropped_out_below_a_head_that_learns_alone(tiny: str) -> None:
    of = Tuning(recipe(TinyTask(), tiny), CPU, None)
    assert of.frozen is not None
    (body,) = of.frozen.modules
    assert body is of.model.base_model
    modes = {module.training for module in body.modules()}
    assert modes == {False}
    assert of.model.dropout.training
    rows = of.formulation.encode(of.recipe.task.splits().train, of.processor)
    of.make_step(rows, np.arange(4), 4)
    assert {module.training for module in body.modules()} == {False}
    for method in (full(learning_rate=1e-3), bitfit(learning_rate=1e-3), peft("lora", learning_rate=1e-3, r=2), zero_shot()):
        other = Tuning(recipe(TinyTask(), tiny, method), CPU, None)
        assert other.frozen is None
        assert other.features is None
        assert all(module.training for module in other.model.modules())
    assert [methods.revision(m) for m in (head(learning_rate=1), full(learning_rate=1), bitfit(learning_rate=1))] == [1, 0, 0]


def build(kind: str) -> Any:
    import transformers

    size = {"vocab_size": 64, "num_labels": 2, "pad_token_id": 0}
    wide = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    made = {
        "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**size, **wide)),
        "spans": lambda: transformers.BertForQuestionAnswering(transformers.BertConfig(**size, **wide)),
        "roberta": lambda: transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**size, **wide)),
        "distilbert": lambda: transformers.DistilBertForSequenceClassification(
            transformers.DistilBertConfig(vocab_size=64, num_labels=2, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
        ),
        "modernbert": lambda: transformers.ModernBertForSequenceClassification(
            transformers.ModernBertConfig(
                **size, **wide, classifier_pooling="mean", cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2
            )
        ),
    }[kind]
    torch.manual_seed(0)
    return made().eval()


@pytest.mark.parametrize(
    "kind, wanted",
    [
        ("bert", {"pooler_output": "row"}),
        ("spans", {"last_hidden_state": "tokens"}),
        ("roberta", {"last_hidden_state": "first"}),
        ("distilbert", {"last_hidden_state": "first"}),
        ("modernbert", {"last_hidden_state": "tokens"}),
    ],
)
def test_no_more_is_kept_than_the_head_reads(kind: str, wanted: dict[str, str]) -> None:
    model = build(kind)
    ids = torch.randint(4, 64, (4, 9), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    of = features.Features([model.base_model], ("here",), lambda batch: model(**batch), lambda lengths, padded: None)
    found = of._found(inputs, [9] * 4)
    assert found is not None
    assert dict(found.parts) == wanted


def test_a_head_that_reads_something_else_is_left_alone() -> None:
    class Body(torch.nn.Module):
        def forward(self, input_ids: Any) -> Any:
            return (input_ids.float(),)

    body = Body()
    of = features.Features([body], ("here",), lambda batch: {"logits": body(**batch)[0]}, lambda lengths, padded: None)
    assert of._found({"input_ids": torch.ones(2, 3)}, [3, 3]) is None


def test_memory_is_bounded(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome(recipe(TinyTask(train=64, dev=20), tiny))
    size = sum(piece.size for piece in features._kept.values())
    assert 0 < size <= 84 * 33 * 4
    monkeypatch.setattr(features, "MOST_BYTES", 2 * 64 * 32 * 4)
    for seed in range(6):
        outcome(recipe(TinyTask(train=64, dev=20, seed=seed), tiny, epochs=1))
        assert sum(piece.size for piece in features._kept.values()) <= features.MOST_BYTES
    outcome(recipe(TinyTask(train=65, dev=20, seed=7), tiny))  # one row more than a half: its dev rows alone are kept
    assert sum(len(piece.rows) for piece in features._kept.values() if len(piece.rows) == 1) == 0


def test_kept_weights_answer_the_same(tiny: str, tmp_path: Path) -> None:
    made = recipe(TinyTask(train=64, dev=20), tiny)
    *_, last = train(made)
    save_file(last.weights(), tmp_path / "w.safetensors")
    assert score_test_split(made, tmp_path / "w.safetensors") == last.test()
    assert not any(module.training for module in tuned_model(made, tmp_path / "w.safetensors").modules())


@pytest.mark.parametrize("kind", ["spans", pytest.param("words", marks=pytest.mark.slow)])
def test_a_forecast_knows_that_further_epochs_cost_next_to_nothing(tiny: str, tmp_path: Path, kind: str) -> None:
    made = recipe(task_of(kind, tmp_path), tiny, epochs=4)
    forecaster = Forecaster(Study(made, maximize="f1" if kind == "spans" else "accuracy"))
    *_, last = train(made)
    assert forecaster.amounts(made)["train"]["flops"] == pytest.approx(last.usage["train"].work.flops, rel=0.1)
    assert forecaster.run(made).flops == pytest.approx(total(last.usage.values()).work.flops, rel=0.1)
    more = forecaster.segment(made, 2, 4)
    assert more.work["train"].flops < 0.1 * forecaster.run(made).work["train"].flops + 1


def test_other_weights_or_models_share_nothing(tiny: str) -> None:
    one = dataclasses.replace(recipe(TinyTask(train=32, dev=8), tiny), weights="bfloat16")
    outcome(recipe(TinyTask(train=32, dev=8), tiny))
    before = len(features._kept)
    outcome(one)
    assert len(features._kept) == 2 * before
    assert models.kind(tiny) == "encoder"
    assert classification("pytopics", train=8).max_length == 128
