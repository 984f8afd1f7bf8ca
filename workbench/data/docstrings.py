"""The docstrings of an installed package, read from its source. Nothing of the package is imported.

Two styles are understood: numpydoc (underlined headings) and Google's (`Args:`). Both give the same
`Documented`. Objects whose docstring is not in a Python file (C functions, docstrings put together
at run time) are not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import EnvironmentFault

SECTIONS = {
    **dict.fromkeys(("Parameters", "Other Parameters", "Args", "Arguments", "Keyword Args"), "Parameters"),
    **dict.fromkeys(("Returns", "Return", "Yields"), "Returns"),
    **dict.fromkeys(("Raises",), "Raises"),
}
"""Headings that are read, and the section that each belongs to."""

NOT_DOCUMENTED = {"conftest", "setup", "externals", "vendored"}
"""Modules and folders that are no part of a package's documented interface; tests are left out as
well.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented thing.

    Attributes:
        section: `"Parameters"`, `"Returns"` or `"Raises"`.
        name: Name of the parameter or exception; empty for an unnamed return value.
        type: The type as written, with its default: `"int, default 0"`; may be empty.
        text: The description, one line of plain text; may be empty.
    """

    section: str
    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Documented:
    """An object with a docstring.

    Attributes:
        path: Where it is defined: `pandas.core.frame.DataFrame.sum`.
        name: What a reader calls it: `DataFrame.sum`.
        summary: The first paragraph of its docstring.
        entries: What the docstring's sections list, in order.
    """

    path: str
    name: str
    summary: str
    entries: tuple[Entry, ...]


def installed(package: str) -> Path | None:
    """Folder of a top-level package, which is not imported; None where it is not installed."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


def documented(package: str) -> Iterator[Documented]:
    """Public objects of an installed package that document a parameter, return value or exception,
    by path.

    Raises:
        EnvironmentFault: A source file cannot be read.
    """
    root = installed(package)
    for file in sorted(root.rglob("*.py")) if root else ():
        parts = (package, *file.relative_to(root).with_suffix("").parts)  # type: ignore[arg-type]
        if any("test" in part or part in NOT_DOCUMENTED for part in parts) or any(_private(part) for part in parts[:-1]):
            continue
        try:
            source = file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise EnvironmentFault(f"cannot read {file}: {error.strerror}. Reinstall {package}.") from error
        # Parsing is all the cost, and most files hold no docstring of either style.
        if "----" in source or "Args:" in source:
            yield from _of_source(source, ".".join(parts).removesuffix(".__init__"))


def parse(docstring: str) -> tuple[str, tuple[Entry, ...]]:
    """Summary and entries of a docstring of either style, indented or not. It is tolerant and never
    raises.
    """
    lines = inspect.cleandoc(docstring).splitlines()
    blank = next((i for i, line in enumerate(lines) if not line.strip()), len(lines))
    entries: list[Entry] = []
    for section, style, body in _sections(lines):
        entries += (_numpy_entries if style == "numpy" else _google_entries)(section, body)
    return plain(lines[:blank]), tuple(entries)


def plain(lines: list[str]) -> str:
    """Running text of reStructuredText lines, up to the first list, directive, formula or code."""
    kept = []
    for line in lines:
        if re.match(r"\s*(\.\. |[-*+•] |\d+[.)] |>>> |\||=====|- )", line):
            break
        kept.append(line.strip())
        if line.rstrip().endswith("::"):
            break
    text = " ".join(" ".join(kept).split())
    text = re.sub(r":[a-zA-Z:+-]+:`[!.]*([^`<]*?)(?:\s*<[^`>]*>)?`", r"`\1`", text)  # :class:`a.B` is `a.B`
    text = re.sub(r"`~(?:[\w.]+\.)?(\w+)`|`([^`<]+) <[^`>]+>`_+", r"`\1\2`", text)  # `~a.B` is `B`, a link is its text
    text = re.sub(r"\*\*(\w[^*]*)\*\*", r"\1", text.replace("``", "`"))  # bold, not a power
    return re.sub(r"\\(?=[_*|`])", "", text).removesuffix("::")


def _private(folder: str) -> bool:
    """`_core` is where numpy defines most of its public names; other private folders hold no
    documented interface.
    """
    return folder.startswith("_") and folder != "_core"


def _of_source(source: str, module: str) -> Iterator[Documented]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a template or a file for another Python: nobody imports it
        return
    seen: set[str] = set()
    for name, docstring in _docstrings(tree.body, ()):
        if name not in seen:
            summary, entries = parse(docstring)
            if entries:
                seen.add(name)
                yield Documented(f"{module}.{name}", name, summary, entries)


def _docstrings(body: list[ast.stmt], outer: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Name and docstring of public classes and functions, without those inside functions.
    `__init__` counts as its class.
    """
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from _docstrings([*node.body, *node.orelse], outer)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if node.name.startswith("_") and node.name != "__init__":
            continue
        names = outer if node.name == "__init__" else (*outer, node.name)
        docstring = ast.get_docstring(node, clean=False)
        if docstring and names:
            yield ".".join(names), docstring
        if isinstance(node, ast.ClassDef):
            yield from _docstrings(node.body, names)


def _sections(lines: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Section, style and body of each heading that is read."""
    heads = []
    for i, line in enumerate(lines):
        if i + 1 < len(lines) and re.fullmatch(r"-{3,}\s*", lines[i + 1]) and line[:1].strip():
            heads.append((i, i + 2, line.strip(), "numpy"))
        elif re.fullmatch(r"[A-Z][A-Za-z ]+::?\s*", line):
            heads.append((i, i + 1, line.strip().rstrip(":"), "google"))
    ends = [*(head[0] for head in heads), len(lines)][1:]
    for (_, start, title, style), end in zip(heads, ends, strict=False):
        if title in SECTIONS:
            yield SECTIONS[title], style, lines[start:end]


def _numpy_entries(section: str, body: list[str]) -> Iterator[Entry]:
    for head, text in _entries(body, 0):
        named = re.fullmatch(r"\s*([\w.*`, ]+?)\s*:(?:\s+(.*)|\s*)", head)
        if named or section != "Returns":
            name, kind = (named[1], named[2] or "") if named else (head, "")
            yield Entry(section, plain([name]).replace("`", ""), plain([kind]), plain(text))
        else:
            yield Entry(section, "", plain([head]), plain(text))


def _google_entries(section: str, body: list[str]) -> Iterator[Entry]:
    indents = [len(line) - len(line.lstrip()) for line in body if line.strip()]
    for head, text in _entries(body, min(indents, default=0)):
        match = re.match(r"\s*([*\w.]+)\s*(?:\((.*?)\))?\s*:(?:\s+|$)(.*)", head)
        if match and section != "Returns":
            yield Entry(section, match[1].lstrip("*"), plain([match[2] or ""]), plain([match[3], *text]))


def _entries(body: list[str], indent: int) -> Iterator[tuple[str, list[str]]]:
    """Head line of each entry and the deeper lines under it."""
    head, text = "", list[str]()
    for line in body:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            if head:
                yield head, text
            head, text = line, []
        else:
            text.append(line)
    if head:
        yield head, text


def drawn(name: str) -> int:
    """A 64-bit number drawn by hash. Order and sides that rest on it stay the same when other
    objects come or go.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
