"""The packages that a deployed model is loaded by: those that it was deployed with, and those that are here."""

from __future__ import annotations

import contextlib
from importlib import metadata
from pathlib import Path

from workbench.data.builtin import MODELS
from workbench.study import Recipe

PACKAGES = ("workbench", "mlflow", "torch", "transformers", "peft", "safetensors", "numpy", "pandas", "scikit-learn")
"""What every deployed model is loaded by. Those of a kind of data or of a base model are added."""

FILE = "requirements.txt"
"""The file of a model that names them, as MLflow calls it."""


def needed(recipe: Recipe, *, onnx: bool = False) -> list[str]:
    """The packages that a model is loaded by, each with the version that is installed here."""
    names = [*PACKAGES, *(["onnxruntime"] if onnx else [])]
    kinds = recipe.task.asked()
    names += ["pillow"] if "image" in kinds else ["soundfile", "scipy"] if "sound" in kinds else []
    if recipe.parent is None and recipe.architecture in MODELS:
        of = MODELS[recipe.architecture]
        names += [of.distribution, *(["gguf"] if of.is_gguf else [])]
    names += ["bitsandbytes"] if recipe.weights == "nf4" else []
    return [f"{name}=={_installed(name)}" for name in names]


def of(model: Path) -> list[str]:
    """The packages that the folder of a model names, each with its version. Raises OSError where it has no such file."""
    return (model / FILE).read_text(encoding="utf-8").split()


def others(model: Path) -> list[str]:
    """Of the packages that the folder of a model names those that are not here as it says: `torch 2.13.0 (2.12.1 here)`."""
    told = []
    with contextlib.suppress(OSError):
        for each in of(model):
            name, pinned, version = each.partition("==")
            try:
                here = _installed(name)
            except metadata.PackageNotFoundError:
                here = "none"
            if pinned and here != version:
                told.append(f"{name} {version} ({here} here)")
    return told


def _installed(name: str) -> str:
    """The version of a package here, without the build that follows a `+`."""
    return metadata.version(name).partition("+")[0]
