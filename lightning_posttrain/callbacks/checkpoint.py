"""When checkpoints are written, which are kept, and how a run stops.

A checkpoint is always the state right after an optimizer step. Signals never interrupt a step or a write: SIGTERM and
SIGINT finish the step, save, and exit with 143 and 130. An exception writes nothing: a step that was cut short is not
a state to resume, and replaying from the newest checkpoint gives the same numbers.
"""

from __future__ import annotations

import math
import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from ..batching.loader import EpochLoader
from ..types import UserError
from .cadence import passed, total_steps
from .checkpoint_folders import save_folder, writes_folders
from .checkpoint_io import AtomicCheckpointIO, Manifest, checkpoints_in, find_resume, set_score, sweep
from .monitored import check_monitor
from .run_lock import RunLock
from .signals import Interrupted, Signals, keep_from_lightning

__all__ = ["Checkpoints", "Interrupted", "RunLock", "find_resume"]


class Checkpoints(Checkpoint):
    """Saves the run every few steps, before it stops, and at the end, as ``step-<n>.ckpt``; ``last.ckpt`` and
    ``best.ckpt`` are links. Takes care of the file format (`AtomicCheckpointIO`) and of one run per folder itself.

    A write that fails stops the run. With DeepSpeed, and FSDP2 if it is told so, a checkpoint is a folder of shards.

    Args:
        dirpath: folder of the checkpoints; null = ``checkpoints`` in the Trainer's ``default_root_dir``.
        every_n_steps: optimizer steps between checkpoints.
        keep: newest checkpoints that are kept; at least 2, so that a damaged one is no end.
        monitor: metric logged at every validation whose best checkpoint is kept as well; null = none.
        mode: whether the best ``monitor`` is the smallest or the largest.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        every_n_steps: int = 100,
        keep: int = 2,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        if every_n_steps < 1:
            raise UserError(f"checkpoint.every_n_steps={every_n_steps}: give a positive number")
        if keep < 2:
            raise UserError(
                f"checkpoint.keep={keep}: keep at least 2, so that a damaged newest one is not the only one"
            )
        if mode not in ("min", "max"):
            raise UserError(f"checkpoint.mode={mode!r}: give min or max")
        self.dirpath, self.every_n_steps, self.keep = dirpath, every_n_steps, keep
        self.monitor, self.mode = monitor, mode
        self.folder = Path(dirpath or "checkpoints")
        self._lock: RunLock | None = None
        self._saved = 0
        self._last_step = 0
        self._total: float = math.inf
        self._unflushed = False
        self._resume_point: dict[str, Any] | None = None
        self._signals = Signals()
        self._stop = 0

    @property
    def best_model_path(self) -> str:
        """The checkpoint with the best ``monitor`` (what Lightning's ``ckpt_path: best`` reads); empty without one."""
        best = self._best(checkpoints_in(self.folder))
        return str(best) if best else ""

    # ---- start and end --------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Claim the folder and sweep it, before anything is loaded from it, and take over the signals."""
        keep_from_lightning(trainer)
        strategy = trainer.strategy
        if type(strategy.checkpoint_io) is TorchCheckpointIO:
            strategy.checkpoint_io = AtomicCheckpointIO()
        if not isinstance(strategy.checkpoint_io, AtomicCheckpointIO):
            raise UserError(
                f"Checkpoints cannot write through {type(strategy.checkpoint_io).__name__}; drop that plugin"
            )
        self.folder = Path(self.dirpath or Path(trainer.default_root_dir) / "checkpoints")
        if stage != "fit":
            return
        if trainer.is_global_zero:
            self._lock = RunLock(self.folder)
            self._lock.acquire()
            sweep(self.folder)
        # Alone, a run may end wherever it is until its first step; one of several ranks would leave the others waiting.
        self._signals = Signals(at_once=trainer.world_size == 1)
        self._signals.watch()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.strategy.restore_checkpoint_after_setup:  # a sharded run learns later that it resumes
            self._refuse_earlier_run(trainer)
        if self.monitor is not None and trainer.datamodule is not None:  # type: ignore[attr-defined]
            check_monitor(self.monitor, trainer, pl_module)

    def _refuse_earlier_run(self, trainer: L.Trainer) -> None:
        """Refuse to start from scratch on top of another run."""
        held = sorted(self.folder.glob("*.ckpt")) if trainer.ckpt_path is None else []
        if held:
            raise UserError(
                f"{self.folder} holds checkpoints of an earlier run ({held[-1].name}), this one starts from scratch; "
                "resume from one (find_resume names the newest intact one), or choose another folder"
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._refuse_earlier_run(trainer)
        self._saved = self._last_step = trainer.global_step
        self._total = total_steps(trainer, pl_module)
        self._signals.at_once = False
        self.stop_if_told(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._saved != trainer.global_step:  # stopped early, by a decision made after the last step
            self._save(trainer)
        self._settle(trainer)
        self._signals.unwatch()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._signals.unwatch()
        self._release()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    # ---- every step -----------------------------------------------------------------------------------------------

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._settle(trainer)
        self._resume_point = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        before, step = self._last_step, trainer.global_step
        self._last_step = step
        self._stop = self._agree(trainer)
        validates = _validation_follows(trainer)
        due = passed(self.every_n_steps, before, step) or trainer.should_stop or step >= self._total or self._stop
        due = due or (validates and self.monitor is not None)
        self._resume_point = _state_after_step(trainer, validates) if due or validates else None
        if due:
            self._save(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._settle(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.world_size == 1 or isinstance(trainer.val_dataloaders, EpochLoader):  # as many batches on all ranks
            self.stop_if_told(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the score of the checkpoint that was written before this validation."""
        if self.monitor is None or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        score = trainer.callback_metrics.get(self.monitor)
        if score is None:
            known = sorted(
                k for k in trainer.callback_metrics if k not in ("loss", "step") and not k.startswith("train/")
            )
            raise UserError(f"checkpoint.monitor={self.monitor!r} was not logged at this validation; logged: {known}")
        if trainer.is_global_zero:
            if not math.isnan(float(score)):
                set_score(self._path(trainer.global_step), float(score))
            self._tidy(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._settle(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Whenever it is written, the state is that after the step: a validation that followed is run again, whole."""
        if self._resume_point is not None:
            checkpoint["loops"]["fit_loop"] = self._resume_point["loop"]
            checkpoint["callbacks"] = self._resume_point["callbacks"]

    def _settle(self, trainer: L.Trainer) -> None:
        """After a step's metrics have reached the loggers: write them out with its checkpoint, and stop if asked to."""
        if self._unflushed:
            self._unflushed = False
            for logger in trainer.loggers:
                logger.save()
        if trainer.world_size == 1:
            self._stop = self._signals.received
        if self._stop and self._saved == trainer.global_step:
            if trainer.is_global_zero:
                kept = f"after step {self._saved}; its checkpoints are in {self.folder}"
                told = kept if self._saved else "before the first step"
                print(f"stopped {told}; exit code {128 + self._stop}", file=sys.stderr)
            raise Interrupted(self._stop)

    def stop_if_told(self, trainer: L.Trainer) -> None:
        """Between steps: save what is not saved yet, and stop, if any rank has received a signal; all have to ask."""
        if trainer.state.fn != "fit":
            return
        self._stop = self._agree(trainer)
        if self._stop:
            if trainer.sanity_checking:
                raise Interrupted(self._stop)
            if self._saved != trainer.global_step and self._resume_point is not None:
                self._save(trainer)
            self._settle(trainer)

    def _agree(self, trainer: L.Trainer) -> int:
        """The signal any rank has received, or 0."""
        if trainer.world_size == 1:
            return self._signals.received
        mine = torch.tensor(self._signals.received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(mine, reduce_op="max"))

    # ---- files ----------------------------------------------------------------------------------------------------

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.ckpt"

    def _save(self, trainer: L.Trainer) -> None:
        self._saved = trainer.global_step
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._unflushed = True
        path = self._path(self._saved)
        if writes_folders(trainer.strategy):
            save_folder(path, trainer.save_checkpoint, trainer.strategy.barrier, trainer.is_global_zero)
        else:
            trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            self._tidy(trainer)

    def _tidy(self, trainer: L.Trainer) -> None:
        """Point the links at the newest and the best checkpoint, then remove what is neither kept nor best."""
        found = checkpoints_in(self.folder)
        best = self._best([(path, m) for path, m in found if m.step <= trainer.global_step])
        if found:
            _link(self.folder / "last.ckpt", found[-1][0])
        if best is not None:
            _link(self.folder / "best.ckpt", best)
        for path, _ in found[: -self.keep]:
            if path != best:
                AtomicCheckpointIO().remove_checkpoint(path)

    def _best(self, found: list[tuple[Path, Manifest]]) -> Path | None:
        sign = 1 if self.mode == "min" else -1
        scored = [(sign * m.score, m.number, path) for path, m in found if m.score is not None]
        return min(scored)[2] if scored else None


def _validation_follows(trainer: L.Trainer) -> bool:
    """Whether Lightning validates after this step: its own question, asked one hook earlier."""
    loop = trainer.fit_loop
    if getattr(trainer, "_val_check_time_interval", None) is not None or loop._data_fetcher is None:
        return False
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def _state_after_step(trainer: L.Trainer, validates: bool) -> dict[str, Any]:
    """Loop and callback state to resume from, in place of Lightning's own at this point.

    Three things are put right. A run that resumed on the last batch of an epoch miscounts epochs, and one that resumed
    within a validation miscounts its batches, so that resuming them again goes wrong. And a validation that is due
    after the step would be skipped on resuming: it counts as begun.
    """
    loop, epoch = trainer.fit_loop.state_dict(), trainer.current_epoch
    for counts in ("total", "current"):
        begun = {"ready": epoch + 1, "started": epoch + 1, "processed": epoch, "completed": epoch}
        loop["epoch_progress"][counts] = begun
        loop["epoch_loop.batch_progress"][counts]["completed"] += validates
        seen = {"ready": int(validates), "started": int(validates), "processed": 0, "completed": 0}
        loop["epoch_loop.val_loop.batch_progress"][counts] = seen
    states = {callback.state_key: callback.state_dict() for callback in trainer.callbacks}  # type: ignore[attr-defined]
    return {"loop": loop, "callbacks": deepcopy({key: state for key, state in states.items() if state})}


def _link(link: Path, target: Path) -> None:
    """Make ``link`` a relative symlink to ``target``, atomically; where links do not exist, none is made."""
    temporary = link.with_name(f".tmp-{link.name}-{os.getpid()}")
    try:
        temporary.symlink_to(target.name)
        temporary.replace(link)
    except OSError:
        temporary.unlink(missing_ok=True)
