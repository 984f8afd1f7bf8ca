"""Decisions: whatever the search behind them, they are steps of the study, the same from the same history, and within bounds."""

import math
import random
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies
from test_search import FINITE, OFFER, study

from workbench import bitfit, choice, full, loguniform, search, zero_shot
from workbench.errors import UsageError
from workbench.prices import Prices
from workbench.result import Cause, Result
from workbench.search import CheckpointForecast, engine
from workbench.search.arms import Decision
from workbench.search.runs import key_of, known_runs, new_runs
from workbench.usage import Usage

EPOCHS = (0.5, 1.0, 2.0, 4.0)
SECONDS = 3600 / float(OFFER.usd_per_hour)  # of a US$


def ahead(recipe):
    """Checkpoints at which a run of the study's costs a US$ an epoch, twice as much with all labels."""
    dear = recipe.task.train / 32
    grid = [e for e in EPOCHS if e <= recipe.epochs]
    return [CheckpointForecast(e, e * recipe.task.train, min(1.0, e) * recipe.task.train, e * dear, e) for e in grid]


def decide(of, results=(), *, label_usd=0.0, checkpoints=ahead, cold_start_cost=0.0, **options):
    """A decision, its options told by their names, whichever group they are of."""
    groups = [
        {name: options.pop(name) for name in group.__dataclass_fields__ if name in options}
        for group in (search.Strategy, search.Allowance, search.States)
    ]
    assert not options
    strategy, allowance, states = groups
    costs = search.Costs(Prices(OFFER, label_usd), checkpoints, cold_start_cost)
    return search.decide(
        of, list(results), costs, search.Strategy(**strategy), search.Allowance(**allowance), search.States(**states)
    )


def result(of, chosen, epochs, status="complete", *, score=50.0, usd=None, number=None, **more):
    """A checkpoint of a run, or how it ended on its way there."""
    chosen = of.longest(chosen)
    recipe = of.resolve(chosen).with_epochs(epochs)
    known = {"recipe_id": recipe.id, "run_id": recipe.run_id, "recipe": recipe.to_json()}
    usage = {"train": Usage(seconds=(epochs if usd is None else usd) * SECONDS)} if status == "complete" else {}
    scores = {"accuracy": score, "dev_loss": 1.0} if status == "complete" else {}
    train = recipe.task.train
    told = chosen | ({"epochs": epochs} if "epochs" in chosen else {})
    work = {"examples": round(epochs * train), "labels": round(min(1.0, epochs) * train)}
    return Result(**known, settings=told, status=status, scores=scores, usage=usage, number=number, **work, **more)


def carried_out(of, steps, **options):
    """The history of so many decisions, each taken."""
    rng, results = random.Random(0), []
    for _ in range(steps):
        step = decide(of, results, **options)
        if step.action == "stop":
            break
        run = of.resolve(step.settings).run_id
        done = max((r.epochs for r in results if r.run_id == run), default=0.0)
        for epochs in EPOCHS:
            if done < epochs <= step.until:
                results.append(result(of, step.settings, epochs, score=rng.uniform(40, 90), number=len(results)))
    return results


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(steps=strategies.integers(0, 12), seed=strategies.integers(0, 3))
def test_a_decision_is_a_step_of_the_study_and_the_same_from_the_same_history(steps, seed):
    of = study()
    results = carried_out(of, steps, seed=seed)
    step = decide(of, results, seed=seed)
    assert step == decide(of, results, seed=seed)  # nothing is remembered from one decision to the next
    recipe = of.resolve(step.settings)
    known = {r.run_id: max(o.epochs for o in results if o.run_id == r.run_id) for r in results}
    assert step.action == ("continue" if recipe.run_id in known else "start")
    assert recipe.epochs == 4
    assert step.until in EPOCHS
    assert step.until > known.get(recipe.run_id, 0.0)


