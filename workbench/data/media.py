"""Files of images and sounds: a folder for each class, or a table that names them. They are known
by a hash of their bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench.data import digits, images, sounds, values, vowels
from workbench.data.file_splits import sides_of
from workbench.data.files import TABLE_SUFFIXES, reading, suffix_of, wrong
from workbench.data.forms import Example, Sides, Source
from workbench.data.labelled import LABEL, check_classes, label_of
from workbench.data.tables import Columns, LeftOut, Mistyped, Table, folded, group_column, group_of, pick, text_of
from workbench.errors import DataError

READERS = {"image": images, "sound": sounds}
"""The reader of each kind of file: a module with `SUFFIXES`, `check(file)` and `read(file)`; and
with `size(file)` in `UNIT`, of which a file that is sent may have `MOST`."""

_KINDS = {"image": "an image", "sound": "a sound"}

FILE = {"image": ("image", "file_name", "path", "file"), "sound": ("audio", "file_name", "path", "file")}
"""Names of the column of files that are known."""

TEXT = ("text", "sentence", "transcription", "transcript")
CLASS = "class"


@dataclass(frozen=True)
class FilesTable(Table):
    """Rows that each name a file, by a path that is absolute or counts from the table's folder.

    Attributes:
        media: `image` or `sound`.
        file: Column of the files; None: known by its name.
        group: Column of groups, by which scores are told apart; None: `group`, where there is one.
    """

    refers: ClassVar[bool] = True
    noun: ClassVar[str] = "content of a file"

    media: str
    file: str | None = None
    group: str | None = None

    def found(self, file: str, rows: Iterable[tuple[str, Any]]) -> tuple[Columns, Iterable[tuple[str, Any]]]:
        columns, found = super().found(file, rows)
        return {**columns, "root": Path(file).parent if Path(file).is_file() else Path(file)}, found

    def of_file(self, row: Mapping[str, Any], columns: Columns) -> Example:
        """The file of a row: its path as in the row, a hash of its bytes, and what its head tells.
        Raises LeftOut, Mistyped.
        """
        value = values.plain(row.get(columns["file"]))
        if isinstance(value, Mapping):
            raise Mistyped(f"{columns['file']!r} holds the {self.media}s themselves. Save them as files, and name those.")
        name = text_of(row, columns["file"])
        path = columns["root"] / name
        if path.suffix.lower() not in READERS[self.media].SUFFIXES:
            raise LeftOut(f"no {self.media}s that are read ({', '.join(READERS[self.media].SUFFIXES)})")
        if not path.is_file():
            raise Mistyped(f"there is no file {str(path)!r}. Paths count from the folder of the table.")
        with reading(str(path), f"an {self.media}" if self.media == "image" else "a sound"):
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
            told = READERS[self.media].check(path)
        return {"file": name, "content": content, **told}

    def key(self, example: Example) -> str:
        return str(example["content"])


@dataclass(frozen=True)
class LabelledFiles(FilesTable):
    """Files with one label each: examples are `{"id", "file", "content", "labels", "group"?}`,
    `labels` being a list of one.

    A folder holds a folder for each class, or folders `train`, `dev` and `test` that do. A table
    has columns for file and label.

    Attributes:
        label: Column of the label; None: known by its name.
        labels: All labels that there may be; empty: those of train.
    """

    label: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def built_in(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"digits": digits} if self.media == "image" else {"vowels": vowels}

    def of_folder(self, folder: Path) -> dict[str, Source] | None:
        """The sides of a folder of folders; None where it holds a table."""
        with reading(str(folder)):
            there = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
        if any(suffix_of(each.name) in TABLE_SUFFIXES for each in there):
            return None
        inside = [each for each in there if each.is_dir()]
        named = {each: sides_of(each.name) for each in inside}
        # Only if all folders are named after sides: a class may be called test.
        if inside and all(len(sides) == 1 for sides in named.values()):
            found: dict[str, list[Path]] = {}
            for each, (side,) in named.items():
                found.setdefault(side, []).append(each)
            if "train" not in found or any(len(of) > 1 for of in found.values()):
                raise wrong(f"the folder {folder} must have one folder train, and may have dev and test; it has {_names(inside)}.")
            return {side: [(str(folder), self._classes(folder, of[0]))] for side, of in found.items()}
        if not inside:
            raise wrong(f"the folder {folder} has no folders. Give one folder for each class, or a table that names the files.")
        return {"train": [(str(folder), self._classes(folder, folder))]}

    def _classes(self, root: Path, folder: Path) -> Iterator[tuple[str, Any]]:
        """Rows of a folder: its folders are the classes."""
        known = FILE[self.media][0]
        with reading(str(folder)):
            classes = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        for each in classes:
            with reading(str(each)):
                files = sorted(file for file in each.rglob("*") if file.is_file() and not file.name.startswith("."))
            for file in files:
                name = file.relative_to(root).as_posix()
                yield name, {known: name, CLASS: each.name}

    def columns(self, names: Sequence[str], file: str) -> Columns:
        return {
            "file": pick(names, file, "file", self.file, FILE[self.media]),
            "label": pick(names, file, "label", self.label, LABEL),
            "group": group_column(names, file, self.group),
        }

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        return {**self.of_file(row, columns), "labels": [label_of(row, columns["label"])], **group_of(row, columns["group"])}

    def labels_of(self, example: Example) -> Sequence[str]:
        return list(example["labels"])

    def stratum(self, example: Example) -> str:
        return str(example["labels"][0])

    def check(self, sides: Sides, data: str) -> Iterator[str]:
        yield from check_classes(self, sides, data, self.labels)


@dataclass(frozen=True)
class Transcripts(FilesTable):
    """Sounds with what is said in them: examples are `{"id", "file", "content", "seconds", "text",
    "group"?}`.

    Attributes:
        text: Column of what is said; None: known by its name.
    """

    text: str | None = None

    def columns(self, names: Sequence[str], file: str) -> Columns:
        return {
            "file": pick(names, file, "file", self.file, FILE[self.media]),
            "text": pick(names, file, "text", self.text, TEXT),
            "group": group_column(names, file, self.group),
        }

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        text = " ".join(text_of(row, columns["text"]).split())
        return {**self.of_file(row, columns), "text": text, **group_of(row, columns["group"])}

    def key(self, example: Example) -> str:
        # By what is said: a sentence spoken by two people must not be learned from one and graded
        # on the other.
        return folded(example["text"])


def located(data: str, example: Mapping[str, Any]) -> Path:
    """The path of an example's file, in the data set at path `data`."""
    root = Path(data).expanduser()
    return (root.parent if root.is_file() else root) / str(example["file"])


