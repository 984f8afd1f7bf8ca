r"""The search of this package against searches of other packages, replayed on recorded runs.

    python tests/benchmarks/peers.py TABLE… [--peers front,botorch:qLogNEHVI,…] [--seeds 10] [--budget 15] > result.json

The other packages are no dependencies of this one. Their environment, Python 3.11:

    python -m venv peers-env
    peers-env/bin/pip install -c constraints.txt torch==2.13.0
    peers-env/bin/pip install -c constraints.txt -e . botorch==0.18.1 gpytorch==1.15.2 syne-tune==0.16.0 smac==2.4.1 \
        ConfigSpace==1.2.2

One worker; all meet the same pool, the same known cost and the same launch. A run that failed is one trial: told with the worst
quality seen, or as an error where the package knows such. Each peer is driven through its own code, with its own defaults but for
what its class says.

NePS's PriMO (neural-pipeline-search 0.17.0, in an environment of its own: it holds gpytorch at 1.13.0, pandas below 3) is left out.
It can be asked without priors (`prior_centers={}`), but is then what its authors take away to show what priors bring, holds one
random weighting of the objectives for a whole search, has no conditions in its space, and `tell` takes a result for what was
proposed only, not for the pool's configuration that was run in its place.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.replay import methods, tables
from workbench.replay.protocol import Protocol, replay
from workbench.replay.sampler import Coordinates
from workbench.replay.simulation import Assignment, Idle, State
from workbench.space import Choice, Dimension, Integers, Value

PACKAGES = ("botorch", "gpytorch", "syne-tune", "smac", "ConfigSpace", "scikit-learn")
START_UPS = 5
"""Random runs before BoTorch's model has a say: of the 15 or so that the budget pays for."""


CHALLENGERS = 1000
"""That SMAC ranks at each step, as its facade for functions does: of 10,000, its default here, it would take most of the time."""


class FullRuns(ABC):
    """Full runs of free configurations, one after another."""

    def __init__(self, seed: int) -> None:
        self._seed, self._rng = seed, np.random.default_rng(seed)
        self._running: int | None = None
        self._begun = False
        self._worst = math.inf

    def next(self, state: State) -> Assignment | Idle:
        """A full run of what the peer chooses."""
        if not self._begun:
            self._begun = True
            self.begin(state)
        if (run := self._running) is not None:
            score = -math.inf if state.failed[run] else float(state.scores(run)[-1])
            last = state.scores(run)[-1:].tolist()
            self._worst = min([self._worst, *last])
            if math.isfinite(quality := max(score, self._worst)):  # else nothing is known that a failure could be worse than
                self.tell(state, run, quality)
        free = np.flatnonzero((state.passed == 0) & ~state.failed)
        if not len(free):
            return Idle.STOP
        self._running = self.choose(state, free)
        return Assignment(self._running, int(state.stops[self._running]) - 1)

    @abstractmethod
    def begin(self, state: State) -> None:
        """Make what lives as long as the search."""

    @abstractmethod
    def choose(self, state: State, free: NDArray[np.int64]) -> int:
        """One of the free runs."""

    @abstractmethod
    def tell(self, state: State, run: int, quality: float) -> None:
        """What came of a run; of one that failed, the worst quality seen."""


