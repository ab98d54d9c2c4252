"""The settings a model is built by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class LoraSpec:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) on the linear layers; everything else is frozen."""

    r: int = 8
    """Rank."""
    alpha: float = 16.0
    """Scale: the update is multiplied by alpha / r (alpha / sqrt(r) with ``rslora``)."""
    dropout: float = 0.0
    """Dropout on the adapter's input."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Names of the layers that get an adapter; ``all-linear`` = every linear layer but the head."""
    rslora: bool = False
    """Rank-stabilised scale."""
    dora: bool = False
    """Weight-decomposed adapters (Liu et al. 2024, arXiv:2402.09353)."""
    modules_to_save: list[str] = field(default_factory=list)
    """Layers that are trained whole beside the adapters, e.g. ``lm_head``."""


@dataclass(frozen=True)
class LoadSpec:
    """How weights are held in memory."""

    quantization: Literal["nf4", "fp4", "int8"] | None = None
    """Hold the frozen base in 4 or 8 bits (bitsandbytes); needs ``lora``."""
    double_quantization: bool = True
    """Quantise the 4-bit scales as well (0.4 bits per weight less)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward: about a third more compute for much less memory."""
    compile: bool = False
    """torch.compile the decoder's layers."""
    revision: str | None = None
    """Git revision of a hub model: of its tokenizer, configs and weights."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Values set in the model's config before it is built, e.g. ``{rope_theta: 1.0e6}``; a dict is merged into the one
    that is there. A name the model does not have is refused."""
    resize_embeddings: bool = False
    """Add embeddings for the tokens that the tokenizer has beyond the model's; they begin near the mean of the others.
    Not with ``lora``, which would freeze them."""
