"""Which settings matter, for quality and for cost; and how surely that can be said from so few runs.

A model that adds up one effect for each setting (ridge regression) is fitted to the checkpoints; every run weighs the same. From
it comes each setting's **swing**: how far apart its best and its worst value are, the others being equal. Cost is fitted in its
logarithm, so that there a swing is a factor.

A swing is never negative, so with few runs everything seems to matter. Whether a setting really does is asked of runs that were
not used for fitting: the model is fitted with the setting and without it, and both predict each run from the others
(leave-one-covariate-out: Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018, J. American Statistical Association 113:1094). The
setting is **sure** to matter where leaving it out makes most predictions worse: Wilcoxon's signed-rank test of the runs' errors,
one-sided, corrected over the settings by Holm's method. Of 102 simulated sweeps of 10, 20 and 40 runs (models, methods, their
learning rates, labels, epochs) in which nothing mattered, 4 were said to hold something sure. The band of a swing is that
of 200 fits to runs drawn with replacement.

Optuna's evaluators were not taken: they look at whole trials, of which the checkpoints of one run are not independent; each setting
of one method needs a study of its own there; and none says how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.estimate import Estimate
from workbench.front.intervals import holm
from workbench.front.objectives import View
from workbench.result import Result, originals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]

LEAST_RUNS = 8
"""Least number of runs from which importance is estimated."""

LEAST_TESTED = 5
"""A setting that fewer runs have is not tested: with four pairs the signed-rank test cannot be significant."""

LEVEL = 0.05
"""Family-wise level of the tests over all settings."""

DRAWS = 200
FOLDS = 20
RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
MOST_RUNS = 400
"""From more runs an even selection of this many is taken: more gain nothing, and a page waits for the answer."""


@dataclass(frozen=True)
class Effect:
    """The effect of one setting on the score, or on a cost.

    Attributes:
        name: Path of the setting, as in a Result's `settings`.
        swing: Difference between the best and the worst value that were tried, the other settings being equal: in
            points of the score, or as a factor of the cost; with its 90 % band.
        sure: Whether the effect is significant.
        best: The best of the values that were tried.
    """

    name: str
    swing: Estimate
    sure: bool
    best: Any


@dataclass(frozen=True)
class Importance:
    """The effects of all settings on the score and on one cost.

    Attributes:
        quality: The effects on the score, of each setting that varies, the greatest first.
        cost: The effects on the cost, as factors.
        cost_name: Name of the cost.
        runs: Number of runs that the effects are estimated from.
        explained: Cross-validated R² over runs, of the score and of the logarithm of the cost: 1 explains all of the
            variance between runs, 0 or less none of it.
    """

    quality: tuple[Effect, ...]
    cost: tuple[Effect, ...]
    cost_name: str
    runs: int
    explained: tuple[float, float]


def swept(results: Sequence[Result]) -> list[str]:
    """Return the settings that take more than one value, in the order of their first appearance; `epochs` counts as one."""
    values: dict[str, set[Any]] = {}
    for r in results:
        for name, value in {**r.settings, "epochs": r.epochs}.items():
            values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if len(found) > 1]


def setting(result: Result, name: str) -> Any:
    """Return the value of a setting in a checkpoint; None where its method has no such setting."""
    return result.epochs if name == "epochs" else result.settings.get(name)


def best_of_runs(results: Sequence[Result], view: View, name: str = "") -> list[Result]:
    """Return the best checkpoint of each run that has the setting `name`; all checkpoints where that is `epochs`."""
    points = [r for r in originals(results) if view.coordinates(r) is not None]
    points = [r for r in points if not name or setting(r, name) is not None]
    if name == "epochs":
        return points
    best: dict[str, Result] = {}
    for r in points:
        if r.run_id not in best or r.scores[view.maximize] > best[r.run_id].scores[view.maximize]:
            best[r.run_id] = r
    return list(best.values())


def importance(results: Sequence[Result], view: View, cost: str = "") -> Importance | None:
    """Estimate how much each setting changes the score and a cost; None from fewer than `LEAST_RUNS` runs, or where nothing varies.

    Args:
        results: All Results of the study.
        view: Prices and objectives.
        cost: Name of the cost; empty for the view's first.
    """
    import numpy as np

    cost = cost or view.minimize[0]
    points = [r for r in originals(results) if view.coordinates(r) is not None and (view.cost(r, cost) or 0.0) > 0]
    runs = list(dict.fromkeys(r.run_id for r in points))
    step = -(-len(runs) // MOST_RUNS)
    # Every n-th run in the order of trials, so that early and late ones of a search both count.
    kept = {run: i for i, run in enumerate(runs[::step] if step else [])}
    points = [r for r in points if r.run_id in kept]
    names = swept(points)
    if len(kept) < LEAST_RUNS or not names:
        return None
    parts = [_columns([setting(r, name) for r in points]) for name in names]
    run_of = np.array([kept[r.run_id] for r in points])
    scores = np.array([r.scores[view.maximize] for r in points])
    costs = np.log([view.cost(r, cost) or math.nan for r in points])
    quality, explained = _effects(names, parts, scores, run_of, points)
    dear, explained_cost = _effects(names, parts, costs, run_of, points, factor=True)
    return Importance(quality, dear, cost, len(kept), (explained, explained_cost))


# The model


def _columns(values: Sequence[Any]) -> Matrix:
    """A setting as columns of a design: numbers as a parabola, in their logarithm where they span more than a factor of 4; other
    values as one column each. Where the setting does not exist all are 0, and each is 0 on average where it does.
    """
    import numpy as np

    there = np.array([value is not None for value in values])
    known = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        x = np.array(known, dtype=float)
        x = np.log(x) if x.min() > 0 and x.max() > 4 * x.min() else x
        x = (x - x.mean()) / (x.std() or 1.0)
        # Two values have no curvature.
        columns = [x] if len(set(x)) < 3 else [x, x**2 - (x**2).mean()]
    else:
        texts = np.array([str(value) for value in known])
        columns = [(texts == text) - (texts == text).mean() for text in sorted(set(texts))]
    design = np.zeros((len(values), len(columns)))
    design[there] = np.column_stack(columns)
    return design


def _effects(
    names: Sequence[str], parts: Sequence[Matrix], y: Matrix, run_of: Any, points: Sequence[Result], *, factor: bool = False
) -> tuple[tuple[Effect, ...], float]:
    """Return the effect of each setting on an outcome, and the share of the variance between unseen
    runs that all explain.

    Args:
        names: The settings.
        parts: Columns of each setting, shape (checkpoints, columns).
        y: The outcome, shape (checkpoints,).
        run_of: The run of each checkpoint, by number, shape (checkpoints,).
        points: The checkpoints themselves.
        factor: Whether the outcome is the logarithm of a cost, of which less is better.
    """
    import numpy as np

    runs = int(run_of.max()) + 1
    # Each run weighs 1, however many checkpoints it has.
    weights = 1.0 / np.bincount(run_of, minlength=runs)[run_of]
    design = np.column_stack(parts)
    ends = np.cumsum([0, *(part.shape[1] for part in parts)])
    whole, ridge = _predicted(design, y, weights, run_of)
    scatter = np.bincount(run_of, weights * (y - np.average(y, weights=weights)) ** 2, runs)
    p_values, swings, best = {}, {}, {}
    for i, name in enumerate(names):
        without, _ = _predicted(np.delete(design, slice(ends[i], ends[i + 1]), axis=1), y, weights, run_of)
        have = np.unique(run_of[parts[i].any(axis=1)])
        if len(have) >= LEAST_TESTED:
            # Roots, so that the errors that are ranked have the unit of the outcome, not its
            # square.
            p_values[name] = _p_value(np.sqrt(without[have]) - np.sqrt(whole[have]))
    # Whole runs are drawn, as the checkpoints of one run are not independent; the seed is fixed, so
    # a page shows the same bands each time.
    rng = np.random.default_rng(0)
    drawn = [
        _swings(parts, ends, _fit(design, y, weights * rng.multinomial(runs, [1 / runs] * runs)[run_of], ridge))
        for _ in range(DRAWS)
    ]
    fitted = _fit(design, y, weights, ridge)
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    value = _swings(parts, ends, fitted)
    sign = -1 if factor else 1
    for i, name in enumerate(names):
        # All resampled swings may lie to one side of the fitted one; a band must hold its value.
        each = [float(x) for x in (value[i], min(low[i], value[i]), max(high[i], value[i]))]
        middle, least, most = map(math.exp, each) if factor else each
        swings[name] = Estimate(middle, least, most, "measured")
        effect = parts[i] @ fitted[ends[i] : ends[i + 1]]
        known = [k for k, point in enumerate(points) if setting(point, name) is not None]
        best[name] = setting(points[max(known, key=lambda k: sign * effect[k])], name)
    adjusted = holm(p_values)
    effects = [Effect(name, swings[name], adjusted.get(name, 1.0) < LEVEL, best[name]) for name in names]
    effects.sort(key=lambda effect: (not effect.sure, -effect.swing.value))
    return tuple(effects), float(1 - whole.sum() / scatter.sum()) if scatter.sum() else 0.0


def _fit(design: Matrix, y: Matrix, weights: Matrix, ridge: float) -> Matrix:
    """Weighted ridge regression; the mean is fitted beside it, and not shrunk."""
    import numpy as np

    x = np.column_stack([design, np.ones(len(y))])
    penalty = np.diag([ridge] * design.shape[1] + [0.0])
    found: Matrix = np.linalg.solve((x.T * weights) @ x + penalty, (x.T * weights) @ y)
    return found


def _predicted(design: Matrix, y: Matrix, weights: Matrix, run_of: Any) -> tuple[Matrix, float]:
    """Return the squared error of each run as predicted from the others, and the ridge used.

    Errors have the shape (runs,). The ridge is the one of `RIDGES` for which their sum is least.
    """
    import numpy as np

    runs = int(run_of.max()) + 1
    # Folds are of whole runs: a run on both sides would be predicted from its own checkpoints.
    fold = np.arange(runs) % min(runs, FOLDS)
    best: tuple[Matrix, float] | None = None
    for ridge in RIDGES:
        errors = np.zeros(len(y))
        for k in range(fold.max() + 1):
            out = fold[run_of] == k
            coefficients = _fit(design[~out], y[~out], weights[~out], ridge)
            errors[out] = y[out] - np.column_stack([design[out], np.ones(out.sum())]) @ coefficients
        by_run = np.bincount(run_of, weights * errors**2, runs)
        if best is None or by_run.sum() < best[0].sum():
            best = by_run, ridge
    assert best is not None
    return best


def _swings(parts: Sequence[Matrix], ends: Any, coefficients: Matrix) -> list[float]:
    """The difference between the highest and the lowest fitted effect of each setting, over the
    checkpoints that have it.
    """
    found = []
    for i, part in enumerate(parts):
        effect = part[part.any(axis=1)] @ coefficients[ends[i] : ends[i + 1]]
        found.append(float(effect.max() - effect.min()) if len(effect) else 0.0)
    return found


def _p_value(worse: Matrix) -> float:
    """One-sided p of Wilcoxon's signed-rank test: whether errors are greater without a setting, over runs."""
    from scipy.stats import wilcoxon

    # Where all differences are 0 there is nothing to rank, and scipy gives no p.
    return float(wilcoxon(worse, alternative="greater").pvalue) if worse.any() else 1.0
