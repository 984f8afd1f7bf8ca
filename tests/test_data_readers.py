"""Files and folders are read as they come, and every wrong one is named with its place."""

import gzip
import hashlib
import json
import os
import random
import stat
from decimal import Decimal
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
    with pytest.raises(UsageError, match=r"there is no data set 'pydoc'. Did you mean 'pydocs'\?"):
        load("pydoc")
    with pytest.raises(EnvironmentFault, match=r"cannot be reached .* here there is no data set 'some/squad'"):
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


def test_a_hub_data_set_is_read_without_bars(monkeypatch, capfd):
    import datasets
    from datasets.utils import tqdm

    def fetched(name, configuration):
        return datasets.DatasetDict(train=datasets.Dataset.from_list([*tqdm(ROWS)]))

    datasets.enable_progress_bars()
    monkeypatch.setattr(hub, "require", lambda *args, **more: None)
    monkeypatch.setattr(datasets, "load_dataset", fetched)
    assert load("a/c").train
    assert capfd.readouterr() == ("", "")


def test_a_hub_data_set_that_does_not_load(monkeypatch):
    import datasets

    def fails(*args):
        raise ValueError("Config name is missing.\nmore")

    monkeypatch.setattr(hub, "require", lambda *args, **more: None)
    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(UsageError, match=r"Config name is missing\.$"):
        load("a/b")


FOUND = {"id": "q", "question": "Who?", "context": "Anna was here.", "answers": {"text": ["Anna"], "answer_start": [0]}}
NONE = {"text": [], "answer_start": []}
FLAT = {key: FOUND[key] for key in ("id", "question", "context")}
NAN = float("nan")


def one(tmp_path, row, name="a.jsonl"):
    """The example that a row is read as, beside others."""
    data = load(write(tmp_path / name, [row, *ROWS]))
    (found,) = [example for example in everything(data) if not example["id"].startswith("q") or example["id"] == "q"]
    return found


@pytest.mark.parametrize("value", [False, 0, 0.0, None, NAN, "False", "false", "FALSE", "0", "no", " No "])
def test_is_impossible_that_is_false_keeps_the_answer(tmp_path, value):
    assert one(tmp_path, {**FOUND, "is_impossible": value}) == FOUND


@pytest.mark.parametrize("value", [True, 1, 1.0, None, NAN, "True", "true", "TRUE", "1", "yes", "YES"])
def test_is_impossible_that_is_true_goes_with_no_answer(tmp_path, value):
    assert one(tmp_path, {**FOUND, "answers": NONE, "is_impossible": value})["answers"] == NONE


@pytest.mark.parametrize("changes", [{"is_impossible": True}, {"is_impossible": "yes", "answers": None, "plausible_answers": [1]}])
def test_a_question_that_is_impossible_needs_no_answers(tmp_path, changes):
    assert one(tmp_path, {**FLAT, **changes})["answers"] == NONE


@pytest.mark.parametrize("answer", ["", None, NAN, []])
def test_a_flat_answer_that_is_not_there_is_none(tmp_path, answer):
    assert one(tmp_path, {**FLAT, "answer": answer, "answer_start": NAN})["answers"] == NONE


