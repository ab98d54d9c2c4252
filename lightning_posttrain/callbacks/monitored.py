"""Whether a metric that is monitored will ever be logged, asked before anything is trained."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from ..types import UserError
from .evaluation import Evaluation

ALWAYS = ("train/", "rollout/", "perf/", "loss", "reward")
"""What the names begin with that are logged with every step; they are not looked at here."""


def check_monitor(monitor: str, trainer: Any, module: Any) -> None:
    """Refuse a metric that no validation of this run can log. What other people's classes log is not known.

    Raises:
        UserError: there is no validation, or nothing in the run has such a metric.
    """
    told = f"checkpoint.monitor={monitor!r}"
    if trainer.datamodule is not None and (trainer.limit_val_batches == 0 or not trainer.datamodule.val_dataloader()):
        raise UserError(
            f"{told} is read at validations, and there are none; give data.val_path or data.val_examples, "
            "or leave checkpoint.monitor out"
        )
    owners = [type(owner).__module__.partition(".")[0] for owner in (module, *trainer.callbacks)]
    if monitor.startswith(ALWAYS) or not {*owners} <= {"lightning_posttrain", "lightning"}:
        return
    known = [f"val/{name}" for name in getattr(module, "validated", ("nll",))]
    for callback in trainer.callbacks:
        names = getattr(callback, "metric_names", None)
        if names is not None:
            known += [f"eval/{callback.task.name}/{name}" for name in names(trainer.datamodule)]
        elif isinstance(callback, Evaluation) and monitor.startswith("eval/"):
            return  # what it logs is known when it has read its files
    if monitor not in known:
        near = get_close_matches(monitor, known, 1, 0.3)
        hint = f"did you mean {near[0]}?" if near else "give one of them"
        raise UserError(f"{told}: no validation of this run logs it; they log {', '.join(known)}; {hint}")
