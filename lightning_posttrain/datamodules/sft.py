"""Rows -> conversations -> tokenised examples -> whole optimizer steps. Wiring only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal

import lightning as L

from ..batching.loader import ExampleSource, StepLoader
from ..batching.sources import split
from ..batching.tree import MIN_SHARED
from ..records.adapters import conversation
from ..records.policy import RowReport
from ..records.sources import fingerprint, read_rows
from ..tasks.base import Task
from ..text.cache import TokenisedDataset, tokenise
from ..text.render import Renderer
from ..types import Example, UserError

NEVER_SHARED = 1 << 62
PREDICT_ROWS = 256


class RowExample:
    """Raw row -> the example it trains; a class of its own because it travels to worker processes."""

    def __init__(self, task: Task | None, renderer: Renderer) -> None:
        self.task, self.renderer = task, renderer

    def __call__(self, row: Mapping[str, Any], origin: str) -> Example:
        task = self.task
        talk = conversation(row, origin) if task is None else task.record(row, origin).conversation()
        return (self.renderer.sequence(talk),)


def first_rows(
    path: str, rows: Iterable[tuple[dict[str, Any], str]], count: int | None
) -> Iterator[tuple[dict[str, Any], str]]:
    """The first ``count`` of ``rows``, those of ``path``; all where it is None. What comes after them is not read.

    Raises:
        UserError: there are fewer, or ``count`` is no positive number.
    """
    if count is not None and count < 1:
        raise UserError(f"first_examples={count}: use at least 1, or null for all rows")
    number = 0
    for number, item in enumerate(islice(rows, count), start=1):  # noqa: B007
        yield item
    if count is not None and number < count:
        raise UserError(f"{path}: first_examples={count}, but there are {number} rows")


def count_traces(path: str, first: int | None = None) -> tuple[int, int]:
    """How many of the (first) rows were generated and how many are original, once every row has proved to be a trace.

    Raises:
        UserError: a line is no object with texts ``question`` and ``answer`` and a known ``source``; names the line.
    """
    sources = []
    for row, origin in read_rows(path):
        for name in ("question", "answer"):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise UserError(f"{origin}: {name}={row.get(name)!r}; a trace needs texts `question` and `answer`")
        if row.get("source") not in ("generated", "original"):
            raise UserError(
                f"{origin}: source={row.get('source')!r}; the traces of `lightning-posttrain traces` are `generated` "
                "or `original`; give other rows by `path`"
            )
        sources.append(row["source"])
    return sources[:first].count("generated"), sources[:first].count("original")


class PromptBatches:
    """Rows in lists of `PREDICT_ROWS`; not a list itself, which Lightning would take for several loaders."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return -(-len(self.rows) // PREDICT_ROWS)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for start in range(0, len(self.rows), PREDICT_ROWS):
            yield self.rows[start : start + PREDICT_ROWS]


