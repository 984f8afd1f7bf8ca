"""A line of JSON for each request: which model, how long it took, tokens, lengths, classes, confidences.
No text of a row or of an answer is in it unless asked for, and then redacted.

Other lines have an `event`: `start` of a server, with what is known of its model; `usage`, what it has
consumed since the one before; `words` and `embeddings`, of `SPREAD_ROWS` rows together how they are distributed;
`stop`. `workbench.watching.history` reads them.
"""

from __future__ import annotations

import contextvars
import errno
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data import redaction
from workbench.tasks import request
from workbench.watching import history, reference, traits
from workbench.watching.reference import Reference

if TYPE_CHECKING:
    from workbench.training import Predictions

_logger = logging.getLogger("workbench.serving")

SPREAD_ROWS = 100
"""Rows whose words and embeddings are counted together: of one alone a short text could be guessed."""


@dataclass
class Entry:
    """What is noted of a request while it is answered.

    Attributes:
        id: Of the request; the answer has it in its head, and rows without an id are known by it.
        tokens: Tokens that were read and written, padding excluded; None where nothing was predicted.
        model_seconds: Seconds that the model took, without the wait for other requests.
        cpu_seconds: CPU seconds of the server meanwhile.
        scores: The probability that the model gives to each answer; None where it gives none.
        labels: The class that was answered; None where answers are no classes.
        row_tokens: Of `tokens` those of each row.
        embeddings: Where each row lies for the model, as `training.Predictions` has it; None where that is not known.
    """

    id: str = field(default_factory=lambda: os.urandom(6).hex())
    tokens: int | None = None
    model_seconds: float | None = None
    cpu_seconds: float | None = None
    scores: list[float | None] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    row_tokens: Sequence[int] = ()
    embeddings: np.ndarray | None = None

    def share(self, of: Entry, first: int, last: int) -> None:
        """Note a part of what several requests took together: of their time as much as of their tokens.

        Args:
            of: The entry of all of them.
            first: The first row of this request's.
            last: The row behind its last one.
        """
        self.scores, self.labels, own = of.scores[first:last], of.labels[first:last], sum(of.row_tokens[first:last])
        self.embeddings = None if of.embeddings is None else of.embeddings[first:last]
        part = own / max(1, sum(of.row_tokens))
        self.tokens = own
        self.model_seconds = None if of.model_seconds is None else of.model_seconds * part
        self.cpu_seconds = None if of.cpu_seconds is None else of.cpu_seconds * part


CURRENT: contextvars.ContextVar[Entry | None] = contextvars.ContextVar("workbench_request", default=None)
"""The entry of the request that is being answered; its threads inherit it."""


def note(found: Predictions) -> None:
    """Note what predictions were and took, where a request is being answered."""
    entry = CURRENT.get()
    if entry is not None:
        entry.tokens, entry.model_seconds, entry.cpu_seconds = sum(found.tokens), found.seconds, found.cpu_seconds
        entry.row_tokens, entry.embeddings = found.tokens, found.embeddings
        entry.scores = [traits.confidence(value) for value in found.values]
        entry.labels = [traits.label(value) for value in found.values]


MOST_BYTES = 32_000_000
"""The most that a file of a log holds, some 100,000 requests of one row: then it is put aside as `FILE.1`, the one before as
`FILE.2`, ….
"""


