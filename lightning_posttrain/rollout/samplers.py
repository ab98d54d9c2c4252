"""Samplers behind one protocol: what a module asks for completions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from torch import nn

from ..types import Completion
from .sampler import SamplingParams, generate


class Sampler(Protocol):
    """Draws completions from a model as it is now."""

    def generate(
        self,
        model: nn.Module,
        prompts: Sequence[list[int]],
        params: SamplingParams,
        stop_ids: Collection[int],
        decode_text: Callable[[list[int]], str],
        *,
        n: int,
        seed: int,
        step: int,
        keys: Sequence[int | str],
    ) -> list[list[Completion]]:
        """``[prompt][sample]``; arguments as in `sampler.generate`."""
        ...


class KVCacheSampler:
    """`sampler.generate`: the same completions whatever the batch layout, the number of ranks or the resume point.

    Args:
        max_rows: most completions generated at the same time (memory).
        max_tokens: most distinct prompt tokens in one decoder call (memory).
    """

    def __init__(self, max_rows: int = 128, max_tokens: int = 8192) -> None:
        self.max_rows, self.max_tokens = max_rows, max_tokens

    def generate(
        self,
        model: nn.Module,
        prompts: Sequence[list[int]],
        params: SamplingParams,
        stop_ids: Collection[int],
        decode_text: Callable[[list[int]], str],
        *,
        n: int,
        seed: int,
        step: int,
        keys: Sequence[int | str],
    ) -> list[list[Completion]]:
        return generate(
            model,
            prompts,
            params,
            stop_ids,
            decode_text,
            n=n,
            seed=seed,
            step=step,
            keys=keys,
            max_rows=self.max_rows,
            max_tokens=self.max_tokens,
        )
