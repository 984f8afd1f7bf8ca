"""The files of a model that is deployed: its recipe, its tuned weights, and what its questions need.

    bundle.json          the recipe, what it is asked with, the base model's hash, hashes of the files below, the evidence
    weights.safetensors  the tuned weights; absent of a model that is only asked
    model.onnx           in their place the whole model, where it is deployed in such a form
    examples.json        the labelled examples before questions; absent where there are none
    study.py             the study's file, where the task is a class of it
    reference.json       how the dev set is distributed; absent where it was not graded again. Answers do not depend on it

Nothing in it is pickled. Of the base model there is a name and a hash: the files themselves are
where the name says, and other ones are refused.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from workbench.data import cache, fingerprints
from workbench.errors import DataError, EnvironmentFault, UsageError
from workbench.formulations import Example
from workbench.serving import recipes
from workbench.study import Recipe, load
from workbench.training import parent_store
from workbench.watching.reference import Reference

SCHEMA = 1
RECORD, WEIGHTS, EXAMPLES, STUDY = "bundle.json", "weights.safetensors", "examples.json", "study.py"
REFERENCE, ONNX = "reference.json", "model.onnx"

LOADER = "workbench.serving.loading"
"""The module by which MLflow loads a bundle."""

_CODE = ("code", "python_model", "model_code_path", "predict_fn", "predict_stream_fn")
"""What else MLflow would import, unpickle or call by a model's own word."""


@dataclass(frozen=True)
class Bundle:
    """A model that is deployed, as its files say.

    Attributes:
        recipe: What was trained. Its task needs no data.
        weights: The file with the tuned weights, or with the whole model in ONNX; None of a model that is only asked.
        examples: Labelled examples that stand before questions.
        evidence: What is known of the model, as `evidence.Evidence.to_json` has it.
    """

    recipe: Recipe
    weights: Path | None
    examples: Sequence[Example]
    evidence: Mapping[str, Any]


def write(folder: Path, recipe: Recipe, weights: Path | None, study: Path | None, evidence: Mapping[str, Any]) -> None:
    """Write the bundle of a model.

    Args:
        folder: Where to; it is made.
        recipe: What was trained.
        weights: Its tuned weights, as a sweep keeps them, or the whole model in ONNX; None of a model that is only asked.
        study: The study's file.
        evidence: What is known of it.

    Raises:
        UsageError: The task does not say what it is asked with, or the recipe cannot be written.
    """
    if not recipe.task.asked():
        raise UsageError(
            f"{type(recipe.task).__name__} does not say what a model of it is asked with. Give the class a method, such as "
            'def asked(self): return {"text": "text"}, with its fields: workbench.tasks.request has their kinds.'
        )
    folder.mkdir(parents=True)
    files: dict[str, str] = {}
    if weights is not None:
        name = ONNX if weights.suffix == Path(ONNX).suffix else WEIGHTS
        shutil.copyfile(weights, folder / name)
        files[name] = _hash(folder / name)
    if examples := _examples(recipe):
        (folder / EXAMPLES).write_text(json.dumps(examples), encoding="utf-8")
        files[EXAMPLES] = _hash(folder / EXAMPLES)
    if recipes.needs_study(recipe.task):
        if study is None:
            raise UsageError(f"{type(recipe.task).__name__} stands in a study file that is not known. Name the file.")
        if beside := _imported_from_beside(study):
            raise UsageError(
                f"{study.name} imports {', '.join(beside)} from the folder beside it, which a deployed model would not have. Write "
                f"what its {type(recipe.task).__name__} needs into the study's file."
            )
        shutil.copyfile(study, folder / STUDY)
        files[STUDY] = _hash(folder / STUDY)
    # What a recipe started from is a model of its own now, whose files stay where they are.
    model = pinned(parent_store.kept_for_good(recipe))
    bare = recipe.asked_of(model)
    portable = dataclasses.replace(bare, task=bare.task.portable())
    record = {
        "schema": SCHEMA,
        "recipe": recipes.encoded(portable),
        "asked": dict(portable.task.asked()),
        "base": {"model": model, "content": fingerprints.content(model)},
        "files": files,
        "evidence": dict(evidence),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def read(folder: Path) -> Bundle:
    """The model of a bundle, once its files and its base model are seen to be the ones it was made of.

    Raises:
        DataError: A file of it was changed, or is of a newer version.
        EnvironmentFault: The base model here is another one.
    """
    record = check(folder)
    examples = json.loads((folder / EXAMPLES).read_text(encoding="utf-8")) if EXAMPLES in record["files"] else []
    weights = next((folder / name for name in (WEIGHTS, ONNX) if name in record["files"]), None)
    return Bundle(_decoded(folder, record), weights, examples, record["evidence"])


def check(folder: Path) -> dict[str, Any]:
    """See that a bundle's files and its base model are the ones it was made of; nothing of it is run. Returns its record. Raises
    as `read`.
    """
    record = _record(folder)
    _check(folder, record["files"])
    base = record["base"]
    if (found := fingerprints.content(base["model"])) != base["content"]:
        raise EnvironmentFault(
            f"the base model {base['model']!r} here is not the one that was tuned: its files hash to {found or 'nothing'}, and "
            f"those were {base['content'] or 'nothing'}. Bring those files back, or deploy the model again."
        )
    return record


def recipe(folder: Path) -> Recipe:
    """The recipe of a bundle: it can be asked about its task where the base model is not. Raises DataError as `read`."""
    record = _record(folder)
    _check(folder, {name: known for name, known in record["files"].items() if name == STUDY})
    return _decoded(folder, record)


def asked(folder: Path) -> dict[str, str]:
    """What the task of a bundle is asked with, as `Task.asked` has it. Raises DataError where it is none."""
    return dict(_record(folder)["asked"])


def base(folder: Path) -> str:
    """The hash of the base model of a bundle, its name where that has none. Raises DataError where it is none."""
    known = _record(folder)["base"]
    return str(known["content"] or known["model"])


def evidence(folder: Path) -> dict[str, Any]:
    """What is known of the model of a bundle, as `evidence.Evidence.to_json` has it. Raises DataError where it is none."""
    return dict(_record(folder)["evidence"])


def reference(folder: Path) -> Reference:
    """How the dev set of a bundle's model is distributed; empty where that is not known."""
    try:
        return Reference.from_json(json.loads((folder / REFERENCE).read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError):
        return Reference()


def inside(model: Path) -> Path:
    """The bundle in the folder of a model that MLflow loads, once it is seen that loading it runs nothing but `LOADER`.

    Raises:
        DataError: There is none in it, or MLflow would import or unpickle something else.
    """
    try:
        about = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))["flavors"]["python_function"]
        data = (model / str(about.get("data", ""))).resolve()
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        about, data = {}, model
    if not (data.is_relative_to(model.resolve()) and (data / RECORD).is_file()):
        raise DataError(f"{model} holds no model that workbench has deployed.")
    strange = [f"{name}: {str(about[name])[:80]}" for name in _CODE if about.get(name)]
    if about.get("loader_module") != LOADER:
        strange.insert(0, f"loader_module: {str(about.get('loader_module'))[:80]}")
    if strange:
        raise DataError(
            f"{model} is not loaded: its MLmodel has {', '.join(strange)}, by which MLflow would run code that is no part of "
            "workbench. `workbench deploy` writes none such; if you trust it, `mlflow models serve` takes it."
        )
    return data


