"""A method as a value in a study file: its kind, its learning rate and its settings."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.errors import EnvironmentFault, UsageError, did_you_mean
from workbench.formulations import GREEDY, READINGS
from workbench.methods.config_fields import peft_folder, settings_of
from workbench.space import Space, check, ends, is_number, is_whole

ASKING = ("zero_shot", "few_shot")
"""Methods that train nothing."""
COUNTED = ("popularity", "item_item")
"""Methods that count who had what, and read no text."""
FITTED = ("knn", "logistic", "setfit", *COUNTED)
"""Methods whose head is fitted at once: on embeddings, or on counts."""
OURS = ("full", "head", "bitfit", "adapter", *ASKING, *FITTED)
"""Methods without PEFT."""


@dataclass(frozen=True)
class Method:
    """How a model is tuned, or asked. Made by `full`, `head`, `bitfit`, `adapter`, `peft`,
    `setfit`, `zero_shot`, ….

    Attributes:
        name: What it is called in tables and in the paths of its settings (`lora.r`).
        kind: `full`, `head`, `bitfit`, `adapter`, `knn`, `logistic`, `setfit`, `popularity`,
            `item_item`, `zero_shot`, `few_shot`, or PEFT's name of the method in lower case.
        learning_rate: Peak learning rate of AdamW for all parameters that learn, > 0. None: nothing
            learns.
        settings: Arguments of PEFT's configuration of the method, or of the function that made it.
        models: Names of the models of a study that it is for; empty: all. It does not change what a
            recipe makes.
        head_learning_rate: Peak learning rate of the task's head, > 0; being new, a head learns
            best at a higher one. None: as the rest.
        read: How a language model's choice among a few answers is read. `greedy` writes the answer
            token by token. `likelihood` takes the answer with the highest sum of log-likelihoods,
            `likelihood_per_byte` the one whose sum per byte of its text is highest.
            `mutual_information` takes the answer that the question raises most above what the model
            says without one; it is best for asking where the names of classes are not alike. With
            likelihoods the model's confidence, and so the calibration error, is known.
    """

    name: str
    kind: str
    learning_rate: float | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    # `later`: a field that was added afterwards stays out of a recipe's record while it has its
    # default, so that older recipes keep their ids.
    models: tuple[str, ...] = field(default=(), compare=False, metadata={"later": True})
    head_learning_rate: float | None = field(default=None, metadata={"later": True})
    read: str = field(default=GREEDY, metadata={"later": True})

    def __post_init__(self) -> None:
        check(self, "name", lambda v: isinstance(v, str) and v != "", "a name")
        if isinstance(self.models, str) or not all(isinstance(each, str) for each in self.models):
            raise UsageError(f"models must be a tuple of models' names, got {self.models!r}.")
        check(self, "read", lambda v: v in READINGS, f"one of {', '.join(map(repr, READINGS))}")
        if self.trains:
            check(self, "learning_rate", lambda v: is_number(v) and v > 0, "a number above 0")
            check(self, "head_learning_rate", lambda v: v is None or (is_number(v) and v > 0), "a number above 0, or None")

    @property
    def trains(self) -> bool:
        """Whether anything learns step by step."""
        return self.kind not in (*ASKING, "knn", "logistic", *COUNTED)

    @property
    def fits(self) -> bool:
        """Whether the head is fitted at once on labelled examples, even if something is learned
        step by step before.
        """
        return self.kind in FITTED

    @property
    def labelled(self) -> bool:
        """Whether it uses all labelled examples that the task asks for."""
        return self.trains or self.fits

    @property
    def changes_weights(self) -> bool:
        """Whether weights of the model itself learn, not just a head or what is put beside them."""
        return self.kind in ("full", "bitfit", "setfit")

    @property
    def spares_first_layers(self) -> bool:
        """Whether its settings say that the first layers of a model stay as they are."""
        if self.kind in OURS:
            return self.kind == "full" and self.settings.get("trainable_layers") is not None
        chosen = self.settings.get("layers_to_transform")
        numbers: list[Any] = list(chosen) if isinstance(chosen, (list, tuple)) else [chosen]
        return bool(numbers) and all(is_whole(each) and each > 0 for each in numbers)

    @property
    def shots(self) -> int:
        """Labelled examples that stand before each question: of a hole the most."""
        found: Any = self.settings["shots"] if self.kind == "few_shot" else 0
        return int(max(found.ends) if isinstance(found, Space) else found)

    @property
    def choose(self) -> str:
        """How the examples before a question are chosen: `first` or `nearest`."""
        return str(self.settings.get("choose", "first")) if self.kind == "few_shot" else "first"

    @property
    def asking(self) -> tuple[int, str, str]:
        """All that decides how a model is asked: the examples before a question, and how an answer
        is read.
        """
        return self.shots, self.choose, self.read

    @property
    def bought(self) -> int | None:
        """How many of a task's labelled examples it buys; None: all that the task asks for."""
        return None if self.labelled or self.choose == "nearest" else self.shots


