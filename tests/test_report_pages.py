"""What the dashboard's pages say, from Results alone: curves, labels, what matters, prices elsewhere, failures, the course."""

from dataclasses import replace
from decimal import Decimal

import pytest
import sweeps
from sweeps import RATE, VIEW, failed, numbered, result

from workbench import prices
from workbench.front.curves import chosen, curves
from workbench.front.hypervolume import hypervolume
from workbench.front.importance import best_of_runs, importance, setting, swept
from workbench.front.label_curve import best_by_labels, line
from workbench.front.members import pareto_front
from workbench.front.trajectory import trajectory
from workbench.prices import Offer
from workbench.quantities import dollars
from workbench.report.curves import curves_text
from workbench.report.failures import failures, failures_text, memory_map, memory_text, settings_words, waste
from workbench.report.importance import importance_text, slice_text
from workbench.report.labels import labels_text
from workbench.report.other_offers import elsewhere, elsewhere_text
from workbench.report.trajectory import course_text

SWEEP = sweeps.sweep(24)


# Curves


def test_a_curve_is_a_run_and_those_on_the_front_come_first() -> None:
    known = curves(SWEEP, VIEW, "step")
    assert len(known) == 24
    assert [len(curve.points) for curve in known] == [4] * 24
    strong = [any(curve.on_front) for curve in known]
    assert strong == sorted(strong, reverse=True)
    assert sum(sum(curve.on_front) for curve in known) == len(pareto_front(SWEEP, VIEW))
    assert all(list(curve.x) == sorted(curve.x) for curve in known)


def test_a_curve_runs_along_money_from_cold() -> None:
    (curve,) = curves([result("a", 1, 40.0, 10.0), result("a", 2, 50.0, 20.0)], VIEW, "usd")
    assert curve.x == pytest.approx((0.01, 0.02))
    dark = replace(VIEW, offer=Offer("x", "y", "NoSuchGPU", 1, "", "spot", Decimal(1), "s", "2026"))
    assert curves([result("a")], dark, "usd") == []


def test_few_of_many_curves_are_shown_and_every_method_takes_its_turn() -> None:
    known = curves(SWEEP, VIEW)
    few = chosen(known, 9)
    assert len(few) == 9
    assert {curve.last.method for curve in few} == set(sweeps.METHODS)
    members = [curve for curve in known if any(curve.on_front)]
    assert [curve for curve in few if any(curve.on_front)] == members[:9]
    assert chosen(known, 100) == known
    assert chosen([], 5) == []


def test_whether_longer_training_pays_is_told_by_the_last_doubling() -> None:
    rising = [result(name, epochs, f1) for name in "ab" for epochs, f1 in ((1, 40.0), (2, 48.0))]
    assert curves_text(curves(rising, VIEW), VIEW) == (
        "Longer training still pays: 2 of 2 runs scored best at the last checkpoint, and the last doubling of steps changed f1 by "
        "+8.0 in the median."
    )
    falling = [result("a", 1, 48.0), result("a", 2, 47.9)]
    assert curves_text(curves(falling, VIEW), VIEW).startswith("Longer training no longer pays: 0 of 1 run ")
    assert "whether longer training pays is unknown" in curves_text(curves([result("a")], VIEW), VIEW)
    assert curves_text([], VIEW) == "No run has a checkpoint that can be drawn yet."


# Labels


def test_the_best_at_each_number_of_labels() -> None:
    points = [result("a", f1=40.0, labels=256), result("b", f1=45.0, labels=256), result("c", f1=50.0, labels=512)]
    (whole,) = best_by_labels(points, VIEW).values()
    assert [(best.labels, best.score, best.points) for best in whole] == [(256, 45.0, 2), (512, 50.0, 1)]
    by_method = best_by_labels([*points, result("d", f1=9.0, labels=512, method="full")], VIEW, by="method")
    assert {name: len(bests) for name, bests in by_method.items()} == {"full": 1, "lora": 2}


def test_two_numbers_of_labels_tell_nothing_of_more() -> None:
    points = [result("a", f1=40.0, labels=256), result("b", f1=50.0, labels=512)]
    whole = best_by_labels(points, VIEW)[""]
    assert line(whole) is None
    text = labels_text(whole, replace(VIEW, label_usd=0.05))
    assert (
        "Only 2 numbers of labels were tried (256, 512): the data cannot tell what 1,000 more would buy (they cost $50.00)" in text
    )
    assert labels_text([], VIEW) == "No point with labels has a score yet."
    assert "Only one number of labels" in labels_text(whole[:1], VIEW)


