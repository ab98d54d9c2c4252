"""Validation before the first step, so that every curve starts where the model did."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from ..batching.loader import EpochLoader
from .signals import stop_if_told


class InitialValidation(L.Callback):
    """Logs ``val/nll`` at step 0. Lightning's sanity check would run the same batches without logging them."""

    @torch.no_grad()
    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.global_step or data is None or trainer.limit_val_batches == 0:
            return
        loader = data.val_dataloader()
        pl_module.eval()
        for index, batch in enumerate(loader):
            with trainer.precision_plugin.val_step_context():
                pl_module.validation_step(batch.to(trainer.strategy.root_device), index)
            if isinstance(loader, EpochLoader):  # as many batches on all ranks
                stop_if_told(trainer)
        pl_module.train()
        if pl_module.val_nll.update_called:
            value = float(pl_module.val_nll.compute())
            pl_module.val_nll.reset()
            for logger in trainer.loggers:
                logger.log_metrics({"val/nll": value}, step=0)
