"""Log-probs of targets under a linear head, without ever holding all the logits.

`linear_logprobs` keeps no logits and recomputes each chunk's in the backward. `linear_nll` is for weights known
beforehand: the gradient d loss / d logits = weight * (softmax - onehot) is complete as soon as the logits are, so
both matrix products of the backward happen right there and nothing is computed twice (Hsu et al. 2024,
arXiv:2410.10989, section 3.2). All chunks share one buffer, which is worked on in place: on CPU fresh pages for every
temporary cost a sixth of the head's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

TINY = 1e-6
"""Below this a factor is not divided by."""
TILE = 1 << 20
"""Numbers that are widened at a time: 4 MiB of float32, which stay in a cache."""


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> Tensor:
    """(M,) log-probs in nats of ``targets`` (M,) for hidden states (M, D) and a head (V, D); float32 or float64.

    ``chunk``: rows at a time, `rows_per_chunk` by default.
    """
    return _Logprobs.apply(hidden, weight, bias, targets, temperature, chunk, _autocast(hidden))


def linear_nll(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weights: Tensor,
    chunk: int | None = None,
    temperature: float = 1.0,
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scalar sum(weights * (-log p + z_loss * z^2)), the log-probs (M,) and the log-sum-exps z (M,) of the logits.

    Only the scalar has a gradient.
    """
    return _WeightedNLL.apply(hidden, weight, bias, targets, weights, temperature, chunk, _autocast(hidden), z_loss)


