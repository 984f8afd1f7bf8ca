"""The dashboard in a real browser: pages open, a point is clicked, sliders move, MLflow is reached, nothing leaves the machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import made
import pytest
from servers import free_port

from workbench import prices
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.ledger import Ledger
from workbench.report import answers
from workbench.report.tables import ladder

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]

PAGES = Path(__file__).parents[1] / "dashboards" / "views"
NAMES = sorted(path.stem for path in PAGES.glob("*.py"))
READY_MS = 60_000


class _Notebook(BaseHTTPRequestHandler):
    """Stands for the MLflow UI: a page at every address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>notebook</title>the notebook")

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def notebook() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Notebook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty runs, some failed; the best point is confirmed."""
    found = [*made.runs(60), made.failed(90), made.failed(91)]
    best = max(found, key=lambda r: r.scores.get("f1", 0.0))
    again = [made.again(best, seed, best.scores["f1"] - seed) for seed in (1, 2, 3)]
    return made.write(tmp_path_factory.mktemp("ledger"), [*found, *again])


@pytest.fixture(scope="module")
def served(ledger: str, notebook: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real command, and its address."""
    port, folder = free_port(), tmp_path_factory.mktemp("served")
    words = ["dashboard", "--no-browser", "--port", str(port), "--storage", ledger, "--mlflow", notebook]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "workbench", *words], cwd=folder, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/_stcore/health", server, folder / "log.txt")
        yield address
    finally:
        server.terminate()
        server.wait(20)
    assert "Traceback" not in (folder / "log.txt").read_text()


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the server did not answer: {log.read_text()}")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


class Watched:
    """A page, and all that went wrong in it."""

    def __init__(self, browser, scheme: str, width: int = 1440, height: int = 1200) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(READY_MS)
        self.faults: list[str] = []
        self.context.on("request", self._request)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._console)

    def _request(self, request) -> None:
        if urlsplit(request.url).hostname != "127.0.0.1" and not request.url.startswith(("data:", "blob:", "about:")):
            self.faults.append(f"left the machine: {request.url}")

    def _console(self, message) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text} {message.location}")

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.settle()

    def settle(self) -> None:
        """Wait until the script has run to its end, and figures are drawn."""
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        self.page.wait_for_selector('[data-testid="stMain"] :is(h1, h2, h3, [data-testid="stAlert"])')
        self.page.wait_for_function("!document.querySelector('[data-testid=stMain] [data-testid=stSkeleton]')")
        self.page.wait_for_function("document.querySelectorAll('[data-testid=stPlotlyChart]:not(:has(.main-svg))').length === 0")

    def shot(self, name: str) -> None:
        """Keep a picture where somebody asked for pictures."""
        folder = os.environ.get("WORKBENCH_SHOTS")
        if folder:
            self.page.wait_for_timeout(700)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=False)