class BoTorch(FullRuns):
    """qLogNEHVI (Daulton et al. 2021, Ament et al. 2023) per cost: the free run of highest log-acquisition - log(cost + launch).

    Objectives are the quality, by BoTorch's default GP, and -log(cost), by a deterministic model: it is known. Five runs drawn with
    probability ∝ 1/cost start it. Three things are as `front` has them: the reference point (the 5 % quantile of all qualities
    seen, at the highest cost of the pool); qualities below median - 2·(max - median) are raised to that, since one diverged run
    would flatten all others; log ranges are taken in the logarithm. A choice is one column for each option, a setting that a
    configuration lacks is at the middle of its range. The rest is BoTorch's: kernel, priors, standardisation, 128 samples.
    """

    def begin(self, state: State) -> None:
        """Settings as numbers, the log cost behind them."""
        table = state.table
        pool = Coordinates(table.dimensions, [run.settings for run in table.runs])
        columns = [part for row, chosen in zip(pool.rows.T, pool.chosen, strict=True) for part in _encoded(row, chosen)]
        rows = np.column_stack([column for column in columns if np.ptp(column)])
        self._low, logs = float(np.log(table.full_costs).min()), np.log(table.full_costs)
        self._span = float(np.ptp(logs))
        self._points = np.column_stack([rows, (logs - self._low) / (self._span or 1.0)])
        self._runs: list[int] = []
        self._qualities: list[float] = []

    def tell(self, state: State, run: int, quality: float) -> None:
        """Kept for the next fit."""
        self._runs.append(run)
        self._qualities.append(quality)

    def choose(self, state: State, free: NDArray[np.int64]) -> int:
        """At random at first, then by the acquisition."""
        if int((state.passed > 0).sum() + (state.failed & (state.passed == 0)).sum()) < START_UPS or not self._runs:
            weights = 1 / state.table.full_costs[free]
            return int(self._rng.choice(free, p=weights / weights.sum()))
        values = self._log_acquisition(state, free) - np.log(state.table.full_costs[free] + state.cold_start_cost)
        return int(free[np.argmax(values)])

    def _log_acquisition(self, state: State, free: NDArray[np.int64]) -> NDArray[np.float64]:
        import torch
        from botorch import fit_gpytorch_mll
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.models import ModelList, SingleTaskGP
        from botorch.models.deterministic import AffineDeterministicModel
        from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
        from botorch.sampling import SobolQMCNormalSampler
        from botorch.sampling.index_sampler import IndexSampler
        from botorch.sampling.list_sampler import ListSampler
        from botorch.utils.sampling import manual_seed
        from gpytorch.mlls import ExactMarginalLogLikelihood

        seen = np.concatenate([state.scores(run) for run in np.flatnonzero(state.passed > 0)])
        highest = math.log(1.0001) + self._low + self._span
        with warnings.catch_warnings(), manual_seed(self._seed):
            warnings.simplefilter("ignore")
            known = torch.tensor(self._points[self._runs], dtype=torch.double)
            told = torch.tensor(_winsorised(self._qualities), dtype=torch.double)[:, None]
            settings = list(range(known.shape[1] - 1))  # the kernel does not see the last column, the cost
            gp = SingleTaskGP(known, told, covar_module=get_covar_module_with_dim_scaled_prior(len(settings), active_dims=settings))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(gp.likelihood, gp))
            samples = torch.Size([128])
            scale = torch.zeros(known.shape[1], 1, dtype=torch.double)
            scale[-1] = -self._span
            cost = AffineDeterministicModel(scale, -self._low)
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                ModelList(gp, cost),
                ref_point=[float(np.quantile(seen, 0.05)), -highest],
                X_baseline=known,
                sampler=ListSampler(SobolQMCNormalSampler(samples, seed=self._seed), IndexSampler(samples, seed=self._seed)),
                prune_baseline=True,
            )
            with torch.no_grad():
                points = torch.tensor(self._points[free], dtype=torch.double)[:, None]
                return np.concatenate([acquisition(part).numpy() for part in points.split(256)])


def _encoded(values: NDArray[np.float64], chosen: bool) -> list[NDArray[np.float64]]:
    """A range as one column, a choice as one for each option."""
    if not chosen:
        return [np.where(np.isnan(values), 0.5, values)]
    return [(values == code).astype(float) for code in np.unique(values[~np.isnan(values)])]


def _winsorised(qualities: list[float]) -> NDArray[np.float64]:
    values = np.array(qualities)
    middle = float(np.median(values))
    return np.maximum(values, middle - 2 * (float(values.max()) - middle))


