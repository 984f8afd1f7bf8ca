"""`workbench plan` as users meet it: before a sweep, after one, with a calibration and a budget."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.cli import main
from workbench.cli.plan import band
from workbench.estimate import Estimate

Command = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def command(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `workbench …` in the test's folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[Any, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return end.value.code, out, err

    return run


def test_before_anything_is_spent(command: Command, study_file: Path) -> None:
    code, out, err = command("plan", study_file.name)
    assert code == 0
    assert len(out.splitlines()) == 5
    assert out.count("formula ×/÷ 3") == 4
    assert "--calibrate" in err
    assert "buys" not in err
    assert [p.name for p in study_file.parent.iterdir()] == [study_file.name]


def test_a_budget_and_prices(command: Command, study_file: Path) -> None:
    code, out, err = command("plan", study_file.name, "--max-usd", "0.001", "--json")
    rows = json.loads(out)
    assert code == 0
    for row in rows:
        assert row["trials_within_budget"]["value"] > 0
        assert row["budget_usd"] == 0.001
        assert 0 < row["shortest"]["usd"]["value"] < row["longest"]["usd"]["value"]
        assert row["longest"]["seconds"]["basis"] == "formula"
        assert row["longest"]["labels"] == 64
        assert row["verdict"] == "yes"
    dear = json.loads(command("plan", study_file.name, "--json", "--platform", "aws:g5.xlarge")[1])
    assert dear[0]["longest"]["usd"]["value"] > 2 * rows[0]["longest"]["usd"]["value"]
    assert dear[0]["trials_within_budget"] is None
    assert "buys about" in command("plan", study_file.name, "--max-usd", "0.001", "--label-usd", "0.000001")[2]
    assert "about 0 runs" in command("plan", study_file.name, "--max-usd", "0.001", "--label-usd", "1")[2]
    assert err.endswith("Forecasting …\n")


def test_a_calibration_is_kept_and_used_again(command: Command, study_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.cli import plan

    monkeypatch.setattr(plan, "CALIBRATION_SECONDS", 0.1)
    code, out, err = command("plan", study_file.name, "--calibrate")
    assert code == 0
    assert "Timing lora on" in err
    assert out.count("calibrated") == 4
    assert (study_file.parent / ".workbench" / "calibration.json").is_file()
    assert command("plan", study_file.name)[1].count("calibrated") == 4
    (study_file.parent / ".workbench" / "calibration.json").write_text('{"machine": "x"}')
    code, out, err = command("plan", study_file.name)
    assert (code, out) == (2, "")
    assert "calibration" in err


def test_after_a_sweep_it_is_measured(command: Command, study_file: Path) -> None:
    assert command("sweep", study_file.name, "--trials", "2")[0] == 0
    code, out, err = command("plan", study_file.name)
    assert code == 0
    assert out.count("measured") == 4
    assert "measured on this machine" in err


def test_bands_in_short() -> None:
    assert band(Estimate(100.0, 92.0, 108.0, "measured")) == "±8 %"
    assert band(Estimate.within(5.0, 3.0, "formula")) == "×/÷ 3"
    assert band(Estimate.exact(0.0)) == ""
