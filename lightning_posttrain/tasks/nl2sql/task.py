"""The task nl2sql: write one SQL query for a question about a database; judged as text and by what it returns.

All queries of a batch run in one call of the sandbox, on DuckDB with the tables of the row's SQLite database.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...sandbox import Job, Outcome, Sandbox, SandboxSpec, Table
from ...types import Completion, Message, Record, UserError
from ..bamboo.compare import Compare, compare
from ..base import Score, Task
from ..enterprise.labels import Rules, check_rules, text_of
from ..inis.score import final_answer
from .database import create_table, empty_tables, read_tables
from .dialect import for_duckdb, order_columns
from .edit import edit_distance, normal_compat
from .query import find_query, find_query_compat, normal, parses

Pair = tuple[Record, Completion]
_ROWS = (
    "a row needs `sql` (a query or a list of equivalent ones) and either `question` with `schema` or `user`, the whole "
    "request; `prepare nl2sql` writes them"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What the scorer needs of a row.

    Args:
        queries: gold, the first one the target; any of them will do.
        columns: names of the database's columns in small letters; empty = not known.
        tables: what queries are run on; None = neither database nor schema is known.
        filled: the tables have the rows of a database; else they are those of the schema, empty.
    """

    queries: tuple[str, ...]
    columns: frozenset[str]
    tables: tuple[Table, ...] | None
    filled: bool