def test_whole_numbers_that_a_table_wrote_as_reals_are_read(tmp_path):
    assert one(tmp_path, {**FLAT, "id": 7, "answer": "was", "answer_start": 5.0})["answers"] == {
        "text": ["was"],
        "answer_start": [5],
    }
    assert json.dumps(one(tmp_path, {**FLAT, "answer": "was", "answer_start": 5.0}, "b.jsonl")["answers"]["answer_start"]) == "[5]"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        *(
            ({"is_impossible": value}, "'is_impossible' must be true or false")
            for value in ("", "maybe", "null", 2, -1, 0.5, [], {})
        ),
        ({"is_impossible": True}, "'is_impossible' is True, and there is the answer 'Anna'"),
        ({"is_impossible": "1"}, "'is_impossible' is True, and there is the answer 'Anna'"),
        ({"is_impossible": False, "answers": NONE}, "'is_impossible' is False, and there is no answer"),
        ({"is_impossible": "no", "answers": []}, "'is_impossible' is False, and there is no answer"),
        *(
            ({"id": value}, "'id' must be text or a whole number")
            for value in ([], ["q"], {"a": 1}, True, False, 1.5, float("inf"))
        ),
        ({"id": "q\ud83d"}, r"'id' is not text: at 1 it has '\\ud83d'"),
        ({"context": "Anna was here. \ud83d"}, r"question q: 'context' is not text: at 15 it has '\\ud83d', half a character"),
        ({"question": "\udc00?"}, "'question' is not text"),
        ({"answers": {"text": ["\ud83d"], "answer_start": [0]}}, "'text' is not text"),
        ({"context": NAN}, "'context' must be text, got NaN"),
        ({"question": 3}, "'question' must be text, got int"),
        ({"question": ["Who?"]}, "'question' must be text, got list"),
        ({"answers": None}, "'answers' is NoneType"),
        ({"answers": NAN}, "'answers' is NaN"),
        ({"answers": ""}, "in a list, got str"),
        ({"answers": 0}, "in a list, got int"),
        ({"answers": False}, "in a list, got bool"),
        ({"answers": {}}, "must be lists of one length"),
        ({"answers": '{"text": ["Anna"], "answer_start": [0]}'}, "looks like JSON kept as text"),
        ({"answers": {"text": "A", "answer_start": [0]}}, "must be lists of one length"),
        ({"answers": {"text": ["Anna"], "answer_start": 0}}, "must be lists of one length"),
        ({"answers": {"text": None, "answer_start": None}}, "must be lists of one length"),
        ({"answers": {"text": [None], "answer_start": [0]}}, "'text' must be text, got NoneType"),
        ({"answers": {"text": [NAN], "answer_start": [0]}}, "'text' must be text, got NaN"),
        ({"answers": ["Anna"]}, "needs 'text' and 'answer_start'"),
        ({"answers": [None]}, "needs 'text' and 'answer_start'"),
        *(
            ({"answers": {"text": ["Anna"], "answer_start": [start]}}, "'answer_start' a whole number")
            for start in (True, False, None, NAN, 0.5, "0", [0], float("inf"))
        ),
        ({"answers": {"text": ["Anna"], "answer_start": [10**300]}}, "is not at its offset"),
        ({"answer": "Bert"}, "'answer' is 'Bert', which is not among 'answers'"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(tmp_path, changes, says):
    rows = [*ROWS, {**FOUND, **changes}]
    file = write(tmp_path / "bad.jsonl", rows)
    with pytest.raises(DataError, match=says) as error:
        load(file)
    assert f"{file}, line 41, question " in str(error.value)
    str(error.value).encode()  # it can be printed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"answer": 0}, "'text' must be text, got int"),
        ({"answer": False}, "'text' must be text, got bool"),
        ({"answer": ["Anna"]}, "'text' must be text, got list"),
        ({"answer": "Anna"}, "'answer_start' a whole number"),
        ({"answer": "", "is_impossible": False}, "there is no answer"),
    ],
)
def test_a_flat_answer_of_another_type_is_refused(tmp_path, changes, says):
    with pytest.raises(DataError, match=says):
        load(write(tmp_path / "bad.jsonl", [*ROWS, {**FLAT, **changes}]))


