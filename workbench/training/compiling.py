"""Whether the layers of a model are compiled while it learns: tried on a run's own batches, and taken where that pays.

What compiling gains and costs depends on the model, the device and the versions at hand, so it is measured: a few steps as they
are, the same steps compiled, nothing learned from either. It is taken where

    (seconds of a step as it is - compiled) x steps that the sweep is expected to make of such runs > seconds that compiling took

and where losses and gradients are the same within `TOLERANCE`: then it changes no result, and is no part of a recipe. What was
found holds for the runs of a process that are alike in all that it depends on.

Layers are compiled one by one (they are alike, so that is done once), and for training alone: an evaluation passes them as they
are. Dropout draws what it draws without (`fallback_random`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench import flops
from workbench.errors import WorkbenchError
from workbench.training import sharding
from workbench.training.batches import step_examples
from workbench.training.resume_state import random_state, set_random_state

if TYPE_CHECKING:
    from workbench.formulations import Rows
    from workbench.training.tuning import Tuning

DEVICES = frozenset({"cuda"})
"""Where it is tried. On two CPUs compiling took 109 s and gained nothing."""

BACKEND = "inductor"
"""What makes code of a layer, by torch's name."""

STEPS = 4
"""Steps that are timed either way, after as many that warm up."""

TOLERANCE = {False: 1e-3, True: 2e-2}
"""How far losses and norms of gradients may lie apart, as a share: in float32, and in bfloat16, whose numbers have three digits."""

COST_SECONDS = 20.0
"""What compiling is taken to cost before a process has compiled anything: assumed."""

MOST_GAIN = 0.5
"""The most of a step that compiling is thought to save: where not even that pays, it is not tried. Assumed."""


