"""Token shards or text, mixed in exact proportions -> whole optimizer steps. Wiring only."""

from __future__ import annotations

import sys
from typing import Any

import lightning as L
from transformers import PreTrainedTokenizerBase

from ..batching.blocks import TokenBlocks, check_sizes
from ..batching.corpus import cached_shards, check_tokenizer, is_shards
from ..batching.loader import StepLoader
from ..batching.mix import Mixture
from ..mixing.tree import Leaf, check_leaves, flatten_mix, flatten_sources
from ..models.chinchilla import Plan
from ..records.shards import shard_files
from ..types import Example, UserError
from .examples import NEVER_SHARED, check_files


class PretrainDataModule(L.LightningDataModule):
    """Blocks of tokens from several sources, in the proportions of a mixture, exact to one block.

    Args:
        sources: name -> token shards (.npy, or .bin of ``dtype``) or text (.txt, .jsonl, .parquet, ..., tokenised once
            with the model's tokenizer): a file, folder or pattern, or a list of them. May be nested: a value
            ``{topics: {...}}`` or ``{quality: {...}}`` makes leaves ``source:topic:quality``.
        mix: the weight of each leaf, nested as ``sources`` or by the leaves' whole names; those of a level sum to 1.
            In place of a weight may stand ``{weight, repetition_factor}``: how often a leaf's tokens may be used, 1 by
            default. null = each leaf in proportion to its tokens.
        val_sources: held-out shards or text, for ``val/nll``.
        tokens: to train on; null = the model's plan (``model.chinchilla``), or else all there are for the mixture.
        sequence_length: tokens of a block.
        tokens_per_step: tokens of an optimizer step over all ranks: the batch size; null = the plan's.
        tokens_per_micro: most tokens on a device at once: the memory bound; null = one block.
        mask_documents: no token attends to another document; false = blocks are learned across the ends of documents.
        dtype: of the numbers in .bin files: uint16 or uint32.
        text_column: of the text in files of rows.
        num_workers: processes that tokenise text; 0 = this one.
        cache_dir: tokenised text and facts about shards are kept here, under a hash of everything that decides them.
        seed: of the blocks drawn and of their order.
    """

    def __init__(
        self,
        sources: dict[str, Any],
        mix: dict[str, Any] | None = None,
        val_sources: dict[str, Any] | None = None,
        tokens: int | None = None,
        sequence_length: int = 8192,
        tokens_per_step: int | None = None,
        tokens_per_micro: int | None = None,
        mask_documents: bool = True,
        dtype: str = "uint16",
        text_column: str = "text",
        num_workers: int = 0,
        cache_dir: str = ".cache/pretraining",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources, self.mix, self.val_sources = sources, mix, val_sources
        self.tokens, self.sequence_length, self.tokens_per_step = tokens, sequence_length, tokens_per_step
        self.tokens_per_micro = sequence_length if tokens_per_micro is None else tokens_per_micro
        self.mask_documents, self.dtype, self.text_column = mask_documents, dtype, text_column
        self.num_workers, self.cache_dir, self.seed = num_workers, cache_dir, seed
        self.mixture: Mixture[Example] | None = None
        self.val_set: Mixture[Example] | None = None
        self.blocks_per_step = 0
        self.files: dict[str, tuple[str, str]] = {}

    def prepare_data(self) -> None:
        """Tokenise on one rank of each machine, while the others wait; they find it in the cache."""
        self.setup(self.trainer.state.fn.value)  # type: ignore[union-attr]

    def setup(self, stage: str) -> None:
        """Find, tokenise and mix (the Trainer calls this; `prepare` is the same without one)."""
        module: Any = self.trainer.lightning_module  # type: ignore[union-attr]
        self.prepare(module.tokenizer, getattr(module, "plan", None), module.limits.positions)

    def prepare(
        self, tokenizer: PreTrainedTokenizerBase, plan: Plan | None = None, positions: int | None = None
    ) -> None:
        """Make training and validation blocks; a second call does nothing.

        Args:
            tokenizer: of the model.
            plan: what is not said here; None = nothing.
            positions: most tokens that the model takes; None = any number.

        Raises:
            UserError: a source is unknown, broken, made with another tokenizer or too small for its share, nobody
                says how long a step is, or blocks are longer than the model takes.
        """
        if self.mixture is not None:
            return
        if positions is not None and self.sequence_length > positions:
            raise UserError(
                f"data.sequence_length={self.sequence_length}: blocks are longer than the model's {positions} "
                "positions; lower it, or give the model more (max_position_embeddings)"
            )
        sources = flatten_sources(self.sources, "data.sources")
        leaves = None if self.mix is None else flatten_mix(self.mix, "data.mix")
        if leaves is not None:
            check_leaves(leaves, sources, "data.mix")
            leaves = {name: leaf for name, leaf in leaves.items() if leaf.weight > 0}
        step = self._step_tokens(plan)
        blocks = {name: self._blocks(sources[name], tokenizer) for name in leaves or sources}
        self.files = {
            f"sources.{name}": (", ".join(sources[name]), found.fingerprint) for name, found in blocks.items()
        }
        if leaves is None:
            total = sum(map(len, blocks.values()))
            leaves = {name: Leaf(len(found) / total, 1.0) for name, found in blocks.items()}
        self.blocks_per_step = step // self.sequence_length
        tokens = plan.tokens if self.tokens is None and plan is not None else self.tokens
        steps = None if tokens is None else -(-tokens // step)
        self.mixture = self._mixture(blocks, leaves, None if steps is None else steps * self.blocks_per_step)
        for name, found in self.mixture.report().items():
            shares = f"{found['realised']:.4f} of the tokens (requested {found['requested']:.4f})"
            print(
                f"mix: {name}: {found['tokens']} tokens, {shares}, used {found['repeats']:.3f} times", file=sys.stderr
            )
        held = flatten_sources(self.val_sources, "data.val_sources") if self.val_sources else {}
        if held:
            parts = {name: self._blocks(paths, tokenizer) for name, paths in held.items()}
            total = sum(map(len, parts.values()))
            whole = {name: Leaf(len(part) / total, 1.0) for name, part in parts.items()}
            self.val_set = self._mixture(parts, whole, total)

    def _step_tokens(self, plan: Plan | None) -> int:
        step = plan.tokens_per_step if self.tokens_per_step is None and plan is not None else self.tokens_per_step
        if step is None:
            raise UserError(
                "data.tokens_per_step=null: give the batch size in tokens, or the model a plan (chinchilla)"
            )
        check_sizes(self.sequence_length, step, self.tokens_per_micro, "data.")
        if self.tokens is not None and self.tokens < 1:
            raise UserError(f"data.tokens={self.tokens}: give a positive number, or null")
        if self.num_workers < 0:
            raise UserError(f"data.num_workers={self.num_workers}: give the number of processes, or 0 for this one")
        return step

    def _blocks(self, paths: list[str], tokenizer: PreTrainedTokenizerBase) -> TokenBlocks:
        end = tokenizer.eos_token_id
        if end is None:
            raise UserError("the tokenizer has no eos token to end documents with; use one that has")
        if is_shards(paths):
            files = shard_files(paths)
            check_tokenizer(files, tokenizer)
        else:
            made = cached_shards(paths, tokenizer, self.cache_dir, self.text_column, self.num_workers)
            files = shard_files([str(made)])
        return TokenBlocks(
            files,
            self.sequence_length,
            int(end),
            len(tokenizer),
            dtype=self.dtype,
            mask_documents=self.mask_documents,
            cache_dir=self.cache_dir,
        )

    def _mixture(self, blocks: dict[str, TokenBlocks], leaves: dict[str, Leaf], total: int | None) -> Mixture[Example]:
        return Mixture(
            list(blocks.values()),
            list(blocks),
            [leaves[name].weight for name in blocks],
            [leaves[name].repetition_factor for name in blocks],
            total,
            self.seed,
            unit=("tokens", self.sequence_length),
        )

    def state_dict(self) -> dict[str, Any]:
        """Which sources were trained on, for the checkpoint."""
        return {"files": {option: list(found) for option, found in self.files.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_files(state_dict, self.files, self.trainer)

    def fingerprints(self) -> dict[str, str]:
        """Content hashes of what is trained and validated on, for run.json."""
        named = {"train": self.mixture, "val": self.val_set}
        return {name: source.fingerprint for name, source in named.items() if source is not None}

    def train_dataloader(self) -> StepLoader:
        return self._loader(self.mixture, self.seed)

    def val_dataloader(self) -> StepLoader | list[Any]:
        return [] if self.val_set is None else self._loader(self.val_set, None)

    test_dataloader = val_dataloader

    def _loader(self, source: Mixture[Example] | None, seed: int | None) -> StepLoader:
        if source is None:
            raise UserError("the data module has not been prepared: call `prepare(tokenizer)` or fit with a Trainer")
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        options: dict[str, Any] = {"seed": seed, "rank": rank, "world_size": world, "min_shared": NEVER_SHARED}
        return StepLoader(source, self.blocks_per_step, self.tokens_per_micro, **options)
