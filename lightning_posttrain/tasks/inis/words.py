"""Text of nuclear science as tokens that mean the same when they are written alike: quantities, isotopes, dates, words.

``8.02 d``, ``8.02 days`` and ``692928 s`` are one token, ``Cs-137``, ``137Cs`` and ``caesium-137`` another, and
``26 April 1986`` is the date 1986-04-26. Numbers are read by `numbers.parse_number`; here ``5.2×10^14``, exponents
in superscript, units and ranges (``95–99%``) are added. Any text has tokens, in time linear in its length. Left out:
number words above twelve, other languages, uncertainties (``±``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from ..numbers import parse_number
from .units import UNIT, Dims, Unit, parse_unit, same_dims

_ELEMENTS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb
Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au
Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr
"""
LONGEST = 4000
"""Characters of an answer that are read. Longer ones are a model's stutter, and right answers take a few words."""
ELEMENTS = tuple(_ELEMENTS.split())
"""Symbols in order of atomic number."""
NAMES = {
    **{"hydrogen": "H", "helium": "He", "lithium": "Li", "beryllium": "Be", "boron": "B", "carbon": "C"},
    **{"nitrogen": "N", "oxygen": "O", "fluorine": "F", "sodium": "Na", "phosphorus": "P", "sulfur": "S"},
    **{"argon": "Ar", "potassium": "K", "chromium": "Cr", "manganese": "Mn", "iron": "Fe", "cobalt": "Co"},
    **{"nickel": "Ni", "copper": "Cu", "zinc": "Zn", "gallium": "Ga", "germanium": "Ge", "selenium": "Se"},
    **{"krypton": "Kr", "rubidium": "Rb", "strontium": "Sr", "yttrium": "Y", "zirconium": "Zr", "niobium": "Nb"},
    **{"molybdenum": "Mo", "technetium": "Tc", "ruthenium": "Ru", "silver": "Ag", "cadmium": "Cd", "indium": "In"},
    **{"antimony": "Sb", "tellurium": "Te", "iodine": "I", "xenon": "Xe", "caesium": "Cs", "cesium": "Cs"},
    **{"barium": "Ba", "lanthanum": "La", "cerium": "Ce", "promethium": "Pm", "samarium": "Sm", "europium": "Eu"},
    **{"gadolinium": "Gd", "holmium": "Ho", "erbium": "Er", "lutetium": "Lu", "rhenium": "Re", "iridium": "Ir"},
    **{"gold": "Au", "thallium": "Tl", "lead": "Pb", "bismuth": "Bi", "polonium": "Po", "astatine": "At"},
    **{"radon": "Rn", "radium": "Ra", "actinium": "Ac", "thorium": "Th", "uranium": "U", "neptunium": "Np"},
    **{"plutonium": "Pu", "americium": "Am", "curium": "Cm", "californium": "Cf"},
}
"""English names of the elements that documents speak of."""
_CHARGE = {name: number for number, name in enumerate(ELEMENTS, start=1)}
_SPELT = {"cesium": "caesium", "sulphur": "sulfur", "aluminum": "aluminium", "liter": "litre", "meter": "metre"}
_COUNTS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
MONTH_NAMES = "January February March April May June July August September October November December"
_MONTHS = MONTH_NAMES.lower().split()
_ARTICLES = frozenset(("a", "an", "the"))

