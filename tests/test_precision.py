"""In which precision models multiply: as the recipe says, and where it leaves that open as the device and the model have it."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from gradients import packed_and_padded
from products import once_each

from workbench import Recipe, full, health, peft
from workbench.data import models
from workbench.testing import TinyTask, TinyText, tiny_decoder, tiny_model
from workbench.training import passes, precision, train
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")

CPU = torch.device("cpu")
FULL = full(learning_rate=1e-3)
LORA = peft("lora", learning_rate=1e-2, r=2, target_modules="all-linear")


def recipe(model: str, **more: object) -> Recipe:
    settings = {"method": FULL, "task": TinyTask(train=32, dev=16), "epochs": 1, "batch_size": 8, **more}
    return Recipe(model=model, **settings)


def halves(made: Recipe) -> bool:
    """Whether matrices are multiplied in bfloat16, by what comes out of one."""
    of = Tuning(made, CPU, None)
    rows = of.formulation.encode(made.task.splits().train, of.processor)
    seen: list[torch.dtype] = []
    of.model.bert.encoder.layer[0].intermediate.dense.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    with of.passing(rows, np.arange(2)):
        of.objective.forward(of.model, rows.batch(np.arange(2)))
    assert all(p.dtype == torch.float32 for p in of.parameters.values())
    return seen == [torch.bfloat16]


def test_what_a_recipe_leaves_open_rests_on_the_instruction_and_the_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide, narrow = tiny_model(tmp_path / "wide", layers=1, width=precision.WIDE), tiny_model(tmp_path / "narrow", layers=1)
    for instruction in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=instruction: found)
        assert precision.has_bfloat16("cpu") is instruction
        assert halves(recipe(wide)) is instruction
        assert not halves(recipe(narrow))
        assert halves(recipe(narrow, precision="bfloat16"))
        assert not halves(recipe(wide, precision="float32"))
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # a version of torch that does not tell
    assert not precision.has_bfloat16("cpu")


@once_each("method", [FULL, LORA], label=lambda method: method.name)
def test_weights_are_cast_once_and_nothing_else_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: object) -> None:
    made = recipe(
        tiny_decoder(tmp_path / "model", width=64), method=method, precision="bfloat16", task=TinyText(train=8, dev=4), batch_size=4
    )
    found = []
    for once in (True, False):
        if not once:
            monkeypatch.setattr(passes, "cast_once", lambda *args, **how: contextlib.nullcontext())
        *_, last = train(made)
        found.append((dict(last.scores), last.weights()))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][name]) for name, value in found[0][1].items())


def test_what_learns_and_all_in_float32_is_not_cast(tmp_path: Path) -> None:
    of = Tuning(recipe(tiny_model(tmp_path / "model", width=64), method=LORA, precision="bfloat16"), CPU, None)
    kinds = [type(module) for module in of.model.modules()]
    frozen = {n for n, m in of.model.named_modules() if type(m) is torch.nn.Linear and not m.weight.requires_grad}
    with of.cast_once(), of.cast_once():
        assert {n for n, m in of.model.named_modules() if type(m) is precision._CastOnce} == frozen != set()
        assert {n for n, p in of.model.named_parameters() if p.dtype != torch.float32} == set()
    assert [type(module) for module in of.model.modules()] == kinds
    with precision.cast_once(of.model, CPU, bfloat16=False):
        assert [type(module) for module in of.model.modules()] == kinds


def test_a_machine_says_in_what_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    for instruction, told in ((True, "in bfloat16"), (False, "in float32")):
        monkeypatch.setattr(precision, "has_bfloat16", lambda kind, found=instruction: found)
        device, _ = health._device()
        assert told in device.text


@once_each("method", [FULL, LORA], label=lambda method: method.name)
def test_a_run_in_bfloat16_learns_what_one_in_float32_does(tmp_path: Path, method: object) -> None:
    model = tiny_model(tmp_path / "model", layers=2, width=64)
    losses = {}
    for kind in ("float32", "bfloat16"):
        *_, last = train(recipe(model, method=method, precision=kind, task=TinyTask(train=96, dev=48), epochs=2))
        losses[kind] = last.scores["dev_loss"]
        assert all(value.dtype == torch.float32 for value in last.weights().values())
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.02)  # of 0.69 before it has learned
    assert losses["bfloat16"] != losses["float32"]


def test_a_run_in_bfloat16_goes_on_bit_for_bit(tmp_path: Path) -> None:
    made = recipe(tiny_model(tmp_path / "model", width=64), precision="bfloat16", epochs=2)
    whole = [(c.recipe.epochs, dict(c.scores), c.weights(), c.resume_state()) for c in train(made)]
    middle = [epochs for epochs, *_ in whole].index(1)
    rest = [(c.recipe.epochs, dict(c.scores), c.weights()) for c in train(made, whole[middle][3])]
    for one, other in zip(whole[middle + 1 :], rest, strict=True):
        assert one[:2] == other[:2]
        assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])


def test_rows_of_a_bfloat16_run_are_packed_like_any_others(tmp_path: Path) -> None:
    made = recipe(tiny_model(tmp_path / "model", width=64), precision="bfloat16")
    packed, padded = packed_and_padded(made, 8)
    for name, gradient in packed.items():
        assert float((gradient - padded[name]).norm()) <= 0.03 * float(padded[name].norm()) + 1e-6


def test_the_built_in_language_model_is_wide_enough_and_encoders_are_not() -> None:
    assert models.config("minilm-l6").hidden_size < precision.WIDE <= models.config("smollm2-135m").hidden_size
