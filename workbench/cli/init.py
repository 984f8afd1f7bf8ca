"""`workbench init`: a study to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.cli.common import messages, say_next
from workbench.errors import UsageError

STUDY = '''"""Which small encoder, tuned how and on how many labels, answers my questions best per dollar?"""

# This file is the whole study. Put a value to fix a setting, a distribution to search it:
#     choice(a, b, c)    uniform(low, high)    loguniform(low, high)    integers(low, high)
# The first line above is the question that the sweep answers. `workbench plan FILE` says what it will take, before
# anything is spent; `workbench sweep FILE` runs it; the same command again continues it.

from workbench import Recipe, Study, bitfit, choice, full, loguniform, peft
from workbench.tasks import question_answering

study = Study(
    Recipe(
        # The data. "pydocs" asks about the docstrings of installed packages and needs no network. Instead of it: a file in
        # SQuAD's format, JSON lines or parquet, a folder of them, or a data set's name on the hub. `train` is how many labelled
        # questions are used: what you pay people for.
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
    minimize="usd",  # or "usd_compute", "labels", "seconds", "energy_j", "grams_co2e", or a tuple of them
    trials=6,  # runs in all; --trials says otherwise
    # label_usd=0.05,        # what a label costs you: then labels are on every bill
    # max_usd=1.00,          # what the sweep may spend in all
    # platform="aws:g5.xlarge",  # whose price compute has; `workbench prices` lists them
)
'''


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="study.py", metavar="[FILE]")
def init(file: Path) -> None:
    """Write a commented study into FILE, study.py when none is named. It runs as it is; nothing is ever overwritten."""
    if file.suffix != ".py":
        raise UsageError(f"a study is a Python file, and {file} is none by its name. Call it for instance {file}.py.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(STUDY)
    except FileExistsError:
        raise UsageError(f"{file} is there already, and nothing was written. Name another file: `workbench init FILE`.") from None
    except NotADirectoryError:
        raise UsageError(f"{file} cannot be written: a part of its path is no folder.") from None
    messages.print(f"Wrote {file}.", markup=False)
    say_next(f"`workbench plan {file}`")
