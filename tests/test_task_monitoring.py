"""Monitoring: alarms about a stream whose share of negative texts rises, and the built-in data set of opinions."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from workbench import Recipe, Study, choice, logistic
from workbench.data import fingerprints, load, opinions
from workbench.errors import EnvironmentFault, UsageError
from workbench.formulations import Labelled
from workbench.study import load as load_study
from workbench.sweep.to_label import task_of
from workbench.tasks import alarm_scores, classification, monitoring
from workbench.tasks.alarm_scores import STREAMS, Stream

STUDY = Path(__file__).parents[1] / "studies" / "sentiment.py"
LABELS = ("negative", "neutral", "positive")
WATCH = Stream(usual=0.2, surge=0.5, false_alarm_rate=0.05, window=10, within=100)


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


def told(noise, seed=0, count=240):
    """Whether each text is negative, and whether a classifier says so that guesses a share `noise` of them."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    rng.shuffle(truth)
    guesses = np.where(rng.random(count) < noise, rng.integers(0, 3, count), truth)
    return truth == 0, guesses == 0


@pytest.fixture(scope="module")
def by_noise():
    """Scores of classifiers that guess none, 30 % and all of their labels, of five draws each."""
    pytest.importorskip("river")
    return {noise: [alarm_scores.alarm_scores(*told(noise, seed), WATCH) for seed in range(5)] for noise in (0.0, 0.3, 1.0)}


def test_a_better_classifier_notices_more_and_sooner(by_noise):
    mean = {noise: {name: np.mean([each[name] for each in of if name in each]) for name in of[0]} for noise, of in by_noise.items()}
    oracle = by_noise[0.0][0]["alarm_delay"]
    assert all(noisy["alarm_delay"] > oracle + 10 for noisy in by_noise[0.3])
    assert mean[0.0]["alarm_recall"] > 95 > 90 > mean[0.3]["alarm_recall"]
    assert mean[0.3]["alarm_recall"] > 70 > 10 > mean[1.0]["alarm_recall"]
    assert mean[0.0]["alarm_precision"] > 90 > 70 > mean[1.0]["alarm_precision"]


def test_streams_without_a_rise_keep_the_stated_rate(by_noise):
    rates = [each["false_alarm_rate"] for of in by_noise.values() for each in of]
    error = 100 * (0.05 * 0.95 / (2 * STREAMS)) ** 0.5
    assert max(rates) <= 5 + 3 * error
    assert np.mean(rates) <= 5 + 3 * error / len(rates) ** 0.5
    loose = Stream(usual=0.2, surge=0.5, false_alarm_rate=0.3, window=10, within=100)
    many = alarm_scores.alarm_scores(*told(0.3), loose)
    assert 20 < many["false_alarm_rate"] < 40
    assert many["alarm_delay"] < by_noise[0.3][0]["alarm_delay"]


def test_a_threshold_is_the_lowest_that_keeps_the_rate():
    pytest.importorskip("river")
    shares = np.random.default_rng(0).binomial(10, 0.2, (STREAMS, alarm_scores.WINDOWS)) / 10
    for rate, most in ((0.01, 0), (0.05, 4), (0.3, 29)):
        threshold = alarm_scores._threshold(shares, 0.1, rate)
        passed = [int((alarm_scores._alarms(shares, at, 0.1) <= alarm_scores.WINDOWS).sum()) for at in (threshold, threshold - 0.1)]
        assert passed[0] <= most < passed[1]


def test_what_an_alarm_is_by_hand():
    pytest.importorskip("river")
    quiet = [0.2] * alarm_scores.WINDOWS
    risen = [0.2] * 20 + [0.9] * 20
    # A mean of 0.2 until then; after k windows at 0.9 the statistic is about 0.7 k less the slack.
    assert alarm_scores._alarms(np.array([quiet, risen]), 1.0, 0.1).tolist() == [41, 22]
    assert alarm_scores._alarms(np.array([quiet, risen]), 0.5, 0.1).tolist() == [41, 21]


def test_one_that_never_says_negative_raises_no_alarm():
    pytest.importorskip("river")
    truth, _ = told(0)
    none = alarm_scores.alarm_scores(truth, [False] * len(truth), WATCH)
    assert none["alarm_recall"] == none["false_alarm_rate"] == 0
    assert "alarm_precision" not in none
    assert none["alarm_delay"] > 100, "a rise that is not noticed counts until the end of the stream"
    assert alarm_scores.alarm_scores([True] * 8, [True] * 8, WATCH) == {}


