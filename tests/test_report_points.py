"""Points of a view, the picks among them, and the rows of tables."""

import re
import subprocess
import sys
from dataclasses import replace

import made
import pytest
from test_report import point, view

from workbench.front.confirmed import confirmed_front
from workbench.front.objectives import View
from workbench.front.points import Points, baselines, marginal, stopped
from workbench.ledger import Ledger
from workbench.report import answers
from workbench.report.axes import AXES, axes
from workbench.report.reproduce import reproduce
from workbench.report.tables import best_within, budgets_text, differing, front_rows, ladder, run_rows
from workbench.report.text import describe

CHEAP, MIDDLE, BEST = point("aaaa", 50.0, 10), point("bbbb", 62.0, 40), point("cccc", 64.0, 100)
WORSE = point("dddd", 40.0, 60)
POINTS = Points.of([WORSE, BEST, CHEAP, MIDDLE], view())


def test_points_are_the_front_and_what_it_dominates() -> None:
    assert [r.recipe_id for r in POINTS.members] == [r.recipe_id for r in (CHEAP, MIDDLE, BEST)]
    assert len(POINTS.found) == len(POINTS.candidates) == 4
    assert POINTS.unknown == 0


def test_the_marginal_price_is_that_of_the_last_point_of_score() -> None:
    usd = [POINTS.view.cost(r, "usd") for r in POINTS.members]
    assert marginal(POINTS) == [None, pytest.approx((usd[1] - usd[0]) / 12), pytest.approx((usd[2] - usd[1]) / 2)]
    two = replace(view(), minimize=("usd_compute", "labels"))
    assert set(marginal(Points.of([CHEAP, BEST], two))) == {None}


ENOUGH = POINTS.view.cost(MIDDLE, "usd")


@pytest.mark.parametrize(
    ("asked", "whys"),
    [
        ({}, ["best", "nearly"]),
        ({"budget": ENOUGH}, ["within"]),
        ({"target": 60.0}, ["reaching"]),
        ({"budget": ENOUGH, "target": 60.0}, ["within", "reaching"]),
        ({"budget": 1e-9, "target": 99.0}, []),
    ],
)
def test_the_picks_are_the_points_that_the_answer_names(asked: dict[str, float], whys: list[str]) -> None:
    answer, picks = answers.answer(POINTS, **asked), answers.picks(POINTS, **asked)
    assert [pick.why for pick in picks] == whys
    for pick in picks:
        assert describe(pick.point) in answer
        assert f"f1 {pick.point.scores['f1']:.1f}" in answer


def test_of_points_that_new_seeds_do_not_tell_apart_the_cheaper_one_is_picked_first() -> None:
    again = [
        replace(
            of,
            recipe_id=f"{of.run_id}{s}",
            run_id=f"{of.run_id}{s}",
            replicate_of=of.recipe_id,
            recipe={**of.recipe, "seed": s},
            scores={"f1": f1},
        )
        for of, scores in ((MIDDLE, (60.0, 64.0, 62.0)), (BEST, (61.0, 65.0, 63.0)))
        for s, f1 in enumerate(scores, 1)
    ]
    points = Points.of([CHEAP, MIDDLE, BEST, *again], view())
    assert points.members == confirmed_front([CHEAP, MIDDLE, BEST, *again], view())
    assert [(p.why, p.point.recipe_id) for p in answers.picks(points)] == [("tied", MIDDLE.recipe_id), ("best", BEST.recipe_id)]


def test_a_budget_in_dollars_is_one_in_the_unit_of_a_cost_in_dollars() -> None:
    assert answers.answer(POINTS, budget=ENOUGH) == answers.answer(POINTS, budget_usd=ENOUGH)


def test_a_budget_is_in_the_unit_of_the_view_s_cost() -> None:
    quick = replace(view(), minimize=("seconds",))
    assert "Within 50 s the best is" in answers.answer(Points.of([CHEAP, MIDDLE, BEST], quick), budget=50.0)


def test_baselines_are_found_where_they_were_recorded() -> None:
    untuned = replace(CHEAP, recipe_id="zero", run_id="zero", recipe={**CHEAP.recipe, "epochs": 0}, scores={"f1": 9.0})
    full = replace(MIDDLE, recipe={**MIDDLE.recipe, "method": {"name": "full"}})
    found = baselines(Points.of([untuned, full, BEST], view()))
    assert {name: r.scores["f1"] for name, r in found.items()} == {"untuned": 9.0, "full tuning": 62.0}
    lora = {"name": "lora"}
    assert baselines(Points.of([replace(r, recipe={**r.recipe, "method": lora}) for r in (CHEAP, BEST)], view())) == {}


