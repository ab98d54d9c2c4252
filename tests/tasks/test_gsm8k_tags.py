"""GSM8K between tags: what is asked, read and scored, and that the chat format trains what the sampler will see."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.tasks.gsm8k_tags import GSM8KTags, TagFormat
from lightning_posttrain.text.render import Renderer
from lightning_posttrain.text.tokenizer import byte_tokenizer, stop_ids
from lightning_posttrain.types import Completion, UserError

GSM8K_DATA = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
ROW = {"question": "How many? ", "answer": "500 + 500 = <<500+500=1000>>1000\n#### 1,000"}
TAGS, TASK = TagFormat(), GSM8KTags()
RECORD = TASK.record(ROW, "f:1")
START = TAGS.start_working


def completion(text: str, finished: bool = True) -> Completion:
    return Completion((1, 2), (0.0, 0.0), text, finished)


def score(text: str, **options: bool):
    return TASK.score(RECORD, completion(text, **options))


def test_a_record_asks_and_answers_between_tags():
    system, user = RECORD.prompt
    assert (system.role, user.role, user.content) == ("system", "user", "How many?")
    assert all(tag in system.content for tag in TAGS.tags)
    assert RECORD.answer == (
        "<start_working_out>500 + 500 = <<500+500=1000>>1000<end_working_out><SOLUTION>1,000</SOLUTION>"
    )
    assert RECORD.id == RECORD.origin == "f:1"


def test_options_change_the_record():
    plain = GSM8KTags(strip_calculator=True).record(ROW, "f:1")
    assert plain.answer == "<start_working_out>500 + 500 = 1000<end_working_out><SOLUTION>1,000</SOLUTION>"
    assert [m.content for m in GSM8KTags(system="Go.").record(ROW, "f:1").prompt] == ["Go.", "How many?"]
    assert [m.role for m in GSM8KTags(system="").record(ROW, "f:1").prompt] == ["user"]
    think = GSM8KTags(TagFormat("<think>", "</think>", "<a>", "</a>")).record(ROW, "f:1")
    assert think.answer.startswith("<think>500")
    assert think.answer.endswith("</think><a>1,000</a>")
    assert "<think>" in think.prompt[0].content


@pytest.mark.parametrize("answer", [RECORD.answer, RECORD.answer.removeprefix(START)])
def test_gold_scores_full_marks_whether_or_not_the_prompt_opened_the_working(answer):
    result = score(answer)
    assert result.reason is None
    assert all(result.values[name] == 1 for name in set(result.values) - {"completion_tokens"})
    assert result.values["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("text", "reason", "good"),
    [
        ("so<end_working_out><SOLUTION>1000</SOLUTION>\n ", None, "acc compat format thinking answer rate flex"),
        ("so<end_working_out> thus <SOLUTION>$1000.</SOLUTION>", None, "acc format thinking answer rate flex"),
        ("<end_working_out><SOLUTION>1000</SOLUTION>", None, "acc compat format answer rate flex"),
        ("so<SOLUTION>1000</SOLUTION>", None, "acc compat answer rate flex"),
        ("so<end_working_out><SOLUTION>1000</SOLUTION>!", None, "acc flex compat thinking answer rate"),
        ("<SOLUTION>1</SOLUTION><SOLUTION>1000</SOLUTION>", None, "acc compat answer rate flex"),
        ("<SOLUTION>1000</SOLUTION><SOLUTION>1", None, "acc compat answer rate"),
        ("<SOLUTION>1000</SOLUTION></SOLUTION>", None, "acc compat answer rate flex"),
        ("so<end_working_out><SOLUTION>999</SOLUTION>", "wrong_answer", "format thinking answer rate"),
        ("so<end_working_out><SOLUTION>1,00</SOLUTION>", "unparsable", "format thinking answer"),
        ("so<end_working_out><SOLUTION>10,00</SOLUTION>", "unparsable", "compat format thinking answer flex"),
        ("so<end_working_out><SOLUTION> </SOLUTION>", "no_answer", "thinking"),
        ("so<end_working_out>1000", "no_answer", "thinking flex"),
        ("1000", "no_answer", "flex"),
        ("", "no_answer", ""),
        (
            f"first {START}so<end_working_out><SOLUTION>1000</SOLUTION>",
            None,
            "acc flex compat thinking answer rate",
        ),
        (f"so<end_working_out>{START}<SOLUTION>1000</SOLUTION>", None, "acc compat answer rate flex"),
        ("<SOLUTION>1000</SOLUTION>so<end_working_out>", None, "acc flex compat thinking answer rate"),
    ],
)
def test_scores(text, reason, good):
    result = score(text)
    assert result.reason == reason
    short = {"acc": "accuracy", "compat": "accuracy_compat", "flex": "accuracy_flexible", "rate": "answer_rate"}
    expected = {short.get(name, name) for name in good.split()} | {"eos_rate", "completion_tokens"}
    assert {name for name, value in result.values.items() if value} == expected


def test_detail_and_the_end():
    result = score(" so <end_working_out><SOLUTION> 7 </SOLUTION>", finished=False)
    assert result.detail == {"thinking": "so", "answer": "7", "gold": "1,000"}
    assert result.values["eos_rate"] == 0


def test_the_debug_table():
    good = completion("so<end_working_out><SOLUTION>1000</SOLUTION>")
    row = TASK.table_row(RECORD, good, TASK.score(RECORD, good))
    assert row == {
        "question": "How many?",
        "labeled_cot": "500 + 500 = <<500+500=1000>>1000",
        "labeled_answer": "1,000",
        "generated_text": good.text,
        "extracted_thinking": "so",
        "extracted_answer": "1000",
        "correct": True,
    }
    bad = completion("?")
    row = TASK.table_row(RECORD, bad, TASK.score(RECORD, bad))
    assert (row["extracted_thinking"], row["extracted_answer"], row["correct"]) == ("", "", False)


PIECES = st.sampled_from([*TAGS.tags, "1000", " ", "\n", "x", "1,000", "<", "SOLUTION>"])


@given(st.text() | st.lists(PIECES, max_size=12).map("".join))
def test_any_text_is_scored(text):
    result = score(text)
    assert all(0 <= v <= 2 for v in result.values.values())
    parsed = TAGS.parse(text)
    assert not parsed.exact or (parsed.solution and parsed.thinking is not None and parsed.counts == (1, 1, 1, 1))
    assert (result.reason is None) == (result.values["accuracy"] == 1)


FREE = st.text().filter(lambda s: not any(tag in s or "<" in s for tag in TAGS.tags))


@given(FREE, FREE.filter(str.strip))
def test_what_is_wrapped_is_read_back(rationale, answer):
    parsed = TAGS.parse(TAGS.wrap(rationale, answer))
    assert (parsed.thinking, parsed.solution, parsed.exact) == (rationale.strip(), answer.strip(), True)


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        (("", "b", "c", "d"), "start_working=''"),
        (("a ", "b", "c", "d"), "start_working='a '"),
        (("a", "b", "c", "xa"), "found in end_solution"),
        (("a", "b", "b", "d"), "found in start_solution"),
    ],
)
def test_tags_that_cannot_be_told_apart_are_refused(tags, named):
    with pytest.raises(UserError, match=named):
        TagFormat(*tags)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"question": "?"}, "answer=None"),
        ({"question": "?", "answer": "#### x"}, "f:3: the answer must end"),
        ({"question": "?", "answer": "a <SOLUTION> here\n#### 1"}, "f:3: answer=.*holds a tag"),
    ],
)
def test_bad_rows_are_refused(row, named):
    with pytest.raises(UserError, match=named):
        TASK.record(row, "f:3")


def tags_renderer(**kwargs):
    tokenizer = byte_tokenizer()
    return Renderer(tokenizer, stop_ids(tokenizer), chat_template="tags", template_kwargs=kwargs)


def test_the_tags_format_opens_the_working_in_the_prompt_and_trains_what_follows():
    renderer = tags_renderer()
    prompt, sequence = renderer.prompt(RECORD.prompt), renderer.sequence(RECORD.conversation())
    text = renderer.tokenizer.decode(prompt)
    assert text == f"<|bos|>{RECORD.prompt[0].content}<|im_end|>How many?{START}"
    assert sequence.ids[: len(prompt)].tolist() == prompt
    assert sequence.supervised.tolist() == [False] * len(prompt) + [True] * (len(sequence.ids) - len(prompt))
    trained = renderer.tokenizer.decode(sequence.ids[len(prompt) :].tolist())
    assert trained == RECORD.answer.removeprefix(START) + "<|im_end|>"
    assert score(trained.removesuffix("<|im_end|>")).reason is None


def test_the_tags_format_with_another_tag_or_none():
    task = GSM8KTags(TagFormat("<think>", "</think>", "<a>", "</a>"))
    record = task.record(ROW, "f:1")
    for tag in ("<think>", ""):
        renderer = tags_renderer(start_working=tag)
        prompt = renderer.prompt(record.prompt)
        assert renderer.tokenizer.decode(prompt).endswith("How many?" + tag)
        assert renderer.sequence(record.conversation()).ids[: len(prompt)].tolist() == prompt
    with pytest.raises(UserError, match="does not continue its generation prompt"):
        tags_renderer().sequence(record.conversation())


@pytest.mark.skipif(not GSM8K_DATA.is_dir(), reason="needs the GSM8K files")
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_row_of_gsm8k_scores_full_marks(split):
    path = GSM8K_DATA / f"{split}.jsonl"
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            record = TASK.record(json.loads(line), f"{path.name}:{number}")
            result = TASK.score(record, completion(record.answer.removeprefix(START)))
            assert result.reason is None
            assert result.values["format"] == result.values["accuracy_compat"] == 1


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        ("half\nand half <end_working_out><SOLUTION>1000</SOLUTION>", "half\nand half\n\n#### 1,000"),
        (f"{START}half<end_working_out><SOLUTION>1000</SOLUTION>", "half\n\n#### 1,000"),
        ("half #### 7<end_working_out><SOLUTION>1000</SOLUTION>", "half #### 7\n\n#### 1,000"),
        (" <end_working_out><SOLUTION>1000</SOLUTION>", None),
        ("<SOLUTION>1000</SOLUTION>", None),
        ("<SOLUTION>1000</SOLUTION>half<end_working_out>", None),
        (f"{START}a{START}b<end_working_out><SOLUTION>1000</SOLUTION>", None),
        ("", None),
    ],
)
def test_a_trace_is_the_working_and_the_gold_number(text, trace):
    assert TASK.trace(RECORD, completion(text)) == trace


@given(st.lists(st.sampled_from([*TAGS.tags, "####", "1000", "so", " ", "\n"])).map("".join) | st.text())
def test_every_trace_is_a_row_of_the_same_gold(text):
    trace = TASK.trace(RECORD, completion(text))
    if trace is not None:
        back = TASK.record({**ROW, "answer": trace}, "f:1")
        assert back.meta["gold"] == RECORD.meta["gold"]
        assert back.meta["rationale"] in TAGS.completed(text)
        assert TASK.score(back, completion(back.answer)).values["format"] == 1
