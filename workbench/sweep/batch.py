"""Steps that were decided together: where many workers are at work, one of them decides for several.

A decision takes most of a second, nearly all of it to fit the model, and workers decide one after another. From sixteen
workers on it is therefore made for an eighth of them at once: each further step by the same model, with those before it taken
as under way. The steps are noted with the study, and handed out to the workers that ask next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.ledger import Ledger
from workbench.result import Result, by_run
from workbench.search import Step
from workbench.study import Recipe

WORKERS_A_STEP = 8
"""For so many workers at work one step more is decided at once."""

_STALE = 2
"""Steps are thrown away once so many times as many Results have come since they were decided: by those others may be better."""


def ahead(results: Sequence[Result]) -> int:
    """How many steps more than one are to be decided at once."""
    return max(0, sum(r.status == "running" for r in results) // WORKERS_A_STEP - 1)


class Batch:
    """The steps that are noted with a study.

    Args:
        ledger: Where they are noted. Whoever uses them is the only worker that chooses.
        resolve: The recipe of settings.
        admits: Whether a step fits what is left of the budgets.
    """

    def __init__(self, ledger: Ledger, resolve: Callable[[Mapping[str, Any]], Recipe], admits: Callable[[Step], bool]) -> None:
        self._ledger, self._resolve, self._admits = ledger, resolve, admits

    def take(self, results: Sequence[Result], current: str | None, starts_left: int | None) -> Step | None:
        """The next step that is still of use, which nobody else is given then; None where there is none.

        Args:
            results: All Results, those that are being made included.
            current: The id of the run in memory, which is gone on with if it may be.
            starts_left: How many more runs may be started; None for any number.
        """
        noted = self._ledger.steps
        steps = [Step(each["action"], each["settings"], each["until"], reason=each["reason"]) for each in noted.get("steps", ())]
        if not steps:
            return None
        if _finished(results) - noted["seen"] > _STALE * noted["size"]:
            steps = []
        runs = by_run(results)
        left = [(self._resolve(step.settings or {}).run_id, step) for step in steps]
        left = [(run_id, step) for run_id, step in left if _is_open(runs.get(run_id, ()), step)]
        left = [(run_id, step) for run_id, step in left if starts_left != 0 or run_id in runs]
        left.sort(key=lambda each: each[0] != current)
        while left:
            _, step = left.pop(0)
            if self._admits(step):
                self._note(noted, [step for _, step in left])
                return step
        self._note(noted, [])
        return None

    def keep(self, step: Step, results: Sequence[Result]) -> None:
        """Note the steps that were decided with this one."""
        if step.further:
            self._note({"seen": _finished(results), "size": len(step.further) + 1}, step.further)

    def _note(self, noted: Mapping[str, Any], steps: Sequence[Step]) -> None:
        told = [{"action": s.action, "settings": s.settings, "until": s.until, "reason": s.reason} for s in steps]
        self._ledger.note_steps({**noted, "steps": told})


def _finished(results: Sequence[Result]) -> int:
    return sum(r.status != "running" for r in results)


def _is_open(segments: Sequence[Result], step: Step) -> bool:
    """Whether nobody is at the run of a step, and it has not come so far."""
    done = max((r.epochs for r in segments if r.status == "complete"), default=0.0)
    return all(r.status in ("complete", "interrupted") for r in segments) and (step.until is None or done < step.until)
