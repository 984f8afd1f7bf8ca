"""The README tells the truth: its study is the study, its tree the tree, its commands the commands."""

import ast
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from workbench import carbon, prices, settings
from workbench.cli import _COMMANDS, cli
from workbench.front.view import View
from workbench.report.records import front_record
from workbench.study import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_study_shown_is_the_default_study() -> None:
    shown = re.search(r"```python\n(.*?)```", README, re.S)
    assert shown
    assert shown[1] == (ROOT / "studies" / "qa.py").read_text(encoding="utf-8")


def test_the_tree_names_every_module_and_says_what_it_is_for() -> None:
    tree = re.search(r"```\nworkbench/\n(.*?)```", README, re.S)
    assert tree
    listed = dict(re.findall(r"^  ([\w./]+) +(\S.*)$", tree[1], re.M))
    present = {p.name + "/" if p.is_dir() else p.stem for p in (ROOT / "workbench").iterdir() if not p.name.startswith(("_", "."))}
    assert set(listed) == {name for name in present if not name.endswith(".csv")} - {"py"}  # py.typed


def test_every_command_is_shown_with_options_that_it_has() -> None:
    shown = set(re.findall(r"`workbench (\w+)", README))
    assert shown == set(_COMMANDS)
    for line in re.findall(r"^\| `workbench (\w+)[^|]*\|(.*)\|$", README, re.M):
        help_text = CliRunner().invoke(cli, [line[0], "--help"]).output
        for option in re.findall(r"--[\w-]+", line[1]):
            assert option in help_text


def test_the_contracts_name_the_keys_that_are_printed() -> None:
    view = View("f1", ("usd",), {"f1": 0.0, "usd": 1.0}, prices.find("local"), 0.0)
    record = front_record("name", [], view)
    replayed = re.search(r"`--json` prints `(\{.*?\})`\.", README)
    assert replayed
    protocol = (ROOT / "workbench" / "replay" / "protocol.py").read_text(encoding="utf-8")
    assert all(f'"{key}":' in protocol for key in re.findall(r'"(\w+)"', replayed[1]))
    named = re.search(r"front STUDY --json` prints `(\{.*?\})`", README)
    assert named
    assert set(re.findall(r'"(\w+)"', named[1])) == set(record)
    files = sorted((ROOT / "workbench" / "report").glob("*.py"))
    source = "".join(ast.unparse(ast.parse(path.read_text(encoding="utf-8"))) for path in files)
    point = re.search(r"a point has (.*?)\. `trial`", README, re.S)
    run = re.search(r"runs --json` prints a list of `(\{.*?\})`", README, re.S)
    assert point
    assert run
    for key in [*re.findall(r"`(\w+)`", point[1]), *re.findall(r'"(\w+)"', run[1])]:
        assert f"'{key}':" in source


def test_the_price_book_has_as_many_offers_as_it_says() -> None:
    said = re.search(r"ships (\d+) offers.*?; (\d+) GPUs' datasheet", README, re.S)
    assert said
    assert (int(said[1]), int(said[2])) == (len(prices.load()), len(prices.gpus()))


def test_the_settings_shown_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = re.search(r"```toml\n(.*?)```", README, re.S)
    assert shown
    path = tmp_path / "workbench.toml"
    path.write_text(shown[1].replace("or g_co2e_per_kwh = …", ""), encoding="utf-8")
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(path))
    assert (settings.load().platform, settings.load().label_usd) == ("office", 0.05)
    office, quoted = prices.find("office"), prices.find("acme")
    assert office.usd_per_kwh is not None
    assert float(office.usd_per_hour) == pytest.approx(3200 / (4 * 8760 * 0.3))
    assert float(quoted.usd_per_hour) == pytest.approx(0.92 * 1.08)
    assert carbon.intensity(office).g_co2e_per_kwh == pytest.approx(380.95)


def test_the_default_study_has_what_the_readme_promises() -> None:
    study = load(ROOT / "studies" / "qa.py")
    assert study.trials is not None
    assert study.trials >= 12
    assert len(study.dimensions["method"].space.names) >= 3  # type: ignore[attr-defined]
    assert len(study.dimensions["model"].space.names) >= 2  # type: ignore[attr-defined]


def test_figures_in_the_readme_are_those_of_the_committed_results() -> None:
    path = ROOT / "tests" / "benchmarks" / "results" / "qa.json"
    if not path.is_file():
        pytest.fail("tests/benchmarks/results/qa.json is missing: the README's figures have no source")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["answer"] in " ".join(README.split())


def test_the_task_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.testing import tiny_decoder, tiny_model
    from workbench.training import train

    shown = re.search(r"### A task of your own.*?```python\n(.*?)```", README, re.S)
    assert shown
    names = {"minilm-l3": tiny_model(tmp_path / "bert"), "smollm2-135m": tiny_decoder(tmp_path / "llama")}
    text = shown[1]
    for name, other in names.items():
        text = text.replace(f'"{name}"', repr(other))
    (tmp_path / "tone.py").write_text(text.replace("choice(100, 400)", "choice(8, 16)"), encoding="utf-8")
    rows = "".join(f"w{i} w{i % 7} w9,{i % 2}\n" for i in range(10, 230))
    (tmp_path / "messages.csv").write_text(f"message,polite\n{rows}")
    monkeypatch.chdir(tmp_path)
    study = load(tmp_path / "tone.py")
    for model in names.values():
        (asked,) = train(study.resolve({"model": model, "method": "zero_shot"}))
        settings_ = {"model": model, "method": "full", "full.learning_rate": 1e-4, "task.train": 8}
        *_, tuned = train(study.resolve(settings_))
        for scores in (asked.scores, tuned.scores):
            assert -100 <= scores["kappa"] <= 100
