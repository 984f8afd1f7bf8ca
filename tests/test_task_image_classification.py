"""Images: how folders and tables of them are read, what a model sees, and that all around the loop bears rows without tokens."""

import csv
import dataclasses
import json

import kinds
import numpy as np
import pytest

from workbench import Study, peft
from workbench.data import fingerprints, images, load, media, models
from workbench.data.media import LabelledFiles
from workbench.errors import DataError, UsageError
from workbench.forecast import pairs
from workbench.forecast.forecaster import Forecaster
from workbench.formulations import media as formulation_media
from workbench.sweep import check_data
from workbench.tasks import classification, image_classification, question_answering
from workbench.testing import tiny_vision

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
IMAGES = LabelledFiles("image")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_vision(tmp_path_factory.mktemp("vision"))


def draw(path, i):
    """Red or blue, of any size."""
    rng = np.random.default_rng(i)
    shape = (int(rng.integers(8, 30)), int(rng.integers(8, 30)), 3)
    pixels = rng.integers(0, 90, shape).astype(np.uint8)
    pixels[..., 0 if i % 2 else 2] += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    for i in range(60):
        draw(tmp_path / "images" / ("red" if i % 2 else "blue") / f"{i}.png", i)
    return str(tmp_path / "images")


def task(data, **settings):
    return image_classification(data, **{"train": 24, "dev": 6, "test": 4} | settings)


# Data


def test_a_folder_of_classes_is_split_by_content(folder, tmp_path):
    found = load(folder, IMAGES)
    assert (len(found.train), len(found.dev), len(found.test)) == (48, 6, 6)
    example = found.train[0]
    assert example["labels"] == [example["file"].partition("/")[0]]
    assert task(folder).words() == {"blue": "blue", "red": "red"}
    for side in ("train", "dev", "test"):
        (tmp_path / "sides" / side).mkdir(parents=True)
    for i, (side, count) in enumerate([("train", 20), ("dev", 4), ("test", 4)]):
        for k in range(count):
            draw(tmp_path / "sides" / side / ("red" if k % 2 else "blue") / f"{k}.jpg", 100 * i + k)
    sides = load(str(tmp_path / "sides"), IMAGES)
    assert (len(sides.train), len(sides.dev), len(sides.test)) == (20, 4, 4)
    assert sides.dev[0]["file"].startswith("dev/")


def test_a_table_of_paths_is_read_as_the_folder(folder, tmp_path):
    rows = [(f"images/{'red' if i % 2 else 'blue'}/{i}.png", "red" if i % 2 else "blue") for i in range(60)]
    with (tmp_path / "t.csv").open("w") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    found = load(str(tmp_path / "t.csv"), IMAGES)
    assert [e["content"] for e in found.train] == [e["content"] for e in load(folder, IMAGES).train]
    assert media.read("image", str(tmp_path / "t.csv"), found.train[0]).mode == "RGB"
    before = task(str(tmp_path / "t.csv")).digest()
    draw(tmp_path / "images" / "red" / "1.png", 777)
    fingerprints.look_again()
    assert task(str(tmp_path / "t.csv")).digest() != before  # the table is as it was


def test_doubles_and_other_files_are_told_of(folder, tmp_path):
    draw(tmp_path / "images" / "red" / "copy.png", 0)
    (tmp_path / "images" / "red" / "notes.txt").write_text("x")
    notes = load(folder, IMAGES).notes
    assert any("1 of 62 train rows are no images that are read (.png" in note for note in notes)
    assert any("different labels for the same content of a file" in note for note in notes)


@pytest.mark.parametrize(
    "content, said",
    [
        ("path,label\na.png,x\n", r"there is no file .*a\.png'\. Paths count from the folder of the table"),
        ("path,label\nbad.png,x\n", r"bad\.png: not an image that can be read"),
        ("file,x\na.png,x\n", "has no column 'label'"),
        ("a,label\na.png,x\n", "has no column 'image'"),
    ],
)
def test_tables_that_cannot_be_are_refused(tmp_path, content, said):
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        load(str(tmp_path / "t.csv"), IMAGES)


def test_folders_that_cannot_be_are_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no folders\. Give one folder for each class"):
        load(str(tmp_path / "empty"), IMAGES)
    draw(tmp_path / "dev" / "dev" / "x" / "1.png", 1)
    with pytest.raises(DataError, match="must have one folder train, and may have dev and test; it has dev"):
        load(str(tmp_path / "dev"), IMAGES)
    draw(tmp_path / "one" / "x" / "1.png", 1)
    draw(tmp_path / "one" / "x" / "2.png", 2)
    with pytest.raises(DataError, match="all rows of train have the label 'x'"):
        load(str(tmp_path / "one"), IMAGES)
    (tmp_path / "bytes.jsonl").write_text(json.dumps({"image": {"bytes": "", "path": None}, "label": 1}))
    with pytest.raises(DataError, match=r"'image' holds the images themselves\. Save them as files"):
        load(str(tmp_path / "bytes.jsonl"), IMAGES)
    with pytest.raises(UsageError, match="a model of kind 'encoder' cannot do ImageClassification: it sees no images"):
        task(folder).formulation("encoder")
    with pytest.raises(UsageError, match="'digits' is one for image_classification"):
        classification("digits", train=4).splits()


