"""What a gold query says of the columns it reads: which are joined, what their values are compared with.

A filling of the tables is made from this. It need not be complete: what is not understood is left out, and rows drawn
at random stand in for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from sqlglot import exp

from . import conditions
from .conditions import Condition, Value
from .constants import bare, between_of, constant_of, inverse_of
from .database import Place, Shape
from .query import parsed

Node = tuple[int, str]
"""A column of one use of a table: the number of the use, and the column's name in small letters."""
_SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=",
}  # fmt: skip
_DATES = (exp.TimeToStr, exp.Date, exp.Year, exp.Month, exp.Day, exp.TsOrDsToDate, exp.TimestampTrunc)
MOST = 30
"""Rows of a group, or under a limit, that are made at most."""


@dataclass
class Mentions:
    """What a query says.

    Args:
        tables: the name of each use of a table, in small letters.
        joins: pairs of columns whose values are to be the same.
        conditions: what is asked of a column's value.
        sizes: numbers of rows that it counts to: limits, sizes of groups.
        nulls: columns of which it says what becomes of a null.
        extremes: columns that are to be the largest (1) or the smallest (-1).
        dates: columns of which it takes parts of dates, or that it compares with dates.
    """

    tables: list[str] = field(default_factory=list)
    joins: list[tuple[Node, Node]] = field(default_factory=list)
    conditions: list[tuple[Node, Condition]] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    extremes: dict[Node, int] = field(default_factory=dict)
    nulls: set[Place] = field(default_factory=set)
    dates: set[Place] = field(default_factory=set)

    def place(self, node: Node) -> Place:
        return self.tables[node[0]], node[1]


@lru_cache(1024)
def mentions(sql: str, shape: Shape) -> Mentions:
    """What a query says of the columns of a database; nothing where it cannot be read."""
    names = frozenset(column.name.lower() for relation in shape.relations for column in relation.columns)
    tree = parsed(sql, names)
    reader = _Reader(shape)
    if tree is not None:
        with suppress(Exception):  # a tree of a form that is not known here; what was found until then will do
            reader.read(tree)
    return reader.found


class _Reader:
    def __init__(self, shape: Shape) -> None:
        self.columns = {r.name.lower(): {c.name.lower() for c in r.columns} for r in shape.relations}
        self.found = Mentions()
        self.uses: dict[int, int] = {}

    def read(self, tree: exp.Query) -> None:
        for table in tree.find_all(exp.Table):
            if table.name.lower() in self.columns and not _cte(table):
                self.uses[id(table)] = len(self.found.tables)
                self.found.tables.append(table.name.lower())
        for node in tree.walk():
            self._read_node(node)

    def _read_node(self, node: exp.Expr) -> None:
        if type(node) in _SIGNS:
            self._compared(node)  # type: ignore[arg-type]
        elif isinstance(node, exp.Like | exp.ILike | exp.Glob):
            self._pattern(node)
        elif isinstance(node, exp.Between):
            self._condition(node.this, node, between_of(node))
        elif isinstance(node, exp.In):
            self._in(node)
        elif isinstance(node, exp.Is):
            self._is(node)
        elif isinstance(node, exp.Coalesce):
            self._nullable(node.this)
        elif isinstance(node, exp.Limit | exp.Offset):
            size = constant_of(node.expression)
            self._size(size)
        elif isinstance(node, exp.Join):
            self._using(node)
        elif isinstance(node, _DATES) or (isinstance(node, exp.Anonymous) and node.name.lower() == "julianday"):
            self._dated(node)

    # ---- what is said ----

    def _compared(self, node: exp.Binary) -> None:
        sign = _SIGNS[type(node)]
        for side, other, way in ((node.this, node.expression, sign),
                                 (node.expression, node.this, conditions.FLIPPED.get(sign, sign))):  # fmt: skip
            constant = constant_of(other)
            if constant is not None:
                self._with_constant(node, side, way, constant)
                return
        if sign == "=":
            pair = self._node(node.this), self._node(node.expression)
            if pair[0] and pair[1]:
                self.found.joins.append((pair[0], pair[1]))
                sign_of = {pair[0]: _extreme(node.expression), pair[1]: _extreme(node.this)}
                self.found.extremes |= {one: way for one, way in sign_of.items() if way}

    def _with_constant(self, node: exp.Expr, side: exp.Expr, sign: str, constant: Value) -> None:
        if next(side.find_all(exp.Count), None) is not None:
            self._size(constant)
            return
        column = self._node(side)
        if column is not None:
            self._add(column, conditions.compared(sign, constant, inverse_of(bare(side))), node)

    def _pattern(self, node: exp.Binary) -> None:
        pattern = constant_of(node.expression)
        if isinstance(pattern, str) and len(pattern) < 200:
            glob = isinstance(node, exp.Glob)
            made = conditions.like(pattern, "*", "?", fold=False) if glob else conditions.like(pattern)
            self._condition(node.this, node, made)

    def _in(self, node: exp.In) -> None:
        constants = [constant for item in node.expressions if (constant := constant_of(item)) is not None]
        if constants:
            self._condition(node.this, node, conditions.one_of(constants[:12]))
        query = node.args.get("query")
        shown = query.find(exp.Select).expressions if query is not None and query.find(exp.Select) else []
        pair = self._node(node.this), self._node(shown[0]) if shown else None
        if pair[0] and pair[1]:
            self.found.joins.append((pair[0], pair[1]))

    def _is(self, node: exp.Is) -> None:
        if isinstance(node.expression, exp.Null):
            self._nullable(node.this)
            self._condition(node.this, node, conditions.is_null())
        elif (constant := constant_of(node.expression)) is not None:
            self._with_constant(node, node.this, "=", constant)

    def _using(self, join: exp.Join) -> None:
        names = [name.name.lower() for name in join.args.get("using") or []]
        uses = [use for source in _sources(join.parent) if (use := self.uses.get(id(source))) is not None]
        for name in names:
            having = [use for use in uses if name in self.columns[self.found.tables[use]]]
            self.found.joins += [((a, name), (b, name)) for a, b in pairwise(having)]

    def _condition(self, side: exp.Expr, node: exp.Expr, condition: Condition | None) -> None:
        column = self._node(side)
        if column is not None and condition is not None:
            self._add(column, condition, node)

    def _add(self, column: Node, condition: Condition, node: exp.Expr) -> None:
        if any(isinstance(value, str) and conditions.day_of(value) for value in condition.values[:1]):
            self.found.dates.add(self.found.place(column))
        self.found.conditions.append((column, condition.negated() if _denied(node) else condition))

    def _nullable(self, side: exp.Expr) -> None:
        column = self._node(side)
        if column is not None:
            self.found.nulls.add(self.found.place(column))

    def _dated(self, node: exp.Expr) -> None:
        for column in _columns(node):
            if (found := self._resolved(column, column.parent_select)) is not None:
                self.found.dates.add(self.found.place(found))

    def _size(self, size: Value) -> None:
        if isinstance(size, int | float) and size >= 0:
            self.found.sizes.add(min(int(size), MOST))

    # ---- which column is meant ----

    def _node(self, side: exp.Expr) -> Node | None:
        """The column that an expression is made of, if it is one."""
        column = next(iter(_columns(side)), None)
        return self._resolved(column, column.parent_select) if column is not None else None

    def _resolved(self, column: exp.Column, select: exp.Expr | None, depth: int = 0) -> Node | None:
        name = column.name.lower()
        while isinstance(select, exp.Select) and depth < 20:
            for source in _sources(select):
                if column.table and source.alias_or_name.lower() != column.table.lower():
                    continue
                use = self.uses.get(id(source))
                if use is not None and name in self.columns[self.found.tables[use]]:
                    return use, name
                inner = _query(source) if use is None else None
                shown = _shown(inner, name) if inner is not None else None
                if inner is not None and shown is not None:
                    return self._resolved(shown, inner, depth + 1)
            if not column.table and (shown := _shown(select, name)) is not None and shown is not column:
                return self._resolved(shown, select, depth + 1)
            select = select.parent_select
        return None


