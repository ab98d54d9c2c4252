"""Files and folders that appear whole or not at all, files by a pattern, and objects that may not be there yet."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..types import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk says that has no room."""
DENIED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EIO)
"""What it says where nothing can be written."""


def cannot_write(place: Path, error: OSError) -> UserError:
    """What to say of a folder or file that cannot be written, and what to do."""
    full = error.errno in FULL or "requested and" in str(error)  # numpy's words for a write that was cut short
    remedy = "free the disk, or choose another folder" if full else "choose another folder"
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileExistsError):
        reason = "Not a directory"  # what mkdir says where a parent is a file
    return UserError(f"cannot write in {place}: {reason}; {remedy}")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Within, a disk that is full, read-only or not ours is a `UserError` that names ``place``."""
    try:
        yield
    except OSError as error:
        raise cannot_write(place, error) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, line ends as they are, lone surrogates spelt out.

    Raises:
        UserError: it cannot be written; a file that was there before still is.
    """
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def matching(pattern: str) -> list[Path]:
    """The files that a pattern such as ``data/**/*.txt`` matches, sorted; a file's own name matches it."""
    anchor = Path(pattern).anchor
    found = Path(anchor or ".").glob(str(Path(pattern).relative_to(anchor))) if pattern else []
    return sorted(path for path in found if path.is_file())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder`` when the block ends without an error.

    A folder that is there before is there all the time: the two change places at once, where the system can do that
    (Linux, on its own file systems).

    Raises:
        UserError: the place cannot be written.
    """
    folder = Path(folder)
    temporary = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if not folder.is_dir() or not _exchange(temporary, folder):
            _move(temporary, folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(made: Path, folder: Path) -> None:
    """Rename ``made`` to ``folder``; what was there before takes its place."""
    old = folder.with_name(f".old-{folder.name}-{os.getpid()}")
    if folder.is_dir():
        folder.rename(old)
    try:
        made.rename(folder)
    except OSError:
        if old.is_dir():
            old.rename(folder)
        raise
    if old.is_dir():
        old.rename(made)


def _exchange(one: Path, other: Path) -> bool:
    """Whether two folders have changed places, at once."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
