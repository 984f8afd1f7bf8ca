"""Workers on a cluster of Ray's: nodes with GPUs that are none, on this machine, each with an offer of its own."""

import contextlib
import os
import re
import signal
import socket
import time
from types import SimpleNamespace

import pytest
import ray_cluster
from places import Place

from workbench import prices
from workbench.errors import EnvironmentFault
from workbench.forecast.typical import Typical
from workbench.ledger import Ledger, default_url
from workbench.ledger.leases import lives
from workbench.result import spending
from workbench.result.recorded_offer import recorded_offer
from workbench.sweep import launching, ray_launcher, ray_nodes
from workbench.sweep.ray_launcher import RayLauncher, RemoteWorker
from workbench.sweep.ray_nodes import Needs
from workbench.sweep.workers import Supervisor, _Worker

MACHINES = """
[[offers]]
platform = "small"
instance = "cpu"
amount = 0.05
source = "a test"
date = "2026-01-01"

[[offers]]
platform = "large"
instance = "gpu"
gpu = "L4"
gpus = 1
amount = 0.40
source = "a test"
date = "2026-01-01"
"""


def ledger(place):
    return Ledger.find(None, default_url(place.folder))


def leases(place):
    with contextlib.suppress(Exception):  # there is none yet
        return [record for _, record in ledger(place).leases()]
    return []


def until(true, process, place):
    deadline = time.monotonic() + 120
    while not true():
        assert process is None or process.poll() is None, place.said
        assert time.monotonic() < deadline, place.said
        time.sleep(0.1)


def _lives(record):
    return bool(lives(record))


def of(record):
    return record["result"]["offer"]["platform"]


def offers(records):
    return {of(record) for record in records}


@pytest.mark.slow
def test_a_sweep_on_a_cluster_outlives_a_node_and_its_workers_end_with_its_driver_each_at_its_own_offer(tmp_path, tiny):
    place = Place(tmp_path, tiny, train=1024, epochs=8)
    (tmp_path / "workbench.toml").write_text(MACHINES)
    words = ("--trials", "100", "--yes", "--states", f"file://{tmp_path / 'shared'}", "--workers", "2", "--ray")
    gpu, cpu = {"num_cpus": 2, "num_gpus": 1, "labels": {"offer": "large"}}, {"labels": {"offer": "small"}}
    with ray_cluster.cluster(gpu, cpu) as cluster:
        driver = place.start(*words, cluster.address, before=ray_cluster.join_on_the_loopback)
        # An L4 has memory for both.
        until(lambda: sorted(of(record) for record in leases(place)) == ["large", "large", "small"], driver, place)
        cluster.remove_node(cluster.nodes[1], allow_graceful=False)
        for record in leases(place):
            if record["result"]["offer"]["platform"] == "small":
                os.kill(record["pid"], signal.SIGKILL)  # all of the machine is gone
        until(lambda: "interrupted: " in place.said and re.search(r"Worker \d (was|is|ended)", place.said), driver, place)
        until(lambda: offers(record for record in leases(place) if _lives(record)) == {"large"}, driver, place)
        driver.kill()
        driver.wait()
        # Its actors go with the driver; what they were making is left to be gone on with.
        until(lambda: not any(_lives(record) for record in leases(place)), None, place)
    results = ledger(place).results(running=True)
    made = [r.recipe_id for r in results if r.status == "complete"]
    assert len(set(made)) == len(made), "no finished result twice"
    assert {r.offer["platform"] for r in results} == {"large", "small"}
    own = [prices.usd(r.consumed, recorded_offer(r.offer)) for r in results if r.spent]
    with contextlib.chdir(tmp_path):
        for name in ("large", "small"):
            assert spending(results, prices.find(name), 0.0).usd == pytest.approx(sum(own)), "each by its own, whoever looks"


def test_a_cluster_that_is_not_there_is_an_error_in_words(monkeypatch):
    ray = pytest.importorskip("ray")

    def away(*words, **options):
        raise ConnectionError("Could not find any running Ray instance. Please specify … by setting the `--address` flag")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address_or_die", away)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("it would try for minutes"))
    with pytest.raises(EnvironmentFault, match=r"^no cluster of Ray's is running on this machine\. `ray start --head` starts one"):
        RayLauncher("auto")
    with socket.socket() as taken:  # bound, and not listened on: nothing answers there
        taken.bind(("127.0.0.1", 0))
        stale = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentFault, match=f"^no cluster of Ray's answers at {stale}\\. `ray start"):
            RayLauncher(stale)
        monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address_or_die", lambda address: stale)
        with pytest.raises(EnvironmentFault, match=rf"answers at {stale}, where this machine's last one was \(`ray stop`"):
            RayLauncher("auto")
        monkeypatch.setenv("RAY_ADDRESS", stale)
        with pytest.raises(EnvironmentFault, match=f"answers at {stale}, which RAY_ADDRESS names"):
            RayLauncher("auto")
    monkeypatch.setattr(ray_launcher, "_check_cluster", lambda address: None)
    monkeypatch.setattr(ray, "init", away)
    with pytest.raises(EnvironmentFault, match=r"at one:6379 cannot be joined \(Could not find.*ray start --head"):
        RayLauncher("one:6379")


