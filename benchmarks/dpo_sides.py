"""The processes of `dpo_vs_trl.py`, one role each: prepare, ours, trl. Each prints one line of JSON.

Both sides read the same folder (weights, tokenizer, rows as prompt, chosen and rejected), take the rows in file order,
eight pairs to a step, and run their own trainer as it is; a callback only notes the time after each step. Rows are read
and tokenised, and with a reference computed beforehand its log-probs too, before the clock starts, on both sides.
Memory counts from before any model is there, as each side makes its reference at another moment.

Prompts are abstracts and a question of PubMedQA, answers its long answers, the rejected ones those of other articles.
Both are continued with those of further articles and cut at a word, so that a prompt has the given ratio to the mean of
its two answers; how long a pair is and how it is split between its answers varies as it does in the texts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common_sides import (
    DECODER,
    TRL_COMMON,
    answer,
    lightning_trainer,
    published_model,
    random_model,
    read_rows,
    save_model,
    write_rows,
)
from sft_sides import EXAMPLES_PER_STEP, LossMeter, digest_of

LR = 1e-4
BETA = 0.1
TOKENS_PER_MICRO = 2048
ARCHITECTURE = {**DECODER, "vocab_size": 32_768, "max_position_embeddings": 4096}
TOTAL = 640
"""Tokens of a prompt and one of its answers, on average."""
PROMPT_SHARES = {"4:1": 4 / 5, "1:1": 1 / 2, "1:4": 1 / 5}
NO_CHECKPOINTING = {"gradient_checkpointing": False}
ACCUMULATED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
TRL_VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_checkpointing": NO_CHECKPOINTING,
    "accumulated": ACCUMULATED,
    "no_checkpointing_accumulated": NO_CHECKPOINTING | ACCUMULATED,
    "precomputed": NO_CHECKPOINTING | ACCUMULATED | {"precompute_ref_log_probs": True},
}


# ---- rows -------------------------------------------------------------------------------------------------------


def spread(lengths: Iterable[int]) -> np.ndarray:
    """Lengths relative to their median, the extremes at half and one and a half."""
    found = np.array(list(lengths), float)
    return np.clip(found / np.median(found), 0.5, 1.5)


class Cutter:
    """Texts of a given number of tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def count(self, text: str) -> int:
        return len(self.tokenizer(text)["input_ids"])

    def __call__(self, pieces: Iterator[str], tokens: int) -> str:
        """``pieces`` one after the other, cut at the last word that ends within ``tokens``."""
        text = ""
        while self.count(text) <= tokens:
            text = f"{text} {next(pieces)}".lstrip()
        end = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"][tokens - 1][1]
        return text[:end] if text[end].isspace() else text[:end].rsplit(None, 1)[0]


def pubmedqa_pairs(data: Path, setting: str, count: int, cut: Cutter) -> list[dict[str, str]]:
    """Pairs whose prompt and mean answer have the ratio of ``setting`` in tokens, EOS included."""
    articles = list(json.loads((data / "pubmedqa" / "ori_pqal.json").read_text("utf-8")).values())
    articles = [articles[i] for i in np.random.default_rng(0).permutation(len(articles))]
    contexts = [" ".join(a["CONTEXTS"]) for a in articles]
    answers = [a["LONG_ANSWER"] for a in articles]
    scale, weight = spread(map(len, contexts)), spread(map(len, answers))

    def following(texts: list[str], first: int) -> Iterator[str]:
        while True:
            yield texts[first % len(texts)]
            first += count

    rows = []
    for i in range(count):
        other = i + len(articles) // 2
        question = f"\n\nQuestion: {articles[i]['QUESTION']}\nAnswer:\n"
        tokens = TOTAL * scale[i] * PROMPT_SHARES[setting]
        prompt = cut(following(contexts, i), round(tokens) - cut.count(question)) + question
        both = 2 * TOTAL * scale[i] * (1 - PROMPT_SHARES[setting])
        shares = weight[[i, other]] / weight[[i, other]].sum()
        chosen, rejected = (
            cut(following(answers, at), round(both * share) - 1) for at, share in zip((i, other), shares, strict=True)
        )
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def corpus(data: Path) -> Iterator[str]:
    for article in json.loads((data / "pubmedqa" / "ori_pqal.json").read_text("utf-8")).values():
        yield from (article["QUESTION"], article["LONG_ANSWER"], *article["CONTEXTS"])


def prepare(folder: Path, setting: str, data: Path, pairs: int, pretrained: Path | None) -> dict[str, Any]:
    """Write ``rows.jsonl`` and ``model/`` (random weights and a tokenizer, or ``pretrained``); lengths in tokens."""
    from lightning_posttrain.text.tokenizer import train_bpe

    if pretrained is None:
        tokenizer = train_bpe(corpus(data), ARCHITECTURE["vocab_size"])
        sizes = save_model(folder, random_model(tokenizer, **ARCHITECTURE), tokenizer)
    else:
        tokenizer, sizes = published_model(folder, pretrained)
    cut = Cutter(tokenizer)
    rows = pubmedqa_pairs(data, setting, pairs, cut)
    write_rows(folder, rows)
    prompt = np.array([cut.count(row["prompt"]) for row in rows])
    answers = np.array([[cut.count(row[name]) + 1 for name in ("chosen", "rejected")] for row in rows])
    longest = (prompt + answers.max(1)).reshape(-1, EXAMPLES_PER_STEP).max(1)
    return {
        "pairs": len(rows),
        "ratio": prompt.sum() / answers.mean(1).sum(),
        "prompt_tokens": np.percentile(prompt, (0, 50, 100)).tolist(),
        "answer_tokens": np.percentile(answers, (0, 50, 100)).tolist(),
        "distinct_tokens_per_step": (prompt.sum() + answers.sum()) / len(longest),
        "padded_tokens_per_step": 2 * EXAMPLES_PER_STEP * longest.mean(),
        **sizes,
    }


