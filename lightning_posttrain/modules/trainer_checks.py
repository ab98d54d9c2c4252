"""What a Trainer is asked before a run: flags that the loop owns are refused by name."""

from __future__ import annotations

from typing import Any

from ..types import UserError


def check_trainer(trainer: Any) -> None:
    """Refuse the Trainer's flags that belong to the loop.

    Raises:
        UserError: naming the flag and what to use instead.
    """
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            "trainer.accumulate_grad_batches belongs to this loop: a batch is a whole optimizer step; "
            "use data.examples_per_step (batch size) and data.tokens_per_micro (memory) instead"
        )
    if trainer.limit_train_batches != 1.0 and not trainer.fast_dev_run:
        raise UserError(
            f"trainer.limit_train_batches={trainer.limit_train_batches} (or overfit_batches) cuts epochs short of "
            "the loader's; use data.max_examples, or trainer.max_steps, instead"
        )
    if trainer.gradient_clip_val is not None:
        raise UserError("trainer.gradient_clip_val belongs to this loop: use model.max_grad_norm instead")
    if str(trainer.precision) in ("16-mixed", "16-true", "transformer-engine-float16"):
        raise UserError(f"trainer.precision={trainer.precision} needs loss scaling; use bf16-mixed or bf16-true")


def batches_of(trainer: Any) -> int:
    """Batches of the loader in the whole run, at most 2**60.

    Raises:
        UserError: ``val_check_interval`` is longer than an epoch.
    """
    try:
        return int(min(trainer.estimated_stepping_batches, 1 << 60))
    except ValueError as error:  # Lightning's check of val_check_interval against the loader's length
        raise UserError(
            f"{' '.join(str(error).split())} Here: lower trainer.val_check_interval, or set "
            "trainer.check_val_every_n_epoch to null so that it counts across epochs."
        ) from error
