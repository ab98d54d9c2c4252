"""The trainer's end of one worker process: starting it, giving it a job, taking the answer, killing it.

A worker is a fresh program with an environment of its own. Nothing here knows what a job means.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .inside import frames
from .jobs import SandboxFault

START_SECONDS = 60.0
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS"), "1"),
    "ARROW_IO_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve address space, which is what limits a snippet
}
PROGRAM = """
import sys, types
package = sys.modules["sandboxed"] = types.ModuleType("sandboxed")
package.__path__ = [{folder!r}]
from sandboxed.inside.zygote import main
main({handle})
"""
"""The modules of `inside` under a name of their own: the package's own __init__ would import torch."""


class WorkerDied(Exception):
    """A worker is gone or does not answer."""


class Worker:
    """One worker process, and the job it has.

    Args:
        spec: limits and switches, as the worker reads them.
        patience: seconds after which a worker that has a job is given up.
    """

    def __init__(self, spec: dict[str, Any], patience: float) -> None:
        self.patience, self.deadline = patience, 0.0
        self.job: int | None = None
        self.mechanisms: dict[str, str] = {}
        ours, theirs = socket.socketpair()
        self.sock = ours
        folder = str(Path(__file__).resolve().parent)
        program = PROGRAM.format(folder=folder, handle=theirs.fileno())
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", program],
                env=ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise SandboxFault(f"the sandbox cannot start {sys.executable}: {error}") from error
        finally:
            theirs.close()
        ours.settimeout(START_SECONDS)
        try:
            frames.send(ours, json.dumps({**spec, "trainer": os.getpid()}).encode())
        except OSError as error:
            raise self._fault(error) from error

    def start(self) -> None:
        """Wait until it has started, and learn which mechanisms are in use.

        Raises:
            SandboxFault: it has not.
        """
        try:
            message = frames.receive(self.sock)
        except OSError as error:
            raise self._fault(error) from error
        if message is None:
            raise self._fault(None)
        self.mechanisms = json.loads(message)["mechanisms"]

    def give(self, job: int, message: Sequence[bytes]) -> None:
        """Start a job.

        Raises:
            WorkerDied: it cannot be told.
        """
        self.sock.settimeout(self.patience)
        try:
            for part in message:
                frames.send(self.sock, part)
        except OSError as error:
            raise WorkerDied(str(error)) from error
        self.job, self.deadline = job, time.monotonic() + self.patience

    def take(self) -> tuple[dict[str, Any], bytes]:
        """The answer to the job: what the worker saw, and what the snippet wrote.

        Raises:
            WorkerDied: there is none.
        """
        try:
            header, written = frames.receive(self.sock), frames.receive(self.sock)
        except OSError as error:
            raise WorkerDied(str(error)) from error
        if header is None or written is None:
            raise WorkerDied(f"exit code {self.process.poll()}")
        self.job = None
        return json.loads(header), written

    def kill(self) -> None:
        """End the worker, and with it what it runs."""
        self._end()
        self.forget()

    def forget(self) -> None:
        """Close this process's ends, and leave the worker to whom it belongs."""
        self.sock.close()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _end(self) -> int:
        if self.process.poll() is None:  # its number is not somebody else's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)  # a session of its own; snippets die with their worker
        return self.process.wait()

    def _fault(self, error: OSError | None) -> SandboxFault:
        """Why it did not start, in its own last words if it has any."""
        if error is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
        code = self._end()
        words = self.process.stderr.read().decode("utf-8", "replace") if self.process.stderr is not None else ""
        self.forget()
        reason = words.strip().splitlines()[-1:] or [str(error or "no message")]
        return SandboxFault(f"a worker of the sandbox did not start (exit code {code}): {reason[0]}")