def rows_per_chunk(vocabulary: int, device: torch.device) -> int:
    """Rows of float32 logits held at once: at most 30 MiB on CPU, 512 MiB elsewhere, but never fewer than 128 rows.

    About what a CPU's last cache holds, and just below the size (32 MiB) from which the C library maps fresh pages for
    every buffer. Below 128 rows the products are bound by reading the head's weights and writing their gradient.
    """
    return max(128, (30 << 18 if device.type == "cpu" else 1 << 27) // vocabulary)


def _autocast(hidden: Tensor) -> torch.dtype | None:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


class _Head:
    """The head's logits, chunk by chunk. Products run in autocast's dtype if that is on, else in the hidden states'.

    The softmax is in float32 or float64, in place. Where products are narrower (on CPU), so is the buffer, and a few
    rows at a time are widened: a chunk may then have twice the rows, and the backward needs no narrow copy of it.
    """

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        temperature: float,
        chunk: int | None,
        dtype: torch.dtype | None,
    ) -> None:
        dtype = dtype or hidden.dtype
        self.hidden, self.weight = hidden.to(dtype), weight.to(dtype)
        self.bias, self.temperature = bias, temperature
        self.wide = torch.promote_types(dtype, torch.float32)
        self.narrow = dtype != self.wide and hidden.device.type == "cpu" and bias is None and temperature == 1.0
        self.chunk = chunk or rows_per_chunk(len(weight), hidden.device) * (2 if self.narrow else 1)
        held = dtype if self.narrow else self.wide
        self.buffer = hidden.new_empty(min(self.chunk, len(hidden)), len(weight), dtype=held)

    def parts(self) -> list[slice]:
        return [slice(i, i + self.chunk) for i in range(0, len(self.hidden), self.chunk)]

    def logits(self, part: slice) -> Tensor:
        """(C, V) in the buffer: valid until the next call."""
        h = self.hidden[part]
        out = self.buffer[: len(h)]
        if h.dtype == out.dtype:
            torch.mm(h, self.weight.t(), out=out)
        else:
            out.copy_(h @ self.weight.t())
        if self.bias is not None:
            out.add_(self.bias)
        return out if self.temperature == 1.0 else out.div_(self.temperature)

    def tiles(self, part: slice) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the chunk, and their logits (R, V), wide, to be changed in place: the buffer or copied back."""
        logits = self.logits(part)
        size = max(1, TILE // logits.shape[1]) if self.narrow else len(logits)
        for rows in (slice(i, i + size) for i in range(0, len(logits), size)):
            tile = logits[rows].to(self.wide)
            yield rows, tile
            if self.narrow:
                logits[rows] = tile

    def deltas(self, part: slice, targets: Tensor) -> Tensor:
        """Gradient of -log p of the targets with respect to the chunk's logits (C, V), in the buffer."""
        for rows, tile in self.tiles(part):
            minus_onehot_(torch.softmax(tile, -1, out=tile), targets[part][rows])
        return self.buffer[: len(self.hidden[part])]

    def logprobs(self, part: slice, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-probs of the targets (C,), log-sum-exps z of the logits (C,), and the gradient of -log p + z_loss * z^2
        with respect to the logits as factors of rows (C,) and, in the buffer, (C, V).

        The largest probability, at least 1 / V, gives the log-sum-exp; a target's own may be too small for its log.
        """
        found = []
        for rows, tile in self.tiles(part):
            wanted = targets[part][rows]
            top = tile.amax(-1)
            above_top = tile.gather(-1, wanted[:, None])[:, 0] - top
            probabilities = torch.softmax(tile, -1, out=tile)
            log_top = probabilities.amax(-1).log()
            # (1 + 2 c z) * softmax - onehot = (1 + 2 c z) * (softmax - onehot / (1 + 2 c z)): no pass over a row more
            factor = 1 + 2 * z_loss * (top - log_top)
            factor = torch.where(factor.abs() < TINY, TINY, factor)
            minus_onehot_(probabilities, wanted, 1 / factor)
            found.append((above_top + log_top, top - log_top, factor))
        logps, z, factors = (torch.cat(values) for values in zip(*found, strict=True))
        return logps, z, factors, self.buffer[: len(logps)]


def minus_onehot_(probabilities: Tensor, targets: Tensor, heights: Tensor | None = None) -> Tensor:
    """Softmax - onehot, in place: the gradient of -log p with respect to the logits. ``heights`` (C,) in place of 1."""
    ones = probabilities.new_ones(len(targets)) if heights is None else heights
    return probabilities.scatter_add_(1, targets[:, None], -ones[:, None])


class _Gradients:
    """Gradients of hidden, weight and bias, as far as they are asked for, summed chunk by chunk.

    Sums of several chunks are held in float32 or float64 and rounded once: in bf16 each further chunk would round them.
    """

    def __init__(self, ctx: Any, head: _Head, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        need = ctx.needs_input_grad
        self.head, self.any = head, any(need[:3])
        self.hidden = torch.empty_like(hidden) if need[0] else None
        held = head.wide if len(hidden) > head.chunk else weight.dtype
        self.weight = torch.empty(weight.shape, dtype=held, device=weight.device) if need[1] else None
        self.bias = torch.zeros_like(bias, dtype=head.wide) if bias is not None and need[2] else None
        self.dtypes = weight.dtype, weight.dtype if bias is None else bias.dtype

    def add(self, part: slice, delta: Tensor, scale: Tensor) -> None:
        """The gradient of the chunk's logits is scale (C, 1) * delta (C, V); only small operands are multiplied."""
        h = self.head.hidden[part]
        if self.bias is not None:
            self.bias += (delta.t() @ scale.to(delta.dtype))[:, 0]
        delta = delta.to(h.dtype)
        if self.hidden is not None:
            self.hidden[part] = (delta @ self.head.weight).mul_(scale)
        if self.weight is not None:
            scaled = (h * scale).to(h.dtype)
            first = part.start == 0
            if self.weight.dtype != h.dtype:
                product = delta.t() @ scaled
                self.weight.copy_(product) if first else self.weight.add_(product)
            elif first:  # spares filling it with zeros
                torch.mm(delta.t(), scaled, out=self.weight)
            else:
                self.weight.addmm_(delta.t(), scaled)

    def results(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        weight = None if self.weight is None else self.weight.to(self.dtypes[0])
        return self.hidden, weight, None if self.bias is None else self.bias.to(self.dtypes[1])


class _Logprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk: int | None,
        dtype: torch.dtype | None,
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            head = _Head(hidden, weight, bias, temperature, chunk, dtype)
            logps = [head.logprobs(part, targets)[0] for part in head.parts()]
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.args = temperature, chunk, dtype
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        hidden, weight, bias, targets = ctx.saved_tensors
        head = _Head(hidden, weight, bias, *ctx.args)
        sums = _Gradients(ctx, head, hidden, weight, bias)
        for part in head.parts():
            sums.add(part, head.deltas(part, targets), grad[part, None] / -head.temperature)
        return *sums.results(), None, None, None, None


class _WeightedNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        temperature: float,
        chunk: int | None,
        dtype: torch.dtype | None,
        z_loss: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(hidden.device.type, enabled=False):
            head = _Head(hidden, weight, bias, temperature, chunk, dtype)
            sums = _Gradients(ctx, head, hidden, weight, bias)
            logps, zs = [], []
            for part in head.parts():
                logp, z, factors, delta = head.logprobs(part, targets, z_loss)
                logps.append(logp)
                zs.append(z)
                if sums.any:
                    sums.add(part, delta, (weights[part].to(z.dtype) * factors)[:, None] / temperature)
        logp, z = torch.cat(logps), torch.cat(zs)
        ctx.grads = sums.results()
        ctx.mark_non_differentiable(logp, z)
        return (weights.to(logp.dtype) * (z_loss * z.square() - logp)).sum(), logp, z

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> Any:
        grads = [None if g is None else g.mul_(grad) for g in ctx.grads]
        del ctx.grads  # they were scaled in place: a second backward must fail, not repeat them
        return *grads, *[None] * 6
