"""The folder in the cache with the models that recipes start from: each made once on a kind of machine, the oldest dropped.

A model has a folder named by a hash of the recipe that made it, of what stands behind its names, and of the machine, whose cost is
on record:

    whole/       the model in Hugging Face's form, averaged weights in float32, with the head of its task
    body/        the same without that head, for a recipe with another one; the two share the body's weights
    record.json  what making it took

Of tasks that are each answered by weights of their own there are these alone (`tuned.safetensors`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import cgroups, process
from workbench.data import cache, hub, models
from workbench.errors import EnvironmentFault, UsageError
from workbench.formulations import Formulation
from workbench.meter import host
from workbench.result import UsagePart
from workbench.study import Recipe
from workbench.study.record import digest
from workbench.usage import Usage

if TYPE_CHECKING:
    import torch

    from workbench.training.resume_state import ResumeCache

MOST_BYTES = 4 << 30
"""The most that is kept; the models that nobody has started from for the longest time are dropped first."""

RECENT_SECONDS = 3600.0
"""A model that was started from within this time stays: a run may be about to read it."""

STATE_BYTES = 2 << 30
"""The most that states of unfinished parents take in the cache."""

RECORD = "record.json"
"""The file of a folder that tells of it: without it the folder is none."""

_FISHER = "fisher.safetensors"

_TUNED = "tuned.safetensors"

KEPT = "deployed"
"""The file that marks a folder which a deployed model needs."""


@dataclass(frozen=True)
class ParentRecord:
    """What a parent took, and what it is.

    Attributes:
        usage: Cold: its own parents in full, load, data and training, and no evaluation, which no child needs.
        labels: Distinct labels that it and its parents were made with, by the order in which they
            are bought (`workbench.result.label_order`).
        labels_before: Those of its parents alone.
        head: The class and the settings of its task's head (`head_of`).
        scores: Its last scores on the dev set, those of its own parents before them.
        parts: What of `usage` was consumed on which machines, as the phase `pretrain`; the rest, and all where it is empty, on
            this one.
    """

    usage: Usage
    labels: Mapping[str, int]
    labels_before: Mapping[str, int]
    head: str
    scores: Sequence[Mapping[str, float]] = ()
    parts: Sequence[UsagePart] = ()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ParentRecord:
        """It from the record of a folder. Raises KeyError, TypeError or ValueError where that is none."""
        parts = [UsagePart.from_json(part) for part in record.get("parts", ())]
        usage = Usage.from_json(record["usage"])
        return cls(usage, record["labels"], record["labels_before"], record["head"], record["scores"], parts)


def machine() -> str:
    """The machine whose cost is on record: another one may give other weights, and takes another time."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{cgroups.cpus_held():g} x {host.cpu_model()}"


def root() -> Path:
    """The folder of all of them. Raises as `cache.folder`."""
    return cache.folder() / "parents"


def folder_of(parent: Recipe) -> Path:
    """Where the model of a parent is kept, once it is made."""
    return root() / digest({"parent": parent.id, "machine": machine()})


