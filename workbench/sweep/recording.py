"""Makes Results of what was trained, and writes each in the place of its lease."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.errors import EnvironmentFault, Refused, StudyError
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger import Away, Lease
from workbench.result import Cause, Result, cost, label_order
from workbench.sweep.current_work import CurrentWork
from workbench.sweep.grading import Grading
from workbench.sweep.job import Context
from workbench.sweep.limits import TO_COME
from workbench.sweep.runs import LongestRun
from workbench.usage import Usage

if TYPE_CHECKING:
    from workbench.training import Checkpoint


class Recorder:
    """Writes what came of the work at hand.

    Args:
        context: What the worker works with.
        work: What it is making.
        grading: What checkpoints are graded on beside the dev set.
    """

    def __init__(self, context: Context, work: CurrentWork, grading: Grading) -> None:
        self._context, self._work, self._grading = context, work, grading

    def checkpoint(self, run: LongestRun, made: Checkpoint) -> Result:
        """Make the Result of a checkpoint. It is not written yet.

        Raises:
            StudyError: The task's scores lack the one that the study maximises.
            Refused: A cost that the study minimises cannot be measured here.
        """
        assert self._work.lease is not None
        maximize, task = self._context.study.maximize, made.recipe.task
        if maximize not in made.scores:
            given = ", ".join(map(str, made.scores)) or "nothing"
            raise StudyError(
                f"score() of {type(task).__name__} gave {given}, and the study maximises {maximize}. "
                "Have score() give it, or maximize another."
            )
        stub, at = self._work.lease.result, run.at(made.recipe.epochs)
        result = replace(
            stub,
            provenance={**_made(stub), **({"compiling": dict(made.compiling)} if made.compiling else {})},
            recipe_id=made.recipe.id,
            recipe=made.recipe.to_json(),
            settings=at.settings,
            status="complete",
            scores=made.scores,
            usage=made.usage,
            elsewhere=tuple(made.elsewhere),
            labels=made.labels,
            labels_by_order=told_apart(made.recipe.to_json(), made.labels_by_order),
            bought=list(made.bought),
            step=made.step,
            examples=made.examples,
            tokens=made.tokens,
            trainable_parameters=made.trainable_parameters,
            serving=made.serving,
            samples=self._samples(made),
            finished=time.time(),
            replicate_of=at.replicate_of,
        )
        # A point with an unknown cost can never be on the front. Refuse it at
        # the first checkpoint, before the budget has gone into more of them.
        for name in self._context.study.costs:
            if cost(result, name, self._context.job.offer, self._context.job.label_usd, own=True) is None:
                raise Refused(
                    f"{name} cannot be measured on this machine, and the study minimises it. Minimise another cost, e.g. 'seconds'."
                )
        scores = self._grading.of(made)
        return replace(result, test_scores={**result.test_scores, result.recipe_id: scores}) if scores else result

    def _samples(self, made: Checkpoint) -> list[dict[str, Any]]:
        count = self._context.job.log_samples
        if not count:  # nothing of the data is put on record unasked
            return []
        pairs = zip(made.recipe.task.graded(), made.predictions, strict=True)
        return [{"example": dict(e), "prediction": p} for e, p in itertools.islice(pairs, count)]

    def graded(self) -> None:
        """Write what was graded on the test split where nothing was to be trained; nothing is
        written where nothing could be graded.
        """
        assert self._work.lease is not None
        stub = self._work.lease.result
        if stub.test_scores:
            self.write(replace(stub, provenance=_made(stub), status="complete", finished=time.time()), {})

    def cut(self) -> None:
        """Write that the run was stopped on its way. It can go on from its last state."""
        self.end("interrupted", self._context.interruptions.cause, self._context.interruptions.detail)

    def broke(self, cause: Cause, detail: str) -> None:
        """Write that an error ended the run, and the sweep with it."""
        with contextlib.suppress(EnvironmentFault):  # a ledger that cannot be written is the first error already
            self.end("interrupted", cause, detail)

    def end(self, status: str, cause: Cause, detail: str) -> None:
        """Write how a run ended without a checkpoint. What it consumed is charged to training, or to pre-training if it came no
        further.
        """
        lease, progress = self._work.lease, self._work.progress
        if lease is None or lease.finished:
            return
        spent = self._context.bill.unaccounted()
        labels: Mapping[str, int] = {}
        if progress is not None:
            spent, labels = spent.doing(progress.work), progress.by_order
        phase = "train" if progress is None else progress.phase
        ended = replace(
            lease.result,
            provenance=_made(lease.result),
            status=status,
            cause=cause,
            reason=cause.reason(detail),
            usage={} if status == "interrupted" else {phase: spent},
            labels=sum(labels.values()),
            labels_by_order=told_apart(lease.result.recipe, labels),
            finished=time.time(),
        )
        self.write(ended, {phase: spent})

    def write(self, result: Result, phases: Mapping[str, Usage]) -> list[Result]:
        """Write a Result, with all that was consumed since the one before, in the place of the
        lease.
        """
        bill = self._context.bill
        # The ledger has the Result and the meter a new bill at one moment for the watch, or it
        # would count the work twice.
        with bill.settling:
            with bill.settled(phases) as spent:
                written = self._finish(replace(result, spent=dict(spent)))
            results = [r for r in self._work.read(hurried=True) if r.status != "running"]
        self._context.notebook.record(written)
        self._context.observer.recorded(written, results)
        return results

    def _finish(self, result: Result) -> Result:
        context, lease = self._context, self._work.lease
        assert lease is not None
        try:
            with context.ledger.patience.hurried():
                return self._written(lease, result)
        except Away:
            if kept := self._kept(lease, result):
                return kept
        except (EnvironmentFault, KeyboardInterrupt):
            # The work is paid for. What the ledger cannot take now is written at the next start.
            self._kept(lease, result)
            raise
        with context.interruptions.handing_in():  # there is no room for a file: the ledger alone can keep it
            return self._written(lease, result)

    def _written(self, lease: Lease, result: Result) -> Result:
        context = self._context
        if context.unwritten.waits:  # what was made before comes before it
            context.unwritten.write(context.ledger, context.study, context.job.offer)
        return context.ledger.finish(lease, result, context.study, context.job.offer)

    def _kept(self, lease: Lease, result: Result) -> Result | None:
        """The Result, kept in a file; None where there is no room for one."""
        if not self._context.unwritten.keep(lease, result):
            return None
        self._context.observer.note(
            "The ledger could not be written: the result is kept here, and written when it is back, or when the sweep goes on."
        )
        return replace(result, trial=lease.result.trial, number=lease.result.number)

    def members(self, results: Sequence[Result]) -> set[str]:
        """Ids of the recipes on the front of these Results."""
        study, job = self._context.study, self._context.job
        # As each was paid: a machine without a GPU knows no price of its own for what was made on one, and would drop its weights.
        view = View(study.maximize, study.costs, {}, job.offer, job.label_usd, require=study.bounds, own=True)
        return {r.recipe_id for r in pareto_front(results, view)}


def told_apart(recipe: Mapping[str, Any], labels: Mapping[str, int]) -> dict[str, int]:
    """Labels by the order in which they are bought, as a Result has them: empty where there is one."""
    return dict(labels) if labels.keys() - {label_order(recipe)} else {}


def _made(stub: Result) -> Mapping[str, Any]:
    """The provenance without what is true only while a Result is being made."""
    return {name: value for name, value in stub.provenance.items() if name != TO_COME}
