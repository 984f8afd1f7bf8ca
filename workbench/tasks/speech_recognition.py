"""Speech recognition: what is said in a sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import formulations
from workbench.data import media
from workbench.data.media import Transcripts
from workbench.formulations import Example, Formulation
from workbench.space import check, is_number
from workbench.tasks import request
from workbench.tasks.media import sent
from workbench.tasks.speech_scores import speech_scores
from workbench.tasks.tables import TableTask


@dataclass(frozen=True, kw_only=True)
class SpeechRecognition(TableTask):
    """Write what is said; made by `speech_recognition`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = ("word_accuracy", "character_accuracy")
    lower_is_better: ClassVar[tuple[str, ...]] = ("wer", "cer")
    bounds: ClassVar[tuple[str, ...]] = ("max_seconds",)

    file: str | None
    text: str | None
    group: str | None
    max_seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "max_seconds", lambda value: is_number(value) and value > 0, "a number above 0")

    @property
    def form(self) -> Transcripts:
        return Transcripts("sound", self.file, self.group, self.text)

    def formulation(self, kind: str) -> Formulation:
        return formulations.speech_recognition(kind, self, self.data, _text, max_seconds=self.max_seconds)

    def asked(self) -> Mapping[str, str]:
        return {"sound": request.FILE}

    def question(self, example: Example) -> dict[str, Any]:
        return {"sound": media.encoded("sound", self.data, example)}

    def example(self, row: Mapping[str, Any]) -> Example:
        return sent("sound", row) | {"text": ""}

    def score(self, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
        return speech_scores([_text(example) for example in examples], predictions)


def _text(example: Example) -> str:
    return str(example["text"])


def speech_recognition(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    file: str | None = None,
    text: str | None = None,
    group: str | None = None,
    max_seconds: float = 20.0,
    seed: int = 0,
    name: str | None = None,
) -> SpeechRecognition:
    """Speech written down by models with a CTC head, scored by jiwer's word and character error
    rates (`wer`, `cer`, in per cent).

    Maximise `word_accuracy`, which is 100 - `wer`, or `character_accuracy`, 100 - `cer`; neither is
    less than 0. Case and marks are not heard: they count neither in what is learned nor in the
    scores.

    Args:
        data: A table (CSV, TSV, JSON lines, …) with a column of paths, which count from its folder,
            and one of what is said; or a folder of such tables. Files are WAV, FLAC, OGG, MP3 or
            AIFF, of any rate.
        train: Transcribed sounds to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most sounds that grade each checkpoint; the data may have fewer.
        test: The most sounds held out to the end.
        file: Column of the paths; None: the one called `audio`, `file_name`, `path` or `file`.
        text: Column of what is said; None: the one called `text`, `sentence`, `transcription` or
            `transcript`.
        group: Column of groups, such as speakers: the scores of the worst group are recorded too
            (`worst_group_word_accuracy`).
        max_seconds: A longer sound is neither learned from nor asked, and counts as not understood.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return SpeechRecognition(
        data=data, train=train, dev=dev, test=test, file=file, text=text, group=group, max_seconds=max_seconds, seed=seed, name=name
    )
