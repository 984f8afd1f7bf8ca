"""How the output of a model's frozen part is kept: taken apart by rows, without what nobody reads, and put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Layout:
    """How a frozen part's output is put together from the parts that are kept of each row.

    Attributes:
        kind: Class of the output; None where it is a single tensor, `tuple` where it is one with
            nothing behind it.
        parts: For each tensor that is read, how much of it: all `tokens`, the `first` token alone,
            or the whole `row`.
        unread: Number of dimensions of each tensor that is not read; 0: there is none.
    """

    kind: type | None
    parts: Mapping[str, str]
    unread: Mapping[str, int] = field(default_factory=dict)

    def apart(self, output: Any, lengths: Sequence[int], *, left: bool) -> list[dict[str, torch.Tensor]]:
        """The parts of each row of an output; `left`: rows are padded on the left."""
        tensors = {"": output} if self.kind is None else {"": output[0]} if self.kind is tuple else output
        found = []
        for i, length in enumerate(lengths):
            end = {"tokens": slice(-length, None) if left else slice(length), "first": slice(1), "row": slice(None)}
            cut = {name: tensors[name][i][end[how]] for name, how in self.parts.items()}
            # Cloned, because a slice would keep the tensor of the whole batch in memory.
            found.append({name: value.detach().clone() for name, value in cut.items()})
        return found

    def together(self, rows: Sequence[Mapping[str, torch.Tensor]], *, left: bool) -> Any:
        """The output for some rows, padded with zeros on the left or on the right."""
        found: dict[str, torch.Tensor] = {}
        side = "left" if left else "right"
        for name, how in self.parts.items():
            values = [row[name] for row in rows]
            found[name] = pad_sequence(values, batch_first=True, padding_side=side) if how == "tokens" else torch.stack(values)
        if self.kind is None:
            return found[""]
        if self.kind is tuple:
            return found[""], *[None for _ in self.unread]
        # The output must have its unread tensors all the same, as the model may unpack them: zeros
        # of the right number of dimensions do.
        some = next(iter(found.values()))
        return self.kind(**found, **{name: some.new_zeros(len(rows), *[1] * (n - 1)) for name, n in self.unread.items()})


def of_layer(inputs: Mapping[str, Any], output: Any) -> Layout | None:
    """How the output of a layer is kept, all of which the next one reads; None where it is more than hidden states."""
    hidden, *behind = output if isinstance(output, tuple) else (output,)
    if not is_real(hidden) or hidden.ndim != 3 or any(each is not None for each in behind):
        return None
    unread = {str(i): 0 for i, _ in enumerate(behind)}
    return Layout(tuple if isinstance(output, tuple) else None, {"": extent(inputs, hidden)}, unread)


def extent(inputs: Mapping[str, Any], value: torch.Tensor) -> str:
    """Whether a tensor has an entry for each token of a text, shape (rows, tokens, width), or is of a whole row."""
    return "tokens" if "input_ids" in inputs and value.ndim == 3 and value.shape[1] == inputs["input_ids"].shape[1] else "row"


def same_logits(one: Mapping[str, Any], other: Mapping[str, Any], mask: torch.Tensor | None) -> bool:
    """Whether two outputs of a model have the same logits at all tokens; nobody reads those of padding, so they may differ."""
    for name, value in one.items():
        if name.endswith("logits"):
            seen: Any = slice(None)
            if mask is not None and (mask.shape == value.shape[:2] or (value.ndim == 3 and value.shape[1] <= mask.shape[1])):
                seen = mask[:, -value.shape[1] :].bool()  # some models give logits of the last places alone
            if not torch.allclose(other[name][seen], value[seen], atol=1e-5):
                return False
    return True


def is_real(value: Any) -> bool:
    """Whether it is a tensor of real numbers."""
    return isinstance(value, torch.Tensor) and value.is_floating_point()