def test_a_small_space_is_exhausted_and_no_checkpoint_is_bought_twice():
    of = study(**FINITE)
    results = carried_out(of, 1000)
    assert decide(of, results) == search.Step.ended("stop", search.End.EXHAUSTED)
    assert len({r.recipe_id for r in results}) == len(results) == 8 * 3  # 2 label counts, 2 models, 2 methods; to 2 epochs


@pytest.mark.slow
def test_nothing_is_left_out_of_a_finite_space_that_is_larger_than_the_pool(monkeypatch):
    monkeypatch.setattr(sys.modules["workbench.search.next_run"], "POOL", 5)
    of = study(method=full(learning_rate=1e-3), epochs=1, seed=choice(*range(6)))
    assert len({r.run_id for r in carried_out(of, 1000)}) == 24


def test_what_is_being_made_is_waited_for_and_not_bought_twice():
    of = study(method=full(learning_rate=1e-3), epochs=1, model="a", task=study().recipe.task)
    first, second = ({"task.train": train} for train in (32, 64))
    running = [result(of, first, 1, "running"), result(of, second, 0.5, "running")]
    assert decide(of, running[:1]).settings == second
    assert decide(of, running).action == "wait"
    assert decide(of, [result(of, first, 1), result(of, second, 0.5)]).until == 1


def test_a_method_without_settings_is_begun_with_as_often_as_one_with_many():
    def of_a_dollar(recipe):
        return [CheckpointForecast(recipe.epochs, 1.0, 1.0, 1.0, 1.0)]

    of = study(
        method=choice(zero_shot(), full(learning_rate=loguniform(1e-4, 1e-2))), epochs=1, model="a", task=study().recipe.task
    )
    first = [decide(of, seed=seed, checkpoints=of_a_dollar).settings["method"] for seed in range(40)]
    assert 10 <= first.count("zero_shot") <= 30  # one of 150 configurations that are left: it would come last


@pytest.mark.parametrize("status", ["infeasible", "died"])
def test_what_cannot_be_run_is_left_alone(status):
    of = study(method=full(learning_rate=1e-3), epochs=1, model="a", task=study().recipe.task)
    ends = [result(of, {"task.train": 32}, 1, "infeasible")]
    if status == "died":
        ends = [result(of, {"task.train": 32}, 1, "interrupted", number=i, cause=Cause.DIED, reason="died: so") for i in range(3)]
        assert {decide(of, ends[:2], seed=seed).settings["task.train"] for seed in range(9)} == {32, 64}
    assert {decide(of, ends, seed=seed).settings["task.train"] for seed in range(9)} == {64}
    assert decide(of, [*ends, result(of, {"task.train": 64}, 1)]).action == "stop"


def test_what_a_stop_broke_off_goes_on_first_to_where_it_was_going():
    of = study()
    cut = result(of, SETTINGS, 2, "interrupted", number=5, cause=Cause.STOPPED_BY_PERSON, reason="stopped: by a person")
    history = [*carried_out(of, 4), cut]
    for seed in range(5):
        step = decide(of, history, seed=seed)
        assert (step.action, step.settings, step.until) == ("continue", {**SETTINGS, "epochs": 4}, 2)
    assert decide(of, history, starts=0).settings != step.settings  # it has not begun
    assert decide(of, history, admits=lambda chosen, until: chosen != step.settings).settings != step.settings
    busy = [*history, result(of, SETTINGS, 2, "running", number=6)]
    assert decide(of, busy).settings != step.settings
    done = [*history, result(of, SETTINGS, 2, number=6)]
    assert decide(of, done).reason != step.reason
    died = [*history[:-1], replace(cut, cause=Cause.DIED, reason="died: so")]
    assert decide(of, died).reason != step.reason  # it may be what kills its worker


