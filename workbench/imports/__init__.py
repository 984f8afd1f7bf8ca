"""Results that others published, read into Results of ours: one short file a source.

A reader changes nothing and downloads nothing. What it cannot read it refuses as a whole, before anything is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.result import Result

__all__ = ["Imported"]


@dataclass(frozen=True)
class Imported:
    """What a source holds.

    Attributes:
        name: Full name of its study in a ledger.
        description: Its question, objectives and prices, as a ledger notes them of a study.
        results: Its runs in the order in which they began.
    """

    name: str
    description: Mapping[str, Any]
    results: tuple[Result, ...]
