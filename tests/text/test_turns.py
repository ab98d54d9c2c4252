"""Templates that change earlier turns, open thoughts or drop what they are given: what is trained, said and refused."""

import pytest
from formats import QWEN3, THINK_OPEN, answers, renderer_for, talk

from lightning_posttrain.text.render import EACH_ANSWER
from lightning_posttrain.types import Conversation, Message, Record, UserError

DROPS = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
DROPS_AND_OPENS = DROPS.replace("assistant\n' }}{%- endif", "assistant\n<think>\n' }}{%- endif")
TWO_ENDS = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content }}"
    "{%- if m.role == 'assistant' and loop.last and not add_generation_prompt %}{{- '<|endoftext|>' }}"
    "{%- else %}{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TOOLS = (
    "{%- for tool in tools or [] %}{{- '<|im_start|>tool ' + tool.function.name + '<|im_end|>\n' }}{%- endfor %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.thinking %}{{- '[' + m.thinking + ']' }}{%- endif %}{{- m.content }}"
    "{%- for call in m.tool_calls or [] %}{{- call.function.name + (call.function.arguments | tojson) }}{%- endfor %}"
    "{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
JSON_CALLS = TOOLS.replace("(call.function.arguments | tojson)", "call.function.arguments").replace(
    "{{- m.content }}", "{%- if m.content is not none %}{{- m.content + '<|im_end|>' }}{%- endif %}"
)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def runs(renderer, conversation):
    """The answers of each sequence."""
    return [answers(renderer, sequence) for sequence in renderer.sequences(conversation)]


def shown(renderer, ids):
    return renderer.tokenizer.decode(ids)


def calls(arguments, content=""):
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    messages = (Message("user", "q"), Message("assistant", content, fields={"tool_calls": [call]}))
    return Conversation((*messages, Message("tool", "5"), Message("assistant", "done")), "x", "f.jsonl:7")


def test_each_answer_has_its_own_sequence_where_earlier_turns_change():
    renderer = renderer_for("qwen3")
    first, second = "<think>\nold\n</think>\n\na", "<think>\nnew\n</think>\n\nb"
    row = talk("q", first, "r", second)
    sequences = renderer.sequences(row)
    assert runs(renderer, row) == [[f"{first}<|im_end|>"], [f"{second}<|im_end|>"]]
    assert [s.id for s in sequences] == ["x", "x (sequence 1)"]
    assert sequences[0].notes == (EACH_ANSWER,)
    for sequence, turns in zip(sequences, (1, 3), strict=True):
        prompt = renderer.prompt(row.messages[:turns])
        assert sequence.ids[: len(prompt)].tolist() == prompt
    assert "old" not in shown(renderer, sequences[1].ids)


def test_answers_whose_end_changes_are_trained_with_both_their_ends():
    """As OLMo 3 and gpt-oss: the last turn ends otherwise than the ones before it."""
    renderer = renderer_for("olmo", chat_template=TWO_ENDS)
    row = talk("q", "a", "r", "b")
    assert runs(renderer, row) == [["a<|endoftext|>"], ["b<|endoftext|>"]]
    assert "a<|im_end|>" in shown(renderer, renderer.sequences(row)[1].ids)


def test_a_stable_template_gives_one_sequence():
    renderer = renderer_for()
    row = talk("q", "a", "r", "b")
    assert runs(renderer, row) == [["a<|im_end|>", "b<|im_end|>"]]
    assert renderer.sequence(row).notes == ()


@pytest.mark.parametrize("rule", [{"trains": {1: False}}, {}])
def test_context_that_is_not_trained_may_change(rule):
    renderer = renderer_for("qwen3", **({} if rule else {"supervise": "last_turn"}))
    row = talk("q", "<think>\nold\n</think>\n\na", "r", "<think>\nnew\n</think>\n\nb", **rule)
    assert runs(renderer, row) == [["<think>\nnew\n</think>\n\nb<|im_end|>"]]


def test_every_sequence_of_a_row_has_to_fit():
    longest = max(len(s.ids) for s in renderer_for("qwen3").sequences(talk("q", "a", "r", "b" * 50)))
    assert renderer_for("qwen3", max_length=longest).sequences(talk("q", "a", "r", "b" * 50))
    with pytest.raises(UserError, match=f"the row has {longest} tokens"):
        renderer_for("qwen3", max_length=longest - 1).sequences(talk("q", "a", "r", "b" * 50))


def test_what_a_template_adds_to_an_answer_is_said():
    (note,) = renderer_for("qwen3").sequence(talk("q", "a")).notes
    assert r"'<think>\n\n</think>', which is trained though no row says it" in note
    assert renderer_for("qwen3").sequence(talk("q", "<think>\nso\n</think>\n\na")).notes == ()


