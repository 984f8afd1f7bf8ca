"""Tables of texts are read as people have them; what cannot be used is counted, named with its place, or refused."""

import gzip
import json
import os
import pickle
import random
from pathlib import Path

import pytest

from workbench.data import docstrings, fingerprints, hub, load, pytopics
from workbench.data.labelled import AlikeLabels, LabelledTexts, in_order, in_words
from workbench.data.text_pairs import Conversations, Translations
from workbench.errors import DataError, UsageError, WorkbenchError

REAL = os.environ.get("WORKBENCH_DATA")
real_data = pytest.mark.skipif(not REAL, reason="WORKBENCH_DATA does not name the folder with real data")

ROWS = [{"text": f"This is text {i} of it.", "label": ("good", "bad", "odd")[i % 3]} for i in range(60)]


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()


def lines(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def csv(file, text):
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


def plain(rows=ROWS, delimiter=","):
    return delimiter.join(("text", "label")) + "\n" + "".join(f"{row['text']}{delimiter}{row['label']}\n" for row in rows)


def everything(data):
    return sorted((*data.train, *data.dev, *data.test), key=lambda example: example["id"])


# Formats


def test_every_format_gives_the_same_examples(tmp_path):
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([row | {"vector": [0.0] * 4} for row in ROWS])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    with pyarrow.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)
    csv(tmp_path / "comma.csv", plain())
    csv(tmp_path / "semicolon.csv", plain(delimiter=";"))
    csv(tmp_path / "bar.CSV", plain(delimiter="|"))
    csv(tmp_path / "tab.csv", plain(delimiter="\t"))
    csv(tmp_path / "tab.tsv", plain(delimiter="\t"))
    csv(tmp_path / "mark.csv", "\ufeff" + plain().replace("\n", "\r\n"))
    csv(tmp_path / "packed.csv.gz", gzip.compress(plain().encode(), mtime=0))
    lines(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "list.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "data.json").write_text(json.dumps({"data": ROWS}))
    found = [load(str(file), LabelledTexts()) for file in sorted(tmp_path.iterdir())]
    assert len(found) == 13
    assert all(everything(each) == everything(found[0]) for each in found)
    assert len({each.digest for each in found}) == 1
    assert len(everything(found[0])) == 60
    assert not any(each.notes for each in found)


def test_quoted_fields_hold_line_breaks_delimiters_and_quotes(tmp_path):
    odd = 'He said: "no",\nand left;\r\nthen\ttabs | bars'
    text = (
        "label,text,more\n" + 'good,"' + odd.replace('"', '""') + '",x\n\n' + "".join(f"bad,text number {i},\n" for i in range(40))
    )
    data = load(csv(tmp_path / "a.csv", text), LabelledTexts())
    assert odd in {example["text"] for example in everything(data)}
    assert len(everything(data)) == 41


def test_texts_of_csv_are_left_as_they_are(tmp_path):
    texts = ["NA", "null", "007", "1e5", "nan", "True", "2020-01-01"]
    rows = "text,label\n" + "".join(f"{text},{i % 2:02}\n" for i, text in enumerate(texts)) + plain()[len("text,label\n") :]
    data = load(csv(tmp_path / "a.csv", rows), LabelledTexts())
    assert {*texts} <= {example["text"] for example in everything(data)}
    assert {"00", "01"} <= {example["labels"][0] for example in everything(data)}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"a\.csv, line 1: the file is empty"),
        (b"text,label\n", "holds no row"),
        (b"text,label\na,good,x\n", r"a\.csv, line 2: fields: 3, and the header has 2: text, label.*double quotes"),
        (b'text,label\n"a\nb",good\nc\n', r"a\.csv, line 4: fields: 1, and"),
        (
            b'text,label\n"a,good\nb,bad\n',
            r"a\.csv, line 2: the quote that opens here is not closed by the end of the file \(line 3\)",
        ),
        (b'text,label\n"a" b,good\n', r"a\.csv, line 2: a quoted field goes on behind its closing quote"),
        (b"text,label\ra,good\rb,bad\r", "carriage return"),
        (b"text,text,label\na,b,good\n", "has the column 'text' twice"),
        (b'text,label\n"' + b"x" * 10_000_000 + b'",good\n', r"line 2: a field of more than 1,048,576 characters.*shorten"),
        (
            b'text,label\n"' + b"word, more\n" * 500_000,
            r"line 2: a field of more than 1,048,576 characters.*quote that nothing closes",
        ),
        (b"text,label\n\xe9t\xe9,good\n", r"a\.csv, line 2: byte 0 is not UTF-8"),
        ("text,label\na,good\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04rest", "a zip archive or a spreadsheet"),
        (b"a,good\nb,bad\n", r"has no column 'text'; it has 'a', 'good'.*text=\"…\".*first line"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_place(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        load(csv(tmp_path / "a.csv", content), LabelledTexts())


def test_the_limit_of_fields_is_left_as_others_set_it(tmp_path):
    import csv as module

    before = module.field_size_limit()
    load(csv(tmp_path / "a.csv", plain()), LabelledTexts())
    assert module.field_size_limit() == before


def test_broken_tables_are_refused(tmp_path):
    (tmp_path / "a.arrow").write_bytes(b"\xff\xff\xff\xffnothing")
    with pytest.raises(DataError, match=r"a\.arrow: not an Arrow file that can be read"):
        load(str(tmp_path / "a.arrow"), LabelledTexts())
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"cannot read a \.xlsx file. Give one of .*\.csv"):
        load(str(tmp_path / "a.xlsx"), LabelledTexts())
    (tmp_path / "columns.json").write_text(json.dumps({"text": {"0": "a"}, "label": {"0": "b"}}))
    with pytest.raises(DataError, match="these are columns; write rows"):
        load(str(tmp_path / "columns.json"), LabelledTexts())


def test_questions_are_read_from_what_they_were_read_from(tmp_path):
    with pytest.raises(DataError, match=r"cannot read a \.csv file. Give one of \.json, \.jsonl, \.ndjson, \.parquet, "):
        load(csv(tmp_path / "a.csv", plain()))


def test_a_folder_of_sides(tmp_path):
    csv(tmp_path / "train.csv", plain(ROWS[:40]))
    lines(tmp_path / "validation.jsonl", ROWS[40:50])
    csv(tmp_path / "test.tsv", plain(ROWS[50:], "\t"))
    data = load(str(tmp_path), LabelledTexts())
    assert [len(side) for side in (data.train, data.dev, data.test)] == [40, 10, 10]
    csv(tmp_path / "train.tsv", plain(ROWS[:40], "\t"))
    load.cache_clear()
    with pytest.raises(DataError, match="2 files for train"):
        load(str(tmp_path), LabelledTexts())


def test_the_hub_tells_the_names_of_classes(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(hub, "require", lambda *args, **more: None)
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"]))
    made = datasets.Dataset.from_list([{"text": f"t {i}", "label": i % 2} for i in range(40)], features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, configuration: datasets.DatasetDict(train=made))
    made.to_parquet(tmp_path / "a.parquet")
    made.save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    found = [load(name, LabelledTexts()) for name in ("a/b", str(tmp_path / "a.parquet"), str(arrow))]
    assert all({example["labels"][0] for example in each.train} == {"neg", "pos"} for each in found)
    assert len({each.digest for each in found}) == 1


def test_a_benchmark_that_hides_the_labels_of_its_test_side(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(hub, "require", lambda *args, **more: None)
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"]))
    made = {
        side: datasets.Dataset.from_list(
            [{"text": f"{side} {i}", "label": -1 if side == "test" else i % 2} for i in range(40)], features
        )
        for side in ("train", "validation", "test")
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda name, configuration: datasets.DatasetDict(made))
    data = load("a/b", LabelledTexts())
    assert [len(side) for side in (data.train, data.dev, data.test)] == [36, 40, 4]
    assert data.notes == (
        "40 of 40 test rows are without a label in 'label' (the first: a/b (test), row 1): left out.",
        "A tenth of train stands in for test.",
    )
    lines(tmp_path / "train.jsonl", ROWS)
    lines(tmp_path / "test.jsonl", [{"text": "x"}] * 3 + [{"text": "y", "label": "good"}])
    with pytest.raises(DataError, match="3 of 4 test rows are without a label"):
        load(str(tmp_path), LabelledTexts())


# Columns


def test_columns_by_name_and_by_common_names(tmp_path):
    rows = [{"body": row["text"], "intent": row["label"], "label": "z", "n": i} for i, row in enumerate(ROWS)]
    file = lines(tmp_path / "a.jsonl", rows)
    named = load(file, LabelledTexts(text="body", label="intent"))
    assert everything(named) == everything(load(lines(tmp_path / "b.jsonl", ROWS), LabelledTexts()))
    with pytest.raises(DataError, match=r"has no column 'text'; it has 'body', 'intent', 'label', 'n'"):
        load(file, LabelledTexts())
    with pytest.raises(DataError, match=r"'label' and 'intent' may both be the label. Say which is meant: label='label'"):
        load(file, LabelledTexts(text="body"))
    with pytest.raises(DataError, match=r"has no column 'intnet' \(label=\). Did you mean 'intent'\?"):
        load(file, LabelledTexts(text="body", label="intnet"))
    with pytest.raises(DataError, match="has no column 'label'"):
        load(lines(tmp_path / "c.jsonl", [{"text": "a", "n": 1}]), LabelledTexts())


def test_pairs_of_texts_groups_and_several_labels(tmp_path):
    rows = [{"a": f"one {i}", "b": "two", "tags": ["x", "y"][: i % 3], "group": i % 2} for i in range(60)]
    data = load(lines(tmp_path / "a.jsonl", rows), LabelledTexts(text=("a", "b"), label="tags", several=True))
    assert {tuple(example["labels"]) for example in data.train} == {(), ("x",), ("x", "y")}
    assert {example["group"] for example in data.train} == {"0", "1"}
    assert all(example["text"][1] == "two" for example in data.train)
    texts = "\n".join(f"t {i},{('', 'x', 'x|y, z')[i % 3]}".replace(",x|y, z", ',"x|y, z"') for i in range(60))
    data = load(csv(tmp_path / "a.csv", "text,labels\n" + texts), LabelledTexts(several=True))
    assert {tuple(example["labels"]) for example in data.train} == {(), ("x",), ("x", "y, z")}
    hot = "text,toxic,rude\n" + "".join(f"t {i},{i % 2},{i % 3 // 2}\n" for i in range(60))
    data = load(csv(tmp_path / "hot.csv", hot), LabelledTexts(label=("toxic", "rude"), several=True))
    assert {tuple(example["labels"]) for example in data.train} == {(), ("toxic",), ("rude",), ("toxic", "rude")}
    with pytest.raises(DataError, match="'rude' must be 0 or 1"):
        load(csv(tmp_path / "bad.csv", hot + "t,1,5\n"), LabelledTexts(label=("toxic", "rude"), several=True))


TURNS = [{"role": "user", "content": "Hi 7"}, {"role": "assistant", "content": "Ho 7"}]


@pytest.mark.parametrize(
    ("row", "form", "turns"),
    [
        ({"messages": TURNS}, Conversations(), TURNS),
        ({"conversations": [{"from": "human", "value": "Hi 7"}, {"from": "gpt", "value": "Ho 7"}]}, Conversations(), TURNS),
        ({"prompt": "Hi 7", "completion": "Ho 7"}, Conversations(), TURNS),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, Conversations(), TURNS),
        ({"instruction": "Hi 7", "input": "", "output": "Ho 7"}, Conversations(), TURNS),
        ({"instruction": "Hi", "input": "7", "output": "Ho 7"}, Conversations(), [{**TURNS[0], "content": "Hi\n\n7"}, TURNS[1]]),
        ({"q": "Hi 7", "a": "Ho 7", "prompt": "no"}, Conversations(prompt="q", completion="a"), TURNS),
    ],
)
def test_conversations_are_known_by_their_columns(tmp_path, row, form, turns):
    rows = [json.loads(json.dumps(row).replace("7", str(i))) for i in range(40)]
    data = load(lines(tmp_path / "a.jsonl", rows), form)
    wanted = json.loads(json.dumps(turns).replace("7", "3"))
    assert wanted in [example["messages"] for example in everything(data)]
    assert len(everything(data)) == 40


def test_conversations_that_are_none(tmp_path):
    def read(**row):
        load.cache_clear()
        return load(lines(tmp_path / "a.jsonl", [row] * 3 + [{"messages": TURNS}]), Conversations())

    with pytest.raises(DataError, match="3 of 4 train rows are without an answer at the end"):
        read(messages=TURNS[:1])
    with pytest.raises(DataError, match=r"line 1: 'messages' has a message of 'narrator'.*There are 3 such rows of 4"):
        read(messages=[{"role": "narrator", "content": "x"}])
    with pytest.raises(DataError, match="text that looks like JSON"):
        read(messages=json.dumps(TURNS))
    with pytest.raises(DataError, match=r"has the columns 'a'.*'messages'.*prompt="):
        load(lines(tmp_path / "b.jsonl", [{"a": 1}]), Conversations())


def test_translations(tmp_path):
    pairs = [{"source": f"Hello {i}", "target": f"Hallo {i}"} for i in range(40)]
    nested = [{"translation": {"en": pair["source"], "de": pair["target"]}} for pair in pairs]
    named = [{"en": pair["source"], "de": pair["target"]} for pair in pairs]
    found = [
        load(lines(tmp_path / "a.jsonl", pairs), Translations()),
        load(lines(tmp_path / "b.jsonl", nested), Translations("en", "de")),
        load(lines(tmp_path / "c.jsonl", named), Translations("en", "de")),
    ]
    assert len({each.digest for each in found}) == 1
    with pytest.raises(DataError, match="Say which languages are meant"):
        load(lines(tmp_path / "b.jsonl", nested), Translations())
    with pytest.raises(DataError, match=r"39 of 40 train rows|40 of 40 train rows"):
        load(lines(tmp_path / "b.jsonl", nested), Translations("en", "fr"))


# What is missing, mistyped, doubled


def test_rows_without_a_text_or_a_label_are_left_out_and_told(tmp_path):
    rows = [*ROWS, {"text": " ", "label": "good"}, {"text": None, "label": "good"}, {"text": "a"}, {"text": "b", "label": ""}]
    data = load(lines(tmp_path / "a.jsonl", rows), LabelledTexts())
    assert everything(data) == everything(load(lines(tmp_path / "b.jsonl", ROWS), LabelledTexts()))
    assert data.notes == (
        f"2 of 64 train rows are without a text in 'text' (the first: {tmp_path}/a.jsonl, line 61): left out.",
        f"2 of 64 train rows are without a label in 'label' (the first: {tmp_path}/a.jsonl, line 63): left out.",
    )
    with pytest.raises(DataError, match="60 of 64 train rows are without a text in 'body'"):
        load(lines(tmp_path / "a.jsonl", [row | {"body": ""} for row in ROWS] + [{"body": "x"}] * 4), LabelledTexts(text="body"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"text": 12}, "'text' must be text, got int '12'. Write it as text"),
        ({"text": ["a"]}, "'text' must be text, got list"),
        ({"text": "\ud83d"}, "half a character"),
        ({"text": "x" * 10_000_000}, "has 10,000,000 characters, and 1,048,576 are the most"),
        ({"label": 0.5}, "'label' must be a label, got float '0.5'"),
        ({"label": ["a", "b"]}, "Read several labels by several=True"),
        ({"label": {"a": 1}}, "must be a label, got dict"),
        ({"label": "word " * 100}, "a label is a few words"),
        ({"group": ["a"]}, "'group' must be text, got list"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(tmp_path, changes, says):
    first = ROWS[0] | ({"group": "a"} if "group" in changes else {})
    rows = [first, *ROWS[1:], ROWS[3] | changes, ROWS[4] | changes]
    with pytest.raises(DataError, match=rf"a\.jsonl, line 61: .*{says}.*There are 2 such rows of 62"):
        load(lines(tmp_path / "a.jsonl", rows), LabelledTexts())


def test_rows_that_are_no_objects(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([["a", "good"], ["b", "bad"]]))
    with pytest.raises(DataError, match=r"row 1: a row must be an object with the names of columns"):
        load(str(tmp_path / "a.json"), LabelledTexts())
    (tmp_path / "a.json").write_text('"a"')
    load.cache_clear()
    with pytest.raises(DataError, match="must be a list of rows"):
        load(str(tmp_path / "a.json"), LabelledTexts())


def test_what_stands_on_two_sides_stays_on_the_later_one(tmp_path):
    lines(tmp_path / "train.jsonl", [*ROWS[:40], {"text": "this  IS text 50 of it.", "label": "good"}])
    lines(tmp_path / "dev.jsonl", ROWS[38:50])
    lines(tmp_path / "test.jsonl", ROWS[49:])
    data = load(str(tmp_path), LabelledTexts())
    assert data.notes == (
        "1 of 12 dev rows stand in test, too: left out of dev.",
        "3 of 41 train rows stand in dev or test, too: left out of train.",
    )
    assert [len(side) for side in (data.train, data.dev, data.test)] == [38, 11, 11]
    lines(tmp_path / "train.jsonl", ROWS[50:])
    load.cache_clear()
    with pytest.raises(DataError, match=r"all that the train side of .* holds stands on a later side"):
        load(str(tmp_path), LabelledTexts())


def test_labels_that_contradict_each_other_are_told(tmp_path):
    rows = [*ROWS, {"text": ROWS[0]["text"].upper(), "label": "odd"}]
    (told,) = load(lines(tmp_path / "a.jsonl", rows), LabelledTexts()).notes
    assert told == "train has different labels for the same text, 1 times; one is 'this is text 0 of it.'."


# Labels


def test_labels_that_cannot_be_classes(tmp_path):
    def read(rows, **form):
        load.cache_clear()
        return load(lines(tmp_path / "a.jsonl", rows), LabelledTexts(**form))

    with pytest.raises(DataError, match="all rows of train have the label 'good'"):
        read([row | {"label": "good"} for row in ROWS])
    with pytest.raises(DataError, match="no row of train has a label"):
        read([row | {"label": []} for row in ROWS], several=True)
    with pytest.raises(DataError, match=r"has 60 different labels in 60 rows of train, such as 'l 0'"):
        read([row | {"label": f"l {i}"} for i, row in enumerate(ROWS)])
    with pytest.raises(UsageError, match=r"the labels 'Good' and 'good' are both 'good' in words|'good' and 'Good'"):
        read([*ROWS, ROWS[0] | {"text": "x", "label": "Good"}])
    with pytest.raises(UsageError, match=r"the labels 'so so' and 'so_so' are both 'so so' in words.*labels="):
        read([row | {"label": ("so so", "so_so")[i % 2]} for i, row in enumerate(ROWS)])
    with pytest.raises(DataError, match=r"20 rows of train have the label 'odd', which labels= does not name.*Did you mean 'old'"):
        read(ROWS, labels=("good", "bad", "old"))
    (tmp_path / "f").mkdir()
    lines(tmp_path / "f" / "train.jsonl", ROWS)
    lines(tmp_path / "f" / "dev.jsonl", [{"text": "x", "label": "baad"}, {"text": "y", "label": "new"}])
    with pytest.raises(
        DataError, match=r"1 rows of dev have the label 'baad', which no row of train has, and 1 more labels are like"
    ):
        load(str(tmp_path / "f"), LabelledTexts())


def test_spellings_of_one_label_are_told_with_their_rows(tmp_path):
    rows = [*ROWS, *({"text": f"x {i}", "label": label} for i, label in enumerate(("Good", "GOOD", "Good", "Bad")))]
    file = lines(tmp_path / "a.jsonl", rows)
    with pytest.raises(AlikeLabels) as error:
        load(file, LabelledTexts())
    assert str(error.value) == (
        f"{file!r}: the labels 'Bad' and 'bad' are both 'bad' in words: 'Bad' stands in 1 row (the first: {file}, line 64), 'bad' "
        f"stands in 20 rows (the first: {file}, line 2). So it is with 1 more label. Where they are one, write them alike, or give "
        "fold_labels=True, which reads labels in lower case and underscores as blanks; else tell them apart: "
        'labels={"label": "words", …}.'
    )
    load.cache_clear()
    folded = load(file, LabelledTexts(fold=True))
    assert {example["labels"][0] for example in everything(folded)} == {"good", "bad", "odd"}
    assert not any("place" in example for example in everything(folded))
    apart = LabelledTexts(labels=("good", "Good", "GOOD", "bad", "Bad", "odd"))  # the remedy of the last sentence
    assert {example["labels"][0] for example in everything(load(file, apart))} == {*apart.labels}


def test_rows_that_repeat_others_are_counted(tmp_path):
    rows = [*ROWS, ROWS[3], {**ROWS[4], "text": ROWS[4]["text"].upper()}, ROWS[3]]
    (told,) = load(lines(tmp_path / "a.jsonl", rows), LabelledTexts()).notes
    assert told == (
        f"3 of 63 train rows repeat earlier ones, text and label alike (the first: {tmp_path}/a.jsonl, line 61): kept, and each "
        "counts as a label. Remove what was doubled by mistake."
    )
    (told,) = load(lines(tmp_path / "b.jsonl", [*ROWS, ROWS[0]]), LabelledTexts()).notes
    assert told.startswith("1 of 61 train rows repeats an earlier one, text and label alike")


def test_labels_in_order_and_in_words():
    assert in_order(["10", "9", "9", "-1"]) == ("-1", "9", "10")
    assert in_order(["b", "a", "10"]) == ("10", "a", "b")
    assert in_words("card_arrival__delayed") == "card arrival delayed"
    assert in_words("_") == "_"


def test_labels_of_other_types_are_texts(tmp_path):
    rows = [{"text": f"t {i}", "label": (0, 1.0, True)[i % 3]} for i in range(60)]
    data = load(lines(tmp_path / "a.jsonl", rows), LabelledTexts())
    assert {example["labels"][0] for example in data.train} == {"0", "1", "true"}


# Sides that are split off


def test_a_tenth_of_every_label_is_split_off_and_equal_texts_stay_together(tmp_path):
    rows = [{"text": f"text {i // 2}", "label": "rare" if i < 4 else ("a", "b", "c")[i // 2 % 3]} for i in range(400)]
    data = load(lines(tmp_path / "a.jsonl", rows), LabelledTexts())
    texts = [{example["text"] for example in side} for side in (data.train, data.dev, data.test)]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 200
    assert [len(side) for side in texts] == [160, 20, 20]
    for side in (data.dev, data.test):
        counts = [sum(example["labels"] == [label] for example in side) for label in "abc"]
        assert max(counts) - min(counts) <= 4
    assert any(example["labels"] == ["rare"] for example in data.train)
    load.cache_clear()
    other = load(lines(tmp_path / "b.jsonl", rows[::-1]), LabelledTexts())
    assert {example["text"] for example in other.dev} == texts[1]
    with pytest.raises(DataError, match="has too few rows to split dev off"):
        load(lines(tmp_path / "c.jsonl", rows[:6]), LabelledTexts())


def test_order_depends_on_texts_and_seed_alone(tmp_path):
    for name, rows in (("a", ROWS), ("b", [{"text": "a new first row", "label": "odd"}, *ROWS])):
        (tmp_path / name).mkdir()
        lines(tmp_path / name / "train.jsonl", rows)
        lines(tmp_path / name / "dev.jsonl", [{"text": "dev", "label": "odd"}])
        lines(tmp_path / name / "test.jsonl", [{"text": "test", "label": "odd"}])
    first, more = (load(str(tmp_path / name), LabelledTexts()) for name in "ab")
    order = [example["text"] for example in first.shuffled("train")]
    assert [example["text"] for example in more.shuffled("train") if example["text"] != "a new first row"] == order
    assert order != [example["text"] for example in first.shuffled("train", 1)]


# Fingerprints


def test_a_digest_is_of_what_is_read_and_remembered_by_form(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "_SETTLING_SECONDS", -60.0)
    fingerprints.look_again()
    file = lines(tmp_path / "a.jsonl", [row | {"other": ("x", "y")[i % 2]} for i, row in enumerate(ROWS)])
    digests = [
        fingerprints.data(file, form) for form in (LabelledTexts(), LabelledTexts(label="other"), LabelledTexts(text="text"))
    ]
    assert digests[0] == digests[2] != digests[1]
    fingerprints.look_again()
    load.cache_clear()
    monkeypatch.setattr("workbench.data.readers.load", lambda *names: pytest.fail("read again"))
    assert [fingerprints.data(file, form) for form in (LabelledTexts(), LabelledTexts(label="other"))] == digests[:2]
    fingerprints.look_again()


def test_forms_are_values():
    form = LabelledTexts(text=("a", "b"), labels=("x", "y"))
    assert pickle.loads(pickle.dumps(form)) == form
    assert hash(form) == hash(LabelledTexts(text=("a", "b"), labels=("x", "y")))


# Built in


def test_a_built_in_data_set_of_another_task_is_named():
    with pytest.raises(UsageError, match=r"'pydocs' is one for question_answering. For this task there is: pytopics"):
        load("pydocs", LabelledTexts())
    with pytest.raises(UsageError, match=r"'pytopics' is one for classification. For this task there is: pydocs"):
        load("pytopics")


def test_topics_and_sentences():
    assert pytopics.topic_of("networkx.algorithms.dag.is_dag") == "graphs"
    assert pytopics.topic_of("scipy.special.erf") == ""
    assert pytopics.sentence("Return it, e.g. the sum of all. And more.") == "Return it, e.g. the sum of all."
    assert pytopics.sentence("Too short.") == ""
    assert pytopics.sentence("Parameters ---------- x : the thing that is meant") == ""


@pytest.mark.slow
def test_topics_are_built_from_what_is_installed(tmp_path):
    if not all(map(docstrings.installed, ("networkx", "scipy"))):
        pytest.skip("the packages that it is made of are not installed")
    sides = pytopics.build(("networkx", "scipy"))
    texts = [example["text"].casefold() for side in sides.values() for example in side]
    assert len(texts) == len({*texts}) > 500
    assert all(example["labels"] == [pytopics.topic_of(example["id"])] for side in sides.values() for example in side)
    labels = [{label for example in side for label in example["labels"]} for side in sides.values()]
    assert labels[0] == labels[1] == labels[2] >= {"graphs", "statistics"}
    assert 7.5 < len(sides["train"]) / len(sides["dev"]) < 8.5


@real_data
def test_banking77():
    data = load(str(Path(REAL) / "text" / "banking77"), LabelledTexts())
    assert len({example["labels"][0] for example in data.train}) == 77
    assert len(data.test) == 3080
    assert data.notes[0] == "7 of 10,003 train rows stand in test, too: left out of train."
    assert data.notes[1].startswith("4 of 9,996 train rows repeat earlier ones, text and label alike (the first: ")
    assert data.notes[2].startswith("1 of 3,080 test rows repeats an earlier one")
    assert len(data.notes) == 3


ODD = [
    None,
    True,
    float("nan"),
    -1,
    3,
    0.5,
    10**400,
    "",
    "0",
    "\ud83d",
    "\x00",
    "\u2028",
    "x" * 9999,
    [],
    {},
    [None],
    ["a"],
    {"a": 1},
]


def test_three_hundred_broken_files_are_read_rightly_or_refused_with_their_name(tmp_path):
    """Odd values in the place of others, and files of which bytes were changed, lost or repeated: nothing else comes out."""
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    rng, refused = random.Random(0), {}
    table = pyarrow.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, tmp_path / "whole.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "whole.arrow")
    whole = {
        ".csv": plain().encode(),
        ".tsv": plain(delimiter="\t").encode(),
        ".csv.gz": gzip.compress(plain().encode(), mtime=0),
        ".parquet": (tmp_path / "whole.parquet").read_bytes(),
        ".arrow": (tmp_path / "whole.arrow").read_bytes(),
    }
    for i in range(300):
        if i % 3 == 0:
            rows = json.loads(json.dumps(ROWS))
            rng.choice(rows)[rng.choice(("text", "label", "group", "other"))] = rng.choice(ODD)
            suffix, content = ".jsonl", bytearray("\n".join(map(json.dumps, rows)).encode("utf-8", "surrogatepass"))
        else:
            suffix = rng.choice([*whole])
            content = bytearray(whole[suffix])
            at, width = rng.randrange(len(content)), rng.randrange(1, 40)
            odd = (b"", b"\x00", b"\xff", b'"', b",", b"\r", b"\n", content[at : at + width])
            content[at : at + rng.choice((0, width))] = rng.choice(odd)
        file = tmp_path / f"{i}{suffix}"
        file.write_bytes(content)
        try:
            data = load(str(file), LabelledTexts())
        except WorkbenchError as error:  # a damaged size may ask for more memory than there is
            refused[file] = str(error)
            continue
        for example in everything(data):
            assert isinstance(example["text"], str)
            assert example["text"].strip()
            assert [type(label) for label in example["labels"]] == [str]
            assert json.dumps(example, ensure_ascii=False).encode()
    assert all(str(file) in told and told.encode() for file, told in refused.items())
    assert 60 < len(refused) < 250


def test_a_file_that_is_not_there_is_looked_for_among_those_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tickets.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match=r"there is no file or folder '.*tickts\.csv'\. Did you mean 'tickets\.csv'\? Give"):
        load(str(tmp_path / "tickts.csv"), LabelledTexts())
    with pytest.raises(DataError, match=r"there is no file or folder '.*nowhere/x\.csv'\. Give"):
        load(str(tmp_path / "nowhere" / "x.csv"), LabelledTexts())
    (tmp_path / "programs.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"'programs\.csv' \(looked in .*: paths are relative to the folder you are in\)\. Known: tickets\.csv\. "
    ):
        load("programs.csv", LabelledTexts())
