"""Rows with a better and a worse answer -> Preference.

Two layouts mean the same: ``prompt`` with the two answers (``chosen``, ``rejected``), and two whole conversations that
part somewhere. Ratings, rankings of more than two answers and separate unpaired answers are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..types import Message, Preference, UserError
from .adapters import row_id, text_or_list

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
    chosen, rejected = (_whole(row[name], name, given, origin) for name in ("chosen", "rejected"))
    if [(m.role, m.content) for m in chosen] == [(m.role, m.content) for m in rejected]:
        raise UserError(f"{origin}: chosen and rejected are the same, so neither is better. Remove the row.")
    shared = _shared(chosen, rejected)
    prompt = tuple(Message(m.role, m.content, False if m.role == "assistant" else m.train) for m in chosen[:shared])
    if not any(m.role == "user" for m in prompt):
        raise UserError(
            f"{origin}: the conversations share no user message, so the answers would be compared without a prompt. "
            f"Give {ACCEPTED}."
        )
    used = {"id", "prompt", "chosen", "rejected"}
    meta = {key: value for key, value in row.items() if key not in used}
    id = row_id(row.get("id"), [*chosen, *rejected], origin)
    return Preference(prompt, tuple(chosen[shared:]), tuple(rejected[shared:]), id, origin, meta)


def _whole(value: Any, name: str, prompt: list[Message], origin: str) -> list[Message]:
    """The conversation that an answer, or a conversation, makes with ``prompt``."""
    messages = text_or_list(value, name, "assistant", origin)
    if not messages or messages[-1].role != "assistant" or not messages[-1].content.strip():
        ends = f"{messages[-1].role}: {messages[-1].content[:40]!r}" if messages else "nothing"
        raise UserError(f"{origin}: '{name}' ends with {ends}; it must end with an assistant's answer.")
    if prompt and messages[0].role != "assistant":
        starts = [(m.role, m.content) for m in messages[: len(prompt)]]
        if starts != [(m.role, m.content) for m in prompt]:
            raise UserError(
                f"{origin}: '{name}' is a whole conversation that does not begin with the row's 'prompt'. Remove the "
                "prompt, or give only the answer."
            )
        return messages
    return [*prompt, *messages]


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Messages of the prompt: the common start, back to where an assistant is to speak."""
    same = 0
    for a, b in zip(chosen, rejected, strict=False):
        if (a.role, a.content) != (b.role, b.content):
            break
        same += 1
    while same and (chosen[same - 1].role == "assistant" or same in (len(chosen), len(rejected))):
        same -= 1
    return same
