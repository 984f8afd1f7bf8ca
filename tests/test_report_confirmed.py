"""What new seeds say of a front: intervals that cover, means without the winner's curse, ties, and the front that is left."""

import math
import random
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report import point, view

from workbench.front.confirmed import confirmations, confirmed_front, corrected_points, unrepeatable, worth_confirming
from workbench.front.hypervolume import hypervolume
from workbench.front.intervals import Interval, estimates, holm, p_value, seed_variances, share, ties
from workbench.front.members import pareto_front
from workbench.front.points import Points
from workbench.report.answers import answer, guesses_text, held_out_text, intervals_text, score_text
from workbench.report.records import front_markdown, front_record, runs_record
from workbench.result import Result

SCORES = st.lists(st.floats(0, 100), min_size=1, max_size=6)


def again(of: Result, f1: float | None, seed: int, **changes: Any) -> Result:
    """The same point with another seed."""
    fields = {
        "recipe_id": f"{of.recipe_id[:12]}-{seed}",
        "run_id": f"{of.run_id[:12]}-{seed}",
        "recipe": {**of.recipe, "seed": seed},
        "status": "infeasible" if f1 is None else "complete",
        "scores": {} if f1 is None else {"f1": f1},
        "replicate_of": of.recipe_id,
    }
    return replace(of, **(fields | changes))


def seeds(of: Result, *scores: float | None) -> list[Result]:
    return [again(of, f1, i + 1) for i, f1 in enumerate(scores)]


CHEAP, MIDDLE, BEST = point("aaaa", 50.0, 10), point("bbbb", 62.0, 40), point("cccc", 64.0, 100)
FRONT = [CHEAP, MIDDLE, BEST]


# The statistics


