"""The processes of `sft_vs_trl.py`, one role each: prepare, peak, ours, trl. Each prints one line of JSON.

Both sides read the same folder (weights, tokenizer, rows as prompt and completion), take the rows in file order, eight
to a step, and run their own trainer as it is; a callback only notes the time after each step. Reading and tokenising
the rows happens before the clock starts, on both sides. Nothing of TRL is imported unless its role is asked for.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common_sides import (
    DECODER,
    TRL_COMMON,
    Meter,
    answer,
    lightning_trainer,
    published_model,
    random_model,
    read_gsm8k,
    read_rows,
    save_model,
    write_rows,
)

EXAMPLES_PER_STEP = 8
LR = 1e-3
ARCHITECTURE = {**DECODER, "vocab_size": 32_768, "max_position_embeddings": 4096}
TRL_VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_checkpointing": {"gradient_checkpointing": False},
    "no_checkpointing_padding_free": {"gradient_checkpointing": False, "padding_free": True},
}


# ---- rows -------------------------------------------------------------------------------------------------------


def banking77(data: Path) -> list[dict[str, str]]:
    """Instruction with all 77 labels, then the query -> the label's number."""
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({r["category"] for r in rows}, key=str.lower)
    labels = "\n".join(f"{i}: {name}" for i, name in enumerate(names))
    head = (
        "You are a classifier for messages to a bank. Assign the query to exactly one of these 77 categories.\n"
        f"\nCategories:\n{labels}\n\nRules:\n- Answer with one integer from 0 to 76, the number of the category.\n"
        "- Write the number only: no words, no punctuation, no explanation.\n- For example: 11 or 45.\n"
    )
    where = {name: i for i, name in enumerate(names)}
    return [
        {"prompt": f"{head}\nQuery:\n{r['text'].strip()}\n\nCategory:\n", "completion": str(where[r["category"]])}
        for r in rows
    ]


DATASETS = {"gsm8k": read_gsm8k, "banking77": banking77}


def prepare(folder: Path, dataset: str, data: Path, examples: int, pretrained: Path | None) -> dict[str, Any]:
    """Write ``rows.jsonl`` (drawn without replacement by a fixed seed) and ``model/`` (random weights and a tokenizer
    of their own, or ``pretrained``)."""
    from lightning_posttrain.text.tokenizer import train_bpe

    rows = DATASETS[dataset](data)
    order = np.random.default_rng(0).permutation(len(rows))[:examples]
    write_rows(folder, (rows[i] for i in order))
    if pretrained is not None:
        return {"rows": len(order), **published_model(folder, pretrained)[1]}
    tokenizer = train_bpe((text for row in rows for text in row.values()), ARCHITECTURE["vocab_size"])
    return {"rows": len(order), **save_model(folder, random_model(tokenizer, **ARCHITECTURE), tokenizer)}


# ---- measuring --------------------------------------------------------------------------------------------------


def peak() -> dict[str, Any]:
    """The machine's float32 matrix products: best of several square sizes, FLOP/s."""
    best = 0.0
    for size in (1024, 2048):
        a, b, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
        for _ in range(12):
            began = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return {"flops_per_s": best, "threads": torch.get_num_threads(), "torch": torch.__version__}


