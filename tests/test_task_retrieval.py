"""Retrieval by embeddings: what is searched, what is learned, how it is graded, and what is refused."""

import json
import pickle
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench import Recipe, Study, bitfit, choice, few_shot, full, head, peft, zero_shot
from workbench.data import fingerprints, load, models, poolings, pysearch
from workbench.data.searches import Searches
from workbench.errors import DataError, UsageError
from workbench.forecast import pairs
from workbench.forecast.calibration import calibrate
from workbench.forecast.forecaster import Forecaster
from workbench.forecast.sample import sampled
from workbench.objectives import NO_TARGET, InBatchNegatives, pooled
from workbench.sweep import check_data
from workbench.tasks import retrieval
from workbench.tasks.ranking_scores import ranking_scores
from workbench.testing import tiny_decoder, tiny_model
from workbench.training import test as score_test_split
from workbench.training import train
from workbench.training.grading import questions
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    load.cache_clear()
    fingerprints.look_again()


def row(i: int, **more: Any) -> dict[str, Any]:
    """A query of two words, and a document that holds both among others."""
    rng = random.Random(i)
    a, b = 4 + i % 50, 4 + (i * 7 + 3 + i // 50 * 5) % 50
    noise = [f"w{rng.randrange(54, 64)}" for _ in range(rng.randrange(2, 9))]
    return {"query": f"w{a} w{b}", "positive": " ".join([f"w{b}", *noise, f"w{a}"]), **more}


ROWS = [row(i) for i in range(100)]


def written(file: Path, rows: Any = ROWS) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def beir(folder: Path) -> str:
    """The same pairs in BEIR's layout, with two documents that nobody asks for and grades."""
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{i}", "title": f"w{60 + i % 3}", "text": each["positive"]} for i, each in enumerate(ROWS)]
    written(folder / "corpus.jsonl", [*corpus, {"_id": "x", "title": "", "text": "w4 w5"}, {"_id": "y", "text": "w6"}])
    written(folder / "queries.jsonl", [{"_id": f"q{i}", "text": f"{each['query']} w{i % 9 + 54}"} for i, each in enumerate(ROWS)])
    head = "query-id\tcorpus-id\tscore\n"
    for side, numbers in {"train": range(60), "dev": range(60, 80), "test": range(80, 100)}.items():
        text = "".join(f"q{i}\td{i}\t2\nq{i}\td{(i + 50) % 100}\t{i % 2}\n" for i in numbers)
        (folder / "qrels" / f"{side}.tsv").write_text(head + text)
    return str(folder)


def task(data: str, **settings: Any) -> Any:
    return retrieval(data, **{"train": 32, "dev": 8, "test": 8, "max_length": 16} | settings)


def recipe(of: Any, model: str, method: Any = None, **more: Any) -> Recipe:
    settings = {"epochs": 1, "batch_size": 8, **more}
    return Recipe(task=of, model=model, method=method or full(learning_rate=3e-3), **settings)


def tuned(of: Any, model: str, **more: Any) -> Tuning:
    made = Tuning(recipe(of, model, **more), CPU, None)
    made.model.eval()
    return made


# Data


def test_pairs_of_a_table_are_examples_and_their_texts_documents(tmp_path: Path) -> None:
    one = task(written(tmp_path / "a.jsonl"))
    splits = one.splits()
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (32, 8, 8)
    (example, *_) = splits.train
    ((name, grade),) = example["relevant"].items()
    assert grade == 1
    assert one.texts[name] == next(each["positive"] for each in ROWS if each["query"] == example["query"])
    assert len(one.texts) == len({each["positive"] for each in ROWS})
    assert list(task(str(tmp_path / "a.jsonl"), train=64).splits().train[:32]) == list(splits.train)
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_query_stands_on_one_side_and_is_graded_with_all_of_its_documents(tmp_path: Path) -> None:
    rows = [each | {"positive": f"{each['positive']} w{k}"} for each in ROWS for k in (4, 5)]
    one = task(written(tmp_path / "a.jsonl", rows), train=10, dev=99, test=99)
    splits = one.splits()
    queries = [[each["query"] for each in side] for side in (task(one.data, train=120).splits().train, splits.dev, splits.test)]
    assert not {*queries[0]} & {*queries[1]}
    assert len(queries[1]) == len({*queries[1]})
    assert all(len(each["relevant"]) >= 2 for each in splits.dev)
    assert all(len(each["relevant"]) == 1 for each in splits.train)


def test_a_folder_as_beir_has_it_is_read_with_grades_and_all_documents(tmp_path: Path) -> None:
    one = task(beir(tmp_path / "b"), train=64, dev=20, test=20)
    splits = one.splits()
    assert len(one.texts) == 102
    assert one.texts["d7"] == f"w61 {ROWS[7]['positive']}"
    assert {grade for each in splits.dev for grade in each["relevant"].values()} == {1, 2}
    assert sum(len(each["relevant"]) for each in splits.dev) == 30  # judged 0 is no answer
    assert one.formulation("encoder").taught(splits.dev[0])[0] == max(splits.dev[0]["relevant"], key=splits.dev[0]["relevant"].get)
    assert [*one.notes()] == []
    fewer = task(one.data, documents=40)
    assert "searched in 40 of 102 documents, which is easier" in fewer.notes()[-1]
    found = fewer.searched(fewer.splits().dev)
    assert len(found) == len({*found}) == 40
    assert {name for each in fewer.splits().dev for name in each["relevant"]} <= {*found}
    assert fewer.digest() == one.digest()


@pytest.mark.parametrize(
    "file, text, said",
    [
        ("corpus.jsonl", '{"_id": "a"}\n', "corpus.jsonl, row 1: 'text' must be text, got NoneType"),
        ("corpus.jsonl", '{"text": "a"}\n', "corpus.jsonl, row 1: '_id' must be text or a whole number"),
        ("qrels/train.tsv", "q0\td0\t1\nq1\td1\t1\n", "named in the first line"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq0\td0\tbest\n", "'score' must be a whole number, got 'best'"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq0\tz0\t1\nq1\tz\t1\n", "too many to be left out"),
        ("queries.jsonl", None, "has a corpus and qrels/, and no queries.jsonl"),
        ("qrels/train.tsv", None, "has no training file"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_with_the_place(tmp_path: Path, file: str, text: str | None, said: str) -> None:
    one = task(beir(tmp_path / "b"))
    if text is None:
        (tmp_path / "b" / file).unlink()
    else:
        (tmp_path / "b" / file).write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        one.splits()


@pytest.mark.parametrize(
    "rows, said",
    [
        ([{"text": "a", "label": "b"}], "has no column 'query'"),
        ([each | {"negative": 3} for each in ROWS], "'negative' must be text, or texts in a list, got '3'"),
        ([{"query": f"w{i}", "positive": "w5"} for i in range(4, 60)], "holds only one document"),
    ],
)
def test_a_table_that_is_none_of_queries_is_refused(tmp_path: Path, rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        task(written(tmp_path / "a.jsonl", rows)).splits()


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"documents": 1}, "documents must be a whole number of at least 2, or None for all; got 1"),
        ({"temperature": 0}, "temperature must be a number above 0; got 0"),
        ({"max_length": 2}, "max_length must be a whole number of at least 8; got 2"),
        ({"before": "query: "}, 'give what stands before a query and before a document: ("query: ", "passage: ")'),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        task("pysearch", **settings)


def test_pysearch_asks_for_functions_by_what_they_do() -> None:
    sides = pysearch.build(("networkx",))
    documents = {each["id"]: each["text"] for each in sides["documents"]}
    examples = [each for side in ("train", "dev", "test") for each in sides[side]]
    assert len(examples) == len(documents) == pysearch.PER_PACKAGE
    assert all(documents[each["id"]] and [*each["relevant"]] == [each["id"]] for each in examples)
    assert len({each["query"].casefold() for each in examples}) == len(examples)


# What is learned


def test_the_loss_is_that_of_sentence_transformers() -> None:
    rng = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(10, 8, generator=rng), dim=-1)
    labels = torch.tensor([[0, 10], [NO_TARGET, 10], [NO_TARGET, 20]] * 3 + [[0, 10]])
    for i in range(3):  # a query, its document and a hard negative, three times
        labels[3 * i : 3 * i + 3] = torch.tensor([[i, 10 + i], [NO_TARGET, 10 + i], [NO_TARGET, 20 + i]])
    vectors, labels = vectors[:9], labels[:9]
    queries, right, wrong = (vectors[k::3] for k in range(3))
    scores = queries @ torch.cat([right, wrong]).T / 0.05
    theirs = torch.nn.functional.cross_entropy(scores, torch.arange(3), reduction="sum")
    ours = InBatchNegatives().loss(vectors, {"labels": labels})
    torch.testing.assert_close(ours, theirs)
    order = torch.randperm(9, generator=rng)
    torch.testing.assert_close(InBatchNegatives().loss(vectors[order], {"labels": labels[order]}), theirs)


def test_what_is_right_is_no_negative() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    loss = InBatchNegatives()
    # One query with two documents, and another: of the first pair the second document is left out, and the other way round.
    labels = torch.tensor([[0, 5], [NO_TARGET, 5], [0, 6], [NO_TARGET, 6], [1, 7], [NO_TARGET, 7]])
    scores = vectors[0::2] @ vectors[1::2].T / 0.05
    scores[0, 1] = scores[1, 0] = -torch.inf
    wanted = torch.nn.functional.cross_entropy(scores, torch.arange(3), reduction="sum")
    torch.testing.assert_close(loss.loss(vectors, {"labels": labels}), wanted)
    # A document that stands there twice counts once.
    twice = torch.tensor([[0, 5], [NO_TARGET, 5], [1, 5], [NO_TARGET, 5], [2, 7], [NO_TARGET, 7]])
    same = vectors.clone()
    same[3] = same[1]
    scores = same[0::2] @ same[[1, 5]].T / 0.05
    wanted = torch.nn.functional.cross_entropy(scores, torch.tensor([0, 0, 1]), reduction="sum")
    torch.testing.assert_close(loss.loss(same, {"labels": twice}), wanted)


def test_rows_are_queries_with_their_documents_and_hard_negatives(tmp_path: Path, tiny: str) -> None:
    rows = [each | {"negative": [ROWS[(i + 1) % 100]["positive"], "w4 w4"]} for i, each in enumerate(ROWS)]
    one = task(written(tmp_path / "a.jsonl", rows), before=("w60 ", "w61 "))
    formulation, examples = one.formulation("encoder"), one.splits().train[:2]
    rows = formulation.encode(examples, models.tokenizer(tiny))
    assert rows.together
    assert rows.example.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert rows.items.tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert [ids[0] for ids in rows.columns["input_ids"]] == [60, 61, 61, 61] * 2
    labels = rows.columns["labels"]
    assert labels[0, 1] == labels[1, 1]
    assert labels[3].tolist() == labels[7].tolist()  # the same text is the same document
    asked = formulation.encode(examples, models.tokenizer(tiny), answers=False)
    assert asked.example.tolist() == [0, 1] + [2] * len(one.texts)
    assert asked.items.sum() == 0
    assert len(asked.of_example(1)) == 1


@torch.no_grad()
def test_vectors_in_a_batch_are_those_of_each_alone(tmp_path: Path, tiny: str) -> None:
    of = tuned(task(written(tmp_path / "a.jsonl")), tiny)
    rows = of.formulation.encode(of.recipe.task.splits().dev, of.processor, answers=False)
    together = of.inference(of.model, rows.batch(range(12)))
    assert len({int(n) for n in rows.lengths[:12]}) > 3
    for i, vector in enumerate(together):
        np.testing.assert_allclose(vector, of.inference(of.model, rows.batch([i]))[0], atol=1e-5)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_a_step_is_not_cut_and_the_dev_loss_does_not_depend_on_how_it_is(tmp_path: Path, tiny: str, monkeypatch: Any) -> None:
    from workbench.training import batches

    of = tuned(task(written(tmp_path / "a.jsonl")), tiny)
    rows = of.formulation.encode(of.recipe.task.splits().train[:8], of.processor)
    (piece,) = batches.micro_batches(rows, np.arange(len(rows)), CPU)
    assert len(piece[0]) == len(rows)
    dev = questions(of.formulation, of.recipe.task.splits().dev, of.processor)
    whole = of.evaluate(dev, lambda: 0.0)[0]
    monkeypatch.setitem(batches.MAX_TOKENS, "cpu", 24)
    cut = of.evaluate(dev, lambda: 0.0)[0]
    assert cut == pytest.approx(whole, abs=1e-4)
    of.model.eval()
    batch = dev.labelled.batch(range(len(dev.labelled)))
    with torch.no_grad():
        direct = of.objective.loss(of.objective.forward(of.model, batch), batch) / len(dev.examples)
    assert whole["dev_loss"] == pytest.approx(float(direct), abs=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(full(learning_rate=3e-3), marks=pytest.mark.slow),
        peft("lora", learning_rate=3e-3, r=2, target_modules="all-linear"),
    ],
)
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(tmp_path: Path, tiny: str, method: Any) -> None:
    whole = recipe(task(written(tmp_path / "a.jsonl")), tiny, method, epochs=2)
    state, last = None, None
    for checkpoint in train(whole):
        state = checkpoint.resume_state() if checkpoint.recipe.epochs == 1 else state
        torch.rand(3)
        last = (dict(checkpoint.scores), list(checkpoint.predictions), checkpoint.weights())
    (rest,) = [(dict(c.scores), list(c.predictions), c.weights()) for c in train(whole, state)]
    assert last is not None
    assert rest[:2] == last[:2]
    assert all(torch.equal(rest[2][each], last[2][each]) for each in last[2])


def test_it_learns_and_its_kept_weights_find_the_same(tmp_path: Path, tiny: str) -> None:
    from safetensors.torch import save_file

    made = recipe(task(written(tmp_path / "a.jsonl"), train=64, temperature=0.1), tiny, epochs=12)
    (untuned,) = train(recipe(made.task, tiny, zero_shot()))
    *_, last = train(made)
    assert last.scores["ndcg_at_10"] > untuned.scores["ndcg_at_10"] + 10
    assert untuned.labels == 0
    save_file(last.weights(), tmp_path / "w.safetensors")
    assert score_test_split(made, tmp_path / "w.safetensors") == last.test()


@pytest.mark.parametrize(
    "method", ["prompt_tuning", "lora", *(pytest.param(m, marks=pytest.mark.slow) for m in ("prefix_tuning", "p_tuning", "ia3"))]
)
def test_pefts_methods_make_vectors_that_do_not_depend_on_their_batch(tmp_path: Path, tiny: str, method: str) -> None:
    more: dict[str, Any] = {"num_virtual_tokens": 3} if method.endswith("tuning") else {}
    made = recipe(task(written(tmp_path / "a.jsonl")), tiny, peft(method, learning_rate=1e-2, **more))
    (plan,) = pairs.plan(Study(made, maximize="mrr"))
    assert plan.problem == ""
    of = Tuning(made, CPU, None)
    of.model.eval()
    rows = of.formulation.encode(made.task.splits().dev, of.processor, answers=False)
    with torch.no_grad():
        together = of.inference(of.model, rows.batch(range(8)))
        for i, vector in enumerate(together):
            np.testing.assert_allclose(vector, of.inference(of.model, rows.batch([i]))[0], atol=1e-5)
    *_, last = train(made)
    assert last.step == 4


# How a vector is made


@pytest.mark.parametrize(
    "stated, wanted",
    [
        (None, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
    ],
)
def test_a_folder_says_how_its_tokens_are_pooled(tmp_path: Path, stated: Any, wanted: str) -> None:
    name = tiny_model(tmp_path / "m")
    before = fingerprints.model(name)
    if stated:
        (tmp_path / "m" / "1_Pooling").mkdir()
        (tmp_path / "m" / poolings.FILES[1]).write_text(json.dumps(stated))
    assert models.pooling(name) == wanted
    fingerprints.look_again()
    assert (fingerprints.model(name) != before) == (wanted == "cls")  # another model comes of it
    of = tuned(task(written(tmp_path / "a.jsonl")), name)
    rows = of.formulation.encode(of.recipe.task.splits().dev, of.processor, answers=False)
    with torch.no_grad():
        hidden = of.model(**rows.batch([0])).last_hidden_state
        wanted_vector = torch.nn.functional.normalize(pooled(hidden, None, wanted), dim=-1)[0]
        np.testing.assert_allclose(of.inference(of.model, rows.batch([0, 20]))[0], wanted_vector, atol=1e-5)


@pytest.mark.parametrize(
    "file, content, said",
    [
        (poolings.FILES[1], '{"pooling_mode": "lasttoken"}', "pooled by lasttoken (1_Pooling/config.json); mean and cls are known"),
        (poolings.FILES[1], '{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}', "pooled by mean and cls"),
        (poolings.FILES[1], "{", "is not JSON that can be read"),
        (poolings.FILES[0], '[{"type": "sentence_transformers.models.Dense"}]', "made by a module Dense (modules.json)"),
    ],
)
def test_other_ways_to_pool_are_refused_by_the_plan(tmp_path: Path, file: str, content: str, said: str) -> None:
    name = tiny_model(tmp_path / "m")
    (tmp_path / "m" / "1_Pooling").mkdir()
    (tmp_path / "m" / file).write_text(content)
    with pytest.raises(UsageError, match=re.escape(said)):
        pairs.check(Study(recipe(task(written(tmp_path / "a.jsonl")), name), maximize="mrr"))


def test_an_encoder_saved_without_its_pooler_makes_the_same_vectors(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    name, file = tiny_model(tmp_path / "m"), tmp_path / "m" / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if not k.startswith("pooler")}, file, metadata={"format": "pt"})
    assert models.build(name, "AutoModel").name_or_path == name
    weights = {k: v for k, v in load_file(file).items() if "layer.1." not in k}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match="which would be random"):
        models.build(name, "AutoModel")