LINE = json.dumps(FOUND).encode() + b"\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", LINE[:-2] + b', "n": ' + b"9" * 5000 + b"}\n", "line 1: Exceeds the limit"),
        ("a.json", b"[" * 200_000, "line 1: nested too deeply"),
        ("a.jsonl", LINE + b"[" * 200_000, "line 2: nested too deeply"),
        ("a.json", b'{"a":' * 200_000, "line 1: nested too deeply"),
        ("a.jsonl", LINE[:-2] + b', "id": "other"}\n', "line 1: the key 'id' stands twice"),
        ("a.json", b'[{"context": "a",\n "context": "b"}]', "line 1: the key 'context' stands twice"),
        ("a.jsonl", b"", "line 1: the file is empty"),
        ("a.jsonl", b"\n \n\n", "line 1: the file is empty"),
        ("a.jsonl", b"\xef\xbb\xbf", "line 1: the file is empty"),
        ("a.jsonl", "x".encode("utf-16"), "the mark of UTF-16"),
        ("a.json", '{"a": 1}'.encode("utf-16-le"), "holds zero bytes"),
        ("a.json", b"\x00" * 100, "holds zero bytes"),
        ("a.jsonl", LINE + b'{"context": "caf\xe9"}\n', "line 2: byte 16 is not UTF-8"),
        ("a.json", b'[\n "a",\n "\xff"]', "line 3: byte 2 is not UTF-8"),
        ("a.json", LINE[:-20], "It ends too early"),
        ("a.json", b"[" + LINE, "line 2.* It ends too early"),
        ("a.jsonl", b"{'id': 'q'}\n", "This is how Python writes"),
        ("a.json", b'{"id": None}', "This is how Python writes"),
        ("a.json", b'{\n "a": 1\n}\n{\n "a": 2\n}\n', "line 4, column 1: not JSON: Extra data. If there are several documents"),
        ("a.jsonl", LINE + b"{" + LINE, "line 2, column 2"),
        (
            "a.json",
            b'{"id": {"0": "q"}, "context": {"0": "c"}}',
            r"These are columns; write rows: in pandas to_json\(orient='records'",
        ),
        ("a.json", b'"text"', "neither SQuAD"),
        ("a.json", b"NaN", "neither SQuAD"),
        ("a.json", b"1e999", "neither SQuAD"),
        ("a.json", b'{"data": [{"paragraphs": [{"context": "c", "qas": [3]}]}]}', "must be an object"),
        ("a.json", b'{"data": [null]}', "article 0: 'paragraphs' must be a list"),
        ("a.json", b"[null]", "must be an object"),
        ("a.json", b"<!DOCTYPE html>", "is a web page"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("a.json", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("a.jsonl", b"PK\x03\x04....", "a zip archive"),
        ("a.jsonl", b"BZh91AY", "bzip2"),
        ("a.jsonl", b"\xfd7zXZ\x00", "by xz"),
        ("a.parquet", b"ARROW1\x00\x00", "an Arrow file"),
        ("a.parquet", b"", "not a parquet file"),
        ("a.parquet", b"PAR1" + b"\x00" * 64 + b"PAR1", "not a parquet file"),
        ("a.jsonl.gz", b"\x1f\x8b", "not a gzip file that can be read"),
        ("a.jsonl.gz", gzip.compress(LINE * 9, mtime=0)[:-12], "not a gzip file that can be read"),
        ("a.jsonl.gz", gzip.compress(LINE, mtime=0)[:-9] + b"\x00" * 9, "not a gzip file that can be read"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(LINE, mtime=0), mtime=0), "packed itself"),
        ("a.jsonl.gz", gzip.compress(b"PAR1", mtime=0), "packed itself"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", "cannot read a .zst file"),
        ("a", LINE, "cannot read a file whose name does not end in its format. Files that are read end in .json"),
    ],
)
def test_content_that_is_not_data_is_refused_with_its_place(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as error:
        load(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)


def table(**columns):
    """Columns of a table of forty rows; a value that is no list stands in every row."""
    rows = {"id": [row["id"] for row in ROWS], "question": "Who?", "context": "Anna was here.", "answer": "Anna", "answer_start": 0}
    rows |= columns
    return {name: values if isinstance(values, list) else [values] * 40 for name, values in rows.items()}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"context": b"Anna was here."}, "'context' must be text, got bytes"),
        ({"question": [{"a": 1}] * 40}, "'question' must be text, got dict"),
        ({"answer_start": Decimal("0.5")}, "'answer_start' a whole number"),
        ({"answer_start": True}, "'answer_start' a whole number"),
        ({"id": [b"%d" % i for i in range(40)]}, "'id' must be text or a whole number, got bytes"),
        ({"answers": [[["Anna", 0]]] * 40}, "needs 'text'"),
        ({"answers": '[{"text": "Anna", "answer_start": 0}]'}, "looks like JSON kept as text"),
        ({"is_impossible": "False?"}, "'is_impossible' must be true or false"),
    ],
)
def test_a_column_of_another_type_is_refused(tmp_path, columns, says):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    made = table(**columns)
    if "answers" in columns and isinstance(columns["answers"], list):
        made["answers"] = [[str(each) for each in row[0]] for row in made["answers"]]
    parquet.write_table(pyarrow.table(made), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=says) as error:
        load(str(tmp_path / "a.parquet"))
    assert f"{tmp_path / 'a.parquet'}, row 1, question " in str(error.value)