def test_a_missing_river_is_told_of(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "river.drift", None)
    with pytest.raises(EnvironmentFault, match=r"river, which is not installed.*workbench\[monitoring\]"):
        monitoring("opinions", train=8, dev=16).provision()


# The task


def test_settings_are_checked(tmp_path):
    with pytest.raises(UsageError, match=r"surge=0.1 is no rise from usual=0.2"):
        monitoring("opinions", train=8, surge=0.1)
    with pytest.raises(UsageError, match=r"false_alarm_rate must be a share from 0\.01 to 0\.5"):
        monitoring("opinions", train=8, false_alarm_rate=0)
    with pytest.raises(UsageError, match="window must be a whole number of at least 1"):
        monitoring("opinions", train=8, window=0)
    with pytest.raises(UsageError, match="several= is not for monitoring"):
        monitoring("opinions", train=8, several=True)
    with pytest.raises(UsageError, match=r"watched='negativ' is no label of 'opinions'. Give one .*Did you mean 'negative'"):
        monitoring("opinions", train=8, watched="negativ").splits()
    recipe = Recipe(task=monitoring("opinions", train=8), model="m", method=logistic(), epochs=0)
    with pytest.raises(UsageError, match="lower is better"):
        Study(recipe, maximize="alarm_delay")
    assert Study(recipe, maximize="worst_group_alarm_recall")


def test_scores_of_examples_and_of_each_topic():
    pytest.importorskip("river")
    one = monitoring("opinions", train=8, dev=720)
    examples = one.splits().dev
    # Right about all topics but films, where everything is taken for good.
    given = [Labelled(("positive",) if e["group"] == "films" else tuple(e["labels"]), 0.9) for e in examples]
    scores = one.grade(examples, given)
    assert {*one.metrics, *one.lower_is_better} <= scores.keys()
    assert scores["worst_group_alarm_recall"] == 0
    assert scores["gap_alarm_recall"] > 90
    assert scores["accuracy"] == pytest.approx(100 * (1 - 120 / 720))


def test_it_reads_a_file_of_ones_own_and_learns(tmp_path, tiny):
    pytest.importorskip("river")
    from workbench.training import train

    rng = np.random.default_rng(0)
    rows = []
    for i in range(240):
        words = rng.integers(20, 60, 6)
        words[2] = 5 + i % 3
        said = " ".join(f"w{n}" for n in words)
        rows.append(json.dumps({"body": said, "tone": ("Bad", "good", "so so")[i % 3], "sector": "ab"[i % 2]}) + "\n")
    (tmp_path / "news.jsonl").write_text("".join(rows))
    task = monitoring(
        str(tmp_path / "news.jsonl"), train=96, dev=24, text="body", label="tone", group="sector", watched="bad", fold_labels=True
    )
    assert set(task.words()) == {"bad", "good", "so so"}
    (checkpoint,) = train(Recipe(task=task, model=tiny, method=logistic(C=10), epochs=0))
    assert {"alarm_recall", "alarm_delay", "macro_f1", "calibration_error"} <= checkpoint.scores.keys()


# The topic, too


def topical(**more):
    return monitoring("opinions", train=24, dev=480, topics=True, **more)


def test_a_class_is_a_topic_with_a_label():
    task = topical()
    splits, plain = task.splits(), monitoring("opinions", train=24, dev=480).splits()
    assert [each["id"] for each in splits.train] == [each["id"] for each in plain.train]
    assert all(a["labels"] == [f"{b['group']}: {b['labels'][0]}"] for a, b in zip(splits.dev, plain.dev, strict=True))
    assert {each["labels"][0] for each in task.pool()} == {*task.class_names()}
    assert task.words()["films: negative"] == "films, negative"
    assert len(task.words()) == 4 * 3
    assert task.portable().words() == task.words()
    assert task.portable().portable() == task.portable()
    assert task.formulation("decoder").choices == tuple(task.words().values())
    assert "topic" in task.instruction
    assert "topic" not in monitoring("opinions", train=8).instruction
    with pytest.raises(UsageError, match="watched='films: negative' is no label"):
        topical(watched="films: negative").splits()
    with pytest.raises(UsageError, match="topics must be True or False"):
        monitoring("opinions", train=8, topics="films")


