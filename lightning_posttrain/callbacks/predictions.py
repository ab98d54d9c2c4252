"""`predict`: every answer as a line of ``predictions.jsonl``, in the order of the rows, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from ..ops.ranks import gather_rows
from .run_files import write_lines


class PredictionWriter(L.Callback):
    """Collects what `predict_step` returns and writes it at the end.

    Args:
        path: file to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.lines += outputs

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        lines = gather_rows(self.lines)
        if not trainer.is_global_zero:
            return
        write_lines(self.path, lines)
        print(f"{len(lines)} answers in {self.path}")
