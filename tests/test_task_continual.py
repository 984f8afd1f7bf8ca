"""Several tasks, one after the other: what is learned and graded, what is forgotten, and what strategies do."""

import shutil
from dataclasses import dataclass, replace

import pytest
import started
from started import child, fresh

from workbench import Study, adapter, choice, distil, full, head, methods, peft, training
from workbench.errors import UsageError
from workbench.forecast import Forecaster, memory, pairs
from workbench.forecast.machine import Machine
from workbench.result import label_order
from workbench.tasks import classification, continual
from workbench.testing import FakeMeter, TinyTask
from workbench.training import parent_store, train
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")


@dataclass(frozen=True)
class Turned(TinyTask):
    """The tiny task with its classes told the other way round: whoever learns it forgets the first."""

    def _sentences(self, count, side):
        return [{**each, "label": 1 - each["label"]} for each in super()._sentences(count, side)]

    def digest(self):
        return f"turned {super().digest()}"


FIRST, SECOND = TinyTask(train=64, dev=16), Turned(train=64, dev=16, seed=1, data="turned")


def chain(model, strategy="plain", **settings):
    how = {"epochs": 8, "memory": 16} | settings
    return child(
        model,
        task=continual([FIRST, SECOND], strategy=strategy, **how),
        method=full(learning_rate=5e-3),
        epochs=8,
        averaging=None,
    )


def learned(model, strategy="plain", **settings):
    """A chain of tasks that are each learned whole: of less, what is forgotten is a matter of luck."""
    tasks = [replace(each, train=256) for each in (FIRST, SECOND)]
    return replace(chain(model), task=continual(tasks, strategy=strategy, epochs=4, **settings), epochs=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def place(cache, monkeypatch):
    """One cache for all: what was learned before stays learned."""
    fresh(monkeypatch, cache)


def last(recipe):
    *_, checkpoint = train(recipe, meter=FakeMeter())
    return checkpoint


# What is learned


def test_a_recipe_starts_from_that_of_the_tasks_before(tiny):
    recipe = chain(tiny, epochs=2)
    parent = recipe.parent
    assert (parent.epochs, parent.task.learned, parent.method, parent.model) == (2, 1, recipe.method, tiny)
    assert parent.parent is None
    assert recipe.with_epochs(1).parent.id == parent.id  # a checkpoint starts from the same
    assert replace(recipe, seed=1).parent.seed == 1
    assert (label_order(recipe.to_json()), label_order(parent.to_json())) == ("turned/1", "tiny/0")
    three = continual([FIRST, SECOND, FIRST])
    assert [len(three.splits().train), three.predecessor()[0].predecessor()[0].predecessor()] == [64, None]
    assert len({chain(tiny, each).id for each in ("plain", "replay", "ewc")}) == 3


def test_replay_puts_what_was_learned_before_among_the_new(tiny):
    task = chain(tiny, "replay").task
    train = task.splits().train
    old = [example for example in train if example.get("replayed")]
    assert (len(train), len(old), task.replayed) == (80, 16, 16)
    assert [example["id"] for example in old] == [example["id"] for example in FIRST.splits().train[:16]]
    assert {train.index(example) for example in old} != {*range(16)}
    assert task.splits().train == train
    assert [example["task_number"] for example in task.splits().dev] == [0] * 16 + [1] * 16
    assert task.predecessor()[0].replayed == 0


# What comes of it


def test_plain_tuning_forgets_and_says_how_much(tiny):
    recipe = learned(tiny)
    found, before = last(recipe), last(recipe.parent)
    lost = before.scores["score_of_1"] - found.scores["score_of_1"]
    assert lost > 50
    assert found.scores["forgetting"] == pytest.approx(lost)
    assert found.scores["backward_transfer"] == pytest.approx(-lost)
    assert found.scores["average_accuracy"] == pytest.approx((found.scores["score_of_1"] + found.scores["score_of_2"]) / 2)
    assert "forgetting" not in before.scores
    assert found.usage["pretrain"].work.examples == before.examples
    assert (found.labels, found.labels_by_order) == (512, {"tiny/0": 256, "turned/1": 256})


@pytest.mark.slow
def test_replay_and_ewc_forget_less(tiny):
    plain = last(learned(tiny)).scores
    replay = last(learned(tiny, "replay", memory=256)).scores
    ewc = last(learned(tiny, "ewc")).scores
    assert replay["forgetting"] < plain["forgetting"]
    assert ewc["forgetting"] < plain["forgetting"], "with the default strength"


def test_a_strength_that_nothing_is_held_by_makes_no_other_recipe(tiny):
    assert chain(tiny).id == chain(tiny, strength=5.0).id == chain(tiny, strength=choice(5.0, 6.0)).id
    assert chain(tiny, "ewc").task.strength == 1e5
    assert chain(tiny, "ewc").id != chain(tiny, "ewc", strength=3e5).id
    both = Study(chain(tiny, choice("plain", "ewc"), strength=choice(1e5, 1e6)), maximize="average_accuracy")
    held = {"task.strategy": "ewc", "task.strength": 1e6}
    assert both.resolve(held).task.strength == 1e6
    assert both.resolve(held | {"task.strategy": "plain"}).id == chain(tiny).id


def test_what_is_replayed_is_not_bought_twice(tiny):
    found = last(chain(tiny, "replay", memory=64))
    assert found.labels_by_order == {"tiny/0": 64, "turned/1": 64}
    study = Study(chain(tiny, "replay", memory=64), maximize="average_accuracy")
    assert Forecaster(study).run(study.recipe).labels == 128


def test_forgetting_is_of_the_best_that_was_known():
    three = continual([FIRST, SECOND, FIRST])
    before = [{"score_of_1": 90.0, "score_of_2": 0.0}, {"score_of_1": 95.0, "score_of_2": 80.0}]
    found = three.since({"score_of_1": 60.0, "score_of_2": 85.0, "score_of_3": 90.0}, [{"dev_loss": 1.0}, *before])
    assert found["forgetting"] == pytest.approx(((95 - 60) + (80 - 85)) / 2)
    assert found["backward_transfer"] == pytest.approx(((60 - 90) + (85 - 80)) / 2)
    assert three.since({"score_of_1": 1.0}, []) == {"score_of_1": 1.0}  # of what nobody graded nothing is said


# Each task from the same start

LORA = peft("lora", learning_rate=2e-2, target_modules="all-linear", r=4)
HOW = {"head": head(learning_rate=5e-2), "lora": LORA, "adapter": adapter(learning_rate=1e-2), "full": full(learning_rate=5e-3)}


def alone(model, task, method):
    """A task that is learned by itself, as a stage of the others is."""
    return replace(chain(model), task=task, method=method)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("lora", "adapter")]


