"""One process per run directory, by a file lock that the kernel releases when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from types import TracebackType

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ..records.files import cannot_write
from ..types import UserError

ATTEMPTS = 20
"""Times that a folder is made which another process removes."""
_held: set[int] = set()


class RunLock:
    """Locks ``folder``, for rank zero of a run; other ranks pass. Also a context manager.

    Args:
        folder: made if missing; the lock is its file ``.lock``, which stays.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / ".lock"
        self._descriptor: int | None = None
        self._owner = 0

    def acquire(self) -> None:
        """Take the lock; does nothing when this object has it.

        Raises:
            UserError: another process (or object) has it, or the folder cannot be written.
        """
        if self._descriptor is not None or rank_zero_only.rank:  # type: ignore[attr-defined]
            return
        while self._descriptor is None:
            descriptor = self._open()
            self._lock(descriptor)
            if _is_at(descriptor, self.path):  # else its last holder has just removed it
                self._descriptor, self._owner = descriptor, os.getpid()
                _held.add(descriptor)
            else:
                os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def _open(self) -> int:
        for _ in range(ATTEMPTS):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError as error:  # a run that came to nothing may just be removing the folder
                problem: OSError = error
            except OSError as error:
                raise cannot_write(self.path.parent, error) from error
        raise cannot_write(self.path.parent, problem) from problem

    def _lock(self, descriptor: int) -> None:
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

    @property
    def held(self) -> bool:
        """Whether this process has the lock, and not one that was forked from it."""
        return self._descriptor is not None and self._owner == os.getpid()

    def release(self) -> None:
        """Give the lock back, if this object has it."""
        if self._descriptor is not None and self.held:
            _held.discard(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None

    def remove(self) -> None:
        """Give the lock back and remove its file, if this object has it."""
        if self.held:
            self.path.unlink(missing_ok=True)
        self.release()

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _close_in_child() -> None:
    """A forked worker that outlives its killed parent must not keep the run directory locked."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)
