"""What all tests share: a quiet environment, and a tiny study that sweeps in seconds."""

import contextlib
import functools
import gc
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import alembic.script
import alembic.util
import hypothesis
import pytest
import stores
from commands import ANSI, DASHBOARDS, Printed, begun, here, study_text
from servers import Unavailable, server

from workbench.cli import main
from workbench.process import exclusive

_DATA = Path(__file__).parents[2] / "shared" / "data"
if _DATA.is_dir():
    os.environ.setdefault("WORKBENCH_DATA", str(_DATA))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # test workers run side by side on two cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Each of the processes that tests begin would compile this package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Optuna and MLflow read their migrations from files whenever a store is opened: half of what a ledger's test takes.
_load = alembic.util.load_python_file
_load_once = functools.cache(_load)
alembic.util.load_python_file = lambda folder, name: (_load if name == "env.py" else _load_once)(folder, name)
_head, _heads = alembic.script.ScriptDirectory.get_current_head, {}
alembic.script.ScriptDirectory.get_current_head = lambda self: (
    _heads[self.dir] if self.dir in _heads else _heads.setdefault(self.dir, _head(self))
)


def pytest_configure(config):
    """Of what hypothesis makes up, the fast part tries a quarter, where a test does not say how much."""
    if config.option.markexpr == "not slow":
        hypothesis.settings.register_profile("fast", max_examples=25)
        hypothesis.settings.load_profile("fast")


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_collect():
    """A training ends by collecting what is no longer used: of all that is imported here that looks through a million objects."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Each file is one test worker's, which alone makes what its tests share; whoever is done takes the next file."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log) if config.getoption("dist") == "load" else None


LONGEST = (
    "test_compiling.py",
    "test_ray.py",
    "test_sweep.py",
    "test_types.py",
    "test_kills.py",
    "test_postgresql.py",
    "test_chaos.py",
    "test_sharding.py",
    "test_task_continual.py",
    "test_serving_kinds.py",
    "test_serving_commands.py",
    "test_confirm.py",
    "test_autoscaling.py",
    "test_gpu_benchmark.py",
    "test_tracking.py",
    "test_formulations_text.py",
    "test_dashboard_browser.py",
    "test_methods_kinds.py",
    "test_replay.py",
    "test_likelihood.py",
    "test_forecast_pairs.py",
    "test_cli.py",
    "test_parents.py",
    "test_asking_shown.py",
    "test_bad_inputs.py",
    "test_serving_shadow.py",
    "test_serving_onnx.py",
)
"""Files that take more than ten seconds, about the longest first, and those that wait beside those that compute."""


def pytest_collection_modifyitems(items):
    """The longest files go first, and in each what is slow: a test worker is given its next file before it begins its last test."""
    files = {path: i for i, path in enumerate(dict.fromkeys(item.path for item in items))}
    files |= {path: LONGEST.index(path.name) - len(LONGEST) for path in files if path.name in LONGEST}
    items.sort(key=lambda item: (files[item.path], item.get_closest_marker("slow") is None))


@pytest.fixture(scope="session", autouse=True)
def one_empty_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One for all test workers, of which those of the tests are copies."""
    base = tmp_path_factory.getbasetemp()
    os.environ[stores.EMPTY] = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "empty-mlflow.db")


@pytest.fixture
def made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that are made by MLflow and Optuna: a copy would not show that they can."""
    monkeypatch.delenv(stores.EMPTY)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a tiny model."""
    from workbench.testing import tiny_model

    return tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Names of tiny models of every kind."""
    from served import MODELS

    folder = tmp_path_factory.mktemp("models")
    return {kind: write(folder / kind) for kind, write in MODELS.items()} | {"counts": "counts"}


@pytest.fixture
def nothing_at_hand() -> Iterator[None]:
    """No data are loaded, no files looked at, and no output of what does not learn is kept, as in a new process."""
    from workbench.data import fingerprints, load
    from workbench.training import features

    load.cache_clear()
    fingerprints.look_again()
    features._kept.clear()
    features._layouts.clear()
    yield
    features._kept.clear()
    features._layouts.clear()


@pytest.fixture
def study_file(tmp_path: Path, tiny: str) -> Path:
    """A study file whose runs take a fraction of a second."""
    path = tmp_path / "tiny.py"
    path.write_text(
        textwrap.dedent(f'''
        """Which tiny method finds the word?"""

        from workbench import Recipe, Study, bitfit, choice, full, integers, loguniform, peft
        from workbench.testing import TinyTask

        study = Study(
            Recipe(
                task=TinyTask(train=choice(32, 64)),
                model={tiny!r},
                method=choice(
                    full(learning_rate=loguniform(1e-3, 1e-2)),
                    peft("lora", learning_rate=loguniform(1e-3, 1e-2), r=choice(2, 4)),
                    bitfit(learning_rate=loguniform(1e-3, 1e-2)),
                ),
                epochs=integers(1, 4, log=True),
                batch_size=8,
            ),
            maximize="accuracy",
            minimize="usd",
            trials=6,
        )
        '''),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def command(tmp_path, capfd, monkeypatch):
    """Run `workbench …` in the test's folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        assert not ANSI.search(out + err)
        assert "Traceback" not in err
        return end.value.code, out, err

    return run


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny):
    """A folder in which a tiny study was swept by the command, and what that printed: once for all test workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "swept"
    (folder / "lock").mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "lock"):
        if not (folder / "err.txt").exists():
            (folder / "tiny.py").write_text(study_text(tiny), encoding="utf-8")
            done = here("sweep", "tiny.py", "--trials", "3", "--json", cwd=folder)
            assert done.returncode == 0, done.stderr
            (folder / "out.txt").write_text(done.stdout)
            (folder / "err.txt").write_text(done.stderr)
    return folder, Printed((folder / "out.txt").read_text(), (folder / "err.txt").read_text())


@pytest.fixture
def postgresql():
    """A server of its own."""
    pytest.importorskip("psycopg2", reason="PostgreSQL's Python driver is not installed")
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(server())
        except Unavailable as error:
            pytest.skip(str(error))
        yield made


@pytest.fixture(autouse=True)
def what_a_page_leaves_behind():
    """Streamlit makes the script that it runs the main module, and the dashboard tells its pages by variables what to show.

    Both would reach the tests after it in the same process: a pool's processes import the main module anew.
    """
    main = sys.modules["__main__"]
    with mock.patch.dict(os.environ):
        yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def no_command_is_left_behind():
    """A test that fails in the middle of a sweep leaves none at work beside those after it; workers end with their supervisor."""
    yield
    while begun:
        begun.pop().kill()


@pytest.fixture
def no_components(monkeypatch):
    """Streamlit looks through all that is installed for components whenever a page is opened: half of a test's time."""
    from streamlit.components.v2 import manifest_scanner

    monkeypatch.setattr(manifest_scanner, "scan_component_manifests", list)


@pytest.fixture
def page(monkeypatch, tmp_path, no_components):
    """Open a page of the dashboard on a ledger with what an address says."""
    from streamlit.testing.v1 import AppTest

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DASHBOARDS))

    def script(name: str) -> None:
        import importlib

        from context import open_context

        context = open_context({})
        if context is not None:
            importlib.import_module(f"views.{name}").show(context)

    def opened(url: str, name: str = "front", **asked: str) -> AppTest:
        monkeypatch.setenv("WORKBENCH_STORAGE", url)
        test = AppTest.from_function(script, args=(name,), default_timeout=60)
        test.query_params.update(asked)
        return test.run()

    yield opened
    own = {"views", *(file.stem for file in DASHBOARDS.glob("*.py"))}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]
