"""A run at its full length and its checkpoints, as they are planned before anything is made.

A checkpoint is the run's recipe with fewer epochs, and its settings are the run's with fewer
epochs. Both are worked out here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.space import Value
from workbench.study import Recipe
from workbench.study.record import digest


@dataclass(frozen=True)
class LongestRun:
    """A run as far as it may ever go. The schedule has no length, so that all shorter forms of it
    are its checkpoints.

    Attributes:
        recipe: The recipe with the most epochs that the run may have.
        settings: The study's settings that make it, by path.
        replicates: In a confirmation, the checkpoints to be recorded: the id of each one's recipe,
            with the id of the recipe that it replicates. None in a sweep, where every checkpoint is
            a point of its own.
        graded_only: Whether nothing is trained: what no seed changes is graded on the test split,
            and the record holds those grades alone.
    """

    recipe: Recipe
    settings: Mapping[str, Value]
    replicates: Mapping[str, str] | None = None
    graded_only: bool = False

    @property
    def run_id(self) -> str:
        """The id that all its checkpoints share. Grading alone has an id of its own, or its record would
        be taken for the member's.
        """
        return digest({"graded": self.recipe.run_id}) if self.graded_only else self.recipe.run_id

    @property
    def epochs(self) -> float:
        """The most epochs that the run may have."""
        return float(self.recipe.epochs)

    def at(self, epochs: float | None = None) -> RunCheckpoint:
        """Its checkpoint after so many epochs; None is its end."""
        return RunCheckpoint(self, self.recipe if epochs is None else self.recipe.with_epochs(epochs))

    def wants(self, recipe_id: str) -> bool:
        """Whether a checkpoint, by its recipe's id, is to be recorded."""
        return self.replicates is None or recipe_id in self.replicates


@dataclass(frozen=True)
class RunCheckpoint:
    """A checkpoint of a run, made or to be made.

    Attributes:
        run: The run to its longest.
        recipe: The recipe with this checkpoint's epochs.
    """

    run: LongestRun
    recipe: Recipe

    @property
    def recipe_id(self) -> str:
        """The id of its Result's recipe."""
        return self.run.run_id if self.run.graded_only else self.recipe.id

    @property
    def epochs(self) -> float:
        """Passes over the training examples by then."""
        return float(self.recipe.epochs)

    @property
    def settings(self) -> dict[str, Value]:
        """The settings that make it; `epochs` is among them where the study searches it."""
        own = {"epochs": self.recipe.epochs} if "epochs" in self.run.settings else {}
        return {**self.run.settings, **own}

    @property
    def replicate_of(self) -> str | None:
        """The id of the recipe that it replicates; None for a point of its own."""
        return None if self.run.replicates is None else self.run.replicates[self.recipe.id]
