"""`workbench feedback`: right answers to what a served model has predicted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from workbench import process
from workbench.cli import complete
from workbench.cli.options import gathered
from workbench.cli.printing import messages, print_json, print_text, say_next, waiting
from workbench.cli.shared_options import json_option, tracking_option
from workbench.cli.trust import fetched, trust_option
from workbench.errors import UsageError
from workbench.quantities import many
from workbench.report import in_use
from workbench.serving import bundle, registry
from workbench.study import load
from workbench.sweep import answered
from workbench.tasks import Task
from workbench.tracking import default_uri
from workbench.watching import feedback as given
from workbench.watching import history
from workbench.watching.feedback import Known, Quality
from workbench.watching.history import History, Row
from workbench.watching.overview import offer_of, overview

_NAMED = 3
"""Ids that are not in the log are named up to so many."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, kw_only=True)
class FeedbackOptions:
    """The arguments and options of `workbench feedback`."""

    file: Path
    name: str | None
    log: Path | None
    study: str | None
    trust_code: bool
    tracking_uri: str | None
    as_json: bool


@dataclass(frozen=True)
class _Joined:
    """What became of the answers.

    Attributes:
        log: The log that has the rows.
        read: What it holds.
        rows: The rows of the answers, with these.
        unknown: Ids of answers that it does not hold.
        quality: The score in use by the model's id.
        added: How many labels were new to the study.
        left: How many could not become labels.
        labels: How many labels the study has to train on now; 0 where none was asked for.
    """

    log: Path
    read: History
    rows: Sequence[tuple[Row, str]]
    unknown: Sequence[str]
    quality: Mapping[str, Quality]
    added: int
    left: int
    labels: int


@click.command()
@click.argument("file", type=FILE)
@click.argument("name", required=False)
@click.option("--log", type=FILE, metavar="LOG", help="Another log than that of NAME.")
@click.option(
    "--study",
    metavar="STUDY",
    shell_complete=complete.study_files,
    help="Add the answered texts to the labels of this study file, for its next sweep. Needs `serve --log-inputs`.",
)
@trust_option
@tracking_option
@json_option
@gathered(FeedbackOptions)
def feedback(asked: FeedbackOptions) -> None:
    """Join the right answers in FILE to the logged predictions of the model NAME, and tell its score in use.

    FILE is CSV, TSV, JSON or JSON lines with the columns id and label: the id that a row of a request had, else its request's
    with the row's place, as 0f3c2a1b9d4e/0. Answers are kept beside the log, and the same one may come again.
    """
    task = None if asked.study is None else answered.task_of(load(asked.study))  # a wrong one is told before all else
    answers = given.read(asked.file)
    log = asked.log or history.find(asked.name)
    with process.exclusive(log.parent):  # of two at a time neither loses what the other keeps
        found = _joined(asked, log, answers, task)
    if asked.as_json:
        scores = {name: each.to_json() for name, each in found.quality.items()}
        counts = {"joined": len(found.rows), "unknown": len(found.unknown), "labels_added": found.added}
        print_json({**counts, "not_labels": found.left, "quality": scores})
        return
    _tell(asked, found)


def _joined(asked: FeedbackOptions, log: Path, answers: Mapping[str, str], task: Task | None) -> _Joined:
    """Join answers to the log, and keep them beside it."""
    read, before = history.read(log), given.load(log)
    if strange := next((each for each in answers if before.answers.get(each, answers[each]) != answers[each]), None):
        raise UsageError(
            f"{strange!r} was answered by {before.answers[strange]!r} before, and is by {answers[strange]!r} now. "
            f"Mend one of them: earlier answers stand in {given.beside(log)}."
        )
    rows = given.joined(read.rows, answers)
    if not rows:
        raise UsageError(
            f"none of the {many(len(answers), 'id')} in {asked.file} is one of {log}. Ids are those that requests had."
        )
    everything = {**before.answers, **{row.id: label for row, label in rows}}
    with waiting("Fetching the model …"):
        tasks = _tasks(asked, read, everything)
    quality = {model: _quality(read, model, of, everything) for model, of in tasks.items()}
    given.save(log, Known(everything, {**before.quality, **quality}))
    added, left = (0, 0) if task is None else _add(task, rows)
    there = {row.id for row, _ in rows}
    unknown = [each for each in answers if each not in there]
    return _Joined(log, read, rows, unknown, quality, added, left, 0 if task is None else answered.labels(task))


