"""Token shards: files that hold one long row of token ids, mapped into memory and never read whole.

A shard is a one-dimensional .npy, or a .bin of bare numbers whose dtype the reader is told; a .bin with the header of
llm.c says it itself. Documents follow one another, each with the end-of-text token after it. What tokens mean is not
known here.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..types import UserError
from .files import matching, read_json, write_text

SUFFIXES = (".npy", ".bin")
DTYPES = ("uint16", "uint32")
CHUNK = 1 << 24
"""Tokens looked at together."""
MANIFEST = "manifest.json"
"""Beside shards: what they are, such as their ``dtype``."""
LLM_C = {20240520: "uint16", 20240801: "uint32"}
"""First number of a .bin with the header of llm.c and modded-nanogpt, and the dtype of what follows."""
LLM_C_HEADER = 1024
"""Bytes of that header: 256 numbers, of which the third counts the tokens."""
SAMPLE = 4096
"""Numbers at the start of a .bin that tell its dtype."""


@dataclass(frozen=True)
class ShardFacts:
    """What a shard holds.

    Args:
        tokens: how many.
        largest: the largest id.
        ends: how many of them end a document.
        sha256: of the file.
    """

    tokens: int
    largest: int
    ends: int
    sha256: str


def shard_files(paths: Sequence[str]) -> list[Path]:
    """The shards that ``paths`` name, each a file, a folder (all shards in it) or a glob; sorted within each.

    Raises:
        UserError: a path names none.
    """
    found: list[Path] = []
    for path in paths:
        there = Path(path)
        matches = there.iterdir() if there.is_dir() else matching(path)
        files = sorted(p for p in matches if p.suffix in SUFFIXES and p.is_file())
        if not files:
            what = "is no folder with one, and no pattern for one" if not there.exists() else "holds none"
            raise UserError(f"{path}: {what}; a token shard is a {' or '.join(SUFFIXES)} file")
        found += files
    return found


def open_shard(path: str | Path, dtype: str = "uint16") -> np.ndarray:
    """The ids (N,) of a shard, mapped read-only.

    Args:
        path: the file.
        dtype: of the numbers in a .bin; a .npy says it itself.

    Raises:
        UserError: it is missing, cut off, not a one-dimensional array of uint16 or uint32, or of another dtype.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype={dtype!r}: the tokens of a .bin are {' or '.join(DTYPES)}")
    path = Path(path)
    try:
        if path.suffix == ".npy":
            ids: np.ndarray = np.lib.format.open_memmap(path, mode="r")
        else:
            ids = _open_bin(path, dtype)
    except (OSError, ValueError) as error:
        told = {"mmap length": "the file ends before the array does", "magic string": NO_NPY}
        said = next((text for sign, text in told.items() if sign in str(error)), str(error))
        raise UserError(f"{path}: is no token shard ({said}); write it again, or leave it out") from error
    if ids.ndim != 1 or ids.dtype.name not in DTYPES:
        raise UserError(
            f"{path}: holds {ids.dtype.name} of shape {ids.shape}; a token shard is one row of {' or '.join(DTYPES)}"
        )
    return ids


NO_NPY = (
    "it has no .npy header; OLMo gives this ending to bare numbers: rename such a file to .bin, and set their dtype"
)


