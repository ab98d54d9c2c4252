"""Nothing to train, and perhaps a file to evaluate on: `GenerationEval` reads it."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L

from ..types import StepBatch


class EmptyStep:
    """A loader of one step without rows: Lightning runs no evaluation without a batch."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[StepBatch]:
        yield StepBatch([], 0, 0, 0)


class EvalDataModule(L.LightningDataModule):
    """Names the rows that evaluation callbacks without a path of their own use.

    Args:
        path: rows: .jsonl, .json, .csv, .parquet (also .gz), or ``hub:org/name:config:split``; null where all
            callbacks name their own, as `BPBEval` does.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self.path = path

    @property
    def evaluation_path(self) -> str | None:
        """The rows of evaluations that name none."""
        return self.path

    def val_dataloader(self) -> EmptyStep:
        return EmptyStep()

    test_dataloader = val_dataloader
