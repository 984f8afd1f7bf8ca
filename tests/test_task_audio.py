"""Sound: how it is read and resampled, classes of it, what is said in it, and that a row is worth the same in any batch."""

import json

import kinds
import numpy as np
import pytest

from workbench import Study, peft
from workbench.data import fingerprints, load, models, sounds
from workbench.data.media import LabelledFiles, Transcripts
from workbench.errors import DataError, UsageError
from workbench.forecast import pairs
from workbench.forecast.forecaster import Forecaster
from workbench.formulations.speech import plain
from workbench.sweep import check_data
from workbench.tasks import audio_classification, speech_recognition
from workbench.tasks.speech_scores import speech_scores
from workbench.testing import tiny_audio

torch = pytest.importorskip("torch")
soundfile = pytest.importorskip("soundfile")
jiwer = pytest.importorskip("jiwer")
LETTERS = "abc"


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


@pytest.fixture(scope="module", params=["masks", "norms over rows"])
def model(request, tmp_path_factory):
    return tiny_audio(tmp_path_factory.mktemp("audio"), masks=request.param == "masks")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return tiny_audio(tmp_path_factory.mktemp("classifier"), writes=False)


def tone(letter, seconds, rate=8000):
    """Each letter is a height."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (400 + 900 * LETTERS.index(letter)) * t)


def write(path, samples, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(samples, np.float32), rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for i in range(60):
        letter = LETTERS[i % 2]
        samples = tone(letter, 0.1 + 0.01 * (i % 7))
        write(tmp_path / "sounds" / letter / f"{i}.wav", samples + 0.02 * rng.normal(size=len(samples)))
    return str(tmp_path / "sounds")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        word = "".join(rng.choice(list(LETTERS), 2 + i % 6))
        samples = np.concatenate([tone(c, 0.1) for c in word])
        write(tmp_path / "said" / f"{i}.flac", samples + 0.02 * rng.normal(size=len(samples)))
        rows.append({"audio": f"said/{i}.flac", "text": f"{word.upper()} {i}!"})
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "t.jsonl")


def classes(data, **settings):
    return audio_classification(data, **{"train": 24, "dev": 6, "test": 4, "max_seconds": 0.14} | settings)


def speech(data, **settings):
    return speech_recognition(data, **{"train": 24, "dev": 6, "test": 4} | settings)


# Data


def test_sound_is_one_channel_at_the_rate_that_is_asked_for(tmp_path):
    both = np.stack([tone("a", 0.5), 0 * tone("a", 0.5)], 1)
    write(tmp_path / "a.wav", both)
    samples, rate = sounds.read(tmp_path / "a.wav")
    assert (samples.shape, rate, samples.dtype) == ((4000,), 8000, np.float32)
    np.testing.assert_allclose(samples, both.mean(1), atol=1e-3)
    assert sounds.check(tmp_path / "a.wav") == {"seconds": 0.5}
    up = sounds.resampled(samples, 8000, 16000)
    assert up.shape == (8000,)
    expected = 0.25 * np.sin(2 * np.pi * 400 * np.arange(8000) / 16000)
    np.testing.assert_allclose(up[500:-500], expected[500:-500], atol=5e-3)
    assert sounds.resampled(samples, 8000, 8000) is samples


def test_what_is_said_stands_on_one_side(table):
    found = load(table, Transcripts("sound"))
    assert found.train[0].keys() == {"id", "file", "content", "seconds", "text"}
    assert len(found.train) == 48


def test_files_that_cannot_be_are_refused(tmp_path, folder):
    (tmp_path / "bad.wav").write_text("no sound")
    (tmp_path / "t.csv").write_text("path,text\nbad.wav,x\n")
    with pytest.raises(DataError, match=r"bad\.wav: not a sound that can be read"):
        load(str(tmp_path / "t.csv"), Transcripts("sound"))
    with pytest.raises(DataError, match=r"rows are no images that are read"):
        load(folder, LabelledFiles("image"))
    for made in (classes, speech):
        with pytest.raises(UsageError, match="max_seconds must be a number above 0"):
            made("a", max_seconds=0)
        with pytest.raises(UsageError, match=r"it hears no sound\. Choose a model of sound"):
            speech("a").formulation("vision")


# Classes


def test_models_of_sound_have_their_kind_and_their_processor(model, classifier):
    assert models.kind(model) == models.kind(classifier) == "audio"
    assert models.processor(model).tokenizer.get_vocab()["a"] == 5
    assert models.processor(classifier).sampling_rate == 16000


def test_rows_are_of_one_size_cut_or_filled_up(folder, classifier):
    one = classes(folder)
    rows = one.formulation("audio").encode(one.splits().train[:9], models.processor(classifier))
    batch = rows.batch(range(9))
    assert tuple(batch["input_values"].shape) == tuple(batch["attention_mask"].shape) == (9, 2240)
    assert {*batch["attention_mask"].sum(1).tolist()} >= {1600, 2240}
    assert rows.lengths.tolist() == [7] * 9
    found = one.formulation("audio").reach(one.splits().train, models.processor(classifier))
    assert "longer than max_seconds=0.14" in found.told("train sounds")


def test_classes_are_told_like_any_others(folder, model, classifier):
    for each in (model, classifier):
        of = kinds.tuned(classes(folder), each)
        rows = of.formulation.encode(of.recipe.task.splits().train[:9], of.processor)
        kinds.rows_are_like_any_others(of, rows)


@pytest.mark.slow
def test_kept_weights_tell_the_same_classes_elsewhere(folder, classifier, tmp_path):
    made = (
        "Recipe(task=audio_classification(data, train=40, dev=5, test=5, max_seconds=0.14), model=model, epochs=1, batch_size=8, "
    )
    made += "method=full(learning_rate=3e-3))"
    kinds.kept_weights_answer_the_same(made, tmp_path, {"data": folder, "model": classifier})


@pytest.mark.parametrize("model", ["masks", pytest.param("norms over rows", marks=pytest.mark.slow)], indirect=True)
def test_classes_are_taken_up_where_they_were_left(folder, model):
    kinds.resumed_is_unbroken(kinds.recipe(classes(folder), model, epochs=2, method=kinds.full(learning_rate=3e-3)))


# Speech


def test_letters_are_those_that_are_heard_and_known(table, model):
    one = speech(table)
    formulation, processor = one.formulation("audio"), models.processor(model)
    example = one.splits().train[0] | {"text": "Ab, c 9!"}
    rows = formulation.encode([example], processor)
    assert rows.columns["labels"][0].tolist() == [5, 6, 4, 7, 4]
    assert rows.items.tolist() == [5]
    found = formulation.reach([example, one.splits().train[0] | {"text": "a"}], processor)
    assert found.told("texts").startswith("1 of 2 texts (50 %) lose a part: 1 that this model has no letter for. They are left out")
    assert formulation.decode([example], rows, [np.array([5, 5, 0, 5, 6, 4, 4, 7])], processor) == ["aab c"]
    assert plain("It's  _so_ “good”!") == "it's so good"
    long = formulation.reach([example | {"seconds": 30}], processor)
    assert (long.targets, sum(long.missed.values())) == (1, 1)
    kept = formulation.encode([example | {"seconds": 30}, example], processor)
    assert kept.example.tolist() == [1]
    assert formulation.decode([example, example], kept, [np.array([5])], processor) == ["", "a"]
    with pytest.raises(UsageError, match="none of 1 sounds is short enough for max_seconds=20"):
        formulation.encode([example | {"seconds": 30}], processor)


def test_a_model_without_letters_is_refused(table, classifier):
    (plan,) = pairs.plan(Study(kinds.recipe(speech(table), classifier), maximize="word_accuracy"))
    assert "comes without letters to write" in plan.problem


def test_speech_is_written_like_anything_else(table, model):
    of = kinds.tuned(speech(table), model)
    rows = of.formulation.encode(of.recipe.task.splits().train[:9], of.processor)
    kinds.batch_is_alone(of, rows, sizes=2)
    kinds.cuts_change_no_gradient(of, rows)
    batch = rows.batch(np.flatnonzero(rows.lengths == rows.lengths.max()))
    of.model.config.ctc_loss_reduction = "sum"
    torch.testing.assert_close(kinds.loss(of, batch), of.model(**batch).loss, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("model", ["masks", pytest.param("norms over rows", marks=pytest.mark.slow)], indirect=True)
def test_speech_is_taken_up_where_it_was_left(table, model):
    lora = peft("lora", learning_rate=3e-3, r=2, target_modules="all-linear")
    kinds.resumed_is_unbroken(kinds.recipe(speech(table), model, epochs=2, method=lora))


@pytest.mark.slow
def test_speech_is_learned_and_its_weights_answer_the_same_elsewhere(table, model, tmp_path):
    made = "Recipe(task=speech_recognition(data, train=40, dev=5, test=5), model=model, epochs=1, batch_size=8, "
    made += "method=full(learning_rate=3e-3))"
    if model.endswith("audio0"):
        kinds.kept_weights_answer_the_same(made, tmp_path, {"data": table, "model": model})
    first, *_, last = kinds.train(kinds.recipe(speech(table, train=48), model, epochs=8))
    assert last.scores["dev_loss"] < first.scores["dev_loss"]
    assert {"wer", "cer", "word_accuracy"} <= last.scores.keys()


@pytest.mark.parametrize("model", ["masks", pytest.param("norms over rows", marks=pytest.mark.slow)], indirect=True)
def test_what_cannot_be_known_of_sound_is_unknown_and_no_error(folder, table, model):
    for task, score in ((classes(folder), "accuracy"), (speech(table), "word_accuracy")):
        study = Study(kinds.recipe(task, model), maximize=score)
        check_data(study)
        (plan,) = pairs.plan(study)
        assert plan.problem == ""
        forecast = Forecaster(study).run(study.recipe)
        assert forecast.flops is None
        assert forecast.tokens > 0


# Scores


def test_scores_are_jiwers():
    truth, given = ["the cat sat", "Hello, world", "a"], ["the cat sit down", "hello world", ""]
    found = speech_scores(truth, given)
    assert found["wer"] == pytest.approx(100 * jiwer.wer(["the cat sat", "hello world", "a"], given)) == pytest.approx(100 * 3 / 6)
    assert found["cer"] == pytest.approx(100 * jiwer.cer(["the cat sat", "hello world", "a"], given))
    assert found["word_accuracy"] == pytest.approx(50)
    assert speech_scores(["a"], ["a b c d"])["word_accuracy"] == 0
    assert speech_scores(["!"], ["a"]) == {}
    with pytest.raises(UsageError, match=r"maximize='wer': lower is better\. It is recorded; maximize word_accuracy or"):
        Study(kinds.recipe(speech("a.csv"), "m"), maximize="wer")
