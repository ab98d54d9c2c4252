"""The gradients of one optimizer step: a backward for each micro-batch, of which only the last one is exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..ops.sharding import set_gradient_sync
from ..types import StepBatch
from .strategies import sync_only_if

if TYPE_CHECKING:
    from .base import PolicyModule


def backward(module: PolicyModule, batch: StepBatch, engine: Any) -> dict[str, Tensor]:
    """Add up the gradients of ``batch``; its loss and what else is logged, summed over micro-batches and ranks.

    Args:
        module: says what a micro-batch's loss is.
        batch: this rank's share of the step.
        engine: DeepSpeed's, or None.
    """
    world, sums = module.trainer.world_size, dict[str, Tensor]()
    for i, micro in enumerate(batch.micros):
        last = i == len(batch.micros) - 1
        set_gradient_sync(module.model, engine, last)
        with sync_only_if(last, module.trainer):
            loss, extra = module.micro_loss(micro, batch)
            if micro.idle:
                loss, extra = loss * 0.0, {name: torch.zeros_like(value) for name, value in extra.items()}
            module.manual_backward(loss * world)  # world_size undoes the mean that data parallelism takes
        for name, value in {"loss": loss.detach(), **extra}.items():
            sums[name] = sums[name] + value if name in sums else value
    if world > 1:
        sums = {name: module.trainer.strategy.reduce(value, reduce_op="sum") for name, value in sums.items()}
    return sums
