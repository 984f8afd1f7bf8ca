"""How many workers share one device, decided by measurement.

A worker alone leaves a GPU idle while it prepares batches, launches small kernels, evaluates and records. Processes on one GPU
take turns in time, so what can be won is the time in which no kernel runs: 1 - NVML's utilisation. Another worker is added where
that is much and memory holds one more; whether it was worth it is then measured, and where it was not one leaves, for good.

What is compared is speed at like work. Runs of a sweep differ in their tokens' price, so the useful tokens a second of each family
(model, method, batch size) are kept by how many workers were on the device:

    growth from n - 1 to n workers = n / (n - 1) x mean over families of (tokens a second with n / with n - 1)

A family's speed is that of one worker, evaluations and the loading of its runs included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MOST = 4
"""The most workers of one device. Each further one knows less of what the others find out, and needs memory of its own."""

ROOM_BELOW = 0.7
"""Utilisation under which another worker is added. Above it the device's time would grow by less than 1 / 0.7 = 1.43 at best, of
which taking turns costs a part."""

GROWTH = 1.15
"""The least growth of useful tokens a second for which a worker stays: below it the start of a worker is hardly won back."""

STRETCH_SECONDS, STRETCH_STEPS = 30.0, 64
"""What has to be seen before anything is decided: time in which all workers of the device had a run in hand, and optimiser steps of
each. NVML's utilisation is an average over up to a second, and the first steps of a process choose kernels."""

WARM_STEPS = 16
"""Steps of a new process that are not looked at."""

FAMILY_SECONDS = 5.0
"""A family is compared where it was seen for so long with either number of workers."""


class Pace(NamedTuple):
    """How far a worker's training is.

    Attributes:
        at: Seconds by a clock of its own.
        family: What it trains: runs of one family need about the same for a token. Empty: no run is in hand.
        tokens: Useful tokens that it has trained on since it was started.
        steps: Optimiser steps since then.
    """

    at: float
    family: str
    tokens: int
    steps: int


@dataclass(frozen=True)
class Change:
    """A decision about a device, and what it rests on.

    Attributes:
        workers: How many share the device from now.
        why: `added`; `kept`, where an addition was worth it; `left`, where it was not; `memory` or `unreadable`, where no other is
            added although there may be time for one.
        utilisation: Share of the time in which a kernel ran, measured with the workers before; None where it says nothing here.
        growth: Useful tokens a second of all together by those of one worker fewer; None as above.
        detail: More about it, in words.
    """

    workers: int
    why: str
    utilisation: float | None = None
    growth: float | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """The decision as plain data."""
        return {
            "workers": self.workers,
            "why": self.why,
            "utilisation": self.utilisation,
            "growth": self.growth,
            "detail": self.detail,
        }


@dataclass
class _Seen:
    """What was seen with one number of workers: the device's time in the stretch at hand, and the speed of families so far."""

    seconds: float = 0.0
    busy_seconds: float | None = 0.0
    steps: int = 0
    families: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))  # tokens, seconds

    @property
    def utilisation(self) -> float | None:
        return None if self.busy_seconds is None or not self.seconds else self.busy_seconds / self.seconds

    def again(self) -> None:
        """Begin another stretch; speeds are kept."""
        self.seconds, self.busy_seconds, self.steps = 0.0, 0.0, 0

    def speeds(self) -> dict[str, float]:
        """Tokens a second by family, of those that were seen long enough."""
        return {name: tokens / seconds for name, (tokens, seconds) in self.families.items() if seconds >= FAMILY_SECONDS and tokens}