# How it is graded


def test_scores_are_those_of_trec_eval_by_hand() -> None:
    ranking = (("a", 3.0), ("b", 2.0), ("c", 1.0))
    assert ranking_scores([{"b": 1}], [ranking], (1, 2)) == pytest.approx(
        {"ndcg_at_10": 100 / np.log2(3), "mrr": 50.0, "recall_at_1": 0.0, "recall_at_2": 100.0}
    )
    graded = ranking_scores([{"a": 1, "c": 2, "z": 1}], [ranking])  # one that is not found at all
    gain, best = 1 + 2 / np.log2(4), 2 + 1 / np.log2(3) + 1 / np.log2(4)
    assert graded == pytest.approx({"ndcg_at_10": 100 * gain / best, "mrr": 100.0})
    both = ranking_scores([{"b": 1}, {"a": 1}], [ranking, ranking])
    assert both["mrr"] == pytest.approx(75)


def test_predictions_are_the_nearest_documents(tmp_path: Path, tiny: str) -> None:
    made = recipe(task(written(tmp_path / "a.jsonl"), documents=20), tiny, zero_shot())
    (only,) = train(made)
    assert len(only.predictions) == 8
    for ranking in only.predictions:
        assert len(ranking) == 20
        assert [score for _, score in ranking] == sorted((score for _, score in ranking), reverse=True)
    json.dumps(only.predictions)
    assert {*only.scores} == {"ndcg_at_10", "mrr", "recall_at_1", "recall_at_10"}


