"""Watching served models by their log: load and costs, drift, alarms, quality in use."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from workbench import prices
from workbench.cli import cli
from workbench.cli.feedback import _add
from workbench.data import answers
from workbench.errors import DataError, UsageError
from workbench.formulations import Labelled
from workbench.process import this_process
from workbench.report import in_use
from workbench.serving.log import Entry, Log
from workbench.study import load
from workbench.sweep.to_label import task_of
from workbench.tasks import classification, request
from workbench.watching import alarms, drift, feedback, history, reference, traits, use
from workbench.watching.overview import overview

ASKED = {"text": request.TEXT}
NAMES = ("negative", "neutral", "positive")
MODEL = {"model": "news", "version": 1, "model_id": "m-1"}
WORDS = [f"word{i:03}" for i in range(300)]


def text(rng: np.random.Generator, words: Sequence[str] = WORDS) -> str:
    return " ".join(rng.choice(words, rng.integers(4, 20)))


def known(rng: np.random.Generator, rows: int = 256) -> reference.Reference:
    """What is known of a dev set of such texts."""
    said = [Labelled((NAMES[rng.choice(3, p=(0.2, 0.5, 0.3))],), float(rng.beta(8, 2))) for _ in range(rows)]
    return reference.of([{"text": text(rng)} for _ in range(rows)], said, ASKED)


def served(
    file: Path, seed: int, shares: Sequence[Sequence[float]], words: Sequence[str] = WORDS, sure: float = 8, **more: Any
) -> None:
    """A log, by the server's own writer: a request for every ten rows, of classes drawn with these shares."""
    rng, dev = np.random.default_rng(seed), known(np.random.default_rng(0))
    log = Log(file, MODEL, ASKED, edges=dev.edges)
    about = {"metric": "accuracy", "score": 70.0, "offer": "local", "usd_per_1000": 0.001} | more
    log.event("start", process=this_process(), evidence=about, reference=dev.to_json(), url="http://127.0.0.1:1")
    for first in range(0, len(shares), 10):
        said = [Labelled((NAMES[rng.choice(3, p=share)],), float(rng.beta(sure, 2))) for share in shares[first : first + 10]]
        scores, labels = ([of(each) for each in said] for of in (traits.confidence, traits.label))
        rows = [{"text": text(rng, words), "id": f"row-{first + place}"} for place in range(len(said))]
        log.write(Entry(f"r{first}", 12 * len(rows), 0.1, 0.2, scores, labels), 200, 0.12, rows)
    log.event("usage", seconds=2.0, cpu_seconds=1.0, energy_j=8.0)
    log.close()


CALM, DOUBLED = (0.2, 0.5, 0.3), (0.4, 0.375, 0.225)


def rows_of(file: Path) -> list[history.Row]:
    return history.read(file).of("m-1")


@pytest.mark.slow
def test_a_doubled_rate_raises_an_alarm_within_the_stated_delay(tmp_path: Path) -> None:
    late = 0
    for seed in range(20):
        file = tmp_path / f"{seed}.jsonl"
        served(file, seed, [CALM] * 600 + [DOUBLED] * 400)
        watched = alarms.watch(rows_of(file))
        calm = alarms.watch(rows_of(file)[:600])
        stated = calm.delays["negative"]
        assert stated is not None
        assert stated <= 400
        first = next((alarm for alarm in watched.alarms if alarm.label == "negative"), None)
        late += first is None or not 600 < first.row <= 600 + stated
        if first is not None:
            assert first.after > first.before + 0.08
    assert late <= 3  # one of twenty is expected


def test_a_class_that_becomes_rare_is_told_too(tmp_path: Path) -> None:
    served(tmp_path / "a.jsonl", 0, [(0.5, 0.3, 0.2)] * 600 + [(0.15, 0.51, 0.34)] * 300)
    first = alarms.watch(rows_of(tmp_path / "a.jsonl")).alarms[0]
    assert (first.label, first.rose) == ("negative", False)
    assert 600 < first.row < 800
    assert first.after < first.before / 2


@pytest.mark.slow
def test_of_twenty_unchanged_streams_at_most_one_raises_an_alarm(tmp_path: Path) -> None:
    raised = 0
    for seed in range(20):
        file = tmp_path / f"{seed}.jsonl"
        served(file, 100 + seed, [CALM] * (alarms.NEEDED + alarms.HORIZON))
        raised += bool(alarms.watch(rows_of(file)).alarms)
    assert raised <= 1


