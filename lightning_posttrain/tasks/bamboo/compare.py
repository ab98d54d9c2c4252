"""Compares what a snippet returned with what was expected, stage by stage: shape, then types, then values.

Numbers of integer columns are equal or not; only where both sides are fractional is there a tolerance, and it is
relative. Null is not NaN, 1 is not true. Left out: columns of arrays, maps and structs beyond plain equality.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

Columns = Sequence[tuple[str, str]]
Rows = Sequence[Sequence[Any]]
MAX_MATCHED = 200
"""Rows alike but for their fractions of which every pairing is tried; beyond that, pairs are made by sorting."""
UNKNOWN = "unknown"
"""Type of an expected column that nothing is known of: every type will do."""

_INTEGER = re.compile(r"u?int(8|16|32|64)")
_DECIMAL = re.compile(r"decimal(\(\d+, *(?P<scale>\d+)\))?")


@dataclass(frozen=True)
class Compare:
    """What counts as the same result.

    Args:
        ordered: the order of rows matters.
        order_by: columns that were asked to be sorted by: rows that are tied in these may come in any order. Empty =
            every row has its place. Only where ``ordered``.
        float_tol: largest relative difference of two fractional numbers.
        column_names: ``strict`` = the expected names, in any order. ``relaxed`` = as many columns, matched by name
            where they have the same names but for case, else by position.
        multiset: how often a row is there counts; false = only whether.
    """

    ordered: bool = False
    order_by: tuple[str, ...] = ()
    float_tol: float = 1e-9
    column_names: Literal["strict", "relaxed"] = "strict"
    multiset: bool = True


@dataclass(frozen=True)
class Verdict:
    """Which stages hold; each implies those before it. ``reason`` is None where all do."""

    shape: bool
    types: bool
    values: bool
    reason: str | None


def compare(columns: Columns, rows: Rows, want_columns: Columns, want_rows: Rows, how: Compare) -> Verdict:
    """Judge ``rows`` of ``columns`` against what was expected. Any JSON values are judged, none raises."""
    order = _matching(columns, want_columns, how.column_names)
    if isinstance(order, str):
        return Verdict(False, False, False, order)
    if how.multiset and len(rows) != len(want_rows):
        return Verdict(False, False, False, "row_count")
    got = [[row[i] for i in order] for row in rows]
    families = []
    for index, ((_, want), place) in enumerate(zip(want_columns, order, strict=True)):
        family = _family(columns[place][1], want, [row[index] for row in got])
        if family is None:
            return Verdict(True, False, False, "types")
        families.append(family)
    scales = [_scale(want_rows, i) if family == "real" else 0.0 for i, family in enumerate(families)]
    match = _Matcher(families, scales, how)
    read_got, read_want = [match.read(row) for row in got], [match.read(row) for row in want_rows]
    if not match.same_rows(read_got, read_want):
        return Verdict(True, True, False, "values")
    names = [name for name, _ in want_columns]
    if how.ordered and not match.same_order(read_got, read_want, [names.index(n) for n in how.order_by if n in names]):
        return Verdict(True, True, False, "order")
    return Verdict(True, True, True, None)


def _matching(columns: Columns, want: Columns, names: str) -> list[int] | str:
    """For each expected column the place of the one that stands for it; or what is wrong with the columns."""
    have, wanted = [name for name, _ in columns], [name for name, _ in want]
    if len(have) != len(wanted):
        return "extra_columns" if len(have) > len(wanted) else "missing_columns"
    if sorted(have) == sorted(wanted) and len(set(have)) == len(have):
        return [have.index(name) for name in wanted]
    if names == "strict":
        return "column_names"
    folded, wanted_folded = [n.casefold() for n in have], [n.casefold() for n in wanted]
    if sorted(folded) == sorted(wanted_folded) and len(set(folded)) == len(folded):
        return [folded.index(name) for name in wanted_folded]
    return list(range(len(wanted)))


def kind_of(dtype: str) -> str:
    """The family of an Ibis type: int, real, bool, string, date, timestamp, or the type itself."""
    dtype = dtype.removeprefix("!")
    if _INTEGER.fullmatch(dtype):
        return "int"
    if match := _DECIMAL.fullmatch(dtype):
        return "int" if match["scale"] == "0" else "real"  # DuckDB's HUGEINT is decimal(38, 0)
    if dtype.startswith("float"):
        return "real"
    if dtype.startswith("timestamp"):
        return "timestamp"
    return {"boolean": "bool"}.get(dtype, dtype.partition("(")[0])


def _family(have: str, want: str, values: Sequence[Any]) -> str | None:
    """As what a column is compared; None where its type will not do.

    Where integers are expected, whole numbers of another numeric type will do, and are compared exactly. Where a date
    is expected, midnights will do.
    """
    a, b = kind_of(have), kind_of(want)
    if a == b or b == UNKNOWN:
        return UNKNOWN if b == UNKNOWN and a not in ("int", "real") else a
    if all(value is None for value in values):
        return b  # a column of nothing has no type worth failing for
    if {a, b} == {"int", "real"}:
        if b == "real":
            return "real"
        return "int" if all(v is None or _is_whole(v) for v in values) else None
    if {a, b} == {"date", "timestamp"}:
        return "timestamp" if b == "timestamp" or all(v is None or _is_midnight(v) for v in values) else None
    return None


def _is_whole(value: Any) -> bool:
    number = _number(value)
    return isinstance(number, Decimal) and number.is_finite() and number == number.to_integral_value()


def _is_midnight(value: Any) -> bool:
    moment = _moment(value)
    return isinstance(moment, datetime.datetime) and moment.time() == datetime.time()


def _number(value: Any) -> Any:
    """A JSON number or text of one as a Decimal, exactly; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return Decimal(value if isinstance(value, int) else repr(value) if isinstance(value, float) else value.strip())
    except (decimal.InvalidOperation, ValueError):
        return value