class Smac(FullRuns):
    """SMAC's facade for hyperparameters (random forest, expected improvement) with its multi-objective ParEGO, asked and told.

    The free configuration nearest to what it proposes is run in full, and told as what was run: log cost and -quality. Its number
    of trials, which sets that of its Sobol start-ups (a quarter), is what the budget pays for at the pool's mean cost. The forest
    is trained again after every run, not after eight as by default: here a run is dear and there are fifteen.
    """

    def begin(self, state: State) -> None:
        """The facade, with no target: it is asked and told."""
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario
        from smac.multi_objective.parego import ParEGO

        table = state.table
        self._coordinates = Coordinates(table.dimensions, [run.settings for run in table.runs])
        self._space = _config_space(table.dimensions, self._seed)
        self._folder = tempfile.TemporaryDirectory()
        trials = max(4, round(state.budget / float(np.mean(table.full_costs + state.cold_start_cost))))
        scenario = Scenario(
            self._space,
            objectives=["log_cost", "minus_quality"],
            deterministic=True,
            n_trials=trials,
            seed=self._seed,
            output_directory=Path(self._folder.name),
        )
        self._smac = Facade(
            scenario,
            lambda config, seed=0: [0.0, 0.0],
            multi_objective_algorithm=ParEGO(scenario),
            acquisition_maximizer=Facade.get_acquisition_maximizer(scenario, challengers=CHALLENGERS),
            config_selector=Facade.get_config_selector(scenario, retrain_after=1),
            logging_level=False,
            overwrite=True,
        )

    def choose(self, state: State, free: NDArray[np.int64]) -> int:
        """The free run nearest to the proposal."""
        from joblib import parallel_config

        with warnings.catch_warnings(), parallel_config("sequential"):  # ten trees in ten threads take longer
            warnings.simplefilter("ignore")
            self._asked = self._smac.ask()
        return int(free[np.argmin(self._coordinates.distances(dict(self._asked.config))[free])])

    def tell(self, state: State, run: int, quality: float) -> None:
        """As a trial of the settings that were run."""
        from ConfigSpace import Configuration
        from smac.runhistory import TrialInfo, TrialValue

        settings = state.table.runs[run].settings
        config = Configuration(
            self._space, values={name: self._held(name, settings[name]) for name in self._space if name in settings}
        )
        value = TrialValue(cost=[math.log(state.table.full_costs[run]), -quality])
        self._smac.tell(TrialInfo(config, seed=self._asked.seed), value, save=False)

    def _held(self, name: str, value: Value) -> Value:
        """A number within the bounds as ConfigSpace keeps them: rounded."""
        space = self._space[name]
        return min(max(value, space.lower), space.upper) if hasattr(space, "lower") else value


def _config_space(dimensions: Mapping[str, Dimension], seed: int) -> Any:
    """The dimensions as ConfigSpace knows them, with their conditions."""
    from ConfigSpace import AndConjunction, Categorical, ConfigurationSpace, EqualsCondition, Float, Integer

    space = ConfigurationSpace(seed=seed)
    for name, dimension in dimensions.items():
        if isinstance(dimension.space, Choice):
            space.add(Categorical(name, list(dimension.space.names)))
        else:
            kind = Integer if isinstance(dimension.space, Integers) else Float
            space.add(kind(name, dimension.space.ends, log=bool(getattr(dimension.space, "log", False))))
    for name, dimension in dimensions.items():
        conditions = [EqualsCondition(space[name], space[owner], label) for owner, label in dimension.when]
        if conditions:
            space.add(conditions[0] if len(conditions) == 1 else AndConjunction(*conditions))
    return space


