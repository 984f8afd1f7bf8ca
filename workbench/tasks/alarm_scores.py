"""Scores of alarms about a stream of texts whose share of one label rises, by the Page-Hinkley test
of the package river.

A monitor reads the share of texts that a classifier gives the label, window by window, and raises
an alarm when it has risen (Page 1954, Biometrika 41, 100-115). Streams are drawn from labelled
examples, so the moment of each rise is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.errors import EnvironmentFault

WINDOWS = 40
"""Windows of a stream."""

SETTLING = 5
"""Windows before the first alarm: until then the usual share is not known."""

RISES = (15, 25)
"""A rise begins in a window from the first of these on, and before the second."""

STREAMS = 99
"""Streams without a rise that the threshold is set on, for each half of the examples; as many with
a rise and as many without are drawn of the other half and scored.
"""

HALVINGS = 12
"""Steps of the search for the threshold, which is then known to 1 / 100 of a window's texts."""


@dataclass(frozen=True)
class Stream:
    """A stream of texts to be watched.

    Attributes:
        usual: Share of texts with the watched label, 0 to 1.
        surge: Their share after a rise, above `usual`.
        false_alarm_rate: Share of streams without a rise that may raise an alarm: the threshold is
            the lowest one that keeps it.
        window: Texts that are counted together.
        within: Texts after a rise within which an alarm is in time.
    """

    usual: float
    surge: float
    false_alarm_rate: float
    window: int
    within: int


def alarm_scores(truth: Sequence[bool], predicted: Sequence[bool], stream: Stream) -> dict[str, float]:
    """`alarm_precision`, `alarm_recall` and `false_alarm_rate` (0 to 100), and `alarm_delay` in texts.

    The threshold is set on streams of one half of the examples, and scores are those of streams of
    the other half, of which half have a rise; then the halves change places. Precision is the share
    of alarms that come after a rise, and is absent where there is no alarm. Recall is the share of
    rises with an alarm within `stream.within` texts and none before. Delay is the mean number of
    texts from a rise to its alarm over the streams without an earlier one; a rise without an alarm
    counts as noticed at the end of the stream.

    Which texts a stream has depends on `truth` alone: two classifiers are given the same ones.

    Args:
        truth: Whether each example has the watched label.
        predicted: Whether the classifier gives it the label.
        stream: What is watched.

    Returns:
        The scores; none where a half has no example with the label or none without.

    Raises:
        EnvironmentFault: river is not installed.
    """
    has, told, rng = np.array(truth, bool), np.array(predicted, bool), np.random.default_rng(0)
    halves = [(np.flatnonzero(has)[i::2], np.flatnonzero(~has)[i::2]) for i in (0, 1)]
    if not all(len(part) for half in halves for part in half):
        return {}
    never = np.full(STREAMS, WINDOWS * stream.window)
    alarms = []
    for half, other in (halves, halves[::-1]):
        # Half of what a rise adds to the share that is told: the reference value of a CUSUM chart.
        slack = max(0.0, (stream.surge - stream.usual) * (told[half[0]].mean() - told[half[1]].mean()) / 2)
        threshold = _threshold(_shares(told, half, never, stream, rng), slack, stream.false_alarm_rate)
        rises = rng.integers(RISES[0] * stream.window, RISES[1] * stream.window, STREAMS)
        surging, calm = (_alarms(_shares(told, other, start, stream, rng), threshold, slack) for start in (rises, never))
        alarms.append((rises, surging * stream.window, calm * stream.window))
    rises, surging, calm = (np.concatenate(parts) for parts in zip(*alarms, strict=True))
    return _scored(rises, surging, calm, stream)


def _scored(rises: np.ndarray, surging: np.ndarray, calm: np.ndarray, stream: Stream) -> dict[str, float]:
    """The scores of first alarms.

    Args:
        rises: The text with which each rise begins, shape (streams,).
        surging: Texts that had been read at the first alarm of each stream with a rise; more than
            it has where there was none.
        calm: Likewise of streams without one.
        stream: What is watched.
    """
    texts = WINDOWS * stream.window
    early, false = surging <= rises, calm <= texts
    noticed = ~early & (surging <= texts)
    scores = {
        "alarm_recall": 100 * float(np.mean(~early & (surging <= rises + stream.within))),
        "false_alarm_rate": 100 * float(np.mean(false)),
    }
    if not early.all():
        scores["alarm_delay"] = float((np.minimum(surging, texts) - rises)[~early].mean())
    if raised := int(noticed.sum() + early.sum() + false.sum()):
        scores["alarm_precision"] = 100 * int(noticed.sum()) / raised
    return scores


def page_hinkley() -> Any:
    """The class of river's test.

    Raises:
        EnvironmentFault: river is not installed.
    """
    try:
        from river.drift import PageHinkley
    except ImportError as error:
        raise EnvironmentFault(
            "alarms are raised by the package river, which is not installed. Install it with pip: 'workbench[monitoring]' has it."
        ) from error
    return PageHinkley


def _shares(
    told: np.ndarray, of: tuple[np.ndarray, np.ndarray], rises: np.ndarray, stream: Stream, rng: np.random.Generator
) -> np.ndarray:
    """The share of texts that are told the label in each window of streams, shape (streams, windows).

    Args:
        told: Whether each example is told the label, shape (examples,).
        of: The examples with the label and those without that texts are drawn from.
        rises: The text from which on the label is more frequent, shape (streams,).
        stream: What is watched.
        rng: Draws the texts.
    """
    shape = (len(rises), WINDOWS * stream.window)
    rates = np.where(np.arange(shape[1]) < rises[:, None], stream.usual, stream.surge)
    drawn = [told[rng.choice(part, shape)] for part in of]
    texts = np.where(rng.random(shape) < rates, *drawn)
    shares: np.ndarray = texts.reshape(len(rises), WINDOWS, stream.window).mean(axis=2)
    return shares


def _threshold(shares: np.ndarray, slack: float, rate: float) -> float:
    """The lowest threshold by which at most a share `rate` of further streams like these raises an
    alarm.
    """
    # Of n streams and one more, each is equally likely to be among the k highest: with k - 1 of
    # the n above it, the threshold is passed by the one more with a probability of k / (n + 1).
    most = int(rate * (len(shares) + 1)) - 1
    low, high = 0.0, float(WINDOWS)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        passed = int((_alarms(shares, middle, slack) <= WINDOWS).sum())
        low, high = (low, middle) if passed <= most else (middle, high)
    return high


def _alarms(shares: np.ndarray, threshold: float, slack: float) -> np.ndarray:
    """How many windows of each stream had been read at its first alarm; more than there are where
    none is raised.
    """
    test = page_hinkley()
    read = np.full(len(shares), WINDOWS + 1)
    for i, stream in enumerate(shares.tolist()):
        detector = test(min_instances=SETTLING, delta=slack, threshold=threshold, alpha=1.0, mode="up")
        for count, share in enumerate(stream, 1):
            detector.update(share)
            if detector.drift_detected:
                read[i] = count
                break
    return read