def test_digits_need_no_network():
    one = image_classification("digits", train=1400)
    assert one.words() == {str(i): str(i) for i in range(10)}
    splits = one.splits()
    assert len(splits.train) == 1400
    assert {e["labels"][0] for e in splits.dev} == {*map(str, range(10))}
    image = media.read("image", "digits", splits.train[0])
    assert image.size == (8, 8)
    assert np.asarray(image)[..., 0].tolist() == splits.train[0]["pixels"]
    assert max(map(max, splits.train[0]["pixels"])) > 200
    assert one.digest() == image_classification("digits", train=8).digest()


# A model


def test_a_model_of_images_has_its_kind_and_its_processor(model):
    assert models.kind(model) == "vision"
    assert models.processor(model).model_input_names == ["pixel_values"]
    with pytest.raises(UsageError):
        question_answering("pydocs", train=4).formulation("vision")


def test_rows_hold_what_the_processor_makes(folder, model, monkeypatch):
    one = task(folder)
    examples, processor = one.splits().train[:5], models.processor(model)
    formulation = one.formulation("vision")
    rows = formulation.encode(examples, processor)
    own = processor(images=[images.read(media.located(folder, e)) for e in examples], return_tensors="pt")["pixel_values"]
    batch = rows.batch(range(5))
    torch.testing.assert_close(batch["pixel_values"], own)
    assert batch["labels"].tolist() == [int(e["labels"][0] == "red") for e in examples]
    assert rows.lengths.tolist() == [1] * 5
    assert rows.of_example(3).batch([0])["pixel_values"].equal(batch["pixel_values"][3:4])
    assert rows.blank(7, 1)["pixel_values"].shape == (7, 3, 16, 16)
    monkeypatch.setattr(formulation_media, "KEPT_BYTES", 3 * 3 * 16 * 16 * 4)
    again = formulation.encode(examples, processor)  # of which two are read again whenever they are asked for
    assert again.batch(range(5))["pixel_values"].equal(batch["pixel_values"])
    assert "labels" not in formulation.encode(examples, processor, answers=False).columns
    assert len(formulation.encode([], processor)) == 0


def test_it_is_a_model_like_any_other(folder, model):
    of = kinds.tuned(task(folder), model)
    rows = of.formulation.encode(of.recipe.task.splits().train[:9], of.processor)
    kinds.rows_are_like_any_others(of, rows)


@pytest.mark.parametrize(
    "method", [kinds.full(learning_rate=3e-3), peft("lora", learning_rate=3e-3, r=2, target_modules="all-linear")]
)
def test_it_is_taken_up_where_it_was_left(folder, model, method):
    kinds.resumed_is_unbroken(kinds.recipe(task(folder), model, epochs=2, method=method))


@pytest.mark.slow
def test_it_learns_and_its_weights_answer_the_same_elsewhere(folder, model, tmp_path):
    made = "Recipe(task=image_classification(data, train=40, dev=5, test=5), model=model, epochs=4, batch_size=8, "
    made += "method=full(learning_rate=3e-3))"
    kinds.kept_weights_answer_the_same(made, tmp_path, {"data": folder, "model": model})
    *_, last = kinds.train(kinds.recipe(task(folder, train=48), model, epochs=8))
    assert last.scores["accuracy"] == 100
    assert last.tokens == 48 * 8


def test_what_cannot_be_known_of_it_is_unknown_and_no_error(folder, model, tmp_path):
    study = Study(
        kinds.recipe(task(folder), model, method=peft("lora", learning_rate=1e-3, target_modules="all-linear")), maximize="accuracy"
    )
    assert check_data(study) == []
    (plan,) = pairs.plan(study)
    assert plan.problem == ""
    forecast = Forecaster(study).run(study.recipe)
    assert forecast.flops is None
    assert forecast.peak_memory_bytes is not None
    other = dataclasses.replace(study, recipe=dataclasses.replace(study.recipe, model=tiny_vision(tmp_path / "m", size=16)))
    config = json.loads((tmp_path / "m" / "preprocessor_config.json").read_text())
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(config | {"size": {"height": 20, "width": 20}}))
    (plan,) = pairs.plan(other)
    assert "does not take the inputs of this task: ValueError: Input image size (20*20) doesn't match model (16*16)" in plan.problem
    prompts = kinds.recipe(task(folder), model, method=peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=2))
    (plan,) = pairs.plan(Study(prompts, maximize="accuracy"))
    assert "'prompt_tuning'" in plan.problem
