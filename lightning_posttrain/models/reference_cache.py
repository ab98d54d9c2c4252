"""Log-probs of a data set under the reference, on disk: computed once, then the reference is not needed any more.

A folder per key, which covers weights, rows, chat format and precision; it appears whole or not at all. Every rank
computes and writes its share, so ranks on several machines need a common folder.

Rows are computed in the micro-batches of the first epoch, so the policy's first log-probs are these, to the bit. A run
that finds them but has other steps (``seed``, ``examples_per_step``, ``tokens_per_micro``) sums in another order, and
float32 then differs by some 1e-7 of a value; so does a validation of other steps. That is left so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..batching.cut import cut_step
from ..batching.loader import ExampleSource, StepLoader
from ..batching.tree import collate
from ..ops.logprobs import base_model
from ..ops.ranks import gather
from ..progress import metered
from ..records.canonical import canonical
from ..records.files import writing
from ..types import Example, MicroBatch, UserError

FORMAT = 2
"""Part of every key; raised when the files change."""


def weights_fingerprint(model: nn.Module) -> str:
    """sha256 of the model's config and of the bytes of its parameters and buffers."""
    digest = hashlib.sha256(base_model(model).config.to_json_string(use_diff=False).encode())
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            digest.update(f"{name} {canonical(value)}".encode())
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
            indices = [np.load(folder / f"indices-{i}.npy") for i in parts]
            if [len(v) for v in self.values] != [int(e[-1]) for e in self.ends] or meta["examples"] != len(self):
                raise ValueError("the numbers of values differ")
            if sorted(np.concatenate(indices).tolist()) != list(range(len(self))):
                raise ValueError("not every row is there once")
            self.places = np.empty((len(self), 2), np.int64)
            for part, held in enumerate(indices):
                self.places[held, 0], self.places[held, 1] = part, np.arange(len(held))
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise UserError(f"{folder}: the cached reference is damaged ({error}). Delete this folder.") from error

    def __len__(self) -> int:
        return sum(map(len, self.ends))

    def __getitem__(self, index: int) -> np.ndarray:
        part, place = map(int, self.places[index])
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
    loader: StepLoader,
) -> tuple[ReferenceLogprobs, bool]:
    """The log-probs of ``source``, from the cache if they were computed for this ``key`` before.

    Args:
        source: N examples.
        logprobs: a context that gives a function, micro-batch -> (N,) nats of its supervised tokens; not entered on a
            hit.
        key: covers weights, precision and all else that decides them; the rows are added here.
        cache_dir: folder of the cache.
        loader: of the rows; its first epoch says what is computed together, and on which rank.

    Returns:
        The log-probs, and whether they were there.

    Raises:
        UserError: the cache cannot be written.
    """
    name = hashlib.sha256(json.dumps([FORMAT, key, source.fingerprint, loader.world_size]).encode()).hexdigest()[:32]
    folder = Path(cache_dir) / name
    hit = all(gather(folder.is_dir()))
    new = not Path(cache_dir).exists()
    if not hit:
        token = gather(uuid.uuid4().hex)[0]
        temporary = folder.with_name(f".{name}-{token}")
        try:
            with writing(Path(cache_dir)):
                temporary.mkdir(parents=True, exist_ok=True)
            with logprobs() as compute:
                computed = _compute(source, compute, loader)
            with writing(Path(cache_dir)):
                _write(temporary, loader.rank, computed)
                gather(None)  # all parts are there
                if loader.rank == 0:
                    meta = {"parts": loader.world_size, "examples": len(source)}
                    (temporary / "meta.json").write_text(json.dumps(meta), "utf-8")
                    if not folder.is_dir():  # else another run was first
                        temporary.replace(folder)
            gather(None)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):  # the folder holds a cache
                if new:
                    Path(cache_dir).rmdir()
    return ReferenceLogprobs(folder), hit


def _compute(
    source: ExampleSource, logprobs: Callable[[MicroBatch], Tensor], loader: StepLoader
) -> dict[int, np.ndarray]:
    """Index -> (N_i,) float32 of each example that is this rank's in the loader's first epoch."""
    found: dict[int, list[np.ndarray]] = {}
    for step in metered(loader.steps(0), "log-probs of the reference", len(loader), "steps"):
        named = [tuple(replace(s, id=str(i)) for s in source[i]) for i in map(int, step)]
        groups = cut_step(named, loader.tokens_per_micro, loader.world_size, loader.min_shared)[loader.rank]
        for group in filter(None, groups):  # the weights are whole here, so no rank waits for another
            micro = collate(group, loader.min_shared)
            counts = torch.bincount(micro.sequence, minlength=micro.num_sequences)
            parts = np.split(logprobs(micro).float().cpu().numpy(), counts.cumsum(0)[:-1].numpy())
            for index, part in zip(micro.ids, parts, strict=True):
                found.setdefault(int(index), []).append(part)
    return {index: np.concatenate(parts) for index, parts in found.items()}


def _write(folder: Path, rank: int, examples: dict[int, np.ndarray]) -> None:
    lengths = [len(values) for values in examples.values()]
    np.save(folder / f"values-{rank}.npy", np.concatenate(list(examples.values())).astype(np.float32))
    np.save(folder / f"ends-{rank}.npy", np.cumsum(lengths, dtype=np.int64))
    np.save(folder / f"indices-{rank}.npy", np.array(list(examples), np.int64))
