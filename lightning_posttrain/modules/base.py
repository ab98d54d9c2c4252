"""The loop that carries every method: one Lightning batch is one optimizer step.

A step arrives as micro-batches with divisors for the whole step, so the loss does not depend on how it was cut or on
how many ranks share it. A method only says what a micro-batch's loss is (`micro_loss`); this module does the rest:
backward per micro-batch with one gradient sync, the finite check, clipping, step, schedule, logging. Random numbers
(dropout) are a function of (seed, step, rank), so a resumed run needs no generator state.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ..batching.loader import EpochLoader
from ..metrics.nll import TokenNLL
from ..models.spec import LoadSpec, LoraSpec
from ..ops.logprobs import token_logprobs
from ..ops.seeds import seeded
from ..ops.sharding import full
from ..rollout.linears import Dtype
from ..rollout.sampler import SamplingParams, generate
from ..text.spec import ChatSpec
from ..text.tokenizer import TokenizerSpec, tokenizer_fingerprint
from ..types import Completion, MicroBatch, Record, StepBatch
from .backward import backward
from .building import BuildsPolicy
from .finite import check_finite, check_first_gradient
from .optim import OptimizerSpec, ScheduleSpec, build_optimizer, check_numbers, schedule_factor
from .resume import check_identity, check_parameters
from .skip_step import SkipStep
from .strategies import deepspeed_engine, has_own_masters, set_up_strategy
from .trainer_checks import batches_of, check_trainer


class PolicyModule(BuildsPolicy):
    """A language model and the loop that trains it.

    Args:
        pretrained: folder, GGUF file or hub id of weights, or folder of an adapter; brings its own tokenizer.
        architecture: config fields with ``model_type``, or the ``name`` of an Olmo 3 model (olmo3_1m to olmo3_1b) and
            what differs, for random weights; used when ``pretrained`` is null.
        tokenizer: of a model with random weights; with ``pretrained`` only its ``source`` or ``pad_token``.
        lora: train adapters instead of all weights.
        load: quantisation, gradient checkpointing, compilation.
        optimizer: its name and numbers.
        schedule: learning rate over the run.
        max_grad_norm: gradients are scaled down to this 2-norm; null = only measured.
        chat: chat format and stop tokens.
        sampling: how `predict` draws answers.
        seed: of random weights, adapters and dropout.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        architecture: dict[str, Any] | None = None,
        tokenizer: TokenizerSpec = TokenizerSpec(),
        lora: LoraSpec | None = None,
        load: LoadSpec = LoadSpec(),
        optimizer: OptimizerSpec = OptimizerSpec(),
        schedule: ScheduleSpec = ScheduleSpec(),
        max_grad_norm: float | None = 1.0,
        chat: ChatSpec = ChatSpec(),
        sampling: SamplingParams = SamplingParams(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_numbers(optimizer)
        self.automatic_optimization = False
        self.pretrained, self.architecture, self.lora, self.load = pretrained, architecture, lora, load
        self.optimizer_spec, self.schedule_spec = optimizer, schedule
        self.max_grad_norm, self.seed = max_grad_norm, seed
        self.tokenizer_spec, self.chat, self.sampling = tokenizer, chat, sampling
        self.model: Any = None
        self.val_nll = TokenNLL()
        self.skip_step = None if optimizer.skip_sigma is None else SkipStep(optimizer.skip_sigma)
        self.updated: Sequence[StepBatch] = []
        self.phase_seconds: dict[str, float] = {}
        self._loader_state: dict[str, Any] | None = None
        self.check_resume: Callable[[dict[str, Any]], None] | None = None

    answers_are = "generated"
    """Where `answers` come from, for records of evaluations."""

    updates_per_batch = 1
    """Optimizer steps that are made of one batch of the loader."""

    @abstractmethod
    def micro_loss(self, micro: MicroBatch, step: StepBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's share of the step's loss, and detached sums to log with the step.

        Returns:
            A scalar that, summed over the micro-batches of all ranks, is the loss of the step; and ``{name: sum}``,
            each of which is summed the same way and logged as ``train/<name>``.
        """

    # ---- the optimizer --------------------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[L.Callback]:
        """Refuse the Trainer's flags that this loop owns, before Lightning's own check of them."""
        check_trainer(self.trainer)
        set_up_strategy(self.trainer, self.max_grad_norm, self.optimizer_spec.skip_sigma)
        return []

    def configure_optimizers(self) -> Any:
        # DeepSpeed keeps float32 weights of its own
        optimizer = build_optimizer(self.model, self.optimizer_spec, masters=not has_own_masters(self.trainer))
        factor = schedule_factor(self.schedule_spec, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": LambdaLR(optimizer, factor)}

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        steps = batches_of(self.trainer) * self.updates_per_batch
        return steps if self.trainer.max_steps < 0 else min(steps, self.trainer.max_steps)

    def _apply(self, fn: Any, recurse: bool = True) -> PolicyModule:
        """Keep rotary frequencies in float32: positions in the thousands times a bf16 frequency are off by radians."""
        kept = {name: buffer for name, buffer in self.named_buffers() if name.endswith("inv_freq")}
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            owner, _, leaf = name.rpartition(".")
            module = self.get_submodule(owner)
            module._buffers[leaf] = buffer.to(module._buffers[leaf].device)  # type: ignore[union-attr]
        return self

    # ---- training -------------------------------------------------------------------------------------------------

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        self.updated = [batch]
        with self.phase("learning"):
            values = self.update(batch)
        self.log_step(values)

    def update(self, batch: StepBatch) -> dict[str, Tensor | float]:
        """One optimizer step; what is to be logged of it."""
        optimizer: Any = self.optimizers()
        step, engine = self.global_step, deepspeed_engine(self.trainer)
        with seeded(self.device, self.seed, step, self.global_rank):
            logged: dict[str, Any] = backward(self, batch, engine)
        if engine is None:
            limit = torch.inf if self.max_grad_norm is None else self.max_grad_norm
            norm = full(torch.nn.utils.clip_grad_norm_((p for p in self.parameters() if p.grad is not None), limit))
            check_finite(self.model, batch, step, logged["loss"], norm)
            check_first_gradient(torch.as_tensor(logged["loss"]), norm, step)
        else:  # holds gradients, clips, steps and clears them in one
            check_finite(self.model, batch, step, logged["loss"])
            optimizer.step()
            norm = torch.tensor(float(engine.get_global_grad_norm() or 0.0))
            check_finite(self.model, batch, step, logged["loss"], norm, updated=True)
        if self.skip_step is not None:
            logged["skipped"] = float(self.skip_step.stands_out(float(logged["loss"]), float(norm)))
            if logged["skipped"]:
                optimizer.zero_grad(set_to_none=True)  # without gradients a step changes neither weights nor moments
        if engine is None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        schedule: Any = self.lr_schedulers()
        lr = optimizer.param_groups[0]["lr"]
        if schedule is not None:
            schedule.step()
        return {**logged, "grad_norm": norm, "lr": lr}

    def log_step(self, values: Mapping[str, Tensor | float]) -> None:
        """Log ``train/<name>`` for this step, whose number is that after its update: Lightning counts from 0."""
        tagged = {f"train/{k}": v for k, v in values.items()}
        self.log_dict({**tagged, "step": float(self.global_step)}, batch_size=1)
        self.log("loss", values["loss"], prog_bar=True, logger=False, batch_size=1)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the wall time inside to ``phase_seconds[name]``, which whoever logs it empties."""
        began = time.perf_counter()
        yield
        self.phase_seconds[name] = self.phase_seconds.get(name, 0.0) + time.perf_counter() - began

    # ---- validation -----------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Every validation sees the same steps, however many of them the one before took."""
        loaders = self.trainer.test_dataloaders if self.trainer.testing else self.trainer.val_dataloaders
        for loader in CombinedLoader(loaders).flattened:
            if isinstance(loader, EpochLoader):
                loader.rewind()

    on_test_start = on_validation_start

    def validation_step(self, batch: StepBatch, batch_idx: int) -> None:
        for micro in batch.micros:
            logps = token_logprobs(self.model, micro)
            if not micro.idle:
                self.val_nll.update(logps)

    def on_validation_epoch_end(self) -> None:
        if self.val_nll.update_called:
            self.log_validation({"nll": self.val_nll.compute().float()}, shown="nll")
            self.val_nll.reset()

    def log_validation(self, values: Mapping[str, Tensor], shown: str) -> None:
        """Log ``val/<name>``, the same on all ranks; the progress bar shows one of them."""
        for name, value in values.items():
            self.log(f"val/{name}", value, prog_bar=name == shown, sync_dist=False)
        if self.trainer.state.fn == "fit":
            self.log("step", float(self.global_step))

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end

    def answers(
        self,
        records: Sequence[Record],
        sampling: SamplingParams,
        *,
        n: int = 1,
        seed: int = 0,
        keys: Sequence[int | str] | None = None,
        max_rows: int = 128,
        dtype: Dtype = "model",
    ) -> list[list[Completion]]:
        """``n`` answers to each record's prompt, ``[record][sample]``; arguments as in `rollout.sampler.generate`.

        Drawn as at step 0, whatever the step: differences between evaluations are the policy's.
        """
        prompts = [self.renderer.question(record) for record in records]
        how = {"n": n, "seed": seed, "keys": keys, "max_rows": max_rows, "dtype": dtype}
        how["origins"] = [r.origin or r.id for r in records]
        return generate(self.model, prompts, sampling, self.renderer.stop_ids, self.decode, **how)  # type: ignore[arg-type]

    def predict_step(self, batch: list[dict[str, Any]], batch_idx: int) -> list[dict[str, Any]]:
        """Answers to prompts ``{"id", "key", "prompt": [{"role", "content", ...}], "template_kwargs"}`` (optional)."""
        records = [Record.asked(row) for row in batch]
        groups = self.answers(records, self.sampling, seed=self.seed, keys=[row["key"] for row in batch])
        answers = [{"prediction": c.text, "finished": c.finished, "tokens": len(c.tokens)} for (c,) in groups]
        return [{"id": row["id"], "prompt": row["prompt"], **a} for row, a in zip(batch, answers, strict=True)]

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only what was trained (a frozen base is named in the config), and where the loader stands."""
        keep = {name for name, p in self.named_parameters() if p.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in keep}
        checkpoint["identity"] = self._identity
        if self.skip_step is not None:
            checkpoint["skip_step"] = self.skip_step.state_dict()
        loader = self.trainer.train_dataloader
        if isinstance(loader, EpochLoader):
            checkpoint["step_loader"] = loader.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what would be ignored or would mean something else, and remember where the loader stood."""
        fitting = self._trainer is not None and self._trainer.state.fn == "fit"
        if fitting and self.check_resume is not None:
            self.check_resume(checkpoint)
        check_identity(checkpoint.get("identity", {}), self._identity, fitting)
        self._loader_state = checkpoint.get("step_loader")
        if self.skip_step is not None and "skip_step" in checkpoint:
            self.skip_step.load_state_dict(checkpoint["skip_step"])

    @cached_property
    def _identity(self) -> dict[str, Any]:
        optimizer = {f"optimizer.{name}": value for name, value in asdict(self.optimizer_spec).items()}
        return {"tokenizer": tokenizer_fingerprint(self.tokenizer), **optimizer}

    def on_train_start(self) -> None:
        """Put the loader where the checkpoint left it, before its first batch is built.

        Lightning restores a loader only if nothing asked for its length earlier, and a schedule must ask.
        """
        loader = self.trainer.train_dataloader
        if self._loader_state is not None and isinstance(loader, EpochLoader):
            loader.load_state_dict(self._loader_state)
            self._loader_state = None

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load trained parameters; anything else in the model stays as it was built."""
        check_parameters(state_dict, {name: p for name, p in self.named_parameters() if p.requires_grad})
        return super().load_state_dict(state_dict, strict=False, assign=assign)
