"""Linear layers on a handful of rows, as the sampler's last long completions leave them.

On CPU `weight @ x.T` of a large float32 weight is up to 3 times as fast as `x @ weight.T` while there are few rows; the
measurements are in benchmarks/LOG.md. Only bare `nn.Linear`s take that way: adapters, quantised and sharded layers
call the ones inside them as they always do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 1 << 17
"""Elements from which a weight is worth it; smaller ones lie in a cache whichever way they are read."""

FEW_TALL, FEW_WIDE = 8, 4
"""Most rows for weights with at least as many rows as columns, and for the others."""


def pays(weight: Tensor, rows: int) -> bool:
    """Whether `product` is the faster way for that many rows."""
    tall = weight.shape[0] >= weight.shape[1]
    return 0 < rows <= (FEW_TALL if tall else FEW_WIDE) and worthwhile(weight)


def worthwhile(weight: Tensor) -> bool:
    """Whether `product` can ever be the faster way for this weight."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= LARGE


def product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight.T``: (R, I), (O, I) -> (R, O) contiguous, as `F.linear` gives it."""
    few = x if len(x) > 1 else x.repeat(2, 1)  # a matrix times a vector would take the slow way again
    return torch.mm(weight, few.t()).t()[: len(x)].contiguous()


@contextmanager
def few_row_linears(model: nn.Module) -> Iterator[None]:
    """Inside, the model's large plain linear layers choose the faster way by their number of rows. Inference only.

    Under autocast nothing changes: the products would not be of float32 numbers.
    """
    modules = () if torch.is_autocast_enabled("cpu") else model.modules()
    patched = [m for m in modules if type(m) is nn.Linear and worthwhile(m.weight) and "forward" not in vars(m)]
    for module in patched:
        module.forward = partial(_forward, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in patched:
            del module.forward


def _forward(module: nn.Linear, x: Tensor) -> Tensor:
    rows = x.numel() // x.shape[-1]
    if x.dtype != module.weight.dtype or not pays(module.weight, rows):
        return F.linear(x, module.weight, module.bias)
    out = product(x.reshape(rows, -1), module.weight).view(*x.shape[:-1], -1)
    return out if module.bias is None else out + module.bias
