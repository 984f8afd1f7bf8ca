"""Plain data of recipes and studies, and the digests that name them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.errors import UsageError
from workbench.space import Choice, Space, Value, describe


def plain(value: Any) -> Any:
    """Plain data of which equal values give equal text. Of a choice the options are told in full."""
    if isinstance(value, Choice):
        return {"choice": [plain(option) for option in value.options]}
    if isinstance(value, Space):
        return describe(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {
            f.name: plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            # Fields that came later leave the records of what does not use them as they were.
            if not f.metadata.get("later") or getattr(value, f.name) != f.default
        }
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(v) for v in value), key=repr)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Value):
        return value
    if " at 0x" in (text := repr(value)):  # an address: another one in every process
        raise UsageError(f"{text} cannot stand in a recipe: it has no record. Use numbers, strings, lists, dicts or dataclasses.")
    return text


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested plain data as pairs of dotted names and values, in their order."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def digest(record: Mapping[str, Any], data: str | int = "", **more: str | int) -> str:
    """Sixteen hex digits of a record, of the fingerprint of its data, and of further fingerprints by kind."""
    # Ids stand in ledgers for ever. Those that were made when data had the only fingerprint
    # stay what they are because the others join the text only where there are any.
    text = json.dumps([record, data, *([more] if more else [])], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
