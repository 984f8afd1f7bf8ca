"""What is only asked, on every page, picture and table: no labels, no epochs, no error."""

import json
import shutil
from pathlib import Path

import pytest
from commands import DASHBOARDS, here

PAGES = sorted(path.stem for path in (DASHBOARDS / "views").glob("*.py"))
STUDY = '''"""Asked or tuned?"""

from workbench import Recipe, Study, bitfit, choice, full, zero_shot
from workbench.testing import TinyTask

study = Study(
    Recipe(
        task=TinyTask(train=choice(16, 64), dev=16),
        model={model!r},
        method=choice(zero_shot(), full(learning_rate=5e-3), bitfit(learning_rate=1e-3)),
        epochs=choice(1, 8),
        batch_size=8,
    ),
    maximize="accuracy",
    minimize=("usd", "labels"),
    label_usd=0.001,
)
'''


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Path:
    """A folder with a sweep of everything that the study can be."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "asked.py").write_text(STUDY.format(model=tiny))
    done = here("sweep", "asked.py", "--sampler", "optuna:RandomSampler", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "trial" in done.stderr
    assert "zero_shot" in done.stderr
    assert "epoch" not in next(line for line in done.stderr.splitlines() if "zero_shot" in line)
    return folder


@pytest.fixture
def swept(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_sweep_of_all_that_a_study_can_be(swept: Path, command) -> None:
    points = json.loads(command("front", "--json")[1])["points"]
    asked = [p for p in points if p["method"] == "zero_shot"]
    assert [(p["labels"], p["epochs"], p["usd_labels"]) for p in asked] == [(0, 0, 0)]
    assert asked[0]["on_front"]  # nothing has fewer labels
    assert "epochs" not in asked[0]["settings"]
    assert {p["method"] for p in points} == {"zero_shot", "full", "bitfit"}
    for words in (
        ("front",),
        ("runs",),
        ("run", str(asked[0]["trial"])),
        ("status",),
        ("plan", "asked.py"),
        ("export", "asked.py", "csv"),
    ):
        code, out, err = command(*words)
        assert code == 0, err
        assert out
    code, _, err = command("sweep", "asked.py", "--trials", "100")
    assert (code, "every configuration" in err.lower() or "nothing" in err.lower()) == (0, True), err


@pytest.mark.slow
def test_new_seeds_are_for_what_was_trained(swept: Path, command) -> None:
    code, _, err = command("confirm", "asked.py", "--seeds", "1")
    assert code == 0, err
    again = [r for r in json.loads(command("runs", "--json")[1]) if r["replicate_of"]]
    assert "full" in {r["method"] for r in again} <= {"full", "bitfit"}, "what is learned whole is on the front"
    assert {r["seed"] for r in again} == {1}
    assert command("confirm", "asked.py", "--seeds", "1")[0] == 0


@pytest.mark.slow
def test_every_page_and_picture_shows_it(swept: Path, command, page) -> None:
    assert command("front", "--html", "front.html", "--label-usd", "0.01")[0] == 0
    for cost in ("usd", "labels", "seconds"):
        for name in PAGES:
            test = page(f"sqlite:///{swept}/optuna.db", name, cost=cost)
            assert not test.exception, (name, cost, test.exception)


@pytest.mark.slow
def test_what_is_only_asked_is_graded_on_the_test_split_as_well(swept: Path, command) -> None:
    code, _, err = command("confirm", "asked.py", "--seeds", "1")
    assert code == 0, err
    points = json.loads(command("front", "--json")[1])["points"]
    (asked,) = [p for p in points if p["method"] == "zero_shot"]
    assert asked["on_front"]
    of = asked["confirmed"]
    assert (of["seeds"], of["mean"], of["tied_with"]) == (0, asked["score"], [])
    assert of["test_mean"] == of["test_original"] is not None
    assert "new seed" not in next(line for line in command("front")[1].splitlines() if "zero_shot" in line)
    assert command("confirm", "asked.py", "--seeds", "1")[0] == 0  # and not once more
