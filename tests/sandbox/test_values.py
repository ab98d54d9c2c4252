"""Python values -> JSON."""

import datetime
import decimal
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.sandbox.inside import values

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones()) | st.times() | st.timedeltas() | st.uuids()
    | st.ip_addresses() | st.floats(width=32).map(np.float32) | st.integers(-128, 127).map(np.int8)
)  # fmt: skip
nested = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.dates(), inner, max_size=3)
)


@given(nested)
def test_every_value_of_a_table_becomes_json(value: object):
    json.dumps(values.plain(value), allow_nan=False)


@given(st.timedeltas())
def test_spans_keep_their_length(span: datetime.timedelta):
    text = values.plain(span)
    assert decimal.Decimal(text.removeprefix("PT").removesuffix("S")) * 10**6 == span // datetime.timedelta(
        microseconds=1
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "NaN"),
        (np.float64("-inf"), "-Infinity"),
        (decimal.Decimal("1E+3"), "1000"),
        (decimal.Decimal("NaN"), "NaN"),
        (datetime.timedelta(days=-1, microseconds=1), "PT-86399.999999S"),
        (np.datetime64("2024-01-01"), "2024-01-01T00:00:00"),
        (np.datetime64("NaT"), None),
        (np.bool_(True), True),
        (pd.NaT, None),
        (pd.NA, None),
        (2**100, 2**100),
        ({1: (1, None)}, {"1": [1, None]}),
    ],
)
def test_values(value: object, expected: object):
    assert values.plain(value) == expected


@pytest.mark.parametrize("value", [object(), lambda: 1, {1, 2}, type("S", (str,), {})("x"), 1j])
def test_what_is_no_value(value: object):
    with pytest.raises(TypeError, match="cannot be part of a result"):
        values.plain(value)


def test_frames():
    frame = pd.DataFrame({"x": [1, None], "y": ["a", None], "z": pd.to_datetime(["2024-01-01", None])})
    assert values.frame_rows(frame) == [[1.0, "a", "2024-01-01T00:00:00"], [None, None, None]]
