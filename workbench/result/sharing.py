"""What is said of workers that share a device: how many, since when, and what was measured that made them so many."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from workbench.quantities import many


def sharing_text(record: Mapping[str, Any]) -> str:
    """Write one decision (`workbench.sweep.device_sharing.Change`, with its `device` and the time `at`) as a sentence.

    `2 workers on GPU 0 from 12:03: utilisation 31 % with 1.`
    """
    workers, growth, why = int(record["workers"]), record.get("growth"), record["why"]
    used = "" if record.get("utilisation") is None else f"utilisation {100 * record['utilisation']:.0f} %"
    grown = "" if growth is None else f"{growth:.2f} times the useful tokens a second of"
    before = {
        "added": f"{used} with {workers - 1}",
        "kept": f"{grown} {workers - 1}, {used}",
        "left": f"{workers + 1} did {grown} {workers}",
        "memory": f"{used}, but no other fits: {record.get('detail', '')}",
        "unreadable": "its utilisation cannot be read, so none is added",
    }[why]
    from_then = "from" if why in ("added", "left") else "at"
    return f"{many(workers, 'worker')} on {record['device']} {from_then} {datetime.fromtimestamp(record['at']):%H:%M}: {before}."
