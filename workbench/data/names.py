"""Finds names of persons: by presidio with a model of spaCy where both are installed, else by what
stands before them.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm", "xx_ent_wiki_sm")
"""spaCy's models by which presidio may find names, the first that is installed."""

PATTERNS = "patterns"
"""What finds names where presidio or a model is missing. Most names are missed."""

_NAME = r"[^\W\d_a-z](?:[^\W\d_]|['’-](?=[^\W\d_]))*\.?"
_TITLED = re.compile(
    r"\b(?:Mrs?|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Madam|Herrn?|Frau|Mme|M|Mlle|Sra?|Srta)\b\.?\s+"
    rf"(?P<name>{_NAME}(?:\s+(?:(?:von|van|de|der|den|di|da|del|la|le|bin|al)\s+)*{_NAME}){{0,3}})"
)
_SAID = re.compile(
    r"\b(?:(?i:my name is|my name's|name:|named|this is|i am|i'm|dear|signed,?|regards,?|sincerely,?|yours,?|thanks,?|cheers,?|"
    r"ich heiße|mein name ist|je m'appelle|me llamo))\s+"
    rf"(?P<name>{_NAME}(?:\s+{_NAME}){{0,3}})"
)
_NOT_NAMES = frozenset({
    *("A", "An", "And", "But", "For", "From", "He", "Her", "His", "How", "I", "If", "In", "Is", "It", "Its", "My"),
    *("No", "Not", "Of", "On", "Or", "Our", "She", "So", "That", "The", "Their", "There", "They", "This", "To", "We"),
    *("What", "When", "Where", "Who", "Why", "With", "You", "Your", "Sir", "Madam", "Customer", "Team", "Support"),
    *("All", "Everyone", "Sorry", "Happy", "Very", "Just", "Still", "Also"),
})  # fmt: skip
"""Words that a sentence may go on with where a name could stand."""


def finder() -> str:
    """What finds names here, with its version: presidio and its model, or `PATTERNS`."""
    model = next((name for name in MODELS if importlib.util.find_spec(name)), None)
    if model is None or importlib.util.find_spec("presidio_analyzer") is None:
        return PATTERNS
    return f"presidio {metadata.version('presidio-analyzer')} with {model} {metadata.version(model.replace('_', '-'))}"


def spans(text: str) -> Iterator[tuple[int, int]]:
    """First character and the one behind the last of each name in a text."""
    engine = None if finder_is_patterns() else _engine()
    if engine is not None:
        for found in engine.analyze(text=text, language="en", entities=["PERSON"]):
            yield found.start, found.end
        return
    for pattern in (_TITLED, _SAID):
        for match in pattern.finditer(text):
            if match["name"].split()[0].rstrip(".") not in _NOT_NAMES:
                start, end = match.span("name")
                yield start, end - match["name"].endswith(".") * (len(match["name"].split()[-1]) > 2)


@functools.cache
def finder_is_patterns() -> bool:
    """Whether names are found by patterns alone."""
    return finder() == PATTERNS


@functools.cache
def _engine() -> Any:
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    model = next(name for name in MODELS if importlib.util.find_spec(name))
    # A configuration of its own: by default presidio fetches a large model from the network.
    how = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
    return AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=how).create_engine(), supported_languages=["en"])
