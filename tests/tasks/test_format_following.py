"""Format following: every metric by hand, every failure reason, and rows that are refused with a remedy."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_posttrain.tasks.base import Score
from lightning_posttrain.tasks.format_following import FormatFollowing
from lightning_posttrain.types import Completion, Message, UserError

TASK = FormatFollowing()
GOLD = '{"name": "Zoë O\'Neil", "date": "2024-03-05", "amount": 1250.0}'
OTHER = '{"name": "Jun Tanabe", "date": "2025-01-31", "amount": 12.5}'
ROW: dict[str, Any] = {
    "id": "a",
    "prompt": "Extract.",
    "completion": GOLD,
    "schema": {"name": "string", "date": "date", "amount": "number"},
    "variant": "basic",
    "json_format": "spaced",
    "instruction_strictness": "strict",
}
NAMES = {
    "format_success_rate",
    "format_success_rate_relaxed",
    "extractable_json_rate",
    "prefix_brace_rate",
    "duplicate_json_objects_rate",
    "eos_rate",
    "field_exact_match",
    "field_match_name",
    "field_match_date",
    "field_match_amount",
}


def score(text: str, finished: bool = True) -> Score:
    return TASK.score(TASK.record(ROW, "f.jsonl:1"), Completion((), (), text, finished))


def ones(text: str, finished: bool = True) -> set[str]:
    """Short names of the metrics that are 1."""
    return {key.removesuffix("_rate") for key, value in score(text, finished).values.items() if value == 1.0}


FIELDS = {"field_match_name", "field_match_date", "field_match_amount"}
FORMAT = {"format_success", "format_success_rate_relaxed", "extractable_json", "prefix_brace", "eos"}


def test_a_row_becomes_one_user_message_with_the_gold_as_answer() -> None:
    record = TASK.record({**ROW, "bad_output_style": "fence_only"}, "f.jsonl:1")
    assert record.prompt == (Message("user", "Extract."),)
    assert (record.id, record.answer, record.origin) == ("a", GOLD, "f.jsonl:1")
    assert record.meta["gold"] == json.loads(GOLD)
    assert record.meta["variant"] == "basic"
    assert record.meta["bad_output_style"] == "fence_only"
    assert "bad_output_style" not in TASK.record(ROW, "f").meta


def test_gold_scores_everything_but_duplicates() -> None:
    assert ones(GOLD) == FORMAT | FIELDS | {"field_exact_match"}
    assert score(GOLD).reason is None
    assert score(GOLD).detail == {"parsed": json.loads(GOLD), "wrong_fields": [], "num_json_objects": 1}
    assert TASK.primary in score(GOLD).values


def test_a_reply_cut_off_loses_only_eos() -> None:
    assert ones(GOLD, finished=False) == ones(GOLD) - {"eos"}


def test_format_without_the_right_values_is_success_but_not_exact() -> None:
    assert ones(OTHER) == FORMAT
    assert score(OTHER).detail["wrong_fields"] == ["name", "date", "amount"]
    one_wrong = GOLD.replace("2024-03-05", "2024-03-06")
    assert ones(one_wrong) == FORMAT | FIELDS - {"field_match_date"}


@pytest.mark.parametrize("text", ['{"amount":1250,"date":"2024-03-05","name":"Zo\\u00eb O\'Neil"}', f"\n {GOLD}\n"])
def test_order_spacing_escapes_and_a_whole_number_do_not_matter(text: str) -> None:
    assert ones(text) == ones(GOLD)


@pytest.mark.parametrize(
    "marker",
    ["assistant\n", "Assistant: ", "<|im_start|>assistant\n", "<|start_header_id|>assistant<|end_header_id|>\n\n"],
)
def test_relaxed_forgives_a_leading_role_marker_only(marker: str) -> None:
    assert ones(marker + GOLD) == {"format_success_rate_relaxed", "extractable_json", "eos"} | FIELDS
    assert "format_success_rate_relaxed" not in ones(f"Sure! {marker}{GOLD}")
    assert "format_success_rate_relaxed" not in ones(f"{marker}```json\n{GOLD}\n```")


def test_a_fenced_object_is_extractable_and_read_but_not_of_use() -> None:
    assert ones(f"```json\n{GOLD}\n```") == {"extractable_json", "eos"} | FIELDS


def test_two_objects_fail_and_the_first_one_counts_for_the_fields() -> None:
    both = {"extractable_json", "prefix_brace", "duplicate_json_objects", "eos"}
    assert ones(f"{GOLD}\n{OTHER}") == both | FIELDS
    assert ones(f"{OTHER}\n{GOLD}") == both
    assert score(f"{OTHER}\n{GOLD}").detail["num_json_objects"] == 2


def test_fields_are_read_from_an_object_with_wrong_keys_too() -> None:
    text = '{"name": "Zoë O\'Neil", "date": "2024-03-05", "total": 1250.0}'
    assert ones(text) == {"prefix_brace", "eos", "field_match_name", "field_match_date"}
    assert score(text).reason == "keys_mismatch"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not_braced_json_object"),
        (f"Here: {GOLD}", "not_braced_json_object"),
        (f"```json\n{GOLD}\n```", "not_braced_json_object"),
        ("[" * 100_000, "not_braced_json_object"),
        ("{" + "[" * 100_000 + "}", "nested_too_deep"),
        ('{"name": }', "json_parse_error"),
        (GOLD + GOLD, "trailing_text"),
        (GOLD.replace('"amount"', '"name": "x", "amount"'), "duplicate_keys"),
        (GOLD.replace("1250.0", "NaN"), "non_finite_number"),
        (GOLD.replace("1250.0", "1e400"), "non_finite_number"),
        (GOLD.replace("1250.0", "1" * 5000), "non_finite_number"),
        (GOLD.replace("1250.0", "1,250.00"), "json_parse_error"),
        (GOLD.replace("Zoë", "\\udfff"), "lone_surrogate"),
        (GOLD.replace("amount", "sum"), "keys_mismatch"),
        ("{}", "keys_mismatch"),
        (GOLD.replace("1250.0", "true"), "type_mismatch:amount:number"),
        (GOLD.replace("1250.0", '"$1,250.00"'), "type_mismatch:amount:number"),
        (GOLD.replace("2024-03-05", "March 5"), "type_mismatch:date:date"),
        (GOLD.replace("2024-03-05", "2024-99-99"), "bad_date:date"),
    ],
)
def test_every_failure_has_its_reason_and_is_no_success(text: str, reason: str) -> None:
    result = score(text)
    assert result.reason == reason
    assert result.values["format_success_rate"] == result.values["field_exact_match"] == 0.0


def test_true_is_not_the_amount_one() -> None:
    row = {**ROW, "completion": GOLD.replace("1250.0", "1")}
    text = GOLD.replace("1250.0", "true")
    values = TASK.score(TASK.record(row, "f"), Completion((), (), text, True)).values
    assert values["field_match_amount"] == 0.0
    assert values["field_match_name"] == 1.0


def test_the_schema_comes_from_the_record() -> None:
    schema = {**ROW["schema"], "paid": "boolean"}
    row = {**ROW, "schema": schema, "completion": GOLD[:-1] + ', "paid": true}'}
    record = TASK.record(row, "f")
    assert TASK.score(record, Completion((), (), GOLD, True)).reason == "keys_mismatch"
    wrong = TASK.score(record, Completion((), (), GOLD[:-1] + ', "paid": false}', True))
    assert (wrong.reason, wrong.values["field_exact_match"]) == (None, 0.0)


@given(
    st.text() | st.text(st.sampled_from('{}[]":,\\ \n01.-eNaassistant<|>\ud800é')).map(lambda text: "{" + text + "}")
)
@settings(deadline=None, max_examples=200)
def test_wild_text_gets_the_same_keys_and_can_be_written_down(text: str) -> None:
    result = score(text)
    assert set(result.values) == NAMES
    assert set(result.values.values()) <= {0.0, 1.0}
    assert (result.reason is None) == (result.values["format_success_rate"] == 1.0)
    json.dumps(result.detail, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 7}, ["'id'", "7"]),
        ({"prompt": " "}, ["'prompt'"]),
        ({"prompt": None}, ["'prompt'", "None"]),
        ({"completion": GOLD + "."}, ["'completion'", "not_braced_json_object"]),
        ({"completion": GOLD.replace("03-05", "13-05")}, ["'completion'", "bad_date:date"]),
        ({"schema": None}, ["'schema'", "not an object"]),
        ({"schema": ["name"]}, ["'schema'", "not an object"]),
        ({"schema": {"name": 1}}, ["'schema'", "not an object"]),
        ({"schema": {**ROW["schema"], "amount": "float"}}, ["'schema'", "'float'", "number"]),
        ({"schema": {"name": "string"}}, ["'schema'", "'date' is missing"]),
        ({"variant": 3}, ["'variant'", "3"]),
    ],
)
def test_a_wrong_row_is_refused_with_its_place_field_and_remedy(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        TASK.record({**ROW, **change}, "train.jsonl:12")
    for word in ["train.jsonl:12", "lightning-posttrain prepare format", *words]:
        assert word in str(caught.value)
