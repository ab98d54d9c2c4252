"""Policy-gradient terms of sampled tokens, as functions of how much more probable the policy makes them than before.

With rho = exp(log_ratio) and A the advantage, each function returns a loss per token whose gradient at rho = 1 is that
of -A log p (REINFORCE). They differ in how they hold back tokens whose probability has already moved. Published losses
are one of these forms with one of the weights in `losses/aggregate.py`; the names are in `losses/objective.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG = 20.0
"""Log-ratios are clamped to this size before they are exponentiated: one broken token must not become inf."""


def log_ratios(logps: Tensor, old: Tensor) -> Tensor:
    """log(p / p_old) per token (N,), clamped to +-MAX_LOG."""
    return (logps - old).clamp(-MAX_LOG, MAX_LOG)


def sequence_mean(values: Tensor, sequence: Tensor, count: int) -> Tensor:
    """(N,) per token -> (N,): the mean over each token's sequence, of ``count`` sequences.

    Of log-ratios it is the logarithm of GSPO's sequence ratio (Zheng et al. 2025, arXiv:2507.18071, eq. 7).
    """
    tokens = torch.bincount(sequence, minlength=count).clamp(min=1)
    return (sequence_sum(values, sequence, count) / tokens)[sequence]


def sequence_sum(values: Tensor, sequence: Tensor, count: int) -> Tensor:
    """(N,) per token -> (count,) sums over sequences."""
    return values.new_zeros(count).index_add(0, sequence, values)


def clipped(log_ratio: Tensor, advantage: Tensor, low: float, high: float, delta: float | None = None) -> Tensor:
    r"""PPO's pessimistic clip (Schulman et al. 2017, arXiv:1707.06347, eq. 7), as GRPO uses it (arXiv:2402.03300).

    .. math:: -\min(\min(\rho, \delta) A, \mathrm{clip}(\rho, 1 - \epsilon_l, 1 + \epsilon_h) A)

    Args:
        log_ratio, advantage: (N,).
        low, high: epsilon below and above; a larger ``high`` is DAPO's clip-higher (arXiv:2503.14476).
        delta: bounds the ratio where A < 0 (INTELLECT-2, arXiv:2505.07291); None = unbounded.
    """
    ratio = log_ratio.exp()
    inside = ratio.clamp(1 - low, 1 + high)
    free = ratio if delta is None else ratio.clamp(max=delta)
    return -torch.minimum(free * advantage, inside * advantage)


def capped(log_ratio: Tensor, advantage: Tensor, logps: Tensor, cap: float) -> Tensor:
    r"""CISPO (MiniMax-M1, arXiv:2506.13585, eq. 4): a capped weight without gradient; no token loses its own.

    .. math:: -\mathrm{sg}[\min(\rho, c)] A \log p
    """
    return -log_ratio.detach().exp().clamp(max=cap) * advantage * logps


def soft_gate(log_ratio: Tensor, advantage: Tensor, tau_positive: float, tau_negative: float) -> Tensor:
    r"""SAPO (arXiv:2511.20347): a sigmoid in place of the clip, steeper for A <= 0.

    .. math:: -\frac{4}{\tau} \sigma(\tau (\rho - 1)) A
    """
    tau = torch.where(advantage > 0, tau_positive, tau_negative)
    return -4 / tau * torch.sigmoid(tau * (log_ratio.exp() - 1)) * advantage


def gamma_gate(
    sequence_log_ratio: Tensor,
    advantage: Tensor,
    logps: Tensor,
    positive: tuple[float, float],
    negative: tuple[float, float],
) -> Tensor:
    r"""VESPO (arXiv:2602.10693): a gamma-shaped weight of the whole sequence's probability ratio w, without gradient.

    .. math:: -\mathrm{sg}[e^{\lambda} w^k e^{-\lambda w}] A \log p

    Args:
        sequence_log_ratio: (N,) log w of each token's sequence, the sum (not the mean) of its tokens' log-ratios.
        positive, negative: (k, lambda) where A >= 0 and where A < 0.
    """
    log_w = sequence_log_ratio.detach().clamp(math.log(1e-8), MAX_LOG)
    k, lam = (torch.where(advantage >= 0, p, n) for p, n in zip(positive, negative, strict=True))
    return -torch.exp(lam + k * log_w - lam * log_w.exp()) * advantage * logps
