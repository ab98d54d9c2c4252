"""Turning texts into ids, many at a time, so that the ids before an answer never depend on the answer.

A text is a context and what continues it, each encoded on its own. Some tokenizers put a space before whatever they are
given; what continues a text must not get one, so it is encoded behind an anchor whose ids are then cut off. A tokenizer
for which no anchor works is refused.

A tokenizer cuts a text at its special tokens before anything else, and so does this: stretches that texts share (turns,
system messages) are encoded once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property

import tokenizers
from transformers import PreTrainedTokenizerBase

from ..types import UserError
from .control import MARK, control_texts, unmarked

Ids = list[int]
Part = tuple[str, bool]
"""A stretch of a text, and whether it begins the text."""


class PieceEncoder:
    """Encodes texts without ever adding special tokens.

    Raises:
        UserError: the tokenizer cannot continue a text in the middle of a line.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.anchor: tuple[str, Ids] | None = None
        if not self._joins(self._one("x")):
            self.anchor = self._find_anchor()
        self._control = _tokens_to_cut_at(tokenizer)
        vocabulary = tokenizer.get_vocab()
        self._ids: dict[str, int] = {t: vocabulary[t] for t in control_texts(tokenizer) if t in vocabulary}

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_without_control"}

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
        """Ids of each (context, continuation); a continuation of an empty context begins the text."""
        cut = [(self._cut(context, True), self._cut(text, not context)) for context, text in pairs]
        known = self._encode({part for pair in cut for parts in pair for part in parts})
        return [(_joined(context, known), _joined(text, known)) for context, text in cut]

    def _cut(self, text: str, begins: bool) -> list[Part]:
        """The stretches between control tokens, and those tokens; whole where the tokenizer needs an anchor."""
        if not text:
            return []
        if self._control is None or (self.anchor is not None and MARK not in text):
            return [(text, begins)]
        stretches = [stretch for stretch in self._control.split(text) if stretch]
        return [(stretch, begins and i == 0) for i, stretch in enumerate(stretches)]

    def _encode(self, parts: Iterable[Part]) -> dict[Part, Ids]:
        known: dict[Part, Ids] = {}
        todo: list[Part] = []
        for part in parts:
            name = part[0].strip()
            if name in self._ids and self._control is not None and self._control.fullmatch(part[0]):
                known[part] = [self._ids[name]]
            elif MARK in part[0]:
                known[part] = self._as_text(*part)
            else:
                todo.append(part)
        anchor = "" if self.anchor is None else self.anchor[0]
        for part, ids in zip(todo, self._many([t if begins else anchor + t for t, begins in todo]), strict=True):
            known[part] = ids if part[1] else self._behind_anchor(ids, part[0])
        return known

    def _many(self, texts: list[str]) -> list[Ids]:
        if not texts:
            return []
        # verbose=False: the library has its own length check, with the row's name in it
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def _one(self, text: str) -> Ids:
        return self._many([text])[0]

    def _as_text(self, text: str, begins: bool) -> Ids:
        """Ids of a marked stretch, as if the tokenizer had no control tokens."""
        anchor = "" if begins or self.anchor is None else self.anchor[0]
        ids = list(self._without_control.encode(anchor + unmarked(text), add_special_tokens=False).ids)
        return self._behind_anchor(ids, text) if anchor else ids

    @cached_property
    def _without_control(self) -> tokenizers.Tokenizer:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, tokenizers.Tokenizer):
            raise UserError(
                f"the tokenizer {type(self.tokenizer).__name__} cannot encode the text of a special token as ordinary "
                "text. Clean the text, or use a tokenizer with a tokenizer.json."
            )
        state = json.loads(backend.to_str())
        state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in self._ids]
        state.update(post_processor=None, truncation=None, padding=None)
        return tokenizers.Tokenizer.from_str(json.dumps(state))

    def _behind_anchor(self, ids: Ids, text: str) -> Ids:
        if self.anchor is None:
            return ids
        anchor, prefix = self.anchor
        if ids[: len(prefix)] != prefix:
            raise UserError(
                f"the tokenizer merges {text[:20]!r} with the {anchor!r} before it, so a continuation that begins "
                "like this has no ids of its own. Use a byte-level tokenizer, or change how the text begins."
            )
        return ids[len(prefix) :]

    def _joins(self, ids: Ids) -> bool:
        """Whether ``ids`` of "x" continue a "y" without a space between."""
        return self.tokenizer.decode(self._one("y") + ids, clean_up_tokenization_spaces=False) == "yx"

    def _find_anchor(self) -> tuple[str, Ids]:
        for anchor in ("\n", self.tokenizer.bos_token, self.tokenizer.eos_token):
            if not anchor:
                continue
            prefix = self._one(anchor)
            ids = self._one(anchor + "x")
            text = str(self.tokenizer.decode(prefix, clean_up_tokenization_spaces=False))
            if text.strip(" ") == anchor and ids[: len(prefix)] == prefix and self._joins(ids[len(prefix) :]):
                return anchor, prefix
        raise UserError(
            f"the tokenizer {type(self.tokenizer).__name__} puts a space before every text it is given, so an answer "
            "cannot be tokenised after its prompt. Use a byte-level tokenizer."
        )


def _joined(parts: list[Part], known: dict[Part, Ids]) -> Ids:
    return [i for part in parts for i in known[part]]


def _tokens_to_cut_at(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Control tokens, with the white space around them that the tokenizer takes in; one group, for ``split``."""
    control = control_texts(tokenizer)
    added = {str(token): token for token in tokenizer.added_tokens_decoder.values()}
    cut = [added[text] for text in sorted(control, key=len, reverse=True) if text in added]
    patterns = [
        (r"\s*" if token.lstrip else "") + re.escape(token.content) + (r"\s*" if token.rstrip else "")
        for token in cut
        if not token.single_word and token.content
    ]
    return re.compile(f"({'|'.join(patterns)})") if patterns else None
