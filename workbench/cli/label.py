"""`workbench label`: which examples to label next, and the answers of those who did."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import click

from workbench.cli import complete
from workbench.cli.member import weights_file
from workbench.cli.options import COUNT
from workbench.cli.printing import messages, say_next, waiting, writing
from workbench.cli.shared_options import storage_option
from workbench.cli.studies import open_ledger
from workbench.data import answers
from workbench.errors import Refused, UsageError
from workbench.forecast import starts
from workbench.meter import Meter
from workbench.quantities import many
from workbench.result import Result
from workbench.study import Recipe, Study, load
from workbench.sweep import to_label
from workbench.sweep.answered import CHANGED

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("study", shell_complete=complete.study_files)
@click.option("--next", "count", type=COUNT, metavar="N", help="Write the N texts that are most worth a label.")
@click.option("--answers", "answered", type=FILE, metavar="FILE", help="Add the labels that were filled in there to the data.")
@click.option("--pool", metavar="FILE", help="A file of texts without labels, beside those that the data have.")
@click.option("--out", type=FILE, metavar="FILE", help="Where to. [default: STUDY.label.csv]")
@click.option(
    "--strategy",
    type=click.Choice([*to_label.STRATEGIES, to_label.RANDOM]),
    help="How texts are chosen. [default: as the best model's, else uncertainty]",
)
@storage_option
def label(
    study: str,
    count: int | None,
    answered: Path | None,
    pool: str | None,
    out: Path | None,
    strategy: str | None,
    storage: str | None,
) -> None:
    """Write a file of the texts to label next for the file STUDY, or take the labels that people filled in.

    Texts that wait are the rows of the study's data without a label, and those of --pool. The file has the data's own columns,
    an empty label, and what the best model would say, the most useful text first. Whoever labels fills in the column; rows may
    stay empty.

    Answers are checked and kept in a file beside the data, whose own files are not touched. A later sweep reads both: answers
    are trained on, behind the labels that were there, and grade no model.
    """
    if (count is None) == (answered is None):
        raise UsageError("say what to do: --next N writes the texts to label, --answers FILE takes the labels that were filled in.")
    loaded = load(study)
    task = to_label.task_of(loaded)
    answers.beside(task.data)  # a data set that has no place for answers is refused before anything is computed
    with waiting("Reading the data …"):
        texts = answers.waiting(task.data, task.form, pool)
    if answered is not None:
        _take(study, loaded, texts, answered)
    elif count is not None:
        _ask(study, loaded, texts, count, out or Path(f"{Path(study).stem}.label.csv"), strategy, storage)


def _ask(
    study: str,
    loaded: Study,
    texts: Sequence[answers.Waiting],
    count: int,
    out: Path,
    strategy: str | None,
    storage: str | None,
) -> None:
    """Write the texts to be labelled."""
    if out.exists():
        raise Refused(f"{out} is there already, and may hold labels. Take them by --answers {out}, or name another file by --out.")
    if not texts:
        raise UsageError("no text waits for a label. Leave the label empty in the data, or give a file of texts by --pool.")
    results: Sequence[Result] = ()
    with contextlib.suppress(UsageError):  # a study that was never swept
        results = open_ledger(study, storage).results()
    member = to_label.best(loaded, results)
    recipe = _any_recipe(loaded) if member is None else loaded.resolve(member.settings)
    kept = None if member is None else weights_file(loaded.name, member)
    with waiting(f"Choosing of {many(len(texts), 'text')} …"), contextlib.closing(Meter()) as meter:
        weights = kept if kept and kept.is_file() else None
        chosen = to_label.to_label(recipe, weights, texts, count, strategy, meter.window)
    with writing(out):
        out.write_text(answers.written(chosen.rows), encoding="utf-8")
    waiting_more = len(texts) - len(chosen.rows)
    messages.print(
        f"Wrote {many(len(chosen.rows), 'text')} to {out}, chosen by {chosen.strategy}; {waiting_more:,} more wait. "
        f"What a model says is that of {chosen.says}.",
        markup=False,
    )
    say_next(f"fill in the column {texts[0].label!r}, then `workbench label {study} --answers {out}`")


def _take(study: str, loaded: Study, texts: Sequence[answers.Waiting], file: Path) -> None:
    """Add answers to the data."""
    task = to_label.task_of(loaded)
    recipe = _any_recipe(loaded)
    column = texts[0].label if texts else "label"
    before = {row[answers.ID]: row.get(column, "") for row in answers.given(task.data) if answers.ID in row}
    found = answers.checked(file, texts, before, recipe.task.class_names())
    skipped = f"{many(found.empty, 'row')} without a label, {found.known:,} that were given before"
    if not found.rows:
        messages.print(f"{file} holds no new answer ({skipped}). Nothing was changed.", markup=False)
        return
    kept = answers.add(task.data, found.rows)
    total = len(recipe.task.pool() or ()) + len(found.rows)
    messages.print(
        f"Added {many(len(found.rows), 'answer')} to {kept} ({skipped}). To undo it, remove its rows or the file.\n"
        f"There are {many(total, 'label')} to train on now, and the new ones come last: train= may be up to {total}.",
        markup=False,
    )
    messages.print(CHANGED.format(study=study), style="yellow", markup=False)
    say_next(f"add {total} to the numbers of train= in {study}, then `workbench sweep {study}`")


def _any_recipe(study: Study) -> Recipe:
    """Return a recipe of a study that nobody has swept: its first model and method that learn from labels, else its first."""
    found = list(starts.methods_of(study))
    model, method = next(((model, method) for model, method in found if method.labelled), found[0])
    return next(starts.recipes(study, model, method))
