"""Log-probabilities of given continuations: what contexts, choices and few-shot examples share is computed once.

A request is a context and a continuation. Both are tokenised on their own and joined, and the context loses tokens on
its left where the two are longer than ``max_length``. All requests are sorted by their tokens and packed into forests
(`batching.cut`), so neither the order of the requests nor that of the answers matters. Sampling is left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..batching.cut import cut_step
from ..batching.tree import MIN_SHARED, collate
from ..ops.logprobs import token_logprobs
from ..ops.ranks import gather
from ..ops.sharding import whole_parameters
from ..progress import metered
from ..text.documents import document_tokens, opening_token
from ..types import MicroBatch, UserError
from ..types import Sequence as Tokens
from .sampler import eval_mode, layout_attention

PLAIN = {"add_special_tokens": False, "split_special_tokens": True, "return_attention_mask": False, "verbose": False}
"""Markers of a chat format inside a text are text, as they are in pretraining."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A tokenised request.

    Args:
        context: (C,) int32 ids, at least one; equal contexts are one array.
        continuation: (N,) int32 ids whose log-probability is asked for, at least one.
        plain: the text had no context.
        name: what messages call it.
    """

    context: np.ndarray
    continuation: np.ndarray
    plain: bool
    name: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Scored requests, in their order.

    Args:
        logprobs: (R,) float64 log-probability of each continuation, nats.
        tokens: (R,) int64 tokens of each continuation.
        distinct, effective: tokens that the decoder saw, and that it would have seen one request at a time.
        split: requests that were scored in several windows.
        seconds: wall time of the slowest rank.
    """

    logprobs: np.ndarray
    tokens: np.ndarray
    distinct: int
    effective: int
    split: int
    seconds: float


def tokenize_requests(
    tokenizer: Any,
    requests: Sequence[tuple[str, str]],
    names: Sequence[str] | None = None,
    bos: bool | None = None,
    batch: int = 1024,
    document_start: str | None = None,
) -> list[TokenRequest]:
    """Tokenise contexts and continuations, each on its own and without special tokens.

    The context begins with the beginning-of-text token if the tokenizer has one that opens texts and not turns. A text
    without a context follows what documents follow in training (`text.documents.document_start`).

    Args:
        tokenizer: of transformers.
        requests: (context, continuation) each.
        names: for messages; the index by default.
        bos: put the beginning-of-text token in front of every context, or never; None = as said above.
        batch: texts tokenised at once.
        document_start: the token that a text without a context follows; None = as said above.

    Raises:
        UserError: naming a continuation without a token, or a tokenizer without the token that is needed.
    """
    begin = tokenizer.bos_token_id if bos else opening_token(tokenizer)
    if bos and begin is None:
        raise UserError("bos=true, but the tokenizer has no beginning-of-text token; leave it null")
    front = [begin] if begin is not None and bos is not False else []
    alone = front if bos and document_start is None else document_tokens(tokenizer, document_start, bos)
    if not alone and any(not context for context, _ in requests):
        raise UserError("a text without a context needs a token before it, but the tokenizer has neither bos nor eos")
    texts = list(dict.fromkeys(text for request in requests for text in request))
    known: dict[str, np.ndarray] = {}
    for at in range(0, len(texts), batch):
        part = texts[at : at + batch]
        rows = tokenizer(part, **PLAIN)["input_ids"]
        known |= {text: np.asarray(row, dtype=np.int32) for text, row in zip(part, rows, strict=True)}
    contexts = {context: _begun(known[context], front if context else alone) for context, _ in requests}
    found = []
    for i, (context, continuation) in enumerate(requests):
        name = names[i] if names is not None else f"request {i}"
        if not len(known[continuation]):
            raise UserError(f"{name}: the continuation {continuation!r} has no token; give one that is not empty")
        found.append(TokenRequest(contexts[context], known[continuation], not context, name))
    return found


def _begun(ids: np.ndarray, front: list[int]) -> np.ndarray:
    """``ids`` after ``front``, unless they begin with it."""
    if not front or (len(ids) and ids[0] == front[0]):
        return ids
    return np.concatenate([np.asarray(front, dtype=np.int32), ids])


