"""Write a model as a Hugging Face folder that plain transformers and PEFT load, and prove that they do.

A folder holds full weights or an adapter, the tokenizer with its chat template, and a generation config with every
stop token. It appears whole or not at all. Pushing to the hub and other formats (GGUF, ONNX) are left out.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ..ops.attention import plain_attention
from ..ops.logprobs import base_model
from ..records.files import whole_folder
from ..types import UserError
from .load import load_policy
from .quantize import quantized_by
from .source import Source, resolve
from .spec import LoadSpec

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest logit difference that is rounding, per unit of the largest logit (at least 1)."""
PROBE_TOKENS = 64
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Fields of a generation config that only sampling reads."""


@dataclass(frozen=True)
class Base:
    """The frozen model under an adapter, as others will find it.

    Args:
        name: hub id, absolute folder, or ``base`` for a copy beside the adapter.
        write: writes that copy into the folder it is given; None where nothing has to be written.
    """

    name: str
    write: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Difference:
    """Logits of two models on the same tokens."""

    largest: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.largest <= self.tolerance


def is_peft(model: nn.Module) -> bool:
    """Whether ``model`` is an adapter wrapper."""
    return hasattr(model, "peft_config")


def find_base(
    model: nn.Module,
    pretrained: str | None,
    architecture: Mapping[str, Any] | None,
    *,
    vocab_size: int,
    load: LoadSpec,
    seed: int,
) -> Base:
    """Where the base of the adapter ``model`` is, given what `load_policy` built it from.

    A base with random weights exists nowhere else, so it is written beside the adapter, in full precision.
    """
    source = resolve(pretrained, load.revision)
    if source is None:

        def rebuild(folder: Path) -> None:
            like = base_model(model)
            random_base(like, architecture, vocab_size=vocab_size, load=load, seed=seed).save_pretrained(folder)

        return Base("base", rebuild)
    if not source.is_adapter:
        return Base(_findable(source.name))
    base = Path(source.base().name)
    if base.parent == Path(source.name):

        def copy_beside(folder: Path) -> None:
            shutil.copytree(base, folder)

        return Base("base", copy_beside)
    return Base(_findable(str(base)))


def _findable(name: str) -> str:
    """A folder by its absolute path, so that the working directory does not matter; a hub id as it is."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def random_base(
    like: PreTrainedModel, architecture: Mapping[str, Any] | None, *, vocab_size: int, load: LoadSpec, seed: int
) -> PreTrainedModel:
    """The random base of ``like`` again, without quantisation.

    Raises:
        UserError: the seed gives other weights here than it gave in the run.
    """
    plain = replace(load, quantization=None, gradient_checkpointing=False, compile=False)
    named = [(n, p) for n, p in like.named_parameters() if "lora_" not in n and not isinstance(p, DTensor)]
    floats = {_plain_name(n): p for n, p in named if p.is_floating_point()}  # shards are on other ranks too: unchecked
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:  # their generators differ
        with torch.device(device):
            built: Any = load_policy(
                None, architecture, vocab_size=vocab_size, dtype=_dtype(like), load=plain, seed=seed
            )
        mine = built.state_dict()
        if all(torch.equal(p.detach().cpu(), mine[n].cpu()) for n, p in floats.items() if n in mine):
            return _loadable(built)
    raise UserError(
        f"the random base weights of seed {seed} come out differently here than in the run, so the adapter cannot be "
        "written with its base; export on the kind of device and with the torch version of the run (run.json)"
    )


def _plain_name(name: str) -> str:
    """Name in the model without adapters; trained copies (``modules_to_save``) keep a name it does not have."""
    return name.replace(".base_layer.", ".").replace(".original_module.", ".")


def _dtype(model: nn.Module) -> torch.dtype:
    """Dtype of the weights that are not quantised; adapters may be wider than their base."""
    return next(p.dtype for n, p in model.named_parameters() if p.is_floating_point() and "lora_" not in n)


def save_model(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    stop_ids: Collection[int],
    folder: Path,
    base: Base | None = None,
    state: dict[str, Tensor] | None = None,
) -> None:
    """Write ``folder``, replacing an earlier one; ``model`` is left as it was.

    Args:
        model: a causal LM, or an adapter wrapper around one, of which only the adapter is written.
        tokenizer: with the chat template of the training.
        stop_ids: every token that ends an answer.
        folder: written whole or not at all.
        base: needed with an adapter.
        state: weights of a sharded model (`ops.sharding.gathered_state`).

    Raises:
        UserError: the folder cannot be written.
    """
    with whole_folder(folder) as temporary:
        with _standard_config(base_model(model), tokenizer, stop_ids) as inner:
            if is_peft(model):
                assert base is not None
                _save_adapter(model, temporary, base, state)
            else:
                inner.save_pretrained(temporary, state_dict=state)
            inner.generation_config.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _save_adapter(model: Any, folder: Path, base: Base, state: dict[str, Tensor] | None) -> None:
    config = model.peft_config["default"]
    before = config.base_model_name_or_path
    config.base_model_name_or_path = base.name
    try:
        # Vocabularies are never resized here, so embeddings are written only where they were trained.
        model.save_pretrained(str(folder), selected_adapters=["default"], save_embedding_layers=False, state_dict=state)
    finally:
        config.base_model_name_or_path = before
    (folder / "README.md").unlink(missing_ok=True)  # a form with every field left open
    if base.write is not None:
        base.write(folder / "base")


