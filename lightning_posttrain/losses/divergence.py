"""What a log-ratio to the reference is worth when the policy is tied to it by another divergence than reverse KL.

Direct preference optimisation rests on: the policy that maximises reward - beta * D_f(policy || reference) has the
reward beta * f'(p / p_ref) + constant (Wang et al. 2023, arXiv:2309.16240). Here f' is written as a function
of r = log(p / p_ref), with f chosen such that f'(1) = 0: no score without a difference to the reference.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]

MAX_EXPONENT = 40.0
"""Above it exp goes on as its tangent: a float32 still holds the square of exp(40), which losses and norms of gradients
take, and unlike a clamp the tangent leaves a completion that has moved far a gradient that points back."""


def bounded_exp(x: Tensor) -> Tensor:
    """exp(x) up to MAX_EXPONENT, from there on its tangent."""
    return x.clamp(max=MAX_EXPONENT).exp() * (1 + relu(x - MAX_EXPONENT))


def bounded_expm1(x: Tensor) -> Tensor:
    """`bounded_exp` - 1, exact near 0."""
    return x.clamp(max=MAX_EXPONENT).expm1() + math.exp(MAX_EXPONENT) * relu(x - MAX_EXPONENT)


def score(log_ratio: Tensor, divergence: Divergence = "reverse_kl", alpha: float = 0.5) -> Tensor:
    r"""f'(e^r) for sums of log-ratios r (P,), in nats for reverse KL (Wang et al. 2023, arXiv:2309.16240).

    .. math:: r, \quad 1 - e^{-r}, \quad \log 2 + \log\sigma(r), \quad \frac{e^{(\alpha - 1) r} - 1}{\alpha - 1}

    Args:
        log_ratio: (P,).
        divergence: the four of the formula, in its order.
        alpha: of ``alpha``: 1 is reverse KL and 0 is forward KL. The paper's alpha is 1 - this one.
    """
    if divergence == "js":
        return math.log(2) + logsigmoid(log_ratio)
    power = {"forward_kl": -1.0, "alpha": alpha - 1}.get(divergence, 0.0)
    return torch.div(bounded_expm1(power * log_ratio), power) if power else log_ratio
