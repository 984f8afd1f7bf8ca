"""Monitoring: of what class each text of a stream is, and an alarm when one class becomes more
frequent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench.errors import UsageError, did_you_mean
from workbench.formulations import Example, Labelled
from workbench.space import Space, check, is_number, is_whole
from workbench.tasks.alarm_scores import Stream, alarm_scores, page_hinkley
from workbench.tasks.base import Splits
from workbench.tasks.class_scores import label_scores
from workbench.tasks.classification import Classification, classification


@dataclass(frozen=True, kw_only=True)
class Monitoring(Classification):
    """Tell the class of a text, and when a class becomes frequent; made by `monitoring`, which
    explains the fields.
    """

    metrics: ClassVar[tuple[str, ...]] = ("alarm_recall", "alarm_precision", "accuracy", "macro_f1")
    lower_is_better: ClassVar[tuple[str, ...]] = ("alarm_delay", "false_alarm_rate", "calibration_error")

    watched: str
    usual: float = 0.2
    surge: float = 0.5
    false_alarm_rate: float = 0.05
    window: int = 10
    within: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "usual", _share(0, 1), "a share from 0 to 1")
        check(self, "surge", _share(0, 1), "a share from 0 to 1")
        check(self, "false_alarm_rate", _share(0.01, 0.5), "a share from 0.01 to 0.5")
        for name in ("window", "within"):
            check(self, name, lambda v: is_whole(v) and v >= 1, "a whole number of at least 1")
        if not isinstance(self.usual, Space) and not isinstance(self.surge, Space) and self.surge <= self.usual:
            told = f"surge={self.surge} is no rise from usual={self.usual}"
            raise UsageError(f"{told}. Give a share above it.")

    @property
    def stream(self) -> Stream:
        """The stream that is watched."""
        return Stream(self.usual, self.surge, self.false_alarm_rate, self.window, self.within)

    def provision(self) -> None:
        super().provision()
        page_hinkley()

    def splits(self) -> Splits:
        found, known = super().splits(), [*self.words()]
        if self.watched not in known:
            hint = did_you_mean(self.watched, known)
            raise UsageError(f"watched={self.watched!r} is no label of {self.data!r}. Give one of its labels.{hint}")
        return found

    def score(self, examples: Sequence[Example], predictions: Sequence[Labelled]) -> dict[str, float]:
        truth = [self.watched in example["labels"] for example in examples]
        told = [self.watched in each.labels for each in predictions]
        return label_scores(examples, predictions) | alarm_scores(truth, told, self.stream)


def _share(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: is_number(value) and low <= value <= high


def monitoring(
    data: str,
    *,
    train: int,
    watched: str = "negative",
    usual: float = 0.2,
    surge: float = 0.5,
    false_alarm_rate: float = 0.05,
    window: int = 10,
    within: int = 100,
    instruction: str = "The sentiment of this text in one word:",
    **settings: Any,
) -> Monitoring:
    """A classifier that watches a stream of texts, and its alarms, scored by `alarm_recall`,
    `alarm_precision`, `alarm_delay` and `false_alarm_rate` beside the scores of `classification`.

    Streams are drawn from the dev examples, as many with a rise of the watched label as without.
    Where examples have a `group`, such as a topic, streams of each group alone are scored as well:
    `worst_group_alarm_recall` and others.

    Args:
        data: `"opinions"`, or what `classification` takes.
        train: Labelled examples to train on.
        watched: The label that is watched.
        usual: Share of texts that have it, as a rule.
        surge: Their share from a certain moment on.
        false_alarm_rate: Share of streams without a rise that may raise an alarm. The threshold is
            set so on one half of the dev examples, and the other half is scored; then the reverse.
        window: Texts that are counted together. A stream has 40 windows.
        within: Texts after a rise within which an alarm is in time.
        instruction: The question that a language model is asked after the text.
        **settings: As of `classification`, all but `several`.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    if "several" in settings:
        raise UsageError("several= is not for monitoring: a text of a stream has one label. Leave it out.")
    plain = classification(data, train=train, instruction=instruction, **settings)
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    return Monitoring(
        **fields, watched=watched, usual=usual, surge=surge, false_alarm_rate=false_alarm_rate,
        window=window, within=within,
    )  # fmt: skip