@contextmanager
def _standard_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]
) -> Iterator[PreTrainedModel]:
    """``model`` with the configuration that others expect: its own attention, a cache, the stop tokens."""
    config, generation = model.config, model.generation_config
    model.config, model.generation_config = copy.deepcopy(config), copy.deepcopy(generation)
    text = model.config.get_text_config()
    holders: list[Any] = [text] if model.generation_config is None else [text, model.generation_config]
    for holder in holders:
        for name in ("bos_token_id", "pad_token_id"):
            if (own := getattr(tokenizer, name)) is not None:
                setattr(holder, name, own)
        holder.eos_token_id = _stops(holder.eos_token_id, stop_ids, every=holder is not text)
        holder.use_cache = True
    if model.generation_config is not None:
        _savable(model.generation_config)
    try:
        yield _loadable(model)
    finally:
        model.config, model.generation_config = config, generation


def _savable(generation: Any) -> None:
    """Greedy generation configs with numbers for sampling, which nothing reads, are published but not written again."""
    if not generation.do_sample:
        for name in SAMPLING:
            setattr(generation, name, None)


def _stops(named: int | list[int] | None, stop_ids: Collection[int], every: bool) -> int | list[int]:
    """What a config names as the end of an answer: its own ids in its own order first, and ``every`` other one.

    A config whose ids do not end an answer here (those of a random model are of no vocabulary) gets all that do.
    """
    own = [named] if isinstance(named, int) else list(named or [])
    kept = [i for i in own if i in stop_ids]
    if kept != own or not own or every:
        kept += sorted(set(stop_ids) - set(kept))
    return kept[0] if len(kept) == 1 else kept


def _loadable(model: PreTrainedModel) -> PreTrainedModel:
    """Random models are built without a cache; whoever loads them wants one."""
    model.config.get_text_config().use_cache = True
    return model


# ---- proof ----------------------------------------------------------------------------------------------------------


def probe_ids(vocab_size: int) -> Tensor:
    """(1, 64) int64 token ids, always the same for one vocabulary."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocab_size, (1, PROBE_TOKENS), generator=generator)


@torch.no_grad()
def probe_logits(model: nn.Module, ids: Tensor) -> Tensor:
    """(T, V) float32 logits of an ordinary forward in eval mode, on the CPU."""
    inner = base_model(model)
    training = model.training
    model.eval()
    try:
        with plain_attention(inner):
            logits = model(input_ids=ids.to(inner.device), use_cache=False).logits
    finally:
        model.train(training)
    return logits[0].float().cpu()


def difference(mine: Tensor, other: Tensor, dtype: torch.dtype) -> Difference:
    """Largest absolute difference of logits, and what rounding in ``dtype`` explains."""
    scale = max(1.0, float(mine.abs().max()))
    return Difference(float((mine - other).abs().max()), TOLERANCE[dtype] * scale)


def reload(folder: Path, dtype: torch.dtype) -> nn.Module:
    """What plain transformers and PEFT make of ``folder``: full weights, or an adapter on its base."""
    source = Source(str(folder))
    if not source.is_adapter:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    from peft import PeftModel

    base = source.base()
    return PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base.name, dtype=dtype, **base.options), str(folder)
    )


def merge(model: Any) -> PreTrainedModel:
    """The adapter added into its base; ``model`` is used up.

    Raises:
        UserError: the base is a checkpoint of quantised weights, which would keep their error.
    """
    base = base_model(model)
    if method := quantized_by(base.config):
        raise UserError(
            f"merge=true: the base {base.config._name_or_path!r} holds quantised weights ({method}). Export the "
            "adapter without merge, name its full-precision model in base_model_name_or_path of adapter_config.json, "
            "and merge that: export --model FOLDER --merge true"
        )
    _untie(model, base)
    merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    return merged


def _untie(model: Any, base: PreTrainedModel) -> None:
    """Give head and embedding weights of their own where one weight serves both and an adapter changes only one."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    if not any(isinstance(layer, BaseTunerLayer) for layer in (head, embedding)):
        return
    plain: Any = head.get_base_layer() if isinstance(head, BaseTunerLayer) else head
    plain.weight = nn.Parameter(plain.weight.detach().clone(), requires_grad=False)
    for config in (base.config, base.config.get_text_config()):
        config.tie_word_embeddings = False
