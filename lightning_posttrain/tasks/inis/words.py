"""Text of nuclear science as tokens that mean the same when they are written alike: quantities, isotopes, dates, words.

``8.02 d``, ``8.02 days`` and ``692928 s`` are one token, ``Cs-137``, ``137Cs`` and ``caesium-137`` another, and
``26 April 1986`` is the date 1986-04-26. What is written is made uniform by `plain`; numbers are read by `numerals`,
nuclides by `isotopes`, days by `dates`. A label such as ``KK-1`` is one word, and so is a sign of comparison (``<``).
Any text has tokens, in time linear in its length. Left out: number words above twelve, other languages, uncertainties.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from .dates import DATE, day_of
from .isotopes import ISOTOPE, isotope_of
from .numerals import NUMERAL, value_of
from .plain import plain
from .units import UNIT, UNIT_NAME, Dims, Unit, parse_unit, same_dims

LONGEST = 4000
"""Characters of an answer that are read. Longer ones are a model's stutter, and right answers take a few words."""
_SPELT = {"cesium": "caesium", "sulphur": "sulfur", "aluminum": "aluminium", "liter": "litre", "meter": "metre"}
_COUNTS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_ARTICLES = frozenset(("a", "an", "the"))

_BETWEEN = re.compile(rf"(?i:\b(?:between\s({NUMERAL}\s?%?)\sand|from\s({NUMERAL}\s?%?)\sto))\s(?={NUMERAL})")
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALE = re.compile(rf"(?<=[0-9])\s({'|'.join(_SCALES)})(?=\s(?!years?\b)|[.,;)]?$)", re.I)  # "million years" is a unit
_UNIT_IN_BRACKETS = re.compile(rf"(?<=[0-9])\s?[(\[]({UNIT})[)\]]")
_COUNTED = re.compile(rf"\b({'|'.join(_COUNTS)})(?=\s(?:{'|'.join(_SCALES)}|{UNIT_NAME}))", re.I)
_SIGN = r"(?P<sign>(?:(?<![\w)\]%])[-+–]|(?<![\w-])(?<!beta\s)(?i:minus|negative)\s)?)"
_COMMON = rf"""(?P<label>(?<![\w-])(?!(?i:minus|plus|about|is|to)-)[^\W\d_]+(?:-[^\W_]*[0-9][^\W_]*)+)
    |(?P<quantity>{_SIGN}(?P<low>{NUMERAL})
        (?:(?P<lowunit>\s?%)?(?:\s?[–—-]\s?|\s(?i:to)\s)(?P<high>{NUMERAL}))?(?:[\s-]?(?P<unit>{UNIT}))?)
    |(?P<relation>[<>≤≥≠¬±√≢≉]|!=|=/=)
    |(?P<word>[^\W\d_][^\W_]*|[^\W_])"""
