"""Writing Results to MLflow, so that writing them again changes nothing. Synchronous: the notebook's thread calls it."""

from __future__ import annotations

import contextlib
import json
import random
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.prices import Offer
from workbench.result import Result
from workbench.space import Choice
from workbench.study import Study
from workbench.tracking import owner, page, store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

_TAG_LIMIT, _PARAM_LIMIT = 5000, 500  # characters, of the oldest servers in use; the installed MLflow cuts at 8000 and 6000


@dataclass
class _Child:
    """What is known of a run's MLflow run.

    `sweep` is the one that wrote to it last, `results` how many Results it says it has, `marks` the (step, ms) of each;
    None until they were read. `prepared` tells that all that is written once is there.
    """

    id: str
    status: str = "RUNNING"
    sweep: str = ""
    results: int = 0
    prepared: bool = False
    marks: set[tuple[int, int]] | None = None


@dataclass
class _Session:
    """A connection that works, with an index of the children by run_id."""

    client: MlflowClient
    experiment: str
    children: dict[str, _Child] = field(default_factory=dict)


class Mirror:
    """One study's experiment in one store. Every method may be repeated after a failure; each raises what MLflow raises."""

    def __init__(self, study: Study, tracking_uri: str, offer: Offer, label_usd: float, on_run: Callable[[str, str], None]) -> None:
        self._study, self._uri, self._offer, self._label_usd, self._on_run = study, tracking_uri, offer, label_usd, on_run
        self._session: _Session | None = None
        self._sweep = uuid.uuid4().hex
        self._parent = ""
        self._others: set[str] = set()  # other sweeps of this study that live
        self._told: set[str] = set()

    def connect(self) -> None:
        """Open the store anew, and read what it holds of this study: other sweeps may have written since."""
        self._session = None
        client = store.connect(self._uri)
        session = _Session(client, self._experiment(client))
        for run in _search(client, session.experiment, "tags.`workbench.kind` = 'run'"):
            session.children.setdefault(run.data.tags["workbench.run_id"], _child(run))
        self._session = session

    # The sweep: a parent run.

    def open_sweep(self, parent: Mapping[str, Any], source: str, began: float, running: bool) -> None:
        """Open the parent run, and end those that died. `running`: whether any run of the study is."""
        session = self._open()
        git = parent.get("git")
        commit = git.get("commit") if isinstance(git, Mapping) else git
        known = {"mlflow.note.content": parent.get("question"), "mlflow.source.name": parent.get("command"), "mlflow.source.git.commit": commit}
        own = {"workbench.sweep": self._sweep, "mlflow.source.type": "LOCAL", "mlflow.user": owner.user(), **owner.process()}
        name = time.strftime("sweep %Y-%m-%d %H:%M:%S", time.localtime(began))
        self._parent = self._find_or_create("sweep", self._sweep, name, began, own)
        self._log(self._parent, tags={tag: str(value) for tag, value in known.items() if value}, params=dict(page.flat(parent)))
        session.client.log_dict(self._parent, dict(parent), "sweep.json")
        if source and self._study.path:
            session.client.log_text(self._parent, source, self._study.path.name)
        for run in list(_search(session.client, session.experiment, "tags.`workbench.kind` = 'sweep' and attributes.status = 'RUNNING'")):
            if not owner.lives(run.data.tags, running):
                session.client.set_terminated(run.info.run_id, "KILLED")
            elif run.info.run_id != self._parent:
                self._others.add(run.data.tags["workbench.sweep"])

    def end_sweep(self, metrics: Mapping[str, float | None], texts: Mapping[str, str], status: str, ended: float) -> None:
        """Write the sweep's summary and end its parent run."""
        from mlflow.entities import Metric

        client, at = self._open().client, page.milliseconds(ended)
        for name, text in texts.items():
            client.log_text(self._parent, text, name)
        note = f"{self._study.question}\n\n{texts['front.md']}".strip()
        numbers = [Metric(name, value, at, 0) for name, value in page.finite(metrics).items()]
        self._log(self._parent, metrics=numbers, tags={"mlflow.note.content": note})
        client.set_terminated(self._parent, status, at)

    # The runs: its children.

    def begin(self, result: Result) -> None:
        """The run, or its next segment, has begun."""
        child = self._prepared(result)
        client = self._open().client
        client.log_dict(child.id, dict(result.recipe), "recipe.json")  # again: a continued run has more epochs
        if child.status != "RUNNING":
            client.update_run(child.id, "RUNNING")
            child.status = "RUNNING"
        self._log(child.id, tags={**page.tags(result), "workbench.sweep": self._sweep})

    def record(self, result: Result) -> None:
        """A Result: a checkpoint, or the end of the run without one."""
        child = self._prepared(result)
        self._write(child, result)
        if result.status != "complete":
            self._terminate(child, page.RUN_STATUS[result.status], result.finished)

    def finish(self, run_id: str, status: str, ended: float) -> None:
        """The run has ended."""
        child = self._lookup(run_id)
        if child is not None and child.status != status:
            self._terminate(child, status, ended)

    def catch_up(self, results: Sequence[Result]) -> None:
        """Write what MLflow lacks of one run, oldest first, and put its status right.

        What another live sweep is writing is left to it.
        """
        done = [result for result in results if result.status != "running"]
        child = self._lookup(results[0].run_id)
        if not done or (child is not None and child.status == "RUNNING" and child.sweep in self._others):
            return
        last = done[-1]
        status = "RUNNING" if len(done) < len(results) else page.RUN_STATUS[last.status]
        if child is not None and child.prepared and child.results == len(done) and child.status == status:
            return
        child = self._prepared(last)
        for result in done:
            self._write(child, result)
        self._log(child.id, tags=page.tags(last))
        if status not in (child.status, "RUNNING"):
            self._terminate(child, status, last.finished)

    def end_orphans(self, known: Collection[str]) -> None:
        """End children that a dead sweep left running before the ledger heard of them."""
        for run_id, child in self._open().children.items():
            if child.status == "RUNNING" and run_id not in known and child.sweep not in {*self._others, self._sweep}:
                self._terminate(child, "KILLED", time.time())

    def _write(self, child: _Child, result: Result) -> None:
        """Log one Result in one call, unless it is there: at a newer price it must not become a second value of its step."""
        from mlflow.entities import Metric

        at, marks = page.milliseconds(result.finished), self._marks(child)
        if (result.step, at) not in marks:
            numbers = page.metrics(result, self._offer, self._label_usd)
            batch = [Metric(name, value, at, result.step) for name, value in numbers.items()]
            self._log(child.id, metrics=batch, tags={**page.tags(result), "workbench.results": str(len(marks) + 1)})
            marks.add((result.step, at))
        elif child.results < len(marks):  # killed between the metrics and the tags
            self._log(child.id, tags={"workbench.results": str(len(marks))})
        child.results = len(marks)

    def _marks(self, child: _Child) -> set[tuple[int, int]]:
        if child.marks is None:
            history = self._open().client.get_metric_history(child.id, page.MARK)
            child.marks = {(int(m.step), int(m.timestamp)) for m in history}
        return child.marks

    def _terminate(self, child: _Child, status: str, ended: float) -> None:
        self._open().client.set_terminated(child.id, status, page.milliseconds(ended))
        child.status = status

    def _lookup(self, run_id: str) -> _Child | None:
        """The child of a run: from the index, or made by another sweep since the index was read."""
        session = self._open()
        if run_id not in session.children:
            for run in _search(session.client, session.experiment, f"tags.`workbench.run_id` = '{run_id}'"):
                session.children.setdefault(run_id, _child(run))
        return session.children.get(run_id)

    def _prepared(self, result: Result) -> _Child:
        """The child of the result's run, created if need be, with all that is written once."""
        child = self._lookup(result.run_id)
        if child is None:
            own = {"workbench.run_id": result.run_id, "workbench.sweep": self._sweep, "mlflow.user": owner.user()}
            own |= {"mlflow.parentRunId": self._parent} if self._parent else {}
            made = self._find_or_create("run", result.run_id, page.run_name(result), result.started, own)
            child = self._open().children[result.run_id] = _Child(made, sweep=self._sweep)
        if result.run_id not in self._told:
            self._on_run(result.run_id, child.id)
            self._told.add(result.run_id)
        if not child.prepared:
            self._prepare(child, result)
        return child

    def _prepare(self, child: _Child, result: Result) -> None:
        client, method = self._open().client, self._study.dimensions.get("method")
        methods = method.space.labels if method and isinstance(method.space, Choice) else ()
        client.log_dict(child.id, dict(result.recipe), "recipe.json")
        client.log_dict(child.id, dict(result.provenance), "provenance.json")
        if (data := self._data(result)) is not None:
            client.log_inputs(child.id, datasets=[data])
        looks = {"mlflow.runColor": page.colour(result.method, methods), "mlflow.note.content": page.note(result, self._study.name)}
        self._log(child.id, params=page.params(result), tags={**page.tags(result), **looks, "workbench.prepared": "true"})
        child.prepared = True

    def _data(self, result: Result) -> DatasetInput | None:
        """The data set as MLflow's dataset input; None where its digest cannot be had."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = result.provenance.get("data_digest") or self._digest(result)
        if not digest:
            return None
        task = result.recipe["task"]
        name = str(task.get("data") or task.get("type"))
        # MLflow takes 36 characters of a digest; the profile has them all.
        data = Dataset(name[-500:], str(digest)[:36], "local", json.dumps({"uri": name}), profile=json.dumps({"digest": str(digest)}))
        return DatasetInput(data, [InputTag("mlflow.data.context", "training")])

    def _digest(self, result: Result) -> str | None:
        with contextlib.suppress(Exception):  # data that is gone since: the run is worth noting all the same
            settings = dict(result.settings)
            if (epochs := self._study.dimensions.get("epochs")) is not None:
                settings["epochs"] = epochs.space.sample(random.Random(0))  # a checkpoint's need not lie in the space
            return self._study.resolve(settings).task.digest()
        return None

    # MLflow, its places and its limits.

    def _open(self) -> _Session:
        if self._session is None:
            self.connect()
        assert self._session is not None
        return self._session

    def _experiment(self, client: MlflowClient) -> str:
        with store.exclusive(self._uri):
            found = client.get_experiment_by_name(self._study.name)
            if found is None:
                root = store.artifact_root(self._uri)
                place = f"{root}/{self._study.name}" if root else None
                return str(client.create_experiment(self._study.name, artifact_location=place, tags=page.experiment_tags(self._study)))
        if found.lifecycle_stage != "active":
            client.restore_experiment(found.experiment_id)  # its name is taken for ever: there is no other place to write
        return str(found.experiment_id)

    def _find_or_create(self, kind: str, identity: str, name: str, began: float, tags: Mapping[str, str]) -> str:
        """The MLflow run of a `sweep` or `run` by its identity, so that one whose answer was lost is not made twice."""
        session, tag = self._open(), {"sweep": "workbench.sweep", "run": "workbench.run_id"}[kind]
        with store.exclusive(self._uri):
            for run in _search(session.client, session.experiment, f"tags.`{tag}` = '{identity}' and tags.`workbench.kind` = '{kind}'"):
                return str(run.info.run_id)
            made = session.client.create_run(session.experiment, page.milliseconds(began), {"workbench.kind": kind, **tags}, name)
            return str(made.info.run_id)

    def _log(self, run: str, *, metrics: Sequence[Any] = (), params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None) -> None:
        """One call for all. A text over MLflow's limit goes to an artifact, and in its place stands where it is."""
        from mlflow.entities import Param, RunTag

        client = self._open().client

        def fit(name: str, text: str, limit: int) -> str:
            if len(text) <= limit:
                return text
            file = f"long/{name.replace('/', '_')}.txt"
            client.log_text(run, text, file)
            return f"{len(text)} characters: see the artifact {file}"

        settled = [Param(name, fit(name, text, _PARAM_LIMIT)) for name, text in (params or {}).items()]
        noted = [RunTag(name, fit(name, text, _TAG_LIMIT)) for name, text in (tags or {}).items()]
        client.log_batch(run, metrics=metrics, params=settled, tags=noted)


def _child(run: Run) -> _Child:
    tags = run.data.tags
    results = int(tags.get("workbench.results", 0))
    return _Child(run.info.run_id, run.info.status, tags.get("workbench.sweep", ""), results, "workbench.prepared" in tags)


def _search(client: MlflowClient, experiment: str, where: str) -> Iterator[Run]:
    """All runs that match, oldest first, page by page."""
    token = None
    while True:
        found = client.search_runs([experiment], where, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token)
        yield from found
        if not (token := found.token):
            return
