"""The encoder whose embeddings tell likely labels: the smallest of a study's own, else a built-in."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from workbench.data import models
from workbench.errors import WorkbenchError

BUILT_IN = "minilm-l3"
"""The encoder of studies that have none."""


def smallest(names: Sequence[str]) -> str | None:
    """The encoder with the fewest weights in its layers, by its configuration.

    Args:
        names: The study's models.

    Returns:
        `BUILT_IN` where none of them is an encoder of texts; None where that is not installed.
    """
    sizes: dict[str, int] = {}
    for name in (*names, BUILT_IN):
        if name == BUILT_IN and sizes:
            break
        with contextlib.suppress(WorkbenchError):  # a model that cannot be read: `plan` says so
            if models.kind(name) == "encoder":
                config = models.config(name)
                sizes[name] = int(config.num_hidden_layers) * int(config.hidden_size) ** 2
    return min(sizes, key=lambda name: sizes[name]) if sizes else None
