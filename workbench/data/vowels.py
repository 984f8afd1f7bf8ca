"""`vowels`, a built-in data set of sound: which of ten English vowels is said?

Nobody has spoken them: each is made by a formula, so no file and no network is needed. A voice's
pulses pass through the resonances of a mouth (source and filter, Klatt 1980, doi:10.1121/1.383940),
which stand where Peterson and Barney measured them with 33 men (1952, doi:10.1121/1.1906875, table
II). Pitch, length of the vocal tract, loudness and noise are drawn, so that no two voices are alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

REVISION = 1
"""It rises when the same numbers come to stand for other sounds."""

RATE, SECONDS = 16_000, 0.6
"""Samples per second, and the length of each sound."""

COUNT = 3_000
"""How many sounds there are; eight in ten are to learn from."""

FORMANTS: Mapping[str, tuple[int, int, int]] = {
    "heed": (270, 2290, 3010),
    "hid": (390, 1990, 2550),
    "head": (530, 1840, 2480),
    "had": (660, 1720, 2410),
    "hod": (730, 1090, 2440),
    "hawed": (570, 840, 2410),
    "hood": (440, 1020, 2240),
    "who'd": (300, 870, 2240),
    "hud": (640, 1190, 2390),
    "heard": (490, 1350, 1690),
}
"""Hertz of the first three resonances of each vowel, by the word that it was measured in."""

BANDWIDTHS = (60, 90, 150)
"""Hertz of those resonances' width."""

TRACTS = (0.95, 1.25)
"""Resonances are these factors higher, from the longest vocal tract to the shortest."""


def versions() -> dict[str, str]:
    """The revision of the formula."""
    return {"vowels": str(REVISION)}


def load() -> dict[str, list[dict[str, Any]]]:
    """Examples of the sides `train`, `dev` and `test`: `{"id", "vowel", "seconds", "labels"}`, where
    `vowel` is all that `said` needs.
    """
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    parts, words = ("train",) * 8 + ("dev", "test"), [*FORMANTS]
    for i in range(COUNT):
        word = words[i % len(words)]
        vowel = {"word": word, "seed": i, "revision": REVISION}
        # By whole rounds of all vowels, so that each is equally frequent on every side.
        sides[parts[i // len(words) % 10]].append({"id": f"{word}-{i}", "vowel": vowel, "seconds": SECONDS, "labels": [word]})
    return sides


def said(vowel: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """Samples from -1 to 1, shape (samples,), and how many there are per second."""
    from scipy.signal import lfilter

    rng = np.random.default_rng((vowel["revision"], vowel["seed"]))
    count = round(RATE * SECONDS)
    t = np.arange(count) / RATE
    # Between 80 and 260 hertz, from where the voice falls or rises by a few semitones.
    pitch = 80 * 2 ** rng.uniform(0, 1.7) * 2 ** (rng.uniform(-0.3, 0.3) * t / SECONDS)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0)
    sound = lfilter([1.0], [1.0, -0.95], pulses + 0.002 * rng.normal(size=count))  # high tones of a voice are weaker
    tract = rng.uniform(*TRACTS)
    for hertz, width in zip(FORMANTS[vowel["word"]], BANDWIDTHS, strict=True):
        radius, angle = np.exp(-np.pi * width / RATE), 2 * np.pi * tract * hertz * rng.normal(1, 0.03) / RATE
        poles = [1.0, -2 * radius * np.cos(angle), radius**2]
        sound = lfilter([sum(poles)], poles, sound)
    sound = sound * np.clip(np.minimum(t, SECONDS - t) / 0.03, 0, 1)
    noise = 10 ** (-rng.uniform(0, 30) / 20)  # a ratio of signal to noise of 0 to 30 dB
    sound = sound / np.sqrt(np.mean(sound**2)) + noise * rng.normal(size=count)
    return (rng.uniform(0.05, 0.9) * sound / np.abs(sound).max()).astype(np.float32), RATE
