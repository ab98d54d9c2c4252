"""Messages -> text, by a chat template, with everything that the template may read of a row.

The template itself decides what it prints; `held` says whether that is all there was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from ..types import Message, UserError
from . import held
from .templates import FIXED_DATE

RESERVED = ("messages", "conversation", "add_generation_prompt", "chat_template", "tokenize", "continue_final_message")


class ChatText:
    """The chat template of one conversation.

    Args:
        tokenizer: with a chat template.
        variables: the row's, for the template; ``tools`` among them.
        messages: the conversation, which decides the form in which tool calls are passed.
        own: the model's variables, which those of the row come before.

    Raises:
        UserError: a variable that the template does not know, or tool calls that it cannot print.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        variables: Mapping[str, Any],
        messages: Items[Message],
        own: Mapping[str, Any],
    ) -> None:
        self.variables = {**tokenizer.special_tokens_map, **own, **variables}
        self.tools, self.documents = self.variables.pop("tools", None), self.variables.pop("documents", None)
        template = tokenizer.get_chat_template(tools=self.tools)
        for name in unread(variables, template):
            what = "no tools" if name == "tools" else f"no variable {name!r}"
            raise UserError(
                f"the chat template knows {what}, so {name}={variables[name]!r:.60} would change nothing. Remove it "
                "from the row, or set another `chat_template`."
            )
        self.template = FIXED_DATE + template if "strftime_now" in template else template
        self.plain_calls = True
        calls = [i for i, message in enumerate(messages) if message.fields.get("tool_calls")]
        if calls:
            self._choose_form(messages[: calls[-1] + 1])

    def __call__(self, messages: Items[Message], generation_prompt: bool) -> str:
        """The text of ``messages``, with what an answer continues after it.

        Raises:
            UserError: the template refuses them.
        """
        try:
            return self._render(messages, generation_prompt)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            roles = [m.role for m in messages]
            raise UserError(
                f"the chat template refuses messages with the roles {roles}: {error}. Change the rows (merge a system "
                "text into the first user message, alternate user and assistant), or set another `chat_template`."
            ) from error

    def _render(self, messages: Items[Message], generation_prompt: bool) -> str:
        rendered: Any = render_jinja_template(
            conversations=[[self._message(m) for m in messages]],
            tools=self.tools,
            documents=self.documents,
            chat_template=self.template,
            add_generation_prompt=generation_prompt,
            **self.variables,
        )
        return str(rendered[0][0])

    def _message(self, message: Message) -> dict[str, Any]:
        """The message as this template reads it: thoughts under all their names, tool calls in the chosen form."""
        found = message.as_dict()
        if "reasoning_content" in found:
            found["reasoning"] = found["thinking"] = found["reasoning_content"]
        if found.get("tool_calls"):
            found["tool_calls"] = [_call(call, self.plain_calls) for call in found["tool_calls"]]
            if not self.plain_calls and not found["content"]:
                found["content"] = None
        return found

    def _choose_form(self, messages: Items[Message]) -> None:
        """Arguments as an object; where a template does not print that, as OpenAI has them: JSON text, no content."""
        refusal: UserError | None = None
        for self.plain_calls in (True, False):
            try:
                text = self(messages, False)
                held.check_calls(messages, text)
                return
            except UserError as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal


def unread(variables: Mapping[str, Any], template: str) -> list[str]:
    """The variables that a template does not read.

    Raises:
        UserError: one is not for users to set.
    """
    for name in variables:
        if name in RESERVED:
            raise UserError(f"template_kwargs: {name} is set by the library. Leave it out.")
    return [name for name in variables if not re.search(rf"\b{re.escape(name)}\b", template)]


def _call(call: Any, plain: bool) -> Any:
    """A tool call with its arguments as an object (``plain``) or as JSON text."""
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(call["function"], plain)}
    arguments = call.get("arguments")
    if plain and isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return call
    elif not plain and arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {**call, "arguments": arguments}