def windows(request: TokenRequest, max_length: int) -> list[Tokens]:
    """The request as sequences of which the decoder sees at most ``max_length`` tokens; usually one.

    The context is cut on its left. A continuation that is longer by itself is scored in windows side by side, each
    after as many of the tokens before it as fit: windows are half of ``max_length``, or the whole of it for a text
    without a context, whose last window then looks back as far as it can (like lm-eval's rolling log-likelihood).
    """
    size = len(request.continuation)
    if size <= max_length:
        return [_sequence(request, max_length - size + 1, 0, size)]
    step = max_length if request.plain else max(1, max_length // 2)
    stops = [min(start + step, size) for start in range(0, size, step)]
    starts = range(0, size, step)
    return [_sequence(request, max_length - (e - s) + 1, s, e) for s, e in zip(starts, stops, strict=True)]


def _sequence(request: TokenRequest, room: int, start: int, stop: int) -> Tokens:
    """``continuation[start:stop]`` supervised, after the last ``room`` tokens before it."""
    before = request.context if start == 0 else np.concatenate([request.context, request.continuation[:start]])
    ids = np.concatenate([before[-room:], request.continuation[start:stop]])
    supervised = np.zeros(len(ids), dtype=bool)
    supervised[len(ids) - (stop - start) :] = True
    return Tokens(ids.astype(np.int32), supervised, origin=request.name)


def score_requests(
    model: nn.Module,
    requests: Sequence[TokenRequest],
    *,
    max_length: int,
    tokens_per_micro: int,
    min_shared: int = MIN_SHARED,
    rank: int = 0,
    world: int = 1,
) -> Scores:
    """Sum of log-probabilities of each continuation, the same on all ranks.

    Ranks share the packed micro-batches. The model runs in eval mode and without gradients; its modes and its
    attention are left as they were.

    Args:
        model: a causal LM that takes layouts.
        requests: what `tokenize_requests` made of them.
        max_length: most tokens that the decoder sees of a request (`windows`).
        tokens_per_micro: most distinct tokens of a micro-batch (memory).
        min_shared: shortest common beginning that is shared; a huge number turns sharing off.
        rank, world: of this process.

    Raises:
        UserError: naming a request that does not fit into ``tokens_per_micro``.
    """
    if not requests:
        return Scores(np.zeros(0), np.zeros(0, dtype=np.int64), 0, 0, 0, 0.0)
    began = time.perf_counter()
    sequences: list[Tokens] = []
    owners: list[int] = []
    for owner, request in enumerate(requests):
        for sequence in windows(request, max_length):
            sequences.append(Tokens(sequence.ids, sequence.supervised, str(len(owners)), sequence.origin))
            owners.append(owner)
    shared = len(sequences) >= world  # fewer than ranks: each rank scores them all
    groups = cut_step([(s,) for s in sequences], tokens_per_micro, world if shared else 1, min_shared)
    device = next(model.parameters()).device
    with eval_mode(model), whole_parameters(model), layout_attention(model), torch.no_grad():
        own = [group for group in groups[rank if shared else 0] if group]
        micros = metered((collate(group, min_shared) for group in own), "scoring", len(own), "micro-batches")
        mine = _score(model, micros, device)
    parts = gather((*mine, time.perf_counter() - began)) if shared and world > 1 else [(*mine, 0.0)]
    logprobs = np.zeros(len(requests))
    for places, values, *_ in parts:
        np.add.at(logprobs, [owners[place] for place in places], values)
    counts = np.array([len(request.continuation) for request in requests], dtype=np.int64)
    seconds = max(time.perf_counter() - began, *(part[4] for part in parts))
    split = sum(int(count > max_length) for count in counts)
    return Scores(logprobs, counts, sum(p[2] for p in parts), sum(p[3] for p in parts), split, seconds)


def _score(
    model: nn.Module, micros: Iterable[MicroBatch], device: torch.device
) -> tuple[list[int], list[float], int, int]:
    """Places and sums of the sequences of ``micros``, and tokens seen with and without sharing."""
    places: list[int] = []
    values: list[float] = []
    distinct = effective = 0
    for micro in micros:
        moved = micro.to(device)
        logprobs = token_logprobs(model, moved).double()
        sums = torch.zeros(micro.num_sequences, dtype=torch.float64, device=device)
        values += sums.index_add_(0, moved.sequence, logprobs).tolist()
        places += [int(id) for id in micro.ids]
        distinct += micro.layout.num_tokens
        effective += int(micro.lengths.sum())
    return places, values, distinct, effective