def coverage(rng: random.Random, members: int, count: int, spread: float = 1.0, shared: int = 1, rounds: int = 3000) -> float:
    """Share of intervals that hold the truth; every `shared` members have the same errors, as checkpoints of one run might."""
    inside = 0
    for _ in range(rounds):
        groups, truths = [], []
        for i in range(members):
            truth, sd = rng.uniform(0, 100), spread ** (i / max(1, members - 1))
            if i % shared == 0:
                errors = [rng.gauss(0, 1) for _ in range(count)]
            groups.append([truth + sd * e for e in errors])
            truths.append(truth)
        found = estimates(groups, [i // shared for i in range(members)])
        inside += sum(e.low <= t <= e.high for e, t in zip(found, truths, strict=True))
    return inside / (rounds * members)


@pytest.mark.slow
@pytest.mark.parametrize(("members", "count"), [(1, 2), (4, 3), (8, 2), (3, 12)])
def test_intervals_cover_the_truth_as_often_as_they_say(members: int, count: int) -> None:
    assert coverage(random.Random(7), members, count) == pytest.approx(0.95, abs=0.012)


@pytest.mark.slow
def test_checkpoints_that_share_all_their_luck_are_no_more_degrees_of_freedom() -> None:
    assert coverage(random.Random(7), 6, 3, shared=3) == pytest.approx(0.95, abs=0.012)


@pytest.mark.slow
def test_an_uneven_scatter_costs_little_coverage_over_all() -> None:
    assert 0.90 < coverage(random.Random(7), 6, 3, spread=3.0) < 0.97


def test_pooling_makes_intervals_of_three_seeds_usable() -> None:
    rng = random.Random(1)
    groups = [[rng.gauss(60 + i, 1) for _ in range(3)] for i in range(8)]
    pooled = fmean(e.high - e.low for e in estimates(groups, range(8)) if e)
    alone = fmean(e.high - e.low for g in groups for e in estimates([g], [0]) if e)
    assert pooled < 0.7 * alone


@pytest.mark.slow
def test_the_winners_curse_is_in_what_was_searched_and_not_in_what_new_seeds_say() -> None:
    rng = random.Random(3)
    naive, mended = [], []
    for _ in range(1500):
        truths = [rng.uniform(60, 62) for _ in range(20)]
        found = [point(f"p{i:02}", t + rng.gauss(0, 1), 10) for i, t in enumerate(truths)]
        (winner,) = pareto_front(found, view())
        truth = truths[found.index(winner)]
        known = confirmations([*found, *seeds(winner, *(truth + rng.gauss(0, 1) for _ in range(3)))], view())
        naive.append(winner.scores["f1"] - truth)
        mended.append(known[winner.recipe_id].score.mean - truth)
    error = stdev(mended) / math.sqrt(len(mended))
    assert abs(fmean(mended)) < 4 * error
    assert fmean(naive) > 1.0 > 20 * error


@pytest.mark.parametrize("members", [2, 6])
def test_equal_points_are_told_apart_no_more_often_than_one_time_in_twenty(members: int) -> None:
    rng, wrong, rounds = random.Random(5), 0, 2000
    for _ in range(rounds):
        groups = [[rng.gauss(60, 1) for _ in range(3)] for _ in range(members)]
        tied = ties(groups, range(members))
        best = max(range(members), key=lambda i: fmean(groups[i]))
        wrong += any(best not in tied[i] for i in range(members) if i != best)
    # The best is chosen by the same scores: with two there is nothing to choose, with more it costs some of the 5 %.
    assert wrong / rounds < (0.06 if members == 2 else 0.2)


def test_unequal_points_are_told_apart() -> None:
    assert ties([[50.0, 51.0, 49.0], [60.0, 61.0, 59.5], [60.2, 60.9, 60.0]], range(3)) == [set(), {2}, {1}]


@pytest.mark.slow
@pytest.mark.parametrize("members", [2, 5])
def test_one_that_scatters_ten_times_as_far_as_the_others_has_its_own_variance(members: int) -> None:
    rng, inside, rounds = random.Random(7), 0, 2000
    for _ in range(rounds):
        groups = [[rng.gauss(50, 10 if i == 0 else 1) for _ in range(3)] for i in range(members)]
        unsteady = estimates(groups, range(members))[0]
        inside += unsteady.low <= 50 <= unsteady.high
    assert inside / rounds > 0.86  # pooled it is 0.82 with two, 0.60 with five


def test_what_no_seed_changes_neither_has_the_variance_of_others_nor_lowers_theirs() -> None:
    groups, runs = [[57.5, 57.5, 57.5], [87.5, 80.0, 32.5]], [0, 1]
    steady, unsteady = estimates(groups, runs, [True, False])
    assert steady == Interval(57.5)
    assert unsteady == estimates(groups[1:], runs[1:])[0]
    assert ties(groups, runs, [True, False]) == [{1}, {0}]
    assert ties([[57.5, 57.5], [60.0, 60.0]], runs, [True, True]) == [set(), set()]
    # Scores that are equal by chance are no proof: they have the variance of all.
    assert estimates(groups, runs)[0].low < 57.5


def test_intervals_end_where_the_score_does_and_say_what_they_rest_on() -> None:
    at = replace(view(), grading={"dev_examples": 40, "test_examples": 40})

    def graded(result: Result, score: float) -> Result:
        return replace(result, test_scores={result.recipe_id: {"f1": score}})

    still = [graded(r, 67.5) for r in seeds(MIDDLE, 57.5, 57.5, 57.5)]
    wide = [graded(r, 70.0 + i) for i, r in enumerate(seeds(BEST, 97.5, 80.0, 62.5))]
    points = Points.of([*FRONT, *still, *wide], at)
    steady, unsteady = points.confirmed[MIDDLE.recipe_id], points.confirmed[BEST.recipe_id]
    assert (steady.score, steady.test, steady.examples) == (Interval(57.5), share(67.5, 40), 40)
    assert (unsteady.score.low, unsteady.score.high) == (pytest.approx(36.5, abs=0.1), 100.0)
    assert score_text(57.5, steady) == "57.5 (3 new seeds alike)"
    text = "The 95 % interval is over new seeds. What no new seed changed has none over seeds, and on the test split one over the "
    assert intervals_text(points) == text + "examples."
    steadier = [*FRONT, *seeds(MIDDLE, 60.0, 61.0, 62.0), *seeds(BEST, 63.0, 64.0, 65.5)]
    assert "share one variance, that of 2 points together." in intervals_text(Points.of(steadier, at))
    apart = [*FRONT, *seeds(MIDDLE, 60.0, 60.1, 60.2), *seeds(BEST, 97.5, 80.0, 62.5)]
    assert (
        intervals_text(Points.of(apart, at)) == "The 95 % intervals are over new seeds, each with its own variance: these differ."
    )
    assert intervals_text(Points.of(FRONT, at)) == ""
    assert confirmations([*FRONT, *wide], view())[BEST.recipe_id].score.high > 100  # where the range is unknown


def test_one_seed_tells_nothing_of_the_scatter() -> None:
    assert estimates([[60.0], [70.0]], [0, 1]) == [Interval(60.0), Interval(70.0)]
    assert seed_variances([[60.0], [70.0]], [0, 1]) == [None, None]
    assert ties([[60.0], [70.0]], [0, 1]) is None
    assert ties([], []) is None
    assert estimates([[]], [0]) == [None]


@given(st.dictionaries(st.integers(), st.floats(0, 1), min_size=1))
def test_holm_orders_as_p_does_and_is_between_p_and_bonferroni(chances: dict[int, float]) -> None:
    adjusted = holm(chances)
    for key, p in chances.items():
        assert p <= adjusted[key] <= min(1.0, len(chances) * p) or adjusted[key] == pytest.approx(p)
    order = sorted(chances, key=lambda k: chances[k])
    assert [adjusted[k] for k in order] == sorted(adjusted.values())


def test_holms_own_example() -> None:
    # 0.01, 0.04, 0.03, 0.005 by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then never below the one before.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_p_of_students_t_is_that_of_the_tables() -> None:
    assert p_value(2.776, 1.0, 4) == pytest.approx(0.05, abs=1e-3)
    assert p_value(-4.303, 1.0, 2) == pytest.approx(0.05, abs=1e-3)
    assert (p_value(1.0, 0.0, 4), p_value(0.0, 0.0, 4)) == (0.0, 1.0)


@given(st.lists(SCORES, min_size=1, max_size=5))
def test_every_interval_holds_its_mean(groups: list[list[float]]) -> None:
    for values, found in zip(groups, estimates(groups, range(len(groups))), strict=True):
        assert found is not None
        assert found.mean == pytest.approx(fmean(values))
        assert found.low is None or found.low <= found.mean <= found.high


# The front


def test_without_new_seeds_nothing_is_said() -> None:
    assert confirmations(FRONT, view()) == {}
    assert corrected_points(FRONT, view()) == FRONT
    assert confirmed_front(FRONT, view()) == pareto_front(FRONT, view())
    record = front_record("s-1", FRONT, view())
    assert [p["confirmed"] for p in record["points"]] == [None] * 3
    assert "not confirmed" not in record["answer"]


def test_replicates_are_no_points_of_their_own() -> None:
    lucky = again(MIDDLE, 99.0, 1)
    results = [*FRONT, lucky]
    assert pareto_front(results, view()) == FRONT
    assert view().coordinates(lucky) is None
    assert len(front_record("s-1", results, view())["points"]) == 3
    entries = runs_record(results, view(), {})
    assert [e["replicate_of"] for e in entries] == [None, None, None, MIDDLE.recipe_id]


def test_the_selected_seed_is_left_out_and_the_front_is_drawn_anew() -> None:
    results = [*FRONT, *seeds(CHEAP, 49.0, 50.0, 51.0), *seeds(MIDDLE, 62.0, 63.0, 61.0), *seeds(BEST, 58.0, 60.0, 59.0)]
    known = confirmations(results, view())
    assert [known[r.recipe_id].score.mean for r in FRONT] == [50.0, 62.0, 59.0]
    assert known[CHEAP.recipe_id].score.low == pytest.approx(50 - 2.4469 / math.sqrt(3), abs=1e-3)  # t of 6 degrees of freedom
    assert confirmed_front(results, view()) == [CHEAP, MIDDLE]
    assert pareto_front(results, view()) == FRONT  # what a continued sweep and a second confirmation go by
    record = front_record("s-1", results, view())
    assert [p["on_front"] for p in record["points"]] == [True, True, False]
    assert [p["score"] for p in record["points"]] == [50.0, 62.0, 64.0]
    assert record["answer"].startswith(
        "The best is lora (r=8, lr=2e-4) on small, 512 labels, 2 epochs: f1 62.0 (60.6 to 63.4, 3 new"
    )
    assert record["hypervolume"] < hypervolume(FRONT, view())


def test_points_that_were_never_on_the_front_do_not_come_up_by_their_luck() -> None:
    beaten = point("dddd", 61.5, 41)
    results = [*FRONT, beaten, *seeds(MIDDLE, 55.0, 56.0), *seeds(CHEAP, 50.0, 50.5), *seeds(BEST, 60.0, 61.0)]
    assert confirmed_front(results, view()) == FRONT


def test_the_cheapest_of_those_tied_with_the_best_is_named() -> None:
    results = [*FRONT, *seeds(CHEAP, 49.0, 50.0, 51.0), *seeds(MIDDLE, 61.8, 63.0, 61.0), *seeds(BEST, 62.0, 63.2, 61.6)]
    known = confirmations(results, view())
    assert known[BEST.recipe_id].tied_with == (MIDDLE.recipe_id,)
    assert known[CHEAP.recipe_id].tied_with == ()
    text = answer(Points.of(results, view()))
    first, second = text.split(
        ". It comes 60% cheaper than trial 0 at 2 epochs, and new seeds do not tell the two apart; that one is "
    )
    assert first.startswith("The answer is lora")
    assert "f1 61.9 (" in first
    assert "f1 62.3 (" in second
    assert "best" not in text
    wide = [*FRONT, *seeds(MIDDLE, 34.0, 44.0, 54.0), *seeds(BEST, 54.0, 64.0, 74.0)]
    assert MIDDLE.recipe_id in (confirmations(wide, view())[BEST.recipe_id].tied_with or ())
    assert answer(Points.of(wide, view())).startswith(
        "The best is"
    )  # few seeds tell little apart: the best's interval must hold it too


def test_a_budget_and_a_target_are_answered_by_confirmed_scores() -> None:
    results = [*FRONT, *seeds(MIDDLE, 55.0, 56.0), *seeds(CHEAP, 50.0, 50.5)]
    assert "f1 55.5" in answer(Points.of(results, view()), budget_usd=0.04)
    assert "f1 64.0 (not confirmed)" in answer(Points.of(results, view()), target=60.0)


def test_where_nothing_beats_the_commonest_answer_the_answer_says_so() -> None:
    at = replace(view(), grading={"constant_score": 64.0})
    text = answer(Points.of(FRONT, at))
    assert text.startswith("Nothing found beats the commonest answer given to everything, which has f1 64.0; the highest is lora")
    assert text.endswith("512 labels, 2 epochs: f1 64.0 for $0.10.")
    assert guesses_text(Points.of(FRONT, at)) == ""  # the answer says it of all
    assert "f1 50.0, no better than the commonest answer (64.0), for $0.01" in answer(Points.of(FRONT, at), budget_usd=0.03)


def test_guesses_are_marked_on_the_front_and_are_no_cheaper_choice() -> None:
    at = replace(view(), grading={"constant_score": 60.0})
    near = point("near", 59.0, 20)
    points = Points.of([near, BEST], at)
    assert answer(points).endswith("f1 64.0 for $0.10.")  # nine tenths of it come cheaper, from a guess
    assert "cheaper" in answer(Points.of([near, BEST], view()))
    assert guesses_text(points).startswith("No better than the commonest answer given to everything, which has f1 60.0: trial ")
    assert [points.by_chance(r) for r in points.members] == [True, False]
    table = front_markdown([near, BEST], at)
    assert "| 59.0 (a guess) |" in table
    assert "| 64.0 |" in table
    assert guesses_text(points) in table
    assert [p["by_chance"] for p in front_record("s-1", [near, BEST], at)["points"]] == [True, False]
    # New seeds have the last word.
    lucky = Points.of([MIDDLE, BEST, *seeds(MIDDLE, 58.0, 59.0), *seeds(BEST, 64.0, 65.0)], at)
    assert [lucky.by_chance(r) for r in lucky.members] == [True, False]


def test_members_no_better_than_chance_are_not_worth_new_seeds() -> None:
    at = replace(view(), grading={"constant_score": 50.0})
    assert worth_confirming(FRONT, at) == [MIDDLE, BEST]
    assert worth_confirming([CHEAP], at) == [CHEAP]  # there is no other
    assert worth_confirming(FRONT, view()) == FRONT


def test_what_no_seed_changes_has_an_interval_over_the_test_examples() -> None:
    asked = replace(BEST, recipe={**BEST.recipe, "epochs": 0})
    graded = replace(again(asked, None, 0), status="complete", test_scores={asked.recipe_id: {"f1": 60.0}})
    known = confirmations([CHEAP, asked, graded], replace(view(), grading={"test_examples": 200}))[asked.recipe_id]
    assert (known.seeds, known.examples, known.test) == (0, 200, share(60.0, 200))
    assert held_out_text(known) == "60.0 (53.1 to 66.5 over 200 examples)"
    assert held_out_text(known, brief=True) == "60.0 (53.1…66.5)"
    plain = confirmations([CHEAP, asked, graded], view())[asked.recipe_id]
    assert (plain.examples, plain.test) == (0, Interval(60.0))
    text = answer(Points.of([CHEAP, asked, graded], replace(view(), grading={"test_examples": 200})))
    assert "f1 64.0, 60.0 (53.1 to 66.5 over 200 examples) on the test split for" in text


@given(st.floats(0, 100), st.integers(1, 10_000))
def test_an_interval_over_examples_holds_the_score_and_is_a_share(score: float, examples: int) -> None:
    found = share(score, examples)
    assert found.low is not None
    assert found.high is not None
    assert -1e-9 <= found.low <= score + 1e-9
    assert score - 1e-9 <= found.high <= 100 + 1e-9


def test_seeds_that_failed_are_told() -> None:
    results = [*FRONT, *seeds(MIDDLE, 62.0, None, 61.0), *seeds(BEST, None, None)]
    known = confirmations(results, view())[MIDDLE.recipe_id]
    assert (known.seeds, known.failed, known.score.mean) == (2, 1, 61.5)
    assert unrepeatable(results, view()) == {BEST.recipe_id}
    assert confirmed_front(results, view()) == [CHEAP, MIDDLE]
    assert "2 new seeds, 1 more failed" in answer(Points.of(results, view()))


def test_test_scores_are_told_apart_from_those_of_the_weights_that_were_kept() -> None:
    def graded(result: Result, score: float, **more: dict[str, float]) -> Result:
        return replace(result, test_scores={result.recipe_id: {"f1": score}, **more})

    first, second = seeds(MIDDLE, 62.0, 63.0)
    results = [*FRONT, graded(first, 58.0, **{MIDDLE.recipe_id: {"f1": 57.0}}), graded(second, 60.0)]
    known = confirmations(results, view())[MIDDLE.recipe_id]
    assert known.test is not None
    assert (known.test.mean, known.test_original) == (59.0, 57.0)
    record = front_record("s-1", results, view())["points"][1]["confirmed"]
    assert record == {
        "seeds": 2,
        "failed": 0,
        "mean": 62.5,
        "test_mean": 59.0,
        "test_original": 57.0,
        "usd": pytest.approx(0.04),
        **{name: record[name] for name in ("low", "high", "test_low", "test_high")},
        "tied_with": [],
    }
    some = confirmations([*FRONT, graded(first, 58.0), second], view())[MIDDLE.recipe_id]
    assert some.test is None
