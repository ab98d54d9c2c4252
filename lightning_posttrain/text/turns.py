"""One answer of a conversation -> the text that a sampler would be given before it, and the text that it has to say.

The chat template is asked for the text before and after the answer. Where a generation prompt says something that a
finished turn does not (an opened thought), the answer continues it, or is trained as finished turns are written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace

from ..types import Message, UserError
from . import held
from .chat_text import ChatText
from .control import MARKER

PROBE = "\ufdd1answer\ufdd1"
"""Stands for an answer where the text around it is asked for."""

CHANNEL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>(\w+)[^<]*(?:<\|constrain\|>\w*)?<\|message\|>")

OPENED = (
    "the generation prompt ends in {!r}, which answers do not continue: they are trained as the template writes "
    "finished turns, without it; begin them with it, or set a `chat_template` without it, to train what a sampler is "
    "asked for"
)
UNLIKE = (
    "the chat template writes another text before these answers than its generation prompt (they follow another "
    "answer, perhaps): they are trained as it writes finished turns, which is not what a sampler is asked for"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer as text: what comes before it, itself with what ends it, and what a reader should know (``notes``)."""

    context: str
    answer: str
    notes: tuple[str, ...] = ()


def prompt_text(chat: ChatText, messages: Items[Message]) -> str:
    """What a sampler continues: ``messages`` with the generation prompt, or up to the end of an assistant's content.

    Raises:
        UserError: the template refuses the messages, or drops what they say.
    """
    if not messages or messages[-1].role != "assistant":
        text = chat(messages, True)
    else:
        begun = replace(messages[-1], content=messages[-1].content + PROBE)
        text = _around(chat, messages[:-1], begun)[0]
        if held.missing(messages[-1], "", text):
            raise held.dropped(len(messages) - 1, messages[-1], "content", messages[-1].content)
    held.check_context(messages, text, chat.tools)
    return text


def answer_turn(chat: ChatText, messages: Items[Message], index: int) -> Turn:
    """The answer ``messages[index]``.

    Raises:
        UserError: the template drops part of it, or writes it in a way that no sampler could have.
    """
    message, before = messages[index], messages[:index]
    whole = chat(messages[: index + 1], False)
    if message.prefill:
        return _prefilled(message, index, whole)
    prompt = chat(before, True)
    if whole.startswith(prompt):
        answer = whole[len(prompt) :]
        if not held.missing(message, prompt, answer):
            return Turn(prompt, answer, _added(message, answer))
    return _after_opening(chat, before, message, prompt, whole)


def _prefilled(message: Message, index: int, whole: str) -> Turn:
    content, given = message.content, message.prefill
    if content not in whole:  # trimmed, perhaps
        given -= len(content) - len(content.lstrip())
        content = content.strip()
    at = whole.rfind(content)
    if at < 0:
        raise held.dropped(index, message, "content", content)
    return Turn(whole[: at + given], whole[at + given :])


def _after_opening(chat: ChatText, before: Items[Message], message: Message, prompt: str, whole: str) -> Turn:
    """The answer where the generation prompt and a finished turn differ."""
    opening, ending = _around(chat, before, Message("assistant", PROBE))
    said = prompt[_same(prompt, opening) :]
    content = message.content.lstrip()
    begun = held.overlap(prompt.rstrip(), content)
    if said and begun >= max(1, len(said.rstrip())) and not message.fields:
        rest = content[begun:].removeprefix(prompt[len(prompt.rstrip()) :])
        return Turn(prompt, rest + ending)
    missing = held.missing(message, opening, whole[len(opening) :] if whole.startswith(opening) else whole)
    if missing:
        raise held.dropped(len(before), message, *missing)
    if not whole.startswith(opening) or (said and MARKER.match(content)):  # it thinks, but not as the prompt began
        at = _same(whole, prompt)
        raise UserError(
            f"message {len(before)} does not continue its generation prompt: the chat template writes "
            f"{held.short(whole[at:])} where a sampler is given {held.short(prompt[at:])}. Begin the answer as the "
            "prompt ends, choose another prompt with `template_kwargs` (for example {enable_thinking: true}), or set "
            "another `chat_template`."
        )
    note = OPENED.format(said) if prompt.startswith(opening) else UNLIKE
    return Turn(opening, whole[len(opening) :], (note, *_added(message, whole[len(opening) :])))


def reply(chat: ChatText, before: Items[Message], text: str) -> Message:
    """The message that a sampled ``text`` is, for the turns after it: with what the generation prompt opened for it.

    A harmony text is taken apart, because its template wants thoughts and answer apart.
    """
    if "<|channel|>" in text:
        parts = CHANNEL.split(text.replace("<|end|>", ""))
        said = {"thinking": "", "content": ""}
        for channel, part in zip(parts[1::2], parts[2::2], strict=True):
            said["thinking" if channel == "analysis" else "content"] += part
        fields = {"reasoning_content": said["thinking"]} if said["thinking"] else {}
        return Message("assistant", said["content"], fields=fields)
    prompt, opening = chat(before, True), _around(chat, before, Message("assistant", PROBE))[0]
    return Message("assistant", (prompt[len(opening) :] if prompt.startswith(opening) else "") + text)


def _around(chat: ChatText, before: Items[Message], probe: Message) -> tuple[str, str]:
    """The text before and after `PROBE` in a finished turn."""
    opening, found, ending = chat((*before, probe), False).partition(PROBE)
    if not found:
        raise UserError(
            f"message {len(before)}: the chat template does not print an assistant's content. Set another "
            "`chat_template`."
        )
    return opening, ending


def _same(a: str, b: str) -> int:
    """Characters that both begin with."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _added(message: Message, answer: str) -> tuple[str, ...]:
    """A note on what the template puts before the content of an answer, if anything."""
    if message.fields:
        return ()
    before, found, _ = answer.partition(message.content.strip())
    added = before.strip() if found else ""
    note = f"the chat template begins answers with {added!r}, which is trained though no row says it"
    return (note,) if added else ()
