"""A line of JSON for each request: which model, how long it took, tokens, scores. No text of a row
or of an answer is in it unless asked for.
"""

from __future__ import annotations

import contextvars
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Entry:
    """What is noted of a request while it is answered.

    Attributes:
        tokens: Tokens that were read and written, padding excluded; None where nothing was predicted.
        scores: The probability that the model gives to each answer; None where it gives none.
    """

    tokens: int | None = None
    scores: list[float | None] = field(default_factory=list)


CURRENT: contextvars.ContextVar[Entry | None] = contextvars.ContextVar("workbench_request", default=None)
"""The entry of the request that is being answered; its threads inherit it."""


def note(tokens: int, scores: Sequence[float | None]) -> None:
    """Note what a prediction took, where a request is being answered."""
    entry = CURRENT.get()
    if entry is not None:
        entry.tokens, entry.scores = tokens, list(scores)


class Log:
    """A file of lines that grows. Each is written whole, before its request is answered: a server
    that is killed loses none of those.

    Args:
        path: The file; None: nothing is kept.
        model: Of each line: the model's name, version and id.
        texts: Whether lines hold the rows and the answers too.
    """

    def __init__(self, path: Path | None, model: dict[str, Any], *, texts: bool = False) -> None:
        self._model, self._texts = model, texts
        self._turn = threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = None if path is None else path.open("ab", buffering=0)

    def write(self, entry: Entry, status: int, seconds: float, rows: list[Any], answer: Any = None) -> None:
        """Add a line.

        Args:
            entry: What was noted of the request.
            status: Of HTTP.
            seconds: From the request's arrival to its answer.
            rows: Its rows.
            answer: The answer as it is sent.
        """
        if self._file is None:
            return
        line: dict[str, Any] = {"time": round(time.time(), 3), **self._model, "status": status, "rows": len(rows)}
        line |= {"seconds": round(seconds, 6), "tokens": entry.tokens, "scores": entry.scores}
        line["ids"] = [row.get("id") if isinstance(row, dict) else None for row in rows]
        if self._texts:
            line |= {"asked": rows, "answer": answer}
        with self._turn:
            self._file.write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
