"""Conditions on a column as values: those that satisfy one, and near misses that a wrong query would take for them."""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Value = int | float | str | None
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
FLIPPED = {">": "<", "<": ">", ">=": "<=", "<=": ">="}
FILLER = "kq"
"""Stands for any text in a pattern's place."""


@dataclass(frozen=True)
class Condition:
    """What is asked of a column's value.

    Args:
        test: whether a value satisfies it.
        values: some that do and some that nearly do.
    """

    test: Callable[[Value], bool]
    values: tuple[Value, ...]

    def negated(self) -> Condition:
        return Condition(lambda value: value is not None and not self.test(value), self.values)


def compared(sign: str, constant: Value, inverse: Callable[[Value], Sequence[Value]]) -> Condition:
    """A comparison of something made of a column.

    Args:
        sign: =, <>, >, >=, < or <=.
        constant: the other side.
        inverse: values of the column of which that is made.
    """
    near = [value for around in around_of(constant) for value in inverse(around)]
    right = [value for around in around_of(constant) if _holds(sign, around, constant) for value in inverse(around)]
    kept = set(right)
    return Condition(lambda value: value in kept or (value not in near and _holds(sign, value, constant)), tuple(near))


def _holds(sign: str, value: Value, constant: Value) -> bool:
    if value is None or isinstance(value, str) != isinstance(constant, str):
        return False
    return _TESTS[sign](value, constant)


def around_of(constant: Value) -> list[Value]:
    """A constant and its neighbours, above and below, near and far."""
    if constant is None:
        return [None]
    if isinstance(constant, int):
        return [
            constant,
            constant + 1,
            constant - 1,
            constant + 1 + abs(constant) // 10,
            constant - abs(constant) // 10,
        ]
    if isinstance(constant, float):
        step = 10.0 ** -len(repr(constant).partition(".")[2])
        return [constant, round(constant + step, 9), round(constant - step, 9), constant + 1, constant - 1]
    if re.fullmatch(r"\d{1,15}", constant):
        width = len(constant)
        return [constant, *(str(max(0, int(constant) + step)).zfill(width) for step in (1, -1, 10))]
    if day := day_of(constant):
        steps = (1, -1, 40, -400)
        return [constant, *((day + datetime.timedelta(step)).isoformat() + constant[10:] for step in steps)]
    cased = [constant.lower(), constant.upper(), constant.title()]
    ends = [constant + FILLER, FILLER + constant, constant[:-1], constant[1:]]
    return list(dict.fromkeys([constant, *cased, *ends]))


def day_of(text: str) -> datetime.date | None:
    """The date that a text begins with; None where it does not."""
    try:
        day = datetime.date.fromisoformat(text[:10]) if re.match(r"\d{4}-\d\d-\d\d", text) else None
    except ValueError:
        return None
    return day if day and 2 < day.year < 9998 else None


def between(low: Value, high: Value) -> Condition:
    middle: list[Value] = []
    if isinstance(low, int | float) and isinstance(high, int | float):
        middle = [(low + high) // 2]
    return Condition(
        lambda value: _holds(">=", value, low) and _holds("<=", value, high),
        (*around_of(low), *around_of(high), *middle),
    )


def one_of(constants: Sequence[Value]) -> Condition:
    near = [value for constant in constants for value in around_of(constant)[:3]]
    return Condition(lambda value: value in constants, (*constants, *near))


def like(pattern: str, any_text: str = "%", any_letter: str = "_", fold: bool = True) -> Condition:
    """A pattern of LIKE, or with ``*``, ``?`` and case of GLOB."""
    parts = re.split(f"([{re.escape(any_text + any_letter)}])", pattern)
    words = {any_text: ".*", any_letter: "."}
    expression = re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.S | (re.I if fold else 0))

    def instance(text: str, letter: str) -> str:
        return "".join({any_text: text, any_letter: letter}.get(part, part) for part in parts)

    found = [instance(text, letter) for text in ("", FILLER) for letter in ("k", "", "kk")]
    whole = instance(FILLER, "k")
    found += [whole.upper(), whole.title(), FILLER + instance("", "k"), instance("", "k") + FILLER]
    found += [instance("", "k")[1:], instance("", "k")[:-1], FILLER]
    return Condition(
        lambda value: value is not None and expression.fullmatch(str(value)) is not None, tuple(dict.fromkeys(found))
    )


def is_null() -> Condition:
    return Condition(lambda value: value is None, (None,))
