"""Is this model's attention really the layout's? Asked by trying, not by a list of names.

Layers that mix tokens by other means (recurrences, convolutions, caches of their own) would let packed neighbours
see each other without any error, and so would frequencies that depend on a neighbour's length. Two short sequences with
a common prefix, packed with one that ends at the model's last position, and alone, tell.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..batching.tree import collate
from ..ops.attention import plain_attention
from ..ops.logprobs import token_logprobs
from ..ops.positions import max_positions
from ..types import MicroBatch, Sequence, UserError
from .errors import one_line

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.1}
"""Nats. Rounding of the dtype on random tokens; a leak is far larger in float32 and is also caught in bfloat16."""
PREFIX, TAILS = 20, (5, 9, 7)
"""Tokens of the prefix that the first two rows share, and of what each row has of its own."""
FAR = 8192
"""Where the third row ends in a model without a last position."""


@torch.no_grad()
def check_packing(model: PreTrainedModel) -> None:
    """Compare packed, prefix-shared log-probs with ordinary forwards on random tokens.

    Raises:
        UserError: naming the class, when they differ, are no numbers, or the model cannot take a layout.
    """
    training = model.training
    model.eval()
    embeddings: Any = model.get_input_embeddings()
    device, vocab = embeddings.weight.device, embeddings.weight.shape[0]
    limit = max_positions(model.config)
    rows = _rows(vocab, limit)
    sequences = [Sequence(ids, np.arange(len(ids)) > 0, f"probe {len(ids)}") for ids in rows]
    micro = _ends_at(collate([(s,) for s in sequences]), rows[-1], limit or FAR).to(device)
    name = type(model).__name__
    try:
        packed = token_logprobs(model, micro)[micro.sequence < 2]
        alone = _alone(model, rows[:2], device)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, AttributeError, RuntimeError, ValueError, LookupError, UserError) as error:
        said = "its attention never asks the layout" if isinstance(error, UserError) else one_line(error)
        raise UserError(
            f"{name} cannot run packed batches: {said}; use a model whose attention goes through transformers' "
            "AttentionInterface"
        ) from error
    finally:
        model.train(training)
    _compare(name, packed, alone, next(p.dtype for p in model.parameters() if p.is_floating_point()))


def _compare(name: str, packed: Tensor, alone: Tensor, dtype: torch.dtype) -> None:
    if not bool(torch.isfinite(alone).all()):
        raise UserError(
            f"{name}: random tokens give log-probs that are NaN or infinite in {str(dtype).removeprefix('torch.')}: "
            "the weights are unsound, or too large for it"
        )
    difference = (packed - alone).abs().max().item()
    if not difference <= TOLERANCE.get(dtype, 1e-3):
        raise UserError(
            f"{name} cannot run packed batches: log-probs of packed sequences differ from separate ones by "
            f"{difference:.3g} nats, so its layers let neighbours see each other; use a model whose layers mix tokens "
            "by attention alone"
        )


def _rows(vocab: int, limit: int | None) -> list[np.ndarray]:
    """Token ids of the rows; shorter ones in a model that takes fewer tokens."""
    most = PREFIX + max(TAILS) if limit is None else max(2, min(limit, PREFIX + max(TAILS)))
    rng = np.random.default_rng(0)
    prefix = rng.integers(0, vocab, PREFIX)
    tails = [rng.integers(0, vocab, n) for n in TAILS]
    rows = [np.concatenate([prefix, tails[0]]), np.concatenate([prefix, tails[1]]), tails[2]]
    return [ids[-most:].astype(np.int32) for ids in rows]


def _ends_at(micro: MicroBatch, ids: np.ndarray, end: int) -> MicroBatch:
    """``micro`` with its row ``ids``, which shares nothing, moved to end at position ``end``."""
    layout, tokens = micro.layout, torch.from_numpy(ids[:-1].astype(np.int64))  # the last token is only predicted
    spans = [slice(s, s + n) for s, n in zip(layout.starts, layout.lengths, strict=True)]
    row = next(i for i, span in enumerate(spans) if torch.equal(micro.input_ids[0, span], tokens))
    positions, places = list(layout.positions), micro.position_ids.clone()
    positions[row] = max(0, end - len(tokens))
    places[0, spans[row]] += positions[row]
    return replace(micro, position_ids=places, layout=replace(layout, positions=tuple(positions)))


def _alone(model: PreTrainedModel, rows: list[np.ndarray], device: torch.device) -> Tensor:
    """Log-probs of every token but the first of each row, by ordinary forwards."""
    parts = []
    with plain_attention(model):
        for ids in rows:
            tokens = torch.from_numpy(ids.astype(np.int64)).to(device)[None]
            logits = model(input_ids=tokens, use_cache=False).logits[0, :-1]
            wide = logits if logits.dtype == torch.float64 else logits.float()
            parts.append(wide.log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0])
    return torch.cat(parts)
