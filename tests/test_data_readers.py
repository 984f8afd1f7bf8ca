"""Files and folders are read as they come, and every wrong one is named with its place."""

import json
import os
from pathlib import Path

import pytest

from workbench.data import hub, load, readers
from workbench.errors import DataError, EnvironmentFault, UsageError

FIXTURE = Path(__file__).parent / "fixtures" / "squad_v2.json"
REAL = os.environ.get("WORKBENCH_DATA")
real_data = pytest.mark.skipif(not REAL, reason="WORKBENCH_DATA does not name the folder with real data")

ROWS = [
    {
        "id": f"q{i}",
        "question": f"What is {i}?",
        "context": f"Fact {i} is here.",
        "answers": {"text": [str(i)], "answer_start": [5]},
    }
    for i in range(40)
]


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def squad(file, **changes):
    question = {"id": "q", "question": "Who?", "answers": [{"text": "Anna", "answer_start": 0}]} | changes
    file.write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": [{"context": "Anna was here.", "qas": [question]}]}]}))
    return str(file)


def everything(data):
    return sorted((*data.train, *data.dev, *data.test), key=lambda example: example["id"])


def test_squad_with_unanswerable_questions_and_several_gold_answers():
    examples = {example["id"]: example for example in everything(load(str(FIXTURE)))}
    assert len(examples) == 7
    assert examples["built"]["answers"] == {"text": ["1912", "in 1912"], "answer_start": [40, 37]}
    assert examples["height"]["answers"] == {"text": [], "answer_start": []}
    assert examples["cafe"]["question"] == "What does the café serve?"
    assert set(examples["cafe"]) == {"id", "question", "context", "answers"}


