"""Optimizers and learning-rate schedules, by the names people use.

Decay is not applied to vectors (biases, norms), nor to embeddings if so asked. Anything else in torch.optim comes in
through Lightning's ``--optimizer`` and ``--lr_scheduler``, which take the place of these.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from ..ops.logprobs import base_model
from ..types import UserError
from .master_weights import MasterWeights, master_copies


@dataclass(frozen=True)
class OptimizerSpec:
    """Which optimizer, and its numbers."""

    name: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "muon"] = "adamw"
    """``muon``: matrices of the decoder layers by Muon (Jordan et al. 2024), everything else by AdamW."""
    lr: float | None = 2e-5
    """Peak learning rate; null = the plan's, in pretraining."""
    betas: tuple[float, float] | None = (0.9, 0.999)
    """Decay rates of Adam's two moments; null = the plan's, in pretraining."""
    eps: float = 1e-8
    """Added to Adam's denominator."""
    weight_decay: float = 0.0
    """Decoupled decay of tensors with two or more dimensions."""
    decay_embeddings: bool = True
    """Whether the input embedding decays too."""
    skip_sigma: float | None = None
    """Leave out the update of a step whose loss or gradient norm is more than so many standard deviations above the
    mean of the last 128 steps (once there are 64); null = never."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon's matrices (its update is orthogonal, so its scale does not depend on the loss)."""


@dataclass(frozen=True)
class ScheduleSpec:
    """Learning rate over the run, as a factor on the peak."""

    name: Literal["cosine", "linear", "constant", "wsd", "wsds", "wsds_compat"] = "cosine"
    """``wsd``: warm up, stay, then decay linearly over the last ``decay_ratio`` of the steps. ``wsds``: several periods
    that each stay at the peak and then decay to zero (WSD-S, Wen et al. 2024, arXiv:2410.05192); ``wsds_compat``: with
    the periods of the original olmix runs, after which nothing is learned (pretraining only)."""
    warmup_ratio: float = 0.0
    """Share of the steps spent rising linearly to the peak; not with ``warmup_steps``."""
    warmup_steps: int = 0
    """The same in steps."""
    decay_ratio: float = 0.1
    """Share of the steps of the final decay (``wsd``), or of each period's steps (``wsds``)."""
    min_ratio: float = 0.0
    """Factor that the decay reaches one step after the run's last, so that the last step learns something even with 0:
    a linear decay of n steps ends 1/n of its way above this (not ``constant``, not ``wsds``)."""
    period_ends: list[float] = field(default_factory=list)
    """Where the periods of ``wsds`` end, as rising shares of the run; empty = the plan's, in pretraining."""


def check_numbers(spec: OptimizerSpec) -> None:
    """Refuse numbers that no optimizer takes.

    Raises:
        UserError: names the option.
    """
    betas = () if spec.betas is None else spec.betas
    rules: dict[str, tuple[Any, bool, str]] = {
        "lr": (spec.lr, spec.lr is None or 0 < spec.lr < math.inf, "a positive number"),
        "betas": (list(betas), all(0 <= beta < 1 for beta in betas), "two numbers from 0 to below 1"),
        "eps": (spec.eps, 0 <= spec.eps < math.inf, "0 or a positive number"),
        "weight_decay": (spec.weight_decay, 0 <= spec.weight_decay < math.inf, "0 or a positive number"),
        "skip_sigma": (spec.skip_sigma, spec.skip_sigma is None or spec.skip_sigma > 0, "a positive number, or null"),
        "muon_lr": (spec.muon_lr, 0 < spec.muon_lr < math.inf, "a positive number"),
    }
    for name, (value, right, remedy) in rules.items():
        if not right:
            raise UserError(f"model.optimizer.{name}={value}: give {remedy}")


