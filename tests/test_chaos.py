"""Rounds of two kinds of `benchmarks/chaos.py`, which makes a hundred: nodes or drivers are killed, and the server is away."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import chaos
from servers import Unavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("number", "of", "faults"), [(1, "nodes", ("killed", "away")), (2, "workers", ("killed", "away"))])
def test_nothing_is_lost_and_nothing_is_twice(tmp_path, number, of, faults):
    options = SimpleNamespace(seed=0, away=3.0, least_away=0.5, only=faults)
    try:
        (row,) = chaos.rounds([number], options, tmp_path)
    except Unavailable as error:
        pytest.skip(str(error))
    assert row["of"] == of
    assert row["holds"], row
    assert (row["drivers_killed"] > 0) == (of == "workers")
    assert row["happened"]
    assert row["complete"] >= chaos.TRIALS
