"""`pydocs`, the built-in data set for extractive question answering: docstrings of scientific
packages.

Every question is about one entry of a docstring (a parameter, a return value, an exception). The
context is a short excerpt around that entry, with its other entries as distractors. The answer is
an exact span of the context:

    question  What is the default of `skipna` in `DataFrame.sum`?
    context   axis: {index (0), columns (1)}. Axis for the function to be applied on.
              skipna: bool, default True. Exclude NA/null values when computing the result.
    answer    True

It needs no network: the docstrings are those of the packages that are installed here. So it is the
same for the same versions of these, and its digest says which it is.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data import cache, docstrings, duplicates
from workbench.data.docstrings import Documented, Entry
from workbench.errors import EnvironmentFault

PACKAGES = {  # top-level module -> distribution
    "pandas": "pandas",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "networkx": "networkx",
    "matplotlib": "matplotlib",
    "torch": "torch",
}
KINDS = ("type", "default", "meaning", "returns", "raises")
"""Kinds of question; the kind is the last part of an example's id."""

SIMILAR = 0.6
"""Docstrings or entries with at least this Jaccard index of their shingles are never on two sides
of the split.
"""

CONTEXT_TOKENS = 48  # by `_tokens`; word-piece tokenisers count a quarter more
DISTRACTOR_WORDS = 12
ANSWER_WORDS = 16
PER_KIND = 7_000  # reached by the two most frequent kinds alone


def versions() -> dict[str, str]:
    """Version of each installed package the data set is made from."""
    found = {}
    for module, distribution in PACKAGES.items():
        if docstrings.installed(module):
            try:
                found[module] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:  # e.g. on PYTHONPATH: no version, no way to know a change
                continue
    return found


def load() -> dict[str, list[dict[str, Any]]]:
    """Examples of the sides `train`, `dev` and `test`, from the cache or built anew (some 15 s).

    Ids are `package.module.object/entry/kind`. The order is fixed and random: any prefix is a fair
    sample.

    Raises:
        EnvironmentFault: None of the packages is installed, or the cache cannot be written.
    """
    made_from = versions()
    if not made_from:
        raise EnvironmentFault(
            f"the data set 'pydocs' needs one of {', '.join(PACKAGES.values())}; none is installed. Install one."
        )
    # Code counts too: a change in how docstrings are read makes another data set.
    code = [Path(module.__file__ or "") for module in (docstrings, duplicates)] + [Path(__file__)]
    sides: dict[str, list[dict[str, Any]]] = cache.built("pydocs", made_from, code, lambda: build(tuple(made_from)))
    return sides


