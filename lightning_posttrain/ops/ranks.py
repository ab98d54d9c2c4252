"""What ranks tell each other besides gradients."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def gather_rows(items: list[Any]) -> list[Any]:
    """The items of all ranks, on every rank, taken in turn: what ``rows[rank::world]`` dealt out is in order again."""
    parts = gather(items)
    longest = max(map(len, parts))
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


def gather(value: Any) -> list[Any]:
    """Every rank's ``value``, in the order of ranks."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
