"""What recipes will take, against what they took."""

import dataclasses
import math
import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import Recipe, Study, bitfit, choice, flops, full, head, integers, peft, space, study, training
from workbench.errors import UsageError
from workbench.estimate import Estimate
from workbench.forecast import (
    Calibration,
    CostForecast,
    Forecaster,
    Machine,
    Terms,
    Timing,
    calibrate,
    device_memory_bytes,
    is_price_of,
    memory,
    of_runs,
    on_offer,
    pairs,
    rank,
    trials_within,
    typical,
)
from workbench.forecast.machine import measured_peak_flops
from workbench.forecast.timing import CONSTANTS, Correction, Guess, _student, fit, formula
from workbench.prices import Offer, Prices
from workbench.result import Result, Spending
from workbench.testing import TinyTask
from workbench.testing.tiny import TinyFormulation
from workbench.training import memory as activations
from workbench.usage import Usage, total

HERE = Machine(name="2 x CPU", kind="cpu", cpus=2.0, memory_bytes=1 << 40, threads=1.0, resident_bytes=1 << 20)
GPU = Machine(name="GPU", kind="cuda", cpus=8.0, memory_bytes=1 << 40, peak_flops=1e14, gpu_watts=300.0)
DEVICE = {"cpu": "CPU", "cpus_held": 2.0, "gpus": []}


def a_recipe(model: str, method: Any = None, **changes: Any) -> Recipe:
    fields: dict[str, Any] = {"task": TinyTask(train=64), "model": model, "method": method or full(learning_rate=1e-3)}
    return Recipe(**(fields | {"epochs": 2, "batch_size": 8} | changes))


def a_study(recipe: Recipe) -> Study:
    return Study(recipe, maximize="accuracy")


def a_result(of: Study, recipe: Recipe, seconds: dict[str, float], device: Any = None, **changes: Any) -> Result:
    """A finished run whose phases took so long."""
    usage = {p: Usage(seconds=s, cpu_energy_j=5 * s, peak_memory_bytes=3 << 20) for p, s in seconds.items()}
    found = space.settings_of(of.recipe, recipe)
    assert found is not None
    steps = round(recipe.epochs * recipe.task.train / recipe.batch_size)  # type: ignore[attr-defined]
    fields: dict[str, Any] = {"settings": found, "status": "complete", "step": steps, "usage": usage, "spent": usage}
    provenance = {"device": device or DEVICE}
    return Result(
        **({"recipe_id": "r", "run_id": str(recipe), "recipe": recipe.to_json(), "provenance": provenance} | fields | changes)
    )


# Counts


@pytest.mark.parametrize(
    "method", [full(learning_rate=1e-3), peft("lora", learning_rate=1e-3, r=4), bitfit(learning_rate=1e-3)], ids=lambda m: m.name
)
def test_what_is_counted_is_what_training_counts(tiny: str, method: Any) -> None:
    recipe = a_recipe(tiny, method)
    forecast = Forecaster(a_study(recipe), machine=HERE).run(recipe)
    checkpoints = list(training.train(recipe))
    last = checkpoints[-1]
    assert (forecast.steps, forecast.labels, forecast.trainable_parameters) == (last.step, last.labels, last.trainable_parameters)
    assert forecast.evaluations == len(checkpoints)
    assert forecast.tokens == last.tokens  # the sample is all of so small a set
    assert forecast.parameters > 0


def test_segments_add_up_to_what_a_sweep_spends_on_the_run(tiny: str) -> None:
    recipe = a_recipe(tiny, epochs=4)
    forecaster = Forecaster(a_study(recipe), machine=HERE)
    whole = forecaster.run(recipe)
    parts = [forecaster.segment(recipe, a, b) for a, b in ((0, 1), (1, 2), (2, 4))]
    assert sum(p.steps for p in parts) == whole.steps
    assert sum(p.tokens for p in parts) == pytest.approx(whole.tokens)
    assert sum(p.evaluations for p in parts) == whole.evaluations
    assert whole.spent_seconds is not None
    assert sum(p.spent_seconds.value for p in parts if p.spent_seconds) == pytest.approx(whole.spent_seconds.value)
    assert "load" in parts[0].phases
    assert "load" not in parts[1].phases
    assert "load" in forecaster.segment(recipe, 1, 2, cold=True).phases
    assert parts[0].labels == parts[2].labels == 64
    assert forecaster.segment(recipe, 0, 0.5).labels == 32
    assert whole.seconds is not None
    assert whole.seconds.value < whole.spent_seconds.value


def test_more_is_dearer(tiny: str) -> None:
    recipe = a_recipe(tiny)
    forecaster = Forecaster(a_study(recipe), machine=HERE)
    base = forecaster.run(recipe)
    for more in (recipe.with_epochs(4), dataclasses.replace(recipe, task=TinyTask(train=512))):
        other = forecaster.run(more)
        for name in ("seconds", "spent_seconds", "energy_j"):
            assert getattr(other, name).value > getattr(base, name).value
        assert other.flops > base.flops
    assert forecaster.run(a_recipe(tiny, head(learning_rate=1e-3))).flops < base.flops
    wider = forecaster.run(dataclasses.replace(recipe, batch_size=64))
    assert wider.steps < base.steps


