"""What a step costs: tokens per second (distinct and effective), sharing, memory, and where the time goes."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import psutil
import torch

from ..types import StepBatch


class Throughput(L.Callback):
    """Logs ``perf/*`` every ``log_every_n_steps`` of the Trainer, as rates over the steps since the last time.

    - ``tokens_per_s_distinct``: tokens the decoder saw, over all ranks; ``tokens_per_s_effective``: tokens of the rows
      had each run alone. Their ratio is ``sharing``.
    - ``supervised_share``: supervised tokens per effective token.
    - ``peak_memory_gb``: of the device, or resident memory of this process on CPU (10**9 bytes).
    - ``time_data``, ``time_step``, ``time_other``: shares of the wall time spent building batches, in the training
      step, and in everything else (evaluation, checkpoints, logging).
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.since = time.perf_counter()
        self.distinct = self.effective = self.supervised = self.examples = 0
        self.data_seconds = self.step_seconds = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._reset()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        world = trainer.world_size  # every rank has as many micro-batches, of about the same size
        self.distinct += world * sum(m.layout.num_tokens for m in batch.micros)
        self.effective += world * sum(int(m.lengths.sum()) for m in batch.micros)
        self.supervised += batch.num_tokens
        self.examples += batch.num_examples
        self.data_seconds += batch.load_seconds
        self.step_seconds += pl_module.step_seconds
        if trainer.global_step % trainer.log_every_n_steps or not trainer.loggers:  # type: ignore[attr-defined]
            return
        wall = time.perf_counter() - self.since
        values = {
            "tokens_per_s_distinct": self.distinct / wall,
            "tokens_per_s_effective": self.effective / wall,
            "examples_per_s": self.examples / wall,
            "sharing": self.effective / self.distinct,
            "supervised_share": self.supervised / self.effective,
            "peak_memory_gb": peak_memory(trainer.strategy.root_device) / 1e9,
            "time_data": self.data_seconds / wall,
            "time_step": self.step_seconds / wall,
            "time_other": max(0.0, 1 - (self.data_seconds + self.step_seconds) / wall),
        }
        for logger in trainer.loggers:
            logger.log_metrics({f"perf/{k}": v for k, v in values.items()}, step=trainer.global_step)
        self._reset()


def peak_memory(device: torch.device) -> int:
    """Bytes: most memory ever allocated on a CUDA device, else the process's resident memory now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss
