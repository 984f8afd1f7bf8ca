"""The dashboard's pages: what they say, what can be chosen, and what they show where there is nothing to show."""

import contextlib
import json
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import made
import pytest
from commands import DASHBOARDS
from optuna.trial import TrialState, create_trial
from servers import free_port
from streamlit.testing.v1 import AppTest

from workbench import prices, quantities
from workbench.cli import dashboard
from workbench.errors import EnvironmentFault
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.ledger import Ledger
from workbench.ledger.create import RESULT
from workbench.ledger.leases import lease_record
from workbench.quantities import many
from workbench.report import answers
from workbench.report.answers import cost_text
from workbench.report.axes import AXES
from workbench.report.caveats import doubts
from workbench.report.reproduce import reproduce
from workbench.report.text import describe

pytestmark = pytest.mark.usefixtures("no_components")

APP = DASHBOARDS / "app.py"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ledger of thirty runs, some of which came to nothing."""
    return made.write(tmp_path_factory.mktemp("ledger"), [*made.runs(30), made.failed(90), made.failed(91)])


def view(url: str, **changes: object) -> tuple[list, View]:
    ledger = Ledger.find(None, url)
    of = View.of(ledger.description, prices.find("local"), 0.0)
    return ledger.results(), replace(of, **changes)


def said(test: AppTest) -> str:
    assert not test.exception, test.exception
    shown = [*test.markdown, *test.caption, *test.info, *test.warning, *test.error, *test.subheader, *test.code]
    return "\n".join(e.value for e in shown).replace("\\", "")


def test_the_app_opens_on_the_front(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORAGE", ledger)
    test = AppTest.from_file(str(APP), default_timeout=60).run()
    assert answers.answer(Points.of(*view(ledger))) in said(test)


def test_the_home_page_gives_the_answer_that_the_command_gives(ledger: str, page) -> None:
    test = page(ledger)
    results, of = view(ledger)
    assert answers.answer(Points.of(results, of)) in said(test)
    assert made.QUESTION in said(test)
    best = max((r for r in results if r.scores), key=lambda r: r.scores["f1"])
    assert [m.value for m in test.metric] == [
        f"{best.scores['f1']:.1f}",
        *(cost_text(of, best, n) for n in ("usd", "seconds")),
    ]


def test_the_sliders_ask_for_a_budget_and_a_target(ledger: str, page) -> None:
    test = page(ledger)
    results, of = view(ledger)
    test.select_slider(key="budget_usd").set_value(0.5).run()
    assert answers.answer(Points.of(results, of), budget_usd=0.5) in said(test)
    test.slider(key="target").set_value(60.0).run()
    assert answers.answer(Points.of(results, of), budget_usd=0.5, target=60.0) in said(test)


def test_an_address_says_what_its_reader_saw(ledger: str, page) -> None:
    results, of = view(ledger, minimize=("seconds",), label_usd=0.1)
    test = page(ledger, cost="seconds", target="70", label_usd="0.1", platform="local:cpu:owned", hide_stopped="true")
    assert answers.answer(Points.of(results, of), target=70.0) in said(test)
    assert test.toggle(key="hide_stopped").value is True
    dearer = page(ledger, label_usd="0.1")
    assert answers.answer(Points.of(*view(ledger, label_usd=0.1))) in said(dearer)


def test_another_offer_prices_every_run_anew(ledger: str, page) -> None:
    results, _ = view(ledger)
    offer = prices.find("aws:p4d.24xlarge")
    test = page(ledger, platform=offer.name)
    assert offer.name in said(test)
    assert answers.answer(Points.of(results, View.of(made.describe(), offer, 0.0))) in said(test)


def test_a_point_that_was_chosen_has_its_panel_and_leads_to_its_run(ledger: str, page) -> None:
    results, of = view(ledger)
    cheap = pareto_front(results, of)[0]
    test = page(ledger, point=str(cheap.number))
    assert "The point you chose" in said(test)
    assert describe(cheap) in said(test)


def test_the_table_of_the_front_tells_what_a_point_more_costs(ledger: str, page) -> None:
    table = page(ledger).dataframe[0].value
    results, of = view(ledger)
    members = pareto_front(results, of)
    assert list(table["trial"]) == [r.trial for r in members]
    extra = (of.cost(members[1], "usd") - of.cost(members[0], "usd")) / (members[1].scores["f1"] - members[0].scores["f1"])
    assert table["marginal"][1] == pytest.approx(extra)


def test_confirmed_points_stand_at_their_means(tmp_path: Path, page) -> None:
    found = made.runs(12)
    results = [replace(r, number=i, trial=i) for i, r in enumerate(found)]
    best = max(results, key=lambda r: r.scores["f1"])
    url = made.write(tmp_path, [*found, *(made.again(best, s, best.scores["f1"] - s) for s in (1, 2, 3))])
    test = page(url)
    assert f"{best.scores['f1'] - 2:.1f}" in said(test)
    assert "3 new seeds" in said(test)
    assert answers.answer(Points.of(*view(url))) in said(test)


def test_the_home_page_says_what_the_command_doubts(tmp_path: Path, page) -> None:
    url = made.write(tmp_path, made.runs(9))
    assert "grade every point" not in said(page(url))
    grading = {"dev_examples": 48, "graded_examples": 48, "constant_score": 99.0}
    Ledger.find(None, url).note_grading(grading)
    told = doubts(*view(url), grading)
    assert len(told) == 2
    text = said(page(url))
    assert all(doubt in text for doubt in told)


def test_the_answer_is_worked_out_once_each_time(tmp_path: Path, page, monkeypatch: pytest.MonkeyPatch) -> None:
    url = made.write(tmp_path, made.runs(9))
    page(url)  # imports the page
    calls = []
    monkeypatch.setattr(
        sys.modules["views.front"], "answer", lambda *args, **asked: calls.append(asked) or answers.answer(*args, **asked)
    )
    page(url)
    assert calls == [{"budget": None, "target": None}]


def test_labels_of_their_own_are_a_third_axis(tmp_path: Path, page) -> None:
    url = made.write(tmp_path, made.runs(9), minimize=("usd_compute", "labels"))
    test = page(url)
    assert answers.answer(Points.of(*view(url))) in said(test)
    assert [tab.label for tab in test.tabs] == ["Cost and quality", "Three axes"]


NAMES = sorted(path.stem for path in (APP.parent / "views").glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_page_opens(ledger: str, page, name: str) -> None:
    assert len(said(page(ledger, name, id="0"))) > 10


def test_compare_names_the_best_method_under_each_budget_and_what_differs_between_runs(ledger: str, page) -> None:
    test = page(ledger, "compare")
    budgets, runs = (frame.value for frame in test.dataframe)
    results, of = view(ledger)
    for _, row in budgets.iterrows():
        starred = [method for method in budgets.columns[1:] if row[method].startswith("★")]
        sentence = answers.answer(Points.of(results, of), budget_usd=float(row["budget"].strip("$").replace(",", "")))
        assert [f"best is {method} " in sentence for method in starred] == [True]
    test.multiselect(key="compare").set_value(["0", "3", "4"]).run()
    assert test.query_params["runs"] == "0,3,4"
    assert list(test.dataframe[1].value.columns) == ["", "run 0", "run 3", "run 4"]
    assert "batch_size" not in set(runs[""])
    assert all(len(set(row[1:])) > 1 for row in runs.itertuples(index=False))


def test_runs_are_filtered_and_sorted_by_number(ledger: str, page) -> None:
    test = page(ledger, "runs")
    table = test.dataframe[0].value
    results, _ = view(ledger)
    assert len(table) == len({r.run_id for r in results}) == 32
    assert table["f1"].dtype.kind == table["usd"].dtype.kind == "f"
    assert table["open"][0].endswith("id=0")
    test.multiselect(key="runs_status").set_value(["infeasible"]).run()
    assert list(test.dataframe[0].value["reason"]) == ["out_of_memory: 24 GiB asked for"] * 2


def test_a_run_has_its_bill_its_settings_and_the_way_to_make_it_again(tmp_path: Path, page) -> None:
    url = made.write(tmp_path, made.runs(3), path="studies/mine.py")
    test = page(url, "run", id="0")
    results, _ = view(url)
    last = max((r for r in results if r.trial == 0), key=lambda r: r.epochs)
    assert describe(last) in said(test)
    assert reproduce(last, {"path": "studies/mine.py"}) in said(test)
    checkpoints, bill, _, settings = (frame.value for frame in test.dataframe)
    assert list(checkpoints["epochs"]) == [1.0, 2.0, 4.0]
    assert list(bill["phase"]) == ["load", "train", "evaluate"]
    assert "method.learning_rate" in set(settings["setting"])


def test_a_run_that_is_not_there_leads_to_those_that_are(ledger: str, page) -> None:
    test = page(ledger, "run", id="7777")
    assert "no run '7777'" in said(test)


# Where there is nothing to show


def test_without_a_ledger_the_page_says_what_to_do(tmp_path: Path, page) -> None:
    assert "workbench sweep STUDY" in said(page(f"sqlite:///{tmp_path / 'none.db'}"))


def test_a_store_that_is_none_is_said_to_be_none(tmp_path: Path, page) -> None:
    (tmp_path / "optuna.db").write_text("notes of mine, and no database\n" * 100)
    assert "not a database" in said(page(f"sqlite:///{tmp_path / 'optuna.db'}"))


def test_a_server_that_does_not_answer_is_an_error_and_no_crash(page) -> None:
    assert "cannot be used" in said(page("postgresql+psycopg2://nobody@127.0.0.1:1/none"))


@pytest.mark.parametrize("name", NAMES)
def test_a_study_in_which_nothing_was_finished_has_every_page(tmp_path: Path, page, name: str) -> None:
    url = made.write(tmp_path, [])
    assert "No run" in said(page(url, name)) or name not in ("front", "compare", "runs", "run")


@pytest.mark.parametrize("name", NAMES)
def test_a_study_in_which_all_failed_says_why(tmp_path: Path, page, name: str) -> None:
    url = made.write(tmp_path, [made.failed(1), made.failed(2)])
    text = said(page(url, name, id="0"))
    assert "24 GiB asked for" in text or name not in ("front", "compare", "run")


def test_a_run_that_is_being_made_and_one_that_is_half_written_are_no_points_yet(tmp_path: Path, page) -> None:
    url = made.write(tmp_path, [])
    ledger = Ledger.find(None, url)
    lease = create_trial(state=TrialState.RUNNING, user_attrs={"workbench:lease": lease_record(made.run(50), {})})
    ledger._storage.create_new_trial(ledger._study_id, lease)
    ledger._storage.create_new_trial(ledger._study_id)  # its worker was killed before it wrote a word
    half = ledger._storage.create_new_trial(ledger._study_id, lease)
    ledger._storage.set_trial_user_attr(half, RESULT, made.run(4).to_json(compact=True))
    for name in NAMES:
        assert "2 runs being made" in said(page(url, name, id="0")) or name != "front"
    made.write(tmp_path, made.runs(4))
    assert "2 runs being made now" in said(page(url))
    assert len(page(url, "runs").dataframe[0].value) == 5  # four that were finished, and one that two workers hold


def test_samples_of_predictions_are_shown_where_there_are_some(tmp_path: Path, page) -> None:
    samples = [{"example": {"id": "7", "question": "Who?", "answers": {"text": ["Ada"]}}, "prediction": "Ada L."}]
    with_some, without = made.run(0), made.run(1)
    url = made.write(tmp_path, [replace(with_some, samples=samples), without])
    (table,) = [t.value for t in page(url, "run", id="0").dataframe if "prediction" in t.value.columns]
    assert table.to_dict("records") == [{"prediction": "Ada L.", "question": "Who?", "answers.text": "['Ada']"}]
    assert not any("prediction" in t.value.columns for t in page(url, "run", id="1").dataframe)


def test_several_studies_are_chosen_between(tmp_path: Path, page) -> None:
    made.write(tmp_path, made.runs(3), name="old-00000000")
    url = made.write(tmp_path, made.runs(6), name="new-00000000")
    test = page(url)
    assert test.selectbox(key="study").value == "new-00000000"
    old = page(url, study="old-00000000")
    assert answers.answer(Points.of(Ledger.find("old", url).results(), view(url)[1])) in said(old)
    assert "Did you mean" in said(page(url, study="odl-00000000"))


# The ledger is only read


def test_a_reader_cannot_write(ledger: str) -> None:
    reader = Ledger.find(None, ledger, read_only=True)
    assert len(reader.read().results) == len(Ledger.find(None, ledger).results())
    with pytest.raises(EnvironmentFault, match="readonly"):
        reader.note_end("never")


def test_a_reader_sees_what_is_written_beside_it(tmp_path: Path) -> None:
    url = made.write(tmp_path, made.runs(2))
    reader = Ledger.find(None, url, read_only=True)
    before = reader.read()
    made.write(tmp_path, [made.run(50)])
    assert len(reader.read().results) == len(before.results) + 1
    assert reader.read().mlflow_runs.keys() - before.mlflow_runs.keys() == {"run000050"}


@pytest.mark.slow
def test_readers_and_a_writer_do_not_get_in_each_other_s_way(tmp_path: Path) -> None:
    url = made.write(tmp_path, made.runs(2))
    done = threading.Event()
    faults: list[BaseException] = []

    def read(seen: list[int]) -> None:
        try:
            while not done.is_set():
                seen.append(len(Ledger.find(None, url, read_only=True).read().results))
        except BaseException as error:
            faults.append(error)

    seen: list[list[int]] = [[], [], []]
    readers = [threading.Thread(target=read, args=(each,)) for each in seen]
    for reader in readers:
        reader.start()
    try:
        while not all(seen) and not faults:  # all of them are at it before anything is written
            time.sleep(0.01)
        made.write(tmp_path, [made.run(n) for n in range(100, 130)])
        until = [len(each) + 2 for each in seen]
        while any(len(each) < most for each, most in zip(seen, until, strict=True)) and not faults:
            time.sleep(0.01)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not faults
    assert all(each == sorted(each) for each in seen)  # they read while it was written, and lost nothing
    assert {(each[0], each[-1]) for each in seen} == {(4, 34)}
    assert len(Ledger.find(None, url).results()) == 34


def test_a_reader_that_stands_still_in_a_transaction_blocks_no_writer(tmp_path: Path) -> None:
    url = made.write(tmp_path, made.runs(2))
    held = sqlite3.connect(f"file:{tmp_path / 'optuna.db'}?mode=ro", uri=True)
    held.execute("BEGIN")
    held.execute("SELECT count(*) FROM trials").fetchone()
    made.write(tmp_path, [made.run(60)])
    assert len(Ledger.find(None, url).results()) == 5
    held.close()


# The command


def test_the_server_is_local_guarded_and_silent() -> None:
    from streamlit import config

    own = dashboard.settings("127.0.0.1", 8501)
    assert own.keys() <= config._config_options_template.keys() | {"theme.light.primaryColor", "theme.dark.primaryColor"}
    assert own["server.allowedHosts"] == ["127.0.0.1", "localhost"]
    assert (own["browser.gatherUsageStats"], own["server.enableCORS"], own["server.enableXsrfProtection"]) == (False, True, True)
    assert dashboard.settings("10.0.0.7", 1)["server.allowedHosts"] == ["10.0.0.7", "127.0.0.1", "localhost"]
    assert dashboard.settings("0.0.0.0", 1)["browser.serverAddress"] == "127.0.0.1"


def test_the_app_is_found_in_a_checkout_and_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dashboard.folder() == APP.parent
    inside = tmp_path / "workbench" / "_dashboards"
    inside.mkdir(parents=True)
    monkeypatch.setattr(dashboard, "__file__", str(tmp_path / "workbench" / "cli" / "dashboard.py"))
    with pytest.raises(EnvironmentFault, match="no dashboard"):
        dashboard.folder()
    (inside / "app.py").touch()
    assert dashboard.folder() == inside


def test_a_port_that_is_taken_is_said_to_be(command, ledger: str) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = ["--port", taken.getsockname()[1], "--storage", ledger, "--no-browser"]
        code, _, err = command("dashboard", *words)
        assert (code, "--port" in err, "everyone" in err) == (4, True, False)
        code, _, err = command("dashboard", *words, "--host", "0.0.0.0")
    assert (code, "everyone who reaches this machine there sees your runs" in err) == (4, True)


# Behind a reverse proxy


class Proxy:
    """A reverse proxy on this machine: what comes to `/bench/` goes to a port, WebSockets too.

    Args:
        port: Of the server behind it.
        strips: Whether it takes `/bench` off the path.
        host: What it says in the place of the host that it was asked for; None leaves that.
    """

    def __init__(self, port: int, *, strips: bool, host: str | None) -> None:
        self.to, self.strips, self.host = port, strips, host
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._pass_on, args=(self.listener.accept()[0],), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.to)) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536) or b"\r\n\r\n"
            if self.strips:
                head = head.replace(b" /bench/", b" /", 1)
            if self.host:
                head = re.sub(rb"(?im)^host:.*$", f"Host: {self.host}\r".encode(), head)
            head = re.sub(rb"(?im)^connection: keep-alive", b"Connection: close", head)  # one request a connection
            server.sendall(head)
            threading.Thread(target=self._pipe, args=(client, server), daemon=True).start()
            self._pipe(server, client)
            for end in (client, server):  # the other thread waits for them
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _pipe(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)


def answer(port: int, path: str, origin: str | None = None, host: str = "bench.example.org") -> tuple[int, str]:
    """Status and body of what stands at a path of the public host; with an `origin` of a WebSocket's handshake."""
    upgrade = f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\nOrigin: {origin}\r\n"
    connection = "Connection: Upgrade\r\n" + upgrade if origin else "Connection: close\r\nAccept: text/html\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{connection}\r\n".encode())
        text = client.recv(65536).decode(errors="replace")
        while not origin and (part := client.recv(65536)):
            text += part.decode(errors="replace")
    return int(text.split()[1]), text


