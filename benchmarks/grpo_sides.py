"""The processes of `grpo_vs_trl.py`, one role each: prepare, first, replay, ours, trl. Each prints one line of JSON.

Both sides read the same folder (weights, tokenizer, prompts, and the stop ids in the model's generation config), draw
with temperature 1 and nothing cut off, score by the same function, and run their own trainer as it is. A step's clock
runs from the end of the step before. ``generation`` is the part of it from prompts to completions with their text,
stop tokens found and padding removed: `sampler.generate` here, `GRPOTrainer._generate` there. ``learning`` is all the
rest: rewards, advantages, batches, forward, backward, clipping, optimizer, logging and, here only, the ledger.

Weights are random, so lengths are set by the stop ids and not by text. Where completions must not stop, the only stop
token is made impossible; where they stop like text, a random share of the vocabulary stops them, so that lengths are
geometric. The two sides draw with different random numbers and so produce different numbers of tokens there; the
learning rate is too low to change lengths.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import string
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common_sides import (
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

PROMPTS, SAMPLES, LR = 4, 8, 1e-6
VOCAB = 32_000
PROMPT_LENGTHS = (101, 137, 170, 198)
LIMITS = {"full_length": 128, "stopping": 256}
MEAN_LENGTH = 80
NO_CHECKPOINTING = {"gradient_checkpointing": False}
ACCUMULATED = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
TRL_VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_checkpointing": NO_CHECKPOINTING,
    "accumulated": ACCUMULATED,
    "no_checkpointing_accumulated": NO_CHECKPOINTING | ACCUMULATED,
}


def even_share(tokens: Sequence[int]) -> float:
    """The reward: cheap, and different for nearly every completion."""
    return sum(token % 2 == 0 for token in tokens) / len(tokens)


# ---- inputs -----------------------------------------------------------------------------------------------------


def prepare(folder: Path, setting: str, data: Path, pretrained: Path | None) -> dict[str, Any]:
    """Write ``rows.jsonl`` (four prompts) and ``model/`` (random weights, or ``pretrained`` with its own stop ids).

    Questions of GSM8K and a tokenizer trained on it; without the file, random letters and one token for each.
    """
    from lightning_posttrain.text.tokenizer import byte_tokenizer, train_bpe

    rng = np.random.default_rng(0)
    if (data / "gsm8k" / "train.jsonl").is_file():
        rows = read_gsm8k(data)
        prompts = [rows[i]["prompt"] for i in rng.permutation(len(rows))[:PROMPTS]]
    else:
        rows = []
        prompts = ["".join(rng.choice(list(string.ascii_lowercase), n)) for n in PROMPT_LENGTHS]
    write_rows(folder, ({"prompt": text} for text in prompts))
    if pretrained is not None:
        tokenizer, sizes = published_model(folder, pretrained)
        stops = [tokenizer.eos_token_id]
    else:
        tokenizer = train_bpe((text for row in rows for text in row.values()), VOCAB) if rows else byte_tokenizer()
        model = random_model(tokenizer, vocab_size=VOCAB, max_position_embeddings=2048)
        stops = [tokenizer.eos_token_id]
        forbid(model, stops[0])
        if setting == "stopping":
            words = np.setdiff1d(np.arange(VOCAB), tokenizer.all_special_ids)
            stops += rng.choice(words, VOCAB // MEAN_LENGTH, replace=False).tolist()
        model.generation_config.eos_token_id = stops
        sizes = save_model(folder, model, tokenizer)
    lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
    return {"prompt_lengths": lengths, "stop_ids": len(stops), "limit": LIMITS[setting], **sizes}


def forbid(model: Any, token: int) -> None:
    """Make ``token`` impossible to draw: one hidden dimension is the same positive number at every position, and
    the token's row of the (tied) head weighs it with a large negative one."""
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        model.get_input_embeddings().weight[:, 0] = 0.1
        model.get_input_embeddings().weight[token, 0] = -200


# ---- measuring --------------------------------------------------------------------------------------------------