@pytest.mark.parametrize("method", ["head", *SLOW])
def test_with_an_adapter_a_task_each_is_what_it_would_be_alone(tiny, method):
    made = replace(chain(tiny, "adapter_per_task"), method=HOW[method])
    found = last(made)
    single = [last(alone(tiny, task, HOW[method])) for task in (FIRST, SECOND)]
    assert [found.scores[f"score_of_{i + 1}"] for i in range(2)] == [each.scores["accuracy"] for each in single]
    assert found.predictions == [*single[0].predictions, *single[1].predictions]
    assert (found.scores["forgetting"], found.scores["backward_transfer"]) == (0, 0)
    assert found.trainable_parameters == 2 * single[0].trainable_parameters
    assert found.usage["pretrain"].work.examples == single[0].examples
    assert found.labels_by_order == {"tiny/0": 64, "turned/1": 64}
    assert last(made.parent).scores.keys() == {"score_of_1", "average_accuracy", "dev_loss"}  # the second has no weights yet
    assert last(replace(made, also=(SECOND,))).scores["turned_accuracy"] == found.scores["score_of_2"]


@pytest.mark.parametrize("method", ["head", "full", SLOW[0]])
def test_a_merged_model_has_the_mean_of_all_weights(tiny, method):
    three = continual([FIRST, SECOND, TinyTask(train=64, dev=16, seed=2, data="third")], strategy="merge", epochs=8)
    made = replace(chain(tiny, "merge"), task=three, method=HOW[method])
    *_, found = train(made, meter=FakeMeter())
    kept = found.weights()
    models = []
    for task in three.tasks:
        of = alone(tiny, task, HOW[method])
        tuning = Tuning(of, torch.device("cpu"), None)
        assert tuning.adopt(last_weights(of))
        models.append(dict(tuning.plain().named_parameters()))
    assert {*kept} <= {*models[0]}
    for name, own in models[0].items():
        mean = sum(model[name].detach() for model in models) / 3
        assert torch.allclose(kept.get(name, own.detach()), mean, atol=1e-5), name
    assert 0 < len(kept) <= len(models[0])
    assert found.scores["average_accuracy"] == pytest.approx(sum(found.scores[f"score_of_{i + 1}"] for i in range(3)) / 3)


