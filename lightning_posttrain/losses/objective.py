"""Policy-gradient objectives by name: a ratio form, the level of its ratio, and a normaliser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..types import UserError
from . import aggregate, ratio

Form = Literal["clip", "cap", "soft_gate", "gamma_gate"]
Level = Literal["token", "sequence"]
Normaliser = Literal["sequence_mean", "micro_tokens", "step_tokens", "constant", "length_weighted"]

NAMED: dict[str, tuple[Form, Level, Normaliser]] = {
    "grpo": ("clip", "token", "sequence_mean"),
    "bnpo": ("clip", "token", "micro_tokens"),
    "dapo": ("clip", "token", "step_tokens"),
    "dr_grpo": ("clip", "token", "constant"),
    "gspo": ("clip", "sequence", "sequence_mean"),
    "luspo": ("clip", "sequence", "length_weighted"),
    "cispo": ("cap", "token", "step_tokens"),
    "sapo": ("soft_gate", "token", "sequence_mean"),
    "vespo": ("gamma_gate", "sequence", "step_tokens"),
}


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _positive_pair(values: tuple[float, float]) -> bool:
    return len(values) == 2 and all(map(_positive, values))


RANGES: dict[str, tuple[Form, str, Callable[[Any], bool]]] = {
    "clip_low": ("clip", "above 0 and at most 1", lambda x: 0 < x <= 1),
    "clip_high": ("clip", "above 0", lambda x: x > 0),
    "delta": ("clip", "above 1", lambda x: x > 1),
    "cap": ("cap", "at least 1", lambda x: x >= 1),
    "tau_positive": ("soft_gate", "above 0 and finite", _positive),
    "tau_negative": ("soft_gate", "above 0 and finite", _positive),
    "gamma_positive": ("gamma_gate", "two numbers above 0", _positive_pair),
    "gamma_negative": ("gamma_gate", "two numbers above 0", _positive_pair),
}
"""Option -> the form that reads it, and what it must be."""


class Scope(NamedTuple):
    """What a normaliser needs to know: this micro-batch, and the step over all ranks."""

    sequence: Tensor
    """(N,) int64 index of the completion of each loss token here."""
    completions: int
    """Completions here."""
    total_tokens: int
    """Loss tokens of the step."""
    total_sequences: int
    """Completions of the step."""
    total_micros: int
    """Micro-batches of the step."""
    max_tokens: int
    """Longest allowed completion."""


@dataclass(frozen=True)
class Objective:
    """A published objective; `ratio`, `level` and `normaliser` replace its parts.

    Whatever the numbers, the gradient while no probability has moved is that of -A log p: a step that is one update
    learns the same with each form. Numbers for which it would not be so are refused.

    Raises:
        UserError: a number out of range, or one that the form does not read.
    """

    name: Literal["grpo", "bnpo", "dapo", "dr_grpo", "gspo", "luspo", "cispo", "sapo", "vespo"] = "dapo"
    """Sources are in `losses/ratio.py` and `losses/aggregate.py`."""
    ratio: Form | None = None
    """How tokens that have moved are held back; null = as ``name`` says."""
    level: Level | None = None
    """Ratio of each token, or of its sequence (per token: GSPO); null = as ``name`` says."""
    normaliser: Normaliser | None = None
    """What a token weighs; null = as ``name`` says."""
    clip_low: float = 0.2
    """``clip``: the ratio counts down to 1 - clip_low; 1 = without a lower bound."""
    clip_high: float | None = None
    """``clip``: the ratio counts up to 1 + clip_high; null = clip_low. DAPO's clip-higher is 0.28."""
    delta: float | None = None
    """``clip``: bound of the ratio where the advantage is negative, at least 1 + clip_high; null = none."""
    cap: float = 5.0
    """``cap``: largest weight, at least 1."""
    tau_positive: float = 1.0
    """``soft_gate``: steepness where the advantage is positive."""
    tau_negative: float = 1.05
    """``soft_gate``: steepness elsewhere."""
    gamma_positive: tuple[float, float] = (2.0, 3.0)
    """``gamma_gate``: (k, lambda) where the advantage is not negative."""
    gamma_negative: tuple[float, float] = (3.0, 2.0)
    """``gamma_gate``: (k, lambda) where it is negative."""

    def __post_init__(self) -> None:
        form = self.parts[0]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in RANGES or value is None:
                continue
            read_by, meaning, holds = RANGES[field.name]
            if not holds(value):
                raise UserError(f"objective: {field.name}={value} must be {meaning}")
            if value != field.default and read_by != form:
                raise UserError(
                    f"objective: {field.name}={value} changes nothing in {self.name} ({form}); leave it out"
                )
        if self.delta is not None and not self.delta >= 1 + self.bounds[1]:
            raise UserError(f"objective: delta={self.delta} must be at least 1 + clip_high = {1 + self.bounds[1]:g}")

    @property
    def parts(self) -> tuple[Form, Level, Normaliser]:
        form, level, normaliser = NAMED[self.name]
        return self.ratio or form, self.level or level, self.normaliser or normaliser

    @property
    def bounds(self) -> tuple[float, float]:
        """Epsilon below and above."""
        return self.clip_low, self.clip_low if self.clip_high is None else self.clip_high

    def terms(self, logps: Tensor, log_ratio: Tensor, advantage: Tensor, scope: Scope) -> Tensor:
        """Loss of each token (N,), before it is weighed.

        Args:
            logps: (N,) log-probs under the policy, with gradient.
            log_ratio: (N,) their difference to the log-probs before the step's first update (`ratio.log_ratios`).
            advantage: (N,) of each token's completion.
        """
        form, level, _ = self.parts
        if form == "gamma_gate":
            whole = ratio.sequence_sum(log_ratio, scope.sequence, scope.completions)[scope.sequence]
            return ratio.gamma_gate(whole, advantage, logps, self.gamma_positive, self.gamma_negative)
        if level == "sequence":
            log_ratio = ratio.sequence_mean(log_ratio, scope.sequence, scope.completions)
        if form == "cap":
            return ratio.capped(log_ratio, advantage, logps, self.cap)
        if form == "soft_gate":
            return ratio.soft_gate(log_ratio, advantage, self.tau_positive, self.tau_negative)
        return ratio.clipped(log_ratio, advantage, *self.bounds, self.delta)

    def weights(self, scope: Scope) -> Tensor:
        """(N,) what each token's loss weighs in the loss of the step."""
        normaliser, n, device = self.parts[2], len(scope.sequence), scope.sequence.device
        if normaliser == "sequence_mean":
            return aggregate.sequence_mean(scope.sequence, scope.completions, scope.total_sequences)
        if normaliser == "micro_tokens":
            return aggregate.micro_tokens(n, scope.total_micros, device)
        if normaliser == "step_tokens":
            return aggregate.step_tokens(n, scope.total_tokens, device)
        if normaliser == "constant":
            return aggregate.constant(n, scope.total_sequences, scope.max_tokens, device)
        return aggregate.length_weighted(n, scope.total_sequences, device)

    def clip_counts(self, log_ratio: Tensor, advantage: Tensor, scope: Scope) -> dict[str, Tensor]:
        """Tokens whose gradient the clip has stopped, below and above; empty for other forms."""
        form, level, _ = self.parts
        if form != "clip":
            return {}
        if level == "sequence":
            log_ratio = ratio.sequence_mean(log_ratio, scope.sequence, scope.completions)
        (low, high), moved = self.bounds, log_ratio.detach().exp()
        below = (moved < 1 - low) & (advantage < 0)
        above = (moved > 1 + high) & (advantage > 0)
        return {"clip_low": below.sum(dtype=torch.float64), "clip_high": above.sum(dtype=torch.float64)}