def test_nothing_is_trained_and_what_is_known_is_not_built_again(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = a_recipe(tiny, peft("lora", learning_rate=1e-3, r=4, lora_dropout=0.1))
    forecaster = Forecaster(a_study(recipe), machine=HERE)
    state = torch.get_rng_state()
    first = forecaster.run(recipe)
    assert torch.equal(state, torch.get_rng_state())
    monkeypatch.setattr(pairs, "wrapped", lambda *args: pytest.fail("built again"))
    monkeypatch.setattr(TinyFormulation, "encode", lambda *args: pytest.fail("encoded again"))
    other = a_recipe(tiny, peft("lora", learning_rate=1e-2, r=4, lora_dropout=0.2), seed=3, warmup_steps=1)
    assert forecaster.run(other) == first


def test_a_method_that_cannot_be_applied_is_told(tiny: str) -> None:
    recipe = a_recipe(tiny, peft("lora", learning_rate=1e-3, target_modules=["nothing"]))
    with pytest.raises(UsageError, match="PEFT cannot apply"):
        Forecaster(a_study(recipe), machine=HERE).run(recipe)


@dataclasses.dataclass(frozen=True)
class Formed(TinyTask):
    """Rows of so many tokens, of so many classes."""

    max_length: int = 8
    classes: int = 2

    def formulation(self, kind: str) -> Any:
        return FormedFormulation(classes=self.classes)

    def _sentences(self, count: int, side: int) -> list[dict[str, Any]]:
        return [{**each, "words": (4 * each["words"])[: self.max_length]} for each in super()._sentences(count, side)]


@dataclasses.dataclass(frozen=True)
class FormedFormulation(TinyFormulation):
    classes: int = 2

    @property
    def settings(self) -> dict[str, Any]:
        return {"num_labels": self.classes}


def test_tasks_of_one_type_and_data_are_told_apart_by_the_rest(tiny: str) -> None:
    """Each field of a task may change its rows and the model's head: what was seen of one form says nothing of another's memory."""
    short = a_recipe(tiny, task=Formed(train=64))
    study_ = a_study(a_recipe(tiny, task=Formed(train=choice(32, 64), max_length=choice(8, 32))))
    forecaster = Forecaster(study_, [a_result(study_, short, {"load": 0.1, "train": 1.0, "evaluate": 0.1})], machine=HERE)

    fewer, longer = (a_recipe(tiny, task=Formed(**more)) for more in ({"train": 32}, {"max_length": 32}))
    peaks = [forecaster.run(each).peak_memory_bytes for each in (short, fewer, longer)]
    assert [peak and peak.basis for peak in peaks] == ["measured", "measured", "formula"]
    wider = forecaster.run(a_recipe(tiny, task=Formed(classes=9)))
    assert wider.trainable_parameters == forecaster.run(short).trainable_parameters + 7 * 33


# Unknown


def test_unknown_is_said_and_never_zero(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = a_recipe(tiny)
    blind = Forecaster(a_study(recipe), machine=dataclasses.replace(GPU, peak_flops=None, gpu_watts=None)).run(recipe)
    assert blind.seconds is blind.spent_seconds is blind.energy_j is None
    assert blind.phases["train"] is None
    assert blind.phases["load"] is not None
    assert blind.flops
    seen = Forecaster(a_study(recipe), machine=dataclasses.replace(GPU, gpu_watts=None)).run(recipe)
    assert seen.seconds
    assert seen.energy_j is None
    monkeypatch.setattr(flops, "shape", lambda model: None)
    monkeypatch.setattr(activations, "saved_bytes", lambda *args: None)
    strange = Forecaster(a_study(recipe), machine=HERE).run(recipe)
    assert strange.seconds is strange.flops is strange.peak_memory_bytes is None
    measured = a_result(a_study(recipe), recipe, {"data": 0.1, "load": 0.1, "train": 4.0, "evaluate": 1.0})
    known = Forecaster(a_study(recipe), [measured], machine=HERE).run(recipe)
    assert known.seconds is not None  # its own runs tell what no formula does
    assert known.seconds.value == pytest.approx(5.2, rel=0.02)


# Measured


def test_its_own_runs_speak_first_and_more_of_them_narrow_the_band(tiny: str) -> None:
    recipe, other = (a_recipe(tiny, method) for method in (full(learning_rate=1e-3), bitfit(learning_rate=1e-3)))
    both = a_study(dataclasses.replace(recipe, method=choice(recipe.method, other.method), seed=integers(0, 9)))
    took = {"data": 0.5, "load": 1.0, "train": 50.0, "evaluate": 5.0}
    runs = [a_result(both, dataclasses.replace(recipe, seed=i), took) for i in range(6)]
    nothing, one, six = (Forecaster(both, runs[:n], machine=HERE) for n in (0, 1, 6))
    errors = []
    for forecaster, basis in ((nothing, "formula"), (one, "measured"), (six, "measured")):
        seconds = forecaster.run(recipe).seconds
        assert seconds is not None
        assert seconds.basis == basis
        assert seconds.low < seconds.value < seconds.high
        errors.append(math.log(seconds.high / seconds.low))
    assert errors == sorted(errors, reverse=True)
    forecast = six.run(recipe)
    assert forecast.seconds is not None
    assert forecast.seconds.value == pytest.approx(56.5, rel=0.02)
    assert "6 timings of full" in forecast.seconds.note
    assert forecast.energy_j is not None
    assert forecast.energy_j.value == pytest.approx(5 * forecast.seconds.value)
    assert forecast.peak_memory_bytes is not None
    assert (forecast.peak_memory_bytes.value, forecast.peak_memory_bytes.basis) == (3 << 20, "measured")
    # of the other method they tell the machine's speed, with a wider band
    alike = six.run(other).seconds
    before = nothing.run(other).seconds
    assert alike is not None
    assert before is not None
    assert alike.value > 5 * before.value
    assert math.log(alike.high / alike.low) > errors[-1]
    assert "other methods" in alike.note


def test_runs_of_another_machine_or_without_an_end_do_not_count(tiny: str) -> None:
    recipe = a_recipe(tiny)
    of = a_study(recipe)
    took = {"train": 50.0}
    strangers = [
        a_result(of, recipe, took, {**DEVICE, "cpu": "another"}),
        a_result(of, recipe, took, {**DEVICE, "gpus": [{"name": "GPU"}]}),
        a_result(of, recipe, took, {"host": "nothing known"}),
        a_result(of, recipe, took, status="interrupted"),
    ]
    assert Forecaster(of, strangers, machine=HERE).run(recipe) == Forecaster(of, machine=HERE).run(recipe)
    of_older_form = a_result(of, recipe, took, settings={"no": "such setting"})
    assert Forecaster(of, [of_older_form], machine=HERE).run(recipe).seconds == Forecaster(of, machine=HERE).run(recipe).seconds


def test_a_run_counts_once_by_its_last_checkpoint(tiny: str) -> None:
    recipe = a_recipe(tiny)
    of = a_study(dataclasses.replace(recipe, epochs=integers(1, 2)))
    last = a_result(of, recipe, {"train": 50.0}, run_id="one")
    first = a_result(of, recipe.with_epochs(1), {"train": 1.0}, run_id="one")
    found = Forecaster(of, [last, first], machine=HERE).run(recipe).phases["train"]
    assert found == Forecaster(of, [last], machine=HERE).run(recipe).phases["train"]


@given(st.floats(0.01, 100), st.integers(2, 40))
@settings(max_examples=30, deadline=None)
def test_corrections_find_the_ratio(ratio: float, count: int) -> None:
    timings = [(Timing("train", "m", "a", {"flops": 1.0}, ratio * (i + 1)), Guess(i + 1.0, 0.6)) for i in range(count)]
    found = Correction("measured", "here", 0.1, timings).apply(Guess(10.0, 0.6), "train", "m", "a")
    assert found.seconds == pytest.approx(10 * ratio)
    assert found.spread < 0.6
    other = Correction("measured", "here", 0.1, timings).apply(Guess(10.0, 0.6), "evaluate", "m", "a")
    assert other == Guess(10.0, 0.6)


def test_a_short_timing_makes_no_band_wider_than_the_formula_has_it() -> None:
    """Timings that lie far apart, or of a busy machine: what the formula says holds still."""
    timings = [(Timing("train", "m", "a", {}, seconds), Guess(1.0, 0.6)) for seconds in (1.0, 30.0)]
    timed = Correction("calibrated", "", 0.1, timings, shared=0.6).apply(Guess(1.0, 0.6), "train", "m", "a")
    assert (timed.spread, timed.freedom) == (0.6, math.inf)
    measured = Correction("measured", "", 0.1, timings).apply(Guess(1.0, 0.6), "train", "m", "a")
    assert measured.spread > 0.6


def test_bands_hold_what_they_promise() -> None:
    """Nine in ten outcomes, where runs spread less than is assumed; a little fewer where they spread more than twice as much."""
    rng = random.Random(0)
    for within, least in ((0.05, 0.9), (0.2, 0.8)):
        inside = 0
        for _ in range(600):
            pairs_ = [("m", name, rng.gauss(0, 0.3)) for name in "abc"]
            seen = [
                (Timing("train", m, name, {}, math.exp(mean + rng.gauss(0, within))), Guess(1.0, 0.67))
                for m, name, mean in pairs_ * 4
            ]
            estimate = Correction("measured", "", 0.08, seen).apply(Guess(1.0, 0.67), "train", "m", "a").estimate
            outcome = math.exp(pairs_[0][2] + rng.gauss(0, within))
            inside += estimate.low <= outcome <= estimate.high
        assert least < inside / 600 <= 1.0


def test_students_t() -> None:
    for freedom, quantile in ((3.0, 2.353), (5.0, 2.015), (10.0, 1.812), (math.inf, 1.645)):
        assert _student(freedom) == pytest.approx(quantile, rel=0.02)


@given(st.floats(1e-12, 1e-9), st.floats(1e-4, 1e-2), st.floats(1e-10, 1e-8))
@settings(max_examples=20, deadline=None)
def test_constants_are_found_again(flop: float, layer: float, update: float) -> None:
    truth = {"flops": flop, "layer_passes": layer, "updates": update}
    rng = random.Random(0)
    timings = []
    for _ in range(24):
        amounts = {"flops": 10 ** rng.uniform(8, 11), "layer_passes": rng.choice((2.0, 6.0)), "updates": rng.choice((1e4, 2e7))}
        timings.append(Timing("train", "m", "a", amounts, formula(amounts, truth)))
    found = fit(timings, {**CONSTANTS, "flops": 1e-11}, tuple(truth))
    assert all(constant >= 0 for constant in found.values())
    for timing in timings:
        assert formula(timing.amounts, found) == pytest.approx(timing.seconds, rel=0.25)


# Memory


def test_what_is_kept_for_the_way_back_is_counted(tiny: str) -> None:
    task = TinyTask(train=8)
    from workbench.data import models

    form = task.formulation("encoder")
    rows, objective = form.encode(task.splits().train, models.tokenizer(tiny)), form.objective
    sizes = {}
    for device in ("meta", "cpu"):
        model = pairs.wrapped(task, tiny, full(learning_rate=1e-3), device)
        sizes[device] = [activations.saved_bytes(model, objective, rows, shape) for shape in ((1, 8), (2, 8), (4, 8))]
    one, two, four = sizes["meta"]
    assert one is not None and two is not None and four is not None  # noqa: PT018
    assert 0 < one < two < four
    assert four - two == pytest.approx(2 * (two - one), rel=0.05)
    assert two == pytest.approx(sizes["cpu"][1], rel=0.3)
    frozen = pairs.wrapped(task, tiny, head(learning_rate=1e-3))
    less = activations.saved_bytes(frozen, objective, rows, (2, 8))
    assert less is not None
    assert less < two / 2


def test_peaks_say_what_they_hold(tiny: str) -> None:
    recipe = a_recipe(tiny)
    cpu, gpu = (Forecaster(a_study(recipe), machine=m).run(recipe).peak_memory_bytes for m in (HERE, GPU))
    assert cpu is not None
    assert gpu is not None
    assert "1 MiB of the process itself" in cpu.note
    assert "process" not in gpu.note
    state = memory.state_bytes(*(sum(p.numel() for p in pairs.wrapped(recipe.task, tiny, recipe.method).parameters()),) * 2)
    assert gpu.value > state
    assert gpu.low < gpu.value < gpu.high
    by_formula = memory.peak(state=100, activations=memory.Activations(None, 2, 8, (4, 16)), kind="cuda", resident=0)
    assert by_formula is not None
    assert "by a formula" in by_formula.note


# Calibrated


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> tuple[Study, Calibration, list[str]]:
    method = choice(full(learning_rate=1e-3), peft("lora", learning_rate=1e-3, r=choice(2, 4)), peft("road", learning_rate=1e-3))
    of = a_study(a_recipe(tiny, method, epochs=integers(1, 2)))
    told: list[str] = []
    state = torch.get_rng_state()
    made = calibrate(of, 1.0, machine=HERE, observe=told.append)  # beside other work a pair takes long: none must be left out
    assert torch.equal(state, torch.get_rng_state())
    return of, made, told


def test_a_calibration_times_each_pair_that_there_is(timed: tuple[Study, Calibration, list[str]], tiny: str) -> None:
    _, made, told = timed
    assert [text.partition(" ")[0] for text in told] == ["full", "lora", "road"]
    assert {(t.method, t.phase) for t in made.timings} == {
        (method, phase)
        for method in ("full", "lora")
        for phase in ("load", "data", "train", "evaluate")  # road does not fit 32
    }
    assert all(t.seconds > 0 for t in made.timings)
    assert all(constant >= 0 for constant in made.constants.values())


def test_a_calibration_sharpens_and_comes_back_from_json(timed: tuple[Study, Calibration, list[str]], tiny: str) -> None:
    of, made, _ = timed
    assert Calibration.from_json(made.to_json() | {"later": 1}) == made
    recipe = a_recipe(tiny, peft("lora", learning_rate=1e-3, r=4))
    sharp, blunt = Forecaster(of, calibration=made, machine=HERE).run(recipe), Forecaster(of, machine=HERE).run(recipe)
    elsewhere = Forecaster(of, calibration=made, machine=dataclasses.replace(HERE, name="another")).run(recipe)
    assert sharp.seconds is not None
    assert blunt.seconds is not None
    assert sharp.seconds.basis == "calibrated"
    assert sharp.seconds.high / sharp.seconds.value < blunt.seconds.high / blunt.seconds.value
    assert elsewhere.seconds == blunt.seconds


def test_what_was_timed_on_a_busy_machine_has_a_wide_band(timed: tuple[Study, Calibration, list[str]], tiny: str) -> None:
    of, made, _ = timed
    beside = dataclasses.replace(made, busy=True)
    assert Calibration.from_json(beside.to_json()) == beside
    recipe = a_recipe(tiny, peft("lora", learning_rate=1e-3, r=4))
    quiet, busy = (Forecaster(of, calibration=each, machine=HERE).run(recipe).seconds for each in (made, beside))
    assert quiet is not None
    assert busy is not None
    assert busy.value == pytest.approx(quiet.value)
    assert busy.high / busy.value > 2.5 > quiet.high / quiet.value
    assert "busy" in busy.note
    formula_alone = Forecaster(of, machine=HERE).run(recipe).seconds
    assert formula_alone is not None
    assert busy.high / busy.value <= 1.001 * formula_alone.high / formula_alone.value


def a_calibration(constant: Any = 1.0, name: str = "flops", seconds: Any = 1.0, amounts: Any = None) -> dict[str, Any]:
    timing = {"phase": "train", "model": "m", "method": "a", "amounts": amounts or {"flops": 1.0}, "seconds": seconds}
    return {"machine": "x", "date": "", "constants": {name: constant}, "timings": [timing]}


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        {"machine": 1, "date": "", "constants": {}, "timings": [{}]},
        {"machine": "x"},
        *(a_calibration(constant) for constant in (None, "1", True, math.nan, math.inf, -1.0, 10**400)),
        a_calibration(name="wishes"),
        a_calibration(seconds=math.nan),
        a_calibration(amounts={"wishes": 1.0}),
        a_calibration(amounts=[1.0]),
        {**a_calibration(), "constants": 3},
    ],
)
def test_what_is_no_calibration(record: Any) -> None:
    with pytest.raises(UsageError, match="calibration"):
        Calibration.from_json(record)


