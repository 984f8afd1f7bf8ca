"""The shipped book has none of the traps of the catalogues it comes from; a user's own file adds to it and overrides it."""

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from workbench import prices
from workbench.errors import DataError, UsageError
from workbench.prices import Offer


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)


SHIPPED = prices.load()
HYPERSCALERS = ("aws", "azure", "gcp")
MARKETPLACES = ("vast",)


def _usd(offer: Offer) -> float:
    return float(offer.usd_per_hour)


def zero(book: list[Offer]) -> list[Offer]:
    """A price of 0.00 stands for one that is not known."""
    return [o for o in book if not o.usd_per_hour > 0]


def without_the_gpu(book: list[Offer]) -> list[Offer]:
    """A virtual machine's price that lacks its GPU's: about US$0.032 a vCPU and 0.0042 a GiB of list price, and no more."""
    big = [o for o in book if o.platform in HYPERSCALERS and o.gpus and o.commitment == "on_demand"]
    return [o for o in big if _usd(o) < 1.5 * (0.032 * (o.vcpus or 0) + 0.0042 * (o.memory_gib or 0))]


def spot_at_list_price(book: list[Offer]) -> list[Offer]:
    """Where a catalogue has no spot price it repeats the list price."""
    firm = {(o.platform, o.instance, o.region): o for o in book if o.commitment == "on_demand"}
    keyed = [(o, firm.get((o.platform, o.instance, o.region))) for o in book if o.commitment == "spot"]
    return [o for o, listed in keyed if listed and o.usd_per_hour >= listed.usd_per_hour]


def spot_of_another_region(book: list[Offer]) -> list[Offer]:
    """A list price and a spot price of different regions under one region's name: the note gives it away."""
    return [o for o in book if "different regions" in o.note or ("range" in o.note and " in " in o.region)]


def per_gpu_as_machine(book: list[Offer]) -> list[Offer]:
    """A list price for one GPU that is taken for a machine's: says so in its name or note, and not in its unit."""
    return [o for o in book if ("per GPU" in o.instance or "per-GPU" in o.note) != (o.unit == "gpu_hour")]


def a_machine_as_per_gpu(book: list[Offer]) -> list[Offer]:
    """One GPU's price under a machine of several, or the reverse: far from the same platform's others of that model, per GPU."""
    found = []
    for o in (o for o in book if o.gpus and o.commitment == "on_demand" and o.platform not in MARKETPLACES):
        rates = [_usd(p) / p.gpus for p in book if (p.platform, p.gpu, p.commitment) == (o.platform, o.gpu, o.commitment)]
        if max(rates) > 2.5 * min(rates):
            found.append(o)
    return found


TRAPS = [zero, without_the_gpu, spot_at_list_price, spot_of_another_region, per_gpu_as_machine, a_machine_as_per_gpu]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda t: t.__name__)
def test_the_shipped_book_has_no_trap_in_it(trap: Callable[[list[Offer]], list[Offer]]) -> None:
    assert [o.name for o in trap(list(SHIPPED))] == []


def _named(name: str) -> Offer:
    return prices.find(name, SHIPPED)


@pytest.mark.parametrize(
    "trap, planted",
    [
        (zero, replace(_named("vast"), amount=Decimal("0.00"))),
        (without_the_gpu, replace(_named("gcp:a2-highgpu-8g"), amount=Decimal("5.6"))),
        (spot_at_list_price, replace(_named("runpod:1x_A100-80GB_SECURE"), commitment="spot")),
        (spot_of_another_region, replace(_named("azure"), note="on-demand and spot are different regions")),
        (per_gpu_as_machine, replace(_named("crusoe"), unit="hour")),
        (a_machine_as_per_gpu, replace(_named("nebius:gpu-h100-sxm_8gpu-128vcpu-1600gb"), region="eu", amount=Decimal("2.95"))),
    ],
)
def test_each_trap_would_be_seen(trap: Callable[[list[Offer]], list[Offer]], planted: Offer) -> None:
    assert planted in trap([*SHIPPED, planted])


def test_the_list_price_of_the_azure_h100_and_the_spot_price_quoted_elsewhere_have_their_own_regions() -> None:
    rows = {o.commitment: o for o in SHIPPED if o.instance == "Standard_NC40ads_H100_v5"}
    assert rows["on_demand"].region != rows["spot"].region
    assert rows["spot"].confidence == "secondary"


def test_every_figure_is_that_of_the_facts_it_came_from() -> None:
    folder = os.environ.get("WORKBENCH_DATA")
    if not folder:
        pytest.skip("WORKBENCH_DATA is not set: the file of facts is not here")
    with (Path(folder) / "prices.csv").open(encoding="utf-8", newline="") as file:
        facts = list(csv.DictReader(file))
    wanted = {
        (row["platform"], row["instance"], commitment, Decimal(row[column]), int(row["count"]), row["as_of"])
        for row in facts
        for commitment, column in (("on_demand", "usd_hour_ondemand"), ("spot", "usd_hour_spot"))
        if row[column]
    }
    shipped = [o for o in SHIPPED if o.platform != "local"]
    assert {(o.platform, o.instance, o.commitment, o.amount, o.gpus, o.date) for o in shipped} == wanted
    per_gpu = {(r["platform"], r["instance"], r["region"]): float(r["usd_gpu_hour_ondemand"]) for r in facts}
    for o in shipped:
        if o.commitment == "on_demand" and (key := (o.platform, o.instance, o.region)) in per_gpu:
            assert _usd(o) / o.gpus == pytest.approx(per_gpu[key], abs=1e-4)


