"""Attention over flat token layouts, through transformers' AttentionInterface: no mask, no cache, no kernel of ours.

The decoder is called with ``layout=``; every attention layer hands its queries, keys and values to that layout. A
training micro-batch brings a `TreeLayout` (below); the sampler brings its key-value store. Attention dropout and
attention weights as an output are left out on purpose: both are refused when the model is loaded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel

from ..types import TreeLayout, UserError
from .tree_attention import TreeAttention, TreePlan

ATTENTION = "layout"
"""Name under which the function is registered with transformers."""


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """What a layer says about its attention.

    Args:
        scale: factor on the scores before the softmax.
        window: a query sees the last ``window`` positions, itself included; None = all.
        softcap: scores become ``softcap * tanh(scores / softcap)``; None = no cap.
        sinks: (H,) extra logits that only enter the softmax's denominator; None = none.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


class Layout(Protocol):
    """Anything that can answer "attend": the sampler's key-value store does."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        """(1, H, T, D), (1, Hkv, T, D) x 2 -> (1, H, T, D)."""


def layout_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: TreeLayout | Layout | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The function transformers calls in every attention layer. Returns (1, T, H, D) and no weights."""
    if layout is None:
        raise UserError(
            "a model prepared for packed batches got an ordinary forward: wrap it in `plain_attention(model)`"
        )
    # Under autocast rotary embeddings leave queries and keys in float32 while values are already narrow.
    query, key = query.to(value.dtype), key.to(value.dtype)
    options = AttentionOptions(scaling or query.shape[-1] ** -0.5, sliding_window, softcap, s_aux)
    if isinstance(layout, TreeLayout):
        out = tree_attention(query, key, value, layout, options)
    else:
        out = layout.attend(cast(int, module.layer_idx), query, key, value, options)
    return out.transpose(1, 2), None


def use_layout_attention(model: PreTrainedModel) -> None:
    """Make every attention layer of ``model`` ask the layout; see `plain_attention` for ordinary forwards.

    The model gets a config of its own: the implementation is written there, and other models may have been made of the
    same one.
    """
    _own_config(model)
    model.set_attn_implementation(ATTENTION)


class plain_attention:
    """Within the context ``model`` attends as transformers does by itself: for generate, lm-eval and checks.

    That is sdpa, or eager for models with soft caps or sink logits, which sdpa does not know.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def __enter__(self) -> PreTrainedModel:
        self.before = _own_config(self.model)
        self.model.set_attn_implementation("sdpa" if self.model._supports_sdpa else "eager")
        return self.model

    def __exit__(self, *_: object) -> None:
        for module, config in self.before:
            module.config = config


def _own_config(model: PreTrainedModel) -> list[tuple[nn.Module, Any]]:
    """Give ``model`` a copy of its config, in all modules that hold it; what they held."""
    held = [(m, m.config) for m in model.modules() if isinstance(getattr(m, "config", None), PreTrainedConfig)]
    copies: dict[int, Any] = {}
    for module, config in held:
        module.config = copy.deepcopy(config, copies)  # one memo: a part of a config stays a part of its copy
    return held


_plans: WeakKeyDictionary[TreeLayout, TreePlan] = WeakKeyDictionary()


@torch.compiler.disable  # the plan is Python; the layers around it compile
def tree_attention(query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, options: AttentionOptions) -> Tensor:
    """Attention of each token to its own node up to itself and to all of its node's ancestors.

    Args:
        query: (1, H, T, D); key, value: (1, Hkv, T, D) with H a multiple of Hkv.
        layout: the forest over those T tokens.

    Returns:
        (1, H, T, D) in the dtype of ``query``.
    """
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(f"query, key and value are of {query.dtype}, {key.dtype}, {value.dtype}: give them one dtype")
    width = value.shape[-1]
    if width != key.shape[-1]:  # multi-head latent attention; zeros add nothing to a score and are cut off an output
        query, key, value = _same_width(query, key, value)
    return _tree_attention(query, key, value, layout, options)[..., :width]


def _tree_attention(query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, options: AttentionOptions) -> Tensor:
    masked = options.window is not None and options.window < layout.longest
    if masked or options.softcap or options.sinks is not None or query.device.type != "cpu":
        return tree_attention_by_node(query, key, value, layout, options)
    plan = _plans.get(layout)
    if plan is None:
        plan = _plans[layout] = TreePlan.of(layout, query.device)
    return TreeAttention.apply(query, key, value, plan, options.scale)


def _same_width(*tensors: Tensor) -> list[Tensor]:
    """Heads padded with zeros to the widest."""
    width = max(x.shape[-1] for x in tensors)
    return [F.pad(x, (0, width - x.shape[-1])) for x in tensors]


def tree_attention_by_node(
    query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, options: AttentionOptions
) -> Tensor:
    """The same, node by node with the ancestors' keys concatenated: any device, window, soft cap or sink logit."""
    outs = []
    for node, (start, length) in enumerate(zip(layout.starts, layout.lengths, strict=True)):
        spans = [(start, length)]
        while (node := layout.parents[node]) >= 0:
            spans.insert(0, (layout.starts[node], layout.lengths[node]))
        total = sum(n for _, n in spans)
        k, v = (torch.cat([x[:, :, s : s + n] for s, n in spans], 2) for x in (key, value))
        place = torch.arange(total, device=query.device)
        ahead = place[None] - place[total - length :, None]  # (length, total): how far a key lies after the query
        mask = (ahead <= 0) & (ahead > -(options.window or total + 1))
        outs.append(masked_attention(query[:, :, start : start + length], k, v, mask, options))
    return torch.cat(outs, 2)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: AttentionOptions) -> Tensor:
    """Softmax attention under a boolean mask (True = seen), with soft cap and sink logits where a model has them.

    Args:
        query: (B, H, Q, D); key, value: (B, Hkv, K, D); mask: broadcastable to (B, H, Q, K).
    """
    if options.softcap is None and options.sinks is None:
        return F.scaled_dot_product_attention(query, key, value, mask, scale=options.scale, enable_gqa=True)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query @ key.transpose(-1, -2)).float() * options.scale
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if options.sinks is None:
        return scores.softmax(-1).to(value.dtype) @ value
    sinks = options.sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1].to(value.dtype) @ value


def _no_mask(*_: Any, **__: Any) -> None:
    """Layouts say who sees whom; transformers need not build a mask."""


AttentionInterface.register(ATTENTION, layout_attention)
AttentionMaskInterface.register(ATTENTION, _no_mask)
