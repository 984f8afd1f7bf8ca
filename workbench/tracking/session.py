"""A working connection to one study's experiment: MLflow with its limits kept and its pages turned."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from workbench.study import Study
from workbench.tracking import experiment, store, tags_and_metrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_TAG_LIMIT, _PARAM_LIMIT = 5000, 500  # characters, of the oldest servers in use; the installed MLflow cuts at 8000 and 6000
_IDENTITY = {"sweep": "workbench.sweep", "run": "workbench.run_id"}


@dataclass(frozen=True)
class Metrics:
    """Figures of one step.

    Attributes:
        values: Finite numbers, by name.
        at: When they were measured, in seconds since 1970.
        step: Their step.
    """

    values: Mapping[str, float]
    at: float
    step: int = 0


class Session:
    """Opens the store and the study's experiment in it, each created where it is missing. Raises what MLflow raises."""

    def __init__(self, study: Study, tracking_uri: str) -> None:
        self.uri = tracking_uri
        self.client: MlflowClient = store.connect(tracking_uri)
        self.experiment = self._experiment(study)

    def search(self, kind: str, condition: str = "") -> Iterator[Run]:
        """All MLflow runs of a kind, `sweep` or `run`, that meet the condition, oldest first."""
        where, token = f"tags.`workbench.kind` = '{kind}'{condition and f' and {condition}'}", None
        while True:
            batch = self.client.search_runs(
                [self.experiment], where, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
            )
            yield from batch
            if not (token := batch.token):
                return

    def find(self, kind: str, identity: str) -> Run | None:
        """The MLflow run of a sweep, or of a run by its run_id; the oldest where there are several."""
        return next(self.search(kind, f"tags.`{_IDENTITY[kind]}` = '{identity}'"), None)

    def find_or_create(self, kind: str, identity: str, name: str, began: float, tags: Mapping[str, str]) -> str:
        """Id of the MLflow run, so that one whose creation was not answered, or that another sweep makes, is not made twice."""
        with store.exclusive(self.uri):
            run = self.find(kind, identity)
            if run is None:
                own = {"workbench.kind": kind, _IDENTITY[kind]: identity, **tags}
                run = self.client.create_run(self.experiment, tags_and_metrics.milliseconds(began), own, name)
            return str(run.info.run_id)

    def log(
        self,
        run: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        metrics: Metrics | None = None,
        whole: Mapping[str, float] | None = None,
    ) -> None:
        """Write tags, params and metrics in one call. A text over MLflow's limit goes to an artifact, and its tag says where it is.

        Args:
            run: MLflow's id of the run.
            tags: May be written again, with other values.
            params: May be written again, with the same values.
            metrics: Figures of one step.
            whole: Finite numbers that are of the whole run. MLflow shows of each metric what was written last at the highest
                step: at step 0 these can be put right, and being without a course the charts show them as bars.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = tags_and_metrics.milliseconds(time.time())
        metrics = metrics or Metrics({}, 0.0)
        at = tags_and_metrics.milliseconds(metrics.at)
        numbers = [Metric(name, value, at, metrics.step) for name, value in metrics.values.items()]
        self.client.log_batch(
            run,
            metrics=numbers + [Metric(name, value, now, 0) for name, value in (whole or {}).items()],
            params=[Param(name, self._fit(run, name, text, _PARAM_LIMIT)) for name, text in (params or {}).items()],
            tags=[RunTag(name, self._fit(run, name, text, _TAG_LIMIT)) for name, text in tags.items()],
        )

    def log_data(self, run: str, name: str, digest: str) -> None:
        """Note the data set that a run learned from; a second time changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source, whole = json.dumps({"uri": name}), json.dumps({"digest": digest})  # MLflow takes 36 characters of a digest
        data = Dataset(name[-500:], digest[:36], "local", source, profile=whole)
        self.client.log_inputs(run, datasets=[DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def _fit(self, run: str, name: str, text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        file = f"long/{name.replace('/', '_')}.txt"
        self.client.log_text(run, text, file)
        return f"{len(text)} characters: see the artifact {file}"

    def _experiment(self, study: Study) -> str:
        tags = experiment.tags(study)
        with store.exclusive(self.uri):
            existing = self.client.get_experiment_by_name(study.name)
            if existing is None:
                root = store.artifact_root(self.uri)
                return str(self.client.create_experiment(study.name, root and f"{root}/{quote(study.name)}", tags))
        if existing.lifecycle_stage != "active":
            self.client.restore_experiment(existing.experiment_id)  # its name is taken for ever: there is no other place to write
        for name, text in tags.items():
            if name not in existing.tags:  # made by an older version; what people have changed stays
                self.client.set_experiment_tag(existing.experiment_id, name, text)
        return str(existing.experiment_id)
