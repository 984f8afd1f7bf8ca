"""Reads images by pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Suffixes of files that are read, in lower case."""


UNIT, MOST = "pixels", 1 << 25  # 33 million: more than a photograph has


def check(file: Path | BinaryIO) -> dict[str, Any]:
    """Nothing is to be told of an image. Raises whatever pillow raises where the file's head is no
    image's.
    """
    from PIL import Image

    with Image.open(file):
        return {}


def size(file: Path | BinaryIO) -> int:
    """Pixels, by its file's head. Raises as `check`."""
    from PIL import Image

    with Image.open(file) as image:
        return int(image.width * image.height)


def read(file: Path | BinaryIO) -> Any:
    """The image in red, green and blue, upright. Raises what pillow raises."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        # Cameras store a photograph as the sensor lies, and its rotation in EXIF.
        return ImageOps.exif_transpose(image).convert("RGB")


def drawn(pixels: Sequence[Sequence[int]]) -> Any:
    """An image from rows of grey values, 0 to 255."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.array(pixels, np.uint8)).convert("RGB")
