"""A user without a home, as in a container that is run by a number: no name, no HOME, or a HOME that cannot be written to."""

import getpass
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commands import study_text

from workbench import health
from workbench.data import cache, load
from workbench.errors import EnvironmentFault, UsageError
from workbench.ledger import default_url
from workbench.tracking import default_uri

NOBODY = 54321
NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "WORKBENCH_CACHE", "XDG_CACHE_HOME")


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """This process as a user that the machine does not know; gives the folder for temporary files."""
    for name in NAMES:
        monkeypatch.setenv(name, "to be put back")  # what make_home sets is taken back with it
        monkeypatch.delenv(name)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    cache.make_home.cache_clear()
    yield tmp_path / "t"
    cache.make_home.cache_clear()


def test_a_home_that_is_there_stays(monkeypatch, nobody, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.make_home() == ""
    assert cache.folder() == tmp_path / ".cache" / "workbench"
    assert "XDG_CACHE_HOME" not in os.environ
    assert list(nobody.iterdir()) == []
    assert getpass.getuser() == f"uid{os.getuid()}"  # torch and MLflow ask for it


def test_without_one_a_folder_of_this_user_s_alone_is_used(nobody, tmp_path):
    assert cache.folder() == nobody / f"workbench-{os.getuid()}" / ".cache" / "workbench"
    assert Path.home() == nobody / f"workbench-{os.getuid()}"
    assert Path.home().stat().st_mode & 0o777 == 0o700
    found = {f.subject: f for f in health.examine(default_url(tmp_path), default_uri(tmp_path), tmp_path)}
    assert str(Path.home()) in found["home"].text
    assert "WORKBENCH_CACHE" in found["home"].advice


def test_the_folder_that_was_chosen_is_respected(monkeypatch, nobody, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "chosen"))
    cache.make_home()
    assert (cache.folder(), Path.home()) == (tmp_path / "chosen", tmp_path / "chosen" / "home")
    monkeypatch.delenv("WORKBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "workbench"
    assert list(nobody.iterdir()) == []


def test_a_home_in_which_nothing_can_be_made_loses_its_caches_alone(monkeypatch, nobody, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    assert "no cache can be kept" in cache.make_home()
    assert cache.folder() == nobody / f"workbench-{os.getuid()}" / ".cache" / "workbench"
    assert os.environ["HOME"] == str(tmp_path / "file" / "home")


@pytest.mark.parametrize("trap", ["link", "file", "open"])
def test_what_somebody_else_can_write_to_is_not_used(nobody, tmp_path, trap):
    path = nobody / f"workbench-{os.getuid()}"
    if trap == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "theirs")
    elif trap == "file":
        path.touch(mode=0o700)
    else:
        path.mkdir()
        path.chmod(0o777)
    with pytest.raises(EnvironmentFault, match="Set HOME, or WORKBENCH_CACHE"):
        cache.make_home()
    assert "HOME" not in os.environ


def test_a_home_of_another_name_is_a_mistake_and_no_crash(monkeypatch):
    for path in ("~nobodyofthisname/data.json", "~nobodyofthisname"):
        with pytest.raises(UsageError, match="no such home folder"):
            load(path)
    monkeypatch.setenv("WORKBENCH_CACHE", "~nobodyofthisname")
    with pytest.raises(UsageError, match="no such home folder"):
        cache.folder()


AS_NOBODY = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]


@pytest.mark.slow
def test_a_sweep_of_the_built_in_data_by_a_user_without_name_and_home(tmp_path):
    if not shutil.which("unshare") or subprocess.run([*AS_NOBODY, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no other user can be had here")
    text = study_text("minilm-l2", "full(learning_rate=1e-3)", "question_answering('pydocs', train=8, dev=4, test=2)")
    (tmp_path / "s.py").write_text(text)
    env = {name: value for name, value in os.environ.items() if name not in NAMES} | {"TMPDIR": str(tmp_path)}

    def run(*words):
        command = [*AS_NOBODY, Path(sys.executable).with_name("workbench"), *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400, check=False)

    done = run("sweep", "s.py", "--trials", "1")
    assert done.returncode == 0, done.stderr
    assert "MLflow" not in done.stderr.replace("Bringing MLflow up to date", "")
    told = run("doctor").stdout
    assert f"no home folder: {tmp_path}/workbench-{NOBODY} is used" in told
    assert "mlflow.db: 2 runs" in told
    assert not (tmp_path / "~").exists()
