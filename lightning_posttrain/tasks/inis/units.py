"""Units of nuclear science, as far as its documents need them: kBq and Ci, µSv/h, days and years, °C, MWe, GWd/t.

One table of our own: a unit is powers of a few base dimensions, an exact factor and, for temperatures, an offset. Gray
and sievert are different dimensions, and so are electric, thermal and plain watts: physics could convert them, an
answer may not. Left out: unit algebra beyond ``a/b/c`` and ``a b⁻¹ c⁻¹``, and prefixes that nobody writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

Dims = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """In base units a value is ``(value + offset) * factor``."""

    dims: Dims
    factor: Fraction
    offset: Fraction = Fraction(0)

    def to_base(self, value: Fraction) -> Fraction:
        return (value + self.offset) * self.factor

    def from_base(self, value: Fraction) -> Fraction:
        return value / self.factor - self.offset


_PREFIX = {"p": -12, "n": -9, "µ": -6, "u": -6, "m": -3, "c": -2, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_PREFIX_NAME = {
    **{"pico": -12, "nano": -9, "micro": -6, "milli": -3, "centi": -2, "": 0},
    **{"kilo": 3, "mega": 6, "giga": 9, "tera": 12, "peta": 15},
}
_EV = Fraction("1.602176634e-19")  # exact since 2019
_YEAR = Fraction("365.25") * 86400  # the Julian year of half-life tables
_PREFIXED: tuple[
    tuple[str, tuple[str, ...], str, str, Fraction | int], ...
] = (  # symbol, names, prefixes, dimension, factor
    ("Bq", ("becquerel",), "n µ m k M G T P", "activity", 1),
    ("Ci", ("curie",), "p n µ m k M", "activity", 37 * 10**9),
    ("Gy", ("gray",), "n µ m c k M", "absorbed dose", 1),
    ("rad", (), "µ m k", "absorbed dose", Fraction(1, 100)),
    ("Sv", ("sievert",), "n µ m c k", "dose equivalent", 1),
    ("rem", (), "µ m k", "dose equivalent", Fraction(1, 100)),
    ("R", ("roentgen", "röntgen"), "µ m k", "exposure", 1),
    ("eV", ("electronvolt", "electron volt"), "m k M G", "energy", _EV),
    ("J", ("joule",), "m k M G T", "energy", 1),
    ("Wd", ("watt day", "watt-day"), "k M G", "energy", 86400),
    ("Wh", ("watt hour", "watt-hour"), "k M G T", "energy", 3600),
    ("W", ("watt",), "µ m k M G T", "power", 1),
    ("We", (), "k M G T", "electric power", 1),
    ("Wt", (), "k M G T", "thermal power", 1),
    ("Wth", (), "k M G T", "thermal power", 1),
    ("Pa", ("pascal",), "m k M G", "pressure", 1),
    ("bar", ("bar",), "m k", "pressure", 10**5),
    ("g", ("gram", "gramme"), "p n µ m k M", "mass", Fraction(1, 1000)),
    ("t", ("tonne",), "k M G", "mass", 1000),
    ("b", ("barn",), "m k M", "area", Fraction(1, 10**28)),
    ("s", ("second",), "p n µ m k", "time", 1),
    ("Hz", ("hertz",), "k M G T", "frequency", 1),
    ("V", ("volt",), "µ m k M", "voltage", 1),
    ("A", ("ampere", "amp"), "n µ m k", "current", 1),
    ("N", ("newton",), "m k M", "force", 1),
    ("T", ("tesla",), "µ m", "magnetic flux density", 1),
    ("mol", ("mole",), "n µ m k", "amount", 1),
)
_TIMES: dict[str, tuple[Any, ...]] = {
    "min": (60, "min", "minute"),
    "h": (3600, "h", "hr", "hour"),
    "d": (86400, "d", "day"),
    "wk": (7 * 86400, "wk", "week"),
    "mo": (_YEAR / 12, "mo", "month"),
    "y": (_YEAR, "y", "yr", "year"),
    "decade": (10 * _YEAR, "decade"),
}
_LENGTHS = {"fm": -15, "pm": -12, "nm": -9, "µm": -6, "um": -6, "mm": -3, "cm": -2, "dm": -1, "m": 0, "km": 3}
_LENGTH_NAMES = {"pico": -12, "nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1, "": 0, "kilo": 3}
_POUND, _INCH = Fraction("0.45359237"), Fraction("0.0254")
_OTHERS: tuple[tuple[tuple[str, ...], str, Fraction | int], ...] = (  # symbols and names, dimension, factor
    (("inch", "inche"), "length", _INCH),  # one or many; the symbol is a word of English
    (("ft", "foot", "feet"), "length", 12 * _INCH),
    (("mile",), "length", 63360 * _INCH),
    (("Å", "angstrom"), "length", Fraction(1, 10**10)),
    (("lb", "pound"), "mass", _POUND),
    (("ton", "metric ton", "metric tonne"), "mass", 1000),
    (("ha", "hectare"), "area", 10**4),
    (("psi", "pounds per square inch"), "pressure", _POUND * Fraction("9.80665") / _INCH**2),
    (("atm", "atmosphere"), "pressure", 101325),
    (("mmHg", "Torr"), "pressure", Fraction(101325, 760)),
    (("%", "percent", "per cent", "pct", "percentage point"), "percent", 1),
    (("ppm", "parts per million"), "parts", Fraction(1, 10**6)),
    (("ppb", "parts per billion"), "parts", Fraction(1, 10**9)),
    (("rpm", "revolutions per minute"), "turning", 1),
    (("cps", "counts per second"), "count rate", 1),
    (("cpm", "counts per minute"), "count rate", Fraction(1, 60)),
    (("dps",), "activity", 1),
    (("dpm",), "activity", Fraction(1, 60)),
    (("dpa",), "displacements", 1),
    (("pcm",), "reactivity", 1),
    (("sec",), "time", 1),
    (("century", "centurie"), "time", 100 * _YEAR),
    (("millennium", "millennia"), "time", 1000 * _YEAR),
)
"""Units without prefixes, read in any case: none has a symbol that is another one's in capitals."""
_TEMPERATURES = {
    "K": (Fraction(1), Fraction(0), ("kelvin",)),
    "°C": (Fraction(1), Fraction("273.15"), ("degree celsius", "degree c", "deg c", "degc", "celsius", "centigrade")),
    "°F": (Fraction(5, 9), Fraction("459.67"), ("degree fahrenheit", "degree f", "deg f", "degf", "fahrenheit")),
}
_ELECTRIC = (
    "(e)",
    "el",
    "-e",
    "_e",
    *(mark.format(w) for w in ("electric", "electrical") for mark in (" {}", "-{}", " ({})")),
)
_THERMAL = (
    "(t)",
    "(th)",
    "-t",
    "-th",
    "_t",
    "_th",
    " th",
    *(mark.format("thermal") for mark in (" {}", "-{}", " ({})")),
)
_OTHERWISE = {
    **{"bq": "Bq", "BQ": "Bq", "kbq": "kBq", "KBq": "kBq", "KeV": "keV", "C": "°C", "° C": "°C", "° F": "°F"},
    **{f"{p}W{mark}": f"{p}W{kind}" for p in ("", "k", "M", "G") for mark, kind in (
        *((m, "e") for m in _ELECTRIC),
        *((m, "t") for m in _THERMAL),
    )},
    **{f"{p}W{mark}d": f"{p}Wd" for p in ("k", "M", "G") for mark in ("·", " ", "-")},
    **{f"{of}{metal}": of for of in ("t", "kg") for metal in ("U", "HM", " U", " HM")},
    **dict.fromkeys(("MTU", "MTHM", "MTIHM"), "t"),
}  # fmt: skip
"""Other symbols of the same, where they can be nothing else."""
_AGES = {"k": 3, "M": 6, "G": 9}


