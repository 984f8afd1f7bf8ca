"""Recorded training runs, read from a table: a pool of configurations, each with its curve of cost against quality."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.errors import DataError, UsageError
from workbench.replay.spaces import dimensions_of, settings_of
from workbench.space import Dimension, Value, is_number

Numbers = NDArray[np.float64]

OUT_OF_MEMORY = ("oom", "out_of_memory", "out of memory")
"""Statuses of runs that could not start: they cost their cold start only."""


FINISHED = ("complete", "completed", "done", "finished", "success", "successful", "succeeded")
"""Words that others use for `ok`."""


@dataclass(frozen=True, eq=False)
class Run:
    """A configuration of the pool, and what was recorded of it.

    Attributes:
        settings: Its settings by name; one that its method lacks is absent.
        costs: What each of its checkpoints costs from cold, increasing, in the table's unit. A run that failed has the
            checkpoints that it was to have: to a method it looks like any other until it fails.
        qualities: Qualities of the checkpoints that were reached, the first of `costs`: finite, to be maximised.
        losses: Losses of the same checkpoints; none where the table lacks the loss of one.
        recorded: Cost of its last recorded checkpoint; 0 where it has none.
        status: `ok`, or how it failed.
    """

    settings: Mapping[str, Value]
    costs: Numbers
    qualities: Numbers
    recorded: float
    status: str = "ok"
    losses: tuple[float, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it ends in failure, after its last recorded checkpoint."""
        return self.status != "ok"

    @property
    def failing_cost(self) -> float:
        """Cost from cold when it fails: the next checkpoint's, which is not reached; 0 where it did not even start."""
        reached = len(self.qualities)
        if not reached and self.status in OUT_OF_MEMORY:
            return 0.0
        return float(self.costs[min(reached, len(self.costs) - 1)])


@dataclass(frozen=True, eq=False)
class Table:
    """A pool of recorded runs.

    Attributes:
        name: Its name in reports.
        meta: What the file says of itself: what quality and cost are, source, licence.
        dimensions: The space of the settings.
        runs: The runs in the file's order.
        digest: CRC-32 of the file's text, in hexadecimal.
    """

    name: str
    meta: Mapping[str, Any]
    dimensions: Mapping[str, Dimension]
    runs: tuple[Run, ...]
    digest: str = ""

    @cached_property
    def full_costs(self) -> Numbers:
        """Cost from cold of each run's last checkpoint, reached or not."""
        return np.array([run.costs[-1] for run in self.runs])

    @cached_property
    def stops(self) -> NDArray[np.int64]:
        """How many checkpoints each run is to have."""
        return np.array([len(run.costs) for run in self.runs])

    @cached_property
    def recorded_costs(self) -> Numbers:
        """Cost of what was recorded of each run."""
        return np.array([run.recorded for run in self.runs])

    @cached_property
    def points(self) -> Numbers:
        """All recorded checkpoints: a row of cost and quality each."""
        return np.concatenate([np.column_stack([run.costs[: len(run.qualities)], run.qualities]) for run in self.runs])

    def budget(self, full_runs: float) -> float:
        """Cost of so many mean full runs, capped at that of the whole table."""
        return float(min(full_runs * self.recorded_costs.mean(), self.recorded_costs.sum()))


def read(path: Path) -> Table:
    """Read a table from a file of JSON lines, compressed by gzip or not.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        DataError: The file is no table; the message names the line and what to do.
    """
    text = _text(path)
    # Not `splitlines`, which also breaks at U+2028 and the like inside JSON strings.
    lines = [(f"{path}, line {n}", line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f'{path} is empty. The first line must be {{"meta": …}}, each other one a run.')
    meta = _meta(*lines[0])
    dimensions = dimensions_of(meta["space"], lines[0][0])
    raw = [_run(place, line, dimensions) for place, line in lines[1:]]
    if all(run.status != "ok" for run in raw):
        raise DataError(f"{path} has no run that finished: there is nothing to replay. Give a table with runs of status ok.")
    name = meta.get("table")
    if name is not None and not isinstance(name, str):
        raise DataError(f'{lines[0][0]}: "table", the name of the table, must be text; got {name!r}.')
    with np.errstate(over="ignore"):  # told of below
        table = Table(
            name=name or path.name.split(".")[0],
            meta=meta,
            dimensions=_conditional(dimensions, [run.settings for run in raw]),
            runs=tuple(_planned(raw)),
            # Of the text, so a table has one digest whether it is compressed or not.
            digest=f"{zlib.crc32(text.encode()):08x}",
        )
        total, widest = float(table.full_costs.sum()), float(np.ptp(table.points[:, 1]))
    if not (math.isfinite(total) and math.isfinite(widest)):
        what, got = ("costs", total) if math.isinf(total) else ("differences of qualities", widest)
        raise DataError(f"{path}: {what} add up to {got}: they are too large to compute with. Give them in a larger unit.")
    if not widest > 0:
        raise DataError(f"{path}: all checkpoints have the same quality, so that no search can be told from another.")
    return table


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")  # some editors write a mark first
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"there is no table {path}. Give a file of JSON lines, .jsonl or .jsonl.gz.") from error
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Give JSON lines in UTF-8, compressed by gzip or not.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}. Give a file that you may read.") from error


