"""`workbench plan` as users meet it: before a sweep, after one, with a calibration and a budget."""

import json
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from workbench.cli import main
from workbench.cli.forecasting import budget_text
from workbench.cli.plan import band
from workbench.estimate import Estimate
from workbench.forecast import CostForecast
from workbench.front.budgets import BudgetUse
from workbench.prices import Offer, Prices

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


def test_the_budget_that_ends_a_sweep_soonest_is_named() -> None:
    offer = Offer("p", "m", "", 0, "", "owned", Decimal(1), "here", "2026-01-01")
    taken = CostForecast.here(
        Estimate.exact(3600.0), Estimate.exact(3.6e6), Prices(offer, 0.5), labels=2
    )  # $2, of it $1 for labels
    hours, usd, kwh, labels = (
        BudgetUse("seconds", 0.0, 2700.0),
        BudgetUse("usd", 0.5, 1.0),
        BudgetUse("energy_j", 0.0, 3.6e6),
        BudgetUse("labels", 0.0, 1.0),
    )
    more = ", run whole; a sweep leaves most of its runs early, and so may begin more."
    spent_sooner = "The budget of 45 min 00 s is spent sooner: it pays for about 8 of them"
    assert budget_text(taken, 10, [hours]) == f"{spent_sooner}{more}"
    assert budget_text(taken, 10, [hours], leaves=False) == f"{spent_sooner}."
    left = budget_text(taken, 10, [hours, usd, kwh, labels])
    assert left == f"What is left of $1.00 is spent sooner: it pays for about 2 of them{more}"
    assert budget_text(taken, 10, [kwh]) == budget_text(taken, 10, [labels]) == budget_text(taken, 10, []) == ""
    assert budget_text(None, 10, [hours]) == budget_text(taken, 10, [BudgetUse("usd", None, 0.1)]) == ""


def test_before_anything_is_spent(command: Command, study_file: Path) -> None:
    code, out, err = command("plan", study_file.name)
    assert code == 0
    assert len(out.splitlines()) == 5
    assert out.count("formula ×/÷ 3") == 4
    assert "--calibrate" in err
    assert "buys" not in err
    assert err.count("dev examples grade every point, fewer than 100. How far chance moves this score is not known") == 1
    assert [p.name for p in study_file.parent.iterdir()] == [study_file.name]


def test_a_short_sweep_is_begun_and_a_long_one_timed_first(command: Command, study_file: Path) -> None:
    assert command("plan", study_file.name)[2].endswith(f"Next: `workbench sweep {study_file.name}`\n")
    err = command("plan", study_file.name, "--trials", "1000000")[2]
    assert err.endswith(f"Next: `workbench plan --calibrate {study_file.name}`\n")


@pytest.mark.slow
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
        assert row["spent_usd"] == 0
        assert not row["longest"]["on_offer"]["carried"]
        assert row["longest"]["on_offer"]["seconds"]["value"] == pytest.approx(row["longest"]["seconds"]["value"])
    assert "buys about" in command("plan", study_file.name, "--max-usd", "0.001", "--label-usd", "0.000001")[2]
    assert "about 0 runs" in command("plan", study_file.name, "--max-usd", "0.001", "--label-usd", "1")[2]
    assert err.endswith("Forecasting …\n")


@pytest.mark.slow
def test_a_calibration_is_kept_and_used_again(command: Command, study_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.cli import plan

    monkeypatch.setattr(plan, "CALIBRATION_SECONDS", 2.0)  # of a busy machine, less leaves pairs out
    code, out, err = command("plan", study_file.name, "--calibrate")
    assert code == 0
    assert "Timing lora on" in err
    assert out.count("calibrated") == 4
    assert (study_file.parent / ".workbench" / "calibration.json").is_file()
    assert command("plan", study_file.name)[1].count("calibrated") == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        '{"machine": "x"}',
        "no JSON",
        "[]",
        '{"machine": "x", "date": "", "constants": {"flops": "fast"}, "timings": []}',
        '{"machine": "x", "date": "", "constants": {"flops": NaN}, "timings": []}',
        '{"machine": "x", "date": "", "constants": {"wishes": 1.0}, "timings": []}',
    ],
)
def test_a_file_that_is_no_calibration_is_ignored_and_told(command: Command, study_file: Path, text: str) -> None:
    (study_file.parent / ".workbench").mkdir()
    (study_file.parent / ".workbench" / "calibration.json").write_text(text)
    code, out, err = command("plan", study_file.name)
    assert code == 0
    assert out.count("formula") == 4
    assert err.count("was ignored") == 1
    assert "`workbench plan STUDY --calibrate` makes it anew" in err


