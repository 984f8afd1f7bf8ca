"""Language modelling: how well a model knows the language of some texts, and learns it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench import formulations
from workbench.data import redaction
from workbench.data.texts import Texts
from workbench.formulations import Example, Formulation, Likelihood
from workbench.space import check, is_number, is_whole
from workbench.tasks import request
from workbench.tasks.tables import TableTask


@dataclass(frozen=True, kw_only=True)
class LanguageModelling(TableTask):
    """Tell what stands in texts; made by `language_modelling`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = ("byte_probability", "accuracy")
    lower_is_better: ClassVar[tuple[str, ...]] = ("perplexity", "byte_perplexity", "bits_per_byte", "word_perplexity")
    inputs: ClassVar[tuple[str, ...]] = ("text",)

    text: str | None
    group: str | None
    max_length: int
    mask_probability: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "max_length", lambda value: is_whole(value) and value >= 8, "a whole number of at least 8")
        check(self, "mask_probability", lambda value: is_number(value) and 0 < value < 1, "a number between 0 and 1")

    @property
    def form(self) -> Texts:
        return Texts(self.text, self.group, redact=self.finders)

    def formulation(self, kind: str) -> Formulation:
        return formulations.language_modelling(
            kind, self, _text, max_length=self.max_length, mask_probability=self.mask_probability, seed=self.seed
        )

    def asked(self) -> Mapping[str, str]:
        return {"text": request.TEXT}

    def score(self, examples: Sequence[Example], predictions: Sequence[Likelihood]) -> dict[str, float]:
        # Summed before it is divided, as the lm-evaluation-harness does: texts weigh by their
        # length.
        whole = Likelihood(*map(sum, zip(*predictions, strict=True)))
        per = {"perplexity": whole.tokens, "byte_perplexity": whole.bytes, "word_perplexity": whole.words}
        # A model that goes to pieces passes what `math.exp` can hold (709.8): unknown.
        nats = {name: -whole.log_likelihood / count for name, count in per.items() if count}
        found = {name: math.exp(value) for name, value in nats.items() if value < 700}
        found |= {"accuracy": 100 * whole.right / whole.tokens} if whole.tokens else {}
        if whole.bytes:
            bits = nats["byte_perplexity"] / math.log(2)
            found |= {"bits_per_byte": bits, "byte_probability": 100 * 2**-bits}
        return found


def _text(example: Example) -> str:
    return str(example["text"])


def language_modelling(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    text: str | None = None,
    group: str | None = None,
    max_length: int = 256,
    mask_probability: float = 0.15,
    seed: int = 0,
    name: str | None = None,
    redact: str | Sequence[str] | None = None,
) -> LanguageModelling:
    """Likelihoods of texts, by a decoder token after token, by an encoder of tokens that are
    hidden.

    Maximise `byte_probability`: what a model gives a byte of text, the geometric mean in per cent
    (100 for certainty). It is 100 divided by `byte_perplexity`, so that the best by the one is the
    best by the other, and tokenisers that cut texts differently are compared fairly. `accuracy`:
    the share of tokens that it finds the likeliest. Recorded beside them, lower being better:
    `perplexity` of a token, `byte_perplexity`, `word_perplexity` and `bits_per_byte`, as the
    lm-evaluation-harness names and reckons them. An encoder's are of the hidden tokens, of which it
    sees both sides: compare them with those of encoders alone.

    Args:
        data: A text file (`.txt`, `.md`: texts parted by empty lines, or a line each), a table with
            a column of texts (CSV, TSV, JSON, JSON lines, parquet, Arrow), a folder of either, or a
            name on the hub.
        train: Texts to learn from. A smaller number takes a prefix of what a larger one takes. They
            count as labels; where nobody had to write them, leave their price at 0.
        dev: The most texts that grade each checkpoint; the data may have fewer.
        test: The most texts held out to the end.
        text: Column of the texts; None: the one called `text`, `content`, `body` or `document`.
        group: Column of groups, such as languages: the scores of the worst group are recorded too.
        max_length: Tokens of a row, special tokens included. A longer text is cut into several
            rows, and none of it is lost.
        mask_probability: Share of the tokens that an encoder has to predict; they are drawn once,
            by text and seed.
        seed: Orders the training examples, and draws what is hidden. Dev and test are the same for
            every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return LanguageModelling(
        data=data, train=train, dev=dev, test=test, text=text, group=group, max_length=max_length,
        mask_probability=mask_probability, seed=seed, name=name, redact=redaction.checked(redact),
    )  # fmt: skip
