"""Translation: a text in one language, written in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import formulations
from workbench.data import redaction
from workbench.data.text_pairs import Translations
from workbench.formulations import Example, Formulation
from workbench.space import check, is_whole
from workbench.tasks import request
from workbench.tasks.tables import TableTask
from workbench.tasks.text_scores import signature, translation_scores

TOKENIZERS = {"zh": "zh", "chinese": "zh", "ja": "char", "japanese": "char", "ko": "char", "korean": "char"}
"""sacreBLEU's tokeniser for BLEU, by language; `13a` for all others. Japanese and Korean go by characters: their own tokenisers
need dictionaries, and a score must not depend on what is installed.
"""


@dataclass(frozen=True, kw_only=True)
class Translation(TableTask):
    """Translate texts; made by `translation`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf")
    bounds: ClassVar[tuple[str, ...]] = ("max_new_tokens",)
    inputs: ClassVar[tuple[str, ...]] = ("source",)

    source: str | None
    target: str | None
    languages: tuple[str, str]
    group: str | None
    max_new_tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "max_new_tokens", lambda value: is_whole(value) and value >= 1, "a whole number of at least 1")

    @property
    def form(self) -> Translations:
        return Translations(self.source, self.target, self.group, redact=self.finders)

    @property
    def _tokenizer(self) -> str:
        return TOKENIZERS.get(self.languages[1].lower(), "13a")

    def notes(self) -> list[str]:
        return [*super().notes(), f"Scores are sacreBLEU's: {signature(self._tokenizer)}."]

    def formulation(self, kind: str) -> Formulation:
        return formulations.text_generation(kind, self, self._prompt, _answer, max_new_tokens=self.max_new_tokens)

    def _prompt(self, example: Example) -> str:
        return f"Translate from {self.languages[0]} to {self.languages[1]}.\n\n{example['source']}"

    def asked(self) -> Mapping[str, str]:
        return {"source": request.TEXT}

    def example(self, row: Mapping[str, Any]) -> Example:
        return {**row, "target": ""}

    def score(self, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
        return translation_scores(predictions, [_answer(example) for example in examples], self._tokenizer)


def _answer(example: Example) -> str:
    return str(example["target"])


def translation(
    data: str,
    *,
    languages: tuple[str, str],
    train: int,
    dev: int = 256,
    test: int = 1024,
    source: str | None = None,
    target: str | None = None,
    group: str | None = None,
    max_new_tokens: int = 128,
    seed: int = 0,
    name: str | None = None,
    redact: str | Sequence[str] | None = None,
) -> Translation:
    """Translation, scored by sacreBLEU's BLEU and chrF (0 to 100); `plan` and `sweep` tell their
    signatures.

    Args:
        data: A file (CSV, TSV, JSON, JSON lines, parquet, Arrow), a folder of them, or a name on
            the hub. Its columns are `source` and `target`, or `translation` with a text for each
            language.
        languages: Source and target language, as a model is told them: `("English", "German")`.
        train: Labelled examples to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most examples that grade each checkpoint; the data may have fewer.
        test: The most examples held out to the end.
        source: Column of the texts, where it is called otherwise; of a column `translation` the
            name of their language.
        target: The same of their translations.
        group: Column of groups, such as domains: the scores of the worst group are recorded too.
        max_new_tokens: Tokens of a translation at most, its end token included.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return Translation(
        data=data, languages=languages, train=train, dev=dev, test=test, source=source, target=target, group=group,
        max_new_tokens=max_new_tokens, seed=seed, name=name, redact=redaction.checked(redact),
    )  # fmt: skip
