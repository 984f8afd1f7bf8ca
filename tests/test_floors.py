"""Imports run downwards only, and each heavy dependency has one house."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "workbench"

FLOORS = {
    **dict.fromkeys(("errors", "space", "settings", "usage", "estimate", "pareto", "process", "cgroups"), 0),
    **dict.fromkeys(("prices", "carbon", "flops", "meter", "data", "quantities"), 1),
    "objectives": 2,
    "formulations": 3,
    **dict.fromkeys(("tasks", "methods"), 4),
    "labelling": 5,
    **dict.fromkeys(("study", "result"), 6),
    "front": 7,
    **dict.fromkeys(("training", "forecast", "search", "ledger", "tracking", "imports", "watching"), 8),
    **dict.fromkeys(("report", "figures", "sweep", "health", "replay", "quality", "serving"), 9),
    "cli": 10,
    "testing": 11,  # may use all, and none may use it
}
TOP = {"__init__", "__main__"}  # the public names, and `python -m workbench`

SIDEWAYS = {
    ("space", "errors"),  # errors lie under everything
    ("settings", "errors"),
    ("process", "errors"),
    ("carbon", "prices"),  # grams are a view of an offer too
    ("study", "result"),  # a study minimises costs of Results
    ("search", "ledger"),  # a space's distributions are those that the ledger stores
    ("figures", "report"),
    ("forecast", "training"),  # a forecast counts the steps, checkpoints and micro-batches of the loop itself
}
"""Imports between rooms of one floor, `(who, whom)`: the only ones, and never in a circle."""

HOUSES = {
    "pynvml": {"meter", "testing"},
    "datasets": {"data"},
    "gguf": {"data"},
    "peft": {"methods", "data"},
    "fsspec": {"training"},
    "ray": {"sweep"},
    "yaml": {"cli", "serving"},
    "optuna": {"ledger", "search"},
    "sqlalchemy": {"ledger", "tracking"},
    "mlflow": {"tracking", "serving"},  # runs, and what becomes of them
    "plotly": {"figures"},
    "streamlit": {"cli"},
    "gpuhunt": {"prices"},  # and there of live.py alone
    "torch": {"data", "objectives", "methods", "training", "forecast", "testing", "health"},  # health asks which device there is
    "transformers": {"data", "objectives", "formulations", "methods", "testing"},
    "safetensors": {"data", "training", "sweep"},  # sweep writes the weights of a front's members
    "onnxruntime": {"training"},
    "torchmetrics": {"tasks"},
    "PIL": {"data"},
    "soundfile": {"data"},
    "sklearn": {"tasks", "data", "methods", "quality"},  # which carries images of digits
    "cleanlab": {"quality"},
    "presidio_analyzer": {"data"},
    "sacrebleu": {"tasks"},
    "seqeval": {"tasks"},
    "jiwer": {"tasks"},
    "river": {"tasks"},
    "pytrec_eval": {"tasks"},
    "rich": {"cli"},
    "click": {"cli"},
    "psutil": {"meter", "process", "cgroups"},
}
"""Rooms that may import a dependency."""

INNER = {
    ("cli/__init__.py", "workbench.cli.printing"): "--help draws no table: rich is not imported for it",
    ("forecast/amounts.py", "workbench.training.features"): "tensors that are kept: torch",
    ("forecast/pairs.py", "workbench.forecast.passes"): "a mode of torch's dispatcher, a class of torch's: torch",
    ("methods/__init__.py", "workbench.methods.heads"): "closed forms on tensors: torch",
    ("methods/__init__.py", "workbench.methods.adapters"): "layers of a model: torch",
    ("methods/__init__.py", "workbench.methods.counting"): "counts as tensors: torch",
    ("search/next_run.py", "workbench.search.engine"): "a surrogate's linear algebra: scipy",
    ("training/parent_store.py", "workbench.training.resume_state"): "states are tensors: torch",
}
"""Imports of our own inside functions, `(file, module)` and why: the only ones, at most 15. Commands are no reason: the group
imports a command's module when it is used. Neither are libraries: they are imported inside the functions of their houses."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    return tuple(read(path))


