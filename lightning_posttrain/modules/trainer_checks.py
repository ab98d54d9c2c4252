"""What a Trainer is asked before a run: flags that the loop owns are refused by name.

What Lightning or torch themselves refuse is told by the name of the option.
"""

from __future__ import annotations

import inspect
import re
import traceback
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ..types import UserError

CONFIGURED = (ValueError, TypeError, ArithmeticError, ImportError, MisconfigurationException)
"""What libraries raise when they are set up with values that they do not take."""
PACKAGE = Path(__file__).parents[1]


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
    if trainer.overfit_batches:
        raise UserError(
            f"trainer.overfit_batches={trainer.overfit_batches} takes other rows than the loader's and in another "
            "order; use data.max_examples, and data.shuffle: false, instead"
        )
    if not trainer.val_check_interval or trainer.check_val_every_n_epoch == 0:
        raise UserError(
            f"trainer.val_check_interval={trainer.val_check_interval}, "
            f"trainer.check_val_every_n_epoch={trainer.check_val_every_n_epoch}: neither may be 0; "
            "to leave validation out set trainer.limit_val_batches to 0"
        )
    if trainer.limit_train_batches != 1.0 and not trainer.fast_dev_run:
        raise UserError(
            f"trainer.limit_train_batches={trainer.limit_train_batches} cuts epochs short of the "
            "loader's; use data.max_examples, or trainer.max_steps, instead"
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


def raised_here(error: BaseException) -> bool:
    """Whether it was raised by this package's own code, so that it is no answer of a library to a configuration."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and PACKAGE in Path(frames[-1].filename).parents


def blamed(error: BaseException, config: Any) -> UserError:
    """A library's refusal of ``config`` in one line, with the options of the Trainer that it speaks of."""
    text = " ".join(str(error).split())[:600] or type(error).__name__
    defaults = {p.name: p.default for p in inspect.signature(Trainer.__init__).parameters.values()}
    given: dict[str, Any] = {}
    for group in ("trainer", "optimizer", "lr_scheduler"):
        options = {key.replace("init_args.", ""): value for key, value in dict(config.get(group) or {}).items()}
        given |= {f"{group}.{k}": v for k, v in options.items() if v is not None and v != defaults.get(k, ...)}
    found = [f"{key}={value}" for key, value in given.items() if _speaks_of(error, text, key, value)]
    return UserError(f"{', '.join(found[:3]) or 'the configuration cannot be run'}: {text}")


def _speaks_of(error: BaseException, text: str, key: str, value: Any) -> bool:
    if isinstance(error, ZeroDivisionError):
        return value == 0 and value is not False
    number = re.escape(str(value)) if isinstance(value, int | float) and value not in (0, 1) else None
    if number is not None and re.search(rf"(?<![\w.]){number}(?![\w.])", text):
        return True
    name = key.rpartition(".")[2]
    return bool(re.search(rf"\b{re.escape(name)}\b", text)) or (isinstance(value, str) and value in text)