def test_only_what_is_admitted_is_chosen_and_a_shorter_way_is_found():
    of = study()
    asked = []

    def admits(chosen, until):
        asked.append(until)
        return chosen["method"] == "bitfit" and until <= 1

    for seed in range(5):
        step = decide(of, carried_out(of, 4), seed=seed, admits=admits)
        assert (step.settings["method"], step.until <= 1) == ("bitfit", True)
    assert decide(of, admits=lambda chosen, until: False).action == "stop"
    asked.clear()
    decide(of, admits=lambda chosen, until: asked.append(until) or True)
    assert len(asked) == 1  # nothing but what was chosen is looked at


def test_no_run_is_started_when_none_may_be_and_those_begun_go_on():
    of = study(**FINITE)
    begun = [result(of, {"task.train": 32, "model": "a", "method": m}, 1) for m in ("full", "bitfit")]
    steps = []
    while (step := decide(of, begun, starts=0)).action == "continue":
        steps.append(step)
        begun.append(result(of, step.settings, step.until))
    assert {step.settings["method"] for step in steps} == {"full", "bitfit"}
    assert step == search.Step.ended("stop", search.End.NO_START)
    stub = result(of, {"task.train": 32, "model": "a", "method": "full"}, 1, "interrupted")
    assert decide(of, [stub], starts=0).action == "stop"  # it has not begun: no checkpoint, and nobody is at it


def test_the_last_of_the_trials_is_over_when_another_would_add_more(told):
    of = study()
    told(gain=1.0)
    begun = [result(of, SETTINGS, 1)]
    step = decide(of, begun, starts=0)
    assert (step.action, step.end, step.gain_per_usd > 0) == ("stop", search.End.NO_START, True)
    assert decide(of, [*begun, result(of, SETTINGS | {"model": "b"}, 1, "running")], starts=0).action == "wait"


class Told:
    """An engine that says what a test wants it to."""

    def __init__(self, decision, seen):
        self.decision, self.seen = decision, seen

    def __call__(self, dimensions, *, seed, reference):
        self.seen.update(dimensions=dimensions, reference=reference)
        return self

    def decide(self, arms, **told):
        self.seen.update(arms=arms, **told)
        return self.decision(arms)


@pytest.fixture
def told(monkeypatch):
    def install(gain, spend=2.0):
        seen = {}
        answer = lambda arms: Decision("start", next(a.key for a in arms if not a.done and a.pending is None), 1, gain, spend)  # noqa: E731
        monkeypatch.setattr(engine, "FrontSearch", Told(answer, seen))
        return seen

    return install


def test_it_stops_when_a_dollar_buys_less_than_was_asked_for(told):
    of = study()
    tried = [result(of, SETTINGS | {"full.learning_rate": 1e-3 * (1 + i)}, 1) for i in range(search.LEARNING_RUNS)]
    told(gain=3.0 * math.log(10))  # 3 score x decades for 2 US$
    assert decide(of, tried, stop_below=1.4).gain_per_usd == pytest.approx(1.5)
    step = decide(of, tried, stop_below=1.6)
    assert (step.action, step.settings) == ("stop", None)
    assert "add 1.5 to the hypervolume" in step.reason
    assert decide(of, tried[:-1], stop_below=1.6).action == "start"  # so early nothing is known of growth
    busy = [*tried, result(of, SETTINGS | {"full.learning_rate": 5e-3, "model": "b"}, 1, "running")]
    assert decide(of, busy, stop_below=1.6).action == "wait"
    told(gain=math.nan)
    assert decide(of, tried, stop_below=1e9).gain_per_usd is None
    told(gain=0.0)
    assert decide(of, tried, stop_below=1e-9).action == "stop"


def test_growth_is_told_for_a_dollar_whatever_is_minimised(told):
    told(gain=math.log(10), spend=1800.0)
    assert decide(replace(study(), minimize="seconds")).gain_per_usd == pytest.approx(2 / float(OFFER.usd_per_hour))
    told(gain=math.log(10), spend=10.0)
    labels = replace(study(), minimize=("labels", "usd"))
    assert decide(labels, label_usd=0.05).gain_per_usd == pytest.approx(2.0)
    assert decide(labels).gain_per_usd is None
    with pytest.raises(UsageError, match="study that minimises energy_j"):
        decide(replace(study(), minimize="energy_j"), stop_below=1.0)


