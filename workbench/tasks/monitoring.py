"""Monitoring: of what class each text of a stream is, and an alarm when one class becomes more
frequent.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from workbench.data.labelled import in_order
from workbench.errors import UsageError, did_you_mean
from workbench.formulations import Example, Labelled
from workbench.space import Space, check, is_number, is_whole
from workbench.tasks.alarm_scores import Stream, alarm_scores, page_hinkley
from workbench.tasks.base import Splits, Task
from workbench.tasks.class_scores import label_scores
from workbench.tasks.classification import Classification, classification

ASKED = ("The sentiment of this text in one word:", "The topic and the sentiment of this text:")
"""What a language model is asked after a text: without its topic, and with it."""


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
        found, known = super().splits(), self._watches()
        if self.watched not in known:
            hint = did_you_mean(self.watched, known)
            raise UsageError(f"watched={self.watched!r} is no label of {self.data!r}. Give one of its labels.{hint}")
        return found

    def _watches(self) -> Sequence[str]:
        """The labels of which one is watched."""
        return [*self.words()]

    def score(self, examples: Sequence[Example], predictions: Sequence[Labelled]) -> dict[str, float]:
        truth = [self.watched in example["labels"] for example in examples]
        told = [self.watched in each.labels for each in predictions]
        return label_scores(examples, predictions) | alarm_scores(truth, told, self.stream)


@dataclass(frozen=True, kw_only=True)
class TopicMonitoring(Monitoring):
    """Tell the topic of a text as well, which is its group in the data, and watch each topic; made by
    `monitoring(…, topics=True)`.

    A class is a topic with a label, such as `films: negative`.

    Attributes:
        known: All topics; empty: those of train. Set by `portable` and `sharing` alone.
    """

    metrics: ClassVar[tuple[str, ...]] = ("topic_alarm_recall", *Monitoring.metrics, "label_accuracy", "topic_accuracy")
    lower_is_better: ClassVar[tuple[str, ...]] = (*Monitoring.lower_is_better, "topic_alarm_delay", "topic_false_alarm_rate")

    known: tuple[str, ...] = field(default=(), metadata={"later": True})

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics, in their order."""
        return self.known or in_order(self._topic(example) for example in super().pool())

    def words(self) -> dict[str, str]:
        words = super().words()
        return {_both(topic, label): f"{topic}, {said}" for topic in self.topics for label, said in words.items()}

    def portable(self) -> Task:
        return dataclasses.replace(self, labels=tuple(super().words().items()), known=self.topics)

    def sharing(self, other: Task) -> Task:
        if not isinstance(other, TopicMonitoring):
            return other
        return dataclasses.replace(other, labels=tuple(super().words().items()), known=self.topics)

    def splits(self) -> Splits:
        found = super().splits()
        return Splits(*([self._classed(each) for each in side] for side in (found.train, found.dev, found.test)))

    def pool(self) -> Sequence[Example]:
        return [self._classed(each) for each in super().pool()]

    def _watches(self) -> Sequence[str]:
        return [*super().words()]

    def _classed(self, example: Example) -> Example:
        return {**example, "labels": [_both(self._topic(example), example["labels"][0])]}

    def _topic(self, example: Example) -> str:
        if "group" not in example:
            raise UsageError(f"topics=True: {self.data!r} has no column of topics. Name it: group=….")
        return str(example["group"])

    def score(self, examples: Sequence[Example], predictions: Sequence[Labelled]) -> dict[str, float]:
        labels = self._watches()
        parts = {_both(topic, label): (topic, label) for topic in self.topics for label in labels}
        truth = [parts[example["labels"][0]] for example in examples]
        told = [parts[each.labels[0]] if each.labels else ("", "") for each in predictions]
        watched = self.watched
        scores = label_scores(examples, predictions)
        scores |= alarm_scores([label == watched for _, label in truth], [label == watched for _, label in told], self.stream)
        for name, place in (("topic_accuracy", 0), ("label_accuracy", 1)):
            scores[name] = 100 * sum(a[place] == b[place] for a, b in zip(truth, told, strict=True)) / max(1, len(truth))
        here = sorted({topic for topic, _ in truth})
        if len(here) < 2:  # a stream of one topic has no other to be told from
            return scores
        alarms = [
            alarm_scores([each == (topic, watched) for each in truth], [each == (topic, watched) for each in told], self.stream)
            for topic in here
        ]
        for name in ("alarm_recall", "alarm_delay", "false_alarm_rate"):
            if known := [each[name] for each in alarms if name in each]:
                scores[f"topic_{name}"] = statistics.fmean(known)
        return scores


def _both(topic: str, label: str) -> str:
    """The class of a topic with a label."""
    return f"{topic}: {label}"


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
    topics: bool = False,
    instruction: str | None = None,
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
        topics: Whether a model is to tell the topic of a text too, which the data have as its `group`: its classes are then a
            topic with a label each, and `accuracy` asks for both. Beside the scores of all texts there are those of watching
            each topic for a rise of its own in a stream of all topics, each at the stated rate of false alarms: their means are
            `topic_alarm_recall`, `topic_alarm_delay` and `topic_false_alarm_rate`. `topic_accuracy` and `label_accuracy` are
            those of the parts.
        instruction: The question that a language model is asked after the text; None: for its sentiment, or for its topic and
            sentiment.
        **settings: As of `classification`, all but `several`.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    if "several" in settings:
        raise UsageError("several= is not for monitoring: a text of a stream has one label. Leave it out.")
    if not isinstance(topics, bool):  # no hole either: it decides which classes there are
        raise UsageError(f"topics must be True or False; got {topics!r}.")
    asked = instruction or ASKED[topics]
    plain = classification(data, train=train, instruction=asked, **settings)
    fields = {each.name: getattr(plain, each.name) for each in dataclasses.fields(plain)}
    return (TopicMonitoring if topics else Monitoring)(
        **fields, watched=watched, usual=usual, surge=surge, false_alarm_rate=false_alarm_rate,
        window=window, within=within,
    )  # fmt: skip