def _columns(side: exp.Expr) -> Iterator[exp.Column]:
    """The columns of an expression; of a query in its place, those that it shows."""
    if isinstance(side, exp.Subquery | exp.Select):
        select = side.find(exp.Select)
        if select is not None and select.expressions:
            yield from _columns(select.expressions[0])
    elif isinstance(side, exp.Column):
        yield side
    else:
        for child in side.iter_expressions():
            yield from _columns(child)


def _extreme(side: exp.Expr) -> int:
    """1 where a query in a value's place gives a maximum, -1 where it gives a minimum, else 0."""
    select = side.find(exp.Select) if isinstance(side, exp.Subquery) else None
    shown = select.expressions[0].unalias() if select is not None and select.expressions else None
    return isinstance(shown, exp.Max) - isinstance(shown, exp.Min)


def _sources(select: exp.Expr | None) -> list[exp.Expr]:
    if not isinstance(select, exp.Select):
        return []
    first = select.args.get("from_") or select.args.get("from")
    return ([first.this] if first else []) + [join.this for join in select.args.get("joins") or []]


def _query(source: exp.Expr) -> exp.Select | None:
    """The query that stands in the place of a table."""
    found = _cte(source) if isinstance(source, exp.Table) else source
    return found.find(exp.Select) if found is not None else None


def _cte(table: exp.Table) -> exp.CTE | None:
    above: exp.Expr | None = table
    while above is not None:
        held = above.args.get("with_") or above.args.get("with")
        for cte in held.expressions if held is not None else ():
            if cte.alias.lower() == table.name.lower():
                return cte
        above = above.parent
    return None


def _shown(select: exp.Select, name: str) -> exp.Column | None:
    """The column that a query shows under a name, or makes it of."""
    for item in select.expressions:
        if item.alias_or_name.lower() == name:
            return next(iter(_columns(item.unalias())), None)
    return None


def _denied(node: exp.Expr) -> bool:
    """Whether a condition stands under a NOT of its own query."""
    denied, above = False, node.parent
    while above is not None and not isinstance(above, exp.Select):
        denied ^= isinstance(above, exp.Not)
        above = above.parent
    return denied
