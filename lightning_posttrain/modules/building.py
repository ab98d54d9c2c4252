"""What a module makes of its settings: tokenizer, renderer, limits of rows, and the policy itself.

The loop that trains it is `modules.base`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import lightning as L
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..models.config import Limits, generation_config, limits
from ..models.load import load_policy
from ..models.source import Source, resolve
from ..models.spec import LoadSpec, LoraSpec
from ..ops.sharding import shard
from ..text.render import Renderer
from ..text.spec import ChatSpec
from ..text.tokenizer import TokenizerSpec, build_tokenizer, vocabulary
from ..types import UserError
from .strategies import data_mesh


class BuildsPolicy(L.LightningModule):
    """A module with a policy that is built from settings; they are those of `PolicyModule`."""

    pretrained: str | None
    architecture: dict[str, Any] | None
    tokenizer_spec: TokenizerSpec
    lora: LoraSpec | None
    load: LoadSpec
    chat: ChatSpec
    seed: int
    model: Any

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Built on first use: a constructor that reads no file cannot fail on one.

        Raises:
            UserError: a new tokenizer for a model that brings its own.
        """
        spec = self.tokenizer_spec
        if self.source is not None and spec.source is None:
            if spec.kind is not None:
                raise UserError(
                    f"model.tokenizer.kind={spec.kind}: pretrained={self.pretrained!r} brings its own tokenizer; set "
                    "model.tokenizer.kind: null, or model.pretrained: null for random weights"
                )
            where = self.source.tokenizer()
            spec = replace(spec, source=where.name, revision=where.revision)
        return build_tokenizer(spec)

    @cached_property
    def source(self) -> Source | None:
        """Where pretrained weights, their configs and their tokenizer are."""
        return resolve(self.pretrained, self.load.revision)

    @cached_property
    def limits(self) -> Limits:
        """The embeddings and positions that the model has, or will have."""
        return limits(self.source, self.architecture, vocabulary(self.tokenizer), self.load)

    @cached_property
    def renderer(self) -> Renderer:
        """Turns messages into prompts, and knows the stop tokens."""
        return self.training_renderer()

    def training_renderer(self, **limits: Any) -> Renderer:
        """A renderer with this model's format and the data's ``max_length``, ``supervise`` and ``overlong``."""
        mine: dict[str, Any] = {"vocab_size": self.limits.vocab_size, "positions": self.limits.positions}
        return self.chat.renderer(self.tokenizer, generation_config(self.source), **mine, **limits)

    def decode(self, tokens: list[int]) -> str:  # special tokens included
        return str(self.tokenizer.decode(tokens))

    def configure_model(self) -> None:
        """Build the policy (once), in bf16 under ``precision: bf16-true``, else in float32."""
        if self.model is None:
            precision = str(self._trainer.precision) if self._trainer else "32-true"
            self.build({"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32))
        elif self.device_mesh is not None:
            raise UserError("--optimizer builds the model before it can be sharded; use model.optimizer with FSDP2")

    def build(self, dtype: torch.dtype = torch.float32) -> None:
        """Build the policy, outside a Trainer too."""
        self.model = self.initial_policy(dtype)
        if self.device_mesh is not None:
            mixed = str(self.trainer.precision) == "bf16-mixed"
            shard(self.model, data_mesh(self.device_mesh), torch.bfloat16 if mixed else None)

    def initial_policy(self, dtype: torch.dtype) -> nn.Module:
        """The policy as it is at the start of the run, another one with each call."""
        how: dict[str, Any] = {"load": self.load, "lora": self.lora, "seed": self.seed}
        return load_policy(self.pretrained, self.architecture, vocab_size=self.least_vocabulary, dtype=dtype, **how)

    @property
    def least_vocabulary(self) -> int:
        """Tokens that the model must have embeddings for.

        Tokens added to a tokenizer may be without one in published models (image tokens of text-only models): there a
        row that uses such a token is refused instead.
        """
        own = self.pretrained is not None and not self.load.resize_embeddings
        return vocabulary(self.tokenizer, added=not own)