SETTINGS = {"task.train": 32, "model": "a", "method": "full", "full.learning_rate": 1e-3}


def test_what_the_search_is_told_of(told):
    of, seen = study(), told(gain=1.0)
    results = [result(of, SETTINGS, 0.5, score=60.0, usd=1.0), result(of, SETTINGS, 1, score=70.0, usd=2.0)]
    decide(of, results, cold_start_cost=0.1, reference={of.maximize: 5.0, of.costs[0]: 90.0}, cached=[results[0].run_id])
    assert (seen["cold_start_cost"], seen["reference"]) == (0.1, engine.Reference(score=5.0, cost=90.0))
    assert "epochs" not in seen["dimensions"]
    arm, *pool = seen["arms"]
    assert arm.settings == SETTINGS
    assert (list(arm.scores), list(arm.losses), arm.cached, arm.pending) == ([60.0, 70.0], [1.0, 1.0], True, None)
    # Measured at twice the forecast: so what is ahead is expected to be.
    assert [milestone.cost for milestone in arm.milestones] == pytest.approx([1.0, 2.0, 4.0, 8.0])
    assert [milestone.progress for milestone in arm.milestones] == [16, 32, 64, 128]
    assert len({a.key for a in seen["arms"]}) == len(seen["arms"])
    assert all(not a.done and a.pending is None for a in pool)
    assert len(pool) == 300
    assert seen["start_penalty"] == 0.0  # as many as it likes
    assert seen["may_wait"]
    decide(of, results)
    assert not seen["arms"][0].cached
    decide(of, results, current=results[0].run_id)
    assert seen["arms"][0].cached
    decide(of, [*results, result(of, SETTINGS, 2, "running")])
    assert seen["arms"][0].pending == 2


def test_a_start_is_worth_a_whole_run_where_their_number_is_bounded_or_its_share_of_the_money(told):
    of, seen = study(), told(gain=1.0)
    worth = []
    for bounds in (
        {"starts": 4},
        {"starts": 0},
        {"starts": 4, "usd": 1.0},
        {"starts": 4, "usd": 1e9},
    ):
        decide(of, [result(of, SETTINGS, 1)], **bounds)
        worth.append(seen["start_penalty"])
    whole = sum(arm.milestones[-1].cost for arm in seen["arms"] if not arm.done) / sum(not arm.done for arm in seen["arms"])
    assert worth == pytest.approx([whole, whole, 0.25, whole])
    assert whole > 1.0


def test_what_a_method_is_tried_for_is_a_tenth_of_the_money_and_a_third_of_the_starts_is_kept(told):
    of, seen = study(), told(gain=1.0)
    within = []
    for bounds in ({}, {"starts": 2}, {"starts": 1}, {"usd": 3.0}, {"starts": 2, "usd": 3.0}, {"starts": 1, "usd": 3.0}):
        begun = [result(of, SETTINGS | {"model": model}, 1) for model in "ab"]
        decide(of, begun, **bounds)
        within.append(seen["try_within"])
    assert within == pytest.approx([math.inf, math.inf, 0.0, 0.3, 0.3, 0.0])


def test_a_method_that_is_fitted_at_once_is_among_the_first_runs():
    """However few of the configurations are its own, and though starts are weighed as whole runs."""
    of = study(
        method=choice(
            *(full(name=f"full{i}", learning_rate=loguniform(1e-4, 1e-2)) for i in range(4)),
            bitfit(learning_rate=loguniform(1e-4, 1e-2)),
            zero_shot(),
        )
    )

    def at_once(recipe):
        return ahead(recipe) or [CheckpointForecast(0.0, 1.0, 0.0, 0.1, 0.1)]

    results = []
    for _ in range(6):
        step = decide(of, results, starts=12 - len(results), usd=1000.0, seed=1, checkpoints=at_once)
        results.append(result(of, step.settings, step.until, number=len(results)))
    assert sorted(r.settings["method"] for r in results) == ["bitfit", "full0", "full1", "full2", "full3", "zero_shot"]
    assert {r.settings["model"] for r in results} == {"a", "b"}
    assert results[0].settings["method"] == "zero_shot"


