"""Log-probs of a data set under the reference, on disk: computed once, then the reference is not needed any more.

A folder per key, which covers weights, rows, chat format and precision; it appears whole or not at all. Every rank
computes and writes its share, so ranks on several machines need a common folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..batching.cut import cut_step
from ..batching.loader import ExampleSource
from ..batching.tree import collate
from ..ops.logprobs import base_model
from ..ops.ranks import gather
from ..types import Example, MicroBatch, UserError

FORMAT = 1
"""Part of every key; raised when the files change."""

AT_ONCE = 256
"""Examples that are cut into micro-batches together: enough to share prefixes, few enough to hold."""


def weights_fingerprint(model: nn.Module) -> str:
    """sha256 of the model's config and of the bytes of its parameters and buffers."""
    digest = hashlib.sha256(base_model(model).config.to_json_string(use_diff=False).encode())
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            digest.update(f"{name} {value!r}".encode())
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class ReferenceLogprobs:
    """Log-probs (N,) float32 of an example's supervised tokens, by its index; read where they lie.

    Args:
        folder: as written by `cached_logprobs`.

    Raises:
        UserError: the folder is damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
            parts = range(meta["parts"])
            self.values = [np.load(folder / f"values-{i}.npy", mmap_mode="r") for i in parts]
            self.ends = [np.load(folder / f"ends-{i}.npy") for i in parts]
            if [len(v) for v in self.values] != [int(e[-1]) for e in self.ends] or meta["examples"] != len(self):
                raise ValueError("the numbers of values differ")
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise UserError(f"{folder}: the cached reference is damaged ({error}). Delete this folder.") from error

    def __len__(self) -> int:
        return sum(map(len, self.ends))

    def __getitem__(self, index: int) -> np.ndarray:
        place, part = divmod(index, len(self.ends))
        begin = int(self.ends[part][place - 1]) if place else 0
        return np.array(self.values[part][begin : int(self.ends[part][place])])


class WithReference:
    """``source`` with a column ``reference`` in each sequence."""

    def __init__(self, source: ExampleSource, logprobs: ReferenceLogprobs) -> None:
        self.source, self.logprobs = source, logprobs
        self.fingerprint = source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        ends = np.cumsum([int(s.supervised.sum()) for s in example])[:-1]
        parts = np.split(self.logprobs[index], ends)
        return tuple(
            replace(s, columns={**s.columns, "reference": part}) for s, part in zip(example, parts, strict=True)
        )


def cached_logprobs(
    source: ExampleSource,
    logprobs: Callable[[], AbstractContextManager[Callable[[MicroBatch], Tensor]]],
    key: str,
    cache_dir: str | Path,
    *,
    tokens_per_micro: int,
    min_shared: int,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[ReferenceLogprobs, bool]:
    """The log-probs of ``source``, from the cache if they were computed for this ``key`` before.

    Args:
        source: N examples.
        logprobs: a context that gives a function, micro-batch -> (N,) nats of its supervised tokens; not entered on a
            hit.
        key: covers weights, precision and all else that decides them; the rows are added here.
        cache_dir: folder of the cache.
        tokens_per_micro, min_shared: as in training.
        rank, world_size: this process computes the examples ``rank::world_size``.

    Returns:
        The log-probs, and whether they were there.
    """
    name = hashlib.sha256(json.dumps([FORMAT, key, source.fingerprint, world_size]).encode()).hexdigest()[:32]
    folder = Path(cache_dir) / name
    hit = all(gather(folder.is_dir()))
    if not hit:
        token = gather(uuid.uuid4().hex)[0]
        temporary = folder.with_name(f".{name}-{token}")
        temporary.mkdir(parents=True, exist_ok=True)
        try:
            with logprobs() as compute:
                mine = range(rank, len(source), world_size)
                _write(temporary, rank, _compute(source, compute, mine, tokens_per_micro, min_shared))
            gather(None)  # all parts are there
            if rank == 0:
                meta = {"parts": world_size, "examples": len(source)}
                (temporary / "meta.json").write_text(json.dumps(meta), "utf-8")
                if not folder.is_dir():  # else another run was first
                    temporary.replace(folder)
            gather(None)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return ReferenceLogprobs(folder), hit


def _compute(
    source: ExampleSource,
    logprobs: Callable[[MicroBatch], Tensor],
    indices: range,
    tokens_per_micro: int,
    min_shared: int,
) -> list[np.ndarray]:
    """(N_i,) float32 of each example of ``indices``."""
    found: list[np.ndarray] = []
    for start in range(0, len(indices), AT_ONCE):
        block = indices[start : start + AT_ONCE]
        named = [tuple(replace(s, id=str(place)) for s in source[i]) for place, i in enumerate(block)]
        values: dict[int, list[np.ndarray]] = {place: [] for place in range(len(block))}
        (micros,) = cut_step(named, tokens_per_micro, 1, min_shared)
        for group in micros:
            micro = collate(group, min_shared)
            counts = torch.bincount(micro.sequence, minlength=micro.num_sequences)
            parts = np.split(logprobs(micro).float().cpu().numpy(), counts.cumsum(0)[:-1].numpy())
            for place, part in zip(micro.ids, parts, strict=True):
                values[int(place)].append(part)
        found += [np.concatenate(values[place]) for place in range(len(block))]
    return found


def _write(folder: Path, rank: int, examples: list[np.ndarray]) -> None:
    np.save(folder / f"values-{rank}.npy", np.concatenate(examples).astype(np.float32))
    np.save(folder / f"ends-{rank}.npy", np.cumsum([len(e) for e in examples]).astype(np.int64))
