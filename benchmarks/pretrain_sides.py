"""The processes of `pretrain.py`, one role each: prepare, peak, ours, trainer, litgpt. Each prints one line of JSON.

All sides read the same folder: weights, and the blocks of every step in the order in which ours takes them. Each runs
its own loop as it is: a callback, hook or logger only notes the time after each step, and its loss. Reading the blocks
happens before the clock starts on the peers' side and counts on ours. Ours learns no document's end where it is
compared, as the peers know of none: blocks are dense. Nothing of a peer is imported unless its role is asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common_sides import TRL_COMMON, Meter, answer

LR = 1e-3
BETAS = (0.9, 0.95)
END = 0
"""The end of a text; dense blocks hold none."""
DTYPES = {"32-true": torch.float32, "bf16-true": torch.bfloat16}


# ---- inputs -----------------------------------------------------------------------------------------------------


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    """Write ``model/``, the shards ``dense.npy`` and ``documents.npy``, and ``blocks.npy`` as ours takes them.

    Ids are drawn as words of a text are, the r-th most frequent one with a probability of about 1 / r; documents have
    a median of 400 tokens and a mean of 660.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from lightning_posttrain.models.config import architecture_fields
    from lightning_posttrain.models.olmo3 import initialise

    fields = architecture_fields({"name": args.model}, args.vocab)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))
    initialise(model)
    model.save_pretrained(args.folder / "model")
    tokenizer = words(args.vocab)
    tokenizer.save_pretrained(args.folder / "model")
    drawn = np.random.default_rng(0)
    count = args.steps * args.sequences_per_step * (args.sequence_length + 1)
    ranks = np.exp(drawn.random(count) * np.log(args.vocab)).astype(np.int64)  # 1 to vocab - 1
    ids = ranks.astype(np.uint16 if args.vocab <= 1 << 16 else np.uint32)
    np.save(args.folder / "dense.npy", ids)
    lengths = np.cumsum(drawn.lognormal(np.log(400), 1.0, count).astype(np.int64) + 2)
    ids[lengths[lengths < count]] = END
    np.save(args.folder / "documents.npy", ids)
    data = blocks(args, "dense")
    data.prepare(tokenizer)
    np.save(args.folder / "blocks.npy", in_order(data))
    total, embedding = model.num_parameters(), model.get_input_embeddings().weight.numel()
    return {"parameters": total, "without_input_embedding": total - embedding, "flops_per_step": flops(args, model)}


def words(count: int) -> Any:
    """A tokenizer of ``count`` words; ids matter here, their text does not."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = {"<end>": END, **{f"w{i}": i for i in range(1, count)}}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(names, "<end>")), eos_token="<end>")


def blocks(args: argparse.Namespace, shard: str) -> Any:
    """Our data module over a shard; a block has one token more than predictions."""
    from lightning_posttrain.datamodules.pretrain import PretrainDataModule

    return PretrainDataModule(
        {"all": str(args.folder / f"{shard}.npy")},
        sequence_length=args.sequence_length + 1,
        tokens_per_step=args.sequences_per_step * (args.sequence_length + 1),
        tokens_per_micro=args.sequences_per_micro * (args.sequence_length + 1),
        cache_dir=str(args.folder / "cache"),
    )


def in_order(data: Any) -> np.ndarray:
    """(B, sequence_length + 1) int64: the blocks of a prepared data module in the order of its loader."""
    loader = data.train_dataloader()
    return np.stack([loader.source[int(i)][0].ids for i in loader.order(0)]).astype(np.int64)


def flops(args: argparse.Namespace, model: Any) -> float:
    """Floating-point operations a step needs at least: 6 per weight and token, 12 * width per visible pair and layer.

    The input embedding counts nothing, nor do norms, activations, softmax, the optimizer and anything recomputed.
    """
    a = model.config
    weights = model.num_parameters() - model.get_input_embeddings().weight.numel()
    pairs = args.sequence_length * (args.sequence_length + 1) / 2
    attention = 12 * a.num_hidden_layers * a.num_attention_heads * a.head_dim * pairs
    return args.sequences_per_step * (6 * weights * args.sequence_length + attention)


# ---- measuring --------------------------------------------------------------------------------------------------


def peak(args: argparse.Namespace) -> dict[str, Any]:
    """The machine's matrix products in this precision: best of several square sizes, FLOP/s."""
    best, dtype = 0.0, DTYPES[args.precision]
    for size in (1024, 2048):
        a, b = (torch.randn(size, size, dtype=dtype) for _ in range(2))
        out = torch.empty(size, size, dtype=dtype)
        for _ in range(12):
            began = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return {"flops_per_s": best, "threads": torch.get_num_threads(), "torch": torch.__version__}


class LossMeter(Meter):
    """Losses as well: the mean over a step's predictions."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def report(self, args: argparse.Namespace, seen: np.ndarray) -> dict[str, Any]:
        """``seen``: the blocks in the order they were taken, whose hash proves that all sides take the same ones."""
        result = self.result(args.warmup)
        seconds = sum(result.pop("step_seconds"))
        tokens = args.sequences_per_step * args.sequence_length
        return {
            "tokens_per_s": tokens * result["steps_timed"] / seconds,
            **result,
            "first_loss": self.losses[0],
            "last_loss": self.losses[-1],
            "digest": hashlib.sha256(seen.tobytes()).hexdigest()[:16],
        }


# ---- the sides --------------------------------------------------------------------------------------------------


def ours(args: argparse.Namespace) -> dict[str, Any]:
    """`PretrainModule`, `PretrainDataModule` and Lightning's Trainer."""
    import lightning as L

    from lightning_posttrain.modules.optim import OptimizerSpec, ScheduleSpec
    from lightning_posttrain.modules.pretrain import PretrainModule

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            meter.step()
            meter.losses.append(float(trainer.callback_metrics["train/loss"]))

    module = PretrainModule(
        pretrained=str(args.folder / "model"),
        z_loss=args.z_loss,
        optimizer=OptimizerSpec(lr=LR, betas=BETAS, skip_sigma=6.0),
        schedule=ScheduleSpec(name="constant"),
    )
    module.build(DTYPES[args.precision])
    meter = LossMeter()
    trainer = L.Trainer(
        accelerator="cpu",
        precision=args.precision,
        max_steps=args.steps,
        default_root_dir=args.folder / "ours",
        logger=L.pytorch.loggers.CSVLogger(args.folder / "logs"),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch()],
    )
    data = blocks(args, args.shard)
    trainer.fit(module, datamodule=data)
    return meter.report(args, in_order(data) if args.shard == "dense" else np.empty(0))


