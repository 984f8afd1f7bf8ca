"""A cluster of Ray's on this machine, of several nodes with GPUs that are none; nothing of it listens beyond the loopback."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from unittest import mock

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_enable_metrics_collection": "0"}


@contextlib.contextmanager
def cluster(*nodes: dict[str, object]) -> Iterator[object]:
    """A cluster whose head only administers, with nodes of these resources; gone afterwards.

    Yields:
        Ray's `Cluster`, whose `address` is that of its head, and which `add`s nodes.
    """
    with mock.patch.dict(os.environ, _QUIET):
        import ray
        from ray._private import services
        from ray.cluster_utils import Cluster

        small = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20, "include_dashboard": False}
        # Ray looks for the address that leads to the network, and would listen there.
        with mock.patch.object(services, "get_node_ip_address", return_value="127.0.0.1"):
            made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, **small})
            made.add = lambda **resources: made.add_node(**{"num_gpus": 0, "num_cpus": 1, **small, **resources})
            try:
                made.nodes = [made.add(**resources) for resources in nodes]
                yield made
            finally:
                ray.shutdown()
                made.shutdown()


_DRIVER = """
import sys
from ray._private import services
services.get_node_ip_address = lambda *_, **__: "127.0.0.1"
sys.argv = ["workbench", *sys.argv[1:]]
from workbench.cli import main
main()
"""


def start(*words: object, folder: object, log: object) -> subprocess.Popen[bytes]:
    """The command `workbench` as a process that takes the loopback for its address; what it prints goes to `log`."""
    env = {**os.environ, **_QUIET}
    with open(str(log), "ab") as file:  # noqa: PTH123
        return subprocess.Popen(
            [sys.executable, "-c", _DRIVER, *map(str, words)], cwd=str(folder), stdout=file, stderr=file, env=env
        )
