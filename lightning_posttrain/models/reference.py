"""The policy as it was at the start, to hold the trained one close to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..ops.sharding import local, reshard
from ..types import UserError


class Reference:
    """A frozen copy of the parameters that are trained; everything else is shared with the policy.

    For new adapters that is the base model, for full fine-tuning a whole copy, and for an adapter that is trained
    further the adapter as it was loaded.

    Args:
        model: the policy, before its first step.
        which: ``initial``, or ``base`` = the model with all adapters off, whatever they held.

    Raises:
        UserError: ``base`` of a model without adapters.
    """

    def __init__(self, model: nn.Module, which: Literal["initial", "base"] = "initial") -> None:
        if which == "base" and not hasattr(model, "disable_adapter"):
            raise UserError("reference: base needs a model with adapters; use initial")
        self.model, self.which = model, which
        self.copies: list[Tensor] = []
        if which == "initial":
            self.copies = [local(p.detach()).clone() for p in self._trained()]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, the model is the reference and no gradient is recorded."""
        with torch.no_grad():
            if self.which == "base":
                with self.model.disable_adapter():  # type: ignore[operator]
                    yield
                return
            self._swap()
            try:
                yield
            finally:
                self._swap()

    def _swap(self) -> None:
        """Exchange storages, so nothing is copied; a sharded parameter keeps its storage and changes its content."""
        reshard(self.model)
        for i, parameter in enumerate(self._trained()):
            if isinstance(parameter, DTensor):
                mine = local(parameter.detach())
                held = mine.clone()
                mine.copy_(self.copies[i])
                self.copies[i] = held
                continue
            copy = self.copies[i].to(parameter.device)
            self.copies[i], parameter.data = parameter.data, copy

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]


def without_dropout(model: nn.Module) -> None:
    """Turn dropout off for good: what policy and reference make of the same tokens is compared.

    An adapter that is trained further may bring some.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