def _json(place: str, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # no JSON, a number of thousands of digits, brackets without end
        raise DataError(
            f"{place} is no JSON: {error}. A table of recorded runs is JSON lines: "
            'first {"meta": {"space": …}}, then {"config", "curve", "status"} for each run.'
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{place} must be a JSON object; got {line[:60]!r}.")
    return record


def _meta(place: str, line: str) -> dict[str, Any]:
    meta = _json(place, line).get("meta")
    if not isinstance(meta, dict):
        raise DataError(f'{place} must be {{"meta": {{"space": …}}}}, which says what the settings are; got {line[:60]!r}.')
    if not isinstance(meta.get("space"), dict):
        raise DataError(f'{place}: meta has no "space". Add one: the type and range of each setting by its name.')
    return meta


class _Raw(NamedTuple):
    """A run as it was recorded."""

    settings: dict[str, Value]
    costs: Numbers
    qualities: Numbers
    losses: tuple[float, ...]
    status: str


def _run(place: str, line: str, dimensions: Mapping[str, Dimension]) -> _Raw:
    """Read a run from a line. Its curve ends before the first quality that is no finite number."""
    record = _json(place, line)
    if not isinstance(record.get("config"), dict):
        raise DataError(f'{place}: the run has no "config". Add its settings by name.')
    settings = settings_of(record["config"], dimensions, place)
    status = _status(record.get("status"), place)
    costs: list[float] = []
    qualities: list[float] = []
    losses: list[float] = []
    for cost, quality, loss in _curve(record.get("curve"), place):
        if costs and cost <= costs[-1]:
            raise DataError(f"{place}: costs must increase along a curve; got {cost:g} after {costs[-1]:g}. Give cumulative costs.")
        costs.append(cost)
        if quality is None:
            status = "diverged" if status == "ok" else status
            break
        qualities.append(quality)
        losses += [] if loss is None else [loss]
    if not costs and status == "ok":
        raise DataError(f'{place}: the run has no curve. Give [[cost, quality], …], or a status other than "ok" if it failed.')
    return _Raw(settings, np.array(costs), np.array(qualities), tuple(losses) if len(losses) == len(qualities) else (), status)


def _status(status: Any, place: str) -> str:
    """Return how a run ended; `ok` where nothing is said."""
    if status is None or (isinstance(status, str) and status.strip().lower() in ("", "ok")):
        return "ok"
    if not isinstance(status, str):
        raise DataError(f'{place}: the status must be "ok", or in words how the run failed; got {status!r}.')
    if status.strip().lower() in FINISHED:
        raise DataError(f'{place}: the status {status!r} would count as a failure: every word but "ok" is one. Write "ok".')
    return status


def _curve(curve: Any, place: str) -> Iterator[tuple[float, float | None, float | None]]:
    """Cost, quality and loss of each checkpoint.

    The quality is None where it is no finite number: the run had diverged. The loss is None where there is none.
    """
    if not isinstance(curve, list):
        raise DataError(f"{place}: the run has no curve. Give it one: [[cost, quality], …], or [[cost, quality, loss], …].")
    for n, point in enumerate(curve, 1):
        if not (isinstance(point, list) and len(point) in (2, 3)):
            raise DataError(f"{place}: checkpoint {n} must be [cost, quality] or [cost, quality, loss]; got {point!r}.")
        cost, quality, *more = point
        if not (is_number(cost) and cost > 0):
            raise DataError(
                f"{place}: the cost of checkpoint {n} must be a finite number above 0; got {cost!r}. Mend or drop the run."
            )
        if quality is not None and (isinstance(quality, bool) or not isinstance(quality, (int, float))):
            raise DataError(f"{place}: the quality of checkpoint {n} must be a number; got {quality!r}.")
        if not all(is_number(loss) for loss in more):
            raise DataError(f"{place}: the loss of checkpoint {n} must be a finite number; got {more[0]!r}. Leave it out.")
        reached = float(quality) if quality is not None and is_number(quality) else None
        yield float(cost), reached, float(more[0]) if more else None


def _planned(raw: Sequence[_Raw]) -> Iterator[Run]:
    """Yield the runs with all the checkpoints that they were to have.

    How long a failed run was to be is not recorded. It is taken to be as long as the median of the
    finished ones, at its own cost of a checkpoint. Were its plan as short as its record, every
    method would know beforehand that it fails.
    """
    finished = [run.costs for run in raw if run.status == "ok"]
    stops = int(np.median([len(costs) for costs in finished]))
    typical = float(np.median([costs[-1] / len(costs) for costs in finished]))
    for settings, costs, qualities, losses, status in raw:
        more = stops - len(costs) if status != "ok" else 0
        # A run that recorded nothing is planned at the typical cost of a checkpoint.
        step = float(costs[-1]) / len(costs) if len(costs) else typical
        last = float(costs[-1]) if len(costs) else 0.0
        plan = np.concatenate([costs, last + step * np.arange(1, more + 1)])
        yield Run(settings, plan, qualities, last, status, losses)


def _conditional(dimensions: Mapping[str, Dimension], pool: Sequence[Mapping[str, Value]]) -> dict[str, Dimension]:
    """Add the condition that a dimension's name tells: `LORA.r` is there only where some setting is
    `LORA`.
    """
    conditional: dict[str, Dimension] = {}
    for name, dimension in dimensions.items():
        prefix, dot, _ = name.rpartition(".")
        having = [settings for settings in pool if name in settings]
        # A name alone proves nothing: every run that has the setting must have the option.
        owner = next((other for other in dimensions if having and all(s.get(other) == prefix for s in having)), None)
        when = ((owner, prefix),) if dot and owner is not None else ()
        conditional[name] = Dimension(name, dimension.space, when)
    return conditional
