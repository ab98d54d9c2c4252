"""Checkpoint files that are whole or absent.

A file is written under a temporary name beside its final one, synced to disk and renamed. Its manifest (format, size,
sha256, step; ``x.ckpt.json``) is in place before that rename, so whatever carries a final name can be checked. Loading
checks it, and reads tensors and plain values only. A sharded checkpoint is a folder whose files its strategy writes and
reads; only its size is checked. Local files: other stores are left out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from ..records.files import FULL
from ..types import UserError

FORMAT = 1
"""Version of manifest and checkpoint; one with a higher number is refused."""
SLACK = 1 << 20
"""Bytes a checkpoint may need beyond its tensors."""
PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None), torch.Size, torch.dtype, torch.device)
MAPPINGS, LISTS = (dict, OrderedDict, Counter), (list, tuple, set)


@dataclass(frozen=True)
class Manifest:
    """What is known about a checkpoint without opening it."""

    format: int
    number: int
    """1, 2, ... in the order the folder's checkpoints were written; clocks and step numbers may run backwards."""
    step: int
    size: int
    sha256: str
    score: float | None = None
    """The monitored metric at this step, once it is known."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plugin over these files. Storage options and remote paths are refused."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``; on failure nothing under a final name has changed.

        Raises:
            UserError: no space, no permission, or a value that `load_checkpoint` would refuse.
        """
        if storage_options is not None:
            raise UserError(f"checkpoint {path}: storage_options are for remote stores, this writes local files")
        target = _local(path)
        needed = loadable_bytes(checkpoint) + SLACK
        temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
        writer: _HashingWriter | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(target.parent).free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            number = 1 + max((m.number for _, m in checkpoints_in(target.parent)), default=0)
            with temporary.open("wb") as file:
                writer = _HashingWriter(file)
                torch.save(checkpoint, writer)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            step, sha256 = int(checkpoint.get("global_step", 0)), writer.hash.hexdigest()
            write_manifest(target, Manifest(FORMAT, number, step, writer.size, sha256))
            os.replace(temporary, target)  # noqa: PTH105 - the tests stop the process at each of these calls
            sync_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch hides the write's own error behind a RuntimeError
            cause = writer.error if writer is not None and writer.error is not None else error
            if not isinstance(cause, OSError):
                raise
            raise UserError(_write_failure(target, cause, needed)) from cause
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """The checkpoint at ``path``, on the CPU, once size and hash are those of its manifest.

        Raises:
            UserError: missing, damaged, of a newer format, or holding anything but tensors and plain values.
        """
        if weights_only is False:
            raise UserError(f"checkpoint {path}: weights_only=false would run code from the file; leave it unset")
        target = _local(path).resolve()
        problem = damage(target)
        if problem is not None:
            intact = next((p for p, _ in reversed(checkpoints_in(target.parent)) if damage(p) is None), None)
            instead = f"the newest intact one there is {intact}" if intact else "there is no intact one beside it"
            raise UserError(f"checkpoint {target} {problem}; {instead}")
        try:
            return torch.load(target, map_location=map_location, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"checkpoint {target} is not one of this library's, or holds code; nothing in it was run: {reason}"
            ) from error

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, then its manifest."""
        if Path(path).is_dir():
            shutil.rmtree(path)
        Path(path).unlink(missing_ok=True)
        manifest_path(Path(path)).unlink(missing_ok=True)


class _HashingWriter:
    """What torch.save writes to: the file, hashed and counted on the way. Remembers the error that stopped it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash, self.size = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.hash.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        if self.error is None:
            self.file.flush()


