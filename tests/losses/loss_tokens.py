"""Random completions in the two shapes the tests need: flat tensors, and lists of numbers that loops can read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LENGTHS = (3, 1, 5, 2, 4)


class Tokens(NamedTuple):
    """Completions of a step, float64."""

    logps: Tensor
    """(N,) with gradient."""
    old: Tensor
    """(N,)"""
    advantage: Tensor
    """(N,) the same for all tokens of a completion; of both signs."""
    sequence: Tensor
    """(N,) int64."""

    @property
    def spans(self) -> list[range]:
        """Token indices of each completion."""
        stops = torch.bincount(self.sequence).cumsum(0).tolist()
        return [range(a, b) for a, b in zip([0, *stops], stops, strict=False)]


def tokens(seed: int = 0, spread: float = 0.4, lengths: tuple[int, ...] = LENGTHS) -> Tokens:
    """``spread`` is the standard deviation of the log-ratios."""
    made = torch.Generator().manual_seed(seed)

    def normal(count: int) -> Tensor:
        return torch.randn(count, generator=made, dtype=torch.float64)

    sequence = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    old = -normal(len(sequence)).abs() - 0.1
    logps = (old + spread * normal(len(sequence))).requires_grad_()
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0]).repeat(len(lengths))[: len(lengths)]
    return Tokens(logps, old, (normal(len(lengths)).abs() * sign)[sequence], sequence)


def gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    """Of the sum of ``loss``."""
    return torch.autograd.grad(loss.sum(), leaf)[0]


def reals(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
