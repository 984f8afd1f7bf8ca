"""MLflow's registry: a bundle becomes a logged model beside the run that made it, and a version of a
registered model. The alias `champion` is the version that is served, `previous` the one before.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.errors import EnvironmentFault, UsageError, WorkbenchError, did_you_mean
from workbench.process import without_secrets
from workbench.serving import bundle, requirements
from workbench.serving.evidence import TORCH, Evidence
from workbench.study import Recipe
from workbench.tasks import Task, request
from workbench.tracking import store, tags_and_metrics
from workbench.watching.reference import Reference

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature

CHAMPION, PREVIOUS = "champion", "previous"
_TAG = "workbench."


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: The registered model's name.
        number: The version.
        model_id: MLflow's id of the logged model.
        recipe_id: The recipe that made it; empty of a version that something else registered.
        form: What it is computed by: `torch`, `onnx` or `int8`.
    """

    name: str
    number: int
    model_id: str
    recipe_id: str
    form: str = TORCH

    def is_of(self, known: Evidence) -> bool:
        """Whether it is the very model, in the same form, that some evidence is about."""
        return (self.recipe_id, self.form) == (known.recipe_id, known.form)


class Made(NamedTuple):
    """What deploying came to.

    Attributes:
        version: The champion.
        new: Whether it was logged now.
        mended: What was wrong with the champion before, which was this very model, a clause; empty where that was another one, or
            nothing was wrong.
    """

    version: Version
    new: bool
    mended: str = ""


@dataclass(frozen=True)
class Member:
    """What is to be deployed.

    Attributes:
        recipe: What was trained.
        weights: Its tuned weights, or the whole model in ONNX; None of a model that is only asked.
        study: The study's file.
        evidence: What is known of it.
        run: MLflow's id of the run that made it.
        step: The step of its checkpoint there.
    """

    recipe: Recipe
    weights: Path | None
    study: Path | None
    evidence: Evidence
    run: str
    step: int