@contextlib.contextmanager
def serving(ledger: str, folder: Path, *more: str) -> Iterator[int]:
    """The real command, and its port."""
    port = free_port()
    words = ["dashboard", "--no-browser", "--port", str(port), "--storage", ledger, *more]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "workbench", *words], cwd=folder, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "log.txt").read_text()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=2).close()
                break
            time.sleep(0.2)
        yield port
    finally:
        server.terminate()
        server.wait(20)


STREAM = "/bench/_stcore/stream"


@pytest.mark.slow
def test_behind_a_proxy_the_page_finds_its_server_and_its_websocket_is_let_in(ledger: str, tmp_path: Path) -> None:
    with serving(ledger, tmp_path, "--public-url", "https://bench.example.org/bench") as port:
        for strips in (False, True):
            for host in (None, f"127.0.0.1:{port}"):
                proxy = Proxy(port, strips=strips, host=host)
                code, _ = answer(proxy.port, STREAM, "https://bench.example.org")
                assert code == 101, (strips, host)
                assert answer(proxy.port, STREAM, "https://evil.example.org")[0] == 403
                code, text = answer(proxy.port, "/bench/")
                assert code == 200
                assert 'BACKEND_BASE_URL: location.origin + "/bench"' in text
                assert answer(proxy.port, "/bench/runs")[0] == 200
                assert answer(proxy.port, "/bench/_stcore/health")[1].endswith("ok")
                proxy.listener.close()
        assert answer(port, STREAM, f"http://127.0.0.1:{port}", f"127.0.0.1:{port}")[0] == 101  # and here as ever
        assert answer(port, STREAM, "http://evil.example.org", "evil.example.org")[0] == 403
    assert "Dashboard: https://bench.example.org/bench/, by its proxy" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_without_the_option_a_proxy_s_websocket_is_refused(ledger: str, tmp_path: Path) -> None:
    with serving(ledger, tmp_path) as port:
        for host in (None, f"127.0.0.1:{port}"):
            proxy = Proxy(port, strips=True, host=host)
            assert answer(proxy.port, STREAM, "https://bench.example.org")[0] == 403
            proxy.listener.close()


