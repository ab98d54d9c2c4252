"""Validation before the first step, so that every curve starts where the model did."""

from __future__ import annotations

import lightning as L


class InitialValidation(L.Callback):
    """Runs the Trainer's own validation at step 0: the same batches, hooks and metrics as every later one.

    Lightning's sanity check would run some of the batches without logging them. What is logged here stays out of
    ``trainer.callback_metrics``, so that nothing ranks a later step by it.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step or not trainer.enable_validation:
            return
        before = set(trainer.callback_metrics)
        trainer.validating = True  # as the loop of an epoch does it: this is what logging goes by
        try:
            trainer.fit_loop.epoch_loop.val_loop.run()
        finally:
            trainer.training = True
        for name in set(trainer.callback_metrics) - before:
            del trainer.callback_metrics[name]