def node(name, **has):
    return {
        "NodeManagerHostname": name,
        "NodeID": f"{name}0123456789",
        "Alive": True,
        "Labels": has.pop("labels", {}),
        "Resources": has,
    }


def test_there_is_a_place_for_each_gpu_and_for_each_machine_without_and_none_where_memory_lacks(monkeypatch):
    ray, notes, clock = pytest.importorskip("ray"), [], [0.0]
    nodes = [
        node("head"),
        node("box", GPU=2.0, CPU=8.0, memory=1e9, labels={"offer": "aws_g6.xlarge"}),
        node("old", GPU=1.0, CPU=8.0, memory=64e9, labels={"ray.io/accelerator-type": "T4"}),
        node("own", GPU=1.0, CPU=8.0, memory=64e9, labels={"gpu_memory_gb": "12"}),
        node("new", GPU=1.0, CPU=8.0, memory=64e9, labels={"ray.io/accelerator-type": "Z1"}),  # of which nothing is known
        node("cpu", CPU=4.0, memory=8e9),
        node("thin", CPU=4.0, memory=1e9),
    ]
    monkeypatch.setattr(ray_launcher, "_check_cluster", lambda address: None)
    monkeypatch.setattr(ray, "init", lambda **options: None)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray_launcher.time, "monotonic", lambda: clock[0])
    clock[0] = 10.0
    launcher = RayLauncher("auto", Needs(2 << 30, 20 << 30), notes.append)
    found = {place.name: dict(place.variables) for place in launcher.places()}
    assert found == {
        "box/box012 GPU 0": {"WORKBENCH_PLATFORM": "aws:g6.xlarge", "OMP_NUM_THREADS": "4"},
        "box/box012 GPU 1": {"WORKBENCH_PLATFORM": "aws:g6.xlarge", "OMP_NUM_THREADS": "4"},
        "new/new012 GPU 0": {"OMP_NUM_THREADS": "8"},
        "cpu/cpu012": {"OMP_NUM_THREADS": "4"},
    }
    assert len({place.device for place in launcher.places()}) == 4
    assert notes == [
        "old/old012 is left out: a GPU of it has 14.9 GiB, and every run needs more.",
        "own/own012 is left out: a GPU of it has 11.2 GiB, and every run needs more.",
        "thin/thin01 is left out: it has 0.9 GiB, and every run needs more.",
    ]
    known = {"draws": 1, "seconds": None, "energy_j": None, "phases": {}, "labels": 0, "memory_bytes": 1, "resident_bytes": 0}
    largest, told = Typical(**known, peak_memory_bytes=9 << 30, gpu="L4"), []
    of_box = [p for p in RayLauncher("auto", Needs(None, 20 << 30, 2, largest), told.append).places() if "box" in p.name]
    assert [place.name for place in of_box] == [f"box/box012 GPU {gpu} worker {i}" for gpu in (0, 1) for i in (0, 1)]
    assert [place.device for place in of_box] == [f"box/box012 GPU {gpu}" for gpu in (0, 0, 1, 1)]
    assert {place.variables["OMP_NUM_THREADS"] for place in of_box} == {"2"}
    assert told[2] == "1 worker on each GPU of new/new012: how much memory a run takes is unknown."
    nodes[1]["Alive"] = False
    assert len(launcher.places()) == 4, "not asked for again at once"
    clock[0] += 10
    assert [place.name for place in launcher.places()] == ["new/new012 GPU 0", "cpu/cpu012"]


def test_what_runs_need_is_what_the_smallest_needs():
    known = {"draws": 1, "seconds": None, "energy_j": None, "phases": {}, "labels": 0, "peak_memory_bytes": 9e9, "memory_bytes": 1}
    on_processors = Typical(**known, resident_bytes=1 << 20, gpu=None, least_memory_bytes=3 << 20)
    assert Needs.of(on_processors) == Needs(3 << 20, 2 << 20, largest=on_processors)
    on_gpu = Typical(**known, resident_bytes=0, gpu="L4", least_memory_bytes=3 << 20)
    assert Needs.of(on_gpu, 2) == Needs(None, 3 << 20, 2, on_gpu)
    assert Needs.of(Typical(**known, resident_bytes=0, gpu=None)) == Needs()


