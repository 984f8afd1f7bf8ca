"""Models that start from others: made once by the one loop, kept, merged, and charged."""

import os
import signal
from dataclasses import replace

import pytest
import started
from commands import forks, start
from started import child, fresh

from workbench import adapter, bitfit, full, knn, masked_lm, peft, zero_shot
from workbench.data import models
from workbench.errors import EnvironmentFault, Infeasible, UsageError
from workbench.forecast import pairs
from workbench.methods import plain_name
from workbench.result.spending import labelled_set
from workbench.study import Study
from workbench.tasks.language_modelling import LanguageModelling
from workbench.testing import FakeMeter, TinyTask
from workbench.training import Tuning, parent_store, parents, train, tuned_model
from workbench.usage import add_phases

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tiny):
    """A model and a corpus."""
    folder = tmp_path_factory.mktemp("started")
    return started.masked_model(tiny, folder / "m"), started.corpus(folder / "corpus.txt")


@pytest.fixture
def place(shared, tmp_path, monkeypatch):
    """The model and a value of pre-training, with a cache of this test's own."""
    fresh(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(parents, "_failed", {})
    model, corpus = shared
    return model, masked_lm(corpus, steps=8, batch_size=8, max_length=24, learning_rate=1e-3)


def last(recipe, resume=None):
    """The last checkpoint of a recipe, with all that was spent, and its weights."""
    spent = {}
    for checkpoint in train(recipe, resume, meter=FakeMeter()):
        weights, spent = checkpoint.weights(), add_phases(spent, checkpoint.spent)
    return replace(checkpoint, spent=spent), weights


def weights_at(recipe):
    """The weights that a recipe's model begins with."""
    formulation = recipe.formulation
    return models.build(parent_store.place(recipe), formulation.auto_class, **formulation.settings).state_dict()


# Once


def test_it_is_made_once_and_stands_in_full_in_each_cost(place):
    model, how = place
    (first, _), (second, _) = (last(child(model, pretrain=how, method=full(learning_rate=rate))) for rate in (1e-3, 2e-3))
    # Of the parent: data, load and two stretches of training, as there are two checkpoints; evaluations are spent alone.
    assert first.usage["pretrain"].seconds == second.usage["pretrain"].seconds > 2
    assert first.usage["pretrain"].work.examples == second.usage["pretrain"].work.examples == 64
    assert first.spent["pretrain"].seconds > first.usage["pretrain"].seconds
    assert first.spent["pretrain"].work.steps == 8
    assert (second.spent["pretrain"].seconds, second.spent["pretrain"].work.steps) == (1.0, 0)  # a look at what is there
    assert "pretrain" not in last(child(model))[0].usage
    assert first.labels == 16  # nobody labels a corpus


def test_results_are_the_same_whether_it_was_at_hand_or_made_now(place, tmp_path, monkeypatch):
    model, how = place
    recipe = child(model, pretrain=how, method=peft("lora", learning_rate=1e-2, target_modules="all-linear"), epochs=2)
    made, weights = last(recipe)
    at_hand, same = last(recipe)
    fresh(monkeypatch, tmp_path / "other")
    again, third = last(recipe)
    assert made.scores == at_hand.scores == again.scores
    for others in (same, third):
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert made.scores["dev_loss"] != last(child(model, method=recipe.method, epochs=2))[0].scores["dev_loss"]


def test_a_run_goes_on_from_its_state_with_the_same_cost(place):
    model, how = place
    recipe = child(model, pretrain=how, epochs=2)
    points = []
    for checkpoint in train(recipe, meter=FakeMeter()):
        points.append(checkpoint)
        if len(points) == 1:
            state = checkpoint.resume_state()
    resumed, _ = last(recipe, state)
    assert resumed.scores == points[-1].scores
    assert resumed.usage["pretrain"] == points[-1].usage["pretrain"]


def _prepare(cache, model, how, results):
    os.environ["WORKBENCH_CACHE"] = cache  # the process is a fork of one that knows another
    checkpoint, _ = last(child(model, pretrain=how))
    results.put((checkpoint.spent["pretrain"].work.steps, checkpoint.scores))


@pytest.mark.slow
def test_two_processes_make_it_once(place):
    results = forks().Queue()
    both = [forks().Process(target=_prepare, args=(os.environ["WORKBENCH_CACHE"], *place, results)) for _ in range(2)]
    for each in both:
        start(each)
    (some, scores), (others, same) = (results.get(timeout=120) for _ in both)
    assert {some, others} == {0, 8}
    assert scores == same
    for each in both:
        each.join()


def _die(cache, model, how):
    os.environ["WORKBENCH_CACHE"] = cache
    parents.STATE_SECONDS = 0.0
    score, seen = LanguageModelling.score, []

    def dying(self, examples, predictions):
        seen.append(1)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(self, examples, predictions)

    LanguageModelling.score = dying
    last(child(model, pretrain=how))


@pytest.mark.slow
def test_one_that_was_killed_goes_on_from_its_last_state(place, tmp_path, monkeypatch):
    model, how = place
    recipe = child(model, pretrain=how)
    process = forks().Process(target=_die, args=(os.environ["WORKBENCH_CACHE"], *place))
    start(process)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert not parent_store.is_at_hand(recipe.parent)
    assert len([*(tmp_path / "cache" / "parents" / "states").glob("*.safetensors")]) == 1
    resumed, weights = last(recipe)
    assert 0 < resumed.spent["pretrain"].work.steps < 8
    assert resumed.usage["pretrain"].work.steps == 8
    assert not [*(tmp_path / "cache" / "parents" / "states").glob("*.safetensors")]
    fresh(monkeypatch, tmp_path / "other")
    unbroken, same = last(recipe)
    assert unbroken.scores == resumed.scores
    assert unbroken.usage["pretrain"].seconds == pytest.approx(resumed.usage["pretrain"].seconds)
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_one_that_fails_is_not_paid_for_twice(place):
    model, how = place
    bad = masked_lm(how.corpus, steps=8, batch_size=8, max_length=24, learning_rate=1e30)
    with pytest.raises(Infeasible, match=r"masked_lm of .*, before its tuning: the training loss is") as error:
        last(child(model, pretrain=bad))
    assert error.value.reason == "diverged"
    meter = FakeMeter()
    with pytest.raises(Infeasible, match="before its tuning"):
        list(train(child(model, pretrain=bad, epochs=2), meter=meter))
    assert meter.clock.now <= 2  # nothing was trained


# What goes along


def test_the_body_goes_along_and_a_head_where_it_is_the_same(place):
    model, how = place
    parent = child(model, epochs=2)
    same = child(parent, task=TinyTask(train=16, dev=8, seed=1))
    last(same)
    _, tuned = last(parent)
    begun = weights_at(same)
    assert all(torch.equal(begun[name], tuned[name]) for name in tuned)
    # The body of what was masked, with the pooler that it has no place for, and a head that the seed draws.
    other = child(model, pretrain=how)
    last(other)
    begun, plain = weights_at(other), weights_at(child(model))
    words = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(begun[words], plain[words])
    assert torch.equal(begun["bert.pooler.dense.weight"], plain["bert.pooler.dense.weight"])
    assert torch.equal(begun["classifier.weight"], plain["classifier.weight"])
    assert begun.keys() == plain.keys()


@pytest.mark.parametrize(
    "method",
    [
        peft("lora", learning_rate=1e-2, target_modules="all-linear"),
        peft("ia3", learning_rate=1e-1, target_modules=["key", "value"], feedforward_modules=[]),
        bitfit(learning_rate=1e-2),
    ],
    ids=lambda method: method.name,
)
def test_what_a_method_adds_is_merged(place, method):
    parent = child(place[0], method=method)
    following = child(parent, task=TinyTask(train=16, dev=8, seed=1))
    last(following)
    _, weights = last(parent)
    tuning = Tuning(parent, torch.device("cpu"), None)
    tuning.adopt({plain_name(name): value for name, value in weights.items()})
    formulation = parent.formulation
    merged = models.build(parent_store.place(following), formulation.auto_class, **formulation.settings)
    ids = torch.arange(10, 30).reshape(2, 10)
    with torch.no_grad():
        expected = tuning.model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        assert torch.allclose(merged(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, expected, atol=1e-5)


def test_kept_weights_are_read_with_what_they_start_from(place, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    model, how = place
    recipe = child(model, pretrain=how, method=peft("lora", learning_rate=1e-2, target_modules="all-linear"))
    _, weights = last(recipe)
    save_file(weights, tmp_path / "w.safetensors")
    here = tuned_model(recipe, tmp_path / "w.safetensors").state_dict()
    fresh(monkeypatch, tmp_path / "other")  # it is gone, and made again
    assert all(
        torch.equal(here[name], value) for name, value in tuned_model(recipe, tmp_path / "w.safetensors").state_dict().items()
    )


def test_the_oldest_are_dropped(place, monkeypatch):
    model, how = place
    some, other = child(model, pretrain=how), child(model, epochs=2)
    last(some)
    monkeypatch.setattr(parent_store, "MOST_BYTES", 1)
    last(child(other, task=TinyTask(train=16, dev=8, seed=1)))
    assert parent_store.is_at_hand(some.parent)  # somebody may be about to read it
    monkeypatch.setattr(parent_store, "RECENT_SECONDS", -1.0)
    last(child(child(model, epochs=3), task=TinyTask(train=16, dev=8, seed=1)))
    assert not parent_store.is_at_hand(some.parent)
    assert not parent_store.is_at_hand(other)
    assert parent_store.is_at_hand(child(model, epochs=3))
    with pytest.raises(EnvironmentFault, match="not in the cache"):
        parent_store.place(some)
    deployed = child(child(model, epochs=3), task=TinyTask(train=16, dev=8, seed=1))
    assert parent_store.kept_for_good(deployed) == parent_store.place(deployed)
    last(child(other, task=TinyTask(train=16, dev=8, seed=1)))
    assert parent_store.is_at_hand(deployed.parent)


# Labels


def test_labels_of_parents_count_once(place):
    model, how = place
    parent = child(model, task=TinyTask(train=24, dev=8, data="other"), pretrain=how)
    checkpoint, _ = last(child(parent))
    assert (checkpoint.labels, checkpoint.labels_by_order) == (40, {"other/0": 24, "tiny/0": 16})
    # More of the same data set: a smaller training set is a prefix of a larger one.
    checkpoint, _ = last(child(child(model, task=TinyTask(train=24, dev=8))))
    assert (checkpoint.labels, checkpoint.labels_by_order) == (24, {"tiny/0": 24})
    assert labelled_set(child(model).to_json()["task"]) == "tiny/0"


# From scratch


def test_a_smaller_model_is_drawn(place):
    model, how = place
    small = masked_lm(how.corpus, steps=8, batch_size=8, max_length=24, from_scratch=True, layers=1, hidden_size=16)
    recipe = child(model, pretrain=small)
    last(recipe)
    config = models.config(recipe.architecture)
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_attention_heads) == (1, 16, 32, 1)
    assert recipe.model_name == f"{model} from scratch + masked_lm"
    whole = masked_lm(how.corpus, steps=8, from_scratch=True, seed=1)
    assert models.config(child(model, pretrain=whole).architecture).num_hidden_layers == 2
    drawn = models.build(child(model, pretrain=whole).architecture, "AutoModel").state_dict()
    read = models.build(model, "AutoModel").state_dict()
    assert not torch.equal(drawn["embeddings.word_embeddings.weight"], read["embeddings.word_embeddings.weight"])
    wide = masked_lm(how.corpus, steps=8, from_scratch=True, hidden_size=24)
    with pytest.raises(UsageError, match="hidden_size=24: the heads of this model are 16 wide"):
        child(model, pretrain=wide).parent  # noqa: B018


# What is refused


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (adapter(learning_rate=1e-3), "its modules are part of every pass, and cannot be merged"),
        (peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=2), "tokens in front of the input cannot be merged"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_parent_that_cannot_be_merged_is_refused_before_anything_is_spent(place, method, why):
    study = Study(child(child(place[0], method=method)), maximize="accuracy")
    plan = [*pairs.plan(study)]
    assert [(p.before, p.fits) for p in plan] == [(True, False), (False, True)]
    assert why in plan[0].problem
    with pytest.raises(UsageError, match=why):
        pairs.check(study)


def test_what_cannot_be_is_refused(place):
    model, how = place
    for method in (zero_shot(), knn()):
        with pytest.raises(UsageError, match=rf"tunes nothing \('{method.name}'\)"):
            child(child(model, method=method))
    with pytest.raises(UsageError, match="epochs=0, and tunes nothing"):
        child(child(model, epochs=0))
    with pytest.raises(UsageError, match="from_scratch=True draws new weights"):
        child(child(model), pretrain=masked_lm(how.corpus, steps=8, from_scratch=True))
    with pytest.raises(UsageError, match="layers is for a model that is drawn"):
        masked_lm(how.corpus, steps=8, layers=1)
    with pytest.raises(UsageError, match="steps must be a whole number, at least 1; got 0"):
        masked_lm(how.corpus, steps=0)
    with pytest.raises(UsageError, match="pretrain must be None, or masked_lm"):
        child(model, pretrain="masked_lm")


def test_a_cache_that_cannot_be_written_to_is_told(place, monkeypatch, tmp_path):
    model, how = place
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EnvironmentFault, match="Set WORKBENCH_CACHE"):
        last(child(model, pretrain=how))
