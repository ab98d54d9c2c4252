"""Published chat formats, every kind of conversation: ids as the tokenizers make them, masks as the texts say."""

import json
import re

import numpy as np
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lightning_posttrain.records.adapters import conversation
from lightning_posttrain.text.render import Renderer
from lightning_posttrain.text.tokenizer import stop_ids
from lightning_posttrain.types import Message, UserError

from .chats import FORMATS, ROWS, speak
from .refused import REFUSED

DATES = {"strftime_now('%d %b %Y')": "'26 Jul 2024'", "strftime_now('%Y-%m-%d')": "'2024-07-26'"}


@pytest.fixture(scope="module")
def renderers(real_tokenizer):
    """Renderers of the formats by name, made once."""
    made = {}

    def get(name):
        if name not in made:
            found = FORMATS[name]
            tokenizer = speak(found, lambda published: real_tokenizer(published).name_or_path)
            stops = [found.end, *(["<|call|>"] if "harmony" in name else [])]
            made[name] = Renderer(tokenizer, stop_ids(tokenizer, extra=stops))
        return made[name]

    return get


def row_of(kind, end):
    return json.loads(json.dumps(ROWS[kind]).replace("{end}", json.dumps(end)[1:-1]))


class Reference:
    """What the tokenizer and the jinja text alone make of a conversation; nothing of the library is used."""

    def __init__(self, tokenizer, end, row):
        self.tokenizer, self.end = tokenizer, end
        self.template = tokenizer.chat_template
        for call, date in DATES.items():
            self.template = self.template.replace(call, date)
        self.row = row
        self.variables = dict(row.get("chat_template_kwargs", {}))
        if "tools" in row:
            self.variables["tools"] = row["tools"]

    def text(self, messages, prompt):
        messages = [self._as_given(m) for m in messages]
        if "｜tool▁calls▁begin｜" in self.template:  # DeepSeek's tell a call by its missing content
            return self._by_jinja(messages, prompt)
        return self.tokenizer.apply_chat_template(
            messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt, **self.variables
        )

    def _as_given(self, message):
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "".join(part["text"] for part in content)
        message = {**{k: v for k, v in message.items() if k not in ("train", "weight")}, "content": content}
        for call in message.get("tool_calls", []):
            if isinstance(call["function"]["arguments"], str):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        return message

    def _by_jinja(self, messages, prompt):
        """DeepSeek's templates: arguments are JSON text, and a tool call has no content."""
        messages = json.loads(json.dumps(messages))
        for message in messages:
            for call in message.get("tool_calls", []):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
                message["content"] = message["content"] or None
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(self.template)
        return template.render(
            messages=messages, add_generation_prompt=prompt, bos_token=self.tokenizer.bos_token, **self.variables
        )

    def turns(self):
        """Per trained answer: the text up to its end, where its supervised part begins, and what ends it."""
        messages, trained, given = self._messages()
        for index in trained:
            prompt, whole = self.text(messages[:index], True), self.text(messages[: index + 1], False)
            content = messages[index].get("content") or ""
            start = len(prompt)
            if given:
                start = whole.rfind(content) + given
            elif not whole.startswith(prompt) or content.strip() not in prompt[-9:] + whole[start:]:
                opened = "<think>\n" if prompt.endswith("<think>\n") else "<think>"
                if content.startswith(opened) and prompt.endswith(opened):
                    whole = prompt + content[len(opened) :] + self.end
                else:
                    start = whole.rindex(content or "<｜tool▁calls▁begin｜>")
            ends = [at + len(e) for e in (self.end, "<|call|>") if (at := whole.find(e, start)) >= 0]
            yield whole[: min(ends)], start

    def _messages(self):
        row = self.row
        if "messages" in row:
            messages = row["messages"]
            trained = [
                i
                for i, m in enumerate(messages)
                if m["role"] == "assistant" and m.get("train") is not False and m.get("weight") != 0
            ]
            given = 0
        else:
            prompt = [{"role": "user", "content": row["prompt"]}] if isinstance(row["prompt"], str) else row["prompt"]
            given = len(prompt[-1]["content"]) if prompt[-1]["role"] == "assistant" else 0
            answer = (prompt[-1]["content"] if given else "") + row["completion"]
            messages = [*(prompt[:-1] if given else prompt), {"role": "assistant", "content": answer}]
            trained = [len(messages) - 1]
        if row.get("system"):
            messages, trained = [{"role": "system", "content": row["system"]}, *messages], [i + 1 for i in trained]
        return messages, trained, given


