"""Random pairs in the two shapes the tests need: tensors, and rows of numbers that formulas can be written with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_posttrain.losses.preference import Pairs

CHOSEN, REJECTED = (3, 1, 5, 2, 4), (2, 4, 5, 1, 6)


class Row(NamedTuple):
    """One pair in numbers."""

    w: float
    """Sum of log-probs of the chosen."""
    l: float  # noqa: E741
    ref_w: float
    ref_l: float
    n_w: int
    n_l: int


class PairTokens(NamedTuple):
    """Tokens of a step's pairs, float64."""

    logps: Tensor
    """(N,) with gradient."""
    reference: Tensor
    """(N,)"""
    sequence: Tensor
    """(N,) int64."""

    @property
    def count(self) -> int:
        return (int(self.sequence.max()) + 1) // 2

    def spans(self) -> list[list[int]]:
        """Token indices of each sequence."""
        return [(self.sequence == i).nonzero().flatten().tolist() for i in range(2 * self.count)]

    def part(self, which: slice) -> PairTokens:
        """Some of the pairs."""
        indices = range(*which.indices(self.count))
        mine = torch.tensor([s // 2 in indices for s in self.sequence.tolist()])
        return PairTokens(self.logps[mine], self.reference[mine], self.sequence[mine] - 2 * indices[0])


def pair_tokens(seed: int = 0, spread: float = 0.4) -> PairTokens:
    """``spread`` is the standard deviation of a token's log-ratio."""
    made = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([CHOSEN, REJECTED]).T.flatten()
    sequence = torch.arange(len(lengths)).repeat_interleave(lengths)
    reference = -torch.randn(len(sequence), generator=made, dtype=torch.float64).abs() - 0.1
    moved = spread * torch.randn(len(sequence), generator=made, dtype=torch.float64)
    return PairTokens((reference + moved).clamp(max=-0.01).requires_grad_(), reference, sequence)


def some_pairs(rows: list[Row], dtype: torch.dtype = torch.float64) -> Pairs:
    """Pairs of these numbers, with gradient."""
    w, l, ref_w, ref_l = (torch.tensor(x, dtype=dtype) for x in list(zip(*rows, strict=True))[:4])  # noqa: E741
    n_w, n_l = (torch.tensor([row[i] for row in rows]) for i in (4, 5))
    return Pairs(w.requires_grad_(), l.requires_grad_(), ref_w, ref_l, n_w, n_l)


def rows_of(t: PairTokens) -> list[Row]:
    """The same pairs as numbers, added up one token at a time."""
    sums = [(sum(t.logps[i].item() for i in s), sum(t.reference[i].item() for i in s), len(s)) for s in t.spans()]
    return [Row(w[0], l[0], w[1], l[1], w[2], l[2]) for w, l in zip(sums[::2], sums[1::2], strict=True)]  # noqa: E741


def random_rows(seed: int = 0, spread: float = 0.4) -> list[Row]:
    return rows_of(pair_tokens(seed, spread))