def build(packages: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Examples of each side, from the docstrings of installed packages.

    Args:
        packages: Top-level module names.
    """
    objects = [each for package in packages for each in docstrings.documented(package) if _usable(each)]
    objects = list({each.path: each for each in objects}.values())
    sides = _sides(objects)
    questions = [question for each in objects for question in _questions(each)]
    # By hash, so that any prefix is a fair sample and stays one when objects come or go.
    questions.sort(key=lambda question: docstrings.drawn(question.id))
    kept: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    count = dict.fromkeys(KINDS, 0)
    for question in _without_repeats(questions, sides):
        count[question.kind] += 1
        if count[question.kind] <= PER_KIND:
            kept[sides[question.path]].append(question.example())
    return kept


_Span = tuple[int, str]


@dataclass(frozen=True, slots=True)
class _Question:
    path: str  # of the object
    kind: str
    name: str  # of the entry
    entry: str  # as it stands in the context
    text: str
    context: str
    start: int  # of the answer in the context
    answer: str

    @property
    def id(self) -> str:
        return f"{self.path}/{self.name}/{self.kind}"

    def example(self) -> dict[str, Any]:
        answers = {"text": [self.answer], "answer_start": [self.start]}
        return {"id": self.id, "question": self.text, "context": self.context, "answers": answers}


def _usable(each: Documented) -> bool:
    """Whether a docstring has several entries and no unfilled template (`%(klass)s`, `{klass}`),
    which no reader ever sees.
    """
    text = " ".join(_render(entry) for entry in each.entries)
    return len(each.entries) > 1 and not re.search(r"%\(\w+(:\w+)?\)s|\{(klass|\w*_doc|\w+_param\w*)\}|%s", text)


def _sides(objects: Sequence[Documented]) -> dict[str, str]:
    """The side of each path, 8 : 1 : 1 by the hash of its group of near-duplicate docstrings."""
    roots = _alike([" ".join(_render(entry) for entry in each.entries) for each in objects])
    first: dict[int, str] = {}
    for each, root in zip(objects, roots, strict=True):
        first.setdefault(root, each.path)
    parts = ("train",) * 8 + ("dev", "test")
    return {each.path: parts[docstrings.drawn(first[root]) % 10] for each, root in zip(objects, roots, strict=True)}


def _without_repeats(questions: Sequence[_Question], sides: dict[str, str]) -> Iterator[_Question]:
    """Questions without repeats: the same entry is asked about once, however many docstrings have
    it (`random_state`, `ax`).

    A question whose entry or context nearly repeats one of another side is left out; the first that
    comes keeps it.
    """
    alike = _alike([question.entry for question in questions]), _alike([question.context for question in questions])
    owners: tuple[dict[int, str], ...] = ({}, {})
    asked: set[tuple[str, ...]] = set()
    for question, *roots in zip(questions, *alike, strict=True):
        side = sides[question.path]
        key = (question.kind, *duplicates.words(question.entry))
        if key not in asked and all(owner.get(root, side) == side for owner, root in zip(owners, roots, strict=True)):
            for owner, root in zip(owners, roots, strict=True):
                owner[root] = side
            asked.add(key)
            yield question


def _alike(texts: Sequence[str]) -> list[int]:
    """The number of each text's group of near-duplicates."""
    sets = [duplicates.shingles(text) for text in texts]
    # Equal sets are one item: hundreds of copies of `random_state` need not be compared.
    number = {each: i for i, each in enumerate(dict.fromkeys(sets))}
    roots = duplicates.groups(len(number), duplicates.similar_pairs(list(number), SIMILAR))
    return [roots[number[each]] for each in sets]


# Questions of an entry


def _questions(about: Documented) -> Iterator[_Question]:
    names = [entry.name for entry in about.entries]
    lines = [_render(entry, DISTRACTOR_WORDS) for entry in about.entries]
    for i, entry in enumerate(about.entries):
        line = _render(entry)
        if names.count(entry.name) > 1 or len(line.split()) < 4:
            continue
        context, offset = _excerpt(about, i, [*lines[:i], line, *lines[i + 1 :]])
        for kind, text, (start, answer) in _asked(entry, f"`{about.name}`"):
            if answer and len(answer.split()) <= ANSWER_WORDS:
                yield _Question(about.path, kind, entry.name, line, text, context, offset + start, answer)


def _asked(entry: Entry, place: str) -> Iterator[tuple[str, str, _Span]]:
    """The questions about an entry.

    Yields:
        Kind, question, and the answer's offset in the rendered entry with the answer, which is ""
        where there is none.
    """
    if entry.section == "Parameters" and re.fullmatch(r"\*{0,2}\w+", entry.name):
        yield "type", f"What type is `{entry.name}` in {place}?", _type(entry)
        yield "default", f"What is the default of `{entry.name}` in {place}?", _default(entry)
        yield "meaning", f"What does `{entry.name}` do in {place}?", _meaning(entry)
    if entry.section == "Returns":
        meaning = _meaning(entry)
        yield "returns", f"What does {place} return?", meaning if meaning[1] else _type(entry)
    if entry.section == "Raises" and entry.name:
        yield "raises", f"When does {place} raise `{entry.name}`?", _meaning(entry)


def _type(entry: Entry) -> _Span:
    """The type of an entry, without its default."""
    kind = re.split(r"[,;]?\s*\(?\b(?:optional|required|[Dd]efault|by default|keyword[- ]only)\b", entry.type)[0].rstrip(" ,;.")
    return len(entry.name) + 2 if entry.name else 0, kind


def _default(entry: Entry) -> _Span:
    """The default, from the type or else from the description."""
    value = r"(`[^`]+`|\"[^\"]*\"|'[^']*'|\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|[^\s,;(){}]+?(?:\([^()]*\))?)"
    in_type = rf"\b[Dd]efaults?\s*(?:value)?\s*(?:(?:is\b|to\b|[:=])\s*)*{value}(?=[.,;)]*(?:\s|$))"
    in_text = rf"(?:\b[Dd]efault(?:s to| is| value is|s?:|=) ?|[Bb]y default,? (?:is )?){value}(?=[.,;)]*(?:\s*$|\s*[A-Z(])|[,;)])"
    start, found = len(entry.name) + 2, re.search(in_type, entry.type.rstrip("."))
    if not found:
        start, found = len(_render(entry)) - len(_clip(entry.text)), re.search(in_text, _clip(entry.text))
    if not found or found[1].lower() in {"the", "a", "an", "this", "it", "is", "value", "optional", "see"}:
        return 0, ""
    quotes = "`\"' "
    return start + found.start(1) + len(found[1]) - len(found[1].lstrip(quotes)), found[1].strip(quotes)


def _meaning(entry: Entry) -> _Span:
    """The first sentence of the description without its full stop; nothing where it has fewer than
    three words.
    """
    text = _clip(entry.text)
    end = re.search(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)(?<!cf)(?<!Eq)(?<!\bal)[.!?](?=\s+[A-Z`\"'(\[]|\s*$)|;\s|$", text)
    sentence = text[: end.start()].rstrip() if end else ""
    whole = len(sentence.split()) >= 3 and sentence[-1] not in ":,("
    return len(_render(entry)) - len(text), sentence if whole else ""


# Excerpts


def _render(entry: Entry, most: int = 24) -> str:
    """An entry as `name: type. description`, the description cut off."""
    text = _clip(entry.text, most)
    return ". ".join(part for part in (_head(entry), text) if part)


def _head(entry: Entry) -> str:
    return ": ".join(part for part in (entry.name, entry.type.rstrip(".")) if part)


def _clip(text: str, most: int = 24) -> str:
    """A text of at most `most` words, cut at the end of a sentence where there is one in the second
    half.
    """
    each = text.split(" ")
    if len(each) <= most:
        return text
    for i in range(most, most // 2, -1):
        if each[i - 1].endswith("."):
            return " ".join(each[:i])
    return " ".join(each[:most])


def _excerpt(about: Documented, asked: int, lines: Sequence[str]) -> tuple[str, int]:
    """A run of entries around the one asked about.

    Which side grows first is drawn by hash, so an answer's place in the context gives nothing away.

    Returns:
        The text, and the offset in it of the entry asked about.
    """
    first, last, spent = asked, asked + 1, _tokens(lines[asked])
    coins = docstrings.drawn(f"{about.path}/{asked}")
    while True:
        before = first > 0 and spent + _tokens(lines[first - 1]) <= CONTEXT_TOKENS
        after = last < len(lines) and spent + _tokens(lines[last]) <= CONTEXT_TOKENS
        if not (before or after):
            break
        if before and (coins & 1 or not after):
            first -= 1
            spent += _tokens(lines[first])
        else:
            spent += _tokens(lines[last])
            last += 1
        coins >>= 1
    sections = [entry.section for entry in about.entries]
    text, start = "", 0
    for i in range(first, last):
        if sections[i] != "Parameters" and (i == first or sections[i] != sections[i - 1]):
            text += f"{sections[i]}:\n"
        if i == asked:
            start = len(text)
        text += lines[i] + "\n"
    return text.rstrip("\n"), start


@functools.lru_cache(maxsize=256)
def _tokens(line: str) -> int:
    return len(re.findall(r"[^\W_]+|[^\w\s]|_", line))
