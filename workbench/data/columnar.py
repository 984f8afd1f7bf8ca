"""Rows of parquet and Arrow files. These store columns apart, so only columns that are read are
ever in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.data.files import ROWS_AT_ONCE, reading, wrong

Chosen = Callable[[Sequence[str], str], Sequence[str]]
"""From the names of a table's columns, and its name, to the columns to read. Raises DataError where
one is missing.
"""

HIDDEN = -1
"""The class number that stands for a secret label, as on the test sides of benchmarks."""


def parquet(file: Path, chosen: Chosen) -> Iterator[tuple[str, Any]]:
    """Rows of a parquet file, some at a time."""
    with reading(str(file), "a parquet file"):
        import pyarrow.parquet  # type: ignore[import-untyped,unused-ignore]

        table = pyarrow.parquet.ParquetFile(file)
    with table:
        known = _columns(table.schema_arrow, file, chosen)
        with reading(str(file), "a parquet file"):
            batches = table.iter_batches(batch_size=ROWS_AT_ONCE, columns=known)
        yield from _rows(batches, file, "a parquet file", _names(table.schema_arrow))


def arrow(file: Path, chosen: Chosen) -> Iterator[tuple[str, Any]]:
    """Rows of an Arrow file or an Arrow stream; `datasets` saves streams."""
    with reading(str(file), "an Arrow file"):
        import pyarrow

        source = stack = pyarrow.memory_map(str(file))
        try:
            table = pyarrow.ipc.open_file(source)
            batches = (table.get_batch(i) for i in range(table.num_record_batches))
        # The two formats share a suffix, and only reading tells them apart.
        except pyarrow.ArrowInvalid:
            source.seek(0)
            table = pyarrow.ipc.open_stream(source)
            batches = iter(table)
    with stack:
        known = _columns(table.schema, file, chosen)
        yield from _rows((batch.select(known) for batch in batches), file, "an Arrow file", _names(table.schema))


def _columns(schema: Any, file: Path, chosen: Chosen) -> list[str]:
    known = [*chosen(schema.names, str(file))]
    if twice := [name for name in known if schema.names.count(name) > 1]:
        raise wrong(f"{file}: has the column {twice[0]!r} twice. Remove one.")
    return known


def _rows(batches: Iterator[Any], file: Path, kind: str, names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Any]]:
    number = 0
    while True:
        # A damaged batch shows only when it is read, so the boundary is inside the loop and leaves
        # out the consumer of the rows.
        with reading(str(file), kind):
            batch = next(batches, None)
            found = [] if batch is None else batch.to_pylist()
        if batch is None:
            return
        for row in found:
            number += 1
            yield f"row {number}", named(row, names)


def named(row: dict[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The row with names of classes in place of their numbers, in columns whose names are known."""
    for column, known in names.items():
        value = row.get(column)
        if value == HIDDEN:
            row = row | {column: None}
        elif isinstance(value, int) and 0 <= value < len(known):
            row = row | {column: known[value]}
        elif isinstance(value, list) and all(isinstance(each, int) and 0 <= each < len(known) for each in value):
            row = row | {column: [known[each] for each in value]}
    return row


def _names(schema: Any) -> dict[str, Sequence[str]]:
    """Names of classes for columns that hold their numbers; `datasets` keeps these in a table's
    metadata.
    """
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return names_of(features)
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def names_of(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Names of the classes, for each column of classes or of lists of classes.

    Args:
        features: Features of `datasets`, or their record as JSON.
    """
    found: dict[str, Sequence[str]] = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, Mapping) else getattr(feature, "feature", feature)
        names = inner.get("names") if isinstance(inner, Mapping) else getattr(inner, "names", None)
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
            found[str(column)] = names
    return found
