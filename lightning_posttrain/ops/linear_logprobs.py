"""Log-probs of targets under a linear head, without ever holding all the logits.

`linear_logprobs` keeps only the log-sum-exps and recomputes each chunk's logits in the backward. `linear_nll` is for
weights known beforehand: the gradient d loss / d logits = weight * (softmax - onehot) is complete as soon as the
logits are, so both matrix products of the backward happen right there and nothing is computed twice
(Hsu et al. 2024, arXiv:2410.10989, section 3.2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def linear_logprobs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float = 1.0, chunk: int = 1024
) -> Tensor:
    """(M,) log-probs in nats of ``targets`` (M,) for hidden states (M, D) and a head (V, D); float32 or float64."""
    return _Logprobs.apply(hidden, weight, bias, targets, temperature, chunk, _autocast(hidden))


def linear_nll(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Scalar sum(weights * -log p) and the log-probs (M,), the latter without a gradient."""
    return _WeightedNLL.apply(hidden, weight, bias, targets, weights, chunk, _autocast(hidden))


def _autocast(hidden: Tensor) -> torch.dtype | None:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _chunks(hidden: Tensor, weight: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """Operands of the head's product in the dtype it runs in: autocast's if that is on, else the hidden states'."""
    dtype = dtype or hidden.dtype
    return hidden.to(dtype), weight.to(dtype)


def _logits(h: Tensor, w: Tensor, bias: Tensor | None, temperature: float = 1.0) -> Tensor:
    logits = _wide(torch.nn.functional.linear(h, w, None if bias is None else bias.to(h.dtype)))
    return logits if temperature == 1.0 else logits.div_(temperature)


class _Logprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk: int,
        dtype: torch.dtype | None,
    ) -> Tensor:
        h, w = _chunks(hidden, weight, dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            picked, lses = [], []
            for x, y in zip(h.split(chunk), targets.split(chunk), strict=True):
                logits = _logits(x, w, bias, temperature)
                lses.append(logits.logsumexp(-1))
                picked.append(logits.gather(-1, y[:, None])[:, 0])
        lse = torch.cat(lses)
        ctx.save_for_backward(hidden, weight, bias, targets, lse)
        ctx.args = temperature, chunk, dtype
        return torch.cat(picked) - lse

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        hidden, weight, bias, targets, lse = ctx.saved_tensors
        temperature, chunk, dtype = ctx.args
        h, w = _chunks(hidden, weight, dtype)
        sums = _Gradients(ctx, hidden, weight, bias)
        for i in range(0, len(targets), chunk):
            part = slice(i, i + chunk)
            delta = _logits(h[part], w, bias, temperature)
            delta = delta.sub_(lse[part, None]).exp_().mul_(-grad[part, None] / temperature)
            delta.scatter_add_(1, targets[part, None], grad[part, None].to(delta.dtype) / temperature)
            sums.add(part, delta.to(h.dtype), h[part], w)
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
        chunk: int,
        dtype: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        h, w = _chunks(hidden, weight, dtype)
        sums = _Gradients(ctx, hidden, weight, bias)
        logps = []
        with torch.autocast(hidden.device.type, enabled=False):
            for i in range(0, len(targets), chunk):
                part = slice(i, i + chunk)
                logits = _logits(h[part], w, bias)
                lse = logits.logsumexp(-1)
                logps.append(logits.gather(-1, targets[part, None])[:, 0] - lse)
                if sums.any:
                    share = weights[part, None].to(logits.dtype)
                    delta = logits.sub_(lse[:, None]).exp_().mul_(share)
                    delta.scatter_add_(1, targets[part, None], -share)
                    sums.add(part, delta.to(h.dtype), h[part], w)
        logp = torch.cat(logps)
        ctx.grads = sums.results()
        ctx.mark_non_differentiable(logp)
        return -(weights.to(logp.dtype) * logp).sum(), logp

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Any:  # type: ignore[override]
        grads = [None if g is None else g.mul_(grad) for g in ctx.grads]
        del ctx.grads  # they were scaled in place: a second backward must fail, not repeat them
        return *grads, None, None, None, None


class _Gradients:
    """Gradients of hidden, weight and bias, as far as they are asked for, summed chunk by chunk."""

    def __init__(self, ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        need = ctx.needs_input_grad
        self.any = any(need[:3])
        self.hidden = torch.empty_like(hidden) if need[0] else None
        self.weight = torch.zeros(weight.shape, dtype=weight.dtype, device=weight.device) if need[1] else None
        self.bias = torch.zeros_like(bias) if bias is not None and need[2] else None

    def add(self, part: slice, delta: Tensor, h: Tensor, w: Tensor) -> None:
        """``delta`` (C, V): gradient of the chunk's logits."""
        if self.hidden is not None:
            self.hidden[part] = delta @ w
        if self.weight is not None and delta.dtype == self.weight.dtype:
            self.weight.addmm_(delta.t(), h)
        elif self.weight is not None:
            self.weight += delta.t() @ h
        if self.bias is not None:
            self.bias += delta.sum(0)

    def results(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return self.hidden, self.weight, self.bias
