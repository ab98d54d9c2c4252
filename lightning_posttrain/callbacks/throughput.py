"""What a step costs: tokens per second (distinct and effective), sharing, memory, and where the time goes."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import psutil
import torch


class Throughput(L.Callback):
    """Logs ``perf/*`` every ``log_every_n_steps`` of the Trainer, as rates over the steps since the last time.

    - ``tokens_per_s_distinct``: tokens the decoder saw, over all ranks; ``tokens_per_s_effective``: tokens of the rows
      had each run alone. Their ratio is ``sharing``. Tokens that were generated count where they are learned from.
    - ``supervised_share``: supervised tokens per effective token.
    - ``peak_memory_gb``: of the device, or resident memory of this process on CPU (10**9 bytes).
    - ``time_data``, ``time_<phase>`` of the module (``learning``; ``generation``, ``rewards``), ``time_other``: shares
      of the wall time spent building batches, in each phase of the training step, and in everything else
      (evaluation, checkpoints, logging).
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.since = time.perf_counter()
        self.distinct = self.effective = self.supervised = self.examples = 0
        self.data_seconds = 0.0
        self.batches = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        pl_module.phase_seconds.clear()
        self._reset()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        world = trainer.world_size  # every rank has as many micro-batches, of about the same size
        for step in pl_module.updated:
            self.distinct += world * sum(m.layout.num_tokens for m in step.micros)
            self.effective += world * sum(int(m.lengths.sum()) for m in step.micros)
            self.supervised += step.num_tokens
            self.examples += step.num_examples
        self.data_seconds += batch.load_seconds
        self.batches += 1
        if self.batches < trainer.log_every_n_steps or not trainer.loggers:  # type: ignore[attr-defined]
            return
        wall = time.perf_counter() - self.since
        seconds = {"data": self.data_seconds, **pl_module.phase_seconds}
        values = {
            "tokens_per_s_distinct": self.distinct / wall,
            "tokens_per_s_effective": self.effective / wall,
            "examples_per_s": self.examples / wall,
            "sharing": self.effective / max(self.distinct, 1),
            "supervised_share": self.supervised / max(self.effective, 1),
            "peak_memory_gb": peak_memory(trainer.strategy.root_device) / 1e9,
            **{f"time_{name}": spent / wall for name, spent in seconds.items()},
            "time_other": max(0.0, 1 - sum(seconds.values()) / wall),
        }
        for logger in trainer.loggers:
            logger.log_metrics({f"perf/{k}": v for k, v in values.items()}, step=trainer.global_step)
        pl_module.phase_seconds.clear()
        self._reset()


def peak_memory(device: torch.device) -> int:
    """Bytes: most memory ever allocated on a CUDA device, else the process's resident memory now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss
