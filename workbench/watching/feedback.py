"""Right answers that became known later: joined to what was predicted, they give the score in use.

They stand in a file beside the log: `NAME.feedback.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data import cache, files, formats, labelled, redaction
from workbench.data.files import wrong
from workbench.data.labelled import LabelledTexts
from workbench.errors import UsageError, did_you_mean
from workbench.formulations import Example, Labelled
from workbench.tasks import Task, request
from workbench.watching.history import Row

LABEL = (*labelled.LABEL, "answer")
"""Names that the column of right answers may have."""

FEWEST = 10
"""With fewer answers no interval is told."""

RESAMPLES = 1000


@dataclass(frozen=True)
class Quality:
    """A model's score in use, over the rows whose right answers are known.

    Attributes:
        metric: The score.
        value: Its value.
        low, high: Its 95 % interval: Wilson's where the score is a share of examples, else percentiles of the
            bootstrap; None of fewer than `FEWEST` answers.
        examples: How many answers there were.
        scores: All scores of the task.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    examples: int
    scores: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The quality as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Known:
    """What is known later of a log's rows.

    Attributes:
        answers: Right answers by the row's id.
        quality: Scores in use by the model's id, as of the last answers.
    """

    answers: Mapping[str, str]
    quality: Mapping[str, Quality]


def beside(log: Path) -> Path:
    """The file of right answers to the rows of a log."""
    return log.with_suffix(".feedback.json")


