"""What sweeps in `chaos.py`: nodes, and drivers with workers of their own. Both train by recorded curves and pauses."""

import contextlib
import json
import math
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import commands
import ray_cluster

from workbench import prices, process, training
from workbench.errors import EnvironmentFault
from workbench.ledger import Ledger, Patience, leases
from workbench.result import Result
from workbench.study import load
from workbench.sweep import Job, Limits, Observer, sweep
from workbench.sweep.checkpoint_store import CheckpointStore
from workbench.usage import Usage

SILENCE_SECONDS = 3.0
SLICE_SECONDS = 0.05
EPOCHS = (0.5, 1.0, 2.0)
OFFER = prices.find("local")
MACHINES = {"small": 0.05, "large": 0.40}
"""The machines of a cluster of Ray's, by the platforms of their offers, with US$ an hour."""

OFFERS = "".join(
    f'[[offers]]\nplatform = "{name}"\ninstance = "cpu"\namount = {usd}\nsource = "a test"\ndate = "2026-01-01"\n'
    for name, usd in MACHINES.items()
)

STUDY = '''"""Which?"""

from workbench import Recipe, Study, bitfit, choice, full, loguniform, peft
from workbench.testing import TinyTask

RATE = loguniform(1e-3, 1e-2)
study = Study(
    Recipe(
        task=TinyTask(train=64),
        model={model!r},
        method=choice(full(learning_rate=RATE), peft("lora", learning_rate=RATE, r=choice(2, 4)), bitfit(learning_rate=RATE)),
        epochs=2,
        batch_size=8,
    ),
    maximize="accuracy",
)
'''

STANDS_IN = f"""
import sys

sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import chaos_nodes

chaos_nodes.stand_in()
"""
"""What the study's file says more where it is the command that loads it."""


# In the place of training


class Recorded:
    """What stands in the place of training: a curve by the recipe's id, at so many seconds an epoch.

    Args:
        folder: Where states are kept, and when it trained is noted.
        platform: That of its machine's offer.
    """

    def __init__(self, folder: Path, platform: str = OFFER.platform) -> None:
        self.folder = folder
        self._journal = (folder / f"trained.{platform}.{os.getpid()}").open("ab", buffering=0)

    def train(self, recipe: Any, resume: Any = None, *, meter: Any = None, progress: Any = None) -> Any:
        """Checkpoints, as `training.train` yields them."""
        luck = random.Random(recipe.run_id)
        pace, best = luck.uniform(0.3, 0.8), luck.uniform(50, 90)
        at = resume.epochs if resume else 0.0
        for i, epochs in enumerate(EPOCHS):
            if epochs <= at:
                continue
            self._pause((epochs - at) * pace)
            usage, at = Usage(seconds=epochs * pace, cpu_seconds=epochs * pace), epochs
            steps = int(8 * epochs)
            yield training.Checkpoint(
                recipe=recipe.with_epochs(epochs),
                scores={"accuracy": best * (1 - math.exp(-2 * epochs)), "dev_loss": math.exp(-epochs)},
                labels=64,
                bought=(),
                labels_by_order={},
                step=steps,
                examples=8 * steps,
                tokens=80 * steps,
                next_step=None if i == len(EPOCHS) - 1 else int(8 * EPOCHS[i + 1]),
                next_labels=64,
                trainable_parameters=1000,
                usage={"train": usage, "evaluate": Usage(seconds=0.01, cpu_seconds=0.01)},
                spent={},
                serving={},
                predictions=(),
                resume_state=lambda epochs=epochs: SimpleNamespace(run_id=recipe.run_id, epochs=epochs),
                weights=dict,
                test=dict,
            )

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            began = time.monotonic()
            time.sleep(min(SLICE_SECONDS, left))
            # A slice in which the whole node was frozen was no work of that length.
            until = min(time.monotonic(), began + 2 * SLICE_SECONDS)
            self._journal.write(f"{began:.4f} {until:.4f}\n".encode())

    def state(self, store: Any, run_id: str) -> Any:
        """Where a run was left."""
        with contextlib.suppress(OSError, ValueError):
            return SimpleNamespace(run_id=run_id, epochs=float((self.folder / f"{run_id}.state").read_text()))
        return None

    def save_state(self, store: Any, state: Any) -> None:
        """Leave it there."""
        path = self.folder / f"{state.run_id}.state"
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(str(state.epochs))
        draft.replace(path)


