"""Log-probs and entropies under the distribution that tokens were drawn from, for policy gradients.

A ratio of probabilities only means something if both are of that distribution, so temperature, top-k, top-p and min-p
are applied here exactly as in the sampler (`ops.sampling.transform_logits`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..types import MicroBatch
from .linear_logprobs import rows_per_chunk
from .logprobs import base_model, decode, logits_of, token_logprobs
from .sampling import transform_logits

Truncation = tuple[float, int, float, float]
"""temperature, top_k, top_p, min_p of `transform_logits`."""


Statistic = Literal["entropy", "log_squares"]
"""Of a token's distribution: its entropy, or log of the sum of p^2, the log of what a drawn token's p is on average."""


def policy_logprobs(
    model: nn.Module,
    micro: MicroBatch,
    truncation: Truncation,
    statistic: Statistic | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-prob of every supervised token, and a statistic of the distribution it was drawn from.

    Args:
        model: a causal LM prepared by `use_layout_attention`.
        micro: the packed micro-batch.
        truncation: as the sampler had it; temperature 0 counts as 1.
        statistic: what else is wanted; it needs every logit twice.
        chunk: predictions per head call.

    Returns:
        (N,) nats, -inf for a token the truncation now leaves out, and (N,) nats or None; both differentiable.
    """
    temperature, *cut = truncation
    if statistic is None and tuple(cut) == (0, 1.0, 0.0):
        return token_logprobs(model, micro, temperature or 1.0, chunk), None
    hidden = decode(model, micro)[micro.sources]

    def block(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logps = transform_logits(logits_of(model, h), *truncation)
        token = logps.gather(-1, y[:, None])[:, 0]
        if statistic == "log_squares":
            return token, (2 * logps).logsumexp(-1)
        finite = logps.masked_fill(logps == -torch.inf, 0.0)  # 0 * -inf has no gradient worth having
        return token, -(logps.exp() * finite).sum(-1)

    chunk = chunk or rows_per_chunk(base_model(model).config.get_text_config().vocab_size, hidden.device)
    pieces = zip(hidden.split(chunk), micro.targets.split(chunk), strict=True)
    found = [checkpoint(block, h, y, use_reentrant=False) for h, y in pieces]
    logps, statistics = (torch.cat(parts)[micro.gather] for parts in zip(*found, strict=True))
    return logps, statistics if statistic is not None else None
