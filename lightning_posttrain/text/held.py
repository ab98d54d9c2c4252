"""Whether a rendered text holds what the row says: a chat template drops what it does not know without a word.

Templates may trim, indent and escape, so texts are compared without white space and as JSON, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from typing import Any

from ..types import Message, UserError
from .control import texts_in, unmarked


def short(value: object, most: int = 60) -> str:
    """``repr`` for a message, cut in the middle."""
    text = repr(unmarked(value) if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-(most // 2) :]}"


def squeezed(text: str) -> str:
    return "".join(text.split())


def holds(text: str, part: str) -> bool:
    """Whether the squeezed ``text`` holds ``part``, as it is or as JSON writes it."""
    as_json = (json.dumps(part, ensure_ascii=ascii)[1:-1] for ascii in (False, True))
    return squeezed(part) in text or any(squeezed(variant) in text for variant in as_json)


def check_calls(messages: Iterable[Message], text: str) -> None:
    """All tool calls are in ``text``.

    Raises:
        UserError: naming the message.
    """
    squeezed_text = squeezed(text)
    for i, message in enumerate(messages):
        for call in call_texts(message):
            if not holds(squeezed_text, call):
                raise dropped(i, message, "tool_calls", call)


def check_context(messages: Items[Message], text: str, tools: Any) -> None:
    """The tools, and all messages but the assistant's, are in ``text``; earlier answers are the template's business.

    Raises:
        UserError: naming the message or the tool.
    """
    whole = squeezed(text)
    for tool in tools or ():
        name = _function(tool).get("name") if isinstance(tool, Mapping) else None
        if not isinstance(name, str) or not holds(whole, name):
            raise UserError(
                f"the chat template does not show the tool {short(name or tool)}: the model would not know of it. Set "
                "a `chat_template` that prints `tools`, or remove them from the row."
            )
    for i, message in enumerate(messages):
        if message.role != "assistant" and not holds(whole, message.content):
            raise dropped(i, message, "content", message.content)
        name = message.fields.get("name")
        if isinstance(name, str) and message.role != "tool" and not holds(whole, name):
            raise dropped(i, message, "name", name)


def missing(message: Message, prompt: str, answer: str) -> tuple[str, str] | None:
    """The first field of an assistant's message that ``answer`` does not hold, and its value.

    Its content may begin in the generation prompt, which may open the thought.
    """
    text = squeezed(answer)
    content = squeezed(message.content)
    if content not in text and not text.startswith(content[overlap(squeezed(prompt), content) :] or "\0"):
        return "content", message.content
    for field in ("reasoning_content", "name"):
        value = message.fields.get(field)
        if isinstance(value, str) and not holds(text, value):
            return field, value
    return next((("tool_calls", call) for call in call_texts(message) if not holds(text, call)), None)


def dropped(index: int, message: Message, field: str, value: str) -> UserError:
    remedy = {
        "content": "Use a `chat_template` that prints it, or change the row.",
        "reasoning_content": "Write the thoughts into content as this template's models write them, or set a "
        "`chat_template` that prints them.",
    }.get(field, f"Set a `chat_template` that prints it, or remove {field} from the row.")
    return UserError(
        f"message {index} ({message.role}): the chat template drops part of its {field}, {short(value)}, which would "
        f"be lost. {remedy}"
    )


def overlap(text: str, content: str) -> int:
    """Characters of the longest start of ``content`` that ``text`` ends with."""
    tail = text[-len(content) :] if content else ""
    return next((n for n in range(len(tail), 0, -1) if tail.endswith(content[:n])), 0)


def call_texts(message: Message) -> Iterator[str]:
    """Names and textual arguments of a message's tool calls."""
    for call in message.fields.get("tool_calls") or ():
        if not isinstance(call, Mapping):
            continue
        function = _function(call)
        yield from (value for value in (function.get("name"),) if isinstance(value, str))
        yield from texts_in(_decoded(function.get("arguments")))


def _function(value: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = value.get("function")
    return inner if isinstance(inner, Mapping) else value


def _decoded(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
