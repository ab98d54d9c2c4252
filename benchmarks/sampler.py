"""Tokens per second of `rollout.sampler.generate` beside `transformers.generate`, in one process, taking turns.

The peer gets its best simple settings: one batch, left padding, num_return_sequences, dynamic cache, sdpa attention.
Only tokens up to and including the stop token count, for both. Completion lengths are geometric because the stop ids
are a random share of the vocabulary of a random model: the speed of text, not text, is measured.

    python benchmarks/sampler.py [--rounds 7] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common_sides import DECODER
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lightning_posttrain.ops.attention import plain_attention, use_layout_attention
from lightning_posttrain.rollout.sampler import SamplingParams, generate

VOCAB, SAMPLES, MAX_NEW, MEAN_LENGTH = 32_000, 8, 256, 90
PROMPT_LENGTHS = (101, 137, 170, 198)
MODEL = {**DECODER, "vocab_size": VOCAB, "max_position_embeddings": 2048, "pad_token_id": 0}


def ours(model: PreTrainedModel, prompts: list[list[int]], stops: list[int], seed: int) -> list[int]:
    """Completion lengths."""
    params = SamplingParams(max_new_tokens=MAX_NEW, temperature=1.0)
    groups = generate(model, prompts, params, stops, str, n=SAMPLES, seed=seed)
    return [len(c.tokens) for group in groups for c in group]


def peer(model: PreTrainedModel, prompts: list[list[int]], stops: list[int], seed: int) -> list[int]:
    """Completion lengths, the stop token included and the padding after it not."""
    torch.manual_seed(seed)
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with plain_attention(model), torch.inference_mode():
        out = model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=SAMPLES,
            max_new_tokens=MAX_NEW,
            eos_token_id=stops,
            pad_token_id=0,
        )
    ended = torch.isin(out[:, width:], torch.tensor(stops))
    first = torch.where(ended.any(1), ended.int().argmax(1) + 1, ended.shape[1])
    return first.tolist()


def measure(rounds: int, threads: int) -> dict[str, Any]:
    """Samples of both, interleaved."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **MODEL)).eval()
    use_layout_attention(model)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(1, VOCAB, n).tolist() for n in PROMPT_LENGTHS]
    stops = rng.choice(np.arange(1, VOCAB), VOCAB // MEAN_LENGTH, replace=False).tolist()
    sides = {"ours": ours, "transformers": peer}
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for side in sides.values():
        side(model, prompts, stops, 1_000)  # warm up
    for seed in range(rounds):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            lengths = side(model, prompts, stops, seed)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            sample = {"tokens": sum(lengths), "longest": max(lengths), "seconds": wall, "cpu_seconds": cpu}
            samples[name].append(sample)
            print(f"{threads} threads {name:13} {sample['tokens'] / wall:8.0f} tok/s  {sample}", flush=True)
    return {"threads": threads, "samples": samples, **summary(samples)}


def summary(samples: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Medians of tokens/s, and their ratio by wall clock and by processor time."""
    result: dict[str, float] = {}
    for clock in ("seconds", "cpu_seconds"):
        speed = {name: statistics.median(s["tokens"] / s[clock] for s in runs) for name, runs in samples.items()}
        result |= {f"{name}_tokens_per_{clock[:-1]}": value for name, value in speed.items()}
        result[f"ratio_{clock}"] = speed["ours"] / speed["transformers"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sampler.json")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "setting": {
            "model": MODEL,
            "prompt_lengths": PROMPT_LENGTHS,
            "samples_per_prompt": SAMPLES,
            "max_new_tokens": MAX_NEW,
            "mean_length": MEAN_LENGTH,
        },
        "runs": [measure(args.rounds, threads) for threads in dict.fromkeys(args.threads)],
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    for run in result["runs"]:
        print({k: v for k, v in run.items() if k != "samples"})


if __name__ == "__main__":
    main()
