"""A model that two processes hold a half of each learns what one would; when one of them is killed, nothing hangs."""

import contextlib
import json
import os
import signal
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import forks, start
from safetensors.torch import save_file

from workbench import Recipe, full, peft, training, uncertainty
from workbench.cli.workers import together
from workbench.errors import Infeasible, UsageError
from workbench.forecast import Typical
from workbench.ledger import Ledger
from workbench.study import load
from workbench.sweep.job import opened
from workbench.testing import TinyTask, TinyText, tiny_decoder, tiny_model
from workbench.training import Checkpoint, Progress, Shards, sharding, train

torch = pytest.importorskip("torch")

FULL = full(learning_rate=5e-4)
LORA = peft("lora", learning_rate=1e-2, r=2, target_modules="all-linear")


def recipe(folder: Path, kind: str, method: Any, **more: Any) -> Recipe:
    made = {"encoder": tiny_model, "decoder": tiny_decoder}[kind](folder / kind)
    config = Path(made) / "config.json"
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | dropout))
    task = TinyTask(train=16, dev=8) if kind == "encoder" else TinyText(train=16, dev=4)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 7, **more}
    return Recipe(task=task, model=made, method=method, **settings)


def same(found: Checkpoint, weights: dict, alone: Checkpoint, expected: dict) -> None:
    assert found.recipe.id == alone.recipe.id
    assert found.scores == pytest.approx(alone.scores, abs=1e-5)
    assert (found.step, found.labels, found.tokens, found.trainable_parameters) == (
        alone.step,
        alone.labels,
        alone.tokens,
        alone.trainable_parameters,
    )
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        if name.endswith("key.bias"):  # whose gradient is 0 but for rounding, of which AdamW makes whole steps
            continue
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_each_goes_on_from_the_others_states(tmp_path: Path) -> None:
    made = [recipe(tmp_path, "encoder", FULL), recipe(tmp_path, "decoder", LORA)]
    alone = [[(each, each.weights(), each.resume_state()) for each in train(one)] for one in made]
    states = []
    files = [(tmp_path / f"{i}.safetensors", one, each[-1][1]) for i, (one, each) in enumerate(zip(made, alone, strict=True))]
    for file, _, weights in files:
        save_file(weights, file)
    grades = [training.test(one, file) for file, one, _ in files]
    shards = Shards(2)
    try:
        assert sharding.count() == 2
        for one, expected in zip(made, alone, strict=True):
            both = [(each, each.weights(), each.resume_state(), each.test()) for each in shards.train(one)]
            for (found, weights, state, tested), (own, whole, kept) in zip(both, expected, strict=True):
                same(found, weights, own, whole)
                assert {*tested} == {*own.scores} - {"dev_loss"} | {"test_loss"}
                assert {n: t.shape for n, t in state.tensors.items()} == {n: t.shape for n, t in kept.tensors.items()}
            resumed = [(each, each.weights()) for each in shards.train(one, expected[0][2])]
            for (found, weights), (own, whole, _) in zip(resumed, expected[1:], strict=True):
                same(found, weights, own, whole)
            states.append(both[0][2])
        for (file, one, _), grade in zip(files, grades, strict=True):  # each process takes its half of them
            assert shards.test(one, file) == pytest.approx(grade, abs=1e-5)
        progress = Progress()
        segments = shards.train(made[1], progress=progress)
        assert next(segments).step == alone[1][0][0].step
        progress.leave = True  # as where the machine is taken away: all of them leave after the same step
        assert next(segments, None) is None
        assert progress.left is not None
        with pytest.raises(UsageError, match="one device"):
            next(shards.train(recipe(tmp_path, "decoder", LORA, weights="nf4")))
        wild = peft("lora", learning_rate=1e30, r=2, target_modules="all-linear")
        with pytest.raises(Infeasible, match="loss"):
            list(shards.train(recipe(tmp_path, "decoder", wild, warmup_steps=0)))
        assert [each.step for each in shards.train(made[1])] == [each.step for each, *_ in alone[1]]  # in step all the same
    finally:
        shards.close()
    assert sharding.count() == 1
    for one, state, expected in zip(made, states, alone, strict=True):
        for found, (own, whole, _) in zip(train(one, state), expected[1:], strict=True):
            same(found, found.weights(), own, whole)


