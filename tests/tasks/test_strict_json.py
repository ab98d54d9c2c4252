"""Strict JSON: what the standard decoder lets through is refused with a reason, and no text raises anything else."""

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_posttrain.tasks.strict_json import (
    MAX_DEPTH,
    MAX_DIGITS,
    SCHEMA_TYPES,
    StrictJSONError,
    find_objects,
    parse_json,
    parse_object,
    schema_error,
)

SCHEMA = {"name": "string", "date": "date", "amount": "number"}
GOOD = {"name": "Zoë", "date": "2024-02-29", "amount": 1.5}

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\"\\{}é", max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
WILD = st.text(st.sampled_from('{}[]":,\\ \n\t019.-+eENaInfinitytruefalsnu\ud800\udc00\u00a0é')) | st.text()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not_braced_json_object"),
        ("[1]", "not_braced_json_object"),
        ('Sure: {"a": 1}', "not_braced_json_object"),
        ('{"a": 1} ok', "not_braced_json_object"),
        ('\ufeff{"a": 1}', "not_braced_json_object"),
        ('\u00a0{"a": 1}', "not_braced_json_object"),  # str.strip() would have taken the no-break space away
        ("[" * 100_000, "not_braced_json_object"),
        ("{}}", "trailing_text"),
        ('{"a": 1} {"a": 1}', "trailing_text"),
        ("{'a': 1}", "json_parse_error"),
        ('{"a": 1,}', "json_parse_error"),
        ('{"a": 01}', "json_parse_error"),
        ('{"a": +1}', "json_parse_error"),
        ('{"a": .5}', "json_parse_error"),
        ('{"a": 1} // }', "trailing_text"),
        ('{"a": "line\nbreak"}', "json_parse_error"),
        ('{"a": "\\x41"}', "json_parse_error"),
        ('{"a": ١}', "json_parse_error"),
        ('{"a": NaN}', "non_finite_number"),
        ('{"a": Infinity}', "non_finite_number"),
        ('{"a": -Infinity}', "non_finite_number"),
        ('{"a": 1e999}', "non_finite_number"),
        ('{"a": ' + "9" * 5000 + "}", "non_finite_number"),
        ('{"a": 1, "a": 1}', "duplicate_keys"),
        ('{"a": 1, "\\u0061": 2}', "duplicate_keys"),
        ('{"b": [{"a": 1, "a": 2}]}', "duplicate_keys"),
        ('{"a": "\\ud800"}', "lone_surrogate"),
        ('{"a": "\ud800"}', "lone_surrogate"),
        ('{"\\udc00": 1}', "lone_surrogate"),
        ('{"a": ' * 100_000 + "}" * 100_000, "nested_too_deep"),
        ('{"a": ' + "[" * 100_000 + "}", "nested_too_deep"),
    ],
)
def test_each_refusal_has_its_reason(text: str, reason: str) -> None:
    with pytest.raises(StrictJSONError) as caught:
        parse_object(text)
    assert str(caught.value) == reason


def test_the_limits_are_exact() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_json("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1
    for text in ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "9" * (MAX_DIGITS + 1)):
        with pytest.raises(StrictJSONError):
            parse_json(text)


def test_brackets_and_escapes_inside_strings_do_not_nest() -> None:
    text = json.dumps({"a": "[{" * 200 + '"\\' * 200})
    assert parse_object(text) == json.loads(text)


def test_space_around_and_a_surrogate_pair_are_fine() -> None:
    assert parse_object(' \n\t{"a": "\\ud83d\\ude00"}\r\n') == {"a": "😀"}


@given(JSON_VALUES)
@settings(deadline=None, max_examples=60)
def test_every_json_value_parses_to_itself(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1)) == value


