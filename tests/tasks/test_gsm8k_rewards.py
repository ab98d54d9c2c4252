"""The published reward families, entry by entry and fault by fault, and the strict rewards that have none of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.tasks.gsm8k_rewards import (
    RULES,
    CheckAnswer,
    CheckNumbers,
    Correctness,
    FormatReward,
    MatchFormatApproximately,
    MatchFormatExactly,
)
from lightning_posttrain.tasks.gsm8k_tags import GSM8KTags, TagFormat
from lightning_posttrain.types import Completion, Message, Record, UserError

TAGS = TagFormat()


def record(gold: str) -> Record:
    return Record("r", (Message("user", "?"),), "", "f:1", {"gold": gold})


def completion(text: str) -> Completion:
    return Completion((1,), (0.0,), text, True)


def solved(guess: str) -> Completion:
    return completion(f"so<end_working_out><SOLUTION>{guess}</SOLUTION>")


@pytest.mark.parametrize(
    ("text", "qwen", "gemma"),
    [
        ("so<end_working_out><SOLUTION>1</SOLUTION>", 3.0, 3.0),
        ("so<end_working_out> then <SOLUTION>1</SOLUTION> \n", 3.0, 3.0),
        ("<end_working_out><SOLUTION>1</SOLUTION>", 3.0, 0.0),
        ("oh <start_working_out>so<end_working_out><SOLUTION>1</SOLUTION>", 3.0, 0.0),
        ("so<end_working_out><SOLUTION>1</SOLUTION>.", 0.0, 0.0),
        ("so<end_working_out><SOLUTION></SOLUTION>", 0.0, 0.0),
        ("so<SOLUTION>1</SOLUTION>", 0.0, 0.0),
        ("<SOLUTION>1</SOLUTION><end_working_out>", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_match_format_exactly(text, qwen, gemma):
    for preset, value in zip(RULES, (qwen, qwen, gemma, gemma), strict=True):
        assert MatchFormatExactly(preset)(record("1"), completion(text)) == value


@pytest.mark.parametrize(
    ("text", "qwen", "gemma"),
    [
        ("so<end_working_out><SOLUTION>1</SOLUTION>", 1.5, 2.0),
        ("so<end_working_out><end_working_out><SOLUTION>1</SOLUTION>", 0.0, 1.0),
        ("<SOLUTION>1</SOLUTION>", 0.0, 1.0),
        ("nothing", -3.0, -1.0),
        ("<start_working_out><start_working_out>", -3.0, -2.0),
    ],
)
def test_match_format_approximately(text, qwen, gemma):
    for preset, value in zip(RULES, (qwen, qwen, gemma, gemma), strict=True):
        assert MatchFormatApproximately(preset)(record("1"), completion(text)) == value


@pytest.mark.parametrize(
    ("guess", "gold", "values"),
    [
        ("72", "72", (5.0, 5.0, 3.0, 3.0)),
        (" 72", "72", (5.0, 3.5, 1.5, 1.5)),
        ("72.0", "72", (2.0, 2.0, 1.0, 0.5)),
        ("90", "100", (2.0, 2.0, 1.0, 0.5)),
        ("110", "100", (2.0, 2.0, 1.0, 0.5)),
        ("80", "100", (1.5, 1.5, 0.5, 0.25)),
        ("120", "100", (1.5, 1.5, 0.5, 0.25)),
        ("50", "100", (-2.5, -2.5, -1.5, -1.0)),
        ("many", "100", (-4.5, -4.5, -1.5, -0.5)),
        ("1000", "1,000", (-4.5, -4.5, -1.5, -0.5)),  # right, and scored worst
        ("1,000", "1000", (-4.5, -4.5, -1.5, -0.5)),
        ("1", "0", (-4.5, -4.5, -1.5, -0.5)),  # a division by zero
        ("0.0", "0", (-4.5, -4.5, -1.5, -0.5)),
        ("$72", "72", (-4.5, -4.5, -1.5, -0.5)),
        ("nan", "72", (-2.5, -2.5, -1.5, -1.0)),
        (" ", "72", (-4.5, -4.5, -1.5, -0.5)),
    ],
)
def test_check_answer(guess, gold, values):
    for preset, value in zip(RULES, values, strict=True):
        assert CheckAnswer(preset)(record(gold), solved(guess)) == value


def test_check_answer_pays_more_for_no_answer_than_for_a_wrong_one():
    for preset, value in zip(RULES, (-2.0, -2.0, 0.0, 0.0), strict=True):
        assert CheckAnswer(preset)(record("72"), completion("72")) == value
        assert CheckAnswer(preset)(record("72"), solved("7")) < value


@pytest.mark.parametrize(
    ("after", "gold", "values"),
    [
        ("is $72 or 80", "72", (3.5, 1.5, 1.5)),
        ("72.0", "72", (3.5, 1.5, 1.5)),
        ("7", "72", (-1.5, 0.0, 0.0)),
        ("none", "72", (-2.5, 0.0, 0.0)),
        ("-5", "-5", (3.5, 0.0, 0.0)),
        ("1,000", "1000", (3.5, 1.5, 0.0)),
        ("1000", "1,000", (0.0, 0.0, 0.0)),
        ("no, 72", "72", (0.0, 0.0, 1.5)),  # the comma is found first
        ("1.2.3", "72", (0.0, 0.0, 0.0)),
    ],
)
def test_check_numbers(after, gold, values):
    for preset, value in zip(("unsloth_qwen3", "unsloth_gemma3", "google"), values, strict=True):
        assert CheckNumbers(preset)(record(gold), completion(f"1 <SOLUTION>{after}")) == value
        assert CheckNumbers(preset)(record(gold), completion("72")) == CheckNumbers(preset).rule.none


def test_presets_that_are_not_there_are_refused():
    with pytest.raises(UserError, match=r"preset='original' has no such reward.*unsloth_qwen3"):
        CheckNumbers("original")
    with pytest.raises(UserError, match="preset='qwen'; choose one of original"):
        CheckAnswer("qwen")


@pytest.mark.parametrize(
    ("guess", "gold", "right"),
    [
        *(("1000", "1,000", True), ("$1,000.00", "1000", True), ("0", "0", True), ("0.0", "0", True)),
        *(("95", "100", False), ("many", "100", False), ("1", "0", False), ("−5", "-5", True)),
    ],
)
def test_the_strict_reward_has_none_of_the_faults(guess, gold, right):
    assert Correctness()(record(gold), solved(guess)) == right


def test_the_strict_reward_asks_for_the_format_unless_told_not_to():
    loose = completion("so<end_working_out><SOLUTION>72</SOLUTION> bye")
    assert (Correctness()(record("72"), loose), FormatReward()(record("72"), loose)) == (0.0, 0.0)
    assert Correctness(require_format=False)(record("72"), loose) == 1.0
    assert FormatReward()(record("72"), solved("7")) == 1.0


def test_tags_and_weights_are_passed_on():
    tags = TagFormat("<think>", "</think>", "<a>", "</a>")
    text = completion("so</think><a>72</a>")
    for reward in (
        Correctness(tags=tags, weight=2.0),
        FormatReward(tags, 2.0),
        MatchFormatExactly("original", tags, 2.0),
    ):
        assert reward.weight == 2.0
        assert reward(record("72"), text) > 0
    assert CheckAnswer("original", tags)(record("72"), text) == 5.0


PIECES = st.sampled_from([*TAGS.tags, "72", " ", "-", "1,000", ".", "x"])


@given(st.text() | st.lists(PIECES, max_size=12).map("".join), st.sampled_from(["72", "0", "1,000", "-5"]))
def test_any_text_has_a_price_and_the_strict_reward_agrees_with_the_task(text, gold):
    presets = [kind(preset) for preset in RULES for kind in (MatchFormatExactly, MatchFormatApproximately, CheckAnswer)]
    for reward in (*presets, CheckNumbers("unsloth_qwen3"), CheckNumbers("unsloth_gemma3"), CheckNumbers("google")):
        assert -5 <= reward(record(gold), completion(text)) <= 5
    values = GSM8KTags().score(record(gold), completion(text)).values
    assert Correctness(require_format=False)(record(gold), completion(text)) == values["accuracy"]
    assert Correctness()(record(gold), completion(text)) == values["accuracy"] * values["format"]
    assert FormatReward()(record(gold), completion(text)) == values["format"]
