"""When checkpoints are written, which are kept, what is refused, and what a run leaves behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from lightning_posttrain.batching.loader import StepLoader
from lightning_posttrain.callbacks.checkpoint import Checkpoints, Interrupted, RunLock, find_resume
from lightning_posttrain.callbacks.checkpoint_io import AtomicCheckpointIO, checkpoints_in
from lightning_posttrain.callbacks.signals import Signals
from lightning_posttrain.modules.optim import OptimizerSpec
from lightning_posttrain.text.tokenizer import TokenizerSpec
from lightning_posttrain.types import UserError
from tests.tinyrun import ARCHITECTURE, STEPS, Rows, build, train, trainer_for


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def kept(folder: Path) -> list[int]:
    return [manifest.step for _, manifest in checkpoints_in(folder / "checkpoints")]


@pytest.mark.parametrize(
    ("every", "keep", "steps"), [(1, 2, [9, 10]), (3, 2, [9, 10]), (4, 3, [4, 8, 10]), (99, 2, [10])]
)
def test_the_newest_are_kept_and_the_end_is_always_saved(
    every: int, keep: int, steps: list[int], tmp_path: Path
) -> None:
    train(tmp_path, max_epochs=2, validate=False, checkpoints={"every_n_steps": every, "keep": keep})
    assert kept(tmp_path) == steps
    assert (tmp_path / "checkpoints" / "last.ckpt").resolve().name == "step-00000010.ckpt"


class Score(L.Callback):
    """Logs a made-up metric at every validation."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("score", self.values.pop(0))


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("min", (3.0, 1.0, 2.0, 1.0), 2),
        ("max", (3.0, 1.0, 2.0, 1.0), 1),
        ("max", (float("nan"), 1.0, 2.0, 2.0), 3),
    ],
)
def test_the_best_is_kept_beside_the_newest(mode: str, values: tuple[float, ...], best: int, tmp_path: Path) -> None:
    checkpoints = {"every_n_steps": 99, "monitor": "score", "mode": mode}
    train(tmp_path, max_epochs=4, checkpoints=checkpoints, callbacks=(Score(*values),))
    assert kept(tmp_path) == sorted({best * STEPS, 3 * STEPS, 4 * STEPS})
    link = tmp_path / "checkpoints" / "best.ckpt"
    assert link.resolve().name == f"step-{best * STEPS:08d}.ckpt"
    reader = Checkpoints(str(tmp_path / "checkpoints"), monitor="score", mode=mode)  # type: ignore[arg-type]
    assert reader.best_model_path == str(link.resolve())


def test_a_monitored_metric_that_is_not_logged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"monitor='val/nl' was not logged at this validation; logged: \['val/nll'\]"):
        train(tmp_path, checkpoints={"monitor": "val/nl"})


