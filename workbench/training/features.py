"""The output of a model's frozen part for each row, computed once per process and shared by its
runs.

Where nothing below a head learns, the output for a row is the same at every step, so all further
epochs and runs take it from here. Rows are computed in pieces that depend on nothing but the order
of the rows, so a run's result does not depend on what was computed before it. Each piece keeps its
usage: every run is billed as if it had been alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from workbench.formulations import Rows
from workbench.objectives import TARGETS
from workbench.training.batches import micro_batches, padded_tokens
from workbench.usage import Usage, Work

PIECE = 32
"""Rows that are computed together. The number is fixed, because padding changes the last bits of an
output: a row's neighbours must not depend on how many rows a run asks for."""

MOST_BYTES = 1 << 30
"""The most that is kept in all; the least recently used pieces are dropped first. Rows that would
take more than a quarter of it are not kept at all but computed at every step."""


@dataclass(frozen=True)
class _Layout:
    """How a body's output is put together from the parts that are kept of each row.

    Attributes:
        kind: Class of the output; None where it is a single tensor.
        parts: For each tensor that the head reads, how much of it: all `tokens`, the `first` token
            alone, or the whole `row`.
        unread: Number of dimensions of each tensor that the head does not read.
    """

    kind: type | None
    parts: Mapping[str, str]
    unread: Mapping[str, int] = field(default_factory=dict)

    def apart(self, output: Any, lengths: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """The parts of each row of an output."""
        tensors = {"": output} if self.kind is None else output
        found = []
        for i, length in enumerate(lengths):
            end = {"tokens": length, "first": 1}
            cut = {name: tensors[name][i][: end[how]] if how in end else tensors[name][i] for name, how in self.parts.items()}
            # Cloned, because a slice would keep the tensor of the whole batch in memory.
            found.append({name: value.detach().clone() for name, value in cut.items()})
        return found

    def together(self, rows: Sequence[Mapping[str, torch.Tensor]]) -> Any:
        """The output for some rows, padded with zeros."""
        found: dict[str, torch.Tensor] = {}
        for name, how in self.parts.items():
            values = [row[name] for row in rows]
            found[name] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True) if how == "tokens" else torch.stack(values)
        if self.kind is None:
            return found[""]
        # The output must have its unread tensors all the same, as the model may unpack them: zeros
        # of the right number of dimensions do.
        some = next(iter(found.values()))
        return self.kind(**found, **{name: some.new_zeros(len(rows), *[1] * (n - 1)) for name, n in self.unread.items()})


@dataclass(frozen=True)
class _Piece:
    rows: Sequence[Mapping[str, torch.Tensor]]
    usage: Usage
    size: int


_kept: OrderedDict[tuple[Any, ...], _Piece] = OrderedDict()

MOST_LAYOUTS = 64
"""Bodies whose layout is kept; the oldest is dropped first."""


class _Known(NamedTuple):
    """What is known of a body's output.

    Attributes:
        layout: How it is put together; None where it cannot be.
        fixed: Bytes of a row whatever its length.
        token: Bytes of a row for each of its tokens.
    """

    layout: _Layout | None
    fixed: int = 0
    token: int = 0


_layouts: dict[tuple[Any, ...], _Known] = {}
"""By the key of `Features`. Finding one takes two passes over the first rows, more than all else
that a head's run takes once its features are at hand."""


