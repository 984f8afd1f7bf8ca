"""Models that a process keeps: each run gets one of its own, the same as if it were the first."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from workbench import Recipe, bitfit, full, head, peft
from workbench.data import bases, models
from workbench.errors import Infeasible
from workbench.meter import Meter
from workbench.testing import FakeHost, FakeMeter, TinyTask
from workbench.testing.tiny import tiny_decoder, tiny_model
from workbench.training import passes, train
from workbench.training.tuning import Tuning

QA, CLASSES = "AutoModelForQuestionAnswering", "AutoModelForSequenceClassification"
METHODS = {
    "lora": peft("lora", learning_rate=1e-2, r=2),
    "pissa": peft("lora", learning_rate=1e-2, r=2, init_lora_weights="pissa"),
    "olora": peft("lora", learning_rate=1e-2, r=2, init_lora_weights="olora"),
    "bitfit": bitfit(learning_rate=1e-2),
    "full": full(learning_rate=1e-2),
    "head": head(learning_rate=1e-2),
}


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    bases.forget()
    yield
    bases.forget()


@pytest.fixture
def meter() -> Iterator[Meter]:
    made = Meter()
    yield made
    made.close()


def recipe(model: str, method: str, **changes: Any) -> Recipe:
    settings = {"task": TinyTask(train=8, dev=4), "model": model, "method": METHODS[method], "epochs": 1, "batch_size": 8}
    return Recipe(**settings | changes)


def digest(tensors: Any) -> str:
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def outcome(made: Recipe, meter: Meter) -> tuple[str, dict[str, float]]:
    *_, last = train(made, meter=meter)
    return digest(last.weights()), dict(last.scores)


def kept() -> list[torch.nn.Module]:
    return [base.model for base in bases._kept.values()]


def test_a_run_gives_the_same_whatever_was_run_before_it(tiny: str, meter: Meter) -> None:
    alone = {}
    for name in METHODS:
        bases.forget()
        alone[name] = outcome(recipe(tiny, name), meter)
    bases.forget()
    for order in ([*METHODS], [*reversed(METHODS)], ["full", "full", "pissa", "lora", "lora"]):
        assert [outcome(recipe(tiny, name), meter) for name in order] == [alone[name] for name in order]
    assert len(kept()) == 1


def test_a_model_at_hand_is_that_of_the_files(tiny: str, tmp_path: Path, meter: Meter) -> None:
    for name, auto, seed in ((tiny, QA, 1), (tiny, QA, 2), (tiny_decoder(tmp_path), "AutoModelForCausalLM", 1)):
        fresh = models.build(name, auto, seed=seed)
        for at_hand in (False, True):
            built = bases.build(name, auto, seed=seed, weights="float32", window=meter.window)
            assert built.at_hand is at_hand
            assert (built.took is not built.alone) is at_hand
            assert digest(built.model.state_dict()) == digest(fresh.state_dict())
            assert {n: (p.requires_grad, p.dtype) for n, p in built.model.named_parameters()} == {
                n: (p.requires_grad, p.dtype) for n, p in fresh.named_parameters()
            }
            assert not built.model.training


def test_of_a_model_that_draws_nothing_seeds_share_one(tmp_path: Path, meter: Meter) -> None:
    of = tiny_decoder(tmp_path)
    for seed in (1, 2):
        bases.build(of, "AutoModelForCausalLM", seed=seed, weights="float32", window=meter.window)
    assert len(kept()) == 1


@pytest.mark.parametrize("write", ["add", "data", "storage", "numpy"])
def test_no_way_of_writing_to_a_runs_model_reaches_the_kept_one(tiny: str, meter: Meter, write: str) -> None:
    def taken() -> torch.nn.Module:
        return bases.build(tiny, QA, seed=0, weights="float32", window=meter.window).model

    before = digest(taken().state_dict())
    for _ in range(2):
        for tensor in (*(of := taken()).parameters(), *of.buffers()):
            if write == "add":
                with torch.no_grad():
                    tensor.add_(1)
            elif write == "data":
                tensor.data += 1
            elif write == "storage":
                tensor.data.untyped_storage().fill_(1)
            else:
                tensor.detach().numpy()[...] = 1
        assert digest(kept()[0].state_dict()) == digest(taken().state_dict()) == before


@pytest.mark.slow
def test_many_runs_leave_the_kept_model_as_it_was_and_within_its_bound(tiny: str, meter: Meter) -> None:
    of = [recipe(tiny, name, seed=seed) for name in METHODS for seed in (0, 1)]
    outcome(of[0], meter)
    before = digest(kept()[0].state_dict())
    for i in range(200):
        outcome(of[i % len(of)], meter)
        assert sum(base.size for base in bases._kept.values()) <= bases._bound()
    assert len(kept()) == 2  # heads of two seeds
    assert before in {digest(each.state_dict()) for each in kept()}


def test_what_is_kept_is_the_latest_within_the_bound(tiny: str, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_read(seed: int) -> bool:
        built = bases.build(tiny, QA, seed=seed, weights="float32", window=meter.window)
        return built.took is built.alone

    assert is_read(0)
    size = next(iter(bases._kept.values())).size
    monkeypatch.setattr(bases, "MOST_BYTES", 2 * size)
    assert is_read(1)
    assert is_read(2)
    assert [key[-1] for key in bases._kept] == [1, 2]
    assert not is_read(1)
    assert is_read(0)
    assert [key[-1] for key in bases._kept] == [1, 0]
    monkeypatch.setattr(bases, "MOST_BYTES", size - 1)
    bases.forget()
    assert is_read(3)
    assert is_read(3)
    assert not kept()


def test_little_memory_is_left_to_training(tiny: str, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases.cgroups, "available_bytes", lambda: 1000)
    bases.build(tiny, QA, seed=0, weights="float32", window=meter.window)
    assert not kept()


def test_a_folder_that_changes_between_two_runs_is_read_anew(tmp_path: Path, meter: Meter) -> None:
    of = tiny_model(tmp_path)
    first = outcome(recipe(of, "lora"), meter)
    other = AutoModel.from_pretrained(of)
    torch.nn.init.normal_(other.embeddings.word_embeddings.weight)
    other.save_pretrained(of)
    changed = outcome(recipe(of, "lora"), meter)
    bases.forget()
    assert first != changed == outcome(recipe(of, "lora"), meter)


def test_models_with_other_heads_and_precisions_do_not_mix(tiny: str, meter: Meter) -> None:
    def take(auto: str, weights: str = "float32", **settings: Any) -> Any:
        return bases.build(tiny, auto, seed=0, weights=weights, window=meter.window, **settings).model

    for _ in range(2):
        assert take(CLASSES, num_labels=3).classifier.out_features == 3
        assert take(CLASSES, num_labels=5).classifier.out_features == 5
        assert take(CLASSES, num_labels=3, id2label={0: "a", 1: "b", 2: "c"}).config.id2label[0] == "a"
        assert take(CLASSES, "bfloat16", num_labels=3).dtype == torch.bfloat16
        assert take(QA).dtype == torch.float32
    assert len(kept()) == 5


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_point_is_billed_for_loading_as_if_it_were_alone(tiny: str, monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    fake, read = FakeMeter(host=FakeHost(gpus=gpus)), models.read

    def slow(*args: Any, **more: Any) -> Any:
        fake.clock.advance(5.0)
        return read(*args, **more)

    monkeypatch.setattr(models, "read", slow)
    monkeypatch.setattr(passes, "PACKED_TOKENS", {})  # no trial of packed rows, as on a GPU
    first, second, third = (next(train(recipe(tiny, name), meter=fake)) for name in ("lora", "lora", "bitfit"))
    assert first.usage["load"] == second.usage["load"] == third.usage["load"]
    assert first.usage["load"].seconds == first.spent["load"].seconds == 5.0
    assert second.spent["load"].seconds == third.spent["load"].seconds == 1.0  # a sweep pays for what was done
    assert second.usage["load"].gpu_seconds == 5.0 * gpus


def test_a_lack_of_memory_gives_back_what_is_kept(tiny: str, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    def scarce(*args: Any) -> None:
        raise MemoryError("out of memory")

    monkeypatch.setattr(Tuning, "run", scarce)
    with pytest.raises(Infeasible):
        outcome(recipe(tiny, "lora"), meter)
    assert not kept()