def test_a_table_is_read_by_its_columns_and_others_may_be_anything(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    far = pyarrow.array([2**60] * 40, pyarrow.timestamp("ms"))  # no date of Python's
    made = pyarrow.table({**table(is_impossible="False", answer_start=0.0, context=[f"Anna {i}" for i in range(40)]), "when": far})
    parquet.write_table(made, tmp_path / "a.parquet")
    assert [example["answers"] for example in everything(load(str(tmp_path / "a.parquet")))] == [FOUND["answers"]] * 40
    parquet.write_table(made.drop_columns("context"), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has no column 'context'"):
        load(str(tmp_path / "b.parquet"))
    parquet.write_table(made.drop_columns("answer"), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c\.parquet has no column 'answers'"):
        load(str(tmp_path / "c.parquet"))
    twice = pyarrow.Table.from_arrays([*made.columns, made["id"]], names=[*made.column_names, "id"])
    parquet.write_table(twice, tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"d\.parquet has the column 'id' twice"):
        load(str(tmp_path / "d.parquet"))


def test_a_truncated_table_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table(table(context=[os.urandom(99).hex() for _ in range(40)])), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for broken in (whole[:-100], whole[:200] + b"\x00" * 800 + whole[1000:]):
        load.cache_clear()
        (tmp_path / "a.parquet").write_bytes(broken)
        with pytest.raises(DataError, match=r"a\.parquet"):
            load(str(tmp_path / "a.parquet"))


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "nowhere.jsonl").symlink_to(tmp_path / "gone")
    (tmp_path / "round.jsonl").symlink_to(tmp_path / "round.jsonl")
    for name, says in (("pipe", "is a pipe"), ("nowhere", "a link to nothing"), ("round", "a link to nothing")):
        with pytest.raises(DataError, match=says):
            load(str(tmp_path / f"{name}.jsonl"))
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match="has no training file"):
        load(str(tmp_path / "folder.jsonl"))
    with pytest.raises(DataError, match="name too long"):
        load("x" * 5000 + ".jsonl")
    with pytest.raises(UsageError):
        load("a\x00b.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_fault_of_the_environment(tmp_path):
    file = write(tmp_path / "a.jsonl", ROWS)
    Path(file).chmod(stat.S_IWUSR)
    with pytest.raises(EnvironmentFault, match=r"cannot read .*a\.jsonl: Permission denied"):
        load(file)


def test_a_disk_that_fails_is_a_fault_of_the_environment(tmp_path, monkeypatch):
    file = write(tmp_path / "a.jsonl", ROWS)

    def fails(*args, **more):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(EnvironmentFault, match=r"cannot read .*a\.jsonl: Input/output error"):
        load(file)


def test_a_mistake_of_our_own_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_answers", lambda row, place: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load(write(tmp_path / "a.jsonl", ROWS))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_a_file_holds_counts_and_not_its_name(tmp_path, end, mark):
    lines = mark + end.join(json.dumps(row) for row in ROWS)
    printed = mark + json.dumps(ROWS, indent=1).replace("\n", end)
    compact = mark + json.dumps(ROWS)
    under_data = json.dumps({"data": ROWS})
    expected = everything(load(write(tmp_path / "plain.jsonl", ROWS)))
    for i, text in enumerate((lines, printed, compact, under_data)):
        for name in (f"{i}.json", f"{i}.jsonl", f"{i}.NDJSON", f"{i}.json.gz", f"{i}.jsonl.GZ"):
            content = text.encode()
            (tmp_path / name).write_bytes(gzip.compress(content, mtime=0) if name.lower().endswith("gz") else content)
            assert everything(load(str(tmp_path / name))) == expected, name


def test_characters_that_are_odd_but_text_are_read(tmp_path):
    row = {**FLAT, "context": "a\x00b\u2028c\x85 \U0001f600 Anna", "answer": "Anna", "answer_start": 9}
    assert one(tmp_path, row)["context"] == row["context"]
    lines = "".join(
        json.dumps(each, ensure_ascii=False) + "\n" for each in (row | {"context": row["context"].replace("\x00", "x")}, *ROWS)
    )
    (tmp_path / "b.jsonl").write_text(lines, encoding="utf-8")
    assert len(everything(load(str(tmp_path / "b.jsonl")))) == 41


SIDE = ROWS[30:]


def folder(path, **files):
    """A folder with `train.jsonl` and other files, given as rows of each."""
    path.mkdir(exist_ok=True)
    for name, rows in ({"train.jsonl": ROWS[:30]} | files).items():
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (path / name).write_bytes(gzip.compress(text, mtime=0) if name.lower().endswith(".gz") else text)
    return str(path)


@pytest.mark.parametrize(
    "name",
    [
        *("dev-v1.1.jsonl", "eval.jsonl", "Dev.jsonl", "DEV.JSONL", "dev.jsonl.gz", "validation.json", "evaluation.ndjson"),
        *("squad-dev-v2.0.json", "dev_0.json", "dev-00000-of-00001.jsonl", "valid.json.gz", "dev.squad.json", "development.json"),
    ],
)
def test_a_side_by_another_common_name_is_read(tmp_path, name):
    data = load(folder(tmp_path, **{name: SIDE, "README.md": [], "LICENSE": [], ".hidden.json": [], "dataset_info.json": []}))
    assert {example["id"] for example in data.dev} == {row["id"] for row in SIDE}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["dev.json", "validation.json"], "2 files for dev: dev.json, validation.json"),
        (["dev.json", "dev.json.gz"], "2 files for dev: dev.json, dev.json.gz"),
        (["dev.json", "Dev.json"], "2 files for dev: Dev.json, dev.json"),
        (["dev-v1.1.json", "dev-v2.0.json"], "2 files for dev"),
        (["dev-v1.json", "dev-v2.json"], "2 files for dev"),
        (["dev-1.1.json", "dev-1.2.json"], "2 files for dev"),
        (["dev_0.json", "dev_2.json"], "2 files for dev"),
        (["dev_0.json", "dev_1.jsonl"], "2 files for dev"),
        (["dev_0.json", "dev-1.json"], "2 files for dev"),
        (["train_2.jsonl"], "2 files for train: train.jsonl, train_2.jsonl"),
        (["train_0.squad.json", "train_3.squad.json", "train_5.squad.json"], "4 files for train"),
        (["dev-00000-of-00002.json"], "has not all 2 parts of dev, only dev-00000-of-00002.json"),
        (["dev-00000-of-00002.json", "dev-00000-of-00003.json"], "2 files for dev"),
        (["extra.jsonl"], "would not be read: extra.jsonl"),
        (["train-dev.jsonl"], "would not be read: train-dev.jsonl"),
        (["squad.json.gz"], "would not be read: squad.json.gz"),
        (["dev.csv"], "would not be read: dev.csv"),
        (["dev.json.bz2"], "would not be read: dev.json.bz2"),
        (["dev.parquet.gz"], "would not be read: dev.parquet.gz"),
        (["test.txt", "dev"], "would not be read: dev, test.txt"),
    ],
)
def test_files_that_contradict_each_other_or_would_not_be_read_are_named(tmp_path, names, says):
    with pytest.raises(DataError, match=says) as error:
        load(folder(tmp_path / "data", **dict.fromkeys(names, SIDE)))
    assert str(tmp_path / "data") in str(error.value)
    assert all(name in str(error.value) for name in names)