def test_links_to_runs_keep_the_path_of_the_public_address(ledger: str, page) -> None:
    from streamlit import config

    config.set_option("server.baseUrlPath", "bench")
    try:
        links = page(ledger, "runs").dataframe[0].value["open"]
    finally:
        config.set_option("server.baseUrlPath", "")
    assert all(link.startswith("/bench/run?id=") for link in links)
    assert all(link.startswith("/run?id=") for link in page(ledger, "runs").dataframe[0].value["open"])


@pytest.mark.parametrize(
    "url",
    ["bench.example.org", "ftp://a/", "https://", "https://a/../b", "https://a/b?c", "https://a/b#c", "https://u:p@a/", "https://a:x/",
     "https://a//b", "https://a/b c", "https://[a/", "https://a/%2e"],
)  # fmt: skip
def test_a_public_url_that_is_none_is_refused(command, ledger: str, url: str) -> None:
    code, _, err = command("dashboard", "--storage", ledger, "--no-browser", "--public-url", url)
    assert code == 2
    assert "https://bench.example.org/path/" in err


# What is counted is never rounded


@pytest.mark.parametrize("minimize", [("usd",), ("labels", "usd"), ("usd", "labels")])
def test_a_number_of_labels_is_shown_to_the_last_one(tmp_path: Path, page, minimize: tuple[str, ...]) -> None:
    url = made.write(tmp_path, [replace(made.run(n), labels=1024 + 1_234_000 * n) for n in range(3)], minimize=minimize)
    test = page(url)
    shown = test.dataframe[0]
    counts = {int(each) for each in shown.value["labels"]}
    assert counts <= {1024, 1_235_024, 2_469_024}
    columns = json.loads(shown.proto.columns)
    assert columns.get("labels", {}).get("type_config", {}).get("format", "%d") == "%d"
    assert any(f"{count:,} labels" in part.value for count in counts for part in test.markdown)


def test_counts_are_whole_in_words_figures_and_flags(tmp_path: Path) -> None:
    from workbench import figures
    from workbench.cli.plan import _short
    from workbench.cli.studies import limit_flags

    assert AXES["labels"].text(1_234_567.0) == "1,234,567 labels"
    assert AXES["labels"].text(1024.0) == "1,024 labels"
    assert many(12_345_678_901, "token") == "12,345,678,901 tokens"
    assert (quantities.count(0.5), quantities.count(float("inf"))) == ("0.5", "inf")
    assert limit_flags({"max_labels": 1_234_567, "max_usd": 0.1, "trials": 1}) == " --max-labels 1234567 --max-usd 0.1 --trials 1"
    assert [_short(n) for n in (999, 9_600, 999_999, 22_713_216)] == ["999", "9.6 k", "1 M", "22.7 M"]
    found = [replace(made.run(n), number=n, labels=1_234_567 + n) for n in range(8)]
    seen = View.of(made.describe(("labels",)), made.OFFER, 0.0)
    drawn = figures.html(figures.front(Points.of(found, seen), title=""))
    assert "1,234,56" in drawn
    assert "%{x:.3g}" not in drawn
