"""Weights for tokens that were not drawn from the policy that learns, and for tokens that hold no decision.

All are constants to the gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .ratio import MAX_LOG, sequence_mean, sequence_sum


def importance_weights(
    old: Tensor,
    sampler: Tensor,
    sequence: Tensor,
    count: int,
    mode: Literal["truncate", "mask"],
    level: Literal["token", "sequence"],
    cap: float,
) -> Tensor:
    r"""p_trainer / p_sampler of what was drawn (Yao et al. 2025, "Your efficient RL framework secretly brings you
    off-policy RL training"): sampler and trainer may compute different probabilities from the same weights.

    Args:
        old: (N,) the trainer's log-probs before the step's first update.
        sampler: (N,) log-probs the tokens were drawn with.
        sequence: (N,) index in [0, count) of each token's completion.
        mode: larger ratios than ``cap`` become ``cap``, or 0.
        level: ratio of each token, or of its whole sequence (the product).

    Returns:
        (N,) without gradient.
    """
    difference = (old - sampler).detach().clamp(-MAX_LOG, MAX_LOG)
    if level == "sequence":
        difference = sequence_sum(difference, sequence, count).clamp(-MAX_LOG, MAX_LOG)[sequence]
    weights = difference.exp()
    if mode == "truncate":
        return weights.clamp(max=cap)
    return torch.where(weights <= cap, weights, 0.0)


def off_policy_mask(
    logps: Tensor, sampler: Tensor, advantage: Tensor, sequence: Tensor, count: int, threshold: float
) -> Tensor:
    """(N,) False for completions with A < 0 that have become improbable: mean(log p_sampler - log p) > threshold.

    DeepSeek-V3.2 (arXiv:2512.02556, eq. 9).
    """
    drift = sequence_mean((sampler - logps).detach(), sequence, count)
    return (advantage >= 0) | (drift <= threshold)
