"""Is this model's attention really the layout's? Asked by trying, not by a list of names.

Layers that mix tokens by other means (recurrences, convolutions, caches of their own) would let packed neighbours
see each other without any error. Two short sequences with a common prefix, packed and alone, tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ..batching.tree import collate
from ..ops.attention import plain_attention
from ..ops.logprobs import token_logprobs
from ..types import Sequence, UserError

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.1}
"""Nats. Rounding of the dtype on random tokens; a leak is far larger in float32 and is also caught in bfloat16."""


@torch.no_grad()
def check_packing(model: PreTrainedModel) -> None:
    """Compare packed, prefix-shared log-probs with ordinary forwards on random tokens.

    Raises:
        UserError: naming the class, when they differ or the model cannot take a layout.
    """
    training = model.training
    model.eval()
    embeddings: Any = model.get_input_embeddings()
    device, vocab = embeddings.weight.device, embeddings.weight.shape[0]
    rng = np.random.default_rng(0)
    prefix = rng.integers(0, vocab, 20)
    rows = [np.concatenate([prefix, rng.integers(0, vocab, n)]).astype(np.int32) for n in (5, 9)]
    sequences = [Sequence(ids, np.arange(len(ids)) > 0, f"probe {len(ids)}") for ids in rows]
    try:
        packed = token_logprobs(model, collate([(s,) for s in sequences]).to(device))
    except (TypeError, AttributeError) as error:
        raise UserError(f"{type(model).__name__} cannot run packed batches: {error}") from error
    alone = []
    with plain_attention(model):
        for ids in rows:
            tokens = torch.from_numpy(ids.astype(np.int64)).to(device)[None]
            logits = model(input_ids=tokens, use_cache=False).logits[0, :-1]
            wide = logits if logits.dtype == torch.float64 else logits.float()
            alone.append(wide.log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0])
    model.train(training)
    difference = (packed - torch.cat(alone)).abs().max().item()
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    if not difference <= TOLERANCE.get(dtype, 1e-3):
        raise UserError(
            f"{type(model).__name__} cannot run packed batches: log-probs of packed sequences differ from separate "
            f"ones by {difference:.3g} nats, so its layers let neighbours see each other; use a model whose layers "
            "mix tokens by attention alone"
        )
