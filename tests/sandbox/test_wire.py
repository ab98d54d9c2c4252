"""Whatever a snippet's process writes, reading it gives an outcome that can be written down."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.sandbox import Job, SandboxSpec, Table, wire
from lightning_posttrain.sandbox.jobs import STAGES, STATUSES
from lightning_posttrain.types import UserError

SPEC = SandboxSpec(max_rows=5)
HEADER = {"end": "exit", "code": 0, "seconds": 0.1, "cpu": 0.1, "rss": 1000}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
answers = st.fixed_dictionaries(
    {"status": st.sampled_from(STATUSES) | anything},
    optional=dict.fromkeys(("columns", "rows", "error", "error_class", "deferred", "parts"), anything),
)


def read(written: bytes, **header: Any) -> Any:
    outcome = wire.decode({**HEADER, **header}, written, SPEC)
    assert outcome.status in STATUSES
    assert outcome.stage in STAGES
    json.dumps([outcome.rows, outcome.error, outcome.error_class], ensure_ascii=False, allow_nan=False).encode()
    assert (outcome.rows is not None) == (outcome.status == "ok") == (outcome.columns is not None)
    return outcome


@given(st.binary(max_size=200))
def test_any_bytes(written: bytes):
    read(b"r" + written)


@given(answers, st.sampled_from([b"r", b"rp", b"rpg", b"rpgb", b"rpgbe", b"re", b"rpngbe", b"rx"]))
def test_any_answer(answer: dict[str, Any], marks: bytes):
    read(marks + json.dumps(answer).encode())


@given(st.lists(st.tuples(st.text(), anything), max_size=5))
def test_tables_come_through(cells: list[tuple[str, Any]]):
    try:
        json.dumps(cells, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, UnicodeEncodeError):
        return
    columns, rows = [["a", "string"], ["b", "json"]], [list(row) for row in cells]
    outcome = read(b"rpgbe" + json.dumps({"status": "ok", "columns": columns, "rows": rows}).encode())
    assert outcome.rows == tuple(cells)


def test_more_rows_than_allowed_are_no_answer():
    answer = {"status": "ok", "columns": [["a", "int64"]], "rows": [[1]] * 6}
    assert read(b"rpgbe" + json.dumps(answer).encode()).status == "bad_result"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"end": "timeout", "code": -9}, "timeout"),
        ({"end": "flood", "code": -9}, "output_limit"),
        ({"code": -24}, "timeout"),
        ({"code": -9, "cpu": math.ceil(SPEC.cpu_seconds)}, "timeout"),
        ({"code": -9}, "oom"),
        ({"code": -11}, "crash"),
        ({"code": 0}, "exit"),
        ({"code": 3}, "exit"),
    ],
)
def test_endings(header: dict[str, Any], status: str):
    outcome = read(b"rpg", **header)
    assert (outcome.status, outcome.stage) == (status, "gate_ok")
    assert outcome.error


PART = {"status": "ok", "columns": [["a", "unknown"]], "rows": [[1]]}


@pytest.mark.parametrize(
    ("parts", "status", "rows"),
    [
        ([PART, PART], "ok", ((1,),)),
        ([PART, {"status": "timeout"}], "timeout", None),
        ([{"status": "error", "error": "x"}, PART], "error", None),
        ([], "bad_result", None),
        ("x", "bad_result", None),
        ([PART | {"rows": [[1, 2]]}], "bad_result", None),
        ([PART | {"rows": [[1]] * 6}], "bad_result", None),
        ([{"status": "ok", "parts": [PART]}], "bad_result", None),
    ],
)
def test_answers_of_several_parts(parts: Any, status: str, rows: Any):
    outcome = read(b"rpgbe" + json.dumps({"status": "ok", "parts": parts}).encode())
    assert (outcome.status, outcome.rows) == (status, rows)
    assert all((part.rows is not None) == (part.status == "ok") for part in outcome.parts or ())


def test_what_is_not_the_snippets_doing():
    with pytest.raises(wire.NotReached):
        wire.decode(HEADER, b"", SPEC)
    with pytest.raises(wire.TablesRefused, match="no such type"):
        wire.decode({"tables": "no such type"}, b"", SPEC)


def test_equal_jobs_give_equal_messages():
    table = Table("t", (("x", "int64"),), ((1,),))
    again = Table("t", (("x", "int64"),), ((1,),))
    one, two, three = wire.encode([Job("t", (table,)), Job("t", (again,)), Job("t", (table,), "sql")], True)
    assert one == two
    assert one != three
    assert one[0] == three[0]


def test_code_must_be_text():
    with pytest.raises(UserError, match="code and prelude are text"):
        wire.encode([Job(b"x", ())], True)  # type: ignore[arg-type]
