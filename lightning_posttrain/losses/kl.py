"""Estimators of KL(policy || reference) per sampled token (Schulman 2020, "Approximating KL divergence").

With r = log(p_ref / p) of a token drawn from the policy, in nats:

- k1 = -r: unbiased, may be negative; its gradient has mean zero, so as a loss it does nothing on-policy.
- k2 = r^2 / 2: biased as a value; as a loss its gradient is that of the KL divergence.
- k3 = exp(r) - r - 1: unbiased and never negative; its gradient is biased (Shao et al. 2024, arXiv:2402.03300, eq. 4).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

MAX_LOG = 20.0
"""r is clamped to +-MAX_LOG: exp(r) of one token that the reference likes much better would be all there is."""


def kl_estimate(logps: Tensor, reference: Tensor, kind: Literal["k1", "k2", "k3"] = "k3") -> Tensor:
    """Per-token estimate (N,) in nats, differentiable in ``logps`` (N,); ``reference`` (N,) has no gradient."""
    r = (reference - logps).clamp(-MAX_LOG, MAX_LOG)
    if kind == "k1":
        return -r
    if kind == "k2":
        return r.square() / 2
    return r.exp() - r - 1


def bias_corrected(kl: Tensor, log_ratio: Tensor) -> Tensor:
    """KL times the policy's ratio to the sampling policy, which makes k3's gradient unbiased.

    DeepSeek-V3.2 (arXiv:2512.02556, eq. 7).
    """
    return kl * log_ratio.exp()
