"""`plan`: what a pretraining run of a named model takes, before anything is started."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..types import UserError

if TYPE_CHECKING:
    from ..models.chinchilla import Plan
    from ..models.throughput import Throughput


def plan(
    *,
    model: str,
    chinchilla: list[float],
    vocab_size: int | None = None,
    tokenizer: str | None = None,
    sequence_length: int = 8192,
    tokens_per_step: int | None = None,
    tokens_per_micro: int | None = None,
    precision: Literal["32", "bf16"] = "32",
    measure: bool = True,
    throughput: float | None = None,
    output: str | None = None,
) -> None:
    """Print tokens, steps, batch, learning rate, warm-up, decays, time and memory of pretraining runs.

    Args:
        model: name of an Olmo 3 model, such as olmo3_14m.
        chinchilla: lengths of the runs, each in units of 20 tokens per parameter.
        vocab_size: tokens of the vocabulary; null = 100278 (dolma2), or the tokenizer's.
        tokenizer: folder or hub id whose vocabulary the model gets.
        sequence_length: tokens of a block.
        tokens_per_step: batch size in tokens; null = by the model's size.
        tokens_per_micro: tokens on the device at once; null = one block.
        precision: of weights and optimizer.
        measure: train on a few micro-batches of random tokens here to estimate time and memory.
        throughput: tokens a second to estimate the time from, in place of measuring.
        output: also write the plan as JSON to this file.
    """
    from ..batching.blocks import check_sizes
    from ..models.chinchilla import Plan
    from ..models.config import architecture_fields
    from ..models.olmo3 import DOLMA2_VOCABULARY, non_embedding

    _check(chinchilla, vocab_size, tokenizer, throughput)
    if tokenizer is not None:
        from ..text.tokenizer import load_tokenizer

        vocab_size = len(load_tokenizer(tokenizer))
    fields = architecture_fields({"name": model}, DOLMA2_VOCABULARY if vocab_size is None else vocab_size)
    size, total = non_embedding(fields)
    plans = [Plan(size, length, tokens_per_step) for length in chinchilla]
    micro = sequence_length if tokens_per_micro is None else tokens_per_micro
    check_sizes(sequence_length, plans[0].tokens_per_step, micro)
    found = _Facts(model, fields["vocab_size"], size, total, sequence_length, plans)
    if throughput is not None:
        found.tokens_per_s, found.source = throughput, "given"
    elif measure:
        taken = _measure(
            {"name": model, "vocab_size": fields["vocab_size"]}, total, plans[0], sequence_length, micro, precision
        )
        found.tokens_per_s, found.peak_bytes = taken.tokens_per_s, taken.peak_bytes
        found.source = f"measured on {_where()}"
    found.state_bytes = total * (16 if precision == "32" else 8)
    print(found.text())
    if output is not None:
        from ..records.files import write_text

        write_text(Path(output), json.dumps(found.json(), indent=2) + "\n")


def _check(chinchilla: list[float], vocab_size: int | None, tokenizer: str | None, throughput: float | None) -> None:
    if not chinchilla:
        raise UserError("chinchilla=[]: give at least one length, such as 1")
    if tokenizer is not None and vocab_size is not None:
        raise UserError(f"vocab_size={vocab_size} and tokenizer={tokenizer}: give one of them")
    if vocab_size is not None and vocab_size < 1:
        raise UserError(f"vocab_size={vocab_size}: give a positive number of tokens")
    if throughput is not None and not 0 < throughput < math.inf:
        raise UserError(f"throughput={throughput}: give a positive number of tokens a second")


def _measure(
    architecture: dict[str, Any], total: int, plan: Plan, length: int, micro: int, precision: str
) -> Throughput:
    import torch

    from ..models.throughput import check_memory, measure
    from .runs import best_device

    dtype, device = (torch.float32 if precision == "32" else torch.bfloat16), best_device()
    check_memory(total, dtype, device)
    print(f"measuring a few micro-batches of {micro:,} tokens on {_where()} ...", file=sys.stderr, flush=True)
    return measure(
        architecture,
        sequence_length=length,
        tokens_per_micro=micro,
        tokens_per_step=plan.tokens_per_step,
        dtype=dtype,
        device=device,
    )


def _where() -> str:
    import torch

    from ..callbacks.run_files import device_name
    from .runs import best_device

    return device_name(torch.device(best_device()))


def _bytes(count: int) -> str:
    """In GB, or in MB where that would be next to nothing."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


@dataclass
class _Facts:
    """A model, its plans and what was measured."""

    model: str
    vocabulary: int
    size: int
    total: int
    length: int
    plans: list[Plan]
    tokens_per_s: float | None = None
    source: str = ""
    peak_bytes: int | None = None
    state_bytes: int = 0

    def seconds(self, plan: Plan) -> float | None:
        return None if self.tokens_per_s is None else plan.tokens / self.tokens_per_s

    def json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "vocab_size": self.vocabulary,
            "non_embedding_parameters": self.size,
            "parameters": self.total,
            "sequence_length": self.length,
            "tokens_per_s": self.tokens_per_s,
            "throughput": self.source or None,
            "state_bytes": self.state_bytes,
            "peak_bytes": self.peak_bytes,
            "plans": [p.facts() | {"seconds": self.seconds(p)} for p in self.plans],
        }

    def text(self) -> str:
        first = self.plans[0]
        lines = [
            f"{self.model}, vocabulary {self.vocabulary:,}: {self.total:,} parameters, {self.size:,} without the input "
            "embedding",
            f"batch {first.tokens_per_step:,} tokens = {first.tokens_per_step / self.length:g} x {self.length:,}, "
            f"peak learning rate {first.lr:.7f}, betas {first.betas[0]:g} and {first.betas[1]:g}",
            "",
            f"{'C':>5}{'tokens':>16}{'steps':>9}{'warm-up':>9}  {'decays to 0 at step':<44}{'time':>20}",
        ]
        for plan in self.plans:
            ends = ", ".join(f"{math.ceil(share * plan.steps):,}" for share in plan.period_ends())
            warmup = math.ceil(plan.warmup_tokens / plan.tokens * plan.steps)
            seconds = self.seconds(plan)
            took = "" if seconds is None else str(timedelta(seconds=round(seconds)))
            lines.append(f"{plan.chinchilla:>5g}{plan.tokens:>16,}{plan.steps:>9,}{warmup:>9,}  {ends:<44}{took:>20}")
        lines.append("")
        if self.tokens_per_s is not None:
            lines.append(f"throughput {self.tokens_per_s:,.0f} tokens/s ({self.source})")
        memory = f"memory {_bytes(self.state_bytes)} for weights, gradients and moments"
        if self.peak_bytes is not None:
            memory += f"; {_bytes(self.peak_bytes)} at the peak of a step, activations (and imports) included"
        return "\n".join([*lines, memory])
