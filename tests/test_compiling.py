"""Whether layers are compiled is found by a trial on the run's own batches: what it leaves behind, and when it says yes."""

import dataclasses
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workbench import Recipe, full, head, peft
from workbench.cli.runs import _compiling_text
from workbench.testing import TinyTask
from workbench.training import Progress, Tuning, compiling, passes, train
from workbench.training.compiling import Verdict, choose

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_processors(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As if compiling were tried on processors, where rows are padded then; a compiler that only counts what it is given."""
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiling.forget()
    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "DEVICES", {"cpu"})
    monkeypatch.setattr(compiling, "BACKEND", count)
    monkeypatch.setattr(passes, "PACKED_TOKENS", {})
    with torch._dynamo.config.patch(suppress_errors=False, recompile_limit=8):
        yield graphs
    compiling.forget()
    torch._dynamo.reset()


def recipe(tiny: str, **more: Any) -> Recipe:
    settings: dict[str, Any] = {
        "task": TinyTask(train=64),
        "method": full(learning_rate=1e-3),
        "epochs": 2,
        "batch_size": 8,
        **more,
    }
    return Recipe(model=tiny, **settings)


def begun(made: Recipe) -> tuple[Tuning, Any]:
    of = Tuning(made, CPU, None)
    return of, of.formulation.encode(made.task.splits().train, of.processor)


def clock(*seconds: float) -> Any:
    """A clock by which each of four batches of a pass takes so long, pass by pass."""
    taken = [0.0]
    for each in seconds:
        for _ in range(compiling.STEPS):
            taken += [0.0, each]
    return itertools.accumulate(taken[1:]).__next__


QUICK = (3.0, 1.0, 6.0, 0.4)  # a step takes 0.4 s in the place of 1 s, and compiling 4 x (6 - 0.4) s


def test_it_is_taken_where_it_gains_more_than_it_costs(tiny: str) -> None:
    of, rows = begun(recipe(tiny))
    found = choose(of, rows, 64, 50, {}, clock(*QUICK))
    assert found is not None
    assert (found.taken, found.why, found.steps) == (True, "gains", 50)
    assert found.plain_seconds == pytest.approx(1.0)
    assert found.compiled_seconds == pytest.approx(0.4)
    assert found.cost_seconds == pytest.approx(4 * 5.6)
    assert found.apart is not None
    assert found.apart < 1e-5
    assert isinstance(of.compiled, compiling.Compiled)
    assert of.formulation.auto_class in found.family or "tiny" in found.family


@pytest.mark.parametrize(
    ("ahead", "seconds", "why"),
    [
        (30, QUICK[:2], "short"),  # half of 30 s is less than compiling is thought to take, and it is not tried
        (50, (3.0, 1.0, 6.0, 0.6), "loses"),  # 50 x 0.4 s < 4 x 5.4 s
        (1e6, (3.0, 1.0, 6.0, 1.1), "loses"),
    ],
)
def test_it_is_left_where_it_does_not(tiny: str, ahead: float, seconds: tuple[float, ...], why: str) -> None:
    of, rows = begun(recipe(tiny))
    found = choose(of, rows, 64, ahead, {}, clock(*seconds))
    assert found is not None
    assert (found.taken, found.why) == (False, why)
    assert not isinstance(of.compiled, compiling.Compiled)


def test_what_compiling_cost_once_is_what_it_is_thought_to_cost(tiny: str) -> None:
    of, rows = begun(recipe(tiny))
    choose(of, rows, 64, 50, {}, clock(3.0, 1.0, 1.1, 1.0))
    other, rows = begun(recipe(tiny, batch_size=16))
    found = choose(other, rows, 64, 30, {}, clock(3.0, 1.0, 1.1, 0.9))
    assert found is not None
    assert (found.why, found.taken) == ("gains", True), "a twentieth of what was assumed"


def test_a_trial_leaves_nothing_behind(tiny: str) -> None:
    made = recipe(tiny)
    alone, rows = begun(made)
    tried, _ = begun(made)
    buffer = torch.zeros(3)
    tried.model.register_buffer("seen", buffer)

    def sees(module: Any, *_: Any) -> None:  # as a running mean of a batch norm does
        module.seen.add_(1.0)

    tried.model.register_forward_hook(sees)
    weights = [p.detach().clone() for p in tried.parameters.values()]
    state = torch.get_rng_state()
    choose(tried, rows, 64, 50, {}, clock(*QUICK))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(weights, tried.parameters.values(), strict=True))
    assert all(p.grad is None for p in tried.parameters.values())
    assert not buffer.any()
    assert (tried.step, tried.tokens, tried.work) == (alone.step, alone.tokens, alone.work)
    for of in (alone, tried):
        of.restore_random()  # they share one stream
        of.run(rows, 8, 64, Progress())
    for one, other in zip(alone.parameters.values(), tried.parameters.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)  # what is dropped out is the same too


def test_only_training_passes_compiled_layers(tiny: str, on_processors: list[Any]) -> None:
    made = recipe(tiny)
    of, rows = begun(made)
    choose(of, rows, 64, 50, {}, clock(*QUICK))
    layers = [layer for layer, *_ in of.compiled._layers]  # type: ignore[attr-defined]
    assert len(layers) == of.model.config.num_hidden_layers
    count = len(on_processors)
    assert count
    assert not any("forward" in vars(layer) for layer in layers)
    of.predict(passes.questions(of.formulation, made.task.splits().dev, of.processor))
    assert len(on_processors) == count


@pytest.mark.slow
def test_the_runs_of_a_family_are_tried_once_and_share_what_was_compiled(tiny: str, on_processors: list[Any]) -> None:
    for seed in range(3):
        of, rows = begun(recipe(tiny, seed=seed, method=full(learning_rate=1e-3 * (seed + 1))))
        found = choose(of, rows, 64, 50, {}, clock(*QUICK) if not seed else iter(()).__next__)
        assert found is not None
        assert found.taken
        of.run(rows, 8, 64, Progress())
        if not seed:
            graphs = len(on_processors)
    assert len(on_processors) == graphs
    other, rows = begun(recipe(tiny, method=peft("lora", learning_rate=1e-3, r=2)))
    found = choose(other, rows, 64, 50, {}, clock(*QUICK))
    assert found is not None
    assert "lora" in found.family


def test_other_numbers_are_refused(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        return lambda *given: tuple(each * 1.1 if isinstance(each, torch.Tensor) else each for each in graph.forward(*given))

    monkeypatch.setattr(compiling, "BACKEND", wrong)
    of, rows = begun(recipe(tiny))
    found = choose(of, rows, 64, 1e6, {}, clock(*QUICK))
    assert found is not None
    assert (found.taken, found.why) == (False, "differs")
    assert found.apart is not None
    assert found.apart > 1e-3
    assert not isinstance(of.compiled, compiling.Compiled)


def test_a_compiler_that_fails_leaves_the_run_as_it_is(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("there is no triton")

    monkeypatch.setattr(compiling, "BACKEND", fails)
    of, rows = begun(recipe(tiny))
    found = choose(of, rows, 64, 1e6, {}, clock(3.0, 1.0, 1.0))
    assert found is not None
    assert (found.taken, found.why) == (False, "fails")
    assert "there is no triton" in found.detail
    of.run(rows, 2, 64, Progress())
    assert of.step == 2


@pytest.mark.slow
def test_what_cannot_be_compiled_later_is_passed_as_it_is(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of, rows = begun(recipe(tiny))
    choose(of, rows, 64, 50, {}, clock(*QUICK))
    torch._dynamo.reset()  # as for a shape that was not met before

    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("not this shape")

    monkeypatch.setattr(compiling, "BACKEND", fails)
    of.compiled = compiling.Compiled(compiling._layers(of))
    of.run(rows, 1, 64, Progress())
    assert of.step == 1


def test_what_another_process_found_to_lose_is_not_tried_again(tiny: str) -> None:
    of, rows = begun(recipe(tiny))
    family = compiling._family(of, rows)
    known = Verdict(family, taken=False, why="loses", steps=9.0, plain_seconds=1.0, compiled_seconds=2.0, cost_seconds=3.0)
    assert choose(of, rows, 64, 1e6, {family: known.to_json()}, iter(()).__next__) == known


def test_it_is_no_question_without_a_device_for_it_or_layers_that_are_passed(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of, rows = begun(recipe(tiny))
    assert choose(of, rows, 64, None, {}) is None
    of, rows = begun(recipe(tiny, method=head(learning_rate=1e-2)))
    assert choose(of, rows, 64, 1e6, {}) is None
    monkeypatch.setattr(compiling, "DEVICES", {"cuda"})
    of, rows = begun(recipe(tiny))
    assert choose(of, rows, 64, 1e6, {}) is None


@pytest.mark.slow
def test_a_training_says_what_was_found_and_no_point_pays_for_the_trial(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "COST_SECONDS", 0.0)
    made = recipe(tiny)
    plain = [*train(made)]
    tried = [*train(made, progress=Progress(runs_ahead=1e9))]
    assert plain[-1].compiling == {}
    found = tried[-1].compiling
    assert found["why"] in ("gains", "loses")
    assert found["steps"] > 1e9
    assert tried[-1].scores["dev_loss"] == pytest.approx(plain[-1].scores["dev_loss"], rel=1e-4)
    trial = found["cost_seconds"] + compiling.STEPS * (2 * found["plain_seconds"] + found["compiled_seconds"])
    spent = sum(each.spent["train"].seconds for each in tried)
    assert spent > tried[-1].usage["train"].seconds + 0.5 * trial
    assert tried[-1].usage["train"].work == plain[-1].usage["train"].work


@pytest.mark.slow
def test_torchs_own_compiler_learns_the_same(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    monkeypatch.setattr(compiling, "COST_SECONDS", 0.0)
    of, rows = begun(recipe(tiny))
    found = choose(of, rows, 64, 1e6, {})
    assert found is not None
    assert found.why in ("gains", "loses"), found
    assert found.apart is not None
    assert found.apart < compiling.TOLERANCE[False]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "yes: 40 ms a step, 60 ms without; compiling took 18 s, and 5,200 steps were expected"),
        (
            {"taken": False, "why": "loses"},
            "no: costs more than it gains: 40 ms a step, 60 ms without; compiling took 18 s, and 5,200 steps were expected",
        ),
        (
            {"taken": False, "why": "differs", "apart": 0.031},
            "no: its numbers lie 0.031 apart: 40 ms a step, 60 ms without; compiling took 18 s, and 5,200 steps were expected",
        ),
        (
            {"taken": False, "why": "short", "compiled_seconds": None},
            "no: too little for a trial: 5,200 steps were expected",
        ),
        ({"taken": False, "why": "fails", "compiled_seconds": None, "detail": "no triton"}, "no: it failed (no triton)"),
    ],
)
def test_a_run_tells_whether_it_was_compiled(changes: dict[str, Any], told: str) -> None:
    verdict = Verdict("f", taken=True, why="gains", steps=5200, plain_seconds=0.06, compiled_seconds=0.04, cost_seconds=18.0)

    made: Any = SimpleNamespace(provenance={"compiling": dataclasses.replace(verdict, **changes).to_json()})
    assert _compiling_text(made) == told
    assert _compiling_text(SimpleNamespace(provenance={})) == ""  # type: ignore[arg-type]
