"""Turning pieces of one text into ids, each on its own, so that the ids before an answer never depend on the answer.

Some tokenizers put a space before whatever they are given. A piece that continues a text must not get one, so it is
encoded behind an anchor whose ids are then cut off. A tokenizer for which no anchor works is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from ..types import UserError


class PieceEncoder:
    """Encodes consecutive pieces of a text, without ever adding special tokens.

    Raises:
        UserError: the tokenizer cannot continue a text in the middle of a line.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.anchor: tuple[str, list[int]] | None = None
        if not self._joins(self._encode("x")):
            self.anchor = self._find_anchor()

    def __call__(self, pieces: Sequence[str]) -> list[list[int]]:
        """Ids of each piece; the first non-empty one begins the text, the others continue it."""
        out: list[list[int]] = []
        begun = False
        for piece in pieces:
            out.append(self._continue(piece) if begun else self._encode(piece))
            begun = begun or bool(piece)
        return out

    def _encode(self, text: str) -> list[int]:
        # verbose=False: the library has its own length check, with the row's name in it
        return self.tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def _continue(self, text: str) -> list[int]:
        if self.anchor is None or not text:
            return self._encode(text)
        anchor, prefix = self.anchor
        ids = self._encode(anchor + text)
        if ids[: len(prefix)] != prefix:
            raise UserError(
                f"the tokenizer merges {text[:20]!r} with the {anchor!r} before it, so a continuation that begins "
                "like this has no ids of its own. Use a byte-level tokenizer, or change how the text begins."
            )
        return ids[len(prefix) :]

    def _joins(self, ids: list[int]) -> bool:
        """Whether ``ids`` of "x" continue a "y" without a space between."""
        return self.tokenizer.decode(self._encode("y") + ids, clean_up_tokenization_spaces=False) == "yx"

    def _find_anchor(self) -> tuple[str, list[int]]:
        for anchor in ("\n", self.tokenizer.bos_token, self.tokenizer.eos_token):
            if not anchor:
                continue
            prefix = self._encode(anchor)
            ids = self._encode(anchor + "x")
            text = str(self.tokenizer.decode(prefix, clean_up_tokenization_spaces=False))
            if text.strip(" ") == anchor and ids[: len(prefix)] == prefix and self._joins(ids[len(prefix) :]):
                return anchor, prefix
        raise UserError(
            f"the tokenizer {type(self.tokenizer).__name__} puts a space before every text it is given, so an answer "
            "cannot be tokenised after its prompt. Use a byte-level tokenizer."
        )
