"""Watching served models by their log: load and costs, drift, alarms, quality in use."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from workbench import prices
from workbench.cli import cli
from workbench.cli.feedback import _add
from workbench.data import answers, fingerprints
from workbench.errors import DataError, UsageError
from workbench.formulations import Labelled
from workbench.process import this_process
from workbench.report import in_use
from workbench.serving.log import Entry, Log
from workbench.study import load
from workbench.sweep import answered
from workbench.tasks import classification, question_answering, request, text_generation
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
    return reference.of([{"text": text(rng)} for _ in range(rows)], said, ASKED, embedded(rng, rows))


def embedded(rng: np.random.Generator, rows: int, moved: float = 0.0) -> np.ndarray:
    """Where rows lie for a model: in four directions, alike but for the second."""
    return rng.normal((0, moved, 0, 0), (1, 0.1, 1, 1), (rows, 4))


def served(
    file: Path,
    seed: int,
    shares: Sequence[Sequence[float]],
    words: Sequence[str] = WORDS,
    sure: float = 8,
    moved: float = 0.0,
    **of: Any,
) -> None:
    """A log, by the server's own writer: a request for every ten rows, of classes drawn with these shares, by a model of such
    evidence.
    """
    rng, dev = np.random.default_rng(seed), known(np.random.default_rng(0))
    log = Log(file, MODEL, ASKED, dev=dev)
    about = {"metric": "accuracy", "score": 70.0, "offer": "local", "usd_per_1000": 0.001, **of}
    log.event("start", process=this_process(), evidence=about, reference=dev.to_json(), url="http://127.0.0.1:1")
    for first in range(0, len(shares), 10):
        said = [Labelled((NAMES[rng.choice(3, p=share)],), float(rng.beta(sure, 2))) for share in shares[first : first + 10]]
        scores, labels = ([of(each) for each in said] for of in (traits.confidence, traits.label))
        rows = [{"text": text(rng, words), "id": f"row-{first + place}"} for place in range(len(said))]
        entry = Entry(f"r{first}", 12 * len(rows), 0.1, 0.2, scores, labels, embeddings=embedded(rng, len(rows), moved))
        log.write(entry, 200, 0.12, rows)
    log.event("usage", seconds=2.0, cpu_seconds=1.0, energy_j=8.0)
    log.close()


CALM, DOUBLED = (0.2, 0.5, 0.3), (0.4, 0.375, 0.225)


def rows_of(file: Path) -> list[history.Row]:
    return history.read(file).of("m-1")


def stream(seed: int, shares: Sequence[Sequence[float]]) -> list[history.Row]:
    """Rows of classes drawn with these shares."""
    drawn = np.random.default_rng(seed).random(len(shares))
    labels = [NAMES[int(np.searchsorted(np.cumsum(share)[:-1], each))] for share, each in zip(shares, drawn, strict=True)]
    return [history.Row(float(i), "m-1", f"row-{i}", label, 0.9, 5, None, None) for i, label in enumerate(labels)]


@pytest.mark.parametrize("calm", [300, 600])  # right behind the rows that taught what is usual, and later
def test_a_doubled_rate_raises_an_alarm_within_the_stated_delay(calm: int) -> None:
    late, stated = 0, list[int]()
    for seed in range(20):
        rows = stream(seed, [CALM] * calm + [DOUBLED] * alarms.HORIZON)
        within = alarms.watch(rows[:calm]).delays["negative"]
        stated.append(alarms.HORIZON if within is None else within)
        first = next((alarm for alarm in alarms.watch(rows).alarms if alarm.label == "negative"), None)
        late += first is None or not calm < first.row <= calm + stated[-1]
        if first is not None:
            assert first.after > first.before + 0.08
    assert late <= 3  # one of twenty is expected
    assert np.median(stated) <= (400 if calm == 600 else 900)


def test_a_class_that_becomes_rare_is_told_too() -> None:
    first = alarms.watch(stream(0, [(0.5, 0.3, 0.2)] * 600 + [(0.15, 0.51, 0.34)] * 300)).alarms[0]
    assert (first.label, first.rose) == ("negative", False)
    assert 600 < first.row < 800
    assert 500 < first.since_row < first.row
    assert first.after < first.before / 2


def test_of_twenty_unchanged_streams_at_most_one_raises_an_alarm() -> None:
    raised = sum(bool(alarms.watch(stream(100 + seed, [CALM] * (alarms.NEEDED + alarms.HORIZON))).alarms) for seed in range(20))
    assert raised <= 1


def test_shares_are_compared_in_standard_errors() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(10, (0.2, 0.75, 0.05), (300, 60))
    found = dict(alarms.deviations(counts))
    assert [*found] == [1, 2, 4, 8, 16]  # of 32 windows behind the first 30 there are not enough
    for span, deviations in found.items():
        assert deviations.shape == (300, 60 - alarms.SETTLING - span + 1, 3)
        assert np.std(deviations[..., :2]) == pytest.approx(1, abs=0.1)
        assert np.mean(deviations[..., 0]) == pytest.approx(0, abs=0.15)
        latest, before = counts[7, -span:, 1].sum() / (10 * span), counts[7, :-span, 1].sum() / (600 - 10 * span)
        pooled = counts[7, :, 1].sum() / 600
        z = (latest - before) / math.sqrt(pooled * (1 - pooled) * (1 / (10 * span) + 1 / (600 - 10 * span)))
        assert deviations[7, -1, 1] == pytest.approx(z, abs=0.35)


def test_of_a_long_log_the_latest_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "LATEST", 1000)
    rows = stream(0, [CALM] * 600 + [DOUBLED] * 1900)
    assert alarms.watch(rows[:1900]).alarms[0].row < 900
    watched = alarms.watch(rows)
    assert (watched.rows, watched.alarms) == (2500, [])  # what was usual before the rise is forgotten
    assert watched.usual["negative"] == pytest.approx(0.4, abs=0.05)
    later = alarms.watch([*rows, *stream(1, [(0.1, 0.55, 0.35)] * 400)]).alarms[0]
    assert (later.label, later.rose) == ("negative", False)
    assert later.row > 2500


def compared(read: history.History) -> list[drift.Drift]:
    return drift.drifts(known(np.random.default_rng(0)), read.of("m-1"), read.words, read.embeddings)


@pytest.mark.slow
def test_an_unchanged_stream_has_no_drift_and_a_changed_one_has_what_changed(tmp_path: Path) -> None:
    false = 0
    for seed in range(20):
        file = tmp_path / f"{seed}.jsonl"
        served(file, seed, [CALM] * 500)
        read = history.read(file)
        found = compared(read)
        assert {each.what for each in found} == {"length", "class", "confidence", "words", "embeddings"}
        false += any(each.drifted for each in found)
    assert false <= 1
    served(tmp_path / "other.jsonl", 1, [DOUBLED] * 500, WORDS[:40], 3, 0.1)
    read = history.read(tmp_path / "other.jsonl")
    moved = {each.what for each in compared(read) if each.drifted}
    assert moved == {"class", "confidence", "words", "embeddings"}
    served(tmp_path / "few.jsonl", 1, [CALM] * 20)
    read = history.read(tmp_path / "few.jsonl")
    assert compared(read) == []


def test_no_text_can_be_read_from_what_is_kept() -> None:
    secret = "the account of Zaphod Beeblebrox is overdrawn"
    said = [Labelled(("negative",), 0.5)] * 3
    made = reference.of([{"text": secret}] * 3, said, ASKED, np.ones((3, 4))).to_json()
    assert not any(word in json.dumps(made) for word in secret.split())
    assert made["lengths"] == [len(secret)] * 3


def test_how_soon_a_share_that_doubles_is_noticed_is_told_of_those_that_can() -> None:
    usual = {"shipping": 0.81, "billing": 0.12, "account": 0.05, "technical": 0.02}
    watched = alarms.Watched(500, usual, {"shipping": 40, "billing": 640, "account": None, "technical": None}, [])
    rule = in_use._alarm_rule(SimpleNamespace(watched=watched))  # type: ignore[arg-type]
    told = "is noticed: of billing (12 %) within 640 rows; of account (5 %), technical (2 %) after more than 1,000 rows."
    assert rule.endswith(told)
    alone = SimpleNamespace(watched=replace(watched, usual={"shipping": 0.81}))
    assert in_use._alarm_rule(alone).endswith("of 1,000 rows one raises a false one.")  # type: ignore[arg-type]


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
    served(history.log_file("news"), 0, [CALM] * 600 + [DOUBLED] * 500)
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
    assert model["rows"] == 1100
    assert model["classes"]["alarms"][0]["label"] == "negative"
    assert {each["what"] for each in model["drift"] if each["drifted"]} == {"class"}
    assert model["disturbed"]
    assert CliRunner().invoke(cli, ["watch", "--check"], standalone_mode=False).return_value == 1
    assert CliRunner().invoke(cli, ["watch", "--check", "--json"], standalone_mode=False).return_value == 1
    with pytest.raises(UsageError, match=r"no log of 'new'.*news"):
        history.find("new")


def test_a_check_is_of_the_latest_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    served(history.log_file("calm"), 0, [CALM] * 600)
    assert CliRunner().invoke(cli, ["watch", "calm", "--check"], standalone_mode=False).return_value == 0


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
    right = {row.id: str(row.label) for row in rows[:40]}
    right |= {row.id: "neutral" if row.label == "negative" else "negative" for row in rows[:40:5]}
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
    task = answered.task_of(load("my.py"))
    assert _add(task, joined) == (1, 1)  # one has a label already, and of one the text was not logged
    (kept,) = answers.given("news.csv")
    assert {"headline": "a new one", "label": "negative"}.items() <= kept.items()
    assert _add(task, joined) == (0, 1)
    with pytest.raises(UsageError, match=r"of these rows the log does not have text.*--log-inputs"):
        _add(task, [(row(3, None), "neutral"), (row(4, {"image": "x"}), "neutral")])
    with pytest.raises(DataError, match="'negativ' is no label of the data"):  # of this study, whatever the model had
        _add(task, [(row(1, {"text": "another"}), "negativ")])
    fingerprints.look_again()
    again = classification("news.csv", train=20, dev=10, text="headline")
    assert [example["text"] for example in again.pool() or ()][-1] == "a new one"  # bought last


CONTEXTS = [f"The river number {i} is {i + 2} miles long and ends at port {i}." for i in range(40)]


def questions(folder: Path) -> str:
    """Data of questions: where each river ends."""
    rows = [
        {"question": "Where does it end?", "context": text, "answers": {"text": [f"port {i}"], "answer_start": [text.find("port")]}}
        for i, text in enumerate(CONTEXTS)
    ]
    (folder / "rivers.jsonl").write_text("".join(json.dumps({"id": str(i), **row}) + "\n" for i, row in enumerate(rows)))
    return str(folder / "rivers.jsonl")


def logged(number: int, asked: Any, answer: str) -> history.Row:
    return history.Row(0.0, "m-1", f"row-{number}", None, None, 50, asked, answer)


def test_answers_in_text_grade_a_model_and_are_bought_by_the_next_sweep(tmp_path: Path) -> None:
    task = question_answering(questions(tmp_path), train=8, dev=4)
    new = "The river Zambezi is long and ends at the sea. Write to ann@example.org."
    private = new.replace("ann@example.org", "[EMAIL]")  # as the log has it
    rows = [
        (logged(0, {"question": "Where does it end?", "context": new}, "the sea"), "the sea"),
        (logged(1, {"question": "How long is it?", "context": new}, "river"), "unanswerable"),
        (logged(2, {"question": "Which river is it?", "context": new}, "Zambezi"), "It is the Zambezi"),
        (logged(3, {"question": "Where does it end?", "context": CONTEXTS[3]}, "port 3"), "port 3"),
        (logged(4, {"question": "Whom to write to?", "context": private}, "[EMAIL]"), "ann@example.org"),
        (logged(5, None, ""), "the sea"),
    ]
    found = feedback.quality(task, rows, "exact_match")
    assert (found.metric, found.examples) == ("exact_match", 5)
    assert found.value == pytest.approx(100 * 3 / 5)  # all but the one with no answer, and the one in other words
    assert 60 < found.scores["f1"] < 80
    before = task.pool()
    assert _add(task, rows) == (3, 2)  # one stands in the data, one is no part of its text, and one has no text
    kept = answers.given(task.data)
    assert [row["answer"] for row in kept] == ["the sea", "", "[EMAIL]"]
    assert _add(task, rows) == (0, 2)
    fingerprints.look_again()
    after = question_answering(task.data, train=len(before) + 3, dev=4)
    assert [*after.pool()][: len(before)] == [*before]
    assert [example["answers"]["text"] for example in after.splits().train[-3:]] == [["the sea"], [], ["[EMAIL]"]]
    assert all(e["context"][s : s + len(t)] == t for e in after.pool() for t, s in zip(*e["answers"].values(), strict=True))
    assert after.splits().dev == task.splits().dev
    assert after.notes() == [f"3 answers of {task.data}.answers.csv are trained on as well."]
    table = Path(f"{task.data}.answers.csv")
    table.write_text(table.read_text().replace("the sea,", "the ocean,"))
    fingerprints.look_again()
    with pytest.raises(DataError, match=r"line 2: the answer 'the ocean' is no part of its context"):
        after.splits()


def test_what_should_have_been_written_grades_a_writer_and_is_bought_too(tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Say {i}", "completion": f"{i}!"}) + "\n" for i in range(40))
    )
    task = text_generation(str(tmp_path / "chat.jsonl"), train=8, dev=4)
    turns = [{"role": "user", "content": "Say hello"}]
    more = [*turns, {"role": "assistant", "content": "hello?"}, {"role": "user", "content": "Louder"}]
    rows = [(logged(0, {"messages": turns}, "hello!"), "hello!"), (logged(1, {"messages": more}, "HELLO"), "HELLO!")]
    found = feedback.quality(task, rows, "exact_match")
    assert (found.examples, found.value) == (2, 100 * 1 / 2)
    assert _add(task, rows) == (1, 1)  # a conversation has no place in a table
    fingerprints.look_again()
    after = text_generation(task.data, train=len(task.pool()), dev=4)
    assert after.splits().train[-1]["messages"] == [*turns, {"role": "assistant", "content": "hello!"}]


def test_a_study_that_takes_no_answers_says_which_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text(
        STUDY.replace("classification", "retrieval").replace(', text="headline"', "").replace("accuracy", "mrr")
    )
    with pytest.raises(UsageError, match=r"classification\(…\), question_answering\(…\) and text_generation\(…\).*is a Retrieval"):
        answered.task_of(load("my.py"))
