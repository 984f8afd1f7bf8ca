"""`pysearch`, a built-in data set for retrieval: which function of a scientific package does what is asked for?

A query is the first sentence of a docstring; the document to be found is what that docstring says of parameters and results:

    query      Return the minimum spanning tree of an undirected graph.
    document   G: undirected graph. An undirected graph. weight: str. Data key to use for edge weights. algorithm: string. …

It needs no network: the docstrings are those of the packages installed beside us, so it is the same for the same package versions,
and its digest says which it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.data import cache, docstrings, duplicates, pydocs, pytopics
from workbench.data.docstrings import Documented
from workbench.errors import EnvironmentFault

PER_PACKAGE = 400
SIMILAR = 0.6
"""Of queries, or of documents, with at least this Jaccard index of their shingles, one is kept."""
LEAST_WORDS, MOST_WORDS = 8, 24
"""Bounds on the words of a document."""


def versions() -> dict[str, str]:
    """Version of each installed package the data set is made from."""
    return pydocs.versions()


def load() -> dict[str, list[dict[str, Any]]]:
    """Examples of the sides `train`, `dev` and `test`, and `documents`, from the cache or built
    anew (some 15 s). Ids are paths.

    Raises:
        EnvironmentFault: None of the packages is installed, or the cache cannot be written.
    """
    made_from = versions()
    if not made_from:
        names = ", ".join(pydocs.PACKAGES.values())
        raise EnvironmentFault(f"the data set 'pysearch' needs one of {names}; none is installed. Install one.")
    code = [Path(module.__file__ or "") for module in (docstrings, duplicates, pytopics)] + [Path(__file__)]
    found: dict[str, list[dict[str, Any]]] = cache.built("pysearch", made_from, code, lambda: build(tuple(made_from)))
    return found


def build(packages: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Examples of each side and all documents, from the docstrings of installed packages.

    Args:
        packages: Top-level module names.
    """
    found: dict[str, tuple[str, str]] = {}
    for each in (each for package in packages for each in docstrings.documented(package)):
        query, document = pytopics.sentence(each.summary), document_of(each)
        # Some docstrings have no summary and begin with their parameters.
        if query and document and not query.startswith("Args:"):
            found.setdefault(each.path, (query, document))
    paths = sorted(found, key=_hash)
    # Two queries for nearly one document, or the reverse, would make a right answer count as wrong.
    for part in (0, 1):
        sets = [duplicates.shingles(found[path][part], 2) for path in paths]
        roots = duplicates.groups(len(sets), duplicates.similar_pairs(sets, SIMILAR))
        paths = [path for i, path in enumerate(paths) if roots[i] == i]
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": [], "documents": []}
    parts = ("train",) * 8 + ("dev", "test")
    count = dict.fromkeys(packages, 0)
    for path in paths:
        package = path.partition(".")[0]
        if count[package] < PER_PACKAGE:
            query, document = found[path]
            sides[parts[count[package] % 10]].append({"id": path, "query": query, "relevant": {path: 1}, "negatives": []})
            sides["documents"].append({"id": path, "text": document})
            count[package] += 1
    return sides


def document_of(each: Documented) -> str:
    """What a docstring says of parameters and results, without the function's name; "" where that
    is next to nothing.
    """
    words: list[str] = []
    for entry in each.entries:
        head = ": ".join(part for part in (entry.name, entry.type.rstrip(".")) if part)
        text = ". ".join(part for part in (head, entry.text.rstrip(".")) if part)
        words += f"{text}.".split()
    text = " ".join(words[:MOST_WORDS])
    # Braces and "%(" are templates that are filled when the package is imported.
    return text if len(words) >= LEAST_WORDS and "%(" not in text and "{" not in text else ""


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
