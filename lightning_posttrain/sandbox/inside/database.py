"""A DuckDB that can reach nothing, the given tables in it, and an Ibis that always ends up there.

The settings stop what DuckDB would do with files, the network and extensions, and cannot be changed back. They are one
wall of two: memory and time are not bounded by them, and a snippet may open another DuckDB.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import duckdb
import ibis
import ibis.expr.datatypes as dt
import pandas as pd
import pyarrow as pa
from ibis.backends.duckdb import Backend
from ibis.backends.sql.datatypes import DuckDBType

SERVED = ("read_csv", "read_parquet", "read_json")
"""Readers that find a given table by the name of the file."""


class Executed:
    """What a snippet executed itself, so that its result can be traced back to an expression."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, Any, ibis.Expr]] = []

    def add(self, value: Any, expr: ibis.Expr, options: dict[str, Any]) -> None:
        whole = all(option in (None, "default") for option in options.values())
        kept = value.copy() if isinstance(value, pd.DataFrame | pd.Series) else value
        self.entries.append((value if whole else None, kept, expr))

    def source(self, value: Any) -> ibis.Expr | None:
        """The expression that a value is the unchanged result of."""
        for original, kept, expr in reversed(self.entries):
            if original is value and value is not None and (kept is value or kept.equals(value)):
                return expr
        return None


def connect(memory_mb: int) -> Backend:
    """An empty database in memory, locked, and Ibis's default from now on."""
    off = ["enable_external_access", "autoinstall_known_extensions", "autoload_known_extensions"]
    off += ["allow_community_extensions", "python_enable_replacements", "allow_persistent_secrets"]
    config: dict[str, Any] = dict.fromkeys(off, "false")
    config |= {"memory_limit": f"{memory_mb}MB", "threads": "1", "temp_directory": ""}
    con = ibis.duckdb.from_connection(duckdb.connect(":memory:", config=config))
    con.con.execute("SET disabled_filesystems='LocalFileSystem'")
    con.con.execute("SET lock_configuration=true")
    ibis.set_backend(con)
    return con


def load(con: Backend, tables: list[dict[str, Any]]) -> None:
    """Create tables in an empty database.

    Raises:
        ValueError: a type does not exist, or a value is not of its column's type; names table and column.
    """
    for table in tables:
        name, columns, rows = table["name"], table["columns"], table["rows"]
        arrays, casts, definitions = [], [], []
        for i, (column, kind) in enumerate(columns):
            try:
                dtype, sql = sql_type(kind)
                arrays.append(_array([row[i] for row in rows], dtype))
            except Exception as error:
                raise ValueError(f"table {name}, column {column} ({kind}): {error}") from error
            definitions.append(f"{_quoted(column)} {sql}")
            casts.append(f"CAST(c{i} AS {sql})")
        con.con.execute(f"CREATE TABLE {_quoted(name)} ({', '.join(definitions)})")
        if rows:
            con.con.register("rows of a table", pa.table(arrays, [f"c{i}" for i in range(len(columns))]))
            try:
                con.con.execute(f'INSERT INTO {_quoted(name)} SELECT {", ".join(casts)} FROM "rows of a table"')
            except duckdb.Error as error:
                raise ValueError(f"table {name}: {error}") from error
            con.con.unregister("rows of a table")


@lru_cache(1024)
def sql_type(kind: str) -> tuple[dt.DataType, str]:
    """A type of Ibis, and DuckDB's name for it."""
    dtype = ibis.dtype(kind)
    return dtype, DuckDBType.to_string(dtype)


def _array(values: list[Any], dtype: dt.DataType) -> pa.Array:
    """Values as Arrow's own type where JSON has it, else as text that DuckDB reads."""
    if dtype.is_floating():
        values = [float(v) if v in ("NaN", "Infinity", "-Infinity") else v for v in values]
    exact = dtype.is_integer() or dtype.is_floating() or dtype.is_boolean() or dtype.is_string()
    if exact or not any(value is not None for value in values):
        return pa.array(values, dtype.to_pyarrow() if exact else pa.string())
    return pa.array([str(v) if isinstance(v, int | float) else v for v in values])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def unload(con: Backend) -> None:
    """Drop every table, and every frame that Ibis has registered."""
    for (name,) in con.con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
        con.con.unregister(name)
    for (name,) in con.con.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        con.con.execute(f"DROP TABLE {_quoted(name)}")


def variables(con: Backend, names: list[str]) -> dict[str, Any]:
    """What a snippet finds defined: ibis, its placeholder, the connection, and the tables by their names."""
    tables = {name: con.table(name) for name in names if name.isidentifier() and not keyword.iskeyword(name)}
    return {"__name__": "__main__", "ibis": ibis, "_": ibis._, "con": con, **tables}


def redirect(con: Backend, names: list[str], executed: Executed) -> None:
    """Let connecting give this connection, reading a file give the table of its name, and executing be noticed."""

    def connected(self: Backend, database: Any = ":memory:", *args: Any, **config: Any) -> Backend:
        if str(database) not in ("", ":memory:"):
            raise PermissionError(f"{database}: there is only the database in memory; connect without a path")
        ibis.set_backend(con)
        return con

    def read(self: Backend, source: Any, /, *args: Any, table_name: str | None = None, **options: Any) -> ibis.Table:
        return _given(con, names, source, table_name)

    def refused(self: Backend, *args: Any, **options: Any) -> None:
        raise PermissionError(f"only the given tables can be read: {', '.join(names) or 'none'}")

    def noticed(original: Callable[..., Any]) -> Callable[..., Any]:
        def execute(self: Backend, expr: ibis.Expr, /, **options: Any) -> Any:
            value = original(self, expr, **options)
            executed.add(value, expr, options)
            return value

        return execute

    replaced: dict[str, Callable[..., Any]] = {"connect": connected}
    replaced |= {name: read if name in SERVED else refused for name in dir(Backend) if name.startswith("read_")}
    replaced |= {name: noticed(getattr(Backend, name)) for name in ("execute", "to_pyarrow")}
    replaced["disconnect"] = lambda self: None  # an answer is executed after the snippet's last line
    for name, method in replaced.items():
        setattr(Backend, name, method)


def _given(con: Backend, names: list[str], source: Any, table_name: str | None) -> ibis.Table:
    """The given table that a file is called after."""
    source = source[0] if isinstance(source, list | tuple) and len(source) == 1 else source
    name = PurePath(source).stem if isinstance(source, str | PurePath) else None
    if name not in names:
        raise FileNotFoundError(f"{source}: only the given tables can be read: {', '.join(names) or 'none'}")
    if table_name is None or table_name == name:
        return con.table(name)
    return con.create_view(table_name, con.table(name), overwrite=True)