def test_a_line_through_three_counts_says_what_more_labels_buy_and_how_surely() -> None:
    exact = [result(str(n), f1=10.0 + 5 * i, labels=n) for i, n in enumerate((250, 500, 1000))]
    found = line(best_by_labels(exact, VIEW)[""])
    assert found is not None
    assert (found.slope, found.slope_error) == (pytest.approx(5.0), pytest.approx(0.0, abs=1e-9))
    assert found.gain(1000).value == pytest.approx(5.0), "1,000 beyond 1,000 is one doubling"
    assert "1,000 labels beyond 1,000 would buy about +5.0 f1" in labels_text(best_by_labels(exact, VIEW)[""], VIEW)
    ragged = [result(str(n), f1=f1, labels=n) for n, f1 in ((250, 40.0), (500, 20.0), (1000, 50.0))]
    text = labels_text(best_by_labels(ragged, VIEW)[""], VIEW)
    assert "The data cannot tell what 1,000 labels beyond 1,000 would buy" in text
    wide = line(best_by_labels(ragged, VIEW)[""])
    assert wide is not None
    assert wide.gain().low < -50 < 50 < wide.gain().high, "three counts leave one degree of freedom: t is 12.7"


def test_where_more_labels_did_no_better_nothing_is_promised() -> None:
    """A line through scores that have reached 100 would promise more than 100."""
    full = [result(str(n), f1=f1, labels=n) for n, f1 in ((64, 50.0), (128, 100.0), (256, 99.0), (512, 100.0))]
    whole = best_by_labels(full, VIEW)[""]
    assert line(whole) is None
    assert labels_text(whole, VIEW) == (
        "The best is lora on l3, 128 labels, 1 epoch: f1 100.0. 256 to 512 labels did no better: nothing says that 1,000 more "
        "would buy anything."
    )


def test_confirmed_points_stand_at_their_mean() -> None:
    lucky = result("a", f1=80.0, labels=512)
    again = [result(f"s{i}", f1=60.0, labels=512, replicate_of=lucky.recipe_id) for i in (1, 2)]
    again = [replace(r, recipe={**r.recipe, "seed": i}) for i, r in enumerate(again, 1)]
    (best,) = best_by_labels([lucky, *again], VIEW)[""]
    assert best.score == 60.0


# What matters


def test_settings_that_matter_are_told_from_those_that_do_not() -> None:
    found = importance(sweeps.sweep(40), VIEW)
    assert found is not None
    quality = {effect.name: effect for effect in found.quality}
    assert quality["model"].sure
    assert quality["epochs"].sure
    assert quality["model"].swing.value == pytest.approx(16, abs=3)
    assert quality["model"].best == "l6"
    assert quality["epochs"].swing.value == pytest.approx(18, abs=3)
    assert not quality["lora.r"].sure
    cost = {effect.name: effect for effect in found.cost}
    assert cost["model"].best == "l2", "the best for cost is the cheapest"
    assert cost["epochs"].swing.value > cost["model"].swing.value > 1.5
    assert found.runs == 40
    text = importance_text(found, VIEW, ())
    assert text.startswith("F1 depends most on ")
    assert "labels" in text
    assert "From 40 runs" in text


def test_nothing_is_sure_where_nothing_matters() -> None:
    import random

    rng = random.Random(3)
    noise = [replace(r, scores={"f1": rng.gauss(50, 5)}) for r in sweeps.sweep(16)]
    found = importance(noise, VIEW)
    assert found is not None
    assert not any(effect.sure for effect in found.quality)
    assert "no setting's effect on f1 can be told apart from chance" in importance_text(found, VIEW, ()).lower()


def test_too_few_runs_say_nothing() -> None:
    few = sweeps.sweep(7)
    assert importance(few, VIEW) is None
    assert importance_text(None, VIEW, few) == "7 runs cannot say what matters: it takes 8, and settings that vary."


def test_only_settings_that_vary_are_looked_at() -> None:
    alike = [result(f"r{i}", f1=50.0 + i, settings={"lora.r": 4 + i}) for i in range(9)]
    assert swept(alike) == ["lora.r"]
    assert setting(alike[0], "full.learning_rate") is None
    assert slice_text(alike[:2], VIEW, "lora.r") == "Best f1 by lora r, 5: 51.0 (1 run); 4: 50.0 (1 run)."
    assert [r.scores["f1"] for r in best_of_runs([result("a", 1, 40.0), result("a", 2, 39.0)], VIEW)] == [40.0]
    assert len(best_of_runs([result("a", 1, 40.0), result("a", 2, 39.0)], VIEW, "epochs")) == 2


# Elsewhere

GPU = Offer("rent", "one", "L4", 1, "", "on_demand", Decimal("0.5"), "their page", "2026-02-01")
DEAR = Offer("rent", "two", "L4", 1, "", "on_demand", Decimal(5), "their page", "2026-02-01")
UNKNOWN = Offer("rent", "odd", "NoSuchGPU", 1, "", "on_demand", Decimal(1), "their page", "2026-02-01")


def test_every_offer_has_the_cheapest_model_that_reaches_the_target() -> None:
    points = [result("a", f1=40.0, seconds=10), result("b", f1=60.0, seconds=30), result("c", f1=61.0, seconds=90)]
    found = elsewhere(points, VIEW, [DEAR, RATE, GPU, UNKNOWN], 50.0)
    assert [each.offer for each in found] == [GPU, DEAR, RATE]
    assert {each.point.run_id for each in found} <= {"b", "c"}
    here = found[-1]
    assert (here.point.run_id, here.usd.value, here.usd.low) == ("b", pytest.approx(0.03), pytest.approx(0.03))
    assert found[0].usd.low < found[0].usd.value < found[0].usd.high
    assert elsewhere(points, VIEW, [RATE], 99.0) == []


