"""Live prices: kept apart, absent without their extra, and read from gpuhunt's own items where it is installed."""

import ast
import builtins
import datetime
from pathlib import Path
from typing import Any

import pytest

from workbench import prices
from workbench.errors import EnvironmentFault
from workbench.prices import live

NEEDED = "gpuhunt is not installed: pip install 'workbench[live]'"


def _today() -> datetime.date:
    return datetime.date(2026, 1, 15)


def _item(**changes: Any) -> Any:
    gpuhunt = pytest.importorskip("gpuhunt", reason=NEEDED)
    plain: dict[str, Any] = {
        "provider": "lambdalabs",
        "instance_name": "gpu_1x_a10",
        "location": "us-east-1",
        "price": 0.75,
        "cpu": 30,
        "memory": 200.0,
        "gpu_count": 1,
        "gpu_name": "A10",
        "gpu_memory": 24.0,
        "spot": False,
        "disk_size": 100.0,
    }
    return gpuhunt.CatalogItem(**{**plain, "gpu_vendor": gpuhunt.AcceleratorVendor.NVIDIA, **changes})


def test_only_live_imports_gpuhunt() -> None:
    for path in Path(prices.__file__).parent.glob("*.py"):
        names = [
            n.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Import) for n in node.names
        ]
        assert ("gpuhunt" in names) == (path.name == "live.py")


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "gpuhunt":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        EnvironmentFault, match=r"gpuhunt, which is not installed. Install the extra: pip install 'workbench\[live\]'"
    ):
        live.offers(list)


def test_an_item_becomes_an_offer() -> None:
    item = _item()
    (offer,) = live.offers(lambda: [item], today=_today)
    assert offer.name == "lambda:gpu_1x_a10:us-east-1:on_demand"
    assert (offer.gpu, offer.gpus, offer.gpu_memory_gb, offer.vcpus, offer.memory_gib) == ("A10", 1, 24, 30, 200)
    assert float(offer.usd_per_hour) == 0.75
    assert (offer.date, offer.confidence) == ("2026-01-15", "live")
    assert offer.source.startswith("gpuhunt ")


def test_the_catalogues_traps_are_left_out() -> None:
    gpuhunt = pytest.importorskip("gpuhunt", reason=NEEDED)
    items = [
        _item(),
        _item(spot=True),  # the list price again: unknown
        _item(location="us-west-1", spot=True, price=0.3),
        _item(price=0.0, location="nowhere"),
        _item(gpu_name="MI300X", gpu_vendor=gpuhunt.AcceleratorVendor.AMD, location="amd"),
        _item(gpu_count=0, gpu_name=None, gpu_memory=None, gpu_vendor=None, instance_name="cpu"),
    ]
    found = live.offers(lambda: items, today=_today)
    assert [(o.instance, o.region, o.commitment) for o in found] == [
        ("gpu_1x_a10", "us-east-1", "on_demand"),
        ("gpu_1x_a10", "us-west-1", "spot"),
        ("cpu", "us-east-1", "on_demand"),
    ]
    assert (found[2].gpu, found[2].gpus) == ("", 0)


def test_a_catalogue_out_of_reach_is_a_fault_of_the_environment() -> None:
    gpuhunt = pytest.importorskip("gpuhunt", reason=NEEDED)

    def fail(error: Exception) -> Any:
        raise error

    for error in (OSError("no network"), gpuhunt.GPUHuntError("no catalogue")):
        with pytest.raises(EnvironmentFault, match=r"catalogue cannot be reached: no (network|catalogue)"):
            live.offers(lambda error=error: fail(error))  # type: ignore[misc]
