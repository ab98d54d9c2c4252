"""How many tokens a model takes in one row: one answer for training, sampling, evaluation and traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..types import MicroBatch, UserError


def max_positions(config: Any) -> int | None:
    """Most tokens of a row, given a transformers config; None where nothing limits them.

    The frequencies of rotary types ``longrope`` and ``dynamic`` depend on the longest row of a call once that exceeds
    the length they start from. Up to there a row comes out the same whatever it is packed with, so that is their limit.
    """
    text = config.get_text_config()
    trained = getattr(text, "max_position_embeddings", None)
    found = [trained] if isinstance(trained, int) and trained > 0 else []
    for rope in rope_settings(text):
        kind = str(rope.get("rope_type", ""))
        original = rope.get("original_max_position_embeddings")
        if ("dynamic" in kind or kind == "longrope") and isinstance(original, int):
            found.append(original)
    return min(found, default=None)


def rope_settings(text_config: Any) -> Iterator[Mapping[str, Any]]:
    """The rotary settings of a text config: one, or one for each type of layer."""
    rope = getattr(text_config, "rope_parameters", None)
    if isinstance(rope, Mapping):
        nested = [value for value in rope.values() if isinstance(value, Mapping)]
        yield from nested or [rope]


def check_positions(config: Any, micro: MicroBatch) -> None:
    """Refuse a row that is longer than the model takes, however it came into the micro-batch.

    Raises:
        UserError: naming the row, its length and the limit.
    """
    limit = max_positions(config)
    if limit is None or micro.layout.longest <= limit:
        return
    at = int(micro.lengths.argmax())
    name = micro.origins[at] or micro.ids[at] or "a row"
    raise UserError(
        f"{name}: the model would read {micro.layout.longest} tokens of this row, but has {limit} positions; shorten "
        "the row, or leave it out by data.max_length and data.overlong: drop"
    )
