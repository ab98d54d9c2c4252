"""Pretraining: the next token of every document, with the recipe that belongs to a model's size."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..losses.nll import token_weights
from ..models.chinchilla import Plan
from ..models.config import architecture_fields
from ..models.olmo3 import non_embedding
from ..ops.logprobs import weighted_nll
from ..types import MicroBatch, StepBatch, UserError
from .base import PolicyModule
from .optim import OptimizerSpec, ScheduleSpec

OPTIMIZER = OptimizerSpec(lr=None, betas=None, weight_decay=0.1, decay_embeddings=False, skip_sigma=6.0)
SCHEDULE = ScheduleSpec(name="wsds")


class PretrainModule(PolicyModule):
    """Trains a causal language model on whole documents.

    The loss of a token is its NLL plus ``z_loss`` times the squared log-sum-exp of its logits (Chowdhery et al. 2022,
    arXiv:2204.02311, section 5). ``train/loss`` is the mean of both over the step's tokens, ``train/nll`` and
    ``train/z_loss`` are its parts; ``train/skipped`` is 1 for a step whose update was left out.

    Args:
        chinchilla: training tokens in units of 20 per parameter; decides tokens, batch, learning rate, warm-up and
            schedule where those are null (`models.chinchilla`). null = the data module says how long, and the optimizer
            how fast.
        z_loss: weight of the squared log-sum-exp.
        optimizer: SkipStep AdamW, embeddings without decay; ``lr`` and ``betas`` null are the plan's.
        schedule: WSD-S; empty ``period_ends`` and no warm-up are the plan's.
        **policy: see `PolicyModule`.
    """

    def __init__(
        self,
        chinchilla: float | None = None,
        z_loss: float = 1e-5,
        optimizer: OptimizerSpec = OPTIMIZER,
        schedule: ScheduleSpec = SCHEDULE,
        **policy: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule, **policy)
        if not z_loss >= 0:
            raise UserError(f"model.z_loss={z_loss}: give 0 or more, such as 1.0e-5")
        self.chinchilla, self.z_loss = chinchilla, z_loss

    @cached_property
    def plan(self) -> Plan | None:
        """What the model's size asks for; None without ``chinchilla``.

        Raises:
            UserError: the model has no architecture whose size could be known beforehand.
        """
        if self.chinchilla is None:
            return None
        if self.architecture is None or self.pretrained is not None:
            raise UserError(
                "model.chinchilla needs model.architecture; with pretrained weights set data.tokens instead"
            )
        size, _ = non_embedding(architecture_fields(self.architecture, len(self.tokenizer)))
        return Plan(size, self.chinchilla, self._step_tokens())

    def _step_tokens(self) -> int | None:
        """The batch in tokens that the data module was given, if any."""
        data = getattr(self._trainer, "datamodule", None)
        return getattr(data, "tokens_per_step", None)

    def configure_model(self) -> None:
        if self.plan is not None:  # before a checkpoint is compared with these numbers
            self.optimizer_spec, self.schedule_spec = planned(self.plan, self.optimizer_spec, self.schedule_spec)
        super().configure_model()

    def micro_loss(self, micro: MicroBatch, step: StepBatch) -> tuple[Tensor, dict[str, Tensor]]:
        weights = token_weights(len(micro.gather), step.num_tokens, torch.empty(0, device=micro.gather.device))
        loss, logps, z = weighted_nll(self.model, micro, weights, z_loss=self.z_loss)
        nll = -(weights * logps).sum()
        return loss, {"nll": nll, "z_loss": self.z_loss * (weights * z.square()).sum()}


def planned(plan: Plan, optimizer: OptimizerSpec, schedule: ScheduleSpec) -> tuple[OptimizerSpec, ScheduleSpec]:
    """The specs with the plan's numbers where they say nothing."""
    lr = plan.lr if optimizer.lr is None else optimizer.lr
    optimizer = replace(optimizer, lr=lr, betas=plan.betas if optimizer.betas is None else optimizer.betas)
    if schedule.name in ("wsds", "wsds_compat") and not schedule.period_ends:
        schedule = replace(schedule, period_ends=plan.period_ends(compat=schedule.name == "wsds_compat"))
        if not schedule.warmup_ratio and not schedule.warmup_steps:
            schedule = replace(schedule, warmup_ratio=plan.warmup_tokens / plan.tokens)
    return optimizer, schedule
