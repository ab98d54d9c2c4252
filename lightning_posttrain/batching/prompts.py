"""Prompts for reinforcement learning: what a rollout starts from, and the loader of steps of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Record
from .loader import EpochLoader


@dataclass(frozen=True)
class Prompt:
    """A problem and how it begins.

    Args:
        record: what rewards and scorers need.
        ids: (T,) int32 tokens a completion continues.
        key: row number in its file; keys the random numbers of its rollouts.
    """

    record: Record
    ids: np.ndarray
    key: int


class PromptList:
    """Prompts in memory, with a fingerprint of their tokens."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = list(prompts)
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(f"{prompt.key} {len(prompt.ids)} ".encode() + prompt.ids.astype("<i4").tobytes())
            digest.update(prompt.record.answer.encode("utf-8", "surrogatepass"))
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Prompt:
        return self.prompts[index]


class PromptBatch:
    """The prompts of one step over all ranks, every rank the same.

    Not a dataclass, see `StepBatch`.

    Args:
        prompts: at least one.
        spares: further prompts for groups that teach nothing, in an order keyed by the step; none occurs in it.
        tokens_per_micro: most distinct tokens on a device at once in learning.
        min_shared: shortest common prefix (tokens) worth sharing.
        epoch, index: place of the step in the run.
    """

    def __init__(
        self,
        prompts: list[Prompt],
        spares: Iterator[Prompt],
        tokens_per_micro: int,
        min_shared: int,
        epoch: int = 0,
        index: int = 0,
    ) -> None:
        self.prompts, self.spares = prompts, spares
        self.tokens_per_micro, self.min_shared = tokens_per_micro, min_shared
        self.epoch, self.index = epoch, index
        self.load_seconds = 0.0


class PromptLoader(EpochLoader[Prompt, PromptBatch]):
    """Yields `PromptBatch`es, which take ``tokens_per_micro`` and ``min_shared`` along."""

    per_step_name = "prompts_per_step"

    def build(self, items: list[Prompt], epoch: int = 0, index: int = 0) -> PromptBatch:
        spares = self._spares({p.key for p in items}, epoch, index)
        return PromptBatch(items, spares, self.tokens_per_micro, self.min_shared, epoch, index)

    def _spares(self, used: set[int], epoch: int, index: int) -> Iterator[Prompt]:
        """A generator, so that a step that needs none draws no order of the whole data set."""
        for i in np.random.default_rng([self.seed or 0, epoch, index, 0x59A4E]).permutation(len(self.source)):
            prompt = self.source[int(i)]
            if prompt.key not in used:
                yield prompt