def test_folders_in_a_folder(tmp_path):
    data = folder(tmp_path / "data")
    for name in ("checkpoints", "train_output", ".cache"):
        folder(tmp_path / "data" / name)
    assert load(data)
    folder(tmp_path / "data" / "dev")
    load.cache_clear()
    with pytest.raises(DataError, match="would not be read: dev/"):
        load(data)
    (tmp_path / "other" / "dev.json").mkdir(parents=True)
    other = folder(tmp_path / "other")
    with pytest.raises(DataError, match=r"would not be read: dev\.json/"):
        load(other)


def test_a_link_to_nothing_is_not_passed_over(tmp_path):
    (tmp_path / "dev.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"dev\.jsonl is a link to nothing"):
        load(folder(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00003.json", "train-00001-of-00003.json", "train-00002-of-00003.json"],
        ["train-00000-of-00003-0a1b.json", "train-00001-of-00003-2c3d.json", "train-00002-of-00003-4e5f.json"],
        ["train-1-of-3.json", "train-2-of-3.json", "train-3-of-3.json"],
        ["train_0.json", "train_1.json", "train_2.json"],
        ["squad2_train_1.jsonl.gz", "squad2_train_2.jsonl.gz", "squad2_train_3.jsonl.gz"],
        ["train-part1.json", "train-part2.json", "train-part3.json"],
        [f"train_{i}.json" for i in range(11)],
    ],
)
def test_parts_of_a_side_are_joined_in_their_order(tmp_path, names):
    rows = [{key: value for key, value in row.items() if key != "id"} for row in ROWS]  # a question is then known by its number
    step = len(ROWS) // len(names)
    files = {name: rows[i * step : (i + 1) * step] for i, name in enumerate(names)}
    made = Path(folder(tmp_path, **files, **{"dev.json": SIDE, "test.json": SIDE}))
    (made / "train.jsonl").unlink()
    found = {int(example["id"]): example["context"] for example in load(str(made)).train}
    assert [found[number] for number in sorted(found)] == [row["context"] for row in rows[: step * len(names)]]


def test_alternatives_that_are_called_like_parts_are_not_joined(tmp_path):
    smaller = [{**row, "id": f"small {row['id']}"} for row in ROWS[:10]]
    made = Path(folder(tmp_path, **{"train_0.jsonl": ROWS, "train_1.jsonl": smaller}))
    (made / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"train_1\.jsonl: 10 of its 10 questions stand in .*train_0\.jsonl .* alternatives"):
        load(str(made))


def test_rows_without_ids_are_counted_through_all_parts(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "id"} for row in ROWS]
    made = Path(folder(tmp_path, **{"train_0.jsonl": rows[:20], "train_1.jsonl": rows[20:]}))
    (made / "train.jsonl").unlink()
    assert sorted(int(example["id"]) for example in everything(load(str(made)))) == list(range(1, 41))


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        (["train", "validation", "dev"], "2 splits for dev: validation, dev"),
        (["train", "validation_matched", "validation_mismatched"], "would not be read: validation_matched, validation_mismatched"),
        (["validation", "test"], "has no split 'train', only validation, test"),
    ],
)
def test_splits_on_the_hub_that_are_not_clear(monkeypatch, splits, says):
    import datasets

    monkeypatch.setattr(hub, "require", lambda *args, **more: None)
    made = datasets.DatasetDict({name: datasets.Dataset.from_list(ROWS) for name in splits})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, configuration: made)
    with pytest.raises(DataError, match=says):
        load("a/b")


