"""Which Results of a study used an example, and where its text and what learned from it are kept."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import training
from workbench.data import redaction
from workbench.data.tables import folded
from workbench.errors import EnvironmentFault, UsageError, WorkbenchError
from workbench.forecast import starts
from workbench.formulations import Example
from workbench.methods.base import FITTED
from workbench.result import Result
from workbench.study import Recipe, Study
from workbench.study.tasks import largest_tasks
from workbench.training import SharedFiles, parent_store, shared_parents

TRAINED, INHERITED, SHOWN, MAY, GRADED, TESTED = (
    "trained on it",
    "started from, or taught by, what was trained on it",
    "asked with it as an example",
    "may have trained on it",
    "graded by it",
    "tested by it",
)
"""Ways in which a Result used an example."""


@dataclass(frozen=True)
class Use:
    """How a Result used an example."""

    result: Result
    how: tuple[str, ...]

    @property
    def learned(self) -> bool:
        """Whether weights of its may hold something of the example."""
        return bool({TRAINED, INHERITED, MAY} & {*self.how})


@dataclass(frozen=True)
class Wanted:
    """What is to be forgotten: an example by its id, or all that hold a text.

    Attributes:
        id: The id of an example; None where a text is given.
        text: A text; case and blanks do not count. None where an id is given.
    """

    id: str | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        if (self.id is None) == (self.text is None) or not (self.id or folded(self.text or "")):
            raise UsageError("say which example is meant: by --example ID, or by --text TEXT.")

    def is_example(self, example: Mapping[str, Any]) -> bool:
        """Whether an example is meant."""
        if self.id is not None:
            return str(example.get("id")) == self.id
        return any(folded(self.text or "") in folded(each) for each in _texts(example))

    def is_sample(self, sample: Mapping[str, Any]) -> bool:
        """Whether a sample holds it, in its example or in what was predicted."""
        return self.is_example(sample["example"]) or (self.text is not None and self.is_example({"": sample["prediction"]}))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, Sequence):
        for each in value:
            yield from _texts(each)


def held(study: Study, wanted: Wanted) -> dict[str, str]:
    """The examples of the study's data that are meant, by id, each with the split that it is of.

    Raises what `Task.splits` raises.
    """
    found: dict[str, str] = {}
    for task in largest_tasks(study):
        splits = task.splits()
        pool = task.pool()
        sides: Mapping[str, Sequence[Example]] = {
            "train": splits.train if pool is None else pool,
            "dev": splits.dev,
            "test": splits.test,
        }
        for side, examples in sides.items():
            found |= {str(each.get("id")): side for each in examples if wanted.is_example(each)}
    for task in study.recipe.also:
        for side in ("dev", "test"):
            found |= {str(each.get("id")): side for each in getattr(task.splits(), side) if wanted.is_example(each)}
    return found


def uses(study: Study, results: Sequence[Result], wanted: Wanted) -> list[Use]:
    """How each Result used what is meant. Results of other data than there are now are told by `unknown`."""
    found = []
    for result in results:
        if "data" in result.outdated:
            continue
        try:
            recipe = study.resolve(result.settings)
            how = tuple(_ways(recipe, result, wanted))
        except WorkbenchError:  # settings of an older form of the study, or data that are gone
            continue
        if how:
            found.append(Use(result, how))
    return found


def unknown(study: Study, results: Sequence[Result]) -> list[Result]:
    """Results of which it cannot be known whether they used an example: of data as they were before."""
    found = []
    for result in results:
        try:
            study.resolve(result.settings)
        except WorkbenchError:
            found.append(result)
            continue
        if "data" in result.outdated:
            found.append(result)
    return found


def _ways(recipe: Recipe, result: Result, wanted: Wanted) -> Iterable[str]:
    task = recipe.task
    splits, method = task.splits(), recipe.method
    if recipe.acquire is not None or recipe.pseudo is not None:
        # Which of the pool were chosen is not on record.
        if any(wanted.is_example(each) for each in task.pool() or splits.train):
            yield MAY
    else:
        places = [i for i, each in enumerate(splits.train) if wanted.is_example(each)]
        if places and (method.labelled and not method.shots) and _reached(recipe, result, places, len(splits.train)):
            yield TRAINED
        if places and method.shots and (min(places) < method.shots or method.choose == "nearest"):
            yield SHOWN
    if _holding(recipe, wanted):
        yield INHERITED
    grading = [splits, *(other.splits() for other in recipe.also)]
    if result.scores and any(wanted.is_example(each) for of in grading for each in of.dev):
        yield GRADED
    if result.test_scores and any(wanted.is_example(each) for of in grading for each in of.test):
        yield TESTED


def _holding(recipe: Recipe, wanted: Wanted) -> list[Recipe]:
    """Of the recipes that a recipe starts from or is taught by, and so on, those whose models hold something of an example."""
    found = []
    asked = [recipe.teacher] if recipe.teacher is not None and recipe.teacher.method.bought != 0 else []
    for before in (*recipe.parents, *asked):
        inherited, method = _holding(before, wanted), before.method
        # Of a teacher that is only asked, what stood before its questions.
        last = method.shots if method.shots and method.choose != "nearest" else None
        if inherited or any(wanted.is_example(each) for each in before.task.splits().train[:last]):
            found.append(before)
        found += inherited
    return found


def parents_of(study: Study, results: Sequence[Result], wanted: Wanted) -> tuple[list[Path], list[Path]]:
    """Folders and files of the cache with models that the study's recipes start from or are taught by, and that learned from an
    example: those that can be deleted, and those that a deployed model needs.

    Raises what `Task.splits` raises.
    """
    found: dict[Path, bool] = {}
    for parent in _holders(study, results, wanted):
        found |= parent_store.kept(parent)
    return [path for path, needed in found.items() if not needed], [path for path, needed in found.items() if needed]


def shared_parents_of(shared: SharedFiles, study: Study, results: Sequence[Result], wanted: Wanted) -> list[str]:
    """The same among the files that machines share, by their names there. Raises EnvironmentFault where they cannot be read."""
    try:
        return shared_parents.kept(shared, _holders(study, results, wanted))
    except OSError as error:
        raise EnvironmentFault(f"{shared.shown} cannot be read: {error}.") from error


def _holders(study: Study, results: Sequence[Result], wanted: Wanted) -> Iterable[Recipe]:
    """What the study's recipes start from or are taught by, and that learned from an example."""
    for recipe in _recipes(study, results):
        yield from _holding(recipe, wanted)


