"""Conversation -> token ids and supervision masks.

Each trained answer is rendered as the last turn of the conversation up to it (`turns`): its context is what a sampler
would be given, to the token, and its text is what the sampler has to say. Where the context of a later answer begins
with the tokens of an earlier one, both are trained in one sequence; where the chat template changes earlier turns, each
answer has its own. No text is ever searched for to find an answer, and templates need no generation markers.
Truncation is left out on purpose: a row that is too long is refused or dropped, never cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..types import Conversation, Example, Message, Record, Sequence, UserError
from . import checks, held
from .chat_text import ChatText, unread
from .control import SpecialText, SpecialTextPolicy
from .lengths import POSITIONS, overlong_row
from .pieces import Ids, PieceEncoder
from .templates import chat_template as template_text
from .tokenizer import tokenizer_fingerprint
from .turns import Turn, answer_turn, prompt_text, reply

NO_VARIABLES: Mapping[str, Any] = MappingProxyType({})

NO_EFFECT = "the chat template has no variable {!r}: what `template_kwargs` gives it changes nothing"
EACH_ANSWER = (
    "earlier turns change when more follow (the chat template rewrites them, or their first blanks are tokenised with "
    "what is before them), so each trained answer of a conversation is a sequence of its own"
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A conversation as text: its trained answers in order, not yet encoded."""

    conversation: Conversation
    turns: tuple[Turn, ...]