def test_as_many_share_a_gpu_as_were_asked_for_and_its_memory_and_processors_are_enough_for():
    known = {"draws": 1, "seconds": None, "energy_j": None, "phases": {}, "labels": 0, "memory_bytes": 1, "resident_bytes": 0}
    needs = Needs.of(Typical(**known, peak_memory_bytes=9 << 30, gpu="L4", least_memory_bytes=3 << 20), 3)
    assert needs.sharing(48 << 30, 8) == (3, "")
    assert needs.sharing(24 << 30, 8) == (2, "3 would take 29.1 GiB of its 24.0 GiB")
    assert needs.sharing(12 << 30, 8) == (1, "3 would take 29.1 GiB of its 12.0 GiB")
    assert needs.sharing(48 << 30, 2) == (2, "3 would have less than a processor each")
    assert needs.sharing(None, 8) == (1, "how much memory a run takes is unknown")
    assert Needs().sharing(48 << 30, 8) == (1, "")
    assert sum(ray_launcher._part(7) for _ in range(7)) <= 1.0


def test_who_shares_a_gpu_is_known_by_the_one_that_ray_has_chosen(monkeypatch):
    """Places are dealt out by us, GPUs by Ray: of two places of one GPU one may come to another after a restart."""
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "get", lambda answer: answer)

    def seat(gpu):
        said = iter([([], None)] * 3 + [([], 0)])
        names = {"about": lambda: (7, gpu), "hear": lambda: next(said), "tell": None}
        return SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in names.items()})

    def ended(worker):
        list(worker.stdout)
        return worker.device

    assert ended(RemoteWorker(seat("1"), "box/1")) == "box/1 GPU 1"
    assert ended(RemoteWorker(seat(""), "")) == ""
    supervisor, sent = object.__new__(Supervisor), {}
    supervisor._send = lambda process, record: sent.update({process.pid: record})
    devices = [("GPU 0", "GPU 1"), ("GPU 1", "GPU 1"), ("GPU 0", "")]
    supervisor._workers = [
        _Worker(i, launching.Place(f"{i}", of_place), SimpleNamespace(pid=i, device=by_ray), waiting=False)
        for i, (of_place, by_ray) in enumerate(devices)
    ]
    supervisor._introduce()
    assert {pid: record["neighbours"] for pid, record in sent.items()} == {0: [1], 1: [0], 2: []}


def test_what_a_worker_is_told_reaches_it_in_order_and_what_it_says_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(launching.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text('#!/bin/sh\nread a; read b; echo "$a then $b"; echo $COLOUR >&2; exit 7\n')
    (tmp_path / "python").chmod(0o755)
    seat = ray_launcher.Seat([], str(tmp_path), {"COLOUR": "green"})
    seat.tell(1, "two\n")
    seat.tell(0, "one\n")
    heard, code = [], None
    while code is None:
        said, code = seat.hear()
        heard += said
    assert (sorted(heard), code) == ([(1, "one then two\n"), (2, "green\n")], 7)


def test_a_machine_without_the_studys_folder_says_so(tmp_path):
    seat = ray_launcher.Seat([], str(tmp_path / "nowhere"), {})
    ((stream, text),), code = seat.hear()
    assert (stream, code) == (2, None)
    assert "is not on this machine" in text
    assert seat.hear() == ([], 4)
    seat.tell(0, "x")
    seat.send_signal(signal.SIGINT)
    assert seat.about()[0] is None


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["worker", "s.py", "--platform", "aws", "--yes"], ["worker", "s.py", "--yes"]),
        (["worker", "--platform=aws", "s.py"], ["worker", "s.py"]),
        (["worker", "s.py"], ["worker", "s.py"]),
    ],
)
def test_a_nodes_label_goes_before_the_flag(words, kept):
    assert ray_launcher._without(words, "--platform") == kept


@pytest.mark.parametrize(
    ("offer", "label"),
    [("aws:g6.xlarge", "aws_g6.xlarge"), ("vast", "vast"), ("no_such", "no_such")],
)
def test_a_label_names_an_offer_as_far_as_rays_labels_can(offer, label):
    labels = pytest.importorskip("ray._private.label_utils")
    assert labels.parse_node_labels_string(f"{ray_nodes.OFFER_LABEL}={label}"), "Ray takes it"
    assert ray_nodes.offer_of(label) == offer
    instance = next(o for o in prices.load() if "_" in o.instance)
    assert ray_nodes.offer_of(instance.name.replace(":", "_")) == instance.name