OWN = """
[[offers]]
platform = "aws"
instance = "g6.xlarge"
gpu = "L4"
region = "us-east-1"
amount = 0.5
source = "our contract"
date = 2026-01-15

[[offers]]
platform = "hetzner"
instance = "GEX44"
gpu = "RTX4000"
amount = 184
currency = "EUR"
unit = "month"
source = "a quote"
date = 2026-01-15

[[owned]]
platform = "desk"
gpu = "RTX4090"
purchase_usd = 2628
lifetime_years = 3
utilisation = 0.5
electricity_usd_per_kwh = 0.30

[currencies]
EUR = { usd = 1.08, source = "a rate", date = 2026-01-15 }
"""


def test_a_users_file_overrides_by_name_and_adds_the_rest(tmp_path: Path) -> None:
    (tmp_path / "workbench.toml").write_text(OWN, encoding="utf-8")
    assert len(prices.load()) == len(SHIPPED) + 2
    contract = prices.find("aws:g6.xlarge")
    assert (contract.amount, contract.source, contract.date, contract.confidence) == (
        Decimal("0.5"),
        "our contract",
        "2026-01-15",
        "stated",
    )
    assert contract.id != _named("aws:g6.xlarge").id
    server = prices.find("hetzner")
    assert float(server.usd_per_hour) == pytest.approx(184 * 1.08 / 730)
    assert "1 EUR = 1.08 US$ (a rate, 2026-01-15)" in server.note


def test_a_machine_of_ones_own_is_priced_by_purchase_lifetime_use_and_electricity(tmp_path: Path) -> None:
    (tmp_path / "workbench.toml").write_text(OWN, encoding="utf-8")
    desk = prices.find("desk")
    assert (desk.name, desk.gpus, desk.commitment) == ("desk:RTX4090:owned", 1, "owned")
    assert desk.usd_per_hour == Decimal("0.2")  # 2,628 US$ / (3 x 8,760 h x 0.5)
    assert desk.usd_per_kwh == Decimal("0.30")
    (tmp_path / "workbench.toml").write_text(OWN.replace("0.30\n", "0.30\npower_w = 500\n"), encoding="utf-8")
    stated = prices.find("desk")
    assert stated.usd_per_hour == Decimal("0.35")
    assert stated.usd_per_kwh is None
    assert "drawing 500 W" in stated.source


def test_the_default_machine_can_be_ones_own(tmp_path: Path) -> None:
    own = OWN.replace('platform = "desk"\ngpu = "RTX4090"', 'platform = "local"')
    (tmp_path / "workbench.toml").write_text(own, encoding="utf-8")
    assert prices.find("local").usd_per_hour == Decimal("0.2")
    assert len([o for o in prices.load() if o.platform == "local"]) == 1


def test_a_price_book_of_ones_own_lies_beside_the_settings(tmp_path: Path) -> None:
    text = "platform,instance,gpu,gpus,commitment,amount,currency,unit,billing_seconds,source,date\n"
    (tmp_path / "quotes.csv").write_text(text + "us,a,T4,1,on_demand,1,EUR,day,60,a quote,2026\n", encoding="utf-8")
    (tmp_path / "workbench.toml").write_text('price_book = "quotes.csv"\n' + OWN, encoding="utf-8")
    assert float(prices.find("us").usd_per_hour) == pytest.approx(1.08 / 24)
    assert prices.find("us").billing_seconds == 60
    (tmp_path / "workbench.toml").write_text('price_book = "quotes.csv"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"quotes.csv, line 2: 1 EUR has no rate.*\[currencies\] EUR = \{ usd"):
        prices.load()
    (tmp_path / "quotes.csv").unlink()
    with pytest.raises(UsageError, match=r"quotes.csv cannot be read"):
        prices.load()


def test_an_edit_counts_at_once_and_another_file_is_another_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "workbench.toml"
    file.write_text(OWN, encoding="utf-8")
    before = file.stat()
    assert prices.find("aws:g6.xlarge").amount == Decimal("0.5")
    file.write_text(OWN.replace("amount = 0.5", "amount = 0.6"), encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # neither its time nor its size tells
    assert prices.find("aws:g6.xlarge").amount == Decimal("0.6")
    (tmp_path / "other.toml").write_text(OWN.replace("amount = 0.5", "amount = 0.7"), encoding="utf-8")
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(tmp_path / "other.toml"))
    assert prices.find("aws:g6.xlarge").amount == Decimal("0.7")
    monkeypatch.delenv("WORKBENCH_SETTINGS")
    file.unlink()
    assert prices.load() == SHIPPED


def test_a_book_is_built_once_as_long_as_nothing_changes(tmp_path: Path) -> None:
    assert prices.load() is prices.load()
    (tmp_path / "workbench.toml").write_text(OWN, encoding="utf-8")
    assert prices.load() is prices.load()


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("[currencies]\nEUR", "[currencies]\nCHF", r"\[\[offers\]\] 2: 184 EUR has no rate.*EUR = \{ usd"),
        ('gpu = "L4"', "gpus = 1", r"\[\[offers\]\] 1: a machine with gpus names its gpu"),
        ('gpu = "L4"', "usd_per_kwh = 0.3", r"usd_per_kwh is for a machine of one's own"),
        ('"hetzner"\ninstance = "GEX44"', '"aws"\ninstance = "g6.xlarge"\nregion = "us-east-1"', r"two offers are called 'aws:g6"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in OWN
    (tmp_path / "workbench.toml").write_text(OWN.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        prices.load()
