"""Rows for a schema that tell queries apart: test suites for semantic evaluation (Zhong, Yu, Klein 2020, 2010.02840).

Each gold query is given rows that satisfy it, then rows of which one condition is missed by little or one join finds no
partner, then rows at random; with ties, nulls where there may be some, and groups as large as it counts to. All of it
follows from the schema and the queries, so the same ones are always filled alike.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ...sandbox import Database
from .conditions import Value
from .database import Column, Place, Relation, Shape, is_key, quoted
from .mentions import Mentions, Node, mentions
from .values import Source, affinity, fitting, is_number

FILLINGS = 16
MAX_ROWS = 60
"""Of a table; fewer where a query joins many."""
MAX_STEPS = 1_000_000
"""Instructions for one query on one filling, so that whether it is too slow does not depend on the machine."""
_GENERAL = ("id", "name", "title", "code", "type", "number", "year", "date", "description", "status", "value")
"""Names that columns have which have nothing to do with each other."""

Row = dict[str, Value]


@dataclass(frozen=True)
class Filling:
    """A filled database, and the same rows in reverse: what differs there is not determined by the rows."""

    database: Database
    reverse: Database


@lru_cache(64)
def fillings(shape: Shape, queries: tuple[str, ...]) -> tuple[Filling, ...]:
    """Databases of a shape that tell gold queries from similar ones.

    Args:
        shape: the tables.
        queries: gold, all of them.
    """
    said = [mentions(sql, shape) for sql in queries]
    return tuple(_filled(shape, said, number) for number in range(FILLINGS))


def _filled(shape: Shape, said: Sequence[Mentions], number: int) -> Filling:
    rows = _Filler(shape, said, number).rows()
    return Filling(_database(shape, rows), _database(shape, {name: held[::-1] for name, held in rows.items()}))


def _database(shape: Shape, rows: dict[str, list[Row]]) -> Database:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("PRAGMA page_size = 1024")
        db.execute("BEGIN")
        for relation in shape.relations:
            columns = [f"{quoted(c.name)} {affinity(c.declared)} COLLATE {c.collation}" for c in relation.columns]
            db.execute(f"CREATE TABLE {quoted(relation.name)} ({', '.join(columns)})")
            marks = ", ".join("?" * len(columns))
            held = [[row[c.name.lower()] for c in relation.columns] for row in rows[relation.name.lower()]]
            db.executemany(f"INSERT INTO {quoted(relation.name)} VALUES ({marks})", held)
        db.execute("COMMIT")
        return Database(db.serialize(), MAX_STEPS)


class _Filler:
    """The rows of one filling.

    Args:
        shape: the tables.
        said: what each gold query says.
        number: of the filling. Even ones have few different values; half of them have nulls where it is not known.
    """

    def __init__(self, shape: Shape, said: Sequence[Mentions], number: int) -> None:
        self.rng = random.Random(f"filling {number}")
        self.said, self.number, self.tight = said, number, number % 2 == 0
        self.tables = {relation.name.lower(): relation for relation in shape.relations}
        self.columns = {
            (table, column.name.lower()): column for table, held in self.tables.items() for column in held.columns
        }
        for place in {place for m in said for place in m.dates}:
            self.columns[place] = replace(self.columns[place], declared="DATE")
        self.joined = {m.place(node) for m in said for pair in m.joins for node in pair}
        domains = _Same([*(pair for pair in shape.links if set(pair) <= self.columns.keys()), *self._alike()])
        for m in said:
            for a, b in m.joins:
                domains.join(m.place(a), m.place(b))
        self.domain = {place: domains.of(place) for place in self.columns}
        self.members: dict[Place, list[Place]] = {}
        for place, first in self.domain.items():
            self.members.setdefault(first, []).append(place)
        self.sources: dict[Place, Source] = {}
        near: dict[Place, list[Value]] = {}
        for m in said:
            for node, condition in m.conditions:
                near.setdefault(m.place(node), []).extend(value for value in condition.values if value is not None)
        self.near = {place: fitting(self.columns[place], values) for place, values in near.items()}
        self.unique = {p for p, column in self.columns.items() if column.unique or (column.entity and p in self.joined)}
        self.nullable = {place for place, column in self.columns.items() if self._may_be_null(place, column)}
        self.most = min(MAX_ROWS, 150 // max((len(m.tables) for m in said if m.tables), default=1))
        self.used: dict[Place, list[Value]] = {}
        self.filled: dict[str, list[Row]] = {table: [] for table in self.tables}

    def rows(self) -> dict[str, list[Row]]:
        """Rows by the table's name in small letters."""
        for m in self.said:
            self._tell(m)
        sizes = [size for m in self.said for size in m.sizes]
        mentioned = {table for m in self.said for table in m.tables}
        for table in self.tables:
            more = self.rng.choice((1, 3, 8)) + 2 * max(sizes, default=0) if table in mentioned else 2
            for _ in range(more):
                self._add(table, {})
        for table, held in self.filled.items():
            self._sort(self.tables[table], held)
        return self.filled

    # ---- rows that tell ----

    def _tell(self, m: Mentions) -> None:
        """Rows that satisfy a query, and rows that nearly do."""
        nodes = {node for pair in m.joins for node in pair} | {node for node, _ in m.conditions}
        same = _Same(m.joins)
        classes: dict[Node, list[Node]] = {}
        for node in sorted(nodes):
            classes.setdefault(same.of(node), []).append(node)
        told: list[tuple[dict[Node, Value], Node | None]] = [({}, None)] * self.rng.choice((1, 2, 4))
        share = self.rng.choice((0.2, 0.5, 1.0))
        for first, members in classes.items():
            told += [({first: value}, None) for value in self._asked(m, members) if self.rng.random() < share]
        told += [({}, self.rng.choice(pair)) for pair in m.joins]
        self.rng.shuffle(told)
        for changed, apart in told:
            self._place(m, classes, self._chosen(m, classes) | changed, apart)
        for size in sorted(m.sizes):
            values = self._chosen(m, classes)
            for _ in range(size + self.rng.randint(0, 1)):
                self._place(m, classes, values)

    def _place(
        self, m: Mentions, classes: dict[Node, list[Node]], values: dict[Node, Value], apart: Node | None = None
    ) -> None:
        """One row for each use of a table, with the values of its classes of columns; ``apart`` finds no partner."""
        rows: list[Row] = [{} for _ in m.tables]
        for first, members in classes.items():
            for node in members:
                rows[node[0]][node[1]] = values[first] if node != apart else self._other(m.place(node), values[first])
        for table, row in zip(m.tables, rows, strict=True):
            self._add(table, row)

    def _asked(self, m: Mentions, members: Sequence[Node]) -> list[Value]:
        """Values that satisfy a condition on joined columns, or nearly do."""
        values = dict.fromkeys(value for node, held in m.conditions if node in members for value in held.values)
        return fitting(self.columns[m.place(members[0])], list(values))

    def _chosen(self, m: Mentions, classes: dict[Node, list[Node]]) -> dict[Node, Value]:
        """A value for each class of joined columns, such as the conditions on them ask for."""
        found = {}
        for first, members in classes.items():
            asked = [condition for node, condition in m.conditions if node in members]
            candidates = self._asked(m, members)
            ways = [m.extremes[node] for node in members if node in m.extremes]
            if ways and not candidates:
                found[first] = self._beyond(m.place(first), ways[0])
                continue
            if not candidates:
                found[first] = self._shared([m.place(node) for node in members])
                continue
            held = [sum(condition.test(value) for condition in asked) for value in candidates]
            found[first] = self.rng.choice([v for v, h in zip(candidates, held, strict=True) if h == max(held)])
        return found

    def _beyond(self, place: Place, way: int) -> Value:
        """A number above or below all that are there."""
        held = [row[place[1]] for row in self.filled[place[0]]]
        numbers = [value for value in held if isinstance(value, int | float)]
        if not is_number(self.columns[place]) or not numbers or self.rng.random() < 0.2:
            return self._draw(place)
        return max(numbers) + 1 if way > 0 else min(numbers) - 1

    def _shared(self, places: Sequence[Place]) -> Value:
        """A value for columns that are joined, often one that is there already."""
        used = self.used.get(self.domain[places[0]], [])
        if used and self.rng.random() < 0.5:
            return self.rng.choice(used)
        key = next((place for place in places if place in self.unique), None)
        return self._source(key).fresh() if key else self._draw(places[0])

    def _other(self, place: Place, value: Value) -> Value:
        for _ in range(9):
            other = self._source(place).fresh() if place in self.unique else self._draw(place)
            if other != value:
                return other
        return self._source(place).fresh()

    # ---- rows ----

    def _add(self, table: str, given: Row) -> None:
        """A row with some values given; none where it may not be there twice."""
        relation, held = self.tables[table], self.filled[table]
        row = {}
        for column in relation.columns:
            place = (table, column.name.lower())
            row[place[1]] = given[place[1]] if place[1] in given else self._random(place)
        alone = [column.name.lower() for column in relation.columns if (table, column.name.lower()) in self.unique]
        twice = any(row[name] == other[name] for name in alone for other in held)
        if twice or len(held) >= self.most or (not relation.repeats and row in held):
            return
        held.append(row)
        for name, value in row.items():
            if value is not None and (table, name) in self.joined:
                self.used.setdefault(self.domain[table, name], []).append(value)

    def _random(self, place: Place) -> Value:
        if place in self.unique:
            return self._source(place).fresh()
        if place in self.nullable and self.rng.random() < 0.25:
            return None
        used = self.used.get(self.domain[place], [])
        if used and self.rng.random() < 0.7:
            return self.rng.choice(used)
        return self._draw(place)

    def _draw(self, place: Place) -> Value:
        """A value that something is compared with, or any other."""
        near = self.near.get(place)
        if near and self.rng.random() < 0.4:
            return self.rng.choice(near)
        return self._source(place).drawn()

    def _source(self, place: Place) -> Source:
        """Where values come from: for columns that refer to each other the same place."""
        first = self.domain[place]
        if first not in self.sources:
            best = max(self.members[first], key=lambda other: len(self.columns[other].values))
            self.sources[first] = Source(self.columns[best], self.rng, self.tight)
        return self.sources[first]

    def _may_be_null(self, place: Place, column: Column) -> bool:
        if any(place in m.nulls for m in self.said):
            return True
        if column.nullable is None:
            apart = place in self.joined or column.entity or is_key(column.name)
            return self.number % 4 in (1, 2) and is_number(column) and not apart
        return column.nullable

    def _alike(self) -> Iterable[tuple[Place, Place]]:
        """Pairs of columns of the same name, unless it is one that means nothing."""
        first: dict[str, Place] = {}
        for place in self.columns:
            if place[1] not in _GENERAL:
                yield first.setdefault(place[1], place), place

    def _sort(self, relation: Relation, held: list[Row]) -> None:
        """Rows in the order of a key of whole numbers, as they are where rows are added one by one."""
        for column in relation.columns:
            name = column.name.lower()
            if (relation.name.lower(), name) in self.unique and all(isinstance(row[name], int) for row in held):
                held.sort(key=lambda row: row[name])  # type: ignore[arg-type, return-value]
                return


class _Same:
    """Classes of things that pairs of them say are the same."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]] = ()) -> None:
        self.parents: dict[Any, Any] = {}
        for a, b in pairs:
            self.join(a, b)

    def of(self, one: Any) -> Any:
        while one in self.parents:
            one = self.parents[one]
        return one

    def join(self, a: Any, b: Any) -> None:
        a, b = self.of(a), self.of(b)
        if a != b:
            self.parents[max(a, b)] = min(a, b)
