"""GSM8K rows and answers."""

from decimal import Decimal

import pytest

from lightning_posttrain.tasks.gsm8k import GSM8K, parse_number
from lightning_posttrain.types import Completion, UserError

ROW = {"question": "How many?", "answer": "500 + 500 = <<500+500=1000>>1000\n#### 1,000"}


def answer(text: str, finished: bool = True) -> Completion:
    return Completion((1,), (0.0,), text, finished)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,000", "1000"),
        ("1000", "1000"),
        ("$1,000.00", "1000.00"),
        ("-5", "-5"),
        ("−5", "-5"),
        ("$ 3.", "3"),
        ("0", "0"),
        (".5", "0.5"),
        ("+7", "7"),
        ("-$4", "-4"),
        ("€12", "12"),
    ],
)
def test_numbers(text, number):
    assert parse_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "five", "1 2", "3 apples", "1e5", "--3", "$", ",", "1/2"])
def test_not_numbers(text):
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("so\n#### 1000", None),
        ("#### 1,000.0", None),
        ("#### 7\nwait\n#### 1000", None),
        ("#### 999", "wrong_answer"),
        ("1000", "no_answer"),
        ("#### many", "no_answer"),
    ],
)
def test_scores(text, reason):
    score = GSM8K().score(GSM8K().record(ROW, "f:1"), answer(text))
    assert score.reason == reason
    assert score.values["accuracy"] == (reason is None)


def test_the_end_is_scored_apart():
    score = GSM8K().score(GSM8K().record(ROW, "f:1"), answer("#### 1000", finished=False))
    assert (score.values["accuracy"], score.values["eos_rate"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"question": "?"}, "answer=None"),
        ({"question": " ", "answer": "#### 1"}, "question"),
        ({"question": "?", "answer": "#### x"}, "####"),
    ],
)
def test_bad_rows_are_refused(row, named):
    with pytest.raises(UserError, match=named):
        GSM8K().record(row, "f:3")