def test_an_answer_that_begins_with_the_thought_continues_the_prompt_that_opened_it():
    """As DeepSeek-R1: finished turns show no thoughts, and the generation prompt opens one."""
    renderer = renderer_for(chat_template=DROPS_AND_OPENS)
    row = talk("q", "<think>\nso\n</think>\n\na", "r", "<think>and</think>b")
    assert runs(renderer, row) == [["so\n</think>\n\na<|im_end|>"], ["and</think>b<|im_end|>"]]
    first, second = renderer.sequences(row)
    assert shown(renderer, first.ids).startswith("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\nso")
    assert "assistant\n\n\na<|im_end|>" in shown(renderer, second.ids)
    assert renderer.prompt(row.messages[:3]) == second.ids[: len(renderer.prompt(row.messages[:3]))].tolist()


@pytest.mark.parametrize("template", [DROPS_AND_OPENS, THINK_OPEN])
def test_an_answer_without_thoughts_is_trained_as_a_finished_turn_and_said_to_be(template):
    renderer = renderer_for(chat_template=template)
    sequence = renderer.sequence(talk("q", "a"))
    assert shown(renderer, sequence.ids).endswith("<|im_start|>assistant\na<|im_end|>")
    assert answers(renderer, sequence) == ["a<|im_end|>"]
    (note,) = sequence.notes
    assert r"the generation prompt ends in '<think>\n', which answers do not continue" in note


def test_thoughts_that_begin_otherwise_than_the_prompt_opened_them():
    renderer = renderer_for(chat_template="tags")
    with pytest.raises(UserError, match=r"message 1 does not continue its generation prompt.*Begin the answer as"):
        renderer.sequences(talk("q", "<think>so</think>a"))
    assert runs(renderer, talk("q", "<start_working_out>so")) == [["so<|im_end|>"]]


def test_thoughts_that_a_template_drops_are_refused():
    renderer = renderer_for(chat_template=DROPS)
    row = talk("q", "<think>so</think>a")
    with pytest.raises(
        UserError, match=r"f.jsonl:7: message 1 .assistant.: the chat template drops part of its content"
    ):
        renderer.sequences(row)
    untrained = talk("q", "<think>so</think>a", "r", "b", trains={1: False})
    assert runs(renderer, untrained) == [["b<|im_end|>"]]
    with pytest.raises(UserError, match=r"message 1 .* drops part of its content"):
        renderer_for(chat_template=DROPS, supervise="all_tokens").sequences(talk("q", "<think>so</think>a", "r", "b"))


def test_messages_that_a_template_skips_are_refused():
    only_turns = DROPS.replace(
        "{{- '<|im_start|>' + m.role",
        "{%- if m.role == 'system' %}{%- continue %}{%- endif %}{{- '<|im_start|>' + m.role",
        1,
    )
    renderer = renderer_for(chat_template=only_turns)
    assert renderer.sequences(talk("q", "a"))
    with pytest.raises(UserError, match=r"message 0 .system.: the chat template drops part of its content, 'Be brief."):
        renderer.sequences(talk("q", "a", system="Be brief."))
    with pytest.raises(UserError, match=r"message 0 .system."):
        renderer.prompt(talk("q", system="Be brief.").messages)


@pytest.mark.parametrize("supervise", ["all_turns", "last_turn"])
def test_two_answers_in_a_row(supervise):
    tulu = renderer_for("olmo", chat_template="tulu", supervise=supervise)
    row = Conversation((*talk("q", "a").messages, Message("assistant", "b")), "x", "f.jsonl:7")
    expected = ["a<|endoftext|>", "b<|endoftext|>"]
    assert runs(tulu, row) == [expected if supervise == "all_turns" else expected[1:]]
    assert tulu.sequence(row).notes == ()
    olmo = renderer_for("olmo", supervise=supervise)  # writes no line end before the generation prompt there
    found = olmo.sequences(row)
    assert [a for s in found for a in answers(olmo, s)] == (expected if supervise == "all_turns" else expected[1:])
    assert any("which is not what a sampler is asked for" in note for note in found[0].notes)


def test_a_begun_answer_is_context():
    row = Conversation((Message("user", "q"), Message("assistant", "The answer is 4.", prefill=13)), "x", "f.jsonl:7")
    for name in ("chatml", "qwen3", "gemma"):
        renderer = renderer_for(name)
        sequence = renderer.sequence(row)
        assert answers(renderer, sequence) == [f" 4.{renderer.tokenizer.eos_token}"]
        prompt = renderer.prompt((Message("user", "q"), Message("assistant", "The answer is")))
        assert sequence.ids[: len(prompt)].tolist() == prompt
        assert sequence.supervised[len(prompt)]
        assert not sequence.supervised[len(prompt) - 1]
    plain = renderer_for(format="plain")
    assert answers(plain, plain.sequence(row)) == [" 4.<|im_end|>"]
    assert shown(plain, plain.prompt((Message("user", "q"), Message("assistant", "The")))) == "<|bos|>qThe"


