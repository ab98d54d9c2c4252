"""What the loop has to know of Lightning's strategies that shard: DeepSpeed's ZeRO, and FSDP2.

Several backwards make one step here, so gradients are exchanged with the last one only, and DeepSpeed, which clips and
clears gradients itself, is told this loop's limit. FSDP's first version, tensor parallelism and offloading that needs
another optimizer are left to their users.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..types import UserError


def set_up_strategy(trainer: Any, max_grad_norm: float | None, skip_sigma: float | None = None) -> None:
    """Give DeepSpeed what it has to know before it starts.

    Raises:
        UserError: its config says something else than the module.
    """
    config = getattr(trainer.strategy, "config", None)
    if type(trainer.strategy).__name__ != "DeepSpeedStrategy" or not isinstance(config, dict):
        return
    if skip_sigma is not None:
        raise UserError(f"optimizer.skip_sigma={skip_sigma}: DeepSpeed steps by itself; set it to null")
    for name, value, source in (
        ("gradient_clipping", max_grad_norm or 0.0, "model.max_grad_norm"),
        ("gradient_accumulation_steps", 1, "this loop, which makes a step of several micro-batches itself"),
    ):
        given = config.get(name, "auto")
        if given not in ("auto", value):
            raise UserError(
                f"DeepSpeed config: {name}={given}, but {source} says {value}; leave it out or make them equal"
            )
        config[name] = value
    config.setdefault("train_micro_batch_size_per_gpu", 1)  # DeepSpeed asks; batches are not its business here
    if config.get("zero_optimization", {}).get("stage") == 3:
        from transformers.integrations import HfDeepSpeedConfig

        # while it is alive, from_pretrained reads weights straight into shards
        trainer.strategy._hf_deepspeed_config = HfDeepSpeedConfig(config)


def deepspeed_engine(trainer: Any) -> Any:
    """DeepSpeed's engine, or None with another strategy."""
    return trainer.strategy.model if type(trainer.strategy).__name__ == "DeepSpeedStrategy" else None


def has_own_masters(trainer: Any) -> bool:
    """Whether the strategy itself keeps float32 copies of narrow weights: DeepSpeed does."""
    return type(trainer.strategy).__name__ == "DeepSpeedStrategy"


def data_mesh(mesh: Any) -> Any:
    """The dimension of Lightning's device mesh that data is spread over.

    Raises:
        UserError: the other one is used too.
    """
    if mesh["tensor_parallel"].size() > 1:
        raise UserError(
            f"tensor_parallel_size={mesh['tensor_parallel'].size()}: layers are not split here; set it to 1 and "
            "data_parallel_size to the number of devices"
        )
    return mesh["data_parallel"]


def sync_only_if(last: bool, trainer: Any) -> AbstractContextManager[Any]:
    """Gradients are reduced once per step, with the last micro-batch."""
    block = getattr(trainer.strategy, "block_backward_sync", None)
    return nullcontext() if last or block is None or trainer.world_size == 1 else block()
