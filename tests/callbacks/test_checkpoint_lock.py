"""One process per run directory."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lightning_posttrain.callbacks.run_lock import RunLock
from lightning_posttrain.types import UserError
from tests.conftest import HANGS


def test_a_second_run_is_refused_by_name(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path / "run"),
        pytest.raises(UserError, match=rf"run is in use by another run \(process {os.getpid()}\)"),
    ):
        RunLock(tmp_path / "run").acquire()
    with RunLock(tmp_path / "run"):
        pass


def test_other_folders_are_free(tmp_path: Path) -> None:
    with RunLock(tmp_path / "a"), RunLock(tmp_path / "b"):
        pass


def test_taking_and_giving_twice_is_harmless(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.release()
    lock.acquire()
    lock.acquire()
    lock.release()
    lock.release()
    RunLock(tmp_path).acquire()


def test_only_rank_zero_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    with RunLock(tmp_path):
        monkeypatch.setattr(rank_zero_only, "rank", 1)
        RunLock(tmp_path).acquire()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write in"):
        RunLock(tmp_path / "file").acquire()


def test_a_killed_holder_frees_it_even_when_its_worker_lives_on(tmp_path: Path) -> None:
    ready, told = os.pipe()
    holder = os.fork()
    if holder == 0:
        RunLock(tmp_path).acquire()
        worker = os.fork()
        if worker == 0:
            time.sleep(HANGS)
            os._exit(0)
        os.write(told, str(worker).encode())
        time.sleep(HANGS)
        os._exit(0)
    worker = int(os.read(ready, 20))
    with pytest.raises(UserError, match=str(holder)):
        RunLock(tmp_path).acquire()
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        RunLock(tmp_path).acquire()
    finally:
        os.kill(worker, signal.SIGKILL)