class SyneTune:
    """Syne Tune's MOASHA, the stopping kind: it hears of every checkpoint, and says whether the run goes on.

    Its random proposals are the pool's configurations in random order, each once. Its resource is the checkpoint's number, up to
    the longest run's; all else is its default: rungs at 1, 3, 9, … checkpoints, the best third goes on, by non-dominated sorting
    of (-quality, log cost). It has no proposals when the pool was seen: the runs that it stopped then go on to their ends, those
    of the best rank first. A run that failed is reported as an error.

    Its default priority returns the order of the sorted runs where the rank of each is read, so that a stop has little to do with
    what was reported. `ranked` gives it one that returns ranks.
    """

    def __init__(self, seed: int, *, ranked: bool = False) -> None:
        self._seed, self._ranked = seed, ranked
        self._scheduler: Any = None
        self._trial: Any = None
        self._stopped: dict[int, list[float]] = {}

    def next(self, state: State) -> Assignment | Idle:
        """The next checkpoint of the run in hand, unless it is stopped; else a new run."""
        if self._scheduler is None:
            self._begin(state)
        if self._trial is not None and self._goes_on(state):
            run = self._trial.config["run"]
            return Assignment(run, int(state.passed[run]))
        if not self._pool.left:
            return self._finish(state)
        from syne_tune.backend.trial_status import Trial

        suggestion = self._scheduler.suggest()
        self._trial = Trial(len(self._pool.left), suggestion.config, datetime.now())
        self._scheduler.on_trial_add(self._trial)
        return Assignment(self._trial.config["run"], 0)

    def _begin(self, state: State) -> None:
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        np.random.seed(self._seed)  # Syne Tune draws from the global generator
        self._pool = _Pool(np.random.default_rng(self._seed).permutation(len(state.stops)).tolist())
        priority = _ranks() if self._ranked else None
        self._scheduler = MOASHA(
            {"run": self._pool},
            metrics=["minus_quality", "log_cost"],
            max_t=int(state.stops.max()),
            multiobjective_priority=priority,
            random_seed=self._seed,
        )

    def _goes_on(self, state: State) -> bool:
        """Report what came, and do what the package's own tuner does with the answer."""
        trial, run = self._trial, self._trial.config["run"]
        if state.failed[run]:
            self._scheduler.on_trial_error(trial)
            return False
        passed = int(state.passed[run])
        values = [-float(state.scores(run)[-1]), math.log(state.table.runs[run].costs[passed - 1])]
        result = {"minus_quality": values[0], "log_cost": values[1], "training_iteration": passed}
        stops = self._scheduler.on_trial_result(trial, result) == "STOP"
        if stops:
            self._scheduler.on_trial_remove(trial)
        elif passed == state.stops[run]:
            self._scheduler.on_trial_complete(trial, result)
        if stops and passed < state.stops[run]:
            self._stopped[run] = values
        return not stops and passed < int(state.stops[run])

    def _finish(self, state: State) -> Assignment | Idle:
        self._trial = None
        if not self._stopped:
            return Idle.STOP
        runs = list(self._stopped)
        run = runs[int(np.argmin(_ranks()(np.array(list(self._stopped.values())))))]
        del self._stopped[run]
        return Assignment(run, int(state.stops[run]) - 1)


class _Pool:
    """A domain of Syne Tune's: proposes each run once."""

    def __init__(self, runs: list[int]) -> None:
        self.left = runs

    def sample(self) -> int:
        """The next."""
        return self.left.pop()


def _ranks() -> Any:
    """Syne Tune's non-dominated sorting as its schedulers read a priority: of each run its rank."""
    from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import NonDominatedPriority

    class Ranks(NonDominatedPriority):  # type: ignore[misc]
        def priority_unsafe(self, objectives: Any) -> Any:
            return np.argsort(super().priority_unsafe(objectives))

    return Ranks()


PEERS: methods.Makers = {
    "botorch:qLogNEHVI": BoTorch,
    "syne-tune:MOASHA": SyneTune,
    "syne-tune:MOASHA-ranked": lambda seed: SyneTune(seed, ranked=True),
    "smac:ParEGO": Smac,
}


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Replay table after table; the record is written after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--peers", default=",".join(("front", *PEERS)))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=float, default=15.0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    protocol = Protocol(tuple(asked.peers.split(",")), asked.seeds, asked.budget, workers=(1,))
    record: dict[str, Any] = {"benchmark": "peers", "date": time.strftime("%Y-%m-%d")}
    for path in asked.tables:
        began = time.perf_counter()
        found = replay([tables.read(path)], protocol, more=PEERS)
        for row in found["results"]:
            del row["curve"]
        found["versions"] |= _versions()
        if "results" in record:
            record["tables"] += found["tables"]
            record["results"] += found["results"]
        else:
            record |= {key: value for key, value in found.items() if key != "across"}
            record["protocol"].pop("curve_shares")
        print(f"{path.name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
