"""Direct preference optimisation and its relatives: make the better of two answers more probable than the other.

Both answers of a pair meet in one micro-batch, where their prompt is run once. The reference is the policy as it was
at the start, held as a copy of what is trained, or only as its log-probs in a cache.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..batching.loader import ExampleSource
from ..losses.preference import Pairs, wpo_weights
from ..losses.preference_objective import PreferenceObjective, StepGradient
from ..models.reference import Reference, without_dropout
from ..models.reference_cache import WithReference, cached_logprobs, weights_fingerprint
from ..ops.logprobs import token_logprobs
from ..ops.policy import policy_logprobs
from ..ops.ranks import gather
from ..ops.sharding import whole_parameters
from ..types import MicroBatch, StepBatch, UserError
from .base import PolicyModule

STATISTICS = (
    *("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
    *("logps/chosen", "logps/rejected", "tokens/chosen", "tokens/rejected"),
)
"""What is logged of the pairs, as means."""
PLAIN = (1.0, 0, 1.0, 0.0)
"""The distribution that is compared: temperature 1, nothing cut off."""


@dataclass(frozen=True)
class ReferenceSpec:
    """The policy that is compared with."""

    policy: Literal["initial", "base"] = "initial"
    """The policy at the start of the run, or the model without its adapters."""
    cached: bool = False
    """Compute its log-probs of all rows before the first step and keep them on disk; no copy is held then."""
    cache_dir: str = ".cache/reference"
    """They are kept here under a hash of weights, rows, chat format and precision."""


class DPOModule(PolicyModule):
    """DPO and its relatives on pairs of a better and a worse answer.

    Args:
        loss: what is compared, and how.
        reference: the policy that is compared with, where the loss has one.
        **policy: see `PolicyModule`.
    """

    def __init__(
        self,
        loss: PreferenceObjective = PreferenceObjective(),
        reference: ReferenceSpec = ReferenceSpec(),
        **policy: Any,
    ) -> None:
        super().__init__(**policy)
        if self.lora is not None and self.lora.dropout:
            raise UserError(
                f"model.lora.dropout={self.lora.dropout}: policy and reference are compared token by token; use 0"
            )
        self.loss, self.reference_spec = loss, reference
        self.reference: Reference | None = None
        self.weights_key: str | None = None
        self.cached = self.moved = False
        self.coupled: dict[int, StepGradient] = {}
        self.val_sums: dict[str, Tensor] = {}

    @property
    def validated(self) -> tuple[str, ...]:
        """What validations log, after ``val/``."""
        return ("loss", *STATISTICS, *(("wpo_weight",) if self.loss.weighted else ()))

    def build(self, dtype: torch.dtype = torch.float32) -> None:
        super().build(dtype)
        without_dropout(self.model)
        if not self.loss.needs_reference:
            return
        spec, trainer = self.reference_spec, self._trainer
        if spec.cached and trainer is not None and trainer.state.fn == "fit":
            self.weights_key = weights_fingerprint(self.model)
        else:
            self.reference = Reference(self.model, spec.policy)

    # ---- the reference --------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        self.cache_reference()  # a schedule asks for the number of steps, and the loader is made for that
        return super().configure_optimizers()

    def on_fit_start(self) -> None:
        self.cache_reference()  # for an optimizer that was given from outside

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.moved = True

    def cache_reference(self) -> None:
        """Put the reference's log-probs beside the rows, if they are to be cached; a second call does nothing."""
        if self.weights_key is None or self.cached:
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise UserError("reference.cached needs a data module, whose rows it can wrap; give one to `fit`")
        data.wrap(self._with_reference)
        self.cached = True

    def _with_reference(self, source: ExampleSource) -> WithReference:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        loader = data.train_dataloader()
        if loader.source is not source:
            loader = data.val_dataloader()
        spec = self.reference_spec
        found, hit = cached_logprobs(
            source,
            self._reference_logprobs,
            key=f"{self.weights_key} {spec.policy} {self.trainer.precision}",
            cache_dir=spec.cache_dir,
            loader=loader,
        )
        if self.trainer.is_global_zero:
            how = "from the cache (hit)" if hit else "computed (cache miss)"
            print(f"reference: {len(source)} rows {how}", file=sys.stderr)
        return WithReference(source, found)

    @contextmanager
    def _reference_logprobs(self) -> Iterator[Callable[[MicroBatch], Tensor]]:
        """What computes the reference's log-probs of a micro-batch."""
        model = self.model
        if self.moved:  # this run resumes one whose cache is gone
            model = self.initial_policy(next(model.parameters()).dtype).to(self.device)
            without_dropout(model)
        reference = Reference(model, "base") if self.reference_spec.policy == "base" else None
        with (
            torch.no_grad(),
            whole_parameters(model),
            reference.active() if reference else nullcontext(),
            self.trainer.precision_plugin.forward_context(),
        ):
            yield lambda micro: token_logprobs(model, micro.to(self.device))

    # ---- a step ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        self.annotate(batch)
        super().training_step(batch, batch_idx)
        self.coupled = {}

    @torch.no_grad()
    def annotate(self, batch: StepBatch) -> None:
        """Add what must be known before the update: the reference's log-probs, and what couples the step's pairs."""
        if self.reference is not None:
            with self.phase("reference"), self.reference.active():
                for micro in batch.micros:
                    micro.columns["reference"] = token_logprobs(self.model, micro)
        if self.loss.couples_pairs:
            with self.phase("coupling"):
                self._couple(batch)

    def _couple(self, batch: StepBatch) -> None:
        """A pass without gradient over the whole step tells what every completion will weigh."""
        mine = [self.pairs(micro) for micro in batch.micros]
        counted = zip(mine, batch.micros, strict=True)
        everywhere = gather([_plain(*found) for found, micro in counted if not micro.idle])
        parts = [part for rank in everywhere for part in rank]
        with torch.inference_mode(False):  # validation has no gradients, and these are of the loss alone
            gradient = self.loss.coupled(*_joined(parts, self.device))
        begin = sum(len(p["chosen"]) for rank in everywhere[: self.global_rank] for p in rank)
        for micro in batch.micros:
            self.coupled[id(micro)] = gradient.of(slice(begin, begin + micro.examples))
            begin += 0 if micro.idle else micro.examples

    def pairs(self, micro: MicroBatch) -> tuple[Pairs, Tensor | None]:
        """The pairs of a micro-batch, and their weights if the loss has any."""
        reference, tokens = micro.columns.get("reference"), (micro.sequence, micro.examples)
        if not self.loss.weighted:
            return self.loss.pairs(token_logprobs(self.model, micro), reference, *tokens), None
        logps, squares = policy_logprobs(self.model, micro, PLAIN, "log_squares")
        assert squares is not None
        return self.loss.pairs(logps, reference, *tokens), wpo_weights(logps, squares, *tokens)

    def micro_loss(self, micro: MicroBatch, step: StepBatch) -> tuple[Tensor, dict[str, Tensor]]:
        pairs, weights = self.pairs(micro)
        sums = {k: v / step.num_examples for k, v in self.statistics(pairs, weights).items()}
        if (gradient := self.coupled.get(id(micro))) is not None:
            surrogate = gradient.surrogate(pairs)
            share = micro.examples / step.num_examples
            return surrogate - surrogate.detach() + gradient.loss * share, sums
        return self.loss.loss(pairs, step.num_examples, step.num_tokens_by_place[0], weights), sums

    @torch.no_grad()
    def statistics(self, pairs: Pairs, weights: Tensor | None) -> dict[str, Tensor]:
        """Sums over the pairs of what is logged as means: rewards (beta times what is compared), log-probs, lengths."""
        rewards = self.loss.rewards(pairs)
        found = (
            *(rewards.chosen, rewards.rejected, rewards.margin, (rewards.margin > 0).float()),
            *(pairs.chosen, pairs.rejected, pairs.chosen_tokens, pairs.rejected_tokens),
        )
        values = dict(zip(STATISTICS, found, strict=True))
        if weights is not None:
            values["wpo_weight"] = weights
        return {name: value.sum(dtype=torch.float64) for name, value in values.items()}

    # ---- validation -----------------------------------------------------------------------------------------------

    def validation_step(self, batch: StepBatch, batch_idx: int) -> None:
        self.annotate(batch)
        for micro in batch.micros:
            loss, sums = self.micro_loss(micro, batch)
            if micro.idle:
                continue
            for name, value in {"loss": loss, **sums}.items():
                whole = value.double() * batch.num_examples
                self.val_sums[name] = self.val_sums[name] + whole if name in self.val_sums else whole
        pairs = torch.tensor(
            float(sum(m.examples for m in batch.micros if not m.idle)), dtype=torch.float64, device=self.device
        )
        self.val_sums["pairs"] = self.val_sums.get("pairs", torch.zeros_like(pairs)) + pairs
        self.coupled = {}

    def on_validation_epoch_end(self) -> None:
        if not self.val_sums:
            return
        sums = {k: self.trainer.strategy.reduce(v, reduce_op="sum") for k, v in self.val_sums.items()}
        pairs = sums.pop("pairs")
        self.val_sums = {}
        if not pairs:
            return
        self.log_validation({name: (total / pairs).float() for name, total in sums.items()}, shown="loss")

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end


def _plain(pairs: Pairs, weights: Tensor | None) -> dict[str, np.ndarray]:
    """What travels between ranks."""
    named = {**pairs._asdict(), "weights": weights}
    return {name: value.cpu().numpy() for name, value in named.items() if value is not None}


def _joined(parts: list[dict[str, np.ndarray]], device: torch.device) -> tuple[Pairs, Tensor | None]:
    found: dict[str, Any] = {
        name: torch.from_numpy(np.concatenate([p[name] for p in parts])).to(device) for name in parts[0]
    }
    weights = found.pop("weights", None)
    return Pairs(**{"reference_chosen": None, "reference_rejected": None, **found}), weights
