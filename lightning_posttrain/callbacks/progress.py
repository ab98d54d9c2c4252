"""How far a run is: a rich bar on a terminal, a line now and then in a log file. Both say how long is left."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

from ..progress import Progress
from .cadence import total_steps


def progress() -> L.Callback:
    """The bar if standard output is a terminal, else the lines."""
    return ProgressBar() if sys.stdout.isatty() else ProgressLines()


class ProgressBar(RichProgressBar):
    """Lightning's rich bar without the logger's version number."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class ProgressLines(L.Callback):
    """Prints step, loss, time and time left at the first step, at the last, and at most every ``seconds`` between.

    A validation, a test or a prediction that takes long has lines too, on standard error (`progress.Progress`).

    Args:
        seconds: least time between two lines.
    """

    def __init__(self, seconds: float = 15.0) -> None:
        self.seconds = seconds
        self.meter = Progress("", None, "")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.began = time.monotonic()
        self.first = trainer.global_step
        self.printed = -float("inf")
        self.total = total_steps(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        now, step = time.monotonic(), trainer.global_step
        if not trainer.is_global_zero or (now - self.printed < self.seconds and step < self.total):
            return
        self.printed = now
        spent = now - self.began
        left = spent / max(step - self.first, 1) * max(self.total - step, 0)  # the last batch may end beyond the total
        loss = float(trainer.callback_metrics["train/loss"])
        print(f"step {step}/{self.total:.0f}  loss {loss:.4f}  {spent:.0f} s, {left:.0f} s left", flush=True)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._begin("validation", trainer, batches)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin("test", trainer, trainer.num_test_batches)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin("prediction", trainer, trainer.num_predict_batches)

    def _begin(self, what: str, trainer: L.Trainer, batches: list[int | float]) -> None:
        total = sum(batches)
        self.meter = Progress(f"step {trainer.global_step}: {what}", total if math.isfinite(total) else None, "batches")

    def _advance(self, *_: Any, **__: Any) -> Any:
        self.meter.add()

    def _end(self, *_: Any, **__: Any) -> Any:
        self.meter.end()

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _advance
    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = _end
