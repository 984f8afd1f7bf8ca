"""The training loop: same gradients, exact continuation, honest checkpoints, everything freed."""

import functools
import gc
import itertools
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from workbench import Recipe, bitfit, flops, full, peft
from workbench.data import models
from workbench.errors import EnvironmentFault, Infeasible, UsageError
from workbench.formulations import Rows
from workbench.objectives import Classes
from workbench.testing import FakeMeter, TinyTask
from workbench.testing.tiny import TinyFormulation
from workbench.training import Progress, ResumeCache, train, tuned_model
from workbench.training.batches import checkpoint_epochs, evaluation_batches, micro_batches, split, step_examples, steps_for
from workbench.training.grading import questions_of
from workbench.training.tuning import Tuning


def recipe(tiny: str, **changes: object) -> Recipe:
    settings = {"task": TinyTask(train=48, dev=16), "model": tiny, "method": full(learning_rate=3e-3), "epochs": 2, "batch_size": 8}
    return Recipe(**{**settings, **changes})  # type: ignore[arg-type]


# Batches


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(0, 100))
def test_split_is_the_cheapest_of_all_cuts(lengths: list[int], overhead: int) -> None:
    lengths.sort()

    def price(cuts: list[tuple[int, int]]) -> int:
        return sum((end - start) * lengths[end - 1] + overhead for start, end in cuts)

    found = split(lengths, overhead)
    assert [x for cut in found for x in range(*cut)] == list(range(len(lengths)))
    places = range(1, len(lengths))
    every = (
        list(itertools.pairwise([0, *inner, len(lengths)]))
        for size in range(len(lengths))
        for inner in itertools.combinations(places, size)
    )
    assert price(found) == min(price(cuts) for cuts in every)


def test_first_pass_reads_the_labels_in_the_order_they_are_bought() -> None:
    assert np.concatenate([step_examples(s, 4, 12, seed=0) for s in range(3)]).tolist() == list(range(12))
    second = np.concatenate([step_examples(s, 4, 12, seed=0) for s in range(3, 6)])
    assert sorted(second) == list(range(12))
    assert second.tolist() != list(range(12))


def test_every_pass_holds_every_example_once_even_when_steps_span_two() -> None:
    stream = np.concatenate([step_examples(s, 5, 12, seed=3) for s in range(12)])
    for start in range(0, 60, 12):
        assert sorted(stream[start : start + 12]) == list(range(12))


@given(st.floats(0.05, 64), st.integers(1, 64), st.integers(1, 5000), st.integers(1, 1000))
def test_checkpoints_end_with_the_recipe_and_lie_on_the_grid_of_longer_runs(
    epochs: float, batch: int, examples: int, dev: int
) -> None:
    grid = checkpoint_epochs(epochs, batch_size=batch, examples=examples, dev_examples=dev)
    assert grid[-1] == epochs
    assert len(grid) <= 5
    assert grid == sorted(set(grid))
    steps = [steps_for(e, batch, examples) for e in grid]
    assert steps == sorted(set(steps))
    longer = checkpoint_epochs(2.0 ** np.ceil(np.log2(epochs) + 1), batch_size=batch, examples=examples, dev_examples=dev)
    assert all(np.log2(e).is_integer() for e in grid[:-1])
    assert all(e in longer for e in grid[:-1] if e >= longer[0])


# Gradients


