"""Recommendation: who is graded by what, embeddings of item texts, and counts without a word of text."""

import csv
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from workbench import Recipe, Study, choice, full, item_item, popularity, zero_shot
from workbench.data import fingerprints, load, models
from workbench.data.builtin import MODELS
from workbench.errors import DataError, UsageError
from workbench.forecast import pairs
from workbench.forecast.forecaster import Forecaster
from workbench.sweep import check_data
from workbench.tasks import classification, recommendation
from workbench.testing import tiny_model
from workbench.training import test as score_test_split
from workbench.training import train
from workbench.training.tuning import Tuning

torch = pytest.importorskip("torch")
from workbench.methods import counting  # noqa: E402  it needs torch

CPU = torch.device("cpu")
ITEMS = {f"i{k}": f"w{4 + k} w{20 + k % 3}" for k in range(16)}


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    load.cache_clear()
    fingerprints.look_again()


def habits(users: int = 40) -> list[tuple[str, str, int]]:
    """Everybody walks through the items of one of two lots in their order, from somewhere; and the newest item is had once."""
    rng, rows = random.Random(3), []
    for u in range(users):
        start, lot = rng.randrange(8), 8 * (u % 2)
        rows += [(f"u{u}", f"i{lot + (start + t) % 7}", 10 * t) for t in range(5)]
    return [*rows, ("u0", "i15", 99)]


def write(file: Path, head: str, rows: Any) -> None:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([head.split(","), *rows])


def folder(at: Path, rows: Any = None, head: str = "user,item,time", items: Any = None) -> str:
    at.mkdir(exist_ok=True)
    rows = list(habits() if rows is None else rows)
    random.Random(0).shuffle(rows)  # the order is told by time
    write(at / "interactions.csv", head, rows)
    write(at / "items.csv", "id,text", (items or ITEMS).items())
    return str(at)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


def task(of: str, **settings: Any) -> Any:
    return recommendation(of, **{"train": 64, "dev": 30, "test": 30, "max_length": 16} | settings)


def recipe(of: Any, model: str, method: Any, **more: Any) -> Recipe:
    return Recipe(task=of, model=model, method=method, **{"epochs": 1, "batch_size": 8, **more})


# Data


def test_the_last_item_of_a_user_is_for_test_and_the_one_before_for_dev(tmp_path: Path) -> None:
    rows = [("a", "i1", 5), ("a", "i2", 7), ("a", "i3", 6), ("a", "i4", 9), ("a", "i1", 20), ("b", "i5", 1), ("b", "i2", 2)]
    rows += [("c", "i2", 1), ("c", "i5", 2), ("c", "i6", 3), ("c", "nothing", 4)]
    one = task(folder(tmp_path / "d", rows), train=2)
    splits = one.splits()
    dev = {each["user"]: each for each in splits.dev}
    assert (dev["a"]["history"], dev["a"]["item"]) == (["i1", "i3"], "i2")
    assert {each["user"]: (each["history"], each["item"]) for each in splits.test} == {
        "a": (["i1", "i3", "i2"], "i4"),
        "c": (["i2", "i5"], "i6"),
    }
    # What is learned from are pairs of the rest, and all that a user has who is not graded.
    assert {(*each["history"], each["item"]) for each in splits.train} == {("i1", "i3"), ("i5", "i2")}
    assert (dev["a"]["cold"], {each["user"]: each["cold"] for each in splits.test}) == (False, {"a": True, "c": True})
    assert one.notes() == [
        "1 of 11 interactions are with an item without a text: left out.",
        "1 of 11 interactions repeat an item of the same user: left out.",
        "1 of 3 users have fewer than 3 items, and are not graded by.",
    ]


def test_dates_numbers_and_the_order_of_rows_tell_what_was_first(tmp_path: Path) -> None:
    def last(rows: Any, head: str = "user,item,time") -> str:
        file = tmp_path / "interactions.csv"
        write(tmp_path / "items.csv", "id,text", ITEMS.items())
        write(file, head, rows)
        load.cache_clear()
        fingerprints.look_again()
        return str(task(str(file), train=1).splits().test[0]["item"])

    names = ("i1", "i2", "i3", "i4")
    assert last([("a", n, f"2026-01-{9 - i:02d}T10:00:00Z") for i, n in enumerate(names)]) == "i1"
    assert last([("a", n, 10.5 - i) for i, n in enumerate(names)]) == "i1"
    assert last([("a", n, 7) for n in names]) == "i4"  # at one time: as the rows stand
    assert last([("a", n) for n in names], "user,item") == "i4"


