"""Rows -> tokenised examples -> whole optimizer steps, for every method that learns from given answers. Wiring only."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import lightning as L

from ..batching.loader import ExampleSource, StepLoader
from ..batching.mix import Mixture
from ..batching.sources import split
from ..batching.tree import MIN_SHARED
from ..progress import metered
from ..records.canonical import canonical
from ..records.files import writing
from ..records.policy import RowReport
from ..records.sources import count_rows, fingerprint, read_rows, rows_where
from ..tasks.base import Task
from ..text.cache import TokenisedDataset, tokenise
from ..text.render import Renderer
from ..text.workers import MakeExample
from ..types import UserError

NEVER_SHARED = 1 << 62


@dataclass(frozen=True)
class MixPart:
    """One of several sources of rows."""

    path: str
    """As ``path`` of the data module."""
    weight: float = 1.0
    """Its share of the rows is this divided by the sum of all weights."""
    max_repeats: float = 1.0
    """Most times its rows may be used on average; more is an error."""
    val_path: str | None = None
    """Rows to validate on; all parts' are validated on together."""
    task: Task | None = None
    """How its rows are read; null = as the data module says."""
    where: dict[str, Any] = field(default_factory=dict)
    """Only rows that have these values in these columns, of ``val_path`` too: ``{difficulty: easy}``."""


