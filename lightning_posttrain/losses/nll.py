"""Supervised fine-tuning and pretraining objectives over token log-probs."""

from __future__ import annotations

import torch
from torch import Tensor


def nll(logps: Tensor, total_tokens: int) -> Tensor:
    r"""Negative log-likelihood per supervised token of the whole step.

    .. math:: -\frac{1}{N} \sum_t \log p_t

    Args:
        logps: (n,) float32 nats, the supervised tokens of one micro-batch.
        total_tokens: N, supervised tokens of the step over all micro-batches and ranks.

    Returns:
        Scalar, nats per token. Summed over the step's micro-batches and ranks it is the step's mean.

    Raises:
        ValueError: if ``total_tokens`` is not positive.
    """
    return -(logps * token_weights(logps.numel(), total_tokens, logps)).sum()


def token_weights(n: int, total_tokens: int, like: Tensor) -> Tensor:
    """(n,) weights 1 / N of `nll`, for `ops.logprobs.weighted_nll`."""
    if total_tokens <= 0:
        raise ValueError(f"need a positive number of supervised tokens, got {total_tokens=}")
    return torch.full(
        (n,), 1.0 / total_tokens, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device
    )


def dft(logps: Tensor, total_tokens: int) -> Tensor:
    r"""Dynamic fine-tuning (Wu et al. 2025, arXiv:2508.05629, eq. 9): each token's NLL weighted by its probability.

    .. math:: -\frac{1}{N} \sum_t \mathrm{sg}[p_t] \log p_t

    Args and units as in `nll`.

    Raises:
        ValueError: if ``total_tokens`` is not positive.
    """
    weights = token_weights(logps.numel(), total_tokens, logps) * logps.detach().exp()
    return -(weights * logps).sum()
