"""Small built-in models of images and of sound whose weights are drawn, not learned: a start from
scratch that needs no network.

The weights are always the same: seeds of recipes draw the heads alone, as with any other model.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench.data import cache, hub
from workbench.errors import EnvironmentFault

REVISION = 1
"""It rises when a name comes to stand for other weights."""

_IMAGE, _MELS, _FRAMES = 16, 32, 64
"""Pixels of an image's side; frequencies, and stretches of 10 ms, of a sound: the first of it."""


def _vit() -> tuple[Any, Any]:
    from transformers import ViTConfig, ViTImageProcessorPil

    shape = ViTConfig(
        image_size=_IMAGE, patch_size=4, hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128
    )  # fmt: skip
    return shape, ViTImageProcessorPil(size={"height": _IMAGE, "width": _IMAGE})


def _convnext() -> tuple[Any, Any]:
    from transformers import ConvNextConfig, ViTImageProcessorPil

    shape = ConvNextConfig(image_size=_IMAGE, patch_size=2, num_stages=2, hidden_sizes=[32, 64], depths=[2, 2])
    return shape, ViTImageProcessorPil(size={"height": _IMAGE, "width": _IMAGE})


def _ast() -> tuple[Any, Any]:
    from transformers import ASTConfig, ASTFeatureExtractor

    # A patch has all frequencies of a third of a second: with patches of 8 x 8 a model of this size
    # learned next to nothing from some hundred sounds.
    shape = ASTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, patch_size=_MELS,
        frequency_stride=_MELS, time_stride=16, max_length=_FRAMES, num_mel_bins=_MELS,
    )  # fmt: skip
    return shape, ASTFeatureExtractor(num_mel_bins=_MELS, max_length=_FRAMES)


SHAPES = {"vit": _vit, "convnext": _convnext, "ast": _ast}
"""Of each architecture what makes its configuration, and the processor of its inputs."""


def versions() -> dict[str, str]:
    """Versions of what the weights are drawn by."""
    return {package: metadata.version(package) for package in ("transformers", "torch")}


def folder(architecture: str) -> Path:
    """The folder of a model in the cache, in Hugging Face's form. Whoever asks first makes it, whole or
    not at all.

    Args:
        architecture: One of `SHAPES`.

    Raises:
        EnvironmentFault: The cache cannot be written to.
    """
    of = "-".join(versions().values())
    made = cache.folder() / "models" / f"{architecture}-drawn-{REVISION}-{of}"
    try:
        if not made.is_dir():
            made.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=made.parent, prefix=f".{made.name}."))
            try:
                _make(draft, *SHAPES[architecture]())
                draft.rename(made)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        if not made.is_dir():  # else another process was first
            raise EnvironmentFault(
                f"cannot keep a built-in model in {made.parent}: {error.strerror or error}. Free some space or set WORKBENCH_CACHE "
                "to a folder that can be written to."
            ) from error
    return made


def _make(draft: Path, shape: Any, processor: Any) -> None:
    import torch
    from transformers import AutoModel

    with hub.quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(shape, dtype=torch.float32).save_pretrained(draft)
        processor.save_pretrained(draft)
