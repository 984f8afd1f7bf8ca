"""Which offer prices the machine that works."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from workbench import prices, settings
from workbench.errors import DataError, EnvironmentFault
from workbench.prices import cloud_metadata, interruption, own_offer


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workbench.toml").write_text('[machines]\n"gpu-*" = "aws:g6.xlarge"\nbox = "local"\n')


@pytest.mark.parametrize(
    ("asked", "host", "found"),
    [
        (None, "gpu-17", "aws:g6.xlarge"),
        (None, "box", "local"),
        (None, "other", None),
        ("vast", "gpu-17", "vast"),
    ],
)
def test_a_flag_goes_before_the_table_and_the_table_before_nothing(asked, host, found):
    assert own_offer(asked, host) == found


def test_a_line_of_the_table_that_is_no_offers_name_is_refused(tmp_path):
    (tmp_path / "workbench.toml").write_text("[machines]\nbox = 3\n")
    with pytest.raises(DataError, match=r"\[machines\]: box must be a text, the name of an offer; got 3"):
        settings.load()
    (tmp_path / "workbench.toml").write_text("machines = 3\n")
    with pytest.raises(DataError, match="machines is a table"):
        settings.load()


def service(answers):
    """A metadata service that knows these paths."""

    def fetch(method, path, headers):
        assert headers, "each of them wants a header"
        for known, answer in answers.items():
            if path.endswith(known):
                return answer
        raise OSError(path)

    return fetch


AWS = {"/token": "t", "/instance-type": "g6.xlarge", "/instance-life-cycle": "on-demand", "/region": "us-east-1"}
GCP = {"/machine-type": "projects/1/machineTypes/g2-standard-4", "/zone": "projects/1/zones/us-central1-a", "/preemptible": "FALSE"}
AZURE = {"2021-02-01": json.dumps({"vmSize": "Standard_NC24ads_A100_v4", "location": "eastus", "priority": "Spot"})}


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (AWS, "aws:g6.xlarge"),
        (AWS | {"/instance-life-cycle": "spot"}, "aws:g6.xlarge:us-east-1:spot"),
        (GCP, "gcp:g2-standard-4"),
        (AZURE, "azure:Standard_NC24ads_A100_v4:eastus:spot"),
    ],
)
def test_a_cloud_tells_its_machine_where_it_is_asked(answers, found):
    assert own_offer(prices.METADATA, "gpu-17", service(answers)) == found


def test_where_there_are_no_metadata_it_is_said(monkeypatch):
    with pytest.raises(EnvironmentFault, match="no metadata of a cloud"):
        own_offer(prices.METADATA, None, service({}))


@contextlib.contextmanager
def served(answers, monkeypatch):
    """A metadata service on the loopback: what it answers, by method and path, to who sends the header that goes with it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            header, value, answer = answers.get((self.command, self.path.partition("?")[0]), ("", "", None))
            found = answer is not None and self.headers.get(header) == value
            body = (answer if found else "not found").encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(cloud_metadata, "_SERVICE", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # it is asked past any proxy
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


TOKEN = {("PUT", "/latest/api/token"): ("X-aws-ec2-metadata-token-ttl-seconds", "60", "t")}
ACTION = {"action": "terminate", "time": "2026-12-01T10:00:00Z"}
EVENT = {"EventType": "Preempt", "NotBefore": "Tue, 01 Dec 2026 10:00:00 GMT", "Resources": ["node-1"]}
COMPUTE = {("GET", "/metadata/instance/compute"): ("Metadata", "true", json.dumps({"name": "node-1"}))}


def aws(action):
    return TOKEN | {("GET", "/latest/meta-data/spot/instance-action"): ("X-aws-ec2-metadata-token", "t", json.dumps(action))}


def gcp(preempted):
    return {("GET", "/computeMetadata/v1/instance/preempted"): ("Metadata-Flavor", "Google", preempted)}


def azure(*events):
    return COMPUTE | {("GET", "/metadata/scheduledevents"): ("Metadata", "true", json.dumps({"Events": events}))}


@pytest.mark.parametrize(
    ("platform", "answers", "said"),
    [
        ("aws", aws(ACTION), "AWS: terminate at 2026-12-01T10:00:00Z"),
        ("gcp", gcp("TRUE"), "Google Cloud: preempted"),
        ("gcp", gcp("FALSE"), ""),
        ("azure", azure(EVENT), "Azure: Preempt not before Tue, 01 Dec 2026 10:00:00 GMT"),
        ("azure", azure(EVENT | {"NotBefore": ""}), "Azure: Preempt not before now"),
        ("azure", azure(EVENT | {"EventType": "Reboot"}), ""),
        ("azure", azure(EVENT | {"Resources": ["node-2"]}), ""),  # another machine of its set
        ("azure", azure(), ""),
        ("lambda", aws(ACTION), ""),
    ],
)
def test_a_cloud_gives_notice_of_an_interruption(monkeypatch, platform, answers, said):
    with served(answers, monkeypatch):
        assert interruption(platform) == said


@pytest.mark.parametrize(("platform", "answers"), [("aws", TOKEN), ("aws", {}), ("gcp", {}), ("azure", COMPUTE)])
def test_who_answers_nothing_says_so(monkeypatch, platform, answers):
    with served(answers, monkeypatch), pytest.raises(OSError, match="404"):
        interruption(platform)
