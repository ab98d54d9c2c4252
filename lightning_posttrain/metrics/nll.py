"""Mean negative log-likelihood that stays exact over micro-batches, ranks and more than 2**24 tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class TokenNLL(Metric):
    """Mean NLL per supervised token in nats: float64 sum, int64 count. nan while nothing was counted.

    >>> metric = TokenNLL()
    >>> metric.update(torch.tensor([-1.0, -3.0]))
    >>> metric.compute()
    tensor(2., dtype=torch.float64)
    """

    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logps: Tensor) -> None:
        """``logps``: (N,) log-probs of supervised tokens in nats; N may be 0."""
        self.total -= logps.detach().double().sum()
        self.count += logps.numel()

    def compute(self) -> Tensor:
        return self.total / self.count
