"""GSM8K rows and answers."""

import pytest

from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.types import Completion, UserError

ROW = {"question": "How many?", "answer": "500 + 500 = <<500+500=1000>>1000\n#### 1,000"}


def answer(text: str, finished: bool = True) -> Completion:
    return Completion((1,), (0.0,), text, finished)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("so\n#### 1000", None),
        ("#### 1,000.0", None),
        ("#### 7\nwait\n#### 1000", None),
        ("#### 999", "wrong_answer"),
        ("1000", "no_answer"),
        ("#### many", "no_answer"),
        ("#### 1,00", "no_answer"),
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


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        (" Half and half.\n#### 1000", "Half and half.\n\n#### 1,000"),
        ("a\n#### 7\nno: b\n#### 1000 ", "a\n#### 7\nno: b\n\n#### 1,000"),
        ("\n#### 1000", None),
        ("no mark", None),
        ("", None),
    ],
)
def test_a_trace_is_the_reasoning_and_the_gold_number(text, trace):
    task = GSM8K()
    record = task.record(ROW, "f:1")
    assert task.trace(record, answer(text)) == trace
    if trace:
        back = task.record({**ROW, "answer": trace}, "f:1")
        assert back.meta == record.meta
        assert task.score(record, answer(back.answer)).reason is None
