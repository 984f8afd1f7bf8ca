"""Docstrings are read from source, in both styles, without importing the package."""

import ast
import sys
import warnings

import pytest

from workbench.data.docstrings import Entry, documented, installed, parse, plain

NUMPY = """
    Sum of the elements.

    More about it.

    Parameters
    ----------
    axis : {0, 'index'}, default None
        Axis along which to sum. See :meth:`~pandas.DataFrame.sum` or ``x**2``.

        .. versionadded:: 1.2
    *args, **kwargs
        Passed on.
    bare: int
        No space before the colon:

        - a list item
    out

    Returns
    -------
    ndarray or scalar
        The **bold** sum.

    Raises
    ------
    ValueError
        If empty.

    See Also
    --------
    mean : Another.
    """

GOOGLE = """Applies a linear map.

    Args:
        in_features (int): size of each input
            sample
        bias: If set to ``False``, none. Default: ``True``

    Shape:
        - Input: something

    Raises:
        RuntimeError: when it cannot
    """


def test_numpydoc_sections_become_entries():
    summary, entries = parse(NUMPY)
    assert summary == "Sum of the elements."
    assert entries == (
        Entry("Parameters", "axis", "{0, 'index'}, default None", "Axis along which to sum. See `sum` or `x**2`."),
        Entry("Parameters", "*args, **kwargs", "", "Passed on."),
        Entry("Parameters", "bare", "int", "No space before the colon:"),
        Entry("Parameters", "out", "", ""),
        Entry("Returns", "", "ndarray or scalar", "The bold sum."),
        Entry("Raises", "ValueError", "", "If empty."),
    )


def test_google_sections_become_the_same_entries():
    assert parse(GOOGLE)[1] == (
        Entry("Parameters", "in_features", "int", "size of each input sample"),
        Entry("Parameters", "bias", "", "If set to `False`, none. Default: `True`"),
        Entry("Raises", "RuntimeError", "", "when it cannot"),
    )


@pytest.mark.parametrize(
    "text", ["", "x", "Parameters\n----------", "Parameters\n----------\n\n\nReturns\n-------\n", "Args:\n\n", "a\n---\n"]
)
def test_odd_docstrings_are_no_error(text):
    assert parse(text)[1] == ()


def test_objects_are_found_in_the_source_of_a_package_that_is_never_imported(tmp_path, monkeypatch):
    package = tmp_path / "neverimported"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError\n")
    body = '"""Does.\n\n    Parameters\n    ----------\n    a : int\n        First.\n    """\n'
    (package / "tests" / "mod.py").write_text(f"def tested():\n    {body}")
    (package / "broken.py").write_text("def (:  # ----\n")
    (package / "mod.py").write_text(
        f"def function():\n    {body}\ndef _hidden():\n    {body}\n"
        f"class Thing:\n  def __init__(self):\n    {body}\n  def method(self):\n    {body}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = list(documented("neverimported"))
    assert [each.path for each in found] == [f"neverimported.mod.{name}" for name in ("function", "Thing", "Thing.method")]
    assert found[2].name == "Thing.method"
    assert found[2].entries == (Entry("Parameters", "a", "int", "First."),)
    assert "neverimported" not in sys.modules


def test_a_package_that_is_not_installed_has_no_objects():
    assert installed("surely_not_installed") is None
    assert list(documented("surely_not_installed")) == []


def test_names_and_types_are_those_that_numpydoc_reads():
    docscrape = pytest.importorskip("numpydoc.docscrape", reason="numpydoc is not installed: no second opinion on the parser")
    root = installed("networkx")
    checked = 0
    for file in sorted((root / "algorithms").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if text and "Parameters\n---" in text:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    theirs = docscrape.NumpyDocString(text)["Parameters"]
                ours = [entry for entry in parse(text)[1] if entry.section == "Parameters"]
                # Where an author wrote "name: type" we are the more tolerant.
                if not any(":" in each.name for each in theirs):
                    assert [entry.name for entry in ours][: len(theirs)] == [each.name for each in theirs]
                    for entry, each in zip(ours, theirs, strict=False):
                        assert entry.type == plain([each.type])
                    checked += 1
    assert checked > 200
