"""Weights from a folder or the hub, all of them and nothing else, or one line that says what is wrong with them.

transformers draws missing weights at random and leaves out the ones it does not know, both with a notice. Here a model
is read whole or not at all.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from ..types import UserError
from .errors import one_line, place
from .source import Source


def read_weights(source: Source, config: Any, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    """The model of ``config`` with the weights of ``source``.

    Raises:
        UserError: a file is broken or holds more than tensors, a weight is missing, unknown or of another shape.
    """
    where = f"pretrained={source.name!r}"
    try:
        with no_report():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source.name,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, and refused below
                **source.options,
                **options,
            )
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{where}: its weights are pickled and hold more than tensors, which may run code; it was not run. "
            "Give a folder with safetensors"
        ) from error
    except Exception as error:  # the hub client, the file system and the parsers each raise their own kinds
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise
        raise UserError(
            f"{where}: could not be loaded from {place(source)}: {broken_file(source) or one_line(error)} "
            "Give a folder in Hugging Face format, or `pretrained: null` with an `architecture`."
        ) from error
    check_report(where, loaded[1])
    model: PreTrainedModel = loaded[0]
    return model


def check_report(where: str, report: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the model.

    Raises:
        UserError: naming the first of them.
    """
    shapes = [f"{name} has the shape {list(a)}, not {list(b)}" for name, a, b in sorted(report["mismatched_keys"])]
    told = {
        "its config asks for other shapes": shapes,
        "weights are missing, and would be random": sorted(report["missing_keys"]),
        "weights have no place in the model of its config, and would be lost": sorted(report["unexpected_keys"]),
        "the weights do not fit": [str(message) for message in report.get("error_msgs", [])],
    }
    for what, names in told.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"{where}: {what}: {', '.join(names[:3])}{more}; give a folder whose config and weights match"
            )


def check_finite_weights(model: nn.Module, where: str) -> None:
    """Refuse a model that is broken before its first step.

    Raises:
        UserError: naming the first weight with a number that is not finite.
    """
    for name, weight in model.named_parameters():
        if not weight.is_floating_point():
            continue
        bad = int((~torch.isfinite(weight.detach())).sum())
        if bad:
            raise UserError(
                f"{where}: {name} holds {bad} numbers that are NaN or infinite (of {weight.numel()}) in "
                f"{str(weight.dtype).removeprefix('torch.')}; give sound weights"
            )


def broken_file(source: Source) -> str | None:
    """Which of a folder's files cannot be read, where one is to blame."""
    for path in sorted(Path(source.name).glob("*.safetensors")) if source.is_folder else ():
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dict
                    file.get_slice(name)
        except (SafetensorError, OSError, ValueError) as error:
            return f"{path.name} is no whole safetensors file ({one_line(error)})."
    return None


@contextmanager
def no_report() -> Iterator[None]:
    """transformers' table of what did not fit is not printed: it is refused in one line, or concerns nobody."""

    def other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)