def test_the_test_is_river_s() -> None:
    river = pytest.importorskip("river.drift")
    rng = np.random.default_rng(0)
    for threshold in (0.3, 0.8, 2.0):
        values = np.concatenate([rng.binomial(10, 0.2, 60), rng.binomial(10, 0.45, 60)]) / 10
        detector, first = river.PageHinkley(min_instances=1, delta=0.05, threshold=threshold, alpha=1.0, mode="up"), None
        for at, value in enumerate(values):
            detector.update(value)
            if detector.drift_detected and first is None:
                first = at
        ours = alarms.page_hinkley(values[:, None], 0.05)[0][:, 0] > threshold
        assert first == (int(ours.argmax()) if ours.any() else None)


@pytest.mark.slow
def test_an_unchanged_stream_has_no_drift_and_a_changed_one_has_what_changed(tmp_path: Path) -> None:
    false = 0
    for seed in range(20):
        file = tmp_path / f"{seed}.jsonl"
        served(file, seed, [CALM] * 500)
        read = history.read(file)
        found = drift.drifts(known(np.random.default_rng(0)), read.of("m-1"), read.words)
        assert {each.what for each in found} == {"length", "class", "confidence", "words"}
        false += any(each.drifted for each in found)
    assert false <= 1
    served(tmp_path / "other.jsonl", 1, [DOUBLED] * 500, WORDS[:40], 3)
    read = history.read(tmp_path / "other.jsonl")
    moved = {each.what for each in drift.drifts(known(np.random.default_rng(0)), read.of("m-1"), read.words) if each.drifted}
    assert moved == {"class", "confidence", "words"}
    served(tmp_path / "few.jsonl", 1, [CALM] * 20)
    read = history.read(tmp_path / "few.jsonl")
    assert drift.drifts(known(np.random.default_rng(0)), read.of("m-1"), read.words) == []


def test_no_text_can_be_read_from_what_is_kept() -> None:
    secret = "the account of Zaphod Beeblebrox is overdrawn"
    made = reference.of([{"text": secret}] * 3, [Labelled(("negative",), 0.5)] * 3, ASKED).to_json()
    assert not any(word in json.dumps(made) for word in secret.split())
    assert made["lengths"] == [len(secret)] * 3