_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_POWER = re.compile(r"(?<![0-9.])10([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)|([×x*·]\s{0,2}10)([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_PARTICLES = ((re.compile(r"β\s?[-−⁻]"), "beta minus"), (re.compile(r"β\s?[+⁺]"), "beta plus"))
_UNIFORM = str.maketrans({"μ": "µ", "−": "-", "‑": "-", "α": "alpha", "β": "beta", "γ": "gamma", "\u00a0": " "})

_INTEGER = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUMERAL = (
    rf"(?:10\^[-+]?[0-9]+|(?:{_INTEGER}(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+)"
    r"(?:[eE][-+]?[0-9]+(?![0-9])|\s{0,2}(?:[×x*·]|\\times)\s{0,2}10\^?\{?[-+]?[0-9]+\}?)?)"
)
_SYMBOL = "|".join(sorted(ELEMENTS, key=len, reverse=True))
_NAME = "|".join(sorted(NAMES, key=len, reverse=True))
_SPECIAL = rf"""(?P<date>(?<![0-9])[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?![0-9]))
    |(?P<spoken>(?<![0-9])(?:(?P<day>[0-9]{{1,2}})\s(?P<month>(?i:{"|".join(_MONTHS)})),?\s(?P<year>[0-9]{{4}})(?![0-9])
        |(?P<month2>(?i:{"|".join(_MONTHS)}))\s(?P<day2>[0-9]{{1,2}}),?\s(?P<year2>[0-9]{{4}})(?![0-9])))
    |(?P<isotope>(?<![\w-])(?:(?:(?P<symbol>{_SYMBOL})-?|(?P<name>(?i:{_NAME}))[-\s])(?P<mass>[0-9]{{1,3}}m?)
        |\^?\{{?(?P<mass2>[0-9]{{1,3}}m?)\}}?(?P<symbol2>{_SYMBOL}))(?!\w))"""
_COMMON = rf"""(?P<quantity>(?P<sign>(?:(?<![\w)\]])[-+])?)(?P<low>{_NUMERAL})
        (?:(?P<lowunit>\s?%)?(?:\s?[–—-]\s?|\s(?i:to)\s)(?P<high>{_NUMERAL}))?(?:[\s-]?(?P<unit>{UNIT}))?)
    |(?P<word>[^\W\d_][^\W_]*|[^\W_])"""
_TOKEN = re.compile(f"{_SPECIAL}|{_COMMON}", re.VERBOSE)
_COMMON_TOKEN = re.compile(_COMMON, re.VERBOSE)
_MANTISSA = re.compile(r"\s*(?:[×x*·]|\\times)\s*10\^?\{?([-+]?[0-9]+)\}?")


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


def plain(text: str) -> str:
    """Uniform minus signs, micro signs, Greek letters and superscripts: ``5·10⁻³ m²`` becomes ``5·10^-3 m2``."""
    text = _POWER.sub(lambda m: f"10^{m[1]}" if m[1] else f"{m[2]}^{m[3]}", text)
    for pattern, words in _PARTICLES:
        text = pattern.sub(words, text)
    return text.translate(_SUPER).translate(_UNIFORM)


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
    pos = 0
    while match := _TOKEN.search(text, pos):
        pos = match.end()
        if match["date"]:
            yield Day(match["date"])
        elif match["spoken"]:
            month = _MONTHS.index((match["month"] or match["month2"]).lower()) + 1
            yield Day(f"{match['year'] or match['year2']}-{month:02d}-{int(match['day'] or match['day2']):02d}")
        elif match["isotope"] and (found := _isotope(match)):
            yield found
        else:
            if match["isotope"]:  # no such nuclide: 300K is a temperature, B-777 a label
                match = _COMMON_TOKEN.match(text, match.start()) or match
                pos = match.end()
            yield from _word_or_quantity(match)


def _isotope(match: re.Match[str]) -> Isotope | None:
    symbol = match["symbol"] or match["symbol2"] or NAMES[match["name"].lower()]
    mass = match["mass"] or match["mass2"]
    charge, weight = _CHARGE[symbol], int(mass.rstrip("m"))
    return Isotope(f"{symbol}-{mass}") if charge <= weight <= 3 * charge else None


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
    ends = [_number(groups[end]) for end in ("low", "high") if groups[end]]
    if None in ends:
        yield match[0][:80]  # a stutter of digits: a word that equals nothing short
        return
    numbers = tuple(n for n in ends if n is not None)
    if groups["sign"] == "-":
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


def _number(text: str) -> Fraction | None:
    return parse_number(_MANTISSA.sub(r"e\1", f"1e{text[3:]}" if text.startswith("10^") else text))