class Features:
    """The outputs of a model's body for the rows of one run.

    Args:
        body: The part of the model that does not learn.
        key: All that the body's output for a row depends on.
        forward: Runs the whole model over a batch, with its body in evaluation mode.
        work: From the lengths of rows and their padded tokens to the work that they are.
    """

    def __init__(
        self,
        body: torch.nn.Module,
        key: tuple[Any, ...],
        forward: Callable[[Mapping[str, Any]], Any],
        work: Callable[[Sequence[int], int], Work],
    ) -> None:
        self.body, self._key, self._forward, self._work = body, (*key, type(body).__name__), forward, work
        self._layout: _Layout | None = None
        # Keyed by id(), which is only unique while the object lives: hence the rows are held here,
        # too.
        self._of: dict[int, tuple[Rows, list[tuple[Any, ...]]]] = {}

    def holds(self, rows: Rows, chosen: Sequence[int] | np.ndarray) -> bool:
        """Whether the body's output for these rows is at hand."""
        found = self._of.get(id(rows))
        return found is not None and len(chosen) > 0 and int(np.max(chosen)) < PIECE * len(found[1])

    def prepare(
        self, rows: Rows, count: int, where: torch.device, window: Callable[[], contextlib.AbstractContextManager[Any]]
    ) -> tuple[list[Usage], Work]:
        """Compute the outputs for the first `count` rows, where they are not at hand and all rows
        together are few enough to be kept.

        Args:
            rows: The rows.
            count: How many of them, from the first.
            where: The device.
            window: Opens a window of a meter.

        Returns:
            The usage of each piece, whenever it was computed; and the work that was done now.
        """
        done = Work()
        if id(rows) not in self._of and not self._fits(rows, where):
            return [], done
        _, keys = self._of.setdefault(id(rows), (rows, []))
        used = []
        for number in range(-(-count // PIECE)):
            # The last piece is filled beyond `count`, so that a run with more labels shares it.
            chosen = np.arange(number * PIECE, min((number + 1) * PIECE, len(rows)))
            if number == len(keys):
                keys.append((*self._key, _digest(rows, chosen)))
            if keys[number] not in _kept:
                with window() as opened:
                    computed, work = self._computed(rows, chosen, where)
                size = sum(value.nbytes for row in computed for value in row.values())
                _kept[keys[number]] = _Piece(computed, opened.usage.doing(work), size)
                done += work
            _kept.move_to_end(keys[number])
            used.append(_kept[keys[number]].usage)
        # Only now, as this run's own pieces are the most recent ones and have to survive.
        while sum(piece.size for piece in _kept.values()) > MOST_BYTES:
            _kept.popitem(last=False)
        return used, done

    @contextlib.contextmanager
    def given(self, rows: Rows, chosen: Sequence[int] | np.ndarray) -> Iterator[bool]:
        """For a while the body returns the kept outputs of these rows, in their order.

        Yields:
            Whether they are at hand; if not, the body computes as ever.
        """
        if not self.holds(rows, chosen):
            yield False
            return
        assert self._layout is not None
        keys = self._of[id(rows)][1]
        output = self._layout.together([_kept[keys[i // PIECE]].rows[i % PIECE] for i in chosen])
        with self._instead(output):
            yield True

    def _computed(self, rows: Rows, chosen: np.ndarray, where: torch.device) -> tuple[list[Mapping[str, torch.Tensor]], Work]:
        assert self._layout is not None
        found: list[Mapping[str, torch.Tensor]] = [{}] * len(chosen)
        padded = 0
        for some, inputs in micro_batches(rows, chosen, where):
            padded += padded_tokens(rows, some)
            for i, parts in zip(some, self._layout.apart(self._output(inputs)[1], rows.lengths[some].tolist()), strict=True):
                found[i - chosen[0]] = parts
        return found, self._work(rows.lengths[chosen].tolist(), padded)

    def _output(self, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """What the model gives, and what its body gives it."""
        kept: list[Any] = []
        handle = self.body.register_forward_hook(lambda module, args, output: kept.append(output))
        try:
            with torch.no_grad():
                return self._forward(inputs), kept[0]
        finally:
            handle.remove()

    @contextlib.contextmanager
    def _instead(self, output: Any) -> Iterator[None]:
        # An attribute of the instance hides the method of its class until it is deleted; hooks
        # still run.
        self.body.forward = lambda *args, **kwargs: output
        try:
            yield
        finally:
            del self.body.forward

    def _fits(self, rows: Rows, where: torch.device) -> bool:
        """Whether all of the rows can be kept. The first that a process meets show what the head
        reads of the body's output.
        """
        if not len(rows) or rows.together:
            return False
        if self._key not in _layouts:
            _layouts[self._key] = self._learnt(rows, where)
            if len(_layouts) > MOST_LAYOUTS:
                _layouts.pop(next(iter(_layouts)))
        self._layout, fixed, token = _layouts[self._key]
        return self._layout is not None and fixed * len(rows) + token * int(rows.lengths.sum()) <= MOST_BYTES // 4

    def _learnt(self, rows: Rows, where: torch.device) -> _Known:
        """What the first rows show of the body's output."""
        first = np.arange(min(PIECE, len(rows)))
        inputs = {name: value.to(where) for name, value in rows.batch(first).items()}
        layout = self._found(inputs, rows.lengths[first].tolist())
        if layout is None:
            return _Known(None)
        parts = layout.apart(self._output(inputs)[1], rows.lengths[first].tolist())
        fixed = sum(value.nbytes for name, value in parts[0].items() if layout.parts[name] != "tokens")
        return _Known(layout, fixed, sum(value[0].nbytes for name, value in parts[0].items() if layout.parts[name] == "tokens"))

    def _found(self, inputs: Mapping[str, Any], lengths: Sequence[int]) -> _Layout | None:
        """Find by gradients what the head reads of the body's output.

        Returns:
            The layout; None where the model's answers change when it is given nothing but those
            parts.
        """
        given, output = self._output(inputs)
        if isinstance(output, torch.Tensor):
            return _Layout(None, {"": "row"})
        if not isinstance(output, Mapping) or not {"input_ids", "pixel_values"} & {*inputs}:
            return None
        leaves = {name: value.detach().clone().requires_grad_() for name, value in output.items() if _is_real(value)}
        with self._instead(type(output)(**leaves)), torch.enable_grad():
            again = [value for value in self._forward(inputs).values() if _is_real(value)]
            # A sum weighted at random: gradients of a plain sum may cancel (softmax adds up to 1
            # whatever it reads). The generator is its own, so that the run's random state does not
            # move.
            draws = torch.Generator().manual_seed(0)
            told = sum((value.float() * torch.randn(value.shape, generator=draws).to(value.device)).sum() for value in again)
            gradients = torch.autograd.grad(told, [*leaves.values()], allow_unused=True)
        parts: dict[str, str] = {}
        unread: dict[str, int] = {}
        for (name, value), gradient in zip(leaves.items(), gradients, strict=True):
            if gradient is None:
                unread[name] = value.ndim
            elif value.ndim == 3 and value.shape[1] > 1 and not gradient[:, 1:].any():
                parts[name] = "first"
            else:
                of_tokens = "input_ids" in inputs and value.ndim == 3 and value.shape[1] == inputs["input_ids"].shape[1]
                parts[name] = "tokens" if of_tokens else "row"
        layout = _Layout(type(output), parts, unread) if parts else None
        if layout is None:
            return None
        # A gradient tells what is read for these inputs alone, so the layout is tried before it is
        # trusted.
        with self._instead(layout.together(layout.apart(output, lengths))), torch.no_grad():
            rest = self._forward(inputs)
        mask = inputs.get("attention_mask")
        for name, value in given.items():
            if name.endswith("logits"):
                # Nobody reads the logits of padding, so they may differ.
                seen = mask.bool() if mask is not None and mask.shape == value.shape[:2] else slice(None)
                if not torch.allclose(rest[name][seen], value[seen], atol=1e-5):
                    return None
        return layout


def _is_real(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _digest(rows: Rows, chosen: np.ndarray) -> str:
    """A hash of the inputs of some rows."""
    found = hashlib.blake2b(digest_size=16)
    for name, values in rows.columns.items():
        # The body reads no targets, so tasks that differ in those alone share its outputs.
        if name not in TARGETS:
            found.update(name.encode())
            for i in chosen:
                value = np.asarray(values[i])
                found.update(repr((value.shape, value.dtype.str)).encode() + value.tobytes())
    return found.hexdigest()
