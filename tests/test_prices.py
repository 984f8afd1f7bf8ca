"""The shipped price book, finding an offer in it, and what a usage costs."""

import json
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import prices
from workbench.errors import DataError, UsageError
from workbench.prices import Offer
from workbench.usage import Usage

BOOK = prices.load()
GPU = Offer("p", "big", "H100", 8, "", "on_demand", Decimal("16"), "here", "2026-01-01")
CPU = Offer("p", "small", "", 0, "", "on_demand", Decimal("3.6"), "here", "2026-01-01")


@pytest.mark.parametrize("offer", BOOK, ids=lambda o: o.name)
def test_every_row_of_the_book_can_be_relied_on(offer: Offer) -> None:
    assert 0 < offer.usd_per_hour < 500
    assert len(offer.source) > 10
    assert re.match(r"20[0-9]{2}\b", offer.date)
    assert offer.commitment in ("on_demand", "spot", "reserved", "owned")
    assert offer.confidence in ("catalogue", "secondary", "assumed")
    assert bool(offer.gpu) == (offer.gpus > 0)
    assert offer.instance


def test_the_ids_that_stand_in_stored_results_still_hold() -> None:
    assert prices.find("local").id == "0d210010bf67"


def test_names_and_ids_tell_offers_apart() -> None:
    assert len(BOOK) > 40
    assert len({o.name for o in BOOK}) == len({o.id for o in BOOK}) == len(BOOK)


def test_spot_is_cheaper_than_on_demand() -> None:
    firm = {(o.platform, o.instance, o.region): o for o in BOOK if o.commitment == "on_demand"}
    spots = [o for o in BOOK if o.commitment == "spot"]
    pairs = [(o, firm[key]) for o in spots if (key := (o.platform, o.instance, o.region)) in firm]
    assert len(pairs) > 5
    assert all(spot.usd_per_hour < fixed.usd_per_hour for spot, fixed in pairs)


@pytest.mark.parametrize("offer", BOOK, ids=lambda o: o.name)
def test_an_offer_is_found_by_its_full_name_and_by_its_id(offer: Offer) -> None:
    assert prices.find(offer.name) is offer
    assert prices.find(offer.id) is offer


def test_the_default_is_this_machine_and_says_what_it_assumes() -> None:
    offer = prices.find(prices.DEFAULT)
    assert (offer.platform, offer.gpus, offer.commitment, offer.confidence) == ("local", 0, "owned", "assumed")
    assert "assumption" in offer.source


def test_a_platform_stands_for_its_cheapest_gpu_that_is_not_spot() -> None:
    offer = prices.find("aws")
    aws = [o for o in BOOK if o.platform == "aws" and o.commitment != "spot"]
    assert offer.usd_per_hour / offer.gpus == min(o.usd_per_hour / o.gpus for o in aws)
    assert prices.find("aws:p4d.24xlarge").commitment == "on_demand"
    assert prices.find("aws:p4d.24xlarge:us-east-1:spot").commitment == "spot"


def test_spot_alone_is_not_taken_for_a_price_that_holds() -> None:
    spot = Offer("p", "x", "L4", 1, "eu", "spot", Decimal("1"), "here", "2026")
    with pytest.raises(UsageError, match=r"'p:x' has spot prices only.*'p:x:eu:spot'"):
        prices.find("p:x", [spot, GPU])
    assert prices.find("p:x:eu:spot", [spot, GPU]) is spot
    assert prices.find("p", [spot, GPU]) is GPU


@pytest.mark.parametrize(
    "asked, hint",
    [
        ("awz", "Did you mean 'aws'"),
        ("aws:p4d.24xlrge", "Did you mean 'aws:p4d.24xlarge'"),
        ("nowhere", "Known: aws, azure.*vast\\."),
        ("", "Known: aws"),
    ],
)
def test_an_unknown_name_is_answered_with_a_near_one(asked: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"no offer is called '{asked}'.*{hint}"):
        prices.find(asked)


HEADER = "platform,instance,gpu,gpus,region,commitment,usd_per_hour,source,date\n"


