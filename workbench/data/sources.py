"""Where a data set's rows come from: a file, a folder, or the hub; by side, with the place of each
row.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workbench.data import cache, columnar, delimited, file_splits, files, formats, hub
from workbench.data.files import reading, wrong
from workbench.data.forms import BUILT_IN, Form, Source
from workbench.errors import EnvironmentFault, UsageError, did_you_mean


def of(data: str, form: Form) -> dict[str, Source]:
    """What each side of a data set is read from. Rows are read only when they are asked for.

    Args:
        data: A path, or a name on the hub.
        form: Which files count, and how they are read.

    Raises:
        DataError: A file is missing, or what is there would not be read.
        UsageError: The hub has no data set of that name.
        EnvironmentFault: The hub cannot be reached, or a file cannot be read.
    """
    path = _path(data, form)
    if data in BUILT_IN and path is None:
        own = ", ".join(form.built_in) or "none"
        raise UsageError(f"the built-in data set {data!r} is one for {BUILT_IN[data]}. For this task there is: {own}.")
    return _from_hub(data, form) if path is None else _from_disk(path, form)


def _path(data: str, form: Form) -> Path | None:
    """The path that `data` is; None where it is a name on the hub."""
    with reading(repr(data), "a path or a name"):
        path = cache.expanded(data)
        # A link to nothing is a path too: its error names the link, and the hub is not asked.
        local = path.exists() or path.is_symlink()
        return path if local or files.suffix_of(path.name) in form.suffixes or data.startswith((".", "/", "~")) else None


def answers_of(path: Path) -> Path:
    """The file beside a file or folder of data in which labels stand that people gave later."""
    return path.with_name(f"{path.name}.answers.csv")


def _from_disk(path: Path, form: Form) -> dict[str, Source]:
    found = _from_data(path, form)
    if form.answerable and path.name and (answers := answers_of(path)).is_file():
        found["answers"] = [(str(answers), delimited.rows(answers, ".csv", packed=False))]
    return found


def _from_data(path: Path, form: Form) -> dict[str, Source]:
    if path.is_dir() and (own := form.of_folder(path)) is not None:
        return own
    if path.is_dir():
        found = file_splits.of_folder(path, form.suffixes, any_name=form.any_name)
        return {side: [(str(file), formats.rows(file, form)) for file in parts] for side, parts in found.items()}
    if path.exists() or path.is_symlink():
        return {"train": [(str(path), formats.rows(path, form))]}
    hub_name = "the name of a data set on the hub"
    others = f"{hub_name}, or a built-in one: {', '.join(form.built_in)}" if form.built_in else f"or {hub_name}"
    where = "" if path.is_absolute() else f" (looked in {Path.cwd()}: paths are relative to the folder you are in)"
    beside: list[str] = []
    with contextlib.suppress(OSError):
        beside = [each.name for each in path.parent.iterdir() if each.is_dir() or files.suffix_of(each.name) in form.suffixes]
    hint = did_you_mean(path.name, beside)
    raise wrong(f"there is no file or folder {str(path)!r}{where}.{hint} Give an existing path, {others}.")


def _from_hub(data: str, form: Form) -> dict[str, Source]:
    name, _, configuration = data.partition(":")
    hint = did_you_mean(data, form.built_in)
    if "/" not in name and " Did you mean" in hint:  # as of models: a slip, for which nobody needs the hub
        raise UsageError(f"there is no data set {data!r}.{hint} A file is written ./name, a data set on the hub owner/name.")
    try:
        import datasets  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise EnvironmentFault(f"{data!r} is a name on the hub, and `datasets` is not installed. pip install datasets.") from error
    hub.require(name, "dataset", f"data set {data!r}.{hint}")
    datasets.disable_progress_bars()  # it has a switch of its own
    with hub.quiet():
        try:
            found = datasets.load_dataset(name, configuration or None)
        except Exception as error:  # a builder may raise anything
            why = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise UsageError(f"cannot load the data set {data!r} from the hub: {why}") from error
    chosen = file_splits.of_splits(found, data)
    return {side: [(f"{data} ({split})", _hub_rows(found[split], f"{data} ({split})"))] for side, split in chosen.items()}


def _hub_rows(split: Iterable[Any], source: str) -> Iterator[tuple[str, Any]]:
    names = columnar.names_of(getattr(split, "features", None) or {})
    given = iter(split)
    for number in itertools.count(1):
        with reading(source, "a split"):
            try:
                row = next(given)
            except StopIteration:
                return
        yield f"row {number}", columnar.named(row, names) if names else row
