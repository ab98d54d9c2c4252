"""SIGTERM and SIGINT as a note to read between steps, and the exit that follows. Saving is not done here."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector


class Interrupted(SystemExit):
    """The run was stopped by a signal, its state saved if it had any; exits with 128 + the signal's number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class Signals:
    """Remembers the first SIGTERM or SIGINT instead of letting it interrupt anything; later ones change nothing.

    Args:
        at_once: raise `Interrupted` where the signal arrives, as long as nothing is lost by it.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.received, self.at_once = 0, at_once
        self._process = 0
        self._previous: dict[int, Any] = {}

    def watch(self) -> None:
        """Take over both signals; a second call does nothing."""
        if self._previous or threading.current_thread() is not threading.main_thread():
            return
        self.received, self._process = 0, os.getpid()
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}

    def unwatch(self) -> None:
        """Give both signals back."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def __enter__(self) -> Signals:
        self.watch()
        return self

    def __exit__(self, *_: object) -> None:
        self.unwatch()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker, which inherited this handler
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif not self.received:
            self.received = signum
            name = signal.Signals(signum).name
            if self.at_once:
                os.write(2, f"{name}: stopping; exit code {128 + signum}\n".encode())
                raise Interrupted(signum)
            os.write(2, f"{name}: finishing this step, then saving and stopping (SIGKILL stops at once)\n".encode())


class _LeavesThem(_SignalConnector):
    """Lightning's own handlers, but for these two: its answer to SIGTERM talks to other ranks wherever they are."""

    @staticmethod
    def _register_signal(signum: Any, handlers: Any) -> None:
        if signum not in (signal.SIGTERM, signal.SIGINT):
            _SignalConnector._register_signal(signum, handlers)


def keep_from_lightning(trainer: L.Trainer) -> None:
    """Have ``trainer`` leave SIGTERM and SIGINT to whoever has them."""
    trainer._signal_connector = _LeavesThem(trainer)


def stop_if_told(trainer: L.Trainer) -> None:
    """Stop the run if a signal asked for it; for long work between steps. With several ranks all have to call it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        stop = getattr(callback, "stop_if_told", None)
        if stop is not None:
            stop(trainer)
