"""What recipes will take, known before anything is spent: every model and method of a study, built on the meta device."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workbench.errors import UsageError
from workbench.methods import Method
from workbench.space import Choice, Space, Value, dimensions, resolve
from workbench.study import Study

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """One model with one method.

    Attributes:
        model: The model's name.
        method: The method's name.
        settings: The method's options, where the study leaves a choice.
        parameters: All parameters of the wrapped model; None when it cannot be built.
        trainable_parameters: Those that learn; None when it cannot be built.
        state_bytes: Memory of weights, gradients, AdamW's moments, averages and their swap; activations come on top.
        memory_bytes: Memory of the device that would train.
        problem: Why it cannot be trained; empty when nothing is known against it.
    """

    model: str
    method: str
    settings: dict[str, Value]
    parameters: int | None = None
    trainable_parameters: int | None = None
    state_bytes: int | None = None
    memory_bytes: int | None = None
    problem: str = ""

    @property
    def fits(self) -> bool:
        """Whether nothing is known against training it here."""
        return not self.problem


def plan(study: Study) -> Iterator[Plan]:
    """Build every model with every method of the study, without weights, and yield what that shows.

    Raises:
        UsageError: A model does not exist.
        EnvironmentFault: A model's configuration cannot be fetched.
    """
    from workbench.data import models

    memory = device_memory_bytes()
    for model in _options(study.recipe.model):
        models.config(model)
        for method in _methods(study.recipe.method):
            yield _build(study, model, method, memory)


def check(study: Study) -> list[Plan]:
    """The plan of a study that can be swept.

    Raises:
        UsageError: Some model cannot be trained with some method; the message names each such pair.
    """
    pairs = list(plan(study))
    problems = [f"  {p.method} on {p.model}: {p.problem}" for p in pairs if not p.fits]
    if problems:
        raise UsageError("\n".join([f"{len(problems)} of {len(pairs)} pairs of model and method cannot be trained here:", *problems, "Mend or remove them; `workbench plan` shows all pairs."]))
    return pairs


def device_memory_bytes() -> int:
    """Memory of the device that trains: the first GPU's, else what this machine has available."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(psutil.virtual_memory().available)


def _build(study: Study, model: str, method: Method, memory: int) -> Plan:
    settings: dict[str, Value] = {name: value for name, value in method.settings.items() if isinstance(value, Value)}
    try:
        wrapped = _wrapped(study, model, method)
    except UsageError as error:
        return Plan(model, method.name, settings, problem=str(error))
    total = sum(p.numel() for p in wrapped.parameters())
    tuned = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    # Weights once; for what learns: gradient, two moments, average, and the copy kept while the average is evaluated.
    state = FLOAT_BYTES * (total + 5 * tuned)
    problem = "" if state < memory else f"needs {state / 2**30:.1f} GiB before activations; the device has {memory / 2**30:.1f} GiB"
    return Plan(model, method.name, settings, total, tuned, state, memory, problem)


def _wrapped(study: Study, model: str, method: Method) -> Any:
    import torch

    from workbench import methods
    from workbench.data import models

    task = study.recipe.task.options[0] if isinstance(study.recipe.task, Choice) else study.recipe.task
    base = models.build(model, task.auto_class, device="meta")
    with torch.device("meta"):
        return methods.apply(method, base, auto_class=task.auto_class, head=task.head)


def _options(value: Any) -> list[Any]:
    return list(value.options) if isinstance(value, Choice) else [value]


def _methods(method: Any) -> Iterator[Method]:
    """Every method of the study, once for each combination of its own options; numbers stand at the end of their range."""
    for option in _options(method):
        holes = dimensions({"method": option})
        spaces = [d.space.labels if isinstance(d.space, Choice) else (_end(d.space),) for d in holes.values()]
        for values in itertools.product(*spaces):
            yield resolve({"method": option}, dict(zip(holes, values, strict=True)))["method"]


def _end(space: Space) -> Value:
    high: Value = getattr(space, "high")  # noqa: B009  both kinds of range have it
    return high
