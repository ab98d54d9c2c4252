"""Rows with a better and a worse answer -> Preference.

Two layouts mean the same: ``prompt`` with the two answers (``chosen``, ``rejected``), and two whole conversations that
part somewhere. Ratings, rankings of more than two answers and separate unpaired answers are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..types import Message, Preference, UserError
from .adapters import opened, row_id, text_or_list
from .messages import continued

ACCEPTED = (
    "'prompt', 'chosen' and 'rejected' (text or lists of {role, content}), or 'chosen' and 'rejected' as whole "
    "conversations"
)


def preference(row: Mapping[str, Any], origin: str) -> Preference:
    """A row as a preference. Its id is the row's ``id``, else a hash of its messages; other columns go to ``meta``.

    What both conversations start with is the prompt, up to the last message that is not an assistant's. Where a row
    gives a prompt and whole conversations too, the conversations have to begin with that prompt.

    Raises:
        UserError: a column is missing or no conversation, the answers are the same, or an answer has no prompt (it
            would be trained without one); names the field.
    """
    for name in ("chosen", "rejected"):
        if name not in row:
            raise UserError(f"{origin}: '{name}' is missing from {sorted(map(str, row))}; a pair needs {ACCEPTED}.")
    given = text_or_list(row["prompt"], "prompt", "user", origin) if row.get("prompt") else []
    used = {"prompt", "chosen", "rejected"}
    (chosen, variables, meta), (rejected, *_) = (
        opened(row, _whole(row[name], name, given, origin), used, origin) for name in ("chosen", "rejected")
    )
    if _said(chosen) == _said(rejected):
        raise UserError(f"{origin}: chosen and rejected are the same, so neither is better. Remove the row.")
    shared = _shared(chosen, rejected)
    prompt = tuple(replace(m, train=False if m.role == "assistant" else m.train) for m in chosen[:shared])
    if not any(m.role == "user" for m in prompt):
        raise UserError(
            f"{origin}: the conversations share no user message, so the answers would be compared without a prompt. "
            f"Give {ACCEPTED}."
        )
    id = row_id(row.get("id"), [*chosen, *rejected], origin, variables)
    return Preference(prompt, tuple(chosen[shared:]), tuple(rejected[shared:]), id, origin, meta, variables)


def _said(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    """What has to be equal for messages to be the same, whatever is trained of them."""
    return [(m.role, m.content, m.fields) for m in messages]


def _whole(value: Any, name: str, prompt: list[Message], origin: str) -> list[Message]:
    """The conversation that an answer, or a conversation, makes with ``prompt``."""
    messages = text_or_list(value, name, "assistant", origin)
    if not messages or messages[-1].role != "assistant" or not _says(messages[-1]):
        ends = f"{messages[-1].role}: {messages[-1].content[:40]!r}" if messages else "nothing"
        raise UserError(f"{origin}: '{name}' ends with {ends}; it must end with an assistant's answer.")
    if prompt and messages[0].role != "assistant":
        if _said(messages[: len(prompt)]) != _said(prompt):
            raise UserError(
                f"{origin}: '{name}' is a whole conversation that does not begin with the row's 'prompt'. Remove the "
                "prompt, or give only the answer."
            )
        return messages
    return continued(prompt, messages, origin)


def _says(message: Message) -> bool:
    return bool(message.content.strip() or message.fields.get("tool_calls"))


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Messages of the prompt: the common start, back to where an assistant is to speak."""
    same = 0
    for a, b in zip(chosen, rejected, strict=False):
        if _said([a]) != _said([b]):
            break
        same += 1
    while same and (chosen[same - 1].role == "assistant" or same in (len(chosen), len(rejected))):
        same -= 1
    return same