class NL2SQL(Task):
    """A question about a database, answered by one SQL query (SQLite's dialect).

    Metrics of one completion, each from 0 to 1:

    - ``correct``: the execution match where the row has a database, else the exact match.
    - ``exact_match``: the query is a gold one but for what does not matter (`query.normal`).
    - ``edit_distance``, ``edit_similarity``: characters to change as a share of the longer text, in that form where the
      query can be read; and 1 minus it. Of several gold queries the nearest counts.
    - ``valid_rate``: the answer is one query.
    - ``execution_match``: its result is gold's, with rows in any order unless gold sorts them. Only of examples with a
      database on which gold itself runs.
    - ``executable_rate``: it runs, on the database or, where there is none, on empty tables of the row's schema. Only
      of examples whose gold itself runs there.
    - ``eos_rate``: the model ended the completion itself.

    Args:
        rules: ``strict``, or ``compat``: the query is the first block's, texts are compared in small letters, literals
            included, results as sets of rows, and the prompt asks for the block after the question, as the original.
        target: a query to learn stands in a ``block``, as the prompt asks, or ``bare``; null = ``block``, or the
            original's ``bare`` by ``compat``.
        databases: folder of SQLite files called after the rows' ``db_id`` (``ID.sqlite`` or ``ID/ID.sqlite``); null =
            the rows' ``database``, relative to their file. Rows without either are compared as text only.
        sandbox: how queries are run; null = the defaults of `SandboxSpec`. Workers start at the first need.
    """

    name = "nl2sql"
    primary = "correct"

    def __init__(
        self,
        rules: Rules = "strict",
        target: Literal["block", "bare"] | None = None,
        databases: str | None = None,
        sandbox: SandboxSpec | None = None,
    ) -> None:
        check_rules(self.name, rules)
        if databases is not None and not Path(databases).is_dir():
            raise UserError(f"{self.name}: databases={databases} is no folder; give one of SQLite files, or null")
        self.rules, self.target = rules, target or ("block" if rules == "strict" else "bare")
        self.databases, self.sandbox = databases, Sandbox(sandbox)

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        """A row as `prepare nl2sql` writes it.

        Raises:
            UserError: a field is missing, or the database it names cannot be read.
        """
        found = row.get("sql")
        queries = [found] if isinstance(found, str) else found
        if not isinstance(queries, list) or not queries or not all(isinstance(q, str) and q.strip() for q in queries):
            raise UserError(f"{origin}: sql={found!r:.60}; {_ROWS}")
        schema = _schema(row, origin)
        if row.get("user") is not None:
            asked = text_of(row, ("user",), origin, _ROWS)
        else:
            shown = "\n".join(create_table(name, columns) for name, columns in schema.items())
            asked = f"Database schema:\n{shown}\n\nQuestion: {text_of(row, ('question',), origin, _ROWS)}"
        path = self._database(row, origin)
        columns = frozenset(column.lower() for held in schema.values() for column, _ in held)
        tables = read_tables(path) if path else empty_tables(schema)
        problem = Problem(tuple(q.strip() for q in queries), columns, tables, path is not None)
        expert = "You are an expert in SQL. Write one SQL query (SQLite) that answers the question about the database."
        block = "Give the query in a ```sql block."
        prompt = f"{expert} {block}\n\n{asked}" if self.rules == "strict" else f"{expert}\n\n{asked}\n\n{block}"
        gold = problem.queries[0]
        answer = f"```sql\n{gold}\n```" if self.target == "block" else gold
        meta = {"problem": problem, "db_id": row.get("db_id")}
        return Record(str(row.get("id", origin)), (Message("user", prompt),), answer, origin, meta)

    def score(self, record: Record, completion: Completion) -> Score:
        return self.score_all([(record, completion)])[0]

    def score_all(self, pairs: Sequence[Pair]) -> list[Score]:
        """The scores of many answers, with all their queries run at once; equal ones run once.

        Raises:
            SandboxFault: the sandbox failed; never because of a query.
        """
        found = [self.parse(completion.text) for _, completion in pairs]
        jobs = [self._jobs(record.meta["problem"], query) for (record, _), query in zip(pairs, found, strict=True)]
        outcomes = iter(self.sandbox.run([job for some in jobs for job in some]))
        runs = [[next(outcomes) for _ in some] for some in jobs]
        return [self._judged(*one) for one in zip(pairs, found, runs, strict=True)]

    def parse(self, text: str) -> str | None:
        """The query in a completion, or None; any text is read."""
        return find_query(final_answer(text)) if self.rules == "strict" else find_query_compat(text) or None

    def close(self) -> None:
        """Stop the workers; a later score starts new ones."""
        self.sandbox.close()

    def _database(self, row: Mapping[str, Any], origin: str) -> Path | None:
        """The row's database; None where it has none."""
        if self.databases is not None:
            db = str(row.get("db_id", ""))
            places = [Path(self.databases, f"{db}.sqlite"), Path(self.databases, db, f"{db}.sqlite")]
            return next((place for place in places if db and place.is_file()), None)
        named = row.get("database")
        if named is None:
            return None
        if not isinstance(named, str) or not named:
            raise UserError(f"{origin}: database={named!r:.60}; give the path of a SQLite file, or leave it out")
        return Path(origin.rpartition(":")[0]).parent / named

    def _jobs(self, problem: Problem, query: str | None) -> list[Job]:
        """Gold's queries, then the answer's; none where nothing can be run."""
        if problem.tables is None:
            return []
        strict, own = self.rules == "strict", [query] if query is not None else []
        asked = [for_duckdb(sql, problem.columns, show_keys=strict) for sql in problem.queries]
        asked += [for_duckdb(sql, problem.columns) for sql in own]
        return [Job(sql, problem.tables, "sql") for sql in asked]

    def _judged(self, pair: Pair, query: str | None, runs: Sequence[Outcome]) -> Score:
        problem: Problem = pair[0].meta["problem"]
        exact, distance = self._as_text(problem, query or "")
        ran = self._as_run(problem, query, runs)
        values = {
            "correct": exact if math.isnan(ran[0]) else ran[0],
            "exact_match": exact,
            "edit_distance": distance,
            "edit_similarity": 1 - distance,
            "valid_rate": query is not None and parses(query, problem.columns),
            "execution_match": ran[0],
            "executable_rate": ran[1],
            "eos_rate": pair[1].finished,
        }
        own = runs[len(problem.queries)] if query is not None and runs else None
        detail = {
            "parsed": query,
            "gold": problem.queries[0],
            "status": own and own.status,
            "error_class": own and own.error_class,
            "error": own and own.error,
            "seconds": own.seconds if own else 0.0,
            "gold_status": runs[0].status if runs else None,
        }
        return Score({name: float(value) for name, value in values.items()}, detail, _reason(values, query, own))

    def _as_text(self, problem: Problem, query: str) -> tuple[bool, float]:
        """Exact match, and the edit distance to the nearest gold query."""

        def form(sql: str) -> str:
            return (
                normal_compat(sql) if self.rules == "compat" else normal(sql, problem.columns) or " ".join(sql.split())
            )

        own = form(query)
        golds = [form(gold) for gold in problem.queries]
        return own in golds, min(edit_distance(own, gold) for gold in golds)

    def _as_run(self, problem: Problem, query: str | None, runs: Sequence[Outcome]) -> tuple[float, float]:
        """Execution match, nan without a database, and whether the query runs; both nan where gold does not run."""
        golds = [(sql, run) for sql, run in zip(problem.queries, runs, strict=False) if run.status == "ok"]
        if not golds:
            return math.nan, math.nan
        runs_too = query is not None and runs[-1].status == "ok"
        if not problem.filled:
            return math.nan, float(runs_too)
        if not runs_too:
            return 0.0, 0.0
        same = any(self._same(runs[-1], gold, order_columns(sql, problem.columns)) for sql, gold in golds)
        return float(same), 1.0

    def _same(self, run: Outcome, gold: Outcome, order: Sequence[int | None]) -> bool:
        """Whether two results are the same; where gold is sorted, rows that its keys leave tied come in any order.

        Keys that gold's query did not show are its last columns here. The answer's rows are given those of gold's rows
        at their places: the rows are then the same if each stands among those it is tied with.
        """
        columns, rows, want_columns, want_rows = run.columns or (), run.rows or (), gold.columns or (), gold.rows or ()
        if self.rules == "compat":
            return _row_set(run) == _row_set(gold)
        unseen = sum(place is not None and place < 0 for place in order)
        if unseen:
            if len(rows) != len(want_rows):
                return False
            columns = (*columns, *want_columns[-unseen:])
            rows = tuple((*row, *want[-unseen:]) for row, want in zip(rows, want_rows, strict=True))
        names = [name for name, _ in want_columns]
        keys = tuple(names[place] for place in order if place is not None and place < len(names))
        shown = len(keys) == len(order)
        how = Compare(ordered=bool(order), order_by=keys if shown else (), column_names="relaxed")
        return compare(columns, rows, want_columns, want_rows, how).values


def _row_set(run: Outcome) -> set[tuple[Any, ...]]:
    """The rows of a result as a set; decimals, which come as texts, as numbers."""
    decimals = [kind.lstrip("!").startswith("decimal") for _, kind in run.columns or ()]
    return {
        tuple(float(v) if decimal and v is not None else _hashable(v) for v, decimal in zip(row, decimals, strict=True))
        for row in run.rows or ()
    }


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, list | dict) else value


def _reason(values: Mapping[str, Any], query: str | None, own: Outcome | None) -> str | None:
    """What is wrong first, in a word."""
    if values["correct"]:
        return None
    if query is None or not values["valid_rate"]:
        return "no_query"
    if own is not None and own.status != "ok":
        return own.status
    return "other_query" if math.isnan(values["execution_match"]) else "other_result"


def _schema(row: Mapping[str, Any], origin: str) -> dict[str, list[tuple[str, str]]]:
    """Table -> columns with their types, as the row has them."""
    found = row.get("schema") or {}
    try:
        return {str(name): [(str(column), str(kind)) for column, kind in held] for name, held in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{origin}: schema={found!r:.60} ({error}); give an object of table -> list of [column, type]"
        ) from error
