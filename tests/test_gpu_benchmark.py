"""What measures a GPU, tried without one: every part gives its figures, and one that fails leaves the others."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workbench import full
from workbench.testing import tiny_model

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_parts

    yield gpu_parts
    for name in ("gpu_parts", "meter", "engine_arms", "gpu"):
        sys.modules.pop(name, None)


@pytest.fixture
def place(parts: Any, tmp_path: Path) -> Any:
    return parts.Place(tmp_path, tiny_model(tmp_path / "tiny"))


@pytest.mark.slow
def test_a_lack_of_memory_is_a_result_and_less_memory_gives_the_same(parts: Any, place: Any) -> None:
    found = parts.shortage(place, parts.DRY)
    assert found["none"]["reason"] == "out_of_memory"
    assert found["dev_loss_apart"] < 1e-4
    assert found["little"]["step"] == found["plenty"]["step"] > 0


@pytest.mark.slow
def test_loops_are_compared_without_records(parts: Any, place: Any) -> None:
    found = parts.engine(place, parts.DRY)
    assert {*found["over_ours"]} == {"full, opinions", "lora, opinions", "lora, generation"}
    assert all(each["N2"]["loss_apart"] < 1e-4 and each["N2"]["median"] > 0 for each in found["over_ours"].values())


@pytest.mark.slow
def test_ways_to_compute_a_step_learn_the_same(parts: Any, place: Any) -> None:
    found = parts.ways(parts.reader(place, parts.DRY, full(learning_rate=1e-4)), parts.DRY)
    assert found["compiled"]["loss"] == pytest.approx(found["bfloat16"]["loss"], rel=1e-2)
    assert found["bfloat16"]["loss"] == pytest.approx(found["float32"]["loss"], rel=0.1)
    assert {*found} >= {"8-bit moments", "steps_until_compiling_pays"}


@pytest.mark.slow
def test_forecasts_are_held_against_outcomes(parts: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(place: Any, size: Any, name: str, environment: Any) -> list[str]:
        return [json.dumps(parts.CHILDREN[name](place, size))]

    monkeypatch.setattr(parts, "child", here)
    record = {"parts": {"scaling": parts.scaling(place, parts.DRY)}}
    for each in record["parts"]["scaling"]["recipes"].values():
        for how in ("formula", "calibrated"):
            told = each[how]
            assert told["within"] == (told["low"] <= each["computing_seconds"] <= told["high"])
            assert told["ratio"] == pytest.approx(told["forecast_seconds"] / each["computing_seconds"])
        assert each["carried_from_cpu"]["ratio"] > 0
    import gpu

    same = gpu.between_cards(record, record)
    assert same["encoder, lora"] == pytest.approx({**same["encoder, lora"], "ratio": 1.0, "within": True})


@pytest.mark.slow
def test_a_part_that_fails_is_recorded_and_the_rest_goes_on_with_energy_as_the_power_integrated(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    out.write_text(json.dumps({"parts": {"qlora": {"seconds": 1.0}}}))
    command = [sys.executable, BENCHMARKS / "gpu.py", "--dry", "--encoder", tmp_path / "nothing", "--parts", "precision,energy"]
    subprocess.run([*command, "--out", out], check=True, capture_output=True)
    record = json.loads(out.read_text())
    assert "nothing" in record["parts"]["precision"]["error"]
    found = record["parts"]["energy"]
    assert found["device"] == "NVIDIA L40S"
    assert found["energy"]["ratio"] == pytest.approx(1, rel=0.4)  # the counter moves ten times a second, and 0.6 s pass
    assert found["energy"]["samples"] > 5
    shares, whole = found["two_processes"]["shares_j"], found["two_processes"]["total_j"]
    assert sum(shares) == pytest.approx(whole, rel=0.5)  # their windows open and close a little later
    assert all(seconds > 0 for seconds in found["calls_seconds"].values())
    assert record["parts"]["qlora"] == {"seconds": 1.0}  # of an earlier call
    assert record["dry"]
    assert "torch" in record["machine"]["versions"]
