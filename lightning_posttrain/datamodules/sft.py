"""Rows -> conversations -> tokenised examples -> whole optimizer steps. Wiring only."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..batching.sources import PromptWeighted
from ..records.adapters import conversation
from ..records.canonical import canonical
from ..records.sources import read_rows
from ..tasks.base import Task
from ..text.render import Renderer
from ..text.rows import RenderedRows
from ..types import Conversation, Example, Message, UserError
from .examples import ExampleDataModule, check_mix

PREDICT_ROWS = 256


class RowExample(RenderedRows):
    """Raw row -> the example it trains: one sequence, or several where the chat template changes earlier turns."""

    def __init__(self, task: Task | None, renderer: Renderer) -> None:
        super().__init__(renderer)
        self.task = task

    def conversations(self, row: Mapping[str, Any], origin: str) -> tuple[Conversation, ...]:
        task = self.task
        return (conversation(row, origin) if task is None else task.record(row, origin).conversation(),)

    def example(self, conversations: Sequence[Conversation], rendered: Sequence[Example]) -> Example:
        return rendered[0]


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


class SFTDataModule(ExampleDataModule):
    """Supervised examples from files or the hub, for training and validation.

    Args:
        task: how a raw row becomes a conversation; null = by its columns (messages, prompt + completion, ...).
        traces_file: training rows made by the command `traces`, in place of those of ``path``.
        prompt_weight: weight in training of each token of a prompt, relative to 1 for a token of an answer: 0 trains
            answers only, 1 everything (instruction modelling, Shi et al. 2024, arXiv:2405.14394).
        **data: see `ExampleDataModule`.
    """

    def __init__(
        self,
        path: str | None = None,
        task: Task | None = None,
        traces_file: str | None = None,
        prompt_weight: float = 0.0,
        **data: Any,
    ) -> None:
        super().__init__(path=path, **data)
        check_mix(self.mix, None, {"traces_file": traces_file})
        if not 0 <= prompt_weight < math.inf:
            raise UserError(f"data.prompt_weight={prompt_weight}: give 0, to train answers only, or a positive number")
        if prompt_weight and self.limits["supervise"] == "all_tokens":
            raise UserError(
                f"data.prompt_weight={prompt_weight}: with supervise: all_tokens every token weighs 1; drop one"
            )
        self.task, self.traces_file, self.prompt_weight = task, traces_file, prompt_weight

    apart = True

    def make_example(self, renderer: Renderer, task: Task | None) -> RowExample:
        return RowExample(task or self.task, renderer)

    @property
    def row_key(self) -> str:
        return canonical(self.task)

    def prepare(self, renderer: Renderer) -> None:
        if self.train_set is None and self.traces_file is not None:
            generated, original = count_traces(self.traces_file, self.first_examples)
            print(f"{self.traces_file}: traces: {generated} generated, {original} original", file=sys.stderr)
        fresh = self.train_set is None
        super().prepare(renderer)
        if fresh and self.prompt_weight and self.train_set is not None:
            self.train_set = PromptWeighted(self.train_set, self.prompt_weight)

    @property
    def train_option(self) -> str:
        return "path" if self.traces_file is None else "traces_file"

    @property
    def train_path(self) -> str:
        path = self.path if self.traces_file is None else self.traces_file
        if path is None:
            raise UserError("data.path=null: name a file of training rows, or give data.traces_file")
        return path

    def predict_dataloader(self) -> PromptBatches:
        """Prompts of ``val_path`` (else of the training rows), this rank's share."""
        rows = []
        for number, (row, origin) in enumerate(read_rows(self.val_path or self.train_path)):
            prompt: Sequence[Message]
            if self.task is not None:
                record = self.task.record(row, origin)
                id, prompt, variables = record.id, record.prompt, record.template_kwargs
            else:
                talk = conversation(row, origin)
                id, prompt, variables = talk.id, last_prompt(talk.messages), talk.template_kwargs
            asked: dict[str, Any] = {"id": id, "key": number, "prompt": [m.as_dict() for m in prompt]}
            rows.append({**asked, "template_kwargs": dict(variables)} if variables else asked)
        mine = rows[self.trainer.global_rank :: self.trainer.world_size] if self.trainer else rows
        return PromptBatches(mine)


def last_prompt(messages: Sequence[Message]) -> list[Message]:
    """What the last answer of a conversation answers: the messages before it, and what of it is given."""
    last = max(i for i, m in enumerate(messages) if m.role == "assistant")
    answer = messages[last]
    if answer.prefill:
        return [*messages[:last], replace(answer, content=answer.content[: answer.prefill])]
    while last and messages[last - 1].role == "assistant":
        last -= 1
    return list(messages[:last])
