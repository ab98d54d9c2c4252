"""Judges queries against a row's gold queries, by what both give on its database and on fillings of its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...sandbox import Database, Job, Outcome
from .database import Shape
from .fillings import Filling, fillings
from .results import Expected, Rows, expected, sorting


@dataclass(frozen=True)
class Verdict:
    """What is found of a query.

    Args:
        match: 1 or 0; nan = gold's results cannot judge it.
        runs: it runs wherever gold does; nan = gold does nowhere.
        gold_failed: no gold query runs.
        gold_status: what became of the first gold query, None = nothing could be run.
        differs_on: where its result is not gold's: ``database``, or the number of the filling.
    """

    match: float
    runs: float
    gold_failed: bool
    gold_status: str | None
    differs_on: str | int | None = None


class Judge:
    """The judge of all answers to one row.

    Args:
        queries: gold; any of them will do.
        columns: names of the database's columns in small letters.
        shape: its tables; None = not known, and nothing is run.
        databases: the one that came with the data, or none.
        sets: results are compared as sets of rows, on that database alone.
    """

    def __init__(
        self,
        queries: tuple[str, ...],
        columns: frozenset[str],
        shape: Shape | None,
        databases: tuple[Database, ...],
        sets: bool = False,
    ) -> None:
        self.queries, self.sets = queries, sets
        self.filled: tuple[Filling, ...] = fillings(shape, queries) if shape is not None and not sets else ()
        self.published = databases
        self.databases = (*databases, *(filling.database for filling in self.filled))
        self.orders = [None if sets else sorting(sql, columns) for sql in queries]
        self.golds: list[dict[int, Expected]] = []
        self.status: str | None = None

    def jobs(self) -> list[Job]:
        """What has to be known of gold: results, those on rows in reverse, and where it sorts, which rows tie."""
        if not self.databases:
            return []
        both = (*self.databases, *(filling.reverse for filling in self.filled))
        plain = [Job(sql, language="sqlite", databases=both) for sql in self.queries]
        keyed = [how.sql for how in self.orders if how is not None and how.sql is not None]
        return plain + [Job(sql, language="sqlite", databases=both) for sql in keyed]

    def jobs_of(self, query: str | None) -> list[Job]:
        """An answer's query."""
        return [Job(query, language="sqlite", databases=self.databases)] if query and self.databases else []

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Take what `jobs` gave."""
        if not outcomes:
            return
        self.status = outcomes[0].status
        rest = iter(outcomes[len(self.queries) :])
        for how, outcome in zip(self.orders, outcomes, strict=False):
            keyed = next(rest) if how is not None and how.sql is not None else None
            found = {}
            for number, part in enumerate(outcome.parts or ()):
                if part.rows is not None:
                    held = keyed.parts[number].rows if keyed is not None and keyed.parts is not None else None
                    found[number] = expected(part.rows, how, held)
            if found:
                self.golds.append(self._telling(found))

    def _telling(self, found: dict[int, Expected]) -> dict[int, Expected]:
        """The results on databases that say what the answer is: not on fillings where gold leaves that open."""
        first = len(self.published)
        telling = {number: result for number, result in found.items() if number < first}
        for number in range(first, len(self.databases)):
            result, reverse = found.get(number), found.get(number + len(self.filled))
            if result is not None and reverse is not None and not result.open and result.met_by(reverse.rows):
                telling[number] = result
        return telling

    def verdict(self, outcome: Outcome | None) -> Verdict:
        """What is found of an answer's query, None = there is none."""
        if not self.golds:
            return Verdict(math.nan, math.nan, bool(self.databases), self.status)
        parts = outcome.parts if outcome is not None and outcome.parts is not None else ()
        whole = {number for gold in self.golds for number in gold}
        runs = float(bool(parts) and all(parts[number].rows is not None for number in whole))
        judging = [gold for gold in self.golds if self.sets or not all(result.blank for result in gold.values())]
        if not judging:
            return Verdict(math.nan, runs, False, self.status)
        places = [self._differs(gold, parts) for gold in judging]
        if None in places:
            return Verdict(1.0, runs, False, self.status)
        place = places[0]
        named: Any = "database" if place is not None and place < len(self.published) else place
        if isinstance(named, int):
            named -= len(self.published)
        return Verdict(0.0, runs, False, self.status, named)

    def _differs(self, gold: dict[int, Expected], parts: Sequence[Outcome]) -> int | None:
        """The first database on which a query's result is not gold's."""
        for number, result in gold.items():
            rows = parts[number].rows if parts else None
            if rows is None or not (_as_sets(rows, result.rows) if self.sets else result.met_by(rows)):
                return number
        return None


def _as_sets(rows: Rows, want: Rows) -> bool:
    return set(map(_hashable, rows)) == set(map(_hashable, want))


def _hashable(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(repr(value) if isinstance(value, dict) else value for value in row)
