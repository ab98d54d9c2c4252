"""Objects of a row -> messages and variables of the chat template; a field that nobody knows is refused, never lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..types import Message, UserError

ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", **{role: role for role in ROLES}}
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Names under which data has an assistant's thoughts apart from its content; the first is used here."""
TEXT_FIELDS = (*THOUGHTS, "name", "tool_call_id")
LOST_COLUMNS = ("functions", "function_call", "documents", "image", "images", "audio", "audios", "video", "videos")
"""Columns that a model should see and that are not passed on here."""


def messages_of(value: Any, name: str, origin: str, sharegpt: bool = False) -> list[Message]:
    """A list of objects as messages; ``name`` is the field in errors.

    Raises:
        UserError: it is no list of messages; names the place, the value and what is expected.
    """
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{origin}: '{name}' is {quoted(value)}. It must be a list of messages.")
    return [_message(item, f"{name}[{i}]", origin, sharegpt) for i, item in enumerate(value)]


def continued(context: list[Message], answer: list[Message], origin: str) -> list[Message]:
    """``answer`` after ``context``; where that ends in an assistant's message, the answer goes on in the same turn."""
    if not (context and answer and context[-1].role == answer[0].role == "assistant"):
        return context + answer
    given, first = context[-1], answer[0]
    if given.fields:
        raise UserError(
            f"{origin}: the prompt ends in an assistant message with {', '.join(given.fields)}, which the answer would "
            "go on in. End the prompt with a user or tool message."
        )
    whole = replace(first, content=given.content + first.content, prefill=len(given.content))
    return [*context[:-1], whole, *answer[1:]]


def variables_of(row: Mapping[str, Any], origin: str) -> tuple[str, dict[str, Any], set[str]]:
    """A row's system text, its variables for the chat template, and the columns that they are in.

    Raises:
        UserError: a column has another form, or would be lost.
    """
    lost = [name for name in LOST_COLUMNS if not _nothing(row.get(name))]
    if lost:
        raise UserError(
            f"{origin}: the row has {lost}, which no message shows. Write it into the messages, or remove it."
        )
    system = row.get("system")
    if not (system is None or isinstance(system, str)):
        raise UserError(f"{origin}: 'system' is {quoted(system)}. It must be a string.")
    variables = _decoded(row.get("chat_template_kwargs"))
    if not (_nothing(variables) or isinstance(variables, Mapping)):
        raise UserError(f"{origin}: 'chat_template_kwargs' is {quoted(variables)}. It must be an object.")
    found = {name: value for name, value in (variables or {}).items() if value is not None}
    tools = _decoded(row.get("tools"))
    if not _nothing(tools):
        if not isinstance(tools, (list, tuple)) or not all(isinstance(tool, Mapping) for tool in tools):
            raise UserError(f"{origin}: 'tools' is {quoted(tools)}. It must be a list of objects (JSON schemas).")
        found["tools"] = [dict(tool) for tool in tools]
    return system or "", found, {"system", "tools", "chat_template_kwargs"}


def quoted(value: Any) -> str:
    return f"{f'{value!r:.60}'} ({type(value).__name__})"


def _message(item: Any, name: str, origin: str, sharegpt: bool) -> Message:
    role_key, content_key = ("from", "value") if sharegpt else ("role", "content")
    if not isinstance(item, Mapping):
        raise UserError(f"{origin}: {name} is {quoted(item)}. It must be an object with {role_key} and {content_key}.")
    roles = SHAREGPT_ROLES if sharegpt else {role: role for role in ROLES}
    role = item.get(role_key)
    if not isinstance(role, str) or role not in roles:
        raise UserError(f"{origin}: {name}.{role_key} is {quoted(role)}. Known roles: {', '.join(roles)}.")
    fields = _fields(item, (role_key, content_key, "train", "weight"), name, origin)
    assistant = roles[role] == "assistant"
    misplaced = [field for field in ("reasoning_content", "tool_calls") if field in fields and not assistant]
    if misplaced:
        raise UserError(f"{origin}: {name} has {misplaced}, but its role is {role!r}. Only an assistant has those.")
    if item.get(content_key) is None and fields.get("tool_calls"):
        content = ""
    else:
        content = _content(item.get(content_key), f"{name}.{content_key}", origin)
    train = item.get("train") if item.get("train") is not None else item.get("weight")
    if train is not None and train not in (0, 1):
        raise UserError(f"{origin}: {name}.train (or weight) is {quoted(train)}. Use true or false, 1 or 0.")
    return Message(roles[role], content, None if train is None else bool(train), fields)


def _fields(item: Mapping[str, Any], known: tuple[str, ...], name: str, origin: str) -> dict[str, Any]:
    """What a chat template may read besides role and content."""
    given = {str(key): value for key, value in item.items() if key not in known and not _nothing(value)}
    unknown = [key for key in given if key not in (*TEXT_FIELDS, "tool_calls")]
    if unknown:
        raise UserError(
            f"{origin}: {name} has {unknown}, which would be lost: no chat template is given it. Write it into the "
            "content as text, or remove it."
        )
    for key in TEXT_FIELDS:
        if key in given and not isinstance(given[key], str):
            raise UserError(f"{origin}: {name}.{key} is {quoted(given[key])}. It must be a string.")
    thoughts = {key: given.pop(key) for key in THOUGHTS if key in given}
    if len(set(thoughts.values())) > 1:
        raise UserError(f"{origin}: {name} has {list(thoughts)}, which differ. Keep one.")
    calls = _decoded(given.get("tool_calls"))
    if calls is not None:
        if not isinstance(calls, (list, tuple)) or not all(map(_is_call, calls)):
            raise UserError(
                f"{origin}: {name}.tool_calls is {quoted(calls)}. It must be a list of objects "
                "{function: {name, arguments}}."
            )
        given["tool_calls"] = list(calls)
    return {**given, **({THOUGHTS[0]: next(iter(thoughts.values()))} if thoughts else {})}


def _is_call(call: Any) -> bool:
    if not isinstance(call, Mapping):
        return False
    function = call.get("function", call)
    return isinstance(function, Mapping) and isinstance(function.get("name"), str)


def _content(value: Any, name: str, origin: str) -> str:
    """A text, or a list of parts of type text, joined."""
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)) or not value:
        raise UserError(f"{origin}: {name} is {quoted(value)}. It must be a string, or a list of parts of type text.")
    for i, part in enumerate(value):
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise UserError(
                f"{origin}: {name}[{i}] is {quoted(part)}. Only parts {{type: text, text: ...}} can be trained on."
            )
    return "".join(part["text"] for part in value)


def _nothing(value: Any) -> bool:
    """A missing value: tables fill columns with nulls, and so do their rows' objects."""
    return value is None or (isinstance(value, (str, list, tuple, dict)) and not value)


def _decoded(value: Any) -> Any:
    """Columns of tables often hold lists and objects as JSON text."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