def build_optimizer(model: nn.Module, spec: OptimizerSpec, masters: bool = True) -> Optimizer:
    """The optimizer over ``model``'s trainable parameters.

    Args:
        model: the policy.
        spec: which, and its numbers.
        masters: change float32 copies of weights that are narrower (`master_weights`); false where the strategy does.

    Raises:
        UserError: a number out of range, or nothing to train.
    """
    if spec.lr is None or spec.betas is None:
        raise UserError(
            "optimizer: lr and betas may be null in pretraining with a plan only (model.chinchilla); set them"
        )
    check_numbers(spec)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise UserError("the model has no trainable parameter")
    matrices = _muon_matrices(model) if spec.name == "muon" else set()
    copies = master_copies(trained) if masters else {}

    def wide(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
        return [copies.get(p, p) for p in parameters]

    rest = _by_decay(model, spec, [p for p in trained if id(p) not in matrices])
    groups = [{**group, "params": wide(group["params"])} for group in rest if group["params"]]
    optimizer = _over(groups, wide([p for p in trained if id(p) in matrices]), spec)
    return MasterWeights(optimizer, copies) if copies else optimizer


def _by_decay(model: nn.Module, spec: OptimizerSpec, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Groups of the parameters that decay and of those that do not."""
    kept = set() if spec.decay_embeddings else {id(p) for p in base_model(model).get_input_embeddings().parameters()}
    decaying = {id(p) for p in parameters if p.ndim >= 2 and id(p) not in kept}
    return [
        {"params": [p for p in parameters if id(p) in decaying], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if id(p) not in decaying], "weight_decay": 0.0},
    ]


def _over(groups: list[dict[str, Any]], matrices: list[nn.Parameter], spec: OptimizerSpec) -> Optimizer:
    """The optimizer of ``spec`` over ``groups``, with Muon over ``matrices``."""
    numbers: dict[str, Any] = {"lr": spec.lr, "betas": spec.betas, "eps": spec.eps}
    if spec.name in ("adamw", "muon"):
        devices = {p.device.type for group in groups for p in group["params"]}
        adamw = torch.optim.AdamW(groups, **numbers, fused=devices <= {"cpu", "cuda"})
        if spec.name == "adamw":
            return adamw
        return MuonAdamW(torch.optim.Muon(matrices, lr=spec.muon_lr, weight_decay=spec.weight_decay), adamw)
    from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit

    kind = PagedAdamW8bit if spec.name == "paged_adamw_8bit" else AdamW8bit
    return kind(groups, **numbers)


def _muon_matrices(model: nn.Module) -> set[int]:
    """Ids of the 2-D weights inside the decoder's layers: not embeddings, not the head."""
    layers = [m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and n.endswith("layers")]
    found = {id(p) for stack in layers for p in stack.parameters() if p.ndim == 2 and p.requires_grad}
    if not found:
        raise UserError("optimizer.name=muon: the model has no trainable matrices in its layers; use adamw")
    return found


class MuonAdamW(Optimizer):
    """Two optimizers as one, with the groups and the state that schedulers and checkpoints expect."""

    def __init__(self, muon: Optimizer, adamw: Optimizer) -> None:
        self.parts = (muon, adamw)
        self.defaults: dict[str, Any] = {}
        super().__init__([{"params": g["params"]} for p in self.parts for g in p.param_groups], {})
        self.param_groups = [g for p in self.parts for g in p.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [p.state_dict() for p in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [g for p in self.parts for g in p.param_groups]


def schedule_factor(spec: ScheduleSpec, total_steps: int) -> Callable[[int], float]:
    """Factor on the peak learning rate for step 0, 1, ..., total_steps - 1.

    Raises:
        UserError: warm-up given twice, or shares that do not fit into the run.
    """
    if spec.warmup_ratio and spec.warmup_steps:
        raise UserError("schedule: give warmup_ratio or warmup_steps, not both")
    warmup = spec.warmup_steps or math.ceil(spec.warmup_ratio * total_steps)
    if spec.name in ("wsds", "wsds_compat"):
        return _periods(spec, warmup, total_steps)
    decay = math.ceil(spec.decay_ratio * total_steps) if spec.name == "wsd" else total_steps - warmup
    if not 0 <= warmup <= total_steps or not 0 <= decay <= total_steps - warmup:
        raise UserError(f"schedule: {warmup} warm-up and {decay} decay steps do not fit into {total_steps} steps")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, max(0.0, (step - (total_steps - decay)) / max(1, decay)))
        if spec.name == "constant":
            return 1.0
        shape = 0.5 * (1 + math.cos(math.pi * progress)) if spec.name == "cosine" else 1 - progress
        return spec.min_ratio + (1 - spec.min_ratio) * shape

    return factor


def _periods(spec: ScheduleSpec, warmup: int, total_steps: int) -> Callable[[int], float]:
    """WSD-S: in each period a plateau, then a straight line to zero at its end; the next begins at the peak again."""
    shares = spec.period_ends
    if not shares or any(b <= a for a, b in pairwise([0.0, *shares])) or shares[-1] > 1:
        raise UserError(
            f"schedule.period_ends={shares}: give rising shares of the run, the last at most 1, or in pretraining "
            "model.chinchilla"
        )
    if not 0 < spec.decay_ratio <= 1:
        raise UserError(f"schedule.decay_ratio={spec.decay_ratio}: each period of wsds ends with one; give 0 to 1")
    ends = [share * total_steps for share in shares]
    if warmup > ends[0] * (1 - spec.decay_ratio):
        raise UserError(
            f"schedule: {warmup} warm-up steps of {total_steps} do not fit before step "
            f"{ends[0] * (1 - spec.decay_ratio):.3g}, from which the first period decays; train more steps, warm up "
            "for fewer, or set model.schedule.name to constant"
        )

    def factor(step: int) -> float:
        number = step + 1
        if number <= warmup:
            return number / warmup
        at = bisect_left(ends, number)
        if at == len(ends):  # only where the last period ends before the run
            return 0.0
        length = ends[at] - (ends[at - 1] if at else 0.0)
        return min(1.0, (ends[at] - number) / (spec.decay_ratio * length))

    return factor
