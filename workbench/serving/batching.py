"""Requests that come while others are answered wait, and are then answered together.

Nothing is waited for: a request that finds nobody is asked at once, alone. What a server spends on each
call of a model, whatever the number of rows, is so shared by those who wait anyway. Rows are put into
batches of similar length by the model itself.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.serving.asgi import Answer
from workbench.serving.log import Entry

Call = Callable[[Sequence[Any], Entry], Awaitable[Answer]]
"""Has rows answered, and notes in the entry what that took."""


@dataclass
class _Waiting:
    rows: Sequence[Any]
    entry: Entry
    answer: asyncio.Future[Answer]


class Batches:
    """Calls a model for requests, for several together where they wait.

    Args:
        call: Has rows answered.
        most_rows: The most rows of several requests together.
    """

    def __init__(self, call: Call, most_rows: int) -> None:
        self._call, self._most_rows = call, most_rows
        self._queue: deque[_Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def answered(self, rows: Sequence[Any], entry: Entry) -> Answer:
        """The answer to a request's rows; what it took is noted in the entry, of what was shared its part."""
        mine = _Waiting(rows, entry, asyncio.get_running_loop().create_future())
        self._queue.append(mine)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await mine.answer

    async def _work(self) -> None:
        while self._queue:
            together = list[_Waiting]()
            count = 0
            while self._queue and (not together or count + len(self._queue[0].rows) <= self._most_rows):
                if not (each := self._queue.popleft()).answer.done():  # whoever waited may have gone
                    together.append(each)
                    count += len(each.rows)
            try:
                await self._answer(together)
            except Exception as error:  # a bug, told to those who wait for it: nobody else does
                for each in together:
                    if not each.answer.done():
                        each.answer.set_exception(error)

    async def _answer(self, together: Sequence[_Waiting]) -> None:
        if len(together) > 1 and await self._at_once(together):
            return
        for each in together:  # a request that cannot be answered is no other one's fault
            _give(each, await self._call(each.rows, each.entry))

    async def _at_once(self, together: Sequence[_Waiting]) -> bool:
        """Answer several requests by one call; False where the model refuses some row of them."""
        entry = Entry()
        answer = await self._call([row for each in together for row in each.rows], entry)
        if answer.status != 200:
            return False
        found, first = json.loads(answer.body)["predictions"], 0
        for each in together:
            last = first + len(each.rows)
            each.entry.share(entry, first, last)
            _give(each, Answer(200, json.dumps({"predictions": found[first:last]}).encode()))
            first = last
        return True


def _give(to: _Waiting, answer: Answer) -> None:
    if not to.answer.done():  # who waited may have gone
        to.answer.set_result(answer)