def test_what_is_one() -> None:
    assert Calibration.from_json(a_calibration(0)).constants == {"flops": 0.0}
    assert not Calibration.from_json(a_calibration(0)).busy
    assert Calibration.from_json(a_calibration(0)).peak_flops is None
    timed = Calibration.from_json(a_calibration(0) | {"peak_flops": 2e11})
    assert timed.peak_flops == 2e11
    assert Calibration.from_json(timed.to_json()) == timed
    with pytest.raises(UsageError, match="calibration"):
        Calibration.from_json(a_calibration(0) | {"peak_flops": "fast"})


def test_the_peak_is_that_of_the_quickest_product() -> None:
    # Products take 3 s, 1 s and 2 s on this clock, which is looked at once at the start and twice around each.
    times = iter([0.0, 0.0, 3.0, 3.0, 4.0, 4.0, 6.0])
    assert measured_peak_flops(5.0, lambda: next(times)) == pytest.approx(2 * 1024**3 / 1.0)
    assert 1e8 < measured_peak_flops(0.01) < 1e16


def test_an_injected_clock_is_the_only_one(tiny: str) -> None:
    ticks = iter(range(10**6))
    made = calibrate(a_study(a_recipe(tiny)), 5.0, machine=HERE, clock=lambda: float(next(ticks)))
    assert {t.seconds for t in made.timings} == {1.0}
    assert made.peak_flops == 2 * 1024**3


