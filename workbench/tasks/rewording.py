"""English in other words, by rules that leave the meaning as it is, and its negation, by a rule that turns it round.

Rules and not a model: they are the same on every machine, cost nothing, and can be read. They are few, and stiff. What they
show is whether a model hangs on single words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SHORT: Mapping[str, str] = {
    "cannot": "can't", "do not": "don't", "does not": "doesn't", "did not": "didn't", "is not": "isn't", "are not": "aren't",
    "was not": "wasn't", "were not": "weren't", "will not": "won't", "would not": "wouldn't", "should not": "shouldn't",
    "could not": "couldn't", "has not": "hasn't", "have not": "haven't", "had not": "hadn't", "i am": "i'm", "you are": "you're",
    "we are": "we're", "they are": "they're", "i have": "i've", "you have": "you've", "we have": "we've", "i will": "i'll",
    "you will": "you'll", "we will": "we'll",
}  # fmt: skip
"""Long forms and their short forms, one for one both ways: "he's" is both "he is" and "he has", and is left as it is."""

SYNONYMS: Mapping[str, str] = {
    "also": "too", "although": "though", "answer": "reply", "because": "since", "big": "large", "buy": "purchase",
    "bought": "purchased", "centre": "center", "colour": "color", "everybody": "everyone", "film": "movie", "films": "movies",
    "hello": "hi", "however": "nevertheless", "maybe": "perhaps", "nearly": "almost", "often": "frequently", "photo": "picture",
    "quick": "fast", "quickly": "fast", "rubbish": "garbage", "sad": "unhappy", "start": "begin", "starts": "begins",
    "started": "began", "terrible": "awful", "very": "really", "whole": "entire",
}  # fmt: skip
"""Words that stand for each other in nearly every sentence. A word is replaced by its partner whichever of both it is."""

NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
"""From 2 on: "one" is more often a pronoun."""

OPENER = "In other words:"
"""What stands before a text in which no rule applies."""

LONGEST = 15
"""Words of the longest text that is negated: of a long one a single "not" turns a part."""

_REPLACED: Mapping[str, str] = {
    # "since" and "too" are not led back: they mean more than "because" and "also".
    **{other: word for word, other in SYNONYMS.items() if word not in ("because", "also", "answer", "quickly")},
    **SYNONYMS,
    **{short: full for full, short in SHORT.items()},
    **SHORT,
    **{word: str(number) for number, word in enumerate(NUMBERS, 2)},
}

_WORDS = re.compile(
    r"(?<![\w'-])(?:" + "|".join(sorted(map(re.escape, _REPLACED), key=len, reverse=True)) + r")(?![\w'-])", re.IGNORECASE
)

_TURNED = re.compile(
    r"(?<![\w'-])(?:is|are|was|were|am|can|could|will|would|should|must|(?:has|have|had) been)(?=\s+\w)(?![\w'-])", re.IGNORECASE
)
"""Verbs behind which "not" negates a statement. Not "has" and "did" by themselves, which are often full verbs."""

_DOUBTFUL = re.compile(
    r"(?<![\w-])(?:not|\w+n't|cannot|never|no|nobody|none|nothing|neither|nor|hardly|barely|without|but|although|though|however|yet|"
    r"and|that|which|who|whose|whom|what|where|when|why|how|while|because|until|every|if|unless|except|only|so|too|than|wish)"
    r"(?![\w-])|[,;:?&()\"]|(?<=\s)-|[.!]\s*[^\s.!]",
    re.IGNORECASE,
)
"""A second clause or part, a negation, or a comparison: there "not" may turn another part than the one that the answer is about."""


def reworded(text: str) -> str:
    """The same in other words: long forms for short ones and the reverse, figures for numbers, synonyms; `OPENER` before a text
    in which none of these is found.
    """
    other = _WORDS.sub(lambda found: _as_written(_REPLACED[found[0].lower()], found[0]), text.replace("\u2019", "'"))
    return other if other != text else f"{OPENER} {text}"


def negated(text: str) -> str:
    """The opposite of a statement: "it is good" becomes "it is not good". The text itself where the rule does not apply: questions,
    what has several clauses or a negation already, what is longer than `LONGEST` words, and what has no verb that it knows.
    """
    found = _TURNED.search(text)
    # At the beginning it asks ("is it good") or orders.
    if found is None or not text[: found.start()].strip() or _DOUBTFUL.search(text) or len(text.split()) > LONGEST:
        return text
    verb = found[0]
    of = verb.split()
    turned = f"{of[0]} not {of[1]}" if len(of) > 1 else f"{verb}not" if verb.lower() == "can" else f"{verb} not"
    return text[: found.start()] + turned + text[found.end() :]


def _as_written(word: str, like: str) -> str:
    """A word with its first letter, or all of them, in upper case as another one has them; "I" always."""
    word = re.sub(r"^i(?=[' ])", "I", word)
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