@pytest.fixture
def watched(browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    page = Watched(browser, getattr(request, "param", "light"))
    yield page
    page.context.close()
    assert page.faults == []


def test_every_page_opens_in_light_and_those_with_most_figures_in_dark(served: str, browser) -> None:
    for scheme in ("light", "dark"):
        page = Watched(browser, scheme)
        page.open(served)
        for name in NAMES if scheme == "light" or os.environ.get("WORKBENCH_SHOTS") else ("front", "run"):
            page.open(f"{served}/{'' if name == 'front' else name}{'?id=0' if name == 'run' else ''}")
            assert page.page.locator('[data-testid="stException"]').count() == 0, name
            assert all(
                page.page.locator('[data-testid="stPlotlyChart"]').nth(i).is_visible()
                for i in range(page.page.locator('[data-testid="stPlotlyChart"]').count())
            )
            page.shot(f"{name}-{scheme}")
        page.context.close()
        assert page.faults == []


def test_the_menu_holds_every_page_and_choices_stay_when_pages_change(served: str, watched: Watched) -> None:
    watched.open(f"{served}/?label_usd=0.01")
    menu = watched.page.locator('[data-testid="stSidebarNavLink"]')
    assert menu.count() == len(NAMES) - 1  # Run is reached by links
    watched.page.locator('[data-testid="stSidebarNavLink"]', has_text="Runs").click()
    watched.page.wait_for_url("**/runs**")
    watched.settle()
    assert "label_usd=0.01" in watched.page.url
    menu.first.click()
    watched.page.get_by_text("priced at").wait_for()
    assert "$0.01 a label" in watched.page.locator('[data-testid="stMain"]').inner_text()


def test_a_point_is_clicked_and_leads_to_its_run_and_to_mlflow(served: str, ledger: str, notebook: str, watched: Watched) -> None:
    watched.open(served)
    results = Ledger.find(None, ledger).results()
    points = Points.of(results, View.of(made.describe(), prices.find("local"), 0.0))
    member = points.members[0]
    assert "Take this one" in watched.page.locator('[data-testid="stMain"]').inner_text()
    click_point(watched, member.number)
    watched.page.wait_for_url(f"**point={member.number}**")
    watched.page.get_by_text("The point you chose").wait_for()
    watched.settle()
    watched.shot("front-chosen")
    with watched.page.expect_popup() as opened:
        watched.page.get_by_role("link", name="Open in MLflow").click()
    opened.value.wait_for_function("document.title === 'notebook'")  # a tab has no title until its page is there
    found = opened.value.url
    assert found.startswith(f"{notebook}/#/runs/")
    assert found.rsplit("/", 1)[1] == Ledger.find(None, ledger).mlflow_runs[member.run_id]
    opened.value.close()
    watched.page.get_by_role("link", name=f"Open run {member.trial}").click()
    watched.page.wait_for_url(f"**/run?**id={member.trial}**")
    watched.page.get_by_role("heading", name=f"Run {member.trial}").wait_for()


def click_point(watched: Watched, number: int) -> None:
    """Click where the figure has drawn the point of this number."""
    watched.page.wait_for_function("document.querySelector('.js-plotly-plot')?.calcdata")
    place = watched.page.evaluate(
        """number => {
            const plot = document.querySelector('.js-plotly-plot'), box = plot.getBoundingClientRect(), layout = plot._fullLayout;
            for (const trace of plot._fullData) {
                const i = trace.customdata ? Array.from(trace.customdata).findIndex(v => Number(v) === number) : -1;
                if (i >= 0 && trace.mode === 'markers') return {
                    x: box.x + layout.xaxis._offset + layout.xaxis.d2p(trace.x[i]),
                    y: box.y + layout.yaxis._offset + layout.yaxis.d2p(trace.y[i]),
                };
            }
        }""",
        number,
    )
    assert place, json.dumps(number)
    watched.page.mouse.move(place["x"] - 2, place["y"])
    watched.page.mouse.move(place["x"], place["y"], steps=3)
    watched.page.wait_for_timeout(200)
    watched.page.mouse.click(place["x"], place["y"])


def test_the_sliders_are_moved_by_keyboard_and_the_answer_follows(served: str, ledger: str, watched: Watched) -> None:
    watched.open(served)
    results = Ledger.find(None, ledger).results()
    view = View.of(made.describe(), prices.find("local"), 0.0)
    budget, target = watched.page.get_by_role("slider").nth(0), watched.page.get_by_role("slider").nth(1)
    budget.focus()
    for _ in range(4):
        watched.page.keyboard.press("ArrowLeft")
    watched.page.wait_for_url("**budget_usd=**")
    stop = ladder(*_span(results, view))[-4]
    watched.page.get_by_text(answers.answer(Points.of(results, view), budget_usd=stop).split(" the best")[0]).first.wait_for()
    target.focus()
    for _ in range(30):
        watched.page.keyboard.press("ArrowRight")
    watched.page.wait_for_url("**target=30**")
    watched.page.get_by_text("reaches f1 30").first.wait_for()
    watched.settle()
    watched.shot("front-asked")
    copied = watched.page.url
    watched.open(copied)
    assert (
        answers.answer(Points.of(results, view), budget_usd=stop, target=30.0)
        in watched.page.locator('[data-testid="stMain"]').inner_text()
    )


def _span(results, view) -> tuple[float, float]:
    costs = [cost for r in Points.of(results, view).found if (cost := view.cost(r, "usd"))]
    return min(costs), max(costs)


def test_a_figure_says_in_words_what_it_shows(served: str, ledger: str, watched: Watched) -> None:
    watched.open(served)
    results = Ledger.find(None, ledger).results()
    answer = answers.answer(Points.of(results, View.of(made.describe(), prices.find("local"), 0.0)))
    watched.page.get_by_role("figure", name=answer).wait_for()


def test_another_name_for_this_machine_is_refused(served: str) -> None:
    where = urlsplit(served)

    def status(host: str) -> str:
        words = [f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket"]
        words.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        with socket.create_connection((where.hostname, where.port), timeout=20) as line:
            line.sendall("\r\n".join(words).encode())
            return line.recv(64).decode().split()[1]

    assert (status(where.netloc), status("evil.example")) == ("101", "403")


def test_the_label_of_a_point_leaves_the_legend_free_and_its_card_is_not_broken(served: str, browser) -> None:
    page = Watched(browser, "light", width=1280)
    page.open(served)
    legend = page.page.locator("[data-testid=stPlotlyChart] .legend").first.bounding_box()
    boxes = [each.bounding_box() for each in page.page.locator("[data-testid=stPlotlyChart] .annotation").all()]
    assert boxes
    assert all(box["y"] >= legend["y"] + legend["height"] for box in boxes)
    rows = {
        row.locator("td").first.inner_text(): row.bounding_box()["height"]
        for row in page.page.locator("[data-testid=stMarkdownContainer] tbody tr").all()
    }
    assert rows["compute (C)"] == rows["labels (D)"] == rows["C + D"]
    assert page.faults == []
    page.context.close()
