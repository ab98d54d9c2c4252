"""A complete training run in memory: byte tokenizer, one layer, a few steps, and a record of everything it saw.

Used in this process and in forked ones. Losses are kept as hexadecimal floats: equal means equal to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.strategies import ModelParallelStrategy

from lightning_posttrain.batching.loader import StepLoader
from lightning_posttrain.batching.prompts import Prompt, PromptList, PromptLoader
from lightning_posttrain.callbacks.checkpoint import Checkpoints
from lightning_posttrain.losses.preference_objective import PreferenceObjective
from lightning_posttrain.modules.dpo import DPOModule
from lightning_posttrain.modules.grpo import GRPOModule
from lightning_posttrain.modules.optim import OptimizerSpec, ScheduleSpec
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.ops.sharding import full
from lightning_posttrain.rollout.sampler import SamplingParams
from lightning_posttrain.tasks.reward import Reward
from lightning_posttrain.text.tokenizer import TokenizerSpec
from lightning_posttrain.types import Completion, Example, Message, Sequence
from lightning_posttrain.types import Record as Problem

for noisy in ("lightning.pytorch", "lightning.fabric", "lightning"):
    logging.getLogger(noisy).setLevel(logging.ERROR)

ARCHITECTURE = {
    "model_type": "qwen3",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
}
EXAMPLES, PER_STEP = 18, 4
STEPS = 5
"""Steps per epoch; the last one has two examples."""


class Rows(list[Example]):
    """Random token rows; every second one starts with the same prefix."""

    def __init__(self, count: int = EXAMPLES, seed: int = 0) -> None:
        self.fingerprint = f"rows-{count}-{seed}"
        rng = np.random.default_rng(seed)
        prefix = rng.integers(0, 250, 20)
        for i in range(count):
            ids = np.concatenate([prefix if i % 2 else prefix[:0], rng.integers(0, 250, rng.integers(5, 25))])
            supervised = rng.random(len(ids)) < 0.6
            supervised[0], supervised[-1] = False, True
            self.append((Sequence(ids.astype(np.int32), supervised, str(i), f"rows.jsonl:{i + 1}"),))


class Pairs(list[Example]):
    """Random pairs of completions: each two share a prompt, and every second pair the prompt of the one before."""

    def __init__(self, count: int = EXAMPLES, seed: int = 0) -> None:
        self.fingerprint = f"pairs-{count}-{seed}"
        rng = np.random.default_rng(seed)
        for i in range(count):
            prompt = rng.integers(0, 250, rng.integers(8, 20)) if i % 2 == 0 else prompt  # noqa: F821
            answers = [rng.integers(0, 250, rng.integers(2, 12)) for _ in range(2)]
            self.append(
                tuple(
                    Sequence(
                        np.concatenate([prompt, answer]).astype(np.int32),
                        np.arange(len(prompt) + len(answer)) >= len(prompt),
                        f"{i}{name}",
                        f"rows.jsonl:{i + 1}",
                    )
                    for name, answer in zip(("", " (rejected)"), answers, strict=True)
                )
            )


class Record(L.Callback):
    """What every step and every validation saw, in ``lines`` and, given a path, appended to it as it happens."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = float(trainer.callback_metrics["train/loss"]).hex()
        ids = [i for step in pl_module.updated for micro in step.micros for i in micro.ids]
        self._add({"step": trainer.global_step, "at": [batch.epoch, batch.index], "loss": loss, "ids": ids})

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            seen = trainer.callback_metrics
            self._add({"val": trainer.global_step, "nll": float(seen.get("val/nll", seen.get("val/loss"))).hex()})

    def _add(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def build(**options: Any) -> SFTModule:
    """A fresh module."""
    given = {
        "architecture": ARCHITECTURE,
        "tokenizer": TokenizerSpec(kind="byte"),
        "schedule": ScheduleSpec(warmup_steps=2),
    }
    return SFTModule(**{**given, **options})


class Digits(Reward):
    """The share of bytes below 128 in the completion: easy to move with a few steps."""

    name = "low"

    def __call__(self, record: Problem, completion: Completion) -> float:
        return sum(token < 128 for token in completion.tokens) / len(completion.tokens)


def prompts(count: int = 6) -> PromptList:
    """Random byte prompts, of different lengths."""
    rng = np.random.default_rng(5)
    rows = [rng.integers(0, 250, rng.integers(4, 30)).astype(np.int32) for _ in range(count)]
    records = [Problem(f"p{i}", (Message("user", "?"),), "!", f"prompts.jsonl:{i + 1}") for i in range(count)]
    return PromptList([Prompt(record, ids, key) for key, (record, ids) in enumerate(zip(records, rows, strict=True))])


def build_grpo(**options: Any) -> GRPOModule:
    """A fresh module that draws four completions of up to eight bytes."""
    given = {
        "architecture": ARCHITECTURE,
        "tokenizer": TokenizerSpec(kind="byte"),
        "rewards": [Digits()],
        "samples_per_prompt": 4,
        "rollout": SamplingParams(max_new_tokens=8, temperature=1.0),
        "schedule": ScheduleSpec(name="constant"),
    }
    return GRPOModule(**{**given, **options})


def build_dpo(**options: Any) -> DPOModule:
    """A fresh module; ``loss`` may be a name."""
    if isinstance(options.get("loss"), str):
        options["loss"] = PreferenceObjective(options["loss"])
    given = {
        "architecture": ARCHITECTURE,
        "tokenizer": TokenizerSpec(kind="byte"),
        "schedule": ScheduleSpec(name="constant"),
    }
    return DPOModule(**{**given, **options})


def trainer_for(folder: Path, callbacks: list[L.Callback], **options: Any) -> L.Trainer:
    """A quiet CPU Trainer that writes in ``folder``."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0, "logger": False}
    given = {"accelerator": "cpu", "max_epochs": 3, "default_root_dir": str(folder), **quiet, **options}
    return L.Trainer(callbacks=callbacks, **given)


def train(
    folder: Path,
    resume: Path | None = None,
    *,
    checkpoints: dict[str, Any] | None = None,
    module: dict[str, Any] | None = None,
    callbacks: tuple[L.Callback, ...] = (),
    validate: bool = True,
    record: Path | None = None,
    rows: Rows | None = None,
    rank: int = 0,
    world: int = 1,
    per_step: int = PER_STEP,
    tokens_per_micro: int = 60,
    adam_eps: float = 1e-8,
    grpo: bool = False,
    dpo: bool = False,
    fsdp: bool | str = False,
    **trainer_options: Any,
) -> tuple[list[dict[str, Any]], str]:
    """Run to the end, from scratch or from a checkpoint; returns the record and a digest of the final weights.

    With ``grpo`` the module samples and learns from its own completions of six prompts, two a step; with ``dpo`` it
    learns from random pairs.
    As one rank of several, the environment must say where the others are; with ``fsdp`` they
    share the parameters, and with ``fsdp: folders`` each writes its own. A large ``adam_eps`` keeps the rounding of
    gradients near zero from growing into different weights.
    """
    warnings.filterwarnings("ignore")
    recorder = Record(record)
    saver = Checkpoints(**{"every_n_steps": 1, **(checkpoints or {})})
    make: Any = build_grpo if grpo else build_dpo if dpo else build
    model = make(**{"optimizer": OptimizerSpec(lr=1e-2, eps=adam_eps), **(module or {})})
    if world > 1:
        shards: Any = ModelParallelStrategy(world, 1, save_distributed_checkpoint=fsdp == "folders")
        trainer_options |= {"strategy": shards if fsdp else "ddp", "devices": world}
    trainer = trainer_for(folder, [*callbacks, recorder, saver], **trainer_options)
    place = {"rank": rank, "world_size": world}
    if grpo:
        trainer.fit(model, PromptLoader(prompts(), 2, tokens_per_micro, **place), ckpt_path=resume)
    else:
        source: Any = Pairs if dpo else Rows
        loaders = [StepLoader(source(8, seed=1), 4, 100, seed=None, **place)] if validate else []
        steps = StepLoader(rows or source(), per_step, tokens_per_micro, **place)
        trainer.fit(model, steps, loaders, ckpt_path=resume)
    return recorder.lines, digest(model)


def digest(model: Any) -> str:
    """sha256 of all parameters."""
    total = hashlib.sha256()
    for _, parameter in sorted(model.named_parameters()):
        total.update(full(parameter.detach()).float().numpy().tobytes())
    return total.hexdigest()
