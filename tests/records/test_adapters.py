"""The three chat layouts become the same conversation; rows with nothing to learn are refused by origin and field."""

import pytest

from lightning_posttrain.records.adapters import check_unique_ids, conversation
from lightning_posttrain.types import Message, UserError

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
EXPECTED = (Message("user", "q"), Message("assistant", "a"))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TALK},
        {"prompt": "q", "completion": "a"},
        {"prompt": TALK[:1], "completion": TALK[1:]},
        {"prompt": TALK[:1], "completion": "a"},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"messages": TALK, "prompt": "another", "completion": "one"},
    ],
)
def test_layouts(row):
    got = conversation(row, "f:1")
    assert got.messages == EXPECTED
    assert got.origin == "f:1"


def test_other_columns_are_kept():
    got = conversation({"prompt": "q", "completion": "a", "id": 7, "source": "x"}, "f:1")
    assert (got.id, dict(got.meta)) == ("7", {"source": "x"})


def test_ids_come_from_the_row_or_the_content():
    rows = [{"messages": TALK}, {"messages": TALK, "source": "x"}, {"prompt": "q2", "completion": "a"}]
    ids = [conversation(row, f"f:{i}").id for i, row in enumerate(rows)]
    assert ids[0] == ids[1] != ids[2]
    for bad in (1.5, True, "", ["x"]):
        with pytest.raises(UserError, match="f:1: 'id' is"):
            conversation({"messages": TALK, "id": bad}, "f:1")


def test_train_marks():
    marked = [*TALK, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b", "train": False}]
    assert [m.train for m in conversation({"messages": marked}, "f:1").messages] == [None, None, None, False]
    weighted = [TALK[0], {**TALK[1], "weight": 0}, TALK[0], {**TALK[1], "weight": 1.0}]
    assert [m.train for m in conversation({"messages": weighted}, "f:1").messages] == [None, False, None, True]
    context = {"prompt": [*TALK, TALK[0]], "completion": "b"}
    assert [m.train for m in conversation(context, "f:1").messages] == [None, False, None, None]


def test_sharegpt_roles_and_nulls_of_a_table():
    row = {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}], "messages_": None}
    row["conversations"].append({"from": "gpt", "value": "a", "train": None, "weight": None, "tool_calls": None})
    assert [m.role for m in conversation(row, "f:1").messages] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x", "n": 1}, r"the columns are \['n', 'text'\], but one of these is needed: 'messages'"),
        ({"prompt": "only"}, r"the columns are \['prompt'\]"),
        ({"messages": []}, "has no messages"),
        ({"messages": None}, "'messages' is None"),
        ({"messages": "hello"}, "'messages' is 'hello'"),
        ({"messages": ["hello"]}, r"messages\[0\] is 'hello'"),
        ({"messages": TALK[:1]}, "no message has the role assistant"),
        ({"messages": TALK[::-1]}, "before any user message"),
        ({"messages": TALK[1:]}, "before any user message"),
        ({"messages": [{"role": "bot", "content": "x"}]}, r"messages\[0\].role is 'bot' \(str\). Known roles: system"),
        ({"messages": [{"content": "x"}]}, r"messages\[0\].role is None"),
        ({"messages": [{"role": [], "content": "x"}]}, r"messages\[0\].role is \[\]"),
        ({"messages": [TALK[0], {"role": "assistant", "content": None}]}, r"messages\[1\].content is None"),
        ({"messages": [TALK[0], {"role": "assistant", "content": [1]}]}, r"messages\[1\].content is \[1\]"),
        ({"messages": [TALK[0], {"role": "assistant", "content": " "}]}, r"message 1 \(assistant\) is empty: ' '"),
        ({"messages": [TALK[0], {**TALK[1], "train": 0.5}]}, r"messages\[1\].train \(or weight\) is 0.5"),
        ({"messages": [TALK[0], {**TALK[1], "train": []}]}, "train"),
        ({"messages": [TALK[0], {**TALK[1], "tool_calls": [{}]}]}, "would be lost"),
        ({"messages": [TALK[0], {**TALK[1], "reasoning_content": "hm"}]}, r"\['reasoning_content'\]"),
        ({"prompt": "q", "completion": ""}, "is empty"),
        ({"prompt": "q", "completion": 3}, "'completion' is 3"),
        ({"conversations": [{"role": "user", "content": "x"}]}, r"conversations\[0\].from is None.*human"),
    ],
)
def test_refusals(row, message):
    with pytest.raises(UserError, match=rf"^f\.jsonl:3: .*{message}"):
        conversation(row, "f.jsonl:3")


def test_an_untrained_answer_may_be_empty():
    row = {"messages": [TALK[0], {"role": "assistant", "content": "", "train": False}, *TALK]}
    assert len(conversation(row, "f:1").messages) == 4


def test_a_long_value_is_shortened():
    with pytest.raises(UserError) as caught:
        conversation({"messages": "x" * 10_000}, "f:1")
    assert len(str(caught.value)) < 200


def test_unique_ids():
    row = {"messages": TALK}
    check_unique_ids(conversation({**row, "id": i}, f"f:{i}") for i in range(9))
    with pytest.raises(UserError, match=r"^g:2: the id '[0-9a-f]{16}' was given before, at f:1"):
        check_unique_ids([conversation(row, "f:1"), conversation(row, "g:2")])
