"""Heads that are fitted at once on embeddings: neighbours, logistic regression, and SetFit's pairs before it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from test_task_classification import LABELS, ROWS, written

from workbench import Recipe, Study, choice, full, knn, logistic, loguniform, setfit
from workbench.data import fingerprints, load
from workbench.errors import UsageError
from workbench.forecast import pairs
from workbench.forecast.calibration import calibrate
from workbench.forecast.forecaster import Forecaster
from workbench.objectives import AlikePairs
from workbench.tasks import classification, question_answering, ranking
from workbench.testing import tiny_decoder, tiny_model
from workbench.training import features, train, tuned_model
from workbench.training import test as score_test_split
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")
from workbench.methods import heads  # noqa: E402  it needs torch

CPU = torch.device("cpu")
METHODS = {
    "knn": knn(neighbours=3),
    "logistic": logistic(C=1000.0),
    "setfit": setfit(learning_rate=3e-3, C=1000.0),
}


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    load.cache_clear()
    fingerprints.look_again()
    features._kept.clear()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("data") / "a.jsonl")


def task(data: str, **settings: Any) -> Any:
    return classification(data, **{"train": 48, "dev": 12, "test": 8, "max_length": 32} | settings)


def recipe(of: Any, model: str, method: Any, **more: Any) -> Recipe:
    return Recipe(task=of, model=model, method=method, **{"epochs": 1, "batch_size": 8, **more})


def vectors(count: int, classes: int = 3, seed: int = 0) -> tuple[Any, Any]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=rng)
    centres = torch.randn(classes, 6, generator=torch.Generator().manual_seed(9))
    found = centres[labels] + torch.randn(count, 6, generator=rng)
    return torch.nn.functional.normalize(found, dim=-1), labels


# Heads, against scikit-learn


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_is_scikit_learns(classes: int) -> None:
    (x, y), (asked, _) = vectors(60, classes), vectors(20, classes, seed=1)
    head = heads.Logistic(6, classes, strength=2.0)
    head.fit(x, y)
    theirs = LogisticRegression(C=2.0, max_iter=10_000).fit(x.double().numpy(), y.numpy()).predict_proba(asked.double().numpy())
    np.testing.assert_allclose(head(asked).softmax(-1), theirs, atol=1e-4)


def test_a_class_without_an_example_is_the_least_likely() -> None:
    x, y = vectors(60)
    for kept in ([0, 2], [1]):
        head = heads.Logistic(6, 3, strength=1e4)
        chosen = torch.isin(y, torch.tensor(kept))
        head.fit(x[chosen], y[chosen])
        assert {*head(x).argmax(-1).tolist()} <= {*kept}
        assert bool(torch.isfinite(head(x)).all())


def test_neighbours_vote_as_scikit_learns_do() -> None:
    (x, y), (asked, _) = vectors(60), vectors(20, seed=1)
    head = heads.Neighbours(6, 3, count=5)
    assert head(asked).shape == (20, 3)  # before there are any
    head.fit(x, y)
    theirs = KNeighborsClassifier(5, weights="distance", metric="cosine").fit(x.numpy(), y.numpy())
    assert head(asked).argmax(-1).tolist() == theirs.predict(asked.numpy()).tolist()
    share = (head(asked).exp() - heads.DOUBT).numpy()
    np.testing.assert_allclose(share, theirs.predict_proba(asked.numpy()), atol=1e-3)
    assert head(x).argmax(-1).tolist() == y.tolist()  # each is its own nearest
    few = heads.Neighbours(6, 3, count=50)
    few.fit(x[:4], y[:4])
    assert few(asked).shape == (20, 3)


@pytest.mark.parametrize("kind", ["knn", "logistic"])
def test_texts_may_be_of_several_classes(kind: str) -> None:
    x, y = vectors(80)
    several = torch.stack([y == 0, y != 2, torch.zeros_like(y, dtype=torch.bool)], 1).float()
    head: Any = heads.Neighbours(6, 3, count=5) if kind == "knn" else heads.Logistic(6, 3, strength=10.0)
    head.fit(x, several)
    told = head(x).sigmoid()
    assert ((told > 0.5) == several.bool()).float().mean() > 0.85
    assert (told[:, 2] < 0.1).all()


# Pairs


def test_pairs_are_learned_from_with_both_kinds_weighing_the_same() -> None:
    x, y = vectors(7)
    found = AlikePairs().loss({"embeddings": x}, {"labels": y})
    cosines, same, other = x @ x.T, [], []
    for i in range(7):
        for j in range(i):
            (same if y[i] == y[j] else other).append(float((cosines[i, j] - float(y[i] == y[j])) ** 2))
    assert float(found) == pytest.approx(7 * (np.mean(same) + np.mean(other)) / 2, abs=1e-5)
    onehot = torch.nn.functional.one_hot(y, 3).float()
    torch.testing.assert_close(AlikePairs().loss({"embeddings": x}, {"labels": onehot}), found)
    alone = AlikePairs().loss({"embeddings": x[:1].requires_grad_()}, {"labels": y[:1]})
    assert float(alone) == 0
    alone.backward()


# Through the loop


@pytest.mark.parametrize("kind", [pytest.param("knn", marks=pytest.mark.slow), "logistic", "setfit"])
def test_it_learns_from_few_labels_and_its_kept_state_answers_the_same(tiny: str, data: str, kind: str, tmp_path: Path) -> None:
    made = recipe(task(data, train=96), tiny, METHODS[kind], epochs=8)
    *_, last = train(made)
    assert last.scores["accuracy"] > {"knn": 40, "logistic": 60, "setfit": 80}[kind]  # of three classes
    assert last.labels == 96
    assert last.step == (96 if kind == "setfit" else 0)
    weights = last.weights()
    assert {name for name in weights if name.startswith("head.")} == (
        {"head.points", "head.votes", "head.several"} if kind == "knn" else {"head.weight", "head.bias"}
    )
    save_file(weights, tmp_path / "w.safetensors")
    assert score_test_split(made, tmp_path / "w.safetensors") == last.test()
    model = tuned_model(made, tmp_path / "w.safetensors")
    of = Tuning(made, CPU, None)
    dev = made.task.splits().dev
    rows = of.formulation.encode(dev, of.processor)
    with torch.no_grad():
        outputs = of.inference(model, rows.batch(range(len(dev))))
    told = of.formulation.decode(dev, rows, outputs, of.processor)
    assert [each.labels for each in told] == [each.labels for each in last.predictions]
    other = recipe(task(data), tiny, full(learning_rate=1e-3))
    with pytest.raises(UsageError, match="holds the weights of another recipe"):
        tuned_model(other, tmp_path / "w.safetensors")


@pytest.mark.parametrize("kind", METHODS)
@torch.no_grad()
def test_rows_in_a_batch_are_those_of_each_alone(tiny: str, data: str, kind: str) -> None:
    of = Tuning(recipe(task(data), tiny, METHODS[kind]), CPU, None)
    rows = of.formulation.encode(of.recipe.task.splits().train, of.processor)
    of.fit_head(rows, 48)
    of.model.eval()
    for i, found in enumerate(of.inference(of.model, rows.batch(range(9)))):
        np.testing.assert_allclose(found, of.inference(of.model, rows.batch([i]))[0], atol=1e-5)


def test_setfit_goes_on_bit_for_bit_and_learns_from_whole_steps(tiny: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(task(data), tiny, METHODS["setfit"], epochs=2)
    assert Tuning(made, CPU, None).lesson == AlikePairs()
    state, last = None, None
    for checkpoint in train(made):
        state = checkpoint.resume_state() if checkpoint.recipe.epochs == 1 else state
        torch.rand(3)
        last = (dict(checkpoint.scores), list(checkpoint.predictions), checkpoint.weights(), checkpoint.usage["train"].work)
    (rest,) = [(dict(c.scores), list(c.predictions), c.weights(), c.usage["train"].work) for c in train(made, state)]
    assert last is not None
    assert rest[:2] == last[:2]
    assert rest[3] == last[3]
    assert all(torch.equal(rest[2][each], last[2][each]) for each in last[2])
    from workbench.training import batches

    monkeypatch.setattr(batches, "split", lambda *args: pytest.fail("a step was cut"))
    of = Tuning(made, CPU, None)
    of.make_step(of.formulation.encode(made.task.splits().train, of.processor), np.arange(8), 8)


@pytest.mark.parametrize("kind", [pytest.param("knn", marks=pytest.mark.slow), "logistic"])
def test_what_is_not_trained_has_no_use_for_epochs_or_a_seed_but_for_labels(tiny: str, data: str, kind: str) -> None:
    one = recipe(task(data), tiny, METHODS[kind])
    assert one.epochs == 0
    assert recipe(task(data), tiny, METHODS[kind], epochs=3, seed=4, batch_size=2).id == one.id
    assert recipe(task(data, train=24), tiny, METHODS[kind]).id != one.id
    with pytest.raises(UsageError, match="train must be at least 1"):
        recipe(task(data, train=0), tiny, METHODS[kind])
    (first,) = train(one)
    (again,) = train(one)
    assert dict(again.scores) == dict(first.scores)
    assert all(torch.equal(again.weights()[name], value) for name, value in first.weights().items())
    assert again.usage["train"].work == first.usage["train"].work  # as if it had been alone
    assert first.usage["train"].work.flops > 0


def test_holes_of_a_fitted_method_are_searched(tiny: str, data: str) -> None:
    study = Study(
        Recipe(
            task=task(data, train=choice(24, 48)),
            model=tiny,
            method=choice(
                full(learning_rate=loguniform(1e-3, 1e-2)), logistic(C=loguniform(0.1, 100)), knn(neighbours=choice(1, 5))
            ),
            epochs=choice(1, 2),
        ),
        maximize="accuracy",
    )
    assert {*study.dimensions} == {"task.train", "method", "full.learning_rate", "logistic.C", "knn.neighbours", "epochs"}
    made = study.resolve({"method": "logistic", "logistic.C": 3.0, "task.train": 24})
    assert (made.epochs, made.task.train) == (0, 24)
    assert [plan.problem for plan in pairs.plan(study)] == [""] * 4


@pytest.mark.parametrize("kind", [pytest.param("knn", marks=pytest.mark.slow), "logistic", "setfit"])
def test_the_forecast_counts_one_pass_over_the_labels(tiny: str, data: str, kind: str) -> None:
    made = recipe(task(data), tiny, METHODS[kind])
    study = Study(made, maximize="accuracy")
    forecast = Forecaster(study).run(made)
    *_, last = train(made)
    assert forecast.labels == last.labels == 48
    assert forecast.work["train"].flops == pytest.approx(last.usage["train"].work.flops, rel=0.35)
    assert forecast.peak_memory_bytes is not None
    assert {each.phase for each in calibrate(study, 0.01).timings} >= {"load", "data", "evaluate"}


def test_settings_out_of_range_and_models_without_use_are_refused(tmp_path: Path, tiny: str, data: str) -> None:
    for make, said in (
        (lambda: knn(neighbours=0), "neighbours must be a whole number, at least 1; got 0"),
        (lambda: logistic(C=0), "C must be a number above 0; got 0"),
        (lambda: setfit(learning_rate=1e-3, C=-1), "C must be a number above 0; got -1"),
        (lambda: setfit(learning_rate=0), "learning_rate must be a number above 0"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            make()
    writer = tiny_decoder(tmp_path / "w")
    tasks = {
        writer: task(data),
        tiny: question_answering("pydocs", train=16, max_length=32, stride=4),
    }
    for model, of in tasks.items():
        score = "accuracy" if model == writer else "f1"
        (plan,) = pairs.plan(Study(recipe(of, model, logistic()), maximize=score))
        assert plan.problem.startswith(
            "'logistic' tells classes from embeddings of an encoder, which this model with this task does"
        )
    (plan,) = pairs.plan(Study(recipe(ranking("pysearch", train=8, max_length=32), tiny, knn()), maximize="mrr"))
    assert plan.problem.startswith("'knn' tells classes")
    with pytest.raises(UsageError, match="'setfit' changes the model's own weights"):
        recipe(task(data), tiny, METHODS["setfit"], weights="bfloat16")


def test_a_folder_that_pools_by_its_first_token_is_believed(tmp_path: Path, data: str) -> None:
    name = tiny_model(tmp_path / "m")
    (tmp_path / "m" / "1_Pooling").mkdir()
    (tmp_path / "m" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    of = Tuning(recipe(task(data), name, logistic()), CPU, None)
    batch = of.formulation.encode(of.recipe.task.splits().train[:2], of.processor).batch([0, 1])
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        first = of.model.embedder.base(**inputs).last_hidden_state[:, 0]
        torch.testing.assert_close(of.model.embedder(**inputs), torch.nn.functional.normalize(first, dim=-1))
    assert len(LABELS) == 3
    assert len(ROWS) == 120
