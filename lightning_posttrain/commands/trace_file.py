"""The files of `traces`: progress that survives a kill at any moment, and the result, which appears whole.

Rows are appended to ``<output>.partial.jsonl``, whose first line holds the settings they were drawn with. In the end
the statistics, then the output take their places, and the progress goes. What rows mean is the command's business.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any

from ..types import UserError

Row = dict[str, Any]

PUBLIC = ("id", "question", "answer", "source", "attempts")
"""Columns of the output; a row of the progress also counts what went wrong with it."""


class TraceFile:
    """The rows drawn so far, on disk; made by `trace_file`.

    Args:
        output: the file to be made.
        file: its progress, open and locked; other settings or damage in it are refused.
        settings: name -> JSON value of everything that decides the rows.
        resume: go on with the rows that are there instead of starting again.

    Raises:
        UserError: naming the settings that differ, or the damage.
    """

    def __init__(self, output: Path, file: BufferedRandom, settings: Mapping[str, Any], resume: bool) -> None:
        self.output, self.file, self.settings = output, file, json.loads(json.dumps(settings))
        self.stats = output.with_name(f"{output.name}.stats.json")
        self.lines: list[bytes] = []
        if resume:
            file.seek(0)
            self.lines = file.read().splitlines(keepends=True)
        if self.lines and not self.lines[-1].endswith(b"\n"):
            self.lines.pop()  # torn off by a kill
        if len(self.lines) < 2:  # no row: whatever its settings, nothing is lost
            self.lines = []
        self.rows: list[Row] = self._read()
        self.keep(len(self.rows))

    def _read(self) -> list[Row]:
        path = self.file.name
        try:
            header, *rows = [json.loads(line) for line in self.lines] or [{}]
            before = header["settings"] if rows else self.settings
            named = sorted(k for k in {*before, *self.settings} if before.get(k) != self.settings.get(k))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: is no progress of `traces` ({error}); start again with --resume false") from error
        if named:
            changes = ", ".join(f"{k}={before.get(k)!r}, now {self.settings.get(k)!r}" for k in named)
            raise UserError(
                f"{path}: was made with other settings: {changes}; restore them to go on, or start again with "
                "--resume false"
            )
        return rows

    def keep(self, count: int) -> None:
        """Keep only the first ``count`` rows."""
        self.rows, self.lines = self.rows[:count], self.lines[: count + 1] if count else []
        self.file.truncate(sum(map(len, self.lines)))

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows; they are on the disk when this returns.

        Raises:
            UserError: the disk refuses.
        """
        values = [*rows] if self.lines else [{"settings": self.settings}, *rows]
        lines = [_line(value) for value in values]
        try:
            self.file.write(b"".join(lines))
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise UserError(f"{self.file.name}: cannot be written ({error}); free the disk, then go on") from error
        self.lines += lines
        self.rows += rows

    def publish(self, stats: Mapping[str, Any]) -> None:
        """Make the output of the rows, and the statistics beside it; the progress goes.

        Raises:
            UserError: the disk refuses.
        """
        try:
            _replace(self.stats, json.dumps(stats, indent=2).encode() + b"\n")
            _replace(self.output, b"".join(_line({name: row[name] for name in PUBLIC}) for row in self.rows))
            Path(self.file.name).unlink()
        except OSError as error:
            raise UserError(f"{self.output}: cannot be written ({error}); free the disk, then go on") from error


@contextmanager
def trace_file(
    output: str | Path, settings: Mapping[str, Any], *, resume: bool = True, overwrite: bool = False
) -> Iterator[TraceFile]:
    """The progress towards ``output``, for this process alone while the block runs.

    Args:
        output, settings, resume: see `TraceFile`.
        overwrite: ``output`` may exist and is replaced in the end. Progress beside it may always be finished.

    Raises:
        UserError: the output exists, another process makes it, the place cannot be written, or see `TraceFile`.
    """
    output = Path(output)
    path = output.with_name(f"{output.name}.partial.jsonl")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise UserError(f"output_file={output}: cannot be written ({error}); name another file") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another process is at work on it; wait for it, or name another file") from None
        try:
            progress = TraceFile(output, file, settings, resume)
            if output.exists() and not overwrite and not progress.rows:
                raise UserError(f"{output}: exists; replace with --overwrite true, or name another --output_file")
            yield progress
        finally:
            if path.exists() and not path.stat().st_size:
                path.unlink()


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"  # ASCII: a lone surrogate in an answer must not stop a run


def _replace(path: Path, content: bytes) -> None:
    """Write ``path`` whole or not at all, also when the power fails."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
