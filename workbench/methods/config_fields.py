"""The settings that PEFT's configuration of a method has, read from PEFT's source, since importing
it takes seconds.

So a slip in a study file is reported with its line, before data and models are read.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

_WITHOUT_FIELDS = ("PushToHubMixin",)
"""Base classes from other packages that are known to add no field."""


def peft_folder() -> Path | None:
    """Where the installed PEFT lies; None where it is not installed."""
    package = importlib.util.find_spec("peft")
    return Path(package.submodule_search_locations[0]) if package and package.submodule_search_locations else None


@functools.lru_cache
def settings_of(kind: str) -> frozenset[str] | None:
    """Names of the settings of one of PEFT's methods.

    Args:
        kind: PEFT's name of the method, in lower case.

    Returns:
        The names; None where the source does not show them. Then PEFT itself checks them when the
        method is applied.
    """
    if (root := peft_folder()) is None:
        return None
    own = root / "tuners" / kind
    try:
        of = _registered(own / "__init__.py")
        # A method may inherit its fields from another method's configuration.
        others = (*sorted(own.parent.glob("*/config.py")), *sorted(own.parent.glob("*.py")))
        return None if of is None else _fields(of, (own / "config.py", root / "config.py", *others))
    except (OSError, SyntaxError, ValueError):
        return None


def _registered(file: Path) -> str | None:
    """The configuration class that a method's package registers it with."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register_peft_method":
            named = (each.value.id for each in node.keywords if each.arg == "config_cls" and isinstance(each.value, ast.Name))
            return next(named, None)
    return None


def _fields(name: str, files: Sequence[Path]) -> frozenset[str] | None:
    """Fields of a dataclass and of its bases.

    Args:
        name: The class.
        files: Where it may be; the first file that has it counts.

    Returns:
        Names of the fields; None where the class or one of its bases is in none of the files.
    """
    if name in _WITHOUT_FIELDS:
        return frozenset()
    of = next((classes[name] for file in files if name in (classes := _classes(file))), None)
    if of is None:
        return None
    found = {
        node.target.id
        for node in of.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and "ClassVar" not in ast.unparse(node.annotation)
    }
    for base in of.bases:
        # An unknown base may add any field, so then nothing is known.
        of_base = _fields(base.id, files) if isinstance(base, ast.Name) else None
        if of_base is None:
            return None
        found |= of_base
    return frozenset(found)


@functools.lru_cache
def _classes(file: Path) -> Mapping[str, ast.ClassDef]:
    """The classes of a file, by name."""
    return {node.name: node for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.ClassDef)}
