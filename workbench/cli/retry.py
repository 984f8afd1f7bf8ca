"""`workbench retry`: another try for runs that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from workbench.cli import complete
from workbench.cli.printing import messages, reading, say_next
from workbench.cli.shared_options import storage_option
from workbench.cli.studies import no_such_run, open_ledger, retry_command, study_path
from workbench.errors import Refused
from workbench.report.records import find_run
from workbench.report.text import describe_plan
from workbench.result import AGAIN, Result, by_run, current
from workbench.result.outdated import changes

if TYPE_CHECKING:
    from workbench.ledger import Ledger


@click.command()
@click.argument("study", shell_complete=complete.studies)
@click.argument("runs", nargs=-1, metavar="[RUN]…", shell_complete=complete.runs)
@storage_option
def retry(study: str, runs: tuple[str, ...], storage: str | None) -> None:
    """Let runs of STUDY (a study file, or its name) that failed be tried again, by the next sweep and before anything new.

    RUN is a trial number, or the beginning of a run's id; all that ran out of memory, diverged or were broken off when none is
    named. Their records stay, and so does on the bill what they have spent; a run goes on from its last checkpoint that is kept.
    """
    with reading():
        # That a run is to be tried again is noted in the
        # ledger; commands that only read open it read-only.
        ledger = open_ledger(study, storage, read_only=False)
        path = study_path(ledger)
        if path is None:
            raise Refused(f"{ledger.name} was imported: there is no study to run again. Name one that was swept here.")
        results = ledger.results(running=True)
        chosen = [_failed(ledger, results, wanted) for wanted in dict.fromkeys(runs)] if runs else _all_failed(results)
        if not chosen:
            messages.print("No run failed: there is nothing to try again.")
            return
        ledger.retry(segments[0].run_id for segments in chosen)
    for segments in chosen:
        last = segments[-1]
        reason = last.reason.removeprefix(f"{AGAIN}: ")  # of a run that was released before: said once
        messages.print(f"Trial {last.trial} is to be tried again: {describe_plan(last)} ({reason}).", markup=False)
    say_next(retry_command(path, [segments[-1] for segments in chosen], ledger.description["limits"]))


def _all_failed(results: Sequence[Result]) -> list[list[Result]]:
    return [segments for segments in by_run(current(results)).values() if _ends_badly(segments)]


def _failed(ledger: Ledger, results: Sequence[Result], wanted: str) -> list[Result]:
    """Return the run that was asked for. Raises UsageError if there is none, and Refused if it did not fail."""
    segments = find_run(results, wanted)
    if not segments:
        raise no_such_run(ledger.name, results, wanted)
    if segments[-1].outdated:
        raise Refused(
            f"trial {segments[-1].trial} is of other inputs: {changes(segments[-1].outdated)} since. "
            "A sweep runs the study with those that it has now."
        )
    if not _ends_badly(segments):
        last = segments[-1]
        raise Refused(f"trial {last.trial} has not failed: it is {last.status}. `workbench runs` shows which have.")
    return segments


def _ends_badly(segments: Sequence[Result]) -> bool:
    """Return whether a run ended by a failure, and nobody has taken it further since or is at it."""
    return segments[-1].status in ("infeasible", "interrupted")
