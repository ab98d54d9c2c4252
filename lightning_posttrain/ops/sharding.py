"""Parameters that are spread over ranks (FSDP2, ZeRO-3): when they come together, and when gradients are exchanged.

Nothing here changes a model that is not sharded. Tensor parallelism and FSDP's first version are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from ..types import UserError
from .logprobs import base_model


def shard(model: nn.Module, mesh: Any, dtype: torch.dtype | None) -> None:
    """Spread the parameters over the ranks of ``mesh`` (FSDP2); each layer comes together only while it runs.

    Layers, head and the rest of the decoder are units of their own, since head and decoder are called one by one.

    Args:
        model: a causal LM on every rank, with the same weights.
        mesh: one-dimensional device mesh.
        dtype: of parameters while they compute; None = as they are. Gradients are exchanged in float32.

    Raises:
        UserError: head and embedding are one parameter, which two units cannot hold.
    """
    base = base_model(model)
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    if any(a is b for a in head.parameters() for b in embedding.parameters()):
        raise UserError(
            "FSDP2 cannot shard a model whose head is its embedding (tie_word_embeddings); use strategy ddp, or ZeRO"
        )
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
    for layer in base.get_decoder().layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(head, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    fully_shard(base.get_decoder(), mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def units(model: nn.Module) -> list[FSDPModule]:
    """The parts of a model that FSDP2 shards."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def reshard(model: nn.Module) -> None:
    """Let go of parameters that a pass without a backward has left together: they may be about to change."""
    for unit in units(model):
        unit.reshard()


@contextmanager
def whole_parameters(model: nn.Module) -> Iterator[None]:
    """Inside, every rank has all parameters and may call the model as often as it likes; not for training.

    Ranks that generate take different numbers of steps, so nothing may wait for the others there.
    """
    sharded = units(model)
    with ExitStack() as stack:
        if zero3 := [p for p in model.parameters() if hasattr(p, "ds_id")]:
            import deepspeed  # an extra

            stack.enter_context(deepspeed.zero.GatheredParameters(zero3))
        for unit in sharded:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            for unit in sharded:
                unit.set_reshard_after_forward(unit is not head_unit(model), recurse=False)
                unit.reshard()


def head_unit(model: nn.Module) -> nn.Module:
    """The head: called in chunks, it stays together until its gradient is known."""
    return base_model(model).get_output_embeddings()


def set_gradient_sync(model: nn.Module, engine: Any, last: bool) -> None:
    """Exchange gradients with the next backward, or not yet.

    Args:
        model: the policy.
        engine: DeepSpeed's engine, or None.
        last: whether it is the last micro-batch of the step.
    """
    for unit in units(model):
        unit.set_requires_gradient_sync(last, recurse=False)
    if engine is not None:
        engine.set_gradient_accumulation_boundary(last)


def gathered_state(model: nn.Module) -> dict[str, Tensor] | None:
    """The state dict of a model that FSDP2 shards, whole and on the CPU; None of any other. Every rank has to ask."""
    if not units(model):
        return None
    return {name: full(value).cpu() for name, value in model.state_dict().items()}


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on every rank; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
