"""Numbers that say how a step's rollouts went, for the logger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..losses.advantage import deviations, zero_variance
from ..rollout.rollouts import Rollout


def rollout_stats(groups: list[list[Rollout]], names: Sequence[str]) -> dict[str, float]:
    """Means over the completions of a step as they were drawn, before any is replaced or left out.

    Returns:
        ``reward``, ``reward_std`` (mean deviation within groups), ``rewards/<name>``, ``length``, ``length_min``,
        ``length_max`` (tokens), ``truncated`` (share), ``zero_variance`` (share of groups), ``entropy`` (nats per
        token: the mean of -log p of what was drawn, an unbiased estimate).
    """
    flat = [r for group in groups for r in group]
    totals = np.array([[r.total for r in group] for group in groups])
    lengths = np.array([len(r.completion.tokens) for r in flat])
    logps = np.concatenate([np.array(r.completion.logprobs, np.float64) for r in flat])
    parts = np.array([r.rewards for r in flat])
    return {
        "reward": _mean(totals),
        "reward_std": float(np.mean(deviations(totals))),
        **{f"rewards/{name}": _mean(parts[:, k]) for k, name in enumerate(names)},
        "length": float(lengths.mean()),
        "length_min": float(lengths.min()),
        "length_max": float(lengths.max()),
        "truncated": float(np.mean([not r.completion.finished for r in flat])),
        "zero_variance": float(np.mean(zero_variance(totals))),
        "entropy": float(-logps.mean()),
    }


def _mean(values: np.ndarray) -> float:
    """Mean of what is there; 0 if nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
