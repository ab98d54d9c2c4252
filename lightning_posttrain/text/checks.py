"""What the renderer refuses: set-ups and rows whose training would teach nothing, or something else than the answers.

Each check is a function that returns or raises a UserError with the value and the remedy; the renderer adds file:line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Sequence as Items

from transformers import PreTrainedTokenizerBase

from ..types import Message, UserError


def short(value: object, most: int = 60) -> str:
    """``repr`` for a message, cut in the middle."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-(most // 2) :]}"


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.chat_template:
        raise UserError(
            "the tokenizer has no chat template (a base model's, perhaps). Set `chat_template` to `tulu` (works with "
            "any eos token), `chatml` (needs <|im_start|> and <|im_end|>) or a .jinja file, or use `format: plain`."
        )


def special_texts(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Texts that the tokenizer turns into a special token wherever they stand."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | {str(token) for token in tokenizer.all_special_tokens}


def any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern that finds any of ``texts``, the longest first; None where there is nothing to find."""
    escaped = [re.escape(t) for t in sorted(texts, key=len, reverse=True) if t]
    return re.compile("|".join(escaped)) if escaped else None


def check_contents(messages: Items[Message], special: re.Pattern[str] | None) -> None:
    """A content that holds special-token text could open or close turns by itself (template injection)."""
    for i, message in enumerate(messages):
        found = special.search(message.content) if special else None
        if found:
            raise UserError(
                f"message {i} ({message.role}) contains the special token {found.group()!r} at character "
                f"{found.start()}: it would act as that token, not as text. Clean the text, or set "
                "`special_text: allow` if the data means it."
            )


def check_answer(message: Message, index: int) -> None:
    if not message.content.strip():
        raise UserError(
            f"message {index} (assistant) is {message.content!r}: an empty answer teaches to stop at once. "
            "Leave the row out, or give the message train: false."
        )


def answer_length(text: str, ids: list[int], tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int]) -> int:
    """Tokens of an answer up to and including the token that ends it.

    Raises:
        UserError: nothing ends it, the padding token does, or a stop token stands in its middle.
    """
    kept = next((n for n, i in enumerate(ids, start=1) if i in stop_ids), 0)
    stops = tokenizer.convert_ids_to_tokens(sorted(stop_ids)[:8])
    if not kept:
        raise UserError(
            f"an answer is rendered as {short(text)}, whose end {tokenizer.convert_ids_to_tokens(ids[-3:])} holds no "
            f"stop token {stops}: the model would never learn to stop. Add the end-of-turn token to the stop tokens, "
            "or use a chat template that ends answers with one of these."
        )
    if ids[kept - 1] == tokenizer.pad_token_id:
        raise UserError(
            f"answers end with {tokenizer.pad_token!r}, which is also the padding token: what masks padding masks the "
            "end, and the model never learns to stop. Set `pad_token` of the tokenizer to another token of its "
            "vocabulary (a reserved or unused one)."
        )
    rest = str(tokenizer.decode(ids[kept:], skip_special_tokens=True)).strip()
    if rest:
        raise UserError(
            f"an answer holds the stop token {tokenizer.convert_ids_to_tokens(ids[kept - 1])!r} before {short(rest)}, "
            "so the sampler would end it there. Clean the text, or take that token out of the stop tokens."
        )
    return kept


def check_ids(ids: list[int], tokenizer: PreTrainedTokenizerBase, vocab_size: int | None) -> None:
    """No doubled BOS, and no token the model has no embedding for."""
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise UserError(
            f"the text begins with {tokenizer.bos_token!r} twice. Take it out of the data or of the chat template."
        )
    if vocab_size is not None and ids and max(ids) >= vocab_size:
        token = tokenizer.convert_ids_to_tokens(max(ids))
        raise UserError(
            f"token {token!r} has id {max(ids)}, but the model's vocabulary ends at {vocab_size - 1}. "
            "Use the model's own tokenizer, leave the token out, or set `load.resize_embeddings: true` to train one."
        )


def check_prefix(text: str, prefix: str, what: str, remedy: str) -> None:
    """``text`` must begin with ``prefix``: otherwise training and sampling would see different tokens."""
    if text.startswith(prefix):
        return
    at = next((n for n, (a, b) in enumerate(zip(text, prefix, strict=False)) if a != b), min(len(text), len(prefix)))
    begin = max(0, at - 20)
    raise UserError(
        f"{what}: at character {at} the chat template gives {short(text[begin : at + 30])} where it gave "
        f"{short(prefix[begin : at + 30])} before. {remedy}"
    )
