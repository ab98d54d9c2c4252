"""Rows with a better and a worse answer -> pairs of sequences -> whole optimizer steps. Wiring only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..records.preferences import preference
from ..tasks.base import Task
from ..text.render import EACH_ANSWER, Renderer
from ..text.rows import RenderedRows
from ..types import Conversation, Example, UserError
from .examples import ExampleDataModule


class RowPair(RenderedRows):
    """Raw row -> (chosen, rejected)."""

    def conversations(self, row: Mapping[str, Any], origin: str) -> tuple[Conversation, ...]:
        pair = preference(row, origin)
        return tuple(
            Conversation((*pair.prompt, *answer), pair.id, origin, pair.meta, pair.template_kwargs)
            for answer in (pair.chosen, pair.rejected)
        )

    def example(self, conversations: Sequence[Conversation], rendered: Sequence[Example]) -> Example:
        id, origin = conversations[0].id, conversations[0].origin
        if max(map(len, rendered)) > 1:
            raise UserError(f"{origin}: {EACH_ANSWER}; a pair compares one of each. Set `supervise: last_turn`.")
        (chosen,), (rejected,) = rendered
        if chosen.ids.tolist() == rejected.ids.tolist():
            raise UserError(f"{origin}: chosen and rejected are the same tokens, so neither is better. Remove the row.")
        return chosen, replace(rejected, id=f"{id} (rejected)")


class PreferenceDataModule(ExampleDataModule):
    """Pairs of a better and a worse answer from files or the hub, for training and validation.

    Rows have ``prompt``, ``chosen`` and ``rejected``, or whole conversations in the last two; both mean the same.

    Args:
        supervise: whether all turns of an answer are compared, or its last one.
        **data: see `ExampleDataModule`.
    """

    def __init__(
        self, path: str | None = None, supervise: Literal["all_turns", "last_turn"] = "last_turn", **data: Any
    ) -> None:
        super().__init__(path=path, supervise=supervise, **data)
        for part in self.mix or []:
            if part.task is not None:
                raise UserError(f"mix: {part.path}: task={type(part.task).__name__}; pairs are read by their columns")

    def make_example(self, renderer: Renderer, task: Task | None) -> RowPair:
        return RowPair(renderer)

    @property
    def row_key(self) -> str:
        return "pairs"
