"""Adapters on a model: new ones, or those of a folder."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ..types import UserError
from .errors import user_errors
from .source import Source
from .spec import LoraSpec
from .weights import check_report


def add_lora(base: PreTrainedModel, lora: LoraSpec) -> nn.Module:
    """``base`` frozen, with new adapters; their output is zero until trained.

    Raises:
        UserError: a name that no layer has, or a number out of range.
    """
    from peft import LoraConfig, get_peft_model

    targets = lora.target_modules

    def adapted() -> nn.Module:
        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]
            lora_dropout=lora.dropout,
            target_modules=targets[0] if targets == ["all-linear"] else targets,
            use_rslora=lora.rslora,
            use_dora=lora.dora,
            modules_to_save=lora.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            # PEFT warns of merging into tied embeddings; `export.merge` unties them.
            warnings.filterwarnings("ignore", ".*tie_word_embeddings=True.*")
            return get_peft_model(base, config)

    check_saved_names(base, lora)
    return user_errors(f"lora (target_modules={targets})", adapted)


def check_saved_names(base: nn.Module, lora: LoraSpec) -> None:
    """PEFT trains only the layers of ``modules_to_save`` that it finds, and says nothing of the others.

    Raises:
        UserError: naming the one that the model does not have.
    """
    found = {name.rsplit(".", 1)[-1] for name, _ in base.named_modules()}
    for name in lora.modules_to_save:
        if name.rsplit(".", 1)[-1] not in found:
            raise UserError(f"lora.modules_to_save: {type(base).__name__} has no layer {name!r}")


def load_adapter(base: PreTrainedModel, source: Source) -> nn.Module:
    """``base`` with the adapter of a folder, which goes on training.

    Raises:
        UserError: the adapter is broken, or is of another model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    where = f"pretrained={source.name!r}"

    def loaded() -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*missing adapter keys.*")  # refused below
            warnings.filterwarnings("ignore", ".*tie_word_embeddings=True.*")
            return PeftModel.from_pretrained(base, source.name, is_trainable=True)

    model = user_errors(where, loaded)
    given = user_errors(where, lambda: load_peft_weights(source.name, device="cpu"))
    mine = get_peft_model_state_dict(model, save_embedding_layers=False)
    unknown = {name for name in given.keys() - mine.keys() if "lora_" in name}
    check_report(where, {"mismatched_keys": [], "missing_keys": mine.keys() - given.keys(), "unexpected_keys": unknown})
    return model
