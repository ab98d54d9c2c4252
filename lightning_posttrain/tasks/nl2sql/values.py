"""Values for a column that nothing is said of: like those it is known to hold, else such as its declared type says."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .conditions import Value
from .database import Column

WORDS = ("alder", "birch", "cedar", "Elm", "hazel", "linden", "maple", "oak", "pine", "Rowan", "spruce", "willow")
DATES = ("1839-06-15", "1999-12-31", "2001-01-01", "2001-02-28", "2010-07-04", "2020-02-29")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


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


def fitting(column: Column, values: Sequence[Value]) -> list[Value]:
    """Those of some values that a column of this type would hold as they are, or as a text."""
    kind = affinity(column.declared)
    if kind in ("INTEGER", "REAL"):
        return [value for value in values if isinstance(value, int | float)] or list(values)
    return list(values)


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
        made = held if len(held) > (1 if tight else 8) else [*held, *self._made(tight)]
        rng.shuffle(made)
        self.pool = made[: rng.randint(2, 4)] if tight else made

    def drawn(self) -> Value:
        return self.rng.choice(self.pool)

    def fresh(self) -> Value:
        """A value that was not given before: whole numbers rise, as keys do, texts are numbered."""
        self.number += self.rng.randint(1, 3)
        held = [value for value in self.column.values if value is not None]
        if affinity(self.column.declared) == "INTEGER" or (held and all(isinstance(value, int) for value in held)):
            return self.number
        if affinity(self.column.declared) in ("REAL", "NUMERIC") and not any(isinstance(v, str) for v in held):
            return self.number + 0.5
        texts = [value for value in held if isinstance(value, str)] or list(WORDS)
        return texts[self.number] if self.number < len(texts) else f"{self.rng.choice(texts)} {self.number}"

    def _made(self, tight: bool) -> list[Value]:
        """Values of the column's type."""
        kind, declared, rng = affinity(self.column.declared), self.column.declared.upper(), self.rng
        held = [value for value in self.column.values if value is not None]
        if "DATE" in declared or "TIMESTAMP" in declared or any(_DATE.match(str(value)) for value in held[:3]):
            return list(DATES)
        if "BOOL" in declared:
            return [0, 1]
        if kind == "TEXT" or (held and all(isinstance(value, str) for value in held)):
            return list(WORDS)
        if kind in ("REAL", "NUMERIC"):
            return [rng.randint(2, 40) / 4 if tight else rng.randint(4, 4000) / 4 + 0.01 for _ in range(12)]
        return [rng.randint(1, 9) if tight else rng.randint(1, 2000) for _ in range(12)]
