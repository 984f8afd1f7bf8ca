"""What is known of the licences of packages, and of the data sets that are made of them."""

from __future__ import annotations

from importlib import metadata

from workbench.data import digits, pycalls, pydocs, pysearch, pysupport, pytopics

UNKNOWN = "unknown"

_SHORT = 120
"""Some packages put the whole text of their licence where its name should be: a name is one line, and shorter."""

_OF_DOCSTRINGS = {"pydocs": pydocs, "pytopics": pytopics, "pysearch": pysearch, "pysupport": pysupport, "pycalls": pycalls}


def of_package(distribution: str) -> str:
    """What the metadata of an installed package say of its licence; `unknown` where they say nothing, or it is not installed."""
    try:
        about = metadata.metadata(distribution).json
    except metadata.PackageNotFoundError:
        return UNKNOWN
    classifiers = [str(each).split(" :: ") for each in about.get("classifier", ())]
    known = [parts[-1] for parts in classifiers if parts[0] == "License"]
    for text in (str(about.get("license_expression") or ""), str(about.get("license") or ""), ", ".join(known)):
        if text.strip() and "\n" not in text and len(text) <= _SHORT:
            return text.strip()
    first = str(about.get("license") or "").strip().partition("\n")[0]
    return first[:_SHORT] or UNKNOWN


def of_data(data: str) -> str:
    """What is known of the licence of a data set, a phrase: of built-in ones, what they are made of and under which licences.

    Of others it is `unknown`: whoever gives a model away has to look.
    """
    if data in _OF_DOCSTRINGS:
        packages = [pydocs.PACKAGES[module] for module in _OF_DOCSTRINGS[data].versions()]
        return f"docstrings of {', '.join(f'{name} ({of_package(name)})' for name in packages)}"
    if data == "digits":
        return f"carried by scikit-learn {digits.versions()['sklearn']} ({of_package('scikit-learn')})"
    if data == "opinions":
        return "MIT License, by opinions.LICENSE.txt; writers of the sentences quoted in it may have rights in them"
    return "none is needed: made by a formula" if data == "vowels" else UNKNOWN