@pytest.mark.parametrize(
    "text, line",
    [
        (HEADER + "us,a,,0,,owned,1,here,2026\nus,a,,0,,owned,free,here,2026\n", 3),
        (HEADER + "us,a,,0,,owned,0,here,2026\n", 2),
        (HEADER + "us,a,,0,,owned,-1,here,2026\n", 2),
        (HEADER + "us,a,,0,,owned,nan,here,2026\n", 2),
        (HEADER + "us,a,,0,,owned,inf,here,2026\n", 2),
        (HEADER + "us,a,,some,,owned,1,here,2026\n", 2),
        (HEADER + "us,a,,-1,,owned,1,here,2026\n", 2),
        (HEADER + "us,a,L4,,,owned,1,here,2026\n", 2),
        (HEADER + "us,a,,1,,owned,1,here,2026\n", 2),
        (HEADER + "us,a,,0,,rented,1,here,2026\n", 2),
        (HEADER + ",a,,0,,owned,1,here,2026\n", 2),
        (HEADER + "us\n", 2),
        ("platform,instance\nus,a\n", 2),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "book.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"book.csv, line {line}: an offer needs a platform, a usd_per_hour above 0"):
        prices.load(path)


def test_a_book_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "book.csv"
    path.write_text("\ufeff" + HEADER + 'us,a,T4,2,,owned,1.50,"a quote,\nin two lines",2026-05-01\n', encoding="utf-8")
    (offer,) = prices.load(path)
    assert (offer.name, offer.gpus, offer.usd_per_hour) == ("us:a:owned", 2, Decimal("1.50"))
    assert offer.source == "a quote,\nin two lines"
    assert prices.find("us", [offer]) is offer


def test_a_book_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.csv cannot be read"):
        prices.load(tmp_path / "nowhere.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"bytes.csv cannot be read"):
        prices.load(tmp_path / "bytes.csv")


def test_usd_is_seconds_times_the_rate_unrounded() -> None:
    assert prices.usd(Usage(seconds=1.0), CPU) == pytest.approx(0.001)
    assert prices.usd(Usage(seconds=1e-6), CPU) == pytest.approx(1e-9)
    assert prices.usd(Usage(), CPU) == 0


def test_usd_of_a_machine_with_several_gpus_is_for_those_held() -> None:
    assert prices.usd(Usage(seconds=3600.0, gpu_seconds=3600.0), GPU) == pytest.approx(2)
    assert prices.usd(Usage(seconds=3600.0, gpu_seconds=8 * 3600.0), GPU) == pytest.approx(16)
    assert prices.usd(Usage(seconds=3600.0, gpu_seconds=None), GPU) is None  # how many were held is unknown
    assert prices.usd(Usage(seconds=3600.0, gpu_seconds=0.0), GPU) == pytest.approx(16)
    assert prices.usd(Usage(seconds=3600.0, gpu_seconds=1800.0), CPU) == pytest.approx(3.6)


def test_an_offers_id_changes_with_its_price_and_date_and_not_with_a_note() -> None:
    assert re.fullmatch("[0-9a-f]{12}", CPU.id)
    assert replace(CPU, note="seen twice").id == CPU.id
    assert len({CPU.id, replace(CPU, amount=Decimal("3.61")).id, replace(CPU, date="2026-02-01").id}) == 3


@pytest.mark.parametrize(
    "unit, amount, hourly",
    [("hour", "3.6", 3.6), ("second", "0.001", 3.6), ("day", "24", 1), ("month", "730", 1), ("gpu_hour", "2", 16)],
)
def test_a_unit_is_turned_into_hours_of_the_whole_machine(unit: str, amount: str, hourly: float) -> None:
    offer = replace(GPU, unit=unit, amount=Decimal(amount))
    assert float(offer.usd_per_hour) == pytest.approx(hourly)
    assert (offer.id == GPU.id) == (unit == "hour" and amount == str(GPU.amount))
    assert float(offer.usd_per_gpu_hour or 0) == pytest.approx(hourly / 8)
    assert len(str(offer.usd_per_hour)) < 15


def test_another_currency_is_exchanged_and_never_taken_for_dollars() -> None:
    offer = replace(CPU, currency="EUR")
    with pytest.raises(DataError, match=r"priced in EUR, whose rate is unknown.*\[currencies\] EUR"):
        _ = offer.usd_per_hour
    assert replace(offer, exchange=Decimal("1.08")).usd_per_hour == Decimal("3.888")


def test_joules_become_dollars_only_for_an_owner_who_pays_for_them() -> None:
    used = Usage(seconds=3600.0, cpu_energy_j=3.6e6, gpu_board_energy_j=3.6e6)
    owned = replace(CPU, commitment="owned", usd_per_kwh=Decimal("0.3"))
    assert prices.usd(used, owned) == pytest.approx(3.6 + 2 * 0.3)
    assert prices.usd(used, replace(owned, usd_per_kwh=None)) == pytest.approx(3.6)
    assert prices.usd(used, replace(owned, commitment="on_demand")) == pytest.approx(3.6)
    assert prices.usd(replace(used, gpu_board_energy_j=None), owned) is None
    assert prices.usd(replace(used, gpu_board_energy_j=None), CPU) == pytest.approx(3.6)


def test_a_shared_host_is_paid_for_our_share() -> None:
    assert prices.usd(Usage(seconds=10.0, others_seconds=5.0), CPU) == pytest.approx(0.005)


money = st.decimals(min_value="0.0001", max_value="1000", places=4)
offers = st.builds(
    Offer,
    platform=st.sampled_from(["aws", "gcp", "local", "elsewhere"]),
    instance=st.text(max_size=5),
    gpu=st.sampled_from(["", "T4"]),
    gpus=st.integers(0, 8),
    region=st.text(max_size=5),
    commitment=st.sampled_from(["on_demand", "spot", "owned"]),
    amount=money,
    source=st.text(max_size=5),
    date=st.just("2026-01-01"),
    currency=st.just("EUR"),
    exchange=money,
    unit=st.sampled_from(["hour", "second", "day", "month", "gpu_hour"]),
    gpu_memory_gb=st.none() | st.floats(1, 200),
    billing_seconds=st.none() | st.floats(0.5, 3600),
    minimum_seconds=st.none() | st.floats(0, 3600),
    usd_per_kwh=st.none() | money,
)


@given(offers)
def test_no_digit_of_an_offer_is_lost_in_json(offer: Offer) -> None:
    record = json.loads(json.dumps(offer.to_json()))
    money = {name: None if (value := record[name]) is None else Decimal(value) for name in ("amount", "exchange", "usd_per_kwh")}
    assert money == {name: getattr(offer, name) for name in money}
    assert record["id"] == offer.id


@given(offers, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e9))
def test_more_is_never_cheaper(offer: Offer, seconds: float, more: float, joules: float) -> None:
    used = Usage(seconds=seconds, gpu_seconds=seconds, cpu_energy_j=joules)
    longer = prices.usd(used + Usage(seconds=more, gpu_seconds=more, cpu_energy_j=joules), offer)
    shorter = prices.usd(used, offer)
    assert shorter is not None
    assert longer is not None
    assert longer >= shorter
