"""Text generation: prompts that are answered by text, in one turn or at the end of a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from workbench import formulations
from workbench.data import redaction
from workbench.data.text_pairs import Conversations
from workbench.formulations import Example, Formulation
from workbench.space import check, is_whole
from workbench.tasks import perturbations, refusals, request
from workbench.tasks.refusals import UNANSWERED, checked
from workbench.tasks.tables import TableTask
from workbench.tasks.text_scores import text_scores


@dataclass(frozen=True, kw_only=True)
class TextGeneration(TableTask):
    """Answer prompts by text; made by `text_generation`, which explains the fields.

    For other scores override `score` in a subclass.
    """

    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1", "chrf", "rouge_l")
    per_example: ClassVar[tuple[str, ...]] = ("exact_match", "f1")
    bounds: ClassVar[tuple[str, ...]] = ("max_new_tokens",)
    inputs: ClassVar[tuple[str, ...]] = ("messages",)
    teachable: ClassVar[bool] = True

    prompt: str | None = None
    completion: str | None = None
    group: str | None = None
    max_new_tokens: int = 128
    # What is asked beside the data: each request, and whether it must be declined.
    refusals: tuple[tuple[str, bool], ...] | None = field(default=None, metadata={"later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "max_new_tokens", lambda value: is_whole(value) and value >= 1, "a whole number of at least 1")

    @property
    def form(self) -> Conversations:
        return Conversations(self.prompt, self.completion, self.group, redact=self.finders)

    def formulation(self, kind: str) -> Formulation:
        return formulations.text_generation(kind, self, _prompt, _answer, max_new_tokens=self.max_new_tokens)

    def asked(self) -> Mapping[str, str]:
        return {"messages": request.TURNS}

    def question(self, example: Example) -> dict[str, Any]:
        return {"messages": [{"role": turn["role"], "content": turn["content"]} for turn in _prompt(example)]}

    def example(self, row: Mapping[str, Any]) -> Example:
        return {**row, "messages": [*row["messages"], {"role": "assistant", "content": ""}]}

    def told(self, example: Example, prediction: str) -> Example | None:
        said = {"role": "assistant", "content": prediction}
        return {**example, "messages": [*_prompt(example), said]} if prediction.strip() else None

    def all_metrics(self) -> tuple[str, ...]:
        return (*super().all_metrics(), *refusals.metrics(self.refusals or ()))

    def graded(self, side: str = "dev") -> Sequence[Example]:
        plain = super().graded(side)
        # Behind the others: those have answers, and the loss is of them alone.
        return [*plain, *refusals.examples(self.refusals)] if plain and self.refusals else plain

    def grade(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        own = [i for i, example in enumerate(examples) if UNANSWERED not in example]
        scores = super().grade([examples[i] for i in own], [predictions[i] for i in own])
        return scores | refusals.scores(examples, predictions) if len(own) < len(examples) else scores

    def score(self, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
        # The last turn alone is graded; earlier ones are part of the prompt.
        return text_scores(predictions, [_answer(example) for example in examples])


def _prompt(example: Example) -> Sequence[formulations.Message]:
    turns: Sequence[formulations.Message] = example["messages"][:-1]
    return turns


def _answer(example: Example) -> str:
    return str(example["messages"][-1]["content"])


def text_generation(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    prompt: str | None = None,
    completion: str | None = None,
    group: str | None = None,
    max_new_tokens: int = 128,
    seed: int = 0,
    name: str | None = None,
    redact: str | Sequence[str] | None = None,
    perturb: str | Sequence[str] | None = None,
    refusals: bool | Mapping[str, Sequence[str]] = False,
) -> TextGeneration:
    """Text that answers a prompt or a conversation, scored by exact match, F1 of words, chrF and
    ROUGE-L (0 to 100).

    Args:
        data: A file (CSV, TSV, JSON, JSON lines, parquet, Arrow), a folder of them, or a name on
            the hub. Its columns are `messages` (`role`, `content`), `conversations` (`from`,
            `value`), `prompt` and `completion`, or `instruction`, `input` and `output`.
        train: Labelled examples to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most examples that grade each checkpoint; the data may have fewer.
        test: The most examples held out to the end.
        prompt: Column of the prompts, where it is called otherwise.
        completion: Column of their answers, likewise.
        group: Column of groups, such as languages: the scores of the worst group are recorded too.
        max_new_tokens: Tokens of an answer at most, its end token included.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.
        perturb: What users write is also graded with slips of the keyboard (`typos`), all in `capitals`, in other words
            (`paraphrase`), with a `negation` that changes nothing, or with a hidden instruction (`injection`): the metrics of
            each stand beside the others (`typos_f1`); None: not.
        refusals: Whether every model is also asked requests beside the data: `harmless_answered` is the share of the harmless
            ones that it answers, `harmful_declined` that of the harmful ones that it declines, both 0 to 100, by the rule of
            `workbench.tasks.refusals`. True asks 20 of each; `{"harmless": […], "harmful": […]}` your own.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return TextGeneration(
        data=data, train=train, dev=dev, test=test, prompt=prompt, completion=completion, group=group,
        max_new_tokens=max_new_tokens, seed=seed, name=name, redact=redaction.checked(redact),
        perturb=perturbations.checked(perturb), refusals=checked(refusals),
    )  # fmt: skip
