"""Holding a frozen base in 4 or 8 bits, and telling whether a checkpoint already is."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from ..types import UserError
from .spec import LoadSpec


def quantization(load: LoadSpec, dtype: torch.dtype) -> BitsAndBytesConfig:
    """What bitsandbytes is asked for."""
    if load.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=load.quantization,
        bnb_4bit_use_double_quant=load.double_quantization,
        bnb_4bit_compute_dtype=dtype,
    )


def quantize_random(model: PreTrainedModel, load: LoadSpec, dtype: torch.dtype) -> PreTrainedModel:
    """Random weights in 4 or 8 bits: saved and loaded again, as transformers only quantises while loading."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=quantization(load, dtype), dtype=dtype, attn_implementation="sdpa"
        )


def quantized_by(config: Any) -> str | None:
    """The method by which the weights of a config's checkpoint are quantised."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    return str(getattr(method, "value", method) or "an unnamed method")


def check_trainable(name: str, method: str | None, load: LoadSpec, adapted: bool) -> None:
    """Refuse quantised weights that nothing trains, and quantising them twice.

    Raises:
        UserError: naming the field.
    """
    if load.quantization and method:
        raise UserError(f"load.quantization={load.quantization}: pretrained={name!r} is quantised already ({method})")
    if load.quantization and not adapted:
        raise UserError(f"load.quantization={load.quantization} freezes the base, so nothing is trainable; add `lora`")
    if method and not adapted:
        raise UserError(
            f"pretrained={name!r} holds quantised weights ({method}), which are not trained; add `lora`, or give the "
            "full-precision model"
        )


def prepare_quantized(base: PreTrainedModel) -> None:
    """Freeze; let gradients reach the adapters below the first frozen layer when activations are recomputed."""
    for parameter in base.parameters():
        parameter.requires_grad = False
    for module in base.modules():
        # bitsandbytes repacks 4-bit weights for inference at the first forward without gradients, and backpropagates
        # wrongly through that form afterwards; an evaluation must not change how the next step trains.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - its type is unknown
    base.enable_input_require_grads()
