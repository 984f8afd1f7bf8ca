"""A method as a value in a study file: its kind, its learning rate and its settings."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import EnvironmentFault, UsageError, did_you_mean
from workbench.space import Space, check, is_number, is_whole

ASKING = ("zero_shot", "few_shot")
"""Methods that train nothing."""
FITTED = ("knn", "logistic", "setfit")
"""Methods whose head is fitted at once, on embeddings."""
OURS = ("full", "head", "bitfit", *ASKING, *FITTED)
"""Methods without PEFT."""


@dataclass(frozen=True)
class Method:
    """How a model is tuned, or asked. Made by `full`, `head`, `bitfit`, `peft`, `setfit`, `logistic`, `knn`, `zero_shot`, ….

    Attributes:
        name: What it is called in tables and in the paths of its settings (`lora.r`).
        kind: `full`, `head`, `bitfit`, `knn`, `logistic`, `setfit`, `zero_shot`, `few_shot`, or PEFT's name of the method in lower
            case.
        learning_rate: Peak learning rate of AdamW for all parameters that learn; > 0. None: nothing learns.
        settings: Arguments of PEFT's configuration of the method; the number of `shots`, `neighbours`, `C`; empty for the others.
        models: Names of the models that a study has it for; empty: all. It says nothing of what a recipe makes.
        head_learning_rate: That of the task's head, which is new and learns best at a higher one; > 0. None: as the rest.
    """

    name: str
    kind: str
    learning_rate: float | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = field(default=(), compare=False, metadata={"later": True})
    head_learning_rate: float | None = field(default=None, metadata={"later": True})

    def __post_init__(self) -> None:
        check(self, "name", lambda v: isinstance(v, str) and v != "", "a name")
        if isinstance(self.models, str) or not all(isinstance(each, str) for each in self.models):
            raise UsageError(f"models must be a tuple of models' names, got {self.models!r}.")
        if self.trains:
            check(self, "learning_rate", lambda v: is_number(v) and v > 0, "a number above 0")
            check(self, "head_learning_rate", lambda v: v is None or (is_number(v) and v > 0), "a number above 0, or None")

    @property
    def trains(self) -> bool:
        """Whether anything learns step by step."""
        return self.kind not in (*ASKING, "knn", "logistic")

    @property
    def fits(self) -> bool:
        """Whether the head is fitted at once on labelled examples, whatever is learned step by step before."""
        return self.kind in FITTED

    @property
    def labelled(self) -> bool:
        """Whether it is made of the task's labelled examples, all that there are."""
        return self.trains or self.fits

    @property
    def changes_weights(self) -> bool:
        """Whether weights of the model itself learn, not just a head or what is put beside them."""
        return self.kind in ("full", "bitfit", "setfit")

    @property
    def shots(self) -> int:
        """Labelled examples that stand before each question: of a hole the most."""
        found: Any = self.settings["shots"] if self.kind == "few_shot" else 0
        return int(max(found.ends) if isinstance(found, Space) else found)


def full(
    *, learning_rate: float, head_learning_rate: float | None = None, name: str = "full", models: Sequence[str] = ()
) -> Method:
    """All parameters learn.

    Args:
        learning_rate: As `Method.learning_rate`.
        head_learning_rate: As `Method.head_learning_rate`.
        name: What it is called in tables and paths.
        models: Where a study has this or any other method for some of its models alone: their names.
    """
    return Method(name, "full", learning_rate, models=names_of(models), head_learning_rate=head_learning_rate)


def head(*, learning_rate: float, name: str = "head", models: Sequence[str] = ()) -> Method:
    """Only the task's head learns; the pre-trained model is left as it is."""
    return Method(name, "head", learning_rate, models=names_of(models))


def bitfit(
    *, learning_rate: float, head_learning_rate: float | None = None, name: str = "bitfit", models: Sequence[str] = ()
) -> Method:
    """The biases and the task's head learn (Ben Zaken et al. 2022, arXiv:2106.10199). Arguments as `full` has."""
    return Method(name, "bitfit", learning_rate, models=names_of(models), head_learning_rate=head_learning_rate)


def zero_shot(*, name: str = "zero_shot", models: Sequence[str] = ()) -> Method:
    """The model is graded as it is: a language model asked without an example, an encoder with a head that nobody trained.

    It has no use for labels, epochs, batch size, seed and all else that is about training: recipes that differ in those are one.
    """
    return Method(name, "zero_shot", None, models=names_of(models))


def few_shot(*, shots: int, name: str = "few_shot", models: Sequence[str] = ()) -> Method:
    """A language model asked with a few labelled examples before each question: the first of the training examples.

    Args:
        shots: How many, at least 1. They are labels bought.
        name: What it is called in tables and paths.
        models: As `Method.models`.
    """
    made = Method(name, "few_shot", None, {"shots": shots}, names_of(models))
    for each in shots.ends if isinstance(shots, Space) else (shots,):
        if not is_whole(each) or each < 1:
            raise UsageError(f"shots must be a whole number, at least 1; got {each!r}.")
    return made


def peft(
    method: str,
    *,
    learning_rate: float,
    head_learning_rate: float | None = None,
    name: str | None = None,
    models: Sequence[str] = (),
    **settings: Any,
) -> Method:
    """A method of the installed PEFT by PEFT's own name, in any case, with its configuration's own arguments.

    PEFT chooses the modules to adapt by the model's type where it knows it; name them with `target_modules=` elsewhere.
    The task's head always learns too. The loop is the same for all methods: AdaLoRA trains without the re-allocation of its ranks,
    which needs a schedule with an end.

    Raises:
        UsageError: PEFT has no method of that name.
    """
    kind = method.lower()
    if kind not in peft_methods():
        raise UsageError(f"PEFT has no method {method!r}.{did_you_mean(kind, peft_methods())}")
    return Method(name or kind, kind, learning_rate, settings, names_of(models), head_learning_rate)


def names_of(models: Any) -> Any:
    """Names of models as a method holds them."""
    return tuple(models) if isinstance(models, (list, tuple)) else models  # anything else is refused by the method


@functools.lru_cache
def peft_methods() -> tuple[str, ...]:
    """Names of the methods of the installed PEFT, in lower case. Read from its source: importing it takes seconds."""
    package = importlib.util.find_spec("peft")
    if package is None or not package.submodule_search_locations:
        raise EnvironmentFault("the package peft is not installed. Install workbench with its dependencies again.")
    source = Path(package.submodule_search_locations[0], "utils", "peft_types.py").read_text(encoding="utf-8")
    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "PeftType")
    return tuple(
        node.targets[0].id.lower() for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    )
