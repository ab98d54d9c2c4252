"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..types import UserError


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, line ends as they are, lone surrogates spelt out.

    Raises:
        UserError: it cannot be written; a file that was there before still is.
    """
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); make room, or name another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