def _moment(value: Any) -> Any:
    """ISO text as a moment without a zone (UTC where it had one); anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        return value
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(datetime.UTC).replace(tzinfo=None)
    except (OverflowError, ValueError):
        return value


def _scale(rows: Rows, index: int) -> float:
    """The largest magnitude in a column."""
    numbers = [abs(_real(row[index])) for row in rows if isinstance(_real(row[index]), float)]
    return max((n for n in numbers if math.isfinite(n)), default=0.0)


def _real(value: Any) -> Any:
    number = _number(value)
    try:
        return float(number) if isinstance(number, Decimal) else number
    except (OverflowError, ValueError):
        return value


class _Matcher:
    """Equality of rows: exact in all columns but the fractional ones."""

    def __init__(self, families: Sequence[str], scales: Sequence[float], how: Compare) -> None:
        self.families, self.scales, self.how = families, scales, how
        self.real = [i for i, family in enumerate(families) if family == "real"]
        self.exact = [i for i, family in enumerate(families) if family != "real"]

    def read(self, row: Sequence[Any]) -> list[Any]:
        return [self._read(value, family) for value, family in zip(row, self.families, strict=True)]

    def _read(self, value: Any, family: str) -> Any:
        if value is None:
            return None
        if family == "real":
            return _real(value)
        if family == "int":
            return _number(value)
        if family in ("date", "timestamp"):
            return _moment(value)
        return value if isinstance(value, Mapping | list) else (type(value).__name__, str(value))

    def same_rows(self, got: Rows, want: Rows) -> bool:
        """The same rows, in whatever order."""
        got_groups, want_groups = self._groups(got), self._groups(want)
        if got_groups.keys() != want_groups.keys():
            return False
        return all(self._pair_up(got_groups[key], rows) for key, rows in want_groups.items())

    def same_order(self, got: Rows, want: Rows, keys: Sequence[int]) -> bool:
        """Place by place the same in the columns ``keys``, or in all where there are none."""
        places = keys or range(len(self.families))
        return len(got) == len(want) and all(
            self._equal(g[i], w[i], i) for g, w in zip(got, want, strict=True) for i in places
        )

    def _groups(self, rows: Rows) -> dict[tuple[Any, ...], list[list[Any]]]:
        groups: dict[tuple[Any, ...], list[list[Any]]] = defaultdict(list)
        for row in rows:
            groups[tuple(_key(row[i]) for i in self.exact)].append([row[i] for i in self.real])
        return groups

    def _equal(self, a: Any, b: Any, index: int) -> bool:
        if not (isinstance(a, float) and isinstance(b, float)):
            return bool(a == b)
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        near_zero = 1e-3 * self.how.float_tol * self.scales[index]  # sums that cancel, in proportion to the column
        return a == b or math.isclose(a, b, rel_tol=self.how.float_tol, abs_tol=near_zero)

    def _close(self, a: Sequence[Any], b: Sequence[Any]) -> bool:
        return all(self._equal(x, y, i) for x, y, i in zip(a, b, self.real, strict=True))

    def _pair_up(self, got: list[list[Any]], want: list[list[Any]]) -> bool:
        """Whether rows alike in everything else can be paired by their fractions."""
        if not self.how.multiset:
            return all(any(self._close(g, w) for w in want) for g in got) and all(
                any(self._close(g, w) for g in got) for w in want
            )
        if len(got) != len(want):
            return False
        got, want = (sorted(rows, key=lambda row: [_sort_key(v) for v in row]) for rows in (got, want))
        if all(map(self._close, got, want)):
            return True
        if len(got) > MAX_MATCHED:
            return False
        return _perfect([[j for j, w in enumerate(want) if self._close(g, w)] for g in got])


def _key(value: Any) -> Any:
    """A value to find equal ones by. What is no number in a column of numbers equals no number."""
    if isinstance(value, Mapping | list):
        return ("json", repr(value))
    return (type(value).__name__, str(value)) if isinstance(value, Decimal) and value.is_nan() else value


def _sort_key(value: Any) -> tuple[int, float, str]:
    if isinstance(value, float):
        return (1, 0.0, "") if math.isnan(value) else (0, value, "")
    return (2, 0.0, str(value))


def _perfect(choices: Sequence[Sequence[int]]) -> bool:
    """Whether every left node can have a right one of its own (augmenting paths, Kuhn 1955)."""
    owner: dict[int, int] = {}

    def place(left: int, tried: set[int]) -> bool:
        for right in choices[left]:
            if right not in tried:
                tried.add(right)
                if right not in owner or place(owner[right], tried):
                    owner[right] = left
                    return True
        return False

    return all(place(left, set()) for left in range(len(choices)))
