"""A fingerprint of the code that a task of a user's own runs by: its class and all that this uses in files of theirs.

Read from the source, so that comments, docstrings, formatting, and what the class does not use (the study itself) do not matter.
Code of workbench, of Python, and of other installed packages is no part of it: versions are in a Result's provenance.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import symtable
import sys
import sysconfig
import textwrap
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_known: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
"""Of classes and functions; a study file that is loaded again makes new ones."""


def fingerprint(task: Any) -> str:
    """Sixteen hex digits of the code of a task and of what stands in its settings; empty where all of it is workbench's own."""
    found = sorted({_of(each) for each in _definitions(task, task=True)} - {""})
    return _hash(found) if found else ""


def _definitions(value: Any, *, task: bool = False) -> Iterator[Any]:
    """Yield the users' classes and functions that a value is made of; a task counts wherever it is
    installed.
    """
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _definitions(each)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _definitions(each)
    else:
        named = isinstance(value, (type, types.FunctionType))
        of = value if named else type(value)
        if not _is_workbench(of) and (task or _is_users(of)):
            yield of
        if dataclasses.is_dataclass(value) and not named:
            for field in dataclasses.fields(value):
                yield from _definitions(getattr(value, field.name))


def _is_workbench(of: Any) -> bool:
    return str(of.__module__).partition(".")[0] == "workbench"


def _is_users(of: Any) -> bool:
    """Whether a class or function is neither Python's nor an installed package's."""
    top = str(of.__module__).partition(".")[0]
    if top in sys.stdlib_module_names and top != "__main__":
        return False
    file = getattr(sys.modules.get(of.__module__), "__file__", None)
    return file is None or not _is_installed(Path(file))


@functools.cache
def _installed() -> tuple[Path, ...]:
    # In an editable install workbench lies outside of site-packages, hence its own folder.
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*(Path(each).resolve() for each in places if each), Path(__file__).resolve().parents[1])


def _is_installed(file: Path) -> bool:
    path = file.resolve()
    return (
        any(path.is_relative_to(place) for place in _installed()) or {"site-packages", "dist-packages"} & set(path.parts) != set()
    )


def _of(of: Any) -> str:
    """The fingerprint of one class or function."""
    if of not in _known:
        _known[of] = _hash(sorted(_source(of) or _lone_source(of) or _bytecode(of)))
    return _known[of]


def _source(of: Any) -> set[str]:
    """Statements of the file that it stands in, and of its neighbours, that it is made of; empty where it is in no file."""
    file = getattr(sys.modules.get(of.__module__), "__file__", None)
    if file is None:
        return set()
    try:
        first = _Module.read(Path(file), of.__module__ if "." in of.__module__ else Path(file).stem)
        reading = _Reading(first.top if _is_installed(Path(file)) else "")
        reading.take(first, of.__qualname__.partition(".")[0])
    except (OSError, SyntaxError, ValueError):
        return set()
    return reading.texts


def _lone_source(of: Any) -> set[str]:
    """Its own statements alone, where Python can find them without a file: in a notebook."""
    try:
        return {_text(each) for each in ast.parse(textwrap.dedent(inspect.getsource(of))).body}
    except (OSError, TypeError, SyntaxError):
        return set()


def _bytecode(of: Any) -> set[str]:
    """The code that it was compiled to, for a class or function without source."""
    members = (
        [f for base in inspect.getmro(of) if not _is_workbench(base) for f in vars(base).values()] if inspect.isclass(of) else [of]
    )
    # Another version of Python compiles to other bytes: there a task without source is another
    # task.
    codes = [getattr(inspect.unwrap(getattr(f, "__func__", f)), "__code__", None) for f in members if not isinstance(f, property)]
    return {f"{of.__module__}.{of.__qualname__}"} | {_code_text(code) for code in codes if code is not None}


def _code_text(code: types.CodeType) -> str:
    constants = [_code_text(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_name, code.co_code, constants, code.co_names))


@dataclasses.dataclass(frozen=True, eq=False)
class _Module:
    """A file of Python: its dotted name, and its statements by what each of them binds."""

    path: Path
    name: str
    body: tuple[ast.stmt, ...]
    bound: Mapping[str, list[ast.stmt]]

    @classmethod
    def read(cls, path: Path, name: str) -> _Module:
        body = tuple(ast.parse(path.read_bytes()).body)
        bound: dict[str, list[ast.stmt]] = {}
        for statement in body:
            for each in set(_bound(statement)):
                bound.setdefault(each, []).append(statement)
        return cls(path, name, body, bound)

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def root(self) -> Path:
        """The folder from which its dotted name leads to it."""
        depth = self.name.count(".") + (self.path.name == "__init__.py")
        return self.path.absolute().parents[depth]

    def resolve(self, name: str, level: int) -> str:
        """The dotted name of a module as an import statement in this one calls it, so many dots in front."""
        if not level:
            return name
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        return ".".join([*package[: len(package) + 1 - level], *([name] if name else [])])