def _recipes(study: Study, results: Sequence[Result]) -> Iterable[Recipe]:
    """The recipes of Results, and all others of the study as far as they are listed: a parent may have been made for a run that
    has no Result yet.
    """
    for settings in {tuple(sorted(result.settings.items())): result.settings for result in results}.values():
        with contextlib.suppress(WorkbenchError):
            yield study.resolve(settings)
    for start, method in starts.methods_of(study):
        with contextlib.suppress(WorkbenchError):
            yield from starts.recipes(study, start, method)


def texts_of(study: Study, wanted: Wanted) -> list[str]:
    """The texts that are to be forgotten: the one that is given, or those of the example that is meant."""
    if wanted.text is not None:
        return [wanted.text]
    found: dict[str, None] = {}
    for task in largest_tasks(study):
        splits = task.splits()
        for each in (*(task.pool() or splits.train), *splits.dev, *splits.test):
            if wanted.is_example(each) and task.inputs:
                found |= dict.fromkeys(_texts(each[task.inputs[0]]))
    return list(found)


def files_with(texts: Sequence[str], files: Iterable[Path]) -> list[Path]:
    """Those files that hold one of the texts, as they are read: case, blanks and how CSV quotes do not count. A server's log may
    hold it with placeholders for what is private.
    """
    finders = redaction.finders(redaction.KINDS)
    # CSV writes a quotation mark twice.
    plain = [folded(each.replace('"', "")) for text in texts for each in (text, redaction.redacted(text, finders).text)]
    found = []
    for file in dict.fromkeys(files):
        content = folded(_said(file).replace('"', "")) if file.is_file() else ""
        if any(text in content for text in plain if text):
            found.append(file)
    return found


def _said(file: Path) -> str:
    """What a file says: of JSON lines, such as a log and its parts, the texts that their values are."""
    content = file.read_text(encoding="utf-8", errors="replace")
    if not re.search(r"\.jsonl(\.\d+)?$", file.name):
        return content
    texts: list[str] = []
    for line in content.splitlines():
        with contextlib.suppress(ValueError):  # a line that was torn
            texts.extend(_texts(json.loads(line)))
    return "\n".join(texts)


def _reached(recipe: Recipe, result: Result, places: Sequence[int], examples: int) -> bool:
    """Whether the loss has seen one of these examples by the step of a Result."""
    at_once = recipe.method.kind in FITTED and not recipe.method.trains
    if at_once or result.status != "complete" or result.epochs >= 1:
        return True
    seed = getattr(recipe.task, "seed", 0)
    seen = {int(i) for step in range(result.step) for i in training.step_examples(step, recipe.batch_size, examples, seed)}
    return bool(seen & {*places})


def weights_of(folder: Path, of: Iterable[Use]) -> list[Path]:
    """Files below a sweep's folder that hold weights which learned from an example: of points of the
    front, and states that runs go on from.
    """
    paths = []
    for use in of:
        if use.learned:
            paths += [
                folder / "weights" / f"{use.result.recipe_id}.safetensors",
                folder / "prefixes" / f"{use.result.run_id}.safetensors",
            ]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def shared_weights_of(shared: SharedFiles, of: Iterable[Use]) -> list[str]:
    """The same among the files that machines share, by their names there. Raises EnvironmentFault where they cannot be read."""
    learned = [use.result for use in of if use.learned]
    try:
        kept = {folder: shared.names(folder) for folder in ("weights", "states")}
    except OSError as error:
        raise EnvironmentFault(f"{shared.shown} cannot be read: {error}.") from error
    points = [f"weights/{r.recipe_id}" for r in learned if r.recipe_id in kept["weights"]]
    return list(dict.fromkeys([*points, *(f"states/{r.run_id}" for r in learned if r.run_id in kept["states"])]))
