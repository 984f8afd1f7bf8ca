"""Which files of a folder, or splits on the hub, belong to which side. Nothing that may be meant as
data is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from workbench.data.files import ARROW, CONLL, DELIMITED, SUFFIXES, reading, suffix_of, wrong

SIDES = {
    "train": ("train", "training"),
    "dev": ("dev", "development", "validation", "valid", "val", "eval", "evaluation"),
    "test": ("test", "testing"),
}
"""Words that name each side, in names of files and of splits."""

NO_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")
"""Files that describe data and hold none."""

_OTHER_FORMATS = (
    *(*DELIMITED, *ARROW, *CONLL, ".txt", ".avro", ".orc", ".xls", ".xlsx", ".pkl", ".pickle"),
    *(".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".tar", ".tgz", ".7z", ""),
)
"""Formats that are not read, or not for every task. A file in one of them that is named after a
side was meant as data.
"""


def of_folder(
    folder: Path, suffixes: Sequence[str] = SUFFIXES, *, any_name: bool = False, without: Collection[str] = ()
) -> dict[str, list[Path]]:
    """The files of each side in a folder: one, or numbered parts in their order.

    Names count by their words: `train.jsonl`, `Dev-v1.1.json`, `squad_validation.json.gz`,
    `train-00000-of-00002.parquet`.

    Args:
        folder: The folder.
        suffixes: Suffixes of files that are read.
        any_name: Whether all files are training data if none is named after a side.
        without: Names of files that count as if they were not there, as another holds all of them.

    Raises:
        DataError: There is no training file, two files could be the same side, or a file would be
            passed over.
        EnvironmentFault: The folder cannot be read.
    """
    with reading(str(folder)):
        there = sorted(each for each in folder.iterdir() if not each.name.startswith(".") and each.name not in without)
    if any_name and not any(sides_of(each.name) for each in there):
        files = [each for each in there if suffix_of(each.name) in suffixes and each.name not in NO_DATA]
        if files:
            return {"train": files}
    found: dict[str, list[Path]] = {side: [] for side in SIDES}
    unread = []
    for each in there:
        sides = sides_of(each.name)
        # A folder may be meant as data as well (`train/`, `train.parquet/`): it is reported, not
        # passed over.
        if each.is_dir():
            if suffix_of(each.name) in suffixes or _holds_side(each, suffixes):
                unread.append(f"{each.name}/")
        elif suffix_of(each.name) in suffixes:
            if len(sides) == 1:
                found[sides[0]].append(each)
            elif each.name not in NO_DATA:
                unread.append(each.name)
        elif sides and suffix_of(each.name) in _OTHER_FORMATS:
            unread.append(each.name)
    if not found["train"]:
        names = ", ".join(each.name for each in there[:8]) or "nothing"
        looked_for = ", ".join(f"train{suffix}" for suffix in suffixes)
        raise wrong(f"the folder {folder} has no training file: looked for {looked_for}; there is {names}.")
    if unread:
        raise wrong(
            f"the folder {folder} holds what would not be read: {', '.join(unread[:8])}{', …' if unread[8:] else ''}. Call each "
            f"file after its side (train, dev or validation, test), with one of {', '.join(suffixes)}; or move it elsewhere."
        )
    return {side: _parts(files, side, folder) for side, files in found.items() if files}


def of_splits(splits: Iterable[str], data: str) -> dict[str, str]:
    """The split on the hub for each side.

    Raises:
        DataError: There is no training split, two splits could be the same side, or an unknown one
            may be meant as a missing side.
    """
    names = list(map(str, splits))
    found = {side: [name for name in names if name.casefold() in words] for side, words in SIDES.items()}
    others = [name for name in names if not any(name in each for each in found.values())]
    if not found["train"]:
        raise wrong(f"the data set {data!r} on the hub has no split 'train', only {', '.join(names)}.")
    for side, of_side in found.items():
        if len(of_side) > 1:
            raise wrong(
                f"the data set {data!r} on the hub has {len(of_side)} splits for {side}: {', '.join(of_side)}. Save the one that "
                "you mean as a file of that name, and give the folder."
            )
        if not of_side and (near := [name for name in others if side in sides_of(name)]):
            raise wrong(
                f"the data set {data!r} on the hub has no split for {side} by a name that is known, and these would not be read: "
                f"{', '.join(near)}. Save the splits that you mean as the files train, dev and test of a folder, and give that."
            )
    return {side: of_side[0] for side, of_side in found.items() if of_side}


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.casefold())


def sides_of(name: str) -> list[str]:
    """The sides that a name contains a word of: none, one, or several, in which case it tells
    nothing.
    """
    words = _words(name)
    return [side for side, stems in SIDES.items() if any(stem in words for stem in stems)]


def _holds_side(folder: Path, suffixes: Sequence[str]) -> bool:
    """Whether a folder is named after a side and holds files of data."""
    if not any(folder.name.casefold() in stems for stems in SIDES.values()):
        return False
    with reading(str(folder)):
        return any(suffix_of(each.name) in (*suffixes, ".arrow") for each in folder.iterdir())


_SHARD = re.compile(r"(?P<number>\d+)-of-(?P<of>\d+)")
_PART = re.compile(r"(?<=[-_a-z])(?<!v)(?P<number>\d+)(?!.*[-_a-z]\d)", re.IGNORECASE)
"""The number of a part, the last number in a name, but not that of a version (`v2`, or the 1 of
`1.1`).
"""


def _parts(files: list[Path], side: str, folder: Path) -> list[Path]:
    """The files of one side as parts, in their order. Raises DataError where they are not all of
    its parts.
    """
    names = ", ".join(file.name for file in files[:8]) + (", …" if files[8:] else "")
    shards = [shard for file in files if (shard := _SHARD.search(file.name))]
    if shards:
        total = int(shards[0]["of"])
        # Parts of one set agree in all but their number; two sets in a folder do not.
        begun = {shard.string[: shard.start()] + shard["of"] + suffix_of(shard.string) for shard in shards}
        numbers = sorted(int(shard["number"]) for shard in shards)
        if len(shards) == len(files) and len(begun) == 1 and numbers in (list(range(total)), list(range(1, total + 1))):
            return sorted(files, key=lambda file: int(_SHARD.search(file.name)["number"]))  # type: ignore[index]
        if len(shards) == len(files) and len(begun) == 1 and len(set(numbers)) < total:
            raise wrong(f"the folder {folder} has not all {total} parts of {side}, only {names}. Fetch the others.")
    elif len(files) == 1:
        return files
    else:
        found = {file: _PART.search(file.name[: -len(suffix_of(file.name))]) for file in files}
        frames = {_PART.sub("#", file.name[: -len(suffix_of(file.name))]).casefold() + suffix_of(file.name) for file in files}
        of = {int(part["number"]): file for file, part in found.items() if part}
        if len(of) == len(files) and len(frames) == 1 and sorted(of) in (list(range(len(of))), list(range(1, len(of) + 1))):
            return [of[number] for number in sorted(of)]
    raise wrong(
        f"the folder {folder} holds {len(files)} files for {side}: {names}. They are not the parts of one (called alike, numbered "
        "without a gap from 0 or 1): which is meant? Leave one there, or join them in one file."
    )
