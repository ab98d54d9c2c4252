"""Databases of SQLite in memory, and one query run on each of them. A query can read the tables, and nothing else.

What a query may do is decided by SQLite's authorizer while it is compiled: select, read, call functions that only
compute. Lengths and depths are limited here, memory and time by the process.
"""

from __future__ import annotations

import base64
import math
import re
import sqlite3
from contextlib import closing, suppress
from typing import Any

ACTIONS = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE))
FUNCTIONS = frozenset(("load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "lsdir", "fsdir", "eval"))
"""Refused, although SQLite's library has but the first two: another build may have been given the others."""
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 16_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 200_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 200,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
TABLE_FUNCTIONS = ("json_each", "json_tree")
"""Tables that are functions, and are part of the library."""
STEPS = 10_000
"""Instructions of SQLite's machine between two looks at how many there were."""
STATUSES = {sqlite3.SQLITE_AUTH: "refused", sqlite3.SQLITE_INTERRUPT: "timeout", sqlite3.SQLITE_NOMEM: "oom",
            sqlite3.SQLITE_TOOBIG: "output_limit"}  # fmt: skip


def opened(image: bytes) -> sqlite3.Connection:
    """A database in memory from the bytes of its file, from now on for reading only.

    Raises:
        sqlite3.Error: the bytes are no database.
    """
    db = sqlite3.connect(":memory:", isolation_level=None)
    rollback = b"\x01\x01"  # not a write-ahead log, which a database in memory cannot have (sqlite.org/fileformat2)
    db.deserialize(image[:18] + rollback + image[20:] if image[18:20] == b"\x02\x02" else image)
    db.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    for setting in ("temp_store = MEMORY", "trusted_schema = OFF", "query_only = ON"):
        db.execute(f"PRAGMA {setting}").fetchall()
    if hasattr(db, "setconfig"):  # Python 3.12: "text" is a text where there is no such column, on every build
        db.setconfig(getattr(sqlite3, "SQLITE_DBCONFIG_DQS_DML"), True)  # noqa: B009
    for table in TABLE_FUNCTIONS:
        with suppress(sqlite3.OperationalError):  # a build without it
            db.execute(
                f"SELECT * FROM {table}('[]')"
            ).fetchall()  # the first use defines a table, which a query may not
    for limit, value in LIMITS.items():
        db.setlimit(limit, value)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    db.set_authorizer(_authorized)
    return db


def _authorized(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    allowed = action in ACTIONS or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def answered(db: sqlite3.Connection, sql: str, max_rows: int, max_steps: int | None) -> dict[str, Any]:
    """What one query gives: status, columns and rows, or what is wrong with it. Only a lack of memory may raise.

    Args:
        db: as `opened` gives it.
        sql: any text.
        max_rows: rows of a result.
        max_steps: instructions of SQLite's machine; None = as many as there is time for.
    """
    spent = 0

    def enough() -> bool:
        nonlocal spent
        spent += STEPS
        return max_steps is not None and spent > max_steps

    db.set_progress_handler(enough, STEPS)
    try:
        cursor = db.execute(re.sub(r"[;\s]+\Z", "", sql))
        rows = cursor.fetchmany(max_rows + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        return _failed(_status(error), error)
    if cursor.description is None:
        return _failed("error", ValueError("no query"))
    if len(rows) > max_rows:
        return _failed("output_limit", ValueError(f"more than {max_rows} rows"))
    columns = [(name, "unknown") for name, *_ in cursor.description]
    return {"status": "ok", "columns": columns, "rows": [[_plain(value) for value in row] for row in rows]}


def warm_up() -> None:
    """Run a query, so that what SQLite reads of files, its source of randomness included, is read."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("CREATE TABLE warm (x)")
        image = made.serialize()
    with closing(opened(image)) as db:
        answered(db, "SELECT RANDOM(), STRFTIME('%Y', 'now', 'localtime'), value FROM JSON_EACH('[1]')", 1, None)


def _status(error: Exception) -> str:
    if any(words in str(error) for words in ("one statement", "not authorized", "prohibited")):
        return "refused"
    return STATUSES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "error")


def _failed(status: str, error: Exception) -> dict[str, Any]:
    return {"status": status, "error_class": type(error).__name__, "error": str(error)[:500]}


def _plain(value: Any) -> Any:
    """A value as JSON. What JSON has no name for is an object: ``{"blob": base64}``, ``{"real": "Infinity"}``."""
    if isinstance(value, bytes):
        return {"blob": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": "Infinity" if value > 0 else "-Infinity"}
    return value
