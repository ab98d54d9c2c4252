"""SIGTERM and SIGINT as a note to read between steps, and the exit that follows. Saving is not done here."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(SystemExit):
    """The run was stopped by a signal after its state was saved; exits with 128 + the signal's number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class Signals:
    """Remembers the first SIGTERM or SIGINT instead of letting it interrupt anything; later ones change nothing."""

    def __init__(self) -> None:
        self.received = 0
        self._process = 0
        self._previous: dict[int, Any] = {}

    def watch(self) -> None:
        """Take over both signals, from Lightning too: its handler talks to other ranks in the middle of a step."""
        if self._previous or threading.current_thread() is not threading.main_thread():
            return
        self.received, self._process = 0, os.getpid()
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}

    def unwatch(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker, which inherited this handler
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif not self.received:
            self.received = signum
            name = signal.Signals(signum).name
            os.write(2, f"{name}: finishing this step, then saving and stopping (SIGKILL stops at once)\n".encode())
