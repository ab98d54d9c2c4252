"""Evaluate by generating: answers from the sampler, scored by the task, at step 0, every N steps and at the end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal

import lightning as L
import numpy as np
import torch

from ..metrics.means import NamedMeans
from ..ops.ranks import gather_rows
from ..progress import doing
from ..records.sources import fingerprint, read_rows, rows_where
from ..rollout.linears import Dtype
from ..rollout.sampler import SamplingParams
from ..tasks.base import Score, Task
from ..types import Completion, Record, UserError
from .evaluation import Evaluation
from .evaluation_files import (
    as_plain,
    corpus_metrics,
    example_values,
    prediction_line,
    write_debug,
    write_evaluation,
)
from .evaluation_table import show_evaluation


class GenerationEval(Evaluation):
    """Generates an answer to each evaluation prompt and logs the task's metrics as ``eval/<task>/<metric>``.

    Writes ``eval/step_<n>/<task>/{metrics.json, predictions.jsonl}`` in the run directory; every example is in every
    denominator. Runs in ``fit`` (step 0, every ``every_n_steps``, the last step) and once in ``validate`` and ``test``.

    With several ``samples`` a value of an example is the mean over its samples (``accuracy`` is then avg@k), standard
    errors are over examples, and ``pass@1``, ``pass@2``, ``pass@4``, ... say how often at least one of so many samples
    has 1 or more in the task's primary metric (Chen et al. 2021, arXiv:2107.03374). Reasons count completions.

    Args:
        task: prompt, parser and scorer.
        path: rows to evaluate on; null = the data module's ``val_path``, or what `EvalDataModule` names; never the rows
            that are trained on, unless they are named here.
        every_n_steps: steps between evaluations in ``fit``; null = only before and after.
        max_examples: evaluate on at most this many rows; null = all.
        sampling: length and sampling distribution; greedy by default.
        max_rows: completions generated at once.
        seed: of the drawn rows and of sampling.
        samples: completions per prompt; more than one needs ``sampling.temperature`` above 0.
        debug: also write the task's table of every completion as ``debug/<debug>_step_<n>.csv`` in the run directory,
            where the task has one, with a few metrics beside it; null = no table.
        others: rows that are not the task's (`Task.reads`): ``error``, or ``skip`` (counted and printed; without a row
            of the task there is nothing to evaluate).
        where: evaluate only rows that have these values in these columns, such as ``{difficulty: easy}``.
        choose: which rows ``max_examples`` leaves: those ``drawn`` by ``seed``, or the ``first`` of the file.
        dtype: of the products of the linear layers, as in `KVCacheSampler`; ``model`` evaluates what was trained.
    """

    def __init__(
        self,
        task: Task,
        path: str | None = None,
        every_n_steps: int | None = None,
        max_examples: int | None = None,
        sampling: SamplingParams = SamplingParams(),
        max_rows: int = 128,
        seed: int = 0,
        samples: int = 1,
        debug: str | None = None,
        others: Literal["error", "skip"] = "error",
        where: dict[str, Any] | None = None,
        choose: Literal["drawn", "first"] = "drawn",
        dtype: Dtype = "model",
    ) -> None:
        super().__init__(every_n_steps)
        if samples < 1:
            raise UserError(f"GenerationEval: samples={samples}; give at least 1")
        if samples > 1 and sampling.temperature == 0:
            raise UserError(
                f"GenerationEval: samples={samples} with sampling.temperature=0.0 would be the same answer each time; "
                "give a temperature above 0, or samples: 1"
            )
        if debug is not None and not re.fullmatch(r"\w[\w.-]*", debug):
            raise UserError(f"GenerationEval: debug={debug!r}; give a word that a file's name can begin with, or null")
        self.task, self.path = task, path
        self.max_examples, self.sampling, self.max_rows, self.seed = max_examples, sampling, max_rows, seed
        self.dtype = dtype
        self.samples, self.debug, self.others, self.where = samples, debug, others, where or {}
        self.choose = choose
        self.source = path or ""
        self.records: list[Record] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the rows before anything is trained, so that a bad file costs no run."""
        if self.records:
            return
        self.source = self.path or self._held_out(trainer.datamodule)  # type: ignore[attr-defined]
        most, seed = self.max_examples, self.seed if self.choose == "drawn" else None
        self.records = load_records(self.task, self.source, most, seed, self.others, self.where)

    def _held_out(self, data: Any) -> str:
        """The rows that the data module names for evaluations."""
        if found := getattr(data, "evaluation_path", None):
            return str(found)
        trained = getattr(data, "path", None)
        why = f"data.path={trained} is what is trained on" if trained else "the data module names no such rows"
        raise UserError(
            f"GenerationEval of {self.task.name}: path=null: {why}; name the rows to evaluate on (the same ones, if "
            "that is what you mean)"
        )

    def metric_names(self, data: Any) -> list[str]:
        """The metrics that it logs: those of the first row's own answer.

        Args:
            data: the data module, as `setup` finds it at the Trainer.
        """
        trainer: Any = SimpleNamespace(datamodule=data)
        self.setup(trainer, None, "validate")  # type: ignore[arg-type]
        if not self.records:
            return []
        record = self.records[0]
        found = self.task.score_all([(record, Completion((), (), record.answer, True))])
        values = example_values([found[0].values] * self.samples, self.task.primary)
        return [*values, *corpus_metrics(self.task, [found])]

    def finished(self, trainer: L.Trainer) -> bool:
        return (self._folder(trainer) / "metrics.json").exists()

    def evaluate(self, trainer: L.Trainer, module: Any) -> dict[str, float]:
        """Generate, score, log and write; returns ``{metric: mean}`` over all ranks.

        Raises:
            UserError: fewer rows than ranks.
        """
        step = trainer.global_step
        self.evaluated_at = step
        if not self.records:
            return {}
        began, started = time.perf_counter(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
        if len(self.records) < trainer.world_size:
            raise UserError(
                f"{self.source}: {len(self.records)} rows to evaluate on {trainer.world_size} devices, which need one "
                "each; give more rows, or use fewer devices"
            )
        mine = list(range(trainer.global_rank, len(self.records), trainer.world_size))
        records = [self.records[i] for i in mine]
        label = doing(f"step {step}: evaluation of {self.task.name}")
        with label, trainer.precision_plugin.forward_context():  # in the numbers that it trains in
            groups = module.answers(
                records,
                self.sampling,
                n=self.samples,
                seed=self.seed,
                keys=mine,
                max_rows=self.max_rows,
                dtype=self.dtype,
            )
        flat = iter(self.task.score_all([(r, c) for r, group in zip(records, groups, strict=True) for c in group]))
        scored = [[next(flat) for _ in group] for group in groups]
        examples = [example_values([s.values for s in scores], self.task.primary) for scores in scored]
        means = NamedMeans(sorted(examples[0])).to(trainer.strategy.root_device)
        for example in examples:
            means.update(example)
        computed = {k: float(v) for k, v in means.compute().items()}
        values = {k: v for k, v in computed.items() if not k.endswith("/stderr") and v == v}
        together = list(zip(records, groups, scored, strict=True))
        gathered = gather_rows([(prediction_line(*one), one[2]) for one in together])
        lines, everyone = [line for line, _ in gathered], [scores for _, scores in gathered]
        values |= corpus_metrics(self.task, everyone)
        tables = gather_rows([self._table(*one) for one in together]) if self.debug else []
        if trainer.is_global_zero:
            about = self._about() | {"started": started, "seconds": round(time.perf_counter() - began, 3)}
            summary = write_evaluation(
                self._folder(trainer), lines, self.task, step, computed, module.answers_are, everyone, about
            )
            rows = [row for table in tables for row in table]
            if self.debug and rows:
                write_debug(Path(trainer.default_root_dir) / "debug", self.debug, step, rows, values)
            self._log(trainer, values, time.perf_counter() - began)
            if trainer.state.fn != "fit":
                show_evaluation(summary, self.source)
        return values

    def _table(self, record: Record, completions: list[Completion], scores: list[Score]) -> list[dict[str, Any]]:
        """The rows of the debug table that one example has."""
        rows = (self.task.table_row(record, c, s) for c, s in zip(completions, scores, strict=True))
        return [row for row in rows if row is not None]

    def _log(self, trainer: L.Trainer, values: dict[str, float], seconds: float) -> None:
        tags = {f"eval/{self.task.name}/{k}": v for k, v in values.items()}
        trainer.callback_metrics.update({k: torch.tensor(v) for k, v in tags.items()})  # so that one can be monitored
        for logger in trainer.loggers:
            logger.log_metrics({**tags, f"eval/{self.task.name}/seconds": seconds}, step=trainer.global_step)

    def _about(self) -> dict[str, Any]:
        """What was asked of the model, for metrics.json."""
        task = {name: value for name, value in vars(self.task).items() if not name.startswith("_")}
        return {
            "source": self.source,
            "source_sha256": fingerprint(self.source),
            "task_class": type(self.task).__qualname__,
            "task_parameters": {name: as_plain(value) for name, value in task.items()},
            "sampling": asdict(self.sampling),
            "seed": self.seed,
            "dtype": self.dtype,
        }

    def _folder(self, trainer: L.Trainer) -> Path:
        return Path(trainer.default_root_dir) / "eval" / f"step_{trainer.global_step:06d}" / self.task.name


def load_records(
    task: Task,
    path: str,
    most: int | None,
    seed: int | None,
    others: Literal["error", "skip"] = "error",
    where: Mapping[str, Any] = MappingProxyType({}),
) -> list[Record]:
    """The task's records in ``path``, or ``most`` of them drawn by ``seed`` (None = the first ones), in file order.

    With ``others: skip`` rows that are not the task's are left out; there may be no record then.

    Raises:
        UserError: no rows, fewer than asked for, or a row the task refuses.
    """
    rows = list(rows_where(read_rows(path), where))
    records = [task.record(row, origin) for row, origin in rows if others == "error" or task.reads(row)]
    if len(records) < len(rows):
        print(f"{path}: {len(records)} of {len(rows)} rows are of the task {task.name}", file=sys.stderr)
    if most is None or not records:
        return records
    if not 1 <= most <= len(records):
        raise UserError(f"{path}: max_examples={most}, but there are {len(records)} rows")
    if seed is None:
        return records[:most]
    picked = np.sort(np.random.default_rng(seed).permutation(len(records))[:most])
    return [records[i] for i in picked]
