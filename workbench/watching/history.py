"""The log of served models, read: answered requests, servers, and what these used."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from workbench import process
from workbench.errors import EnvironmentFault, UsageError, did_you_mean

FOLDER = Path(".workbench", "serving")
"""Where the logs are, in the folder that a server was started in."""

PARTS = 3
"""How many files of a log are kept beside the one that is written, which are put aside when they are full."""

_EACH = ("server", "time", "uptime_seconds", "model_id")
"""What all lines of a log have."""

_TURNS = 200
"""How often a log is opened anew that is put aside meanwhile."""

Line = Mapping[str, Any]


class Row(NamedTuple):
    """A row that was answered.

    Attributes:
        time: When, in seconds since 1970.
        model_id: MLflow's id of the model that answered.
        id: The caller's id; else that of the request and the row's place in it, as `0f3c2a1b9d4e/0`.
        label: The class that was answered; None where it is no class.
        score: How sure the model was, 0 to 1; None where it does not say.
        length: Characters of the row; None where they were not counted.
        asked: The row as it is logged; None where rows are not.
        answer: The answer as it is logged; None where answers are not.
    """

    time: float
    model_id: str
    id: str
    label: str | None
    score: float | None
    length: int | None
    asked: Any
    answer: Any


@dataclass(frozen=True)
class Server:
    """One start of a server.

    Attributes:
        id: It stands in each of its lines.
        start: Its first line: its process, its models' evidence, the reference.
        uptime_seconds: From its start to its last line.
        last: When that was, in seconds since 1970.
        usage: Its lines of what it has consumed.
        stopped: Whether it has said that it ends.
    """

    id: str
    start: Line
    uptime_seconds: float
    last: float
    usage: Sequence[Line]
    stopped: bool

    @property
    def runs(self) -> bool | None:
        """Whether it runs now; None where it is another host's, so that this cannot be seen."""
        return False if self.stopped else process.lives(self.start["process"])