_TOKEN = re.compile(f"{DATE}|{ISOTOPE}|{_COMMON}", re.VERBOSE)
_COMMON_TOKEN = re.compile(_COMMON, re.VERBOSE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number or a range in base units. ``dims`` is None for a number without a unit.

    Args:
        low, high: ends in base units; equal for a number.
        dims: dimension.
        bare: the numbers as they are written.
    """

    low: Fraction
    high: Fraction
    dims: Dims | None
    bare: tuple[Fraction, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Hashable, ...]:
        return self.low, self.high, self.dims

    def near(self, gold: Quantity, rel: float) -> bool:
        """Whether both ends are within ``rel`` of the other's."""
        share = Fraction(str(rel))
        ends = ((self.low, gold.low), (self.high, gold.high))
        return self.dims == gold.dims and all(abs(a - b) <= share * abs(b) for a, b in ends)


@dataclass(frozen=True, slots=True)
class Isotope:
    """A nuclide in its canonical form, such as ``Tc-99m``."""

    text: str


@dataclass(frozen=True, slots=True)
class Day:
    """A calendar day as YYYY-MM-DD (which need not exist)."""

    text: str


Token = Quantity | Isotope | Day | str


def tokens(text: str, most: int | None = LONGEST) -> list[Token]:
    """The tokens of a text in order: articles and punctuation left out, words without their case.

    Args:
        text: any.
        most: characters that are read; the rest is one token, equal to nothing else. None = all are.

    >>> tokens("The half-life of 131I is 8.02 d") == tokens("half life of iodine-131 is 8.02 days.")
    True
    """
    rest = [] if most is None or len(text) <= most else [text[most:]]
    return [*_read(text[:most]), *rest]


def number_of(value: object) -> Fraction | None:
    """A JSON number as an exact fraction; None for anything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Fraction(str(value))  # of the digits as written, not of the nearest binary number


def quantity(number: Fraction, unit: str | None) -> Quantity | None:
    """A quantity from its parts; None where the unit is unknown."""
    if unit is None:
        return Quantity(number, number, None, (number,))
    known = parse_unit(plain(unit))
    return None if known is None else _quantity((number,), known)


def overlap(answer: Sequence[Token], gold: Sequence[Token]) -> tuple[float, float, float]:
    """Precision, recall and F1 of tokens as multisets. No tokens on either side: zeros."""
    common = sum((Counter(answer) & Counter(gold)).values())
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(answer), common / len(gold)
    return precision, recall, 2 * precision * recall / (precision + recall)


def ungrounded(answer: Iterable[Token], context: Iterable[Token]) -> list[str]:
    """The numbers, isotopes and dates of an answer that the context does not hold, in whatever unit."""
    known = frozenset(context)
    numbers, bases = _known_numbers(known)
    lost = []
    for token in answer:
        if isinstance(token, Isotope | Day) and token not in known:
            lost.append(token.text)
        elif isinstance(token, Quantity):
            ends = ((token.low, token.dims), (token.high, token.dims))
            if not all(n in numbers for n in token.bare) and not all(end in bases for end in ends):
                lost.append(" to ".join(str(float(n)) for n in token.bare))
    return lost


@lru_cache(maxsize=8192)  # golds, passages and the usual answers come again and again
def _read(text: str) -> tuple[Token, ...]:
    return tuple(_tokens(plain(text)))


@lru_cache(maxsize=1024)
def _known_numbers(known: frozenset[Token]) -> tuple[frozenset[Fraction], frozenset[tuple[Fraction, Dims]]]:
    """The numbers of a context as written and in every unit of the same thing, and its quantities in base units."""
    numbers = {n for token in known if isinstance(token, Quantity) for n in token.bare}
    bases = {(n, q.dims) for q in known if isinstance(q, Quantity) and q.dims for n in (q.low, q.high)}
    for base, dims in bases:
        numbers |= {unit.from_base(base) for unit in same_dims(dims)}
    return frozenset(numbers), frozenset(bases)


def _tokens(text: str) -> Iterator[Token]:
    text = _BETWEEN.sub(lambda m: f"{m[1] or m[2]} to ", text)
    text = _COUNTED.sub(lambda m: str(_COUNTS.index(m[1].lower())), text)
    text = _UNIT_IN_BRACKETS.sub(r" \1", text)
    text = _SCALE.sub(lambda m: f"×10^{_SCALES[m[1].lower()]}", text)
    pos = 0
    while match := _TOKEN.search(text, pos):
        pos = match.end()
        if match["date"]:
            day = day_of(match)
            yield Day(day) if day else match[0]
        elif match["isotope"] and (found := isotope_of(match)):
            yield Isotope(found)
        else:
            if match["isotope"]:  # no such nuclide: 300K is a temperature, B-777 a label
                match = _COMMON_TOKEN.match(text, match.start()) or match
                pos = match.end()
            yield from _word_or_quantity(match)


def _word_or_quantity(match: re.Match[str]) -> Iterator[Token]:
    groups = match.groupdict()
    if not groups["quantity"]:
        word = match[0].casefold()
        if word == "tritium":
            yield Isotope("H-3")
        elif word in _COUNTS:
            number = Fraction(_COUNTS.index(word))
            yield Quantity(number, number, None, (number,))
        elif word not in _ARTICLES:
            yield _SPELT.get(word, word)
        return
    ends = [value_of(groups[end]) for end in ("low", "high") if groups[end]]
    if None in ends:
        yield match[0][:80]  # a stutter of digits: a word that equals nothing short
        return
    numbers = tuple(n for n in ends if n is not None)
    if groups["sign"] not in ("", "+"):
        numbers = (-numbers[0], *numbers[1:])
    written = groups["unit"] or (groups["lowunit"] or "").strip()
    unit = parse_unit(written) if written else None
    if unit is None and written:  # "n" and the like belong to the words
        yield Quantity(numbers[0], numbers[-1], None, numbers)
        yield written.casefold()
        return
    yield _quantity(numbers, unit)


def _quantity(numbers: tuple[Fraction, ...], unit: Unit | None) -> Quantity:
    ends = numbers if unit is None else tuple(map(unit.to_base, numbers))
    return Quantity(ends[0], ends[-1], None if unit is None else unit.dims, numbers)
