"""What waits for a ledger that is away: it is written once, by whoever comes first, and all that was consumed is charged."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from test_ledger import LORA, OFFER, Clock, abandon, away, complete, stub

from workbench import ledger as ledgers
from workbench.errors import EnvironmentFault
from workbench.ledger import Ledger, default_url
from workbench.study import load
from workbench.sweep import Unwritten
from workbench.usage import Usage, total


@pytest.fixture
def study(study_file):
    return load(study_file)


@pytest.fixture
def ledger(study, tmp_path):
    return Ledger.open(study, default_url(tmp_path))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "states"


def made(study, lease, epochs, seconds=10.0):
    """The Result of a checkpoint of the run of a lease."""
    recipe = study.resolve({**LORA, "epochs": 4}).with_epochs(epochs)
    result = replace(lease.result, recipe_id=recipe.id, settings={**LORA, "epochs": epochs})
    return complete(replace(result, recipe=recipe.to_json()), seconds=seconds, accuracy=50.0 + epochs)


def gone_on(ledger, study, unwritten, checkpoints=(1, 2)):
    """A run that went on while the ledger was away: its leases, the last of which is in hand."""
    held = [ledger.lease(study, stub(study, LORA))]
    ledger.beat(held[0], {"train": Usage(seconds=4.0)})
    for epochs in checkpoints:
        assert unwritten.keep(held[-1], made(study, held[-1], epochs))
        held.append(unwritten.lease(held[-1], stub(study, LORA)))
    return held


def found(ledger):
    return [(r.status, r.epochs, r.consumed.seconds) for r in ledger.reader().results(running=True)]


def test_a_run_goes_on_while_the_ledger_is_away_and_all_of_it_is_there_afterwards(ledger, study, folder):
    unwritten = Unwritten(folder)
    *_, hand = gone_on(ledger, study, unwritten)
    assert unwritten.waits
    assert found(ledger) == [("running", 4, 4.0)]
    seen = unwritten.overlaid(ledger.results(running=True))
    assert [(r.status, r.epochs) for r in seen] == [("complete", 1), ("complete", 2)]
    assert not hand.known
    written = unwritten.write(ledger.reader(), study, OFFER)
    assert [r.epochs for r in written] == [1, 2]
    assert hand.known
    assert not unwritten.waits
    done = ledger.finish(hand, made(study, hand, 4), study, OFFER)
    results = ledger.reader().results(running=True)
    assert sorted(r.epochs for r in results) == [1, 2, 4]
    assert {r.status for r in results} == {"complete"}
    assert {r.trial for r in results} == {done.trial}
    assert total(r.consumed for r in results).seconds == 30.0
    assert len(unwritten.overlaid(results)) == 3  # none is seen twice
    unwritten.forget(unwritten.written())
    assert unwritten.overlaid(results) == results
    assert not list((folder / "unwritten").glob("*.json"))


@pytest.mark.parametrize("times", [1, 4, 9])
def test_it_is_written_once_however_often_the_ledger_goes_away_again(ledger, study, folder, times):
    unwritten = Unwritten(folder)
    gone_on(ledger, study, unwritten)
    for late in (False, True):
        with away(ledger, times, late=late) as left:
            while left[0]:
                try:
                    unwritten.write(ledger.reader(), study, OFFER)
                    break
                except EnvironmentFault:
                    left[0] = min(left[0], times)
    unwritten.write(ledger.reader(), study, OFFER)
    assert sorted(found(ledger)) == [("complete", 1, 10.0), ("complete", 2, 10.0), ("running", 4, 0.0)]


def test_the_next_worker_in_the_folder_takes_up_what_a_killed_one_left(ledger, study, folder):
    unwritten = Unwritten(folder)
    *_, hand = gone_on(ledger, study, unwritten)
    unwritten.beat(hand, {"train": Usage(seconds=6.0)}, 8)
    (beat,) = (folder / "unwritten").glob("*.beat")
    successor = Unwritten(folder)
    successor.write(ledger.reader(), study, OFFER)
    assert beat.exists()  # its worker lives
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    beat.write_text(json.dumps(json.loads(beat.read_text()) | {"pid": child.pid, "process_started": 1.0}))
    for _ in range(2):
        Unwritten(folder).write(ledger.reader(), study, OFFER)
    charged = 6.0 + ledgers.HEARTBEAT_SECONDS
    assert sorted(found(ledger)) == [("complete", 1, 10.0), ("complete", 2, 10.0), ("interrupted", 4, charged)]
    assert not beat.exists()
    unwritten._ahead = None
    unwritten.write(ledger.reader(), study, OFFER)  # were it alive after all, it would see that others have written it
    assert not unwritten.waits
    assert len(found(ledger)) == 3


def test_who_was_silent_for_too_long_is_charged_and_has_no_result_twice(ledger, study, folder, monkeypatch, tmp_path):
    clock, unwritten = Clock(monkeypatch), Unwritten(folder)
    first, *_, hand = gone_on(ledger, study, unwritten)
    abandon(ledger, first, host="elsewhere")
    other = Ledger.find(study.name, default_url(tmp_path))
    other.reconcile(study, OFFER)
    clock.now += ledgers.SILENCE_SECONDS + 1
    assert [r.status for r in other.reconcile(study, OFFER)] == ["interrupted"]
    other.results()
    taken = other.lease(study, stub(study, LORA))
    abandon(other, taken, host="a third one")
    written = unwritten.write(ledger.reader(), study, OFFER)
    assert {r.status for r in written} == {"interrupted"}
    late = ledger.finish(hand, made(study, hand, 4), study, OFFER)
    assert late.status == "interrupted"
    assert "another one took the run up" in late.reason
    other.finish(taken, made(study, taken, 1), study, OFFER)
    results = ledger.reader().results(running=True)
    assert [r.epochs for r in results if r.status == "complete"] == [1]
    assert total(r.consumed for r in results).seconds == pytest.approx(40.0 + ledgers.HEARTBEAT_SECONDS)


def test_files_of_another_store_and_broken_ones_stay(ledger, study, folder, tmp_path):
    unwritten = Unwritten(folder)
    gone_on(ledger, study, unwritten)
    (folder / "unwritten" / "mine.json").write_text("{")
    elsewhere = Ledger.open(study, f"sqlite:///{tmp_path / 'other.db'}")
    assert Unwritten(folder).write(elsewhere, study, OFFER) == []
    assert len(list((folder / "unwritten").glob("*.json"))) == 3
    assert elsewhere.results(running=True) == []