@pytest.mark.parametrize("overhead", [0, 10**6])
def test_micro_batches_give_the_gradient_of_one_padded_batch(tiny: str, overhead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("workbench.training.batches", fromlist=["x"]).OVERHEAD_TOKENS, "cpu", overhead)
    made = recipe(tiny)
    tuning = Tuning(made, torch.device("cpu"), None)
    tuning.model.eval()  # no dropout: the masks of two splits differ
    rows = tuning.formulation.encode(made.task.splits().train, tuning.processor)
    batch, objective = np.arange(16), tuning.objective
    pieces = list(micro_batches(rows, batch, torch.device("cpu")))
    assert len(pieces) == 1 if overhead == 10**6 else len(pieces) > 1
    for _, inputs in pieces:
        (objective.loss(objective.forward(tuning.model, inputs), inputs) / len(batch)).backward()
    found = {name: p.grad.clone() for name, p in tuning.parameters.items() if p.grad is not None}
    tuning.optimizer.zero_grad(set_to_none=True)
    width = int(rows.lengths[batch].max())
    ids = torch.zeros((16, width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i in batch:
        ids[i, : rows.lengths[i]] = torch.from_numpy(rows.columns["input_ids"][i])
        mask[i, : rows.lengths[i]] = 1
    output = tuning.model(input_ids=ids, attention_mask=mask)
    labels = torch.from_numpy(np.asarray(rows.columns["labels"])[batch])
    torch.nn.functional.cross_entropy(output.logits, labels).backward()
    assert found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, tuning.parameters[name].grad, rtol=1e-4, atol=1e-6)


# Checkpoints


def test_a_checkpoint_is_the_result_of_the_shorter_recipe(tiny: str) -> None:
    long = recipe(tiny, epochs=4)
    checkpoints = list(train(long))
    assert [c.recipe.epochs for c in checkpoints] == [0.5, 1, 2, 4]
    for checkpoint in checkpoints[:-1]:
        *_, last = train(checkpoint.recipe)
        assert last.recipe == checkpoint.recipe
        assert last.recipe.run_id == long.run_id
        assert last.scores == checkpoint.scores
        assert (last.step, last.tokens, last.labels) == (checkpoint.step, checkpoint.tokens, checkpoint.labels)


def test_a_quarter_of_a_larger_set_is_the_smaller_set(tiny: str) -> None:
    smaller = list(train(recipe(tiny, task=TinyTask(train=24, dev=16), epochs=1)))[-1]
    larger = next(c for c in train(recipe(tiny, epochs=1)) if c.recipe.epochs == 0.5)
    assert larger.labels == smaller.labels == 24
    assert larger.scores == smaller.scores


@pytest.mark.slow
def test_same_seed_same_scores_and_another_seed_other_ones(tiny: str) -> None:
    first, again, other = (list(train(recipe(tiny, seed=seed)))[-1].scores for seed in (0, 0, 1))
    assert first == again
    assert first["dev_loss"] != other["dev_loss"]


def test_it_learns(tiny: str) -> None:
    last = list(train(recipe(tiny, task=TinyTask(train=256, dev=64), epochs=8)))[-1]
    assert last.scores["accuracy"] > 90


@pytest.mark.parametrize(
    "method, averaging",
    [
        (full(learning_rate=3e-3), 4.0),
        (peft("lora", learning_rate=3e-3, r=4), None),
        pytest.param(bitfit(learning_rate=3e-3), 4.0, marks=pytest.mark.slow),
    ],
    ids=["full", "lora", "bitfit"],
)
def test_a_continued_run_is_bit_for_bit_the_uninterrupted_one(
    tiny: str, method: object, averaging: float | None, tmp_path: object
) -> None:
    whole_recipe = recipe(tiny, method=method, averaging=averaging, epochs=4)
    cache = ResumeCache(tmp_path)  # type: ignore[arg-type]
    whole = []
    for checkpoint in train(whole_recipe):
        whole.append((checkpoint.recipe.epochs, dict(checkpoint.scores), checkpoint.weights()))
        if checkpoint.recipe.epochs == 1:
            cache.save(checkpoint.resume_state())
        torch.rand(3)  # a consumer may draw numbers: it must not matter
    state = cache.find(whole_recipe.run_id)
    assert state is not None
    assert state.epochs == 1
    rest = [(c.recipe.epochs, dict(c.scores), c.weights()) for c in train(whole_recipe, state)]
    assert [epochs for epochs, _, _ in rest] == [2, 4]
    for (_, scores, weights), (_, other_scores, other_weights) in zip(rest, whole[-2:], strict=True):
        assert scores == other_scores
        assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_kept_weights_give_back_the_evaluated_model(tiny: str, tmp_path: Path) -> None:
    made = recipe(tiny, method=peft("lora", learning_rate=3e-3, r=4))
    last = list(train(made))[-1]
    save_file(last.weights(), tmp_path / "weights.safetensors")
    model = tuned_model(made, tmp_path / "weights.safetensors")
    splits = made.task.splits()
    form, tokenizer = made.task.formulation("encoder"), models.processor(tiny)
    rows = form.encode(splits.dev, tokenizer)
    read: list[object] = [None] * len(rows)
    with torch.inference_mode():
        for chosen, inputs in evaluation_batches(rows, torch.device("cpu")):
            for row, value in zip(chosen, form.inference(tokenizer)(model, inputs), strict=True):
                read[row] = value
    assert form.decode(splits.dev, rows, read, tokenizer) == list(last.predictions)
    with pytest.raises(UsageError, match="another recipe"):
        tuned_model(recipe(tiny), tmp_path / "weights.safetensors")


@pytest.mark.slow
def test_cost_from_cold_leaves_out_earlier_evaluations_and_counts_what_came_before_a_continuation(tiny: str) -> None:
    meter = FakeMeter(seconds_per_window=1.0)
    state, cold, spent = None, [], []
    for checkpoint in train(recipe(tiny, epochs=4), meter=meter):
        cold.append({name: u.seconds for name, u in checkpoint.usage.items()})
        spent.append({name: u.seconds for name, u in checkpoint.spent.items()})
        if checkpoint.recipe.epochs == 1:
            state = checkpoint.resume_state()
    assert [c["evaluate"] for c in cold] == [1, 1, 1, 1]
    assert [c["train"] for c in cold] == [1, 2, 3, 4]
    assert "load" in spent[0]
    assert all(set(s) == {"train", "evaluate"} for s in spent[1:])
    continued = list(train(recipe(tiny, epochs=4), state, meter=meter))
    assert [c.usage["train"].seconds for c in continued] == [3, 4]
    assert continued[0].spent["train"].seconds == 1
    assert continued[0].usage["load"].seconds == cold[0]["load"]


# Ends


def test_a_diverging_run_is_infeasible(tiny: str) -> None:
    with pytest.raises(Infeasible) as caught:
        list(train(recipe(tiny, method=full(learning_rate=1e30), max_grad_norm=1e30)))
    assert caught.value.reason == "diverged"


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError("no memory"), None],
    ids=["cuda", "python", "cpu"],
)
def test_out_of_memory_is_infeasible(tiny: str, error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        if error is None:
            torch.empty(2**60)  # the CPU allocator's own words
        raise error  # type: ignore[misc]

    monkeypatch.setattr(Classes, "loss", fail)
    with pytest.raises(Infeasible) as caught:
        list(train(recipe(tiny)))
    assert caught.value.reason == "out_of_memory"


def test_anything_else_is_a_bug_and_shows(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classes, "loss", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(train(recipe(tiny)))


@pytest.mark.parametrize("error", [IndexError("index out of range"), RuntimeError("sizes differ"), TypeError("no such input")])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_what_a_model_raises_is_a_fault_of_the_recipe(
    tiny: str, error: Exception, backward: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **more: object) -> None:
        raise error

    if backward:
        monkeypatch.setattr(torch.Tensor, "backward", fail)
    else:
        monkeypatch.setattr(torch.nn.functional, "embedding", fail)
    # Raised as it would be, by a line of torch's own.
    monkeypatch.setattr(fail, "__code__", fail.__code__.replace(co_filename=torch.nn.functional.__file__))
    with pytest.raises(Infeasible, match=f"{type(error).__name__} out of the model: {error}") as caught:
        list(train(recipe(tiny)))
    assert caught.value.reason == "fault"
    assert caught.value.__cause__ is error


def test_an_index_beyond_the_models_tables_is_a_fault_of_the_recipe(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = TinyFormulation.encode

    def beyond(self: TinyFormulation, *arguments: object, **more: object) -> Rows:
        rows = encode(self, *arguments, **more)  # type: ignore[arg-type]
        return replace(rows, columns={**rows.columns, "input_ids": [ids + 1000 for ids in rows.columns["input_ids"]]})

    monkeypatch.setattr(TinyFormulation, "encode", beyond)
    with pytest.raises(Infeasible, match="IndexError out of the model: index out of range") as caught:
        list(train(recipe(tiny, task=TinyTask(train=48, dev=16, seed=77))))
    assert caught.value.reason == "fault"


def test_an_error_of_our_own_inside_a_pass_is_a_bug(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench import methods

    source = compile("def hook(*_): return 1 / 0", methods.__file__, "exec")
    space: dict[str, object] = {}
    exec(source, space)
    made = recipe(tiny)
    apply = methods.apply

    def hooked(*args: object, **more: object) -> object:
        model = apply(*args, **more)  # type: ignore[arg-type]
        model.register_forward_pre_hook(space["hook"])  # type: ignore[arg-type]
        return model

    monkeypatch.setattr(methods, "apply", hooked)
    with pytest.raises(ZeroDivisionError):
        list(train(made))


def test_a_gpu_that_fails_is_a_fault_of_the_machine(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **more: object) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(fail, "__code__", fail.__code__.replace(co_filename=torch.nn.functional.__file__))
    monkeypatch.setattr(torch.nn.functional, "embedding", fail)
    with pytest.raises(EnvironmentFault, match="the GPU failed: CUDA error"):
        list(train(recipe(tiny)))


def test_closing_the_generator_frees_the_model(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[object]] = []
    original = Tuning.__init__

    def watch(self: Tuning, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[arg-type]
        made.append(weakref.ref(self.model))

    monkeypatch.setattr(Tuning, "__init__", watch)
    run = train(recipe(tiny))
    next(run)
    run.close()  # type: ignore[attr-defined]
    gc.collect()
    assert made[0]() is None


# The cache of prefixes


@pytest.mark.slow
def test_prefixes_are_bounded_and_a_broken_one_is_no_prefix(tiny: str, tmp_path: object) -> None:
    states = [next(train(recipe(tiny, seed=seed))).resume_state for seed in range(3)]
    cache = ResumeCache(tmp_path, max_bytes=1)  # type: ignore[arg-type]
    for state in states:
        cache.save(state())
    assert len(list(cache.folder.iterdir())) == 1
    kept = recipe(tiny, seed=2).run_id
    assert cache.find(kept) is not None
    assert cache.find(recipe(tiny, seed=0).run_id) is None
    theirs = cache.folder / "another.0123abcd-999999.tmp"  # of a machine that shares the folder, whose processes are not seen here
    theirs.write_bytes(b"half")
    cache.save(states[2]())
    assert theirs.exists()
    theirs.unlink()
    path = next(cache.folder.iterdir())
    path.write_bytes(path.read_bytes()[:100])
    assert cache.find(kept) is None
    assert not path.exists()


# What is counted


@pytest.mark.slow
def test_work_is_counted_to_the_token_and_continues_where_it_stopped(tiny: str) -> None:
    whole = list(train(recipe(tiny, epochs=4), meter=FakeMeter()))
    rows = TinyTask(train=48, dev=16).splits()
    tokens = sum(len(example["words"]) for example in rows.train)
    last = whole[-1].usage["train"].work
    assert (last.steps, last.examples, last.tokens) == (24, 4 * 48, 4 * tokens)
    assert last.padded_tokens >= last.tokens
    assert whole[-1].usage["evaluate"].work.examples == 16  # a single evaluation, however many there were
    assert whole[-1].usage["evaluate"].work.tokens == sum(len(example["words"]) for example in rows.dev)
    first = next(segments := train(recipe(tiny, epochs=2), meter=FakeMeter()))
    state = first.resume_state()
    segments.close()
    resumed = list(train(recipe(tiny, epochs=4), state, meter=FakeMeter()))
    assert resumed[-1].usage["train"].work == last
    assert resumed[0].spent["train"].work == whole[1].spent["train"].work


def test_flops_are_those_of_the_formula_on_the_true_lengths(tiny: str) -> None:
    (point,) = train(recipe(tiny, epochs=1, task=TinyTask(train=8, dev=16)), meter=FakeMeter())
    tuning = Tuning(recipe(tiny), torch.device("cpu"), None)
    assert tuning.shape is not None
    lengths = [len(example["words"]) for example in TinyTask(train=8, dev=16).splits().train]
    assert point.usage["train"].work.flops == flops.training(tuning.shape, lengths)
    assert point.usage["train"].work.formula == flops.FORMULA
    assert point.usage["evaluate"].work.flops == flops.forward(
        tuning.shape, [len(example["words"]) for example in TinyTask(train=8, dev=16).splits().dev]
    )


def test_the_speed_of_predictions_is_measured_once_a_run_and_is_no_part_of_a_point(tiny: str) -> None:
    clock = itertools.count()
    meter = FakeMeter()
    points = list(train(recipe(tiny, epochs=2), meter=meter, clock=lambda: float(next(clock))))
    assert points[0].serving == {"predictions_per_second": 16.0, "latency_seconds": 1.0}
    assert points[-1].serving == points[0].serving
    assert [p.usage["evaluate"].seconds for p in points] == [1.0] * len(points)
    assert [p.spent["evaluate"].seconds for p in points] == [2.0] + [1.0] * (len(points) - 1)


@pytest.mark.parametrize(("seconds_each", "predicted"), [(1.0, 1), (0.5, 2), (0.01, 8)])
def test_the_latency_of_slow_predictions_is_measured_on_fewer(tiny: str, seconds_each: float, predicted: int) -> None:
    clock, calls = itertools.count(), itertools.count()

    def now() -> float:
        next(calls)
        return next(clock) * seconds_each

    tuning = Tuning(recipe(tiny), torch.device("cpu"), None)
    assert tuning.latency(questions_of(tuning.recipe, "dev", tuning.processor), now) == pytest.approx(seconds_each)
    assert next(calls) == 2 * predicted


def test_progress_tells_what_was_done_when_a_training_breaks_off(tiny: str) -> None:
    progress = Progress()
    with pytest.raises(Infeasible):
        list(train(recipe(tiny, method=full(learning_rate=1e30), epochs=4), meter=FakeMeter(), progress=progress))
    assert 0 < progress.labels <= 48
    assert progress.work.steps > 0
    assert progress.work.examples == progress.work.steps * 8


def test_a_checkpoint_tells_where_the_next_one_is(tiny: str) -> None:
    points = list(train(recipe(tiny, epochs=4), meter=FakeMeter()))
    assert [p.next_step for p in points] == [*(p.step for p in points[1:]), None]
    assert [p.next_labels for p in points[:-1]] == [p.labels for p in points[1:]]


@pytest.mark.parametrize(
    "make", [full, bitfit, functools.partial(peft, "lora", r=2), functools.partial(peft, "prompt_tuning", num_virtual_tokens=2)]
)
def test_the_head_has_a_learning_rate_of_its_own(make, tiny):
    recipe = Recipe(
        task=TinyTask(train=8, dev=2),
        model=tiny,
        method=make(learning_rate=1e-3, head_learning_rate=1e-2),
        epochs=1,
        batch_size=8,
        warmup_steps=0,
        averaging=None,
    )
    tuning = Tuning(recipe, torch.device("cpu"), None)
    before = {name: p.detach().clone() for name, p in tuning.parameters.items()}
    splits = recipe.task.splits()
    rows = tuning.formulation.encode(splits.train, tuning.processor)
    tuning.make_step(rows, np.arange(len(rows)), 8)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in tuning.parameters.items()}
    of_head = {name: by for name, by in moved.items() if ".classifier." in f".{name}"}
    body = [by for name, by in moved.items() if name not in of_head and by > 0]
    assert of_head
    assert body
    # The first step of AdamW moves each number by its learning rate.
    assert [*of_head.values()] == pytest.approx([1e-2] * len(of_head), rel=0.01)
    assert max(body) == pytest.approx(1e-3, rel=0.01)


def test_a_head_that_learns_otherwise_is_another_recipe_and_none_is_the_old_one(tiny):
    def made(**more):
        return Recipe(task=TinyTask(train=8, dev=2), model=tiny, method=full(learning_rate=1e-3, **more), epochs=1).id

    assert made() == made(head_learning_rate=None) != made(head_learning_rate=1e-2)
    with pytest.raises(UsageError, match="head_learning_rate"):
        made(head_learning_rate=0)
