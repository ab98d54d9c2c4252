"""What counts as the same result, and what does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.tasks.bamboo.compare import Compare, compare, kind_of

TEXT, INT, REAL = ("s", "string"), ("i", "int64"), ("r", "float64")
LOOSE = Compare()


def judge(columns, rows, want_columns, want_rows, **how):
    return compare(columns, rows, want_columns, want_rows, replace(LOOSE, **how)).reason


def one(have, value, want, expected, **how):
    """The verdict on a single cell."""
    return judge([("x", have)], [(value,)], [("x", want)], [(expected,)], **how)


def test_rows_are_a_multiset_unless_asked_otherwise():
    rows = [("a", 1), ("b", 2), ("b", 2)]
    assert judge([TEXT, INT], rows[::-1], [TEXT, INT], rows) is None
    assert judge([TEXT, INT], rows[::-1], [TEXT, INT], rows, ordered=True) == "order"
    assert judge([TEXT, INT], rows[:2], [TEXT, INT], rows) == "row_count"
    assert judge([TEXT, INT], [rows[0], rows[0], rows[1]], [TEXT, INT], rows) == "values"
    assert judge([TEXT, INT], rows[:2], [TEXT, INT], rows, multiset=False) is None
    assert judge([TEXT, INT], rows[:1], [TEXT, INT], rows, multiset=False) == "values"


def test_tied_rows_may_come_in_any_order():
    want = [("a", 9), ("b", 5), ("c", 5), ("d", 1)]
    tied, wrong = [want[0], want[2], want[1], want[3]], [want[1], want[0], want[2], want[3]]
    for how in ({"order_by": ("i",)}, {"order_by": ("i",), "multiset": False}):
        assert judge([TEXT, INT], tied, [TEXT, INT], want, ordered=True, **how) is None
        assert judge([TEXT, INT], wrong, [TEXT, INT], want, ordered=True, **how) == "order"
    assert judge([TEXT, INT], tied, [TEXT, INT], want, ordered=True) == "order"


@pytest.mark.parametrize(
    ("have", "value", "want", "expected", "reason"),
    [
        ("int64", 3, "int32", 3, None),
        ("decimal(38, 0)", "3", "int64", 3, None),  # HUGEINT
        ("float64", 3.0, "int64", 3, None),
        ("float64", 3.0000000001, "int64", 3, "types"),
        ("int64", 3, "float64", 3.0, None),
        ("decimal(18, 2)", "2.50", "float64", 2.5, None),
        ("float64", 2.5, "decimal(18, 2)", "2.50", None),
        ("boolean", True, "int64", 1, "types"),
        ("int64", 1, "boolean", True, "types"),
        ("boolean", True, "boolean", True, None),
        ("boolean", True, "boolean", False, "values"),
        ("string", "3", "int64", 3, "types"),
        ("int64", 3, "string", "3", "types"),
        ("string", "a", "string", "A", "values"),
        ("timestamp", "2024-01-05T00:00:00", "date", "2024-01-05", None),
        ("timestamp", "2024-01-05T01:00:00", "date", "2024-01-05", "types"),
        ("timestamp(6)", "2024-01-05 00:00:00", "timestamp", "2024-01-05T00:00:00.000000", None),
        ("timestamp('UTC')", "2024-01-05T02:00:00+02:00", "timestamp", "2024-01-05T00:00:00", None),
        ("date", "2024-01-05", "date", "2024-01-06", "values"),
        ("array<int64>", [1, 2], "array<int64>", [1, 2], None),
        ("array<int64>", [1, 2], "array<int64>", [2, 1], "values"),
        ("int64", 3, "unknown", 3.0, None),
        ("null", None, "int64", None, None),
    ],
)
def test_types(have, value, want, expected, reason):
    assert one(have, value, want, expected) == reason


def test_the_stages_imply_each_other():
    verdict = compare([INT], [(1,)], [TEXT], [("a",)], Compare(column_names="relaxed"))
    assert (verdict.shape, verdict.types, verdict.values) == (True, False, False)


def test_tolerance_is_for_fractions_only():
    assert one("int64", 1_000_000, "int64", 1_000_001, float_tol=0.01) == "values"
    assert one("float64", 2024.0, "int64", 2025, float_tol=0.01) == "values"
    assert one("float64", 0.1 + 0.2, "float64", 0.3) is None
    assert one("float64", 0.301, "float64", 0.3) == "values"
    assert one("float64", 0.301, "float64", 0.3, float_tol=0.01) is None
    assert one("float64", 1e12 + 1, "float64", 1e12) is None  # relative
    assert one("float64", 1e-15, "float64", 2e-15) == "values"  # small is not zero
    assert one("int64", 2**62 + 1, "int64", 2**62) == "values"  # no detour over floats


def test_what_cancels_to_zero_is_zero_beside_large_numbers():
    want = [(0.0,), (1000.0,)]
    assert judge([REAL], [(1e-13,), (1000.0,)], [REAL], want) is None
    assert judge([REAL], [(1e-3,), (1000.0,)], [REAL], want) == "values"


def test_null_is_neither_nan_nor_zero_nor_text():
    assert one("float64", "NaN", "float64", "NaN") is None
    assert one("float64", None, "float64", None) is None
    assert one("float64", None, "float64", "NaN") == "values"
    assert one("float64", None, "float64", 0.0) == "values"  # the sum of nothing
    assert one("int64", None, "int64", 0) == "values"
    assert one("string", None, "string", "None") == "values"
    assert one("float64", "Infinity", "float64", "-Infinity") == "values"


def test_column_names():
    rows, want = [("a", 1)], [TEXT, INT]
    swapped = [(1, "a")]
    assert judge([INT, TEXT], swapped, want, rows) is None  # the order of columns is not the question's
    assert judge([TEXT, ("Sum(i)", "int64")], rows, want, rows) == "column_names"
    assert judge([TEXT, ("Sum(i)", "int64")], rows, want, rows, column_names="relaxed") is None
    assert judge([("I", "int64"), ("S", "string")], swapped, want, rows, column_names="relaxed") is None
    assert judge([("S", "string"), INT], rows, want, rows) == "column_names"
    assert (
        judge([TEXT, INT, ("s_right", "string")], [("a", 1, "a")], want, rows, column_names="relaxed")
        == "extra_columns"
    )
    assert judge([TEXT], [("a",)], want, rows, column_names="relaxed") == "missing_columns"


def test_fractions_that_differ_in_their_last_bits_are_paired():
    low, high = 1.0, 1.0 + 1e-13
    assert (
        judge([REAL, ("q", "float64")], [(low, 5.0), (high, 3.0)], [REAL, ("q", "float64")], [(low, 3.0), (high, 5.0)])
        is None
    )
    assert (
        judge([REAL, ("q", "float64")], [(low, 5.0), (high, 5.0)], [REAL, ("q", "float64")], [(low, 3.0), (high, 5.0)])
        == "values"
    )


def test_kinds():
    names = ["int8", "uint64", "decimal(38, 0)", "decimal(10,2)", "float32", "boolean", "!int64", "timestamp('UTC', 6)"]
    assert list(map(kind_of, names)) == ["int", "int", "int", "real", "real", "bool", "int", "timestamp"]


KINDS = st.sampled_from(
    ["int64", "float64", "string", "boolean", "date", "timestamp", "decimal(9, 2)", "json", "unknown"]
)
CELLS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)


@given(KINDS, KINDS, st.lists(CELLS, max_size=4), st.lists(CELLS, max_size=4), st.booleans(), st.booleans())
def test_any_cells_are_judged(have, want, got, expected, ordered, multiset):
    how = Compare(ordered=ordered, multiset=multiset)
    verdict = compare([("x", have)], [(v,) for v in got], [("x", want)], [(v,) for v in expected], how)
    assert verdict.shape >= verdict.types >= verdict.values == (verdict.reason is None)


@given(KINDS, st.lists(CELLS, max_size=5), st.randoms())
def test_a_result_equals_itself_in_any_order(kind, cells, rng):
    rows = [(cell,) for cell in cells]
    mixed = rng.sample(rows, len(rows))
    assert compare([("x", kind)], mixed, [("x", kind)], rows, Compare()).reason is None