# The typical run, budgets, platforms

DOLLAR = Offer("p", "m", "", 0, "", "owned", Decimal(1), "here", "2026-01-01")
L40S = Offer("aws", "g6e.xlarge", "L40S", 1, "us-east-1", "on_demand", Decimal("1.861"), "here", "2026-01-01")
T4 = Offer("aws", "g4dn.xlarge", "T4", 1, "us-east-1", "on_demand", Decimal("0.526"), "here", "2026-01-01")
TINY_GPU = Offer("p", "small", "L40S", 1, "", "on_demand", Decimal("0.01"), "here", "2026-01-01", gpu_memory_gb=0.000001)


@pytest.mark.slow
def test_a_budget_buys_runs(study_file: Path) -> None:
    of = study.load(study_file)
    run = typical(Forecaster(of, machine=HERE), draws=40)

    def buys(offer: Offer = DOLLAR, usd: float = 1.0, label_usd: float = 0.0) -> Any:
        return trials_within(run, Terms(Prices(offer, label_usd)), usd)

    base = buys()
    assert 0 < base.low <= base.value <= base.high
    assert typical(Forecaster(of, machine=HERE), draws=40) == run
    assert buys(usd=2.0).value == pytest.approx(2 * base.value, rel=0.01)
    assert buys(dataclasses.replace(DOLLAR, amount=Decimal(2))).value == pytest.approx(base.value / 2, rel=0.01)
    assert buys(label_usd=0.5 / run.labels).value == pytest.approx(base.value / 2, rel=0.01)
    assert buys(label_usd=1.0).value == 0
    unknown = typical(Forecaster(of, machine=dataclasses.replace(GPU, peak_flops=None)), draws=3)
    assert (unknown.seconds, trials_within(unknown, Terms(Prices(DOLLAR)), 1.0)) == (None, None)


