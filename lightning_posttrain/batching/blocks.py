"""Token shards as blocks of equal length, each cut into the documents that it holds parts of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Several
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..records.shards import open_shard, shard_facts
from ..types import Example, Sequence, UserError


def check_sizes(length: int, per_step: int | None = None, per_micro: int | None = None, prefix: str = "") -> None:
    """Refuse a block, a step or a micro-batch that is not made of whole blocks.

    Args:
        length: tokens of a block, ``sequence_length``.
        per_step: tokens of an optimizer step, ``tokens_per_step``.
        per_micro: most tokens on a device at once, ``tokens_per_micro``.
        prefix: of the options' names in messages.

    Raises:
        UserError: naming the option, its value, and one that goes.
    """
    if length < 2:
        raise UserError(
            f"{prefix}sequence_length={length}: a block has at least 2 tokens, one to predict from the other"
        )
    if per_step is not None and (per_step < length or per_step % length):
        raise UserError(
            f"{prefix}tokens_per_step={per_step} is no multiple of sequence_length={length}; "
            f"try {max(1, round(per_step / length)) * length}"
        )
    if per_micro is not None and per_micro < length:
        raise UserError(
            f"{prefix}tokens_per_micro={per_micro} holds no block of sequence_length={length}; give at least {length}, "
            "or lower sequence_length"
        )


class TokenBlocks:
    """Blocks of ``length`` tokens from shards that are read as one long row; a remainder shorter than that is left out.

    Each document in a block is a sequence of its own, so that no token attends to another document. It begins with the
    end-of-text token of the one before it, from which its first token is predicted: a block has length - 1 predictions
    however many documents it holds, and every text is learned from its start.

    Args:
        files: the shards.
        length: tokens of a block, at least 2.
        end: the end-of-text token.
        vocabulary: number of ids.
        dtype: of the numbers in .bin files.
        mask_documents: False = a block is one sequence, across the ends of documents.
        cache_dir: where facts about shards are kept.

    Raises:
        UserError: a shard is broken, holds ids beyond the vocabulary, all are shorter than a block together, or no
            document ends anywhere.
    """

    def __init__(
        self,
        files: Several[Path],
        length: int,
        end: int,
        vocabulary: int,
        dtype: str = "uint16",
        mask_documents: bool = True,
        cache_dir: str = ".cache/shards",
    ) -> None:
        check_sizes(length)
        self.files, self.length, self.end, self.mask_documents = list(files), length, end, mask_documents
        facts = [shard_facts(path, end, dtype, cache_dir) for path in files]
        for path, fact in zip(files, facts, strict=True):
            if fact.largest >= vocabulary:
                raise UserError(
                    f"{path}: holds the id {fact.largest}, but the vocabulary has {vocabulary} tokens; tokenise it "
                    "with this model's tokenizer, or set dtype to the one it was written with"
                )
        self.shards = [open_shard(path, dtype) for path in files]
        self.ends = np.cumsum([fact.tokens for fact in facts])
        self.tokens = int(self.ends[-1])
        if len(self) == 0:
            named = ", ".join(map(str, files[:3]))
            raise UserError(f"{named}: {self.tokens} tokens are less than one block of sequence_length={length}")
        if mask_documents and not any(fact.ends for fact in facts):
            raise UserError(
                f"{', '.join(map(str, files[:3]))}: the id {end}, with which the tokenizer ends documents, is not in "
                f"their {self.tokens} tokens, so each would attend to other documents' tokens; give the tokenizer that "
                "made the shards, or set mask_documents: false if they are one document"
            )
        parts = [f"{f.sha256} {f.tokens}" for f in facts]
        key = f"{parts} {length} {end} {mask_documents}"
        self.fingerprint = hashlib.sha256(key.encode()).hexdigest()

    def __len__(self) -> int:
        return self.tokens // self.length

    def ids(self, start: int, stop: int) -> np.ndarray:
        """(stop - start,) int32: tokens of the long row."""
        at = int(np.searchsorted(self.ends, start, side="right"))
        parts = []
        while start < stop:
            offset = start - (int(self.ends[at - 1]) if at else 0)
            parts.append(self.shards[at][offset : offset + stop - start].astype(np.int32))
            start += len(parts[-1])
            at += 1
        return np.concatenate(parts)

    def __getitem__(self, index: int) -> Example:
        ids = self.ids(index * self.length, (index + 1) * self.length)
        bounds = [0, len(ids) - 1]
        if self.mask_documents:
            bounds = sorted({*bounds, *np.flatnonzero(ids[:-1] == self.end).tolist()})
        origin = f"{self.files[int(np.searchsorted(self.ends, index * self.length, side='right'))]} block {index}"
        return tuple(_sequence(ids[a : b + 1], f"{index}.{n}", origin) for n, (a, b) in enumerate(pairwise(bounds)))


def _sequence(ids: np.ndarray, id: str, origin: str) -> Sequence:
    """Every token but the first is predicted."""
    return Sequence(ids, np.arange(len(ids)) > 0, id, origin)