class DeviceSharing:
    """Decides about one device.

    Args:
        fits: Says why so many workers do not fit the device's memory; empty where they do.
        most: The most workers.
        worth: Whether the start of another worker may be won back, by the share of the time to come that it saves at best.

    Attributes:
        wanted: How many workers are to share the device. It begins with one.
    """

    def __init__(self, fits: Callable[[int], str], most: int = MOST, worth: Callable[[float], bool] = lambda saved: True) -> None:
        self.wanted = 1
        self._fits, self._most, self._worth = fits, most, worth
        self._seen: dict[int, _Seen] = defaultdict(_Seen)
        self._totals: tuple[float | None, float] | None = None
        self._paces: dict[int, Pace] = {}
        self._unjudged = False  # whether the last addition is still to be judged

    def look(self, busy_seconds: float | None, seconds: float, paces: Mapping[int, Pace | None]) -> Change | None:
        """Take in how the device and its workers stand now, a second or so after the last look.

        Args:
            busy_seconds: Time in which a kernel ran, a running total; None where that cannot be read.
            seconds: Time held, a running total.
            paces: By worker at the device what it said last; None: nothing yet.

        Returns:
            What is decided now; None where all stays as it is.
        """
        self._take(busy_seconds, seconds, paces)
        count = len(paces)
        seen = self._seen[count]
        if count != self.wanted or seen.seconds < STRETCH_SECONDS or seen.steps < STRETCH_STEPS * count:
            return None  # one is on its way, or leaving; or too little was seen
        if self._unjudged:
            return self._judge(count, seen)
        utilisation = seen.utilisation
        seen.again()
        if count >= self._most or (utilisation is not None and utilisation >= ROOM_BELOW):
            return None
        if utilisation is None:
            self._most = count
            return Change(count, "unreadable")
        if detail := self._fits(count + 1):
            self._most = count
            return Change(count, "memory", utilisation, detail=detail)
        # Time in which a kernel runs stays, and so does each worker's own speed.
        if not self._worth(1 - max(utilisation, count / (count + 1))):
            return None  # the end is near
        self.wanted, self._unjudged = count + 1, True
        return Change(count + 1, "added", utilisation)

    def _judge(self, count: int, seen: _Seen) -> Change | None:
        """Whether the last addition was worth it; None while nothing can be compared."""
        growth = self._growth(count)
        if growth is None:
            return None
        self._unjudged, utilisation = False, seen.utilisation
        seen.again()
        if growth >= GROWTH:
            return Change(count, "kept", utilisation, growth)
        # For good: the next stretch would bring another by chance, and each costs a start.
        self.wanted = self._most = count - 1
        return Change(count - 1, "left", utilisation, growth)

    def _growth(self, count: int) -> float | None:
        """Useful tokens a second of `count` workers by those of one fewer; None where no family was seen with both."""
        now, before = self._seen[count].speeds(), self._seen[count - 1].speeds()
        alike = {name: self._seen[count].families[name][1] for name in now.keys() & before.keys()}
        if not alike:
            return None
        ratio = sum(seconds * now[name] / before[name] for name, seconds in alike.items()) / sum(alike.values())
        return count / (count - 1) * ratio

    def _take(self, busy_seconds: float | None, seconds: float, paces: Mapping[int, Pace | None]) -> None:
        """Add what lies between the last look and this one, where every worker had a run in hand at both."""
        before, then = self._paces, self._totals
        self._paces = {worker: pace for worker, pace in paces.items() if pace is not None}
        self._totals = busy_seconds, seconds
        if then is None or not paces or self._paces.keys() != paces.keys() or before.keys() != paces.keys():
            return
        pairs = [(before[worker], pace) for worker, pace in self._paces.items()]
        if any(_breaks(*pair) for pair in pairs):
            return
        seen = self._seen[len(paces)]
        seen.seconds += seconds - then[1]
        known = seen.busy_seconds is not None and busy_seconds is not None and then[0] is not None
        seen.busy_seconds = seen.busy_seconds + busy_seconds - then[0] if known else None  # type: ignore[operator]
        for old, new in pairs:
            seen.steps += new.steps - old.steps
            of_family = seen.families[new.family]
            of_family[0] += new.tokens - old.tokens
            of_family[1] += new.at - old.at


def _breaks(old: Pace, new: Pace) -> bool:
    """Whether the time between two reports says nothing: there was no run, another family's, or the process was cold."""
    return not old.family or old.family != new.family or old.steps < WARM_STEPS or new.tokens < old.tokens
