"""`workbench init`: a study to begin with, of one's own data or built-in ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from workbench.cli.init_study import TASKS, study_text
from workbench.cli.init_texts import HEAD, end
from workbench.cli.printing import messages, say_next, waiting
from workbench.data.files import TABLE_SUFFIXES, suffix_of
from workbench.data.forms import BUILT_IN
from workbench.errors import DataError, UsageError

STUDY = f'''"""Which small encoder, tuned how and on how many labels, answers my questions best per dollar?"""

{HEAD}
from workbench import Recipe, Study, bitfit, choice, full, loguniform, peft
from workbench.tasks import question_answering

study = Study(
    Recipe(
        # The data. "pydocs" asks about the docstrings of installed packages and needs no network. Instead of it: a file in
        # SQuAD's format, JSON lines or parquet, a folder of them, or a data set's name on the hub. `train` is how many labelled
        # questions are used: what people are paid for.
        task=question_answering("pydocs", train=choice(256, 512)),
        # The models: built-in (minilm-l6, and the smaller minilm-l3 and minilm-l2), a name on the model hub
        # ("name@revision"), or a folder.
        model=choice("minilm-l2", "minilm-l3"),
        # What is tuned, each with its own learning rate: full, head, bitfit, and peft(name, ...) for every method of PEFT
        # by PEFT's own name, with PEFT's own arguments. A setting in here exists only where its method is chosen.
        method=choice(
            full(learning_rate=loguniform(5e-5, 5e-4)),
            bitfit(learning_rate=loguniform(2e-3, 2e-2)),
            peft("lora", learning_rate=loguniform(3e-4, 2e-3), r=choice(4, 16), lora_alpha=32, target_modules="all-linear"),
        ),
        # Passes over the data. Every checkpoint on the way is a model that could be deployed, and a point of the front.
        epochs=2,
        batch_size=4,
    ),
    maximize="f1",  # a score of the task; of questions "f1" or "exact_match"
{end(6)}'''


@click.command()
@click.argument("what", default="study.py", metavar="[FILE|DATA]", type=click.Path(path_type=str))
@click.option(
    "--task",
    type=click.Choice(TASKS),
    metavar="TASK",
    help=f"What the data are for; otherwise their columns say it. One of {', '.join(TASKS)}.",
)
@click.option("--text", metavar="COLUMN", help="The column of the texts; otherwise it is looked for.")
@click.option("--label", metavar="COLUMN", help="The column of the labels; otherwise it is looked for.")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where the study goes; otherwise DATA's name says it."
)
def init(what: str, task: str | None, text: str | None, label: str | None, output: Path | None) -> None:
    """Write a commented study that runs as it is, for your own DATA or to begin with; nothing is ever overwritten.

    DATA is a file (CSV, TSV, JSON, JSON lines, parquet, Arrow, CoNLL), a folder with files for train, dev and test, one with
    interactions and items, a folder of images or sounds with a folder for each class, or a data set's name on the hub: it is looked
    at, and so is this machine, and a study with fitting models and methods is written here.
    FILE.py, or nothing, gives a study of built-in data, as a pattern.
    """
    options = {"task": task, "text": text, "label": label}
    if what.endswith(".py") and output is None:
        if given := next((name for name, value in options.items() if value is not None), None):
            raise UsageError(
                f"--{given} is about data, and {what} is a study to be written: `workbench init DATA --output {what}`."
            )
        _write(Path(what), STUDY)
        return
    path = Path(what)
    if not (path.exists() or task or suffix_of(path.name) in TABLE_SUFFIXES or "/" in what or what in BUILT_IN):
        raise UsageError(
            f"there is no data {what!r}, and a study is a Python file, which {what} is none by its name. Call it for instance "
            f"{_stem(what)}.py, or give the path of your data."
        )
    output = output or Path(f"{_stem(what)}.py")
    _refuse(output)
    try:
        with waiting("Looking at the data …"):
            study = study_text(what, task, text, label)
    except DataError as error:
        said = str(error)
        if not any(f"{field}=" in said for field in ("label", "text")):
            raise
        # That is how a study names columns: there is none yet.
        raise DataError(f"{said} To `workbench init` columns are named by --label COLUMN and --text COLUMN.") from error
    _write(output, study.text, study.told)


def _stem(data: str) -> str:
    """Return the name of a study of these data."""
    name = Path(data.partition(":")[0]).name
    return "".join(each if each.isalnum() else "_" for each in name.removesuffix(suffix_of(name))).strip("_") or "study"


def _refuse(file: Path) -> None:
    """Refuse what can be refused before the data are read, which takes a while. Raises UsageError."""
    if file.suffix != ".py":
        raise UsageError(
            f"a study is a Python file, and {file} is none by its name. Call it for instance {file.parent / _stem(file.name)}.py."
        )
    if file.exists():
        raise UsageError(f"{file} is there already, and nothing was written. Name another file: --output FILE.")


def _write(file: Path, study: str, told: Sequence[str] = ()) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Mode x: a file that has appeared meanwhile is not overwritten either.
        with file.open("x", encoding="utf-8") as opened:
            opened.write(study)
    except FileExistsError:
        raise UsageError(f"{file} is there already, and nothing was written. Name another file.") from None
    except NotADirectoryError:
        raise UsageError(f"{file} cannot be written: a part of its path is no folder. Name another file.") from None
    for line in told:
        messages.print(line, style="yellow", markup=False)
    messages.print(f"Wrote {file}.", markup=False)
    say_next(f"`workbench plan {file}`")
