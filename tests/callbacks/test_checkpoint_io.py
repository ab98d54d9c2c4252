"""Checkpoint files: whole or absent, checked before use, and never a way to run code."""

from __future__ import annotations

import collections
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_posttrain.callbacks.checkpoint_io import (
    FORMAT,
    AtomicCheckpointIO,
    checkpoints_in,
    damage,
    find_resume,
    loadable_bytes,
    manifest_path,
    set_score,
    sweep,
)
from lightning_posttrain.types import UserError

IO = AtomicCheckpointIO()


def state(step: int) -> dict[str, Any]:
    return {"global_step": step, "state_dict": {"w": torch.full((64, 64), float(step))}, "note": ["a", (1, 2.5, None)]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three checkpoints, written in the order 1, 2, 3."""
    for step in (1, 2, 3):
        IO.save_checkpoint(state(step), tmp_path / f"step-{step}.ckpt")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Bomb:
    """Unpickling it touches a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def forge_manifest(path: Path, **changes: Any) -> None:
    """A manifest that fits whatever is in ``path``."""
    content = path.read_bytes()
    fields: dict[str, Any] = {"format": FORMAT, "number": 9, "step": 9, "size": len(content), "score": None}
    fields["sha256"] = hashlib.sha256(content).hexdigest()
    manifest_path(path).write_text(json.dumps({**fields, **changes}))


def test_what_is_written_is_read_back(folder: Path) -> None:
    found = IO.load_checkpoint(folder / "step-2.ckpt")
    assert torch.equal(found["state_dict"]["w"], torch.full((64, 64), 2.0))
    assert found["note"] == ["a", (1, 2.5, None)]
    assert names(folder) == sorted(f"step-{i}.ckpt{end}" for i in (1, 2, 3) for end in ("", ".json"))
    assert [m.step for _, m in checkpoints_in(folder)] == [m.number for _, m in checkpoints_in(folder)] == [1, 2, 3]


def test_the_newest_is_the_one_written_last_whatever_its_step(folder: Path) -> None:
    assert find_resume(folder) == folder / "step-3.ckpt"
    IO.save_checkpoint(state(2), folder / "step-2.ckpt")
    assert find_resume(folder) == folder / "step-2.ckpt"
    assert damage(folder / "step-2.ckpt") is None


def test_there_may_be_nothing_to_resume(tmp_path: Path) -> None:
    assert find_resume(tmp_path) is None
    assert find_resume(tmp_path / "missing") is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lose_manifest(path: Path) -> None:
    manifest_path(path).unlink()


def garble_manifest(path: Path) -> None:
    manifest_path(path).write_text('{"format": 1, "size"')


@pytest.mark.parametrize("harm", [truncate, flip, empty, lose_manifest, garble_manifest])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_used(
    harm: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm(folder / "step-3.ckpt")
    assert find_resume(folder) == folder / "step-2.ckpt"
    assert "step-3.ckpt" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"step-3\.ckpt.*newest intact one there is .*step-2\.ckpt"):
        IO.load_checkpoint(folder / "step-3.ckpt")


def test_when_all_are_damaged_there_is_nothing_to_resume(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in folder.glob("*.ckpt"):
        flip(path)
    assert find_resume(folder) is None
    assert capsys.readouterr().err.count("is damaged") == 3


def test_a_missing_checkpoint_names_the_newest_intact_one(folder: Path) -> None:
    with pytest.raises(UserError, match=r"step-7\.ckpt does not exist; the newest intact one there is .*step-3\.ckpt"):
        IO.load_checkpoint(folder / "step-7.ckpt")
    with pytest.raises(UserError, match="there is no intact one beside it"):
        IO.load_checkpoint(folder / "elsewhere" / "step-7.ckpt")


def test_a_newer_format_is_refused_not_passed_over(folder: Path) -> None:
    forge_manifest(folder / "step-3.ckpt", format=FORMAT + 1)
    for use in (lambda: find_resume(folder), lambda: IO.load_checkpoint(folder / "step-3.ckpt")):
        with pytest.raises(UserError, match=rf"format {FORMAT + 1}, this version reads up to {FORMAT}; upgrade"):
            use()


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    path, canary = tmp_path / "evil.ckpt", tmp_path / "canary"
    torch.save({"state_dict": {"w": torch.zeros(2)}, "callbacks": Bomb(canary)}, path)
    with pytest.raises(UserError, match="no readable manifest"):
        IO.load_checkpoint(path)
    forge_manifest(path)
    with pytest.raises(UserError, match="nothing in it was run"):
        IO.load_checkpoint(path)
    with pytest.raises(UserError, match="weights_only=false would run code"):
        IO.load_checkpoint(path, weights_only=False)
    with pytest.raises(UserError, match="only local files"):
        IO.load_checkpoint("http://127.0.0.1:9/evil.ckpt")
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the bomb works where it is unpickled"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.float64(1.0), "numpy.float64"),
        (collections.defaultdict(int), "collections.defaultdict"),
        (Path("x"), "pathlib.PosixPath"),
        (print, "builtins.builtin_function_or_method"),
    ],
)
def test_state_that_could_not_be_loaded_is_not_saved(value: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"checkpoint\['callbacks'\]\['mine'\]\[1\] is a {named}"):
        IO.save_checkpoint({"callbacks": {"mine": [0, value]}}, tmp_path / "a.ckpt")
    assert names(tmp_path) == []