def test_a_split_that_gives_arrays_or_breaks(monkeypatch):
    import datasets

    monkeypatch.setattr(hub, "require", lambda *args, **more: None)
    made = datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS).with_format("numpy"))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, configuration: made)
    assert everything(load("a/b")) == sorted(ROWS, key=lambda row: row["id"])

    def fails(*args):
        raise TypeError

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(UsageError, match="cannot load the data set 'a/c' from the hub: TypeError"):
        load("a/c")


@pytest.mark.parametrize("count", [40, 2500])
def test_the_digest_is_that_of_the_json_of_all_sides(tmp_path, count):
    rows = [{**ROWS[0], "id": i, "context": f"Fact 0 é {i}"} for i in range(count)]
    data = load(write(tmp_path / "a.jsonl", rows))
    sides = {"train": data.train, "dev": data.dev, "test": data.test}
    content = json.dumps(sides, ensure_ascii=False, sort_keys=True).encode()
    assert data.digest == hashlib.sha256(content).hexdigest()[:16]


ODD = [
    *(None, True, False, NAN, float("inf"), -1, 0, 3, 10**400, 0.5, 5.0, "", "0", "Anna", "\ud83d", "\x00", "\u2028", "x" * 9999),
    *([], {}, [None], [[]], ["Anna"], {"text": 1}, [{"text": "Anna", "answer_start": 0}], {"text": ["Anna"], "answer_start": [0]}),
]