def test_what_several_devices_cannot_hold_is_refused(tmp_path: Path) -> None:
    sharding.refuse(recipe(tmp_path, "decoder", LORA))
    for bad in (recipe(tmp_path, "decoder", LORA, weights="nf4"), recipe(tmp_path, "encoder", FULL, acquire=uncertainty())):
        with pytest.raises(UsageError, match=r"one device|devices=1"):
            sharding.refuse(bad)


def test_a_run_is_given_no_more_gpus_than_there_are() -> None:
    assert together(["4", "5", "6", "7", "8"], 2) == ["4,5", "6,7"]
    assert together(["0", "1"], 1) == ["0", "1"]
    assert together([], 2) == []
    job: Any = SimpleNamespace(meter=SimpleNamespace(devices=("one",)), devices=2)
    with pytest.raises(UsageError, match="2 devices are to hold a run, and 1 can be seen"), opened(job):
        pass


def test_how_many_gpus_a_run_needs_is_told_by_its_memory() -> None:
    known: dict[str, Any] = {"draws": 1, "seconds": None, "energy_j": None, "phases": {}, "labels": 0, "resident_bytes": 0}
    for peak, gpu, expected in ((10.0, "L4", 1), (95.0, "L4", 2), (190.0, "L4", 3), (None, "L4", None), (190.0, None, None)):
        assert Typical(**known, peak_memory_bytes=peak, memory_bytes=100, gpu=gpu).devices == expected


def train_on(folder: Path) -> None:
    """Train by two processes: a run to its end, and one without end."""
    with (folder / "err.txt").open("w") as err, (folder / "out.txt").open("w", buffering=1) as out:
        os.dup2(err.fileno(), 2)
        shards = Shards(2)
        made = recipe(folder, "decoder", LORA)
        list(shards.train(made))
        print(shards.pids[0], file=out)
        list(shards.train(replace(made, epochs=100000)))


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_when_one_is_killed_the_others_end(tmp_path: Path, first: bool) -> None:
    out = tmp_path / "out.txt"
    process = forks().Process(target=train_on, args=(tmp_path,))
    start(process)
    try:
        while not out.exists() or "\n" not in out.read_text():  # it trains
            assert process.is_alive(), (tmp_path / "err.txt").read_text()
            time.sleep(0.05)
        other = int(out.read_text())
        os.kill(process.pid if first else other, signal.SIGKILL)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert first or "held a part of the model" in (tmp_path / "err.txt").read_text()
        until = time.monotonic() + 60
        while _lives(other):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        process.kill()


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


@pytest.mark.slow
def test_a_sweep_of_two_devices_scores_as_one_of_one_does(tmp_path: Path, command: Any) -> None:
    text = """
        from dataclasses import dataclass
        from workbench import Recipe, Study, choice, full
        from workbench.testing import TinyTask

        @dataclass(frozen=True)
        class Own(TinyTask):
            "A task of the study's own file."

        method = full(learning_rate=choice(1e-4, 2e-4))
        study = Study(
            Recipe(task=Own(train=16, dev=8), model={model!r}, method=method, epochs=1, batch_size=8),
            maximize="accuracy", minimize="seconds", trials=2, devices={devices},
        )
    """
    model = recipe(tmp_path, "encoder", FULL).model
    found = {}
    for devices in (1, 2):
        (tmp_path / f"with{devices}.py").write_text(textwrap.dedent(text).format(model=model, devices=devices))
        code, _, told = command("sweep", f"with{devices}.py", "--yes")
        assert code == 0, told
        results = Ledger.open(load(Path(f"with{devices}.py")), "sqlite:///optuna.db").results()
        assert {each.status for each in results} == {"complete"}
        assert {each.devices for each in results} == {devices}, "by the study, without a flag"
        found[devices] = {each.settings["full.learning_rate"]: each.scores["dev_loss"] for each in results if each.epochs == 1}
    assert found[2] == pytest.approx(found[1], abs=1e-5)
    assert len(found[1]) == 2
