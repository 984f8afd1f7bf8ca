"""`pysupport`, a built-in data set for customer service: what a user of scientific packages asks,
and what their documentation answers.

It is `pysearch` with some questions that cannot be answered: one in five documents that dev's and
test's questions ask for is not in the collection.
"""

from __future__ import annotations

from typing import Any

from workbench.data import docstrings, pysearch

ONE_IN = 5
"""One in so many documents of dev and of test is left out."""


def versions() -> dict[str, str]:
    """Version of each installed package the data set is made from."""
    return pysearch.versions()


def load() -> dict[str, list[dict[str, Any]]]:
    """Examples of the sides `train`, `dev` and `test`, and `documents`, as
    `workbench.data.past_answers` has them. Raises as `pysearch.load`.
    """
    found = pysearch.load()
    texts = {each["id"]: each["text"] for each in found["documents"]}
    out: set[str] = set()
    for side in ("dev", "test"):
        names = sorted((example["id"] for example in found[side]), key=docstrings.drawn)
        out |= {*names[: len(names) // ONE_IN]}
    sides = {
        side: [
            {**example, "answer": texts[example["id"]], "relevant": {} if example["id"] in out else example["relevant"]}
            for example in found[side]
        ]
        for side in ("train", "dev", "test")
    }
    sides["documents"] = [{**each, "answer": each["text"]} for each in found["documents"] if each["id"] not in out]
    return sides