def last_weights(recipe):
    *_, checkpoint = train(recipe, meter=FakeMeter())
    return checkpoint.weights()


@pytest.mark.parametrize(("strategy", "method"), [("adapter_per_task", "lora"), ("merge", "lora"), ("merge", "full")])
def test_kept_weights_are_all_that_a_model_is(tiny, tmp_path, monkeypatch, strategy, method):
    from safetensors.torch import save_file

    made = replace(chain(tiny, strategy), method=HOW[method])
    *_, found = train(made, meter=FakeMeter())
    save_file(found.weights(), tmp_path / "kept.safetensors")
    tested = found.test()
    fresh(monkeypatch, tmp_path / "cache")  # what was learned before is gone
    assert training.test(made, tmp_path / "kept.safetensors") == pytest.approx(tested)
    assert training.predict(made, tmp_path / "kept.safetensors", made.task.splits().dev) == found.predictions
    assert not [*tmp_path.glob("cache/parents/*/record.json")], "nothing was made again"
    with pytest.raises(UsageError, match="another recipe"):
        training.test(alone(tiny, FIRST, HOW["head"]), tmp_path / "kept.safetensors")


@pytest.mark.parametrize("strategy", ["adapter_per_task", "merge"])
def test_one_that_is_resumed_is_the_same(tiny, strategy):
    made = replace(chain(tiny, strategy), method=LORA)
    segments = train(made, meter=FakeMeter())
    state = next(segments).resume_state()
    *_, whole = segments
    *_, resumed = train(made, state, meter=FakeMeter())
    assert resumed.scores == whole.scores
    assert all(torch.equal(value, resumed.weights()[name]) for name, value in whole.weights().items())


def test_what_each_task_begins_with_is_made_again_where_it_was_dropped(tiny, tmp_path, monkeypatch):
    fresh(monkeypatch, tmp_path)
    start = child(tiny, task=TinyTask(train=16, dev=8, seed=5), epochs=1)
    made = replace(chain(tiny, "adapter_per_task"), model=start, method=HOW["head"])
    found = last(made).scores
    shutil.rmtree(parent_store.folder_of(start))
    assert last(made).scores == found
    assert parent_store.is_at_hand(start)


# Elastic weight consolidation


def test_the_fisher_information_is_the_mean_of_squared_gradients(tiny):
    recipe = chain(tiny, "ewc")
    last(recipe)
    known = parent_store.information(recipe.parent)
    tuning = Tuning(recipe, torch.device("cpu"), None)  # begins where the parent ended
    examples = FIRST.splits().train
    rows = tuning.formulation.encode(examples, tuning.processor)
    sums = 0.0
    weight = dict(tuning.model.named_parameters())["classifier.weight"]
    for i in range(len(examples)):
        tuning.model.zero_grad()
        inputs = {name: torch.as_tensor(value) for name, value in rows.batch([i]).items()}
        tuning.lesson.loss(tuning.lesson.forward(tuning.model.eval(), inputs), inputs).backward()
        sums = sums + weight.grad**2
    assert torch.allclose(known["classifier.weight"], sums / len(examples), rtol=1e-3, atol=1e-9)
    assert {*known} == {name for name, _ in tuning.model.named_parameters()}


def test_its_cost_is_a_part_of_what_is_started_from(tiny):
    plain, ewc = last(chain(tiny)), last(chain(tiny, "ewc"))
    assert ewc.usage["pretrain"].seconds == plain.usage["pretrain"].seconds + 1  # one more window
    assert ewc.usage["pretrain"].work.flops > plain.usage["pretrain"].work.flops
    studies = [Study(chain(tiny, each), maximize="average_accuracy") for each in ("plain", "ewc")]
    some, more = (Forecaster(study).run(study.recipe).phases["pretrain"].value for study in studies)
    assert more > some


def test_the_stronger_the_nearer(tiny):
    moved = []
    for strength in (1.0, 1e8):
        recipe = chain(tiny, "ewc", strength=strength)
        last(recipe)
        begun = Tuning(recipe, torch.device("cpu"), None)
        assert begun.anchors
        known = parent_store.information(recipe.parent)
        *_, end = train(recipe, meter=FakeMeter())
        weights = end.weights()
        moved.append(sum(float((known[name] * (weights[name] - p.detach()) ** 2).sum()) for name, p in begun.parameters.items()))
    assert moved[1] < moved[0]


