"""A round of `benchmarks/chaos.py`: nodes are killed while the server is away. The benchmark makes a hundred, of every kind."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import chaos
from servers import Unavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("faults", [("killed", "away")])
def test_nothing_is_lost_and_nothing_is_twice(tmp_path, faults, monkeypatch):
    monkeypatch.setattr(chaos, "KINDS", faults)
    try:
        (row,) = chaos.rounds([1], SimpleNamespace(seed=0, away=3.0), tmp_path)
    except Unavailable as error:
        pytest.skip(str(error))
    assert row["holds"], row
    assert row["happened"]
    assert row["complete"] >= chaos.TRIALS