def test_five_hundred_broken_files_are_read_rightly_or_refused_with_their_name(tmp_path):
    """Odd values in the place of others, and files of which bytes were changed, lost or repeated: nothing else comes out."""
    rng, refused = random.Random(0), {}
    for i in range(500):
        rows = json.loads(json.dumps([FOUND, *ROWS[:12]]))
        suffix = rng.choice((".json", ".jsonl", ".json.gz", ".jsonl.gz"))
        if i % 2:
            row = rng.choice(rows)
            holder = rng.choice((row, row, row["answers"]))
            holder[rng.choice([*holder, "is_impossible", "answer", "answer_start"])] = rng.choice(ODD)
        text = json.dumps(rows) if suffix.startswith(".json.") else "\n".join(map(json.dumps, rows))
        content = bytearray(text.encode("utf-8", "surrogatepass"))
        content = bytearray(gzip.compress(content, mtime=0)) if suffix.endswith(".gz") else content
        if not i % 2:
            at, width = rng.randrange(len(content)), rng.randrange(1, 40)
            content[at : at + rng.choice((0, width))] = rng.choice(
                (b"", b"\x00", b"\xff", b'"', b"}", b"\n", content[at : at + width])
            )
        file = tmp_path / f"{i}{suffix}"
        file.write_bytes(content)
        try:
            data = load(str(file))
        except DataError as error:
            refused[file] = str(error)
            continue
        for example in everything(data):
            assert all(isinstance(example[key], str) for key in ("id", "question", "context"))
            for text, start in zip(example["answers"]["text"], example["answers"]["answer_start"], strict=True):
                assert text
                assert type(start) is int
                assert example["context"][start : start + len(text)] == text
    assert all(str(file) in told and told.encode() for file, told in refused.items())
    assert 250 < len(refused) < 490


@real_data
def test_files_of_one_folder_that_are_alternatives_are_refused():
    with pytest.raises(DataError, match=r"3 files for train: train_0\.squad\.json, train_3\.squad\.json, train_5\.squad\.json"):
        load(str(Path(REAL) / "text" / "restaurant8k"))


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
