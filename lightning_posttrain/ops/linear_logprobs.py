"""Log-probs of targets under a linear head, without ever holding all the logits.

`linear_logprobs` keeps only the log-sum-exps and recomputes each chunk's logits in the backward. `linear_nll` is for
weights known beforehand: the gradient d loss / d logits = weight * (softmax - onehot) is complete as soon as the
logits are, so both matrix products of the backward happen right there and nothing is computed twice
(Hsu et al. 2024, arXiv:2410.10989, section 3.2). All chunks share one buffer, which is worked on in place: on CPU
fresh pages for every temporary cost a sixth of the head's time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Scalar sum(weights * -log p) and the log-probs (M,), the latter without a gradient."""
    return _WeightedNLL.apply(hidden, weight, bias, targets, weights, chunk, _autocast(hidden))


def rows_per_chunk(vocabulary: int, device: torch.device) -> int:
    """Rows of logits held at once: about 32 MiB on CPU, what its caches hold, else 512 MiB; never fewer than 128.

    Below 128 rows the products are bound by reading the head's weights and writing their gradient.
    """
    return max(128, (1 << 23 if device.type == "cpu" else 1 << 27) // vocabulary)


def _autocast(hidden: Tensor) -> torch.dtype | None:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


class _Head:
    """The head's logits, chunk by chunk. Products run in autocast's dtype if that is on, else in the hidden states'."""

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
        self.chunk = chunk or rows_per_chunk(len(weight), hidden.device)
        wide = torch.promote_types(dtype, torch.float32)
        self.buffer = hidden.new_empty(min(self.chunk, len(hidden)), len(weight), dtype=wide)

    def parts(self) -> list[slice]:
        return [slice(i, i + self.chunk) for i in range(0, len(self.hidden), self.chunk)]

    def logits(self, part: slice) -> Tensor:
        """(C, V) float32 or float64, in the buffer: valid until the next call."""
        h = self.hidden[part]
        out = self.buffer[: len(h)]
        if h.dtype == out.dtype:
            torch.mm(h, self.weight.t(), out=out)
        else:
            out.copy_(h @ self.weight.t())
        if self.bias is not None:
            out.add_(self.bias)
        return out if self.temperature == 1.0 else out.div_(self.temperature)

    def softmax(self, part: slice, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Unnormalised probabilities (C, V) in the buffer, their row sums, the log-sum-exps and log-probs (C, 1)."""
        logits = self.logits(part)
        top = logits.amax(-1, keepdim=True)
        picked = logits.gather(-1, targets[part, None])
        exps = logits.sub_(top).exp_()
        sums = exps.sum(-1, keepdim=True)
        lse = sums.log().add_(top)
        return exps, sums, lse, picked.sub_(lse)


class _Gradients:
    """Gradients of hidden, weight and bias, as far as they are asked for, summed chunk by chunk."""

    def __init__(self, ctx: Any, head: _Head, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        need = ctx.needs_input_grad
        self.head, self.any = head, any(need[:3])
        self.hidden = torch.empty_like(hidden) if need[0] else None
        self.weight = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device) if need[1] else None
        self.bias = torch.zeros_like(bias) if bias is not None and need[2] else None

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
        return self.hidden, self.weight, self.bias


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
            pairs = [head.softmax(part, targets)[2:] for part in head.parts()]
        lses, logps = (torch.cat(x) for x in zip(*pairs, strict=True))
        ctx.save_for_backward(hidden, weight, bias, targets, lses)
        ctx.args = temperature, chunk, dtype
        return logps[:, 0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        hidden, weight, bias, targets, lses = ctx.saved_tensors
        head = _Head(hidden, weight, bias, *ctx.args)
        sums = _Gradients(ctx, head, hidden, weight, bias)
        for part in head.parts():
            delta = head.logits(part).sub_(lses[part]).exp_()
            delta.scatter_add_(1, targets[part, None], torch.full_like(lses[part], -1.0))
            sums.add(part, delta, grad[part, None] / -head.temperature)
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
        chunk: int | None,
        dtype: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(hidden.device.type, enabled=False):
            head = _Head(hidden, weight, bias, 1.0, chunk, dtype)
            sums = _Gradients(ctx, head, hidden, weight, bias)
            logps = []
            for part in head.parts():
                delta, row_sums, _, logp = head.softmax(part, targets)
                logps.append(logp)
                if sums.any:
                    delta.scatter_add_(1, targets[part, None], -row_sums)
                    sums.add(part, delta, weights[part, None].to(delta.dtype) / row_sums)
        logp = torch.cat(logps)[:, 0]
        ctx.grads = sums.results()
        ctx.mark_non_differentiable(logp)
        return -(weights.to(logp.dtype) * logp).sum(), logp

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Any:  # type: ignore[override]
        grads = [None if g is None else g.mul_(grad) for g in ctx.grads]
        del ctx.grads  # they were scaled in place: a second backward must fail, not repeat them
        return *grads, None, None, None, None
