"""Rows of the common chat layouts -> Conversation, for data that belongs to no task.

Three layouts: ``messages`` (role, content), ``prompt`` + ``completion``, ShareGPT's ``conversations`` (from, value).
What a chat template can read of a row is passed to it: tools, tool calls, thoughts, names, its own variables. What
could change the text but is not known here is refused by name rather than lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from ..types import Conversation, Message, UserError
from .messages import ROLES, SHAREGPT_ROLES, continued, messages_of, quoted, variables_of

__all__ = ["ROLES", "SHAREGPT_ROLES", "check_unique_ids", "conversation", "opened", "row_id", "text_or_list"]

_ACCEPTED = (
    "'messages' (list of {role, content}), 'prompt' with 'completion', or 'conversations' (list of {from, value})"
)


class _Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def origin(self) -> str: ...


def conversation(row: Mapping[str, Any], origin: str) -> Conversation:
    """A row as a conversation. Its id is the row's ``id``, else a hash of what it says; other columns go to ``meta``.

    With several layouts in one row, ``messages`` wins, then ``conversations``. In ``prompt`` + ``completion``, an
    assistant message of the prompt is context and is not trained; the completion goes on where the prompt ends in one.
    ``system`` is a system message, ``tools`` and ``chat_template_kwargs`` are variables of the chat template.

    Raises:
        UserError: unknown layout, or a conversation with nothing (or nothing sensible) to learn; names the field.
    """
    if "messages" in row:
        used, messages = {"messages"}, messages_of(row["messages"], "messages", origin)
    elif "conversations" in row:
        used, messages = {"conversations"}, messages_of(row["conversations"], "conversations", origin, sharegpt=True)
    elif "prompt" in row and "completion" in row:
        used = {"prompt", "completion"}
        context = text_or_list(row["prompt"], "prompt", "user", origin)
        context = [replace(m, train=m.train or False) if m.role == "assistant" else m for m in context]
        messages = continued(context, text_or_list(row["completion"], "completion", "assistant", origin), origin)
    else:
        raise UserError(f"{origin}: the columns are {sorted(map(str, row))}, but one of these is needed: {_ACCEPTED}.")
    messages, variables, meta = opened(row, messages, used, origin)
    _check(messages, origin)
    return Conversation(tuple(messages), row_id(row.get("id"), messages, origin, variables), origin, meta, variables)


def opened(
    row: Mapping[str, Any], messages: list[Message], used: set[str], origin: str
) -> tuple[list[Message], dict[str, Any], dict[str, Any]]:
    """The messages after the row's ``system`` text, its variables for the chat template, and the other columns."""
    system, variables, known = variables_of(row, origin)
    if system and messages and messages[0].role == "system":
        if messages[0].content != system:
            raise UserError(
                f"{origin}: 'system' is {quoted(system)}, but the messages begin with another system text. Keep one."
            )
    elif system:
        messages = [Message("system", system), *messages]
    meta = {key: value for key, value in row.items() if key not in used | known | {"id"}}
    return messages, variables, meta


def check_unique_ids(items: Iterable[_Named]) -> None:
    """Refuses two items (conversations, records, sequences) of one id, naming where both are from."""
    seen: dict[str, str] = {}
    for item in items:
        if item.id in seen:
            raise UserError(
                f"{item.origin}: the id {item.id!r} was given before, at {seen[item.id]}. Give each row its own id "
                "(without an id column it is made from the content: the rows are then the same, remove one)."
            )
        seen[item.id] = item.origin


def text_or_list(value: Any, name: str, role: str, origin: str) -> list[Message]:
    """A text as one message of ``role``, or a list of messages; ``name`` is the field in errors."""
    return [Message(role, value)] if isinstance(value, str) else messages_of(value, name, origin)


def _check(messages: list[Message], origin: str) -> None:
    """Refuses what no chat template could make sense of."""
    roles = [m.role for m in messages]
    if not messages:
        raise UserError(f"{origin}: the conversation has no messages. Remove the row.")
    if "assistant" not in roles:
        raise UserError(f"{origin}: no message has the role assistant (roles: {roles}), so there is nothing to learn.")
    if "user" not in roles[: roles.index("assistant")]:
        raise UserError(f"{origin}: an assistant message comes before any user message (roles: {roles}). Remove it.")
    for i, message in enumerate(messages):
        said = message.content[message.prefill :].strip() or message.fields.get("tool_calls")
        if message.role == "assistant" and message.train is not False and not said:
            raise UserError(f"{origin}: message {i} (assistant) is empty: {message.content!r}. Remove the row.")


def row_id(value: Any, messages: list[Message], origin: str, variables: Mapping[str, Any] | None = None) -> str:
    """A row's id as text; without one, a hash of its messages and variables."""
    if value is None:
        said: list[Any] = [[m.role, m.content, m.train] for m in messages]
        more = [[i, m.fields, m.prefill] for i, m in enumerate(messages) if m.fields or m.prefill]
        text = json.dumps([*said, more, variables] if more or variables else said, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise UserError(f"{origin}: 'id' is {quoted(value)}. It must be a string or a whole number.")
    return str(value)
