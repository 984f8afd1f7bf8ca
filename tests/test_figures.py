"""The figure of the front shows every point, and says by shape what it says by colour."""

from pathlib import Path
from typing import Any

import pytest

from workbench import figures, prices, report
from workbench.result import Result
from workbench.usage import Usage


def point(number: int, method: str, f1: float, seconds: float) -> Result:
    recipe = {"task": {"data": "x", "train": 10, "seed": 0}, "model": "m", "method": {"name": method}, "epochs": 1, "seed": 0}
    usage = {"train": Usage(seconds=seconds)}
    ids: dict[str, Any] = {"recipe_id": f"r{number}", "run_id": f"r{number}", "trial": number, "number": number}
    return Result(**ids, recipe=recipe, settings={"method": method}, status="complete", scores={"f1": f1}, usage=usage, labels=10)


@pytest.fixture
def view() -> report.View:
    return report.View("f1", ("usd",), {"f1": 0.0, "usd": 1.0}, prices.find("local"), 0.0)


def test_every_point_is_drawn_once_and_the_front_is_a_staircase(view: report.View) -> None:
    results = [point(0, "full", 50, 20), point(1, "lora", 60, 40), point(2, "lora", 40, 60), point(3, "full", 30, 10)]
    drawn = figures.front(results, view)
    stairs, *groups = drawn.data
    assert list(stairs.y) == [30, 50, 60]
    assert sorted(y for group in groups for y in group.y) == [30, 40, 50, 60]
    styles = {(g.name, g.marker.color, g.marker.symbol) for g in groups}
    assert len(styles) == 2
    assert len({colour for _, colour, _ in styles}) == len({symbol for *_, symbol in styles}) == 2


def test_no_point_is_an_empty_figure(view: report.View) -> None:
    assert len(figures.front([], view).data) == 0


def test_the_file_opens_without_a_network(view: report.View, tmp_path: Path) -> None:
    figures.write_html(figures.front([point(0, "full", 50, 20)], view), tmp_path / "front.html")
    text = (tmp_path / "front.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    assert "<script src=" not in text
