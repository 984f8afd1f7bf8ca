"""What a Result depends on beside what its recipe says: whether that is still what it was, decided in one place.

A recipe's record has names: of a data set, of a model's folder, of a task's class. Its inputs are fingerprints of what stood behind
them. A Result of other inputs is of another recipe than the one that would be run now: it is outdated. It stays on the bill and in
lists; it is no point, no finished run, and nothing that a search learns from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from workbench import methods
from workbench.methods import Method
from workbench.result.model_names import origin
from workbench.result.record import Result

KINDS = ("data", "model", "code", "method", "parents", "also")
"""Kinds of inputs: the data, the model's files, the task's code, the form in which the method is applied, all that stands
behind the names in what the model starts from, and data and code of the other tasks that grade."""

SEEN = ("data", "model", "code", "parents", "also")
"""Those of which a study knows fingerprints."""

Known = Mapping[str, Mapping[str, str]]
"""Fingerprints of inputs as they are: by kind, and by `key`. Under `runs` what is known of runs without any: by run id which inputs
changed, with `+` between them."""


def key(kind: str, recipe: Mapping[str, Any]) -> str:
    """The key under which an input of a recipe is kept, from its record: the name of the model that it begins with; for data and
    code a hash of the task, for parents one of what the model starts from, and of its teacher.
    """
    if kind == "model":
        return origin(recipe)
    if kind == "parents":
        before = [recipe["model"], recipe.get("pretrain")]
        # What else is in `pseudo` decides nothing of what stands behind the teacher's names.
        teacher = pseudo.get("teacher") if isinstance(pseudo := recipe.get("pseudo"), Mapping) else None
        before += [teacher] if teacher is not None else []
        return hashlib.sha256(json.dumps(before, sort_keys=True, default=str).encode()).hexdigest()[:16]
    if kind == "also":
        return hashlib.sha256(json.dumps(recipe.get("also", []), sort_keys=True, default=str).encode()).hexdigest()[:16]
    return hashlib.sha256(json.dumps(recipe["task"], sort_keys=True, default=str).encode()).hexdigest()[:16]


def changed(result: Result, known: Known) -> tuple[str, ...]:
    """Which inputs of a Result are not what they are now, out of `KINDS`; an input of which nothing
    is known is what it was.

    A Result without fingerprints was made before there were any. Its provenance holds a digest of
    its data. Whether the rest is still what it was is told by making its recipe again and comparing
    ids: see `without_fingerprints`.
    """
    if not result.inputs and (told := known.get("runs", {}).get(result.run_id)) is not None:
        return tuple(filter(None, told.split("+")))
    own = {"data": result.provenance.get("data_digest")} | dict.fromkeys(SEEN[1:], "" if result.inputs else None)
    return _differing(result, own | dict(result.inputs), known)


def without_fingerprints(result: Result, known: Known) -> tuple[str, ...]:
    """Do as `changed` does, for a Result without fingerprints whose recipe has another id now.

    An input that has a fingerprint now had none then, so it counts as changed.
    """
    return _differing(result, {"data": result.provenance.get("data_digest")} | dict.fromkeys(SEEN[1:], ""), known)


def _differing(result: Result, own: Mapping[str, Any], known: Known) -> tuple[str, ...]:
    found = []
    for kind in SEEN:
        now = known[kind].get(key(kind, result.recipe)) if known.get(kind) else None
        # None is unknown, on either side, and what is unknown is not held against a Result.
        if now is not None and own[kind] is not None and own[kind] != now:
            found.append(kind)
    method = result.recipe["method"]
    if "kind" in method:
        # The revision is that of the kind and its settings: any learning rate, here 1.0, will do.
        revision = methods.revision(Method(method["name"], method["kind"], 1.0, method.get("settings") or {}))
        found += ["method"] if int(result.inputs.get("method", 0)) != revision else []
    return tuple(found)


def current(results: Iterable[Result]) -> list[Result]:
    """Leave out the Results whose inputs have changed since."""
    return [r for r in results if not r.outdated]
