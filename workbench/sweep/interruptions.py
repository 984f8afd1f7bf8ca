"""Ctrl-C once: stop at the next checkpoint. Twice, SIGTERM, or a budget's end: now, but never in the middle of a write; a SIGTERM
waits for the optimiser step at hand, whose state is then kept.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from workbench.result import Cause
from workbench.sweep.periodic import Regularly

NOTICE_SECONDS = 5.0
"""How often a cloud is asked whether it takes the machine away: AWS recommends it, and the shortest notice is half a minute."""


class Interruptions:
    """Handles SIGINT and SIGTERM while it is entered, in the main thread.

    A KeyboardInterrupt that may come between any two statements cannot be cleaned up after. It is
    raised only within long operations that are marked `breakable`, and waits everywhere else.

    Args:
        note: Called once, from another thread, with what a person who pressed Ctrl-C should know.

    Attributes:
        requested: Whether anything asked for an end.
        at_once: Whether it is not to wait for the next checkpoint.
        reason: Why, where neither a person nor a foreign SIGTERM asked.
        by: Who asked otherwise: `you`, or `SIGTERM`.
        pressed: Whether a person, or a foreign SIGTERM, asked for an end: then nothing is waited for.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.requested = False
        self.reason = ""
        self.by = "you"
        self.pressed = False
        self.at_once = False
        self._own = False  # a SIGTERM of ours is on its way
        self._handing_in = False
        self._leave: Callable[[], bool] = lambda: False
        self._breakable = False
        self._note = note
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def breakable(self, leave: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Let an interruption raise KeyboardInterrupt within the block, even one that came before
        it.

        Args:
            leave: Asked at the first SIGTERM that no budget sent, as a machine gets that is taken away: the block ends by
                itself as soon as it can where this says so, and nothing is raised.
        """
        self._breakable, self._leave = True, leave
        try:
            if self.at_once:
                raise KeyboardInterrupt
            yield
        finally:
            self._breakable, self._leave = False, lambda: False

    def explain(self, reason: str) -> None:
        """Say why a SIGTERM comes that no person sent."""
        self.reason, self._own = self.reason or reason, True

    @property
    def cause(self) -> Cause:
        """Why work is ended: a budget, a person, or a foreign SIGTERM."""
        if self.reason:
            return Cause.STOPPED_BY_BUDGET
        return Cause.STOPPED_BY_PERSON if self.by == "you" else Cause.STOPPED_BY_SIGNAL

    @property
    def detail(self) -> str:
        """Who or what ends the work, in words."""
        return self.reason or ("by a person" if self.by == "you" else f"by {self.by}")

    @contextlib.contextmanager
    def handing_in(self) -> Iterator[None]:
        """Within the block the end of a budget ends no waiting: what was made is paid for, and waiting costs nothing more."""
        before, self._handing_in = self._handing_in, True
        try:
            yield
        finally:
            self._handing_in = before

    def check(self) -> None:
        """Raise KeyboardInterrupt where waiting is to end: a person does not want it, or no budget pays for it any more."""
        if self.pressed or (self.at_once and not self._handing_in):
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # The budget's watch sends a SIGTERM too. It is not taken for a person's
        # wish to stop, and what was made is still handed in to a ledger that is away.
        first, foreign = not self.requested, not (number == signal.SIGTERM and self._own)
        if foreign:
            self.pressed = True
        else:
            self._own = False
        if number == signal.SIGINT and not self.requested:
            self.requested = True
            text = "Stopping at the next checkpoint. Press Ctrl-C again to stop now."
            # A signal may come in the middle of a print, which cannot be entered twice by one thread.
            threading.Thread(target=self._note, args=(text,), daemon=True).start()
            return
        if number == signal.SIGTERM and not self.requested:
            self.by = "SIGTERM"
        self.requested = self.at_once = True
        if self._breakable and not (number == signal.SIGTERM and first and foreign and self._leave()):
            raise KeyboardInterrupt


def notice(
    said: Callable[[], str] | None, note: Callable[[str], None], seconds: float = NOTICE_SECONDS
) -> contextlib.AbstractContextManager[object]:
    """Ends the main thread's work as a SIGTERM does, its run's state kept, when its machine is about to be taken away, while it is
    entered.

    Args:
        said: Says why it is taken away, empty while it is not; may raise, which means that nothing is known. None: nobody says.
        note: Is told.
        seconds: From one question to the next.
    """
    if said is None or threading.current_thread() is not threading.main_thread():
        return contextlib.nullcontext()

    def look() -> None:
        if why := said():
            asking.end()
            note(f"This machine is about to be taken away ({why}): the state of the run is kept, and the work here ends.")
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    # A service that does not answer holds up nobody who has come to the end.
    asking = Regularly(look, seconds, name="notice", waits=False)
    return asking
