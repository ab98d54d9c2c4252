"""What transformers and its readers raise, as one line for the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..types import UserError
from .source import Source

T = TypeVar("T")


def user_errors(what: str, made: Callable[[], T]) -> T:
    """``made()``, with whatever is raised in it as one line that begins with ``what``.

    Raises:
        UserError: in place of anything but a lack of memory.
    """
    try:
        return made()
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise UserError(f"{what}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """What an error says, in one line; with its kind where it says nothing, or only a key."""
    text = " ".join(str(error).split())
    if not text or isinstance(error, (KeyError, AssertionError)):
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= 300 else text[:300] + "..."


def place(source: Source) -> str:
    """Where a source was looked for, in words."""
    return "that folder" if source.is_folder else "the hub (there is no such folder here)"
