"""Servers of a test's, or of a benchmark's, own: a PostgreSQL server, and a port for any other."""

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from workbench.meter.host import cpu_model


def free_port() -> int:
    """A port of the loopback at which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Unavailable(Exception):
    """There is no PostgreSQL here that can be run."""


class Server:
    """A server that is running: `url` is its address for the ledger.

    Args:
        settings: Of the server, beside those that a test needs.
    """

    def __init__(self, **settings: object) -> None:
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
        found = str(installed[-1]) if installed else shutil.which("initdb")
        if found is None:
            raise Unavailable("PostgreSQL is not installed")
        self._binaries = Path(found).parent
        self.folder = Path(tempfile.mkdtemp(prefix="workbench-pg."))
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # the server refuses to be run by root
            if not shutil.which("setpriv") or subprocess.run(["id", "postgres"], capture_output=True, check=False).returncode:
                raise Unavailable("PostgreSQL does not run as root, and there is no user postgres")
            shutil.chown(self.folder, "postgres", "postgres")
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.port = free_port()
        self.data = self.folder / "data"
        self._call("initdb", "-D", self.data, "-U", "tuner", "--auth=trust", "--no-sync")
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        options += "".join(f" -c {name}={value}" for name, value in settings.items())
        (self.data / "postmaster.options").write_text(options)
        self.control("start", "-l", self.folder / "log", "-o", options)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://tuner@127.0.0.1:{self.port}/postgres"

    def control(self, *words: object, mode: str = "fast") -> None:
        """`pg_ctl`: `start`, `stop`, `restart`."""
        self._call("pg_ctl", "-D", self.data, "-w", *(() if words[0] == "start" else ("-m", mode)), *words)

    def restart(self) -> None:
        """As after a crash: connections are cut, and what was under way is undone."""
        self.control("restart", "-l", self.folder / "log", mode="immediate")

    def stop(self) -> None:
        self.control("stop", mode="immediate")

    def start(self) -> None:
        self.control("start", "-l", self.folder / "log", "-o", (self.data / "postmaster.options").read_text())

    def close(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, program: str, *words: object) -> None:
        command = [*self._as_user, str(self._binaries / program), *map(str, words)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, cwd="/")


@contextlib.contextmanager
def server(**settings: object) -> Iterator[Server]:
    """A server, gone afterwards. Raises Unavailable."""
    made = Server(**settings)
    try:
        yield made
    finally:
        made.close()


def made_on() -> dict[str, dict[str, object]]:
    """What a benchmark of ledgers on a server was made on, for its record: the `machine`, and the `versions` of packages."""
    packages = ("optuna", "sqlalchemy", "psycopg2-binary", "workbench")
    return {
        "machine": {"cpu": cpu_model(), "cpus": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
    }
