"""Checkpoints that are folders: strategies that shard have every rank write its own part.

The strategy decides what is in them and reads them; here they appear whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import Strategy

from .checkpoint_io import FORMAT, Manifest, checkpoints_in, folder_size, sync_folder, write_manifest


def writes_folders(strategy: Any) -> bool:
    """Whether a checkpoint of this strategy is a folder of shards."""
    own = type(strategy).save_checkpoint is not Strategy.save_checkpoint
    return own and getattr(strategy, "_save_distributed_checkpoint", True)


def save_folder(target: Path, write: Callable[[Path], None], barrier: Callable[[], None], first: bool) -> None:
    """Write a checkpoint that is a folder of every rank's shards under a temporary name, then rename it.

    Its manifest knows its size alone: who hashes shards has to read what may be terabytes.

    Args:
        target: final path, the same on all ranks.
        write: writes the folder, called by all ranks.
        barrier: waits for all ranks.
        first: whether this is rank zero.
    """
    temporary = target.with_name(f".tmp-{target.name}")
    if first:
        shutil.rmtree(temporary, ignore_errors=True)
    barrier()
    write(temporary)
    barrier()
    if first:
        step = int(target.stem.rpartition("-")[2])
        number = 1 + max((m.number for _, m in checkpoints_in(target.parent)), default=0)
        shutil.rmtree(target, ignore_errors=True)
        write_manifest(target, Manifest(FORMAT, number, step, folder_size(temporary), ""))
        temporary.replace(target)
        sync_folder(target.parent)
    barrier()
