"""Views of a source that keep a truthful fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from typing import Generic

import numpy as np

from ..types import Example, Sequence, UserError
from .loader import ExampleSource, Item, Source
from .tree import common_prefix


class Subset(Generic[Item]):
    """The items of ``source`` at ``indices`` (n,) int64, in that order."""

    def __init__(self, source: Source[Item], indices: np.ndarray) -> None:
        self.source, self.indices = source, indices
        digest = hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
        self.fingerprint = hashlib.sha256(f"{source.fingerprint} {digest}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Item:
        return self.source[int(self.indices[index])]


class PromptWeighted:
    """Examples whose prompts are trained too, each of their tokens with ``weight``, relative to 1 for an answer's.

    Every token but the first of a sequence is supervised, and has its weight in the column ``weight``; where an example
    has several sequences, tokens of a prompt that the one before has, too, count there.
    """

    def __init__(self, source: ExampleSource, weight: float) -> None:
        self.source, self.weight = source, weight
        self.fingerprint = hashlib.sha256(f"{source.fingerprint} prompt weight {weight}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        seen = [1] + [common_prefix(a, b) for a, b in pairwise(example)]  # nothing predicts the first token
        return tuple(self._weighted(s, max(n, 1)) for s, n in zip(example, seen, strict=True))

    def _weighted(self, sequence: Sequence, seen: int) -> Sequence:
        supervised = sequence.supervised | (np.arange(len(sequence.ids)) >= seen)
        weight = np.where(sequence.supervised, 1.0, self.weight)[supervised].astype(np.float32)
        return replace(sequence, supervised=supervised, columns={**sequence.columns, "weight": weight})


def split(source: Source[Item], held_out: int, most: int | None, seed: int) -> tuple[Source[Item], Subset[Item] | None]:
    """Hold out some examples, and keep at most ``most`` of the rest, both drawn by ``seed`` alone.

    The held-out examples do not depend on ``most``, so runs on more data are validated on the same examples.

    Raises:
        UserError: fewer examples than asked for.
    """
    if held_out + 1 > len(source):
        raise UserError(f"val_examples={held_out} leaves nothing to train on: there are {len(source)} examples")
    if most is not None and not 1 <= most <= len(source) - held_out:
        raise UserError(f"max_examples={most}: {len(source) - held_out} training examples are available")
    if not held_out and most is None:
        return source, None
    order = np.random.default_rng([seed, 0x5EED]).permutation(len(source))
    train = np.sort(order[held_out:][:most])
    return Subset(source, train), Subset(source, np.sort(order[:held_out])) if held_out else None
