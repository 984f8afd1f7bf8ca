"""What the experiment says of its study: the question, what to look at, and views of its runs that are ready to be opened."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.space import Choice, Space, is_number
from workbench.study import Study
from workbench.tracking import tags_and_metrics

VIEW = "workbench-runs"
"""The saved view to open first: all runs, the best first."""

_FRONT_VIEW = "workbench-front"
_NAME_WIDTH, _TAG_WIDTH = 320, 170  # pixels: MLflow's own cut off a run's seed, and the names of tags
_FIRST_SECTION = "Cost and quality"
_SECTIONS = {  # of the charts, and whether they are open: all other names are prefixes of metrics, or MLflow's own for none
    _FIRST_SECTION: True,
    **dict.fromkeys(("best", "quality", "cost"), True),
    **dict.fromkeys(("serving", "seconds", "spent", "hp", "Model metrics"), False),
}
_NOTE_LIMIT = 5000  # characters of a tag of an experiment


def tags(study: Study) -> dict[str, str]:
    """The question as the description, the kind that opens on the table of runs, the score, and the saved views."""
    score = tags_and_metrics.key(study.maximize)
    return {
        "mlflow.note.content": _note(study),
        "mlflow.experimentKind": "custom_model_development",  # others open on traces of calls, which a study has none of
        "mlflow.experiment.primaryMetric.name": f"best/{score}",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        **_view(VIEW, "Runs, best first", study, "tags.`workbench.kind` = 'run'"),
        **_view(_FRONT_VIEW, "The front", study, f"tags.`{tags_and_metrics.ON_FRONT}` = 'true'"),
    }


def _note(study: Study) -> str:
    question = study.question or f"The study `{study.name}`."
    if len(question) > _NOTE_LIMIT // 2:
        question = f"The study `{study.name}`: its question is long, see its file, an artifact of each sweep."
    costs = " and ".join(f"`{name}`" for name in study.costs)
    return (
        f"{question}\n\nMaximise `{study.maximize}`, minimise {costs}.\n\n"
        "- A run named *sweep* or *confirmation* is one start. Its artifact `front.html` is the front, `runs.csv` has all runs.\n"
        "- Every other run is one training, its checkpoints as steps: `quality/…` and `cost/…` are those of each checkpoint, "
        "`best/…` those of its best one, `hp/…` its settings as numbers, which sort as numbers."
    )


def _view(name: str, title: str, study: Study, condition: str) -> dict[str, str]:
    """A view as MLflow keeps it with the experiment: columns, order, filter and first chart; the page lists it by its title."""
    score, cost = (f"best/{tags_and_metrics.key(each)}" for each in (study.maximize, study.costs[0]))
    columns = _columns(study, score)
    state = {
        "searchFilter": condition,
        "orderByKey": f"metrics.`{score}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", "runDateAndNestInfo", *columns],
        "columnWidths": {
            "attributes.`Run Name`": _NAME_WIDTH,
            **{name: _TAG_WIDTH for name in columns if name.startswith("tags.")},
        },
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [{"uuid": name, "name": name, "display": shown} for name, shown in _SECTIONS.items()],
        "compareRunCharts": [_scatter(cost, score), _parallel(_searched(study), cost, score)],
        "isAccordionReordered": True,  # or the page would sort its own sections before ours
    }
    now = tags_and_metrics.milliseconds(time.time())
    kept = {"name": title, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    text = json.dumps(kept)
    return {f"mlflow.sharedViewState.{name}": text} if len(text) <= _NOTE_LIMIT else {}


def _searched(study: Study) -> Sequence[str]:
    """What every run has a setting of: one method's own are in the names of its runs. Epochs are a metric."""
    return [name for name, dimension in study.dimensions.items() if name != "epochs" and not dimension.when]


def _columns(study: Study, score: str) -> Sequence[str]:
    """What came out first, then what was searched."""
    costs = [f"best/{tags_and_metrics.key(name)}" for name in dict.fromkeys((*study.costs, "usd"))]
    return [
        *(f"metrics.`{name}`" for name in (score, *costs, "best/epochs")),
        *(f"tags.`{name}`" for name in (tags_and_metrics.ON_FRONT, "workbench.status")),
        *(_column(tags_and_metrics.key(name), study.dimensions[name].space) for name in _searched(study)),
    ]


def _column(name: str, space: Space) -> str:
    """A setting's column: of numbers their mirrors, since MLflow sorts params as texts."""
    named = isinstance(space, Choice) and not all(map(is_number, space.names))
    return f"params.`{name}`" if named else f"metrics.`hp/{name}`"


def _scatter(cost: str, score: str) -> Mapping[str, Any]:
    axes = {"xaxis": {"key": cost, "type": "METRIC"}, "yaxis": {"key": score, "type": "METRIC"}}
    return _chart("SCATTER") | axes | {"runsCountToCompare": 1000}


def _parallel(searched: Sequence[str], cost: str, score: str) -> Mapping[str, Any]:
    settings = [tags_and_metrics.key(name) for name in searched]
    return _chart("PARALLEL") | {"selectedParams": settings, "selectedMetrics": [cost, score], "showAllRuns": False}


def _chart(kind: str) -> dict[str, Any]:
    return {"type": kind, "uuid": kind.lower(), "metricSectionId": _FIRST_SECTION, "deleted": False, "isGenerated": False}
