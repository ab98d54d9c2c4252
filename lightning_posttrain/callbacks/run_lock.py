"""One process per run directory, by a file lock that the kernel releases when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from types import TracebackType

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ..types import UserError

_held: set[int] = set()


class RunLock:
    """Locks ``folder``, for rank zero of a run; other ranks pass. Also a context manager.

    Args:
        folder: made if missing; the lock is its file ``.lock``, which stays.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / ".lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; does nothing when this object has it.

        Raises:
            UserError: another process (or object) has it, or the folder cannot be written.
        """
        if self._descriptor is not None or rank_zero_only.rank:  # type: ignore[attr-defined]
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"cannot write in {self.path.parent}: {error.strerror}; choose another folder") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 100).decode(errors="replace").strip()
            os.close(descriptor)
            raise UserError(
                f"{self.path.parent} is in use by another run (process {holder or 'unknown'}); "
                "wait for it, stop it, or choose another folder"
            ) from None
        except OSError as error:
            print(f"{self.path}: this file system has no locks ({error.strerror}); start one run only", file=sys.stderr)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        _held.add(descriptor)

    def release(self) -> None:
        """Give the lock back, if this object has it."""
        if self._descriptor is not None:
            _held.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _close_in_child() -> None:
    """A forked worker that outlives its killed parent must not keep the run directory locked."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)
