"""How a point is made again, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.result import Result


def reproduce(result: Result, description: Mapping[str, Any]) -> str:
    """Return shell commands that train a point again from nothing and print its scores; empty where there is no study file.

    On a CPU and with the same versions the scores are the same, bit for bit. Nothing is written to ledger or MLflow.
    """
    path = description.get("path")
    if not path:
        return ""
    settings = ", ".join(f"{name!r}: {value!r}" for name, value in result.settings.items())
    commit = result.provenance.get("git_commit")
    lines = [
        *([f"git checkout {commit}"] if commit else []),
        "python - <<'END'",
        "from dataclasses import replace",
        "from workbench.study import load",
        "from workbench.training import train",
        "",
        f"recipe = load({path!r}).resolve({{{settings}}}).with_epochs({result.epochs!r})",
        # A replicate's seed is none of the study's settings, so it is put in by hand.
        f"for checkpoint in train(replace(recipe, seed={result.seed})):",
        "    print(checkpoint.recipe.epochs, dict(checkpoint.scores))",
        "END",
    ]
    return "\n".join(lines)
