"""Generates completions for evaluation and for RL: prompts computed once, finished rows leave, log-probs are kept.

What is drawn for a completion depends on (seed, step, prompt key, sample) alone. Beam search, penalties, stop strings
and streaming are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..ops.attention import ATTENTION, use_layout_attention
from ..ops.logprobs import base_model
from ..ops.positions import max_positions
from ..ops.sampling import uniforms
from ..ops.sharding import whole_parameters
from ..types import Completion, UserError
from .decoding import Decoding, Row
from .linears import Dtype, fast_linears

MANY = 16
"""Tokens of a completion from which packing the weights pays."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn.

    Args:
        max_new_tokens: most tokens of a completion, the stop token included.
        temperature: divides the logits; 0 is greedy.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens that together reach this probability; 1 keeps all.
        min_p: keep tokens at least this many times as probable as the most probable one; 0 keeps all.

    Raises:
        UserError: naming the field that is out of range.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        rules = {
            "max_new_tokens": (self.max_new_tokens >= 1, "use at least 1"),
            "temperature": (0 <= self.temperature < math.inf, "use 0 for greedy decoding or a positive number"),
            "top_k": (self.top_k >= 0, "use 0 to keep all tokens or a positive number"),
            "top_p": (0 < self.top_p <= 1, "use a probability in (0, 1]; 1 keeps all tokens"),
            "min_p": (0 <= self.min_p <= 1, "use a ratio in [0, 1]; 0 keeps all tokens"),
        }
        for name, (valid, remedy) in rules.items():
            if not valid:
                raise UserError(f"sampling parameter {name}={getattr(self, name)}: {remedy}")


def generate(
    model: nn.Module,
    prompts: Sequence[list[int]],
    params: SamplingParams,
    stop_ids: Collection[int],
    decode_text: Callable[[list[int]], str],
    *,
    n: int = 1,
    seed: int = 0,
    step: int = 0,
    keys: Sequence[int | str] | None = None,
    max_rows: int = 64,
    max_tokens: int = 8192,
    origins: Sequence[str] | None = None,
    dtype: Dtype = "model",
) -> list[list[Completion]]:
    """Sample ``n`` completions of every prompt.

    The completions do not depend on the other prompts, their order, ``max_rows`` or the number of ranks (up to
    rounding of the logits): each is drawn with its own uniforms, keyed by (seed, step, key of its prompt, sample).
    The model runs in eval mode and without gradients; its train mode, its attention and all global random states are
    left as they were.

    Args:
        model: a causal LM, possibly inside an adapter wrapper.
        prompts: token ids.
        params: how tokens are drawn.
        stop_ids: token ids that end a completion; they are part of it.
        decode_text: ids -> text, special tokens kept.
        n: completions per prompt.
        seed, step: the run's seed and the step (or 0) at which the completions are drawn.
        keys: identity of each prompt; its index by default. Equal keys draw with equal uniforms.
        max_rows: most completions generated at the same time (memory).
        max_tokens: most distinct prompt tokens in one decoder call, unless one prompt alone has more (memory).
        origins: where each prompt is from, for errors; its index by default.
        dtype: of the products of the linear layers: what the model computes in; ``bfloat16``, with which log-probs are
            off by about a hundredth of a nat; ``auto``, bfloat16 on a CPU that multiplies it natively.

    Returns:
        ``[prompt][sample]``.

    Raises:
        UserError: naming an empty prompt, one too long for the model, an argument out of range, or a model whose
            layers do not all attend.
    """
    arrays = _checked(model, prompts, params, n, keys, max_rows, max_tokens, origins)
    names = range(len(prompts)) if keys is None else keys
    stops = frozenset(int(i) for i in stop_ids)
    rows = [Row(prompt, sample) for prompt in range(len(prompts)) for sample in range(n)]

    def numbers(row: Row) -> np.ndarray:
        return uniforms(seed, step, names[row.prompt], row.sample, params.max_new_tokens)

    truncation = (params.temperature, params.top_k, params.top_p, params.min_p)
    with (
        eval_mode(model),
        whole_parameters(model),
        layout_attention(model),
        fast_linears(model, dtype, keep=params.max_new_tokens >= MANY),
        torch.inference_mode(),
    ):
        decoding = Decoding(model, arrays, params.max_new_tokens, truncation, stops, numbers, max_tokens)
        decoding.run(sorted(rows, key=lambda row: -len(arrays[row.prompt])), max_rows)
    done = [_completion(row, decode_text) for row in rows]
    return [done[i : i + n] for i in range(0, len(done), n)]


def _completion(row: Row, decode_text: Callable[[list[int]], str]) -> Completion:
    shown = row.tokens[:-1] if row.finished else row.tokens
    return Completion(tuple(row.tokens), tuple(row.logprobs), decode_text(shown), row.finished)


def _checked(
    model: nn.Module,
    prompts: Sequence[list[int]],
    params: SamplingParams,
    n: int,
    keys: Sequence[int | str] | None,
    max_rows: int,
    max_tokens: int,
    origins: Sequence[str] | None,
) -> list[np.ndarray]:
    """The prompts as int32 arrays, or a UserError."""
    for name, value in (("n", n), ("max_rows", max_rows), ("max_tokens", max_tokens)):
        if value < 1:
            raise UserError(f"{name}={value}: use at least 1")
    if keys is not None and len(keys) != len(prompts):
        raise UserError(f"{len(keys)} keys for {len(prompts)} prompts: give each prompt one")
    positions = max_positions(base_model(model).config) or math.inf
    for i, prompt in enumerate(prompts):
        name = f"prompt {i}" if origins is None else f"{origins[i]}: the prompt"
        if len(prompt) == 0:
            raise UserError(f"{name} is empty: give it at least one token, such as the beginning-of-text token")
        if len(prompt) + params.max_new_tokens > positions:
            raise UserError(
                f"{name} has {len(prompt)} tokens, which with max_new_tokens={params.max_new_tokens} exceeds the "
                f"model's {positions} positions; shorten the prompt or lower max_new_tokens"
            )
    return [np.asarray(prompt, dtype=np.int32) for prompt in prompts]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; each module's own mode after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def layout_attention(model: nn.Module) -> Iterator[None]:
    """Layout attention inside; the former attention after."""
    base = base_model(model)
    before = base.config._attn_implementation
    try:
        if before != ATTENTION:
            use_layout_attention(base)
        yield
    finally:
        if before != ATTENTION:
            base.set_attn_implementation(before)