@dataclass(frozen=True)
class Verdict:
    """What was found about compiling, and what it rests on.

    Attributes:
        family: What it holds for.
        taken: Whether layers are compiled.
        why: `gains`; `loses`, where it costs more than it gains; `differs`, where its numbers are others; `fails`; `short`, where
            there is too little to be done for a trial.
        steps: Steps that were expected of such runs.
        plain_seconds: A step as it is; None where it was not timed.
        compiled_seconds: A step that is compiled; None as above.
        cost_seconds: What compiling took.
        apart: The largest difference of losses and gradients, as a share.
        detail: More about it, in words.
    """

    family: str
    taken: bool
    why: str
    steps: float
    plain_seconds: float | None = None
    compiled_seconds: float | None = None
    cost_seconds: float | None = None
    apart: float | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain data."""
        return dataclasses.asdict(self)


class Compiled(contextlib.AbstractContextManager["Compiled"]):
    """Layers that are compiled while it is entered, as often as that is.

    Args:
        layers: Modules of a model.
    """

    def __init__(self, layers: Sequence[torch.nn.Module]) -> None:
        options: dict[str, Any] = {"options": {"fallback_random": True}} if BACKEND == "inductor" else {}
        self._layers: list[tuple[Any, Any, Any]] = [
            (layer, vars(layer).get("forward"), torch.compile(layer.forward, dynamic=True, backend=BACKEND, **options))
            for layer in layers
        ]

    def __enter__(self) -> Compiled:
        for layer, _, compiled in self._layers:
            layer.forward = compiled
        return self

    def __exit__(self, *_: object) -> None:
        for layer, own, _ in self._layers:
            del layer.forward  # what stood there is the class's again
            if own is not None:
                layer.forward = own


_verdicts: dict[str, Verdict] = {}
_costs: list[float] = []


def forget() -> None:
    """Forget what was found: the next run of each family is tried anew."""
    _verdicts.clear()
    _costs.clear()


def choose(
    of: Tuning,
    rows: Rows,
    examples: int,
    ahead: float | None,
    known: Mapping[str, Mapping[str, Any]],
    clock: Callable[[], float] = time.perf_counter,
) -> Verdict | None:
    """Have the layers of a model compiled where that pays.

    Random state, buffers and weights are afterwards what they were.

    Args:
        of: The model, before its first step.
        rows: What it is trained on.
        examples: How many examples these are of.
        ahead: Steps that are still to be made of such runs, this one's included; None: unknown, and nothing is tried.
        known: What other processes have found on the same machine, by family, as plain data.
        clock: Seconds that only rise.

    Returns:
        The verdict; None where the question does not arise.

    Raises:
        Infeasible: The model fails as it is.
    """
    layers = _layers(of)
    if ahead is None or not layers:
        return None
    of.fit(rows, np.bincount(rows.example, minlength=examples)[:examples])  # as before its first step
    family = _family(of, rows)
    found = _verdicts.get(family)
    if found is None and (other := known.get(family)) is not None and not other["taken"]:
        found = Verdict(**other)
    if found is None:
        found = _tried(
            of, layers, rows, _first_batches(of, rows, examples), dataclasses.replace(_nothing(family), steps=ahead), clock
        )
        if found.why == "short":  # there may be more to be done another time
            return found
    _verdicts[family] = found
    if found.taken:
        _let_fall_back()
        of.compiled = Compiled(layers)
    return found


def _nothing(family: str) -> Verdict:
    return Verdict(family, taken=False, why="short", steps=0.0)


def _layers(of: Tuning) -> list[torch.nn.Module]:
    """The layers to be compiled; none where that is not to be tried."""
    if of.where.type not in DEVICES or sharding.count() > 1 or of.optimizer is None or of.recipe.task.combines:
        return []
    # Where vectors of a frozen body are at hand layers are not passed; and rows that are packed have other shapes at every step.
    if of.features is not None or of.packs:
        return []
    bare = flops.unwrapped(of.model)
    config: Any = getattr(bare, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    count = getattr(text, "num_hidden_layers", 0)
    stacks = [m for m in bare.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    return [layer for stack in stacks for layer in stack]


def _family(of: Tuning, rows: Rows) -> str:
    """All that gain, cost and numbers depend on, in words."""
    recipe, method = of.recipe, of.recipe.method
    settings = [f"{name}={value}" for name, value in sorted(method.settings.items()) if not isinstance(value, float)]
    longest = 1 << max(0, int(rows.lengths.max()) - 1).bit_length()
    return ", ".join(
        [
            recipe.architecture,
            type(flops.unwrapped(of.model)).__name__,
            *([] if recipe.weights == "float32" else [recipe.weights]),
            " ".join([method.name, *settings]),
            f"batches of {recipe.batch_size}",
            f"up to {longest} tokens",
            "bfloat16" if of.autocast._enabled else "float32",
            of.where.type,
        ]
    )


def _first_batches(of: Tuning, rows: Rows, examples: int) -> list[np.ndarray]:
    """The rows of the first steps that the run makes."""
    recipe = of.recipe
    found = []
    for i in range(STEPS):
        chosen = step_examples(of.step + i, recipe.batch_size, examples, getattr(recipe.task, "seed", 0))
        found.append(np.concatenate([np.flatnonzero(rows.example == each) for each in chosen]))
    return found


def _tried(
    of: Tuning,
    layers: Sequence[torch.nn.Module],
    rows: Rows,
    batches: Sequence[np.ndarray],
    begun: Verdict,
    clock: Callable[[], float],
) -> Verdict:
    """Time steps as they are and compiled, and compare what they give."""
    random = random_state(of.where)
    buffers = [(buffer, buffer.clone()) for buffer in of.model.buffers()]
    try:
        passes = _Passes(of, rows, batches, clock)
        passes.made()  # kernels are chosen, and memory is laid out
        plain = passes.made()
        usual = statistics.median(plain.seconds)
        begun = dataclasses.replace(begun, plain_seconds=usual)
        if begun.steps * usual * MOST_GAIN <= (statistics.median(_costs) if _costs else COST_SECONDS):
            return begun
        of.compiled = Compiled(layers)
        try:
            first, again = passes.made(), passes.made()
        except WorkbenchError:  # the device failed
            raise
        except Exception as error:  # whatever compilers and their code raise, a lack of memory too: it learns as it is
            return dataclasses.replace(begun, why="fails", detail=f"{type(error).__name__}: {error}"[:500])
        finally:
            of.compiled = contextlib.nullcontext()
            of.optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
    finally:
        set_random_state(random, of.where)
        for buffer, before in buffers:
            buffer.copy_(before)
    compiled = statistics.median(again.seconds)
    cost = max(0.0, sum(first.seconds) - sum(again.seconds))
    _costs.append(cost)
    apart = again.apart(plain)
    alike, gains = apart <= TOLERANCE[of.autocast._enabled], (usual - compiled) * begun.steps > cost
    return dataclasses.replace(
        begun,
        taken=alike and gains,
        why="differs" if not alike else "gains" if gains else "loses",
        compiled_seconds=compiled,
        cost_seconds=cost,
        apart=apart,
    )


@dataclass(frozen=True)
class _Pass:
    """What passes over some batches took and gave: seconds, and the loss and the norm of the gradient of each."""

    seconds: list[float]
    numbers: list[float]

    def apart(self, other: _Pass) -> float:
        """The largest difference of the numbers of two, as a share of the other's; infinite where one is not finite."""
        shares = [abs(a - b) / max(abs(b), 1e-8) for a, b in zip(self.numbers, other.numbers, strict=True)]
        return max(share if math.isfinite(share) else math.inf for share in shares)


class _Passes:
    """Forward and backward passes over batches, of which nothing is learned."""

    def __init__(self, of: Tuning, rows: Rows, batches: Sequence[np.ndarray], clock: Callable[[], float]) -> None:
        self._of, self._rows, self._batches, self._clock = of, rows, batches, clock
        self._random = random_state(of.where)

    def made(self) -> _Pass:
        """All of them, each time with the same draws."""
        of, found = self._of, _Pass([], [])
        set_random_state(self._random, of.where)
        for batch in self._batches:
            self._wait()
            began = self._clock()
            total, _ = of.gradient(self._rows, batch)
            self._wait()
            found.seconds.append(self._clock() - began)
            gradients = [p.grad for p in of.parameters.values() if p.grad is not None]
            found.numbers.extend([float(total), float(torch.nn.utils.get_total_norm(gradients))])
            of.optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        return found

    def _wait(self) -> None:
        if self._of.where.type == "cuda":
            torch.cuda.synchronize()


def _let_fall_back() -> None:
    """A shape that cannot be compiled later on is passed as it is: no run ends by it. And runs of many shapes have code of each."""
    import torch._dynamo

    torch._dynamo.config.suppress_errors = True
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