class LossMeter(Meter):
    """Losses as well."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def report(self, warmup: int, digest: str) -> dict[str, Any]:
        """``digest`` names the rows as they were tokenised."""
        result = self.result(warmup)
        seconds = sum(result.pop("step_seconds"))
        return {
            "samples_per_s": EXAMPLES_PER_STEP * result["steps_timed"] / seconds,
            **result,
            "first_loss": self.losses[0],
            "last_loss": self.losses[-1],
            "rows_digest": digest,
        }


def digest_of(rows: list[tuple[list[int], list[bool]]]) -> str:
    """Hash of token ids and supervision, to prove that both sides train on the same tokens."""
    return hashlib.sha256(json.dumps([[ids, [int(m) for m in mask]] for ids, mask in rows]).encode()).hexdigest()[:16]


def useful_flops(step: Any, config: Any) -> float:
    """Floating-point operations a step needs at least, forward and backward (2 + 4 per weight and token).

    6 * (non-embedding weights) * (distinct tokens) + per layer 12 * heads * head_dim * (visible query-key pairs)
    + 6 * vocabulary * hidden * (distinct supervised predictions). Norms, activations, softmax, the optimizer and
    anything recomputed count nothing.
    """
    hidden, layers, wide = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    kv = hidden * config.num_key_value_heads // config.num_attention_heads
    weights = layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * wide)
    total = 0.0
    for micro in step.micros:
        lay = micro.layout
        pairs = sum(n * (n + 1) // 2 + n * p for n, p in zip(lay.lengths, lay.positions, strict=True))
        total += 6 * weights * lay.num_tokens + 12 * layers * hidden * pairs
        total += 6 * config.vocab_size * hidden * len(micro.targets)
    return total


# ---- the two sides ----------------------------------------------------------------------------------------------


def ours(folder: Path, steps: int, warmup: int) -> dict[str, Any]:
    """`SFTModule`, `StepLoader` and Lightning's Trainer."""
    import lightning as L

    from lightning_posttrain.batching.loader import StepLoader
    from lightning_posttrain.callbacks.throughput import Throughput
    from lightning_posttrain.modules.optim import OptimizerSpec
    from lightning_posttrain.modules.sft import SFTModule
    from lightning_posttrain.records.adapters import conversation
    from lightning_posttrain.text.spec import ChatSpec

    class Source(list):
        fingerprint = "benchmark"

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            meter.step()
            meter.losses.append(float(trainer.callback_metrics["train/loss"]))

    module = SFTModule(pretrained=str(folder / "model"), optimizer=OptimizerSpec(lr=LR), chat=ChatSpec(format="plain"))
    module.build()
    meter = LossMeter()
    renderer = module.training_renderer()
    talks = [conversation(row, f"rows.jsonl:{i + 1}") for i, row in enumerate(read_rows(folder))]
    source = Source((renderer.sequence(talk),) for talk in talks)
    loader = StepLoader(source, EXAMPLES_PER_STEP, tokens_per_micro=16_384, seed=None)
    flops = [useful_flops(step, module.model.config) for step in loader][warmup:steps]
    loader = StepLoader(source, EXAMPLES_PER_STEP, tokens_per_micro=16_384, seed=None)
    trainer = lightning_trainer(folder, steps, [Watch(), Throughput()])
    trainer.fit(module, loader)
    digest = digest_of([(s.ids.tolist(), s.supervised.tolist()) for (s,) in source])
    return meter.report(warmup, digest) | {"useful_flops_per_step": float(np.mean(flops))}


def trl(folder: Path, steps: int, warmup: int, variant: str) -> dict[str, Any]:
    """TRL's SFTTrainer with its defaults, but for float32 on CPU, no truncation and rows in file order."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step()

    class Recorded(SFTTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            meter.losses.append(float(loss))
            return loss

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    meter = LossMeter()
    config = SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=EXAMPLES_PER_STEP,
        max_steps=steps,
        learning_rate=LR,
        max_length=None,
        train_sampling_strategy="sequential",
        **TRL_COMMON,
        **TRL_VARIANTS[variant],
    )
    trainer = Recorded(
        model,
        config,
        train_dataset=datasets.Dataset.from_list(read_rows(folder)),
        processing_class=tokenizer,
        callbacks=[Watch()],
    )
    seen = trainer.train_dataset
    digest = digest_of([(r["input_ids"], [y != -100 for y in r["labels"]]) for r in seen])
    trainer.train()
    return meter.report(warmup, digest) | {"version": importlib.metadata.version("trl")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["prepare", "peak", "ours", "trl"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--dataset", choices=sorted(DATASETS))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--variant", choices=sorted(TRL_VARIANTS), default="default")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup", type=int)
    args = parser.parse_args()
    roles: dict[str, Callable[[], dict[str, Any]]] = {
        "prepare": lambda: prepare(
            args.folder, args.dataset, args.data_dir, args.steps * EXAMPLES_PER_STEP, args.pretrained
        ),
        "peak": peak,
        "ours": lambda: ours(args.folder, args.steps, args.warmup),
        "trl": lambda: trl(args.folder, args.steps, args.warmup, args.variant),
    }
    answer(roles[args.role])


if __name__ == "__main__":
    main()
