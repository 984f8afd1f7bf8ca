"""workbench.toml: where it is found, what it may say, and how a mistake in it is answered."""

from decimal import Decimal
from pathlib import Path

import pytest

from workbench import settings
from workbench.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)


def example() -> str:
    """The example of the module's docstring."""
    lines = (line for line in (settings.__doc__ or "").splitlines() if line.startswith("    "))
    return "\n".join(lines).replace("# a country, or g_co2e_per_kwh = …", "")


def write(text: str) -> Path:
    path = Path.cwd() / "workbench.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_is_stated_where_there_is_no_file() -> None:
    chosen = settings.load()
    assert (chosen.path, chosen.options, chosen.offers) == (None, {}, ())


def test_the_example_of_the_docstring_is_read() -> None:
    path = write(example())
    chosen = settings.load()
    assert chosen.path == path
    assert (chosen.options["label_usd"], chosen.options["platform"]) == (0.12, "desk")
    assert chosen.price_book == path.parent / "quotes.csv"
    assert chosen.offers[0]["amount"] == Decimal("0.92")
    assert chosen.owned[0]["utilisation"] == Decimal("0.3")
    assert chosen.currencies["EUR"]["usd"] == Decimal("1.08")
    assert chosen.carbon["region"] == "DEU"
    assert chosen.platforms["aws"] == {"technical_support": "our account team"}


def test_a_file_is_taken_from_the_argument_then_the_variable_then_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("label_usd = 1")
    (tmp_path / "two.toml").write_text("label_usd = 2", encoding="utf-8")
    (tmp_path / "three.toml").write_text("label_usd = 3", encoding="utf-8")
    assert settings.load().options["label_usd"] == 1
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(tmp_path / "two.toml"))
    assert settings.load().options["label_usd"] == 2
    assert settings.load(tmp_path / "three.toml").options["label_usd"] == 3


def test_a_file_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(tmp_path / "nowhere.toml"))
    with pytest.raises(UsageError, match=r"no settings file .*nowhere.toml"):
        settings.load()
    with pytest.raises(UsageError, match="cannot be read"):
        settings.load(tmp_path)


def test_dates_may_be_written_either_way() -> None:
    write('[currencies]\nEUR = { usd = 1, source = "x", date = 2026-01-15 }\nCHF = { usd = 1, source = "x", date = "2026-01-15" }')
    assert {c["date"] for c in settings.load().currencies.values()} == {"2026-01-15"}


OFFER = '[[offers]]\nplatform = "p"\ninstance = "i"\namount = 1\nsource = "s"\ndate = "2026"\n'


@pytest.mark.parametrize(
    "text, said",
    [
        ("label_usd = ", r"workbench.toml is no TOML"),
        ("label_us = 1", r"there is no setting 'label_us'. Did you mean 'label_usd'"),
        ("label_usd = -1", r"label_usd must be a number, 0 or more; got -1"),
        ("label_usd = nan", r"label_usd must be a number, 0 or more; got"),
        ("label_usd = inf", r"label_usd must be a number, 0 or more; got"),
        ("label_usd = true", r"label_usd must be a number, 0 or more; got True"),
        ('platform = ""', r"platform must be a text; got ''"),
        ('offers = "none"', r"offers is a list of tables, each headed \[\[offers\]\]; got 'none'"),
        ("offers = [1]", r"\[\[offers\]\] 1: this must be a table"),
        ("currencies = 1", r"currencies is a table of tables"),
        (OFFER + "amout = 1", r"\[\[offers\]\] 1: there is no key 'amout'. Did you mean 'amount'"),
        (OFFER + OFFER.replace("amount = 1\n", ""), r"\[\[offers\]\] 2: amount is missing. It must be a number above 0"),
        (OFFER.replace("amount = 1", "amount = 0"), r"amount must be a number above 0; got 0"),
        (OFFER + "gpus = 1.5", r"gpus must be a whole number, 0 or more; got 1.5"),
        (OFFER + 'unit = "week"', r"unit must be one of hour, second, day, month, gpu_hour; got 'week'"),
        (
            '[[owned]]\nplatform = "p"\npurchase_usd = 1\nlifetime_years = 1\nutilisation = 1.1',
            r"utilisation must be a share above 0, at most 1",
        ),
        ('[[owned]]\nplatform = "p"\npurchase_usd = 1\nlifetime_years = 1\nutilisation = 1', r"electricity_usd_per_kwh is missing"),
        ("[currencies]\nEUR = 1.08", r"currencies.EUR: this must be a table"),
        ("[currencies]\nEUR = { usd = 1.08 }", r"currencies.EUR: source is missing"),
        ("[carbon]\npue = 0.9", r"\[carbon\]: pue must be a number, 1 or more"),
        ("[carbon]\nembodied_kg_co2e = 300", r"\[carbon\]: embodied_kg_co2e is spread over lifetime_years"),
        ("[carbon]\ng_co2e_per_kwh = 300", r"\[carbon\]: g_co2e_per_kwh needs a source"),
        ('[platforms.aws]\nsupport = "x"', r"platforms.aws: there is no key 'support'. Did you mean 'technical_support'|Known: "),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(text: str, said: str) -> None:
    write(text)
    with pytest.raises(DataError, match=said) as caught:
        settings.load()
    assert "workbench.toml" in str(caught.value)