def find(parent: Recipe) -> ParentRecord | None:
    """What is known of a parent's model; None where it has yet to be made."""
    try:
        return ParentRecord.from_json(json.loads((folder_of(parent) / RECORD).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_at_hand(parent: Recipe) -> bool:
    """Whether a parent's model is kept here."""
    return (folder_of(parent) / RECORD).is_file()


def touch(parent: Recipe) -> None:
    """Note that somebody starts from a parent's model now."""
    with contextlib.suppress(OSError):
        os.utime(folder_of(parent))


def head_of(formulation: Formulation) -> str:
    """The class of a model with its head and what it is told: heads of one text are the same head."""
    return f"{formulation.auto_class} {sorted(formulation.settings.items())!r}"


def place(recipe: Recipe) -> str:
    """What the weights of a recipe's model are read from: its name, or the folder of its parent's model, with the head of the
    parent's task where the recipe has the same.

    Raises:
        EnvironmentFault: The parent's model is not there.
    """
    if (parent := recipe.begun_with) is None:
        return recipe.architecture
    if (record := find(parent)) is None:
        raise EnvironmentFault(
            f"the model that {recipe.model_name!r} starts from is not in the cache ({folder_of(parent)}) any more. Run the sweep "
            "again, which makes it."
        )
    return str(folder_of(parent) / ("whole" if record.head == head_of(recipe.formulation) else "body"))


def information(parent: Recipe) -> dict[str, torch.Tensor]:
    """The Fisher information of the weights of a parent that was made with it, by name; of all that it learned."""
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(folder_of(parent) / _FISHER)
    return found


def tuned(parent: Recipe) -> dict[str, torch.Tensor]:
    """The tuned weights of a parent whose tasks each have their own, by name."""
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(folder_of(parent) / _TUNED)
    return found


def model_tensors(parent: Recipe) -> dict[str, torch.Tensor]:
    """All weights of a parent's model with the head of its task, by name."""
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for file in sorted((folder_of(parent) / "whole").glob("*.safetensors")):
        found |= load_file(file)
    return found


def kept_for_good(recipe: Recipe) -> str:
    """Do as `place` does, and never drop that folder to make room: what is deployed needs it."""
    found, parent = place(recipe), recipe.begun_with
    if parent is not None:
        (folder_of(parent) / KEPT).touch()
    return found


def kept(parent: Recipe) -> dict[Path, bool]:
    """What is kept here of a parent's model, made on whatever machine: folders, or the state of one that is unfinished; each with
    whether a deployed model needs it. Raises as `cache.folder`.
    """
    found: dict[Path, bool] = {}
    of = json.loads(json.dumps(parent.to_json()))
    for folder in root().iterdir() if root().is_dir() else ():
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads((folder / RECORD).read_bytes())["recipe"] == of:
                found[folder] = (folder / KEPT).exists()
    state = states().path(parent.run_id)
    return found | ({state: False} if state.is_file() else {})


def states() -> ResumeCache:
    """States of parents that are unfinished. Raises as `cache.folder`."""
    from workbench.training.resume_state import ResumeCache  # which loads torch

    return ResumeCache(root() / "states", STATE_BYTES)


def write(
    parent: Recipe,
    model: torch.nn.Module | None,
    record: ParentRecord,
    information: Mapping[str, torch.Tensor] | None = None,
    tuned: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Keep a parent's model, whole or not at all, and drop the oldest ones.

    Args:
        parent: What made it.
        model: A plain model (`methods.merged`) on the CPU; None where only what was tuned is kept.
        record: What making it took.
        information: The Fisher information of its weights, by name; None where nobody needs it.
        tuned: Its tuned weights, by name, where these alone are kept.

    Raises:
        EnvironmentFault: The cache cannot be written to.
    """
    from safetensors.torch import save_file

    made = folder_of(parent)
    draft = process.draft(made)
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(parents=True, exist_ok=True)
        if model is not None:
            with hub.quiet():
                _write_model(parent, model, draft)
        if tuned is not None:
            save_file(dict(tuned), draft / _TUNED)
        if information is not None:
            save_file(dict(information), draft / _FISHER)
        about = {
            "usage": record.usage.to_json(),
            "labels": dict(record.labels),
            "labels_before": dict(record.labels_before),
            "head": record.head,
            "scores": [dict(each) for each in record.scores],
            "parts": [part.to_json() for part in record.parts],
            "recipe": parent.to_json(),
            "machine": machine(),
        }
        (draft / RECORD).write_text(json.dumps(about), encoding="utf-8")
        shutil.rmtree(made, ignore_errors=True)  # one without a record that can be read
        draft.replace(made)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot keep the model of {parent.name!r} in {made.parent}: {error.strerror or error}. Free some space or set "
            "WORKBENCH_CACHE to a folder that can be written to."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    make_room(keep=made)


def _write_model(parent: Recipe, model: Any, draft: Path) -> None:
    """Write the two forms of a model into a folder."""
    from safetensors.torch import load_file, save_file

    whole, body = draft / "whole", draft / "body"
    model.save_pretrained(whole, max_shard_size="1TB")
    tensors = load_file(whole / "model.safetensors")
    head = {name: tensors.pop(name) for name in models.head(model) if name in tensors}
    tensors |= _left_out(parent, model, tensors)
    # The configuration is that of the architecture: a head's number of classes would become that of the next task.
    models.config(parent.architecture).save_pretrained(body)
    save_file(tensors, body / "model.safetensors", metadata={"format": "pt"})
    for folder in (whole, body):
        models.processor(parent.architecture).save_pretrained(folder)
    (whole / "model.safetensors").unlink()
    if not head:
        _link(body / "model.safetensors", whole / "model.safetensors")
        return
    _link(body / "model.safetensors", whole / "body.safetensors")
    save_file(head, whole / "head.safetensors", metadata={"format": "pt"})
    places = dict.fromkeys(tensors, "body.safetensors") | dict.fromkeys(head, "head.safetensors")
    size = sum(tensor.nbytes for tensor in (*tensors.values(), *head.values()))
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (whole / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _left_out(parent: Recipe, model: Any, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of what the parent started from that its own model has no place for, as a pooler, and that another head may need."""
    try:
        start = models.build(place(parent), "AutoModel")
    except UsageError:  # it has no form without a head
        return {}
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    named = {f"{prefix}{name}": parameter.detach().clone() for name, parameter in start.named_parameters()}
    return {name: tensor for name, tensor in named.items() if name not in tensors}


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def make_room(keep: Path) -> None:
    """Drop the models that were started from the longest time ago, until the others are within the bound."""
    now = keep.stat().st_mtime  # by the clock of the file system, which machines may share
    known: list[tuple[float, int, Path]] = []
    for path in root().iterdir():
        with contextlib.suppress(OSError):  # another worker has just dropped it
            if path.suffix == ".tmp" and process.is_left(path, now):
                shutil.rmtree(path, ignore_errors=True)
            elif (path / RECORD).is_file() and not (path / KEPT).exists():
                known.append((path.stat().st_mtime, _bytes_of(path), path))
    size = sum(each for _, each, _ in known)
    for used, own, path in sorted(known):
        if size <= MOST_BYTES or path == keep or now - used < RECENT_SECONDS:
            continue
        size -= own
        shutil.rmtree(path, ignore_errors=True)


def _bytes_of(folder: Path) -> int:
    """Bytes of the files of a folder; one that has two names in it counts once."""
    files = {(stat.st_dev, stat.st_ino): stat.st_size for file in folder.rglob("*") if file.is_file() for stat in (file.stat(),)}
    return sum(files.values())
