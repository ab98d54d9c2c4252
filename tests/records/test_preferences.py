"""Rows with a better and a worse answer: two layouts that mean the same, and what is refused."""

import pytest

from lightning_posttrain.records.preferences import preference
from lightning_posttrain.types import Message, UserError

SYSTEM, USER = {"role": "system", "content": "s"}, {"role": "user", "content": "u"}
GOOD, BAD = {"role": "assistant", "content": "good"}, {"role": "assistant", "content": "bad"}


def parts(row):
    found = preference(row, "rows.jsonl:1")
    return [[(m.role, m.content) for m in x] for x in (found.prompt, found.chosen, found.rejected)]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [SYSTEM, USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [SYSTEM, USER], "chosen": "good", "rejected": "bad"},
        {"chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
        {"prompt": [SYSTEM, USER], "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
        {"prompt": [SYSTEM, USER], "chosen": [SYSTEM, USER, GOOD], "rejected": "bad"},
    ],
)
def test_all_layouts_mean_the_same(row):
    assert parts(row) == [[("system", "s"), ("user", "u")], [("assistant", "good")], [("assistant", "bad")]]


def test_a_text_prompt_is_a_user_message():
    assert parts({"prompt": "u", "chosen": "good", "rejected": "bad"})[0] == [("user", "u")]


def test_conversations_that_part_early_keep_the_turns_after_it():
    more = {"role": "user", "content": "and?"}
    found = parts({"chosen": [USER, GOOD, more, GOOD], "rejected": [USER, BAD, more, BAD]})
    assert found[0] == [("user", "u")]
    assert [role for role, _ in found[1]] == ["assistant", "user", "assistant"]


def test_shared_answers_are_prompt_and_are_not_trained():
    more = {"role": "user", "content": "and?"}
    found = preference({"chosen": [USER, GOOD, more, GOOD], "rejected": [USER, GOOD, more, BAD]}, "x:1")
    assert found.prompt[1] == Message("assistant", "good", False)
    assert len(found.prompt) == 3


def test_id_and_other_columns_are_kept():
    row = {"id": 7, "prompt": "u", "chosen": "good", "rejected": "bad", "source": "inis"}
    found = preference(row, "x:1")
    assert (found.id, found.meta) == ("7", {"source": "inis"})
    assert preference({**row, "id": None}, "x:1").id == preference({**row, "id": None}, "y:2").id


def test_system_tools_and_variables_reach_both_answers():
    row = {"system": "Answer in French.", "prompt": "u", "chosen": "good", "rejected": "bad", "score": 2}
    found = preference({**row, "tools": [{"name": "f"}], "chat_template_kwargs": {"a": 1}}, "x:1")
    assert found.prompt == (Message("system", "Answer in French."), Message("user", "u"))
    assert found.template_kwargs == {"a": 1, "tools": [{"name": "f"}]}
    assert found.meta == {"score": 2}


def test_a_prompt_that_ends_in_an_answer_is_gone_on_with():
    begun = [USER, {"role": "assistant", "content": "The answer is"}]
    found = preference({"prompt": begun, "chosen": " 4", "rejected": " 5"}, "x:1")
    assert found.prompt == (Message("user", "u"),)
    assert found.chosen == (Message("assistant", "The answer is 4", prefill=13),)
    assert found.rejected == (Message("assistant", "The answer is 5", prefill=13),)


def test_answers_that_differ_in_their_thoughts_part_there():
    thought = [{**GOOD, "reasoning_content": t} for t in ("right", "wrong")]
    found = preference({"prompt": "u", "chosen": thought[:1], "rejected": thought[1:]}, "x:1")
    assert found.chosen[0].fields == {"reasoning_content": "right"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "u", "chosen": "good"}, "x:1: 'rejected' is missing"),
        ({"prompt": "u", "chosen": [{**GOOD, "mood": "x"}], "rejected": "bad"}, r"chosen\[0\] has \['mood'\]"),
        ({"prompt": "u", "chosen": "good", "rejected": "bad", "images": ["x"]}, r"the row has \['images'\]"),
        ({"prompt": "u", "chosen": "same", "rejected": "same"}, "are the same"),
        ({"chosen": [GOOD], "rejected": [BAD]}, "share no user message"),
        ({"chosen": "good", "rejected": "bad"}, "share no user message"),
        ({"prompt": "u", "chosen": [USER], "rejected": "bad"}, "'chosen' ends with user"),
        ({"prompt": "u", "chosen": "good", "rejected": " "}, "'rejected' ends with assistant"),
        ({"prompt": "u", "chosen": [], "rejected": "bad"}, "'chosen' ends with nothing"),
        ({"prompt": "other", "chosen": [USER, GOOD], "rejected": "bad"}, "does not begin with the row's 'prompt'"),
        ({"prompt": "u", "chosen": 3, "rejected": "bad"}, "'chosen' is 3"),
    ],
)
def test_what_is_no_pair_is_refused(row, message):
    with pytest.raises(UserError, match=message):
        preference(row, "x:1")
