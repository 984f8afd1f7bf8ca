"""A cluster of Ray's on this machine, of several nodes with GPUs that are none; nothing of it listens beyond the loopback."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_enable_metrics_collection": "0",
    # A node whose process is gone is given up after a second or two, not after fifteen. How long a busy one may take to answer is
    # as it ever was.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
"""Of every process that has to do with the cluster, in its environment."""


def on_the_loopback() -> Any:
    """Have Ray take the loopback for this machine's address, in a `with`: it looks for the one that leads to the network."""
    from ray._private import services

    return mock.patch.object(services, "get_node_ip_address", return_value="127.0.0.1")


@contextlib.contextmanager
def cluster(*nodes: dict[str, object]) -> Iterator[Any]:
    """A cluster whose head only administers, with nodes of these resources; gone afterwards.

    Yields:
        Ray's `Cluster`, whose `address` is that of its head, and which `add`s nodes.
    """
    with mock.patch.dict(os.environ, SETTINGS):
        import ray
        from ray.cluster_utils import Cluster

        small = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20, "include_dashboard": False}
        with on_the_loopback():
            made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, **small})
            made.add = lambda **resources: made.add_node(**{"num_gpus": 0, "num_cpus": 1, **small, **resources})
            try:
                made.nodes = [made.add(**resources) for resources in nodes]
                yield made
            finally:
                ray.shutdown()
                made.shutdown()


def join_on_the_loopback() -> None:
    """Have this process, which is to join the cluster, take the loopback for its address: what a command is to do `before`."""
    on_the_loopback().start()
