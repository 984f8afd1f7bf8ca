"""What a strict type checker says: of the package that nothing is wrong, and of study files what their authors did wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_study import BODY, HEAD, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # without what it kept of an earlier time it reads all of torch


def mypy(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mypy", *map(str, words)], capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_package_is_typed() -> None:
    done = mypy()  # strict, as pyproject.toml has it
    assert done.returncode == 0, done.stdout + done.stderr


MISTAKES = [
    ("epochs=2", "epoch=1", 'Unexpected keyword argument "epoch" for "Recipe"; did you mean "epochs"?'),
    ('model="m"', "model=choice(1, 2)", 'Argument "model" to "Recipe" has incompatible type "int"'),
    ("1e-3", 'choice("a")', 'Argument "learning_rate" to "full" has incompatible type "str"'),
]


def test_studies_pass_and_mistakes_in_them_are_found(tmp_path: Path) -> None:
    holes = BODY.replace("epochs=2", "epochs=integers(1, 4), averaging=choice(None, 4.0)").replace("1e-3", "loguniform(1e-4, 1e-3)")
    right = tmp_path / "right.py"
    right.write_text(HEAD + holes)
    wrong = [tmp_path / f"wrong{i}.py" for i in range(len(MISTAKES))]
    for path, (old, new, _) in zip(wrong, MISTAKES, strict=True):
        assert old in BODY
        path.write_text((HEAD + BODY).replace(old, new))
    done = mypy("--strict", "--config-file", ROOT / "pyproject.toml", ROOT / "studies" / "qa.py", right, *wrong)
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert {line.partition(":")[0] for line in errors} == {*map(str, wrong)}
    for path, (_, _, message) in zip(wrong, MISTAKES, strict=True):
        assert any(line.startswith(f"{path}:") and message in line for line in errors)