class ExampleDataModule(L.LightningDataModule):
    """Examples from files or the hub, for training and validation.

    Args:
        path: training rows: .jsonl, .json, .csv, .parquet (also .gz), or ``hub:org/name:config:split``.
        val_path: validation rows; without it ``val_examples`` are held out of the training rows.
        val_examples: training rows held out for validation, drawn by ``seed``.
        mix: several sources in place of ``path``, in proportion to their weights.
        mix_examples: rows of the mix; null = the most for which no source repeats.
        first_examples: only the first so many of the training rows, which ``val_examples`` are part of; null = all.
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
        mix: list[MixPart] | None = None,
        mix_examples: int | None = None,
        first_examples: int | None = None,
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
    ) -> None:
        super().__init__()
        if val_path is not None and val_examples:
            raise UserError("give val_path or val_examples, not both")
        check_mix(mix, path, {"val_path": val_path, "val_examples": val_examples, "first_examples": first_examples})
        self.path, self.val_path, self.val_examples = path, val_path, val_examples
        self.mix, self.mix_examples = mix, mix_examples
        self.first_examples, self.max_examples = first_examples, max_examples
        self.examples_per_step, self.tokens_per_micro = examples_per_step, tokens_per_micro
        self.limits: dict[str, Any] = {"max_length": max_length, "overlong": overlong, "supervise": supervise}
        self.on_bad_row, self.max_skip, self.share_prefixes = on_bad_row, max_skip, share_prefixes
        self.num_workers, self.cache_dir, self.seed, self.shuffle = num_workers, cache_dir, seed, shuffle
        self.train_set: ExampleSource | None = None
        self.val_set: ExampleSource | None = None
        self.mixture: Mixture[Any] | None = None
        self.files: dict[str, tuple[str, str]] = {}

    apart = False
    """Whether the sequences of an example may be in different micro-batches."""

    @abstractmethod
    def make_example(self, renderer: Renderer, task: Task | None) -> MakeExample:
        """What turns a row into an example; ``task`` is that of a part of a mix. It travels to worker processes."""

    @property
    def row_key(self) -> str:
        """What, besides rows, renderer and ``task``, decides an example; part of the cache's key."""
        return ""

    def prepare_data(self) -> None:
        """Tokenise on one rank of each machine, while the others wait; they find it in the cache."""
        self.setup(self.trainer.state.fn.value)  # type: ignore[union-attr]

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
        if self.mix is not None:
            self._prepare_mix(self.mix, renderer)
            return
        everything = self._tokenise(self.train_path, renderer, self.train_option, first=self.first_examples)
        self.train_set, self.val_set = split(everything, self.val_examples, self.max_examples, self.seed)
        if self.val_path is not None:
            self.val_set = self._tokenise(self.val_path, renderer, "")

    def _prepare_mix(self, mix: list[MixPart], renderer: Renderer) -> None:
        parts = [self._tokenise(part.path, renderer, f"mix[{i}].path", part) for i, part in enumerate(mix)]
        self.mixture = mixture_of(mix, parts, self.mix_examples, self.seed)
        self.train_set = split(self.mixture, 0, self.max_examples, self.seed)[0]
        held = [(p.val_path, self._tokenise(p.val_path, renderer, "", p)) for p in mix if p.val_path is not None]
        if held:
            names, sources = zip(*held, strict=True)
            sizes = [len(source) for source in sources]
            self.val_set = Mixture(sources, names, sizes, [1.0] * len(held), sum(sizes), self.seed)

    def wrap(self, wrapper: Callable[[ExampleSource], ExampleSource]) -> None:
        """Replace the sources by ``wrapper`` of them, before any loader is made."""
        if self.train_set is not None:
            self.train_set = wrapper(self.train_set)
        if self.val_set is not None:
            self.val_set = wrapper(self.val_set)

    @property
    def min_shared(self) -> int:
        """Shortest common prefix (tokens) that is shared."""
        return MIN_SHARED if self.share_prefixes else NEVER_SHARED

    @property
    def train_option(self) -> str:
        """The option that names the training rows."""
        return "path"

    @property
    def train_path(self) -> str:
        """Where the training rows are.

        Raises:
            UserError: nowhere. Not the constructor's business: the command line shows its errors with a traceback.
        """
        if self.path is None:
            raise UserError("data.path=null: name a file of training rows")
        return self.path

    @property
    def evaluation_path(self) -> str | None:
        """The rows of evaluations that name none."""
        return self.val_path

    def fingerprints(self) -> dict[str, str]:
        """Content hashes of what is trained and validated on, for run.json."""
        named = {"train": self.train_set, "val": self.val_set}
        return {name: source.fingerprint for name, source in named.items() if source is not None}

    def _tokenise(
        self, path: str, renderer: Renderer, option: str, part: MixPart | None = None, first: int | None = None
    ) -> TokenisedDataset:
        own, where = (None, {}) if part is None else (part.task, part.where)
        report = RowReport(self.on_bad_row, self.max_skip)
        content = fingerprint(path)
        if option:
            self.files[option] = (path, content)
        policy = f"{self.on_bad_row} {canonical(own)} first {first} where {canonical(where)}"
        rows = first_rows(path, read_rows(path, report.reject), first)
        total = first or (lambda: count_rows(path))
        with writing(Path(self.cache_dir)):
            data = tokenise(
                rows_where(metered(rows, f"tokenising {path}", total, "rows"), where),
                self.make_example(renderer, own),
                key=f"{content} {renderer.fingerprint} {self.row_key} {policy}",
                origin=path,
                cache_dir=self.cache_dir,
                num_workers=self.num_workers,
                policy=report,
            )
        if report.n_skipped or report.n_dropped:
            print(f"{path}: {report}", file=sys.stderr)
        for note, count in data.notes.items():
            print(f"{path}: {count} of {len(data)} rows: {note}", file=sys.stderr)
        return data

    def state_dict(self) -> dict[str, Any]:
        """Which files were trained on, for the checkpoint."""
        return {"files": {option: list(found) for option, found in self.files.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_files(state_dict, self.files, self.trainer)

    def train_dataloader(self) -> StepLoader:
        return self._loader(self.train_set, self.seed if self.shuffle else None)

    def val_dataloader(self) -> StepLoader | list[Any]:
        return [] if self.val_set is None else self._loader(self.val_set, None)

    test_dataloader = val_dataloader

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
            min_shared=self.min_shared,
            apart=self.apart,
        )


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


def check_files(saved: Mapping[str, Any], mine: Mapping[str, tuple[str, str]], trainer: L.Trainer | None) -> None:
    """Refuse to go on training with other rows than the run began with, wherever they are.

    Args:
        saved: state of a data module with ``files``: option -> path and content hash.
        mine: the same of this one.
        trainer: whose run it is.

    Raises:
        UserError: names the option and the file.
    """
    if trainer is None or trainer.state.fn != "fit":
        return
    for option, (path, content) in saved.get("files", {}).items():
        here = mine.get(option)
        if here is not None and here[1] != content:
            raise UserError(
                f"cannot resume: data.{option}={here[0]} has another content than the file that the run began with "
                f"({path}); restore it, or start a new run from the checkpoint's exported model"
            )


def check_mix(mix: list[MixPart] | None, path: str | None, others: dict[str, Any]) -> None:
    """Refuse what cannot go with a mix.

    Raises:
        UserError: naming the field.
    """
    if mix is None:
        return
    if not mix:
        raise UserError("data.mix=[]: name at least one source, or give data.path")
    for name, value in {"path": path, **others}.items():
        if value:
            raise UserError(
                f"data.{name}={value!r} does not go with data.mix; each part of the mix names its own files"
            )


def mixture_of(mix: list[MixPart], sources: list[Any], total: int | None, seed: int) -> Mixture[Any]:
    """The sources of ``mix`` as one; says what came of the proportions."""
    mixture: Mixture[Any] = Mixture(
        sources, [p.path for p in mix], [p.weight for p in mix], [p.max_repeats for p in mix], total, seed
    )
    for name, found in mixture.report().items():
        shares = f"{found['realised']:.3f} of the rows (requested {found['requested']:.3f})"
        print(f"mix: {name}: {found['rows']} of {found['rows_available']} rows, {shares}", file=sys.stderr)
    return mixture
