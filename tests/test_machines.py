"""The machines of a sweep, as `status` and the dashboard tell of them."""

import json

import pytest
from sweeps import ledger_of, numbered, result

from workbench.report.machines import machines, with_workers

SMALL = {"id": "s", "name": "desk:cpu", "platform": "desk", "instance": "cpu", "gpus": 0, "usd_per_hour": "0.36"}
LARGE = {"id": "l", "name": "aws:g6", "platform": "aws", "instance": "g6", "gpus": 0, "usd_per_hour": "3.6"}
CPU = {"cpu": "EPYC", "cpus_held": 4.0}
GPU = {"gpus": [{"name": "NVIDIA L4"}, {"name": "NVIDIA L4"}]}


def made():
    return numbered(
        [
            result("a", 1.0, 50.0, 100.0, offer=SMALL, provenance={"host": "one", "device": CPU}),
            result("a", 2.0, 60.0, 100.0, offer=SMALL, provenance={"host": "one", "device": CPU}),
            result("b", 1.0, 70.0, 10.0, offer=LARGE, provenance={"host": "two", "device": GPU}),
        ]
    )


def test_each_machine_has_its_rate_and_its_bill_at_its_own_offer():
    one, two = with_workers(machines(made()), [])
    assert (one.host, one.device, one.offer, one.usd_per_hour) == ("one", "4 x EPYC", "desk:cpu", 0.36)
    assert (one.results, one.seconds, one.results_per_hour) == (2, 200.0, 36.0)
    assert one.usd == pytest.approx(0.02)
    assert (two.device, two.results_per_hour, two.usd) == ("2 x NVIDIA L4", 360.0, pytest.approx(0.01))
    assert str(two) == "two (2 x NVIDIA L4), aws:g6 at $3.60 an hour: 1 result, 360 an hour of work, $0.01 spent."


def test_who_is_silent_is_said_and_who_works_is_counted():
    running = result("c", 1.0, None, 20.0, status="running", offer=LARGE, provenance={"device": GPU})
    known = machines(made())
    _, two = with_workers(known, [("two", running, True, 0.4), ("two", running, False, 120.0)])
    assert (two.workers, two.silent_seconds, two.results, two.seconds) == (1, (120.0,), 1, 50.0)
    assert str(two).endswith("; 1 worker at work; 1 worker silent for 2 min 00 s.")
    assert len(with_workers(known, [("three", running, True, 0.0)])) == 3


def test_what_an_older_form_of_the_study_paid_for_is_no_work_of_a_machine():
    assert machines([result("a", provenance={"taken_over_from": "x"})]) == {}


def test_status_tells_of_machines_where_there_are_several(command, tmp_path):
    running = result("c", 1.0, None, 20.0, status="running", offer=LARGE, provenance={"device": GPU, "host": "x"}, number=9)
    url = ledger_of(tmp_path, made(), running=[running], limits={"trials": 9})
    code, out, err = command("status", "--storage", url)
    assert code == 0, err
    assert "one (4 x EPYC), desk:cpu at $0.36 an hour: 2 results, 36 an hour of work" in out
    told = json.loads(command("status", "--storage", url, "--json")[1])["machines"]
    assert [(m["offer"], m["results"]) for m in told if m["results"]] == [("desk:cpu", 2), ("aws:g6", 1)]
    assert sum(m["workers"] for m in told) == 1
