"""What `workbench` offers, and what importing it costs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workbench
from workbench.cli import _COMMANDS

ROOT = Path(__file__).parents[1]
HEAVY = {
    "torch",
    "transformers",
    "mlflow",
    "optuna",
    "streamlit",
    "pandas",
    "peft",
    "datasets",
    "sqlalchemy",
    "plotly",
    "scipy",
    "sklearn",
    "torchmetrics",
    "numpydoc",
    "huggingface_hub",
    "pynvml",
    "psutil",
}


def test_the_public_names() -> None:
    assert workbench.__all__ == [
        *("Method", "Recipe", "Study", "adapter", "badge", "bitfit", "causal_lm", "choice", "distil", "diversity", "few_shot"),
        *(
            "full",
            "head",
            "integers",
            "item_item",
            "knn",
            "logistic",
            "loguniform",
            "masked_lm",
            "peft",
            "popularity",
            "pseudo_labels",
        ),
        *("setfit", "uncertainty", "uniform", "zero_shot"),
    ]
    assert all(getattr(workbench, name).__doc__ for name in workbench.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", workbench.__version__)


COMMANDS = sorted({f"workbench.cli.{module}" for module, _ in _COMMANDS.values()} - {"workbench.cli.replay"})
"""The modules of all commands but `replay`: what it replays are searches, which are numerical."""


@pytest.mark.parametrize(
    "modules",
    [
        ("workbench",),
        ("workbench.cli",),
        (
            "workbench.study",
            "workbench.tasks",
            "workbench.report",
            "workbench.front.points",
            "workbench.training",
            "workbench.meter",
            "workbench.tracking",
        ),
        tuple(COMMANDS),
    ],
    ids=("package", "cli", "rooms", "commands"),
)
def test_importing_loads_nothing_heavy(modules: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {', '.join(modules)}"], capture_output=True, text=True, check=True
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert loaded >= set(modules)  # the listing is what we take it for
    assert not {name.partition(".")[0] for name in loaded} & HEAVY


def kept_files() -> list[Path]:
    """The files of the repository, as git knows them."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("not a checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    """Whoever installs chooses the registry; a path of one machine is on no other."""
    registries = ["pypi" + ".org", "python" + "hosted.org", "download." + "pytorch.org", "repo." + "anaconda.com", "/sim" + "ple/"]
    places = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/"]
    files = kept_files()
    assert len(files) > 40
    found = []
    for path in files:
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in (*registries, *places) if word in text]
    assert not found


def test_each_package_lists_its_modules() -> None:
    """A module that is not in its package's list is one that a reader does not find."""
    for init in (ROOT / "workbench").glob("*/__init__.py"):
        modules = {path.stem for path in init.parent.glob("*.py")} - {"__init__"}
        listed = set(
            re.findall(r"(?m)^(?: {4})?([a-z_0-9]+)  +\S", ast.get_docstring(ast.parse(init.read_text()), clean=False) or "")
        )
        if len(modules) > 2:
            missing = modules - listed
            assert not missing, f"{init}: list {', '.join(sorted(missing))} in the docstring"
