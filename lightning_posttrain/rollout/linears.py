"""Linear layers while completions are drawn: weights are packed, narrowed or dequantised once, not for every token.

On x86 CPUs oneDNN's products with a weight that it has packed are up to 3 times as fast as `F.linear` in float32; the
measurements are in benchmarks/LOG.md. Packed weights live as long as the context, so they are always those of the
policy as it is, and none take memory while it learns. Everything but the products stays as the model has it: adapters
add their part, and norms, attention and the residual stream keep their type. Layers in 8 bits and experts that are no
`nn.Linear` are left as they are.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.logprobs import base_model

Dtype = Literal["model", "auto", "bfloat16"]
"""What products are computed in: what the model computes in; bfloat16 if the CPU multiplies it natively; bfloat16."""

LARGE = 1 << 14
"""Elements from which a float32 weight is packed; for smaller ones the call costs more than the product."""

SHARE = 0.25
"""Share of the memory that dense or packed weights may take unless a narrow copy was asked for."""

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@contextmanager
def fast_linears(model: nn.Module, dtype: Dtype = "model", keep: bool = True) -> Iterator[None]:
    """Inside, plain and 4-bit linear layers take the fastest product there is. Inference only.

    Results are those of the layers up to rounding, or up to bfloat16's where that is asked for. The head keeps its
    type then, because its rounding would be that of the log-probs. Under autocast products have autocast's type.

    Args:
        model: a causal LM, possibly inside an adapter wrapper.
        dtype: of the products.
        keep: pack float32 weights, which takes the time of two or three tokens.
    """
    layers: list[Any] = [m for m in model.modules() if _linear(m) and "forward" not in vars(m)]
    narrow = dtype == "bfloat16" or (dtype == "auto" and _native_bfloat16())
    fits = 4 * sum(m.in_features * m.out_features for m in layers) <= _room()
    if not (fits or narrow) and any(map(_quantised, layers)):
        print(
            "sampling: the 4-bit base is dequantised again for every token, which is slow, because a dense copy would "
            f"take more than {SHARE:.0%} of the memory; dtype: bfloat16 of the sampler makes a copy of half the size",
            file=sys.stderr,
        )
    base: Any = base_model(model)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    replaced = []
    try:
        for module in layers:
            wanted = torch.bfloat16 if narrow and module is not head else None
            if (forward := _replacement(module, wanted, fits, keep)) is not None:
                module.forward = forward
                replaced.append(module)
        with torch.compiler.set_stance("force_eager"):  # compiled layers would be compiled anew for these
            yield
    finally:
        for module in replaced:
            del module.forward


def _replacement(module: Any, wanted: torch.dtype | None, fits: bool, keep: bool) -> Callable[[Tensor], Tensor] | None:
    """A faster ``forward`` of the layer, or None."""
    device, quantised = module.weight.device.type, _quantised(module)
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if not wanted and (device != "cpu" or (not fits and (quantised or autocast))):
        return None
    dense = _dequantised(module) if quantised else module.weight.detach()
    dtype = wanted or autocast or (module.compute_dtype if quantised else None) or dense.dtype
    pays = device == "cpu" and _onednn(dtype) and (dtype != torch.float32 or dense.numel() >= LARGE)
    converted = quantised or dtype != dense.dtype
    if not pays and not converted:
        return None
    weight = dense.to(dtype)
    if pays and (converted or (keep and fits)):
        weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    elif pays and dtype != torch.float32:
        return None  # what is not packed is as fast as it is
    bias = None if module.bias is None else module.bias.detach().to(dtype)
    accepted = None if converted else dtype
    return partial(_forward, module, _packed if pays else F.linear, weight, bias, dtype, accepted, autocast)


def _forward(
    module: nn.Linear,
    product: Product,
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    accepted: torch.dtype | None,
    result: torch.dtype | None,
    x: Tensor,
) -> Tensor:
    """(..., I) -> (..., O) in the type ``result``, or that of ``x``. Only ``accepted`` inputs, where that is given."""
    if (accepted is not None and x.dtype != accepted) or not x.numel():
        return type(module).forward(module, x)
    out = product(x.reshape(-1, x.shape[-1]).to(dtype), weight, bias)
    return out.view(*x.shape[:-1], -1).to(result or x.dtype)


def _packed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` by oneDNN, of a packed weight or of one as it is.

    From two rows on a row's numbers do not depend on how many there are, so a single one gets company.
    """
    rows = x if len(x) > 1 else x.repeat(2, 1)
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")[: len(x)]


def _linear(module: nn.Module) -> bool:
    """Whether it is a bare linear layer of floating-point numbers or of 4 bits; ZeRO-3 leaves empty ones behind."""
    plain = type(module) is nn.Linear and module.weight.is_floating_point()
    return (plain and type(module.weight) is nn.Parameter and module.weight.numel() > 0) or _quantised(module)


def _quantised(module: nn.Module) -> bool:
    kind = type(module)  # peft's wrapper of one has the same name
    return kind.__name__ == "Linear4bit" and kind.__module__.startswith("bitsandbytes.")


def _dequantised(module: Any) -> Tensor:
    from peft.utils.integrations import dequantize_bnb_weight

    return dequantize_bnb_weight(module.weight).detach()


@cache
def _onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies this type well here."""
    there = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
    return there and (dtype == torch.float32 or (dtype == torch.bfloat16 and _native_bfloat16()))


@cache
def _native_bfloat16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _room() -> float:
    """Bytes that weights beside the model may take, on every rank; the same each time, as is what follows from it."""
    total = psutil.virtual_memory().total
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return SHARE * total / (dist.get_world_size() if dist.is_initialized() else 1)
