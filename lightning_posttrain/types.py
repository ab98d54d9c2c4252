"""The things that flow through the library, and its conventions, said once.

Log-probabilities are float32 nats. Masks are boolean, True = supervised. Lengths are tokens, sizes are bytes.
Counts are int64. `targets` are already shifted: a prediction is (index of the hidden state that makes it, target id).
Nothing here computes; the rooms above do.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


class UserError(Exception):
    """Bad input or a run that would be meaningless. The message names file, line or field, the value and the remedy.

    The command line prints it without a traceback and exits with ``exit_code``.
    """

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: system, user, assistant or tool.
        content: its text.
        train: True/False overrides the rule "assistant turns are supervised".
        fields: what a chat template may read besides: ``tool_calls``, ``reasoning_content``, ``name``, ...
        prefill: characters at the start of an assistant's content that are given, not answered: they are not trained.
    """

    role: str
    content: str
    train: bool | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)
    prefill: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The message as a chat template gets it."""
        return {"role": self.role, "content": self.content, **self.fields}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The message that `as_dict` gives ``value`` of."""
        fields = {name: field for name, field in value.items() if name not in ("role", "content")}
        return cls(value["role"], value["content"], fields=fields)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, where they came from (``file.jsonl:12``) and the raw row's other columns.

    ``template_kwargs`` are the row's own variables for the chat template, ``tools`` among them.
    """

    messages: tuple[Message, ...]
    id: str
    origin: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preference:
    """Two ways to go on from the same messages, the better one first; both end with an assistant's turn."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    id: str
    origin: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """One problem of a task: the prompt to answer, the gold answer as text, and what the scorer needs (``meta``)."""

    id: str
    prompt: tuple[Message, ...]
    answer: str
    origin: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def asked(cls, row: Mapping[str, Any]) -> Self:
        """The record of a row to answer: ``{"id", "prompt": [message as a dict]}``, perhaps ``template_kwargs``."""
        prompt = tuple(map(Message.from_dict, row["prompt"]))
        return cls(row["id"], prompt, "", "", template_kwargs=row.get("template_kwargs", {}))

    def conversation(self) -> Conversation:
        """The record as a training example: prompt, then the gold answer as the assistant's turn."""
        answer = Message("assistant", self.answer)
        return Conversation((*self.prompt, answer), self.id, self.origin, self.meta, self.template_kwargs)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A tokenised text. ``supervised[t]`` says that log p(ids[t] | ids[:t]) counts; ``supervised[0]`` is never True.

    Args:
        ids: (T,) int32 token ids.
        supervised: (T,) bool.
        id: identifier of the example, for messages and predictions.
        origin: ``file:line`` of the raw row.
        columns: what else a loss knows of the supervised tokens, such as advantages: name -> (N,) float32.
        notes: what whoever trains it should know and its row does not say, in words that are the same for all rows.
    """

    ids: np.ndarray
    supervised: np.ndarray
    id: str = ""
    origin: str = ""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Example = tuple[Sequence, ...]
"""Sequences that must meet in one micro-batch: for SFT one (or one per answer, where the chat template changes earlier
turns), (chosen, rejected) for DPO, G completions for GRPO."""


@dataclass(frozen=True, eq=False)
class TreeLayout:
    """A forest of token segments ("nodes") laid out flat in depth-first order.

    A token attends to the tokens before it in its own node and to every token of the node's ancestors.
    In depth-first order the descendants of a node are the tokens right after it, up to ``ends[node]``.

    Args:
        starts, lengths: first flat index and number of tokens of each node; every length is at least 1.
        parents: index of the parent node, smaller than the node's own, or -1.
        positions: position (within its sequence) of each node's first token.
        ends: flat index just past the last descendant.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    parents: tuple[int, ...]
    positions: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens on the longest root-to-leaf path."""
        return max(p + n for p, n in zip(self.positions, self.lengths, strict=True))


@dataclass
class MicroBatch:
    """What the decoder sees at once: T distinct tokens of S sequences, with M distinct predictions.

    N supervised tokens (counted once per sequence) are read from the M predictions by ``gather``: a supervised token
    inside a shared prefix is predicted once and counted for each of its sequences.

    Args:
        input_ids, position_ids: (1, T) int64.
        layout: the forest over those T tokens.
        sources: (M,) int64 flat index of the hidden state that makes each prediction, ascending.
        targets: (M,) int64 token ids.
        gather: (N,) int64 index into the M predictions; row-major by sequence, then by position.
        sequence: (N,) int64 index in [0, S) of the sequence each supervised token belongs to.
        lengths: (S,) int64 tokens of each sequence had it run alone.
        examples: examples in this micro-batch; consecutive sequences form an example.
        ids: example id of each sequence, for messages.
        origins: ``file:line`` of each sequence, for messages.
        columns: those of the sequences, joined: name -> (N,) float32.
        idle: run so that every rank makes as many passes, and part of no loss, sum or count.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: TreeLayout
    sources: Tensor
    targets: Tensor
    gather: Tensor
    sequence: Tensor
    lengths: Tensor
    examples: int
    ids: tuple[str, ...]
    origins: tuple[str, ...]
    columns: dict[str, Tensor] = field(default_factory=dict)
    idle: bool = False

    @property
    def num_sequences(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same micro-batch with its tensors on ``device``."""
        moved = {k: v.to(device, non_blocking=True) for k, v in self.__dict__.items() if isinstance(v, Tensor)}
        columns = {k: v.to(device, non_blocking=True) for k, v in self.columns.items()}
        return MicroBatch(**{**self.__dict__, **moved, "columns": columns})


class StepBatch:
    """Everything one optimizer step sees on this rank, with divisors that hold for the whole step on all ranks.

    Not a dataclass: Lightning's precision plugins walk into those and would copy every micro-batch.

    Args:
        micros: this rank's micro-batches; every rank has the same number, of which the last may be idle.
        num_tokens: supervised tokens of the step over all ranks (counted once per sequence).
        num_tokens_by_place: the same for the first sequence of every example, the second, ...; they add up to it where
            all examples have as many sequences. Empty where nobody asks.
        total_weight: what the weights of those tokens (column ``weight``) add up to over all ranks; by default 1 each.
        num_sequences, num_examples: sequences and examples of the step over all ranks.
        epoch, index: place of the step in the run; ``index`` counts from 0 in each epoch.
        load_seconds: time spent building it.
    """

    def __init__(
        self,
        micros: list[MicroBatch],
        num_tokens: int,
        num_sequences: int,
        num_examples: int,
        epoch: int = 0,
        index: int = 0,
        load_seconds: float = 0.0,
        num_tokens_by_place: tuple[int, ...] = (),
        total_weight: float | None = None,
    ) -> None:
        self.micros = micros
        self.total_weight = float(num_tokens) if total_weight is None else total_weight
        self.num_tokens_by_place = num_tokens_by_place
        self.num_tokens, self.num_sequences, self.num_examples = num_tokens, num_sequences, num_examples
        self.epoch, self.index, self.load_seconds = epoch, index, load_seconds

    def to(self, device: torch.device | str) -> Self:
        """The same step with its tensors on ``device``."""
        moved = copy(self)
        moved.micros = [m.to(device) for m in self.micros]
        return moved


@dataclass(frozen=True, slots=True)
class Completion:
    """What a sampler produced for one prompt.

    Args:
        tokens: generated ids without the prompt; the stop token is included when there is one.
        logprobs: log-prob (nats) of each token under the distribution it was drawn from (greedy: the plain softmax).
        text: decoded ``tokens`` without the stop token, special tokens kept.
        finished: True when a stop token ended it, False when it ran into the length limit.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finished: bool
