"""float32 copies of narrow weights, which an optimizer changes in their place.

A bf16 number has 8 bits: an update of less than 1/512 of a weight is rounded away, and with the learning rates of
post-training nearly all are. The copies take them all in; the model gets them rounded after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ..types import UserError

NARROW = (torch.bfloat16, torch.float16)


def master_copies(parameters: list[nn.Parameter]) -> dict[nn.Parameter, nn.Parameter]:
    """Narrow parameters and their float32 copies.

    Raises:
        UserError: they are sharded; FSDP2 keeps its own float32 weights under ``bf16-mixed``.
    """
    narrow = [p for p in parameters if p.dtype in NARROW]
    if any(isinstance(p, DTensor) for p in narrow):
        raise UserError(
            "precision bf16-true with FSDP2 would round most updates of the weights away; use bf16-mixed, which keeps "
            "float32 weights and computes in bf16 all the same"
        )
    return {p: nn.Parameter(p.detach().float()) for p in narrow}


class MasterWeights(Optimizer):
    """An optimizer over float32 copies, and the model's weights that follow them.

    Args:
        inner: over the copies, and over parameters that are wide already.
        copies: parameter of the model -> its copy.
    """

    def __init__(self, inner: Optimizer, copies: Mapping[nn.Parameter, nn.Parameter]) -> None:
        self.inner, self.copies = inner, dict(copies)
        self.defaults: dict[str, Any] = {}
        super().__init__([{"params": g["params"]} for g in inner.param_groups], {})
        self.param_groups = inner.param_groups

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for weight, copy in self.copies.items():
            copy.grad = None if weight.grad is None else weight.grad.to(copy.dtype)
        self.inner.step()
        for weight, copy in self.copies.items():
            copy.grad = None
            weight.copy_(copy)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the model's weights."""
        super().zero_grad(set_to_none)
        for weight in self.copies:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict(), "copies": [copy.detach() for copy in self.copies.values()]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: it holds no float32 weights.
        """
        if "copies" not in state_dict:
            raise UserError(
                "cannot resume: the checkpoint has no float32 weights beside its bf16 ones; start from its weights"
            )
        saved: list[Tensor] = state_dict["copies"]
        for copy, held in zip(self.copies.values(), saved, strict=True):
            copy.copy_(held)
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups = self.inner.param_groups
