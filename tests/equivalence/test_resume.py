"""A run resumed from any of its checkpoints goes on as if it had never stopped: losses, rows, validations, weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers.logger import Logger

from lightning_posttrain.callbacks.checkpoint import find_resume
from lightning_posttrain.models.load import LoraSpec
from lightning_posttrain.modules.optim import ScheduleSpec
from tests.tinyrun import STEPS, train

EVERY = {"every_n_steps": 1, "keep": 100}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Stop(L.Callback):
    """Ends a run after a step, as a crash between two steps would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("crash")


class Logged(Logger):
    """The points of the curves that a logger would draw, each once, in order."""

    name, version = "logged", 0

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[tuple[int, str], float] = {}

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            assert self.points.setdefault((step or 0, name), value) == value, (step, name)


def after(lines: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """The record from the end of ``step`` on, its validation included."""
    return lines[next(i for i, line in enumerate(lines) if line.get("step") == step) + 1 :]


OPTIONS = [
    pytest.param({"max_epochs": 3}, id="validation-each-epoch"),
    pytest.param({"max_epochs": 2, "validate": False}, id="no-validation"),
    pytest.param({"max_epochs": 2, "val_check_interval": 2}, id="validation-within-epochs"),
    pytest.param({"max_epochs": 2, "check_val_every_n_epoch": None, "val_check_interval": 3}, id="validation-by-step"),
    pytest.param({"max_steps": STEPS + 2, "max_epochs": -1}, id="max-steps"),
    pytest.param({"max_epochs": 2, "module": {"lora": LoraSpec(dropout=0.3)}}, id="lora-dropout"),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_resuming_after_any_step_changes_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    whole, weights = train(tmp_path, checkpoints=EVERY, **options)
    steps = [line["step"] for line in whole if "step" in line]
    assert steps == list(range(1, len(steps) + 1))
    for step in steps:
        start = tmp_path / "checkpoints" / f"step-{step:08d}.ckpt"
        resumed = train(tmp_path / f"from-{step}", start, checkpoints=EVERY, **options)
        assert resumed == (after(whole, step), weights), f"resumed after step {step}"


@pytest.mark.parametrize("options", OPTIONS)
def test_stopping_after_every_single_step_changes_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    whole_curve, curve = Logged(), Logged()
    whole, weights = train(tmp_path / "whole", logger=whole_curve, log_every_n_steps=1, **options)
    folder, given = tmp_path / "stopped", {"logger": curve, "log_every_n_steps": 1, **options}
    for step in range(1, sum("step" in line for line in whole)):
        with pytest.raises(RuntimeError, match="crash"):
            train(folder, find_resume(folder / "checkpoints"), callbacks=(Stop(step),), **given)
    assert train(folder, find_resume(folder / "checkpoints"), **given) == (after(whole, step), weights)
    assert list(curve.points.items()) == list(whole_curve.points.items())


def test_every_example_is_seen_once_per_epoch(tmp_path: Path) -> None:
    lines, _ = train(tmp_path, max_epochs=2, validate=False)
    for epoch in range(2):
        seen = [i for line in lines if line["at"][0] == epoch for i in line["ids"]]
        assert sorted(seen, key=int) == [str(i) for i in range(18)]


def test_dropout_is_at_work(tmp_path: Path) -> None:
    with_dropout, _ = train(tmp_path / "a", max_epochs=1, module={"lora": LoraSpec(dropout=0.3)})
    without, _ = train(tmp_path / "b", max_epochs=1, module={"lora": LoraSpec()})
    assert with_dropout != without


@pytest.mark.parametrize("stops", [(2, 4), (1, 2, 4), (STEPS, STEPS + 3), (STEPS - 1, STEPS, STEPS + 3)])
def test_several_interruptions(stops: tuple[int, ...], tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 2, "val_check_interval": 3}
    whole, weights = train(tmp_path / "whole", **options)
    folder = tmp_path / "stopped"
    for step in stops:
        with pytest.raises(RuntimeError, match="crash"):
            train(folder, find_resume(folder / "checkpoints"), callbacks=(Stop(step),), **options)
    assert train(folder, find_resume(folder / "checkpoints"), **options) == (after(whole, stops[-1]), weights)


def test_early_stopping_counts_each_validation_once(tmp_path: Path) -> None:
    def run(folder: Path, start: Path | None = None) -> Any:
        patience = EarlyStopping("val/nll", patience=3, min_delta=100.0)
        return train(folder, start, checkpoints=EVERY, callbacks=(patience,), max_epochs=9, val_check_interval=2)

    whole, weights = run(tmp_path)
    steps = [line["step"] for line in whole if "step" in line]
    assert len(steps) == STEPS + 4, "patience ends the run within the second epoch"
    for step in steps:
        start = tmp_path / "checkpoints" / f"step-{step:08d}.ckpt"
        assert run(tmp_path / f"from-{step}", start) == (after(whole, step), weights), step


def test_a_finished_run_does_nothing_and_can_be_prolonged(tmp_path: Path) -> None:
    constant = {"schedule": ScheduleSpec("constant")}
    short, weights = train(tmp_path / "short", max_epochs=1, module=constant)
    newest = find_resume(tmp_path / "short" / "checkpoints")
    again, same = train(tmp_path / "short", newest, max_epochs=1, module=constant)
    assert (again, same) == (after(short, STEPS), weights)
    longer, end = train(tmp_path / "short", newest, max_epochs=2, module=constant)
    whole, expected = train(tmp_path / "whole", max_epochs=2, module=constant)
    assert (longer, end) == (after(whole, STEPS), expected)
