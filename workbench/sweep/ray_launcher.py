"""Workers on a cluster of Ray's: one actor for each device, which starts the worker's command and relays its lines.

Ray carries the workers, and decides nothing: who records what is decided by the ledger's leases. An actor is never started again by
Ray, as a machine that was only frozen goes on after Ray has given it up. Where the driver dies its actors die with it; each worker
then finds its input closed, keeps its state and ends, and the command is given again.

What every machine needs: this package, the study's file and its data at the same path (a shared folder, or an image), a ledger on a
server, and `--states` where a run is to go on on another machine.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import prices
from workbench.errors import EnvironmentFault, UsageError
from workbench.sweep.launching import Place, Process, started

if TYPE_CHECKING:
    from workbench.forecast import Typical

OFFER_LABEL = "offer"
"""The label of a node that names what it costs: `ray start --labels offer=aws_g6.xlarge`. Ray's labels hold no colon."""

MEMORY_LABEL = "gpu_memory_gb"
"""The label of a node that says how much memory each of its GPUs has, 10^9 bytes, where neither its offer nor its type does."""

_TYPE_LABEL = "ray.io/accelerator-type"  # Ray's own

_HEAR_SECONDS = 1.0
"""How long an actor waits for lines before it answers without any."""

CONNECT_SECONDS = 5.0
"""How long a cluster's head has to answer."""

_START = "`ray start --head` starts one on this machine; --ray HOST:PORT names the head of another."

_LOOK_SECONDS = 1.0
"""How often the cluster is asked which machines it has."""


@dataclass(frozen=True)
class Needs:
    """What the run that takes least needs: a machine with less memory makes none.

    Attributes:
        host_bytes: Of a machine's memory where processors train; None: unknown.
        gpu_bytes: Of a GPU's; None: unknown.
    """

    host_bytes: int | None = None
    gpu_bytes: int | None = None

    @classmethod
    def of(cls, run: Typical) -> Needs:
        """Those of a study, by the forecast of its runs. Of processors nothing is known by one for a GPU."""
        if run.least_memory_bytes is None:
            return cls()
        least = round(run.least_memory_bytes)
        return cls(gpu_bytes=least) if run.gpu else cls(least, max(0, least - run.resident_bytes))


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

    def pid(self) -> int | None:
        """The worker's process."""
        return None if self._process is None else self._process.pid

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
    """A worker in an actor, with the face of a process (`launching.Process`)."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self.pid: int | None = None
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
                    self.pid = ray.get(self._actor.pid.remote())
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


def offer_of(label: str) -> str:
    """The name of an offer that a label means: `aws_g6.xlarge` is `aws:g6.xlarge`; what is no offer's name is left as it is."""
    parts = [offer.name.split(":") for offer in prices.load()]
    names = {":".join(part[:count]) for part in parts for count in range(1, len(part) + 1)}
    return next((name for name in sorted(names) if name.replace(":", "_") == label), label)


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


def _gpu_bytes(node: Mapping[str, Any]) -> float | None:
    """Memory of each GPU of a machine: by its label, its offer or its type; None where none of them says."""
    labels = node.get("Labels", {})
    with contextlib.suppress(ValueError, KeyError):
        return float(labels[MEMORY_LABEL]) * 1e9
    offer = None
    with contextlib.suppress(UsageError, KeyError):
        offer = prices.find(offer_of(labels[OFFER_LABEL]))
    if offer is not None and offer.gpu_memory_gb is not None:
        return offer.gpu_memory_gb * 1e9
    known = prices.gpu(offer.gpu if offer is not None else str(labels.get(_TYPE_LABEL, "")))
    return None if known is None or known.memory_gb is None else known.memory_gb * 1e9


class RayLauncher:
    """Starts workers on a cluster that is there: a place for each GPU of a machine, and one for each machine without a GPU.

    Args:
        address: Of the cluster, `HOST:PORT`; `auto` for the one of this machine.
        needs: What runs need; machines on which none fits are left out.
        note: Is told which are.

    Raises:
        EnvironmentFault: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, needs: Needs | None = None, note: Callable[[str], None] = lambda text: None) -> None:
        self._needs, self._note = needs or Needs(), note
        self._left_out: set[str] = set()
        self._places: list[Place] = []
        self._nodes: dict[str, tuple[str, bool]] = {}  # of places: the node, and whether it has GPUs
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
        """One for each GPU, and one for each machine without; those of machines that are there now."""
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

        node, on_gpu = self._nodes[place.name]
        if "WORKBENCH_PLATFORM" in place.variables:  # what its label says goes before what the sweep was told of this machine
            words = _without(words, "--platform")
        held = self._needs.host_bytes
        options: dict[str, Any] = {"num_gpus": 1} if on_gpu else {"memory": held} if held else {}
        actor = ray.remote(Seat).options(
            num_cpus=0,
            max_restarts=0,
            max_concurrency=4,  # it hears and is told at once
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            **options,
        )
        return RemoteWorker(actor.remote(list(words), str(Path.cwd()), dict(place.variables)))

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
        memory, needed = (_gpu_bytes(node), self._needs.gpu_bytes) if gpus else (has.get("memory", 0), self._needs.host_bytes)
        if memory is not None and needed is not None and memory < needed:
            if name not in self._left_out:
                self._left_out.add(name)
                what = "a GPU of it" if gpus else "it"
                self._note(f"{name} is left out: {what} has {memory / 2**30:.1f} GiB, and every run needs more.")
            return
        # Ray has every process of its own use one thread unless it asked for more CPUs.
        threads = {"OMP_NUM_THREADS": str(max(1, processors // max(1, gpus)))}
        for i in range(max(1, gpus)):
            place = f"{name} GPU {i}" if gpus else name
            self._nodes[place] = str(node["NodeID"]), bool(gpus)
            yield Place(place, place, variables | threads)
