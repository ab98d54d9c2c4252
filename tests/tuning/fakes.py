"""Runs that take no training: what a run directory has at its end, and studies of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_posttrain.tuning.loop import Job, Loop
from lightning_posttrain.tuning.settings import Objective, StudySettings
from lightning_posttrain.tuning.space import Dimension
from lightning_posttrain.tuning.storage import StudyStorage
from lightning_posttrain.tuning.study import SharedStudy

LR, EPOCHS = "model.optimizer.lr", "trainer.max_epochs"
ACCURACY = "eval/banking77/accuracy"
SPACE = {
    LR: Dimension("categorical", [1e-5, 2e-5, 5e-5]),
    EPOCHS: Dimension("categorical", [1, 3]),
}


def settings(folder: Path, **changes: Any) -> StudySettings:
    """Six points of a grid, for the accuracy on banking77."""
    base = folder / "base.yaml"
    if not base.exists():
        base.write_text("model: {class_path: SFTModule}\n")
    given: dict[str, Any] = {
        "folder": folder / "study",
        "base": [str(base)],
        "space": SPACE,
        "objectives": [Objective(ACCURACY, "maximize")],
        "sampler": "grid",
        "name": "fake",
    }
    return StudySettings(**{**given, **changes})


def open_study(given: StudySettings) -> SharedStudy:
    return SharedStudy(given, StudyStorage(given.storage, given.folder, given.name))


def evaluate(folder: Path, step: int, value: float, task: str = "banking77") -> None:
    """What a GenerationEval leaves."""
    place = folder / "eval" / f"step_{step:06d}" / task
    place.mkdir(parents=True, exist_ok=True)
    facts = {"task": task, "step": step, "n": 100, "metrics": {"accuracy": value, "loss": 1 - value}}
    (place / "metrics.json").write_text(json.dumps({**facts, "stderr": {"accuracy": 0.04}}))


def finish(folder: Path, config: dict[str, Any] | None = None) -> None:
    """What the end of a run leaves."""
    for name in ("model", "checkpoints"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "weights").write_text("weights")
    found = {
        "trainer": {"max_epochs": 1, "default_root_dir": str(folder)},
        "run": {"dir": str(folder), "resume": True},
        "checkpoint": {"dirpath": str(folder / "checkpoints"), "keep": 2},
        **(config or {}),
    }
    (folder / "config.yaml").write_text(json.dumps(found))
    (folder / "run.json").write_text(json.dumps({"status": "finished"}))


def quality(params: dict[str, Any]) -> float:
    """The best of the grid is lr 2e-5 with 3 epochs."""
    return 0.5 + 0.1 * (params[LR] == 2e-5) + 0.05 * params.get(EPOCHS, 1)


class FakeRuns:
    """A runner that keeps what it ran.

    Args:
        value: of the objective, by parameters.
        codes: number of a trial -> exit code in place of 0.
        says: number of a trial -> what it writes to its log.
    """

    def __init__(
        self,
        value: Callable[[dict[str, Any]], float] = quality,
        codes: dict[int, int] | None = None,
        says: dict[int, str] | None = None,
    ) -> None:
        self.value, self.codes, self.says = value, codes or {}, says or {}
        self.ran: list[int] = []
        self.params: list[dict[str, Any]] = []

    def __call__(self, job: Job, look: Callable[[], bool]) -> int:
        self.ran.append(job.number)
        self.params.append(dict(job.params))
        with job.log.open("a") as log:
            log.write(f"$ lightning-posttrain fit\n{self.says.get(job.number, 'trained')}\n")
        look()
        if code := self.codes.get(job.number, 0):
            return code
        evaluate(job.folder, 10, self.value(dict(job.params)))
        finish(job.folder)
        return 0


def go(given: StudySettings, runs: Any = None, received: list[int] | None = None) -> SharedStudy:
    """The study after a process worked on it."""
    study = open_study(given)
    Loop(study, runs or FakeRuns(), received if received is not None else []).go()
    return study
