"""Rows -> examples by way of a renderer, many at a time: the texts of all of them are encoded in one call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import contextmanager
from typing import Any

from ..types import Conversation, Example, UserError
from .render import Draft, Renderer

Row = dict[str, Any]
Rows = Items[tuple[Row, str]]


class RenderedRows(ABC):
    """Raw row -> example. It travels to worker processes.

    Args:
        renderer: turns conversations into sequences.
    """

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    @abstractmethod
    def conversations(self, row: Mapping[str, Any], origin: str) -> tuple[Conversation, ...]:
        """What a row says; raises UserError for a bad one."""

    @abstractmethod
    def example(self, conversations: Items[Conversation], rendered: Items[Example]) -> Example:
        """The example that the sequences of each of those conversations make; raises UserError for a bad one."""

    def __call__(self, row: Mapping[str, Any], origin: str) -> Example:
        """The example of one row.

        Raises:
            UserError: the row is bad.
        """
        (found,) = self.many([(dict(row), origin)])
        if isinstance(found, UserError):
            raise found
        return found

    def many(self, rows: Rows) -> list[Example | UserError]:
        """The example of each row, or what is wrong with it."""
        drafts = [self._drafts(row, origin) for row, origin in rows]
        good = [draft for found in drafts if not isinstance(found, UserError) for draft in found]
        rendered = iter(self.renderer.encoded(good) if good else [])
        return [
            found if isinstance(found, UserError) else self._example(found, [next(rendered) for _ in found])
            for found in drafts
        ]

    def _drafts(self, row: Mapping[str, Any], origin: str) -> list[Draft] | UserError:
        with named(origin):
            try:
                return [self.renderer.draft(talk) for talk in self.conversations(row, origin)]
            except UserError as error:
                return error

    def _example(self, drafts: list[Draft], rendered: list[Example | UserError]) -> Example | UserError:
        wrong = next((found for found in rendered if isinstance(found, UserError)), None)
        if wrong is not None:
            return wrong
        try:
            return self.example([d.conversation for d in drafts], rendered)  # type: ignore[arg-type]
        except UserError as error:
            return error


@contextmanager
def named(origin: str) -> Iterator[None]:
    """Adds the row to whatever is raised inside."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while tokenising {origin}")
        raise
