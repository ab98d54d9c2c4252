"""Tokenised rows on disk: made once by any number of processes, then memory-mapped, so data may exceed the memory.

One folder per key: ``data.arrow`` (one record per example), ``lengths.npy`` and ``meta.json``. It appears whole or not
at all. In memory stay 24 bytes per example (length, hash of the id, origin) while writing and 8 while reading.
What a key must cover is the caller's knowledge; shuffling and packing come later.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..types import Example, Sequence, UserError
from .seen import SeenIds
from .workers import SCHEMA, MakeExample, Row, converted_chunks

FORMAT = 2
"""Part of every key; raised when the files' layout changes, or what a renderer makes of a row."""

ABANDONED = 24 * 3600
"""Seconds after which an unfinished folder belongs to nobody."""


class RowPolicy(Protocol):
    """Decides about bad rows and counts them; ``reject`` raises, or returns to leave the row out."""

    def accept(self, n: int = 1) -> None: ...
    def reject(self, error: UserError) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class _Refuse:
    """Raises at the first bad row."""

    def accept(self, n: int = 1) -> None:
        pass

    def reject(self, error: UserError) -> None:
        raise error

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.get("n_skipped"):
            raise UserError(
                f"the cached data was made with {state['n_skipped']} bad rows skipped. Use the policy of then."
            )


class TokenisedDataset:
    """Examples of one cache folder, read where they lie.

    Args:
        folder: as written by ``tokenise``.

    Attributes:
        lengths: (N,) int64 tokens of each example, summed over its sequences.
        fingerprint: changes whenever the examples may have changed.
        report: counts of rows used and left out, as the policy that saw them wrote them.
        notes: what is trained though the rows do not say so, in words -> the number of rows.

    Raises:
        UserError: the folder is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            self.lengths: np.ndarray = np.load(folder / "lengths.npy")
            self._reader = pa.ipc.open_file(pa.memory_map(str(folder / "data.arrow")))
            sizes = meta["batches"]
            if self._reader.num_record_batches != len(sizes) or sum(sizes) != len(self.lengths):
                raise ValueError("the numbers of rows differ")
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise UserError(f"{folder}: the tokenised data is damaged ({error}). Delete this folder.") from error
        self._starts = np.cumsum([0, *sizes])
        self.fingerprint: str = meta["fingerprint"]
        self.report: dict[str, Any] = meta["report"]
        self.notes: dict[str, int] = meta["notes"]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:
        """The sequences of an example; ids (T,) int32 are read-only views of the file, masks (T,) bool are copies."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        index %= len(self)
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        batch, row = self._reader.get_batch(number), index - int(self._starts[number])
        tokens = _numbers(batch, "tokens", row)
        bits = np.frombuffer(batch.column("supervised")[row].as_buffer(), np.uint8)
        supervised = np.unpackbits(bits, count=len(tokens)).astype(np.bool_)
        ends = np.cumsum(_numbers(batch, "lengths", row))
        ids = batch.column("ids")[row].as_py()
        origin = batch.column("origin")[row].as_py()
        parts = zip(np.split(tokens, ends[:-1]), np.split(supervised, ends[:-1]), ids, strict=True)
        return tuple(Sequence(part, mask, id, origin) for part, mask, id in parts)

    def __reduce__(self) -> tuple[type[TokenisedDataset], tuple[Path]]:
        return TokenisedDataset, (self.folder,)  # a memory map does not travel between processes


def _numbers(batch: pa.RecordBatch, name: str, row: int) -> np.ndarray:
    column = batch.column(name)
    begin, end = column.offsets[row].as_py(), column.offsets[row + 1].as_py()
    return column.values.slice(begin, end - begin).to_numpy()


