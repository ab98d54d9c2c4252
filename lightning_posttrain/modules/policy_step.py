"""Scored rollouts -> optimizer steps: which completions are learned from, their divisors, their columns.

A completion whose loss is known to be zero is not run, but it counts in every divisor, so leaving it out changes
nothing but the time.
"""

from __future__ import annotations

import numpy as np
import torch

from ..batching.cut import cut_step
from ..batching.tree import collate_all
from ..ops.ranks import gather
from ..rollout.rollouts import Rollout
from ..types import Example, StepBatch


class PolicyStep(StepBatch):
    """A `StepBatch` of rollouts.

    ``num_sequences`` counts all of the step's, ``num_tokens`` the tokens of those not masked, run or not.
    The micro-batches have these columns, each (N,) float32: ``advantage``; ``sampler`` log-probs; ``counts``, 1 or 0
    for completions that are in the batch but not in the loss; later ``old`` and ``reference`` log-probs and
    ``decides``, 0 for tokens outside an entropy quantile.

    Args:
        rollouts: every completion of the step over all ranks.
        run_tokens: completion tokens that the decoder runs over, over all ranks.
        num_micros: micro-batches over all ranks, without idle ones.
        **step: see `StepBatch`.
    """

    def __init__(self, rollouts: list[Rollout], run_tokens: int, num_micros: int, **step: object) -> None:
        super().__init__(**step)  # type: ignore[arg-type]
        self.rollouts, self.run_tokens, self.num_micros = rollouts, run_tokens, num_micros


def policy_step(
    rollouts: list[Rollout],
    *,
    tokens_per_micro: int,
    min_shared: int,
    rank: int,
    world_size: int,
    run_all: bool,
    epoch: int,
    index: int,
) -> PolicyStep:
    """The step of ``rollouts``, as this rank sees it.

    Args:
        rollouts: of all ranks, in the same order on each.
        tokens_per_micro: most distinct tokens in a micro-batch.
        min_shared: shortest common prefix (tokens) worth sharing.
        rank, world_size: this process and how many there are.
        run_all: whether completions with advantage 0 matter too (KL, entropy bonus, entropy quantile).
        epoch, index: place of the step in the run.
    """
    counted = [r for r in rollouts if not r.masked]
    run = [r for r in counted if run_all or r.advantage != 0]
    idle = [r for r in rollouts if r not in run] if len(run) < world_size else []
    run += idle[: world_size - len(run)]  # each rank needs something to do; what is added has a loss of 0
    for rollout in run:
        rollout.trained = True
    examples: list[Example] = [(r.sequence,) for r in run]
    groups = cut_step(examples, tokens_per_micro, world_size, min_shared)
    return PolicyStep(
        rollouts,
        sum(len(r.completion.tokens) for r in run),
        sum(bool(group) for mine in groups for group in mine),
        micros=collate_all(groups[rank], min_shared, examples[0]),
        num_tokens=max(1, sum(len(r.completion.tokens) for r in counted)),
        num_sequences=len(rollouts),
        num_examples=len({r.prompt.key for r in rollouts}),
        epoch=epoch,
        index=index,
    )


def largest_gap(steps: list[PolicyStep]) -> float:
    """Largest difference (nats) between a drawn token's log-probs by trainer and sampler, over all ranks."""
    gaps = [0.0]
    for micro in (m for step in steps for m in step.micros if "old" in m.columns):
        gap = (micro.columns["old"] - micro.columns["sampler"]).nan_to_num(posinf=0.0, neginf=0.0)
        gaps.append(float(gap.abs().max()))
    return max(gather(max(gaps)))


def detach(steps: list[PolicyStep], column: str) -> dict[str, np.ndarray]:
    """Rollout's name -> its tokens' values (T,) float32 of ``column`` in this rank's micro-batches."""
    found: dict[str, np.ndarray] = {}
    for micro in (m for step in steps for m in step.micros if column in m.columns and not m.idle):
        values = micro.columns[column].float().cpu().numpy()
        counts = torch.bincount(micro.sequence, minlength=micro.num_sequences).tolist()
        found.update(zip(micro.ids, np.split(values, np.cumsum(counts)[:-1]), strict=True))
    return found
