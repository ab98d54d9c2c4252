"""The answer of a snippet -> columns and rows: an expression is executed, a frame or a scalar is taken as it is."""

from __future__ import annotations

from typing import Any

import duckdb
import ibis
import ibis.expr.datatypes as dt
import pandas as pd
import pyarrow as pa
from ibis.backends.duckdb import Backend
from ibis.backends.sql.datatypes import DuckDBType

from . import values
from .database import Executed

WIDE = ("HUGEINT", "UHUGEINT")
"""Integers of DuckDB, such as its sums, that Ibis would call decimals."""

Columns = list[tuple[str, str]]
Rows = list[list[Any]]


class BadResult(Exception):
    """What a snippet gives as its answer cannot be read as a table."""


class TooManyRows(Exception):
    """An answer has more rows than allowed."""


def answer(con: Backend, value: Any, executed: Executed, max_rows: int) -> tuple[Columns, Rows]:
    """Columns and rows of a snippet's answer.

    Raises:
        BadResult: it is no expression, frame or scalar.
        TooManyRows: it has more than ``max_rows`` rows.
    """
    value = executed.source(value) if executed.source(value) is not None else value  # has exact types and nulls
    if isinstance(value, ibis.Expr):
        return run(con, value, max_rows)
    if isinstance(value, pd.Series | pd.Index):
        value = value.to_frame()
    if isinstance(value, pa.Table | pa.RecordBatch | pa.ChunkedArray | pa.Array):
        value = pa.table({"value": value}) if isinstance(value, pa.ChunkedArray | pa.Array) else value
        value = value.to_pandas(types_mapper=pd.ArrowDtype)
    if isinstance(value, pd.DataFrame):
        return _frame(value, max_rows)
    return _scalar(value)


def run(con: Backend, expr: ibis.Expr, max_rows: int) -> tuple[Columns, Rows]:
    """Execute an expression. Rows come from DuckDB itself, not from pandas: null, NaN and large integers survive."""
    table = expr.as_table()
    con._run_pre_execute_hooks(table)
    cursor = con.con.execute(con.compile(table, limit=max_rows + 1))
    schema = table.schema()
    columns = [(name, values.type_name(dtype)) for name, dtype in schema.items()]
    return columns, _fetched(cursor, list(schema.types), max_rows)


def query(con: Backend, sql: str, max_rows: int) -> tuple[Columns, Rows]:
    """Execute one query of DuckDB."""
    cursor = con.con.execute(sql)
    kinds = [(column[0], str(column[1])) for column in cursor.description or ()]
    dtypes = [_dtype(kind) for _, kind in kinds]
    names = [kind.lower() if kind in WIDE else values.type_name(t) for (_, kind), t in zip(kinds, dtypes, strict=True)]
    columns = list(zip((name for name, _ in kinds), names, strict=True))
    return columns, _fetched(cursor, dtypes, max_rows)


def _fetched(cursor: duckdb.DuckDBPyConnection, dtypes: list[dt.DataType], max_rows: int) -> Rows:
    rows = cursor.fetchmany(max_rows + 1)
    if len(rows) > max_rows:
        raise TooManyRows(f"more than {max_rows} rows")
    return values.rows_of(rows, dtypes)


def _dtype(name: str) -> dt.DataType:
    if name in WIDE:
        return dt.int64  # as far as JSON is concerned
    try:
        return DuckDBType.from_string(name)
    except Exception:  # a type of DuckDB that Ibis has no name for
        return dt.unknown


def _frame(frame: pd.DataFrame, max_rows: int) -> tuple[Columns, Rows]:
    if len(frame) > max_rows:
        raise TooManyRows(f"more than {max_rows} rows")
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()  # the keys of a group
    types = [_series_type(frame.iloc[:, i]) for i in range(frame.shape[1])]
    return list(zip(map(str, frame.columns), types, strict=True)), values.frame_rows(frame)


def _series_type(series: pd.Series) -> str:
    try:
        return values.type_name(ibis.memtable(series.to_frame("x")).schema()["x"])
    except Exception:  # a column of mixed objects
        return "unknown"


def _scalar(value: Any) -> tuple[Columns, Rows]:
    if value is None:
        raise BadResult("no result: assign it to `result`, or let the last line be an expression")
    if isinstance(value, list | tuple | dict | set):
        raise BadResult(f"the result is a {type(value).__name__}, not an Ibis expression, a frame or a scalar")
    try:
        cell = values.plain(value)
        return [("result", values.type_name(ibis.literal(value).type()))], [[cell]]
    except Exception as error:
        what = type(value).__name__
        raise BadResult(f"the result is of type {what}, not an Ibis expression, a frame or a scalar") from error