def test_the_mean_of_a_study_without_holes_is_its_recipe(tiny: str) -> None:
    forecaster = Forecaster(a_study(a_recipe(tiny)), machine=HERE)
    run, alone = typical(forecaster), forecaster.run(a_recipe(tiny))
    assert alone.spent_seconds is not None
    assert (run.draws, run.labels) == (1, alone.labels)
    assert total(run.phases.values()).seconds == pytest.approx(alone.spent_seconds.value)
    assert total(run.phases.values()).work.flops == pytest.approx(
        alone.flops + (alone.evaluations - 1) * forecaster.amounts(a_recipe(tiny))["evaluate"]["flops"]
    )


def test_offers_stand_by_whether_they_fit_and_by_price(tiny: str) -> None:
    run = typical(Forecaster(a_study(a_recipe(tiny)), machine=HERE))
    unheard = dataclasses.replace(L40S, instance="x", gpu="unheard-of", gpu_memory_gb=48.0)
    ranked = rank(run, 10, [unheard, L40S, TINY_GPU, T4, DOLLAR], 0.01)
    assert ranked[-1].offer == TINY_GPU
    assert (ranked[-1].fits, ranked[-2].taken, ranked[-2].offer) == (False, None, unheard)
    known = [each.taken for each in ranked[:3]]
    usd = [taken.usd for taken in known if taken and taken.usd]
    assert [u.value for u in usd] == sorted(u.value for u in usd)
    for taken in known:
        assert taken is not None
        assert taken.usd is not None
        assert taken.usd.low < taken.usd.value < taken.usd.high
        assert taken.usd.value > 0.01 * run.labels  # labels, once for all runs
    scaled = next(each.taken for each in ranked if each.offer == L40S)
    assert scaled is not None
    assert scaled.seconds.high / scaled.seconds.value >= 3 * 0.99  # a processor's run on a GPU: at least x/÷ 3