class Registry:
    """The registry beside a store of runs.

    Args:
        tracking_uri: The store.

    Raises:
        EnvironmentFault: It cannot be opened.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri
        with self._mapped():
            self._client: MlflowClient = store.connect(tracking_uri)

    def deploy(self, name: str, member: Member, check: Callable[[Path], Reference] | None) -> Made:
        """Log a model beside its run, register it, and make it the champion.

        Where it is the champion already, what is known of it is brought up to date. It is logged anew only where that version
        cannot be loaded any more, was not graded though `check` is given, or requires other packages than those installed here.

        Args:
            name: The registered model's name.
            member: The model.
            check: Is called with the folder of the model as MLflow loads it, before anything is logged. What it gives is
                kept with the model. None: nothing is checked.

        Raises:
            UsageError: As `bundle.write`; or MLflow refuses the name.
            EnvironmentFault: The store has no such run, or fails.
        """
        champion, known, wrong = self.find(name, CHAMPION), member.evidence, ""
        same = champion is not None and champion.is_of(known)
        if champion is not None and same and not (wrong := self._wrong(champion, member, graded=check is not None)):
            self._tell_again(champion, member)
            return Made(champion, new=False)
        with tempfile.TemporaryDirectory() as scratch, self._mapped():
            run = self._run(member)
            folder = Path(scratch)
            bundle.write(folder / "bundle", member.recipe, member.weights, member.study, member.evidence.to_json())
            save(folder / "try", folder / "bundle", member.recipe)
            if check is not None:
                (folder / "bundle" / bundle.REFERENCE).write_text(json.dumps(check(folder / "try").to_json()), encoding="utf-8")
            told = tags(member.evidence)
            logged = self._client.create_logged_model(
                run.info.experiment_id,
                name=tags_and_metrics.file_name(name),
                source_run_id=member.run,
                tags=told,
                model_type="workbench",
            )
            from mlflow.entities import LoggedModelOutput
            from mlflow.models import Model

            about = Model(
                run_id=member.run, model_id=logged.model_id, model_uuid=logged.model_id, artifact_path=logged.artifact_location
            )
            save(folder / "model", folder / "bundle", member.recipe, about)
            self._client.log_model_artifacts(logged.model_id, str(folder / "model"))
            self._client.log_outputs(member.run, [LoggedModelOutput(logged.model_id, step=member.step)])
            self._log_metrics(member, logged.model_id, run.info.start_time)
            self._client.finalize_logged_model(logged.model_id, "READY")
            number = self._register(name, logged.model_id, member, {**told, f"{_TAG}model_id": logged.model_id})
            # In this order: killed in between, the one before is still the champion. Another may have come meanwhile.
            # Nor is the same model, which this one takes the place of, anything to go back to.
            champion = self.find(name, CHAMPION)
            if champion is not None and not champion.is_of(known):
                self._client.set_registered_model_alias(name, PREVIOUS, str(champion.number))
            self._client.set_registered_model_alias(name, CHAMPION, str(number))
        return Made(Version(name, number, logged.model_id, known.recipe_id, known.form), new=True, mended=wrong)

    def rollback(self, name: str) -> tuple[Version, Version]:
        """Make the version before the champion, and the other way round.

        Returns:
            The champion now, and the one before.

        Raises:
            UsageError: There is no such model, or no version before.
        """
        champion, previous = self.version(name, CHAMPION), self.find(name, PREVIOUS)
        if previous is None:
            raise UsageError(
                f"{name} has no version before {champion.number}, its only champion so far. There is nothing to go back to."
            )
        with self._mapped():
            self._client.set_registered_model_alias(name, CHAMPION, str(previous.number))
            self._client.set_registered_model_alias(name, PREVIOUS, str(champion.number))
        return previous, champion

    def find(self, name: str, alias: str) -> Version | None:
        """The version that an alias, or a number, stands for; None where there is none."""
        from mlflow.exceptions import MlflowException

        with self._mapped():
            try:
                if alias.isdigit():
                    found = self._client.get_model_version(name, alias)
                else:
                    found = self._client.get_model_version_by_alias(name, alias)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None
        model_id, recipe_id, form = (str(found.tags.get(f"{_TAG}{key}", "")) for key in ("model_id", "recipe_id", "form"))
        return Version(name, int(found.version), model_id, recipe_id, form or TORCH)

    def version(self, name: str, alias: str) -> Version:
        """As `find`.

        Raises:
            UsageError: There is no such model, or no such version of it.
        """
        found = self.find(name, alias)
        if found is not None:
            return found
        with self._mapped():
            names = [each.name for each in self._client.search_registered_models()]
        if name in names:
            raise UsageError(f"the model {name!r} has no version {alias!r}. {self._versions(name)}")
        there = f" Those there: {', '.join(sorted(names))}." if names else " None is deployed yet: `workbench deploy STUDY`."
        raise UsageError(f"there is no model {name!r} in {store.named(self.uri)}.{did_you_mean(name, names) or there}")

    def _versions(self, name: str) -> str:
        """The versions of a model that there are, with their aliases, in words."""
        with self._mapped():
            numbers = sorted(int(each.version) for each in self._client.search_model_versions() if each.name == name)
            aliases = dict(self._client.get_registered_model(name).aliases)
        of = {number: [alias for alias, at in aliases.items() if int(at) == number] for number in numbers}
        told = ", ".join(f"{number} ({', '.join(known)})" if known else str(number) for number, known in of.items())
        return f"It has {told}." if told else "It has none: `workbench deploy` makes the first one its champion."

    def of_recipes(self, recipe_ids: Collection[str]) -> list[str]:
        """The versions that some recipes made, as MLflow calls them: `models:/name/3`."""
        with self._mapped():
            found = self._client.search_model_versions()
        return [f"models:/{each.name}/{each.version}" for each in found if each.tags.get(f"{_TAG}recipe_id") in recipe_ids]

    def fetch(self, version: Version, folder: Path) -> Path:
        """Copy a version's files into `folder`, and return where MLflow loads them from."""
        from mlflow.artifacts import download_artifacts

        with self._mapped():
            source = self._client.get_model_version_download_uri(version.name, str(version.number))
            return Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=self.uri))

    def _wrong(self, version: Version, member: Member, *, graded: bool) -> str:
        """Why a version is to be logged anew, a clause; empty where it is as it would be logged now."""
        with tempfile.TemporaryDirectory() as scratch:
            try:
                model = self.fetch(version, Path(scratch))
                files = bundle.inside(model)
                bundle.check(files)
                required = requirements.of(model)
            except (WorkbenchError, OSError) as error:
                return f"it cannot be loaded any more: {str(error).rstrip('.')}"
            if graded and not (files / bundle.REFERENCE).is_file():
                return "it was never graded as it is loaded"
        other = {*requirements.needed(member.recipe, onnx=version.form != TORCH)} - {*required}
        return f"it requires other packages than are installed, which are {', '.join(sorted(other))}" if other else ""

    def is_here(self, version: Version) -> bool:
        """Whether both this store and a version's files are on this machine: nobody else's word is taken for what is in them."""
        with self._mapped():
            source = self._client.get_model_version_download_uri(version.name, str(version.number))
        return all(store.sqlite_path(uri) is not None or re.match(r"file:/(//|[^/])|/|[^:]*$", uri) for uri in (self.uri, source))

    def _tell_again(self, version: Version, member: Member) -> None:
        """Put on record what is known now of a version that there is, as after `workbench confirm`."""
        with self._mapped():
            found = self._client.get_model_version(version.name, str(version.number)).tags
            new = {key: value for key, value in tags(member.evidence).items() if found.get(key) != value}
            if not (new and version.model_id):
                return
            for key, value in new.items():
                self._client.set_model_version_tag(version.name, str(version.number), key, value)
            self._client.set_logged_model_tags(version.model_id, new)
            self._log_metrics(member, version.model_id, self._run(member).info.start_time)

    def _run(self, member: Member) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(member.run)
        except MlflowException as error:
            raise EnvironmentFault(
                f"{store.named(self.uri)} does not have the run of trial {member.evidence.trial}. "
                "`workbench mlflow STUDY --catch-up` writes what is missing there."
            ) from error

    def _register(self, name: str, model_id: str, member: Member, tags: Mapping[str, str]) -> int:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self._client.create_model_version(name, f"models:/{model_id}", member.run, dict(tags), model_id=model_id)
        noted = json.dumps([{"name": name, "version": made.version}])
        self._client.set_logged_model_tags(model_id, {"mlflow.modelVersions": noted})  # MLflow's page shows it there
        return int(made.version)

    def _log_metrics(self, member: Member, model_id: str, at: int) -> None:
        from mlflow.entities import Metric

        known = member.evidence
        found = {
            f"quality/{known.metric}": known.score,
            "cost/usd": known.usd,
            "serving/usd_per_1000": known.usd_per_1000,
            f"confirmed/{known.metric}": known.mean,
            f"test/{known.metric}": known.test,
        }
        values = tags_and_metrics.finite(found)
        metrics = [Metric(name, value, at, member.step, model_id=model_id, run_id=member.run) for name, value in values.items()]
        self._client.log_batch(member.run, metrics)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """What MLflow and its store raise, in a sentence of ours."""
        try:
            yield
        except WorkbenchError:
            raise
        except Exception as error:  # whatever a store, its driver or MLflow raise
            from mlflow.exceptions import MlflowException

            text = without_secrets((str(error).strip().splitlines() or [type(error).__name__])[0])
            if isinstance(error, MlflowException) and error.error_code == "INVALID_PARAMETER_VALUE":
                raise UsageError(f"MLflow refuses it: {text}") from error
            raise EnvironmentFault(f"{store.named(self.uri)} failed: {text}. Mend it, or give --tracking-uri.") from error


