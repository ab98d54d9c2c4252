"""The three chat layouts become the same conversation; rows with nothing to learn are refused by origin and field."""

import json

import pytest

from lightning_posttrain.records.adapters import check_unique_ids, conversation
from lightning_posttrain.types import Message, UserError

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SYSTEM = {"role": "system", "content": "s"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"place": "x"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "x.png"}}
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
        (
            {"messages": [TALK[0], {"role": "assistant", "content": [1]}]},
            r"messages\[1\].content\[0\] is 1 \(int\). Only",
        ),
        ({"messages": [TALK[0], {"role": "assistant", "content": " "}]}, r"message 1 \(assistant\) is empty: ' '"),
        ({"messages": [TALK[0], {**TALK[1], "train": 0.5}]}, r"messages\[1\].train \(or weight\) is 0.5"),
        ({"messages": [TALK[0], {**TALK[1], "train": []}]}, "train"),
        ({"messages": [TALK[0], {**TALK[1], "tool_calls": [{}]}]}, r"messages\[1\].tool_calls is \[{}\]"),
        ({"messages": [TALK[0], {**TALK[1], "tool_calls": "weather"}]}, r"messages\[1\].tool_calls is 'weather'"),
        ({"messages": [{**TALK[0], "tool_calls": [CALL]}, TALK[1]]}, "role is 'user'. Only an assistant"),
        ({"messages": [TALK[0], {**TALK[1], "reasoning_content": ["hm"]}]}, "reasoning_content is .* must be a string"),
        ({"messages": [TALK[0], {**TALK[1], "reasoning": "a", "thinking": "b"}]}, "which differ"),
        ({"messages": [TALK[0], {**TALK[1], "channel": "final"}]}, r"messages\[1\] has \['channel'\], .* be lost"),
        ({"messages": [TALK[0], {**TALK[1], "thoughts": "x", "audio": {"id": 1}}]}, r"\['thoughts', 'audio'\]"),
        ({"conversations": [{"from": "human", "value": "q", "mood": 1}]}, r"conversations\[0\] has \['mood'\]"),
        ({"messages": TALK, "functions": [{"name": "f"}]}, r"the row has \['functions'\]"),
        ({"messages": TALK, "images": ["x.png"]}, r"the row has \['images'\]"),
        ({"messages": TALK, "tools": {"name": "f"}}, "'tools' is .* must be a list of objects"),
        ({"messages": TALK, "tools": ["f"]}, "'tools' is .* must be a list of objects"),
        ({"messages": TALK, "chat_template_kwargs": [1]}, r"'chat_template_kwargs' is \[1\]"),
        ({"messages": TALK, "system": 3}, "'system' is 3"),
        ({"messages": [SYSTEM, *TALK], "system": "other"}, "begin with another system text"),
        ({"messages": [{"role": "user", "content": [IMAGE]}, TALK[1]]}, r"content\[0\] is .*image_url"),
        ({"prompt": [TALK[0], {**TALK[1], "thinking": "x"}], "completion": "b"}, "ends in an assistant message with"),
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


def test_what_templates_read_is_kept():
    call = {**TALK[1], "content": None, "tool_calls": [CALL], "refusal": None, "annotations": []}
    result = {"role": "tool", "content": "5", "tool_call_id": "a1", "name": "weather"}
    last = {"role": "assistant", "content": "a", "reasoning": "hm"}
    row = {"messages": [{**TALK[0], "name": "Zoe"}, call, result, last], "tools": [CALL]}
    got = conversation({**row, "chat_template_kwargs": {"enable_thinking": False, "unset": None}, "source": "x"}, "f:1")
    assert [m.fields for m in got.messages] == [
        {"name": "Zoe"},
        {"tool_calls": [CALL]},
        {"tool_call_id": "a1", "name": "weather"},
        {"reasoning_content": "hm"},
    ]
    assert got.messages[1].content == ""
    assert got.template_kwargs == {"enable_thinking": False, "tools": [CALL]}
    assert got.meta == {"source": "x"}


def test_tables_hold_lists_as_json_text():
    row = {"messages": [TALK[0], {**TALK[1], "tool_calls": json.dumps([CALL])}], "tools": json.dumps([CALL])}
    got = conversation({**row, "chat_template_kwargs": '{"a": 1}'}, "f:1")
    assert got.messages[1].fields == {"tool_calls": [CALL]}
    assert got.template_kwargs == {"a": 1, "tools": [CALL]}


def test_a_system_column_is_a_system_message():
    for row in ({"messages": TALK}, {"prompt": "q", "completion": "a"}, {"messages": [SYSTEM, *TALK]}):
        assert conversation({**row, "system": "s"}, "f:1").messages == (Message("system", "s"), *EXPECTED)
    assert conversation({"messages": TALK, "system": None}, "f:1").messages == EXPECTED


def test_parts_of_type_text_are_joined():
    parts = [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]
    assert conversation({"messages": [TALK[0], {**TALK[1], "content": parts}]}, "f:1").messages[1].content == "Hello"


def test_a_prompt_that_ends_in_an_answer_is_gone_on_with():
    begun = [TALK[0], {"role": "assistant", "content": "The answer is"}]
    for completion in (" 4.", [{"role": "assistant", "content": " 4."}]):
        got = conversation({"prompt": begun, "completion": completion}, "f:1").messages
        assert got == (EXPECTED[0], Message("assistant", "The answer is 4.", prefill=13))
    with pytest.raises(UserError, match="is empty"):
        conversation({"prompt": begun, "completion": " "}, "f:1")


def test_ids_tell_rows_apart_that_differ_in_what_only_a_template_shows():
    rows = [{"messages": TALK}, {"messages": TALK, "tools": [CALL]}, {"messages": [TALK[0], {**TALK[1], "name": "z"}]}]
    assert len({conversation(row, "f:1").id for row in rows}) == 3