@contextlib.contextmanager
def in_the_place_of_training(recorded: Recorded) -> Iterator[None]:
    """Have a sweep in this process train by `recorded`."""
    states = {
        "state": lambda store, run_id: recorded.state(store, run_id),
        "save_state": lambda store, state: recorded.save_state(store, state),
        "kept": lambda store: {path.stem for path in recorded.folder.glob("*.state")},
        "save_weights": lambda store, recipe_id, weights: None,
        "keep_weights": lambda store, members: None,
    }
    with (
        mock.patch.multiple(training, train=recorded.train, warm_up=lambda recipe: None),
        mock.patch.multiple(CheckpointStore, **states),
        mock.patch.object(leases, "SILENCE_SECONDS", SILENCE_SECONDS),
    ):
        yield


def host_named(name: str) -> Any:
    """Have this process take itself for one of a host with this name."""
    return mock.patch.object(process, "host", return_value=f"{name}/boot/pid")


class Journal(Observer):
    """Notes each Result that the node takes for recorded, and what it is told."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "recorded.jsonl").open("a", buffering=1)
        self._notes = (folder / "notes.txt").open("a", buffering=1)

    def recorded(self, result: Result, results: Any) -> None:
        """A Result is in the ledger, or in a write-ahead file."""
        self._file.write(json.dumps([result.recipe_id, result.status]) + "\n")

    def note(self, text: str) -> None:
        """Something that a person should read."""
        self._notes.write(f"{os.getpid()} {text}\n")


# A node


def node(number: int, folder: Path, url: str, limits: Limits, skew: float, sampler: str, seed: int) -> None:
    """One start of a node's sweep; its exit code is 0 where it ended by itself."""
    os.chdir(folder)
    with (folder / "err.txt").open("a") as err:
        os.dup2(err.fileno(), 2)
    clock = time.time
    with (
        in_the_place_of_training(Recorded(folder)),
        host_named(f"node{number}"),
        mock.patch.object(time, "time", side_effect=lambda: clock() + skew),
    ):
        study = load(folder / "study.py")
        job = Job(
            study=study,
            ledger=Ledger.open(study, url, Patience(300.0)),
            notebook=mock.MagicMock(),
            offer=OFFER,
            label_usd=0.0,
            limits=limits,
            folder=folder,
            observer=Journal(folder),
        )
        outcome = sweep(job, sampler=sampler, seed=seed)
        (folder / "reason.txt").write_text(outcome.reason)


class Node:
    """A node: the process that sweeps, and what has happened to it.

    Args:
        folder: Its own.
        target: What its process does.
        arguments: Of `target`.
    """

    def __init__(self, folder: Path, target: Any, *arguments: Any) -> None:
        self.folder, self._target, self._arguments = folder, target, arguments
        self.killed = self.frozen = self.drivers_killed = self.machines_lost = 0
        self._stopped: tuple[int, float] | None = None  # the process that is frozen, and until when
        self.begin()

    def begin(self) -> None:
        """Begin its sweep, for the first time or again."""
        self.process = multiprocessing.get_context("forkserver").Process(target=self._target, args=self._arguments)
        self.process.start()

    @property
    def sweeping(self) -> list[int]:
        """Processes of it that make Results."""
        return [self.process.pid] if self.process.is_alive() else []

    @property
    def is_at_work(self) -> bool:
        """Whether anything of it lives."""
        return self.process.is_alive()

    @property
    def reasons(self) -> list[str]:
        """Why its sweeps ended."""
        return [path.read_text() for path in self.folder.glob("reason.txt")]

    def kill(self, rng: random.Random) -> None:
        """Kill a process that makes Results; it is begun again."""
        if self.sweeping:
            self.killed += 1
            self._stopped = None
            self.process.kill()
            self.process.join()
            self.begin()

    def freeze(self, rng: random.Random) -> None:
        """Stop a process that makes Results, for a while."""
        sweeping = self.sweeping
        if sweeping and self._stopped is None:
            pid = rng.choice(sweeping)
            self.frozen += 1
            send(pid, signal.SIGSTOP)
            self._stopped = pid, time.monotonic() + rng.uniform(0.5, 3) * SILENCE_SECONDS

    def look(self) -> None:
        """Let what was frozen for long enough go on."""
        if self._stopped is not None and time.monotonic() > self._stopped[1]:
            send(self._stopped[0], signal.SIGCONT)
            self._stopped = None

    def close(self) -> None:
        """End all of it."""
        self.process.kill()
        self.process.join()

    def trained(self, platform: str = "*") -> float:
        """Seconds in which it trained on machines of a platform, by its own journals; what two do at once counts once."""
        lines = [line.split() for path in self.folder.glob(f"trained.{platform}.*") for line in path.read_text().splitlines()]
        seconds, until = 0.0, -math.inf
        for began, ended in sorted((float(line[0]), float(line[1])) for line in lines if len(line) == 2):
            seconds += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return seconds