def full(
    *,
    learning_rate: float,
    head_learning_rate: float | None = None,
    trainable_layers: int | None = None,
    name: str = "full",
    models: Sequence[str] = (),
    read: str = GREEDY,
) -> Method:
    """All parameters learn, or those of the last layers alone.

    Args:
        learning_rate: As `Method.learning_rate`.
        head_learning_rate: As `Method.head_learning_rate`.
        trainable_layers: How many layers learn, counted from the last one, at least 1. With them
            learns all that stands behind them: a final norm, a pooler, the task's head. Embeddings,
            and the matrix by which a language model writes tokens, stay as they are. In an
            encoder-decoder the decoder's layers count as the last; only beyond them come the
            encoder's. Nothing is dropped out in the layers that stay as they are. None: everything
            learns.
        name: What it is called in tables and paths.
        models: The models of the study that it is for; empty: all. Any method takes them.
        read: As `Method.read`. Any method takes it.

    Raises:
        UsageError: `trainable_layers` is no whole number of at least 1. Whether the model has so
            many layers is known only when the method is applied.
    """
    settings = {} if trainable_layers is None else {"trainable_layers": count_of("trainable_layers", trainable_layers)}
    return Method(name, "full", learning_rate, settings, names_of(models), head_learning_rate=head_learning_rate, read=read)


def head(*, learning_rate: float, name: str = "head", models: Sequence[str] = (), read: str = GREEDY) -> Method:
    """Only the task's head learns; the pre-trained model is left as it is."""
    return Method(name, "head", learning_rate, models=names_of(models), read=read)


def bitfit(
    *,
    learning_rate: float,
    head_learning_rate: float | None = None,
    name: str = "bitfit",
    models: Sequence[str] = (),
    read: str = GREEDY,
) -> Method:
    """The biases and the task's head learn (Ben Zaken et al. 2022, arXiv:2106.10199). Arguments are
    those of `full`.
    """
    return Method(name, "bitfit", learning_rate, models=names_of(models), head_learning_rate=head_learning_rate, read=read)


def adapter(
    *,
    learning_rate: float,
    head_learning_rate: float | None = None,
    bottleneck: int = 64,
    name: str = "adapter",
    models: Sequence[str] = (),
    read: str = GREEDY,
) -> Method:
    """Small modules in every layer, the model's norms and the task's head learn (Houlsby et al.
    2019, arXiv:1902.00751).

    A module stands behind each attention and behind the feed-forward part of a layer. It adds 2 x
    width x bottleneck weights there, and begins near the identity. Unlike LoRA's, it cannot be
    merged into the model: it is part of every pass.

    Args:
        learning_rate: As `Method.learning_rate`; 1e-4 to 3e-3 are usual.
        head_learning_rate: As `Method.head_learning_rate`.
        bottleneck: Numbers between a module's two matrices, at least 1.
        name: What it is called in tables and paths.
        models: As `Method.models`.
        read: As `Method.read`.

    Raises:
        UsageError: `bottleneck` is no whole number of at least 1. Whether a model's layers have a
            place for the modules is known only when the method is applied.
    """
    return Method(
        name,
        "adapter",
        learning_rate,
        {"bottleneck": count_of("bottleneck", bottleneck)},
        names_of(models),
        head_learning_rate=head_learning_rate,
        read=read,
    )