class History:
    """What a log holds.

    Args:
        lines: Its lines, in the order in which they were written.

    Attributes:
        requests: The lines of requests.
        shadows: Those of a second model, which answered after them.
        words: Counts of how words were distributed, of some rows each.
        embeddings: The same of embeddings.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self.requests: list[Line] = []
        self.shadows: list[Line] = []
        self.words: list[Line] = []
        self.embeddings: list[Line] = []
        self._servers: dict[str, list[Line]] = {}
        for line in lines:
            event = line.get("event")
            if event is None:
                (self.shadows if line.get("shadow") is True else self.requests).append(line)
            elif event == "words":
                self.words.append(line)
            elif event == "embeddings":
                self.embeddings.append(line)
            self._servers.setdefault(str(line.get("server")), []).append(line)

    @cached_property
    def servers(self) -> list[Server]:
        """The starts of the server, the first one first."""
        found = []
        for name, lines in self._servers.items():
            own = [line for line in lines if line.get("shadow") is not True]
            start = next((line for line in own if line.get("event") == "start"), None)
            if start is None:  # the file was cut at its head
                continue
            found.append(
                Server(
                    name,
                    start,
                    max(float(line["uptime_seconds"]) for line in own),
                    max(float(line["time"]) for line in own),
                    [line for line in own if line.get("event") == "usage"],
                    any(line.get("event") == "stop" for line in own),
                )
            )
        return found

    @cached_property
    def rows(self) -> list[Row]:
        """All rows that were answered, the first one first."""
        return [*rows_of(self.requests)]

    def of(self, model_id: str) -> list[Row]:
        """The rows that one model answered."""
        return [row for row in self.rows if row.model_id == model_id]

    @property
    def models(self) -> list[str]:
        """The ids of the models that were started, the latest last."""
        return [*dict.fromkeys(str(server.start["model_id"]) for server in self.servers)]

    def is_of(self, study: str) -> bool:
        """Whether a model of a study was served, by its full name; or one of the same file before its space was edited."""
        served = {str((server.start.get("evidence") or {}).get("study", "")) for server in self.servers}
        return study.rpartition("-")[0] in {name.rpartition("-")[0] for name in served}

    def start_of(self, model_id: str) -> Line:
        """The latest line by which a server of this model began."""
        return next(server.start for server in reversed(self.servers) if server.start["model_id"] == model_id)


def rows_of(lines: Sequence[Line]) -> Iterator[Row]:
    """The rows of lines of requests that were answered."""
    for line in lines:
        if line["status"] != 200:
            continue
        count = int(line["rows"])
        columns = [_column(line, name, count) for name in ("ids", "labels", "scores", "lengths", "asked", "answers")]
        for place, (name, label, score, length, asked, answer) in enumerate(zip(*columns, strict=True)):
            known = name if isinstance(name, str) else f"{line.get('request', '')}/{place}"
            yield Row(float(line["time"]), str(line.get("model_id", "")), known, label, score, length, asked, answer)


def _column(line: Line, name: str, count: int) -> Sequence[Any]:
    found = line.get(name) or []
    return found if len(found) == count else [None] * count


def read(file: Path) -> History:
    """Read a log. A line that is being written, or was broken off by a crash, is left out.

    Raises:
        EnvironmentFault: It cannot be read.
    """
    try:
        content = _content(file)
    except OSError as error:
        raise EnvironmentFault(f"the log {file} cannot be read: {error.strerror}.") from error
    return History([*_lines(content)])


def _content(file: Path) -> bytes:
    """All files of a log, the oldest first. They are opened again if one is put aside meanwhile: each line is there once."""
    for turn in range(_TURNS):
        last = turn == _TURNS - 1
        with contextlib.ExitStack() as stack:
            try:
                opened = {each: stack.enter_context(each.open("rb")) for each in (*parts(file), file)}
                # What is open keeps its number, so no other file has it meanwhile.
                now = {each: each.stat().st_ino for each in (*parts(file), file)}
                if last or now == {each: os.fstat(stream.fileno()).st_ino for each, stream in opened.items()}:
                    return b"".join(stream.read() for stream in opened.values())
            except FileNotFoundError:  # put aside a moment ago, and not begun anew yet
                if last:
                    raise
        time.sleep(0.001)
    raise AssertionError("the last turn returns or raises")


def parts(file: Path) -> list[Path]:
    """The files of a log that were put aside, the oldest first."""
    return [each for number in range(PARTS, 0, -1) if (each := _part(file, number)).is_file()]


def put_aside(file: Path) -> None:
    """Put a log aside, as the first of its parts. Beyond `PARTS` the oldest is dropped."""
    for number in range(PARTS - 1, 0, -1):
        if _part(file, number).is_file():
            _part(file, number).replace(_part(file, number + 1))
    file.replace(_part(file, 1))


def _part(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.{number}")


def _lines(content: bytes) -> Iterator[Line]:
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {*_EACH} <= {*line} and ("event" in line or "status" in line):
            yield line


def log_file(name: str, folder: Path = FOLDER) -> Path:
    """Where the log of a model is, unless `workbench serve --log` said otherwise."""
    return folder / f"{name}.jsonl"


def logs(folder: Path = FOLDER) -> list[Path]:
    """The logs in a folder, the one written to last at the end."""
    return sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_mtime)


def find(name: str | None, folder: Path = FOLDER) -> Path:
    """The log of a model.

    Args:
        name: The model's registered name; None: the one that was written to last.
        folder: Where logs are.

    Raises:
        UsageError: There is none.
    """
    known = logs(folder)
    if not known:
        raise UsageError(f"no model was served from this folder: there is no log in {folder}. `workbench serve NAME` writes one.")
    if name is None:
        return known[-1]
    file = log_file(name, folder)
    if file not in known:
        names = [each.stem for each in known]
        hint = did_you_mean(name, names) or f" There are those of {', '.join(names)}."
        raise UsageError(f"no log of {name!r} is in {folder}.{hint}")
    return file