def _plain(dimension: str, factor: Fraction | int) -> Unit:
    parts = {"area": (("length", 2),), "volume": (("length", 3),)}
    return Unit(parts.get(dimension, ((dimension, 1),)), Fraction(factor))


def _symbols() -> Iterator[tuple[str, Unit]]:
    """Symbols: their case counts, because mSv is not MSv."""
    for symbol, _, prefixes, dimension, factor in _PREFIXED:
        for prefix in ("", *prefixes.split()):
            yield prefix + symbol, _plain(dimension, Fraction(10) ** _PREFIX[prefix] * factor)
            if prefix == "µ":
                yield "u" + symbol, _plain(dimension, Fraction(10) ** -6 * factor)
    for seconds, *words in _TIMES.values():
        for word in map(str, words):
            if len(word) <= 3:
                yield word, _plain("time", Fraction(seconds))
    yield "a", _plain("time", _YEAR)
    for prefix, power in _AGES.items():
        for word in ("yr", "a") if prefix == "G" else ("yr", "y", "a"):  # Gy is the gray
            yield prefix + word, _plain("time", 10**power * _YEAR)
    yield from _sizes()
    yield "n", Unit((), Fraction(1))  # neutrons, as in n/cm2/s
    for symbol, (factor, offset, _) in _TEMPERATURES.items():
        yield symbol, Unit((("temperature", 1),), factor, offset)


def _sizes() -> Iterator[tuple[str, Unit]]:
    """Lengths, areas and volumes."""
    for symbol, power in _LENGTHS.items():
        for exponent, dimension in ((1, "length"), (2, "area"), (3, "volume")):
            for sign in ("", "^") if exponent > 1 else ("",):
                written = f"{symbol}{sign}{exponent}" if exponent > 1 else symbol
                yield written, _plain(dimension, Fraction(10) ** (power * exponent))
    for symbol in "Ll":
        for prefix in ("", "µ", "u", "m", "c", "k"):
            yield f"{prefix}{symbol}", _plain("volume", Fraction(10) ** _PREFIX[prefix] / 1000)


