"""Where workers of a sweep can be, and how one is started there: on this machine here, on a cluster in `ray_launcher`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workbench.cgroups import whole_cpus


@dataclass(frozen=True)
class Place:
    """A place for one worker at a time.

    Attributes:
        name: Tells it from all others, in words for people.
        device: What a worker there works with: workers with the same one are neighbours, and share its bill.
        variables: What the environment of a worker there says beside what it finds.
    """

    name: str
    device: str
    variables: Mapping[str, str] = field(default_factory=dict)


class Lines(Protocol):
    """What a worker reads."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


class Process(Protocol):
    """A worker at work, as far as its supervisor deals with it: `subprocess.Popen` is one."""

    @property
    def pid(self) -> int | None:
        """Its process on its machine; None where that is not known yet."""

    @property
    def returncode(self) -> int | None:
        """As `Popen` has it: minus a signal where one has killed it."""

    @property
    def stdin(self) -> Lines | None:
        """What it reads."""

    @property
    def stdout(self) -> Iterable[str] | None:
        """Lines that it says to its supervisor."""

    @property
    def stderr(self) -> Iterable[str] | None:
        """Lines that it says to people."""

    def poll(self) -> int | None:
        """Its `returncode` once it has ended; None while it works."""

    def kill(self) -> object:
        """End it at once."""

    def send_signal(self, sig: int, /) -> object:
        """Send it a signal."""


class Launcher(Protocol):
    """Starts workers."""

    def places(self) -> Sequence[Place]:
        """Where workers can be now: machines may come and go."""

    def start(self, place: Place, words: Sequence[str]) -> Process:
        """Start a worker at a place. `words` follow `python -m workbench`."""

    def close(self) -> None:
        """Give back what is held."""


def started(words: Sequence[str], environment: Mapping[str, str], folder: str | None = None) -> subprocess.Popen[str]:
    """Start a worker as a child of this process, which hears what it says and tells it what it reads.

    Args:
        words: What follows `python -m workbench`.
        environment: All of its environment.
        folder: Where it works; None: here.
    """
    pipe = subprocess.PIPE
    # A session of its own: Ctrl-C at the terminal is for the supervisor to pass on, or each would hear it twice; and what ends
    # an actor of Ray's is not to break into a write of the worker's.
    return subprocess.Popen(
        [sys.executable, "-m", "workbench", *words],
        cwd=folder,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


class LocalLauncher:
    """Starts workers on this machine.

    Args:
        workers: How many at first.
        devices: GPUs to be dealt out in turn, as `CUDA_VISIBLE_DEVICES` names them; empty without any.
        most: How many there may come to be; None: no more than at first.
    """

    def __init__(self, workers: int, devices: Sequence[str], most: int | None = None) -> None:
        # Otherwise each worker would start a thread for every CPU of the machine.
        self._threads = {"OMP_NUM_THREADS": str(max(1, whole_cpus() // (most or workers)))}
        self._places: list[Place] = []
        self._made = 0
        for i in range(workers):
            self.add(devices[i % len(devices)] if devices else "")

    def places(self) -> Sequence[Place]:
        """Where workers can be: the same until `add` or `remove` is called."""
        return [*self._places]

    def add(self, device: str) -> None:
        """Have a place more on a GPU, or on the processors where the name is empty."""
        self._places.append(Place(str(self._made), device, self._threads | ({"CUDA_VISIBLE_DEVICES": device} if device else {})))
        self._made += 1

    def remove(self, place: Place) -> None:
        """Have a place no more: its worker ends by itself."""
        self._places.remove(place)

    def start(self, place: Place, words: Sequence[str]) -> Process:
        """Start a worker as a child of this process."""
        device = place.variables.get("CUDA_VISIBLE_DEVICES")
        # A number of threads that the user has set goes before ours.
        environment = {**place.variables, **os.environ, **({} if device is None else {"CUDA_VISIBLE_DEVICES": device})}
        return started(words, environment)

    def close(self) -> None:
        """Nothing is held."""
