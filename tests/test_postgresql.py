"""Sweeps by the real command on a PostgreSQL server that is restarted, and away, in the middle."""

import time

import pytest
from places import Place

from workbench.ledger import Ledger
from workbench.result import by_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

AWAY = "The ledger is away ("


def results(url):
    return Ledger.find(None, url).results(running=True)


def assert_whole(url, trials):
    """All runs are there, once, and nobody is at any."""
    found = results(url)
    assert {r.status for r in found} == {"complete"}
    recipes = [r.recipe_id for r in found]
    assert sorted(set(recipes)) == sorted(recipes)
    assert len(by_run(found)) == trials
    assert Ledger.find(None, url).leases() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_restarted_and_away_ends_no_sweep(tmp_path, tiny, postgresql, workers):
    place = Place(tmp_path, tiny, train=128, epochs=4)
    process = place.start("--storage", postgresql.url, "--trials", "4", "--workers", str(workers))
    place.until("[1/4] trial", process)
    postgresql.restart()
    place.until("[2/4] trial", process)
    told = place.said.count(AWAY)
    postgresql.stop()
    place.until(AWAY, process, times=told + 1)
    time.sleep(1.5)  # so that it is tried again, and again in vain
    postgresql.start()
    assert process.wait(timeout=300) == 0, place.said
    assert_whole(postgresql.url, 4)
    assert "tried again for 10 minutes; nothing is lost." in place.said
    assert "The ledger is back." in place.said
    assert "you stopped it" not in place.said
    assert "Traceback" not in place.said
    assert "The sweep ended: 4 of 4 trials are done." in place.said


def test_a_worker_that_is_killed_while_the_server_is_away_loses_nothing_that_it_had_made(tmp_path, tiny, postgresql):
    place = Place(tmp_path, tiny, train=256, epochs=8)
    process = place.start("--storage", postgresql.url, "--trials", "2")
    place.until("trial 0", process)
    postgresql.stop()
    place.until("the result is kept here", process)
    process.kill()
    process.wait()
    kept = list(tmp_path.rglob("unwritten/*.json"))
    assert kept
    postgresql.start()
    said = place.finish("--storage", postgresql.url, "--trials", "2")
    assert said.count("is in the ledger now") >= len(kept)
    found = results(postgresql.url)
    recipes = [r.recipe_id for r in found if r.status == "complete"]
    assert sorted(set(recipes)) == sorted(recipes)
    assert len(by_run(found)) == 2
    assert not [*tmp_path.rglob("unwritten/*.json"), *tmp_path.rglob("unwritten/*.beat")]
