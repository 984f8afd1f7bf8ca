"""Finds e-mail addresses, telephone numbers, numbers of cards and accounts, and names in texts, and
puts placeholders such as `[EMAIL]` in their place.

Patterns and checksums, so the same text is redacted alike on every machine and in every version: a
recipe is known by what was read. Only names depend on more, where presidio finds them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.data import names
from workbench.errors import UsageError, did_you_mean

KINDS = ("email", "iban", "card", "phone", "name")
"""What can be redacted, in the order in which it is looked for: an account's number holds digits
that may look like a card's, and a card's may look like a telephone's.
"""

ALL = "all"
"""Stands for all of `KINDS`."""

COUNTS = "redacted"
"""Key of an example under which stands how many things of each kind were redacted in it."""

NOUNS = {
    "email": "e-mail address",
    "iban": "account number",
    "card": "card number",
    "phone": "telephone number",
    "name": "name",
}
"""What a thing of each kind is called."""

_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+%'-]{1,64}"
    r"(?:@|\s?[\[(]\s?at\s?[\])]\s?)"
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.|\s?[\[(]\s?dot\s?[\])]\s?))+[^\W\d_]{2,24}(?![\w-])",
    re.IGNORECASE,
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.+-])[2-6](?:[ -]?\d){12,18}(?![\w-]|\.\d)")
_NETWORK = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11,16}|"
    r"35\d{14,17}|6(?:011|4[4-9]\d|5\d\d|2\d\d)\d{12,15}|(?:5[06-9]|6[0-9])\d{11,17}"
)
"""Visa, Mastercard, American Express, Diners Club, JCB, Discover and UnionPay, Maestro: how their
numbers begin, and how long they are.
"""
_PHONE = re.compile(
    r"(?<![\w.,/=#-])(?:\+\s?|00\s?)?\(?\d(?:[ \u00a0./()\u2013-]{0,3}\d){5,16}"
    r"(?:\s?(?:x|ext\.?|extension|durchwahl)\s?\d{1,6})?(?![\w-]|[.,:/]\d|\s?%)",
    re.IGNORECASE,
)
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
"""How long the numbers of each country are, by the registry of ISO 13616 (SWIFT, release 99)."""

_SAID = re.compile(
    r"(?:phone|telephone|tel|mobile|cell|call|fax|whatsapp|sms|text(?: me)?(?: at)?|ring|reach(?:ed)?(?: me)?(?: at| on)|hotline|"
    r"handy|telefon|mobil|rufen?|téléphone|teléfono|telefono|number is|dial)\b[^\n\d]{0,24}$",
    re.IGNORECASE,
)
"""Words before a number that say what it is."""

_DATE = re.compile(r"(?:\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{2,4})(?![./-]?\d)")
_NORTH_AMERICA = re.compile(r"(?:1[ .-]?)?\(?[2-9]\d\d\)?[ .-]?[2-9]\d\d[ .-]?\d{4}")


@dataclass(frozen=True)
class Redacted:
    """A text with placeholders.

    Attributes:
        text: The text.
        spans: What was replaced, in its order: first character, behind the last, and the kind; in
            characters of the text as it was.
    """

    text: str
    spans: tuple[tuple[int, int, str], ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many things of each kind were replaced."""
        return dict(Counter(kind for _, _, kind in self.spans))

    def moved(self, start: int, end: int) -> tuple[int, int]:
        """Where the characters [start, end) of the text as it was stand now. What begins or ends
        within something that was replaced is taken to the ends of its placeholder.
        """
        return self._moved(start, last=False), self._moved(end, last=True)

    def _moved(self, at: int, *, last: bool) -> int:
        shift = 0
        for start, end, kind in self.spans:
            put = len(placeholder(kind))
            if at <= start:
                break
            if at < end:
                return start + shift + (put if last else 0)
            shift += put - (end - start)
        return at + shift


def placeholder(kind: str) -> str:
    """What is put in the place of a thing of that kind: `[EMAIL]`."""
    return f"[{kind.upper()}]"


