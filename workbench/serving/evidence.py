"""What is known of a model that is deployed or given away: its score, its costs, its data, its
licence.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench import carbon
from workbench.data import hub, licences
from workbench.data.builtin import MODELS
from workbench.data.model_files import file_of
from workbench.errors import WorkbenchError
from workbench.front.points import Points
from workbench.front.serving import serving
from workbench.result import Result
from workbench.study import Recipe
from workbench.study.also import scores_of

UNKNOWN = licences.UNKNOWN

TORCH = "torch"
"""The form of a model as the sweep had it."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a model. Unknown is None, or the word `unknown` of a licence.

    Attributes:
        study: The study's name.
        trial: The trial that made it.
        recipe_id: The recipe's id.
        model: The base model.
        method: The method.
        epochs: Passes over the labelled examples.
        labels: Labelled examples it learned from.
        metric: The score that the study maximises; where a model cannot be graded by that alone (`Task.relative`), or it is one of
            another task, the first of its own task's. Then no confirmation tells of it.
        score: That score on the dev set, as the sweep measured it.
        mean, low, high: Mean over new seeds, and its 95 % interval; None where it was not confirmed.
        seeds: How many those are.
        test: Score on the held-out test split: of the model itself, else the mean of its new seeds.
        test_mean, test_low, test_high: Mean over new seeds on the test split, and its 95 % interval.
        usd: US$ to make it, labels included.
        usd_per_1000: US$ for 1,000 predictions on a machine that is fully used.
        offer: The offer that prices it.
        seconds: Seconds to make it.
        energy_j: Joules to make it.
        grams_co2e: Grams of CO2e to make it, by the grid's location-based average.
        country: Where, as `carbon.Intensity.place` has it.
        hardware: The processor, or the GPUs, that it was made on.
        data: What the data are called.
        data_digest: Hash of their content.
        licence_model: What the base model's files say of its licence.
        licence_data: Of built-in data of what they are made, under which licences (`workbench.data.licences`). Of others nothing is
            known here: whoever deploys has to look.
        form: What the model is computed by: `torch`, as the sweep had it, `onnx` or `int8`. `score` and `usd_per_1000` are those
            of this form, all else is the sweep's.
        answers_changed: Share of the answers to the dev set that are others in this form than in torch, 0 to 1; None of torch.
    """

    study: str
    trial: int | None
    recipe_id: str
    model: str
    method: str
    epochs: float
    labels: int
    metric: str
    score: float
    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    test: float | None
    usd: float | None
    usd_per_1000: float | None
    offer: str
    seconds: float | None
    energy_j: float | None
    grams_co2e: float | None
    country: str
    hardware: str
    data: str
    data_digest: str
    licence_model: str
    licence_data: str = UNKNOWN
    form: str = TORCH
    answers_changed: float | None = None
    test_mean: float | None = None
    test_low: float | None = None
    test_high: float | None = None

    @property
    def confirmed(self) -> bool:
        """Whether it was graded on the held-out test split."""
        return self.test is not None

    def to_json(self) -> dict[str, Any]:
        """The evidence as plain data."""
        return asdict(self)


def of(result: Result, recipe: Recipe, points: Points, study: str) -> Evidence:
    """What is known of a point.

    Args:
        result: The point, as the sweep measured it.
        recipe: The recipe that made it.
        points: All points of the study at the prices asked for.
        study: The study's name.
    """
    view, metric = points.view, _metric(result, recipe, points.view.maximize)
    known = points.confirmed.get(result.recipe_id) if metric == view.maximize else None
    served = serving(result, view)
    # Of these very weights where they were graded; of their recipe with new seeds otherwise.
    test = None if known is None else known.test_original
    test = known.test.mean if test is None and known is not None and known.test is not None else test
    of_seeds = known.test if known is not None and known.seeds else None
    return Evidence(
        study=study,
        trial=result.trial,
        recipe_id=result.recipe_id,
        model=result.model,
        method=result.method,
        epochs=float(result.epochs),
        labels=result.labels,
        metric=metric,
        score=float(result.scores[metric]),
        mean=None if known is None or not known.seeds else known.score.mean,
        low=None if known is None else known.score.low,
        high=None if known is None else known.score.high,
        seeds=0 if known is None else known.seeds,
        test=test,
        usd=view.cost(result, "usd"),
        usd_per_1000=None if served is None else served.usd_per_1000.value,
        offer=view.offer.name,
        seconds=view.cost(result, "seconds"),
        energy_j=view.cost(result, "energy_j"),
        grams_co2e=view.cost(result, "grams_co2e"),
        country=carbon.intensity(view.offer).place,
        hardware=_hardware(result),
        data=str(getattr(recipe.task, "data", type(recipe.task).__name__)),
        data_digest=recipe.task.digest(),
        licence_model=licence_of(recipe.origin),
        licence_data=licences.of_data(str(getattr(recipe.task, "data", ""))),
        test_mean=None if of_seeds is None else of_seeds.mean,
        test_low=None if of_seeds is None else of_seeds.low,
        test_high=None if of_seeds is None else of_seeds.high,
    )


def _metric(result: Result, recipe: Recipe, maximize: str) -> str:
    """The score by which a model can be graded again by itself, the one that the study maximises if that can be."""
    others = {*scores_of(recipe.also), *recipe.task.relative}
    return next((each for each in (maximize, *recipe.task.metrics) if each in result.scores and each not in others), maximize)


def _hardware(result: Result) -> str:
    return result.device or str(result.provenance.get("device", {}).get("cpu") or UNKNOWN)


def licence_of(model: str) -> str:
    """What a model's own files say of its licence: its package's metadata, or the head of its README; else `unknown`."""
    if model in MODELS:
        return licences.of_package(MODELS[model].distribution)
    try:
        path = file_of(model, "README.md", local=Path(model).is_dir() or not hub.reachable())
    except WorkbenchError:
        return UNKNOWN
    if path is None:
        return UNKNOWN
    head = re.match(r"---\n(.*?)\n---", Path(path).read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    found = re.search(r"^license:\s*(\S+)\s*$", head[1], re.MULTILINE) if head else None
    return found[1] if found else UNKNOWN
