"""Samplers behind one protocol: what a module asks for completions."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import nn
from transformers import ContinuousBatchingConfig, GenerationConfig

from ..ops.attention import plain_attention
from ..ops.logprobs import base_model
from ..types import Completion, UserError
from .linears import Dtype
from .sampler import SamplingParams, eval_mode, generate


class Sampler(ABC):
    """Draws completions from a model as it is now."""

    @abstractmethod
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
        origins: Sequence[str] | None = None,
    ) -> list[list[Completion]]:
        """``[prompt][sample]``; arguments as in `sampler.generate`."""


class KVCacheSampler(Sampler):
    """`sampler.generate`: the same completions whatever the batch layout, the number of ranks or the resume point.

    Args:
        max_rows: most completions generated at the same time (memory).
        max_tokens: most distinct prompt tokens in one decoder call (memory).
        dtype: of the products of the linear layers, the head apart. ``model``: what the policy computes in, so that
            completions are drawn from what learns. ``bfloat16``: from a narrow copy made for the call, about 1.2 times
            as fast on CPUs that multiply it natively, for half the policy's memory; its log-probs, about a
            hundredth of a nat off (``sampler_gap``), are those that ``importance`` corrects for. ``auto``: bfloat16 on
            such a CPU, else ``model``.
    """

    def __init__(self, max_rows: int = 128, max_tokens: int = 8192, dtype: Dtype = "model") -> None:
        self.options: dict[str, Any] = {"max_rows": max_rows, "max_tokens": max_tokens, "dtype": dtype}

    def generate(
        self,
        model: nn.Module,
        prompts: Sequence[list[int]],
        params: SamplingParams,
        stop_ids: Collection[int],
        decode_text: Callable[[list[int]], str],
        **draws: Any,
    ) -> list[list[Completion]]:
        return generate(model, prompts, params, stop_ids, decode_text, **draws, **self.options)


class ContinuousBatchingSampler(Sampler):
    """transformers' paged continuous batching, which is made for CUDA.

    Its random numbers belong to the batch: a step's completions depend on (seed, step) and on which prompts are drawn
    together, so other ranks or another batch size give others. The log-probs are those of the truncated, renormalised
    distribution, as everywhere here.

    Args:
        num_blocks: blocks of the paged cache; null = as memory allows.
        max_batch_tokens: most tokens in one decoder call; null = as memory allows.
        warmup: record CUDA graphs before the first call.
    """

    def __init__(self, num_blocks: int | None = None, max_batch_tokens: int | None = None, warmup: bool = True) -> None:
        self.num_blocks, self.max_batch_tokens, self.warmup = num_blocks, max_batch_tokens, warmup

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
        origins: Sequence[str] | None = None,
    ) -> list[list[Completion]]:
        """Arguments as in `sampler.generate`; ``keys`` is not used.

        Raises:
            UserError: a request failed.
        """
        stops = sorted(stop_ids)
        greedy = params.temperature == 0
        generation = GenerationConfig(
            max_new_tokens=params.max_new_tokens,
            do_sample=not greedy,
            temperature=1.0 if greedy else params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p or None,
            num_return_sequences=1 if greedy else n,  # transformers refuses several equal ones
            eos_token_id=stops,
            pad_token_id=stops[0],
        )
        batching = ContinuousBatchingConfig(
            num_blocks=self.num_blocks,
            max_batch_tokens=self.max_batch_tokens,
            return_logprobs=True,
            seed=int.from_bytes(hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=4).digest()),
        )
        base: Any = base_model(model)
        with eval_mode(model), plain_attention(base):
            found = base.generate_batch(
                [prompt for prompt in prompts for _ in range(n if greedy else 1)],
                generation_config=generation,
                continuous_batching_config=batching,
                warmup=self.warmup and base.device.type == "cuda",
            )
        results = list(found.values())
        errors = [r.error for r in results if r.error is not None]
        if len(results) < n * len(prompts) or errors:
            raise UserError(
                f"continuous batching completed {len(results) - len(errors)} of {n * len(prompts)} requests "
                f"({errors[:1] or 'its thread ended'}); lower max_batch_tokens or use KVCacheSampler"
            )
        done = []
        for result in results:
            tokens = [int(t) for t in result.generated_tokens]
            finished = tokens[-1] in stop_ids
            text = decode_text(tokens[:-1] if finished else tokens)
            done.append(Completion(tuple(tokens), tuple(float(x) for x in result.logprobs), text, finished))
        return [done[i : i + n] for i in range(0, len(done), n)]
