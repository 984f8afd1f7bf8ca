"""What a name in a Python file stands for: the function or class that it was imported from, found
by reading the source of packages. Nothing is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from workbench.data.docstrings import installed
from workbench.errors import EnvironmentFault


@dataclass(frozen=True)
class Module:
    """One file of a package.

    Attributes:
        name: Its dotted name, without `__init__`.
        defined: Names of the functions and classes at its top level.
        imported: What each imported name stands for, in full: `{"np": "numpy", "svd":
            "scipy.linalg.svd"}`. Imports inside functions count too.
        stars: Modules of which all names are imported.
        called: The imported names that it calls, in full and in the order of its source:
            `numpy.linalg.svd` for `np.linalg.svd(a)`. What it defines itself is left out.
    """

    name: str
    defined: frozenset[str]
    imported: Mapping[str, str]
    stars: tuple[str, ...]
    called: tuple[str, ...]


class Modules:
    """The modules of some installed packages, by name. Tests are left out.

    Args:
        packages: Top-level names. Those that are not installed are left out.

    Raises:
        EnvironmentFault: A source file cannot be read.
    """

    def __init__(self, *packages: str) -> None:
        self._of = {module.name: module for package in packages for module in _modules(package)}
        self._found: dict[str, str | None] = {}

    def __iter__(self) -> Iterator[Module]:
        return iter(self._of.values())

    def defined(self, name: str) -> str | None:
        """Where a function or class is defined: `scipy.linalg._decomp_svd.svd` for
        `scipy.linalg.svd`.

        Args:
            name: A dotted name as a file may call it.

        Returns:
            The dotted path; None where no source says it, as with functions that are written in C.
        """
        if name not in self._found:
            self._found[name] = self._followed(name, set())
        return self._found[name]

    def _followed(self, name: str, seen: set[str]) -> str | None:
        """As `defined`. Names that were `seen` lead nowhere, as imports may go in a circle."""
        place, _, own = name.rpartition(".")
        module = self._of.get(place)
        if name in seen or not place:
            return None
        seen.add(name)
        if module is None:
            # `np.linalg.svd` where `linalg` is itself a name of numpy's that stands for a module.
            outer = self._alias(place)
            return None if outer is None else self._followed(f"{outer}.{own}", seen)
        if own in module.defined:
            return name
        if own in module.imported:
            return self._followed(module.imported[own], seen)
        found = (self._followed(f"{star}.{own}", seen) for star in module.stars)
        return next((each for each in found if each is not None), None)

    def _alias(self, place: str) -> str | None:
        """The module that a name of a module stands for; None where it is none."""
        outer, _, own = place.rpartition(".")
        module = self._of.get(outer)
        other = module.imported.get(own) if module else None
        return other if other != place else None


def _modules(package: str) -> Iterator[Module]:
    root = installed(package)
    for file in sorted(root.rglob("*.py")) if root else ():
        parts = (package, *file.relative_to(root).with_suffix("").parts)  # type: ignore[arg-type]
        if any("test" in part or part == "conftest" for part in parts):
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise EnvironmentFault(f"cannot read {file}: {error.strerror}. Reinstall {package}.") from error
        except (SyntaxError, ValueError):  # a template or a file for another Python
            continue
        name = ".".join(parts).removesuffix(".__init__")
        definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        defined = frozenset(node.name for node in _top(tree.body) if isinstance(node, definitions))
        nodes = [*ast.walk(tree)]  # once: a file has some 10,000
        imported, stars = _imports(nodes, name, is_package=file.name == "__init__.py")
        # The tree itself is not kept: with those of 2,000 files in memory Python's collector of
        # garbage took minutes.
        yield Module(name, defined, imported, stars, tuple(_called(nodes, imported)))


def _called(nodes: Sequence[ast.AST], imported: Mapping[str, str]) -> Iterator[str]:
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        parts: list[str] = []
        function = call.func
        while isinstance(function, ast.Attribute):
            parts.append(function.attr)
            function = function.value
        if isinstance(function, ast.Name) and function.id in imported:
            yield ".".join([imported[function.id], *reversed(parts)])


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at the top of a file, those under a condition too."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try)):
            yield from _top([*node.body, *node.orelse])


def _imports(nodes: Sequence[ast.AST], name: str, *, is_package: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """What imported names stand for, and the modules that are imported as a whole."""
    imported: dict[str, str] = {}
    stars: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                imported[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:  # so many dots: counted from the package that the file stands in
                package = name.split(".") if is_package else name.split(".")[:-1]
                outer = package[: len(package) + 1 - node.level]
                origin = ".".join([*outer, *([origin] if origin else [])])
            for alias in node.names:
                if alias.name == "*":
                    stars.append(origin)
                else:
                    imported[alias.asname or alias.name] = f"{origin}.{alias.name}"
    return imported, tuple(stars)
