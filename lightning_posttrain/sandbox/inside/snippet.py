"""Runs one snippet, in a process that exists for nothing else and has no rights left.

What is written to the pipe: one letter per stage passed, then the answer as JSON. The letters are there even if the
process is killed. What the snippet itself might write there can only spoil its own answer.
"""

from __future__ import annotations

import ast
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb
from ibis.backends.duckdb import Backend

from . import database, gate, results, sqlite

Mark = Callable[[str], object]

BINDING = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.PermissionException)


class _Stop(Exception):
    """Ends a run with a status."""

    def __init__(self, status: str, error: BaseException) -> None:
        super().__init__(status)
        self.status, self.error = status, error


@dataclass(frozen=True)
class Setting:
    """Where a snippet runs: the database, the names of its tables, what is defined, and how large a result may be."""

    con: Backend
    names: list[str]
    variables: dict[str, Any]
    max_rows: int
    output_bytes: int


def run(setting: Setting, job: dict[str, Any], databases: list[Any], mark: Mark) -> bytes:
    """The answer of a snippet as JSON; whatever happens in it, this returns, unless the process ends."""
    executed = database.Executed()
    con, max_rows, output_bytes = setting.con, setting.max_rows, setting.output_bytes
    try:
        outcome: dict[str, Any] = {"status": "ok"}
        if job["language"] == "sqlite":
            outcome |= {"parts": _sqlite(job, databases, max_rows, mark)}
        elif job["language"] == "sql":
            columns, rows = _sql(con, job, max_rows, mark)
            outcome |= {"columns": columns, "rows": rows}
        else:
            database.redirect(con, setting.names, executed)
            value = _python(job, setting.variables, mark)
            outcome |= {"deferred": isinstance(value, results.ibis.Expr) or bool(executed.entries)}
            columns, rows = results.answer(con, value, executed, max_rows)
            outcome |= {"columns": columns, "rows": rows}
        payload = _encoded(outcome)
        if outcome.get("parts", [outcome])[0]["status"] == "ok":
            mark("e")
        if len(payload) <= output_bytes:
            return payload
        raise _Stop("output_limit", ValueError(f"a result of more than {output_bytes} bytes"))
    except BaseException as error:
        status, cause = _verdict(error)
        del error
        message = {"status": status, "error_class": type(cause).__name__, "error": _words(cause)}
        return _encoded({**message, "deferred": bool(executed.entries)})


def _verdict(error: BaseException) -> tuple[str, BaseException]:
    """Status and cause of what went wrong."""
    if isinstance(error, _Stop):
        return error.status, error.error
    kinds: list[tuple[Any, str]] = [
        (gate.Refused, "refused"),
        (results.BadResult, "bad_result"),
        (results.TooManyRows, "output_limit"),
        ((MemoryError, duckdb.OutOfMemoryException), "oom"),
        ((SystemExit, GeneratorExit), "exit"),
    ]
    return next((status for kind, status in kinds if isinstance(error, kind)), "error"), error


def _words(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except BaseException:  # the text of an exception may be code of the snippet
        return "(no message)"


def _encoded(outcome: dict[str, Any]) -> bytes:
    return json.dumps(outcome, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _sqlite(job: dict[str, Any], databases: list[Any], max_rows: int, mark: Mark) -> list[dict[str, Any]]:
    """What a query gives on each database. That the first of them took it is known once it has run there."""
    parts = []
    for db, max_steps in zip(databases, job["max_steps"], strict=True):
        parts.append(sqlite.answered(db, job["code"], max_rows, max_steps))
        if len(parts) == 1:
            for letter in "pgb" if parts[0]["status"] == "ok" else "":
                mark(letter)
    return parts


def _sql(con: Backend, job: dict[str, Any], max_rows: int, mark: Mark) -> tuple[results.Columns, results.Rows]:
    statements = duckdb.extract_statements(job["code"])
    mark("p")
    if job["gate"]:
        _check_statements(statements)
    mark("g")
    try:
        columns, rows = results.query(con, job["code"], max_rows)
    except BINDING:
        raise
    except Exception:
        mark("b")  # it was bound to the tables and failed on the data
        raise
    mark("b")
    return columns, rows


def _check_statements(statements: list[duckdb.Statement]) -> None:
    """One SELECT. A PIVOT is two statements of the same text: a type is made of the column's values first."""
    kinds = [statement.type.name for statement in statements]
    pivot = kinds == ["CREATE", "SELECT"] and statements[0].query == statements[1].query
    if kinds != ["SELECT"] and not pivot:
        raise gate.Refused(f"one SELECT is allowed here, not {', '.join(kinds) or 'nothing'}")


def _python(job: dict[str, Any], space: dict[str, Any], mark: Mark) -> Any:
    """Run the blocks; the value of the answer."""
    warnings.simplefilter("ignore")
    tree = _parsed(job["code"])
    named = _assigns_result(tree)
    mark("p")
    tree = _checked(tree, job["gate"], mark)
    mark("g")
    space[gate.LOOK] = gate.looked
    for block in job["prelude"]:
        try:
            _execute(_checked(_parsed(block), job["gate"], mark), space)
        except MemoryError:
            raise
        except BaseException:
            continue
    value = _execute(tree, space)
    if value is None or named:
        value = space.get("result", value)
    mark("b")
    return value


def _parsed(code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except MemoryError as error:  # what the parser says about too deep a nesting
        raise _Stop("error", SyntaxError("too deeply nested")) from error


def _checked(tree: ast.Module, gated: bool, mark: Mark) -> ast.Module:
    """A block as it is run; with the gate, what it uses is looked at before and while it runs."""
    if not gated:
        return tree
    if gate.check(tree):
        mark("n")
    return gate.guarded(tree)


def _execute(tree: ast.Module, space: dict[str, Any]) -> Any:
    """Run a block; the value of its last line, if that is an expression."""
    last = tree.body[-1] if tree.body else None
    body = tree.body[:-1] if isinstance(last, ast.Expr) else tree.body
    exec(compile(ast.Module(body, tree.type_ignores), "<snippet>", "exec"), space)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "<snippet>", "eval"), space)
    return None


def _assigns_result(tree: ast.Module) -> bool:
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return any(name.id == "result" and isinstance(name.ctx, ast.Store) for name in names)


def finish(pipe: int, payload: bytes) -> None:
    """Write an answer to the pipe and end the process, whatever threads it still has."""
    view = memoryview(payload)
    while view:
        view = view[os.write(pipe, view) :]
    os._exit(0)
