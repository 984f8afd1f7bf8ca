"""Tasks whose data are a table of texts: how they are read, cut to the labels that are bought, and told of."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass

from workbench.data import fingerprints
from workbench.data.forms import Form
from workbench.errors import UsageError
from workbench.formulations import Example
from workbench.space import Space, check, is_whole
from workbench.tasks.base import Splits, Task


@dataclass(frozen=True, kw_only=True)
class TableTask(Task):
    """Base of tasks that read a table. A task says by its `form` which columns those are.

    Attributes:
        data: A built-in data set, a file, a folder of them, or a name on the hub, as `workbench.data.load` takes it.
        train: Labelled examples to train on. A smaller number takes a prefix of what a larger one takes.
        dev: Examples that grade each checkpoint, at most; fewer where the data has fewer.
        test: Examples held out to the end, at most.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
    """

    data: str
    train: int
    dev: int = 256
    test: int = 1024
    seed: int = 0
    name: str | None = None

    def __post_init__(self) -> None:
        for field, low in {"train": 0, "dev": 1, "test": 0, "seed": 0}.items():
            check(self, field, lambda value, low=low: is_whole(value) and value >= low, f"a whole number of at least {low}")  # type: ignore[misc]
        check(self, "name", lambda value: value is None or isinstance(value, str), "a name, or None")
        if not isinstance(self.data, (str, Space)) or not self.data:
            raise UsageError(f"data must be the name of a data set, or the path of a file or folder; got {self.data!r}.")

    @property
    @abstractmethod
    def form(self) -> Form:
        """Which columns are read, and what becomes of their rows."""

    def splits(self) -> Splits:
        train, dev, test = _shuffled(self.data, self.form, self.digest(), self.seed)
        if self.train > len(train):
            raise UsageError(f"train={self.train}: {self.data!r} has {len(train)} examples to train on. Ask for at most that many.")
        return Splits(train[: self.train], dev[: self.dev], test[: self.test])

    def digest(self) -> str:
        return fingerprints.data(self.data, self.form)

    def notes(self) -> list[str]:
        self.splits()
        return list(fingerprints.dataset(self.data, self.form).notes)


@functools.lru_cache(maxsize=8)
def _shuffled(data: str, form: Form, digest: str, seed: int) -> tuple[tuple[Example, ...], ...]:
    found = fingerprints.dataset(data, form)
    return found.shuffled("train", seed), found.shuffled("dev"), found.shuffled("test")
