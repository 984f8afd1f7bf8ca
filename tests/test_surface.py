"""What `workbench` offers, and what importing it costs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import workbench

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
}


def test_the_public_names() -> None:
    assert workbench.__all__ == [
        *("Method", "Recipe", "Study", "adapter", "bitfit", "choice", "few_shot", "full", "head", "integers", "knn", "logistic"),
        *("loguniform", "peft", "setfit", "uniform", "zero_shot"),
    ]
    assert all(getattr(workbench, name).__doc__ for name in workbench.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", workbench.__version__)


@pytest.mark.parametrize(
    "module", ["workbench", "workbench.cli", "workbench.study", "workbench.report", "workbench.tasks", "workbench.cli.sweep"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"], capture_output=True, text=True, check=True
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert module in loaded  # the listing is what we take it for
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
