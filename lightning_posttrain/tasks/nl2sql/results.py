"""Whether a query's result is gold's: columns by their places, rows as often as they are there, numbers by their value.

Order counts where gold sorts, but for rows that its keys leave tied: those may come in any order, and where a limit
cuts through them, any of them will do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from .query import parsed

Rows = Sequence[Sequence[Any]]
FLOAT_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Sorted:
    """How a gold query sorts.

    Args:
        sql: the query without its limit, with its keys among its columns; None = ties cannot be told.
        keys: the places of the keys.
        added: how many of its columns, the last ones, are there for that only.
        start, stop: the rows that its limit takes; stop None = all.
    """

    sql: str | None = None
    keys: tuple[int, ...] = ()
    added: int = 0
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Expected:
    """Gold's result on one database.

    Args:
        rows: as gold gives them.
        ordered: their order counts.
        runs: where ties are told, the rows that tie with one another, in order, cut by no limit.
        start: the place in all runs of the first of ``rows``.
    """

    rows: Rows
    ordered: bool
    runs: tuple[Rows, ...] | None = None
    start: int = 0

    @property
    def open(self) -> bool:
        """Whether a limit takes some of tied rows: gold does not say which."""
        ends = [0]
        for run in self.runs or ():
            ends.append(ends[-1] + len(run))
        cuts = (self.start, self.start + len(self.rows))
        return self.runs is not None and any(cut not in ends for cut in cuts if cut <= ends[-1])

    @property
    def blank(self) -> bool:
        """No rows, or nothing in them but nulls and zeros: many wrong queries give the same."""
        return all(value is None or value == 0 for row in self.rows for value in row)

    def met_by(self, rows: Rows) -> bool:
        """Whether a result is this one."""
        if not self.ordered:
            return same_rows(rows, self.rows)
        if len(rows) != len(self.rows):
            return False
        if self.runs is None:
            return all(same_rows([a], [b]) for a, b in zip(rows, self.rows, strict=True))
        place = 0
        for run in self.runs:
            low, high = max(place, self.start), min(place + len(run), self.start + len(rows))
            if low < high and not _among(rows[low - self.start : high - self.start], run):
                return False
            place += len(run)
        return True


def sorting(sql: str, columns: frozenset[str]) -> Sorted | None:
    """How a query sorts its result; None where it does not."""
    tree = parsed(sql, columns)
    order = tree.args.get("order") if tree is not None else None
    if tree is None or order is None:
        return None
    keys = [_key(ordered.this, tree) for ordered in order.expressions]
    start, count = _number(tree.args.get("offset"), 0), _number(tree.args.get("limit"), None)
    if None in keys or start == "?" or count == "?":
        return Sorted()
    stop = None if count is None else start + count
    tree = tree.copy()
    for part in ("limit", "offset"):
        tree.set(part, None)
    places: list[int] | None = list(range(-len(keys), 0))
    if isinstance(tree, exp.Select) and not tree.args.get("distinct"):  # further columns leave the rows as they are
        for number, key in enumerate(keys):
            tree.append("expressions", exp.alias_(key.copy(), f"sort_key_{number}"))  # type: ignore[union-attr]
        added = len(keys)
    else:
        places, added = _places(keys, tree), 0  # type: ignore[arg-type]
    try:
        text = tree.sql("sqlite", comments=False)
    except Exception:  # sqlglot can read what it cannot write
        return Sorted()
    return Sorted(text, tuple(places), added, start, stop) if places is not None else Sorted()


def _places(keys: Sequence[exp.Expr], tree: exp.Query) -> list[int] | None:
    """The selected columns that show the keys; None where one is not shown."""
    shown = [(item.alias_or_name.lower(), item.unalias().sql().lower()) for item in tree.selects]
    if any(item.is_star for item in tree.selects):
        return None
    found = [next((i for i, names in enumerate(shown) if key.sql().lower() in names), None) for key in keys]
    return [place for place in found if place is not None] if None not in found else None


def _number(part: exp.Expr | None, missing: Any) -> Any:
    """The number of a LIMIT or OFFSET; "?" where it is not written as one."""
    if part is None:
        return missing
    shown = part.expression
    return int(shown.this) if isinstance(shown, exp.Literal) and str(shown.this).isdigit() else "?"


def _key(key: exp.Expr, tree: exp.Query) -> exp.Expr | None:
    """What a key stands for: the selected column of its number or name, or itself. NOCASE sorts by small letters."""
    if isinstance(key, exp.Collate):
        inner = _key(key.this, tree)
        folds = key.expression.name.upper() == "NOCASE"
        return exp.Lower(this=inner.copy()) if inner is not None and folds else inner
    if isinstance(key, exp.Literal) and not key.is_string:
        place = int(key.this) - 1 if str(key.this).isdigit() else -1
        stars = any(item.is_star for item in tree.selects[: place + 1])
        return None if stars or not 0 <= place < len(tree.selects) else tree.selects[place].unalias()
    if isinstance(key, exp.Column) and not key.table:
        for item in tree.selects:
            if isinstance(item, exp.Alias) and item.alias.lower() == key.name.lower():
                return item.unalias()
    return key


def expected(rows: Rows, how: Sorted | None, keyed: Rows | None) -> Expected:
    """Gold's result on a database.

    Args:
        rows: what gold gives.
        how: how it sorts.
        keyed: what the query with keys gives; None where there is none, or where it failed.
    """
    if how is None or keyed is None:
        return Expected(rows, how is not None)
    width = len(keyed[0]) - how.added if keyed else 0
    shown = [tuple(row[:width]) for row in keyed]
    keys = [[row[place] for place in how.keys] for row in keyed]
    runs: list[list[Sequence[Any]]] = []
    for number, row in enumerate(shown):
        if number == 0 or keys[number] != keys[number - 1]:
            runs.append([])
        runs[-1].append(row)
    found = Expected(rows, True, tuple(runs), how.start)
    whole = len(shown[how.start : how.stop]) == len(rows) and found.met_by(rows)
    return found if whole else Expected(rows, True)  # the further columns changed more than they should


# ---- equality -------------------------------------------------------------------------------------------------------


def same_rows(rows: Rows, want: Rows) -> bool:
    """Whether two results have the same rows, each as often, in whatever order."""
    if len(rows) != len(want) or {len(row) for row in rows} != {len(row) for row in want}:
        return False
    if Counter(map(_rounded, rows)) == Counter(map(_rounded, want)):
        return True
    pairs = zip(sorted(rows, key=_sort_key), sorted(want, key=_sort_key), strict=True)
    return all(_equal(a, b) for row, other in pairs for a, b in zip(row, other, strict=True))


def _among(rows: Rows, run: Rows) -> bool:
    """Whether rows are some of those that tie."""
    if len(rows) == len(run):
        return same_rows(rows, run)
    return not Counter(map(_rounded, rows)) - Counter(map(_rounded, run))


def _rounded(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(_round(value) for value in row)


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.10g}")  # equal to an int of that value, as in SQLite
    return repr(value) if isinstance(value, dict) else value


def _sort_key(row: Sequence[Any]) -> list[tuple[int, float, str]]:
    return [
        (0, 0.0, "")
        if value is None
        else (1, float(f"{value:.8g}"), "")
        if isinstance(value, int | float)
        else (2, 0.0, repr(value))
        for value in row
    ]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float) and float in (type(a), type(b)):
        return math.isclose(a, b, rel_tol=FLOAT_TOLERANCE, abs_tol=1e-12)
    return bool(a == b) and isinstance(a, str) == isinstance(b, str)
