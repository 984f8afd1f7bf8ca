"""What tests of the command line share: the command as a process, and the text of a tiny study. Fixtures are in conftest.py."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ANSI = re.compile(r"\x1b\[")


class Printed(NamedTuple):
    stdout: str
    stderr: str


def workbench(*words, cwd, env_more=None, **options):
    """The installed command, as a process of its own."""
    script = Path(sys.executable).with_name("workbench")
    env = {**os.environ, **(env_more or {})}
    return subprocess.run([script, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=240, env=env, **options)


def study_text(
    model, method="choice(full(learning_rate=loguniform(1e-3, 1e-2)), bitfit(learning_rate=1e-3))", task="TinyTask(train=32)"
):
    return (
        '"""Which?"""\n\n'
        "from workbench import Recipe, Study, bitfit, choice, full, integers, loguniform, peft\n"
        "from workbench.tasks import question_answering\n"
        "from workbench.testing import TinyTask\n\n"
        f"study = Study(Recipe(task={task}, model={model!r}, method={method}, epochs=2, batch_size=8), "
        f"maximize={'accuracy' if 'Tiny' in task else 'f1'!r})\n"
    )
