"""When a class became more frequent, or rarer: change points in the stream of a model's answers, at a stated rate of
false alarms.

It is the test of two samples with windows of several lengths (Willsky & Jones 1976, IEEE Trans. Automatic Control
21:108; Lai 1995, J. Royal Statistical Society B 57:613): after each ten rows the share of a class in the latest
10, 20, 40, … 640 rows is held against that in all rows before these, in standard errors of the difference. Shares
are compared by the arcsines of their square roots, whose error depends on the number of rows alone (Anscombe 1948,
Biometrika 35:246). So it counts how surely the usual share is known: soon after the first rows, which teach it, less
than later.

One threshold serves all classes and lengths: the lowest that, of streams of `HORIZON` rows without any change, at most
a share `RATE` passes with any class, as simulated with the usual shares. Rows are taken to be independent: where equal
ones come in bursts, there are more false alarms. After an alarm the usual shares are learned anew.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
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

SPANS = (1, 2, 4, 8, 16, 32, 64)
"""Windows that are held against those before: a large change shows in few, a small one in many."""

LATEST = 10_000
"""Of more rows than twice so many the latest are looked at, at least so many: the first of them changes only every so many."""

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
        delays: Within how many rows a rise to twice that, which begins now, is noticed in `DELAY_SHARE` of the cases; None: later
            than `HORIZON`. A share above a third is taken to rise half of the way to all rows.
        alarms: The alarms, the first one first.
    """

    rows: int
    usual: dict[str, float]
    delays: dict[str, int | None]
    alarms: list[Alarm]


NEEDED = WINDOW * SETTLING
"""Rows before which nothing can be said."""

MOST_KNOWN = 10 * SETTLING
"""Windows from which on a usual share is known as well as need be."""


def watch(rows: Sequence[Row]) -> Watched:
    """Look for changes in the answers of one model.

    Args:
        rows: Its rows, the first one first. Those whose answer is no class are left out.
    """
    rows = [row for row in rows if row.label is not None]
    told, usual, limit = list[Alarm](), dict[str, float](), 0.0
    start = max(0, len(rows) // LATEST - 1) * LATEST
    while len(rows) - start >= NEEDED:
        found, usual, limit = _next(rows, start)
        if found is None:
            break
        told.append(found)
        start = found.row
    known = min((len(rows) - start) // WINDOW, MOST_KNOWN) // SETTLING * SETTLING  # in steps: each is simulated but once
    delays = {name: delay(round(share, 3), limit, known) for name, share in usual.items()}
    return Watched(len(rows), usual, delays, told)


def _next(rows: Sequence[Row], start: int) -> tuple[Alarm | None, dict[str, float], float]:
    """The first alarm behind a row; else the usual shares there. And the threshold."""
    settling = Counter(str(row.label) for row in rows[start : start + NEEDED])
    names = [name for name, _ in settling.most_common(CLASSES)]
    places = {name: place for place, name in enumerate(names)}
    windows = (len(rows) - start) // WINDOW
    of = np.array([places.get(str(row.label), len(names)) for row in rows[start : start + windows * WINDOW]])
    counts = np.stack([(of == place).reshape(windows, WINDOW).sum(1) for place in range(len(names) + 1)], axis=1)
    names.append(OTHER)
    limit = threshold(tuple(round(float(share), 3) for share in _shares(counts[:SETTLING].sum(0), SETTLING)))
    passed = [
        (end, -float(abs(found[end - SETTLING - span]).max()), span, int(abs(found[end - SETTLING - span]).argmax()))
        for span, found in deviations(counts)
        for end in (SETTLING + span + np.flatnonzero(abs(found).max(1) > limit)[:1]).tolist()
    ]
    if not passed:
        return None, dict(zip(names, map(float, _shares(counts.sum(0), windows)), strict=True)), limit
    end, _, span, place = min(passed)  # the earliest, and of several the surest
    row, since = start + end * WINDOW, end - span
    before, after = (float(of.mean()) / WINDOW for of in (counts[:since, place], counts[since:end, place]))
    return Alarm(names[place], row, rows[row - 1].time, start + since * WINDOW + 1, before, after), {}, limit


def deviations(counts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """How far the share of each class in the latest windows is from that in all before, in standard errors.

    Args:
        counts: Rows of each class in each window, shape (…, windows, classes).

    Yields:
        Each of `SPANS` that there are enough windows for; and the deviations, above 0 where a class became more frequent, of shape
        (…, windows - `SETTLING` - span + 1, classes): the first is that of the windows right behind settling.
    """
    windows = counts.shape[-2]
    seen = np.cumsum(counts, -2)
    total = WINDOW * np.arange(1, windows + 1)[:, None]
    usual = _stabilised(seen, total)
    for span in SPANS:
        if SETTLING + span > windows:
            return
        before, latest = slice(SETTLING - 1, windows - span), slice(SETTLING - 1 + span, windows)
        now = _stabilised(seen[..., latest, :] - seen[..., before, :], WINDOW * span)
        yield span, (now - usual[..., before, :]) / np.sqrt(1 / (4 * total[before]) + 1 / (4 * WINDOW * span))


def _stabilised(count: np.ndarray, of: np.ndarray | int) -> np.ndarray:
    """The arcsine of a share's square root, whose standard error is 1 / (2 sqrt(of)) whatever the share."""
    found: np.ndarray = np.arcsin(np.sqrt((count + 0.375) / (of + 0.75)))
    return found


def _shares(counts: np.ndarray, windows: int) -> np.ndarray:
    """The share of each class by how often it came in so many windows, never 0 or 1."""
    shares: np.ndarray = (counts + 0.5) / (windows * WINDOW + 1)
    return shares


@functools.lru_cache(maxsize=64)
def threshold(usual: tuple[float, ...]) -> float:
    """The lowest threshold by which at most a share `RATE` of unchanged streams of `HORIZON` rows raises an alarm."""
    shares, rng = np.array(usual) / sum(usual), np.random.default_rng(0)
    counts = rng.multinomial(WINDOW, shares, (STREAMS, SETTLING + HORIZON // WINDOW))
    highest = np.max([abs(found).max((1, 2)) for _, found in deviations(counts)], 0)
    # Of n streams and one more, each is equally likely to be among the k highest.
    return float(np.sort(highest)[-int(RATE * (STREAMS + 1))])


@functools.lru_cache(maxsize=256)
def delay(usual: float, limit: float, known: int) -> int | None:
    """Within how many rows a rise to twice a share is noticed, in `DELAY_SHARE` of simulated cases; None: later than `HORIZON`. A
    share above a third rises half of the way to 1.

    Args:
        usual: The share.
        limit: The threshold.
        known: In how many windows it was as usual.
    """
    rng, windows = np.random.default_rng(1), HORIZON // WINDOW
    usual = min(max(usual, 0.5 / (NEEDED + 1)), 1 - 0.5 / (NEEDED + 1))
    share = np.where(np.arange(known + windows) < known, usual, usual + min(usual, (1 - usual) / 2))
    needed = np.full(DELAYS, windows + 1)
    for span, found in deviations(rng.binomial(WINDOW, share, (DELAYS, len(share)))[..., None]):
        passed = found[:, max(0, known + 1 - SETTLING - span) :, 0] > limit
        first = max(known + 1, SETTLING + span) - known  # windows of the rise that the first of these has
        needed = np.minimum(needed, np.where(passed.any(1), passed.argmax(1) + first, windows + 1))
    most = int(np.sort(needed)[int(np.ceil(DELAY_SHARE * DELAYS)) - 1])
    return most * WINDOW if most <= windows else None