def test_idle_time_is_paid_for(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    served(file, 0, [CALM] * 100)
    written = [json.loads(line) for line in file.read_text().splitlines()]
    written[-1]["uptime_seconds"] = 3600.0
    written[-1]["seconds"] = 3600.0
    refusal = {**written[1], "status": 400, "rows": 0, "labels": [], "scores": [], "lengths": [], "ids": []}
    file.write_text("".join(json.dumps(line) + "\n" for line in [*written, refusal]) + '{"broken')
    offer = prices.find("aws:g5.xlarge") if any(o.instance == "g5.xlarge" for o in prices.load()) else prices.find("local")
    (found,) = use.uses(history.read(file), offer)
    assert (found.requests, found.rows, found.refused, found.failed, found.tokens) == (10, 100, 1, 0, 1200)
    assert found.usd == pytest.approx(float(offer.usd_per_hour), rel=1e-6)
    assert found.usd_per_1000 == pytest.approx(10 * float(offer.usd_per_hour), rel=1e-6)
    assert found.p50 == pytest.approx(0.12)
    assert found.load_per_second == pytest.approx(100 / 3600)
    assert found.full_usd_per_1000 == pytest.approx(float(offer.usd_per_hour) / 3600 * 0.01 * 1000 / max(1, offer.gpus), rel=1e-3)
    assert found.energy_j_per_1000 == pytest.approx(80.0)
    assert found.runs is True


def test_a_page_of_sentences_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    served(history.log_file("news"), 0, [CALM] * 600 + [DOUBLED] * 400)
    done = CliRunner().invoke(cli, ["watch"], catch_exceptions=False)
    assert done.exit_code == 0
    for said in (
        "news 1",
        "runs",
        "Alarm at row",
        "negative rose from",
        "for 1,000, idle time included",
        "Accuracy 70.0 on the dev set",
    ):
        assert said in done.output
    record = json.loads(CliRunner().invoke(cli, ["watch", "news", "--json"], catch_exceptions=False).stdout)
    (model,) = record["models"]
    assert model["rows"] == 1000
    assert model["classes"]["alarms"][0]["label"] == "negative"
    assert {each["what"] for each in model["drift"] if each["drifted"]} == {"class"}
    with pytest.raises(UsageError, match=r"no log of 'new'.*news"):
        history.find("new")


class Graded:
    """What `feedback.quality` needs of a task."""

    teachable, metrics = True, ("accuracy",)

    def asked(self) -> dict[str, str]:
        return ASKED

    def example(self, row: Any) -> Any:
        return dict(row)

    def told(self, example: Any, prediction: Labelled) -> Any:
        return {**example, "labels": [*prediction.labels]}

    def grade_plain(self, examples: Any, predictions: Any) -> dict[str, float]:
        return {"accuracy": 100 * float(np.mean([e["labels"] == [*p.labels] for e, p in zip(examples, predictions, strict=True)]))}


def test_right_answers_are_joined_by_id_and_give_the_score_in_use(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    served(log, 0, [CALM] * 50)
    rows = rows_of(log)
    right = {row.id: str(row.label) if number % 5 else "neutral" for number, row in enumerate(rows[:40])}
    (tmp_path / "answers.csv").write_text(
        "id,label\n" + "".join(f"{name},{label}\n" for name, label in right.items()) + "row-9000,x\nrow-41,\n"
    )
    given = feedback.read(tmp_path / "answers.csv")
    assert given == {**right, "row-9000": "x"}
    joined = feedback.joined(rows, given)
    assert len(joined) == 40
    expected = 100 * np.mean([row.label == label for row, label in joined])
    found = feedback.quality(Graded(), joined, "accuracy")  # type: ignore[arg-type]
    assert (found.metric, found.examples) == ("accuracy", 40)
    assert found.value == pytest.approx(expected)
    assert found.low is not None
    assert found.high is not None
    assert found.low < expected < found.high
    feedback.save(log, feedback.Known(right, {"m-1": found}))
    assert feedback.load(log) == feedback.Known(right, {"m-1": found})
    model = overview(history.read(log), feedback.load(log).quality, prices.find("local")).models[0]
    assert "In use accuracy" in in_use.quality_text(model)
    assert "by 40 right answers" in in_use.quality_text(model)
    with pytest.raises(DataError, match=r"row-0: 'negativ' is no class.*negative"):
        feedback.check_labels({"row-0": "negativ"}, NAMES)
    for name, content, said in (
        ("a.csv", "id,label\na,x\na,y\n", "answered by 'y' and by 'x'"),
        ("b.csv", "number,label\n1,x\n", "has no 'id'"),
        ("c.jsonl", '{"id": "a", "said": "x"}\n', "has no 'label'"),
        ("d.xlsx", "", "CSV, TSV, JSON"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=said):
            feedback.read(tmp_path / name)


def test_rows_without_an_id_are_known_by_their_request(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.jsonl", MODEL, ASKED)
    log.event("start", process=this_process(), evidence={})
    entry = Entry("abc", 3, 0.1, 0.1, [0.5, 0.5], ["x", "y"])
    log.write(entry, 200, 0.1, [{"text": "one"}, {"text": "two", "id": "mine"}])
    log.close()
    assert [row.id for row in rows_of(tmp_path / "a.jsonl")] == ["abc/0", "mine"]


def test_inputs_are_logged_redacted_and_files_never(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.jsonl", MODEL, {"text": request.TEXT, "image": request.FILE}, inputs=True)
    log.event("start", process=this_process(), evidence={})
    body = json.dumps({"predictions": ["write to mary@example.org"]}).encode()
    log.write(Entry("abc", 3, 0.1, 0.1, [None], [None]), 200, 0.1, [{"text": "I am bob@example.com", "image": "QUJD"}], body)
    log.close()
    (row,) = rows_of(tmp_path / "a.jsonl")
    assert (row.asked, row.answer) == ({"text": "I am [EMAIL]"}, "write to [EMAIL]")
    assert "QUJD" not in (tmp_path / "a.jsonl").read_text()


STUDY = """
from workbench import Recipe, Study, choice, full
from workbench.tasks import classification

study = Study(
    Recipe(
        task=classification("news.csv", train=choice(10, 20), dev=10, text="headline"),
        model="tiny",
        method=full(learning_rate=1e-3),
        epochs=1,
    ),
    maximize="accuracy",
)
"""


def test_answered_texts_become_labels_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"text number {i},{NAMES[i % 3]}\n" for i in range(60)]
    Path("news.csv").write_text("headline,label\n" + "".join(rows))
    Path("my.py").write_text(STUDY)

    def row(number: int, asked: Any) -> history.Row:
        return history.Row(0.0, "m-1", f"row-{number}", "neutral", 0.9, 5, asked, None)

    joined = [
        (row(1, {"text": "a new one"}), "negative"),
        (row(2, {"text": "text number 3"}), "positive"),
        (row(3, None), "neutral"),
    ]
    task = task_of(load("my.py"))
    assert _add(task, joined, NAMES) == 1  # one has a label already, and of one the text was not logged
    (kept,) = answers.given("news.csv")
    assert {"headline": "a new one", "label": "negative"}.items() <= kept.items()
    assert _add(task, joined, NAMES) == 0
    with pytest.raises(UsageError, match=r"texts of these rows are not in the log.*--log-inputs"):
        _add(task, [(row(3, None), "neutral")], NAMES)
    again = classification("news.csv", train=20, dev=10, text="headline")
    assert [example["text"] for example in again.pool() or ()][-1] == "a new one"  # bought last
