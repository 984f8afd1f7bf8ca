"""The figures of the dashboard's pages: everything is drawn once, and shape says again what colour says."""

from dataclasses import replace

import pytest
import sweeps
from sweeps import VIEW, failed, result

from workbench import figures, prices
from workbench.front.curves import curves
from workbench.front.importance import best_of_runs, importance, swept
from workbench.front.label_curve import best_by_labels, line
from workbench.front.members import pareto_front
from workbench.front.trajectory import trajectory
from workbench.report.failures import failures, memory_map
from workbench.report.importance import short_name
from workbench.report.other_offers import elsewhere

SWEEP = sweeps.sweep(16)
LOOKS = figures.looks(sweeps.METHODS)


def test_methods_have_a_colour_and_a_shape_of_their_own_while_there_are_enough() -> None:
    looks = figures.looks(f"m{i}" for i in range(20))
    assert len(set(looks.values())) == 20
    assert len({colour for colour, _ in list(looks.values())[:7]}) == 7
    assert figures.looks(["b", "a", "b"]) == figures.looks(["a", "b"])


def test_every_curve_is_a_line_with_its_checkpoints() -> None:
    shown = curves(SWEEP, VIEW, "usd")
    drawn = figures.curves(shown, VIEW, "usd", LOOKS)
    legend = [trace for trace in drawn.data if trace.showlegend is not False]
    lines = [trace for trace in drawn.data if trace.showlegend is False]
    assert [len(trace.x) for trace in lines] == [4] * len(shown)
    assert {(trace.name, (trace.line.color, trace.marker.symbol)) for trace in lines} == {(n, LOOKS[n]) for n in sweeps.METHODS}
    assert [trace.name for trace in legend] == sorted(sweeps.METHODS), "a method is named once"
    assert all(text.startswith("$") for text in drawn.layout.xaxis.ticktext)
    assert "optimiser steps" in figures.curves(shown, VIEW, "step", LOOKS).layout.xaxis.title.text


def test_importance_stands_side_by_side_and_chance_is_hatched() -> None:
    found = importance(SWEEP, VIEW)
    assert found is not None
    drawn = figures.importance(found, VIEW)
    names = [name for trace in drawn.data for name in trace.y]
    assert sorted(names) == sorted(2 * [short_name(effect.name) for effect in found.quality])
    assert {(trace.name, trace.marker.pattern.shape) for trace in drawn.data} == {
        ("told apart from chance", ""),
        ("could be chance", "/"),
    }


@pytest.mark.parametrize("name", ["model", "lora.r", "epochs", "full.learning_rate"])
def test_a_slice_holds_the_runs_that_have_the_setting(name: str) -> None:
    points = best_of_runs(SWEEP, VIEW, name)
    members = {r.recipe_id for r in pareto_front(SWEEP, VIEW)}
    drawn = figures.by_setting(points, VIEW, name, LOOKS, members)
    assert sum(size > 10 for trace in drawn.data for size in trace.marker.size) == len(members & {r.recipe_id for r in points})
    assert sum(len(trace.x) for trace in drawn.data) == len(points) > 0
    assert (drawn.layout.xaxis.type == "category") == (name == "model")


def test_many_runs_are_drawn_by_the_graphics_card() -> None:
    many = [result(f"r{i}", f1=50.0 + i % 7, settings={"lora.r": i}) for i in range(figures.CLOUD + 1)]
    assert {trace.type for trace in figures.by_setting(many, VIEW, "lora.r", LOOKS).data} == {"scattergl"}


def test_parallel_coordinates_have_an_axis_for_each_setting_cost_and_quality() -> None:
    names = [name for name in swept(SWEEP) if name != "epochs"]
    (trace,) = figures.parallel(best_of_runs(SWEEP, VIEW), VIEW, names, "usd").data
    assert [axis.label for axis in trace.dimensions] == ["model", "method", "labels", "learning rate", "lora r", "US$", "f1"]
    assert {len(axis["values"]) for axis in trace.dimensions} == {16}
    rank = next(axis for axis in trace.dimensions if axis.label == "lora r")
    assert "–" in rank.ticktext, "a run of another method has no such setting"


def test_labels_have_a_line_for_each_method_and_a_band_only_from_three_counts() -> None:
    groups = best_by_labels(SWEEP, VIEW, by="method")
    whole = best_by_labels(SWEEP, VIEW)[""]
    drawn = figures.labels(groups, line(whole), VIEW, LOOKS)
    assert {trace.name for trace in drawn.data} == {"95 % band", "line through the best", *groups}
    bare = figures.labels(groups, None, VIEW, LOOKS)
    assert {trace.name for trace in bare.data} == set(groups)


def test_the_course_is_a_staircase_in_money_or_in_seconds() -> None:
    (steps,) = figures.course(trajectory(SWEEP, VIEW)).data
    assert steps.line.shape == "hv"
    assert list(steps.y) == sorted(steps.y)
    unknown = [replace(stage, usd=None) for stage in trajectory(SWEEP, VIEW)]
    assert figures.course(unknown).layout.xaxis.title.text == "seconds of work"


def test_offers_stand_with_their_bands_and_one_s_own_is_bold() -> None:
    found = elsewhere(SWEEP, VIEW, [VIEW.offer, *prices.load()[:6]], 50.0)
    drawn = figures.elsewhere(found, VIEW.offer.id)
    names = [name for trace in drawn.data for name in trace.y]
    assert len(names) == len(found) > 1
    assert [name for name in names if name.startswith("<b>")] == ["<b>here:m:owned (no GPU)</b>"]
    assert len({(trace.marker.color, trace.marker.symbol) for trace in drawn.data}) == len(drawn.data)


def test_memory_is_told_in_words_and_failures_by_phase() -> None:
    results = [result("a", model="l2"), failed("b", "out_of_memory: x", model="l6")]
    (cells,) = figures.memory(memory_map(results)).data
    assert [list(row) for row in cells.text] == [["fits: 1 run, 1.0 GiB", "does not fit: 0 of 1 run"]]
    drawn = figures.failures(failures(results, VIEW))
    assert [(trace.name, list(trace.x)) for trace in drawn.data] == [("train", [5.0])]