class Log:
    """A file of lines that grows, up to `MOST_BYTES`. Each is written whole, before its request is
    answered: a server that is killed loses none of those. Lines are not synced to the disk one by one:
    a machine that loses its power may lose the latest ones.

    A line that cannot be written, as on a full disk, is lost, which the server's output tells once. Nobody goes
    without an answer for it.

    Args:
        path: The file; None: nothing is kept.
        model: Of each line: the model's name, version and id.
        asked: What the task is asked with.
        inputs: Whether lines hold the rows and the answers too, redacted.
        dev: How the dev set is distributed: in its parts words and embeddings are counted. None: they are not.
        most_bytes: The most that a file holds, but for one line.
    """

    def __init__(
        self,
        path: Path | None,
        model: Mapping[str, Any],
        asked: Mapping[str, str],
        *,
        inputs: bool = False,
        dev: Reference | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._model, self._asked, self._dev = dict(model), asked, dev or Reference()
        self._finders = redaction.finders(redaction.KINDS) if inputs else None
        self._turn, self._began, self._server = threading.Lock(), time.perf_counter(), os.urandom(4).hex()
        self._words, self._embeddings = list[np.ndarray](), list[np.ndarray]()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._most_bytes, self._start = path, most_bytes, b""
        self._file = None if path is None else path.open("ab", buffering=0)
        self._bytes = 0 if self._file is None else self._file.tell()
        # Behind a part of a line, which a kill or a full disk has left, another would be lost with it.
        self._torn = path is not None and not _ends_a_line(path)
        self._failing = False

    @property
    def is_kept(self) -> bool:
        """Whether anything is written."""
        return self._file is not None

    def write(self, entry: Entry, status: int, seconds: float, rows: Sequence[Any], answer: bytes = b"") -> None:
        """Add the line of a request.

        Args:
            entry: What was noted of the request.
            status: Of HTTP.
            seconds: From the request's arrival to its answer.
            rows: Its rows.
            answer: The answer as it is sent.
        """
        if self._file is None:
            return
        line = {"request": entry.id, "status": status, "rows": len(rows), "seconds": round(seconds, 6), "tokens": entry.tokens}
        line |= {"model_seconds": _rounded(entry.model_seconds), "cpu_seconds": _rounded(entry.cpu_seconds)}
        line |= {"labels": entry.labels, "scores": entry.scores}
        line["lengths"] = [traits.characters(row, self._asked) for row in rows]
        line["ids"] = [row.get(request.ID) for row in rows]
        if self._finders is not None:
            line |= self._inputs(rows, answer)
        self._add(line)
        if status == 200:
            words = [vector for row in rows if (vector := traits.words(row, self._asked)) is not None] if self._dev.edges else []
            self._spread("words", self._words, words, self._dev.edges)
            embedded = entry.embeddings if entry.embeddings is not None and self._dev.embedding_edges else ()
            self._spread("embeddings", self._embeddings, embedded, self._dev.embedding_edges)

    def event(self, name: str, **about: Any) -> None:
        """Add a line that is of no request."""
        self.add({"event": name, **about})

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line of other keys. What it says of its model goes before what all lines say."""
        if self._file is not None:
            self._add(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _add(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        up = round(time.perf_counter() - self._began, 3)
        known = {"time": round(time.time(), 3), **self._model, "server": self._server, "uptime_seconds": up}
        content = json.dumps({**known, **line}).encode() + b"\n"
        with self._turn:
            if line.get("event") == "start":
                self._start = content
            try:
                if self._bytes and self._bytes + len(content) > self._most_bytes:
                    self._put_aside()
                self._append(content)
                self._failing = False
            except (OSError, ValueError) as error:  # of a file that could not be opened again a ValueError
                if not self._failing:
                    _logger.error("the log %s cannot be written (%s): requests are answered all the same", self._path, error)
                self._failing = True

    def _append(self, content: bytes) -> None:
        assert self._file is not None
        content = b"\n" + content if self._torn else content
        written = self._file.write(content) or 0
        self._bytes += written
        if written < len(content):
            self._torn = self._torn or written > 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False

    def _put_aside(self) -> None:
        """Begin a file anew, with the line by which the server started: what follows is read by that."""
        assert self._path is not None
        assert self._file is not None
        self._file.close()
        try:
            history.put_aside(self._path)
        finally:
            self._file = self._path.open("ab", buffering=0)
            self._bytes = self._file.tell()
        self._torn = False
        self._append(self._start)

    def _inputs(self, rows: Sequence[Mapping[str, Any]], answer: bytes) -> dict[str, Any]:
        """Rows and predictions with placeholders for what is private; of files nothing is kept."""
        assert self._finders is not None
        files = {name for name, kind in self._asked.items() if kind == request.FILE}
        kept = [{name: value for name, value in row.items() if name not in (*files, request.ID)} for row in rows]
        try:
            told = json.loads(answer).get("predictions", [])
        except (ValueError, AttributeError):
            told = []
        counts = Counter[str]()
        return {
            "asked": [redaction.value(row, self._finders, counts) for row in kept],
            "answers": [redaction.value(each, self._finders, counts) for each in told],
        }

    def _spread(self, what: str, held: list[np.ndarray], new: Iterable[np.ndarray], edges: Sequence[Sequence[float]]) -> None:
        """Hold vectors until there are enough, and then add how they are distributed."""
        with self._turn:
            held.extend(new)
            if len(held) < SPREAD_ROWS:
                return
            counted = [*held]
            held.clear()
        self.event(what, rows=len(counted), parts=reference.counts(counted, edges))


def _ends_a_line(path: Path) -> bool:
    """Whether a file is empty, or its last line is whole."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
