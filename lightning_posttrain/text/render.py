"""Conversation -> token ids and supervision mask.

The chat template is asked for the text before and after each answer; the difference is the answer. No text is ever
searched for, and templates need no generation markers. Each piece is tokenised on its own, so a prompt's ids are a
prefix of its training sequence by construction: what is trained is exactly what the sampler will see.
Truncation is left out on purpose: a row that is too long is refused or dropped, never cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from typing import Any, Literal

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..types import Conversation, Message, Sequence, UserError
from . import checks
from .pieces import PieceEncoder
from .templates import FIXED_DATE
from .templates import chat_template as template_text
from .tokenizer import tokenizer_fingerprint


class OverlongRow(UserError):
    """A row longer than ``max_length``. ``drop`` tells whoever collects rows to count it and go on."""

    drop = False


class Renderer:
    """Renders conversations for one tokenizer.

    Args:
        tokenizer: any tokenizer with a chat template (or ``format="plain"``).
        stop_ids: ids that end an answer; the first one after an answer's text is its last supervised token.
        max_length: most tokens of a sequence.
        supervise: ``all_turns`` trains every assistant turn, ``last_turn`` the last one, ``all_tokens`` everything.
            A message's own ``train`` overrides the first two.
        overlong: what to do with a row above ``max_length``: stop with an error, or let the row be dropped and counted.
        special_text: whether a message may contain the text of a special token, which then becomes that token.
        format: ``chat`` uses the chat template; ``plain`` joins prompt and completion, BOS (if the tokenizer adds one)
            before and EOS after.
        chat_template: replaces the tokenizer's own: a built-in name, a ``.jinja`` file or jinja text. The tokenizer
            carries it from then on, so every saved model does.
        template_kwargs: variables for the template, for example ``{enable_thinking: false}``. Templates that print
            today's date get a fixed one, so that a run gives the same tokens on another day.
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
        special_text: Literal["error", "allow"] = "error",
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
        if format == "chat":
            checks.check_template(tokenizer)
        elif tokenizer.eos_token_id not in self.stop_ids:
            raise UserError(
                f"`format: plain` ends a text with the eos token {tokenizer.eos_token!r}, which is not among the "
                f"stop tokens {sorted(self.stop_ids)}. Add it."
            )
        self._encode = PieceEncoder(tokenizer)
        self._special = checks.any_of(checks.special_texts(tokenizer)) if special_text == "error" else None
        self._adds_bos = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id

    @property
    def fingerprint(self) -> str:
        """sha256 of everything here that decides ids and mask; part of the key of tokenised data."""
        options = [self.max_length, self.supervise, self.overlong, self.special_text, self.format]
        options += [self.vocab_size, self.positions]
        parts = [tokenizer_fingerprint(self.tokenizer), sorted(self.stop_ids), options, self.template_kwargs]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()

    def prompt(self, messages: Items[Message]) -> list[int]:
        """Ids of ``messages`` with the generation prompt after them: what a sampler continues with an answer.

        Raises:
            UserError: the template refuses the messages, or a content holds special-token text.
        """
        messages = tuple(messages)
        checks.check_contents(messages, self._special)
        if self.format == "plain":
            texts = [self._plain_prompt(messages)]
        else:
            pieces, done = self._turns(messages, self._earlier_answers(messages))
            texts = [text for text, _ in pieces] + [self._added(messages, True, done)]
        ids = [i for part in self._encode(texts) for i in part]
        ids = self._missing_bos(ids) + ids
        checks.check_ids(ids, self.tokenizer, self.vocab_size)
        return ids

    def sequence(self, conversation: Conversation) -> Sequence:
        """Ids (T,) int32 and supervision mask (T,) bool of a conversation; nothing follows the last supervised token.

        Raises:
            UserError: the row would teach nothing, or something else than its answers; names the row and the remedy.
            OverlongRow: it has more than ``max_length`` tokens.
        """
        origin = conversation.origin
        try:
            ids, supervised = self._sequence(conversation.messages)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from error.__cause__
        self._check_length(origin, len(ids))
        return Sequence(np.array(ids, np.int32), np.array(supervised, np.bool_), conversation.id, origin)

    def _check_length(self, origin: str, length: int) -> None:
        limits = {"the model's positions": self.positions, "max_length": self.max_length}
        most = {name: limit for name, limit in limits.items() if limit is not None and length > limit}
        if not most:
            return
        remedy = "Shorten the row" if "the model's positions" in most else "Raise max_length, shorten the row"
        above = " and ".join(f"{name} {limit}" for name, limit in most.items())
        overlong = OverlongRow(
            f"{origin}: the row has {length} tokens, above {above}. {remedy}, or set `overlong: drop`."
        )
        overlong.drop = self.overlong == "drop"
        raise overlong

    def _sequence(self, messages: tuple[Message, ...]) -> tuple[list[int], list[bool]]:
        trained = self._trained(messages)
        checks.check_contents(messages, self._special)
        for index in trained:
            checks.check_answer(messages[index], index)
        pieces = self._plain(messages) if self.format == "plain" else self._chat(messages, trained)
        ids: list[int] = []
        supervised: list[bool] = []
        for (text, is_answer), part in zip(pieces, self._encode([text for text, _ in pieces]), strict=True):
            if is_answer and self.format == "plain":
                part = [*part, self.tokenizer.eos_token_id]
            kept = checks.answer_length(text, part, self.tokenizer, self.stop_ids) if is_answer else 0
            ids += part
            supervised += [True] * kept + [False] * (len(part) - kept)
        bos = self._missing_bos(ids)
        ids, supervised = bos + ids, [False] * len(bos) + supervised
        if self.supervise == "all_tokens":
            supervised = [True] * len(ids)
        supervised[0] = False  # nothing comes before the first token, so nothing predicts it
        while supervised and not supervised[-1]:
            supervised.pop()
        if not supervised:
            raise UserError("no token of the row is supervised. Give it an answer, or leave it out.")
        ids = ids[: len(supervised)]
        checks.check_ids(ids, self.tokenizer, self.vocab_size)
        return ids, supervised

    def _trained(self, messages: tuple[Message, ...]) -> list[int]:
        """Indices of the messages whose text is supervised as an answer."""
        answers = [i for i, m in enumerate(messages) if m.role == "assistant"]
        if not answers:
            raise UserError(f"roles are {[m.role for m in messages]}: without an assistant message nothing is learnt.")
        if self.supervise == "all_tokens":
            return answers[-1:]
        for i, message in enumerate(messages):
            if message.train and message.role != "assistant":
                raise UserError(
                    f"message {i} has train: true but the role {message.role!r}. Only assistant messages can be "
                    "trained; `supervise: all_tokens` trains everything."
                )
        rule = answers if self.supervise == "all_turns" else answers[-1:]
        trained = [i for i in answers if messages[i].train or (messages[i].train is None and i in rule)]
        if not trained:
            raise UserError("no assistant message is to be trained (train: false), so nothing is learnt. Drop the row.")
        return trained

    def _earlier_answers(self, messages: tuple[Message, ...]) -> list[int]:
        """Indices of the answers before the last that are pieces of their own.

        Where only the last turn is trained, the earlier ones are context, which a template may rewrite as it likes
        (some drop earlier thoughts). The rule looks at ``messages`` alone, so prompts and sequences agree.
        """
        if self.supervise == "all_tokens":
            return []
        return [
            i for i, m in enumerate(messages) if m.role == "assistant" and (self.supervise == "all_turns" or m.train)
        ]

    # ---- messages -> pieces of text, each with "this is an answer to train"

    def _chat(self, messages: tuple[Message, ...], trained: list[int]) -> list[tuple[str, bool]]:
        last = trained[-1]
        pieces, done = self._turns(messages, [*self._earlier_answers(messages[:last]), last], trained)
        if self.supervise == "all_tokens" and last < len(messages) - 1:
            pieces.append((self._added(messages, False, done), False))
        return pieces

    def _turns(
        self, messages: tuple[Message, ...], answers: list[int], trained: Items[int] = ()
    ) -> tuple[list[tuple[str, bool]], str]:
        """Pieces up to the last of ``answers``, and their whole text."""
        pieces: list[tuple[str, bool]] = []
        done = ""
        for i in answers:
            context = self._added(messages[:i], True, done)
            done += context
            answer = self._added(messages[: i + 1], False, done)
            done += answer
            pieces += [(context, False), (answer, i in trained)]
        return pieces, done

    def _added(self, messages: tuple[Message, ...], generation_prompt: bool, done: str) -> str:
        """What the rendered ``messages`` add to the text ``done``."""
        text = self._text(messages, generation_prompt)
        if generation_prompt:
            what = f"the text before message {len(messages)} does not continue the turns before it"
            remedy = "A template that rewrites earlier turns (drops their thoughts) needs `supervise: last_turn`."
        else:
            what = f"message {len(messages) - 1} does not continue its generation prompt"
            remedy = (
                "Begin the answer as the generation prompt ends, or choose another one with `template_kwargs` "
                "(for example {enable_thinking: false}) or `chat_template`."
            )
        checks.check_prefix(text, done, what, remedy)
        return text[len(done) :]

    def _text(self, messages: tuple[Message, ...], generation_prompt: bool) -> str:
        try:
            template = self.tokenizer.get_chat_template()
            rendered = self.tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in messages],
                chat_template=FIXED_DATE + template if "strftime_now" in template else template,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                **self.template_kwargs,
            )
            return str(rendered)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            roles = [m.role for m in messages]
            raise UserError(
                f"the chat template refuses messages with the roles {roles}: {error}. Change the rows (merge a system "
                "text into the first user message, alternate user and assistant), or set another `chat_template`."
            ) from error

    def _plain_prompt(self, messages: tuple[Message, ...]) -> str:
        if len(messages) > 1:
            raise UserError(
                f"`format: plain` takes one prompt and one completion, but the row has the roles "
                f"{[m.role for m in messages]} before the answer. Use `format: chat`."
            )
        return "".join(m.content for m in messages)

    def _plain(self, messages: tuple[Message, ...]) -> list[tuple[str, bool]]:
        if messages[-1].role != "assistant":
            raise UserError("`format: plain` needs the completion last, in an assistant message. Use `format: chat`.")
        return [(self._plain_prompt(messages[:-1]), False), (messages[-1].content, True)]

    def _missing_bos(self, ids: list[int]) -> list[int]:
        """BOS where it still has to be put before ``ids``; a chat template has put its own."""
        bos = self.tokenizer.bos_token_id
        return [bos] if self.format == "plain" and self._adds_bos and ids[:1] != [bos] else []