def _open_bin(path: Path, dtype: str) -> np.ndarray:
    """The ids of a .bin, behind the header if it has one that is known.

    Raises:
        UserError: the numbers are of another dtype.
        ValueError: no whole number of them, or fewer than the header says.
    """
    size = path.stat().st_size
    header = np.fromfile(path, "<i4", LLM_C_HEADER // 4)
    if len(header) == LLM_C_HEADER // 4 and int(header[0]) in LLM_C and not header[3:].any():
        own, count = LLM_C[int(header[0])], int(header[2])
        if LLM_C_HEADER + count * np.dtype(own).itemsize != size:
            raise ValueError(f"its header of llm.c counts {count} tokens of {own}, which do not fill {size} bytes")
        return np.memmap(path, np.dtype(own).newbyteorder("<"), "r", LLM_C_HEADER) if count else np.zeros(0, own)
    width = np.dtype(dtype).itemsize
    if size % width:
        raise ValueError(f"{size} bytes are no whole number of {dtype}")
    ids: np.ndarray = np.memmap(path, dtype=f"<u{width}", mode="r") if size else np.zeros(0, dtype)
    _check_dtype(path, ids)
    return ids


def _check_dtype(path: Path, ids: np.ndarray) -> None:
    """Refuse a .bin whose numbers are of another dtype than it is read with: every one would be wrong."""
    dtype, named = ids.dtype.name, read_json(path.with_name(MANIFEST)).get("dtype")
    if named is not None and named != dtype:
        raise UserError(f"{path}: is read as {dtype}, but {MANIFEST} beside it says {named}; set dtype: {named}")
    low, high = ids[:SAMPLE:2], ids[1:SAMPLE:2]
    # halves of uint32: the upper ones are 0 below 65,536, and at most 15 in a vocabulary of a million
    if dtype == "uint16" and len(high) >= 32 and high.max() < 16 <= low.max():
        raise UserError(
            f"{path}: every second number is {high.max()} or less, as in a file of uint32 that is read as uint16; set "
            "dtype: uint32 (if it is uint16, save it as .npy, which says so itself)"
        )


def count_tokens(path: str | Path, dtype: str = "uint16") -> int:
    """Tokens of a shard; raises like `open_shard`."""
    return len(open_shard(path, dtype))


def shard_facts(path: str | Path, end: int, dtype: str = "uint16", cache_dir: str = ".cache/shards") -> ShardFacts:
    """What a shard holds, looked up where name, size and time of change are as they were.

    Args:
        path: the file.
        end: the id that ends a document.
        dtype: as in `open_shard`.
        cache_dir: where facts are kept.

    Raises:
        UserError: as `open_shard`.
    """
    ids, stat = open_shard(path, dtype), Path(path).stat()
    key = f"{Path(path).resolve()} {stat.st_size} {stat.st_mtime_ns} {ids.dtype} {end}"
    kept = Path(cache_dir) / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    try:
        return ShardFacts(**json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    chunks = [ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)]
    found = [(int(chunk.max()), int(np.count_nonzero(chunk == end))) for chunk in chunks]
    largest, ends = max((top for top, _ in found), default=0), sum(count for _, count in found)
    with Path(path).open("rb") as file:
        facts = ShardFacts(len(ids), largest, ends, hashlib.file_digest(file, "sha256").hexdigest())
    write_text(kept, json.dumps(asdict(facts)))
    return facts


class ShardWriter:
    """Writes documents into shards ``00000.npy``, ``00001.npy``, ...; a shard appears whole or not at all.

    Args:
        folder: of the shards; made if need be.
        end: id that is put after every document.
        vocabulary: number of ids: uint16 is enough for 65,536.
        shard_tokens: tokens after which another shard begins.
    """

    def __init__(self, folder: Path, end: int, vocabulary: int, shard_tokens: int = 1 << 26) -> None:
        self.folder, self.end, self.shard_tokens = folder, end, shard_tokens
        self.dtype = np.uint16 if vocabulary <= 1 << 16 else np.uint32
        self.held: list[np.ndarray] = []
        self.held_tokens = self.shards = self.tokens = self.documents = 0

    def add(self, ids: Sequence[int] | np.ndarray) -> None:
        """One document's ids, without the end."""
        self.held.append(np.append(np.asarray(ids, dtype=self.dtype), self.dtype(self.end)))
        self.held_tokens += len(self.held[-1])
        self.documents += 1
        if self.held_tokens >= self.shard_tokens:
            self._write()

    def close(self) -> dict[str, Any]:
        """Write what is left; counts for a manifest."""
        if self.held:
            self._write()
        counts = {"tokens": self.tokens, "documents": self.documents, "shards": self.shards}
        return {**counts, "dtype": np.dtype(self.dtype).name, "end_of_text": self.end}

    def _write(self) -> None:
        path = self.folder / f"{self.shards:05d}.npy"
        temporary = path.with_name(f".{uuid.uuid4().hex}.npy")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(temporary, np.concatenate(self.held))
            temporary.replace(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error}); make room, or name another place") from error
        finally:
            temporary.unlink(missing_ok=True)
        self.shards, self.tokens = self.shards + 1, self.tokens + self.held_tokens
        self.held, self.held_tokens = [], 0
