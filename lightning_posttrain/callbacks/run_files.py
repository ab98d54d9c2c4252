"""The run directory: what was asked for (config.yaml) and what it ran on (run.json).

A run that is resumed keeps the configuration it began with; run.json lists its parts, with what each one changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ..batching.mix import Mixture
from ..env_config import load_text
from ..modules.resume_changes import Change, changes, check_changes
from ..records.files import read_json, write_text
from ..types import UserError

PACKAGES = ("lightning-posttrain", "torch", "lightning", "transformers", "peft", "bitsandbytes", "torchmetrics")


class RunFiles(L.Callback):
    """Writes ``config.yaml`` when the data is ready, and ``run.json`` then and again at the end, in every command.

    Args:
        run_dir: the run directory.
        configuration: the resolved configuration as the text of ``config.yaml``.
        resume_changes: what happens to a resumed run that would compute something else, ``refuse`` or ``record``.
    """

    def __init__(self, run_dir: Path, configuration: Callable[[], str], resume_changes: str = "refuse") -> None:
        self.run_dir, self.configuration, self.resume_changes = run_dir, configuration, resume_changes
        self.facts: dict[str, Any] = {}
        self.changes: list[Change] = []
        self.resumed, self.from_step = False, 0

    # ---- what a checkpoint knows of its run --------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            pl_module.check_resume = partial(self._check_resume, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        weights = self._weights(pl_module) if trainer.is_global_zero else None
        checkpoint["run"] = {"configuration": self.configuration(), "parent_sha256": weights}

    def _check_resume(self, module: Any, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with another configuration or other weights than those of the checkpoint."""
        saved = checkpoint.get("run")
        self.resumed, self.from_step = True, int(checkpoint["global_step"])
        if saved is None:  # written without a configuration
            return
        before, now = (load_text(text, "config.yaml") for text in (saved["configuration"], self.configuration()))
        self.changes = changes(before, now)
        named = next((change for change in self.changes if change.option == "model.pretrained"), None)
        weights = self._weights(module)
        if weights != saved["parent_sha256"] or (named and weights is None):
            was = f" ({named.before} when it began)" if named else ""
            raise UserError(
                f"cannot resume: model.pretrained={module.pretrained}: these are other weights than those the run "
                f"began with{was}; restore them, or start a new run"
            )
        cut = getattr(getattr(module, "objective", None), "normaliser", None) == "micro_tokens"
        constant = module.schedule_spec.name == "constant"
        for said in check_changes(self.changes, self.resume_changes == "record", constant, cut):
            if not rank_zero_only.rank:  # type: ignore[attr-defined]
                print(f"resumed: {said}", file=sys.stderr)

    def _weights(self, module: Any) -> str | None:
        if not hasattr(self, "_hashed"):
            self._hashed = weights_sha256(module.pretrained)
        return self._hashed

    # ---- what is written ---------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.strategy.restore_checkpoint_after_setup:  # a sharded run learns later whether it may resume
            self._start(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not self.facts:
            self._start(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self._start(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._start(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._start(trainer, pl_module)

    def _start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        earlier = read_json(self.run_dir / "run.json") if self.resumed else {}
        if not self.resumed or not (self.run_dir / "config.yaml").exists():
            write_text(self.run_dir / "config.yaml", self.configuration())
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        trained = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        self.facts = {
            "command": str(trainer.state.fn.value) if trainer.state.fn else None,
            "status": "running",
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "git": git_state(),
            "packages": package_versions(),
            "python": platform.python_version(),
            "device": device_name(trainer.strategy.root_device),
            "world_size": trainer.world_size,
            "seed": pl_module.seed,
            "parent": pl_module.pretrained,
            "parent_sha256": self._weights(pl_module),
            "parameters": {"total": sum(p.numel() for p in pl_module.parameters()), "trained": trained},
            "data": data.fingerprints() if hasattr(data, "fingerprints") else {},
            "wall_seconds": 0.0,
        }
        if getattr(data, "mixture", None) is not None:
            self.facts["mixture"] = data.mixture.report()
        if getattr(pl_module, "plan", None) is not None:
            self.facts["plan"] = pl_module.plan.facts()
        if trainer.state.fn == "fit":
            self.facts["parts"] = [*earlier.get("parts", []), self._part()]
        self.began = time.perf_counter()
        self._write()

    def _part(self) -> dict[str, Any]:
        """This process's part of a run that may have been resumed."""
        names = ("status", "started", "git", "packages", "device", "world_size", "wall_seconds")
        differ = {c.option: {"before": c.before, "now": c.now} for c in self.changes}
        steps = {"from_step": self.from_step, "steps": self.from_step}
        return {**{name: self.facts[name] for name in names}, **steps, "changes": differ}

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._finish(trainer, "finished")

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self._finish(trainer, "finished")

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._finish(trainer, "finished")

    def on_predict_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._finish(trainer, "finished")

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._finish(trainer, f"stopped: {type(exception).__name__}")

    def _finish(self, trainer: L.Trainer, status: str) -> None:
        if trainer.is_global_zero and self.facts:
            if status == "finished" and trainer.state.fn == "fit":
                self.facts["model_sha256"] = weights_sha256(self.run_dir / "model")
            took = round(time.perf_counter() - self.began, 3)
            self.facts |= {"status": status, "steps": trainer.global_step, "wall_seconds": took}
            if "parts" in self.facts:
                self.facts["parts"][-1] |= {k: self.facts[k] for k in ("status", "steps", "wall_seconds")}
            self._put_mixture(trainer)
            self._write()

    def _put_mixture(self, trainer: L.Trainer) -> None:
        """What was trained of each source, in place of what a whole run would: it may have ended before."""
        mixture = getattr(trainer.train_dataloader, "source", None)
        if trainer.state.fn != "fit" or not isinstance(mixture, Mixture):
            return
        module: Any = trainer.lightning_module
        items = trainer.train_dataloader.items(trainer.global_step // module.updates_per_batch)  # type: ignore[union-attr]
        self.facts["mixture"] = mixture.report(items)
        if mixture.unit[0] == "tokens":
            self.facts["tokens"] = sum(part["tokens"] for part in self.facts["mixture"].values())

    def _write(self) -> None:
        write_json(self.run_dir / "run.json", self.facts)


def weights_sha256(folder: str | Path | None) -> str | None:
    """sha256 over the weight files of a model's or adapter's folder; None where there is no such folder (a hub id)."""
    files = sorted(Path(folder).glob("*.safetensors")) if folder is not None else []
    if not files:
        return None
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """JSON lines, ASCII only: a lone surrogate in a model's answer must not stop a run."""
    write_text(path, "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines))


def package_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it has changes; None outside a repository."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "changed": bool(changed.stdout.strip())}


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
