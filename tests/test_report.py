"""The front, the sentences and the records that the command line and the dashboard share."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from workbench.front.hypervolume import hypervolume
from workbench.front.members import cheapest, pareto_front
from workbench.front.objectives import View
from workbench.front.points import Points, marginal
from workbench.front.serving import BreakEven, break_even, serving
from workbench.prices import Offer
from workbench.quantities import dollars, duration, number
from workbench.report import answers
from workbench.report.answers import cost_text, picks, ties_text
from workbench.report.bill import PHASE_MEANINGS, peak_share, phases_spent
from workbench.report.caveats import doubts, few_examples
from workbench.report.records import find_run, front_markdown, front_record, runs_record
from workbench.report.rows import result_rows, rows_csv
from workbench.report.text import describe, settings_text, short_settings, usage_cells
from workbench.result import Cause, Result
from workbench.usage import PHASES, Usage, Work

RATE = Offer("p", "m", "", 0, "", "owned", Decimal("3.6"), "here", "2026-01-01")  # a tenth of a cent a second
REFERENCE = {"f1": 0.0, "usd": 10.0, "seconds": 1e4, "labels": 1e4, "energy_j": 1e6, "usd_compute": 10.0}


def view(*minimize: str, label_usd: float = 0.0) -> View:
    return View("f1", minimize or ("usd",), REFERENCE, RATE, label_usd)


def point(name: str, f1: float | None, seconds: float, **changes: Any) -> Result:
    """A checkpoint of run `name`, or how the run ended without one."""
    fields: dict[str, Any] = {
        "recipe_id": f"{name}{seconds:g}".ljust(16, "0"),
        "run_id": name.ljust(16, "0"),
        "recipe": {"task": {"data": "d", "seed": 0}, "model": "small", "method": {"name": "lora"}, "epochs": 2, "seed": 0},
        "settings": {"model": "small", "method": "lora", "lora.r": 8, "lora.learning_rate": 2.0134e-4, "epochs": 2},
        "status": "complete" if f1 is not None else "infeasible",
        "scores": {} if f1 is None else {"f1": f1, "dev_loss": 1.0},
        "usage": {"train": Usage(seconds=seconds, peak_memory_bytes=2**20)},
        "spent": {"train": Usage(seconds=2 * seconds)},
        "labels": 512,
        "trial": 0,
    }
    return Result(**(fields | changes))


def said(results: list[Result], at: View, **asked: float) -> str:
    return answers.answer(Points.of(results, at), **asked)


CHEAP, MIDDLE, BEST, WORSE = point("aaaa", 50.0, 10), point("bbbb", 62.0, 40), point("cccc", 64.0, 100), point("dddd", 61.0, 90)
BROKEN = point("eeee", None, 5, cause=Cause.OUT_OF_MEMORY, reason="out_of_memory: 3 GiB")
ALL = [BEST, WORSE, CHEAP, BROKEN, MIDDLE]


def epochs(result: Result, count: float, **changes: Any) -> Result:
    return replace(result, recipe={**result.recipe, "epochs": count}, **changes)


# The front


def test_the_front_is_sorted_from_cheap_to_dear() -> None:
    assert pareto_front(ALL, view()) == [CHEAP, MIDDLE, BEST]
    assert pareto_front([], view()) == []
    assert pareto_front([BROKEN], view()) == []


def test_points_that_tie_exactly_are_all_members_and_are_named_once() -> None:
    twin = epochs(point("ffff", 62.0, 40, trial=7), 3)
    for found in ([*ALL, twin], [twin, *ALL]):
        members = pareto_front(found, view())
        assert {r.run_id for r in members} == {r.run_id for r in (CHEAP, MIDDLE, BEST, twin)}
        assert [view().cost(r, "usd") for r in members] == sorted(view().cost(r, "usd") or 0 for r in members)
        assert hypervolume(found, view()) == pytest.approx(hypervolume(ALL, view()))
        assert said(found, view()) == said(ALL, view())
        assert ties_text(members, view()).startswith("2 points tie exactly: trials ")
        assert "7 at 3 epochs" in front_markdown(found, view())
        points = Points.of(found, view())
        assert [m is None for m in marginal(points)] == [True, False, True, False]
        entries = {p["recipe_id"] for p in front_record("s", found, view())["points"] if p["on_front"]}
        assert {twin.recipe_id, MIDDLE.recipe_id} <= entries
    assert ties_text(pareto_front(ALL, view()), view()) == ""
    many = [point(f"{i:04}", 62.0, 40, recipe_id=f"{i:016}") for i in range(9)]
    assert ties_text(many, view()).endswith(" and 3 more.")


def test_a_tie_with_the_best_names_one_answer() -> None:
    twin = point("ffff", 64.0, 100, trial=7)
    text = said([*ALL, twin], view())
    assert text.count("64.0") == 1
    assert [p.why for p in picks(Points.of([*ALL, twin], view()))] == ["best", "nearly"]


def test_a_longer_checkpoint_a_recipe_recorded_twice_and_a_replicate_are_no_ties() -> None:
    longer = epochs(replace(BEST, recipe_id="longer", number=9), 4)
    assert pareto_front([longer, *ALL], view()) == [CHEAP, MIDDLE, BEST]
    again, replicate = replace(BEST, number=9), point("ffff", 64.0, 100, replicate_of=BEST.recipe_id)
    assert pareto_front([*ALL, again], view()) == [CHEAP, MIDDLE, BEST]
    assert replicate not in pareto_front([*ALL, replicate], view())


def test_what_has_no_score_or_an_unknown_cost_is_no_point() -> None:
    unknown = point("x", 99.0, 1, usage={"train": Usage(seconds=1.0, cpu_energy_j=None)})
    assert pareto_front([unknown, CHEAP], view("energy_j")) == [CHEAP]
    assert pareto_front([unknown, CHEAP], view("usd")) == [unknown]
    assert view().coordinates(point("x", 99.0, 1, scores={"accuracy": 1.0})) is None
    assert view().coordinates(point("x", 99.0, 1, status="interrupted")) is None


def test_prices_decide_the_front() -> None:
    few = point("few", 55.0, 50, labels=10)
    assert few not in pareto_front([*ALL, few], view())
    assert few in pareto_front([*ALL, few], view(label_usd=1.0))
    assert pareto_front([*ALL, few], view("usd_compute", label_usd=1.0)) == [CHEAP, MIDDLE, BEST]
    assert few in pareto_front([*ALL, few], view("usd", "labels"))


def test_hypervolume_is_in_score_times_decades_of_cost() -> None:
    # 10 s cost a cent: three decades below the reference of ten dollars
    assert hypervolume([CHEAP], view()) == pytest.approx(50 * 3)
    assert hypervolume([CHEAP, BEST], view()) == pytest.approx(50 * 3 + 14 * 2)
    assert hypervolume(ALL, view()) > hypervolume([CHEAP, BEST], view())
    assert hypervolume([BROKEN], view()) == hypervolume([], view()) == 0
    assert hypervolume([point("x", 0.0, 10)], view()) == 0


def test_halving_a_cost_counts_the_same_anywhere() -> None:
    def gained(seconds: float) -> float:
        return hypervolume([point("a", 50, seconds / 2)], view()) - hypervolume([point("a", 50, seconds)], view())

    assert gained(1.0) == pytest.approx(gained(100.0)) == pytest.approx(50 * math.log10(2))


# The sentences

LORA = "lora (r=8, lr=2e-4) on small, 512 labels, 2 epochs: f1"


def test_the_answer() -> None:
    assert said(ALL, view()) == f"The best is {LORA} 64.0 for $0.10. 96% of that quality comes 60% cheaper: {LORA} 62.0 for $0.04."


def test_the_answer_without_a_cheaper_one_nearly_as_good() -> None:
    assert said([BEST, CHEAP], view()) == f"The best is {LORA} 64.0 for $0.10."
    assert said([BEST], view()) == f"The best is {LORA} 64.0 for $0.10."
    assert said([BEST, point("x", 63.0, 99.9)], view()) == f"The best is {LORA} 64.0 for $0.10."  # 0.1 % is no news


def test_a_study_in_which_nothing_was_learnt_or_paid_has_an_answer() -> None:
    assert said([point("x", 0.0, 10), point("y", 0.0, 5)], view()) == f"The best is {LORA} 0.0 for $0.005."
    assert said([point("x", 5.0, 10), point("y", 5.0, 10)], view("labels")).startswith("The best is")
    assert said([point("x", 5.0, 10, labels=0)], view("labels")).endswith("f1 5.0 for 0 labels.")


@pytest.mark.parametrize("results", [[], [BROKEN], [point("x", 1.0, 1, status="interrupted")]])
def test_the_answer_before_a_run_has_finished(results: list[Result]) -> None:
    for more in ({}, {"budget_usd": 1.0}, {"target": 1.0}):
        assert said(results, view(), **more) == "No run has finished yet: there is nothing to choose from."


@pytest.mark.parametrize(
    "budget, expected",
    [
        (0.05, f"Within $0.05 the best is {LORA} 62.0 for $0.04."),
        (0.1, f"Within $0.10 the best is {LORA} 64.0 for $0.10."),
        (0.01, f"Within $0.01 the best is {LORA} 50.0 for $0.01."),
        (0.001, f"Nothing costs $0.001 or less; the cheapest is {LORA} 50.0 for $0.01."),
    ],
)
def test_the_answer_to_a_budget(budget: float, expected: str) -> None:
    assert said(ALL, view(), budget_usd=budget) == expected


@pytest.mark.parametrize(
    "target, expected",
    [
        (60.0, f"The cheapest that reaches f1 60 is {LORA} 62.0 for $0.04."),
        (62.0, f"The cheapest that reaches f1 62 is {LORA} 62.0 for $0.04."),
        (62.5, f"The cheapest that reaches f1 62.5 is {LORA} 64.0 for $0.10."),
        (90.0, f"No run reached f1 90; the best is {LORA} 64.0 for $0.10."),
    ],
)
def test_the_answer_to_a_target(target: float, expected: str) -> None:
    assert said(ALL, view(), target=target) == expected


def test_a_point_that_only_seems_to_reach_the_target_is_not_passed_over_in_silence() -> None:
    near = point("near", 61.98, 30)
    text = said([*ALL, near], view(), target=62.0)
    assert text == f"{said(ALL, view(), target=62.0)} Cheaper, at $0.03, and only 0.02 below it: {LORA.removesuffix(': f1')}."
    assert said([*ALL, near], view(), target=61.9) == f"The cheapest that reaches f1 61.9 is {LORA} 62.0 for $0.03."
    assert said([*ALL, point("far", 61.9, 30)], view(), target=62.0) == said(ALL, view(), target=62.0)
    assert said([point("near", 61.98, 30)], view(), target=62.0).endswith("62.0 for $0.03. That is only 0.02 below it.")


def test_budget_and_target_are_both_answered() -> None:
    both = said(ALL, view(), budget_usd=0.01, target=60.0)
    assert both == said(ALL, view(), budget_usd=0.01) + " " + said(ALL, view(), target=60.0)


def test_of_points_that_are_as_good_the_cheaper_one_is_named() -> None:
    twin = point("ffff", 64.0, 80)
    assert "64.0 for $0.08" in said([BEST, twin], view())
    assert "64.0 for $0.08" in said([BEST, twin], view(), budget_usd=1)
    assert "64.0 for $0.10" in said([BEST, point("gggg", 63.0, 100)], view(), target=60)


def test_the_sentences_fit_what_is_minimised() -> None:
    few = point("few", 60.0, 50, labels=128)
    answer = said([few, BEST], view("labels"))
    assert answer == (
        f"The best is {LORA} 64.0 for 512 labels. 93% of that quality comes with 75% fewer labels: "
        "lora (r=8, lr=2e-4) on small, 128 labels, 2 epochs: f1 60.0 for 128 labels."
    )
    assert said([few, BEST], view("seconds")).count("in 50% less time") == 1
    assert said([few, BEST], view("seconds"), target=60).startswith("The quickest that reaches f1 60 is")
    assert said([few, BEST], view("labels"), budget_usd=1).endswith("f1 64.0 for 512 labels and $0.10.")
    assert said([few, BEST], view("usd", "labels")).startswith(f"The best is {LORA} 64.0 for $0.10 and 512 labels.")


def test_every_cost_has_its_words() -> None:
    from workbench.result import MINIMIZABLE

    half = point("half", 60.0, 50, labels=128, usage={"train": Usage(seconds=50, cpu_energy_j=5.0)})
    for name in MINIMIZABLE:
        best = replace(BEST, usage={"train": Usage(seconds=100, cpu_energy_j=10.0)})
        assert "% of that quality comes" in said([half, best], view(name))
        assert "that reaches f1 60 is" in said([half, best], view(name), target=60)
        assert cost_text(view(name), best, name)


def test_every_column_has_a_value_and_a_text() -> None:
    from workbench.report.columns import COLUMNS, POINT, cells, values

    best = replace(BEST, usage={"train": Usage(seconds=100, cpu_energy_j=10.0)})
    assert all(isinstance(text, str) for text in cells(best, view("usd"), *COLUMNS))
    assert list(values(best, view("usd"), "seed", "epochs")) == ["seed", "epochs"]
    asked = values(best, view("usd"), "score", "usd", "labels", "energy_j", "seconds_measured", "settings")
    assert asked == {
        "score": 64.0,
        "usd": view("usd").cost(best, "usd"),
        "labels": 512,
        "energy_j": 10.0,
        "seconds_measured": 100,
        "settings": dict(best.settings),
    }
    assert cells(best, view("usd"), *POINT)[1:] == [best.model, best.method, "r=8, lr=2e-4", "512", f"{best.epochs:g}"]
    assert cells(best, view("usd"), "energy_j", "score") == ["10 J", "64.0"]
    assert [COLUMNS[name].unit for name in ("usd", "labels", "seconds_measured")] == ["US$", "labels", "s"]
    with pytest.raises(KeyError):
        values(best, view("usd"), "nonesuch")


def test_one_label_is_no_labels() -> None:
    assert describe(epochs(point("x", 1.0, 1, labels=1), 1)) == "lora (r=8, lr=2e-4) on small, 1 label, 1 epoch"
    assert describe(epochs(point("x", 1.0, 1, labels=0), 0.5)) == "lora (r=8, lr=2e-4) on small, 0 labels, 0.5 epochs"
    assert describe(point("x", 1.0, 1, labels=10000, settings={})) == "lora on small, 10,000 labels, 2 epochs"
    assert cost_text(view("labels"), point("x", 1.0, 1, labels=1), "labels") == "1 label"


def test_what_is_to_be_doubted_of_a_front() -> None:
    def told(results: list[Result], examples: int | None = None, constant: float | None = None) -> list[str]:
        return doubts(results, view(), {"dev_examples": examples, "constant_score": constant})

    (small,) = told(ALL, 48)
    assert small.startswith("48 dev examples grade every point: a score of 50 is known to about ±14.")
    assert told(ALL, 96)
    assert told(ALL, 97) == told(ALL, None) == told([], 48) == told([BROKEN], 48) == doubts(ALL, view(), {}) == []
    (flat,) = told(ALL, 512, 64.0)
    assert flat.startswith("No point has learned more than one answer to everything (f1 64.0). Try more labels")
    assert told(ALL, 512, 63.9) == []
    assert told([CHEAP], 1, 64.0)[1].startswith("1 dev example grades every point: a score of 50 is known to about ±50.")


def test_where_no_error_is_known_few_examples_are_told_without_a_figure() -> None:
    def told(graded: int) -> list[str]:
        return doubts(ALL, view(), {"dev_examples": None, "graded_examples": graded, "constant_score": None})

    (few,) = told(99)
    assert few.startswith("99 dev examples grade every point, fewer than 100. How far chance moves this score is not known")
    assert "±" not in few
    assert told(100) == told(0) == []
    (one,) = few_examples({"graded_examples": 1})
    assert one.startswith("1 dev example grades every point, fewer than 100.")
    assert few_examples({"dev_examples": 120, "graded_examples": 40}) == []


@pytest.mark.parametrize("known", [{"dev_examples": 48}, {"graded_examples": 48}])
def test_what_more_dev_examples_take_is_told(known: dict[str, int]) -> None:
    assert few_examples(known | {"dev_whole": False})[0].endswith("more dev examples tell: raise dev= of the task.")
    assert few_examples(known | {"dev_whole": True})[0].endswith(
        "more dev examples tell. All that there are grade already: label others."
    )
    assert few_examples(known)[0].endswith("more dev examples tell.")


def test_labels_read_within_the_first_epoch_are_told_of_how_many() -> None:
    def told(labels: int, count: float) -> str:
        of = point("x", 1.0, 1, labels=labels, settings={})
        return describe(replace(of, recipe={**of.recipe, "task": {"train": 1280}, "epochs": count}))

    assert told(64, 0.05) == "lora on small, 64 of 1,280 labels, 0.05 epochs"
    assert told(1280, 2) == "lora on small, 1,280 labels, 2 epochs"
    assert told(1272, 1) == "lora on small, 1,272 labels, 1 epoch"  # the last step of an epoch may be left out


# Numbers


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "unknown"),
        (0, "$0.00"),
        (0.00042, "$0.00042"),
        (0.000421234, "$0.000421"),
        (0.5, "$0.50"),
        (0.123456, "$0.123"),
        (0.9996, "$1.00"),
        (0.09999, "$0.10"),
        (1, "$1.00"),
        (12.3, "$12.30"),
        (12345.678, "$12,345.68"),
        (1e-9, "$0.000000001"),
    ],
)
def test_dollars(value: float | None, text: str) -> None:
    assert dollars(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (60, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (3600 * 30 + 59 * 60 + 59, "30 h 59 min"),
        (3600 * 1672 + 20 * 60, "1,672 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "value, text",
    [
        (2.0134e-4, "2e-4"),
        (1e-10, "1e-10"),
        (0.25, "0.25"),
        (2.0, "2"),
        (0.0, "0"),
        (0.001, "0.001"),
        (-1.26e-5, "-1.3e-5"),
        (9.99, "10"),
        (12.6, "13"),
        (128.0, "128"),
        (1.5e7, "1.5e7"),
        (8, "8"),
        (True, "True"),
        (None, "None"),
        ("query", "query"),
    ],
)
def test_number(value: Any, text: str) -> None:
    assert number(value) == text


def test_settings_are_called_by_the_end_of_their_path() -> None:
    assert short_settings({"lora.r": 8, "lora.learning_rate": 0.00123, "task.train": 128}) == "r=8, lr=0.0012, train=128"
    assert settings_text(CHEAP) == "r=8, lr=2e-4"


def test_what_was_not_measured_is_called_unknown() -> None:
    unknown = Usage(seconds=1.0, cpu_seconds=None, cpu_energy_j=None, peak_memory_bytes=None)
    assert usage_cells(unknown) == ("1.0 s", "unknown", "unknown", "unknown")
    assert usage_cells(Usage(seconds=1.0, cpu_seconds=2.0, cpu_energy_j=3.0, peak_memory_bytes=2**20)) == (
        "1.0 s",
        "2.0 s",
        "3 J",
        "1 MiB",
    )
    assert usage_cells(None) == ("", "", "", "")
    assert cost_text(view("energy_j"), point("x", 1.0, 1, usage={"train": unknown}), "energy_j") == "unknown"


# The records


FRONT_KEYS = {"study", "maximize", "minimize", "answer", "hypervolume", "points"}
POINT_KEYS = {
    *("trial", "recipe_id", "step", "model", "method", "settings", "score", "usd", "usd_compute", "usd_labels", "labels"),
    *("seconds", "energy_j", "peak_memory_bytes", "offer_id", "price_date", "on_front"),
}
RUN_KEYS = {
    *("trial", "recipe_id", "status", "reason", "model", "method", "settings", "seed", "scores", "usage", "usd"),
    *("mlflow_run_id", "started", "seconds"),
}


def test_the_record_of_the_front_is_the_contract() -> None:
    record = json.loads(json.dumps(front_record("qa-1", ALL, view(label_usd=0.25), target=60.0), allow_nan=False))
    assert record.keys() >= FRONT_KEYS
    assert (record["study"], record["maximize"], record["minimize"]) == ("qa-1", "f1", ["usd"])
    assert record["answer"] == said(ALL, view(label_usd=0.25), target=60.0)
    assert record["hypervolume"] == hypervolume(ALL, view(label_usd=0.25))
    assert len(record["points"]) == 4  # what is complete
    assert all(p.keys() >= POINT_KEYS for p in record["points"])
    first = record["points"][0]
    assert first["usd"] == pytest.approx(first["usd_compute"] + first["usd_labels"]) == pytest.approx(0.1 + 128)
    assert (first["score"], first["labels"], first["seconds"], first["peak_memory_bytes"]) == (64.0, 512, 100.0, 2**20)
    assert (first["offer_id"], first["price_date"]) == (RATE.id, "2026-01-01")
    assert [p["on_front"] for p in record["points"]] == [True, False, True, True]


def test_the_record_of_runs_is_the_contract() -> None:
    early, late = epochs(BEST, 1, recipe_id="early", number=1, started=5.0), epochs(BEST, 2, number=2, started=9.0)
    record = runs_record([early, late, BROKEN], view(label_usd=0.25), {BEST.run_id: "m1"})
    record = json.loads(json.dumps(record, allow_nan=False))
    assert [entry["status"] for entry in record] == ["complete", "infeasible"]
    assert all(entry.keys() >= RUN_KEYS for entry in record)
    best, broken = record
    assert (best["recipe_id"], best["mlflow_run_id"], best["started"], best["seconds"]) == (late.recipe_id, "m1", 5.0, 100.0)
    assert best["usage"]["seconds"] == best["usage"]["phases"]["train"]["seconds"] == 100.0
    assert best["usd"] == pytest.approx(0.1 + 128)
    assert best["usd_spent"] == pytest.approx(0.4)
    assert [c["epochs"] for c in best["checkpoints"]] == [1, 2]
    assert (broken["reason"], broken["scores"], broken["mlflow_run_id"]) == ("out_of_memory: 3 GiB", {}, None)


def test_the_results_as_comma_separated_values() -> None:
    early, late = epochs(BEST, 1, recipe_id="early", number=1), epochs(BEST, 2, number=2)
    rows = result_rows([early, late, BROKEN], view(label_usd=0.25), {})
    read = list(csv.DictReader(io.StringIO(rows_csv(rows))))
    assert read == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    assert [row["on_front"] for row in read].count("True") == 1
    assert (read[2]["reason"], read[2]["score_f1"]) == ("out_of_memory: 3 GiB", "")
    assert rows_csv([]) == "\n"


def test_the_status_of_a_run_is_its_last_word_and_its_figures_those_of_its_furthest_checkpoint() -> None:
    def status(*segments: Result) -> tuple[str, float]:
        (entry,) = runs_record(segments, view(), {})
        return entry["status"], entry["epochs"]

    done = epochs(BEST, 1, number=1)
    assert status(done, epochs(BEST, 2, number=2)) == ("complete", 2)
    assert status(done, epochs(BEST, 4, number=2, status="running", scores={})) == ("running", 1)
    assert status(done, epochs(BEST, 4, number=2, status="infeasible", scores={})) == ("infeasible", 1)
    assert status(done, epochs(BEST, 4, number=2, status="interrupted", scores={}, usage={})) == ("interrupted", 1)
    assert status(epochs(BEST, 4, number=0, status="interrupted"), epochs(BEST, 4, number=1)) == ("complete", 4)
    assert status(epochs(BEST, 4, number=0, status="interrupted")) == ("interrupted", 4)


def test_what_an_interrupted_run_costs_is_what_its_furthest_checkpoint_does() -> None:
    stop = epochs(replace(BEST, spent={"train": Usage(50.0)}), 2, number=2, status="interrupted", scores={}, usage={})
    (entry,) = runs_record([epochs(BEST, 1, number=1), stop], view(), {})
    assert (entry["usd"], entry["usd_spent"]) == (pytest.approx(0.1), pytest.approx(0.25))
    assert (entry["score"], entry["seconds"]) == (64.0, 100.0)


def test_an_interrupted_run_costs_what_it_consumed() -> None:
    stopped = replace(BEST, status="interrupted", scores={}, usage={}, labels=0)
    (entry,) = runs_record([stopped], view(), {})
    assert entry["usd"] == entry["usd_spent"] == pytest.approx(0.2)
    assert entry["seconds"] == 200.0
    assert entry["checkpoints"][0]["usd"] is None  # what it would cost from cold is not known


def test_runs_are_found_by_number_or_by_the_beginning_of_an_id() -> None:
    a, b = replace(CHEAP, trial=0, number=0), replace(CHEAP, trial=0, number=3, recipe_id="feed" * 4)
    c = replace(MIDDLE, trial=1, number=1, run_id="1234" * 4)
    d = replace(BEST, trial=1234, number=1234)
    results = [a, c, b, d]
    assert find_run(results, "0") == find_run(results, "3") == find_run(results, "aaaa") == [a, b]
    assert find_run(results, "feedf") == [a, b]
    assert find_run(results, "1") == find_run(results, "12341") == [c]
    assert find_run(results, "1234") == [d]  # a number before the beginning of an id
    assert find_run(results, "aa") == find_run(results, "9") == find_run(results, "") == []


def test_the_front_as_a_table_for_the_notebook() -> None:
    lines = front_markdown(ALL, view()).splitlines()
    assert lines[0] == said(ALL, view())
    assert lines[2] == "| trial | model | method | settings | labels | epochs | f1 | usd |"
    assert len(lines) == 4 + 3
    assert lines[4] == "| 0 | small | lora | r=8, lr=2e-4 | 512 | 2 | 50.0 | $0.01 |"
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_phases_add_up_over_results() -> None:
    spent = phases_spent([CHEAP, BEST])
    assert spent["train"].seconds == 2 * 10 + 2 * 100
    assert phases_spent([]) == {}


def test_each_phase_is_explained() -> None:
    assert {*PHASE_MEANINGS} == {*PHASES}


# Views: as billed, spread over adopted models, served

ON_DEMAND = Offer(
    "p", "m", "", 0, "", "on_demand", Decimal("3.6"), "here", "2026-01-01", billing_seconds=60.0, minimum_seconds=300.0
)


def served(result: Result, rate: float, **changes: Any) -> Result:
    usage = {**result.usage, "evaluate": Usage(seconds=2.0, work=Work(examples=100))}
    return replace(result, usage=usage, serving={"predictions_per_second": rate, "latency_seconds": 0.01}, **changes)


def here(result: Result, offer: Offer = ON_DEMAND) -> Result:
    return replace(result, offer={"id": offer.id, "platform": offer.platform, "instance": offer.instance})


def test_a_bill_is_rounded_as_the_platform_does_and_never_below_direct() -> None:
    direct = replace(view(), offer=ON_DEMAND)
    billed = replace(direct, billed=True)
    short, long = here(point("a", 50.0, 10)), here(point("b", 60.0, 3001))
    assert direct.cost(short, "usd") == pytest.approx(0.01)
    assert billed.cost(short, "usd") == pytest.approx(0.30)  # five minutes at least
    assert billed.cost(long, "usd") == pytest.approx(3.06)  # 51 minutes
    assert billed.cost(short, "seconds") == 10
    unknown = replace(billed, offer=replace(ON_DEMAND, platform="nobody", billing_seconds=None, minimum_seconds=None))
    assert unknown.cost(here(point("a", 50.0, 10), unknown.offer), "usd") is None


def test_a_bill_is_rounded_at_each_end_of_its_band() -> None:
    gpu = {"device": {"gpus": [{"name": "NVIDIA L40S"}]}}
    result = point("a", 50.0, 100, usage={"train": Usage(100.0, gpu_seconds=100.0)}, provenance=gpu)
    eight = Offer(
        "q", "o", "A100-80GB", 8, "", "on_demand", Decimal("28.8"), "here", "2026-01-01", billing_seconds=1, minimum_seconds=0
    )
    direct, billed = (replace(view(), offer=eight, billed=each).estimate(result, "usd") for each in (False, True))
    assert direct is not None
    assert billed is not None
    for end in ("low", "value", "high"):
        assert getattr(billed, end) == pytest.approx(8 * getattr(direct, end), abs=0.01)  # to the second


def test_the_sweep_is_spread_over_the_models_that_are_adopted() -> None:
    compute = 2 * (10 + 40 + 100 + 90 + 5) / 1000
    alone = view(label_usd=0.1).amortized_over(1, ALL)
    assert alone.cost(CHEAP, "usd_compute") == pytest.approx(0.01 + compute)
    assert alone.cost(CHEAP, "usd") == pytest.approx(0.01 + compute + 51.2)
    two = view().amortized_over(2, ALL)
    assert two.cost(CHEAP, "usd") == pytest.approx(0.01 + compute / 2)
    assert two.cost(CHEAP, "seconds") == 10
    dark = [*ALL, point("x", 1.0, 1, spent={"train": Usage(1.0, cpu_energy_j=None)})]
    metered = replace(view(), offer=replace(RATE, usd_per_kwh=Decimal("0.3")))
    unknown = metered.amortized_over(1, dark)
    assert unknown.cost(CHEAP, "usd") is None
    json.dumps(front_record("s", dark, unknown), allow_nan=False)


def test_serving_at_a_stated_load_holds_whole_machines() -> None:
    prices_view = replace(view(), offer=ON_DEMAND)
    fast = here(served(BEST, 50.0))
    full = serving(fast, prices_view)
    assert full is not None
    assert full.usd_per_1000.value == full.usd_per_1000.low == pytest.approx(0.001 / 50 * 1000)
    assert (full.predictions_per_second.value, full.latency_seconds) == (50.0, 0.01)
    loaded = serving(fast, prices_view, 60.0)
    assert loaded is not None
    assert loaded.usd_per_1000.value == pytest.approx(2 * 0.001 / 60 * 1000)
    assert serving(here(BEST), prices_view) is None


def test_serving_on_another_device_has_a_band_and_no_latency() -> None:
    gpu = {"device": {"gpus": [{"name": "NVIDIA L40S"}]}}
    result = served(point("a", 50.0, 100, provenance=gpu), 50.0)
    result = replace(result, usage={"evaluate": Usage(2.0, gpu_seconds=2.0, work=Work(examples=100))})
    there = Offer("q", "o", "A100-80GB", 1, "", "on_demand", Decimal("3.6"), "here", "2026-01-01")
    found = serving(result, replace(view(), offer=there))
    assert found is not None
    assert (found.usd_per_1000.basis, found.latency_seconds) == ("scaled", None)
    assert found.predictions_per_second.low < found.predictions_per_second.value < found.predictions_per_second.high
    assert found.usd_per_1000.low < found.usd_per_1000.value < found.usd_per_1000.high


def test_a_dearer_model_that_serves_faster_is_cheaper_after_some_predictions() -> None:
    prices_view = replace(view(), offer=ON_DEMAND)
    slow, fast = here(served(CHEAP, 10.0)), here(served(BEST, 50.0))
    found = break_even(slow, fast, prices_view)
    assert found is not None
    assert found.predictions is not None
    assert not found.cheaper_before
    usd = [prices_view.cost(r, "usd") or 0.0 for r in (slow, fast)]
    per = [s.usd_per_1000.value / 1000 for r in (slow, fast) if (s := serving(r, prices_view))]
    assert usd[0] + found.predictions * per[0] == pytest.approx(usd[1] + found.predictions * per[1])
    back = break_even(fast, slow, prices_view)
    assert back == BreakEven(found.predictions, cheaper_before=True)
    assert break_even(slow, here(served(BEST, 5.0)), prices_view) == BreakEven(None, cheaper_before=False)
    assert break_even(here(served(BEST, 5.0)), slow, prices_view) == BreakEven(None, cheaper_before=True)
    assert break_even(slow, here(BEST), prices_view) is None


def test_unknown_dollars_are_never_the_cheapest() -> None:
    gpu = {"device": {"gpus": [{"name": "NVIDIA L40S"}]}}
    dark = point("dark", 40.0, 1, labels=10, provenance=gpu)  # a desktop tells nothing of it
    by_labels = view("labels")
    assert cheapest([dark, CHEAP], by_labels) == CHEAP
    assert "f1 50.0" in said([dark, CHEAP], by_labels, budget_usd=1.0)
    assert "is unknown on" in said([dark], by_labels, budget_usd=1.0)
    assert "no finished run has a known cost" in said([dark], view()).lower()
    assert "No run has finished yet" in said([], view())


def test_the_share_of_the_peak_needs_a_known_gpu_and_counted_flops() -> None:
    gpu = {"device": {"gpus": [{"name": "NVIDIA L40S"}]}}
    usage = {"train": Usage(seconds=10.0, work=Work(flops=362e12, formula="f"))}
    assert peak_share(point("a", 1.0, 1, usage=usage, provenance=gpu)) == pytest.approx(0.1)
    assert peak_share(point("a", 1.0, 1, usage=usage)) is None
    assert peak_share(point("a", 1.0, 1, provenance=gpu)) is None


def test_a_scaled_cost_is_said_to_be_one() -> None:
    gpu = {"device": {"gpus": [{"name": "NVIDIA L40S"}]}}
    usage = {"train": Usage(seconds=100.0, gpu_seconds=100.0)}
    result = point("a", 50.0, 100, usage=usage, provenance=gpu)
    there = Offer("q", "o", "A100-80GB", 1, "", "on_demand", Decimal("3.6"), "here", "2026-01-01")
    text = cost_text(replace(view(), offer=there), result, "usd", band=True)
    assert re.fullmatch(r"\$0\.\d+ \(\$0\.\d+ to \$0\.\d+, scaled\)", text)
    assert cost_text(view(), result, "usd", band=True) == "unknown"
    record = front_record("s", [result], replace(view(), offer=there))["points"][0]
    assert record["basis"] == "scaled"
    assert record["usd_low"] < record["usd"] < record["usd_high"]


def test_the_view_is_part_of_the_record() -> None:
    record = front_record("s", ALL, view())
    assert record["view"]["offer"] == RATE.name
    assert record["view"]["g_co2e_per_kwh"] > 0
    assert record["spent_usd"] == pytest.approx(0.49)
    json.dumps(record, allow_nan=False)
