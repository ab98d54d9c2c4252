"""What is trained, in one line, in place of Lightning's table of wrapper modules."""

from __future__ import annotations

import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelSummary

from ..ops.logprobs import base_model


class PolicySummary(ModelSummary):
    """Says which model is trained, how many of its parameters, and in which dtypes. Its place keeps Lightning's out."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero and getattr(pl_module, "model", None) is not None:
            print(f"model: {describe(pl_module.model)}", file=sys.stderr)


def describe(model: Any) -> str:
    """``Qwen3ForCausalLM, 1,024 of 20,480 parameters trained, held in bfloat16, float32``."""
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    counts = f"{sum(p.numel() for p in trained):,} of {sum(p.numel() for p in parameters):,} parameters trained"
    held = ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in parameters}))
    return f"{type(base_model(model)).__name__}, {counts}, held in {held}"
