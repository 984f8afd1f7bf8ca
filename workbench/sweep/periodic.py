"""A thread that does something again and again beside the work."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Self


class Regularly:
    """Calls something every so often, from a thread of its own, while it is entered.

    The first call comes one interval after entering. A call that raises is ignored, whatever the
    error: the next may succeed, and none is worth the work that goes on beside it.

    Args:
        call: What is called. It may `end` what calls it.
        seconds: From the end of one call to the next.
        name: The thread's.
        waits: Whether the end of the block waits for a call under way.
    """

    def __init__(self, call: Callable[[], object], seconds: float, *, name: str, waits: bool = True) -> None:
        self._call, self._seconds, self._waits = call, seconds, waits
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        if self._waits:
            self._thread.join()

    def end(self) -> None:
        """Call no more; a call under way is not waited for."""
        self._ended.set()

    def _work(self) -> None:
        while not self._ended.wait(self._seconds):
            with contextlib.suppress(Exception):
                self._call()