# A driver

_HELD = contextlib.ExitStack()  # what stands in for as long as the process lives


def stand_in() -> None:
    """Have this process, which is the command's, train and note as a node does. The study's file calls it."""
    from workbench.cli import notebook
    from workbench.cli.progress import Progress

    mock.patch.multiple(notebook, MlflowTracker=_no_tracker, _artifacts=lambda *words: {}).start()
    if "--supervised" in sys.argv:
        folder, platform, recorded = Path.cwd(), os.environ.get("WORKBENCH_PLATFORM"), Progress.recorded
        journal = Journal(folder)

        def noted(progress: Progress, result: Result, results: Sequence[Result]) -> None:
            journal.recorded(result, results)
            recorded(progress, result, results)

        mock.patch.object(Progress, "recorded", noted).start()
        _HELD.enter_context(in_the_place_of_training(Recorded(folder, platform or OFFER.platform)))
        if platform:
            host_named(platform).start()
    else:
        mock.patch.object(leases, "SILENCE_SECONDS", SILENCE_SECONDS).start()
        if "--ray" in sys.argv:
            ray_cluster.on_the_loopback().start()


def _no_tracker(study: Any, *words: Any, **options: Any) -> Any:
    made = mock.MagicMock(study=study)
    made.missing.return_value = made.close.return_value = 0
    return made


class Driver(Node):
    """The command with workers of its own, on this machine or on a cluster.

    Args:
        folder: Where it is run.
        words: The command's.
        cluster: The cluster, if there is one.
    """

    def __init__(self, folder: Path, words: Sequence[str], cluster: Any = None) -> None:
        self._cluster = cluster
        log = folder / "err.txt"
        super().__init__(folder, commands.work, words, folder, dict(os.environ), log, log)

    @property
    def sweeping(self) -> list[int]:
        """Its workers that live, those of drivers that were killed included."""
        return self._workers("*")

    def _workers(self, platform: str) -> list[int]:
        pids = [int(path.suffix[1:]) for path in sorted(self.folder.glob(f"trained.{platform}.*"))]
        return [pid for pid in pids if process._started(pid) is not None]

    @property
    def is_at_work(self) -> bool:
        """Whether the driver or a worker lives, or the driver is about to be begun again."""
        return self.process.is_alive() or self._is_to_begin or bool(self.sweeping)

    @property
    def _is_to_begin(self) -> bool:
        return self.process.exitcode == EnvironmentFault.exit_code

    @property
    def reasons(self) -> list[str]:
        """Why its sweeps ended."""
        said = self.folder / "err.txt"
        return re.findall(r"The sweep ended: (.*)\.", said.read_text()) if said.exists() else []

    def kill(self, rng: random.Random) -> None:
        """Kill a worker; its driver begins it again."""
        if sweeping := self.sweeping:
            self.killed += 1
            send(rng.choice(sweeping), signal.SIGKILL)

    def kill_driver(self) -> None:
        """Kill the driver, and begin it again."""
        if self.process.is_alive():
            self.drivers_killed += 1
            self.process.kill()
            self.process.join()
            self.begin()

    def lose_machine(self, rng: random.Random) -> None:
        """Have a machine of the cluster vanish, and another of its kind come. Where Ray alone loses it, its worker lives on."""
        platform = rng.choice(sorted(MACHINES))
        self.machines_lost += 1
        self._cluster.remove_node(self._cluster.machines.pop(platform), allow_graceful=False)
        if rng.random() < 0.5:
            for pid in self._workers(platform):
                self.killed += 1
                send(pid, signal.SIGKILL)
        add_machine(self._cluster, platform)

    def look(self) -> None:
        """Begin it again where the ledger was away when it began, as whatever looks after it would."""
        super().look()
        if self._is_to_begin:
            self.begin()

    def close(self) -> None:
        """End all of it."""
        super().close()
        for pid in self.sweeping:
            send(pid, signal.SIGKILL)


def add_machine(cluster: Any, platform: str) -> None:
    """Have a machine of a platform join a cluster."""
    cluster.machines[platform] = cluster.add(labels={"offer": platform})


def send(pid: int, number: signal.Signals) -> None:
    """Send a process a signal."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