def test_runs_cost_in_proportion_and_labels_once(tiny: str) -> None:
    run = typical(Forecaster(a_study(a_recipe(tiny)), machine=HERE))
    one, ten = (of_runs(run, count, Terms(Prices(DOLLAR, 0.5))) for count in (1, 10))
    assert one is not None
    assert ten is not None
    assert one.usd is not None
    assert ten.usd is not None
    labels = 0.5 * run.labels
    assert ten.usd.value - labels == pytest.approx(10 * (one.usd.value - labels))
    assert one.grams_co2e is not None
    assert one.grams_co2e.value > 0


KWH = dataclasses.replace(DOLLAR, usd_per_kwh=Decimal("0.3"))
A10G = Offer("aws", "g5.xlarge", "A10G", 1, "us-east-1", "on_demand", Decimal("1.006"), "here", "2026-01-01")
FOUR = dataclasses.replace(L40S, instance="4x", gpus=4, amount=Decimal("7.444"))
L40S_HERE = Machine(name="NVIDIA L40S", kind="cuda", cpus=8.0, memory_bytes=1 << 40, peak_flops=3.6e14, gpu_watts=350.0)


def test_an_offer_is_the_price_of_a_machine_with_its_gpu() -> None:
    assert is_price_of(None, DOLLAR)
    assert not is_price_of(None, L40S)
    assert is_price_of("NVIDIA L40S", L40S)
    assert is_price_of("NVIDIA L40S", FOUR)
    assert not is_price_of("NVIDIA L40S", T4)
    assert not is_price_of("NVIDIA L40S", DOLLAR)
    unheard = dataclasses.replace(L40S, gpu="unheard-of")
    assert is_price_of("unheard-of", unheard)
    assert not is_price_of("unheard-of too", unheard)
    assert not is_price_of("NVIDIA L40S", unheard)


