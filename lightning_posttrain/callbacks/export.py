"""Export the policy when training ends, as a folder that transformers, PEFT and the next stage's `pretrained` load.

What the folder holds is decided in `models.export`; this only knows which parts of a module go into it. FSDP2's shards
are gathered on every rank's CPU. ZeRO-3's are not: its own `zero_to_fp32.py` puts a checkpoint together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from ..models.export import Base, find_base, is_peft, save_model
from ..ops.sharding import gathered_state


class ModelExport(L.Callback):
    """Writes ``folder`` at the end of `fit`, from rank zero, whole or not at all.

    Args:
        folder: where; an earlier export there is replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        # Not in on_train_end: a run that was killed after its last step is resumed straight to this point.
        if any(hasattr(p, "ds_id") for p in pl_module.parameters()):
            return
        state = gathered_state(pl_module.model)
        if trainer.is_global_zero:
            export_module(pl_module, self.folder, state)


def export_module(module: Any, folder: Path, state: dict[str, Tensor] | None = None) -> None:
    """Write the policy of a built `PolicyModule`: the adapter if it has one, else its full weights.

    ``state`` is that of a sharded model.
    """
    base = base_of(module) if is_peft(module.model) else None
    save_model(module.model, module.tokenizer, module.renderer.stop_ids, folder, base, state)


def base_of(module: Any) -> Base:
    """The base under the adapter of a built `PolicyModule`."""
    return find_base(
        module.model,
        module.pretrained,
        module.architecture,
        vocab_size=len(module.tokenizer),
        load=module.load,
        seed=module.seed,
    )