class SFTDataModule(L.LightningDataModule):
    """Supervised examples from a file or the hub, for training and validation.

    Args:
        path: training rows: .jsonl, .json, .csv, .parquet (also .gz), or ``hub:org/name:config:split``.
        traces_file: training rows made by the command `traces`, in place of those of ``path``.
        first_examples: only the first so many of the training rows, which ``val_examples`` are part of; null = all.
        val_path: validation rows; without it ``val_examples`` are held out of the training rows.
        val_examples: training rows held out for validation, drawn by ``seed``.
        task: how a raw row becomes a conversation; null = by its columns (messages, prompt + completion, ...).
        max_examples: train on at most this many rows, drawn by ``seed``; null = all.
        examples_per_step: rows per optimizer step over all ranks: the batch size.
        tokens_per_micro: most distinct tokens on a device at once: the memory bound.
        max_length: most tokens of a row.
        overlong: what happens to longer rows: ``error``, or ``drop`` (counted and reported).
        supervise: which turns are trained.
        on_bad_row: ``error``, or ``skip`` (counted and reported).
        max_skip: most bad rows that ``skip`` leaves out.
        shuffle: draw a new order every epoch; false = the order of the file, for a curriculum.
        share_prefixes: run tokens with which several rows start only once.
        num_workers: processes that tokenise; 0 = this one.
        cache_dir: tokenised rows are kept here, under a hash of everything that decides them.
        seed: of the order of rows, the split and the sample.
    """

    def __init__(
        self,
        path: str | None = None,
        val_path: str | None = None,
        val_examples: int = 0,
        task: Task | None = None,
        max_examples: int | None = None,
        examples_per_step: int = 32,
        tokens_per_micro: int = 8192,
        max_length: int | None = None,
        overlong: Literal["error", "drop"] = "error",
        supervise: Literal["all_turns", "last_turn", "all_tokens"] = "all_turns",
        on_bad_row: Literal["error", "skip"] = "error",
        max_skip: int = 100,
        shuffle: bool = True,
        share_prefixes: bool = True,
        num_workers: int = 0,
        cache_dir: str = ".cache/tokenised",
        seed: int = 0,
        traces_file: str | None = None,
        first_examples: int | None = None,
    ) -> None:
        super().__init__()
        if val_path is not None and val_examples:
            raise UserError("give val_path or val_examples, not both")
        self.path, self.val_path, self.val_examples, self.task = path, val_path, val_examples, task
        self.traces_file, self.first_examples = traces_file, first_examples
        self.max_examples, self.examples_per_step = max_examples, examples_per_step
        self.tokens_per_micro = tokens_per_micro
        self.limits: dict[str, Any] = {"max_length": max_length, "overlong": overlong, "supervise": supervise}
        self.on_bad_row, self.max_skip, self.share_prefixes = on_bad_row, max_skip, share_prefixes
        self.num_workers, self.cache_dir, self.seed, self.shuffle = num_workers, cache_dir, seed, shuffle
        self.train_set: ExampleSource | None = None
        self.val_set: ExampleSource | None = None

    def setup(self, stage: str) -> None:
        """Tokenise with the module's renderer (the Trainer calls this; `prepare` is the same without one)."""
        if stage == "predict":
            return
        module: Any = self.trainer.lightning_module  # type: ignore[union-attr]
        self.prepare(module.training_renderer(**self.limits))

    def prepare(self, renderer: Renderer) -> None:
        """Tokenise training and validation rows with ``renderer``; a second call does nothing."""
        if self.train_set is not None:
            return
        if self.traces_file is not None:
            generated, original = count_traces(self.traces_file, self.first_examples)
            print(f"{self.traces_file}: traces: {generated} generated, {original} original", file=sys.stderr)
        everything = self._tokenise(self.train_path, renderer, self.first_examples)
        self.train_set, self.val_set = split(everything, self.val_examples, self.max_examples, self.seed)
        if self.val_path is not None:
            self.val_set = self._tokenise(self.val_path, renderer)

    @property
    def train_path(self) -> str:
        """Where the training rows are.

        Raises:
            UserError: nowhere. Not the constructor's business: the command line shows its errors with a traceback.
        """
        path = self.path if self.traces_file is None else self.traces_file
        if path is None:
            raise UserError("data.path=null: name a file of training rows, or give data.traces_file")
        return path

    def fingerprints(self) -> dict[str, str]:
        """Content hashes of what is trained and validated on, for run.json."""
        named = {"train": self.train_set, "val": self.val_set}
        return {name: source.fingerprint for name, source in named.items() if source is not None}

    def _tokenise(self, path: str, renderer: Renderer, first: int | None = None) -> TokenisedDataset:
        task = None if self.task is None else f"{type(self.task).__qualname__} {vars(self.task)}"
        report = RowReport(self.on_bad_row, self.max_skip)
        data = tokenise(
            first_rows(path, read_rows(path, report.reject), first),
            RowExample(self.task, renderer),
            key=f"{fingerprint(path)} {path} {renderer.fingerprint} {task} {self.on_bad_row}"
            + ("" if first is None else f" first {first}"),
            cache_dir=self.cache_dir,
            num_workers=self.num_workers,
            policy=report,
        )
        if report.n_skipped or report.n_dropped:
            print(f"{path}: {report}", file=sys.stderr)
        return data

    def train_dataloader(self) -> StepLoader:
        return self._loader(self.train_set, self.seed if self.shuffle else None)

    def val_dataloader(self) -> StepLoader | list[Any]:
        return [] if self.val_set is None else self._loader(self.val_set, None)

    test_dataloader = val_dataloader

    def predict_dataloader(self) -> PromptBatches:
        """Prompts of ``val_path`` (else of the training rows), this rank's share."""
        rows = []
        for number, (row, origin) in enumerate(read_rows(self.val_path or self.train_path)):
            if self.task is not None:
                record = self.task.record(row, origin)
                id, prompt = record.id, record.prompt
            else:
                talk = conversation(row, origin)
                last = max(i for i, m in enumerate(talk.messages) if m.role == "assistant")
                id, prompt = talk.id, talk.messages[:last]
            messages = [{"role": m.role, "content": m.content} for m in prompt]
            rows.append({"id": id, "key": number, "prompt": messages})
        mine = rows[self.trainer.global_rank :: self.trainer.world_size] if self.trainer else rows
        return PromptBatches(mine)

    def _loader(self, source: ExampleSource | None, seed: int | None) -> StepLoader:
        if source is None:
            raise UserError("the data module has not been prepared: call `prepare(renderer)` or fit with a Trainer")
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return StepLoader(
            source,
            self.examples_per_step,
            self.tokens_per_micro,
            seed=seed,
            rank=rank,
            world_size=world,
            min_shared=MIN_SHARED if self.share_prefixes else NEVER_SHARED,
        )