@given(WILD)
@settings(deadline=None, max_examples=300)
def test_wild_text_is_parsed_or_refused_and_never_more_than_the_standard_decoder_takes(text: str) -> None:
    with contextlib.suppress(StrictJSONError):
        value = parse_json(text)
        assert json.loads(text) == value
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("", []),
        ("no object", []),
        ('a {"x": 1} b {"y": {"z": 2}} c', ['{"x": 1}', '{"y": {"z": 2}}']),
        ('```json\n{"x": "}{"}\n```', ['{"x": "}{"}']),
        ('{"x": "\\"}"}', ['{"x": "\\"}"}']),
        ('say "hi" { then {"x": 1}', ['{"x": 1}']),  # an opening brace that nothing closes
        ('{ open {"x": 1} and {"y": 2}', ['{"x": 1}', '{"y": 2}']),
        ('{ 5" wide\n{"x": 1}', ['{"x": 1}']),  # the stray quote ends with its line
        ('} {"x": 1}', ['{"x": 1}']),
        ("{{}{}}", ["{{}{}}"]),
    ],
)
def test_outermost_balanced_objects_are_found(text: str, objects: list[str]) -> None:
    assert find_objects(text) == objects


@given(st.lists(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3), max_size=4))
@settings(deadline=None, max_examples=60)
def test_objects_written_in_a_row_are_all_found(values: list[dict[str, object]]) -> None:
    texts = [json.dumps(value) for value in values]
    assert find_objects("so: " + "\nand ".join(texts)) == texts


@given(WILD)
@settings(deadline=None, max_examples=200)
def test_found_pieces_are_braced_disjoint_and_in_order(text: str) -> None:
    pos = 0
    for piece in find_objects(text):
        assert piece[0] == "{"
        assert piece[-1] == "}"
        pos = text.index(piece, pos) + len(piece)


@pytest.mark.parametrize("unit", ["{", "}", "[", '{"', '"\\"', '{"a":', '{"a":{}', "\\", '{"}', '{"\n'])
def test_hostile_text_costs_linear_time(unit: str) -> None:
    def seconds(text: str) -> float:
        started = time.process_time()
        find_objects(text)
        with pytest.raises(StrictJSONError):
            parse_object("{" + text + "}")
        return time.process_time() - started

    assert seconds(unit * 60_000) < 60  # a quadratic scan of this takes minutes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"amount": 12}, None),
        ({"amount": -0.0}, None),
        ({"amount": True}, "type_mismatch:amount:number"),
        ({"amount": "1.5"}, "type_mismatch:amount:number"),
        ({"amount": None}, "type_mismatch:amount:number"),
        ({"name": 1}, "type_mismatch:name:string"),
        ({"name": 1, "amount": "x"}, "type_mismatch:name:string"),
        ({"date": 20240101}, "type_mismatch:date:date"),
        ({"date": "2024-1-1"}, "type_mismatch:date:date"),
        ({"date": "20240101"}, "type_mismatch:date:date"),
        ({"date": "2024-01-01\n"}, "type_mismatch:date:date"),
        ({"date": "２０２４-01-01"}, "type_mismatch:date:date"),
        ({"date": "2024-99-99"}, "bad_date:date"),
        ({"date": "2023-02-29"}, "bad_date:date"),
        ({"date": "0000-01-01"}, "bad_date:date"),
        ({"extra": 1}, "keys_mismatch"),
    ],
)
def test_schema_reasons(change: dict[str, object], reason: str | None) -> None:
    assert schema_error({**GOOD, **change}, SCHEMA) == reason


def test_schema_needs_every_key_and_an_object() -> None:
    assert schema_error({"name": "x"}, SCHEMA) == "keys_mismatch"
    assert schema_error([GOOD], SCHEMA) == "not_json_object"
    assert schema_error(dict(reversed(GOOD.items())), SCHEMA) is None


@pytest.mark.parametrize(("kind", "good", "bad"), [("integer", 3, 3.0), ("integer", 0, False), ("boolean", True, 1)])
def test_the_other_types(kind: str, good: object, bad: object) -> None:
    assert kind in SCHEMA_TYPES
    assert schema_error({"k": good}, {"k": kind}) is None
    assert schema_error({"k": bad}, {"k": kind}) == f"type_mismatch:k:{kind}"
