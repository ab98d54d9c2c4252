"""Make the policy: pretrained weights (hub id or folder), an adapter folder, or random weights from an architecture.

Everything ends in the same state: layout attention, no attention dropout, optional adapter, quantisation, gradient
checkpointing. Weights are read from safetensors or with weights_only; code that comes with a model is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from ..ops.attention import use_layout_attention
from ..types import UserError
from .adapters import add_lora, load_adapter
from .config import architecture_config, pretrained_config
from .errors import user_errors
from .olmo3 import initialise
from .packing import check_packing
from .quantize import check_trainable, prepare_quantized, quantization, quantize_random, quantized_by
from .source import Source, resolve
from .spec import LoadSpec, LoraSpec
from .weights import check_finite_weights, no_report, read_weights


def load_policy(
    pretrained: str | None,
    architecture: Mapping[str, Any] | None,
    *,
    vocab_size: int,
    dtype: torch.dtype = torch.float32,
    load: LoadSpec = LoadSpec(),
    lora: LoraSpec | None = None,
    seed: int = 0,
) -> nn.Module:
    """The policy, ready for `token_logprobs`, in train mode, on the current default device.

    Args:
        pretrained: folder or hub id; an adapter folder loads its base as well and goes on training the adapter.
        architecture: config fields with ``model_type``, or with the ``name`` of an Olmo 3 model (`models.olmo3`), for
            random weights; used when ``pretrained`` is None.
        vocab_size: tokens that the model must have embeddings for.
        dtype: of the weights that are not quantised.
        seed: of random weights and of new adapters.

    Raises:
        UserError: nothing to load, broken or incomplete weights, quantised full fine-tuning, too few embeddings,
            attention that cannot be packed.
    """
    source = resolve(pretrained, load.revision)
    model: Any
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if source is None:
            base = _random(architecture, vocab_size, dtype, load, adapted=lora is not None)
        else:
            _check_one_adapter(source, lora)
            base = _pretrained(source, vocab_size, dtype, load, adapted=lora is not None or source.is_adapter)
        use_layout_attention(base)
        if load.gradient_checkpointing:
            user_errors(
                "load.gradient_checkpointing=true",
                lambda: base.gradient_checkpointing_enable({"use_reentrant": False}),
            )
        if quantized_by(base.config):
            prepare_quantized(base)
        model = base
        if source is not None and source.is_adapter:
            model = load_adapter(base, source)
        if source is not None:
            check_finite_weights(model, f"pretrained={pretrained!r}")
        check_packing(base)
        if lora is not None:
            model = add_lora(base, lora)
    if load.compile:
        for layer in _layers(base):
            layer.compile()
    return model.train()


def _check_one_adapter(source: Source, lora: LoraSpec | None) -> None:
    if lora is not None and source.is_adapter:
        raise UserError(
            f"pretrained={source.name!r} is an adapter and `lora` asks for another; drop `lora` to go on training it, "
            "or merge it first: lightning-posttrain export --merge true"
        )


def _random(
    architecture: Mapping[str, Any] | None, vocab_size: int, dtype: torch.dtype, load: LoadSpec, adapted: bool
) -> PreTrainedModel:
    if architecture is None:
        raise UserError("no model: give `pretrained` (folder or hub id) or `architecture` (config fields)")
    check_trainable("", None, load, adapted)
    config = architecture_config(architecture, vocab_size, load)
    _check_ids(config, vocab_size, "architecture", "set architecture.vocab_size", "architecture.")
    with torch.device("cpu"):  # so that a seed means the same weights wherever they are used
        model = user_errors("model.architecture", lambda: AutoModelForCausalLM.from_config(config, dtype=dtype))
        if "name" in architecture:
            initialise(model, config.initializer_range)
    return quantize_random(model, load, dtype) if load.quantization else model


def _pretrained(source: Source, vocab_size: int, dtype: torch.dtype, load: LoadSpec, adapted: bool) -> PreTrainedModel:
    whole = source.base() if source.is_adapter else source
    config = pretrained_config(whole, load)
    check_trainable(whole.name, quantized_by(config), load, adapted)
    if load.resize_embeddings and adapted:
        raise UserError(
            "load.resize_embeddings adds embeddings that `lora` would freeze: resize the model and save it once with "
            "transformers (resize_token_embeddings, save_pretrained), then train that folder with "
            "lora.modules_to_save: [embed_tokens, lm_head]"
        )
    least = 0 if load.resize_embeddings else vocab_size
    _check_ids(config, least, f"pretrained={whole.name!r}", "set load.resize_embeddings: true", "load.overrides.")
    options = {"quantization_config": quantization(load, dtype)} if load.quantization else {}
    model = read_weights(whole, config, dtype, **options)
    if load.resize_embeddings and config.get_text_config().vocab_size < vocab_size:
        with no_report():
            model.resize_token_embeddings(vocab_size)
    return model


def _check_ids(config: Any, vocab_size: int, name: str, remedy: str, where: str) -> None:
    """Too few embeddings, or a padding id that has none: building the model would fail without saying why."""
    text = config.get_text_config()
    if text.vocab_size < vocab_size:
        raise UserError(
            f"the tokenizer has {vocab_size} tokens but the model ({name}) only {text.vocab_size} embeddings; use the "
            f"model's own tokenizer, or {remedy}"
        )
    pad = text.pad_token_id
    if isinstance(pad, int) and not -text.vocab_size <= pad < text.vocab_size:
        raise UserError(
            f"{name}: pad_token_id={pad} is outside of the model's {text.vocab_size} embeddings; set "
            f"{where}pad_token_id: null"
        )


def _layers(base: PreTrainedModel) -> Any:
    layers = getattr(base.get_decoder(), "layers", None)
    if layers is None:
        raise UserError(f"load.compile=true: {type(base).__name__} has no `layers` to compile; leave it out")
    return layers
