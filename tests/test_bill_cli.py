"""The bill at the command line: the same results at other prices, budgets, platforms."""

import hashlib
import json
import sqlite3

import pytest
from commands import study_text, workbench

REPRICED = "aws:g4dn.xlarge"


def stored(folder):
    """A digest of every record that the ledger holds."""
    with sqlite3.connect(folder / "optuna.db") as base:
        rows = base.execute("SELECT trial_id, key, value_json FROM trial_user_attributes ORDER BY trial_id, key").fetchall()
        rows += base.execute("SELECT trial_id, objective, value FROM trial_values ORDER BY trial_id, objective").fetchall()
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def points(out):
    return json.loads(out)["points"]


@pytest.mark.slow
def test_a_front_is_priced_elsewhere_and_the_same_bytes_after_a_restart(swept):
    folder, _ = swept
    before = stored(folder)
    printed = {workbench("front", "--platform", REPRICED, "--json", cwd=folder).stdout for _ in range(2)}
    (once,) = printed
    assert {p["basis"] for p in points(once)} == {"scaled"}
    assert all(p["usd_low"] < p["usd"] < p["usd_high"] for p in points(once))
    table = workbench("front", "--platform", REPRICED, cwd=folder)
    assert "scaled)" in table.stdout
    assert "from a CPU by FLOPs" in table.stderr
    assert stored(folder) == before


@pytest.mark.slow
def test_an_edited_price_file_changes_views_alone(swept, tmp_path):
    folder, _ = swept
    before, settings = stored(folder), tmp_path / "workbench.toml"
    terms = (
        "platform = 'mine'",
        "instance = 'box'",
        "amount = {}",
        "commitment = 'owned'",
        "source = 'a bill'",
        "date = 2026-01-01",
    )
    offer = "\n".join(["[[offers]]", *terms])
    seen = []
    for amount in ("1.0", "2.0"):
        settings.write_text(offer.format(amount), encoding="utf-8")
        done = workbench("front", "--platform", "mine", "--json", cwd=folder, env_more={"WORKBENCH_SETTINGS": str(settings)})
        seen.append([p["usd"] for p in points(done.stdout)])
        assert stored(folder) == before
    assert seen[1] == pytest.approx([2 * usd for usd in seen[0]])
    settings.write_text(offer.format("-1"), encoding="utf-8")
    wrong = workbench("front", "--platform", "mine", cwd=folder, env_more={"WORKBENCH_SETTINGS": str(settings)})
    assert wrong.returncode == 2
    assert "amount must be a number above 0" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_views_add_rounding_the_sweep_and_serving(swept, command, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    plain = json.loads(command("front", "--json")[1])
    assert plain["spent_usd"] > max(p["usd"] for p in plain["points"])
    shared = json.loads(command("front", "--adopted", 2, "--json")[1])
    assert (shared["view"]["adopted"], shared["view"]["sweep_usd"]) == (2, pytest.approx(plain["spent_usd"]))
    assert [p["usd"] for p in shared["points"]] == pytest.approx([p["usd"] + plain["spent_usd"] / 2 for p in plain["points"]])
    billed = json.loads(command("front", "--platform", "aws:g4dn.xlarge", "--billed", "--json")[1])
    least = 0.526 / 60  # a minute is the least that is billed
    assert [p["usd"] for p in billed["points"]] == pytest.approx([least] * len(billed["points"]))
    code, out, err = command("front", "--load", 1000, "--against", plain["points"][0]["trial"])
    assert (code, "1000 predictions a second" in out, "against it" in out) == (0, True, True)
    for p in plain["points"]:
        assert p["predictions_per_second"] > 0
        assert p["latency_seconds"] > 0
        assert p["usd_per_1000_predictions"] == pytest.approx(0.05 / 3600 / p["predictions_per_second"] * 1000)
        assert p["flops"] > 0
        assert p["usd_per_tuning_example"] > 0
        assert p["usd_per_pretraining_example"] is None
    code, out, err = command("front", "--against", "nothing")
    assert (code, "no finished run 'nothing'" in err) == (2, True)


def test_a_run_shows_work_means_serving_and_carbon(swept, command, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    _, out, _ = command("run", 0)
    for words in ("FLOPs (transformer-matmul-1)", "GFLOP/s", "a tuning example", "a second in batches", "ms alone", "g/kWh"):
        assert words in out


def test_platforms_are_ranked_for_a_study(swept, command, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    code, out, _ = command("platforms", "tiny.py", "--json")
    ranked = json.loads(out)
    assert code == 0
    fitting = [r for r in ranked if r["fits"] is not False and r["usd"]]
    assert len(fitting) > 10
    assert [r["usd"]["value"] for r in fitting] == sorted(r["usd"]["value"] for r in fitting)
    assert all(r["commitment"] != "spot" for r in ranked)
    assert {"data", "technical_support", "business_scenes"} <= set(ranked[0])
    assert next(r["seconds"]["basis"] for r in ranked if r["platform"] == "local") == "measured"
    code, out, _ = command("platforms", "tiny.py", "--spot", "--all")
    assert (code, ":spot" in out, "technical support" in out) == (0, True, True)
    code, out, _ = command("platforms")
    assert (code, "10^18 FLOPs" in out) == (0, True)
    assert command("platforms", "nowhere.py")[0] == 2


# Budgets


@pytest.mark.slow
def test_a_sweep_says_what_it_will_cost_and_keeps_its_budgets(tmp_path, tiny):
    (tmp_path / "tiny.py").write_text(study_text(tiny), encoding="utf-8")
    done = workbench("sweep", "tiny.py", "--max-labels", "40", "--max-usd", "0.01", "--trials", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "are forecast to take" in done.stderr
    assert "of $0.01, 32 of 40 labels spent ($0.05/h)" in done.stderr
    assert max(p["labels"] for p in points(done.stdout)) <= 40
    again = workbench("sweep", "tiny.py", "--max-energy-kwh", "1e-9", "--trials", "5", cwd=tmp_path)
    assert again.returncode == 0
    assert "the budget of 1e-9 kWh is spent" in again.stderr


@pytest.mark.slow
def test_a_paid_platform_is_asked_about_and_refused_where_nobody_answers(tmp_path, tiny):
    (tmp_path / "tiny.py").write_text(study_text(tiny), encoding="utf-8")
    words = ("sweep", "tiny.py", "--platform", "vast:1x-H200-32-65536")
    refused = workbench(*words, "--max-usd", "50", "--label-usd", "1", cwd=tmp_path)
    assert refused.returncode == 3
    assert "may spend up to $50.00 on vast" in refused.stderr
    assert "--yes" in refused.stderr
    cheap = workbench(*words, "--max-usd", "50", "--trials", "1", cwd=tmp_path)  # by its forecast far below what is asked about
    assert cheap.returncode == 0, cheap.stderr
