"""`workbench prices` prints the book: filtered, in order, for people and for programs."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from workbench import prices
from workbench.cli import cli
from workbench.errors import UsageError
from workbench.prices import Offer, live


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*args: str) -> Any:
    return CliRunner().invoke(cli, ["prices", *args], catch_exceptions=False, standalone_mode=False)


def listed(*args: str) -> list[dict[str, Any]]:
    record = json.loads(run(*args, "--json").stdout)
    assert isinstance(record, list)
    return record


def test_the_cheapest_gpu_hour_stands_first_and_machines_without_one_last() -> None:
    offers = listed()
    per_gpu = [float(o["usd_per_gpu_hour"]) for o in offers if o["gpus"]]
    assert per_gpu == sorted(per_gpu)
    assert [o["name"] for o in offers if not o["gpus"]] == [offers[-1]["name"]] == ["local:cpu:owned"]
    assert offers[-1]["usd_per_gpu_hour"] is None
    assert all(o["commitment"] != "spot" for o in offers)
    assert len(listed("--spot")) == len(prices.load())


def test_what_is_printed_is_the_book() -> None:
    by_name = {o.name: o for o in prices.load()}
    for record in listed("--spot"):
        assert record == by_name[record["name"]].to_json()


def test_offers_are_chosen_by_platform_and_gpu() -> None:
    assert {o["platform"] for o in listed("--platform", "aws")} == {"aws"}
    assert {o["gpu"] for o in listed("--gpu", "h100")} == {"H100-SXM", "H100-PCIe", "H100-NVL"}
    assert {o["gpu"] for o in listed("--gpu", "NVIDIA H200", "--spot")} == {"H200", "H200-SXM"}
    assert {o["gpu"] for o in listed("--platform", "vast", "--gpu", "A100-80GB")} == {"A100-80GB-SXM"}
    with pytest.raises(UsageError, match=r"no offer is called 'awss'. Did you mean 'aws'"):
        run("--platform", "awss")
    with pytest.raises(UsageError, match=r"no offer here has the GPU 'L40SS'. Did you mean 'L40S'"):
        run("--gpu", "L40SS")
    with pytest.raises(UsageError, match=r"no offer here has the GPU 'H1000'. Did you mean 'H100'"):
        run("--gpu", "H1000")


def test_the_table_has_price_memory_region_and_source_date() -> None:
    shown = run("--gpu", "L4")
    for text in ("g6.xlarge", "0.8048", "24", "us-east-1", "on_demand", "2025-03-02", "catalogue"):
        assert text in shown.stdout
    assert "spot prices are not shown" in run().stderr
    assert "spot prices" not in run("--spot").stderr


def test_it_says_which_file_overrides(tmp_path: Path) -> None:
    (tmp_path / "workbench.toml").write_text(
        '[[offers]]\nplatform = "us[red]"\ninstance = "x"\namount = 1\nsource = "s"\ndate = "2026"\n', encoding="utf-8"
    )
    shown = run()
    assert "us[red]" in shown.stdout
    assert f"in their place: 1 offer of {tmp_path / 'workbench.toml'}." in shown.stderr


def test_live_prices_are_shown_instead_of_the_book(monkeypatch: pytest.MonkeyPatch) -> None:
    from decimal import Decimal

    offer = Offer("vast", "x", "L4", 1, "US", "on_demand", Decimal("0.1"), "gpuhunt", "2026-01-15", "live")
    monkeypatch.setattr(live, "offers", lambda: (offer,))
    assert [o["name"] for o in listed("--live")] == ["vast:x:US:on_demand"]


def test_what_binds_a_team_to_a_platform_is_told_with_its_source() -> None:
    shown = json.loads(CliRunner().invoke(cli, ["platforms", "--json"]).stdout)
    aws = next(offer for offer in shown if offer["platform"] == "aws")
    assert aws["egress_usd_per_gb"] == 0.09
    assert "plain machine" in aws["interface"]
    assert aws["platform_commitment"] == "none on demand"
    assert aws["commitment"] == "on_demand", "an offer's own is another thing"
    known = [prices.platform(offer["platform"]) for offer in shown]
    assert all("(20" in each.binding_source for each in known if each.interface and each.name != "local")
    assert any(each.egress_usd_per_gb is None for each in known), "what is unknown stays unknown"


def test_a_study_is_priced_without_one_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {offer["platform"] for offer in json.loads(CliRunner().invoke(cli, ["platforms", "--json"]).stdout)}
    kept = json.loads(CliRunner().invoke(cli, ["platforms", "--without", "aws", "--without", "gcp", "--json"]).stdout)
    assert {offer["platform"] for offer in kept} == every - {"aws", "gcp"}
    with pytest.raises(UsageError, match=r"names no platform of the price book. Did you mean 'aws'"):
        CliRunner().invoke(cli, ["platforms", "--without", "awss"], catch_exceptions=False, standalone_mode=False)
    only = prices.find("aws:g6.xlarge")
    monkeypatch.setattr(prices, "load", lambda: (only,))
    with pytest.raises(UsageError, match="leaves no platform"):
        CliRunner().invoke(cli, ["platforms", "--without", "aws"], catch_exceptions=False, standalone_mode=False)