# Of a weight that an adapter is added to


def ewc_lora(model, strength=1000.0, **settings):
    return replace(chain(model, "ewc", strength=strength, **settings), method=LORA)


def test_of_an_adapter_the_information_is_that_of_the_weights_it_is_merged_into(tiny):
    recipe = ewc_lora(tiny)
    last(recipe)
    known = parent_store.information(recipe.parent)
    names = methods.added(Tuning(recipe, torch.device("cpu"), None).model).keys() | {"classifier.weight", "classifier.bias"}
    assert known.keys() == names
    tuning = Tuning(replace(recipe, task=FIRST, method=full(learning_rate=1e-3)), torch.device("cpu"), None)
    merged = parent_store.model_tensors(recipe.parent)
    with torch.no_grad():
        for name, parameter in tuning.model.named_parameters():
            parameter.copy_(merged[name])
    rows = tuning.formulation.encode(FIRST.splits().train, tuning.processor)
    sums = dict.fromkeys(names, 0.0)
    for i in range(64):
        tuning.model.zero_grad()
        inputs = {name: torch.as_tensor(value) for name, value in rows.batch([i]).items()}
        tuning.lesson.loss(tuning.lesson.forward(tuning.model.eval(), inputs), inputs).backward()
        for name, parameter in tuning.model.named_parameters():
            if name in sums:
                sums[name] = sums[name] + parameter.grad**2
    assert all(torch.allclose(known[name], value / 64, rtol=1e-3, atol=1e-9) for name, value in sums.items())


def test_the_pull_is_the_gradient_of_how_far_a_weight_is_from_where_it_began(tiny):
    recipe = ewc_lora(tiny, strength=10.0)
    last(recipe)
    known = parent_store.information(recipe.parent)
    tuning = Tuning(recipe, torch.device("cpu"), None)
    begun = {name: weight().detach() for name, weight in methods.added(tuning.model).items()}
    with torch.no_grad():
        for parameter in tuning.parameters.values():
            parameter.add_(0.01 * torch.randn_like(parameter))
    tuning.model.zero_grad()
    for anchor in tuning.anchors:
        anchor.pull()
    found = {name: parameter.grad.clone() for name, parameter in tuning.parameters.items() if "lora_" in name}
    tuning.model.zero_grad()
    penalty = sum(
        (10.0 / 2 * known[name] * (weight() - begun[name]) ** 2).sum() for name, weight in methods.added(tuning.model).items()
    )
    penalty.backward()
    assert found
    for name, grad in found.items():
        assert torch.allclose(grad, tuning.parameters[name].grad, rtol=1e-4, atol=1e-10), name
        assert grad.abs().max() > 0


@pytest.mark.slow
def test_an_adapter_that_is_held_stays_nearer(tiny):
    moved = []
    for strength in (1.0, 1e7):
        recipe = ewc_lora(tiny, strength=strength)
        *_, end = train(recipe, meter=FakeMeter())
        known = parent_store.information(recipe.parent)
        tuning = Tuning(recipe, torch.device("cpu"), None)
        assert tuning.adopt(end.weights())
        moved.append(
            sum(float((known[name] * weight().detach() ** 2).sum()) for name, weight in methods.added(tuning.model).items())
        )
    assert moved[1] < moved[0] / 2


def test_three_tasks_add_up_what_is_known(tiny):
    three = continual([FIRST, SECOND, TinyTask(train=64, dev=16, seed=2, data="third")], strategy="ewc", epochs=1)
    recipe = replace(ewc_lora(tiny), task=three, epochs=1)
    found = last(recipe)
    first, both = (parent_store.information(of) for of in (recipe.parent.parent, recipe.parent))
    assert first.keys() == both.keys()
    assert all((both[name] >= value).all() for name, value in first.items())
    assert {"score_of_3", "forgetting"} <= found.scores.keys()


