"""Makes up texts with e-mail addresses and numbers of telephones, cards and accounts, and texts that only look as if."""

import random

KINDS = ("email", "phone", "card", "iban")

_FIRST = ["ada", "bo", "chloé", "dmitri", "eve", "femi", "günther", "hana", "ines", "jean-luc", "kofi", "li", "maría", "nils"]
_LAST = ["abara", "baker", "cohen", "díaz", "eriksen", "fischer", "gupta", "hoffmann", "ito", "jones", "kim", "lopez", "müller"]
_HOSTS = ["example.com", "mail.example.co.uk", "uni-köln.de", "sub.domain.example.org", "example.io", "x1.example.museum"]

_PHONES = (
    "+1 (212) 5DD-DDDD", "+1-415-5DD-DDDD", "(646) 5DD-DDDD", "646-5DD-DDDD", "646.5DD.DDDD",
    "1-800-5DD-DDDD", "(303)5DD-DDDD", "+44 20 7DDD DDDD", "+44 (0)20 7DDD DDDD", "020 7DDD DDDD",
    "07DDD DDDDDD", "+44 7DDD DDDDDD", "07DDDDDDDDD", "(020) 7DDD DDDD", "+49 30 DDDDDDD",
    "+49 (0) 89 DDDDDD", "030 / DDDDDDD", "0171-DDDDDDD", "0049 171 DDDDDDD", "+49171DDDDDDDD",
    "089/DDDDDD-DD", "+33 6 DD DD DD DD", "06 DD DD DD DD", "06.DD.DD.DD.DD", "+33(0)1DDDDDDDD",
    "01-DD-DD-DD-DD", "+34 6DD DD DD DD", "6DD DD DD DD", "+39 02 DDDD DDDD", "02 DDDD DDDD",
    "+41 44 6DD DD DD", "044 6DD DD DD", "+43 1 DDDDDDD", "+46 70-DDD DD DD", "070-DDD DD DD",
    "+91 98DDD DDDDD", "+91-98DDDDDDDD", "+81 3-DDDD-DDDD", "03-DDDD-DDDD", "+86 138 DDDD DDDD",
    "138-DDDD-DDDD", "+61 4DD DDD DDD", "04DD DDD DDD", "(02) DDDD DDDD", "+55 11 9DDDD-DDDD",
    "(11) 9DDDD-DDDD", "+234 803 DDD DDDD", "+27 82 DDD DDDD", "+1 212-5DD-DDDD x12",
    "(212) 5DD-DDDD ext. 345",
)  # fmt: skip
_SAID = ("tel. DDDDDDD", "call DDD-DDDD", "my number is 9DD DDD DDD", "phone: 2125DDDDDD", "mobile 6DDDDDDDD")
"""Numbers that only the words before them tell."""

