"""Which offer prices the machine that works."""

import json

import pytest

from workbench import prices, settings
from workbench.errors import DataError, EnvironmentFault
from workbench.prices import own_offer


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