def test_on_its_own_machine_a_forecast_stands_and_is_priced_with_its_electricity(tiny: str) -> None:
    recipe = a_recipe(tiny)
    forecast = Forecaster(a_study(recipe), machine=HERE).run(recipe)
    plain, metered = on_offer(forecast, HERE, DOLLAR), on_offer(forecast, HERE, KWH)
    assert plain is not None and metered is not None  # noqa: PT018
    assert forecast.seconds is not None and forecast.energy_j is not None  # noqa: PT018
    for found, known in ((plain.seconds, forecast.seconds), (plain.energy_j, forecast.energy_j)):
        assert found is not None
        assert (found.value, found.low, found.high) == pytest.approx((known.value, known.low, known.high))
        assert (found.basis, found.note) == (known.basis, known.note)
    assert not plain.carried
    assert plain.usd is not None and metered.usd is not None  # noqa: PT018
    assert plain.usd.value == pytest.approx(forecast.seconds.value / 3600)
    assert metered.usd.value == pytest.approx(plain.usd.value + forecast.energy_j.value / 3.6e6 * 0.3)
    assert metered.usd.high > plain.usd.high + (metered.usd.value - plain.usd.value)  # watts are uncertain too


def test_work_on_the_machine_that_is_paid_for_is_priced_by_its_seconds_and_joules() -> None:
    seconds, joules = Estimate.within(3600.0, 2.0, "formula"), Estimate.within(3.6e6, 3.0, "formula")
    found = CostForecast.here(seconds, joules, Prices(KWH, 0.5), labels=4)
    assert found.usd is not None
    assert (found.usd.value, found.usd.low, found.usd.high) == pytest.approx((1 + 0.3 + 2, 0.5 + 0.1 + 2, 2 + 0.9 + 2))
    assert found.spending == Spending(found.usd.value, 3600.0, 3.6e6, 4)
    compute, labels, grams = (found.cost(name) for name in ("usd_compute", "labels", "grams_co2e"))
    assert compute is not None and labels is not None  # noqa: PT018
    assert (compute.value, labels.value) == (pytest.approx(1.3), 4.0)
    assert grams == found.grams_co2e
    unmetered = CostForecast.here(seconds, None, Prices(KWH, 0.5), labels=4)
    assert unmetered.usd is None  # its electricity is paid by the kWh
    assert unmetered.spending == Spending(None, 3600.0, None, 4)
    two = CostForecast.here(seconds, None, Prices(FOUR), gpus=2)
    assert two.usd is not None
    assert two.usd.value == pytest.approx(7.444 / 2)
    assert list(two.to_json()) == ["seconds", "usd", "grams_co2e", "energy_j", "carried"]
    assert two.to_json()["seconds"] == {"value": 3600.0, "low": 1800.0, "high": 7200.0, "basis": "formula", "note": ""}
    assert two.to_json()["energy_j"] is None


def test_elsewhere_a_forecast_is_carried_over(tiny: str) -> None:
    recipe = a_recipe(tiny)
    forecast = Forecaster(a_study(recipe), machine=HERE).run(recipe)
    assert forecast.seconds is not None
    for offer in (A10G, FOUR):
        there = on_offer(forecast, HERE, offer)
        assert there is not None
        assert there.carried
        own = forecast.seconds.high / forecast.seconds.value
        assert 2 * own < there.seconds.high / there.seconds.value <= 3.001 * own  # loading and data are not carried
        assert there.usd is not None
        assert there.usd.value == pytest.approx(there.seconds.value * float(offer.usd_per_hour) / offer.gpus / 3600)
        assert there.energy_j is not None
    as_if = on_offer(forecast, HERE, A10G, same_machine=True)
    assert as_if is not None
    assert not as_if.carried
    assert as_if.seconds.value == pytest.approx(forecast.seconds.value)
    on_gpu = Forecaster(a_study(recipe), machine=L40S_HERE).run(recipe)
    at_home, on_t4 = (on_offer(on_gpu, L40S_HERE, offer) for offer in (L40S, T4))
    assert at_home is not None and on_t4 is not None  # noqa: PT018
    assert (at_home.carried, on_t4.carried) == (False, True)
    assert on_t4.seconds.value > at_home.seconds.value
    assert at_home.energy_j is not None and on_gpu.energy_j is not None  # noqa: PT018
    assert at_home.energy_j.value == pytest.approx(on_gpu.energy_j.value)
    assert on_offer(on_gpu, L40S_HERE, DOLLAR) is None


