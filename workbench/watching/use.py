"""What serving costs as it really is: requests, latency, tokens, energy and US$, by model.

US$ are those of the time for which a server was up, at the price of its machine: idle time is paid for too.
Where a server answers with several models each has a log, with its part of the server's time and energy. What
energy a second model took unseen is on nobody's bill here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import prices
from workbench.prices import Offer
from workbench.watching.history import History, Line, Server


@dataclass(frozen=True)
class Use:
    """How a model was used. Unknown is None.

    Attributes:
        model: Its registered name.
        version: The version.
        model_id: MLflow's id.
        runs: Whether a server answers with it now; None where that is another host's.
        url: Where the latest one answers.
        first: When the first request came, in seconds since 1970; None where none has come.
        last: When the last one came.
        requests: Requests that were answered.
        refused: Requests that were none, or too many at a time (4xx, 503).
        failed: Requests that the server failed with (other 5xx).
        rows: Rows that were answered.
        tokens: Tokens that were read and written for them.
        p50, p95, p99: Percentiles of the seconds from a request to its answer.
        model_seconds: Seconds that the model computed.
        up_seconds: Seconds for which its servers were up.
        load_per_second: Rows a second, over that time.
        energy_j: Joules of its servers over that time, idle ones included.
        usd: US$ of its servers over that time.
        usd_per_1000: The same for 1,000 rows.
        full_usd_per_1000: What 1,000 rows would cost on a machine that did nothing else all the time.
    """

    model: str
    version: int
    model_id: str
    runs: bool | None
    url: str
    first: float | None
    last: float | None
    requests: int
    refused: int
    failed: int
    rows: int
    tokens: int
    p50: float | None
    p95: float | None
    p99: float | None
    model_seconds: float
    up_seconds: float
    load_per_second: float | None
    energy_j: float | None
    usd: float | None
    usd_per_1000: float | None
    full_usd_per_1000: float | None

    @property
    def energy_j_per_1000(self) -> float | None:
        """Joules for 1,000 rows; None where they are unknown."""
        return None if self.energy_j is None or not self.rows else 1000 * self.energy_j / self.rows


def uses(history: History, offer: Offer) -> list[Use]:
    """How each model of a log was used, the latest last.

    Args:
        history: The log.
        offer: The machine that the servers ran on.
    """
    return [_use(history, model, offer) for model in history.models]


def _use(history: History, model: str, offer: Offer) -> Use:
    start = history.start_of(model)
    lines = [line for line in history.requests if line.get("model_id") == model]
    answered = [line for line in lines if line["status"] == 200]
    rows, busy = sum(line["rows"] for line in answered), seconds_of(answered)
    servers = [server for server in history.servers if server.start["model_id"] == model]
    up, joules = sum(map(_up_seconds, servers)), [_joules(history, server) for server in servers]
    energy = None if None in joules else sum(each for each in joules if each is not None)
    current = [server.runs for server in servers]
    usd = _usd(up, energy, offer)
    p50, p95, p99 = percentiles([line["seconds"] for line in answered])
    full = _full(busy, rows, energy, offer)
    return Use(
        model=str(start["model"]),
        version=int(start["version"]),
        model_id=model,
        runs=True if True in current else None if None in current else False,
        url=str(start.get("url", "")),
        first=min((line["time"] for line in lines), default=None),
        last=max((line["time"] for line in lines), default=None),
        requests=len(answered),
        refused=sum(400 <= line["status"] < 500 or line["status"] == 503 for line in lines),
        failed=sum(line["status"] >= 500 and line["status"] != 503 for line in lines),
        rows=rows,
        tokens=sum(line["tokens"] or 0 for line in answered),
        p50=p50,
        p95=p95,
        p99=p99,
        model_seconds=busy,
        up_seconds=up,
        load_per_second=rows / up if rows and up else None,
        energy_j=energy,
        usd=usd,
        usd_per_1000=None if usd is None or not rows else 1000 * usd / rows,
        full_usd_per_1000=full,
    )


def seconds_of(lines: Sequence[Line]) -> float:
    """Seconds that a model computed for requests."""
    return float(sum(line.get("model_seconds") or 0.0 for line in lines))


def percentiles(seconds: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """The 50th, 95th and 99th percentile; None of nothing."""
    if not seconds:
        return None, None, None
    found: Any = np.percentile(seconds, (50, 95, 99))
    return float(found[0]), float(found[1]), float(found[2])


def _up_seconds(server: Server) -> float:
    """Seconds of a server that fall on this log's model: of several models each has the part that its lines of usage state."""
    read = _read_until(server)
    return server.uptime_seconds * (sum(line["seconds"] for line in server.usage) / read if read else 1.0)


def _joules(history: History, server: Server) -> float | None:
    """Joules of a server that fall on this log's model; None where they are unknown."""
    read, used = _read_until(server), [float(line["energy_j"]) for line in server.usage if line.get("energy_j") is not None]
    if not read or len(used) < len(server.usage):
        return None
    # After the last line of usage, which a kill can leave out, it consumed as before.
    return sum(used) * server.uptime_seconds / read * (1 - _of_shadows(history, server))


def _read_until(server: Server) -> float:
    """Seconds from a server's start to its last line of usage; 0 before the first."""
    return max((float(line["uptime_seconds"]) for line in server.usage), default=0.0)


def _of_shadows(history: History, server: Server) -> float:
    """The part of a server's CPU time, and so of its energy, that second models took."""
    theirs = sum(line.get("cpu_seconds") or 0.0 for line in history.shadows if line["server"] == server.id)
    whole = sum(line.get("cpu_seconds") or 0.0 for line in server.usage)
    return min(1.0, theirs / whole) if whole else 0.0


def _usd(seconds: float, energy_j: float | None, offer: Offer) -> float | None:
    electricity = prices.electricity_usd(energy_j, offer)
    return None if electricity is None else float(offer.usd_per_hour) * seconds / 3600 + electricity


def _full(busy: float, rows: int, energy_j: float | None, offer: Offer) -> float | None:
    if not busy or not rows:
        return None
    each = None if energy_j is None else energy_j / rows
    return prices.serving_usd_per_1000(offer, rows / busy, energy_j_per_prediction=each)
