"""Reads sound by libsndfile: one channel, at the rate that is asked for."""

from __future__ import annotations

import io
import math
import wave
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from workbench.errors import EnvironmentFault

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif")
"""Suffixes of files that are read, in lower case."""


UNIT, MOST = "samples", 16_000_000  # ten minutes and more, of 24,000 samples a second


def check(file: Path | BinaryIO) -> dict[str, Any]:
    """The `seconds` that a sound takes, by its file's head. Raises whatever libsndfile raises."""
    info = _library().info(_opened(file))
    return {"seconds": round(info.frames / info.samplerate, 3)}


def size(file: Path | BinaryIO) -> int:
    """Samples of all channels, by its file's head. Raises as `check`."""
    info = _library().info(_opened(file))
    return int(info.frames * info.channels)


def read(file: Path | BinaryIO) -> tuple[np.ndarray, int]:
    """Samples from -1 to 1, shape (samples,), as the mean of all channels; and how many there are
    per second.
    """
    samples, rate = _library().read(_opened(file), dtype="float32", always_2d=True)
    return samples.mean(1), int(rate)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A sound of one channel as a WAV file of 16 bits, by Python's own writer."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32767 * samples.clip(-1, 1)).astype("<i2").tobytes())
    return written.getvalue()


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """The same sound at the wanted number of samples per second, by a polyphase filter."""
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly

    # 44,100 to 16,000 is 160 / 441: the filter's cost grows with these numbers.
    common = math.gcd(rate, wanted)
    return np.asarray(resample_poly(samples, wanted // common, rate // common), np.float32)


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
