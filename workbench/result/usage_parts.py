"""What of a point's cost was consumed on other machines than its Result's: a run may be gone on with elsewhere, or start from a
model that another machine has made. Each part is priced by the machine that it was consumed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.usage import Phases, Usage, total


@dataclass(frozen=True)
class UsagePart:
    """What was consumed on the machine of one offer.

    Attributes:
        offer: The offer at which it was paid, as `offer_record` keeps it.
        device: Product name of the machine's GPU; None for one without.
        usage: What was consumed there, by phase.
    """

    offer: Mapping[str, Any]
    device: str | None = None
    usage: Phases = field(default_factory=dict)

    def is_of(self, machine: UsagePart) -> bool:
        """Whether both are of machines of one offer, whatever its price was then."""
        return _named(self.offer) == _named(machine.offer)

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        usage = {phase: usage.to_json() for phase, usage in self.usage.items()}
        return {"offer": dict(self.offer), "device": self.device, "usage": usage}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> UsagePart:
        """Rebuild from `to_json`."""
        return cls(record["offer"], record["device"], {p: Usage.from_json(u) for p, u in record["usage"].items()})


def _named(offer: Mapping[str, Any]) -> tuple[object, object]:
    return offer.get("platform"), offer.get("instance")


def elsewhere(parts: Iterable[UsagePart], machine: UsagePart | None) -> list[UsagePart]:
    """The parts of all machines but one."""
    return [part for part in parts if machine is None or not part.is_of(machine)]


def rest(usage: Phases, parts: Iterable[UsagePart]) -> dict[str, Usage]:
    """What remains of a usage once these parts are taken out of it, by phase."""
    taken: dict[str, list[Usage]] = {}
    for part in parts:
        for phase, of_it in part.usage.items():
            taken.setdefault(phase, []).append(of_it)
    left = {phase: _without(whole, taken[phase]) if phase in taken else whole for phase, whole in usage.items()}
    return {phase: of_it for phase, of_it in left.items() if of_it.seconds > 0 or phase not in taken}


def _without(whole: Usage, parts: list[Usage]) -> Usage:
    others = {device.uuid for part in parts for device in part.devices}
    # A difference has no devices of its own: those of the other machines are gone, and ours are left as they were.
    return replace(whole - total(parts), devices=tuple(each for each in whole.devices if each.uuid not in others))


def whole(usage: Phases, parts: Iterable[UsagePart], machine: UsagePart | None) -> list[UsagePart]:
    """All parts of a usage, with that of this `machine`; as they are where that is not known."""
    others = list(parts)
    return others if machine is None else [*others, replace(machine, usage=rest(usage, others))]