def test_tools_calls_and_thoughts_reach_the_template():
    renderer = renderer_for(chat_template=TOOLS)
    thought = Message("assistant", "a", fields={"reasoning_content": "hm"})
    row = Conversation((Message("user", "q"), thought), "x", "f.jsonl:7", template_kwargs={"tools": [TOOL]})
    sequence = renderer.sequence(row)
    assert shown(renderer, sequence.ids).startswith("<|im_start|>tool weather<|im_end|>\n<|im_start|>user")
    assert answers(renderer, sequence) == ["[hm]a<|im_end|>"]
    assert renderer.prompt(row.messages[:1], row.template_kwargs) == sequence.ids[: -len("[hm]a<")].tolist()
    for arguments in ({"place": "Łódź"}, '{"place": "Łódź"}'):
        assert runs(renderer, calls(arguments)) == [['weather{"place": "Łódź"}<|im_end|>', "done<|im_end|>"]]


def test_a_template_that_wants_arguments_as_json_and_no_content():
    renderer = renderer_for(chat_template=JSON_CALLS)
    for arguments in ({"place": "Łódź"}, '{"place": "Łódź"}'):
        assert runs(renderer, calls(arguments))[0][0] == 'weather{"place": "Łódź"}<|im_end|>'


@pytest.mark.parametrize(
    ("fields", "variables", "named"),
    [
        ({"reasoning_content": "hm"}, {}, "message 1 .* drops part of its reasoning_content, 'hm'.*content"),
        ({"tool_calls": [TOOL]}, {}, "message 1 .* drops part of its tool_calls, 'weather'"),
        ({"name": "Zoe"}, {}, "message 1 .* drops part of its name, 'Zoe'"),
        ({}, {"tools": [TOOL]}, "knows no tools"),
        ({}, {"enable_thinking": False}, "knows no variable 'enable_thinking'"),
    ],
)
def test_what_a_template_does_not_show_is_refused(fields, variables, named):
    row = Conversation((Message("user", "q"), Message("assistant", "a", None, fields)), "x", "f.jsonl:7", {}, variables)
    with pytest.raises(UserError, match=f"f.jsonl:7: .*{named}"):
        renderer_for().sequences(row)
    with pytest.raises(UserError, match="`format: plain` shows no"):
        renderer_for(format="plain").sequences(row)


def test_tools_that_a_template_mentions_and_does_not_print():
    renderer = renderer_for(chat_template="{%- if tools %}{%- endif %}" + THINK_OPEN.replace("<think>\n", ""))
    row = Conversation(talk("q", "a").messages, "x", "f.jsonl:7", template_kwargs={"tools": [TOOL]})
    with pytest.raises(UserError, match="does not show the tool 'weather'"):
        renderer.sequences(row)


def test_variables_of_a_row_come_before_the_models():
    renderer = renderer_for("qwen3", template_kwargs={"enable_thinking": False})
    record = Record("r", talk("q").messages, "", "f:1", template_kwargs={"enable_thinking": True})
    assert shown(renderer, renderer.question(record)).endswith("assistant\n")
    assert shown(renderer, renderer.prompt(record.prompt)).endswith("</think>\n\n")


def test_a_refused_prompt_names_its_record():
    with pytest.raises(UserError, match=r"^f:1: message 0 .* special token"):
        renderer_for().question(Record("r", (Message("user", "<|pad|>"),), "", "f:1"))


@pytest.mark.parametrize(
    ("template", "text", "content", "fields"),
    [
        (QWEN3, "<think>\nso\n</think>\n\na", "<think>\nso\n</think>\n\na", {}),
        (THINK_OPEN, "so\n</think>\n\na", "<think>\nso\n</think>\n\na", {}),
        (QWEN3, "<|channel|>final<|message|>a", "a", {}),
        (
            QWEN3,
            "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>a",
            "a",
            {"reasoning_content": "so"},
        ),
        (QWEN3, "<|channel|>analysis<|message|>so", "", {"reasoning_content": "so"}),
    ],
)
def test_a_sampled_text_as_the_message_to_go_on_with(template, text, content, fields):
    asked = talk("q").messages
    assert renderer_for(chat_template=template).reply(asked, text) == Message("assistant", content, fields=fields)
