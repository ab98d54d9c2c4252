"""Group relative policy optimisation: sample groups, score them, and raise what was better than its group.

A batch of the loader is a list of prompts. Its rollouts are made, scored and learned from within one training step, so
a checkpoint never has to hold any, and a run that is killed in any phase draws the same ones again.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..batching.prompts import Prompt, PromptBatch
from ..losses.advantage import decoupled_advantages, group_advantages, zero_variance
from ..losses.correction import importance_weights, off_policy_mask
from ..losses.kl import bias_corrected, kl_estimate
from ..losses.objective import Objective, Scope
from ..losses.ratio import log_ratios
from ..models.reference import Reference, without_dropout
from ..ops.logprobs import weighted_nll
from ..ops.policy import policy_logprobs
from ..ops.ranks import gather, gather_rows
from ..progress import doing
from ..rollout.ledger import write_step
from ..rollout.rollouts import Rollout
from ..rollout.sampler import SamplingParams
from ..rollout.samplers import KVCacheSampler, Sampler
from ..tasks.reward import Reward, RewardRunner, totals
from ..types import MicroBatch, StepBatch, UserError
from .base import PolicyModule
from .grpo_spec import AdvantageSpec, EntropySpec, ImportanceSpec, KLSpec
from .policy_step import PolicyStep, detach, largest_gap, policy_step
from .rollout_stats import rollout_stats


class GRPOModule(PolicyModule):
    """GRPO and its relatives.

    Args:
        rewards: what a completion is worth; summed with their weights.
        samples_per_prompt: completions of each prompt: the group.
        rollout: how completions are drawn. The same distribution is trained.
        objective: ratio form, level and normaliser.
        advantage: from rewards to advantages.
        kl: penalty for leaving the reference.
        importance: correction between sampler and trainer; null = none.
        entropy: bonus, and a mask of decided tokens.
        inner_epochs: times that a step's rollouts are learned from.
        minibatches: optimizer steps that share a step's rollouts in each inner epoch.
        off_policy_threshold: completions with a negative advantage that became less probable than this (nats per
            token, mean) are left out; null = none are.
        mask_truncated: leave completions that ran into the length limit out of the loss.
        refill_rounds: times that prompts whose completions all got the same reward are replaced by others.
        sampler: draws the completions.
        ledger: keep every rollout in ``rollouts/`` of the run directory.
        **policy: see `PolicyModule`.
    """

    def __init__(
        self,
        rewards: list[Reward],
        samples_per_prompt: int = 8,
        rollout: SamplingParams = SamplingParams(temperature=1.0),
        objective: Objective = Objective(),
        advantage: AdvantageSpec = AdvantageSpec(),
        kl: KLSpec = KLSpec(),
        importance: ImportanceSpec | None = None,
        entropy: EntropySpec = EntropySpec(),
        inner_epochs: int = 1,
        minibatches: int = 1,
        off_policy_threshold: float | None = None,
        mask_truncated: bool = False,
        refill_rounds: int = 0,
        sampler: Sampler | None = None,
        ledger: bool = True,
        **policy: Any,
    ) -> None:
        super().__init__(**policy)
        for name, value, least in (
            ("samples_per_prompt", samples_per_prompt, 2),
            ("inner_epochs", inner_epochs, 1),
            ("minibatches", minibatches, 1),
            ("refill_rounds", refill_rounds, 0),
        ):
            if value < least:
                raise UserError(f"model.{name}={value}: use at least {least}")
        if rollout.temperature == 0:
            raise UserError("model.rollout.temperature=0 draws a group of equal completions; use 1.0")
        if not 0 < entropy.quantile <= 1:
            raise UserError(f"model.entropy.quantile={entropy.quantile}: use a share in (0, 1]; 1 keeps all tokens")
        if kl.beta and (rollout.top_k, rollout.top_p, rollout.min_p) != (0, 1.0, 0.0):
            raise UserError(
                f"model.kl.beta={kl.beta} with top_k, top_p or min_p in model.rollout: the reference would leave other "
                "tokens out, and the penalty for them is infinite; sample without them"
            )
        if self.lora is not None and self.lora.dropout:
            raise UserError(
                f"model.lora.dropout={self.lora.dropout}: the policy that learns must be the one that drew; use 0"
            )
        self.rewards, self.samples_per_prompt, self.rollout = RewardRunner(rewards), samples_per_prompt, rollout
        self.objective, self.advantage, self.kl = objective, advantage, kl
        self.importance, self.entropy = importance, entropy
        self.inner_epochs, self.minibatches = inner_epochs, minibatches
        self.off_policy_threshold, self.mask_truncated = off_policy_threshold, mask_truncated
        self.refill_rounds, self.sampler, self.ledger = refill_rounds, sampler or KVCacheSampler(), ledger
        self.truncation = (rollout.temperature, rollout.top_k, rollout.top_p, rollout.min_p)
        self.reference: Reference | None = None

    @property
    def updates_per_batch(self) -> int:  # type: ignore[override]
        return self.inner_epochs * self.minibatches

    def build(self, dtype: torch.dtype = torch.float32) -> None:
        super().build(dtype)
        without_dropout(self.model)
        if self.kl.beta:
            self.reference = Reference(self.model, self.kl.reference)

    # ---- a step ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:  # type: ignore[override]
        step = self.global_step
        groups = self.roll_out(batch.prompts)
        stats = rollout_stats(groups, self.rewards.names)
        spent = self.refill(groups, batch)
        rollouts = [r for group in groups for r in group]
        self.assess(groups)
        with self.phase("learning"):
            steps = self.policy_steps(groups, batch)
            self.annotate(steps)
            updates = [self.update(s) for _ in range(self.inner_epochs) for s in steps]
        self.updated = [*steps] * self.inner_epochs
        if self.ledger:
            with self.phase("ledger"):
                self._record(step, rollouts + spent, steps)
        means = {k: sum(float(u[k]) for u in updates) / len(updates) for k in updates[0]}
        self.log_dict({f"rollout/{k}": v for k, v in stats.items()}, batch_size=1)
        self.log("reward", stats["reward"], prog_bar=True, logger=False, batch_size=1)
        known = {"run_share": sum(r.trained for r in rollouts) / len(rollouts), "sampler_gap_max": largest_gap(steps)}
        self.log_step({**means, **known})

    def roll_out(self, prompts: list[Prompt]) -> list[list[Rollout]]:
        """Complete and score ``prompts``, each rank its share; every rank gets all groups, in the order given."""
        mine = prompts[self.global_rank :: self.trainer.world_size]
        with self.phase("generation"), doing(f"step {self.global_step}"):
            drawn = self.sampler.generate(
                self.model,
                [p.ids.tolist() for p in mine],
                self.rollout,
                self.renderer.stop_ids,
                self.decode,
                n=self.samples_per_prompt,
                seed=self.seed,
                step=self.global_step,
                keys=[p.key for p in mine],
                origins=[p.record.origin or p.record.id for p in mine],
            )
        with self.phase("rewards"), doing(f"step {self.global_step}"):
            groups = [[Rollout(p, i, c) for i, c in enumerate(cs)] for p, cs in zip(mine, drawn, strict=True)]
            flat = [r for group in groups for r in group]
            table = self.rewards.evaluate([(r.prompt.record, r.completion) for r in flat])
            for rollout, values, total in zip(
                flat, table.values, totals(table.values, self.rewards.weights), strict=True
            ):
                rollout.rewards, rollout.total = values, float(total)
                rollout.masked = self.mask_truncated and not rollout.completion.finished
        return gather_rows(groups)

    def refill(self, groups: list[list[Rollout]], batch: PromptBatch) -> list[Rollout]:
        """Replace groups that teach nothing by groups of other prompts, in place; what was replaced.

        DAPO's dynamic sampling (arXiv:2503.14476, section 3.2).
        """
        replaced: list[Rollout] = []
        for _ in range(self.refill_rounds):
            idle = np.flatnonzero(zero_variance(_totals(groups))).tolist()
            fresh = list(islice(batch.spares, len(idle)))
            if not fresh:
                break
            made = self.roll_out(fresh)
            useful = [g for g, flat in zip(made, zero_variance(_totals(made)), strict=True) if not flat]
            replaced += [r for g in made if g not in useful for r in g]
            for place, group in zip(idle, useful, strict=False):
                replaced += groups[place]
                groups[place] = group
        return replaced

    def assess(self, groups: list[list[Rollout]]) -> None:
        """Give every rollout its advantage."""
        if self.advantage.decoupled:
            rewards = np.array([[r.rewards for r in group] for group in groups])
            advantages = decoupled_advantages(rewards, self.rewards.weights)
        else:
            advantages = group_advantages(_totals(groups), self.advantage.scale)
        for group, row in zip(groups, advantages, strict=True):
            for rollout, advantage in zip(group, row, strict=True):
                rollout.advantage = float(advantage)

    def policy_steps(self, groups: list[list[Rollout]], batch: PromptBatch) -> list[PolicyStep]:
        """The optimizer steps of one inner epoch: whole groups, dealt out in turn."""
        count = min(self.minibatches, len(groups))  # the last step of an epoch may be short
        if count < self.minibatches and batch.index == 0:
            raise UserError(f"model.minibatches={self.minibatches} for {len(groups)} prompts; use fewer")
        return [
            policy_step(
                [r for group in groups[i::count] for r in group],
                tokens_per_micro=batch.tokens_per_micro,
                min_shared=batch.min_shared,
                rank=self.global_rank,
                world_size=self.trainer.world_size,
                run_all=bool(self.kl.beta or self.entropy.bonus) or self.entropy.quantile < 1,
                epoch=batch.epoch,
                index=batch.index,
            ).to(self.device)
            for i in range(count)
        ]

    @torch.no_grad()
    def annotate(self, steps: list[PolicyStep]) -> None:
        """Add what must be known before the first update: log-probs by the policy as it is, and by the reference."""
        micros = [m for step in steps for m in step.micros]
        extra: Literal["entropy"] | None = "entropy" if self.entropy.quantile < 1 else None
        if self.updates_per_batch > 1 or extra is not None:
            for micro in micros:
                micro.columns["old"], entropies = policy_logprobs(self.model, micro, self.truncation, extra)
                if entropies is not None:
                    micro.columns["decides"] = entropies
        if self.reference is not None:
            with self.reference.active():  # once: a sharded model is copied whole with every change
                for micro in micros:
                    micro.columns["reference"] = policy_logprobs(self.model, micro, self.truncation)[0]
        if extra is not None:
            for step in steps:
                _decide(step.micros, 1 - self.entropy.quantile)

    # ---- the loss -------------------------------------------------------------------------------------------------

    def micro_loss(self, micro: MicroBatch, step: StepBatch) -> tuple[Tensor, dict[str, Tensor]]:
        c, scope = micro.columns, self._scope(micro, step)
        weights = self.objective.weights(scope) * c["counts"]
        if self._is_reinforce and "old" not in c:
            loss, sums = self._reinforce(micro, weights, scope)
        else:
            loss, sums = self._surrogate(micro, weights, scope)
        sums["sampler_gap"] = (c["old"] - c["sampler"]).nan_to_num(posinf=0.0, neginf=0.0).abs().sum()
        return loss, {name: value / step.run_tokens for name, value in sums.items()}  # type: ignore[attr-defined]

    @property
    def _is_reinforce(self) -> bool:
        """Whether nothing but the objective makes the loss, and no update comes before it."""
        extras = self.kl.beta, self.entropy.bonus, self.entropy.quantile < 1, self.importance is not None
        alone = not any(extras) and self.off_policy_threshold is None
        return self.updates_per_batch == 1 and alone and self.truncation[1:] == (0, 1.0, 0.0)

    def _reinforce(self, micro: MicroBatch, weights: Tensor, scope: Scope) -> tuple[Tensor, dict[str, Tensor]]:
        """While no ratio has moved, every objective has the gradient of -A log p, with known weights."""
        advantage = micro.columns["advantage"]
        nll, logps, _ = weighted_nll(self.model, micro, weights * advantage, temperature=self.truncation[0])
        micro.columns["old"] = logps
        value = (weights * self.objective.terms(logps, torch.zeros_like(logps), advantage, scope)).sum()
        return value + nll - nll.detach(), {}

    def _surrogate(self, micro: MicroBatch, weights: Tensor, scope: Scope) -> tuple[Tensor, dict[str, Tensor]]:
        c, tokens = micro.columns, (micro.sequence, micro.num_sequences)
        logps, entropies = policy_logprobs(
            self.model, micro, self.truncation, "entropy" if self.entropy.bonus else None
        )
        old = c.setdefault("old", logps.detach())
        known = torch.isfinite(logps) & torch.isfinite(old)  # else the truncation leaves a token out that was drawn
        logps, old, sampler = (x.masked_fill(~known, 0.0) for x in (logps, old, c["sampler"]))
        log_ratio, advantage, weights = log_ratios(logps, old), c["advantage"], weights * known
        decided = weights * c["decides"] if "decides" in c else weights
        if (spec := self.importance) is not None:
            decided = decided * importance_weights(old, sampler, *tokens, spec.mode, spec.level, spec.cap)
        if self.off_policy_threshold is not None:
            decided = decided * off_policy_mask(logps, sampler, advantage, *tokens, self.off_policy_threshold)
        loss = (decided * self.objective.terms(logps, log_ratio, advantage, scope)).sum()
        sums = self.objective.clip_counts(log_ratio, advantage, scope)
        if self.kl.beta:
            kl = kl_estimate(logps, c["reference"], self.kl.estimate)
            sums["kl"] = (kl.detach() * c["counts"]).sum()
            penalty = bias_corrected(kl, log_ratio) if self.kl.bias_correction else kl
            loss = loss + self.kl.beta * (weights * penalty).sum()
        if entropies is not None:
            sums["entropy"] = (entropies.detach() * c["counts"]).sum()
            loss = loss - self.entropy.bonus * (entropies * c["counts"]).sum() / scope.total_tokens
        return loss, sums

    def _scope(self, micro: MicroBatch, step: Any) -> Scope:
        totals = step.num_tokens, step.num_sequences, step.num_micros, self.rollout.max_new_tokens
        return Scope(micro.sequence, micro.num_sequences, *totals)

    # ---- the ledger -----------------------------------------------------------------------------------------------

    def _record(self, step: int, rollouts: list[Rollout], steps: list[PolicyStep]) -> None:
        found = [gather(detach(steps, column)) for column in ("old", "reference")]
        old, reference = ({k: v for part in parts for k, v in part.items()} for parts in found)
        for rollout in rollouts:
            rollout.logprobs, rollout.reference = old.get(rollout.name), reference.get(rollout.name)
        if self.trainer.is_global_zero:
            write_step(Path(self.trainer.default_root_dir), step, rollouts, self.rewards.names)

    def teardown(self, stage: str) -> None:
        self.rewards.close()


def _totals(groups: list[list[Rollout]]) -> np.ndarray:
    return np.array([[r.total for r in group] for group in groups])


def _decide(micros: list[MicroBatch], quantile: float) -> None:
    """Turn entropies into 1 for tokens at or above their quantile over the step and all ranks, else 0."""
    mine = np.concatenate([m.columns["decides"].float().cpu().numpy() for m in micros if not m.idle])
    least = float(np.quantile(np.concatenate(gather(mine)), quantile))
    for micro in micros:
        micro.columns["decides"] = (micro.columns["decides"] >= least).float()