def _tasks(asked: FeedbackOptions, found: History, known: Mapping[str, str]) -> dict[str, Task]:
    """The task of each model that has answered rows whose right answers are known, from its files in the registry."""
    store, tasks = registry.Registry(asked.tracking_uri or default_uri(Path.cwd())), dict[str, Task]()
    for model in found.models:
        if given.joined(found.of(model), known):
            start = found.start_of(model)
            version = store.find(str(start["model"]), str(start["version"]))
            if version is None and model != found.models[-1]:
                text = f"Version {start['version']} of {start['model']} is not in the registry any more: its rows are not graded."
                messages.print(text, style="yellow", markup=False)
                continue
            with tempfile.TemporaryDirectory(prefix="workbench-feedback-") as scratch:
                version = version or store.version(str(start["model"]), str(start["version"]))
                folder = fetched(store, version, Path(scratch), trusted=asked.trust_code)
                tasks[model] = bundle.recipe(bundle.inside(folder)).task
    return tasks


def _quality(found: History, model: str, task: Task, known: Mapping[str, str]) -> Quality:
    joined = given.joined(found.of(model), known)
    given.check_labels({row.id: label for row, label in joined}, task.class_names())
    return given.quality(task, joined, str((found.start_of(model).get("evidence") or {}).get("metric", "")))


def _add(task: Task, rows: Sequence[tuple[Row, str]]) -> tuple[int, int]:
    """Add answered rows to the labels of a study's task; how many were new, and how many cannot be labels."""
    logged = [(row, label) for row, label in rows if isinstance(row.asked, Mapping) and {*task.asked()} <= {*row.asked}]
    if not logged:
        raise UsageError(
            f"of these rows the log does not have {' and '.join(task.asked())}, so they cannot become labels. Serve with "
            "--log-inputs, which keeps texts redacted; the score in use is kept all the same."
        )
    examples = [each for row, label in logged if (each := given.answered(task, row, label)) is not None]
    added, placeless = answered.add(task, examples)
    return added, len(rows) - len(examples) + placeless


def _tell(asked: FeedbackOptions, found: _Joined) -> None:
    """Print what became of the answers."""
    ids, unknown = found.unknown[:_NAMED], len(found.unknown)
    named = ", ".join(map(repr, ids)) + (", …" if unknown > len(ids) else "")
    more = f"; {many(unknown, 'id')} {'is' if unknown == 1 else 'are'} not in the log: {named}" if unknown else ""
    messages.print(
        f"Joined {many(len(found.rows), 'right answer')}{more}. They are kept in {given.beside(found.log)}.", markup=False
    )
    for model in overview(found.read, found.quality, offer_of(found.read, None)).models:
        if model.quality is not None:
            print_text(f"{model.use.model} {model.use.version}: {in_use.quality_text(model)}")
    messages.print("That is the score of the rows that were answered: choose those at random.", style="dim", markup=False)
    if asked.study is None:
        if any(row.asked is not None for row, _ in found.rows):
            say_next("the same with --study FILE adds the texts to the study's labels")
        return
    why = "as the log lacks the text, or that does not hold the answer"
    left = f"; {many(found.left, 'row')} could not become one, {why}" if found.left else ""
    messages.print(f"{many(found.added, 'label')} of them new to the study, behind those that were there{left}.", markup=False)
    if found.added:
        messages.print(answered.CHANGED.format(study=asked.study), style="yellow", markup=False)
        say_next(f"add {found.labels} to the numbers of train= in {asked.study}, then `workbench sweep {asked.study}`")