def digest_of_pairs(pairs: Iterable[tuple[list[int], list[int], list[int]]]) -> str:
    """Of (prompt, chosen, rejected) as both sides compare them."""
    return digest_of([(p + a, [False] * len(p) + [True] * len(a)) for p, *both in pairs for a in both])


# ---- the two sides ----------------------------------------------------------------------------------------------


def ours(folder: Path, steps: int, warmup: int, cached: bool, tokens_per_micro: int) -> dict[str, Any]:
    """`DPOModule`, `StepLoader` and Lightning's Trainer."""
    import lightning as L

    from lightning_posttrain.batching.loader import StepLoader
    from lightning_posttrain.batching.tree import MIN_SHARED
    from lightning_posttrain.callbacks.throughput import Throughput
    from lightning_posttrain.datamodules.preferences import RowPair
    from lightning_posttrain.losses.preference_objective import PreferenceObjective
    from lightning_posttrain.modules.dpo import DPOModule, ReferenceSpec
    from lightning_posttrain.modules.optim import OptimizerSpec
    from lightning_posttrain.text.spec import ChatSpec

    class Source(list):
        fingerprint = "benchmark"

    class Data(L.LightningDataModule):
        """What a cached reference asks for."""

        def __init__(self, source: Any) -> None:
            super().__init__()
            self.source, self.tokens_per_micro, self.min_shared = source, tokens_per_micro, MIN_SHARED

        def wrap(self, wrapper: Callable[[Any], Any]) -> None:
            self.source = wrapper(self.source)

        def train_dataloader(self) -> StepLoader:
            return StepLoader(self.source, EXAMPLES_PER_STEP, self.tokens_per_micro, seed=None)

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            meter.step()
            meter.losses.append(float(trainer.callback_metrics["train/loss"]))

    module = DPOModule(
        PreferenceObjective(beta=BETA),
        ReferenceSpec(cached=cached, cache_dir=str(folder / "reference")),
        pretrained=str(folder / "model"),
        optimizer=OptimizerSpec(lr=LR),
        chat=ChatSpec(format="plain"),
    )
    pair = RowPair(module.training_renderer(supervise="last_turn"))
    source = Source(pair(row, f"rows.jsonl:{i + 1}") for i, row in enumerate(read_rows(folder)))
    meter = LossMeter()
    trainer = lightning_trainer(folder, steps, [Watch(), Throughput()])
    trainer.fit(module, datamodule=Data(source))
    parts = [[(s.ids[~s.supervised].tolist(), s.ids[s.supervised].tolist()) for s in example] for example in source]
    digest = digest_of_pairs((prompt, chosen, rejected) for (prompt, chosen), (_, rejected) in parts)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "lightning")}
    return meter.report(warmup, digest) | {"threads": torch.get_num_threads(), "versions": versions}


def trl(folder: Path, steps: int, warmup: int, variant: str) -> dict[str, Any]:
    """TRL's DPOTrainer with its defaults, but for float32 on CPU, no truncation and rows in file order."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step()
            meter.losses.append(sum(parts))
            parts.clear()

    class Recorded(DPOTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            parts.append(float(loss))
            return loss

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    parts: list[float] = []
    meter = LossMeter()
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    options = {"per_device_train_batch_size": EXAMPLES_PER_STEP, "gradient_accumulation_steps": 1}
    config = DPOConfig(
        output_dir=str(folder / "trl"),
        max_steps=steps,
        learning_rate=LR,
        beta=BETA,
        max_length=None,
        train_sampling_strategy="sequential",
        **TRL_COMMON,
        **options | TRL_VARIANTS[variant],
    )
    trainer = Recorded(
        model,
        args=config,
        train_dataset=datasets.Dataset.from_list(read_rows(folder)),
        processing_class=tokenizer,
        callbacks=[Watch()],
    )
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    digest = digest_of_pairs(tuple(row[name] for name in names) for row in trainer.train_dataset)
    trainer.train()
    return meter.report(warmup, digest) | {"versions": {"trl": importlib.metadata.version("trl")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["prepare", "ours", "ours_cached", "trl"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--setting", choices=sorted(PROMPT_SHARES))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--variant", choices=sorted(TRL_VARIANTS), default="default")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup", type=int)
    parser.add_argument("--tokens-per-micro", type=int, default=TOKENS_PER_MICRO)
    args = parser.parse_args()
    run = (args.folder, args.steps, args.warmup)
    roles: dict[str, Callable[[], dict[str, Any]]] = {
        "prepare": lambda: prepare(
            args.folder, args.setting, args.data_dir, args.steps * EXAMPLES_PER_STEP, args.pretrained
        ),
        "ours": lambda: ours(*run, False, args.tokens_per_micro),
        "ours_cached": lambda: ours(*run, True, args.tokens_per_micro),
        "trl": lambda: trl(*run, args.variant),
    }
    answer(roles[args.role])


if __name__ == "__main__":
    main()