def test_stopped_runs_are_those_that_did_not_reach_the_longest() -> None:
    results = [made.run(0, epochs=1.0), made.run(0, epochs=4.0), made.run(1), made.run(2, epochs=4.0)]
    assert stopped(Points.of(results, View.of(made.describe(), made.OFFER, 0.0))) == {"run000001"}


def test_a_ladder_has_round_stops_that_span_the_costs() -> None:
    stops = ladder(0.0123, 0.4)
    assert stops[0] == pytest.approx(0.01)
    assert stops[-1] == pytest.approx(1.0)
    assert stops == sorted(stops)
    assert [f"{s:.4g}" for s in stops[:4]] == ["0.01", "0.012", "0.015", "0.02"]
    assert ladder(0.0, 1.0) == []


def test_the_best_within_a_budget_is_what_the_answer_names() -> None:
    results = made.runs(40)
    points = Points.of(results, View.of(made.describe(), made.OFFER, 0.0))
    found = best_within(points)
    assert len(found) > 2
    for budget, best in found:
        for method, r in best.items():
            same = [p for p in points.candidates if p.method == method and points.view.cost(p, "usd") <= budget]
            assert r.scores["f1"] == max(p.scores["f1"] for p in same)


def test_what_budgets_buy_is_told_once_for_each_that_buys_more() -> None:
    view = View.of(made.describe(), made.OFFER, 0.0)
    points = Points.of(made.runs(40), view)
    text = budgets_text(points)
    told = re.findall(r"\$([0-9.]+): ([0-9.]+) \(", text)
    assert len(told) > 2
    assert [float(score) for _, score in told] == sorted({float(score) for _, score in told})
    for budget, score in told:
        (pick,) = [p for p in answers.picks(points, budget=float(budget)) if p.why == "within"]
        assert points.score(pick.point) == pytest.approx(float(score), abs=0.05)
    assert budgets_text(Points.of(made.runs(1)[:1], view)) == ""


def test_what_differs_between_runs_is_all_that_is_shown() -> None:
    left, right = made.run(0), made.run(0, epochs=2.0)
    assert differing([left, right]) == {"epochs": [1.0, 2.0]}
    assert differing([left]) == {}


def test_rows_are_in_the_units_of_their_axes() -> None:
    points = Points.of(made.runs(6), View.of(made.describe(), made.OFFER, 0.0))
    row, member = front_rows(points)[0], points.members[0]
    assert row["energy_j"] == pytest.approx(member.cold.energy_j / 3.6e6)
    assert (row["trial"], row["low"], row["marginal"]) == (member.trial, None, None)
    rows = run_rows([*made.runs(3), made.failed(9)], points.view, {"run000000": "abc"})
    assert [r["status"] for r in rows] == ["complete"] * 3 + ["infeasible"]
    assert (rows[0]["epochs"], rows[0]["mlflow_run_id"], rows[3]["f1"], rows[3]["usd"]) == (4.0, "abc", None, None)


def test_only_axes_that_say_something_are_offered() -> None:
    results = made.runs(3)
    of = View.of(made.describe(), made.OFFER, 0.0)
    assert axes(results, of) == ["usd", "usd_compute", "energy_j", "grams_co2e", "seconds", "labels"]  # no GPU was held
    assert axes(results, replace(of, minimize=("seconds",)))[0] == "seconds"
    assert AXES["gpu_seconds"].text(7200.0) == "2 GPU-hours"
    assert AXES["usd"].text(0.5) == "$0.50"


@pytest.mark.slow
def test_a_point_is_made_again_by_the_commands_that_are_shown(swept) -> None:
    folder, _ = swept
    ledger = Ledger.find(None, f"sqlite:///{folder / 'optuna.db'}")
    result = min((r for r in ledger.results() if r.status == "complete"), key=lambda r: r.epochs)
    command = reproduce(replace(result, provenance={}), ledger.description).replace("python -", f"{sys.executable} -")
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    assert float(done.stdout.split("{")[0]) == result.epochs
    assert f"'accuracy': {result.scores['accuracy']!r}" in done.stdout
    assert reproduce(result, {"path": None}) == ""
