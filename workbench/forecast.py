"""What recipes will take, known before anything is spent: every model and method of a study, built on the meta device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import UsageError
from workbench.methods import Method
from workbench.space import Choice, Dimension, Value, dimensions, resolve
from workbench.study import Study
from workbench.tasks.base import Task

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """One model with one method.

    Attributes:
        model: The model's name.
        method: The method's name.
        settings: The settings of PEFT's configuration that this build had: of a range, its end.
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
            # Of several tasks the one that cannot be, else the largest, speaks for the pair.
            builds = [_build(task, model, method, memory) for task in _heads(study.recipe.task)]
            yield max(builds, key=lambda build: (build.problem != "", build.state_bytes or 0))


def check(study: Study) -> list[Plan]:
    """The plan of a study that can be swept.

    Raises:
        UsageError: Some model cannot be trained with some method; the message names each such pair.
    """
    pairs = list(plan(study))
    problems = [f"  {p.method} on {p.model}: {p.problem}" for p in pairs if not p.fits]
    if problems:
        head = f"{len(problems)} of {len(pairs)} pairs of model and method cannot be trained here:"
        raise UsageError("\n".join([head, *problems, "Mend or remove them; `workbench plan` shows all pairs."]))
    return pairs


def device_memory_bytes() -> int:
    """Memory of the device that trains: the first GPU's, else what this machine has available."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(psutil.virtual_memory().available)


def _build(task: Task, model: str, method: Method, memory: int) -> Plan:
    settings: dict[str, Value] = {name: value for name, value in method.settings.items() if isinstance(value, Value)}
    try:
        wrapped = _wrapped(task, model, method)
    except UsageError as error:
        return Plan(model, method.name, settings, problem=str(error))
    total = sum(p.numel() for p in wrapped.parameters())
    tuned = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    # Weights once; for what learns: gradient, two moments, average, and the copy kept while the average is evaluated.
    state = FLOAT_BYTES * (total + 5 * tuned)
    problem = "" if state < memory else f"needs {state / 2**30:.1f} GiB before activations; the device has {memory / 2**30:.1f} GiB"
    return Plan(model, method.name, settings, total, tuned, state, memory, problem)


def _wrapped(task: Task, model: str, method: Method, device: str = "meta") -> Any:
    import torch

    from workbench import methods
    from workbench.data import models

    base = models.build(model, task.auto_class, device=device)
    try:
        with torch.device(device):
            return methods.apply(method, base, auto_class=task.auto_class, head=task.head)
    except UsageError as error:
        if device != "meta" or "meta" not in str(error).lower():
            raise
    # Five of PEFT's methods (AdaMSS, BOFT, FRoD, SHiRA, UniLoRA) look at numbers, of which the meta device has none.
    return _wrapped(task, model, method, "cpu")


def _options(value: Any) -> Sequence[Any]:
    return value.options if isinstance(value, Choice) else (value,)


def _heads(task: Any) -> Iterator[Task]:
    """One task for each kind of head that the study puts on a model."""
    yield from {(option.auto_class, option.head): option for option in _options(task)}.values()


def _methods(method: Any) -> Iterator[Method]:
    """Every method of the study, once for each combination of its own options; ranges stand at their end."""
    for option in _options(method):
        made: list[Method] = []
        for settings in _combinations(list(dimensions({"method": option}).values()), {}):
            filled = resolve({"method": option}, settings)["method"]
            shape = dataclasses.replace(filled, learning_rate=1.0)  # a learning rate changes no model
            if shape not in made:
                made.append(shape)
                yield filled


def _combinations(holes: Sequence[Dimension], chosen: Mapping[str, Value]) -> Iterator[Mapping[str, Value]]:
    if not holes:
        yield chosen
        return
    hole, *others = holes
    if not hole.exists(chosen):
        yield from _combinations(others, chosen)
        return
    for setting in hole.space.labels if isinstance(hole.space, Choice) else hole.space.ends[-1:]:
        yield from _combinations(others, {**chosen, hole.name: setting})