def test_columns_and_files_can_be_named(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", "who,movieId,at", [("7", n[1:], t) for n, t in (("i1", 1), ("i2", 2), ("i3", 3), ("i4", 4))])
    write(tmp_path / "movies.csv", "movieId,title,genre", [(k, f"film {k}", "x") for k in range(9)])
    named = {"items": str(tmp_path / "movies.csv"), "user": "who", "time": "at"}
    one = task(str(tmp_path / "ratings.csv"), train=1, **named)
    assert (one.splits().test[0]["history"], one.texts["4"]) == (["1", "2", "3"], "film 4")
    before = one.digest()
    write(tmp_path / "movies.csv", "movieId,title", [(k, f"movie {k}") for k in range(9)])
    load.cache_clear()
    fingerprints.look_again()
    assert one.digest() != before  # the file of items is a part of the data


@pytest.mark.parametrize(
    "rows, head, said",
    [
        ([("a", "i1", "soon")], "user,item,time", "'time' must be a number or a date as in 2026-01-31"),
        ([("a", "", 1)], "user,item,time", "'item' must be text or a whole number, got str ''"),
        ([("a", "i1", 1)], "person,item,time", "has no column 'user'; it has 'person', 'item', 'time'"),
        ([("a", "x", 1)], "user,item,time", "none of 1 interactions is with an item that has a text"),
        ([("a", "i1", 1), ("a", "i2", 2)], "user,item,time", "has no user with enough items: 4 of one user are needed"),
    ],
)
def test_what_is_wrong_with_the_data_is_told(tmp_path: Path, rows: Any, head: str, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        task(folder(tmp_path / "d", rows, head)).splits()


def test_a_folder_without_items_and_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    at = Path(folder(tmp_path / "d"))
    (at / "items.csv").unlink()
    with pytest.raises(DataError, match=r"must have one file items.csv \(or .jsonl, .parquet, …\), and has none"):
        task(str(at)).splits()
    with pytest.raises(UsageError, match="history must be a whole number, 1 to 50; got 0"):
        task(str(at), history=0)
    with pytest.raises(UsageError, match="goes with a file of interactions"):
        task(str(at), items="items.csv").splits()
    with pytest.raises(UsageError, match=r"'pysearch' is one for retrieval\. For this task there is: pycalls"):
        task("pysearch").splits()


# Embeddings


def test_an_encoder_reads_the_latest_items_first_and_never_finds_what_was_had(data: str, tiny: str) -> None:
    one = task(data, history=2)
    formulation = one.formulation("encoder")
    example = one.splits().dev[0]
    before, last = example["history"][-2:]
    assert formulation.query(example) == f"{ITEMS[last]} {ITEMS[before]}"
    assert formulation.taught(example) == [example["item"]]
    (found,) = train(recipe(one, tiny, zero_shot()))
    for each, ranking in zip(one.splits().dev, found.predictions, strict=True):
        names = [name for name, _ in ranking]
        assert sorted(names) == sorted(ITEMS.keys() - {*each["history"]})  # all items, nothing sampled
        assert [score for _, score in ranking] == sorted((score for _, score in ranking), reverse=True)


def test_what_follows_on_what_is_learned(data: str, tiny: str) -> None:
    one = task(data, history=2)
    (asked,) = train(recipe(one, tiny, zero_shot()))
    *_, tuned = train(recipe(one, tiny, full(learning_rate=1e-2), epochs=6))
    assert tuned.scores["ndcg_at_10"] > asked.scores["ndcg_at_10"] + 10
    assert tuned.scores["dev_loss"] > 0


def test_how_often_an_item_was_had_counts_where_something_is_learned(data: str, tiny: str) -> None:
    def predicted(prior: float, method: Any, **more: Any) -> Any:
        found = next(iter(train(recipe(task(data, prior=prior), tiny, method, **more))))
        return [dict(ranking) for ranking in found.predictions]

    one = task(data, prior=0.5)
    had = [each["item"] for each in one.splits().train]
    share = {name: (had.count(name) + 1) / (len(had) + len(ITEMS)) for name in ITEMS}
    assert sum(share.values()) == pytest.approx(1)
    assert one.log_shares([*ITEMS]).tolist() == pytest.approx([0.5 * np.log(share[name]) for name in ITEMS])
    without, counted = (predicted(prior, full(learning_rate=1e-9), epochs=0.125) for prior in (0.0, 0.5))
    for cosines, scores in zip(without, counted, strict=True):
        for name, score in scores.items():
            assert score == pytest.approx(cosines[name] + one.temperature * 0.5 * np.log(share[name]), abs=1e-4)
    asked, nothing = (predicted(prior, zero_shot()) for prior in (1.0, 0.0))
    assert [[*each] for each in asked] == [[*each] for each in nothing]  # nothing is learned from, so all are equal


# Counts


def test_cosines_of_items_are_those_of_the_table_of_users(data: str) -> None:
    one = task(data, train=80)
    (found,) = train(recipe(one, "counts", item_item(neighbours=16)))
    names = [*one.texts]
    users = sorted({each["user"] for each in one.splits().train})
    had = np.zeros((len(users), len(names)))
    for each in one.splits().train:
        for name in (*each["history"], each["item"]):
            had[users.index(each["user"]), names.index(name)] = 1
    alike = cosine_similarity(had.T)
    for each, ranking in zip(one.splits().dev, found.predictions, strict=True):
        for name, score in ranking:
            expected = sum(alike[names.index(name), names.index(other)] for other in each["history"])
            assert score == pytest.approx(expected, abs=2e-6)
        assert not {name for name, _ in ranking} & {*each["history"]}


def test_what_most_users_had_is_recommended_to_all(tmp_path: Path) -> None:
    rows = [(f"u{u}", f"i{k}", k) for u in range(12) for k in range(16) if k >= 12 or u % (k + 1) == 0]
    one = task(folder(tmp_path / "d", rows), train=40, dev=5)
    had: dict[str, set[str]] = {}
    for each in one.splits().train:
        for name in (*each["history"], each["item"]):
            had.setdefault(name, set()).add(each["user"])
    (found,) = train(recipe(one, "counts", popularity()))
    for ranking in found.predictions:
        counts = [len(had.get(name, ())) for name, _ in ranking]
        assert counts == sorted(counts, reverse=True)


def test_histories_are_filled_up_without_a_trace() -> None:
    head = counting.ItemItem(5, count=3)
    histories = torch.tensor([[0, 1, -1], [0, 1, 2], [3, -1, -1]])
    head.fit(histories, torch.tensor([[0, 2], [1, 4], [2, 0]]))
    filled, alone = head(torch.tensor([[1, -1, -1, -1]])), head(torch.tensor([[1]]))
    assert torch.equal(filled, alone)
    assert alone[0, 3] < counting.LEAST < alone[0, 0]  # nobody who had 1 had 3
    few = counting.ItemItem(5, count=1)
    few.fit(histories, torch.tensor([[0, 2], [1, 4], [2, 0]]))
    assert (few(torch.tensor([[1]]))[0] > counting.LEAST).sum() == 1


def test_counts_are_graded_apart_for_cold_items_and_taken_up_again(data: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    one = task(data, train=80, test=40)
    found = next(iter(train(recipe(one, "counts", item_item()))))
    assert found.labels == 80
    assert found.trainable_parameters == 0
    tested = found.test()
    assert tested["cold_ndcg_at_10"] == 0  # i15, which nobody had before: counts cannot know it
    assert tested["ndcg_at_10"] > 50
    assert "cold_ndcg_at_10" not in found.scores  # no item of dev is
    save_file(found.weights(), tmp_path / "w.safetensors")
    assert score_test_split(found.recipe, tmp_path / "w.safetensors") == tested


def test_counts_beat_popularity_where_habits_differ(data: str) -> None:
    scores = [next(iter(train(recipe(task(data, train=80), "counts", m)))).scores["mrr"] for m in (popularity(), item_item())]
    assert scores[0] + 10 < scores[1]


def test_a_study_of_counts_and_encoders_is_planned_and_forecast(data: str, tiny: str) -> None:
    method = choice(popularity(), item_item(neighbours=choice(5, 20)), zero_shot(models=(tiny,)))
    study = Study(recipe(task(data), choice("counts", tiny), method), maximize="ndcg_at_10")
    assert all(plan.fits for plan in pairs.check(study))
    check_data(study)
    forecast = Forecaster(study).run(study.resolve({"model": "counts", "method": "item_item", "item_item.neighbours": 5}))
    assert forecast.seconds is not None
    assert 0 < forecast.seconds.value < 5
    assert forecast.parameters == 0
    made = study.resolve({"model": "counts", "method": "popularity"})
    assert made.inputs.keys() == {"data"}  # no file stands behind `counts`
    assert Tuning(made, CPU, None).shape is not None


def test_counts_and_language_are_told_apart(data: str, tiny: str, tmp_path: Path) -> None:
    write(tmp_path / "c.csv", "text,label", [(f"w{i} w4", "ab"[i % 2]) for i in range(40)])

    def told(model: str, method: Any, of: Any = None) -> str:
        (plan,) = pairs.plan(Study(recipe(of or task(data), model, method), maximize="ndcg_at_10" if of is None else "accuracy"))
        return plan.problem

    assert "'counts' is a model without language" not in told("counts", popularity())
    assert "cannot be with 'counts', a model without language" in told("counts", full(learning_rate=1e-3))
    assert "cannot be with 'counts', a model without language" in told("counts", zero_shot())
    assert "counts who had which item, which this model does not" in told(tiny, item_item(models=(tiny,)))
    assert "a model of kind 'counts'" in told("counts", popularity(), classification(str(tmp_path / "c.csv"), train=8))
    with pytest.raises(UsageError, match="'popularity' is for the model 'counts', which the study does not have"):
        Study(recipe(task(data), tiny, popularity()), maximize="mrr").dimensions  # noqa: B018
    with pytest.raises(UsageError, match="neighbours must be a whole number, at least 1; got 0"):
        item_item(neighbours=0)
    assert models.kind("counts") in models.KINDS
    assert "counts" not in MODELS
