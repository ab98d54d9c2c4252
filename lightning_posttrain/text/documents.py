"""The tokens between the documents that a model was pretrained on, as far as its tokenizer tells.

A chat model's beginning and end of text are often marks of turns (``<|im_start|>``, ``<|im_end|>``), which no document
ever followed. Left out: asking the model itself which of the tokens it expects.
"""

from __future__ import annotations

from typing import Any

from ..types import UserError

DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<eos>", "</s>")
"""Tokens that end documents, and never turns, in the tokenizers that have them; in this order."""


def opening_token(tokenizer: Any) -> int | None:
    """The id of the beginning-of-text token, unless the chat template opens every turn with it."""
    begin: int | None = tokenizer.bos_token_id
    template = getattr(tokenizer, "chat_template", None)
    turns = isinstance(template, str) and begin is not None and tokenizer.bos_token in template
    return None if turns and not _begins_texts(tokenizer) else begin


def document_tokens(tokenizer: Any, given: str | None = None, bos: bool | None = None) -> list[int]:
    """What a document follows: one token, or none where the tokenizer has none.

    Of a vocabulary with one of `DOCUMENT_ENDS` that is the beginning-of-text token if the tokenizer puts it before
    every text (Llama, Gemma), else that one (``<|endoftext|>`` for SmolLM2, Qwen and gpt-oss). Of any other it is the
    end-of-text token, with which `datamodules.pretrain` ends documents.

    Args:
        tokenizer: of transformers.
        given: the token itself, to say it otherwise.
        bos: False = documents had no beginning-of-text token.

    Raises:
        UserError: ``given`` is no token of the vocabulary.
    """
    if given is not None:
        known = tokenizer.get_vocab()
        if given not in known:
            raise UserError(f"document_start={given!r} is no token of this vocabulary; name one, or leave it null")
        return [int(known[given])]
    end = _document_end(tokenizer)
    if end is not None and bos is not False and _begins_texts(tokenizer):
        return [tokenizer.bos_token_id]
    tokens = (end, tokenizer.eos_token_id, opening_token(tokenizer))
    return [token for token in tokens if token is not None][:1]


def _begins_texts(tokenizer: Any) -> bool:
    """Whether the tokenizer itself puts its beginning-of-text token before a text."""
    begin = tokenizer.bos_token_id
    return begin is not None and list(tokenizer("a")["input_ids"][:1]) == [begin]


def _document_end(tokenizer: Any) -> int | None:
    """The id of the token among `DOCUMENT_ENDS` that the vocabulary has: the end-of-text token if it is one of them."""
    special = {str(token): int(i) for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    found = [special[name] for name in DOCUMENT_ENDS if name in special]
    return next((token for token in found if token == tokenizer.eos_token_id), found[0] if found else None)
