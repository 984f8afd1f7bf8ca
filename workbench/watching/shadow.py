"""How often a second model, which answers unseen, agrees with the one that is served, and what it would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workbench import prices
from workbench.prices import Offer
from workbench.watching import use
from workbench.watching.history import History, Line


@dataclass(frozen=True)
class Agreement:
    """A second model beside the one that is served.

    Attributes:
        model: Its registered name.
        version: The version.
        model_id: MLflow's id.
        beside: MLflow's id of the model that is served.
        rows: Rows that both have answered.
        agreed: Those that both gave the same answer to.
        low, high: The 95 % interval of the share that agrees (Wilson's), 0 to 1.
        dropped: Requests that it should have seen and did not, as it was busy.
        pairs: The commonest answers that differ, of the one that is served and its own, where answers are classes.
        usd_per_1000: US$ that 1,000 rows would cost with it on a machine that did nothing else all the time.
        saves_usd_per_1000: How much less that is than with the one that is served; below 0 where it is more.
        basis: What these US$ were reckoned from.
    """

    model: str
    version: int
    model_id: str
    beside: str
    rows: int
    agreed: int
    low: float
    high: float
    dropped: int
    pairs: Mapping[str, int]
    usd_per_1000: float | None
    saves_usd_per_1000: float | None
    basis: str

    @property
    def share(self) -> float | None:
        """The share of rows that both gave the same answer to, 0 to 1; None before the first."""
        return self.agreed / self.rows if self.rows else None

    def to_json(self) -> dict[str, Any]:
        """The agreement as plain data."""
        return {**asdict(self), "share": self.share}


def agreements(history: History, offer: Offer) -> list[Agreement]:
    """What each second model of a log says.

    Args:
        history: The log.
        offer: The machine that the servers ran on.
    """
    pairs = {(str(line["model_id"]), str(line["beside"])) for line in history.shadows}
    for server in history.servers:
        if (known := server.start.get("shadow")) is not None:
            pairs.add((str(known["model_id"]), str(server.start["model_id"])))
    return [_agreement(history, offer, model, beside) for model, beside in sorted(pairs)]


def _agreement(history: History, offer: Offer, model: str, beside: str) -> Agreement:
    from scipy.stats import binomtest

    seen = [line for line in history.shadows if line["model_id"] == model and line["beside"] == beside]
    lines = [line for line in seen if line["status"] == 200]
    servers = [server for server in history.servers if (server.start.get("shadow") or {}).get("model_id") == model]
    known: Line = seen[-1] if seen else servers[-1].start["shadow"]
    agrees = [bool(each) for line in lines for each in line["agrees"]]
    rows, agreed = len(agrees), sum(agrees)
    interval = binomtest(agreed, rows).proportion_ci(method="wilson") if rows else None
    first = {line.get("request"): line for line in history.requests if line.get("model_id") == beside}
    differing = Counter[str]()
    for line in lines:
        for ours, theirs in zip((first.get(line["request"]) or {}).get("labels") or [], line["labels"], strict=False):
            if ours is not None and theirs is not None and ours != theirs:
                differing[f"{ours} → {theirs}"] += 1
    own, served, basis = _costs(lines, [line for line in first.values() if line["status"] == 200], offer)
    return Agreement(
        model=str(known["model"]),
        version=int(known["version"]),
        model_id=model,
        beside=beside,
        rows=rows,
        agreed=agreed,
        low=float(interval.low) if interval else 0.0,
        high=float(interval.high) if interval else 1.0,
        dropped=sum(max((line.get("shadow_dropped", 0) for line in server.usage), default=0) for server in servers),
        pairs=dict(differing.most_common(5)),
        usd_per_1000=own,
        saves_usd_per_1000=None if own is None or served is None else served - own,
        basis=basis,
    )


def _costs(lines: list[Line], served: list[Line], offer: Offer) -> tuple[float | None, float | None, str]:
    """US$ for 1,000 rows of a second model and of the first, fully used, and what they were reckoned from.

    On a CPU they are reckoned from CPU seconds: a second model waits whenever the first one computes,
    which its own seconds hold. On a GPU from seconds.
    """
    name, basis = ("model_seconds", "seconds in use") if offer.gpus else ("cpu_seconds", "CPU seconds in use")
    found = []
    for of in (lines, served):
        rows, spent = sum(line["rows"] for line in of), sum(line.get(name) or 0.0 for line in of)
        found.append(prices.serving_usd_per_1000(offer, rows / spent) if rows and spent else None)
    if offer.gpus or None in found:
        return found[0], found[1], basis
    # Of seconds on one CPU: the machine has several, which a model uses as it did while it was alone.
    wall, cpu = use.seconds_of(served), sum(line.get("cpu_seconds") or 0.0 for line in served)
    ratio = wall / cpu if cpu else 1.0
    return (found[0] or 0.0) * ratio, (found[1] or 0.0) * ratio, basis