class Renderer:
    """Renders conversations for one tokenizer.

    Args:
        tokenizer: any tokenizer with a chat template (or ``format="plain"``).
        stop_ids: ids that end an answer; the first one after an answer's text is its last supervised token.
        max_length: most tokens of a sequence.
        supervise: ``all_turns`` trains every assistant turn, ``last_turn`` the last one, ``all_tokens`` everything.
            A message's own ``train`` overrides the first two.
        overlong: what to do with a row above ``max_length``: stop with an error, or let the row be dropped and counted.
        special_text: what happens to the text of a special token in a message, and to that of a thought or tool marker
            in one that no assistant says: ``error`` refuses it, ``text`` encodes it as ordinary text, ``allow`` as the
            token.
        format: ``chat`` uses the chat template; ``plain`` joins prompt and completion, BOS (if the tokenizer adds one)
            before and EOS after.
        chat_template: replaces the tokenizer's own: a built-in name, a ``.jinja`` file or jinja text. The tokenizer
            carries it from then on, so every saved model does.
        template_kwargs: variables for the template, for example ``{enable_thinking: false}``; a row's own come before
            them. Templates that print today's date get a fixed one, so that a run gives the same tokens on another day.
        vocab_size: rows of the model's embedding, to refuse tokens it does not have.
        positions: most tokens that the model takes, to refuse longer rows.

    Raises:
        UserError: no chat template, or a tokenizer that cannot tokenise an answer apart from its prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop_ids: Iterable[int],
        max_length: int | None = None,
        supervise: Literal["all_turns", "last_turn", "all_tokens"] = "all_turns",
        overlong: Literal["error", "drop"] = "error",
        special_text: SpecialText = "error",
        format: Literal["chat", "plain"] = "chat",
        chat_template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        vocab_size: int | None = None,
        positions: int | None = None,
    ) -> None:
        if chat_template is not None:
            tokenizer.chat_template = template_text(chat_template)
        self.tokenizer = tokenizer
        self.stop_ids = frozenset(stop_ids)
        self.max_length = max_length
        self.supervise = supervise
        self.overlong = overlong
        self.special_text = special_text
        self.format = format
        self.template_kwargs = dict(template_kwargs or {})
        self.vocab_size, self.positions = vocab_size, positions
        self._notes: list[str] = []
        if format == "chat":
            checks.check_template(tokenizer)
            template = tokenizer.get_chat_template(tools=self.template_kwargs.get("tools"))
            self._notes = [NO_EFFECT.format(name) for name in unread(self.template_kwargs, template)]
        elif tokenizer.eos_token_id not in self.stop_ids:
            raise UserError(
                f"`format: plain` ends a text with the eos token {tokenizer.eos_token!r}, which is not among the "
                f"stop tokens {sorted(self.stop_ids)}. Add it."
            )
        self._encode = PieceEncoder(tokenizer)
        self._policy = SpecialTextPolicy(tokenizer, special_text)
        self._adds_bos = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id

    @property
    def fingerprint(self) -> str:
        """sha256 of everything here that decides ids and mask; part of the key of tokenised data."""
        options = [self.max_length, self.supervise, self.overlong, self.special_text, self.format]
        options += [self.vocab_size, self.positions]
        parts = [tokenizer_fingerprint(self.tokenizer), sorted(self.stop_ids), options, self.template_kwargs]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()

    def prompt(self, messages: Items[Message], template_kwargs: Mapping[str, Any] = NO_VARIABLES) -> Ids:
        """Ids of what a sampler continues with an answer.

        Args:
            messages: a last one of an assistant is continued; else the generation prompt follows.
            template_kwargs: the row's own variables for the template, ``tools`` among them.

        Raises:
            UserError: the template refuses the messages or drops part of them, or one holds special-token text.
        """
        messages, chat = self._opened(messages, template_kwargs)
        text = prompt_text(chat, messages) if chat else self._plain_prompt(messages)
        ids = self._encode([(text, "")])[0][0]
        ids = self._missing_bos(ids) + ids
        checks.check_ids(ids, self.tokenizer, self.vocab_size)
        return ids

    def reply(self, messages: Items[Message], text: str) -> Message:
        """The message that a sampler's answer to ``messages`` is, to go on with."""
        messages, chat = self._opened(messages, NO_VARIABLES)
        return reply(chat, messages, text) if chat else Message("assistant", text)

    def question(self, record: Record) -> Ids:
        """`prompt` of a record, which an error names."""
        try:
            return self.prompt(record.prompt, record.template_kwargs)
        except UserError as error:
            raise UserError(f"{record.origin or record.id}: {error}") from error.__cause__

    def sequence(self, conversation: Conversation) -> Sequence:
        """The only sequence of a conversation; else as `sequences`.

        Raises:
            UserError: it has several, too.
        """
        found = self.sequences(conversation)
        if len(found) > 1:
            raise UserError(
                f"{conversation.origin}: {EACH_ANSWER}; here one is needed. Set `supervise: last_turn`, or "
                "train: false for the other answers."
            )
        return found[0]

    def sequences(self, conversation: Conversation) -> Example:
        """Ids (T,) int32 and supervision mask (T,) bool of each sequence; nothing follows the last supervised token.

        Raises:
            UserError: the row would teach nothing, or something else than its answers; names the row and the remedy.
            OverlongRow: a sequence has more than ``max_length`` tokens.
        """
        (found,) = self.encoded([self.draft(conversation)])
        if isinstance(found, UserError):
            raise found
        return found

    def draft(self, conversation: Conversation) -> Draft:
        """The text of a conversation, which `encoded` turns into sequences, many in one call.

        Raises:
            UserError: as `sequences`.
        """
        try:
            trained = checks.trained_answers(conversation.messages, self.supervise)
            for index in trained:
                checks.check_answer(conversation.messages[index], index)
            messages, chat = self._opened(conversation.messages, conversation.template_kwargs)
            turns = self._plain(messages) if chat is None else self._chat(chat, messages, trained)
        except UserError as error:
            raise UserError(f"{conversation.origin}: {error}") from error.__cause__
        return Draft(conversation, turns)

    def encoded(self, drafts: Items[Draft]) -> list[Example | UserError]:
        """The sequences of each draft, or why it has none."""
        pairs = [(turn.context, turn.answer) for draft in drafts for turn in draft.turns]
        try:
            ids = iter(self._encode(pairs))
        except UserError as error:  # of one text: find whose
            if len(drafts) > 1:
                return [found for draft in drafts for found in self.encoded([draft])]
            return [UserError(f"{drafts[0].conversation.origin}: {error}")]
        return [self._finished(draft, [next(ids) for _ in draft.turns]) for draft in drafts]

    # ---- messages -> text

    def _opened(
        self, messages: Items[Message], variables: Mapping[str, Any]
    ) -> tuple[tuple[Message, ...], ChatText | None]:
        """The messages, checked for special text, and the template for them; None in the format ``plain``."""
        marked = self._policy.messages(messages)
        if self.format == "plain":
            unseen = sorted({*variables, *(name for message in marked for name in message.fields)})
            if unseen:
                raise UserError(f"`format: plain` shows no {', '.join(unseen)}. Use `format: chat`, or remove it.")
            return marked, None
        own = self._policy.variables(variables)
        return marked, ChatText(self.tokenizer, own, marked, self.template_kwargs)

    def _chat(self, chat: ChatText, messages: tuple[Message, ...], trained: tuple[int, ...]) -> tuple[Turn, ...]:
        last = trained[-1]
        if self.supervise == "all_tokens" and last < len(messages) - 1:
            turns: tuple[Turn, ...] = (Turn(chat(messages, False), ""),)
        else:
            turns = tuple(answer_turn(chat, messages, index) for index in trained)
        text = turns[-1].context + turns[-1].answer
        held.check_context(messages if self.supervise == "all_tokens" else messages[:last], text, chat.tools)
        if self.supervise == "all_tokens":
            for i, message in enumerate(messages):
                missing = held.missing(message, "", text) if message.role == "assistant" else None
                if missing:
                    raise held.dropped(i, message, *missing)
        return turns

    def _plain(self, messages: tuple[Message, ...]) -> tuple[Turn, ...]:
        *before, answer = messages
        if answer.role != "assistant":
            raise UserError("`format: plain` needs the completion last, in an assistant message. Use `format: chat`.")
        if before and before[-1].role == "assistant":
            raise UserError("`format: plain` takes one completion, but two assistant messages follow one another.")
        context = self._plain_prompt(before) + answer.content[: answer.prefill]
        return (Turn(context, answer.content[answer.prefill :]),)

    def _plain_prompt(self, messages: Items[Message]) -> str:
        if [m.role for m in messages[1:]] not in ([], ["assistant"]):
            raise UserError(
                f"`format: plain` takes one prompt and one completion, but the row has the roles "
                f"{[m.role for m in messages]} before the answer. Use `format: chat`."
            )
        return "".join(m.content for m in messages)

    # ---- text -> ids

    def _finished(self, draft: Draft, ids: list[tuple[Ids, Ids]]) -> Example | UserError:
        origin = draft.conversation.origin
        try:
            rows = self._rows(draft, ids)
        except UserError as error:
            return UserError(f"{origin}: {error}")
        limits = {POSITIONS: self.positions, "max_length": self.max_length}
        overlong = overlong_row(origin, max(len(row) for row, _ in rows), limits, self.overlong == "drop")
        if overlong is not None:
            return overlong
        notes = [*self._notes, *(note for turn in draft.turns for note in turn.notes)]
        notes += [EACH_ANSWER] if len(rows) > 1 else []
        id = draft.conversation.id
        return tuple(
            Sequence(
                np.array(row, np.int32),
                np.array(mask, np.bool_),
                f"{id} (sequence {number})" if number else id,
                origin,
                notes=() if number else tuple(dict.fromkeys(notes)),
            )
            for number, (row, mask) in enumerate(rows)
        )

    def _rows(self, draft: Draft, ids: list[tuple[Ids, Ids]]) -> list[tuple[Ids, list[bool]]]:
        """Ids and masks: an answer goes on in the row before it if its context begins with all of that row."""
        rows: list[tuple[Ids, list[bool]]] = []
        for turn, (context, answer) in zip(draft.turns, ids, strict=True):
            context, answer = self._ended(turn, context, answer)
            if rows and context[: len(rows[-1][0])] == rows[-1][0]:
                _, mask = rows.pop()
            else:
                mask = []
            mask = mask + [False] * (len(context) - len(mask)) + [True] * len(answer)
            rows.append((context + answer, mask))
        for row, mask in rows:
            if self.supervise == "all_tokens":
                mask[:] = [True] * len(row)
            mask[0] = False  # nothing comes before the first token, so nothing predicts it
            if not any(mask):
                raise UserError("no token of the row is supervised. Give it an answer, or leave it out.")
            checks.check_ids(row, self.tokenizer, self.vocab_size)
        return rows

    def _ended(self, turn: Turn, context: Ids, answer: Ids) -> tuple[Ids, Ids]:
        """The context with its BOS, and the answer up to the token that ends it."""
        if self.format == "plain":
            answer = [*answer, self.tokenizer.eos_token_id]
            context = self._missing_bos(context or answer) + context
        if not turn.answer:  # a whole text
            return context, answer
        kept = checks.answer_length(turn.answer, answer, self.tokenizer, self.stop_ids)
        return context, answer if self.supervise == "all_tokens" else answer[:kept]

    def _missing_bos(self, ids: Ids) -> Ids:
        """BOS where it still has to be put before ``ids``; a chat template has put its own."""
        bos = self.tokenizer.bos_token_id
        return [bos] if self.format == "plain" and self._adds_bos and ids[:1] != [bos] else []
