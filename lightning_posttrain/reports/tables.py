"""Tables as files: CSV for programs, Markdown for readers. Whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from ..types import UserError

Rows = Sequence[Sequence[object]]


def number(value: float | None) -> str:
    """Four significant digits, or nothing."""
    return "" if value is None else f"{value:.4g}"


def as_csv(header: Sequence[str], rows: Rows) -> str:
    """RFC 4180, with plain line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def as_markdown(header: Sequence[str], rows: Rows) -> str:
    """A pipe table; what would break a cell is escaped."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", "<br>") for c in cells) + " |"

    return "\n".join([line(header), "|" + " --- |" * len(header), *map(line, rows)]) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); name another file") from error
    finally:
        temporary.unlink(missing_ok=True)
