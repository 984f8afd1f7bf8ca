"""The machines of a sweep: what each is, what it costs, how fast it is, and which has fallen silent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from workbench import prices
from workbench.quantities import dollars, duration, many, number
from workbench.result import Result


@dataclass(frozen=True)
class Machine:
    """A machine at one offer. As text it is a sentence.

    Attributes:
        host: Its name; empty of Results from before that was recorded.
        device: The GPUs that work there, else the processors.
        offer: The name of the offer that prices it.
        usd_per_hour: What that costs; None where no price was recorded.
        results: How many Results it has finished.
        seconds: Seconds of work that went into them, and into what is under way.
        tokens: Tokens that it trained on and evaluated, padding excluded.
        usd: What all of that has cost, in US$; None where it is unknown.
        workers: How many workers are at work there now.
        silent_seconds: How long each of those has been silent that hold a lease and give no sign of life.
    """

    host: str
    device: str
    offer: str
    usd_per_hour: float | None
    results: int = 0
    seconds: float = 0.0
    tokens: int = 0
    usd: float | None = 0.0
    workers: int = 0
    silent_seconds: tuple[float, ...] = ()

    @property
    def results_per_hour(self) -> float | None:
        """Results in an hour of work; None before the first."""
        return self.results / self.seconds * 3600 if self.results and self.seconds else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens in a second of work; None before the first."""
        return self.tokens / self.seconds if self.tokens and self.seconds else None

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        return asdict(self) | {"results_per_hour": self.results_per_hour, "tokens_per_second": self.tokens_per_second}

    def __str__(self) -> str:
        price = "" if self.usd_per_hour is None else f" at {dollars(self.usd_per_hour)} an hour"
        rate = "" if self.results_per_hour is None else f", {number(float(round(self.results_per_hour)))} an hour of work"
        tokens = "" if self.tokens_per_second is None else f", {number(float(self.tokens_per_second))} tokens a second"
        said = f"{self.host or 'A machine'} ({self.device or 'unknown'}), {self.offer or 'no offer'}{price}: "
        said += f"{many(self.results, 'result')}{rate}{tokens}, {dollars(self.usd)} spent"
        said += f"; {many(self.workers, 'worker')} at work" if self.workers else ""
        if self.silent_seconds:
            said += f"; {many(len(self.silent_seconds), 'worker')} silent for {duration(max(self.silent_seconds))}"
        return f"{said}."


def machines(results: Iterable[Result]) -> dict[tuple[str, str, str], Machine]:
    """The machines that finished Results were made on, by host, device and offer."""
    found: dict[tuple[str, str, str], Machine] = {}
    for r in results:
        if r.spent and not r.taken_over:
            _add(found, r, str(r.provenance.get("host") or ""))
    return found


def with_workers(
    known: Mapping[tuple[str, str, str], Machine], workers: Sequence[tuple[str, Result, bool, float]]
) -> tuple[Machine, ...]:
    """The machines with those who hold a lease.

    Args:
        known: By `machines`.
        workers: Of each its host, the Result that it makes, whether it lives, and for how many seconds it has been silent.
    """
    found = dict(known)
    hosts = {key[0] for key in known} | {host for host, *_ in workers}
    if len(hosts - {""}) == 1:  # what was made before hosts were recorded was made on the only one there is
        (only,) = hosts - {""}
        for host, device, offer in known:
            if not host and (only, device, offer) not in known:
                found[only, device, offer] = replace(found.pop((host, device, offer)), host=only)
    for host, making, lives, silent in workers:
        key = _add(found, making, host)
        each = found[key]
        silences = each.silent_seconds if lives else (*each.silent_seconds, silent)
        found[key] = replace(each, workers=each.workers + lives, silent_seconds=silences)
    return tuple(found[key] for key in sorted(found))


def _add(found: dict[tuple[str, str, str], Machine], r: Result, host: str) -> tuple[str, str, str]:
    offer, device = str(r.offer.get("name") or ""), _device(r)
    key = (host, device, offer)
    paid = r.paid
    rate = None if paid is None else float(paid.usd_per_hour)
    each, consumed = found.get(key) or Machine(host, device, offer, rate), r.consumed
    usd = None if paid is None or each.usd is None else prices.usd(consumed, paid)
    found[key] = replace(
        each,
        results=each.results + (r.status in ("complete", "infeasible")),
        seconds=each.seconds + consumed.seconds,
        tokens=each.tokens + consumed.work.tokens,
        usd=None if usd is None or each.usd is None else each.usd + usd,
    )
    return key


def _device(r: Result) -> str:
    """The GPUs of a Result's machine, else its processors, in words; empty where they were not recorded."""
    known = r.provenance.get("device")
    if not isinstance(known, Mapping):
        return r.device or ""
    gpus = [str(gpu.get("name", "")) for gpu in known.get("gpus") or ()]
    if gpus:
        return f"{len(gpus)} x {gpus[0]}"
    return f"{known['cpus_held']:g} x {known['cpu']}" if {"cpu", "cpus_held"} <= known.keys() else ""
