"""`opinions`, a built-in data set for classification: how do people speak of something, and where?

A text is a short message, a sentence of a review or of an editorial. Its label is `negative`,
`neutral` or `positive`, by the mean of at least 15 people's ratings; its group is the topic: which
of four sources it is from.

    text      i found it bulky , hard to hold with one hand .
    label     negative
    group     products

The texts are a part of the data set of Hutto and Gilbert (2014), "VADER: A Parsimonious Rule-based
Model for Sentiment Analysis of Social Media Text" (ICWSM-14). They are in `opinions.csv.gz`, their
licence and what was left out in `opinions.LICENSE.txt`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import html
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("opinions.csv.gz")

SOURCES = {
    "messages": "tweets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "films": "movieReviewSnippets_GroundTruth.txt",
    "politics": "nytEditorialSnippets_GroundTruth.txt",
}
"""Topics, and the files of the original that they are from."""

CLEAR, FAINT = 1.0, 0.5
"""Ratings reach from -4 to 4. A text is negative or positive from `CLEAR` on, neutral up to
`FAINT`, and left out in between, where people disagree.
"""

PER_CELL = 300
"""Texts of each topic and label."""

LEAST_WORDS, MOST_WORDS = 4, 40


def versions() -> dict[str, str]:
    """A hash of the file."""
    return {"opinions": hashlib.sha256(FILE.read_bytes()).hexdigest()[:16]}


def load() -> dict[str, list[dict[str, Any]]]:
    """Examples of the sides `train`, `dev` and `test`, six, two and two of ten of each topic and
    label: `{"id", "text", "labels", "group"}`.
    """
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    parts = ("train",) * 6 + ("dev",) * 2 + ("test",) * 2
    # The file has each topic and label in one piece, in the order of a hash.
    for _, cell in itertools.groupby(rows, key=lambda row: (row["topic"], row["label"])):
        for i, row in enumerate(cell):
            name = hashlib.blake2b(row["text"].encode(), digest_size=8).hexdigest()
            example = {"id": name, "text": row["text"], "labels": [row["label"]], "group": row["topic"]}
            sides[parts[i % 10]].append(example)
    return sides


def label_of(rating: float) -> str:
    """The label of a mean rating; "" between those that are clear and those that are faint."""
    if abs(rating) <= FAINT:
        return "neutral"
    return "" if abs(rating) < CLEAR else "negative" if rating < 0 else "positive"


def select(folder: Path, per_cell: int = PER_CELL) -> bytes:
    """Make `opinions.csv.gz` out of the original: the same bytes wherever it is made.

    Args:
        folder: The unpacked `hutto_ICWSM_2014`, of the source distribution of vaderSentiment 3.3.2.
        per_cell: How many texts of each topic and label are taken, or all where there are fewer.
    """
    seen: set[str] = set()
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("text", "label", "topic", "rating"))
    for topic, file in SOURCES.items():
        cells: dict[str, list[tuple[str, float]]] = {"negative": [], "neutral": [], "positive": []}
        with (folder / file).open(encoding="utf-8") as lines:
            for said, rating in _rated(lines):
                label = label_of(rating)
                if label and said.casefold() not in seen:
                    seen.add(said.casefold())
                    cells[label].append((said, rating))
        for label, cell in cells.items():
            cell.sort(key=lambda each: hashlib.blake2b(each[0].encode()).digest())
            table.writerows((said, label, topic, f"{rating:.2f}") for said, rating in cell[:per_cell])
    # Without a time and a name in it, so that the file depends on its content alone.
    return gzip.compress(text.getvalue().encode(), 9, mtime=0)


def _rated(lines: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Texts that are neither too short nor too long, with their mean ratings."""
    for line in lines:
        _, rating, text = line.rstrip("\n").split("\t")
        said = " ".join(html.unescape(text).split())
        if LEAST_WORDS <= len(said.split()) <= MOST_WORDS:
            yield said, float(rating)
