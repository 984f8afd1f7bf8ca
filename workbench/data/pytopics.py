"""`pytopics`, a built-in data set for classification: what is a function of a scientific package about?

A text is the first sentence of a docstring, its label the topic that its module is about:

    text      Return the minimum spanning tree of an undirected graph.
    label     graphs

It needs no network: the docstrings are those of the packages installed beside us, so it is the same for the same package versions,
and its digest says which it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.data import cache, docstrings, duplicates, pydocs
from workbench.errors import EnvironmentFault

TOPICS = {
    "graphs": ("networkx.",),
    "plots": ("matplotlib.",),
    "tables": ("pandas.",),
    "arrays": ("numpy.lib.", "numpy._core.", "numpy.ma."),
    "statistics": ("scipy.stats.",),
    "signal processing": ("scipy.signal.", "scipy.fft.", "numpy.fft."),
    "linear algebra": ("scipy.linalg.", "scipy.sparse.", "numpy.linalg."),
    "geometry and interpolation": ("scipy.spatial.", "scipy.interpolate."),
    "machine learning": ("sklearn.",),
    "neural networks": ("torch.nn.",),
    "distributed training": ("torch.distributed.",),
}
"""Each topic, and the beginnings of its functions' and classes' paths."""

PER_TOPIC = 400
SIMILAR = 0.6
"""Of sentences with at least this Jaccard index of their shingles, one is kept."""
LEAST_WORDS, MOST_WORDS = 4, 40


def versions() -> dict[str, str]:
    """Version of each installed package the data set is made from."""
    wanted = {prefix.partition(".")[0] for prefixes in TOPICS.values() for prefix in prefixes}
    return {module: version for module, version in pydocs.versions().items() if module in wanted}


def load() -> dict[str, list[dict[str, Any]]]:
    """Examples of the sides `train`, `dev` and `test`, from the cache or built anew (some 15 s).
    Ids are paths.

    Raises:
        EnvironmentFault: Too few of the packages are installed, or the cache cannot be written.
    """
    made_from = versions()
    code = [Path(module.__file__ or "") for module in (docstrings, duplicates)] + [Path(__file__)]
    found: dict[str, list[dict[str, Any]]] = cache.built("pytopics", made_from, code, lambda: build(tuple(made_from)))
    return found


def build(packages: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Examples of each side, from the docstrings of installed `packages` (top-level module names).

    Raises:
        EnvironmentFault: They are about fewer than two topics.
    """
    found: dict[str, tuple[str, str]] = {}
    for each in (each for package in packages for each in docstrings.documented(package)):
        topic, text = topic_of(each.path), sentence(each.summary)
        if topic and text:
            found.setdefault(text.casefold(), (each.path, text))
    examples = [{"id": path, "text": text, "labels": [topic_of(path)]} for path, text in found.values()]
    # Before repeats are dropped and topics are filled, so that neither depends on the packages'
    # order.
    examples.sort(key=lambda example: docstrings.drawn(str(example["id"])))
    examples = _without_repeats(examples)
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    parts = ("train",) * 8 + ("dev", "test")
    count = dict.fromkeys(TOPICS, 0)
    for example in examples:
        topic = example["labels"][0]
        if count[topic] < PER_TOPIC:
            sides[parts[count[topic] % 10]].append(example)
            count[topic] += 1
    if sum(map(bool, count.values())) < 2:
        names = ", ".join(pydocs.PACKAGES[module] for module in pydocs.PACKAGES)
        raise EnvironmentFault(f"the data set 'pytopics' needs at least two of {names}. Install them.")
    return sides


def topic_of(path: str) -> str:
    """The topic of a function or class, by its path; "" where it has none."""
    return next((topic for topic, prefixes in TOPICS.items() if path.startswith(prefixes)), "")


def sentence(summary: str) -> str:
    """The first sentence of a docstring; "" where it is too short to tell anything, or is no
    sentence.
    """
    end = re.search(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)(?<!cf)(?<!\bal)[.!?](?=\s|$)", summary)
    text = summary[: end.end()] if end else summary
    # Dashes are the line under a heading.
    return text if LEAST_WORDS <= len(text.split()) <= MOST_WORDS and "---" not in text else ""


def _without_repeats(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sets = [duplicates.shingles(example["text"], 2) for example in examples]
    roots = duplicates.groups(len(sets), duplicates.similar_pairs(sets, SIMILAR))
    return [example for i, example in enumerate(examples) if roots[i] == i]