def load(log: Path) -> Known:
    """The right answers that are kept beside a log; none where there are none."""
    try:
        record = json.loads(beside(log).read_text(encoding="utf-8"))
        return Known(record["answers"], {name: Quality(**each) for name, each in record["quality"].items()})
    except FileNotFoundError:
        return Known({}, {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise wrong(f"{beside(log)} is no file of right answers any more ({error}). Remove it, and give them again.") from error


def save(log: Path, known: Known) -> Path:
    """Keep right answers beside a log, in one step; return their file."""
    record = {"answers": dict(known.answers), "quality": {name: each.to_json() for name, each in known.quality.items()}}
    cache.write(beside(log), json.dumps(record, indent=1, ensure_ascii=False).encode())
    return beside(log)


def read(file: Path) -> dict[str, str]:
    """Right answers by id, from a file with the columns `id` and `label`; rows without a label are left out.

    Args:
        file: CSV, TSV, JSON or JSON lines.

    Raises:
        DataError: It cannot be read, lacks a column, or answers an id in two ways.
    """
    if files.suffix_of(file.name).removesuffix(".gz") not in (".csv", ".tsv", ".json", ".jsonl"):
        raise wrong(f"{file}: right answers are read from CSV, TSV, JSON or JSON lines, with the columns id and label.")
    found: dict[str, str] = {}
    for where, row in formats.rows(file, LabelledTexts()):
        column = next((name for name in LABEL if isinstance(row, Mapping) and name in row), None)
        if not isinstance(row, Mapping) or request.ID not in row or column is None:
            missing = request.ID if not isinstance(row, Mapping) or request.ID not in row else "label"
            raise wrong(f"{file}, {where}: has no {missing!r}. Each row needs the id of a request's row, and its right answer.")
        name, value = str(row[request.ID]).strip(), row[column]
        label = ";".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value).strip()
        if not name or not label:
            continue
        if found.get(name, label) != label:
            raise wrong(f"{file}, {where}: {name!r} is answered by {label!r} and by {found[name]!r}. Keep one of them.")
        found[name] = label
    return found


def joined(rows: Sequence[Row], answers: Mapping[str, str]) -> list[tuple[Row, str]]:
    """Rows whose right answer is known, with it. Of rows with one id the latest counts."""
    latest = {row.id: row for row in rows if row.id in answers}
    return [(row, answers[name]) for name, row in latest.items()]


def check_labels(answers: Mapping[str, str], classes: Sequence[str]) -> None:
    """Raise DataError where a right answer is none of the classes, if there are such."""
    strange = [(name, label) for name, label in answers.items() if classes and label not in classes]
    if strange:
        told = "\n".join(f"{name}: {label!r} is no class.{did_you_mean(label, classes)}" for name, label in strange[:8])
        more = f"\nand {len(strange) - 8:,} more" if strange[8:] else ""
        raise wrong(f"{len(strange):,} of the answers cannot be taken, so none was:\n{told}{more}")


def quality(task: Task, known: Sequence[tuple[Row, str]], metric: str) -> Quality:
    """The score of logged predictions.

    Args:
        task: The task of the model.
        known: Rows with their right answers.
        metric: The score that is wanted; where so few examples do not give it, the task's first that they give.

    Raises:
        UsageError: The task takes no such answers, or predictions were not logged.
    """
    if not task.teachable:
        raise UsageError(f"right answers to a {type(task).__name__} cannot be given by a column: no score is told of them.")
    pairs = [
        (example, said)
        for row, label in known
        if (example := answered(task, row, label)) is not None and (said := _prediction(row)) is not None
    ]
    if not pairs:
        raise UsageError(
            "nothing can be said of these answers: the log has no predictions of these rows that could be graded, which are in it "
            "where they are classes, or with `workbench serve --log-inputs`."
        )
    examples, predictions = [list(each) for each in zip(*pairs, strict=True)]
    scores = task.grade_plain(examples, predictions)
    chosen = next((name for name in (metric, *task.metrics) if name in scores), None)
    if chosen is None:
        raise UsageError("the task gives no score for so few answers. Give more.")
    low, high = _interval(task, examples, predictions, chosen, scores[chosen])
    return Quality(chosen, scores[chosen], low, high, len(pairs), scores)


def _prediction(row: Row) -> Any:
    """A prediction as the task grades it; None where it was not logged."""
    if row.label is not None:
        return Labelled(tuple(_several(row.label)), row.score)
    return row.answer if isinstance(row.answer, str) else None


def answered(task: Task, row: Row, label: str) -> Example | None:
    """A row as an example of its task, with its right answer; None where that is none, or the log does not have what is needed."""
    asked = row.asked if isinstance(row.asked, Mapping) and {*task.asked()} <= {*row.asked} else None  # files are in no log
    if row.label is not None:
        example = task.example(request.sample(task.asked()) if asked is None else asked)
        return task.told(example, Labelled(tuple(_several(label)), None))
    if asked is None:
        return None  # whoever grades a text looks at what was asked
    # The log has placeholders for what is private, in the row and in what was predicted.
    return task.answered(task.example(asked), redaction.value(label, redaction.finders(redaction.KINDS), Counter()))


def _several(label: str) -> list[str]:
    """The classes of a text, which may be of several: `a;b`, or ` + ` between them as in the log."""
    return [part for part in label.replace(" + ", ";").split(";") if part and part != "(none)"]


def _interval(
    task: Task, examples: Sequence[Example], predictions: Sequence[Any], metric: str, value: float
) -> tuple[float | None, float | None]:
    """The 95 % interval of a score over examples."""
    from scipy.stats import binomtest

    count = len(examples)
    if count < FEWEST:
        return None, None
    each = [task.grade_plain([one], [said]).get(metric) for one, said in zip(examples, predictions, strict=True)]
    if all(score in (0.0, 100.0) for score in each) and abs(sum(score or 0.0 for score in each) / count - value) < 1e-6:
        found = binomtest(each.count(100.0), count).proportion_ci(method="wilson")
        return 100 * float(found.low), 100 * float(found.high)
    rng, drawn = np.random.default_rng(0), list[float]()
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, count, count)
        score = task.grade_plain([examples[i] for i in chosen], [predictions[i] for i in chosen]).get(metric)
        if score is not None:
            drawn.append(score)
    if not drawn:
        return None, None
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
