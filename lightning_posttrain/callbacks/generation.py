"""Evaluate by generating: answers from the sampler, scored by the task, at step 0, every N steps and at the end."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from ..metrics.means import NamedMeans
from ..records.sources import read_rows
from ..rollout.sampler import SamplingParams, generate
from ..tasks.base import Score, Task
from ..types import Completion, Record, UserError
from .run_files import gather_rows, write_json, write_lines


class GenerationEval(L.Callback):
    """Generates an answer to each evaluation prompt and logs the task's metrics as ``eval/<task>/<metric>``.

    Writes ``eval/step_<n>/<task>/{metrics.json, predictions.jsonl}`` in the run directory; every example is in every
    denominator. Runs in ``fit`` (step 0, every ``every_n_steps``, the last step) and once in ``validate`` and ``test``.

    Args:
        task: prompt, parser and scorer.
        path: rows to evaluate on.
        every_n_steps: steps between evaluations in ``fit``; null = only before and after.
        max_examples: evaluate on at most this many rows, drawn by ``seed``; null = all.
        sampling: length and sampling distribution; greedy by default.
        max_rows: completions generated at once.
        seed: of the drawn rows and of sampling.
    """

    def __init__(
        self,
        task: Task,
        path: str,
        every_n_steps: int | None = None,
        max_examples: int | None = None,
        sampling: SamplingParams = SamplingParams(),
        max_rows: int = 128,
        seed: int = 0,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise UserError(f"GenerationEval: every_n_steps={every_n_steps}; give a positive number or null")
        self.task, self.path, self.every_n_steps = task, path, every_n_steps
        self.max_examples, self.sampling, self.max_rows, self.seed = max_examples, sampling, max_rows, seed
        self.records: list[Record] = []
        self.evaluated_at = -1

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the rows before anything is trained, so that a bad file costs no run."""
        if not self.records:
            self.records = load_records(self.task, self.path, self.max_examples, self.seed)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        done = (self._folder(trainer) / "metrics.json").exists()  # a resumed run may stand right after an evaluation
        if done:
            self.evaluated_at = trainer.global_step
        elif trainer.global_step == 0:
            self.evaluate(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self.evaluate(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.evaluated_at != trainer.global_step:
            self.evaluate(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self.evaluate(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.evaluate(trainer, pl_module)

    def evaluate(self, trainer: L.Trainer, module: Any) -> dict[str, float]:
        """Generate, score, log and write; returns ``{metric: mean}`` over all ranks."""
        step = trainer.global_step
        self.evaluated_at = step
        began = time.perf_counter()
        mine = list(range(trainer.global_rank, len(self.records), trainer.world_size))
        records = [self.records[i] for i in mine]
        groups = generate(
            module.model,
            [module.renderer.prompt(r.prompt) for r in records],
            self.sampling,
            module.renderer.stop_ids,
            module.decode,
            seed=self.seed,
            step=0,  # the same draws at every evaluation: differences are the policy's
            keys=mine,
            max_rows=self.max_rows,
        )
        completions = [group[0] for group in groups]
        scores = [self.task.score(r, c) for r, c in zip(records, completions, strict=True)]
        means = NamedMeans(sorted(scores[0].values)).to(trainer.strategy.root_device)
        for score in scores:
            means.update(score.values)
        computed = {k: float(v) for k, v in means.compute().items()}
        values = {k: v for k, v in computed.items() if not k.endswith("/stderr")}
        lines = [_line(r, c, s) for r, c, s in zip(records, completions, scores, strict=True)]
        lines, reasons = gather_rows(trainer, lines), gather_rows(trainer, [s.reason for s in scores if s.reason])
        if trainer.is_global_zero:
            counts = dict(Counter(reasons).most_common())
            _write(self._folder(trainer), lines, self.task.name, step, computed, counts)
            tags = {f"eval/{self.task.name}/{k}": v for k, v in values.items()}
            trainer.callback_metrics.update(
                {k: torch.tensor(v) for k, v in tags.items()}
            )  # so that one can be monitored
            seconds = {f"eval/{self.task.name}/seconds": time.perf_counter() - began}
            for logger in trainer.loggers:
                logger.log_metrics(tags | seconds, step=step)
        return values

    def _folder(self, trainer: L.Trainer) -> Path:
        return Path(trainer.default_root_dir) / "eval" / f"step_{trainer.global_step:06d}" / self.task.name


def load_records(task: Task, path: str, most: int | None, seed: int) -> list[Record]:
    """The task's records in ``path``, or ``most`` of them drawn by ``seed``, in file order.

    Raises:
        UserError: no rows, fewer than asked for, or a row the task refuses.
    """
    records = [task.record(row, origin) for row, origin in read_rows(path)]
    if most is None:
        return records
    if not 1 <= most <= len(records):
        raise UserError(f"{path}: max_examples={most}, but there are {len(records)} rows")
    picked = np.sort(np.random.default_rng(seed).permutation(len(records))[:most])
    return [records[i] for i in picked]


def _line(record: Record, completion: Completion, score: Score) -> dict[str, Any]:
    return {
        "id": record.id,
        "prompt": [{"role": m.role, "content": m.content} for m in record.prompt],
        "gold": record.answer,
        "prediction": completion.text,
        "finished": completion.finished,
        "tokens": len(completion.tokens),
        "reason": score.reason,
        "values": dict(score.values),
        "detail": dict(score.detail),
    }


def _write(
    folder: Path,
    lines: list[dict[str, Any]],
    task: str,
    step: int,
    computed: dict[str, float],
    reasons: dict[str, int],
) -> None:
    write_lines(folder / "predictions.jsonl", lines)
    errors = {k.removesuffix("/stderr"): v for k, v in computed.items() if k.endswith("/stderr") and v == v}
    means = {k: v for k, v in computed.items() if not k.endswith("/stderr")}
    summary = {"task": task, "step": step, "n": len(lines), "metrics": means, "stderr": errors, "reasons": reasons}
    write_json(folder / "metrics.json", summary)