def save(to: Path, files: Path, recipe: Recipe, about: Model | None = None) -> None:
    """Write a bundle as a model that MLflow loads: `mlflow.pyfunc.load_model(to)`.

    Args:
        to: The folder; it is made.
        files: The bundle.
        recipe: What was trained.
        about: MLflow's own record, where the model is logged.
    """
    import mlflow.pyfunc
    import pandas as pd

    mlflow.pyfunc.save_model(
        str(to),
        loader_module=bundle.LOADER,
        data_path=str(files),
        pip_requirements=requirements.needed(recipe, onnx=(files / bundle.ONNX).is_file()),
        signature=signature(recipe.task),
        input_example=pd.DataFrame([request.sample(recipe.task.asked())]),
        **({} if about is None else {"mlflow_model": about}),
    )


def signature(task: Task) -> ModelSignature:
    """What MLflow is to know of a request's columns."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Object, Property, Schema

    turn = Object([Property("role", DataType.string), Property("content", DataType.string)])
    types: dict[str, Any] = {
        request.TEXT: DataType.string,
        request.TEXTS: Array(DataType.string),
        request.NUMBERS: Array(DataType.long),
        request.TURNS: Array(turn),
        request.FILE: DataType.string,
    }
    columns = [ColSpec(types[kind], name) for name, kind in task.asked().items()]
    return ModelSignature(inputs=Schema([*columns, ColSpec(DataType.string, request.ID, required=False)]))


def tags(known: Evidence) -> dict[str, str]:
    """The evidence as tags, by which MLflow's page shows and filters models."""
    about = {name: value for name, value in known.to_json().items() if value is not None}
    return {f"{_TAG}{name}": str(value)[:500] for name, value in about.items()} | {f"{_TAG}confirmed": str(known.confirmed).lower()}
