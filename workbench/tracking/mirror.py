"""Writing Results to MLflow, so that writing them again changes nothing. Synchronous: the tracker's thread calls it."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from workbench.prices import Prices
from workbench.result import Result
from workbench.space import Choice
from workbench.study import Study
from workbench.tracking import sweep_process, tags_and_metrics
from workbench.tracking.mirrored_run import ChildRun
from workbench.tracking.session import Metrics, Session


class Mirror:
    """Writes a study's experiment in a store. Every method may be repeated after a failure, and raises what MLflow raises."""

    def __init__(
        self,
        study: Study,
        tracking_uri: str,
        prices: Prices,
        on_run: Callable[[str, str], None],
        sweep: str | None = None,
    ) -> None:
        self._study, self._uri, self._prices, self._on_run = study, tracking_uri, prices, on_run
        offer = prices.offer
        self._priced = f"{offer.name} at {offer.usd_per_hour} US$/h ({offer.date}), {prices.label_usd:g} US$ a label"
        self._session: Session | None = None
        self._children: dict[str, ChildRun] = {}  # by run_id, as the session found them
        self._maximize = study.maximize
        self._sweep = sweep or uuid.uuid4().hex
        self._parent = ""
        self._others: set[str] = set()  # other sweeps of this study that live
        self._told: set[str] = set()

    def connect(self) -> None:
        """Open the store anew, and read what it holds of this study: other sweeps may have written since."""
        self._session = None
        session = Session(self._study, self._uri)
        runs = reversed(list(session.search("run")))
        self._children = {run.data.tags["workbench.run_id"]: ChildRun.of(run, self._maximize) for run in runs}
        self._session = session

    # The sweep: a parent run.

    def open_sweep(self, parent: Mapping[str, Any], texts: Mapping[str, str], began: float, running: bool) -> None:
        """Open the parent run, and end those that died. `running`: whether any run of the study is."""
        session = self._open()
        git = parent.get("git")
        commit = git.get("commit") if isinstance(git, Mapping) else git
        facts = {"note.content": parent.get("question"), "source.name": parent.get("command"), "source.git.commit": commit}
        own = {"mlflow.source.type": "LOCAL", "mlflow.user": sweep_process.user(), **sweep_process.process()}
        name = _sweep_name(began, _NAMES.get(str(parent.get("sampler")), "sweep"))
        self._parent = session.find_or_create("sweep", self._sweep, name, began, own)
        tags = {f"mlflow.{tag}": str(value) for tag, value in facts.items() if value}
        session.log(self._parent, tags=own | tags, params=tags_and_metrics.texts(parent))  # one that joined may have made it
        session.client.log_dict(self._parent, dict(parent), "sweep.json")
        self._log_texts(texts)
        for run in list(session.search("sweep", "attributes.status = 'RUNNING'")):
            if not sweep_process.lives(run.data.tags, running):
                session.client.set_terminated(run.info.run_id, "KILLED")
            elif run.info.run_id != self._parent:
                self._others.add(run.data.tags["workbench.sweep"])

    def join_sweep(self, began: float) -> None:
        """Find the parent run of a sweep that another process opens."""
        own = {"mlflow.source.type": "LOCAL"}
        self._parent = self._open().find_or_create("sweep", self._sweep, _sweep_name(began, "sweep"), began, own)

    def end_sweep(
        self, metrics: Mapping[str, float | None], texts: Mapping[str, str], status: str, ended: float, reason: str = ""
    ) -> None:
        """Write the sweep's summary and end its parent run."""
        session = self._open()
        self._log_texts(texts)
        note = tags_and_metrics.sweep_note(self._study.question, texts.get("front.md", ""))
        tags = {"mlflow.note.content": note} | ({"workbench.ended": reason} if reason else {})
        session.log(self._parent, tags=tags, metrics=Metrics(tags_and_metrics.finite(metrics), ended))
        session.client.set_terminated(self._parent, status, tags_and_metrics.milliseconds(ended))

    def mark_front(self, run_ids: Collection[str]) -> None:
        """Say of every run that is known whether it is on the front; only what changes is written."""
        session = self._open()
        for run_id, child in self._children.items():
            on_front = run_id in run_ids
            if child.on_front is not on_front:
                session.log(child.id, tags=tags_and_metrics.front_tag(on_front))
                child.on_front = on_front

    def _log_texts(self, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            self._open().client.log_text(self._parent, text, name)

    # The runs: its children.

    def begin(self, result: Result) -> None:
        """The run, or its next segment, has begun."""
        session, child = self._open(), self._prepared(result)
        if child.status != "RUNNING":
            session.client.log_dict(child.id, dict(result.recipe), "recipe.json")  # again: a continued run has more epochs
            session.client.update_run(child.id, "RUNNING")
            child.status = "RUNNING"
        session.log(child.id, tags={**tags_and_metrics.tags(result), "workbench.sweep": self._sweep})

    def record(self, result: Result) -> None:
        """A Result: a checkpoint, or the end of the run without one."""
        child = self._prepared(result)
        self._write(child, result)
        if result.status != "complete":
            self._terminate(child, tags_and_metrics.RUN_STATUS[result.status], result.finished)

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
        if not self.lacks(results):
            return
        last, best = done[-1], tags_and_metrics.best(done, self._maximize)
        status = "RUNNING" if len(done) < len(results) else tags_and_metrics.RUN_STATUS[last.status]
        child = self._prepared(last)
        for result in done:
            self._write(child, result)
        best_id = {} if best is None else {"workbench.best_recipe_id": best.recipe_id}
        self._log_best(child, best, tags_and_metrics.tags(last) | best_id)
        if status not in (child.status, "RUNNING"):
            self._terminate(child, status, last.finished)

    def lacks(self, results: Sequence[Result]) -> bool:
        """Whether MLflow lacks something of one run, all of whose Results these are, oldest first."""
        done, child = [result for result in results if result.status != "running"], self._lookup(results[0].run_id)
        if not done:
            return False
        status = "RUNNING" if len(done) < len(results) else tags_and_metrics.RUN_STATUS[done[-1].status]
        if child is None or not child.prepared or child.results != len(done) or child.status != status:
            return True
        best = tags_and_metrics.best(done, self._maximize)
        return best is not None and child.outdone_by(best, self._maximize)

    def end_orphans(self, run_ids: Collection[str]) -> None:
        """End children that a dead sweep left running before the ledger heard of them."""
        self._open()
        for run_id, child in self._children.items():
            if child.status == "RUNNING" and run_id not in run_ids and child.sweep not in {*self._others, self._sweep}:
                self._terminate(child, "KILLED", time.time())

    def _write(self, child: ChildRun, result: Result) -> None:
        """Log one Result in one call, unless it is there: at a newer price it must not become a second value of its step."""
        session, mark = self._open(), (result.step, tags_and_metrics.milliseconds(result.finished))
        if child.marks is None:
            child.marks = {
                (int(m.step), int(m.timestamp)) for m in session.client.get_metric_history(child.id, tags_and_metrics.MARK)
            }
        if mark not in child.marks:
            if result.samples:
                session.client.log_dict(child.id, {"samples": list(result.samples)}, f"samples/step-{result.step:06}.json")
            tags = {"workbench.results": str(len(child.marks) + 1), "workbench.offer": self._priced}
            # Not on the front until somebody says so.
            tags |= tags_and_metrics.front_tag(bool(child.on_front)) | tags_and_metrics.tags(result)
            numbers = tags_and_metrics.metrics(result, self._prices.offer, self._prices.label_usd)
            self._log_best(child, result, tags, Metrics(numbers, result.finished, result.step))
            child.marks.add(mark)
            child.on_front = bool(child.on_front)
        elif child.results < len(child.marks):  # killed between the metrics and the tags
            session.log(child.id, tags={"workbench.results": str(len(child.marks))})
        child.results = len(child.marks)

    def _log_best(self, child: ChildRun, result: Result | None, tags: Mapping[str, str], metrics: Metrics | None = None) -> None:
        """Log it, and with it that this Result is the best of its run, if it is better than what the run shows."""
        best: dict[str, float] = {}
        if result is not None and child.outdone_by(result, self._maximize):
            best = tags_and_metrics.best_metrics(result, self._study, self._prices.offer, self._prices.label_usd)
            tags = {**tags, "workbench.best_recipe_id": result.recipe_id}
        self._open().log(child.id, tags=tags, whole=best, metrics=metrics)
        if result is not None and best:
            child.best = result.scores[self._maximize]

    def _terminate(self, child: ChildRun, status: str, ended: float) -> None:
        self._open().client.set_terminated(child.id, status, tags_and_metrics.milliseconds(ended))
        child.status = status

    def _lookup(self, run_id: str) -> ChildRun | None:
        """The child of a run: from the index, or made by another sweep since the index was read."""
        session = self._open()
        if run_id not in self._children and (run := session.find("run", run_id)) is not None:
            self._children[run_id] = ChildRun.of(run, self._maximize)
        return self._children.get(run_id)

    def _prepared(self, result: Result) -> ChildRun:
        """The child of the result's run, created if need be, with all that is written once."""
        child = self._lookup(result.run_id)
        if child is None:
            own = {"workbench.sweep": self._sweep, "mlflow.user": sweep_process.user(), "mlflow.source.type": "LOCAL"}
            own |= {"mlflow.parentRunId": self._parent} if self._parent else {}
            made = self._open().find_or_create("run", result.run_id, tags_and_metrics.run_name(result), result.started, own)
            child = self._children[result.run_id] = ChildRun(made, sweep=self._sweep)
        if result.run_id not in self._told:
            self._on_run(result.run_id, child.id)
            self._told.add(result.run_id)
        if not child.prepared:
            self._prepare(child, result)
        return child

    def _prepare(self, child: ChildRun, result: Result) -> None:
        session, method = self._open(), self._study.dimensions.get("method")
        methods = method.space.names if method and isinstance(method.space, Choice) else (result.method,)
        session.client.log_dict(child.id, dict(result.recipe), "recipe.json")
        session.client.log_dict(child.id, dict(result.provenance), "provenance.json")
        if digest := self._digest(result):
            task = result.recipe["task"]
            session.log_data(child.id, str(task.get("data") or task.get("type")), digest)
        source = self._study.path.name if self._study.path else self._study.name
        looks = {
            "mlflow.source.name": source,
            "mlflow.source.git.commit": str(result.provenance.get("git_commit") or ""),
            "mlflow.runColor": tags_and_metrics.colour(result.method, methods),
            "mlflow.note.content": tags_and_metrics.note(result, self._study.name),
            "workbench.prepared": "true",
        }
        session.log(
            child.id,
            params=tags_and_metrics.params(result),
            tags={**tags_and_metrics.tags(result), **looks},
            whole=tags_and_metrics.mirrors(result),
        )
        child.prepared = True

    def _digest(self, result: Result) -> str | None:
        """The digest of the run's data, from its record or from the data; None where it cannot be had."""
        if noted := result.provenance.get("data_digest"):
            return str(noted)
        with contextlib.suppress(Exception):  # data that is gone since: the run is worth noting all the same
            settings = dict(result.settings)
            if "epochs" in settings and (epochs := self._study.dimensions.get("epochs")) is not None:
                settings["epochs"] = epochs.space.sample(random.Random(0))  # a checkpoint's need not lie in the space
            return self._study.resolve(settings).task.digest()
        return None

    def _open(self) -> Session:
        if self._session is None:
            self.connect()
        assert self._session is not None
        return self._session


_NAMES = {"confirm": "confirmation", "catch-up": "catch-up"}
"""What a start is called that is no sweep, by who decided what it did."""


def _sweep_name(began: float, what: str) -> str:
    return time.strftime(f"{what} %Y-%m-%d %H:%M:%S", time.localtime(began))
