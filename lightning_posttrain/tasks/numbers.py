"""The one parser of numbers: rewards, evaluation and traces read answers with it, so they cannot disagree.

Values are exact fractions, never floats. Any text gives a number or None, in time linear in its length. `parse_number`
wants nothing but a number, `stated_number` an answer that states one. Left out: number words, and decimal commas
(``1,5`` is no number here).
"""

from __future__ import annotations

import re
from fractions import Fraction

from .latex import last_box, plain

MAX_DIGITS = 64
"""Digits of the longest number that is read. Any more is a model's stutter, and costly to compute with."""
MAX_EXPONENT = 64
"""Largest exponent of ten, either way: ``1e999999`` would be a million digits."""
MAX_LENGTH = 200
"""Characters of the longest text that may be a number, spaces and signs included."""

# Full-width forms and the minus sign. Not NFKC, which makes 10² to 102 and 1½ to 11⁄2.
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("−"): ord("-")}

_INTEGER = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_VALUE = (
    rf"(?:(?:(?P<whole>{_INTEGER})\s+)?(?P<top>{_INTEGER})\s*/\s*(?P<bottom>{_INTEGER})"
    rf"|(?P<decimal>{_INTEGER}(?:\.[0-9]+)?|(?<!\w)\.[0-9]+)(?:[eE](?P<exponent>[-+]?[0-9]+))?)"
)
_CURRENCY = "[$€£¥₹]"
_ALL = re.compile(rf"(?P<sign>[-+]?)\s*(?:{_CURRENCY}\s*(?P<inner>[-+]?))?{_VALUE}\s*(?:%|{_CURRENCY})?\.?")
_FIRST = re.compile(rf"(?P<sign>(?:(?<![\w)\]])[-+])?)(?:{_CURRENCY}\s*(?P<inner>[-+]?))?{_VALUE}")


_EMPHASIS = re.compile(r"\*\*|__|`|(?<![\w*])[*_](?=\S)|(?<=\S)[*_](?![\w*])")
_BRACKETED = re.compile(r"^[(\[]([^()\[\]]*)[)\]]([.,;!]?)$")
_GROUPS = re.compile(r"(?<=[0-9])[ '\u00a0\u202f\u2009](?=[0-9]{3}(?![0-9]))")
_EXPONENTS = re.compile(r"(?<=[a-zA-Z])\^?\{?[23²³]\}?(?![0-9])")
_LETTERS = re.compile(r"[^\W\d_]+")
_CHANGES = re.compile(r"[<>≤≥≠±√|;](?=.*\w)|[?*+^]|--|/\s*[0-9]|-\s*$|n['’]t\b")
_GLUED = re.compile(r"[kKMB](?![a-zA-Z])|bn\b|th\b|st\b|nd\b|rd\b|/(?=\s*[0-9])")
"""Letters at a number's end that make it another one."""
_CHANGE = """
not no never none neither nor cannot or either versus vs but except maybe perhaps possibly probably might could if than
least most above below over under up between minus negative plus times half third quarter twice double triple dozen
dozens hundred hundreds thousand thousands million millions billion billions trillion unless wrong incorrect
"""
_CHANGING = frozenset(_CHANGE.split())
"""Words that change or doubt the number of an answer."""
MAX_WORDS = 20
"""Different words of the longest answer in which one number is looked for."""


def parse_number(text: str) -> Fraction | None:
    """The number that the whole of a short text stands for, or None.

    Read are thousands commas (only where they belong), decimals, fractions and mixed numbers, exponents, one sign, a
    currency sign and a final full stop. A percent sign is a unit and is dropped like a currency sign, because the
    golds of word problems never carry one: ``50%`` = 50.

    >>> parse_number("$1,000.50"), parse_number("-1 1/2"), parse_number("12 apples")
    (Fraction(2001, 2), Fraction(-3, 2), None)
    """
    text = text.strip()
    match = _ALL.fullmatch(text.translate(_PLAIN)) if len(text) <= MAX_LENGTH else None
    return None if match is None else _value(match)


def stated_number(text: str) -> Fraction | None:
    """The one number that a short answer states, or None where it states none, several or doubts it.

    Beside the number may stand a unit, a few words, an equation in front of it, and what only sets it in Markdown or
    LaTeX. A word that changes or doubts a number (``or``, ``than``, ``thousand``, ``half``) makes it none.

    >>> stated_number("**18** dollars"), stated_number("x = \\\\boxed{18}"), stated_number("18 or 19")
    (Fraction(18, 1), Fraction(18, 1), None)
    """
    if len(text) > MAX_LENGTH:
        return None
    text = last_box(text) or text
    text = _BRACKETED.sub(r"\1", _EMPHASIS.sub("", plain(text)).translate(_PLAIN).strip())
    text = _GROUPS.sub("", text)
    if (number := parse_number(text)) is not None:
        return number
    text = _EXPONENTS.sub("", text.rpartition("=")[2])
    found = list(_FIRST.finditer(text))
    words = set(_LETTERS.findall(text.casefold()))
    if len(found) != 1 or _CHANGES.search(text) or not words.isdisjoint(_CHANGING) or len(words) > MAX_WORDS:
        return None
    rest = text[: found[0].start()] + text[found[0].end() :]
    return None if any(map(str.isdigit, rest)) or _GLUED.match(text, found[0].end()) else _value(found[0])


def _value(match: re.Match[str]) -> Fraction | None:
    sign, inner = match["sign"], match["inner"] or ""
    if (sign and inner) or sum(map(str.isdigit, match[0])) > MAX_DIGITS:
        return None
    if match["bottom"]:
        whole, top, bottom = (int((match[part] or "0").replace(",", "")) for part in ("whole", "top", "bottom"))
        if not bottom:
            return None
        value = whole + Fraction(top, bottom)
    else:
        exponent = int(match["exponent"] or 0)
        if abs(exponent) > MAX_EXPONENT:
            return None
        value = Fraction(match["decimal"].replace(",", "")) * Fraction(10) ** exponent
    return -value if "-" in sign + inner else value
