"""Watching one snippet's process from outside: its output, its clock, its end. And the trainer: without it, all ends.

A worker must never outlive the trainer, even if that was killed and a process it forked keeps the socket open.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from . import frames

START_SECONDS = 20.0
"""Until a snippet's process has to be ready, on however busy a machine."""
PATIENCE, COMPUTED = 4, 0.8
"""A snippet may take this many times its time, until it has computed for this share of it: the machine may be busy."""
SLACK = 4096
"""Bytes that a snippet may send beyond its result: an error message, letters of stages."""


class Trainer:
    """The process at the other end.

    Args:
        sock: to it.
        pid: its number.
    """

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self.sock, self.pid, self.handle = sock, pid, pidfd(pid)

    def watched(self, events: int) -> select.poll:
        """A poll that tells when the trainer ends, and about these events of its socket."""
        poller = select.poll()
        poller.register(self.sock, events)
        if self.handle >= 0:
            poller.register(self.handle, select.POLLIN)
        return poller

    def gone(self, events: dict[int, int]) -> bool:
        return self.handle in events or os.getppid() != self.pid

    def message(self) -> bytes | None:
        """Wait for the next message; None when the trainer is gone."""
        poller = self.watched(select.POLLIN)
        while True:
            events = dict(poller.poll(1000))
            if self.gone(events):
                return None
            if self.sock.fileno() in events:
                return frames.receive(self.sock)


@dataclass
class Watch:
    """One process that runs a snippet.

    Args:
        pid: its number, which is that of its group too.
        reader: end of the pipe that it writes to.
        wall_seconds: from the first byte it writes.
        most: bytes it may write.
    """

    pid: int
    reader: int
    wall_seconds: float
    most: int

    def follow(self, trainer: Trainer) -> tuple[dict[str, Any], bytes]:
        """Until it ends, its time is over, it writes too much, or the trainer is gone: what happened, what it wrote."""
        self.written, self.ready, self.end = bytearray(), 0.0, "exit"
        self.deadline = time.monotonic() + START_SECONDS
        ended = pidfd(self.pid)
        poller = trainer.watched(0)  # of the socket only that the other side has gone
        poller.register(self.reader, select.POLLIN)
        if ended >= 0:
            poller.register(ended, select.POLLIN)
        finished = None
        while finished is None:
            wait = min(self.deadline - time.monotonic(), 1.0 if ended >= 0 else 0.005)
            events = dict(poller.poll(max(0.0, wait) * 1000))
            if trainer.sock.fileno() in events or trainer.gone(events):
                kill(self.pid)
                os._exit(0)
            if self.reader in events and not self._read():
                poller.unregister(self.reader)
            self._judge()
            finished = self._reaped()
        if ended >= 0:
            os.close(ended)
        while len(self.written) <= self.most and select.select([self.reader], [], [], 0)[0]:
            if not self._read():
                break
        return self._header(*finished), bytes(self.written[: self.most])

    def _read(self) -> bool:
        part = os.read(self.reader, 1 << 16)
        self.written += part
        return bool(part)

    def _judge(self) -> None:
        """Start the clock at the first byte; kill what is over its limits."""
        now = time.monotonic()
        if self.written and not self.ready:
            self.ready, self.deadline = now, now + self.wall_seconds
        if len(self.written) > self.most or self._late(now):
            self.end = "flood" if len(self.written) > self.most else "timeout"
            kill(self.pid)

    def _late(self, now: float) -> bool:
        """Whether its time is over. What had to wait for the processor is given more."""
        last = self.ready + PATIENCE * self.wall_seconds
        missing = COMPUTED * self.wall_seconds - cpu_seconds(self.pid) if now >= self.deadline and self.ready else 0.0
        if missing > 0 and now < last:
            self.deadline = min(now + max(missing, 0.01), last)
        return now >= self.deadline

    def _reaped(self) -> tuple[int, Any] | None:
        """Status and resources of the process once it has ended and what it may have left behind is killed."""
        wait = 0 if self.end != "exit" else os.WNOHANG
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | wait) is None:
            return None
        kill(self.pid)  # its group, before its number is free again
        _, status, usage = os.wait4(self.pid, 0)
        return status, usage

    def _header(self, status: int, usage: Any) -> dict[str, Any]:
        return {
            "end": self.end,
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - self.ready if self.ready else 0.0,
            "cpu": usage.ru_utime + usage.ru_stime,
            "rss": usage.ru_maxrss * 1024,
        }


def kill(pid: int) -> None:
    """End a process and its group; it may not lead one yet."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    """What a process has computed for so far; files of /proc are out of reach by now."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid makes of the number
    except OSError:
        return math.inf


def pidfd(pid: int) -> int:
    """A handle that becomes readable when a process ends; -1 where there is none, and a clock does instead."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return -1
