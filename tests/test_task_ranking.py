"""Ranking: candidates in order, by a cross-encoder, by embeddings, or by a language model's yes or no."""

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import untuned_loss
from products import once_each
from safetensors.torch import save_file
from test_task_retrieval import ROWS, beir, written

from workbench import Recipe, Study, few_shot, full, peft, zero_shot
from workbench.data import fingerprints, load
from workbench.errors import UsageError
from workbench.forecast import pairs
from workbench.forecast.forecaster import Forecaster
from workbench.formulations import Rows
from workbench.tasks import ranking
from workbench.testing import tiny_decoder, tiny_model, tiny_seq2seq
from workbench.training import test as score_test_split
from workbench.training import train, tuning
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")

CPU = torch.device("cpu")
MAKERS = {
    "cross": tiny_model,
    "decoder": tiny_decoder,
    "plain": functools.partial(tiny_decoder, chat=False),
    "seq2seq": tiny_seq2seq,
}
KINDS = (*MAKERS, "bi")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    load.cache_clear()
    fingerprints.look_again()


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @functools.cache
    def make(kind: str) -> str:
        return MAKERS["cross" if kind == "bi" else kind](tmp_path_factory.mktemp(kind))

    return make


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("data") / "a.jsonl")


def task(data: str, kind: str = "cross", **settings: Any) -> Any:
    few = {"train": 16, "dev": 4, "test": 4, "max_length": 24, "candidates": 6, "negatives": 2}
    return ranking(data, **{**few, "encoder": "bi-encoder" if kind == "bi" else "cross-encoder", **settings})


def recipe(of: Any, model: str, method: Any = None, **more: Any) -> Recipe:
    settings = {"epochs": 1, "batch_size": 4, **more}
    return Recipe(task=of, model=model, method=method or full(learning_rate=3e-3), **settings)


def tuned(of: Any, model: str, **more: Any) -> Tuning:
    made = Tuning(recipe(of, model, **more), CPU, None)
    made.model.eval()
    torch.manual_seed(0)
    with torch.no_grad():  # so large that what it says depends on what it reads
        for p in made.model.parameters():
            if p.ndim == 2:
                p.normal_(std=0.3)
    return made


def rows_of(of: Tuning, **more: Any) -> Rows:
    return of.formulation.encode(of.recipe.task.splits().dev, of.processor, **more)


# What is put in order


def test_candidates_are_what_answers_what_does_not_and_what_seems_to(tmp_path: Path) -> None:
    rows = [each | {"negative": ["w4 w4 w4", "w5 w5 w5"]} for each in ROWS]
    one = task(written(tmp_path / "a.jsonl", rows))
    for example in one.splits().dev:
        found = one.ordered(example)
        assert len(found) == len({*found}) == 6
        assert {*example["relevant"], *example["negatives"]} <= {*found}
        assert found == sorted(found)  # the order tells nothing
        right, *wrong = one.taught(example)
        assert right in example["relevant"]
        assert wrong == example["negatives"]
        own, *_ = one.alike(example, 1)
        assert {*one.texts[own].split()} & {*example["query"].split()}
    many = task(one.data, negatives=4).taught(example)
    assert len(many) == len({*many}) == 5


