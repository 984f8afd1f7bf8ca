"""Pre-trained models that a process has read once; each run gets a copy of its own.

Reading a model costs each run of a sweep between 0.3 and 0.5 CPU seconds; copying its structure
costs hundredths. The copy's tensors share the kept one's memory until somebody writes to them.
torch copies them on write itself, in whatever way they are written to, even where PEFT changes
frozen weights in place. So no run can change what the next one gets.
"""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench import cgroups
from workbench.data import fingerprints, models
from workbench.errors import is_out_of_memory
from workbench.usage import Usage

if TYPE_CHECKING:
    import torch

MOST_BYTES = 2 << 30
"""The most that is kept in all; the least recently used models are dropped first."""

SHARE = 0.25
"""The most that is kept, as a share of the memory that is free or kept here: on a small machine
training needs it more.
"""

Window = Callable[[], contextlib.AbstractContextManager[Any]]
"""Opens a window of a meter, which has its `usage` once it is closed."""


class _Base(NamedTuple):
    model: torch.nn.Module
    size: int
    usage: Usage


class Built(NamedTuple):
    """A model for one run.

    Attributes:
        model: As `models.build` gives it.
        took: What having it took now.
        alone: What it takes a run that is alone, which reads it; `took` where it was read now.
        at_hand: Whether it had been read before, and is a copy of what was kept.
    """

    model: torch.nn.Module
    took: Usage
    alone: Usage
    at_hand: bool


_kept: OrderedDict[tuple[Any, ...], _Base] = OrderedDict()


def build(model: str, auto_class: str, *, seed: int, weights: str, window: Window, **settings: Any) -> Built:
    """A model with a task's head on it, bit for bit that of `models.build`: read now, or copied
    from one that was read before.

    Kept models are told apart by the content of their files as they are now, the class, the
    precision and all settings, and by the seed where it draws a part of the model. Weights in four
    bits are read each time.

    Args:
        model: As `models.build`.
        auto_class: As `models.build`.
        seed: As `models.build`.
        weights: As `models.build`.
        window: Measures what reading takes.
        **settings: As `models.build`.

    Raises:
        UsageError: As `models.build`.
        EnvironmentFault: As `models.build`.
    """
    of = _key(model, auto_class, weights, settings)
    for key in ((*of, None), (*of, seed)):
        if key in _kept:
            _kept.move_to_end(key)
            with window() as opened:
                own = _copy(_kept[key].model)
            return Built(own, opened.usage, _kept[key].usage, at_hand=True)
    with window() as opened:
        read, drawn = models.read(model, auto_class, seed=seed, weights=weights, **settings)
        # The key is made again after reading: files that were replaced meanwhile are not kept under
        # it.
        size = _made_own(read) if weights != "nf4" and of == _key(model, auto_class, weights, settings) else None
        copied = None if size is None else _copied(read)
    if size is not None and copied is not None:
        _kept[*of, seed if drawn else None] = _Base(read, size, opened.usage)
        _make_room(_bound())
    return Built(read if copied is None else copied, opened.usage, opened.usage, at_hand=False)


def is_kept(model: str, auto_class: str, weights: str, **settings: Any) -> bool:
    """Whether a model with these files, this head and this precision is at hand for copying."""
    of = _key(model, auto_class, weights, settings)
    return any(key[:-1] == of for key in _kept)


def forget() -> None:
    """Give back the memory of all that is kept."""
    _kept.clear()


def own(tensors: Iterable[torch.Tensor]) -> None:
    """Give tensors memory of their own now, rather than at the first write."""
    for each in tensors:
        # Handing out the address makes torch copy, as it can no longer see who writes there.
        each.data_ptr()


def _key(model: str, auto_class: str, weights: str, settings: dict[str, Any]) -> tuple[Any, ...]:
    return model, fingerprints.model_now(model), auto_class, weights, repr(sorted(settings.items()))


def _bound() -> int:
    held = sum(base.size for base in _kept.values())
    return min(MOST_BYTES, int(SHARE * (cgroups.available_bytes() + held)))


def _make_room(bound: int) -> None:
    while sum(base.size for base in _kept.values()) > bound:
        _kept.popitem(last=False)


def _made_own(model: torch.nn.Module) -> int | None:
    """Give each of a model's tensors memory of its own.

    Tensors of a file that is mapped into memory are copied, since such memory cannot be shared
    until it is written to.

    Returns:
        Bytes of all tensors; None where the model is not one to be kept.
    """
    import torch

    # Private to torch, so a version without it keeps nothing.
    if not hasattr(torch, "_lazy_clone"):
        return None
    parameters, buffers = [*model.parameters()], [*model.buffers()]
    if not all(type(each) is torch.nn.Parameter and each.device.type == "cpu" for each in parameters):
        return None
    places = [each.untyped_storage()._cdata for each in parameters]
    if len({*places}) < len(places) or {*places} & {each.untyped_storage()._cdata for each in buffers}:
        return None  # tied weights and views: their copies would be apart
    size = sum(each.nbytes for each in (*parameters, *buffers))
    if size > _bound():
        return None
    for each in parameters:
        try:
            torch._lazy_clone(each.detach())
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            each.data = each.data.clone()
    return size


def _copied(model: torch.nn.Module) -> torch.nn.Module | None:
    """A copy; None of a model that cannot be copied."""
    try:
        return _copy(model)
    except Exception as error:  # whatever a model's own attributes raise when they are copied
        if is_out_of_memory(error):
            raise
        return None


def _copy(model: torch.nn.Module) -> torch.nn.Module:
    """The same model whose parameters share memory with this one's until either is written to."""
    import torch

    shared = {id(p): torch.nn.Parameter(torch._lazy_clone(p.detach()), requires_grad=p.requires_grad) for p in model.parameters()}
    # The memo makes deepcopy take these in the place of the parameters.
    return copy.deepcopy(model, shared)
