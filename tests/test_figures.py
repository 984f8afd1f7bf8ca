"""The figure of the front shows every point, and says by shape what it says by colour."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workbench import figures, prices
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.report import answers
from workbench.result import Result
from workbench.usage import Usage


def point(number: int, method: str, f1: float, seconds: float) -> Result:
    recipe = {"task": {"data": "x", "train": 10, "seed": 0}, "model": "m", "method": {"name": method}, "epochs": 1, "seed": 0}
    usage = {"train": Usage(seconds=seconds)}
    ids: dict[str, Any] = {"recipe_id": f"r{number}", "run_id": f"r{number}", "trial": number, "number": number}
    return Result(**ids, recipe=recipe, settings={"method": method}, status="complete", scores={"f1": f1}, usage=usage, labels=10)


@pytest.fixture
def view() -> View:
    return View("f1", ("usd",), {"f1": 0.0, "usd": 1.0}, prices.find("local"), 0.0)


FOUR = [point(0, "full", 50, 20), point(1, "lora", 60, 40), point(2, "lora", 40, 60), point(3, "full", 30, 10)]


def test_every_point_is_drawn_once_and_the_front_is_a_staircase_of_diamonds(view: View) -> None:
    stairs, diamonds, *groups = figures.front(Points.of(FOUR, view)).data
    assert list(stairs.y) == list(diamonds.y) == [30, 50, 60]
    assert diamonds.marker.symbol == "diamond-open"
    assert sorted(n for group in groups for n in group.customdata) == [0, 1, 2, 3]
    dominated, *members = groups
    assert (dominated.name, dominated.marker.color, list(dominated.customdata)) == ("lora", figures.GREY, [2])
    styles = {(g.name, g.marker.color, g.marker.symbol) for g in members}
    assert len({colour for _, colour, _ in styles}) == len({symbol for *_, symbol in styles}) == 2
    assert dominated.marker.symbol in {symbol for name, _, symbol in styles if name == "lora"}


def test_dominated_points_of_a_run_can_be_hidden_and_the_front_never(view: View) -> None:
    *_, full, lora = figures.front(Points.of(FOUR, view), hidden={r.run_id for r in FOUR}).data
    assert (list(full.customdata), list(lora.customdata)) == ([3, 0], [1])


def test_confirmed_points_have_their_interval(view: View) -> None:
    best = FOUR[1]
    again = [
        replace(
            best,
            recipe_id=f"s{s}",
            run_id=f"s{s}",
            replicate_of=best.recipe_id,
            recipe={**best.recipe, "seed": s},
            scores={"f1": f1},
        )
        for s, f1 in ((1, 57.0), (2, 59.0))
    ]
    points = Points.of([*FOUR, *again], view)
    trace = next(t for t in figures.front(points).data if t.name == "lora" and t.marker.color != figures.GREY)
    known = points.confirmed[best.recipe_id].score
    assert list(trace.y) == [58.0]
    assert trace.error_y.array[0] == pytest.approx(known.high - 58.0)
    assert trace.error_y.arrayminus[0] == pytest.approx(58.0 - known.low)


def test_baselines_are_drawn_where_there_are_some(view: View) -> None:
    untuned = replace(point(9, "none", 12, 1), recipe={**FOUR[0].recipe, "method": {"name": "none"}, "epochs": 0})
    texts = [a.text for a in figures.front(Points.of([*FOUR, untuned], view)).layout.annotations]
    assert [text.rsplit(" for $", 1)[0] for text in texts] == ["untuned 12.0", "best full tuning 50.0"]
    assert all(" for $" in text for text in texts)
    assert not figures.front(Points.of([FOUR[1]], view)).layout.annotations


@pytest.mark.parametrize(("score", "place"), [(12, "bottom"), (50, "top")])
def test_of_two_baselines_that_lie_together_one_is_told_below(view: View, score: int, place: str) -> None:
    untuned = replace(point(9, "none", score, 1), recipe={**FOUR[0].recipe, "method": {"name": "none"}, "epochs": 0})
    told = figures.front(Points.of([*FOUR, untuned], view)).layout.annotations
    assert [each.yanchor for each in told] == ["bottom", place]


def test_what_was_asked_is_marked(view: View) -> None:
    points = Points.of(FOUR, view)
    picks = answers.picks(points, budget=0.0004, target=55.0)
    drawn = figures.mark(figures.front(points), points, budget=0.0004, target=55.0, picks=picks, chosen=FOUR[2])
    texts = " ".join(a.text for a in drawn.layout.annotations)
    for words in ("budget $0.0004", "target 55", "f1 50.0", "f1 60.0"):
        assert words in texts
    assert {(s.x0, s.x1) for s in drawn.layout.shapes} >= {(0.0004, 0.0004)}
    assert list(drawn.data[-1].y) == [40]


def test_of_a_cloud_one_point_of_each_spot_is_drawn(view: View) -> None:
    many = [point(n, "full" if n % 2 else "lora", 1 + n % 50, 10 + n) for n in range(700)]
    twins = [replace(r, recipe_id=f"{k}/{r.number}", number=1000 * k + r.number) for r in many for k in (1, 2, 3)]
    members = {r.number for r in pareto_front(many, view)}
    clouds = [t for t in figures.front(Points.of([*many, *twins], view)).data if t.marker.color == figures.GREY]
    drawn = [n for t in clouds for n in t.customdata]
    assert len(members) < len(drawn) < figures.CLOUD
    assert all(t.type == "scatter" and t.x.dtype == "float32" for t in clouds)
    by_number = {r.number: r for r in [*many, *twins]}
    assert {by_number[n].scores["f1"] for n in drawn} == set(range(1, 51))  # no row of spots is left out


def test_what_is_still_a_cloud_is_drawn_by_the_graphics_card_and_says_less(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["workbench.figures.front"]
    monkeypatch.setattr(module, "CLOUD", 20)
    many = [point(n, "full", 1 + n % 50, 10 + n) for n in range(200)]
    (cloud,) = [t for t in figures.front(Points.of(many, view)).data if t.type == "scattergl"]
    assert cloud.text is None
    assert cloud.x.dtype == "float32"


def test_two_costs_have_an_axis_each(view: View) -> None:
    two = replace(view, minimize=("usd_compute", "labels"), reference={})
    drawn = figures.front_3d(Points.of(FOUR, two))
    assert sorted(z for trace in drawn.data for z in trace.z) == [30, 40, 50, 60]
    assert {y for trace in drawn.data for y in trace.y} == {10.0}
    more = [*FOUR, replace(point(7, "full", 45, 60), labels=5)]  # on the front for its labels alone: no step
    stairs, diamonds, *_ = figures.front(Points.of(more, two)).data
    assert (list(stairs.y), list(diamonds.y)) == ([30, 50, 60], [30, 50, 60, 45])


def test_methods_as_the_budget_grows(view: View) -> None:
    full, lora = figures.by_method(Points.of(FOUR, view)).data
    assert (list(full.y), list(lora.y)) == ([30, 50, 50], [60, 60])  # each goes on to the dearest point


def test_a_run_s_curve_and_its_phases() -> None:
    view = View("f1", ("usd",), {}, prices.find("local"), 0.0)
    longer = replace(FOUR[0], recipe={**FOUR[0].recipe, "epochs": 2}, scores={"f1": 55.0})
    (line,) = figures.run_curve([[longer, FOUR[0]]], view).data
    assert (list(line.x), list(line.y)) == ([1, 2], [50, 55])
    assert [(bar.name, bar.x[0]) for bar in figures.phases({"load": 1.0, "train": 2.0}, unit="US$").data] == [
        ("load", 1.0),
        ("train", 2.0),
    ]


def test_no_point_is_an_empty_figure(view: View) -> None:
    assert len(figures.front(Points.of([], view)).data) == 0


def test_the_file_opens_without_a_network(view: View, tmp_path: Path) -> None:
    figures.write_html(figures.front(Points.of([point(0, "full", 50, 20)], view)), tmp_path / "front.html")
    text = (tmp_path / "front.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    assert "<script src=" not in text
