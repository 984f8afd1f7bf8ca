"""Workers on a cluster of Ray's: one actor for each, which starts the worker's command and relays its lines.

Ray carries the workers, and decides nothing: who records what is decided by the ledger's leases. An actor is never started again by
Ray, as a machine that was only frozen goes on after Ray has given it up. Where the driver dies its actors die with it; each worker
then finds its input closed, keeps its state and ends, and the command is given again.

What every machine needs: this package, the study's file and its data at the same path (a shared folder, or an image), a ledger on a
server, and `--states` where a run is to go on on another machine.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import EnvironmentFault
from workbench.quantities import many
from workbench.sweep.launching import Place, Process, started
from workbench.sweep.ray_nodes import OFFER_LABEL, Needs, gpu_bytes, offer_of

_HEAR_SECONDS = 1.0
"""How long an actor waits for lines before it answers without any."""

CONNECT_SECONDS = 5.0
"""How long a cluster's head has to answer."""

_START = "`ray start --head` starts one on this machine; --ray HOST:PORT names the head of another."

_LOOK_SECONDS = 1.0
"""How often the cluster is asked which machines it has."""


class Seat:
    """What is run as an actor: the process of one worker on its machine."""

    def __init__(self, words: Sequence[str], folder: str, variables: Mapping[str, str]) -> None:
        self._lines: queue.Queue[tuple[int, str]] = queue.Queue()
        self._writing, self._told, self._early = threading.Lock(), 0, dict[int, str]()
        if not Path(folder).is_dir():
            self._process = None
            text = f"{folder} is not on this machine. Have the study's folder at the same path on every machine of the cluster."
            self._lines.put((2, text))
            return
        self._process = started(words, {**os.environ, **variables}, folder)
        self._readers = [
            threading.Thread(target=self._read, args=(number, stream), daemon=True)
            for number, stream in ((1, self._process.stdout), (2, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, number: int, stream: Any) -> None:
        for line in stream:
            self._lines.put((number, line))

    def about(self) -> tuple[int | None, str]:
        """The worker's process, and the GPU that Ray has given it, as `CUDA_VISIBLE_DEVICES` names it."""
        return None if self._process is None else self._process.pid, os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def hear(self) -> tuple[list[tuple[int, str]], int | None]:
        """What the worker has said since, with 1 for standard output and 2 for error; and its exit code once that is all."""
        said: list[tuple[int, str]] = []
        with contextlib.suppress(queue.Empty):
            said.append(self._lines.get(timeout=_HEAR_SECONDS))
            while True:
                said.append(self._lines.get_nowait())
        if said:
            return said, None
        if self._process is None:
            return [], 4
        over = self._process.poll() is not None and not any(reader.is_alive() for reader in self._readers) and self._lines.empty()
        return [], self._process.returncode if over else None

    def tell(self, number: int, text: str) -> None:
        """Write to the worker. Calls may overtake each other, and `number`, from 0, says which comes when."""
        if self._process is None or self._process.stdin is None:
            return
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._early[number] = text
            while self._told in self._early:
                self._process.stdin.write(self._early.pop(self._told))
                self._told += 1
            self._process.stdin.flush()

    def send_signal(self, number: int) -> None:
        """Send the worker a signal."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class _Stream:
    """Lines that arrive, as a file gives them: until it is closed."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue()

    def put(self, line: str | None) -> None:
        self._lines.put(line)

    def __iter__(self) -> Iterator[str]:
        while (line := self._lines.get()) is not None:
            yield line


class _Input:
    def __init__(self, tell: Callable[[int, str], object]) -> None:
        self._tell, self._told = tell, 0

    def write(self, text: str) -> None:
        self._tell(self._told, text)
        self._told += 1

    def flush(self) -> None:
        pass


class RemoteWorker:
    """A worker in an actor, with the face of a process (`launching.Process`).

    Args:
        actor: The actor.
        machine: The name of its machine, where that has GPUs.

    Attributes:
        device: The machine and the GPU of it that Ray has chosen; empty without any, and while that is unknown.
    """

    def __init__(self, actor: Any, machine: str) -> None:
        self._actor, self._machine = actor, machine
        self.pid: int | None = None
        self.device = ""
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = _Input(actor.tell.remote), _Stream(), _Stream()
        threading.Thread(target=self._pump, name="actor", daemon=True).start()

    def poll(self) -> int | None:
        """Its exit code; minus 9 where its actor or its machine is gone."""
        return self.returncode

    def kill(self) -> None:
        """End it at once."""
        import ray

        self.send_signal(signal.SIGKILL)
        with contextlib.suppress(Exception):  # it is gone already, and so may Ray be
            ray.kill(self._actor)

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        with contextlib.suppress(Exception):
            self._actor.send_signal.remote(int(sig))

    def _pump(self) -> None:
        """Hand on what it says, until it is gone."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError

        code: int | None = None
        while code is None:
            try:
                if self.pid is None:
                    pid, gpu = ray.get(self._actor.about.remote())
                    self.device = f"{self._machine} GPU {gpu}" if gpu and self._machine else ""
                    self.pid = pid
                said, code = ray.get(self._actor.hear.remote())
            except ActorUnavailableError:  # it passes: the network, or a machine that is busy
                time.sleep(_HEAR_SECONDS)
                continue
            except (RayError, ConnectionError, RuntimeError):
                # Of an actor or a machine that is gone. What it was making is put right by whoever finds its lease silent.
                said, code = [], -int(signal.SIGKILL)
            for number, line in said:
                (self.stdout if number == 1 else self.stderr).put(line)
        self.stdout.put(None)
        self.stderr.put(None)
        self.returncode = code


def _without(words: Sequence[str], option: str) -> list[str]:
    """A command line without an option and its value."""
    kept = [word for i, word in enumerate(words) if word != option and (i == 0 or words[i - 1] != option)]
    return [word for word in kept if not word.startswith(f"{option}=")]


def _check_cluster(address: str) -> None:
    """Raise EnvironmentFault where no cluster answers: Ray itself would try for minutes, and name options of its own."""
    from ray._private.services import canonicalize_bootstrap_address_or_die  # what `ray.init` asks first

    found, why = address, ""
    if address == "auto" and os.environ.get("RAY_ADDRESS"):
        found, why = os.environ["RAY_ADDRESS"], ", which RAY_ADDRESS names"
    elif address == "auto":
        why = ", where this machine's last one was (`ray stop` forgets it)"
        try:
            found = str(canonicalize_bootstrap_address_or_die("auto"))
        except ConnectionError as error:
            if "multiple" in str(error):
                raise EnvironmentFault("several clusters of Ray's run on this machine. Name one: --ray HOST:PORT.") from error
            raise EnvironmentFault(f"no cluster of Ray's is running on this machine. {_START}") from error
    if found == "local" or "://" in found:  # one of this process's own, and Ray's client
        return
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"no cluster of Ray's answers at {found}{why}. {_START}") from error


class _At(NamedTuple):
    """Where a place is: the node, its machine's name, and how many workers share its GPU; 0 without one."""

    node: str
    machine: str
    sharing: int


def _part(sharing: int) -> float:
    """The share of a GPU that each of so many has, rounded down as Ray counts, in ten-thousandths: all of them must fit."""
    return math.floor(1e4 / sharing) / 1e4


class RayLauncher:
    """Starts workers on a cluster that is there: on each GPU of a machine, and on each machine without a GPU.

    There is one at each, and several on a GPU where that was asked for and the forecast says that it holds so many runs: they are
    actors of a fraction of it.

    Args:
        address: Of the cluster, `HOST:PORT`; `auto` for the one of this machine.
        needs: What runs need; machines on which none fits are left out.
        note: Is told which are, and where fewer share a GPU than were asked for.

    Raises:
        EnvironmentFault: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, needs: Needs | None = None, note: Callable[[str], None] = lambda text: None) -> None:
        self._needs, self._note = needs or Needs(), note
        self._told: set[str] = set()
        self._places: list[Place] = []
        self._seats: dict[str, _At] = {}  # of places
        self._looked = 0.0
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
        try:
            import ray
        except ImportError as error:
            raise EnvironmentFault(f"--ray needs Ray: pip install 'workbench[ray]' ({error}).") from error
        _check_cluster(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EnvironmentFault(f"the cluster of Ray's at {address} cannot be joined ({reason}). {_START}") from error

    def places(self) -> Sequence[Place]:
        """Those of machines that are there now."""
        import ray

        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return self._places
        try:
            nodes = [node for node in ray.nodes() if node["Alive"]]
        except Exception:  # the head is away for a moment: workers go on meanwhile
            return self._places
        self._looked = time.monotonic()
        self._places = [place for node in nodes for place in self._of(node)]
        return self._places

    def hosts(self) -> set[str]:
        """Names of the machines of the cluster."""
        import ray

        return {str(node["NodeManagerHostname"]) for node in ray.nodes() if node["Alive"]}

    def start(self, place: Place, words: Sequence[str]) -> Process:
        """Start a worker. Where its device is in use by others it waits until that is free."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        at = self._seats[place.name]
        if "WORKBENCH_PLATFORM" in place.variables:  # what its label says goes before what the sweep was told of this machine
            words = _without(words, "--platform")
        held = self._needs.host_bytes
        options: dict[str, Any] = {"num_gpus": _part(at.sharing)} if at.sharing else {"memory": held} if held else {}
        actor = ray.remote(Seat).options(
            num_cpus=0,
            max_restarts=0,
            max_concurrency=4,  # it hears and is told at once
            scheduling_strategy=NodeAffinitySchedulingStrategy(at.node, soft=False),
            **options,
        )
        return RemoteWorker(actor.remote(list(words), str(Path.cwd()), dict(place.variables)), at.machine if at.sharing else "")

    def close(self) -> None:
        """Leave the cluster. What is left of its actors ends."""
        import ray

        ray.shutdown()

    def _of(self, node: Mapping[str, Any]) -> Iterator[Place]:
        """The places of a machine."""
        has, name = node["Resources"], f"{node['NodeManagerHostname']}/{node['NodeID'][:6]}"
        gpus, processors = int(has.get("GPU", 0)), int(has.get("CPU", 0))
        label = node.get("Labels", {}).get(OFFER_LABEL)
        variables = {"WORKBENCH_PLATFORM": offer_of(label)} if label else {}
        if not gpus and not processors:  # a head that only administers
            return
        memory, needed = (gpu_bytes(node), self._needs.gpu_bytes) if gpus else (has.get("memory", 0), self._needs.host_bytes)
        if memory is not None and needed is not None and memory < needed:
            what = "a GPU of it" if gpus else "it"
            self._tell_once(name, f"{name} is left out: {what} has {memory / 2**30:.1f} GiB, and every run needs more.")
            return
        share, why = self._needs.sharing(memory, processors / gpus) if gpus else (1, "")
        if why:
            self._tell_once(name, f"{many(share, 'worker')} on each GPU of {name}: {why}.")
        # Ray has every process of its own use one thread unless it asked for more CPUs.
        threads = {"OMP_NUM_THREADS": str(max(1, processors // max(1, gpus * share)))}
        for i in range(max(1, gpus)):
            device = f"{name} GPU {i}" if gpus else name
            for j in range(share):
                place = f"{device} worker {j}" if share > 1 else device
                self._seats[place] = _At(str(node["NodeID"]), name, share if gpus else 0)
                yield Place(place, device, variables | threads)

    def _tell_once(self, machine: str, text: str) -> None:
        if machine not in self._told:
            self._told.add(machine)
            self._note(text)
