"""Prefix-sharing attention as a cascade of flash attentions, exact in both directions.

Every node attends to itself (causal) and its descendants attend to it (everything visible). Each such part is one
ordinary flash attention that returns its log-sum-exp, and the parts of a query are merged by their log-sum-exps
(Juravsky et al. 2024, arXiv:2402.05099). The backward needs nothing new: flash attention's backward, given the
*merged* output and log-sum-exp, yields each part's exact share of the gradient (Dao et al. 2022, arXiv:2205.14135,
eq. 13-16: P = exp(S - lse), dS = P * (dP - rowsum(dO * O))). No key is copied for a branch, and no mask is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..types import TreeLayout

MAX_WASTE = 1.25
"""Nodes of one bucket are padded to the longest of them while that costs at most this factor in score entries."""


def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    causal: bool,
    *,
    scale: float,
    attn_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Flash attention (B, H, L, D) and its log-sum-exps (B, H, L), whatever the strides of its inputs."""
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return op(*map(_dense, (query, key, value)), dropout, causal, attn_mask=attn_mask, scale=scale)


def flash_backward(tensors: Iterable[Tensor], lse: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, given (gradient of the output, query, key, value, output) of any strides."""
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return op(*map(_dense, tensors), lse.contiguous(), 0.0, causal, scale=scale)


def _dense(x: Tensor) -> Tensor:
    """``x`` with a head's numbers next to each other: the kernels read them so, whatever the strides say."""
    return x if x.stride(-1) == 1 else x.contiguous()


@dataclass(frozen=True)
class Bucket:
    """Nodes of similar length that attend to themselves in one call.

    Args:
        rows: (B, L) flat index of each token, a node's last token repeated as padding. A causal query never sees
            padding, which lies after it.
        flat: (V,) flat index of the real tokens; rows.view(-1)[real] == flat.
        real: (V,) index of the real tokens in rows.view(-1).
        span: where the tokens stand if they are neighbours and none is padding: then nothing has to be copied together.
    """

    rows: Tensor
    flat: Tensor
    real: Tensor
    span: slice | None

    def gather(self, x: Tensor) -> Tensor:
        """(T, ...) -> (B, L, ...)."""
        return x[self.rows] if self.span is None else x[self.span].unflatten(0, self.rows.shape)

    def scatter(self, x: Tensor, rows: Tensor) -> None:
        """Put the real tokens of ``rows`` (B, L, ...) to their places in ``x`` (T, ...)."""
        if self.span is None:
            x[self.flat] = rows.flatten(0, 1)[self.real]
        else:
            x[self.span].unflatten(0, self.rows.shape).copy_(rows)

    def padded(self, x: Tensor) -> Tensor:
        """`gather` with zeros for padding."""
        if self.span is not None:
            return self.gather(x)
        out = torch.zeros(self.rows.numel(), *x.shape[1:], dtype=x.dtype)
        out[self.real] = x[self.flat]
        return out.view(*self.rows.shape, *x.shape[1:])


@dataclass(frozen=True)
class TreePlan:
    """The calls one layer makes for a layout: self-attention buckets, then (descendants, ancestor) spans."""

    buckets: tuple[Bucket, ...]
    spans: tuple[tuple[int, int, int], ...]  # (node start, node end, end of its descendants)

    @staticmethod
    def of(layout: TreeLayout, device: torch.device) -> TreePlan:
        order = sorted(range(len(layout.lengths)), key=lambda i: -layout.lengths[i])
        groups: list[list[int]] = []
        waste = [0, 0]  # (padded, real) score entries of the open group
        for node in order:
            square = layout.lengths[node] ** 2
            longest = layout.lengths[groups[-1][0]] ** 2 if groups else 0
            if not groups or waste[0] + longest > MAX_WASTE * (waste[1] + square):
                groups.append([])
                waste, longest = [0, 0], square
            groups[-1].append(node)
            waste = [waste[0] + longest, waste[1] + square]
        buckets = tuple(_bucket(layout, group, device) for group in groups)
        spans = [(s, s + n, e) for s, n, e in zip(layout.starts, layout.lengths, layout.ends, strict=True) if e > s + n]
        return TreePlan(buckets, tuple(spans))


def _bucket(layout: TreeLayout, nodes: list[int], device: torch.device) -> Bucket:
    starts = torch.tensor([layout.starts[i] for i in nodes])[:, None]
    lengths = torch.tensor([layout.lengths[i] for i in nodes])[:, None]
    place = torch.arange(int(lengths.max()))[None]
    rows = starts + torch.minimum(place, lengths - 1)
    real = (place < lengths).reshape(-1).nonzero()[:, 0]
    first, count = int(rows[0, 0]), rows.numel()
    neighbours = torch.equal(rows.reshape(-1), torch.arange(first, first + count)) and len(real) == count
    span = slice(first, first + count) if neighbours else None
    return Bucket(rows.to(device), rows.reshape(-1)[real].to(device), real.to(device), span)


class TreeAttention(torch.autograd.Function):
    """`tree_attention` on CPU. Inputs (1, H, T, D), (1, Hkv, T, D) x 2; output (1, H, T, D)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: TreePlan, scale: float) -> Tensor:
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (T, H, D)
        out = torch.empty(q.shape, dtype=q.dtype)
        lse = torch.empty(q.shape[:2], dtype=torch.float64 if q.dtype == torch.float64 else torch.float32)
        for bucket in plan.buckets:
            bq, bk, bv = _gather(bucket, q, k, v)
            o, part = flash(bq, bk, bv, 0.0, True, scale=scale)  # (B, H, L, D), (B, H, L)
            bucket.scatter(out, o.transpose(1, 2))
            bucket.scatter(lse, part.transpose(1, 2))
        for start, stop, end in plan.spans:
            o, part = flash(_heads(q[stop:end]), _heads(k[start:stop]), _heads(v[start:stop]), 0.0, False, scale=scale)
            merge_(out[stop:end], lse[stop:end], o[0].transpose(0, 1), part[0].transpose(0, 1))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.plan, ctx.scale = plan, scale
        return _heads(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, out, lse = ctx.saved_tensors
        plan, scale = ctx.plan, ctx.scale
        q, k, v, do = (x[0].transpose(0, 1) for x in (query, key, value, grad.to(out.dtype)))
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        for bucket in plan.buckets:
            b_do = bucket.padded(do).transpose(1, 2)  # padding gets no gradient, so it passes none on
            b_out, b_lse = (bucket.gather(x).transpose(1, 2) for x in (out, lse))
            parts = flash_backward([b_do, *_gather(bucket, q, k, v), b_out], b_lse, True, scale)
            for whole, part in zip((dq, dk, dv), parts, strict=True):
                bucket.scatter(whole, part.transpose(1, 2))
        for start, stop, end in plan.spans:
            tensors = (do[stop:end], q[stop:end], k[start:stop], v[start:stop], out[stop:end])
            part_lse = lse[None, stop:end].transpose(1, 2)
            parts = flash_backward(map(_heads, tensors), part_lse, False, scale)
            for whole, part in zip((dq[stop:end], dk[start:stop], dv[start:stop]), parts, strict=True):
                whole += part[0].transpose(0, 1)
        return _heads(dq), _heads(dk), _heads(dv), None, None


def merge_(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> None:
    """Fold a second part into the first, in place: out (T, H, D), lse (T, H), softmax over the union of their keys."""
    total = torch.logaddexp(lse, other_lse)
    out.mul_((lse - total).exp_()[..., None].to(out.dtype)).addcmul_(
        other, (other_lse - total).exp_()[..., None].to(out.dtype)
    )
    lse.copy_(total)


def _gather(bucket: Bucket, *tensors: Tensor) -> list[Tensor]:
    """(T, H, D) -> (B, H, L, D) for each."""
    return [bucket.gather(x).transpose(1, 2) for x in tensors]


def _heads(x: Tensor) -> Tensor:
    """(T, H, D) -> (1, H, T, D)."""
    return x.transpose(0, 1)[None]
