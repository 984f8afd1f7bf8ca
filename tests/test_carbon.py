"""Grams of CO2e: which grid lies under an offer, the overhead of its data centre, and what was stated of one's own machine."""

import csv
import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import carbon, prices
from workbench.errors import DataError
from workbench.prices import Offer
from workbench.usage import Usage

KWH = Usage(seconds=3600.0, cpu_energy_j=1.8e6, gpu_board_energy_j=1.8e6)


def grams(usage, offer):
    """Operational grams, O = E·I."""
    per_joule = carbon.grams_per_joule(offer)
    return None if usage.energy_j is None or per_joule is None else usage.energy_j * per_joule


LOCAL = prices.find("local")


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)


def state(text: str) -> None:
    (Path.cwd() / "workbench.toml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "name, place, basis, grams",
    [
        ("aws:g6.xlarge", "aws/us-east-1", "region", 415.75),
        ("gcp:a2-highgpu-1g", "gcp/us-central1", "region", 412.72),
        ("vast:1x-H200-32-65536", "country/FRA", "country", 56.039),
        ("vast:1x-L40S-32-65536", "country/JPN", "country", 485.392),
        ("vast:1x-RTX_5090-32-65536", "country/CAN", "country", 170.043),
        ("runpod", "country/USA", "country", 369.473),
        ("nebius:gpu-l40s-a_1gpu-8vcpu-32gb", "country/FIN", "country", 79.158),
        ("nebius:gpu-h200-sxm_1gpu-16vcpu-200gb", "country/USA", "country", 369.473),
        ("azure:Standard_NC4as_T4_v3", "country/USA", "country", 369.473),
        ("vast:1x-RTX_3090-32-65536", "any/world", "world_average", 445),  # Romania is not among the facts
        ("lambda", "any/world", "world_average", 445),
        ("local", "any/world", "world_average", 445),
    ],
)
def test_the_grid_under_an_offer(name: str, place: str, basis: str, grams: float) -> None:
    found = carbon.intensity(prices.find(name))
    assert (found.place, found.basis, found.g_co2e_per_kwh) == (place, basis, grams)
    assert len(found.source) > 10
    assert found.year


def test_a_region_is_its_own_platforms() -> None:
    nebius = prices.find("nebius:gpu-h200-sxm_1gpu-16vcpu-200gb")
    assert nebius.region == "us-central1"
    assert carbon.intensity(nebius).place != carbon.intensity(prices.find("gcp")).place


def test_ones_own_grid_stands_where_none_is_known_of_the_offer() -> None:
    state('[carbon]\nregion = "DE"\n')
    assert carbon.intensity(LOCAL).place == "country/DEU"
    assert carbon.intensity(prices.find("aws")).place == "aws/us-east-1"
    state('[carbon]\nregion = "aws/eu-north-1"\n')
    assert carbon.intensity(LOCAL).g_co2e_per_kwh == 8
    state('[carbon]\ng_co2e_per_kwh = 30.5\nsource = "our contract"\ndate = 2026-01-01\n')
    assert carbon.intensity(LOCAL) == carbon.Intensity(30.5, "stated", "2026-01-01", "our contract", "stated")
    state('[carbon]\nregion = "DEUU"\n')
    with pytest.raises(DataError, match=r"workbench.toml, \[carbon\]: no intensity is known of region 'DEUU'. Did you mean 'DEU'"):
        carbon.intensity(LOCAL)


def test_ids_tell_figures_apart() -> None:
    found = carbon.intensity(LOCAL)
    assert len(found.id) == 12
    assert len({found.id, replace(found, g_co2e_per_kwh=446.0).id, replace(found, year="2025").id}) == 3
    assert replace(found, basis="stated").id == found.id


def test_grams_are_energy_times_overhead_times_intensity() -> None:
    assert grams(KWH, LOCAL) == pytest.approx(445)
    assert grams(KWH, prices.find("aws")) == pytest.approx(1.135 * 415.75)
    assert grams(KWH, prices.find("gcp")) == pytest.approx(1.1 * 412.72)
    assert grams(KWH, prices.find("lambda")) == pytest.approx(1.58 * 445)
    state("[carbon]\npue = 1.5\n")
    assert grams(KWH, LOCAL) == pytest.approx(1.5 * 445)
    assert grams(KWH, prices.find("aws")) == pytest.approx(1.135 * 415.75)


def test_what_is_unknown_stays_unknown() -> None:
    assert grams(replace(KWH, cpu_energy_j=None), LOCAL) is None
    nobody = Offer("nobody", "x", "", 0, "", "on_demand", Decimal("1"), "here", "2026")
    assert carbon.pue(nobody) is None
    assert grams(KWH, nobody) is None
    assert carbon.pue(replace(nobody, commitment="owned")) == 1.0


def test_making_the_machine_counts_only_where_it_is_stated() -> None:
    assert carbon.embodied_grams_co2e(KWH, LOCAL) is None
    state("[carbon]\nembodied_kg_co2e = 350.4\nlifetime_years = 4\n")
    assert carbon.embodied_grams_co2e(KWH, LOCAL) == pytest.approx(10)  # 350,400 g over 35,040 hours
    assert carbon.embodied_grams_co2e(replace(KWH, others_seconds=1800.0), LOCAL) == pytest.approx(5)
    assert carbon.embodied_grams_co2e(KWH, prices.find("aws")) is None
    assert grams(KWH, LOCAL) == pytest.approx(445)  # O alone


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.sampled_from(prices.load()))
def test_more_energy_is_never_less_co2e(joules: float, more: float, offer: Offer) -> None:
    less, rest = grams(Usage(cpu_energy_j=joules), offer), grams(Usage(cpu_energy_j=joules + more), offer)
    assert less is not None
    assert rest is not None
    assert 0 <= less <= rest


def test_the_facts_are_those_of_their_file() -> None:
    folder = os.environ.get("WORKBENCH_DATA")
    if not folder:
        pytest.skip("WORKBENCH_DATA is not set: the file of facts is not here")
    with (Path(folder) / "carbon.csv").open(encoding="utf-8", newline="") as file:
        facts = list(csv.reader(file))
    with (Path(carbon.__file__).parent / "carbon.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:] == facts[1:]
