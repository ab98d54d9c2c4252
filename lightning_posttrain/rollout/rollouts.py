"""What a step of reinforcement learning knows of each completion, from the sampler to the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..batching.prompts import Prompt
from ..types import Completion, Sequence


@dataclass(eq=False)
class Rollout:
    """One completion of one prompt.

    Args:
        prompt: the problem.
        sample: which of the prompt's completions, from 0; with the prompt's key it names the rollout.
        completion: tokens and the log-probs they were drawn with.
        rewards: (K,) float64, nan where a reward does not apply.
        total: their weighted sum, nan if none applies.
        advantage: what the policy gradient multiplies.
        masked: left out of the loss because it ran into the length limit.
        trained: the decoder ran over it; False where its loss is known to be zero.
        logprobs: (T,) float32 of its tokens by the trainer before the first update, if ``trained``.
        reference: (T,) float32 by the reference policy, if there is one.
    """

    prompt: Prompt
    sample: int
    completion: Completion
    rewards: np.ndarray = field(default_factory=lambda: np.zeros(0))
    total: float = np.nan
    advantage: float = 0.0
    masked: bool = False
    trained: bool = False
    logprobs: np.ndarray | None = None
    reference: np.ndarray | None = None

    @property
    def name(self) -> str:
        """Unique in a step."""
        return f"{self.prompt.key}/{self.sample}"

    @property
    def sequence(self) -> Sequence:
        """Prompt and completion; the completion is supervised, its stop token too: to end is an action.

        Columns: ``advantage``; ``counts``, 1 or 0 for a masked one; ``sampler``, the log-probs it was drawn with.
        """
        ids = np.concatenate([self.prompt.ids, np.array(self.completion.tokens, np.int32)])
        supervised = np.arange(len(ids)) >= len(self.prompt.ids)
        columns = {
            "advantage": np.full(len(self.completion.tokens), self.advantage, np.float32),
            "counts": np.full(len(self.completion.tokens), not self.masked, np.float32),
            "sampler": np.array(self.completion.logprobs, np.float32),
        }
        return Sequence(ids, supervised, self.name, self.prompt.record.origin, columns)
