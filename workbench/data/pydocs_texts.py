"""`pydocs` as plain texts: the excerpts of docstrings that its questions are about, without the questions and their answers.

A model that learns the language of these by itself buys no label. The sides are those of `pydocs`: no text of its dev and test
sides is among those to learn from.
"""

from __future__ import annotations

from typing import Any

from workbench.data import pydocs


def versions() -> dict[str, str]:
    """Version of each installed package the texts are made from."""
    return pydocs.versions()


def load() -> dict[str, list[dict[str, Any]]]:
    """Texts of the sides `train`, `dev` and `test`, each once, in the order of their first questions.

    Raises:
        EnvironmentFault: As `pydocs.load`.
    """
    sides = pydocs.load()
    return {side: [{"id": f"{side}/{i}", "text": text} for i, text in enumerate(_texts(sides[side]))] for side in sides}


def _texts(examples: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(example["context"] for example in examples))
