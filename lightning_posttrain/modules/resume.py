"""What a checkpoint must have in common with the run that loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..types import UserError


def check_identity(saved: Mapping[str, Any], mine: Mapping[str, Any], fitting: bool) -> None:
    """Refuse another tokenizer, whose ids mean other texts, and, to go on training, an optimizer of other numbers.

    Raises:
        UserError: naming what differs.
    """
    for name, value in saved.items():
        if value != mine[name] and (fitting or name == "tokenizer"):
            raise UserError(
                f"cannot resume: the checkpoint has {name}={value!r}, this run {mine[name]!r}; "
                "restore it, or start a new run from the checkpoint's exported model"
            )


def check_parameters(saved: Mapping[str, Tensor], mine: Mapping[str, Tensor]) -> None:
    """Refuse the parameters of another model.

    Raises:
        UserError: the trained parameters have other names or shapes.
    """
    wrong = sorted(set(mine) ^ set(saved)) or sorted(
        f"{k} {tuple(v.shape)} instead of {tuple(mine[k].shape)}" for k, v in saved.items() if v.shape != mine[k].shape
    )
    if wrong:
        raise UserError(f"the checkpoint belongs to another model: {len(wrong)} parameters differ, e.g. {wrong[:3]}")
