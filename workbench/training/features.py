"""The output of a model's frozen part for each row, computed once per process and shared by its
runs.

Where nothing below a head learns, or nothing in a model's first layers, their output for a row is
the same at every step, so all further epochs and runs take it from here. Rows are computed in
pieces that depend on nothing but the order of the rows, so a run's result does not depend on what
was computed before it. Each piece keeps its usage: every run is billed as if it had been alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from workbench import cgroups
from workbench.formulations import Rows
from workbench.objectives import TARGETS
from workbench.training.batches import micro_batches, padded_tokens
from workbench.training.faults import Shortage
from workbench.training.layouts import Layout, extent, is_real, of_layer, same_logits
from workbench.training.memory import Halves
from workbench.usage import Usage, Work

PIECE = 32
"""Rows that are computed together. The number is fixed, because padding changes the last bits of an
output: a row's neighbours must not depend on how many rows a run asks for."""

SHOWN = 8
"""Rows that show what is read of an output: passing them is paid by no run."""

MOST_BYTES = 4 << 30
"""The most that is kept in all; the least recently used pieces are dropped first."""

SHARE = 1 / 8
"""The most that is kept, as a share of all memory that the machine has. Not of what is free: whether
rows are kept decides how they are padded, hence the last bits of a result, and these may not depend
on what else the machine does."""


@dataclass(frozen=True)
class _Piece:
    rows: Sequence[Mapping[str, torch.Tensor]]
    usage: Usage
    size: int


_kept: OrderedDict[tuple[Any, ...], _Piece] = OrderedDict()

MOST_LAYOUTS = 64
"""Frozen parts whose layout is kept; the oldest is dropped first."""


class _Known(NamedTuple):
    """What is known of a frozen part's output.

    Attributes:
        layout: How it is put together; None where it cannot be.
        fixed: Bytes of a row whatever its length.
        token: Bytes of a row for each of its tokens.
    """

    layout: Layout | None
    fixed: int = 0
    token: int = 0


_layouts: dict[tuple[Any, ...], _Known] = {}
"""By the key of `Features`. Finding one takes two passes over the first rows, more than all else
that a head's run takes once its features are at hand."""


class _End(Exception):
    """A pass has come to the end of the frozen part, and goes no further."""


class _Held(NamedTuple):
    """Rows whose outputs are asked for: where their padding is, and the keys of their pieces."""

    rows: Rows
    left: bool
    keys: list[tuple[Any, ...]]


