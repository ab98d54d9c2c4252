"""The directory of a run: claimed before anything is written, cleared of an earlier run, and left as it was found by a
run that came to nothing.

Everything here happens under the directory's lock, and nothing is removed but what runs write, by name.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ..records.files import read_json, writing
from ..types import UserError
from .run_lock import RunLock

WRITTEN = {
    "checkpoints": ("*.ckpt", "*.ckpt.json", ".tmp-*", ".lock"),
    "tensorboard": ("events.out.tfevents.*", "hparams.yaml"),
    "eval": ("step_*",),
    "debug": ("*_step_*.csv", "*_step_*_metrics.txt"),
    "rollouts": ("step_*.parquet",),
    "model": ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "README.md", "base"),
}
"""Folder of a run -> what runs write there."""
FILES = ("run.json", "config.yaml", "predictions.jsonl")
"""What they write beside these folders."""
EVALUATED = ("eval", "debug", "tensorboard")
"""Folders that an evaluation writes."""
NAMED = "LIGHTNING_POSTTRAIN_RUN_DIR"
"""Environment variable that tells the processes which rank zero starts where their run is."""


class RunDirectory:
    """A directory that one process of a run holds until `release`.

    Args:
        path: of the directory.
        command: ``fit``, ``validate``, ``test`` or ``predict``.
    """

    def __init__(self, path: Path, command: str) -> None:
        self.path, self.command = path, command
        self._lock = RunLock(path)
        self._found: set[Path] = set()
        self._made: list[Path] = []

    def claim(self, resume: bool = False, overwrite: bool = False) -> None:
        """Take the directory, and remove an earlier run from it if so asked.

        Raises:
            UserError: it is in use, cannot be written, or holds a run that is not to be resumed or replaced, or one
                of another command.
        """
        if rank_zero_only.rank:  # type: ignore[attr-defined]
            return
        self._refuse_a_run(resume or overwrite)
        missing = [folder for folder in [self.path, *self.path.parents] if not folder.exists()]
        self._lock.acquire()
        self._made = missing
        try:
            self._refuse_a_run(resume or overwrite)  # nobody else writes from here on
            if overwrite and not resume and self._holds_a_run():
                with RunLock(self.path / "checkpoints"), writing(self.path):
                    self._clear()
            self._found = set(self._own())
        except BaseException:
            self.release()
            raise

    def release(self, came_to_nothing: bool = False) -> None:
        """Give the directory back; before that, if nothing came of the run, remove what it has made."""
        if came_to_nothing and self._lock.held and not self._has_results():
            for path in self._own():
                if path not in self._found:
                    _remove(path)
            self._rmdir([self.path / name for name in WRITTEN])
            self._lock.remove()
            self._rmdir(self._made)
        self._lock.remove()
        if os.environ.get(NAMED) == str(self.path):
            del os.environ[NAMED]

    def _refuse_a_run(self, welcome: bool) -> None:
        if self._holds_a_run() and not welcome:
            raise UserError(
                f"run.dir={self.path} already holds a run; continue it with --run.resume true, replace it with "
                "--run.overwrite true, or choose another --run.dir"
            )

    def _holds_a_run(self) -> bool:
        """Whether there is a run that is more than the beginning of an evaluation.

        Raises:
            UserError: it is one of another command.
        """
        if not (self.path / "run.json").exists() and not (self.path / "checkpoints").exists():
            return False
        facts = read_json(self.path / "run.json")  # none: a training run that was killed at its start
        command = facts.get("command", "fit")
        if command != self.command:
            raise UserError(
                f"run.dir={self.path} holds a run of `{command}`; choose another --run.dir for `{self.command}`"
            )
        return bool(command == "fit" or facts.get("status") == "finished")

    def _has_results(self) -> bool:
        """Whether this run has left anything worth keeping."""
        results = ("checkpoints/*.ckpt", "eval/**/metrics.json", "rollouts/*", "model/*", "predictions.jsonl")
        return any(path not in self._found for pattern in results for path in self.path.glob(pattern))

    def _own(self) -> list[Path]:
        """What is there and written by runs, the lock aside."""
        found = [self.path / name for name in FILES]
        found += [path for name, kinds in WRITTEN.items() for kind in kinds for path in (self.path / name).glob(kind)]
        return [path for path in found if path.exists() or path.is_symlink()]

    def _clear(self) -> None:
        foreign = [path for path in (self.path / "model").glob("*") if path not in self._own()]
        if foreign and self.command == "fit":  # the export replaces that folder as a whole
            raise UserError(f"run.dir={self.path}: no run wrote {foreign[0]}, which would be lost; move it away")
        for path in self._own():
            inside = path.parent.name if path.parent != self.path else ""
            if self.command == "fit" or not inside or inside in EVALUATED:
                _remove(path)
        self._rmdir([self.path / name for name in WRITTEN if name != "checkpoints"])

    def _rmdir(self, folders: list[Path]) -> None:
        for folder in folders:
            with suppress(OSError):  # not there, or not empty: it holds what no run wrote
                folder.rmdir()


def free_directory(base: Path, command: str) -> RunDirectory:
    """``base``, or the first of ``base-2``, ``base-3``, ... that nobody has, claimed.

    Raises:
        UserError: it cannot be written, or there are several processes that would each choose one.
    """
    if NAMED in os.environ and rank_zero_only.rank:  # type: ignore[attr-defined]
        return RunDirectory(Path(os.environ[NAMED]), command)
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("run.dir=null with several processes, each of which would choose one; give --run.dir")
    missing = [folder for folder in base.parents if not folder.exists()]
    path = _new(base)
    found = RunDirectory(path, command)
    found.claim()
    found._made = [path, *missing]
    os.environ[NAMED] = str(path)
    return found


def _new(base: Path) -> Path:
    """A folder that this process has made: ``base``, or the first of ``base-2``, ``base-3``, ... that was not there."""
    with writing(base):
        base.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = base if number == 1 else base.with_name(f"{base.name}-{number}")
            try:
                path.mkdir()
                return path
            except FileExistsError:
                continue
    raise AssertionError("numbers do not end")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