def folder_size(folder: Path) -> int:
    """Bytes of the files in ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def find_resume(folder: str | Path) -> Path | None:
    """The newest intact checkpoint in ``folder``, or None. Each damaged one passed over is named on stderr.

    Raises:
        UserError: the newest was written by a newer version.
    """
    known = {path: manifest.number for path, manifest in checkpoints_in(Path(folder))}
    unknown = [p for p in sorted(Path(folder).glob("*.ckpt")) if p not in known and not p.is_symlink()]
    for path in [*unknown, *sorted(known, key=known.__getitem__, reverse=True)]:
        problem = damage(path)
        if problem is None:
            return path
        print(f"checkpoint {path} {problem}; looking for an earlier one", file=sys.stderr)
    return None


def checkpoints_in(folder: Path) -> list[tuple[Path, Manifest]]:
    """The checkpoints of ``folder`` that have a readable manifest, oldest first; their content is not checked."""
    found = []
    for path in folder.glob("*.ckpt"):
        manifest = None if path.is_symlink() else read_manifest(path)
        if manifest is not None:
            found.append((path, manifest))
    return sorted(found, key=lambda item: item[1].number)


def damage(path: Path) -> str | None:
    """Why the checkpoint cannot be used, as the rest of a sentence; None when size and, of a file, hash are right."""
    if not path.exists():
        return "does not exist"
    manifest = read_manifest(path)
    if manifest is None:
        return f"has no readable manifest {manifest_path(path).name} beside it (copy both files together)"
    if path.is_dir():
        size = folder_size(path)
        return None if size == manifest.size else f"is damaged: {size} bytes instead of {manifest.size}"
    size = path.stat().st_size
    if size != manifest.size:
        return f"is damaged: {size} bytes instead of {manifest.size}"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != manifest.sha256:
            return "is damaged: its sha256 is not that of its manifest"
    return None


def manifest_path(checkpoint: Path) -> Path:
    """Where the manifest of a checkpoint is."""
    return checkpoint.with_name(checkpoint.name + ".json")


def read_manifest(checkpoint: Path) -> Manifest | None:
    """The manifest of a checkpoint; None when there is none or it cannot be read.

    Raises:
        UserError: it has a newer format.
    """
    try:
        fields = json.loads(manifest_path(checkpoint).read_text(encoding="utf-8"))
        newer = fields["format"] > FORMAT
        manifest = None if newer else Manifest(**fields)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if newer:
        raise UserError(
            f"checkpoint {checkpoint} has format {fields['format']}, this version reads up to {FORMAT}; "
            "upgrade lightning-posttrain"
        )
    return manifest


def set_score(checkpoint: Path, score: float) -> None:
    """Note the monitored metric in the manifest of a checkpoint that is there."""
    manifest = read_manifest(checkpoint)
    try:
        if manifest is not None:
            write_manifest(checkpoint, replace(manifest, score=score))
    except OSError as error:
        raise UserError(_write_failure(manifest_path(checkpoint), error, SLACK)) from error


def sweep(folder: Path) -> None:
    """Remove what killed processes left in ``folder``: temporary files, and manifests whose checkpoint never came."""
    for leftover in folder.glob(".tmp-*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    for manifest in folder.glob("*.ckpt.json"):
        if not manifest.with_suffix("").exists():
            manifest.unlink(missing_ok=True)


def loadable_bytes(checkpoint: dict[str, Any]) -> int:
    """Bytes of the tensors in ``checkpoint``, each storage counted once.

    Raises:
        UserError: it holds a value that could not be loaded again without unpickling objects.
    """
    storages: dict[tuple[str, int], int] = {}
    waiting: list[tuple[str, Any]] = [("checkpoint", checkpoint)]
    while waiting:
        name, value = waiting.pop()
        kind = type(value)
        if kind in (torch.Tensor, torch.nn.Parameter):
            storage = value.untyped_storage()
            storages[str(storage.device), storage.data_ptr()] = storage.nbytes()
        elif kind in MAPPINGS:
            waiting += [(f"{name}[{key!r}]", item) for key, item in value.items()]
            waiting += [(f"{name}: key {key!r}", key) for key in value]
        elif kind in LISTS:
            waiting += [(f"{name}[{i}]", item) for i, item in enumerate(value)]
        elif kind not in PLAIN:
            raise UserError(
                f"cannot be checkpointed: {name} is a {kind.__module__}.{kind.__qualname__}; state must be tensors, "
                "numbers, strings and containers of them (numpy scalars: call .item())"
            )
    return sum(storages.values())


def _local(path: str | Path) -> Path:
    if "://" in str(path):
        raise UserError(f"checkpoint {path}: only local files are read and written; download it with its manifest")
    return Path(path).absolute()


def write_manifest(checkpoint: Path, manifest: Manifest) -> None:
    """Write the manifest of a checkpoint, whole or not at all."""
    path = manifest_path(checkpoint)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(manifest), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - as above
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the renames in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_failure(target: Path, error: OSError, needed: int) -> str:
    try:
        free = f"{shutil.disk_usage(target.parent).free:,}"
    except OSError:
        free = "an unknown number of"
    remedy = "free space, or keep fewer checkpoints" if error.errno in FULL else "choose a folder that can be written"
    return (
        f"checkpoint {target} could not be written: {error.strerror or error}; it needs {needed:,} bytes, {free} are "
        f"free there. Earlier checkpoints are untouched; {remedy}, then resume."
    )
