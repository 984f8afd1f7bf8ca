"""Further pre-training as a value in a study file: a model goes on learning a language by itself before it is tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workbench.data import fingerprints, models, redaction, scratch
from workbench.errors import UsageError
from workbench.methods import Method, full
from workbench.space import check, ends, is_number, is_whole
from workbench.tasks.language_modelling import LanguageModelling, language_modelling

KINDS = {"masked": "encoder", "causal": "decoder"}
"""The kind of model that learns in each way."""

DEV_TEXTS = 64
"""Texts that grade it on the way: few, since nothing is chosen by them."""


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Learning a language from a corpus of plain texts; made by `masked_lm` and `causal_lm`, which explain the fields.

    Attributes:
        kind: `masked` (tokens that are hidden are told) or `causal` (token after token).
    """

    name: str
    kind: str
    corpus: str
    steps: int
    learning_rate: float
    batch_size: int
    max_length: int
    text: str | None
    mask_probability: float
    from_scratch: bool
    layers: int | None
    hidden_size: int | None
    seed: int
    redact: tuple[str, ...] | None = field(default=None, metadata={"later": True})

    def __post_init__(self) -> None:
        check(self, "name", lambda v: isinstance(v, str) and v != "", "a name")
        check(self, "corpus", lambda v: isinstance(v, str) and v != "", "the name of a data set, or the path of a file or folder")
        check(self, "learning_rate", lambda v: is_number(v) and v > 0, "a number above 0")
        for name, low in {"steps": 1, "batch_size": 1, "seed": 0}.items():
            check(self, name, lambda v, low=low: is_whole(v) and v >= low, f"a whole number, at least {low}")  # type: ignore[misc]
        check(self, "from_scratch", lambda v: isinstance(v, bool), "True or False")
        for name in ("layers", "hidden_size"):
            check(self, name, lambda v: v is None or (is_whole(v) and v >= 1), "a whole number, at least 1, or None")
            if self.from_scratch is False and any(v is not None for v in ends(getattr(self, name))):
                raise UsageError(f"{name} is for a model that is drawn: give from_scratch=True as well, or leave it out.")
        self.task  # noqa: B018  it checks its own settings

    @property
    def task(self) -> LanguageModelling:
        """The texts as a task, with one to learn from."""
        return language_modelling(
            self.corpus, train=1, dev=DEV_TEXTS, test=0, text=self.text, max_length=self.max_length,
            mask_probability=self.mask_probability, seed=self.seed, name=self.name,
            redact=self.redact,
        )  # fmt: skip

    @property
    def method(self) -> Method:
        """All of the model learns."""
        return full(learning_rate=self.learning_rate, name=self.name)

    def task_of(self, steps: int) -> LanguageModelling:
        """The task with as many texts as are read in so many steps, or all. Raises as `Task.splits`."""
        known = len(fingerprints.dataset(self.corpus, self.task.form).train)
        return replace(self.task, train=max(1, min(known, steps * self.batch_size)))

    def architecture(self, model: str) -> str:
        """The name of the model that learns, by the name of that which it is like."""
        return scratch.name(model, self.layers, self.hidden_size, self.seed) if self.from_scratch else model

    def check_kind(self, model: str) -> None:
        """Raise UsageError where a model does not learn in this way."""
        found = models.kind(model)
        if found != KINDS[self.kind]:
            others = {KINDS[kind]: f"{kind}_lm" for kind in KINDS}
            advice = f"Take {others[found]}." if found in others else "Take a model of that kind."
            raise UsageError(
                f"{self.kind}_lm is for models of kind {KINDS[self.kind]!r}, and {model!r} is of kind {found!r}. {advice}"
            )


def masked_lm(
    corpus: str,
    *,
    steps: int,
    learning_rate: float = 1e-4,
    batch_size: int = 16,
    max_length: int = 128,
    text: str | None = None,
    mask_probability: float = 0.15,
    from_scratch: bool = False,
    layers: int | None = None,
    hidden_size: int | None = None,
    seed: int = 0,
    name: str = "masked_lm",
    redact: str | Sequence[str] | None = None,
) -> Pretraining:
    """An encoder goes on learning a language from plain texts, by tokens that are hidden from it (Gururangan et al. 2020,
    arXiv:2004.10964). It takes no labels.

    It is done once for each of its settings and shared by all runs that start from it: each point's cost holds it in full, and
    what a sweep spends has it once.

    Args:
        corpus: Texts, as `language_modelling` takes them: a text file, a table with a column of texts, a folder of either, a name
            on the hub; or `"pydocs"`, the docstrings of installed scientific packages.
        steps: Optimiser steps.
        learning_rate: Peak learning rate of AdamW, > 0.
        batch_size: Texts per optimiser step.
        max_length: Tokens of a row, special tokens included.
        text: Column of the texts; None: by its usual name.
        mask_probability: Share of the tokens that are to be told, 0 to 1.
        from_scratch: Whether the weights are drawn rather than those of the model, of which only architecture and tokeniser
            are taken.
        layers: Layers of the model that is drawn; None: as many as the model has.
        hidden_size: Width of its layers, a multiple of the width of the model's heads; None: the model's.
        seed: Orders the texts, and draws what is hidden and a new model.
        name: What it is called in tables and in the paths of its settings (`masked_lm.steps`).
        redact: What is replaced by placeholders as the texts are read, as of a task: all that the recipe's task redacts, at
            least. None: nothing.

    Raises:
        UsageError: A setting is out of its range.
    """
    return Pretraining(
        name=name, kind="masked", corpus=corpus, steps=steps, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, text=text, mask_probability=mask_probability, from_scratch=from_scratch, layers=layers,
        hidden_size=hidden_size, seed=seed, redact=redaction.checked(redact),
    )  # fmt: skip


def causal_lm(
    corpus: str,
    *,
    steps: int,
    learning_rate: float = 1e-4,
    batch_size: int = 16,
    max_length: int = 128,
    text: str | None = None,
    from_scratch: bool = False,
    layers: int | None = None,
    hidden_size: int | None = None,
    seed: int = 0,
    name: str = "causal_lm",
    redact: str | Sequence[str] | None = None,
) -> Pretraining:
    """A decoder goes on learning a language from plain texts, token after token. Arguments are those of `masked_lm`."""
    return Pretraining(
        name=name, kind="causal", corpus=corpus, steps=steps, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, text=text, mask_probability=0.15, from_scratch=from_scratch, layers=layers,
        hidden_size=hidden_size, seed=seed, redact=redaction.checked(redact),
    )  # fmt: skip
