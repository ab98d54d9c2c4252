"""What each token's loss weighs in the loss of the step.

The weights of a step add up over its micro-batches and ranks; all but `micro_tokens` are the same however it was cut.
N is the number of loss tokens of the step, S its number of completions, both over all ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_mean(sequence: Tensor, count: int, total_sequences: int) -> Tensor:
    """1 / (S |o_i|): the mean over completions of their token means. GRPO (arXiv:2402.03300, eq. 3), GSPO, SAPO.

    Args:
        sequence: (N,) index in [0, count) of the completion each token belongs to, all its loss tokens here.
        count: completions in this micro-batch.
        total_sequences: S.
    """
    lengths = torch.bincount(sequence, minlength=count).double()
    return (1.0 / (lengths[sequence] * total_sequences)).float()


def step_tokens(tokens: int, total_tokens: int, device: torch.device) -> Tensor:
    """1 / N: every token of the step weighs the same. DAPO (arXiv:2503.14476, eq. 8), CISPO, VESPO."""
    return torch.full((tokens,), 1.0 / total_tokens, device=device)


def micro_tokens(tokens: int, total_micros: int, device: torch.device) -> Tensor:
    """1 / (micro-batches * tokens of this one): BNPO as it is usually run. Depends on how the step is cut."""
    return torch.full((tokens,), 1.0 / (total_micros * max(tokens, 1)), device=device)


def constant(tokens: int, total_sequences: int, max_tokens: int, device: torch.device) -> Tensor:
    """1 / (S * longest allowed completion): no bias by length. Dr. GRPO (arXiv:2503.20783, section 3.2)."""
    return torch.full((tokens,), 1.0 / (total_sequences * max_tokens), device=device)


def length_weighted(tokens: int, total_sequences: int, device: torch.device) -> Tensor:
    """1 / S: a completion's token mean times its length. LUSPO (arXiv:2602.05261), with a sequence ratio."""
    return torch.full((tokens,), 1.0 / total_sequences, device=device)