def test_what_is_held_beside_a_model_is_in_the_forecast_of_its_memory(tiny):
    machine = Machine.here()

    def peak(strategy, method):
        study = Study(replace(chain(tiny, strategy), method=method), maximize="average_accuracy")
        return Forecaster(study, machine=machine).run(study.recipe).peak_memory_bytes.value

    plain = Tuning(replace(chain(tiny), task=FIRST, method=LORA), torch.device("cpu"), None)
    whole, tuned = sum(p.numel() for p in plain.model.parameters()), sum(p.numel() for p in plain.parameters.values())
    dense = sum(weight().numel() for weight in methods.added(plain.model).values())
    alone = peak("plain", LORA)
    for strategy, floats in {"replay": 0, "ewc": 2 * tuned + 4 * dense, "adapter_per_task": 2 * tuned, "merge": 2 * whole}.items():
        assert peak(strategy, LORA) - alone == pytest.approx(4 * floats), strategy
        assert memory.beside_bytes(replace(chain(tiny, strategy)).task, LORA, plain.model) == 4 * floats
    assert memory.beside_bytes(chain(tiny, "merge").task, full(learning_rate=1e-3), plain.model) == 4 * (whole + tuned)


# What cannot be


def test_what_cannot_be_is_refused(tiny, tmp_path):
    with pytest.raises(UsageError, match="needs two tasks or more"):
        continual([FIRST])
    with pytest.raises(UsageError, match="strategy must be one of 'plain', 'replay', 'ewc'"):
        continual([FIRST, SECOND], strategy="hope")
    with pytest.raises(UsageError, match="must be a list of tasks"):
        continual(FIRST)
    ia3 = peft("ia3", learning_rate=1e-3, target_modules=["query", "dense"], feedforward_modules=["dense"])
    with pytest.raises(UsageError, match="what 'ia3' makes of them is no sum"):
        last(replace(chain(tiny, "ewc"), method=ia3))
    with pytest.raises(UsageError, match="what 'lora' makes of them is no sum"):
        last(replace(chain(tiny, "ewc"), method=peft("lora", learning_rate=1e-3, target_modules="all-linear", use_dora=True)))
    with pytest.raises(UsageError, match="train must be at least 1"):
        continual([FIRST, replace(SECOND, train=0)])
    with pytest.raises(UsageError, match="'full' tunes the model itself, which all tasks share"):
        last(chain(tiny, "adapter_per_task"))
    each = chain(tiny, "adapter_per_task")
    with pytest.raises(UsageError, match="makes no one model to begin with"):
        child(each)
    with pytest.raises(UsageError, match="weights for each of its tasks"):
        child(tiny, pseudo=distil(each))
    study = Study(replace(chain(tiny, choice("plain", "ewc")), method=ia3), maximize="average_accuracy")
    assert "what 'ia3' makes of them is no sum" in next(pairs.plan(study)).problem
    half = Study(replace(chain(tiny, "merge"), method=LORA, weights="bfloat16"), maximize="average_accuracy")
    assert "must be float32" in next(pairs.plan(half)).problem
    study = Study(replace(chain(tiny), method=adapter(learning_rate=1e-3)), maximize="average_accuracy")
    assert "cannot be merged" in next(pairs.plan(study)).problem


def test_a_study_searches_strategies(tiny):
    every = choice("plain", "replay", "ewc", "adapter_per_task", "merge")
    whole = Study(replace(chain(tiny, every), method=HOW["head"]), maximize="average_accuracy")
    assert [(p.before, p.fits) for p in pairs.plan(whole)] == [(False, True)]
    held = Study(replace(chain(tiny, choice("plain", "ewc")), method=LORA), maximize="average_accuracy")
    assert [p.problem for p in pairs.plan(held)] == [""]
    study = Study(chain(tiny, choice("plain", "replay")), maximize="average_accuracy")
    assert {*study.dimensions} == {"task.strategy"}
    assert study.resolve({"task.strategy": "replay"}).parent.task.strategy == "replay"
    assert [(p.before, p.fits) for p in pairs.plan(study)] == [(False, True)]


def test_classes_are_told_among_those_of_all_tasks(tiny, tmp_path):
    for name, classes in {"a": ("red", "blue"), "b": ("big", "small")}.items():
        rows = [f"w{10 + i} w{20 + i % 7},{classes[i % 2]}" for i in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    tasks = [classification(str(tmp_path / f"{name}.csv"), train=16, dev=8, max_length=16) for name in "ab"]
    task = continual(tasks)
    formulation = task.formulation("encoder")
    assert {*formulation.settings["id2label"].values()} == {"red", "blue", "big", "small"}
    with pytest.raises(UsageError, match="one and the same head"):
        continual([tasks[0], FIRST]).formulation("encoder")
    model = started.masked_model(tiny, tmp_path / "m")
    found = last(child(model, task=task))
    assert {"score_of_1", "score_of_2", "average_accuracy", "forgetting"} <= {*found.scores}