def _names() -> Iterator[tuple[str, Unit]]:
    """Words: in any case, one or many."""
    for symbol, names, prefixes, dimension, factor in _PREFIXED:
        known = {_PREFIX[p] for p in ("", *prefixes.split())}
        for name in (*names, *((symbol,) if symbol in ("rad", "rem") else ())):
            for prefix, power in _PREFIX_NAME.items():
                if power in known:
                    yield f"{prefix}{name}", _plain(dimension, Fraction(10) ** power * factor)
    for word, scale in (("", 1), ("thousand ", 10**3), ("million ", 10**6), ("billion ", 10**9)):
        yield f"{word}year", _plain("time", scale * _YEAR)
    yield from ((str(w), _plain("time", Fraction(t))) for t, *words in _TIMES.values() for w in words if len(w) > 1)
    yield from ((name, _plain(dimension, factor)) for names, dimension, factor in _OTHERS for name in names)
    yield from _watts()
    yield from _size_names()
    yield ("neutron", Unit((), Fraction(1)))
    for factor, offset, spoken in _TEMPERATURES.values():
        for name in (*spoken, *(word.replace("degree ", "degrees ") for word in spoken)):
            yield name, Unit((("temperature", 1),), factor, offset)


def _size_names() -> Iterator[tuple[str, Unit]]:
    """Lengths, areas and volumes in words."""
    for prefix, power in _LENGTH_NAMES.items():
        for spelt in ("metre", "meter"):
            for kind, exponent, dimension in (("", 1, "length"), ("square ", 2, "area"), ("cubic ", 3, "volume")):
                yield f"{kind}{prefix}{spelt}", _plain(dimension, Fraction(10) ** (power * exponent))
        for spelt in ("litre", "liter"):
            yield f"{prefix}{spelt}", _plain("volume", Fraction(10) ** power / 1000)


def _watts() -> Iterator[tuple[str, Unit]]:
    """Electric and thermal watts in words."""
    for prefix, power in (("", 0), ("kilo", 3), ("mega", 6), ("giga", 9)):
        for kind in ("electric", "electrical", "thermal"):
            unit = _plain("thermal power" if kind == "thermal" else "electric power", 10**power)
            yield from ((f"{prefix}{word}{mark}{kind}", unit) for word in ("watt", "watts") for mark in " -")


_SYMBOLS: dict[str, Unit] = dict(_symbols())
_SYMBOLS |= {other: _SYMBOLS[symbol] for other, symbol in _OTHERWISE.items()}
_NAMES: Mapping[str, Unit] = {form: unit for name, unit in _names() for form in (name, f"{name}s")}


def _either(words: Mapping[str, Unit]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_ATOM = rf"(?:(?:(?i:{_either(_NAMES)})|{_either(_SYMBOLS)})(?![^\W_]))"
UNIT_NAME = rf"(?i:{_either(_NAMES)})(?![^\W_])"
"""Regular expression of a unit in words."""
_INVERSE = rf"(?:(?:{_either(_SYMBOLS)})\^?(?:-[123](?![0-9])|\{{-[123]\}}|\(-[123]\)))"
_OVER = r"(?:\s?/\s?|\s(?i:per|an?)\s)"
_BESIDE = r"(?:\s?[·*]\s?|\s|(?<=[0-9)}]))"
UNIT = rf"(?:(?:{_INVERSE}|{_ATOM})(?:{_OVER}{_ATOM}|{_BESIDE}{_INVERSE}){{0,2}})"
"""Regular expression of a unit, in text that `plain` has made uniform."""
_PART = re.compile(rf"(?:(?P<over>{_OVER})|{_BESIDE})?(?P<part>(?P<inverse>{_INVERSE})|{_ATOM})")
_EXPONENT = re.compile(r"\^?[{(]?-([123])[})]?$")


def parse_unit(text: str) -> Unit | None:
    """The unit that the whole of a uniform text names, or None.

    >>> parse_unit("mSv/h") == parse_unit("mSv h^-1") == parse_unit("millisieverts per hour"), parse_unit("parsec")
    (True, None)
    """
    text = text.strip()
    if not re.fullmatch(UNIT, text) or len(text) > 60:
        return None
    parts: list[tuple[Unit, int]] = []
    pos = 0
    while pos < len(text) and (match := _PART.match(text, pos)):
        pos = match.end()
        exponent = _EXPONENT.search(match["part"]) if match["inverse"] else None
        name = match["part"][: exponent.start()] if exponent else match["part"]
        power = -int(exponent[1]) if exponent else -1 if match["over"] else 1
        parts.append((_SYMBOLS.get(name) or _NAMES[name.lower()], power))
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0] if parts[0][0].dims else None  # "n" alone is no unit
    if any(unit.offset for unit, _ in parts):
        return None
    powers: dict[str, int] = {}
    factor = Fraction(1)
    for unit, power in parts:
        factor *= unit.factor**power
        for name, of in unit.dims:
            powers[name] = powers.get(name, 0) + power * of
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)), factor)


@lru_cache(maxsize=256)
def same_dims(dims: Dims) -> frozenset[Unit]:
    """The units of the table that measure the same thing, by a single word or symbol."""
    return frozenset(unit for unit in (*_SYMBOLS.values(), *_NAMES.values()) if unit.dims == dims)