class RolloutMeter(Meter):
    """Also the seconds and the completions of each generation, which come one to a step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.lengths: list[list[int]] = []

    def generated(self, began: float, completions: Sequence[Sequence[int]]) -> None:
        self.seconds.append(time.perf_counter() - began)
        self.lengths.append([len(c) for c in completions])

    def report(self, warmup: int, *packages: str) -> dict[str, Any]:
        """Means over the timed steps, rates over all of their tokens, and versions of ``packages``."""
        result = self.result(warmup)
        step, generation = np.array(result.pop("step_seconds")), np.array(self.seconds[warmup:])
        tokens = np.array([sum(lengths) for lengths in self.lengths[warmup:]])
        learning = step - generation
        return {
            "step_seconds": step.mean(),
            "generation_seconds": generation.mean(),
            "learning_seconds": learning.mean(),
            "tokens": tokens.tolist(),
            "tokens_per_step": tokens.mean(),
            "longest": [max(lengths) for lengths in self.lengths[warmup:]],
            "tokens_per_s": tokens.sum() / step.sum(),
            "generated_per_s": tokens.sum() / generation.sum(),
            "learned_per_s": tokens.sum() / learning.sum(),
            "tokens_per_cpu_s": tokens.mean() / result["cpu_seconds_per_step"],
            **result,
            "threads": torch.get_num_threads(),
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", *packages)},
        }


# ---- the two sides ----------------------------------------------------------------------------------------------


def ours(folder: Path, setting: str, steps: int, seed: int) -> tuple[RolloutMeter, dict[str, Any]]:
    """`GRPOModule`, `PromptLoader` and Lightning's Trainer.

    Returns:
        The meter; and of the first step the prompts, the completions in the order of the prompts, the gradient's norm.
    """
    import lightning as L

    from lightning_posttrain.batching.prompts import Prompt, PromptList, PromptLoader
    from lightning_posttrain.callbacks.throughput import Throughput
    from lightning_posttrain.modules.grpo import GRPOModule
    from lightning_posttrain.modules.optim import OptimizerSpec
    from lightning_posttrain.rollout.sampler import SamplingParams
    from lightning_posttrain.rollout.samplers import KVCacheSampler
    from lightning_posttrain.tasks.reward import Reward
    from lightning_posttrain.text.spec import ChatSpec
    from lightning_posttrain.types import Completion, Message, Record

    class Even(Reward):
        name = "even"

        def __call__(self, record: Record, completion: Completion) -> float:
            return even_share(completion.tokens)

    class Timed(KVCacheSampler):
        def generate(self, model: Any, prompts: Any, *args: Any, **kwargs: Any) -> list[list[Completion]]:
            began = time.perf_counter()
            groups = super().generate(model, prompts, *args, **kwargs)
            completions = [c.tokens for group in groups for c in group]
            meter.generated(began, completions)
            if not first:
                first.update(prompts=prompts, completions=completions)
            return groups

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            meter.step()
            first.setdefault("grad_norm", float(trainer.callback_metrics["train/grad_norm"]))

    module = GRPOModule(
        [Even()],
        samples_per_prompt=SAMPLES,
        rollout=SamplingParams(max_new_tokens=LIMITS[setting], temperature=1.0),
        sampler=Timed(),
        pretrained=str(folder / "model"),
        optimizer=OptimizerSpec(lr=LR),
        chat=ChatSpec(format="plain"),
        seed=seed,
    )
    module.build()
    meter, first = RolloutMeter(), dict[str, Any]()
    records = [Record(row["prompt"], (Message("user", row["prompt"]),), "", "rows.jsonl") for row in read_rows(folder)]
    ids = [np.array(module.renderer.prompt(record.prompt), np.int32) for record in records]
    prompts = [Prompt(records[i % PROMPTS], ids[i % PROMPTS], i) for i in range(PROMPTS * steps)]
    trainer = lightning_trainer(folder, steps, [Watch(), Throughput()])
    trainer.fit(module, PromptLoader(PromptList(prompts), PROMPTS, tokens_per_micro=2048, seed=None))
    return meter, first


def trl(
    folder: Path, setting: str, steps: int, seed: int, variant: str, replayed: dict[str, Any] | None = None
) -> tuple[RolloutMeter, float]:
    """TRL's GRPOTrainer with its defaults, but for float32 on CPU, the rate of ours and prompts in file order.

    With ``replayed`` its completions take the place of those it would draw.

    Returns:
        The meter; and the gradient's norm in the first step, 0 if nothing is replayed.
    """
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step()

    class Recorded(GRPOTrainer):
        def _generate(self, prompts: list[Any]) -> Any:
            began = time.perf_counter()
            result = super()._generate(prompts)
            meter.generated(began, result[1])
            return result

        def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
            if replayed is None:
                return super()._generate_single_turn(prompt_ids, *args, **kwargs)
            if prompt_ids != [ids for ids in replayed["prompts"] for _ in range(SAMPLES)]:
                raise SystemExit("the two sides tokenised the prompts differently")
            return replayed["completions"], None

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [even_share(tokens) for tokens in completion_ids]

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    meter = RolloutMeter()
    options = {"per_device_train_batch_size": PROMPTS * SAMPLES, "gradient_accumulation_steps": 1}
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        max_steps=steps,
        num_generations=SAMPLES,
        max_completion_length=LIMITS[setting],
        learning_rate=LR,
        shuffle_dataset=False,
        seed=seed,
        logging_steps=10 if replayed is None else 1,
        **TRL_COMMON,
        **options | TRL_VARIANTS[variant],
    )
    trainer = Recorded(
        model,
        reward,
        config,
        train_dataset=datasets.Dataset.from_list(read_rows(folder) * steps),
        processing_class=tokenizer,
        callbacks=[Watch()],
    )
    trainer.train()
    return meter, trainer.state.log_history[0]["grad_norm"] if replayed else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["prepare", "first", "replay", "ours", "trl"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--setting", choices=sorted(LIMITS))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--variant", choices=sorted(TRL_VARIANTS), default="default")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    where, kept = (args.folder, args.setting), args.folder / "first.json"

    def first() -> dict[str, Any]:
        found = ours(*where, 1, args.seed)[1]
        kept.write_text(json.dumps(found), "utf-8")
        return {"grad_norm": found["grad_norm"]}

    def replay() -> dict[str, Any]:
        replayed = json.loads(kept.read_text("utf-8"))
        return {"grad_norm": trl(*where, 1, args.seed, args.variant, replayed)[1]}

    roles: dict[str, Callable[[], dict[str, Any]]] = {
        "prepare": lambda: prepare(*where, args.data_dir, args.pretrained),
        "first": first,
        "replay": replay,
        "ours": lambda: ours(*where, args.steps, args.seed)[0].report(args.warmup, "lightning"),
        "trl": lambda: trl(*where, args.steps, args.seed, args.variant)[0].report(args.warmup, "trl"),
    }
    answer(roles[args.role])


if __name__ == "__main__":
    main()
