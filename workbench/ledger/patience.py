"""How long a ledger that does not answer is waited for: one policy for all that is asked of it and written into it."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from workbench.errors import EnvironmentFault

AWAY_SECONDS = 600.0
"""How long a sweep waits for a ledger that was there when it began: a server may be restarted, a network mended."""

OPENING_SECONDS = 10.0
"""How long a command waits that opens a ledger: a wrong address must be told soon."""

FULL_SECONDS = 10.0
"""How long a full disk is waited for, once what can be made again was dropped from it: nobody else clears it in minutes."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 10.0
_LOOK_SECONDS = 0.1

T = TypeVar("T")


class Away(EnvironmentFault):
    """The ledger does not answer now, and may soon: what was asked of it may be asked again.

    Attributes:
        detail: What the database, or its driver, said.
        full: It is its disk that is full.
    """

    def __init__(self, text: str, detail: str, *, full: bool = False) -> None:
        super().__init__(text)
        self.detail, self.full = detail, full


@dataclass
class Patience:
    """Calls again what met a ledger that is away, after pauses that grow and differ: many workers must not come back at once.

    The seconds are those since the ledger answered last: once they are over, no later call waits again until it has answered.

    Args:
        seconds: How long a ledger that is away is waited for; 0 not to wait.
        note: Is told when that begins and when it ends.
        make_room: Called before another try where a disk is full: drops what can be made again.
        check: Called ten times a second while it waits: what it raises ends the waiting.
    """

    seconds: float = 0.0
    note: Callable[[str], None] = lambda text: None
    make_room: Callable[[], None] = lambda: None
    check: Callable[[], None] = lambda: None
    _hurried: bool = field(default=False, init=False)
    _since: float | None = field(default=None, init=False)
    _told: bool = field(default=False, init=False)

    @property
    def is_away(self) -> bool:
        """Whether the ledger did not answer when it was asked last."""
        return self._since is not None

    def tried(self, call: Callable[[], T]) -> T:
        """What `call` gives, which must come to the same if it is made more than once. Raises Away when it stays away."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = call()
            except Away as away:
                self._wait(away, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            if self._since is not None:
                self._answered()
            return answer

    @contextlib.contextmanager
    def hurried(self) -> Iterator[None]:
        """Wait for nothing in the block: what meets a ledger that is away raises Away at once."""
        before, self._hurried = self._hurried, True
        try:
            yield
        finally:
            self._hurried = before

    def _wait(self, away: Away, pause: float) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        # Counted since the ledger answered last, not since this call: a sweep that makes one call after another would
        # else wait ten minutes for each.
        until = self._since + (min(self.seconds, FULL_SECONDS) if away.full else self.seconds)
        if now >= until:
            raise away
        if not self._told:
            self._told = True
            self.note(f"The ledger is away ({away.detail}): tried again for {_minutes(until - now)}; nothing is lost.")
        if self._hurried:
            raise away
        if away.full:
            self.make_room()
        # Pauses differ, so that many workers do not come back to a restarted server in the same second.
        again = min(until, now + random.uniform(0.5, 1.0) * pause)
        while (left := again - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _LOOK_SECONDS))
        self.check()

    def _answered(self) -> None:
        self._since = None
        if self._told:
            self._told = False
            self.note("The ledger is back.")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
