"""Rows that are longer than the run or its model takes."""

from __future__ import annotations

from collections.abc import Mapping

from ..types import UserError

POSITIONS = "the model's positions"
"""The name of a limit that no option raises."""


class OverlongRow(UserError):
    """A row longer than ``max_length``. ``drop`` tells whoever collects rows to count it and go on."""

    drop = False


def overlong_row(origin: str, length: int, limits: Mapping[str, int | None], drop: bool) -> OverlongRow | None:
    """The error of a row with more tokens than one of ``limits``, or None.

    Args:
        origin: ``file:line`` of the row.
        length: its tokens.
        limits: name -> most tokens, or None for no limit.
        drop: whether such rows are left out and counted.
    """
    passed = {name: limit for name, limit in limits.items() if limit is not None and length > limit}
    if not passed:
        return None
    remedies = [] if POSITIONS in passed else ["raise max_length"]
    remedies += ["shorten the row"] if POSITIONS in passed or not drop else []
    remedies += [] if drop else ["set `overlong: drop`"]
    remedy = " or ".join([", ".join(remedies[:-1]), remedies[-1]] if remedies[1:] else remedies).capitalize()
    above = " and ".join(f"{name} {limit}" for name, limit in passed.items())
    found = OverlongRow(f"{origin}: the row has {length} tokens, above {above}. {remedy}.")
    found.drop = drop
    return found
