"""What an answer of TAT-QA says: amounts with their scale, or texts, and when two of them are the same.

``$(9.8) million``, ``-9.8 million`` and ``−$9.8m`` are one amount; ``(13.04%)`` is negative as accountants write it.
Amounts are compared to two decimals, halves away from zero. An amount beside another one, a range or an alternative is
a text, which equals no amount. Left out: number words above twelve.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..numbers import parse_number
from .official import SCALES

_PUNCTUATION = str.maketrans("‘’ʼ´`“”„–—−‑\u00a0\u202f\u2009", "'''''\"\"\"----   ")
_LEAD_IN = re.compile(
    r"^(?:(?:so|thus|therefore),?\s)?(?:(?:the|final)\s)*"
    r"(?:answer|result|value|total|amount|it)(?::|\s(?:is|was|are|were)\b:?)\s*"
)
_ABOUT = re.compile(r"^(?:approximately|approx\.?|about|around|roughly|circa|ca\.|~|≈|≃|∼)\s*")
_RISE = re.compile(
    r"^(?:an?\s)?(?:(?:increase|rise|growth|gain)|(?P<fall>decrease|decline|drop|fall|reduction|loss))\s(?:of|by)\s"
)
_GROUPS = re.compile(r"(?<=[0-9])[ '](?=[0-9]{3}(?![0-9]))")
_ARTICLES = re.compile(r"\b(?:a|an|the)\s")
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_COUNTED = re.compile(rf"^(?:{'|'.join(_WORDS)})\b(?!-)")
_CURRENCIES = {
    **dict.fromkeys(("$", "us$", "usd", "dollar", "dollars", "us dollars", "u.s. dollars"), "$"),
    **dict.fromkeys(("€", "eur", "euro", "euros"), "€"),
    **dict.fromkeys(("£", "gbp", "pound", "pounds", "pounds sterling"), "£"),
    **dict.fromkeys(("¥", "jpy", "yen", "rmb", "cny"), "¥"),
    **dict.fromkeys(("₹", "inr", "rupees"), "₹"),
}
_SHORT = {
    **dict.fromkeys(("%", "percent", "per cent", "pct", "percentage points"), "percent"),
    **dict.fromkeys(("k", "thousand", "thousands"), "thousand"),
    **dict.fromkeys(("m", "mn", "mm", "mln", "million", "millions"), "million"),
    **dict.fromkeys(("b", "bn", "billion", "billions"), "billion"),
}


def _either(words: dict[str, str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_SIGN = r"(?:-|\+|minus\s|negative\s)"
_MONEY = rf"(?:{_either(_CURRENCIES)})"
_SCALE = rf"(?:\(?(?:in\s)?(?:{_either(_SHORT)})(?![a-z])\.?\)?)"
_AMOUNT = re.compile(
    rf"""(?P<sign>{_SIGN})?\s*(?P<money>{_MONEY})?\s*(?P<sign2>{_SIGN})?\s*(?P<open>\()?\s*(?P<sign3>{_SIGN})?\s*
    (?P<money2>{_MONEY})?\s*(?P<number>(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)(?:e[-+]?[0-9]+)?)
    (?(open)(?:\s?(?P<inside>{_SCALE})\s*\)|\s*\))|)(?:\s?(?P<scale>{_SCALE}))?
    \s*(?P<money3>{_MONEY}(?![a-z]))?(?:\s(?P<scale2>{_SCALE}))?(?P<words>(?:\s[a-z][a-z.'/-]*){{0,4}})""",
    re.VERBOSE,
)
_OTHERWISE = "or to and not than less more minus plus from vs versus but between above below over under per times"
_NO_UNITS = frozenset((*_OTHERWISE.split(), *_SHORT))
"""What makes an amount another one, or several."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number, its scale ("" = none), its currency sign and the words after it, such as ``years``."""

    number: Fraction
    scale: str
    currency: str
    words: str
    bare: str
    """The number as it is written, the sort of its minus sign included, without currency, scale and words."""

    def hundredths(self, scale: str) -> int:
        """The number in a scale, to two decimals."""
        share = Fraction(str(SCALES.get(self.scale, 1))) / Fraction(str(SCALES.get(scale, 1)))
        return half_up(self.number * share * 100)


def half_up(number: Fraction) -> int:
    """The nearest whole number; halves away from zero."""
    size = (2 * abs(number) + 1) // 2
    return int(size if number >= 0 else -size)


def folded(text: str) -> str:
    """A text as it is compared: small letters, plain quotes and dashes, no lead-in and no punctuation around it."""
    text = " ".join(text.translate(_PUNCTUATION).replace("**", "").casefold().split())
    text = _LEAD_IN.sub("", text).strip("\"'").rstrip(".,;:!? ").strip("\"'")
    return _ABOUT.sub("", text)


def amount(part: str) -> Amount | None:
    """The amount that a whole part is, or None."""
    text = _RISE.sub(lambda m: "-" if m["fall"] else "", _GROUPS.sub("", folded(part)))
    text = _COUNTED.sub(lambda m: str(_WORDS.index(m[0])), text)
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return None
    number = parse_number(match["number"])
    signs = [s for s in (match["sign"], match["sign2"], match["sign3"]) if s]
    scales = {
        _SHORT[s.strip("(). ").removeprefix("in ")] for s in (match["inside"], match["scale"], match["scale2"]) if s
    }
    money = {_CURRENCIES[m] for m in (match["money"], match["money2"], match["money3"]) if m}
    words = match["words"].split()
    if number is None or len(signs) > 1 or len(scales) > 1 or len(money) > 1 or not _NO_UNITS.isdisjoint(words):
        return None
    bracketed, minus = bool(match["open"]), bool(signs) and not signs[0].startswith("+")
    written = f"({match['number']})" if bracketed else match["number"]
    return Amount(
        -number if bracketed or minus else number,
        *("".join(scales), "".join(money), " ".join(words)),
        f"{'−' if '−' in part else '-'}{written}" if minus and not bracketed else written,
    )


def same(parts: Sequence[str], golds: Sequence[str], scale: str | None) -> bool:
    """Whether an answer has the parts of gold, in any order, and their scale.

    Args:
        parts: of a model's answer. A scale that only the last one has is that of all.
        golds: gold's parts.
        scale: gold's; None = whatever the answer has.
    """
    rest = [_meaning(part, "") for part in parts]
    wanted = [_meaning(gold, scale or "") for gold in golds if gold.strip()]
    if len(rest) != len(wanted):
        return False
    last = rest[-1] if rest else None
    if isinstance(last, Amount) and last.scale and not any(isinstance(v, Amount) and v.scale for v in rest[:-1]):
        rest = [_meaning(part, last.scale) for part in parts]
    for gold in wanted:
        place = next((i for i, given in enumerate(rest) if _equal(given, gold, scale is None)), None)
        if place is None:
            return False
        rest.pop(place)
    return True


def bag_f1(parts: Sequence[str], golds: Sequence[str], scale: str | None) -> float:
    """F1 of words and numbers, each as often as it is there (Rajpurkar et al. 2016); 1 where `same` holds.

    Args: as in `same`; a scale is a word too.
    """
    if same(parts, golds, scale):
        return 1.0
    a, b = _words(parts, "", scale is None), _words(golds, scale or "", scale is None)
    return 2 * (a & b).total() / (a.total() + b.total()) if a != b else 1.0


def _meaning(part: str, scale: str) -> Amount | str:
    """A part as an amount, in ``scale`` where it has none of its own, or as a text."""
    found = amount(part)
    if found is None:
        return _ARTICLES.sub("", folded(part))
    return found if found.scale else Amount(found.number, scale, found.currency, found.words, found.bare)


def _equal(given: Amount | str, gold: Amount | str, any_scale: bool) -> bool:
    """Whether a part of an answer is one of gold's; words after a number may be there if gold has none."""
    if isinstance(given, str) or isinstance(gold, str):
        return given == gold
    if gold.words not in ("", given.words) or (given.currency and gold.currency not in ("", given.currency)):
        return False
    if any_scale or given.scale == gold.scale:
        return half_up(given.number * 100) == half_up(gold.number * 100)
    if "percent" in (given.scale, gold.scale) or not (given.scale and gold.scale):
        return False
    return given.hundredths(gold.scale) == half_up(gold.number * 100)


def _words(parts: Sequence[str], scale: str, any_scale: bool) -> Counter[object]:
    """The numbers of parts, the words of those that are none, and the scales, each once."""
    found: Counter[object] = Counter()
    scales = {scale} - {""}
    for part in parts:
        whole = amount(part)
        for word in [part] if whole is not None else part.split():
            one = amount(word)
            if one is None:
                found.update(filter(None, [folded(word)]))
                continue
            found[half_up(one.number * 100)] += 1
            found.update(one.words.split())
            scales |= {one.scale} - {""}
    return found if any_scale else found + Counter(scales)