class Features:
    """The outputs of a model's frozen part for the rows of one run.

    Args:
        modules: The modules that do not learn, as `methods.Frozen` has them.
        key: All that the output of the last of them for a row depends on.
        forward: Runs the whole model over a batch, with that part in evaluation mode.
        work: From the lengths of rows and their padded tokens to the work of that part.
    """

    def __init__(
        self,
        modules: Sequence[torch.nn.Module],
        key: tuple[Any, ...],
        forward: Callable[[Mapping[str, Any]], Any],
        work: Callable[[Sequence[int], int], Work],
    ) -> None:
        self._modules, self._forward, self._work = modules, forward, work
        self._key = (*key, type(modules[-1]).__name__, len(modules))
        self._layout: Layout | None = None
        # Keyed by id(), which is only unique while the object lives: hence the rows are held here,
        # too.
        self._of: dict[int, _Held] = {}
        self._halves = Halves()

    def holds(self, rows: Rows, chosen: Sequence[int] | np.ndarray) -> bool:
        """Whether the part's output for these rows is at hand."""
        found = self._of.get(id(rows))
        return found is not None and len(chosen) > 0 and int(np.max(chosen)) < PIECE * len(found.keys)

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
        if id(rows) not in self._of:
            if not self._fits(rows, where):
                return [], done
            self._of[id(rows)] = _Held(rows, _padded_left(rows), [])
        _, left, keys = self._of[id(rows)]
        used = []
        for number in range(-(-count // PIECE)):
            # The last piece is filled beyond `count`, so that a run with more labels shares it.
            chosen = np.arange(number * PIECE, min((number + 1) * PIECE, len(rows)))
            if number == len(keys):
                keys.append((*self._key, _digest(rows, chosen)))
            if keys[number] not in _kept:
                with window() as opened:
                    computed, work = self._computed(rows, chosen, where, left=left)
                size = sum(value.nbytes for row in computed for value in row.values())
                _kept[keys[number]] = _Piece(computed, opened.usage.doing(work), size)
                done += work
            _kept.move_to_end(keys[number])
            used.append(_kept[keys[number]].usage)
        # Only now, as this run's own pieces are the most recent ones and have to survive.
        bound = most_bytes()
        while sum(piece.size for piece in _kept.values()) > bound:
            _kept.popitem(last=False)
        return used, done

    @contextlib.contextmanager
    def given(self, rows: Rows, chosen: Sequence[int] | np.ndarray) -> Iterator[bool]:
        """For a while the part returns the kept outputs of these rows, in their order.

        Yields:
            Whether they are at hand; if not, the part computes as ever.
        """
        if not self.holds(rows, chosen):
            yield False
            return
        assert self._layout is not None
        _, left, keys = self._of[id(rows)]
        output = self._layout.together([_kept[keys[i // PIECE]].rows[i % PIECE] for i in chosen], left=left)
        with self._instead(output):
            yield True

    def _computed(
        self, rows: Rows, chosen: np.ndarray, where: torch.device, *, left: bool
    ) -> tuple[list[Mapping[str, torch.Tensor]], Work]:
        layout = self._layout
        assert layout is not None
        found: list[Mapping[str, torch.Tensor]] = [{}] * len(chosen)
        padded = 0

        def parts(some: np.ndarray, inputs: Mapping[str, Any]) -> list[dict[str, torch.Tensor]]:
            return layout.apart(self._last(inputs), rows.lengths[some].tolist(), left=left)

        for some, computed in self._halves.passed(rows, micro_batches(rows, chosen, where), where, parts):
            padded += padded_tokens(rows, some)
            for i, each in zip(some, computed, strict=True):
                found[i - chosen[0]] = each
        return found, self._work(rows.lengths[chosen].tolist(), padded)

    def _last(self, inputs: Mapping[str, Any]) -> Any:
        """What the part gives; what lies above it is not computed."""
        kept: list[Any] = []

        def end(module: Any, args: Any, output: Any) -> None:
            kept.append(output)
            raise _End

        handle = self._modules[-1].register_forward_hook(end)
        try:
            with torch.no_grad(), contextlib.suppress(_End):
                self._forward(inputs)
        finally:
            handle.remove()
        return kept[0]

    def _output(self, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """What the model gives, and what the part gives to what lies above it."""
        kept: list[Any] = []
        handle = self._modules[-1].register_forward_hook(lambda module, args, output: kept.append(output))
        try:
            with torch.no_grad():
                return self._forward(inputs), kept[0]
        finally:
            handle.remove()

    @contextlib.contextmanager
    def _instead(self, output: Any) -> Iterator[None]:
        # An attribute of the instance hides the method of its class until it is deleted; hooks
        # still run. Of several layers all give what the last one does, which is passed on.
        for module in self._modules:
            module.forward = lambda *args, **kwargs: output
        try:
            yield
        finally:
            for module in self._modules:
                del module.forward

    def _fits(self, rows: Rows, where: torch.device) -> bool:
        """Whether all of the rows can be kept. The first that a process meets show what is read of the
        part's output.
        """
        if not len(rows) or rows.together:
            return False
        if self._key not in _layouts:
            _layouts[self._key] = self._learnt(rows, where)
            if len(_layouts) > MOST_LAYOUTS:
                _layouts.pop(next(iter(_layouts)))
        self._layout, fixed, token = _layouts[self._key]
        return self._layout is not None and fixed * len(rows) + token * int(rows.lengths.sum()) <= most_bytes() // 2

    def _learnt(self, rows: Rows, where: torch.device) -> _Known:
        """What the first rows show of the part's output, or as many of them as fit into memory at once."""
        count = min(SHOWN, len(rows))
        while True:
            with Shortage() as shortage:
                return self._shown(rows, np.arange(count), where)
            if count == 1:
                raise shortage.error
            count = (count + 1) // 2

    def _shown(self, rows: Rows, first: np.ndarray, where: torch.device) -> _Known:
        left = _padded_left(rows)
        inputs = {name: value.to(where) for name, value in rows.batch(first).items()}
        lengths = rows.lengths[first].tolist()
        layout = self._found(inputs, lengths, left=left)
        if layout is None:
            return _Known(None)
        parts = layout.apart(self._last(inputs), lengths, left=left)
        fixed = sum(value.nbytes for name, value in parts[0].items() if layout.parts[name] != "tokens")
        return _Known(layout, fixed, sum(value[0].nbytes for name, value in parts[0].items() if layout.parts[name] == "tokens"))

    def _found(self, inputs: Mapping[str, Any], lengths: Sequence[int], *, left: bool = False) -> Layout | None:
        """Find what is read of the part's output.

        Returns:
            The layout; None where the model's answers change when it is given nothing but those
            parts.
        """
        given, output = self._output(inputs)
        if isinstance(output, torch.Tensor) and output.ndim == 2:  # a vector a row
            return Layout(None, {"": "row"})
        if not {"input_ids", "pixel_values"} & {*inputs}:
            return None
        layout = self._read(inputs, output) if isinstance(output, Mapping) else of_layer(inputs, output)
        if layout is None or not isinstance(given, Mapping):
            return None
        # What was found is true of these inputs alone, so it is tried before it is trusted.
        with self._instead(layout.together(layout.apart(output, lengths, left=left), left=left)), torch.no_grad():
            rest = self._forward(inputs)
        return layout if same_logits(given, rest, inputs.get("attention_mask")) else None

    def _read(self, inputs: Mapping[str, Any], output: Any) -> Layout | None:
        """Find by gradients what a head reads of the output of all below it; None: nothing."""
        leaves = {name: value.detach().clone().requires_grad_() for name, value in output.items() if is_real(value)}
        with self._instead(type(output)(**leaves)), torch.enable_grad():
            again = [value for value in self._forward(inputs).values() if is_real(value)]
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
                parts[name] = extent(inputs, value)
        return Layout(type(output), parts, unread) if parts else None


def most_bytes() -> int:
    """The most that is kept in all on this machine. Rows that would take more than half of it are not kept at all but computed at
    every step.
    """
    return min(MOST_BYTES, int(SHARE * cgroups.memory_bytes()))


def _padded_left(rows: Rows) -> bool:
    """Whether rows are padded on the left."""
    ends = np.array([rows.lengths.argmin(), rows.lengths.argmax()])
    if rows.lengths[ends[0]] == rows.lengths[ends[1]]:
        return False
    mask = rows.batch(ends).get("attention_mask")
    return mask is not None and not bool(mask[0, 0])


def _digest(rows: Rows, chosen: np.ndarray) -> str:
    """A hash of the inputs of some rows."""
    found = hashlib.blake2b(digest_size=16)
    for name, values in rows.columns.items():
        # The frozen part reads no targets, so tasks that differ in those alone share its outputs.
        if name not in TARGETS:
            found.update(name.encode())
            for i in chosen:
                value = np.asarray(values[i])
                found.update(repr((value.shape, value.dtype.str)).encode() + value.tobytes())
    return found.hexdigest()