def test_a_run_that_was_made_for_another_length_is_understood():
    """Older sweeps ended runs anywhere: what they passed are its first milestones, whatever grid the longest one has."""
    of = study()
    odd = [result(of, SETTINGS, epochs, score=epochs) for epochs in (0.25, 1.5)]
    (run,) = known_runs(of, odd, search.Costs(Prices(OFFER, 0.0), ahead), search.States())
    assert run.epochs == [0.25, 1.5, 2.0, 4.0]
    assert (run.arm.done, list(run.arm.scores)) == (2, [0.25, 1.5])
    assert all(a.cost < b.cost for a, b in zip(run.arm.milestones, run.arm.milestones[1:], strict=False))
    assert run.until(1).arm.done == 2
    foreign = replace(odd[0], run_id="another study's")
    gone = replace(odd[0], settings={"method": "gone"})
    assert known_runs(of, [foreign, gone], search.Costs(Prices(OFFER, 0.0), ahead), search.States()) == []


def test_labels_are_no_matter_of_the_ratio_of_measured_and_forecast_cost():
    of = study()

    def labelled(recipe):
        return [replace(c, cost=c.cost + c.labels * 0.5) for c in ahead(recipe)]

    (run,) = known_runs(of, [result(of, SETTINGS, 0.5, usd=1.0)], search.Costs(Prices(OFFER, 0.5), labelled), search.States())
    assert [milestone.cost for milestone in run.arm.milestones] == pytest.approx([1 + 8, 2 + 16, 4 + 16, 8 + 16])


def test_where_costs_are_unknown_the_work_stands_in_for_them():
    of = replace(study(), minimize="energy_j")
    blind = lambda recipe: [replace(c, cost=None) for c in ahead(recipe)]  # noqa: E731
    costs = [milestone.cost for milestone in new_runs(of, [SETTINGS], blind)[0].arm.milestones]
    assert costs == pytest.approx([costs[0] * e / EPOCHS[0] for e in EPOCHS])
    unknown = replace(result(of, SETTINGS, 1), usage={"train": Usage(1.0, cpu_energy_j=None)})
    (run,) = known_runs(of, [unknown], search.Costs(Prices(OFFER, 0.0), blind), search.States())
    assert all(milestone.cost > 0 for milestone in run.arm.milestones)
    assert decide(of, [unknown], checkpoints=blind).action in ("start", "continue")


def test_a_run_is_known_by_all_its_settings_but_its_length():
    assert key_of({"a": 1, "epochs": 2}) == key_of({"epochs": 4, "a": 1}) != key_of({"a": 2, "epochs": 2})
    assert study().longest({"a": 1, "epochs": 2}) == {"a": 1, "epochs": 4}
    assert study(epochs=2, method=bitfit(learning_rate=1e-3)).longest({"a": 1}) == {"a": 1}


# Whole runs, by Optuna's samplers


def test_optunas_samplers_finish_what_was_interrupted_first():
    of = study()
    stub = result(of, SETTINGS, 2, "interrupted")
    step = decide(of, [stub], sampler="optuna:RandomSampler")
    assert (step.action, step.settings, step.until) == ("continue", {**SETTINGS, "epochs": 2}, None)
    other = decide(of, [stub], sampler="optuna:RandomSampler", admits=lambda chosen, until: chosen != stub.settings)
    assert (other.action, other.until) == ("start", None)
    assert of.resolve(other.settings).run_id != stub.run_id
    assert decide(of, sampler="optuna:RandomSampler", starts=0).end is search.End.NO_START