_CARDS = (
    ("4", 16),
    ("51", 16),
    ("55", 16),
    ("2221", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("3528", 16),
    ("36", 14),
    ("4", 19),
)
_IBANS = {
    "DE": 18,
    "GB": "A4D14",
    "FR": "D10X11D2",
    "NL": "A4D10",
    "ES": 20,
    "CH": "D5X12",
    "NO": 11,
    "MT": "A4D5X18",
    "PL": 24,
    "BE": 12,
}

_AROUND = (
    "Please write to {} today.", "{}", "My contact: {}, thanks!", "I moved; it is now {}.", "<{}>",
    "({})", "\"{}\"", "See {}; or call back.", "Ref A-17: {}\nBest regards", "Kontakt: {} (abends)",
    "is {} yours?", "two lines\n{}\nof text",
)  # fmt: skip

NOTHING = (
    "The meeting on 2024-05-17 at 10:30 takes 90 minutes.", "Version 10.12.3.4 of the tool is out.",
    "The host 192.168.100.200 is down.",
    "It costs 1,234,567.89 euros, or 1 234 567 in round numbers.",
    "ISBN 978-3-16-148410-0 is out of print.", "In 1998-2004 we sold 12,000.",
    "Order 4929123456789012345678 was lost.", "The value is 0.1234567890123.",
    "Room 12-345, floor 3.", "We are @home at 5 pm.", "Use numpy.array(3) @ weights.",
    "pi is 3.14159265358979.", "Flight LH 2030 on 12.05.2023 at 12:45.", "Section 3.4.5.6 applies.",
    "It has 1000000000 rows and 22713216 parameters.",
    "IBAN is short for International Bank Account Number.", "GB29 is a code of a road.",
    "From 100 to 2000, in steps of 50 or 100 or 200.", "Opening hours: 9-12, 13-17.",
    "The card number 4111 1111 1111 1112 is a fake.",
    "DE89 3704 0044 0532 0130 01 has a wrong checksum.", "2023-01-05 12 45 33 is how it logs.",
    "Ticket #20240517001 is open.", "chr1:1234567-1234890 was read.",
    "The ratio was 16:9, 1920x1080 at 60 Hz.", "Paragraph 12, lines 100-120.", "id=123456789, ok",
    "Call me when you can, at any time.", "Sizes 10 20 30 40 50 are sold out.",
    "In 2022, 2023 and 2024 it rose by 10%.",
)  # fmt: skip
"""Texts that hold none of it, though they look as if."""


def _filled(form: str, draw: random.Random) -> str:
    return "".join(str(draw.randint(0, 9)) if each == "D" else each for each in form)


def _email(draw: random.Random) -> str:
    first, last, host = draw.choice(_FIRST), draw.choice(_LAST), draw.choice(_HOSTS)
    local = draw.choice(("{0}.{1}", "{0}_{1}", "{0}{2}", "{0}+news", "{1}-{0}", "{0[0]}{1}", "{0}.{1}.{2}")).format(
        first, last, draw.randint(1, 99)
    )
    return draw.choice(("{}@{}", "{}@{}", "{}@{}", "{} (at) {}", "{}[at]{}")).format(draw.choice((local, local.upper())), host)


def _phone(draw: random.Random) -> str:
    return _filled(draw.choice(_PHONES), draw)


def _luhn(prefix: str, length: int, draw: random.Random) -> str:
    digits = prefix + "".join(str(draw.randint(0, 9)) for _ in range(length - len(prefix) - 1))
    doubled = [int(each) * (1 + (i + 1) % 2) for i, each in enumerate(reversed(digits))]
    return digits + str(-sum(n - 9 * (n > 9) for n in doubled) % 10)


def _card(draw: random.Random) -> str:
    digits = _luhn(*draw.choice(_CARDS), draw)
    cut = [4, 6, len(digits) - 10] if len(digits) in (14, 15) else [4] * (len(digits) // 4) + [len(digits) % 4]
    groups, at = [], 0
    for size in filter(None, cut):
        groups.append(digits[at : at + size])
        at += size
    return draw.choice(("", " ", "-")).join(groups)


def _iban(draw: random.Random) -> str:
    country, form = draw.choice([*_IBANS.items()])
    parts = [("D", form)] if isinstance(form, int) else []
    text = "" if parts else form
    while text:
        digits = "".join(each for each in text[1:4] if each.isdigit())
        while not text[1:].startswith(digits) or not digits:
            digits = digits[:-1]
        parts.append((text[0], int(digits)))
        text = text[1 + len(digits) :]
    letters = {"D": "0123456789", "A": "ABCDEFGHJKLMNPQRSTUVWXYZ", "X": "0123456789ABCDEFGH"}
    body = "".join(draw.choice(letters[kind]) for kind, count in parts for _ in range(count))
    remainder = int("".join(str(int(each, 36)) for each in f"{body}{country}00")) % 97
    plain = f"{country}{98 - remainder:02}{body}"
    grouped = draw.choice((" ", " ", "", "-")).join(plain[i : i + 4] for i in range(0, len(plain), 4))
    return draw.choice((grouped, grouped, grouped.lower()))


_MAKERS = {"email": _email, "phone": _phone, "card": _card, "iban": _iban}


def texts(kind: str, count: int, seed: int = 0):
    """So many texts with one thing of a kind in each: the text, and the thing."""
    draw = random.Random(f"{kind} {seed}")
    for _ in range(count):
        thing = _MAKERS[kind](draw)
        yield draw.choice(_AROUND).format(thing), thing


def said_phones(count: int):
    """Texts with telephone numbers that only words before them tell."""
    draw = random.Random(0)
    for _ in range(count):
        yield _filled(draw.choice(_SAID), draw)
