"""Optuna's own tools on our ledger: its library reads it, its dashboard shows it."""

import io
import json
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest

from workbench.ledger import Ledger, default_url


@pytest.fixture(scope="module")
def url(swept):
    return default_url(swept[0])


@pytest.fixture(scope="module")
def results(url):
    return Ledger.find("tiny", url).results()


@pytest.fixture(scope="module")
def dashboard(url):
    app = optuna_dashboard.wsgi(url)

    def get(path):
        environ, said = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "wsgi.input": io.BytesIO()}, {}
        setup_testing_defaults(environ)
        body = b"".join(app(environ, lambda status, headers, *_: said.update(status=status)))
        assert said["status"].startswith("200"), body
        return json.loads(body)

    return get


def test_optuna_loads_the_study_and_finds_its_front(url, results):
    name = Ledger.find("tiny", url).name
    study = optuna.load_study(study_name=name, storage=url)
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "usd"]
    assert [t.values[0] for t in study.trials] == [r.scores["accuracy"] for r in results]
    best = {t.number for t in study.best_trials}
    scores = {r.number: r.scores["accuracy"] for r in results}
    assert best
    assert max(scores[number] for number in best) == max(scores.values())
    assert len(study.trials_dataframe()) == len(results)


def test_the_dashboard_shows_study_trials_and_values(url, results, dashboard):
    summaries = dashboard("/api/studies")["study_summaries"]
    shown = next(s for s in summaries if s["study_name"] == Ledger.find("tiny", url).name)
    assert shown["directions"] == ["maximize", "minimize"]
    detail = dashboard(f"/api/studies/{shown['study_id']}")
    assert [t["number"] for t in detail["trials"]] == [r.number for r in results]
    assert {t["state"] for t in detail["trials"]} == {"Complete"}
    assert [t["values"][0] for t in detail["trials"]] == [r.scores["accuracy"] for r in results]
    assert all(t["values"][1] > 0 for t in detail["trials"])
    methods = [next(p["param_external_value"] for p in t["params"] if p["name"] == "method") for t in detail["trials"]]
    assert methods == [r.method for r in results]
    assert detail["best_trials"]
    assert len(summaries) == 1  # no study that is half made