def peer_model(args: argparse.Namespace) -> Any:
    """The same weights as transformers loads them, in train mode."""
    from transformers import AutoModelForCausalLM

    options = {"dtype": DTYPES[args.precision], "attn_implementation": "sdpa"}
    return AutoModelForCausalLM.from_pretrained(args.folder / "model", **options).train()


def trainer(args: argparse.Namespace) -> dict[str, Any]:
    """transformers' Trainer with its defaults, but for our optimizer's numbers and blocks in file order."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step()
            meter.losses.append(sum(shares))
            shares.clear()

    class Recorded(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            shares.append(float(loss))
            return loss

    shares: list[float] = []
    model = peer_model(args)
    meter = LossMeter()
    config = TrainingArguments(
        output_dir=str(args.folder / "trainer"),
        per_device_train_batch_size=args.sequences_per_micro,
        gradient_accumulation_steps=args.sequences_per_step // args.sequences_per_micro,
        max_steps=args.steps,
        learning_rate=LR,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",
        **TRL_COMMON | {"lr_scheduler_type": "constant"},
    )
    seen = np.load(args.folder / "blocks.npy")
    rows = [{"input_ids": ids, "labels": ids} for ids in torch.from_numpy(seen)]
    Recorded(model, config, train_dataset=rows, callbacks=[Watch()]).train()
    return meter.report(args, seen) | {"version": importlib.metadata.version("transformers")}


def litgpt(args: argparse.Namespace) -> dict[str, Any]:
    """`litgpt.pretrain.fit` over the transformers model, with its loss, Fabric, clipping and accumulation."""
    import lightning as L
    from lightning.fabric.loggers import CSVLogger
    from litgpt import Config
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.pretrain import fit

    class Model(torch.nn.Module):
        """What the loop asks of a model: logits, its longest sequence, and a config to count operations with."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            a = model.config
            shape = {"n_layer": a.num_hidden_layers, "n_head": a.num_attention_heads, "n_embd": a.hidden_size}
            self.model, self.max_seq_length = model, args.sequence_length
            self.config = Config(name="same", block_size=args.sequence_length, padded_vocab_size=a.vocab_size, **shape)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.model(ids, use_cache=False).logits

    class Losses(CSVLogger):
        def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
            if metrics["iter"] % accumulated == 0:  # the mean over the step's micro-batches
                meter.losses.append(metrics["loss"])

    accumulated = args.sequences_per_step // args.sequences_per_micro
    model = peer_model(args)
    meter = LossMeter()
    fabric = L.Fabric(accelerator="cpu", devices=1, precision=args.precision, loggers=Losses(args.folder / "litgpt"))
    frequencies = {name: b.clone() for name, b in model.named_buffers() if name.endswith("inv_freq")}
    wrapped = fabric.setup(Model(model))
    for name, kept in frequencies.items():  # narrowed with the weights, which ours and transformers do not do
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, kept)
    adamw = torch.optim.AdamW(wrapped.parameters(), lr=LR, betas=BETAS, weight_decay=0.0, fused=True)
    adamw.register_step_post_hook(lambda *_: meter.step())
    seen = np.load(args.folder / "blocks.npy")
    loader = fabric.setup_dataloaders(
        torch.utils.data.DataLoader(torch.from_numpy(seen), batch_size=args.sequences_per_micro)
    )
    fit(
        fabric=fabric,
        devices=1,
        state={"model": wrapped, "optimizer": fabric.setup_optimizers(adamw), "iter_num": 0, "step_count": 0},
        train_dataloader=loader,
        val_dataloader=[torch.from_numpy(seen[:1])],  # it tries validation once before it trains
        out_dir=args.folder / "litgpt",
        tokenizer_dir=None,
        train=TrainArgs(
            save_interval=None,
            global_batch_size=args.sequences_per_step,
            micro_batch_size=args.sequences_per_micro,
            max_tokens=args.steps * args.sequences_per_step * args.sequence_length,
            lr_warmup_steps=0,
            max_norm=1.0,
            min_lr=LR,  # from LR down to LR
        ),
        eval=EvalArgs(interval=args.steps + 1, initial_validation=False, final_validation=False),
    )
    return meter.report(args, seen) | {"version": importlib.metadata.version("litgpt")}


def main() -> None:
    roles: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "prepare": prepare,
        "peak": peak,
        "ours": ours,
        "trainer": trainer,
        "litgpt": litgpt,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=roles)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--precision", choices=DTYPES)
    parser.add_argument("--sequence-length", type=int)
    parser.add_argument("--sequences-per-step", type=int)
    parser.add_argument("--sequences-per-micro", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup", type=int)
    parser.add_argument("--z-loss", type=float, default=0.0)
    parser.add_argument("--shard", choices=["dense", "documents"], default="dense")
    args = parser.parse_args()
    answer(lambda: roles[args.role](args))


if __name__ == "__main__":
    main()
