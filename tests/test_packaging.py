"""The wheel holds what the command needs, and works away from the project's folder."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the project."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("workbench", "dashboards"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", copy],
        check=True,
        capture_output=True,
    )
    return next((copy / "dist").glob("*.whl"))


@pytest.mark.slow
def test_wheel_holds_every_module_the_prices_and_the_dashboards(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "workbench").rglob("*.py")}
    assert modules <= names
    facts = {p.relative_to(ROOT).as_posix() for p in (ROOT / "workbench").rglob("*.csv")}
    assert len(facts) >= 4
    pages = {f"workbench/_dashboards/{p.relative_to(ROOT / 'dashboards').as_posix()}" for p in (ROOT / "dashboards").rglob("*.py")}
    assert {"workbench/_dashboards/app.py", "workbench/_dashboards/views/front.py"} <= pages
    assert facts | pages <= names
    assert not any(name.startswith(("tests", "studies", "dashboards")) for name in names)
    assert not any(name.endswith(".md") for name in names)  # they link to files that no wheel has


@pytest.mark.slow
def test_installed_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel], check=True, capture_output=True
    )
    code = "import workbench, workbench.prices as p; print(workbench.__file__); print(p.find('local').usd_per_hour)"
    code += "; import workbench.carbon as c; print(c.grams_per_joule(p.find('aws')))"
    code += "; from workbench.cli.dashboard import folder; print(folder())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    where, price, grams, pages = done.stdout.split()
    assert Path(pages) == site / "workbench" / "_dashboards"
    assert Path(where).is_relative_to(site)
    assert float(price) > 0
    assert float(grams) > 0
    helped = subprocess.run(
        [sys.executable, "-m", "workbench", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sweep" in helped.stdout
