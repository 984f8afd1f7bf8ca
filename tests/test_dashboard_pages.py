"""The pages Prices, Curves, What matters, Data size, Progress, Serving and Failures, as Streamlit runs them, in all states."""

import json
import sys
from dataclasses import replace

import made
import pytest
import streamlit
import sweeps
from commands import DASHBOARDS
from streamlit.testing.v1 import AppTest
from sweeps import failed, ledger_of, numbered, result
from test_watching import CALM, served

from workbench.forecast import calibration
from workbench.ledger import Ledger
from workbench.report.axes import AXES
from workbench.usage import Usage, Work
from workbench.watching import history

pytestmark = pytest.mark.usefixtures("no_components")

PAGES = ("prices", "curves", "matters", "data_size", "progress", "failures")


OURS = ("context", "choices", "views", "parts", "states", "words", "links")


@pytest.fixture(autouse=True)
def dashboards(monkeypatch, tmp_path):
    """The pages' folder as the script has it, and no settings of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DASHBOARDS))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A ledger of a sweep that ended: 14 runs, one of them out of memory."""
    results = [*sweeps.sweep(14), failed("big", "out_of_memory: 3 GiB", model="l6", method="full")]
    limits = {"trials": 15, "max_usd": 0.5}
    return ledger_of(tmp_path_factory.mktemp("swept"), numbered(results), ended="15 of 15 trials are done", limits=limits)


def opened(monkeypatch, url, *pages, **query):
    """Pages after their first run, one under the other."""
    monkeypatch.setenv("WORKBENCH_STORAGE", url)

    def script(pages):
        import importlib

        from context import open_context

        context = open_context({})
        for page in pages if context is not None else ():
            importlib.import_module(f"views.{page}").show(context)

    at = AppTest.from_function(script, args=(pages,), default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def said(at):
    """All text of a page, as it reads."""
    texts = [element.value for kind in ("markdown", "caption", "info", "warning", "error") for element in getattr(at, kind)]
    return " ".join(texts).replace("\\", "")


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("prices", "The cheapest place for f1 "),
        ("curves", "Longer training still pays: "),
        ("matters", "depends most on "),
        ("data_size", "The best is "),
        ("progress", "The sweep ended: 15 of 15 trials are done. 15 of 15 runs begun, 1 infeasible."),
        ("failures", "1 of 15 runs failed at some point (1 out of memory)"),
    ],
)
def test_each_page_opens_with_the_sentence_that_answers_its_question(monkeypatch, swept, page, sentence):
    at = opened(monkeypatch, swept, page)
    assert not at.exception
    assert sentence in said(at)
    charts = at.get("plotly_chart")
    assert charts
    assert all(chart.proto.alt for chart in charts), "each figure has its text"


def test_nothing_yet_is_said_so(monkeypatch, tmp_path):
    at = opened(monkeypatch, ledger_of(tmp_path, []), *PAGES)
    assert not at.exception
    text = said(at)
    assert text.count("No run has finished yet.") == 4
    assert "No sweep has begun yet." in text
    assert "No run has finished or failed yet." in text
    assert not at.get("plotly_chart")


def test_where_all_failed_it_says_of_what(monkeypatch, tmp_path):
    broken = [failed("a", "out_of_memory: 3 GiB"), failed("b", "diverged: nan")]
    at = opened(monkeypatch, ledger_of(tmp_path, numbered(broken), limits={"trials": None}), *PAGES)
    assert not at.exception
    text = said(at)
    assert text.count("None of 2 runs came to an end.") == 4
    assert "2 runs begun, 2 infeasible" in text
    assert "2 of 2 runs failed at some point" in text


ODD = """
[[offers]]
platform = "acme"
instance = "odd"
gpu = "NoSuchGPU"
gpus = 1
amount = 1.0
source = "quote"
date = "2026-01-01"
"""


def test_an_unknown_cost_is_unknown(monkeypatch, tmp_path):
    """On a GPU of which nothing is known no run of a processor has a price."""
    (tmp_path / "workbench.toml").write_text(ODD)
    at = opened(monkeypatch, ledger_of(tmp_path, sweeps.sweep(9), platform="acme"), *PAGES)
    assert not at.exception
    text = said(at)
    assert "The cheapest place for f1 " in text, "elsewhere it is known"
    assert "Longer training still pays" in text, "by steps"
    assert "No finished run has a known cost on acme" in text
    assert "Nothing is known to be on the front at these prices." in text
    assert "Nothing failed" in text
    assert next(metric.value for metric in at.metric if metric.label == "Hypervolume") == "unknown"


def test_prices_follow_the_target_and_spot_is_asked_for(monkeypatch, swept):
    at = opened(monkeypatch, swept, "prices")
    first = said(at)
    assert all(address.startswith("/run?id=") for address in at.dataframe[0].value["trial"])
    assert "spot" not in at.dataframe[0].value["offer"].str.cat()
    at.slider(key="prices_target").set_value(at.slider(key="prices_target").min).run()
    assert said(at) != first
    at.checkbox(key="prices_spot").check().run()
    assert "spot" in at.dataframe[0].value["offer"].str.cat()
    assert {"source", "date", "basis", "from", "to"} <= set(at.dataframe[0].value.columns)