def zero_shot(*, name: str = "zero_shot", models: Sequence[str] = (), read: str = GREEDY) -> Method:
    """The model is graded as it is: a language model is asked without an example, an encoder has a
    head that nobody trained.

    Labels, epochs, batch size, seed and all else about training make no difference: recipes that
    differ only in those are one.
    """
    return Method(name, "zero_shot", None, models=names_of(models), read=read)


def few_shot(
    *,
    shots: int,
    choose: Literal["first", "nearest"] = "first",
    name: str = "few_shot",
    models: Sequence[str] = (),
    read: str = GREEDY,
) -> Method:
    """A language model is asked with a few labelled examples before each question.

    Args:
        shots: How many examples, at least 1.
        choose: Which of the task's training examples. `first`: the same before every question, so
            that only their labels are bought. `nearest`: those whose text is likest to the
            question's (Liu et al. 2022, arXiv:2101.06804), by TF-IDF of the characters of words,
            the likest standing last; then all `train` labels of the task are bought.
        name: What it is called in tables and paths.
        models: As `Method.models`.
        read: As `Method.read`.

    Raises:
        UsageError: `shots` is no whole number of at least 1, or `choose` is neither of the two.
    """
    # No hole either, as the labels that a recipe buys depend on it.
    if choose not in ("first", "nearest"):
        raise UsageError(f"choose must be 'first' or 'nearest'; got {choose!r}. To compare both, give two methods of two names.")
    how = {} if choose == "first" else {"choose": choose}
    return Method(name, "few_shot", None, {"shots": count_of("shots", shots), **how}, names_of(models), read=read)


def peft(
    method: str,
    *,
    learning_rate: float,
    head_learning_rate: float | None = None,
    name: str | None = None,
    models: Sequence[str] = (),
    read: str = GREEDY,
    **settings: Any,
) -> Method:
    """A method of the installed PEFT, with the arguments of PEFT's configuration.

    PEFT chooses the modules to adapt by the model's type where it knows that; elsewhere name them
    with `target_modules=`. The task's head always learns as well. The loop is the same for all
    methods, so AdaLoRA trains without re-allocating its ranks, which would need a schedule with an
    end.

    Args:
        method: PEFT's name of the method, in any case.
        learning_rate: As `Method.learning_rate`.
        head_learning_rate: As `Method.head_learning_rate`.
        name: What it is called in tables and paths; None: PEFT's name.
        models: As `Method.models`.
        read: As `Method.read`.
        **settings: Arguments of PEFT's configuration of the method.

    Raises:
        UsageError: PEFT has no method of that name, or the method has no such setting.
    """
    kind = method.lower()
    if kind not in peft_methods():
        raise UsageError(f"PEFT has no method {method!r}.{did_you_mean(kind, peft_methods())}")
    known = settings_of(kind)
    if known is not None and (unknown := next((each for each in settings if each not in known), None)):
        raise UsageError(f"PEFT's {method!r} has no setting {unknown!r}.{did_you_mean(unknown, known)}")
    return Method(name or kind, kind, learning_rate, settings, names_of(models), head_learning_rate, read)


def count_of(name: str, value: Any) -> Any:
    """A setting that counts something, or its hole, as it was given.

    Raises:
        UsageError: Some value that it may have is no whole number of at least 1.
    """
    for each in ends(value):
        if not is_whole(each) or each < 1:
            raise UsageError(f"{name} must be a whole number, at least 1; got {each!r}.")
    return value


def names_of(models: Any) -> Any:
    """Names of models as a method holds them; anything that is no list is left for `Method` to
    refuse.
    """
    return tuple(models) if isinstance(models, (list, tuple)) else models


@functools.lru_cache
def peft_methods() -> tuple[str, ...]:
    """Names of the installed PEFT's methods, in lower case. They are read from its source, as
    importing it takes seconds.
    """
    if (root := peft_folder()) is None:
        raise EnvironmentFault("the package peft is not installed. Install workbench with its dependencies again.")
    # By its syntax tree, as the names are members of an enumeration that only PEFT's import would
    # make.
    source = (root / "utils" / "peft_types.py").read_text(encoding="utf-8")
    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "PeftType")
    return tuple(
        node.targets[0].id.lower() for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    )
