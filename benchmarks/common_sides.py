"""What the measured processes share: the model's shape, rows, trainers, clocks and memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

DECODER: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 896,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
}
"""A Qwen2 of 14M parameters with a vocabulary of 32,000; the rest of its config is each benchmark's own."""


# ---- inputs -----------------------------------------------------------------------------------------------------


def read_gsm8k(data: Path) -> list[dict[str, str]]:
    """Question -> worked answer."""
    rows = [json.loads(line) for line in (data / "gsm8k" / "train.jsonl").read_text("utf-8").splitlines()]
    return [{"prompt": f"Question: {r['question']}\nAnswer:\n", "completion": r["answer"]} for r in rows]


def write_rows(folder: Path, rows: Iterable[dict[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def read_rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]


def random_model(tokenizer: Any, **fields: Any) -> Any:
    """The decoder with random weights that do not change from run to run, and the tokenizer's special ids."""
    from transformers import AutoConfig, AutoModelForCausalLM

    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **DECODER | fields | ids))


def published_model(folder: Path, pretrained: Path) -> tuple[Any, dict[str, int]]:
    """Let ``folder/model`` be the model in ``pretrained``; its tokenizer, and its sizes as `save_model` says them."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").symlink_to(pretrained.resolve(), target_is_directory=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(pretrained))
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    return tokenizer, sizes(model, tokenizer)


def save_model(folder: Path, model: Any, tokenizer: Any) -> dict[str, int]:
    """Write ``folder/model``, which both sides read; its sizes."""
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return sizes(model, tokenizer)


def sizes(model: Any, tokenizer: Any) -> dict[str, int]:
    """Tokens and parameters, all and without the embedding."""
    total, embedding = model.num_parameters(), model.get_input_embeddings().weight.numel()
    return {"tokens": len(tokenizer), "parameters": total, "non_embedding": total - embedding}


# ---- trainers ---------------------------------------------------------------------------------------------------


TRL_COMMON: dict[str, Any] = {
    "lr_scheduler_type": "cosine",
    "optim": "adamw_torch_fused",
    "bf16": False,
    "use_cpu": True,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
"""The schedule and optimizer of ours, float32, and nothing that costs time beside training."""


def lightning_trainer(folder: Path, steps: int, callbacks: list[Any]) -> Any:
    """A Trainer that writes its metrics and nothing else."""
    import lightning as L

    return L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        default_root_dir=folder / "ours",
        logger=L.pytorch.loggers.CSVLogger(folder / "logs"),
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )


# ---- measuring --------------------------------------------------------------------------------------------------


def answer(role: Callable[[], dict[str, Any]]) -> None:
    """The child's side: run ``role`` and print its result alone, as trainers print to stdout too."""
    out = os.dup(1)
    os.dup2(2, 1)
    result = role()
    sys.stdout.flush()
    os.write(out, (json.dumps(result) + "\n").encode())


class Meter:
    """Times after each step, and memory relative to the moment it is made (imports and model are there)."""

    def __init__(self) -> None:
        self.baseline = psutil.Process().memory_info().rss
        self.times: list[tuple[float, float]] = []

    def step(self) -> None:
        self.times.append((time.perf_counter(), time.process_time()))

    def result(self, warmup: int) -> dict[str, Any]:
        """What the steps after the first ``warmup`` (at least 1) took, and the most memory of the process."""
        peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        steps, cpu = np.diff(np.array(self.times[warmup - 1 :]), axis=0).T
        return {
            "step_seconds": steps.tolist(),
            "step_seconds_median": float(np.median(steps)),
            "cpu_seconds_per_step": float(cpu.mean()),
            "steps_timed": len(steps),
            "peak_rss": peak_rss,
            "baseline_rss": self.baseline,
            "above_baseline": peak_rss - self.baseline,
        }
