"""What MLflow loads: a bundle that answers tables of rows.

A model that is logged names this module as its `loader_module`. So its code is that of the installed
package, and nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import training
from workbench.errors import DataError, WorkbenchError
from workbench.serving import bundle, log
from workbench.tasks import request

if TYPE_CHECKING:
    import pandas as pd


_TRIED = 4
"""Examples of a bundle that a merged model has to answer as before."""

_shared: contextvars.ContextVar[training.SharedWeights | None] = contextvars.ContextVar("workbench_shared", default=None)


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Have the models that are loaded in this block share the weights that they do not tune, where these are equal."""
    token = _shared.set(training.SharedWeights())
    try:
        yield
    finally:
        _shared.reset(token)


class Deployed:
    """A model that answers as it was graded. What its method put beside the weights of its base is merged into them where it shares
    them with no other model (`sharing`), and answers the row that shows how it is asked, and its bundle's examples, as before.

    Args:
        folder: Its bundle.

    Attributes:
        task: Says what a row must hold.

    Raises:
        DataError, EnvironmentFault: As `bundle.read`.
    """

    def __init__(self, folder: Path) -> None:
        made = bundle.read(folder)
        self.task = made.recipe.task
        shared, tried = _shared.get(), made.examples[:_TRIED]
        with contextlib.suppress(Exception):  # of some tasks only what they know can be asked, and one's own may raise anything
            tried = [self.task.example(request.sample(self.task.asked())), *tried]
        merge = tried if shared is None else ()
        self._predictor = training.Predictor(made.recipe, made.weights, made.examples, shared=shared, merge=merge)

    def answers(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """As `predictions`, as plain data for JSON."""
        return [plain(value) for value in self.predictions(rows)]

    def predictions(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """What the model says of rows, one prediction each, as the task grades them. Raises as `predicted`."""
        return self.predicted(rows).values

    def predicted(self, rows: Sequence[Mapping[str, Any]]) -> training.Predictions:
        """What the model says of rows, and what that took.

        Raises:
            DataError: A row cannot be asked; the text says which one and why.
            UsageError: The rows cannot be encoded for this model.
        """
        examples = []
        for number, row in enumerate(rows):
            try:
                request.check_row(self.task.asked(), row)
                examples.append(self.task.example(row))
            except DataError as error:
                raise DataError(f"row {number}: {error}") from None
        found = self._predictor(examples)
        log.note(found)
        return found

    def predict(self, data: pd.DataFrame, params: Mapping[str, Any] | None = None) -> list[Any]:
        """As `answers`, of a table, as MLflow asks.

        Raises:
            MlflowException: As `answers`, or a row is longer than the model takes; a server tells it as a mistake of who asked
                (400). Graded, such a row has an empty prediction, which would tell nobody why.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        try:
            found = self.predicted(_rows(data))
            if found.unread:
                raise DataError(f"row {found.unread[0]}: is longer than this model takes. Send a shorter one.")
            return [plain(value) for value in found.values]
        except WorkbenchError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error


def _load_pyfunc(path: str) -> Deployed:
    """Called by MLflow with the path of the bundle."""
    return Deployed(Path(path))


def plain(value: Any) -> Any:
    """A prediction as plain data: its fields by name where these have names."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(each) for name, each in value._asdict().items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def same(one: Any, other: Any) -> bool:
    """Whether two predictions, as plain data, are the same answer, however sure the models are; of documents, the nearest one."""
    return bool(_answer(one) == _answer(other))


def _answer(prediction: Any) -> Any:
    if isinstance(prediction, dict):
        return {name: value for name, value in prediction.items() if name != "confidence"}
    if isinstance(prediction, list) and prediction and all(isinstance(each, list) and len(each) == 2 for each in prediction):
        name, score = prediction[0]
        return name if isinstance(score, float) else prediction
    return prediction


def _rows(data: Any) -> list[dict[str, Any]]:
    """The rows of a table; an id that is missing in one of them is left out there."""
    records = data.to_dict("records") if hasattr(data, "to_dict") else data
    if not isinstance(records, list) or not all(isinstance(each, Mapping) for each in records):
        raise DataError(f"a table of rows is wanted; got a {type(data).__name__}.")
    rows = [{str(name): plain(value) for name, value in each.items()} for each in records]
    return [{name: value for name, value in row.items() if name != request.ID or isinstance(value, str)} for row in rows]