def runs_study(folder: Path) -> bool:
    """Whether loading a bundle runs the study's file that goes with it. Raises DataError where it is none."""
    return STUDY in _record(folder)["files"]


def pinned(model: str) -> str:
    """A model's name with all that tells which files it means: an absolute path, or the commit on the hub."""
    place = cache.expanded(model)
    if place.exists() and not fingerprints.is_built_in(model):
        return str(place.resolve())
    name, _, _ = model.partition("@")
    commit = "" if fingerprints.is_built_in(model) else fingerprints.model(model)
    return f"{name}@{commit}" if commit else model


def _examples(recipe: Recipe) -> list[Any]:
    """The labelled examples that a method puts before questions, or chooses those from."""
    if not (recipe.method.shots and recipe.formulation.takes_shots):
        return []
    train = recipe.task.splits().train
    return [dict(each) for each in (train if recipe.method.choose == "nearest" else train[: recipe.method.shots])]


def _imported_from_beside(study: Path) -> list[str]:
    """The modules that a study's file imports from its own folder."""
    found = set[str]()
    for node in ast.walk(ast.parse(study.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    own = sorted(found - {"workbench"})
    return [name for name in own if study.with_name(f"{name}.py").is_file() or (study.with_name(name) / "__init__.py").is_file()]


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        known = isinstance(record["files"], dict) and isinstance(record["base"]["model"], str) and isinstance(record["asked"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds no model that workbench has deployed: {error}.") from None
    if not known or record.get("schema") != SCHEMA:
        raise DataError(f"{folder / RECORD} is of a newer workbench: its schema is {record.get('schema')}. Install that one.")
    return dict(record)


def _check(folder: Path, files: Mapping[str, str]) -> None:
    """Raise DataError where one of these files is not the one that was deployed."""
    for name, known in files.items():
        path = folder / Path(name).name
        if not path.is_file() or _hash(path) != known:
            raise DataError(f"{path} is not the file that was deployed: it was changed or lost. Deploy the model again.")


def _decoded(folder: Path, record: Mapping[str, Any]) -> Recipe:
    made = recipes.decoded(record["recipe"], lambda: _module(folder / STUDY, record["files"]))
    if not isinstance(made, Recipe):
        raise DataError(f"{folder / RECORD} holds no recipe. Deploy the model again.")
    return made


def _module(path: Path, files: Mapping[str, str]) -> ModuleType:
    if STUDY not in files:
        raise DataError(f"{path} is needed for the task, and is no part of the bundle. Deploy the model again.")
    load(path)
    return sys.modules[f"_study_{path.stem}"]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