def read(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, anywhere in it and for types too, in full, and its line."""
    package = ["workbench", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            # `from workbench import prices` names a module, `from workbench.prices import Offer` something in one.
            yield from ((f"{origin}.{alias.name}" if origin == "workbench" else origin, node.lineno) for alias in node.names)


def test_the_imports_of_a_file_are_found(tmp_path: Path) -> None:
    path = PACKAGE / "sweep" / "sample.py"
    text = (
        "import a.b\nfrom workbench import prices\nfrom workbench.cli import terminal\nfrom . import heart\nfrom ..meter import x\n"
    )
    text += "def f():\n    import c\n"
    source = type(
        "File", (), {"read_text": lambda self, encoding: text, "relative_to": lambda self, other: path.relative_to(other)}
    )()
    assert [name for name, _ in read(source)] == [
        "a.b",
        "workbench.prices",
        "workbench.cli",
        "workbench.sweep",
        "workbench.meter",
        "c",
    ]


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    rooms = {room(path) for path in MODULES} - TOP
    assert rooms - FLOORS.keys() == set(), "give the new module a floor in the table of this test and of the design"
    assert FLOORS.keys() - rooms == set(), "a floor names a module that is gone"


def test_imports_run_downwards() -> None:
    for path in MODULES:
        here = room(path)
        if here == "__main__":
            continue
        for name, line in imports(path):
            if not name.startswith("workbench."):
                continue
            there, at = name.split(".")[1], f"{path.relative_to(PACKAGE)}, line {line}"
            if there not in FLOORS or there == here:
                assert there == here or there.startswith("__"), f"{at}: {name} is no room"
                continue
            if here == "__init__":
                assert FLOORS[there] <= 6, f"{at}: `import workbench` must stay light"
                continue
            down = FLOORS[there] < FLOORS[here] or (here, there) in SIDEWAYS
            assert down, f"{at}: {here} ({FLOORS[here]}) must not import {there} ({FLOORS[there]})"


def test_no_room_of_a_floor_is_entered_from_both_sides() -> None:
    assert all(FLOORS[who] == FLOORS[whom] for who, whom in SIDEWAYS)
    assert not {(whom, who) for who, whom in SIDEWAYS} & SIDEWAYS
    used = {(room(path), name.split(".")[1]) for path in MODULES for name, _ in imports(path) if name.startswith("workbench.")}
    assert used >= SIDEWAYS, "an exception that nothing needs any more"


def test_each_heavy_dependency_has_one_house() -> None:
    for path in MODULES:
        for name, line in imports(path):
            package = name.partition(".")[0]
            if package in HOUSES:
                allowed = ", ".join(sorted(HOUSES[package])) or "nobody"
                assert room(path) in HOUSES[package], f"{path.relative_to(PACKAGE)}, line {line}: {package} belongs to {allowed}"


def inner_imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module of our own that a file imports inside a function, and its line."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "workbench":
                    packages = "workbench", path.parent.relative_to(PACKAGE.parent).as_posix().replace("/", ".")
                    for alias in node.names:  # a module of a package, or something in a module
                        yield (f"{node.module}.{alias.name}" if node.module in packages else str(node.module)), node.lineno


def test_our_own_modules_are_imported_at_the_top() -> None:
    found = {(path.relative_to(PACKAGE).as_posix(), name): line for path in MODULES for name, line in inner_imports(path)}
    assert [f"{file}, line {found[file, name]}: {name}" for file, name in found.keys() - INNER.keys()] == []
    assert INNER.keys() - found.keys() == set(), "an exception that nothing needs any more"
    assert len(INNER) <= 15


def test_the_dashboard_knows_nothing_of_the_command_line() -> None:
    pages = sorted((PACKAGE.parent / "dashboards").rglob("*.py"))
    assert pages
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert "workbench.cli" not in text, path.name
        assert "import cli" not in text, path.name