def test_scores_by_group(tmp_path: Path, tiny: str) -> None:
    rows = [each | {"group": "ab"[i % 2]} for i, each in enumerate(ROWS)]
    (only,) = train(recipe(task(written(tmp_path / "a.jsonl", rows)), tiny, zero_shot()))
    assert only.scores["worst_group_mrr"] <= only.scores["mrr"]


# What it takes


def test_the_corpus_is_embedded_once_a_checkpoint_and_metered(tmp_path: Path, tiny: str) -> None:
    made = recipe(task(written(tmp_path / "a.jsonl")), tiny, epochs=2)
    for checkpoint in train(made):
        dev, formulation = made.task.splits().dev, made.task.formulation("encoder")
        words = models.tokenizer(tiny)
        asked, labelled = formulation.encode(dev, words, answers=False), formulation.encode(dev, words)
        assert checkpoint.usage["evaluate"].work.tokens == asked.lengths.sum() + labelled.lengths.sum()
        assert checkpoint.usage["evaluate"].work.examples == len(dev)


def test_a_forecast_counts_the_corpus_once(tmp_path: Path, tiny: str) -> None:
    one = task(written(tmp_path / "a.jsonl"))
    made = recipe(one, tiny)
    data = sampled(made)
    assert len(data.asked) == len(data.dev) == 8
    assert len(data.shared) == len(one.texts)
    study = Study(made, maximize="mrr")
    evaluate = Forecaster(study).amounts(made)["evaluate"]
    *_, checkpoint = train(made)
    assert evaluate["flops"] == pytest.approx(checkpoint.usage["evaluate"].work.flops, rel=1e-6)
    assert "decoded" not in evaluate
    forecast = Forecaster(study).run(made)
    assert forecast.flops == pytest.approx(sum(checkpoint.usage[p].work.flops for p in ("train", "evaluate")), rel=0.1)
    assert forecast.peak_memory_bytes is not None
    timed = calibrate(study, 0.01)
    assert {each.phase for each in timed.timings} == {"load", "data", "train", "evaluate"}


# What is refused


def test_models_that_make_no_embeddings_and_methods_without_use_are_told(tmp_path: Path, tiny: str) -> None:
    writer = tiny_decoder(tmp_path / "w")
    one = task(written(tmp_path / "a.jsonl"))
    methods = choice(zero_shot(), head(learning_rate=1e-3), bitfit(learning_rate=1e-3), few_shot(shots=2))
    found = {(p.model, p.method): p.problem for p in pairs.plan(Study(recipe(one, choice(tiny, writer), methods), maximize="mrr"))}
    assert found[tiny, "zero_shot"] == found[tiny, "bitfit"] == ""
    assert "'head' has nothing to tune in this model" in found[tiny, "head"]
    assert "'few_shot' puts examples before questions" in found[tiny, "few_shot"]
    assert found[writer, "bitfit"] == "a model of kind 'decoder' makes no embeddings of texts. Choose an encoder."


def test_texts_that_lose_their_end_are_told(tmp_path: Path, tiny: str) -> None:
    one = task(written(tmp_path / "a.jsonl"), max_length=8)
    said, *_ = [each for each in check_data(Study(recipe(one, tiny), maximize="mrr")) if "lose a part" in each]
    assert "longer than max_length=8" in said
    assert isinstance(one.form, Searches)