def test_curves_can_be_chosen_among(monkeypatch, swept):
    at = opened(monkeypatch, swept, "curves")
    assert "14 of 14 runs" in said(at)
    at.slider(key="curves_count").set_value(5).run()
    assert "5 of 14 runs" in said(at)
    at.text_input(key="curves_trials").set_value("0, 4").run()
    assert "2 of 14 runs" in said(at)
    at.text_input(key="curves_trials").set_value("999").run()
    assert "No run is selected." in said(at)
    along = opened(monkeypatch, swept, "curves", curves_axis=AXES["usd"].title)  # as in an address that was sent to one
    assert along.selectbox(key="curves_axis").value == "usd"
    assert not along.exception


def test_each_setting_can_be_looked_at(monkeypatch, swept):
    at = opened(monkeypatch, swept, "matters")
    for name in at.selectbox(key="matters_setting").options:
        at.selectbox(key="matters_setting").select(name).run()
        assert not at.exception
        assert "Best f1 by " in said(at)


def test_models_have_lines_too(monkeypatch, swept):
    at = opened(monkeypatch, swept, "data_size")
    at.radio(key="data_size_by").set_value("model").run()
    assert not at.exception
    assert set(at.dataframe[0].value[""]) == {"l2", "l3", "l6"}


def test_the_live_strip_tells_of_workers_and_stops_when_the_sweep_has_ended(monkeypatch, tmp_path):
    running = replace(result("new", 2, f1=None, seconds=7.0), status="running", reason="")
    url = ledger_of(tmp_path, sweeps.sweep(9), running=[running], limits={"trials": 20, "max_usd": 1.0})
    every, fragment = [], streamlit.fragment
    monkeypatch.setattr(streamlit, "fragment", lambda f, run_every: every.append(run_every) or fragment(f, run_every=run_every))
    at = opened(monkeypatch, url, "progress")
    assert not at.exception
    text = said(at)
    assert "1 worker at work: 10 of 20 runs begun." in text
    assert "since its last result, heartbeat" in text
    assert "lora on l3, 512 labels, 2 epochs; 7.0 s since its last result" in text
    assert {metric.label for metric in at.metric} >= {"Spent", "Burn rate", "About left", "Hypervolume"}
    ledger = Ledger.find(None, url)
    for lease, _ in ledger.leases():
        ledger.release(lease)
    ledger.note_end("you stopped it")
    at.run()
    assert "The sweep ended: you stopped it." in said(at)
    assert "heartbeat" not in said(at)
    assert every == [2.0, None]


def test_a_run_tells_how_near_to_the_limit_it_was_made(monkeypatch, tmp_path):
    train = Usage(seconds=8.0, work=Work(tokens=60, padded_tokens=80, flops=2e11, formula="f"))
    device = {"device": {"cpu": "some CPU", "cpus_held": 2.0}}
    url = ledger_of(tmp_path, [result("a", spent={"load": Usage(seconds=2.0), "train": train}, provenance=device)])
    at = opened(monkeypatch, url, "run", id="0")
    assert not at.exception
    assert "75 % tokens that are no padding" in said(at)
    file = tmp_path / calibration.FILE
    file.parent.mkdir(exist_ok=True)
    made = calibration.Calibration("2 x some CPU", "2026-01-01", {}, (), peak_flops=1e11)
    file.write_text(json.dumps(made.to_json()))
    at = opened(monkeypatch, url, "run", id="0")
    assert "20 % of the machine's peak (100 GFLOP/s)" in said(at)
    (table,) = [t.value for t in at.dataframe if "factor" in t.value.columns]
    assert [*table["share"]] == ["75 %", "100 %", "33.3 %", "80 %", "20 %"]
    file.write_text("{}")  # what cannot be read is unknown
    assert "tokens that are no padding" in said(opened(monkeypatch, url, "run", id="0"))
    assert "tokens that are no padding" in said(opened(monkeypatch, url, "progress"))


def test_a_store_that_is_gone_is_said_and_not_raised(monkeypatch, tmp_path):
    at = opened(monkeypatch, f"sqlite:///{tmp_path / 'gone.db'}", "curves")
    assert not at.exception
    assert "There is no ledger" in said(at)


def test_a_served_model_is_shown_with_its_alarm_and_its_rivals(monkeypatch, swept, tmp_path):
    url = made.write(tmp_path, made.runs(9))
    ledger = Ledger.find(None, url)
    best = max(ledger.results(), key=lambda r: r.scores["f1"])
    served(
        history.log_file("news", tmp_path / history.FOLDER), 0, [CALM] * 500 + [(0.5, 0.3, 0.2)] * 500,
        study=ledger.name, recipe_id=best.recipe_id, metric="f1", score=best.scores["f1"],
    )  # fmt: skip
    at = opened(monkeypatch, url, "serving")
    assert not at.exception
    text = said(at)
    assert "negative rose from" in text
    assert "Drift against the dev set: the share of classes in the last 500 rows" in text
    assert [metric.value for metric in at.metric][:2] == ["runs", "1,000"]
    (chart,) = at.get("plotly_chart")
    assert "negative rose" in chart.proto.alt
    rivals = at.dataframe[-1].value
    assert list(rivals["against what is served"]).count("is served") == 1
    assert rivals["US$ for 1,000"].notna().all()
    assert "No model of this study was served" in said(opened(monkeypatch, swept, "serving"))
