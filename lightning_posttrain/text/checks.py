"""What the renderer refuses: set-ups and rows whose training would teach nothing, or something else than the answers.

Each check is a function that returns or raises a UserError with the value and the remedy; the renderer adds file:line.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Literal

from transformers import PreTrainedTokenizerBase

from ..types import Message, UserError
from .held import short


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.chat_template:
        raise UserError(
            "the tokenizer has no chat template (a base model's, perhaps). Set `chat_template` to `tulu` (works with "
            "any eos token), `chatml` (needs <|im_start|> and <|im_end|>) or a .jinja file, or use `format: plain`."
        )


def trained_answers(
    messages: Items[Message], supervise: Literal["all_turns", "last_turn", "all_tokens"]
) -> tuple[int, ...]:
    """Indices of the messages whose text is supervised as an answer.

    Raises:
        UserError: there are none, one is empty, or a message that no assistant says is to be trained.
    """
    answers = [i for i, m in enumerate(messages) if m.role == "assistant"]
    if not answers:
        raise UserError(f"roles are {[m.role for m in messages]}: without an assistant message nothing is learnt.")
    if supervise == "all_tokens":
        return tuple(answers[-1:])
    for i, message in enumerate(messages):
        if message.train and message.role != "assistant":
            raise UserError(
                f"message {i} has train: true but the role {message.role!r}. Only assistant messages can be "
                "trained; `supervise: all_tokens` trains everything."
            )
    rule = answers if supervise == "all_turns" else answers[-1:]
    trained = [i for i in answers if messages[i].train or (messages[i].train is None and i in rule)]
    if not trained:
        raise UserError("no assistant message is to be trained (train: false), so nothing is learnt. Drop the row.")
    return tuple(trained)


def check_answer(message: Message, index: int) -> None:
    said = message.content[message.prefill :]
    if not said.strip() and not message.fields.get("tool_calls"):
        raise UserError(
            f"message {index} (assistant) is {said!r}: an empty answer teaches to stop at once. "
            "Leave the row out, or give the message train: false."
        )


def answer_length(text: str, ids: list[int], tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int]) -> int:
    """Tokens of an answer up to and including the token that ends it.

    Raises:
        UserError: nothing ends it, or a stop token stands in its middle.
    """
    kept = next((n for n, i in enumerate(ids, start=1) if i in stop_ids), 0)
    if not kept:
        stops = tokenizer.convert_ids_to_tokens(sorted(stop_ids)[:8])
        raise UserError(
            f"an answer is rendered as {short(text)}, whose end {tokenizer.convert_ids_to_tokens(ids[-3:])} holds no "
            f"stop token {stops}: the model would never learn to stop. Add the end-of-turn token to the stop tokens, "
            "or use a chat template that ends answers with one of these."
        )
    rest = ids[kept:] and str(tokenizer.decode(ids[kept:], skip_special_tokens=True)).strip()
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
