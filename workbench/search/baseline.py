"""Optuna's samplers as the peers of a comparison: asked for settings, told what came of the nearest ones at hand."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError
from workbench.ledger import distribution
from workbench.search.optuna_study import arguments, made
from workbench.space import Dimension, Integers, Uniform, Value

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

MOST_INTEGERS = 1000
"""Longer ranges of whole numbers are searched as real ones."""


class Peer:
    """A sampler with its own defaults on a study in memory: minimises the first objective, maximises the second.

    Several trials can be running: TPE then lies to itself about them (`constant_liar`), as Optuna's documentation advises.

    Args:
        dimensions: The space; a dimension is suggested only where it exists.
        sampler: Name of the sampler's class.
        seed: Seed of the sampler.
        group: TPE models parameters jointly, each group of conditional ones by itself (`multivariate`, `group`).
        parallel: Several trials will run at once.
    """

    def __init__(
        self, dimensions: Mapping[str, Dimension], sampler: str, *, seed: int, group: bool = False, parallel: bool = False
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._name, self._dimensions = sampler, dimensions
        self._distributions = {name: distribution(_coarse(dimension), checkpoints=False) for name, dimension in dimensions.items()}
        self._study = optuna.create_study(directions=["minimize", "maximize"], sampler=_make(sampler, seed, group, parallel))

    def ask(self) -> tuple[dict[str, Value], int]:
        """Proposed settings, and the number of their trial. Raises UsageError when the sampler cannot search this space."""
        settings: dict[str, Value] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                trial = self._study.ask()
                for name, dimension in self._dimensions.items():
                    if dimension.exists(settings):
                        settings[name] = trial._suggest(name, self._distributions[name])
            except (ValueError, NotImplementedError, ImportError) as error:  # one objective only, a package missing
                raise UsageError(f"optuna:{self._name} cannot search this: {str(error).rstrip('.')}. Leave it out.") from error
        return settings, trial.number

    def instead(self, number: int, settings: Mapping[str, Value]) -> int:
        """Other settings run in the place of those proposed; the number of their trial, which runs from now.

        The sampler is told the truth about what is run: the proposal itself is withdrawn.
        """
        from optuna.trial import TrialState, create_trial

        asked = self._study.trials[number]
        # The sampler must be told of what was run, or it learns from a point that nobody measured.
        self._study.tell(number, state=TrialState.FAIL)
        params = {n: v for n, v in settings.items() if n in self._distributions}
        trial = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions={name: self._distributions[name] for name in params},
            system_attrs=asked.system_attrs,  # the generation of a genetic algorithm is kept there
        )
        self._study.add_trial(trial)
        return len(self._study.get_trials(deepcopy=False)) - 1

    def tell(self, number: int, values: Sequence[float]) -> None:
        """What came of a trial."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.tell(number, list(values))


def _coarse(dimension: Dimension) -> Dimension:
    """Many whole numbers as a real range: Optuna's GP lists every one of them (3e9 parameters of a model took 24 GiB)."""
    space = dimension.space
    if isinstance(space, Integers) and space.high - space.low >= MOST_INTEGERS:
        return Dimension(
            dimension.name,
            Uniform(float(space.low), float(space.high), space.log),
            dimension.when,
            dimension.unless,
            dimension.barred,
        )
    return dimension


def _make(name: str, seed: int, group: bool, parallel: bool) -> BaseSampler:
    wanted: dict[str, Any] = {"seed": seed, "warn_independent_sampling": False, "constant_liar": parallel}
    if group:
        wanted |= {"multivariate": True, "group": True}
        if "group" not in arguments(name):
            raise UsageError(f"optuna:{name} has no groups. Leave -group out.")
    return made(name, wanted)