def test_the_cheapest_place_is_named_with_its_band_and_who_overlaps_it() -> None:
    points = [result("b", f1=60.0, seconds=30)]
    text = elsewhere_text(elsewhere(points, VIEW, [RATE, GPU, DEAR], 50.0), VIEW, 50.0)
    assert text.startswith("The cheapest place for f1 50 is rent:one:on_demand: $")
    assert "times less than on here:m:owned ($0.03)" in text
    alone = elsewhere_text(elsewhere(points, VIEW, [RATE], 50.0), VIEW, 50.0)
    assert alone == "The cheapest place for f1 50 is here:m:owned: $0.03 for lora on l3, 512 labels, 1 epoch."
    assert elsewhere_text([], VIEW, 50.0) == "No model that reaches f1 50 has a known cost on any offer of the price book."


def test_a_machine_without_the_memory_is_left_out() -> None:
    small = replace(RATE, instance="small", memory_gib=0.5)
    gigabyte = result("a", seconds=30)
    assert prices.fits(2**30, small) is False
    assert elsewhere([gigabyte], VIEW, [small]) == []


# Failures


def test_failures_are_counted_by_type_with_what_they_cost() -> None:
    results = numbered(
        [
            result("a", seconds=30),
            failed("b", "out_of_memory: 3 GiB", seconds=5),
            failed("c", "out_of_memory: 4 GiB", seconds=5),
            failed("d", "diverged: the training loss is nan at step 3", seconds=10),
            failed("a", "died: its worker is gone", status="interrupted", seconds=10),
        ]
    )
    found = failures(results, VIEW)
    assert {f.kind: (f.runs, f.seconds) for f in found} == {
        "out of memory": (2, 10),
        "diverged": (1, 10),
        "worker died": (1, 10),
    }
    lost = waste(results, VIEW)
    assert (lost.usd, lost.seconds, lost.share) == (pytest.approx(0.03), 30, pytest.approx(0.5))
    assert failures_text(results, VIEW) == (
        "4 of 4 runs failed at some point (2 out of memory, 1 diverged, 1 worker died), 3 of them without a single model: $0.03 "
        "and 30 s (50.0% of all compute) bought no model."
    )


def test_no_failure_and_nothing_yet_are_said_so() -> None:
    assert failures_text(SWEEP, VIEW) == "Nothing failed: all 24 runs went through, and no money was wasted."
    assert failures_text([], VIEW) == "No run has finished or failed yet."
    assert memory_text([]) == "No run has shown yet whether its model fits into memory."


def test_the_map_of_memory_tells_what_fitted_with_what() -> None:
    results = [
        result("a", method="full", model="l6", batch_size=4),
        failed("b", "out_of_memory: x", method="full", model="l6", batch_size=32),
        result("c", method="lora", model="l6", batch_size=32),
        failed("d", "diverged: x", method="lora", model="l2"),
    ]
    found = {(f.model, settings_words(f)): f for f in memory_map(results)}
    assert set(found) == {("l6", "full, batch size 4"), ("l6", "full, batch size 32"), ("l6", "lora, batch size 32")}
    lost = found["l6", "full, batch size 32"]
    assert (lost.verdict, lost.peak_bytes) == ("does not fit", None)
    assert (found["l6", "lora, batch size 32"].verdict, found["l6", "lora, batch size 32"].peak_bytes) == ("fits", 2**30)
    assert memory_text(list(found.values())) == "Out of memory: l6 with full, batch size 32."


# The course


def test_the_course_adds_up_to_what_was_spent_and_to_the_front_as_it_is() -> None:
    view = replace(VIEW, label_usd=0.01)
    stages = trajectory(SWEEP, view)
    assert len(stages) == len(SWEEP)
    from workbench.result import spent_usd

    assert stages[-1].usd == pytest.approx(spent_usd(SWEEP, RATE, 0.01))
    assert stages[-1].hypervolume == pytest.approx(hypervolume(SWEEP, view))
    volumes = [stage.hypervolume for stage in stages]
    assert volumes == sorted(volumes)
    assert course_text(stages).startswith(f"{dollars(stages[-1].usd)} spent; the second half of it brought ")
    assert course_text([]) == "Nothing is on the front yet."


def test_failures_are_in_the_course_and_unknown_money_stays_unknown() -> None:
    odd = failed("b", "diverged: x")
    odd = replace(odd, offer={}, spent={"train": replace(odd.spent["train"], gpu_seconds=None)})
    four = replace(RATE, gpu="L4", gpus=4)
    stages = trajectory(numbered([odd, result("a")]), replace(VIEW, offer=four))
    assert [stage.usd for stage in stages] == [None, None]
    assert stages[-1].seconds == 15
