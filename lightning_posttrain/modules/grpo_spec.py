"""The settings of `GRPOModule` that come in groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AdvantageSpec:
    """From rewards to advantages."""

    scale: Literal["group", "batch", "none"] = "group"
    """Standard deviation that divides the difference to the group's mean."""
    decoupled: bool = False
    """Scale each reward by itself before they are summed (GDPO)."""


@dataclass(frozen=True)
class KLSpec:
    """Penalty for leaving the reference policy."""

    beta: float = 0.0
    """Factor of the penalty; 0 keeps no reference."""
    estimate: Literal["k1", "k2", "k3"] = "k3"
    """Per-token estimator, see `losses/kl.py`."""
    bias_correction: bool = False
    """Multiply it by the policy ratio."""
    reference: Literal["initial", "base"] = "initial"
    """The policy at the start of the run, or the model without its adapters."""


@dataclass(frozen=True)
class ImportanceSpec:
    """Correction for a sampler whose probabilities are not the trainer's."""

    mode: Literal["truncate", "mask"] = "truncate"
    """What becomes of ratios above ``cap``: they count as ``cap``, or as 0."""
    level: Literal["token", "sequence"] = "token"
    """Ratio of each token, or of its whole completion."""
    cap: float = 2.0
    """Largest ratio that counts in full."""


@dataclass(frozen=True)
class EntropySpec:
    """What the entropy of the policy does to the loss."""

    bonus: float = 0.0
    """Added to the objective per nat of mean token entropy."""
    quantile: float = 1.0
    """Share of the tokens, those with the highest entropy, that the policy gradient acts on (arXiv:2506.01939)."""
