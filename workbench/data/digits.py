"""`digits`, a built-in data set of images: 1,797 handwritten digits of 8 x 8 grey pixels, which
scikit-learn carries.

They are the test side of the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak 1998).
"""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from typing import Any

GREYS = 16
"""Steps from black to white."""


def versions() -> dict[str, str]:
    """Version of the package that the data set is from."""
    return {"sklearn": metadata.version("scikit-learn")}


def load() -> dict[str, list[dict[str, Any]]]:
    """Examples of the sides `train`, `dev` and `test`: `{"id", "pixels", "labels"}`, where `pixels`
    are rows of grey values, 0 to 255.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    parts = ("train",) * 8 + ("dev", "test")
    examples = []
    for image, label in zip(found.images, found.target, strict=True):
        pixels = (image * (255 / GREYS)).astype(int).tolist()
        name = hashlib.blake2b(json.dumps(pixels).encode(), digest_size=8).hexdigest()
        examples.append({"id": name, "pixels": pixels, "labels": [str(int(label))]})
    # By a hash of the image: sides do not depend on the order that scikit-learn gives.
    for i, example in enumerate(sorted(examples, key=lambda example: str(example["id"]))):
        sides[parts[i % 10]].append(example)
    return sides
