"""Whose a run directory is, what is removed from it, and what a run that came to nothing leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_posttrain.callbacks.run_directory import RunDirectory, free_directory
from lightning_posttrain.callbacks.run_lock import RunLock
from lightning_posttrain.types import UserError


def a_run(folder: Path, command: str = "fit", status: str = "finished") -> None:
    """What a run leaves, in a directory that also holds things of other people."""
    for name in ("checkpoints/step-00000002.ckpt", "checkpoints/step-00000002.ckpt.json", "checkpoints/.lock",
                 "tensorboard/events.out.tfevents.1", "eval/step_000000/task/metrics.json", "model/model.safetensors",
                 "rollouts/step_000000.parquet", "debug/a_step_000000.csv", "config.yaml"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "run.json").write_text(json.dumps({"command": command, "status": status}))


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


FOREIGN = ("my_thesis/chapter.tex", "notes.txt", "eval/mine.txt", "checkpoints/other.pt", "tensorboard/plot.png")


def test_only_what_runs_write_is_replaced(tmp_path: Path) -> None:
    a_run(tmp_path)
    for name in FOREIGN:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    directory = RunDirectory(tmp_path, "fit")
    directory.claim(overwrite=True)
    directory.release()
    left = {name for name in everything(tmp_path) if (tmp_path / name).is_file()}
    assert left == set(FOREIGN)


def test_an_export_never_takes_the_place_of_other_files(tmp_path: Path) -> None:
    a_run(tmp_path)
    (tmp_path / "model" / "notes.md").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(UserError, match=r"no run wrote .*notes\.md"):
        RunDirectory(tmp_path, "fit").claim(overwrite=True)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"overwrite": True}])
def test_a_directory_in_use_is_not_touched(tmp_path: Path, how: dict[str, bool]) -> None:
    folder = tmp_path / "run"
    first, second = RunDirectory(folder, "fit"), RunDirectory(folder, "fit")
    first.claim()
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events.out.tfevents.1").write_text("x")
    before = everything(tmp_path)
    with pytest.raises(UserError, match="in use by another run"):
        second.claim(**how)
    second.release(came_to_nothing=True)
    assert everything(tmp_path) == before
    first.release()


def test_a_run_that_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "deep" / "run", "fit")
    directory.claim()
    for name in ("tensorboard/events.out.tfevents.1", "checkpoints/.lock", "run.json", "config.yaml"):
        (directory.path / name).parent.mkdir(exist_ok=True)
        (directory.path / name).write_text("x")
    directory.release(came_to_nothing=True)
    assert everything(tmp_path) == set()


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    directory = RunDirectory(tmp_path / "run", "validate")
    directory.claim()
    (directory.path / "run.json").write_text("{}")
    directory.release(came_to_nothing=True)
    assert everything(tmp_path) == {"run", "run/notes.txt"}


def test_results_are_kept_whatever_came_after(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", "fit")
    directory.claim()
    a_run(directory.path)
    before = everything(tmp_path)
    directory.release(came_to_nothing=True)
    assert everything(tmp_path) == before - {"run/.lock"}


def test_a_failed_resume_keeps_the_run(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    before = everything(tmp_path)
    directory = RunDirectory(tmp_path / "run", "fit")
    directory.claim(resume=True)
    directory.release(came_to_nothing=True)
    assert everything(tmp_path) == before


def test_a_free_directory_is_one_that_nobody_has(tmp_path: Path) -> None:
    first = free_directory(tmp_path / "outputs" / "run", "fit")
    second = free_directory(tmp_path / "outputs" / "run", "fit")
    assert [first.path.name, second.path.name] == ["run", "run-2"]
    second.release(came_to_nothing=True)
    first.release(came_to_nothing=True)
    assert everything(tmp_path) == set()


def test_other_ranks_follow_rank_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    first = free_directory(tmp_path / "run", "fit")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert free_directory(tmp_path / "run", "fit").path == first.path
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    first.release()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"give --run\.dir"):
        free_directory(tmp_path / "run", "fit")


@pytest.mark.parametrize(
    "make", [lambda path: RunDirectory(path, "fit").claim(), lambda path: free_directory(path, "fit")]
)
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*: Not a directory; choose another folder"):
        make(tmp_path / "file" / "run")


def test_a_lock_whose_file_was_removed_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = RunLock._lock, []

    def removed_once(self: RunLock, descriptor: int) -> None:
        calls.append(1)
        if len(calls) == 1:  # a run that came to nothing removes the file between the opening and the locking
            self.path.unlink()
            self.path.parent.rmdir()
        real(self, descriptor)

    monkeypatch.setattr(RunLock, "_lock", removed_once)
    with RunLock(tmp_path / "run") as lock:
        assert lock.held
        monkeypatch.undo()
        with pytest.raises(UserError, match="in use"):
            RunLock(tmp_path / "run").acquire()
    assert len(calls) == 2
