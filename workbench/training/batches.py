"""Which examples make a step, and how a step's rows are split into micro-batches with little
padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.formulations import Rows

if TYPE_CHECKING:
    import torch

OVERHEAD_TOKENS = {"cpu": 48, "cuda": 8192}
"""The cost of one extra forward and backward pass, in tokens: the reason why a step is not split
into single rows. On a CPU a pass takes nearly as long as its tokens do; a GPU is idle below
thousands of them."""

MAX_TOKENS = {"cpu": 4096, "cuda": 65536}
"""The most padded tokens in one micro-batch of an evaluation."""

CUT_TOGETHER = 128
"""Rows of an evaluation for which the best cut is looked for at once."""

PACKED_TOKENS = {"cpu": 2048}
"""The most tokens of several rows that pass a model's layers as one, without padding
(`workbench.objectives.packing`). Devices that are not named here are never given packed rows."""


@lru_cache(maxsize=64)
def _order(examples: int, epoch: int, seed: int) -> np.ndarray:
    # The first pass keeps the task's own (already shuffled) order. Labels are bought in that order,
    # so a quarter of an epoch over 512 examples reads the very labels that a recipe with 128 buys.
    return np.arange(examples) if epoch == 0 else np.random.default_rng((seed, epoch)).permutation(examples)


def step_examples(step: int, batch_size: int, examples: int, seed: int) -> np.ndarray:
    """Indices of the examples of optimiser step `step` (from 0), shape (batch_size,).

    The stream of examples passes over all of them again and again, in an order that depends on the
    data seed alone. A step may span two passes, so that no step is smaller than another.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    return np.array([_order(examples, int(p) // examples, seed)[int(p) % examples] for p in places])


def steps_for(epochs: float, batch_size: int, examples: int) -> int:
    """Optimiser steps of `epochs` passes over `examples`: at least 1, but 0 where `epochs` is 0."""
    return max(1, round(epochs * examples / batch_size)) if epochs else 0


def checkpoint_epochs(epochs: float, *, batch_size: int, examples: int, dev_examples: int) -> list[float]:
    """Epochs at which a run is evaluated: its end and at most four powers of two below it.

    The grid does not depend on how far the run will go, so a longer run passes the checkpoints of a
    shorter one. The first checkpoint comes no earlier than the training costs about three
    evaluations of the dev set. A run of 0 epochs is evaluated at 0 alone.
    """
    if epochs == 0:
        return [0.0]
    grid = [float(epochs)]
    # Strictly below `epochs`, even where that is a power of two itself.
    power = 2.0 ** np.ceil(np.log2(epochs) - 1)
    while (
        len(grid) < 5
        # Training on an example costs about three times as much as evaluating one.
        and power * examples >= dev_examples
        # Checkpoints at the same optimiser step would be the same model, evaluated twice.
        and steps_for(power, batch_size, examples) < steps_for(grid[0], batch_size, examples)
    ):
        grid.insert(0, float(power))
        power /= 2
    return grid


def split(lengths: Sequence[int], overhead_tokens: int, max_tokens: int | None = None) -> list[tuple[int, int]]:
    """Cut rows, sorted by length, into runs `[start, end)` of least cost: padded tokens plus an
    overhead per run.

    The result is exact, by dynamic programming over the cuts, in O(n²) for n rows.

    Args:
        lengths: Tokens of each row, non-decreasing.
        overhead_tokens: Cost of a run in addition to its tokens.
        max_tokens: The most padded tokens in a run of more than one row; None: no bound.
    """
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(lengths) + 1):
        options = []
        for start in range(end - 1, -1, -1):
            padded = (end - start) * lengths[end - 1]
            if max_tokens is not None and padded > max_tokens and end - start > 1:
                # `padded` only grows with earlier starts, so none of those fits either.
                break
            options.append((best[start][0] + padded + overhead_tokens, start))
        best.append(min(options))
    cuts, end = [], len(lengths)
    while end:
        start = best[end][1]
        cuts.append((start, end))
        end = start
    return cuts[::-1]


def packs(lengths: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Cut rows, sorted by length, into runs `[start, end)` of about equally many tokens, as few runs
    as there can be.

    Args:
        lengths: Tokens of each row, non-decreasing.
        most: The most tokens in a run of more than one row.
    """
    left, cuts, start = sum(lengths), [], 0
    while start < len(lengths):
        aim = left / -(-left // most)
        end, taken = start + 1, lengths[start]
        while end < len(lengths) and taken + lengths[end] <= most and taken + lengths[end] / 2 <= aim:
            taken, end = taken + lengths[end], end + 1
        cuts.append((start, end))
        left, start = left - taken, end
    return cuts


def cuts(lengths: Sequence[int], kind: str, most: int | None = None, *, packed: bool = False) -> list[tuple[int, int]]:
    """Cut the rows of a step, sorted by length, into the runs `[start, end)` that pass the model
    together.

    Args:
        lengths: Tokens of each row, non-decreasing.
        kind: Type of the device: `cpu`, `cuda`.
        most: As in `micro_batches`.
        packed: As in `micro_batches`.
    """
    if packed:
        return packs(lengths, min(most or PACKED_TOKENS[kind], PACKED_TOKENS[kind]))
    return split(lengths, OVERHEAD_TOKENS.get(kind, OVERHEAD_TOKENS["cpu"]), most)


def widest(lengths: Sequence[int], kind: str, most: int | None = None, *, packed: bool = False) -> tuple[int, int]:
    """Size of the micro-batch with the most tokens that rows of one step are split into.

    Args:
        lengths: Tokens of each row of the step.
        kind: Type of the device: `cpu`, `cuda`.
        most: As in `micro_batches`.
        packed: As in `micro_batches`.

    Returns:
        Rows and tokens, padding included; of packed rows, which have none, their mean rounded up.
    """
    sizes = sorted(int(n) for n in lengths)
    runs = [
        (end - start, -(-sum(sizes[start:end]) // (end - start)) if packed else sizes[end - 1])
        for start, end in cuts(sizes, kind, most, packed=packed)
    ]
    return max(runs, key=lambda run: run[0] * run[1])


def micro_batches(
    rows: Rows, chosen: np.ndarray, device: torch.device, most: int | None = None, *, packed: bool = False
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """The chosen rows in micro-batches of similar length, or in one batch where they must not be
    cut apart.

    Args:
        rows: All rows.
        chosen: Indices of the rows of a step, shape (n,).
        device: The device that the batches are moved to.
        most: The most padded tokens in a micro-batch of more than one row; None: no bound.
        packed: Whether the model's layers will see no padding, so that rows need not be of similar
            length.

    Yields:
        Indices of the rows, and their batch on the device.
    """
    if rows.together:
        yield from one_batch(rows, chosen, device)
        return
    # Stable, since NumPy's default sort leaves the order of ties to the CPU's instruction set:
    # another machine would make other micro-batches of the same step.
    chosen = chosen[np.argsort(rows.lengths[chosen], kind="stable")]
    sizes = rows.lengths[chosen].tolist()
    for begin, stop in _alike(sizes) if rows.alike else [(0, len(sizes))]:
        for start, end in cuts(sizes[begin:stop], device.type, most, packed=packed):
            some = chosen[begin + start : begin + end]
            yield some, _moved(rows.batch(some), device)


def one_batch(rows: Rows, chosen: np.ndarray, device: torch.device) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """The chosen rows in one batch; as `micro_batches`."""
    yield chosen, _moved(rows.batch(chosen), device)


def evaluation_batches(
    rows: Rows, device: torch.device, *, packed: bool = False, filled: bool = False, some: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """All rows, or some, sorted by length, in batches of bounded size; as `micro_batches`.

    Args:
        rows: All rows.
        device: The device that the batches are moved to.
        packed: As in `micro_batches`.
        filled: Whether batches are as large as they may be, as answers want it that are written: for
            each token of a batch all of the model is read again.
        some: Indices of the rows; None: all.
    """
    order = np.argsort(rows.lengths, kind="stable")
    order = order if some is None else order[np.isin(order, some)]
    sizes = rows.lengths[order].tolist()
    most = MAX_TOKENS.get(device.type, MAX_TOKENS["cpu"])
    for begin, stop in _alike(sizes) if rows.alike else [(0, len(sizes))]:
        # The search for the best cut takes the square of the number of rows: it looks at parts.
        for first in range(begin, stop, stop - begin if filled else CUT_TOGETHER):
            part = sizes[first : stop if filled else min(first + CUT_TOGETHER, stop)]
            for start, end in _filled(part, most) if filled else cuts(part, device.type, most, packed=packed):
                chosen = order[first + start : first + end]
                yield chosen, _moved(rows.batch(chosen), device)


def _filled(lengths: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Cut sorted rows into runs `[start, end)` with as many padded tokens as there may be."""
    found, start = [], 0
    while start < len(lengths):
        end = start + 1
        # The row about to be added is the longest and sets the width of the batch.
        while end < len(lengths) and (end + 1 - start) * lengths[end] <= most:
            end += 1
        found.append((start, end))
        start = end
    return found


def _alike(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Cut sorted sizes into runs `[start, end)` of equal ones."""
    cuts = [i for i in range(1, len(sizes)) if sizes[i] != sizes[i - 1]]
    return list(zip([0, *cuts], [*cuts, len(sizes)], strict=True))


def padded_tokens(rows: Rows, chosen: np.ndarray, *, packed: bool = False) -> int:
    """Tokens of these rows as one batch, padding included; packed rows have none."""
    return int(rows.lengths[chosen].sum()) if packed else len(chosen) * int(rows.lengths[chosen].max())


def _moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device, non_blocking=True) if hasattr(value, "to") else value for name, value in batch.items()}
