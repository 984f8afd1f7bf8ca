"""Images, by pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Ends of the names of files that are read, in lower case."""


def check(file: Path) -> dict[str, Any]:
    """Nothing to tell of an image. Raises what pillow raises where the head of the file is no image's."""
    from PIL import Image

    with Image.open(file):
        return {}


def read(file: Path) -> Any:
    """The image in red, green and blue, upright. Raises what pillow raises."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def drawn(pixels: Sequence[Sequence[int]]) -> Any:
    """An image of grey values, 0 to 255: rows of pixels."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.array(pixels, np.uint8)).convert("RGB")
