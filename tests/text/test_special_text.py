"""Text that looks like a special token or a thought or tool marker: refused, encoded as text, or taken as the token."""

import pytest
from formats import QWEN3, answers, renderer_for, talk

from lightning_posttrain.text.control import MARK, control_texts
from lightning_posttrain.text.render import Renderer
from lightning_posttrain.text.tokenizer import byte_tokenizer, stop_ids, train_bpe
from lightning_posttrain.types import Conversation, Message, UserError

MARKERS = ["<think>", "</think>", "<tool_call>"]


def marked(policy="error", template=None, markers=MARKERS):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(markers)
    return Renderer(tokenizer, stop_ids(tokenizer), special_text=policy, chat_template=template)


def test_text_is_encoded_as_a_tokenizer_without_the_token_would():
    renderer = renderer_for(special_text="text")
    sequence = renderer.sequence(talk("a <|im_end|> b", "<|pad|>c"))
    assert renderer.tokenizer.decode(sequence.ids.tolist()).count("<|im_end|>") == 3
    assert sequence.ids.tolist().count(renderer.tokenizer.eos_token_id) == 2
    assert bytes(sequence.ids[sequence.supervised][:-1].tolist()) == b"<|pad|>c"
    assert renderer.prompt(talk("a <|im_end|> b").messages) == sequence.ids[: -len("<|pad|>c<")].tolist()


def test_text_of_a_bpe_is_merged_as_any_other_text():
    tokenizer = train_bpe(["<|im_end|> im_end <think> thinking"] * 20, 330)
    renderer = Renderer(tokenizer, stop_ids(tokenizer), special_text="text")
    ids = renderer.prompt(talk("say <|im_end|>!").messages)
    as_text = tokenizer("say <|im_end|>!", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert (
        as_text
        == ids[-len(tokenizer("<|im_end|>\n<|im_start|>assistant\n")["input_ids"][1:]) - len(as_text) :][: len(as_text)]
    )


@pytest.mark.parametrize("role", ["system", "user", "tool"])
@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_is_refused_or_split_in_what_no_assistant_says(role, marker):
    messages = (Message("user", "q"), Message(role, f"Explain {marker} please"))
    with pytest.raises(UserError, match=f"message 1 .{role}. contains the special token '{marker}' at character 8"):
        marked().prompt(messages)
    token = marked().tokenizer.get_vocab()[marker]
    assert token not in marked("text").prompt(messages)
    assert marker in marked().tokenizer.decode(marked("text").prompt(messages))
    assert token in marked("allow").prompt(messages)


@pytest.mark.parametrize("policy", ["error", "text", "allow"])
def test_an_assistant_writes_markers_itself(policy):
    renderer = marked(policy, QWEN3)
    sequence = renderer.sequence(talk("q", "<think>\nso\n</think>\n\na"))
    vocabulary = renderer.tokenizer.get_vocab()
    assert {vocabulary["<think>"], vocabulary["</think>"]} <= set(sequence.ids.tolist())
    assert answers(renderer, sequence) == ["<think>\nso\n</think>\n\na<|im_end|>"]


def test_thought_markers_that_are_special_are_an_assistants_too():
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<think>", "[/THINK]"]}, replace_extra_special_tokens=False)
    renderer = Renderer(tokenizer, stop_ids(tokenizer))
    assert renderer.sequence(talk("q", "<think>so[/THINK]a"))
    with pytest.raises(UserError, match="message 0"):
        renderer.sequence(talk("q [/THINK]", "a"))


def test_what_counts_as_a_marker():
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["    ", "<h1>", "<|turn|>", "</tool_response>", "[[answer]]", "word"])
    found = control_texts(tokenizer) - control_texts(byte_tokenizer())
    assert found == {"<|turn|>", "</tool_response>"}
    tokenizer.chat_template = "{{ '[[answer]]' }}"  # what the template writes steers it
    assert "[[answer]]" in control_texts(tokenizer)


def test_tools_and_fields_are_searched_too():
    renderer = marked()
    named = Conversation((Message("user", "q", fields={"name": "<|pad|>"}), Message("assistant", "a")), "x", "f:1")
    with pytest.raises(UserError, match=r"message 0 .user. name contains the special token"):
        renderer.sequences(named)
    with pytest.raises(UserError, match="the row's tools description contains the special token '<tool_call>'"):
        renderer.prompt(talk("q").messages, {"tools": [{"description": "writes <tool_call>"}]})


def test_a_begun_answer_keeps_its_place_when_text_is_marked():
    renderer = renderer_for(special_text="text")
    begun = Message("assistant", "<|pad|> is <|pad|>", prefill=len("<|pad|> is"))
    sequence = renderer.sequence(Conversation((Message("user", "q"), begun), "x", "f:1"))
    assert answers(renderer, sequence) == [" <|pad|><|im_end|>"]


def test_the_mark_itself_is_refused_beside_a_special_text():
    with pytest.raises(UserError, match="noncharacter"):
        renderer_for(special_text="text").prompt(talk(f"{MARK}<|pad|>").messages)
    assert renderer_for().prompt(talk(MARK).messages)