def test_a_folder_as_beir_has_it_is_ranked_with_its_grades(tmp_path: Path) -> None:
    one = task(beir(tmp_path / "b"))
    assert all({*example["relevant"]} <= {*one.ordered(example)} for example in one.splits().dev)
    assert len(one.searched(one.splits().dev)) <= 24


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"candidates": 101}, "candidates must be a whole number, 2 to 100; got 101"),
        ({"negatives": 0}, "negatives must be a whole number of at least 1; got 0"),
        ({"encoder": "cross"}, "encoder must be 'cross-encoder' or 'bi-encoder'; got 'cross'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        task("pysearch", **settings)


# Each kind of model


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_scores_in_a_batch_are_those_of_each_alone(name: Any, data: str, kind: str) -> None:
    of = tuned(task(data, kind), name(kind))
    rows = rows_of(of, answers=False)
    assert len({int(n) for n in rows.lengths[:12]}) > 3
    together = of.inference(of.model, rows.batch(range(12)))
    for i, score in enumerate(together):
        np.testing.assert_allclose(score, of.inference(of.model, rows.batch([i]))[0], atol=2e-5)
    if kind != "bi":
        assert np.std(together) > 1e-3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bi"])  # whose rows are not to be cut
def test_one_and_three_micro_batches_give_one_gradient(name: Any, data: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for count in (1, 3):
        of = tuned(task(data, kind), name(kind), max_grad_norm=1e9)
        rows = rows_of(of)
        assert len(rows) == 12
        cuts = np.array_split(np.arange(12), count)
        monkeypatch.setattr(
            tuning, "micro_batches", lambda rows, chosen, device, cuts=cuts, packed=False: [(cut, rows.batch(cut)) for cut in cuts]
        )
        monkeypatch.setattr(of.optimizer, "zero_grad", lambda set_to_none: None)
        total, _ = of.make_step(rows, np.arange(12), 4)
        found.append((total, {name: p.grad for name, p in of.parameters.items() if p.grad is not None}))
    (loss, gradients), (other, others) = found
    torch.testing.assert_close(loss, other, rtol=1e-5, atol=1e-6)
    for one in gradients:
        torch.testing.assert_close(gradients[one], others[one], rtol=1e-3, atol=1e-5)


LORA = peft("lora", learning_rate=3e-3, r=2, target_modules="all-linear")


@once_each(
    "method, kind", [full(learning_rate=3e-3), LORA], KINDS, label=lambda value: value if isinstance(value, str) else value.name
)
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one_and_its_weights_are_kept(
    name: Any, data: str, kind: str, method: Any, tmp_path: Path
) -> None:
    whole = recipe(task(data, kind), name(kind), method, epochs=2)
    state, last = None, None
    for checkpoint in train(whole):
        state = checkpoint.resume_state() if checkpoint.recipe.epochs == 1 else state
        torch.rand(3)
        last = (dict(checkpoint.scores), list(checkpoint.predictions), checkpoint.weights(), checkpoint.test())
    (rest,) = [(dict(c.scores), list(c.predictions), c.weights()) for c in train(whole, state)]
    assert last is not None
    assert rest[:2] == last[:2]
    assert all(torch.equal(rest[2][each], last[2][each]) for each in last[2])
    save_file(last[2], tmp_path / "w.safetensors")
    assert score_test_split(whole, tmp_path / "w.safetensors") == last[3]


@pytest.mark.parametrize("kind", ["cross", pytest.param("bi", marks=pytest.mark.slow)])
def test_it_learns(name: Any, kind: str, tmp_path: Path) -> None:
    rows = [
        each | {"positive": f"{each['positive']} w63 w63", "negative": [each["positive"].replace("w63", "w60"), f"w60 w6{i % 3}"]}
        for i, each in enumerate(ROWS)
    ]
    few = task(written(tmp_path / "a.jsonl", rows), kind, train=64, dev=10, temperature=0.2, candidates=3)
    made = recipe(few, name(kind), epochs=12)
    (untuned,) = train(recipe(made.task, name(kind), zero_shot()))
    *_, last = train(made)
    assert last.scores["dev_loss"] < untuned_loss(untuned.recipe)
    assert last.scores["mrr"] > max(80, untuned.scores["mrr"])


def test_a_decoders_score_is_by_how_much_yes_is_likelier_than_no(name: Any, data: str) -> None:
    of = tuned(task(data, "plain"), name("plain"))
    rows = rows_of(of, answers=False)
    text = of.processor.decode(rows.columns["input_ids"][0])
    assert text.startswith("Query: w")
    assert text.endswith("Does the document answer the query, yes or no?")
    # This tokeniser writes both answers with a blank before them, which is a token of its own.
    (blank, yes, *_), (same, no, *_) = (of.processor(f" {word}", add_special_tokens=False)["input_ids"] for word in ("yes", "no"))
    assert blank == same
    with torch.no_grad():
        ids = torch.tensor([[*rows.columns["input_ids"][0].tolist(), blank]])
        logits = of.model(ids).logits[0, -1].log_softmax(-1)
        (score,) = of.inference(of.model, rows.batch([0]))
    assert score == pytest.approx(float(logits[yes] - logits[no]), abs=1e-4)
    labelled = rows_of(of)
    targets = [row[row != -100].tolist() for row in labelled.columns["labels"]]
    assert [row[1] for row in targets[:3]] == [yes, no, no]


def test_shots_are_a_document_that_answers_and_one_that_does_not(name: Any, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(task(data, "plain"), name("plain"), few_shot(shots=1))
    with pytest.raises(UsageError, match="prompts is short enough"):  # here: two of them alone fill the context
        next(train(made))
    of = Tuning(made, CPU, None)
    monkeypatch.setattr(of.processor, "model_max_length", 1000)
    (shot,) = made.task.splits().train
    text = of.processor.decode(rows_of(of, answers=False, shots=[shot]).columns["input_ids"][0])
    assert text.count("yes or no?") == 3
    assert "yes or no? yes" in text
    assert text.index("yes or no? yes") < text.index("yes or no? no")


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_and_the_forecast_know_it(name: Any, data: str, kind: str) -> None:
    made = recipe(task(data, kind), name(kind))
    study = Study(made, maximize="mrr")
    (plan,) = pairs.plan(study)
    assert plan.problem == ""
    amounts = Forecaster(study).amounts(made)
    *_, last = train(made)
    if last.usage["evaluate"].work.flops is not None:
        assert amounts["evaluate"]["flops"] == pytest.approx(last.usage["evaluate"].work.flops, rel=0.01)
    assert "decoded" not in amounts["evaluate"]
