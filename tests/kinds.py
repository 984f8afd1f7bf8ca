"""What holds for every kind of model and task: rows are worth the same in any batch, cuts change no gradient, resuming no bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from commands import forks, start
from safetensors.torch import save_file

from workbench import Recipe, full, methods
from workbench.formulations import Rows
from workbench.objectives import Batch
from workbench.testing import tiny_decoder, tiny_model, tiny_seq2seq
from workbench.training import train
from workbench.training.grading import questions
from workbench.training.tuning import Tuning

CPU = torch.device("cpu")
KINDS = {"encoder": tiny_model, "decoder": tiny_decoder, "seq2seq": tiny_seq2seq}
"""What writes a tiny model of each kind into a folder."""


def tiny_gpt2(folder: Path) -> str:
    """Another model in the place of a tiny decoder's."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    (folder / "config.json").unlink()
    size = {"vocab_size": 268, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
    GPT2LMHeadModel(GPT2Config(**size, bos_token_id=2, eos_token_id=3, pad_token_id=0)).save_pretrained(folder)
    return str(folder)


def tiny_of(kind: str, folder: Path) -> str:
    """A tiny model of one of `KINDS`, or the other decoder."""
    if kind == "gpt2":
        tiny_decoder(folder)
        return tiny_gpt2(folder)
    return KINDS[kind](folder)


def recipe(task: Any, model: str, **more: Any) -> Recipe:
    """A recipe of one epoch."""
    return Recipe(**{"task": task, "model": model, "method": full(learning_rate=3e-3), "epochs": 1, "batch_size": 8} | more)


def tuned(task: Any, model: str, **more: Any) -> Tuning:
    """A model that answers differently to different rows, without dropout."""
    made = Tuning(recipe(task, model, **{"averaging": None} | more), CPU, None)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in made.model.parameters():
            if p.ndim == 2:
                p.normal_(std=0.3)
    made.model.eval()
    return made


def untuned_loss(made: Recipe) -> float:
    """The loss on the dev set of a recipe's model before it has learned: no score where that takes a pass of its own."""
    of = Tuning(made, CPU, None)
    dev = questions(of.formulation, made.task.splits().dev, of.processor, methods.shots(made.method, of.formulation, ()))
    return of.evaluate(dev, lambda: 0.0)[0]["dev_loss"]


def loss(of: Tuning, batch: Batch) -> torch.Tensor:
    return of.objective.loss(of.objective.forward(of.model, batch), batch)


@torch.no_grad()
def batch_is_alone(of: Tuning, rows: Rows, asked: Rows | None = None, *, sizes: int = 3, atol: float = 1e-5) -> None:
    """Outputs and losses of rows in the batches of an evaluation are those of each alone."""
    from workbench.training.batches import evaluation_batches

    assert len({*rows.lengths.tolist()}) >= sizes, "rows of different lengths are wanted"
    alone = {i: loss(of, rows.batch([i])) for i in range(len(rows))}
    together = 0
    for chosen, batch in evaluation_batches(rows, CPU):
        together = max(together, len(chosen))
        torch.testing.assert_close(loss(of, batch), sum(alone[i] for i in chosen), rtol=1e-5, atol=1e-4)
    assert together > 1
    asked = rows if asked is None else asked
    for chosen, batch in evaluation_batches(asked, CPU):
        for i, found in zip(chosen, of.inference(of.model, batch), strict=True):
            (single,) = of.inference(of.model, asked.batch([i]))
            np.testing.assert_allclose(np.asarray(found)[: len(single)], single, rtol=0, atol=atol)


def cuts_change_no_gradient(of: Tuning, rows: Rows, pieces: int = 3) -> None:
    def gradient(count: int) -> dict[str, torch.Tensor]:
        of.optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        order = np.argsort(rows.lengths, kind="stable")
        whole = np.split(order, np.flatnonzero(np.diff(rows.lengths[order])) + 1) if rows.alike else [order]
        for cut in (each for part in whole for each in np.array_split(part, min(count, len(part)))):
            (loss(of, rows.batch(cut)) / rows.items.sum()).backward()
        return {name: p.grad.clone() for name, p in of.parameters.items() if p.grad is not None}

    whole, cut = gradient(1), gradient(pieces)
    assert whole.keys() == cut.keys() != set()
    # Sums in another order differ by rounding, more on processors with narrower registers: of the largest gradient by some 5e-6.
    scale = max(float(value.abs().max()) for value in whole.values())
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-4, atol=1e-5 * max(1.0, scale))


def rows_are_like_any_others(of: Tuning, rows: Rows) -> None:
    """Of rows of one size, whose loss is that of transformers."""
    batch_is_alone(of, rows, sizes=1)
    cuts_change_no_gradient(of, rows)
    batch = rows.batch(range(5))
    torch.testing.assert_close(loss(of, batch), of.model(**batch).loss * 5, rtol=1e-5, atol=1e-5)


def resumed_is_unbroken(whole: Recipe) -> None:
    """Of a recipe of two epochs."""
    state, last = None, None
    for checkpoint in train(whole):
        if checkpoint.recipe.epochs == 1:
            state = checkpoint.resume_state()
        torch.rand(3)
        np.random.rand(3)
        last = (dict(checkpoint.scores), list(checkpoint.predictions), checkpoint.weights())
    assert state is not None
    assert last is not None
    np.random.rand(5)
    (rest,) = [(dict(c.scores), list(c.predictions), c.weights()) for c in train(whole, state)]
    assert rest[:2] == last[:2]
    assert rest[2].keys() == last[2].keys()
    assert all(torch.equal(rest[2][each], last[2][each]) for each in last[2])


def kept_weights_answer_the_same(made: str, folder: Path, names: dict[str, Any]) -> None:
    """In a process of its own. `made` is the recipe as an expression, with names of `workbench` and `workbench.tasks`."""
    *_, last = train(_evaluated(made, names))
    save_file(last.weights(), folder / "w.safetensors")
    process = forks().Process(target=_score, args=(made, names, folder))  # of one that knows nothing of the model
    start(process)
    process.join(240)
    assert process.exitcode == 0
    expected = dict(last.test())
    assert expected
    assert json.loads((folder / "scores.json").read_text()) == expected


def _evaluated(made: str, names: dict[str, Any]) -> Recipe:
    scope: dict[str, Any] = {}
    exec("from workbench import *\nfrom workbench.tasks import *\n", scope)
    recipe: Recipe = eval(made, scope | names)
    return recipe


def _score(made: str, names: dict[str, Any], folder: Path) -> None:
    from workbench.training import test

    scores = test(_evaluated(made, names), folder / "w.safetensors")
    (folder / "scores.json").write_text(json.dumps(scores))
