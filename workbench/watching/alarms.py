"""When a class became more frequent, or rarer: change points in the stream of a model's answers, at a stated rate of
false alarms.

It is the Page-Hinkley test (Page 1954, Biometrika 41, 100-115) of the monitoring task: on the share of rows
that get a class, window by window, against its own mean so far. The package river, which the task uses, reads
one stream at a time and does not say when the rise began; here all classes, and the thousand streams that set
the threshold, are arrays. A test holds both equal.

A class's usual share is that of the first `SETTLING` windows. Looked for is a rise to twice that (from one
half on, by half of what is left) and a fall to half of it: one that was not noticed would leave too high a
share for usual, and hide the next rise. Each class's statistic is divided by its variance, so that one threshold
serves all: the lowest that, of streams of `HORIZON` rows without any change, at most a share `RATE` passes
with any class, as simulated with the usual shares. Rows are taken to be independent: where equal ones come in
bursts, there are more false alarms. After an alarm the usual shares are learned anew.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.watching.history import Row

WINDOW = 10
"""Rows that are counted together."""

SETTLING = 30
"""Windows in which the usual shares are learned: no alarm before."""

RATE, HORIZON = 0.01, 1000
"""One stream of a hundred, of so many rows after settling, may raise a false alarm."""

STREAMS = 999
"""Simulated streams that the threshold is set on."""

DELAYS = 400
"""Simulated rises that the delay is told from, and the share of them that it holds for."""
DELAY_SHARE = 0.95

CLASSES = 20
"""The commonest classes are watched one by one, and all others together."""

OTHER = "(others)"


@dataclass(frozen=True)
class Alarm:
    """A class that became more frequent, or rarer.

    Attributes:
        label: The class.
        row: The row with which it was noticed, counted from 1 over all of the model's rows.
        time: When that was, in seconds since 1970.
        since_row: About the row with which the change began.
        before: Its usual share until then, 0 to 1.
        after: Its share from there to the alarm.
    """

    label: str
    row: int
    time: float
    since_row: int
    before: float
    after: float

    @property
    def rose(self) -> bool:
        """Whether it became more frequent."""
        return self.after > self.before


@dataclass(frozen=True)
class Watched:
    """What the watch over classes says.

    Attributes:
        rows: Rows that were read.
        usual: The usual share of each class since the last alarm; none while too few rows have come since.
        delays: Within how many rows a rise to twice that is noticed in `DELAY_SHARE` of the cases; None: later than `HORIZON`.
        alarms: The alarms, the first one first.
    """

    rows: int
    usual: dict[str, float]
    delays: dict[str, int | None]
    alarms: list[Alarm]


NEEDED = WINDOW * SETTLING
"""Rows before which nothing can be said."""


def watch(rows: Sequence[Row]) -> Watched:
    """Look for changes in the answers of one model.

    Args:
        rows: Its rows, the first one first. Those whose answer is no class are left out.
    """
    rows = [row for row in rows if row.label is not None]
    told, start, usual, limit = list[Alarm](), 0, dict[str, float](), 0.0
    while len(rows) - start >= NEEDED:
        found, usual, limit = _next(rows, start)
        if found is None:
            break
        told.append(found)
        start = found.row
    delays = {name: delay(round(share, 3), limit) for name, share in usual.items()}
    return Watched(len(rows), usual, delays, told)


def _next(rows: Sequence[Row], start: int) -> tuple[Alarm | None, dict[str, float], float]:
    """The first alarm behind a row; else the usual shares there. And the threshold."""
    settling = Counter(str(row.label) for row in rows[start : start + NEEDED])
    names = [name for name, _ in settling.most_common(CLASSES)]
    places = {name: place for place, name in enumerate(names)}
    windows = (len(rows) - start) // WINDOW
    of = np.array([places.get(str(row.label), len(names)) for row in rows[start : start + windows * WINDOW]])
    counts = np.stack([(of == place).reshape(windows, WINDOW).sum(1) for place in range(len(names) + 1)], axis=1)
    shares = usual_shares(counts)
    limit = threshold(tuple(round(float(share), 3) for share in shares))
    values, began = statistic(counts)
    passed = np.argwhere(values[SETTLING:] > limit)
    if not len(passed):
        since_start = (counts.sum(0) + 0.5) / (windows * WINDOW + 1)  # known better than after the first rows
        return None, dict(zip([*names, OTHER], map(float, since_start), strict=True)), limit
    at = SETTLING + int(passed[0][0])
    change = int(values[at].argmax())
    place, since = change % (len(names) + 1), int(began[at, change]) + 1
    row = start + (at + 1) * WINDOW
    name = [*names, OTHER][place]
    after = float(counts[since : at + 1, place].mean()) / WINDOW
    before = float(counts[:since, place].mean()) / WINDOW if since else float(shares[place])
    return Alarm(name, row, rows[row - 1].time, start + since * WINDOW + 1, before, after), {}, limit


def usual_shares(counts: np.ndarray) -> np.ndarray:
    """The usual share of each class, never 0, shape (…, classes).

    Args:
        counts: Rows of each class in each window, shape (…, windows, classes).
    """
    shares: np.ndarray = (counts[..., :SETTLING, :].sum(-2) + 0.5) / (NEEDED + 1)
    return shares


def statistic(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The test's value after each window, and behind which window each change began, both shape (…, windows, 2 x classes): first
    the rises of all classes, then their falls.

    Args:
        counts: Rows of each class in each window, shape (…, windows, classes).
    """
    usual = usual_shares(counts)[..., None, :]
    found = []
    for sign, size in ((1, _rise(usual)), (-1, usual / 2)):
        values, began = page_hinkley(sign * counts / WINDOW, size / 2)
        found.append((values * size * WINDOW / (usual * (1 - usual)), began))
    (rises, risen), (falls, fallen) = found
    return np.concatenate([rises, falls], -1), np.concatenate([risen, fallen], -1)


