"""Notices when a policy stops earning what it is trained for, whatever its total reward says."""

from __future__ import annotations

import sys
from typing import Any, Literal

import lightning as L

from ..types import UserError


class CollapseGuard(L.Callback):
    """Follows one reward, smoothed, and acts when it has fallen far below its best.

    A policy that learns too fast often ends in answers that collect an easy part of the reward, such as the format's.
    The total may then still rise; the reward that matters does not. Logs ``guard/smoothed`` and ``guard/best``.

    Args:
        monitor: what is followed, as it is logged every step, such as ``rollout/rewards/correctness``.
        drop: what must be lost from the best smoothed value, as a share of the largest absolute value (smoothed too):
            0.5 is a fall from 0.8 below 0.4, or from -1 below -3 for a reward that has been at -4.
        smoothing: weight of the past in the smoothed value, in [0, 1); 0.9 looks back about ten steps.
        min_steps: steps before anything is judged; the best is looked for from then on.
        action: ``stop`` ends the run after this step; ``warn`` says so once and goes on.

    Raises:
        UserError: a number out of range, or (at the first step) a ``monitor`` that is not logged.
    """

    def __init__(
        self,
        monitor: str = "rollout/reward",
        drop: float = 0.5,
        smoothing: float = 0.9,
        min_steps: int = 20,
        action: Literal["stop", "warn"] = "stop",
    ) -> None:
        if not 0 < drop <= 1:
            raise UserError(f"CollapseGuard: drop={drop}; give a share in (0, 1], such as 0.5")
        if not 0 <= smoothing < 1:
            raise UserError(f"CollapseGuard: smoothing={smoothing}; give a weight in [0, 1), such as 0.9")
        self.monitor, self.drop, self.smoothing = monitor, drop, smoothing
        self.min_steps, self.action = min_steps, action
        self.sum = self.absolute = self.weight = 0.0
        self.best: float | None = None
        self.size = 0.0
        self.steps = 0
        self.warned = False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            known = sorted(k for k in trainer.callback_metrics if k.startswith("rollout/"))
            raise UserError(f"CollapseGuard: monitor={self.monitor!r} is not logged; logged: {', '.join(known)}")
        self.sum = self.smoothing * self.sum + float(value)
        self.absolute = self.smoothing * self.absolute + abs(float(value))
        self.weight = self.smoothing * self.weight + 1.0
        self.steps += 1
        smoothed = self.sum / self.weight
        judged = self.best is not None and smoothed < self.best - self.drop * self.size
        if self.steps >= self.min_steps:
            self.best = smoothed if self.best is None else max(self.best, smoothed)
            self.size = max(self.size, self.absolute / self.weight)
        logged = {"guard/smoothed": smoothed} | ({} if self.best is None else {"guard/best": self.best})
        for logger in trainer.loggers:
            logger.log_metrics(logged, step=trainer.global_step)
        if judged and not self.warned:
            self._act(trainer, smoothed)

    def _act(self, trainer: L.Trainer, smoothed: float) -> None:
        self.warned = True
        trainer.should_stop = trainer.should_stop or self.action == "stop"
        if trainer.is_global_zero:
            done = "the run stops" if self.action == "stop" else "the run goes on"
            print(
                f"step {trainer.global_step}: {self.monitor} fell to {smoothed:.3f} from {self.best:.3f}, {done}; "
                "lower model.optimizer.lr, add a KL penalty (model.kl.beta) or give the other rewards less weight",
                file=sys.stderr,
            )

    def state_dict(self) -> dict[str, Any]:
        names = ("sum", "absolute", "weight", "best", "size", "steps", "warned")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)