def expected_refusal(name, kind):
    found = FORMATS[name]
    if kind == "a marker in a question" and found.tokenizer == "smollm2":
        return None  # no token of this tokenizer
    return next((why for family, kinds, why in REFUSED if family in (found.family, "*") and kind in kinds), None)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_conversation(renderers, name, kind):
    renderer, end = renderers(name), FORMATS[name].end
    row = row_of(kind, end)
    refusal = expected_refusal(name, kind)
    if refusal is not None:
        with pytest.raises(UserError, match=f"f:1: .*{refusal}"):
            renderer.sequences(conversation(row, "f:1"))
        return
    sequences = renderer.sequences(conversation(row, "f:1"))
    turns = list(Reference(renderer.tokenizer, end, row).turns())
    rows = in_rows(turns)
    if any(splits_a_token(renderer.tokenizer, *turn) for turn in turns):
        # an answer's first letters would be one token with the prompt's last ones: a sampler cannot draw that
        check_texts(renderer.tokenizer, sequences, turns)
        return
    assert len(sequences) == len(rows)
    for sequence, parts in zip(sequences, rows, strict=True):
        encoded = renderer.tokenizer(parts[-1][0], add_special_tokens=False, return_offsets_mapping=True)
        offsets = np.array(encoded["offset_mapping"])
        assert sequence.ids.tolist() == encoded["input_ids"]
        mask = np.zeros(len(offsets), bool)
        for text, start in parts:
            mask |= (offsets[:, 0] >= start) & (offsets[:, 1] <= len(text))
        assert sequence.supervised.tolist() == mask.tolist()


def in_rows(turns):
    """Answers of which each text begins with the one before it, together."""
    rows = []
    for text, start in turns:
        if rows and text[:start].startswith(rows[-1][-1][0]):
            rows[-1].append((text, start))
        else:
            rows.append([(text, start)])
    return rows


def splits_a_token(tokenizer, text, start):
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return all(begin != start for begin, _ in offsets)


def check_texts(tokenizer, sequences, turns):
    """The answers are supervised, and before each stands what a sampler gets: its context, encoded alone."""
    answers = {text[start:] for text, start in turns}
    contexts = {tuple(tokenizer(text[:start], add_special_tokens=False)["input_ids"]) for text, start in turns}
    found, before = set(), set()
    for sequence in sequences:
        edges = np.flatnonzero(np.diff(np.r_[False, sequence.supervised, False].astype(int)))
        for begin, stop in edges.reshape(-1, 2):
            found.add(tokenizer.decode(sequence.ids[begin:stop], clean_up_tokenization_spaces=False))
            before.add(tuple(sequence.ids[:begin].tolist()))
    assert found == answers
    assert before == contexts


def test_the_matrix_is_as_large_as_it_says():
    assert len(FORMATS) >= 21
    assert len(ROWS) >= 36
    used = {kind for _, kinds, _ in REFUSED for kind in kinds}
    assert used <= set(ROWS)
    assert {family for family, _, _ in REFUSED} <= {f.family for f in FORMATS.values()} | {"*"}
    assert all(re.compile(reason) for _, _, reason in REFUSED)


@pytest.mark.parametrize("name", ["smollm2", "qwen3", "llama3_1", "gemma3", "deepseek_v3"])
def test_special_text_as_text_is_what_the_tokenizer_itself_makes_of_it(real_tokenizer, name):
    tokenizer = real_tokenizer(name)
    special = sorted(t for t in tokenizer.all_special_tokens if t.startswith("<"))[0]
    question = f"What does {special} do in `cp {special} x`?"
    as_text = tokenizer(question, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    with pytest.raises(UserError, match=f"contains the special token '{re.escape(special)}'"):
        Renderer(tokenizer, stop_ids(tokenizer)).prompt((Message("user", question),))
    ids = Renderer(tokenizer, stop_ids(tokenizer), special_text="text").prompt((Message("user", question),))
    length = len(as_text)
    assert any(ids[at : at + length] == as_text for at in range(len(ids)))


@pytest.mark.parametrize("marker", ["</think>", "<tool_call>", "<tool_response>"])
def test_a_marker_in_a_question_is_no_token(real_tokenizer, marker):
    tokenizer = real_tokenizer("qwen3")
    question = (Message("user", f"Explain {marker} please"),)
    with pytest.raises(UserError, match=f"contains the special token '{marker}'"):
        Renderer(tokenizer, stop_ids(tokenizer)).prompt(question)
    ids = Renderer(tokenizer, stop_ids(tokenizer), special_text="text").prompt(question)
    assert tokenizer.get_vocab()[marker] not in ids
    assert f"Explain {marker} please" in tokenizer.decode(ids)


def test_runs_of_spaces_and_html_of_gemma_are_text(real_tokenizer):
    """They are added tokens that are not special, and steer nothing."""
    tokenizer = real_tokenizer("gemma3")
    question = "<table>\n\n      <td>1</td>"
    ids = Renderer(tokenizer, stop_ids(tokenizer)).prompt((Message("user", question),))
    messages = [{"role": "user", "content": question}]
    assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