def test_flops_that_are_a_stand_in_carry_nothing_over(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = a_recipe(tiny)
    monkeypatch.setattr(flops, "shape", lambda model: None)
    monkeypatch.setattr(activations, "saved_bytes", lambda *args: None)
    measured = a_result(a_study(recipe), recipe, {"data": 0.1, "load": 0.1, "train": 4.0, "evaluate": 1.0})
    forecaster = Forecaster(a_study(recipe), [measured], machine=HERE)
    run, alone = typical(forecaster), forecaster.run(recipe)
    assert run.phases["train"].work.flops is run.phases["evaluate"].work.flops is None
    assert run.phases["load"].work.flops == 0
    assert of_runs(run, 1, Terms(Prices(L40S))) is on_offer(alone, HERE, L40S) is None
    assert of_runs(run, 1, Terms(Prices(DOLLAR))) is not None
    assert on_offer(alone, HERE, DOLLAR) is not None


def test_what_a_sweep_spends_between_phases_is_paid_for(tiny: str) -> None:
    recipe = a_recipe(tiny, epochs=4)
    took = {"data": 0.1, "load": 0.1, "train": 4.0, "evaluate": 1.0}
    of = a_study(recipe)
    spent = {name: Usage(seconds=s, cpu_energy_j=5 * s) for name, s in (took | {"checkpoint": 2.0, "idle": 1.0}).items()}
    forecaster = Forecaster(of, [a_result(of, recipe, took, spent=spent)], machine=HERE)
    run, alone = typical(forecaster), forecaster.run(recipe)
    assert run.seconds is not None and run.energy_j is not None  # noqa: PT018
    assert run.phases["idle"].seconds == pytest.approx(3.0 * alone.evaluations)
    assert total(run.phases.values()).seconds == pytest.approx(run.seconds.value)
    taken, cold = of_runs(run, 1, Terms(Prices(DOLLAR))), on_offer(alone, HERE, DOLLAR)
    assert taken is not None and cold is not None  # noqa: PT018
    assert taken.usd is not None and taken.energy_j is not None  # noqa: PT018
    assert taken.usd.value == pytest.approx(run.seconds.value / 3600)
    assert taken.energy_j.value == pytest.approx(run.energy_j.value) == pytest.approx(5 * run.seconds.value)
    same = on_offer(alone, HERE, DOLLAR, spent=True)
    assert same is not None
    assert (same.seconds.value, same.seconds.low, same.seconds.high) == pytest.approx(
        (taken.seconds.value, taken.seconds.low, taken.seconds.high)
    )
    assert cold.seconds.value < taken.seconds.value - 3.0 * alone.evaluations + 0.01


def test_a_whole_machine_is_rented_and_its_electricity_paid_once(tiny: str) -> None:
    run = typical(Forecaster(a_study(a_recipe(tiny)), machine=L40S_HERE))

    def usd(offer: Offer, whole: bool) -> float:
        taken = of_runs(run, 1, Terms(Prices(offer), whole=whole))
        assert taken is not None
        assert taken.usd is not None
        return taken.usd.value

    own = dataclasses.replace(FOUR, commitment="owned", usd_per_kwh=Decimal(2))
    free = dataclasses.replace(own, usd_per_kwh=None)
    assert usd(free, whole=True) == pytest.approx(4 * usd(free, whole=False))
    electricity = usd(own, whole=False) - usd(free, whole=False)
    assert electricity > 0
    assert usd(own, whole=True) - usd(free, whole=True) == pytest.approx(electricity)
    monthly = dataclasses.replace(free, unit="month", amount=free.amount * 730, currency="EUR", exchange=Decimal(2))
    assert usd(monthly, whole=True) == pytest.approx(2 * usd(free, whole=True))


def test_what_was_spent_and_bought_is_not_in_the_budget_any_more(tiny: str) -> None:
    run = typical(Forecaster(a_study(a_recipe(tiny)), machine=HERE))

    def buys(budget: float, **more: Any) -> float:
        found = trials_within(run, Terms(Prices(DOLLAR, 0.001)), budget, **more)
        assert found is not None
        return found.value

    assert buys(1.0, spent_usd=0.4) == buys(0.6) > 0
    assert buys(1.0, labels_bought=run.labels) == buys(1.0 + 0.001 * run.labels)
    assert buys(1.0, spent_usd=2.0) == 0


def test_the_processors_watts_are_the_meters(monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.meter import host
    from workbench.meter.processors import cpu_power

    known = cpu_power("AMD EPYC 7R32")
    assert dataclasses.replace(HERE, cpu_watts=known).processor_watts == pytest.approx(known.idle_w + known.busy_w)
    monkeypatch.setattr(host, "cpu_model", lambda: "AMD EPYC 7R32")
    assert Machine.here().cpu_watts == known


@pytest.mark.parametrize("told", [None, "FASTEST_FIRST"])
def test_cuda_numbers_the_gpus_as_the_meter_does(told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if told is None:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", "")  # so that it is put back after the test
        monkeypatch.delenv("CUDA_DEVICE_ORDER")
    else:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", told)
    seen: list[str | None] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(seen.append(os.environ.get("CUDA_DEVICE_ORDER"))))
    Machine.here()
    assert set(seen) == {told or "PCI_BUS_ID"}
    seen.clear()
    device_memory_bytes()
    assert set(seen) == {told or "PCI_BUS_ID"}


def test_this_machine_is_what_its_results_say() -> None:
    from workbench.forecast.machine import name_of
    from workbench.meter import Meter

    with Meter() as meter:
        described = meter.description
    here = Machine.here()
    assert here.name == name_of(described)
    assert here.memory_bytes > 0
    assert (here.kind == "cpu") == (not torch.cuda.is_available())
    assert name_of({"gpus": [{"name": "NVIDIA H100"}]}) == "NVIDIA H100"
    assert name_of({}) == ""
