"""Tokens per second of `rollout.sampler.generate` beside `transformers.generate`, in one process, taking turns.

The peer gets its best simple settings: one batch, left padding, num_return_sequences, dynamic cache, sdpa attention.
Only tokens up to and including the stop token count, for both.

Without ``--pretrained`` a random model of 14M parameters is used and completion lengths are geometric, because the stop
ids are a random share of the vocabulary: the speed of text, not text, is measured. With it, prompts are questions of
GSM8K in the model's chat format and every completion is as long as it may be. ``float32`` is a float32 model on both
sides; ``bfloat16`` is a bfloat16 model for the peer and a float32 model with ``dtype: bfloat16`` for ours.

    python benchmarks/sampler.py [--rounds 7] [--threads 1]
    python benchmarks/sampler.py --pretrained FOLDER --questions GSM8K/test.jsonl [--precisions float32 bfloat16]
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common_sides import DECODER
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lightning_posttrain.ops.attention import plain_attention, use_layout_attention
from lightning_posttrain.rollout.sampler import SamplingParams, generate

HERE = Path(__file__).parent
VOCAB, SAMPLES, MEAN_LENGTH = 32_000, 8, 90
PROMPT_LENGTHS = (101, 137, 170, 198)
MODEL = {**DECODER, "vocab_size": VOCAB, "max_position_embeddings": 2048, "pad_token_id": 0}


@dataclass(frozen=True)
class Workload:
    """What both sides complete.

    Args:
        prompts: token ids.
        stops: ids that end a completion.
        max_new: most tokens of one.
    """

    prompts: list[list[int]]
    stops: list[int]
    max_new: int


def ours(model: PreTrainedModel, work: Workload, seed: int, dtype: Any) -> list[int]:
    """Completion lengths."""
    params = SamplingParams(max_new_tokens=work.max_new, temperature=1.0)
    groups = generate(model, work.prompts, params, work.stops, str, n=SAMPLES, seed=seed, dtype=dtype)
    return [len(c.tokens) for group in groups for c in group]


def peer(model: PreTrainedModel, work: Workload, seed: int) -> list[int]:
    """Completion lengths, the stop token included and the padding after it not."""
    torch.manual_seed(seed)
    width = max(map(len, work.prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in work.prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in work.prompts])
    with plain_attention(model), torch.inference_mode():
        out = model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=SAMPLES,
            max_new_tokens=work.max_new,
            min_new_tokens=0 if work.stops else work.max_new,
            eos_token_id=work.stops or None,
            pad_token_id=0,
        )
    ended = torch.isin(out[:, width:], torch.tensor(work.stops, dtype=torch.int64))
    first = torch.where(ended.any(1), ended.int().argmax(1) + 1, ended.shape[1])
    return first.tolist()


def random_setting() -> tuple[PreTrainedModel, Workload]:
    """A small random model, whose completions have the lengths of text."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **MODEL))
    rng = np.random.default_rng(0)
    prompts = [rng.integers(1, VOCAB, n).tolist() for n in PROMPT_LENGTHS]
    stops = rng.choice(np.arange(1, VOCAB), VOCAB // MEAN_LENGTH, replace=False).tolist()
    return model, Workload(prompts, stops, 256)


def real_setting(folder: Path, questions: Path, max_new: int) -> tuple[PreTrainedModel, Workload]:
    """A pretrained model and the first questions of a file."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line)["question"] for line in questions.read_text("utf-8").splitlines()[: len(PROMPT_LENGTHS)]]
    chats = [[{"role": "user", "content": row}] for row in rows]
    prompts = [tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=False) for c in chats]
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), Workload(prompts, [], max_new)


def measure(setting: tuple[PreTrainedModel, Workload], precision: str, rounds: int, threads: int) -> dict[str, Any]:
    """Samples of both, interleaved."""
    torch.set_num_threads(threads)
    model, work = setting[0].eval(), setting[1]
    use_layout_attention(model)
    other, dtype = (copy.deepcopy(model).bfloat16(), "bfloat16") if precision == "bfloat16" else (model, "model")
    sides = {
        "ours": lambda seed: ours(model, work, seed, dtype),
        "transformers": lambda seed: peer(other, work, seed),
    }
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for side in sides.values():
        side(1_000)  # warm up
    for seed in range(rounds):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            lengths = side(seed)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            sample = {"tokens": sum(lengths), "longest": max(lengths), "seconds": wall, "cpu_seconds": cpu}
            samples[name].append(sample)
            head = f"{precision} {threads} threads {name:13}"
            print(f"{head} {sample['tokens'] / wall:8.0f} tok/s  {sample}", flush=True)
    return {"precision": precision, "threads": threads, "samples": samples, **summary(samples)}


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
    parser.add_argument(
        "--pretrained", type=Path, help="folder of a real model; its result is written beside the other"
    )
    parser.add_argument("--questions", type=Path, help="GSM8K's test.jsonl; needed with --pretrained")
    parser.add_argument("--max-new", type=int, default=96, help="tokens of a completion, with --pretrained")
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"])
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.pretrained is not None and args.questions is None:
        parser.error("--pretrained needs --questions, the file with the prompts")
    real = args.pretrained is not None
    setting = real_setting(args.pretrained, args.questions, args.max_new) if real else random_setting()
    output = args.output or HERE / "results" / ("sampler_real.json" if real else "sampler.json")
    precisions = args.precisions or (["float32", "bfloat16"] if real else ["float32"])
    runs = [measure(setting, p, args.rounds, t) for p in precisions for t in dict.fromkeys(args.threads)]
    result: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "setting": {
            "model": args.pretrained.name if real else MODEL,
            "prompt_lengths": [len(prompt) for prompt in setting[1].prompts],
            "samples_per_prompt": SAMPLES,
            "max_new_tokens": setting[1].max_new,
            "mean_length": setting[1].max_new if real else MEAN_LENGTH,
        },
        "runs": runs,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    for run in runs:
        print({k: v for k, v in run.items() if k != "samples"})


if __name__ == "__main__":
    main()