def test_no_paragraph_is_on_two_sides_and_the_split_is_always_the_same(tmp_path):
    rows = [{**row, "context": f"Fact {i} is {i // 4 * 4}."} for i, row in enumerate(ROWS)]
    rows = [
        {**row, "context": rows[i // 4 * 4]["context"], "answers": {"text": [], "answer_start": []}} for i, row in enumerate(rows)
    ]
    data = load(write(tmp_path / "a.jsonl", rows))
    contexts = [{example["context"] for example in side} for side in (data.train, data.dev, data.test)]
    assert all(contexts)
    assert sum(map(len, contexts)) == len(set.union(*contexts)) == 10
    assert (len(data.dev), len(data.test)) == (4, 4)
    other = load(write(tmp_path / "b.jsonl", rows[::-1]))
    assert {example["id"] for example in other.dev} == {example["id"] for example in data.dev}


def test_lines_parquet_and_flat_forms_give_the_same_examples(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    flat = [
        {
            "id": row["id"],
            "question": row["question"],
            "context": row["context"],
            "answer": row["answers"]["text"][0],
            "answer_start": 5,
        }
        for row in ROWS
    ]
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "nested.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(flat), tmp_path / "flat.parquet")
    (tmp_path / "list.json").write_text(json.dumps(ROWS))
    files = [
        write(tmp_path / "a.jsonl", ROWS),
        write(tmp_path / "b.ndjson", flat),
        *(str(tmp_path / n) for n in ("nested.parquet", "flat.parquet", "list.json")),
    ]
    found = [load(file) for file in files]
    assert all(everything(each) == everything(found[0]) for each in found)
    assert len({each.digest for each in found}) == 1


def test_a_folder_with_some_of_its_sides(tmp_path):
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "validation.jsonl", [{**ROWS[0], "id": "other"}])
    data = load(str(tmp_path))
    assert [example["id"] for example in data.dev] == ["other"]
    assert len(data.train) + len(data.test) == 40
    assert data.test


def test_digest_is_of_the_content(tmp_path):
    one, same, other = (write(tmp_path / f"{n}.jsonl", rows) for n, rows in (("a", ROWS), ("b", ROWS), ("c", ROWS[:-1])))
    assert load(one).digest == load(same).digest != load(other).digest


def test_order_depends_on_ids_and_seed_alone(tmp_path):
    data = load(write(tmp_path / "a.jsonl", ROWS))
    fewer = load(write(tmp_path / "b.jsonl", ROWS[:30]))
    order = [example["id"] for example in data.shuffled("train", 0)]
    assert order != [example["id"] for example in data.shuffled("train", 1)]
    kept = {example["id"] for example in fewer.train} & set(order)
    assert [n for n in order if n in kept] == [example["id"] for example in fewer.shuffled("train", 0) if example["id"] in kept]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"answers": [{"text": "Anna", "answer_start": 5}]}, r"question q: the answer 'Anna' is not at its offset 5: found 'was '"),
        ({"answers": [{"text": "Anna", "answer_start": -14}]}, "not at its offset -14"),
        ({"answers": [{"text": "here.", "answer_start": 900}]}, "found ''"),
        ({"answers": [{"text": "", "answer_start": 0}]}, "not at its offset"),
        ({"answers": [{"text": "Anna"}]}, "needs 'text' and 'answer_start'"),
        ({"answers": [{"text": "Anna", "answer_start": "0"}]}, "whole number"),
        ({"answers": {"text": ["Anna"], "answer_start": []}}, "lists of one length"),
        ({"answers": 3}, "needs 'text' and 'answer_start'"),
        ({"question": None}, "'question' must be text, got NoneType"),
    ],
)
def test_a_wrong_example_is_named(tmp_path, changes, says):
    file = squad(tmp_path / "bad.json", **changes)
    with pytest.raises(DataError, match=says) as error:
        load(file)
    assert file in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b'{"data": [\n  {"paragraphs": [\n', "line 3"),
        ("a.json", b"", "line 1"),
        ("a.json", b"\xff\xfe\x00", "byte 0 is not UTF-8"),
        ("a.json", b'{"rows": []}', "neither SQuAD"),
        ("a.json", b'{"data": [{"context": 3}]}', "article 0: 'paragraphs' must be a list"),
        ("a.json", b'{"data": [{"paragraphs": [{"qas": []}]}]}', "paragraph 0: 'context' must be a str"),
        ("a.json", b'{"data": []}', "holds no question"),
        ("a.jsonl", b'{"id": 1}\n{"id": \n', "'context' must be text"),
        ("a.jsonl", b'{"id": 1, "question": "q", "context": "c", "answers": []}\n{"id": \n', "line 2, column 8"),
        ("a.jsonl", b'{"id": 1, "question": "q", "context": "c", "answer": []}\n[1]\n', "must be an object"),
        ("a.jsonl", b'{"id": 1, "question": "q", "context": "c", "anwers": []}\n', "Did you mean 'anwers'"),
        ("a.jsonl", b'{"id": 1, "question": "q", "context": "c", "answers": []}\n' * 2, "two questions have this id"),
        ("a.jsonl", b'{"id": 1, "question": "q", "context": "c", "answers": []}\n', "too few paragraphs"),
        ("a.parquet", b"PAR1 but not really", "not a parquet file"),
        ("a.csv", b"a,b", "cannot read a .csv file"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        load(str(tmp_path / name))


def test_a_missing_file_and_an_empty_folder_say_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"no file or folder .*nowhere.json.*pydocs"):
        load(str(tmp_path / "nowhere.json"))
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(DataError, match=r"looked for train.json, train.jsonl.*; there is readme.txt"):
        load(str(tmp_path))


def test_a_hub_name_on_a_machine_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"'pydoc'. Did you mean 'pydocs'\?.*cannot be reached"):
        load("pydoc")
    with pytest.raises(EnvironmentFault, match="cannot be reached"):
        load("some/squad")


def test_a_hub_data_set_is_read_by_its_splits(monkeypatch):
    import datasets

    monkeypatch.setattr(hub, "require", lambda *args, **more: None)
    made = datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS[:30]), validation=datasets.Dataset.from_list(ROWS[30:]))
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, configuration: made if (name, configuration) == ("a/b", "c") else None
    )
    data = load("a/b:c")
    assert len(data.dev) == 10
    assert len(data.train) + len(data.test) == 30
    assert data.dev[0] == ROWS[30]


def test_a_hub_data_set_that_does_not_load(monkeypatch):
    import datasets

    def fails(*args):
        raise ValueError("Config name is missing.\nmore")

    monkeypatch.setattr(hub, "require", lambda *args, **more: None)
    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(UsageError, match=r"Config name is missing\.$"):
        load("a/b")


@real_data
@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("xquad.en.json", 1190),
        ("xquad.de.json", 1190),
        ("xquad.zh.json", 1190),
        ("restaurant8k/train_0.squad.json", None),
        ("restaurant8k/test.squad.json", None),
    ],
)
def test_real_files(file, count):
    data = load(str(Path(REAL) / "text" / file))
    total = len(data.train) + len(data.dev) + len(data.test)
    assert total == count if count else total > 1000
    assert 0.07 < len(data.dev) / total < 0.13
    assert readers.load(str(Path(REAL) / "text" / file)) is data
