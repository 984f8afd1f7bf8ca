"""Steps that would not fit the memory: cut smaller, layers computed twice, and what comes out is what would have come out."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from products import once_each

from workbench import Recipe, adapter, flops, full, head, logistic, peft
from workbench.errors import Infeasible
from workbench.testing import TinyTask, TinyText, tiny_decoder, tiny_model, tiny_seq2seq
from workbench.training import features, memory, train
from workbench.training.memory import Cut
from workbench.training.tuning import Tuning

CPU = torch.device("cpu")
LORA = peft("lora", learning_rate=1e-2, r=2, target_modules="all-linear")
METHODS = {"full": full(learning_rate=3e-3), "lora": LORA, "adapter": adapter(learning_rate=1e-2, bottleneck=4)}
MAKERS = {"encoder": tiny_model, "decoder": tiny_decoder, "seq2seq": tiny_seq2seq}


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return functools.cache(lambda kind: MAKERS[kind](tmp_path_factory.mktemp(kind)))


def recipe(model: str, method: Any, **more: Any) -> Recipe:
    settings = {"task": TinyText(train=16, dev=4), "epochs": 1, "batch_size": 8, **more}
    return Recipe(model=model, method=method, **settings)


def without_dropout(of: Tuning) -> Tuning:
    """What is dropped differs with the cut, as it does with every other order of drawing."""
    for module in of.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return of


def step(of: Tuning) -> dict[str, torch.Tensor]:
    """The gradient of a step, and its loss. (AdamW's first step makes much of the last bit of a gradient near 0.)"""
    rows = of.formulation.encode(of.recipe.task.splits().train, of.processor)
    total, _ = of.gradient(rows, np.arange(8))
    return {"loss": total, **{each: p.grad.clone() for each, p in of.parameters.items() if p.grad is not None}}


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for each in expected:
        torch.testing.assert_close(found[each], expected[each], rtol=1e-4, atol=1e-5)


def scarce(of: Tuning, share: float, monkeypatch: pytest.MonkeyPatch) -> Tuning:
    """As if so large a share of what a step keeps were free."""
    rows = of.formulation.encode(of.recipe.task.splits().train, of.processor)
    longest = int(rows.lengths.max())
    kept = memory.saved_bytes(of._bare(), of.objective, rows, (8, longest))
    assert kept
    monkeypatch.setattr(memory, "room", lambda where, trainable: int(share * memory.SPREAD * kept))
    of.fit(rows, [1] * 16)
    return of


@once_each("kind, method", [*MAKERS], [*METHODS])
def test_a_step_that_is_cut_learns_the_same(name: Any, kind: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(name(kind), METHODS[method])
    whole = without_dropout(Tuning(made, CPU, None))
    rows = whole.formulation.encode(made.task.splits().train, whole.processor)
    whole.fit(rows, [1] * 16)
    assert whole.cut == Cut()  # there is memory for that
    less = scarce(without_dropout(Tuning(made, CPU, None)), 0.6, monkeypatch)
    assert less.cut.most is not None
    assert not less.cut.recompute
    assert less.cut.most < 8 * rows.lengths.max()
    close(step(less), step(whole))


@once_each("kind, method", [*MAKERS], [*METHODS])
def test_layers_that_are_computed_twice_learn_the_same(name: Any, kind: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(name(kind), METHODS[method])
    whole, twice = (without_dropout(Tuning(made, CPU, None)) for _ in range(2))
    scarce(twice, 0.02, monkeypatch)
    assert twice.cut.recompute
    passes: list[int] = []
    places = [m for m in twice.model.modules() if type(m).__name__ in ("BertLayer", "LlamaDecoderLayer", "T5Block")]
    places[-1].register_forward_hook(lambda *_: passes.append(1))
    first = step(twice)
    assert len(passes) % 2 == 0
    assert passes
    close(first, step(whole))
    unmoved = {each for each, grad in first.items() if "lora_B" in each and not grad.any()}
    assert not unmoved  # every adapter learns, above frozen embeddings too
    assert {each for each in twice.parameters if "lora_B" in each} - first.keys() <= {
        "base_model.model.bert.pooler.dense.lora_B.default.weight"
    }
    for of in (whole, twice):
        of.make_step(of.formulation.encode(made.task.splits().train, of.processor), np.arange(8), 8)
    if whole.shape is not None:
        assert twice.work.flops == pytest.approx(whole.work.flops + flops.forward(whole.shape, _lengths(made, whole)))


def _lengths(made: Recipe, of: Tuning) -> list[int]:
    return [int(n) for n in of.formulation.encode(made.task.splits().train, of.processor).lengths[:8]]


def test_a_run_is_cut_by_itself_and_its_recipe_is_the_same(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(name("decoder"), LORA)
    *_, plain = train(made)
    monkeypatch.setattr(memory, "room", lambda where, trainable: 1000)
    *_, tight = train(made)
    assert tight.recipe.id == plain.recipe.id
    assert tight.scores["dev_loss"] == pytest.approx(plain.scores["dev_loss"], rel=1e-5)
    assert tight.usage["train"].work.flops > plain.usage["train"].work.flops
    assert tight.tokens == plain.tokens


def test_rows_that_stand_together_are_not_cut() -> None:
    class Config:
        num_hidden_layers, hidden_size, num_attention_heads, vocab_size = 2, 32, 4, 64

    def counted(rows: int) -> int:
        return 1000 * rows

    for free, whole, expected in (
        (20_000, False, Cut()),
        (7_000, False, Cut(40)),
        (7_000, True, Cut(None, recompute=True)),
        (1_000, False, Cut(10, recompute=True)),
    ):
        assert memory.cut(8, 10, free, Config(), counted, whole=whole) == expected
    assert memory.cut(8, 10, 1, Config(), lambda rows: None, whole=False) == Cut()  # unknown: it is tried
    assert memory.cut(8, 10, 10**9, Config(), lambda rows: pytest.fail("needless"), whole=False) == Cut()


def failing(of: Tuning, most: int) -> list[int]:
    """As a device with room for so many rows; returns how many rows came at a time."""
    seen: list[int] = []

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(len(kwargs["input_ids"]))
        if seen[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    of.model.register_forward_pre_hook(refuse, with_kwargs=True)
    return seen


def test_where_memory_is_lacking_all_the_same_the_step_is_made_in_smaller_pieces(name: Any) -> None:
    made = recipe(name("decoder"), METHODS["full"])
    whole, short = (Tuning(made, CPU, None) for _ in range(2))
    seen = failing(short, 2)
    close(step(short), step(whole))
    assert max(seen) > 2
    assert max(seen[-4:]) <= 2


def test_a_step_for_which_there_is_no_room_at_all_is_infeasible(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(name("decoder"), METHODS["full"])
    twice: list[bool] = []

    def make(*words: Any) -> Tuning:
        of = Tuning(*words)
        failing(of, 0)
        twice.append(of.cut.recompute)
        return of

    monkeypatch.setattr("workbench.training.loop.Tuning", make)
    with pytest.raises(Infeasible) as caught:
        list(train(made))
    assert (caught.value.reason, caught.value.detail) == ("out_of_memory", "CUDA out of memory")


def scarce_at_evaluation(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """As if there were room for so many rows where no gradient is asked for; returns how many came at a time."""
    seen: list[int] = []

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        rows = kwargs.get("input_ids", kwargs.get("decoder_input_ids"))
        if not torch.is_grad_enabled() and rows is not None:
            seen.append(len(rows))
            if seen[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def make(*words: Any) -> Tuning:
        of = Tuning(*words)
        of.model.register_forward_pre_hook(refuse, with_kwargs=True)
        return of

    monkeypatch.setattr("workbench.training.loop.Tuning", make)
    return seen


@pytest.mark.parametrize("kind", [*MAKERS])
def test_an_evaluation_that_does_not_fit_is_made_in_smaller_batches(name: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(name(kind), METHODS["full"], task=TinyText(train=16, dev=12), precision="float32")
    *_, plain = train(made)
    seen = scarce_at_evaluation(monkeypatch, 3)
    *_, tight = train(made)
    assert max(seen) > 3  # it was tried
    failed = [i for i, rows in enumerate(seen) if rows > 3]
    assert len(failed) < 6  # and what failed once is not tried again
    assert tight.scores == pytest.approx(plain.scores, rel=1e-5)
    assert tight.predictions == plain.predictions
    assert tight.usage["evaluate"].work.tokens == plain.usage["evaluate"].work.tokens


@pytest.mark.parametrize("method", [head(learning_rate=1e-2), logistic()], ids=["head", "logistic"])
def test_what_lies_below_a_head_is_computed_in_smaller_batches_too(name: Any, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(name("encoder"), method, task=TinyText(train=16, dev=12, seed=3), precision="float32")
    found = []
    for most in (99, 3):
        features._kept.clear()
        features._layouts.clear()
        with monkeypatch.context() as patch:
            seen = scarce_at_evaluation(patch, most)
            *_, last = train(made)
        assert max(seen) > 3
        found.append((last.scores["dev_loss"], last.usage["train"].work.tokens))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_an_evaluation_without_room_for_a_single_row_is_infeasible(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scarce_at_evaluation(monkeypatch, 0)
    with pytest.raises(Infeasible) as caught:
        list(train(recipe(name("encoder"), METHODS["full"])))
    assert (caught.value.reason, caught.value.detail) == ("out_of_memory", "CUDA out of memory")


def test_dropout_draws_the_same_where_a_step_is_tried_again(name: Any) -> None:
    made = recipe(name("encoder"), METHODS["full"], task=TinyTask(train=16, dev=4))
    once, again = (Tuning(made, CPU, None) for _ in range(2))
    hits: list[int] = []

    def refuse_once(module: Any, args: Any) -> None:
        hits.append(1)
        if len(hits) == 1:
            torch.rand(3)  # what was drawn before it failed
            raise torch.OutOfMemoryError("CUDA out of memory")

    again.cut = once.cut = Cut(1)
    again.model.register_forward_pre_hook(refuse_once)
    torch.manual_seed(7)
    expected = step(once)
    torch.manual_seed(7)
    found = step(again)
    assert again.cut.recompute
    close(found, expected)


def test_prompt_methods_keep_their_layers_as_they_are(name: Any) -> None:
    of = Tuning(recipe(name("decoder"), peft("prefix_tuning", learning_rate=1e-3, num_virtual_tokens=3)), CPU, None)
    assert not memory.recompute(of.model)