class _Reading:
    """Collects the texts of statements; `also` is the installed package that is the user's own, empty for none."""

    def __init__(self, also: str) -> None:
        self.texts: set[str] = set()
        self._also, self._modules, self._done = also, dict[Path, _Module](), set[tuple[Path, str]]()

    def take(self, module: _Module, name: str) -> bool:
        """Take in what binds a name in a module, and what that uses; whether there is such a name."""
        if (module.path, name) in self._done:
            return True
        stars = [s for s in module.body if isinstance(s, ast.ImportFrom) and s.names[0].name == "*"]
        if name not in module.bound:
            found = (self._find(module.resolve(s.module or "", s.level), module) for s in stars)
            return any(self.take(each, name) for each in found if each is not None)
        # Before its statements are followed: functions may call each other.
        self._done.add((module.path, name))
        for statement in module.bound[name]:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                self._take_imported(statement, module, name)
            else:
                self._take_statement(statement, module)
        return True

    def _take_statement(self, statement: ast.stmt, module: _Module) -> None:
        text = _text(statement)
        self.texts.add(text)
        for used in sorted(_used(text)):
            self.take(module, used)
        for inner in ast.walk(statement):
            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                self._take_imported(inner, module)

    def _take_imported(self, statement: ast.Import | ast.ImportFrom, module: _Module, only: str | None = None) -> None:
        """What an import brings, where it is a user's; of a module that is imported as a whole, all."""
        for alias in statement.names:
            if only not in (None, alias.asname or alias.name.partition(".")[0]):
                continue
            origin = module.resolve(statement.module or "", statement.level) if isinstance(statement, ast.ImportFrom) else ""
            self.texts.add(f"{origin} {alias.name} {alias.asname}")
            found = self._find(origin or alias.name, module)
            # `import a.b` may use anything of it, so all of its statements count.
            if found is None or not origin:
                self._take_whole(found)
            elif alias.name == "*" or not self.take(found, alias.name):
                self._take_whole(found if alias.name == "*" else self._find(f"{origin}.{alias.name}", module))

    def _take_whole(self, module: _Module | None) -> None:
        if module is None or (module.path, "*") in self._done:
            return
        self._done.add((module.path, "*"))
        for statement in module.body:
            if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
                self._take_statement(statement, module)

    def _find(self, name: str, near: _Module) -> _Module | None:
        """A module by its dotted name, as one that stands near would import it; None where it is no file of a user's."""
        parts = name.split(".")
        # Beside the file first, as a study imports its neighbours.
        places = [near.root.joinpath(*parts)]
        if parts[0] not in sys.stdlib_module_names and not any(map(_file_of, places)):
            places += [folder.joinpath(*parts[1:]) for folder in _locations(parts[0])]
        file = next((file for place in places if (file := _file_of(place)) is not None), None)
        if file is None or (_is_installed(file) and parts[0] != self._also):
            return None
        if file not in self._modules:
            self._modules[file] = _Module.read(file, name)
        return self._modules[file]


def _file_of(place: Path) -> Path | None:
    """The file of a module at a path without suffix."""
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((each for each in candidates if each.is_file()), None)


def _locations(package: str) -> list[Path]:
    """Paths without suffix at which Python would find a package or module at the top."""
    try:
        # Of a name at the top: to find a dotted one, Python would import its parents.
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None:
        return []
    return [Path(each) for each in spec.submodule_search_locations or ()] or [Path(spec.origin or "").with_suffix("")]


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement at the top of a file binds or changes."""
    for node in ast.walk(statement):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        # `SCALES["a"] = 2` and `Own.scale = 2` change what `SCALES` and `Own` are.
        elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            target: ast.expr = node
            while isinstance(target, (ast.Attribute, ast.Subscript)):
                target = target.value
            if isinstance(target, ast.Name):
                yield target.id
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return  # what is bound inside is its own


def _used(text: str) -> set[str]:
    """Names of the file that a statement uses, not those of its own functions' variables."""
    found: set[str] = set()
    # The syntax tree alone cannot tell a local `x` from the `x` of the file.
    tables: list[symtable.SymbolTable] = [symtable.symtable(text, "", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        at_top = table.get_type() == "module"
        found |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (at_top or s.is_global())}
    return found


def _text(statement: ast.stmt) -> str:
    """A statement without comments, docstrings and its own formatting."""
    for node in ast.walk(statement):
        if (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(statement))


def _hash(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