def test_every_kind_of_state_that_is_saved_can_be_loaded(tmp_path: Path) -> None:
    kinds = [True, 1, 10**30, 1.5, float("nan"), 1j, "s", b"b", bytearray(b"c"), None, (1,), [2], {3}, {"k": 4}]
    kinds += [torch.float32, torch.device("cpu"), torch.Size([2]), torch.nn.Parameter(torch.ones(2))]
    kinds += [collections.OrderedDict(a=1), collections.Counter("aab"), torch.zeros(2, dtype=torch.bfloat16)]
    IO.save_checkpoint({"kinds": kinds}, tmp_path / "a.ckpt")
    loaded = IO.load_checkpoint(tmp_path / "a.ckpt")["kinds"]
    assert [type(value) for value in loaded] == [type(value) for value in kinds]


def test_shared_storage_is_counted_once() -> None:
    weight = torch.zeros(1000)
    assert loadable_bytes({"a": weight, "b": weight.view(10, 100), "c": torch.zeros(5)}) == 4020


def test_too_little_space_is_told_before_anything_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 5000))
    with pytest.raises(
        UserError, match=r"step-4\.ckpt .*No space left.* needs 1,064,960 bytes, 5,000 are free.* keep fewer"
    ):
        IO.save_checkpoint(state(4), folder / "step-4.ckpt")
    assert names(folder) == before


class FailingHandle:
    """An open file with room for so many bytes more."""

    def __init__(self, file: Any, room: int, code: int) -> None:
        self.file, self.room, self.code = file, room, code

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(self.code, os.strerror(self.code))
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("room", [0, 100, 10_000])
def test_a_write_that_fails_half_way_leaves_nothing(
    code: int, room: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_posttrain.callbacks import checkpoint_io

    class Full(checkpoint_io._HashingWriter):
        def __init__(self, file: Any) -> None:
            super().__init__(FailingHandle(file, room, code))  # type: ignore[arg-type]

    before = names(folder)
    monkeypatch.setattr(checkpoint_io, "_HashingWriter", Full)
    with pytest.raises(UserError, match=rf"step-4\.ckpt could not be written: {os.strerror(code)}"):
        IO.save_checkpoint(state(4), folder / "step-4.ckpt")
    assert names(folder) == before
    assert find_resume(folder) == folder / "step-3.ckpt"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_system_call_leaves_the_others_alone(
    call: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(UserError, match=r"Read-only file system.*can be written"):
        IO.save_checkpoint(state(4), folder / "step-4.ckpt")
    monkeypatch.undo()
    assert not (folder / "step-4.ckpt").exists()
    assert not list(folder.glob(".tmp-*"))
    assert find_resume(folder) == folder / "step-3.ckpt"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"could not be written: .*choose a folder that can be written"):
        IO.save_checkpoint(state(1), tmp_path / "file" / "step-1.ckpt")


def test_an_error_that_is_not_the_disks_is_not_disguised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        IO.save_checkpoint(state(1), tmp_path / "step-1.ckpt")
    assert names(tmp_path) == []


def test_removing_takes_the_manifest_along(folder: Path) -> None:
    IO.remove_checkpoint(folder / "step-1.ckpt")
    assert not [name for name in names(folder) if "step-1" in name]
    IO.remove_checkpoint(folder / "step-1.ckpt")


def test_sweeping_removes_leftovers_only(folder: Path) -> None:
    (folder / ".tmp-step-4.ckpt-123").write_bytes(b"half")
    (folder / ".tmp-step-4.ckpt.json-123").write_bytes(b"{")
    (folder / "step-4.ckpt.json").write_text("{}")
    kept = {f"step-{i}.ckpt{end}" for i in (1, 2, 3) for end in ("", ".json")}
    sweep(folder)
    assert set(names(folder)) == kept


def test_a_link_is_followed_but_is_no_checkpoint_of_its_own(folder: Path) -> None:
    (folder / "last.ckpt").symlink_to("step-3.ckpt")
    assert IO.load_checkpoint(folder / "last.ckpt")["global_step"] == 3
    assert len(checkpoints_in(folder)) == 3
    flip(folder / "step-3.ckpt")
    assert find_resume(folder) == folder / "step-2.ckpt"


def test_a_score_joins_the_manifest(folder: Path) -> None:
    set_score(folder / "step-2.ckpt", 0.25)
    assert {path.name: m.score for path, m in checkpoints_in(folder)}["step-2.ckpt"] == 0.25
    assert damage(folder / "step-2.ckpt") is None
    set_score(folder / "step-7.ckpt", 1.0)
    assert not (folder / "step-7.ckpt.json").exists()


def test_storage_options_and_remote_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="storage_options"):
        IO.save_checkpoint(state(1), tmp_path / "a.ckpt", storage_options={})
    with pytest.raises(UserError, match="only local files"):
        IO.save_checkpoint(state(1), "s3://bucket/a.ckpt")
