"""When what is due every few steps is due, where one batch may make any number of optimizer steps."""

from __future__ import annotations

from typing import Any

import lightning as L


def passed(every: int, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now].

    Args:
        every: at least 1.
        before, now: optimizer steps at the end of the previous batch and of this one.
    """
    return now // every > before // every


def total_steps(trainer: L.Trainer, module: Any) -> float:
    """Optimizer steps of the whole run; infinite where nothing ends it. Lightning alone counts batches."""
    steps = getattr(module, "total_steps", None)
    return float(trainer.estimated_stepping_batches if steps is None else steps)
