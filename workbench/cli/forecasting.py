"""What the commands that forecast share: the forecaster of a study, with what was timed and what was run here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.cli.common import ledger_url
from workbench.errors import EnvironmentFault, UsageError
from workbench.report import dollars, duration

if TYPE_CHECKING:
    from workbench.estimate import Estimate
    from workbench.forecast import Calibration, Forecaster, Typical
    from workbench.prices import Offer
    from workbench.result import Result
    from workbench.study import Study

CALIBRATION = Path(".workbench", "calibration.json")
"""Where `plan --calibrate` keeps what it timed, in the folder of the ledger."""


def forecaster_of(study: Study, storage: str | None) -> Forecaster:
    """A forecaster that knows what was timed here, and the study's Results where it was swept."""
    from workbench.forecast import Forecaster

    return Forecaster(study, _results(study, storage), _calibration())


def expectation(run: Typical, runs: int, offer: Offer, label_usd: float) -> str:
    """What so many runs of a sweep take on this machine, as a sentence: `12 runs are forecast to take 6 min (4 min to 9 min) …`."""
    from workbench.forecast import of_runs

    taken = of_runs(run, runs, offer, label_usd, same_machine=True)
    count = f"{runs} run{'' if runs == 1 else 's'} of this study"
    if taken is None:
        return f"What {count} will take is unknown."
    usd = "an unknown sum" if taken.usd is None else banded(taken.usd, dollars)
    return f"{count} are forecast to take {banded(taken.seconds, duration)} and {usd}, {taken.seconds.basis}."


def banded(estimate: Estimate, write: Callable[[float], str]) -> str:
    """`12 min 30 s (4 min 00 s to 40 min 00 s)`."""
    return f"{write(estimate.value)} ({write(estimate.low)} to {write(estimate.high)})"


def keep_calibration(calibration: Calibration) -> None:
    """Write down what was timed."""
    CALIBRATION.parent.mkdir(exist_ok=True)
    CALIBRATION.write_text(json.dumps(calibration.to_json(), indent=1) + "\n", encoding="utf-8")


def _calibration() -> Calibration | None:
    """What was timed; None where nothing was, or the file is not to be understood: it can be made again."""
    from workbench.forecast import Calibration

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return Calibration.from_json(json.loads(CALIBRATION.read_text(encoding="utf-8")))
    return None


def _results(study: Study, storage: str | None) -> list[Result]:
    """The study's Results; none where it was not swept."""
    from workbench.ledger import Ledger

    with contextlib.suppress(UsageError, EnvironmentFault):
        return Ledger.find(study.name, ledger_url(storage)).results()
    return []
