"""Python values -> JSON values, as `jobs` describes them. Never calls methods of a type it does not know."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import ibis.expr.datatypes as dt
import numpy as np
import pandas as pd


def plain(value: Any) -> Any:
    """A value as JSON.

    Raises:
        TypeError: it is none of the values that a table holds.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else _special(value)
    if isinstance(value, np.generic):
        return _numpy(value)
    if kind in (list, tuple, np.ndarray):
        return [plain(item) for item in value]
    if kind is dict:
        return {key if type(key) is str else str(plain(key)): plain(item) for key, item in value.items()}
    if value is pd.NaT or value is pd.NA:
        return None
    return _text(value)


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numpy(value: np.generic) -> Any:
    if isinstance(value, np.datetime64):
        return plain(pd.Timestamp(value))
    if isinstance(value, np.timedelta64):
        return plain(pd.Timedelta(value))
    return plain(value.item())


def _text(value: Any) -> str:
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() else _special(math.nan if value.is_nan() else float(value))
    if isinstance(value, datetime.timedelta):
        seconds, micro = divmod(abs(value // datetime.timedelta(microseconds=1)), 1_000_000)
        number = f"{seconds}.{micro:06}".rstrip("0").rstrip(".")
        return f"PT{'-' if value < datetime.timedelta() else ''}{number}S"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, uuid.UUID | ipaddress.IPv4Address | ipaddress.IPv6Address):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be part of a result")


def typed(value: Any, dtype: dt.DataType) -> Any:
    """A value of DuckDB as JSON, of the kind that its Ibis type promises."""
    if isinstance(value, decimal.Decimal) and not dtype.is_decimal() and value.is_finite():
        return int(value) if dtype.is_integer() else plain(float(value))
    if type(value) is int and dtype.is_floating():
        return float(value)
    if type(value) is int and dtype.is_decimal():
        return str(value)
    return plain(value)


def type_name(dtype: dt.DataType) -> str:
    """An Ibis type as text, without the marks of what is never null."""
    return str(dtype).replace("!", "")


def rows_of(rows: Iterable[Sequence[Any]], dtypes: Sequence[dt.DataType]) -> list[list[Any]]:
    return [[typed(value, dtype) for value, dtype in zip(row, dtypes, strict=True)] for row in rows]


def frame_rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Rows of a frame; what pandas takes for missing is null."""
    columns = [frame.iloc[:, i].astype(object) for i in range(frame.shape[1])]
    lists = [[None if _missing(value) else plain(value) for value in column] for column in columns]
    return [list(row) for row in zip(*lists, strict=True)]


def _missing(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value))
