"""Rewards of completions -> advantages, group by group. All float64; nan marks a reward that does not apply."""

from __future__ import annotations

from typing import Literal

import numpy as np

SMALL = 1e-4
"""Added to standard deviations, in units of reward."""


def group_advantages(totals: np.ndarray, scale: Literal["group", "batch", "none"] = "group") -> np.ndarray:
    r"""GRPO (Shao et al. 2024, arXiv:2402.03300, section 4.1.2): how much better than its group's mean.

    .. math:: A_{ij} = \frac{R_{ij} - \mathrm{mean}_j R_i}{\mathrm{std} + 10^{-4}}

    Args:
        totals: (P, G) rewards of G completions of each of P prompts; nan where no reward applied.
        scale: the deviation of the group, of the whole batch, or none (Dr. GRPO, arXiv:2503.20783). With a group of
            two and ``group`` only the sign is left.

    Returns:
        (P, G); 0 where the reward is nan.
    """
    centred = totals - _mean(totals)
    if scale == "group":
        centred = centred / (_std(totals) + SMALL)
    elif scale == "batch":
        centred = centred / (_std(totals.reshape(1, -1))[0, 0] + SMALL)
    centred[zero_variance(totals)] = 0.0  # equal rewards may differ from their mean by rounding
    return np.nan_to_num(centred, nan=0.0)


def decoupled_advantages(rewards: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""GDPO (arXiv:2601.05242): each reward is scaled by its own group deviation, then weighed, then over the batch.

    A reward that hardly varies keeps its say beside one that varies much.

    Args:
        rewards: (P, G, K), nan where a reward does not apply.
        weights: (K,).

    Returns:
        (P, G).
    """
    parts = [w * group_advantages(rewards[..., k]) for k, w in enumerate(weights)]
    total = np.sum(parts, axis=0)
    return (total - total.mean()) / (_std(total.reshape(1, -1))[0, 0] + SMALL)


def zero_variance(totals: np.ndarray) -> np.ndarray:
    """(P,) whether all completions of a prompt got the same reward, so that its advantages are 0 (up to rounding)."""
    return ~(deviations(totals) > 1e-8)


def deviations(totals: np.ndarray) -> np.ndarray:
    """(P,) standard deviation of each prompt's rewards that apply; 0 where fewer than two do."""
    return _std(totals)[:, 0]


def _mean(x: np.ndarray) -> np.ndarray:
    count = (~np.isnan(x)).sum(-1, keepdims=True)
    return np.nansum(x, -1, keepdims=True) / np.maximum(count, 1)


def _std(x: np.ndarray) -> np.ndarray:
    """Sample standard deviation (Bessel-corrected) along the last axis, 0 for fewer than two values."""
    count = (~np.isnan(x)).sum(-1, keepdims=True)
    squares = np.nansum((x - _mean(x)) ** 2, -1, keepdims=True)
    return np.sqrt(squares / np.maximum(count - 1, 1))
