"""Texts that a tokenizer turns into tokens which steer a model, and what a message may do with them.

Special tokens, and added tokens that are not called special but act alike: thought, tool and turn markers. A message
that holds one could open or close turns by itself (template injection), so it is refused, or its text is marked before
it is rendered, and `pieces` encodes what is marked as ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from ..types import Message, UserError

SpecialText = Literal["error", "text", "allow"]
"""What happens to such a text in a message: refused, encoded as ordinary text, or encoded as the token."""

MARK = "\ufdd0"
"""Put behind the first character of what shall stay text: a noncharacter, which no text for interchange holds."""

_TURN = re.compile(r"<[|\uff5c].*[|\uff5c]>")
MARKER = re.compile(
    r"[<\[]/?(\w+:)?(think|thought|reason|reflect|tool|function|invoke|parameter|arg_|observation)\w*[>\]]", re.I
)
"""What markers of turns, and of thoughts and tools, look like, for those that a chat template builds or lacks."""


def special_texts(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Texts that the tokenizer turns into a special token wherever they stand."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | {str(token) for token in tokenizer.all_special_tokens}


def control_texts(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Special texts and markers: added tokens that the chat template writes, or that look like one of its kind.

    Other added tokens (runs of spaces, HTML tags, words kept whole) are text like any other.
    """
    template = tokenizer.chat_template
    templates = "\0".join(template.values()) if isinstance(template, dict) else template or ""
    templates = re.sub(r"default\([^)]*\)", "", templates)  # stands for what a user says, and is no part of the format
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if not token.special]
    markers = {
        text
        for text in added
        if text.strip() and (text in templates or _TURN.fullmatch(text) or MARKER.fullmatch(text))
    }
    return special_texts(tokenizer) | markers


def any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern that finds any of ``texts``, the longest first; None where there is nothing to find."""
    escaped = [re.escape(t) for t in sorted(texts, key=len, reverse=True) if t]
    return re.compile("|".join(escaped)) if escaped else None


class SpecialTextPolicy:
    """Refuses or marks such texts in messages.

    An assistant's turn may hold thought and tool markers, which it writes itself; another special token is a fault
    there, too.

    Args:
        tokenizer: whose tokens count, with its chat template.
        policy: see `SpecialText`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, policy: SpecialText) -> None:
        self.policy = policy
        self._special = any_of(text for text in special_texts(tokenizer) if not MARKER.fullmatch(text))
        self._control = any_of(control_texts(tokenizer))

    def messages(self, messages: Items[Message]) -> tuple[Message, ...]:
        """``messages``, marked where the policy says so.

        Raises:
            UserError: a message holds such a text under ``error``.
        """
        if self.policy == "allow":
            return tuple(messages)
        return tuple(self._message(message, i) for i, message in enumerate(messages))

    def variables(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The same for a row's own variables of the chat template, tools among them."""
        return dict(values) if self.policy == "allow" else self._checked(dict(values), self._control, "the row's")

    def _message(self, message: Message, index: int) -> Message:
        pattern = self._special if message.role == "assistant" else self._control
        where = f"message {index} ({message.role})"
        content = self._checked(message.content, pattern, where)
        fields = self._checked(dict(message.fields), pattern, where)
        prefill = message.prefill and len(self._checked(message.content[: message.prefill], pattern, where))
        return Message(message.role, content, message.train, fields, prefill)

    def _checked(self, value: Any, pattern: re.Pattern[str] | None, where: str) -> Any:
        """``value`` with every text in it checked or marked."""
        if isinstance(value, Mapping):
            return {key: self._checked(item, pattern, f"{where} {key}") for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._checked(item, pattern, where) for item in value]
        found = pattern.search(value) if pattern and isinstance(value, str) else None
        if not found or pattern is None:
            return value
        if self.policy == "text" and MARK not in value:
            return pattern.sub(lambda match: match.group()[0] + MARK + match.group()[1:], value)
        if self.policy == "text":
            raise UserError(f"{where} holds the noncharacter {MARK!r} beside {found.group()!r}. Clean the text.")
        raise UserError(
            f"{where} contains the special token {found.group()!r} at character {found.start()}: it would act as that "
            "token, not as text. Clean the text, or set `chat.special_text: text` to encode it as ordinary text, or "
            "`special_text: allow` if the data means the token."
        )


def unmarked(text: str) -> str:
    return text.replace(MARK, "")


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a nested value, without keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_in(item)
