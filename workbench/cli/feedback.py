"""`workbench feedback`: right answers to what a served model has predicted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from workbench.cli import complete
from workbench.cli.printing import messages, print_json, print_text, say_next, waiting
from workbench.cli.shared_options import json_option, tracking_option
from workbench.data import answers
from workbench.errors import UsageError
from workbench.quantities import many
from workbench.report import in_use
from workbench.serving import bundle, registry
from workbench.study import load
from workbench.sweep import to_label
from workbench.tasks import Task
from workbench.tasks.classification import Classification
from workbench.tracking import default_uri
from workbench.watching import feedback as given
from workbench.watching import history
from workbench.watching.feedback import Known, Quality
from workbench.watching.history import History, Row
from workbench.watching.overview import offer_of, overview

_NAMED = 3
"""Ids that are not in the log are named up to so many."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=FILE)
@click.argument("name", required=False)
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), metavar="LOG", help="Another log than that of NAME.")
@click.option(
    "--study",
    metavar="STUDY",
    shell_complete=complete.study_files,
    help="Add the answered texts to the labels of this study file, for its next sweep. Needs `serve --log-inputs`.",
)
@tracking_option
@json_option
def feedback(file: Path, name: str | None, log: Path | None, study: str | None, tracking_uri: str | None, as_json: bool) -> None:
    """Join the right answers in FILE to the logged predictions of the model NAME, and tell its score in use.

    FILE is CSV, TSV, JSON or JSON lines with the columns id and label: the id that a row of a request had, else its request's
    with the row's place, as 0f3c2a1b9d4e/0. Answers are kept beside the log, and the same one may come again.
    """
    task = None if study is None else to_label.task_of(load(study))  # a wrong one is told before anything is kept
    known = given.read(file)
    place = log or history.find(name)
    found, before = history.read(place), given.load(place)
    if strange := next((each for each in known if before.answers.get(each, known[each]) != known[each]), None):
        raise UsageError(
            f"{strange!r} was answered by {before.answers[strange]!r} before, and is by {known[strange]!r} now. "
            f"Mend one of them: earlier answers stand in {given.beside(place)}."
        )
    joined = given.joined(found.rows, known)
    if not joined:
        raise UsageError(f"none of the {many(len(known), 'id')} in {file} is one of {place}. Ids are those that requests had.")
    everything = {**before.answers, **{row.id: label for row, label in joined}}
    with waiting("Fetching the model …"):
        tasks = _tasks(found, everything, registry.Registry(tracking_uri or default_uri(Path.cwd())))
    quality = {model: _quality(found, model, task, everything) for model, task in tasks.items()}
    kept = given.save(place, Known(everything, quality))
    added = 0 if task is None else _add(task, joined, [*tasks.values()][-1].class_names())
    if as_json:
        scores = {name: each.to_json() for name, each in quality.items()}
        print_json({"joined": len(joined), "unknown": len(known) - len(joined), "labels_added": added, "quality": scores})
        return
    there = {row.id for row, _ in joined}
    unknown = [each for each in known if each not in there]
    named = ", ".join(map(repr, unknown[:_NAMED])) + (", …" if unknown[_NAMED:] else "")
    more = f"; {many(len(unknown), 'id')} {'is' if len(unknown) == 1 else 'are'} not in the log: {named}" if unknown else ""
    messages.print(f"Joined {many(len(joined), 'right answer')}{more}. They are kept in {kept}.", markup=False)
    models = overview(found, quality, offer_of(found, None)).models
    for model in models:
        if model.quality is not None:
            print_text(f"{model.use.model} {model.use.version}: {in_use.quality_text(model)}")
    messages.print("That is the score of the rows that were answered: choose those at random.", style="dim", markup=False)
    if study is not None:
        messages.print(f"{many(added, 'label')} of them new to the study, behind those that were there.", markup=False)
        if added:
            text = f"With them the data of {study} changed: its finished results are left off its front until it is swept again."
            messages.print(text, style="yellow", markup=False)
            say_next(f"raise train= in {study} to all labels, which are {added:,} more now, then `workbench sweep {study}`")
    elif any(row.asked is not None for row, _ in joined):
        say_next("the same with --study FILE adds the texts to the study's labels")


def _tasks(found: History, known: Mapping[str, str], store: registry.Registry) -> dict[str, Task]:
    """The task of each model that has answered rows whose right answers are known, from its files in the registry."""
    tasks = dict[str, Task]()
    for model in found.models:
        if given.joined(found.of(model), known):
            start = found.start_of(model)
            with tempfile.TemporaryDirectory(prefix="workbench-feedback-") as scratch:
                folder = store.fetch(store.version(str(start["model"]), str(start["version"])), Path(scratch))
                tasks[model] = bundle.read(bundle.inside(folder)).recipe.task
    return tasks


def _quality(found: History, model: str, task: Task, known: Mapping[str, str]) -> Quality:
    joined = given.joined(found.of(model), known)
    given.check_labels({row.id: label for row, label in joined}, task.class_names())
    return given.quality(task, joined, str((found.start_of(model).get("evidence") or {}).get("metric", "")))


def _add(task: Classification, joined: Sequence[tuple[Row, str]], classes: Sequence[str]) -> int:
    """Add answered texts to the labels of a study's task, as `workbench label --answers` does; return how many were new."""
    texts = {_text(row.asked["text"]): label for row, label in joined if isinstance(row.asked, Mapping) and "text" in row.asked}
    if not texts:
        raise UsageError(
            "the texts of these rows are not in the log, so they cannot become labels. Serve with --log-inputs, which keeps them "
            "redacted; the score in use is kept all the same."
        )
    answers.beside(task.data)  # data without a place for answers are refused before anything is written
    columns = task.form.text if isinstance(task.form.text, tuple) else (task.form.text or "text",)
    with tempfile.TemporaryDirectory(prefix="workbench-feedback-") as scratch:
        pool, filled = Path(scratch, "texts.jsonl"), Path(scratch, "answers.csv")
        rows = [dict(zip(columns, (text,) if isinstance(text, str) else text, strict=True)) for text in texts]
        pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        waiting_for = answers.waiting(task.data, task.form, str(pool))
        told = [answers.blank(each, "", None) | {each.label: texts[each.text]} for each in waiting_for if each.text in texts]
        filled.write_text(answers.written(told), encoding="utf-8")
        found = answers.checked(filled, waiting_for, {}, classes) if told else answers.Answers([], 0, 0)
    if found.rows:
        answers.add(task.data, found.rows)
    return len(found.rows)


def _text(value: object) -> str | tuple[str, str]:
    """A text as the data's reader has it, or the two of a pair."""
    return (str(value[0]), str(value[1])) if isinstance(value, list) and len(value) == 2 else str(value)