def checked(given: Any) -> tuple[str, ...] | None:
    """The kinds that a user asks for, in the order of `KINDS`; None where nothing is to be redacted.

    Args:
        given: `"all"`, a kind, several, or None.

    Raises:
        UsageError: One of them is unknown, or there is none.
    """
    if given is None:
        return None
    asked = KINDS if given == ALL else (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
    if strange := next((each for each in asked if each not in KINDS), None):
        raise UsageError(f"redact={given!r}: {strange!r} is unknown.{did_you_mean(str(strange), (*KINDS, ALL))}")
    if not asked:
        raise UsageError(f'redact={given!r}: name what is to be redacted ({", ".join(KINDS)}), or redact="all".')
    return tuple(kind for kind in KINDS if kind in asked)


def finders(kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds, that of names with what finds them here: a form of other finders reads otherwise."""
    return tuple(f"name by {names.finder()}" if kind == "name" else kind for kind in kinds)


def redacted(text: str, kinds: Sequence[str]) -> Redacted:
    """A text with placeholders for what is found in it.

    Args:
        text: The text.
        kinds: As `finders` gives them.
    """
    found: list[tuple[int, int, str]] = []
    for kind in kinds:
        find = _FINDERS.get(kind, names.spans)
        for start, end in find(text):
            if all(end <= first or start >= last for first, last, _ in found):
                found.append((start, end, kind.partition(" ")[0]))
    found.sort()
    parts, done = [], 0
    for start, end, kind in found:
        parts += [text[done:start], placeholder(kind)]
        done = end
    return Redacted("".join([*parts, text[done:]]), tuple(found))


def value(given: Any, kinds: Sequence[str], counts: Counter[str]) -> Any:
    """A value of an example with placeholders in all of its texts, keys of mappings too. What was
    replaced is added to `counts`.
    """
    if isinstance(given, str):
        found = redacted(given, kinds)
        counts.update(found.counts)
        return found.text
    if isinstance(given, Mapping):
        return {value(name, kinds, counts): value(each, kinds, counts) for name, each in given.items()}
    if isinstance(given, list):
        return (
            words(given, kinds, counts)
            if given and all(isinstance(each, str) for each in given)
            else [value(each, kinds, counts) for each in given]
        )
    return given


def words(given: Sequence[str], kinds: Sequence[str], counts: Counter[str]) -> list[str]:
    """Texts in a list, looked at one by one and then in a row: each word of a number that is spread
    over several becomes the placeholder, so that there are as many as before.
    """
    one_by_one = [redacted(each, kinds) for each in given]
    for each in one_by_one:
        counts.update(each.counts)
    kept = [each.text for each in one_by_one]
    joined = redacted(" ".join(kept), kinds)
    counts.update(joined.counts)
    start = 0
    for i, word in enumerate(kept):
        end = start + len(word)
        kind = next((kind for first, last, kind in joined.spans if first < end and start < last), None)
        kept[i] = kept[i] if kind is None else placeholder(kind)
        start = end + 1
    return kept


def summary(examples: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How many examples there are, how many something was redacted in, and how much of each kind."""
    counts, total, touched = Counter[str](), 0, 0
    for example in examples:
        own = example.get(COUNTS, {})
        counts.update(own)
        total, touched = total + 1, touched + bool(own)
    return {"examples": total, "redacted": touched, "counts": {kind: counts[kind] for kind in KINDS if counts[kind]}}


def told(found: Mapping[str, Any]) -> str:
    """A summary, with the `kinds` that were looked for, in a sentence."""
    total, touched, counts = found["examples"], found["redacted"], found["counts"]
    nouns = [f"{count:,} {_plural(NOUNS[kind], count)}" for kind, count in counts.items()]
    looked = ", ".join(_plural(NOUNS[kind.partition(" ")[0]], 2) for kind in found["kinds"])
    if not touched:
        return f"Redaction found nothing in {total:,} examples (looked for: {looked})."
    share = 100 * touched / total
    return f"Redacted in {touched:,} of {total:,} examples ({share:.1f} %): {', '.join(nouns)} (looked for: {looked})."


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _emails(text: str) -> Iterator[tuple[int, int]]:
    for found in _EMAIL.finditer(text):
        # A full stop or an apostrophe before it is no part of an address.
        lead = len(found[0]) - len(found[0].lstrip(".'"))
        yield found.start() + lead, found.end()


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """Numbers as long as their country's, whose remainder modulo 97 is 1 (ISO 13616)."""
    for found in _IBAN.finditer(text):
        given = found[0]
        # A word behind the number may look like a part of it.
        places = [i for i, each in enumerate(given) if each.isalnum()]
        length = _IBAN_LENGTHS.get(given[:2].upper(), 0)
        if not length or len(places) < length:
            continue
        end = places[length - 1] + 1
        plain = "".join(given[i] for i in places[:length]).upper()
        if given[end : end + 1] in ("", " ", "-") and int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1:
            yield found.start(), found.start() + end


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Numbers that begin and are as long as those of a network, whose last digit is right
    (ISO/IEC 7812, Luhn).
    """
    for found in _CARD.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if _NETWORK.fullmatch(digits) and _luhn(digits):
            yield found.span()


def _luhn(digits: str) -> bool:
    total = 0
    for i, each in enumerate(reversed(digits)):
        number = int(each) * (1 + i % 2)
        total += number - 9 * (number > 9)
    return total % 10 == 0


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for found in _PHONE.finditer(text):
        given, start = found[0].rstrip(" (-./"), found.start()
        if given.startswith("(") and ")" not in given:  # the number itself stands in parentheses
            given, start = given[1:], start + 1
        if given.count("(") != given.count(")"):
            continue
        if _is_phone(given, said=_SAID.search(text[max(0, start - 40) : start]) is not None):
            yield start, start + len(given)


def _is_phone(given: str, *, said: bool) -> bool:
    """Whether digits with separators are a telephone number.

    Args:
        given: As they stand in the text.
        said: Whether words before them say that they are one.
    """
    own = re.split(r"(?i)\s?(?:x|ext\.?|extension|durchwahl)\s?\d", given)[0]
    groups = re.findall(r"\d+", own)
    digits = "".join(groups)
    if not 7 <= len(digits) <= 15 or _DATE.match(own) or len({*digits}) == 1:
        return False
    if said or (own.startswith(("+", "00")) and len(digits) >= 8):
        return True
    # A version, an address of a machine, the number of a book.
    if own.count(".") == 3 and len(groups) == 4 and all(int(each) < 256 for each in groups):
        return False
    if digits.startswith(("978", "979")) and len(digits) == 13:
        return False
    if _NORTH_AMERICA.fullmatch(own):
        return len(groups) > 2 or "(" in own
    if own.startswith("(") and groups[0] and len(digits) >= 8:
        return True
    if digits[0] == "0" and own[1:2] != ".":
        return 9 <= len(digits) <= 12 and (len(groups) > 1 or len(digits) >= 10)
    # Groups of three behind the first are how large numbers are written; groups of two are lists.
    alike = all(len(each) == 3 for each in groups[1:]) or all(len(each) == 2 for each in groups)
    return len(groups) > 2 and 9 <= len(digits) <= 11 and not alike and all(2 <= len(each) <= 4 for each in groups)


_FINDERS: Mapping[str, Any] = {"email": _emails, "iban": _ibans, "card": _cards, "phone": _phones}
