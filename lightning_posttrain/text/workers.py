"""Rows -> record batches of tokenised examples, in this process or in several, always in the order of the rows.

Workers come from a fork server: a plain fork would copy locks that the threads of tokenizer and torch may hold.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ..types import Example, UserError
from .rows import RenderedRows, Row, Rows, named

MakeExample = Callable[[Row, str], Example]
Converted = tuple[pa.RecordBatch, list[UserError], Counter[str]]

Item = TypeVar("Item")
State = TypeVar("State")
Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

CHUNK = 512
"""Rows per task of a worker, and per record batch of the file."""

SCHEMA = pa.schema(
    [
        pa.field("tokens", pa.list_(pa.int32())),  # of all sequences of the example, one after another
        pa.field("supervised", pa.binary()),  # their masks, eight to a byte
        pa.field("lengths", pa.list_(pa.int32())),  # of each sequence
        pa.field("ids", pa.list_(pa.string())),  # of each sequence
        pa.field("origin", pa.string()),
    ]
)


def converted_chunks(
    rows: Iterable[tuple[Row, str]], make_example: MakeExample, num_workers: int
) -> Iterator[Converted]:
    """Per chunk of rows: the examples as a record batch, the errors of rows that gave none, and notes on the others."""
    return in_order(_convert, make_example, chunks_of(rows, CHUNK), num_workers)


def chunks_of(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """The items in tuples of ``size``, the last one shorter."""
    source = iter(items)
    return iter(lambda: tuple(itertools.islice(source, size)), ())


def in_order(
    work: Callable[[State, Chunk], Result], state: State, chunks: Iterable[Chunk], num_workers: int
) -> Iterator[Result]:
    """``work(state, chunk)`` of each chunk, in the order of the chunks.

    Few chunks are in flight at a time, so memory stays bounded however many there are.

    Args:
        work: a function of a module.
        state: sent to each process once: it holds the tokenizer.
        chunks: what there is to do.
        num_workers: processes; 0 = this one.
    """
    if not num_workers:
        yield from (work(state, chunk) for chunk in chunks)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        # the slow imports happen once, not in every worker
        modules = {__name__, __name__.replace("workers", "render"), work.__module__, type(state).__module__}
        context.set_forkserver_preload(sorted(modules))
    pool = ProcessPoolExecutor(num_workers, context, _start_worker, (work, state))
    pending: deque[Future[Any]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(_work_in_worker, chunk))
            if len(pending) > 2 * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"one of {num_workers} processes that tokenise died (out of memory, perhaps, or it could not start). "
            "Set num_workers to 0."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_job: tuple[Callable[[Any, Any], Any], Any] | None = None


def _start_worker(work: Callable[[Any, Any], Any], state: Any) -> None:
    global _job
    _job = work, state
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism


def _work_in_worker(chunk: Any) -> Any:
    assert _job is not None
    work, state = _job
    return work(state, chunk)


def _convert(make_example: MakeExample, chunk: Rows) -> Converted:
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    errors: list[UserError] = []
    notes: Counter[str] = Counter()
    many = make_example.many if isinstance(make_example, RenderedRows) else None
    for example, (_, origin) in zip(many(chunk) if many else _each(make_example, chunk), chunk, strict=True):
        if isinstance(example, UserError):
            errors.append(example)
            continue
        columns["tokens"].append(np.concatenate([s.ids for s in example]))
        columns["supervised"].append(np.packbits(np.concatenate([s.supervised for s in example])).tobytes())
        columns["lengths"].append([len(s.ids) for s in example])
        columns["ids"].append([s.id for s in example])
        columns["origin"].append(origin)
        notes.update({note for s in example for note in s.notes})
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA), errors, notes


def _each(make_example: MakeExample, chunk: Rows) -> Iterator[Example | UserError]:
    for row, origin in chunk:
        with named(origin):
            try:
                yield make_example(row, origin)
            except UserError as error:
                yield error
