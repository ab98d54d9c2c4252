"""Rows of a task -> prompts -> steps of prompts. Wiring only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import lightning as L
import numpy as np

from ..batching.loader import Source
from ..batching.mix import Mixture
from ..batching.prompts import Prompt, PromptList, PromptLoader
from ..batching.sources import split
from ..batching.tree import MIN_SHARED
from ..progress import metered
from ..records.policy import RowReport
from ..records.sources import count_rows, fingerprint, read_rows, rows_where
from ..tasks.base import Task
from ..text.render import Renderer
from ..types import UserError
from .examples import NEVER_SHARED, MixPart, check_files, check_mix, first_rows, mixture_of


class PromptDataModule(L.LightningDataModule):
    """Prompts of a task from a file or the hub, for reinforcement learning.

    Args:
        path: rows: .jsonl, .json, .csv, .parquet (also .gz), or ``hub:org/name:config:split``.
        task: turns a raw row into prompt and gold answer; parts of a mix may have their own.
        mix: several sources in place of ``path``, in proportion to their weights; none repeats.
        mix_examples: prompts of the mix; null = as many as the weights allow.
        first_examples: only the first so many rows of the file; null = all.
        max_examples: of those at most this many, drawn by ``seed``; null = all.
        prompts_per_step: prompts per step over all ranks; each gets ``model.samples_per_prompt`` completions.
        tokens_per_micro: most distinct tokens on a device at once in learning: the memory bound.
        max_prompt_tokens: longer prompts are left out (counted and reported); null = none are.
        max_prompt_quantile: the same for prompts longer than this quantile of all lengths, plus one; null = none are.
        shuffle: draw a new order every epoch; false = the order of the file.
        share_prefixes: run tokens with which several rollouts start only once.
        seed: of the order and the sample.
    """

    def __init__(
        self,
        path: str | None = None,
        task: Task | None = None,
        mix: list[MixPart] | None = None,
        mix_examples: int | None = None,
        first_examples: int | None = None,
        max_examples: int | None = None,
        prompts_per_step: int = 8,
        tokens_per_micro: int = 8192,
        max_prompt_tokens: int | None = None,
        max_prompt_quantile: float | None = None,
        shuffle: bool = True,
        share_prefixes: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if max_prompt_tokens is not None and max_prompt_quantile is not None:
            raise UserError("give max_prompt_tokens or max_prompt_quantile, not both")
        if max_prompt_quantile is not None and not 0 < max_prompt_quantile <= 1:
            raise UserError(f"max_prompt_quantile={max_prompt_quantile}: use a share in (0, 1], such as 0.9")
        check_mix(mix, path, {"first_examples": first_examples})
        for part in mix or []:
            if part.max_repeats > 1:
                raise UserError(f"mix: {part.path}: max_repeats={part.max_repeats}; prompts repeat by epochs, use 1")
        self.path, self.task, self.mix, self.mix_examples = path, task, mix, mix_examples
        self.mixture: Mixture[Any] | None = None
        self.first_examples, self.max_examples = first_examples, max_examples
        self.prompts_per_step, self.tokens_per_micro = prompts_per_step, tokens_per_micro
        self.max_prompt_tokens, self.max_prompt_quantile = max_prompt_tokens, max_prompt_quantile
        self.shuffle, self.share_prefixes, self.seed = shuffle, share_prefixes, seed
        self.train_set: Source[Prompt] | None = None
        self.files: dict[str, tuple[str, str]] = {}

    def setup(self, stage: str) -> None:
        """Render the prompts with the module's renderer (the Trainer calls this)."""
        if stage == "fit":
            module: Any = self.trainer.lightning_module  # type: ignore[union-attr]
            self.prepare(module.renderer, module.rollout.max_new_tokens)

    def prepare(self, renderer: Renderer, answer_tokens: int = 0) -> None:
        """Render all prompts with ``renderer``; a second call does nothing.

        Args:
            renderer: of the model.
            answer_tokens: most tokens of a completion.

        Raises:
            UserError: a row is bad, or its prompt and the longest completion have no room in the model.
        """
        if self.train_set is not None:
            return
        if self.mix is None:
            everything: Source[Prompt] = PromptList(self._prompts(self.path, self.task, renderer))
        else:
            lists: list[list[Prompt]] = []
            for part in self.mix:
                first = lists[-1][-1].key + 1 if lists else 0
                lists.append(self._prompts(part.path, part.task or self.task, renderer, first, part.where))
            everything = self.mixture = mixture_of(
                self.mix, [PromptList(x) for x in lists], self.mix_examples, self.seed
            )
        self.train_set = split(everything, 0, self.max_examples, self.seed)[0]
        _check_room(self.train_set, renderer.positions, answer_tokens)
        paths = {"path": self.path} if self.mix is None else {f"mix[{i}].path": p.path for i, p in enumerate(self.mix)}
        self.files = {option: (path, fingerprint(path)) for option, path in paths.items() if path is not None}

    def _prompts(
        self,
        path: str | None,
        task: Task | None,
        renderer: Renderer,
        first: int = 0,
        where: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[Prompt]:
        """The prompts of a file; their keys count from ``first``, so that no two of a mix are the same."""
        if path is None or task is None:
            raise UserError(f"data.{'path' if path is None else 'task'}=null: name the rows and the task they are of")
        rows = first_rows(path, read_rows(path, RowReport("error", 0).reject), self.first_examples)
        rows = metered(rows, f"reading {path}", self.first_examples or (lambda: count_rows(path)), "rows")
        prompts = []
        for number, (row, origin) in enumerate(rows_where(rows, where), start=first):
            record = task.record(row, origin)
            prompts.append(Prompt(record, np.array(renderer.question(record), np.int32), number))
        return self._short(path, prompts)

    def _short(self, path: str, prompts: list[Prompt]) -> list[Prompt]:
        lengths = np.array([len(p.ids) for p in prompts])
        most = self.max_prompt_tokens
        if self.max_prompt_quantile is not None and len(prompts):
            most = int(np.quantile(lengths, self.max_prompt_quantile)) + 1
        if most is None or not (lengths > most).any():
            return prompts
        kept = [p for p in prompts if len(p.ids) <= most]
        left_out = f"{len(prompts) - len(kept)} of {len(prompts)} prompts left out, above {most} tokens"
        print(f"{path}: {left_out}", file=sys.stderr)
        if not kept:
            raise UserError(f"{path}: every prompt has more than {most} tokens; raise max_prompt_tokens")
        return kept

    def state_dict(self) -> dict[str, Any]:
        """Which files were trained on, for the checkpoint."""
        return {"files": {option: list(found) for option, found in self.files.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_files(state_dict, self.files, self.trainer)

    def fingerprints(self) -> dict[str, str]:
        """Content hash of the prompts, for run.json."""
        return {} if self.train_set is None else {"train": self.train_set.fingerprint}

    def train_dataloader(self) -> PromptLoader:
        if self.train_set is None:
            raise UserError("the data module has not been prepared: call `prepare(renderer)` or fit with a Trainer")
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return PromptLoader(
            self.train_set,
            self.prompts_per_step,
            self.tokens_per_micro,
            seed=self.seed if self.shuffle else None,
            rank=rank,
            world_size=world,
            min_shared=MIN_SHARED if self.share_prefixes else NEVER_SHARED,
        )

    def val_dataloader(self) -> list[Any]:
        """Nothing: a policy is evaluated by what it generates (`GenerationEval`)."""
        return []

    test_dataloader = val_dataloader


def _check_room(prompts: Source[Prompt], positions: int | None, answer_tokens: int) -> None:
    """A prompt that leaves no room for an answer would stop the run at the step that draws it."""
    for prompt in (prompts[i] for i in range(len(prompts))):
        if positions is not None and len(prompt.ids) + answer_tokens > positions:
            raise UserError(
                f"{prompt.record.origin}: the prompt has {len(prompt.ids)} tokens, which with max_new_tokens="
                f"{answer_tokens} exceeds the model's {positions} positions; lower model.rollout.max_new_tokens, or "
                "leave long prompts out by data.max_prompt_tokens"
            )
