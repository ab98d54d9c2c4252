"""`token_logprobs(model, batch)`: the one operation every method is a function of.

The decoder runs once over every distinct token, the LM head only over the positions that predict something, a chunk
at a time, with a float32 softmax (bf16 log-softmax is off by whole nats on a long completion). The head is called as
a module, so adapters, quantisation and sharding keep working; a plain Linear takes a path that never stores logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ..types import MicroBatch
from .linear_logprobs import linear_logprobs, linear_nll, rows_per_chunk
from .positions import check_positions


def base_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside an adapter wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator,return-value]


def decode(model: nn.Module, micro: MicroBatch) -> Tensor:
    """Final hidden states (T, D) of the micro-batch's distinct tokens.

    Raises:
        UserError: a row is longer than the model takes.
    """
    check_positions(base_model(model).config, micro)
    decoder = base_model(model).get_decoder()
    out = decoder(input_ids=micro.input_ids, position_ids=micro.position_ids, use_cache=False, layout=micro.layout)
    return out.last_hidden_state[0]


def logits_of(model: nn.Module, hidden: Tensor) -> Tensor:
    """The model's own logits for hidden states (..., D), float32 or float64, with its cap or scale if it has one."""
    logits = base_model(model).get_output_embeddings()(hidden)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    config = base_model(model).config.get_text_config()
    if scaling := getattr(config, "logits_scaling", None):  # Granite
        logits = logits / scaling
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits = logits * scale
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2, 3n
        logits = cap * torch.tanh(logits / cap)
    return logits


def plain_head(model: nn.Module) -> nn.Linear | None:
    """The head if it is a bare Linear whose product with the hidden states *is* the logits, else None."""
    head = base_model(model).get_output_embeddings()
    config = base_model(model).config.get_text_config()
    changed = any(getattr(config, k, None) for k in ("logits_scaling", "logit_scale", "final_logit_softcapping"))
    hooked = head is not None and (head._forward_hooks or head._forward_pre_hooks)
    if type(head) is not nn.Linear or type(head.weight) is not nn.Parameter or changed or hooked:
        return None
    return head if head.weight.numel() else None  # ZeRO-3 leaves an empty shard behind until the module is called


def token_logprobs(model: nn.Module, micro: MicroBatch, temperature: float = 1.0, chunk: int | None = None) -> Tensor:
    """Log-probability of every supervised token.

    Args:
        model: a causal LM prepared by `use_layout_attention`.
        micro: the packed micro-batch.
        temperature: divides the logits.
        chunk: predictions per head call; `rows_per_chunk` by default.

    Returns:
        (N,) float32 nats (float64 for a float64 model), in the order of ``micro.sequence``; differentiable.
    """
    hidden = decode(model, micro)[micro.sources]  # (M, D)
    if (head := plain_head(model)) is not None:
        return linear_logprobs(hidden, head.weight, head.bias, micro.targets, temperature, chunk)[micro.gather]

    return _module_logprobs(model, hidden, micro.targets, temperature, chunk)[0][micro.gather]


def _module_logprobs(
    model: nn.Module, hidden: Tensor, targets: Tensor, temperature: float, chunk: int | None
) -> tuple[Tensor, Tensor]:
    """Log-probs of ``targets`` (M,) and log-sum-exps (M,) under any head, as a module, recomputed by chunk."""

    def block(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits_of(model, h) / temperature
        z = logits.logsumexp(-1)
        return logits.gather(-1, y[:, None])[:, 0] - z, z

    chunk = chunk or rows_per_chunk(base_model(model).config.get_text_config().vocab_size, hidden.device)
    pieces = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    done = [checkpoint(block, h, y, use_reentrant=False) for h, y in pieces]
    return torch.cat([logps for logps, _ in done]), torch.cat([z for _, z in done])


def weighted_nll(
    model: nn.Module,
    micro: MicroBatch,
    weights: Tensor,
    chunk: int | None = None,
    temperature: float = 1.0,
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """sum_i weights_i * (-log p_i + z_loss * z_i^2) over the supervised tokens, for weights known beforehand.

    z is the log-sum-exp of the logits; for SFT, REINFORCE and pretraining. Equal to the same sum of `token_logprobs`;
    with a plain head its gradient is formed in the forward pass, chunk by chunk, so logits are neither stored nor
    computed twice.

    Args:
        weights: (N,) float, of either sign.
        temperature: divides the logits.
        z_loss: of PaLM (Chowdhery et al. 2022, arXiv:2204.02311, section 5): keeps the log-sum-exp near 0.

    Returns:
        The scalar loss, and detached log-probs and log-sum-exps (N,) in nats.
    """
    hidden = decode(model, micro)[micro.sources]
    head = plain_head(model)
    if head is None:
        logps, z = (x[micro.gather] for x in _module_logprobs(model, hidden, micro.targets, temperature, chunk))
        return (weights * (z_loss * z.square() - logps)).sum(), logps.detach(), z.detach()
    summed = torch.zeros(len(micro.targets), dtype=weights.dtype, device=weights.device)
    summed.index_add_(0, micro.gather, weights)  # a prediction shared by k sequences carries their k weights
    found = linear_nll(hidden, head.weight, head.bias, micro.targets, summed, chunk, temperature, z_loss)
    loss, logps, z = found
    return loss, logps[micro.gather], z[micro.gather]