@pytest.mark.parametrize("options", [{"every_n_steps": 0}, {"keep": 1}, {"mode": "least"}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"checkpoint\.{next(iter(options))}="):
        Checkpoints(**options)


def test_a_fresh_run_does_not_write_over_another(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=1, validate=False)
    with pytest.raises(UserError, match=r"holds checkpoints of an earlier run \(step-00000005\.ckpt\)"):
        train(tmp_path, max_epochs=1, validate=False)
    assert kept(tmp_path) == [4, 5]


def test_a_folder_in_use_is_refused_and_free_again_after_a_run(tmp_path: Path) -> None:
    with RunLock(tmp_path / "checkpoints"), pytest.raises(UserError, match="in use by another run"):
        train(tmp_path, max_epochs=1, validate=False)
    train(tmp_path, max_epochs=1, validate=False)
    RunLock(tmp_path / "checkpoints").acquire()


class Fail(L.Callback):
    def __init__(self, error: BaseException, place: str = "on_after_backward") -> None:
        self.error = error
        setattr(self, place, self.hook)

    def hook(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            raise self.error


@pytest.mark.parametrize("place", ["on_after_backward", "on_train_batch_end", "on_validation_start"])
def test_an_error_is_passed_on_and_costs_no_checkpoint(place: str, tmp_path: Path) -> None:
    error = ZeroDivisionError("in the reward")
    with pytest.raises(ZeroDivisionError, match="in the reward") as caught:
        train(tmp_path, val_check_interval=3, callbacks=(Fail(error, place),))
    assert caught.value is error
    assert kept(tmp_path) == ([1, 2] if place == "on_train_batch_end" else [2, 3])
    newest = find_resume(tmp_path / "checkpoints")
    assert train(tmp_path, newest, val_check_interval=3)[1] == train(tmp_path / "whole", val_check_interval=3)[1]


def test_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    train(tmp_path, fast_dev_run=2)
    assert kept(tmp_path) == []


def test_without_validation_data_a_monitor_only_costs_checkpoints(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=1, validate=False, checkpoints={"monitor": "val/nll"})
    assert kept(tmp_path) == [4, 5]


def refused(tmp_path: Path, match: str, module: dict[str, Any] | None = None, rows: Rows | None = None) -> None:
    train(tmp_path / "first", max_epochs=1, validate=False)
    start = find_resume(tmp_path / "first" / "checkpoints")
    with pytest.raises(UserError, match=match):
        train(tmp_path / "second", start, validate=False, module=module, rows=rows)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    wider = {"architecture": {**ARCHITECTURE, "hidden_size": 48}}
    refused(tmp_path, r"belongs to another model: \d+ parameters differ.*instead of", wider)


def test_a_checkpoint_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    tokenizer = build().tokenizer
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(folder)
    refused(tmp_path, "the checkpoint has tokenizer=", {"tokenizer": TokenizerSpec(source=str(folder))})


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "fingerprint='rows-18-0', this run 'rows-18-7'", rows=Rows(seed=7))


def test_a_changed_learning_rate_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    changed = {"optimizer": replace(OptimizerSpec(lr=1e-2), lr=0.5)}
    refused(tmp_path, r"the checkpoint has optimizer\.lr=0\.01, this run 0\.5", changed)


def test_validating_a_checkpoint_checks_it_too(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=1)
    newest = find_resume(tmp_path / "checkpoints")
    assert newest is not None
    loader = StepLoader(Rows(8, seed=1), 4, 100, seed=None)

    def validate() -> Any:
        saver = Checkpoints(str(tmp_path / "checkpoints"))
        return trainer_for(tmp_path, [saver]).validate(build(), loader, ckpt_path=newest, verbose=False)

    assert validate()[0]["val/nll"] > 0
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        validate()


def test_the_file_format_is_brought_along_and_no_other_is_accepted(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, [Checkpoints()], max_epochs=1)
    trainer.fit(build(), StepLoader(Rows(), 4, 60))
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    with pytest.raises(UserError, match="cannot write through AsyncCheckpointIO; drop that plugin"):
        train(tmp_path / "b", max_epochs=1, validate=False, plugins=[AsyncCheckpointIO()])


def test_signal_handlers_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    train(tmp_path, max_epochs=1, validate=False)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "b", callbacks=(Fail(ZeroDivisionError()),))
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def test_the_first_signal_decides_the_exit_code() -> None:
    signals = Signals()
    signals.watch()
    try:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), signum)
    finally:
        signals.unwatch()
    assert signals.received == signal.SIGINT
    assert Interrupted(signals.received).code == 130


def test_a_forked_worker_dies_of_its_signals(tmp_path: Path) -> None:
    signals = Signals()
    signals.watch()
    try:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    finally:
        signals.unwatch()
    assert not signals.received


def test_a_killed_runs_leftovers_are_swept_at_the_next_start(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=1, validate=False)
    folder = tmp_path / "checkpoints"
    (folder / ".tmp-step-00000006.ckpt-1").write_bytes(b"half")
    train(tmp_path, find_resume(folder), max_epochs=1, validate=False)
    assert not list(folder.glob(".tmp-*"))
