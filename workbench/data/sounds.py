"""Reads sound by libsndfile: one channel, at the rate that is asked for."""

from __future__ import annotations

import io
import math
import wave
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from workbench.errors import DataError, EnvironmentFault

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif")
"""Suffixes of files that are read, in lower case."""


UNIT, MOST = "samples", 16_000_000  # ten minutes and more, of 24,000 samples a second


RATES = 1_000, 384_000
"""The fewest and the most samples a second. A head can state any number: brought to a model's own rate, a second at a rate of 1 is
16,000 samples long, and a filter for a rate of billions takes all memory.
"""


def check(file: Path | BinaryIO) -> dict[str, Any]:
    """The `seconds` that a sound takes, by its file's head. Raises whatever libsndfile raises, and DataError as `read`."""
    info = _library().info(_opened(file))
    return {"seconds": round(info.frames / _checked(info.samplerate), 3)}


def size(file: Path | BinaryIO) -> int:
    """Samples of all channels, by its file's head. Raises as `check`."""
    info = _library().info(_opened(file))
    return int(info.frames * info.channels)


def read(file: Path | BinaryIO) -> tuple[np.ndarray, int]:
    """Samples from -1 to 1, shape (samples,), as the mean of all channels; and how many there are
    per second.

    Raises:
        DataError: So many no sound has (`RATES`).
        Exception: Whatever libsndfile raises.
    """
    samples, rate = _library().read(_opened(file), dtype="float32", always_2d=True)
    return samples.mean(1), _checked(rate)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A sound of one channel as a WAV file of 16 bits, by Python's own writer."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32767 * samples.clip(-1, 1)).astype("<i2").tobytes())
    return written.getvalue()


def resampled(samples: np.ndarray, rate: int, wanted: int, most: int | None = None) -> np.ndarray:
    """The same sound at the wanted number of samples per second, by a polyphase filter; at most `most` samples of it."""
    if rate == wanted:
        return samples if most is None else samples[:most]
    from scipy.signal import resample_poly

    if most is not None:  # what lies further behind than the filter is wide changes nothing of these
        samples = samples[: most * rate // wanted + 20 * (rate // wanted + 1) + 1]

    # 44,100 to 16,000 is 160 / 441: the filter's cost grows with these numbers.
    common = math.gcd(rate, wanted)
    return np.asarray(resample_poly(samples, wanted // common, rate // common), np.float32)[:most]


def _checked(rate: int) -> int:
    """A rate of samples, in which a sound can be. Raises DataError."""
    least, most = RATES
    if not least <= rate <= most:
        raise DataError(f"a sound of {rate:,} samples a second cannot be heard. Write it with {least:,} to {most:,}.")
    return int(rate)


def _opened(file: Path | BinaryIO) -> Any:
    """What libsndfile takes: a path as a text, or what is open already."""
    return str(file) if isinstance(file, Path) else file


def _library() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its C library is not there
        raise EnvironmentFault(
            "sound is read by the package soundfile, which is not installed. Install it with pip: 'workbench[audio]' has it."
        ) from error
    return soundfile
