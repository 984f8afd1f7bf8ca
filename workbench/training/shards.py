"""The processes that hold a model together: those beside the first, and how it tells them what it does.

The process that holds lease, search and ledger is the first. It begins the others (`Shards`) and tells them through a pipe what
it is about to do, so that all of them make the same collective calls.

When the first process ends, the others read the end of their pipe and end, too. When one of the others ends, nothing more can be
computed: the first process is killed, as if it had been killed itself, and its run is put right as one that died.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed as group

from workbench.errors import Infeasible, UsageError
from workbench.study import Recipe, load
from workbench.training.loop import Checkpoint, test, train
from workbench.training.resume_state import ResumeState
from workbench.training.sharding import refuse

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others in a collective call: beyond that they are no longer in step, and all of them end."""

_DYING_SECONDS = 1.0
"""How long an error of the first process is held back: if another process has ended, that is the cause, and is told by `_watch`."""


class Shards:
    """The other processes, as long as they are needed.

    Args:
        devices: How many processes there are, with this one. On a GPU each has one.
        study: The study's file, which may have tasks of its own: the others run it, too.
    """

    def __init__(self, devices: int, study: Path | None = None) -> None:
        self.devices = devices
        self._folder = Path(tempfile.mkdtemp(prefix="shards-"))
        self._closing = False
        command = [sys.executable, "-P", "-m", "workbench.training.shards"]
        command += [str(self._folder / "met"), str(devices), str(study or "")]
        self._others = [subprocess.Popen([*command, str(rank)], stdin=subprocess.PIPE, stdout=2) for rank in range(1, devices)]
        for other in self._others:
            threading.Thread(target=self._watch, args=(other,), name="shard", daemon=True).start()
        _join(self._folder / "met", devices, 0)

    @property
    def pids(self) -> list[int]:
        """The other processes."""
        return [other.pid for other in self._others]

    def train(self, recipe: Recipe, resume: ResumeState | None = None, **more: Any) -> Iterator[Checkpoint]:
        """As `workbench.training.train`, by all processes. Raises UsageError where the recipe needs a whole model."""
        refuse(recipe)
        self._tell("train", recipe, resume)
        segments = train(recipe, resume, **more)
        try:
            while True:
                self._tell("next")
                if (found := next(segments, None)) is None:
                    return
                asks: dict[str, Any] = {name: self._asking(name, getattr(found, name)) for name in _ASKED}
                yield dataclasses.replace(found, **asks)
        except Exception:
            time.sleep(_DYING_SECONDS)
            raise
        finally:
            self._tell("close")
            segments.close()  # type: ignore[attr-defined]

    def test(self, recipe: Recipe, weights: Path | None) -> dict[str, float]:
        """As `workbench.training.test`, by all processes. Raises UsageError where the recipe needs a whole model."""
        refuse(recipe)
        self._tell("grade", recipe, weights)
        return test(recipe, weights)

    def close(self) -> None:
        """End the other processes."""
        self._closing = True
        for other in self._others:
            with contextlib.suppress(OSError):
                other.stdin.close()  # type: ignore[union-attr]
        group.destroy_process_group()
        for other in self._others:
            try:
                other.wait(_DYING_SECONDS)
            except subprocess.TimeoutExpired:  # it was left in the middle of a pass, and waits for us there
                other.kill()
                other.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tell(self, word: str, *more: Any) -> None:
        for other in self._others:
            pickle.dump((word, *more), other.stdin)  # type: ignore[arg-type]
            other.stdin.flush()  # type: ignore[union-attr]

    def _asking(self, name: str, ask: Callable[[], Any]) -> Callable[[], Any]:
        def asked() -> Any:
            self._tell(name)
            return ask()

        return asked

    def _watch(self, other: subprocess.Popen[bytes]) -> None:
        code = other.wait()
        if not self._closing:
            sys.stderr.write(f"A process that held a part of the model ended ({code}): nothing can be computed without it.\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)


_ASKED = ("resume_state", "weights", "test")
"""What of a checkpoint all processes have to compute together."""


def _join(meeting: Path, devices: int, rank: int) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all of them are on this machine, and no other is to reach them
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(rank)
    group.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", init_method=f"file://{meeting}", world_size=devices, rank=rank, timeout=PATIENCE
    )


def _follow(told: BinaryIO) -> None:
    """Do what the first process does, until its pipe ends."""
    segments: Any = None
    found: Any = None
    while True:
        try:
            word, *more = pickle.load(told)
        except EOFError:
            os._exit(0)  # without waiting for a process group whose first member may be gone
        if word == "train":
            segments = train(*more)
        elif word == "grade":
            with contextlib.suppress(UsageError):
                test(*more)
        elif word == "close":
            segments.close()
            found = None
        elif word == "next":
            with contextlib.suppress(Infeasible, UsageError):  # the first process has it, too, and records it
                found = next(segments, None)
        else:
            getattr(found, word)()


def main(words: Sequence[str]) -> None:
    """One of the other processes: where all of them meet, how many there are, the study's file, and which this one is."""
    if words[2]:
        load(words[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process to hear
    _join(Path(words[0]), int(words[1]), int(words[3]))
    _follow(sys.stdin.buffer)


if __name__ == "__main__":
    main(sys.argv[1:])