def page_hinkley(values: np.ndarray, slack: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Page-Hinkley's statistic of rises after each value, and where its last minimum was, along the last axis but one."""
    count = np.arange(1, values.shape[-2] + 1)[:, None]
    sums = np.cumsum(values - np.cumsum(values, -2) / count - slack, -2)
    lowest = np.minimum.accumulate(sums, -2)
    where = np.maximum.accumulate(np.where(sums == lowest, count - 1, 0), -2)
    return sums - lowest, where


@functools.lru_cache(maxsize=64)
def threshold(usual: tuple[float, ...]) -> float:
    """The lowest threshold by which at most a share `RATE` of unchanged streams of `HORIZON` rows raises an alarm."""
    shares, rng = np.array(usual) / sum(usual), np.random.default_rng(0)
    highest = []
    for _ in range(0, STREAMS, 111):  # in parts, as there may be many classes
        counts = rng.multinomial(WINDOW, shares, (111, SETTLING + HORIZON // WINDOW))
        highest.append(statistic(counts)[0][:, SETTLING:].max((1, 2)))
    # Of n streams and one more, each is equally likely to be among the k highest.
    return float(np.sort(np.concatenate(highest))[-int(RATE * (STREAMS + 1))])


@functools.lru_cache(maxsize=256)
def delay(usual: float, limit: float) -> int | None:
    """Within how many rows a rise to twice a share is noticed, in `DELAY_SHARE` of simulated cases; None: later than `HORIZON`."""
    rng, calm = np.random.default_rng(1), 2 * SETTLING
    usual = min(max(usual, 0.5 / (NEEDED + 1)), 1 - 0.5 / (NEEDED + 1))
    share = np.where(np.arange(calm + HORIZON // WINDOW) < calm, usual, usual + _rise(np.array(usual)))
    counts = rng.binomial(WINDOW, share, (DELAYS, len(share)))[..., None]
    passed = statistic(counts)[0][:, calm:, 0] > limit
    needed = np.where(passed.any(1), passed.argmax(1) + 1, len(share))
    most = int(np.sort(needed)[int(np.ceil(DELAY_SHARE * DELAYS)) - 1])
    return most * WINDOW if most <= HORIZON // WINDOW else None


def _rise(usual: np.ndarray) -> np.ndarray:
    """What is added to a share by the rise that is looked for."""
    rise: np.ndarray = np.minimum(usual, (1 - usual) / 2)
    return rise
