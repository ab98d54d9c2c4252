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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .inside import frames
from .jobs import SandboxFault

START_SECONDS = 60.0
HELD_BYTES, HELD = 256 * 2**20, 256
"""How much of the databases it has had a worker keeps at most, and how many of them."""
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
        self.held: dict[str, int] = {}
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

    def give(self, job: int, tables: bytes, databases: Sequence[str], rest: bytes, images: Mapping[str, bytes]) -> None:
        """Start a job.

        Args:
            job: its number.
            tables, databases, rest: the parts of its message.
            images: the databases by their digests; those are sent that the worker does not have.

        Raises:
            WorkerDied: it cannot be told.
        """
        new = [digest for digest in dict.fromkeys(databases) if digest not in self.held]
        told = {"use": databases, "new": new, "forget": self._room(databases, images)}
        self.sock.settimeout(self.patience)
        try:
            for part in (tables, json.dumps(told).encode(), *(images[digest] for digest in new), rest):
                frames.send(self.sock, part)
        except OSError as error:
            raise WorkerDied(str(error)) from error
        self.job, self.deadline = job, time.monotonic() + self.patience

    def _room(self, databases: Sequence[str], images: Mapping[str, bytes]) -> list[str]:
        """Note the databases of a job as those used last, and give those that have to go for them."""
        for digest in databases:
            self.held[digest] = self.held.pop(digest, len(images[digest]))
        gone: list[str] = []
        for digest in list(self.held):
            full = len(self.held) > HELD or sum(self.held.values()) > HELD_BYTES
            if full and digest not in databases:
                del self.held[digest]
                gone.append(digest)
        return gone

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
