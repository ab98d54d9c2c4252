"""Rows of the common chat layouts -> Conversation, for data that belongs to no task.

Three layouts: ``messages`` (role, content), ``prompt`` + ``completion``, ShareGPT's ``conversations`` (from, value).
Tool calls and separate reasoning fields are refused rather than lost: put what should be seen into the content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..types import Conversation, Message, UserError

ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", **{role: role for role in ROLES}}
_LOST = ("tool_calls", "function_call", "reasoning_content", "thinking")
_ACCEPTED = (
    "'messages' (list of {role, content}), 'prompt' with 'completion', or 'conversations' (list of {from, value})"
)


class _Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def origin(self) -> str: ...


def conversation(row: Mapping[str, Any], origin: str) -> Conversation:
    """A row as a conversation. Its id is the row's ``id``, else a hash of the messages; other columns go to ``meta``.

    With several layouts in one row, ``messages`` wins, then ``conversations``. In ``prompt`` + ``completion``, an
    assistant message of the prompt is context and is not trained.

    Raises:
        UserError: unknown layout, or a conversation with nothing (or nothing sensible) to learn; names the field.
    """
    if "messages" in row:
        used, messages = {"messages"}, _list(row["messages"], "messages", origin)
    elif "conversations" in row:
        used, messages = {"conversations"}, _list(row["conversations"], "conversations", origin, sharegpt=True)
    elif "prompt" in row and "completion" in row:
        used = {"prompt", "completion"}
        context = text_or_list(row["prompt"], "prompt", "user", origin)
        context = [Message(m.role, m.content, m.train or False) if m.role == "assistant" else m for m in context]
        messages = context + text_or_list(row["completion"], "completion", "assistant", origin)
    else:
        raise UserError(f"{origin}: the columns are {sorted(map(str, row))}, but one of these is needed: {_ACCEPTED}.")
    _check(messages, origin)
    meta = {key: value for key, value in row.items() if key not in used and key != "id"}
    return Conversation(tuple(messages), row_id(row.get("id"), messages, origin), origin, meta)


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
    return [Message(role, value)] if isinstance(value, str) else _list(value, name, origin)


def _list(value: Any, name: str, origin: str, sharegpt: bool = False) -> list[Message]:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{origin}: '{name}' is {_short(value)}. It must be a list of messages.")
    return [_message(item, f"{name}[{i}]", origin, sharegpt) for i, item in enumerate(value)]


def _message(item: Any, name: str, origin: str, sharegpt: bool) -> Message:
    role_key, content_key = ("from", "value") if sharegpt else ("role", "content")
    if not isinstance(item, Mapping):
        raise UserError(f"{origin}: {name} is {_short(item)}. It must be an object with {role_key} and {content_key}.")
    roles = SHAREGPT_ROLES if sharegpt else {role: role for role in ROLES}
    role, content = item.get(role_key), item.get(content_key)
    if not isinstance(role, str) or role not in roles:
        raise UserError(f"{origin}: {name}.{role_key} is {_short(role)}. Known roles: {', '.join(roles)}.")
    lost = [key for key in _LOST if item.get(key)]
    if lost:
        raise UserError(f"{origin}: {name} has {lost}, which would be lost. Write it into {content_key} as text.")
    if not isinstance(content, str):
        raise UserError(f"{origin}: {name}.{content_key} is {_short(content)}. It must be a string.")
    train = item.get("train") if item.get("train") is not None else item.get("weight")
    if train is not None and train not in (0, 1):
        raise UserError(f"{origin}: {name}.train (or weight) is {_short(train)}. Use true or false, 1 or 0.")
    return Message(roles[role], content, None if train is None else bool(train))


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
        if message.role == "assistant" and message.train is not False and not message.content.strip():
            raise UserError(f"{origin}: message {i} (assistant) is empty: {message.content!r}. Remove the row.")


def row_id(value: Any, messages: list[Message], origin: str) -> str:
    """A row's id as text; without one, a hash of its messages."""
    if value is None:
        text = json.dumps([[m.role, m.content, m.train] for m in messages])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise UserError(f"{origin}: 'id' is {_short(value)}. It must be a string or a whole number.")
    return str(value)


def _short(value: Any) -> str:
    text = f"{value!r:.60}"
    return f"{text} ({type(value).__name__})"
