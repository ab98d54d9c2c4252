"""How far something that takes long is: plain lines on standard error, in a terminal and in a log file alike.

Nothing is said of what is over soon. The time left follows from the time spent on what is done.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self, TextIO, TypeVar

import torch.distributed as dist

Item = TypeVar("Item")

FIRST = 10.0
"""Seconds before the first line."""
EVERY = 15.0
"""Seconds between two lines."""

_doing: ContextVar[str] = ContextVar("doing", default="")


class Progress:
    """Counts what is done and says so on the first rank, as ``<what>: 37 % of 120 rows, 12 s, about 20 s left``.

    Args:
        what: what takes long; `doing` puts what it is for before it.
        total: how many there are, or what finds that out if it is ever asked; None = nobody knows.
        unit: what they are.
        stream: where the lines go; None = standard error.
    """

    def __init__(
        self,
        what: str,
        total: float | Callable[[], float | None] | None,
        unit: str,
        stream: TextIO | None = None,
    ) -> None:
        self.what = ": ".join(filter(None, (_doing.get(), what)))
        self.total, self.unit, self.stream = total, unit, stream
        self.done, self.shown = 0.0, False
        self.began = time.monotonic()
        self.due = self.began + FIRST

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.end()

    def end(self) -> None:
        """All are done."""
        if self.shown:
            self._say(f"{self._amount(self.done)} in {time.monotonic() - self.began:.0f} s")

    def add(self, count: float = 1) -> None:
        """``count`` more are done."""
        self.at(self.done + count)

    def at(self, done: float) -> None:
        """So many are done."""
        self.done = done
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + EVERY
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        self.shown, spent = True, now - self.began
        if callable(self.total):
            self.total = self.total()
        if not self.total or not done:
            self._say(f"{self._amount(done)}, {spent:.0f} s")
            return
        share = min(1.0, done / self.total)
        left = spent * (1 - share) / share
        self._say(f"{100 * share:.0f} % of {self._amount(self.total)}, {spent:.0f} s, about {left:.0f} s left")

    def _amount(self, count: float) -> str:
        return f"{count:,.0f} {self.unit}"

    def _say(self, text: str) -> None:
        print(f"{self.what}: {text}", file=self.stream or sys.stderr, flush=True)


@contextmanager
def doing(label: str) -> Iterator[None]:
    """Inside, progress is shown as that of ``label``."""
    token = _doing.set(label)
    try:
        yield
    finally:
        _doing.reset(token)


def metered(
    items: Iterable[Item], what: str, total: float | Callable[[], float | None] | None, unit: str
) -> Iterator[Item]:
    """The items, counted as they are taken."""
    with Progress(what, total, unit) as meter:
        for item in items:
            yield item
            meter.add()


def silence_bars() -> None:
    """Turn off the bars of other libraries where nobody watches: in a file they are one line without an end.

    For processes that have not imported those libraries yet, which read this from their environment.
    """
    if sys.stderr.isatty():
        return
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    if "transformers" in sys.modules:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