def tokenise(
    rows: Iterable[tuple[Row, str]],
    make_example: MakeExample,
    key: str,
    cache_dir: str | Path,
    num_workers: int = 0,
    policy: RowPolicy | None = None,
    origin: str = "",
) -> TokenisedDataset:
    """The examples of ``rows``, from the cache if this ``key`` was tokenised before (rows are then not read).

    Args:
        rows: (row, origin) pairs in order; read once, lazily.
        make_example: (row, origin) -> sequences; raises UserError for a bad row. With workers it must be picklable.
        key: covers everything the result depends on: content fingerprint, renderer fingerprint, task options.
        cache_dir: folder of the cache.
        num_workers: processes that tokenise; 0 does it in this one. The result is the same.
        policy: what happens to bad rows, by default an error; also gets the counts back when the cache is used.
        origin: where the rows are; those of a copy are tokenised again, as they name it, but have one fingerprint.

    Raises:
        UserError: a bad row under a refusing policy, two rows with the same id, or no usable row.
    """
    policy = policy or _Refuse()
    fingerprint = hashlib.sha256(json.dumps([FORMAT, key]).encode()).hexdigest()
    folder = Path(cache_dir) / hashlib.sha256(f"{fingerprint} {origin}".encode()).hexdigest()[:32]
    if folder.is_dir():
        dataset = TokenisedDataset(folder)
        policy.load_state_dict(dataset.report)
        return dataset
    _sweep(folder.parent)
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        _write(temporary, fingerprint, rows, make_example, num_workers, policy)
        temporary.replace(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first with the same data
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return TokenisedDataset(folder)


def _sweep(cache: Path) -> None:
    """Remove what killed processes left behind: unfinished folders that nobody has written to for a day."""
    for left in cache.glob(".*-*"):
        with suppress(OSError):
            written = max(path.stat().st_mtime for path in [left, *left.iterdir()])
            if time.time() - written > ABANDONED:
                shutil.rmtree(left)


def _write(
    folder: Path,
    fingerprint: str,
    rows: Iterable[tuple[Row, str]],
    make_example: MakeExample,
    num_workers: int,
    policy: RowPolicy,
) -> None:
    seen = SeenIds()
    batches: list[int] = []
    lengths: list[np.ndarray] = []
    notes: Counter[str] = Counter()
    with pa.OSFile(str(folder / "data.arrow"), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch, errors, noted in converted_chunks(rows, make_example, num_workers):
            notes.update(noted)
            for error in errors:
                policy.reject(error)
            kept = _without_duplicates(batch, seen, policy)
            policy.accept(kept.num_rows)
            if kept.num_rows:
                writer.write_batch(kept)
                batches.append(kept.num_rows)
                lengths.append(pc.list_value_length(kept.column("tokens")).to_numpy().astype(np.int64))
    if not batches:
        raise UserError(f"no row is usable: {policy or 'there are none'}. Check the data.")
    np.save(folder / "lengths.npy", np.concatenate(lengths))
    meta = {"fingerprint": fingerprint, "batches": batches, "report": policy.state_dict(), "notes": notes}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _without_duplicates(batch: pa.RecordBatch, seen: SeenIds, policy: RowPolicy) -> pa.RecordBatch:
    """The examples whose id (that of their first sequence) is new; the others are rejected with both origins."""
    ids = [names[0] for names in batch.column("ids").to_pylist()]
    origins = batch.column("origin").to_pylist()
    digests = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids)
    keys = np.frombuffer(digests, np.uint64)
    earlier = seen.find(keys)
    places = np.array([seen.place(origin) for origin in origins], np.int64)
    here: dict[str, int] = {}
    keep = np.ones(len(ids), np.bool_)
    for row, (id, origin) in enumerate(zip(ids, origins, strict=True)):
        first = int(earlier[row]) if earlier[row] >= 0 else here.get(id, -1)
        if first < 0:
            here[id] = int(places[row])
        else:
            keep[row] = False
            policy.reject(
                UserError(
                    f"{origin}: the id {id!r} was given before, at {seen.origin(first)}. Give each row its own id "
                    "(without an id column it is made from the content: the rows are then the same, remove one)."
                )
            )
    seen.add(keys[keep], places[keep])
    return batch if keep.all() else batch.filter(pa.array(keep))
