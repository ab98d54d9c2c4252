"""The task nl2sql: write one SQL query for a question about a database; judged as text and by what it returns.

All queries of a batch run in one call of the sandbox, on SQLite: on the row's database and on fillings of its tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...sandbox import Job, Outcome, Sandbox, SandboxSpec
from ...types import Completion, Message, Record, UserError
from ..answers import final_answer
from ..base import Score, Task
from ..enterprise.labels import Rules, check_rules, text_of
from .database import Shape, create_table, read_database, shape_of
from .edit import edit_distance, normal_compat
from .judge import Judge
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
        shape: the tables; None = not known, and nothing can be run.
        database: the SQLite file; None = there is none.
    """

    queries: tuple[str, ...]
    columns: frozenset[str]
    shape: Shape | None
    database: Path | None


class NL2SQL(Task):
    """A question about a database, answered by one SQL query (SQLite's dialect).

    Metrics of one completion, each from 0 to 1:

    - ``correct``: the execution match, or the exact match where the result of gold cannot be judged.
    - ``exact_match``: the query is a gold one but for what does not matter (`query.normal`).
    - ``edit_distance``, ``edit_similarity``: characters to change as a share of the longer text, in that form where the
      query can be read; and 1 minus it. Of several gold queries the nearest counts.
    - ``valid_rate``: the answer is one query.
    - ``execution_match``: it gives gold's result on the row's database and on every filling of its tables that tells
      (`fillings`). Columns stand in gold's order, rows in any unless gold sorts them, and then tied ones do; values are
      equal as SQLite has them. Only of examples that can be judged.
    - ``judged_rate``: the example can be judged: a gold query runs, and gives more than nothing, nulls and zeros on the
      database or on a filling.
    - ``gold_failed``: no gold query runs: an error of the data, or a schema that is not gold's.
    - ``executable_rate``: it runs, on the database and fillings. Only of examples of which a gold query does.
    - ``eos_rate``: the model ended the completion itself.

    Args:
        rules: ``strict``, or ``compat``: the query is the first block's, texts are compared in small letters, literals
            included, and results as sets of rows on the row's database alone; the prompt asks for the block after the
            question, as the original.
        target: a query to learn stands in a ``block``, as the prompt asks, or ``bare``; null = ``block``, or the
            original's ``bare`` by ``compat``.
        databases: folder of SQLite files called after the rows' ``db_id`` (``ID.sqlite`` or ``ID/ID.sqlite``); null =
            the rows' ``database``, relative to their file. Rows without either are judged on fillings of their schema.
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
        shape = read_database(path).shape if path else shape_of(schema)
        problem = Problem(tuple(q.strip() for q in queries), columns, shape, path)
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
        judges: dict[int, Judge] = {}
        for record, _ in pairs:
            judges.setdefault(id(record), self._judge(record.meta["problem"]))
        of = [judges[id(record)] for record, _ in pairs]
        jobs: list[list[Job]] = [judge.jobs() for judge in judges.values()]
        jobs += [judge.jobs_of(query) for judge, query in zip(of, found, strict=True)]
        outcomes = iter(self.sandbox.run([job for some in jobs for job in some]))
        runs = [[next(outcomes) for _ in some] for some in jobs]
        for judge, its in zip(judges.values(), runs, strict=False):
            judge.learn(its)
        own = [some[0] if some else None for some in runs[len(judges) :]]
        return [self._scored(*one) for one in zip(pairs, found, of, own, strict=True)]

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

    def _judge(self, problem: Problem) -> Judge:
        databases = (read_database(problem.database).database,) if problem.database else ()
        return Judge(problem.queries, problem.columns, problem.shape, databases, sets=self.rules == "compat")

    def _scored(self, pair: Pair, query: str | None, judge: Judge, own: Outcome | None) -> Score:
        problem: Problem = pair[0].meta["problem"]
        exact, distance = self._as_text(problem, query or "")
        verdict = judge.verdict(own)
        runs = query is not None and own is not None and own.status == "ok"
        values = {
            "correct": exact if math.isnan(verdict.match) else verdict.match,
            "exact_match": exact,
            "edit_distance": distance,
            "edit_similarity": 1 - distance,
            "valid_rate": query is not None and (runs or parses(query, problem.columns)),
            "execution_match": verdict.match,
            "judged_rate": not math.isnan(verdict.match),
            "gold_failed": verdict.gold_failed,
            "executable_rate": verdict.runs,
            "eos_rate": pair[1].finished,
        }
        detail = {
            "parsed": query,
            "gold": problem.queries[0],
            "status": own and own.status,
            "error_class": own and own.error_class,
            "error": own and own.error,
            "seconds": own.seconds if own else 0.0,
            "gold_status": verdict.gold_status,
            "differs_on": verdict.differs_on,
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