@pytest.mark.slow
def test_after_a_sweep_it_is_measured(command: Command, study_file: Path) -> None:
    # Whole runs that are spread over the space: one of each method.
    assert command("sweep", study_file.name, "--trials", "2", "--sampler", "optuna:TPESampler")[0] == 0
    code, out, err = command("plan", study_file.name)
    assert code == 0
    assert out.count("measured") == 4
    assert "measured on this machine" in err
    for what, band_ in (("seconds", "×/÷|±"), ("memory", "±"), ("energy", "±|×/÷"), ("US\\$", "±|×/÷")):
        assert re.search(rf"^  {what}: measured, ({band_})", err, re.MULTILINE), err


@pytest.mark.slow
def test_what_is_spent_of_a_budget_is_not_spent_again(command: Command, study_file: Path) -> None:
    def plan(*words: str) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(command("plan", study_file.name, "--json", "--label-usd", "0.001", *words)[1])[0]
        return row

    assert command("sweep", study_file.name, "--trials", "3")[0] == 0
    spent = plan("--max-usd", "1")["spent_usd"]
    assert spent > 0.064 * 0.49  # labels, of which it has bought 32 or 64
    assert plan("--max-usd", str(spent))["trials_within_budget"]["value"] == 0
    assert plan("--max-usd", str(spent + 1))["trials_within_budget"]["value"] > 0
    err = command("plan", study_file.name, "--max-usd", "1", "--label-usd", "0.001")[2]
    assert re.search(r"Of \$1\.00, \$[0-9.]+ of it spent already: the rest buys about [0-9,]+ more runs", err), err


@pytest.mark.slow
def test_another_machines_offer_gets_that_machines_figures(command: Command, study_file: Path) -> None:
    from workbench import forecast, prices

    if forecast.Machine.here().kind == "cuda":
        pytest.skip("this machine has a GPU itself")
    code, out, err = command("plan", study_file.name, "--platform", "aws:g5.xlarge")
    assert code == 0
    assert out.count("formula, scaled ×/÷ ") == 4
    assert "(A10G), which is not this machine" in err
    assert "from a CPU by FLOPs" in err
    row = json.loads(command("plan", study_file.name, "--json", "--platform", "aws:g5.xlarge")[1])[0]
    here, there = row["longest"], row["longest"]["on_offer"]
    assert there["carried"]
    assert there["seconds"]["value"] != here["seconds"]["value"]
    assert there["usd"] == here["usd"]
    per_second = float(prices.find("aws:g5.xlarge").usd_per_hour) / 3600
    assert there["usd"]["value"] == pytest.approx(there["seconds"]["value"] * per_second)


def test_how_many_runs_a_budget_buys_can_be_unknown() -> None:
    from workbench.cli.forecasting import Bought

    one = Estimate(7.0, 5.0, 9.0, "measured", "by runs")
    assert Bought(1.0, 0.0, None, None).text.startswith("How many runs $1.00 still buys is unknown")
    assert Bought(1.0, 0.0, 0.0, None).text.startswith("How many runs $1.00 buys is unknown")
    more = "run whole; a sweep leaves most of its runs early, and so may begin more."
    assert Bought(1.0, 0.0, 0.0, one).text == f"$1.00 buys about 7 runs (5 to 9; measured, by runs), {more}"
    assert Bought(1.0, 0.5, 0.25, one).text == (
        "Of $1.00, $0.25 of it spent already: the rest buys about 7 more runs (5 to 9; measured, by runs, labels at $0.50 "
        f"bought once), {more}"
    )


def test_bands_in_short() -> None:
    assert band(Estimate(100.0, 92.0, 108.0, "measured")) == "±8 %"
    assert band(Estimate.within(5.0, 3.0, "formula")) == "×/÷ 3"
    assert band(Estimate.exact(0.0)) == ""


def test_where_nothing_can_be_carried_over_it_is_unknown(command: Command, study_file: Path) -> None:
    from workbench import forecast

    if forecast.Machine.here().kind == "cuda":
        pytest.skip("this machine has a GPU itself")
    (study_file.parent / "workbench.toml").write_text(
        '[[offers]]\nplatform = "den"\ngpu = "unheard-of"\ninstance = "one"\namount = 1.0\nsource = "us"\ndate = "2026-01-01"\n'
    )
    code, out, err = command("plan", study_file.name, "--platform", "den", "--max-usd", "1")
    assert code == 0
    assert out.count("unknown") == 4 * 5
    assert "what a recipe takes there is unknown" in err
    assert "How many runs $1.00 buys is unknown" in err
