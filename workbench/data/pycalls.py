"""`pycalls`, a built-in data set for recommendation: which function does a module call next?

A user is a module of a scientific package, and its items are the documented functions and classes
of such packages that it calls, in the order of its source, each once. An item's text is its name
and the first sentence of its docstring:

    user   sklearn.manifold._locally_linear
    items  numpy.eye, sklearn.utils.validation.check_array, scipy.linalg.solve, …
    text   scipy solve: Solve the equation `a @ x = b` for `x`, where `a` is a square matrix.

This is real behaviour: people chose these functions one after the other. Tests are left out. It
needs no network: the packages are those installed beside us, so it is the same for the same
versions, and its digest says which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.data import cache, docstrings, histories, imported_names, pydocs, pytopics
from workbench.data.imported_names import Modules
from workbench.errors import EnvironmentFault

PACKAGES = ("pandas", "numpy", "scipy", "sklearn", "networkx", "matplotlib")
"""Those of `pydocs` except torch, whose 2,000 files take longer to read than all others."""


def versions() -> dict[str, str]:
    """Version of each installed package the data set is made from."""
    return {module: version for module, version in pydocs.versions().items() if module in PACKAGES}


def load() -> dict[str, list[dict[str, Any]]]:
    """Examples of the sides `train`, `dev` and `test` as `histories.sides` gives them, and
    `documents`, `{"id", "text"}`, from the cache or built anew (some 40 s). Ids are paths.

    Raises:
        EnvironmentFault: None of the packages is installed, or the cache cannot be written.
    """
    made_from = versions()
    if not made_from:
        names = ", ".join(pydocs.PACKAGES[each] for each in PACKAGES)
        raise EnvironmentFault(f"the data set 'pycalls' needs one of {names}; none is installed. Install one.")
    code = [Path(module.__file__ or "") for module in (docstrings, imported_names, pytopics)] + [Path(__file__)]
    found = cache.built("pycalls", made_from, code, lambda: build(tuple(made_from)))
    documents = [{"id": path, "text": text} for path, text in found["items"].items()]
    return {**histories.sides(found["users"]), "documents": documents}


def build(packages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the modules of installed packages call, and the texts of that.

    Args:
        packages: Top-level module names.

    Returns:
        `users`: of each module what it calls, in order; `items`: of each thing that is called its
        text.
    """
    texts: dict[str, str] = {}
    for each in (each for package in packages for each in docstrings.documented(package)):
        if sentence := pytopics.sentence(each.summary):
            texts.setdefault(each.path, f"{each.path.partition('.')[0]} {each.name}: {sentence}")
    modules = Modules(*packages)
    users: dict[str, list[str]] = {}
    for module in modules:
        paths = dict.fromkeys(map(modules.defined, module.called))
        if items := [path for path in paths if path in texts]:
            users[module.name] = items
    called = dict.fromkeys(path for items in users.values() for path in items)
    return {"users": users, "items": {path: texts[path] for path in called}}
