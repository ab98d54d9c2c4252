"""Values for a column that nothing is said of: like those it is known to hold, else such as its declared type says."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache

from .conditions import Value
from .database import Column

WORDS = ("alder", "birch", "cedar", "Elm", "hazel", "linden", "maple", "oak", "pine", "Rowan", "spruce", "willow")
DATES = ("1839-06-15", "1999-12-31", "2001-01-01", "2001-02-28", "2010-07-04", "2020-02-29")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@lru_cache(1024)
def affinity(declared: str) -> str:
    """What SQLite makes of a declared type (sqlite.org/datatype3.html, 3.1)."""
    declared = declared.upper()
    if "INT" in declared:
        return "INTEGER"
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not declared.strip() or "BLOB" in declared:
        return "BLOB"
    return "REAL" if any(word in declared for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def is_date(column: Column) -> bool:
    """Whether a column holds dates as texts, by its declared type or what it is known to hold."""
    named = any(word in column.declared.upper() for word in ("DATE", "TIMESTAMP"))
    held = [str(value) for value in column.values[:5]]
    return all(map(_DATE.match, held)) if held else named


def is_number(column: Column) -> bool:
    """The same of numbers."""
    if column.values:
        return all(isinstance(value, int | float) for value in column.values)
    return affinity(column.declared) in ("INTEGER", "REAL", "NUMERIC") and not is_date(column)


def fitting(column: Column, values: Sequence[Value]) -> list[Value]:
    """Those of some values that a column of this type would hold; all of them where none is such."""
    if is_date(column):
        fit = [value for value in values if value is None or _DATE.match(str(value))]
    elif is_number(column):
        fit = [value for value in values if not isinstance(value, str)]
    else:
        fit = list(values)
    return fit or list(values)


class Source:
    """Values of one column.

    Args:
        column: what is known of it.
        rng: where chance comes from.
        tight: few different values, so that many are tied; else many.
    """

    def __init__(self, column: Column, rng: random.Random, tight: bool) -> None:
        self.column, self.rng = column, rng
        self.number = rng.randint(0, 2)
        held = [value for value in column.values if isinstance(value, int | float | str)]
        made = held if len(held) > (1 if tight else 30) else [*held, *self._made(tight)]
        rng.shuffle(made)
        self.pool = made[: rng.randint(2, 4)] if tight else made
        self.tight, self.left = tight, list(self.pool)

    def drawn(self) -> Value:
        """Any value; where there are many, one that was not drawn before as long as there are some."""
        if self.tight:
            return self.rng.choice(self.pool)
        self.left = self.left or list(self.pool)
        return self.left.pop()

    def fresh(self) -> Value:
        """A value that was not given before: whole numbers rise, as keys do, texts are numbered."""
        self.number += self.rng.randint(1, 3)
        if is_number(self.column) or (not self.column.values and affinity(self.column.declared) == "BLOB"):
            return self.number
        texts = [value for value in self.column.values if isinstance(value, str)] or list(WORDS)
        return texts[self.number] if self.number < len(texts) else f"{self.rng.choice(texts)} {self.number}"

    def _made(self, tight: bool) -> list[Value]:
        """Values of the column's type."""
        held, rng = self.column.values, self.rng
        if is_date(self.column):
            return list(DATES)
        if "BOOL" in self.column.declared.upper():
            return [0, 1]
        if not is_number(self.column) and (held or affinity(self.column.declared) == "TEXT"):
            return list(WORDS)
        whole = all(isinstance(value, int) for value in held) if held else affinity(self.column.declared) != "REAL"
        numbers = rng.sample(range(1, 10), 6) if tight else rng.sample(range(1, 3000), 60)
        return [number if whole else number + 0.25 for number in numbers]