def read(media: str, data: str, example: Mapping[str, Any]) -> Any:
    """The image or the sound of an example, as the reader in `READERS` gives it.

    Raises:
        DataError: The file is not what its name says.
        EnvironmentFault: It cannot be read.
    """
    if "pixels" in example:
        return images.drawn(example["pixels"])
    if "vowel" in example:
        return vowels.said(example["vowel"])
    if "bytes" in example:  # a file that was sent
        with reading(f"the {media} that was sent", _KINDS[media]):
            return READERS[media].read(io.BytesIO(example["bytes"]))
    path = located(data, example)
    with reading(str(path), _KINDS[media]):
        return READERS[media].read(path)


def encoded(media: str, data: str, example: Mapping[str, Any]) -> str:
    """The bytes of an example's file in base64, as it is sent to a model that is deployed. Raises as `read`."""
    if "pixels" in example:
        drawn = io.BytesIO()
        images.drawn(example["pixels"]).save(drawn, "png")
        return base64.b64encode(drawn.getvalue()).decode()
    path = located(data, example)
    with reading(str(path), _KINDS[media]):
        return base64.b64encode(path.read_bytes()).decode()


def check_sent(media: str, content: bytes) -> dict[str, Any]:
    """What the head of a file that was sent tells of it, as its reader's `check` has it.

    Raises:
        DataError: It is no such file, or so large when it is unpacked that reading it could take all memory.
    """
    with reading(f"the {media} that was sent", _KINDS[media]):
        told: dict[str, Any] = READERS[media].check(io.BytesIO(content))
        size = READERS[media].size(io.BytesIO(content))
    most = READERS[media].MOST
    if size > most:
        raise DataError(f"the {media} that was sent has {size:,} {READERS[media].UNIT}, and may have {most:,}. Send a smaller one.")
    return told


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(each.name for each in folders[:8]) + (", …" if folders[8:] else "")
