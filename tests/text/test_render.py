"""What is seen and what is trained, for each family of chat formats."""

import numpy as np
import pytest
from formats import FORMATS, QWEN3, THINK_OPEN, answers, renderer_for, talk
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_posttrain.text.render import Renderer
from lightning_posttrain.text.tokenizer import byte_tokenizer, stop_ids, train_bpe
from lightning_posttrain.types import Conversation, Message


def whole(renderer, sequence):
    return renderer.tokenizer.decode(sequence.ids.tolist())


def test_a_chatml_row_token_by_token():
    renderer = renderer_for()
    sequence = renderer.sequence(talk("Hi", "Yo"))
    assert whole(renderer, sequence) == "<|bos|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>"
    assert (sequence.ids.dtype, sequence.supervised.dtype) == (np.int32, np.bool_)
    assert sequence.ids[-3:].tolist() == [ord("Y"), ord("o"), renderer.tokenizer.eos_token_id]
    assert sequence.supervised.nonzero()[0].tolist() == [len(sequence.ids) - 3 + i for i in range(3)]
    assert (sequence.id, sequence.origin) == ("x", "f.jsonl:7")


@pytest.mark.parametrize("name", ["llama3", "qwen", "gemma", "olmo"])
def test_all_turns_are_answers_with_their_end_token_and_nothing_else(name):
    renderer = renderer_for(name)
    end = FORMATS[name][1]
    sequence = renderer.sequence(talk("q1", "first", "q2", "second"))
    assert answers(renderer, sequence) == [f"first{end}", f"second{end}"]
    dialogue = [{"role": m.role, "content": m.content} for m in talk("q1", "first", "q2", "second").messages]
    rendered = renderer.tokenizer.apply_chat_template(dialogue, tokenize=False)
    assert rendered.removesuffix("\n") == whole(renderer, sequence)


@pytest.mark.parametrize("name", ["chatml", "llama3", "qwen", "qwen3", "gemma", "olmo"])
def test_the_prompt_is_what_comes_before_the_answer(name):
    renderer = renderer_for(name, supervise="last_turn")
    conversation = talk("q1", "first", "q2", "second")
    prompt, sequence = renderer.prompt(conversation.messages[:3]), renderer.sequence(conversation)
    assert sequence.ids[: len(prompt)].tolist() == prompt
    assert sequence.supervised.tolist() == [False] * len(prompt) + [True] * (len(sequence.ids) - len(prompt))
    assert answers(renderer, sequence)[0].endswith("second" + FORMATS.get(name, ("", "<|im_end|>"))[1])


def test_one_bos_per_sequence():
    for name in ("chatml", "llama3", "gemma", "olmo"):
        renderer = renderer_for(name)
        assert renderer.sequence(talk("q", "a")).ids.tolist().count(renderer.tokenizer.bos_token_id) == 1


def test_train_overrides_the_rule():
    renderer = renderer_for()
    four = ("q1", "first", "q2", "second")
    assert answers(renderer, renderer.sequence(talk(*four, trains={1: False}))) == ["second<|im_end|>"]
    first_only = renderer.sequence(talk(*four, trains={3: False}))
    assert answers(renderer, first_only) == ["first<|im_end|>"]
    assert whole(renderer, first_only).endswith("first<|im_end|>")  # nothing after the last supervised token
    last = renderer_for(supervise="last_turn")
    assert answers(last, last.sequence(talk(*four))) == ["second<|im_end|>"]
    both = talk(*four, trains={1: True})
    assert answers(last, last.sequence(both)) == ["first<|im_end|>", "second<|im_end|>"]
    prompt = last.prompt(both.messages[:3])
    assert last.sequence(both).ids[: len(prompt)].tolist() == prompt


def test_all_tokens_supervises_everything_after_the_first():
    renderer = renderer_for(supervise="all_tokens")
    conversation = Conversation((*talk("q", "a").messages, Message("user", "bye")), "x", "f:1")
    sequence = renderer.sequence(conversation)
    assert sequence.supervised.tolist() == [False] + [True] * (len(sequence.ids) - 1)
    assert whole(renderer, sequence).endswith("a<|im_end|>\n<|im_start|>user\nbye<|im_end|>\n")


def test_qwen3_thoughts():
    plain = renderer_for("qwen3")
    assert answers(plain, plain.sequence(talk("q", "a"))) == ["<think>\n\n</think>\n\na<|im_end|>"]
    off = renderer_for("qwen3", template_kwargs={"enable_thinking": False})
    assert answers(off, off.sequence(talk("q", "a"))) == ["a<|im_end|>"]
    assert off.tokenizer.decode(off.prompt(talk("q").messages)).endswith("assistant\n<think>\n\n</think>\n\n")
    last = renderer_for("qwen3", supervise="last_turn")
    row = talk("q", "<think>\nold\n</think>\n\na", "r", "<think>\nnew\n</think>\n\nb")
    sequence = last.sequence(row)
    assert "old" not in whole(last, sequence)
    assert answers(last, sequence) == ["<think>\nnew\n</think>\n\nb<|im_end|>"]


