"""The one parser of numbers: rewards, evaluation and traces read answers with it, so they cannot disagree.

Values are exact fractions, never floats. Any text gives a number or None, in time linear in its length. Left out:
number words, units other than currency and percent signs, and decimal commas (``1,5`` is no number here).
"""

from __future__ import annotations

import re
from fractions import Fraction

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


def first_number(text: str) -> Fraction | None:
    """The first number anywhere in a text, or None; also None where that one is longer than `MAX_DIGITS`.

    A minus sign counts only where it cannot be an operator or a hyphen: ``10-5`` begins with 10, ``is -5`` with -5.

    >>> first_number("The solution is $20, not 30."), first_number("twenty")
    (Fraction(20, 1), None)
    """
    match = _FIRST.search(text.translate(_PLAIN))
    return None if match is None else _value(match)


def same_number(a: str, b: str) -> bool:
    """Whether two texts are the same number. Texts that are no numbers are the same as nothing, themselves included."""
    number = parse_number(a)
    return number is not None and number == parse_number(b)


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
