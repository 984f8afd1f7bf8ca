"""What GPUs can do by their datasheets, whether memory suffices, and the facts about platforms."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from workbench import prices
from workbench.prices import Gpu, Offer

BOOK = prices.load()
CPU = Offer("p", "small", "", 0, "", "on_demand", Decimal("3.6"), "here", "2026-01-01")


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("offer", [o for o in BOOK if o.gpus], ids=lambda o: o.name)
def test_every_gpu_of_the_book_is_in_the_table_with_the_memory_that_is_sold(offer: Offer) -> None:
    model = prices.gpu(offer.gpu)
    assert model is not None
    assert model.memory_gb == pytest.approx(offer.gpu_memory_gb, rel=0.07)  # a marketplace says 45 for 48


@pytest.mark.parametrize("model", prices.gpus(), ids=lambda m: m.name)
def test_figures_are_plausible_or_left_out(model: Gpu) -> None:
    assert len(model.source) > 10
    assert model.tensor_tflops is None or 50 <= model.tensor_tflops <= 2500
    assert model.bandwidth_gb_s is None or 300 <= model.bandwidth_gb_s <= 8000
    assert model.board_power_w is None or 70 <= model.board_power_w <= 1000
    assert model.fp32_tflops is None or model.tensor_tflops is None or model.fp32_tflops < model.tensor_tflops


def test_peaks_are_dense_ones() -> None:
    sparse = {"H100-SXM": 1979, "L40S": 733, "L4": 242, "A100-80GB": 624}
    for name, doubled in sparse.items():
        model = prices.gpu(name)
        assert model is not None
        assert model.tensor_tflops == pytest.approx(doubled / 2, rel=0.02)


@pytest.mark.parametrize(
    "nvml, name",
    [
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A10G", "A10G"),
        ("Tesla T4", "T4"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB-PCIe"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA RTX A6000", "A6000"),
        ("h200", "H200-SXM"),
    ],
)
def test_a_gpu_is_known_by_the_name_that_nvml_gives_it(nvml: str, name: str) -> None:
    model = prices.gpu(nvml)
    assert model is not None
    assert model.name == name


@pytest.mark.parametrize("name", ["", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "H100", "A100", "NVIDIA GeForce RTX 4090 D", "Radeon"])
def test_a_slice_and_a_name_that_fits_several_are_unknown(name: str) -> None:
    assert prices.gpu(name) is None


def test_whether_memory_suffices() -> None:
    t4 = prices.find("aws:g4dn.xlarge")
    assert prices.fits(15e9, t4) is True
    assert prices.fits(17e9, t4) is False
    assert prices.fits(100e9, replace(t4, gpu="H200", gpu_memory_gb=None)) is True
    assert prices.fits(1.0, replace(t4, gpu="Radeon", gpu_memory_gb=None)) is None
    assert prices.fits(1.0, CPU) is None
    assert prices.fits(2**30, replace(CPU, memory_gib=1)) is True
    assert prices.fits(2**30 + 1, replace(CPU, memory_gib=1)) is False


@pytest.mark.parametrize("name", sorted({o.platform for o in BOOK}))
def test_every_platform_of_the_book_has_its_row_of_facts_with_sources(name: str) -> None:
    facts = prices.platform(name)
    assert facts.pue is not None
    assert 1 <= facts.pue < 2
    assert len(facts.pue_source) > 10
    assert len(facts.source) > 10
    assert (facts.billing_seconds is None and facts.minimum_seconds is None) or len(facts.billing_source) > 10


def test_facts_can_be_overridden_and_unknown_platforms_have_none(tmp_path: Path) -> None:
    shipped = prices.platform("aws")
    (tmp_path / "workbench.toml").write_text(
        '[platforms.aws]\ndata = "our bucket"\npue = 1.2\n[platforms.mine]\nbilling_seconds = 60\n', encoding="utf-8"
    )
    assert prices.platform("aws") == replace(shipped, data="our bucket", pue=1.2)
    assert prices.platform("mine").billing_seconds == 60
    assert prices.platform("nobody") == prices.Platform("nobody")