def test_each_topic_is_watched_in_a_stream_of_all():
    pytest.importorskip("river")
    task = topical()
    examples = task.splits().dev
    right = [Labelled(tuple(each["labels"]), 0.9) for each in examples]
    # Bad news of films are taken for bad news of politics: a rise there is noticed, and of the wrong topic.
    swapped = [Labelled((each["labels"][0].replace("films:", "politics:"),), 0.9) for each in examples]
    good, bad = task.grade(examples, right), task.grade(examples, swapped)
    assert {*task.metrics, *task.lower_is_better} <= good.keys()
    assert good["topic_accuracy"] == good["label_accuracy"] == good["accuracy"] == 100
    others = 100 * sum(each["group"] != "films" for each in examples) / len(examples)
    assert bad["label_accuracy"] == 100
    assert bad["topic_accuracy"] == bad["accuracy"] == pytest.approx(others)
    assert bad["alarm_recall"] == good["alarm_recall"] > 95, "whatever the topic"
    assert bad["topic_alarm_recall"] < good["topic_alarm_recall"] - 20
    assert bad["topic_alarm_delay"] > good["topic_alarm_delay"]
    assert good["topic_false_alarm_rate"] < 10
    said_nothing = task.score(examples, [Labelled((), None)] * len(examples))
    assert said_nothing["topic_accuracy"] == said_nothing["topic_alarm_recall"] == 0


def test_topics_need_a_column_and_one_label_is_asked_for_at_a_time(tmp_path):
    file = tmp_path / "news.csv"
    file.write_text("text,label\n" + "".join(f"text {i} w{i % 7},{('negative', 'good')[i % 2]}\n" for i in range(60)))
    with pytest.raises(UsageError, match=r"has no column of topics. Name it: group="):
        monitoring(str(file), train=8, topics=True).splits()
    study = Study(Recipe(task=topical(), model="m", method=logistic()), maximize="topic_alarm_recall")
    with pytest.raises(UsageError, match="topics=True asks for two"):
        task_of(study)
    assert study.recipe.epochs == 0


def test_the_study_reads_built_in_data_or_what_it_is_given(monkeypatch):
    study = load_study(STUDY)
    assert study.recipe.task.data == "opinions"
    assert study.question.startswith("What do people think of")
    for name, value in {"": "news.csv", "_LABEL": "tone", "_TOPIC": "sector", "_WATCHED": "bearish"}.items():
        monkeypatch.setenv(f"SENTIMENT{name}", value)
    task = load_study(STUDY).recipe.task
    assert (task.data, task.label, task.group, task.watched) == ("news.csv", "tone", "sector", "bearish")


# Opinions


def test_opinions_are_balanced_and_apart():
    sides = opinions.load()
    assert {side: len(examples) for side, examples in sides.items()} == {"train": 2160, "dev": 720, "test": 720}
    every = [example for examples in sides.values() for example in examples]
    assert len({example["id"] for example in every}) == len({example["text"].casefold() for example in every}) == 3600
    for side, share in (("train", 180), ("dev", 60), ("test", 60)):
        for topic in opinions.SOURCES:
            counts = [sum(e["group"] == topic and e["labels"] == [label] for e in sides[side]) for label in LABELS]
            assert counts == [share] * 3
    assert opinions.FILE.stat().st_size < 350_000
    licence = opinions.FILE.with_name("opinions.LICENSE.txt").read_text()
    assert "The MIT License" in licence
    assert "vaderSentiment 3.3.2" in licence
    assert len(classification("opinions", train=choice(8, 16)).words()) == 3


def test_opinions_are_selected_by_ratings_whatever_the_order(tmp_path):
    assert [opinions.label_of(rating) for rating in (-1, -0.75, -0.5, 0, 0.5, 0.9, 1.0)] == [
        *("negative", "", "neutral", "neutral", "neutral", "", "positive")
    ]
    lines = [f"{i}\t{(i % 9) - 4}\ta &lt; text  with words{i}\n" for i in range(60)] + ["x\t-3\ttoo short\n", lines_again()]
    for order in (lines, lines[::-1]):
        for file in opinions.SOURCES.values():
            (tmp_path / file).write_text("".join(order))
        made = opinions.select(tmp_path, per_cell=5)
        assert made == opinions.select(tmp_path, per_cell=5)
    rows = gzip.decompress(made).decode().splitlines()
    # One topic holds all: a text that was taken once is not taken again.
    assert rows[0] == "text,label,topic,rating"
    assert len(rows) == 1 + 3 * 5
    assert all(row.startswith("a < text with words") for row in rows[1:])


def lines_again():
    """A text of the first topic once more."""
    return "y\t-3\tA &lt; text with words1\n"


def test_the_licence_is_beside_the_file_in_a_wheel():
    """A wheel takes all files of the folder but those of the suffix `.md`."""
    beside = {each.name for each in Path(opinions.__file__).parent.glob("opinions*")}
    assert beside == {"opinions.py", "opinions.csv.gz", "opinions.LICENSE.txt"}
