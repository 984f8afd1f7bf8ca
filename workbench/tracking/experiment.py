"""What the experiment says of its study: the question, what to look at, and views of its runs that are ready to be opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.space import Choice, Space, is_number
from workbench.study import Study
from workbench.tracking import page

VIEW = "workbench-runs"
"""The saved view to open first: all runs, the best first."""

_FRONT_VIEW = "workbench-front"
_NOTE_LIMIT = 5000  # characters of a tag of an experiment


def tags(study: Study) -> dict[str, str]:
    """The question as the description, the kind that opens on the table of runs, the score, and the saved views."""
    score = page.key(study.maximize)
    return {
        "mlflow.note.content": _note(study),
        "mlflow.experimentKind": "custom_model_development",  # others open on traces of calls, which a study has none of
        "mlflow.experiment.primaryMetric.name": f"best/{score}",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        **_view(VIEW, "Runs, best first", study, "tags.`workbench.kind` = 'run'"),
        **_view(_FRONT_VIEW, "The front", study, f"tags.`{page.ON_FRONT}` = 'true'"),
    }


def _note(study: Study) -> str:
    question = study.question or f"The study `{study.name}`."
    if len(question) > _NOTE_LIMIT // 2:
        question = f"The study `{study.name}`: its question is long, see its file, an artifact of each sweep."
    costs = " and ".join(f"`{name}`" for name in study.costs)
    return (
        f"{question}\n\nMaximise `{study.maximize}`, minimise {costs}.\n\n"
        "- A run named *sweep* is one start of the search. Its artifact `front.html` is the front, `runs.csv` has all runs.\n"
        "- Every other run is one training, its checkpoints as steps: `quality/…` and `cost/…` are those of each checkpoint, "
        "`best/…` those of its best one, `hp/…` its settings as numbers, which sort as numbers."
    )


def _view(name: str, title: str, study: Study, condition: str) -> dict[str, str]:
    """A view as MLflow keeps it with the experiment: columns, order, filter and first chart; the page lists it by its title."""
    score, cost = (f"best/{page.key(each)}" for each in (study.maximize, study.costs[0]))
    state = {
        "searchFilter": condition,
        "orderByKey": f"metrics.`{score}`",
        "orderByAsc": False,
        "selectedColumns": _columns(study, score),
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [{"uuid": "front", "name": "Cost against quality", "display": True, "isReordered": True}],
        "compareRunCharts": [_scatter(cost, score)],
        "isAccordionReordered": True,  # or the page would sort its own sections before ours
    }
    kept = {"name": title, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    text = json.dumps(kept)
    return {f"mlflow.sharedViewState.{name}": text} if len(text) <= _NOTE_LIMIT else {}


def _columns(study: Study, score: str) -> Sequence[str]:
    """What came out first, then what every run has a setting of: one method's own are in the names of its runs."""
    costs = [f"best/{page.key(name)}" for name in dict.fromkeys((*study.costs, "usd"))]
    searched = [name for name, dimension in study.dimensions.items() if name != "epochs" and not dimension.when]
    return [
        *(f"metrics.`{name}`" for name in (score, *costs, "best/epochs")),
        *(f"tags.`{name}`" for name in (page.ON_FRONT, "workbench.status")),
        *(_column(page.key(name), study.dimensions[name].space) for name in searched),
        "attributes.`Dataset`",
    ]


def _column(name: str, space: Space) -> str:
    """A setting's column: of numbers their mirrors, since MLflow sorts params as texts."""
    named = isinstance(space, Choice) and not all(map(is_number, space.labels))
    return f"params.`{name}`" if named else f"metrics.`hp/{name}`"


def _scatter(cost: str, score: str) -> Mapping[str, Any]:
    axes = {"xaxis": {"key": cost, "type": "METRIC"}, "yaxis": {"key": score, "type": "METRIC"}}
    return {
        "type": "SCATTER",
        "uuid": "cost-against-quality",
        "metricSectionId": "front",
        "runsCountToCompare": 1000,
        "deleted": False,
        "isGenerated": False,
        "displayName": f"{score} against {cost}",
        **axes,
    }