def test_a_generation_prompt_that_opens_the_thought():
    renderer = renderer_for(chat_template=THINK_OPEN)
    sequence = renderer.sequence(talk("q", "<think>\nso\n</think>\na"))
    assert answers(renderer, sequence) == ["so\n</think>\na<|im_end|>"]


def test_a_template_that_prints_today_gives_the_same_tokens_every_day():
    template = "{{ strftime_now('%d %b %Y') }}" + THINK_OPEN.replace("<think>\n", "")
    renderer = renderer_for(chat_template=template)
    assert renderer.tokenizer.decode(renderer.prompt(talk("q").messages)).startswith("26 Jul 2024<|im_start|>")


def test_plain_format():
    renderer = renderer_for(format="plain")
    sequence = renderer.sequence(talk("2+2=", " 4"))
    assert whole(renderer, sequence) == "<|bos|>2+2= 4<|im_end|>"
    assert answers(renderer, sequence) == [" 4<|im_end|>"]
    assert renderer.prompt(talk("2+2=").messages) == sequence.ids[:5].tolist()
    document = renderer.sequence(Conversation((Message("assistant", "once"),), "x", "f:1"))
    assert whole(renderer, document) == "<|bos|>once<|im_end|>"
    assert document.supervised.tolist() == [False] + [True] * 5


def test_plain_without_bos_does_not_supervise_the_first_token():
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = None
    renderer = Renderer(tokenizer, stop_ids(tokenizer), format="plain")
    sequence = renderer.sequence(Conversation((Message("assistant", "once"),), "x", "f:1"))
    assert sequence.supervised.tolist() == [False] + [True] * 4


def test_special_text_allowed_becomes_the_token():
    renderer = renderer_for(special_text="allow")
    assert renderer.tokenizer.pad_token_id in renderer.sequence(talk("a<|pad|>b", "c")).ids
    once = renderer_for(special_text="allow", format="plain")
    assert once.prompt(talk("<|bos|>q").messages) == [once.tokenizer.bos_token_id, ord("q")]


def test_a_chat_template_given_travels_with_the_tokenizer(tmp_path):
    file = tmp_path / "my.jinja"
    file.write_text(QWEN3, encoding="utf-8")
    assert renderer_for(chat_template=str(file)).tokenizer.chat_template == QWEN3
    tulu = renderer_for("olmo", chat_template="tulu")
    sequence = tulu.sequence(talk("q1", "a1", "q2", "a2"))
    assert whole(tulu, sequence) == "<|bos|><|user|>\nq1\n<|assistant|>\na1<|endoftext|>\n" + (
        "<|user|>\nq2\n<|assistant|>\na2<|endoftext|>"
    )
    assert answers(tulu, sequence) == ["a1<|endoftext|>", "a2<|endoftext|>"]


def test_fingerprint_follows_every_option_and_no_call():
    options = [
        {},
        {"max_length": 9},
        {"supervise": "last_turn"},
        {"overlong": "drop"},
        {"special_text": "allow"},
        {"special_text": "text"},
        {"format": "plain"},
        {"chat_template": "{{ messages }}"},
        {"template_kwargs": {"bos_token": ""}},
        {"vocab_size": 300},
    ]
    renderers = [renderer_for(**o) for o in options]
    assert len({r.fingerprint for r in renderers}) == len(options)
    before = renderers[0].fingerprint
    renderers[0].sequence(talk("q", "a"))
    renderers[0].tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert renderers[0].fingerprint == before == renderer_for().fingerprint


BPE = train_bpe(["the user asks 12 things\n\n and the assistant answers. "] * 20, 400)
RENDERERS = {
    "byte": renderer_for(),
    "bpe": Renderer(BPE, stop_ids(BPE)),
    "bpe last": Renderer(BPE, stop_ids(BPE), supervise="last_turn"),
    **{name: renderer_for(name) for name in ("qwen", "olmo")},
}
clean = st.text(max_size=30).filter(lambda s: "<" not in s)
filled = clean.filter(str.strip)


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=40, deadline=None)
@given(turns=st.lists(st.tuples(clean, filled), min_size=1, max_size=3), system=st.none() | clean)
def test_every_prompt_is_a_prefix_and_the_supervised_tokens_are_the_answers(name, turns, system):
    renderer = RENDERERS[name]
    conversation = talk(*[text for turn in turns for text in turn], system=system)
    sequences = renderer.sequences(conversation)
    end = renderer.tokenizer.eos_token
    every = renderer.supervise == "all_turns"
    expected = [answer + end for _, answer in (turns if every else turns[-1:])]
    assert [answer for sequence in sequences for answer in answers(renderer, sequence)] == expected
    for i, message in enumerate(conversation.messages):
        if message.role == "assistant" and (every or i == len(conversation.messages) - 1):
            prompt = renderer.prompt(conversation.messages[:i])
            assert any(
                sequence.ids[: len(prompt)].tolist() == prompt
                and sequence.supervised[len(prompt)]
                and not sequence.supervised[len(prompt) - 1]
                for sequence in sequences
                if len(sequence.ids) > len(prompt)
            )
