"""GRPOModule: what it learns from, what it logs, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_posttrain.batching.prompts import PromptLoader
from lightning_posttrain.losses.objective import NAMED, Objective
from lightning_posttrain.models.load import LoraSpec
from lightning_posttrain.modules import grpo
from lightning_posttrain.modules.grpo import GRPOModule
from lightning_posttrain.modules.grpo_spec import AdvantageSpec, EntropySpec, ImportanceSpec, KLSpec
from lightning_posttrain.modules.optim import OptimizerSpec
from lightning_posttrain.modules.policy_step import policy_step
from lightning_posttrain.ops.policy import policy_logprobs
from lightning_posttrain.rollout.ledger import read_steps
from lightning_posttrain.rollout.rollouts import Rollout
from lightning_posttrain.rollout.sampler import SamplingParams
from lightning_posttrain.rollout.samplers import KVCacheSampler
from lightning_posttrain.tasks.reward import Reward
from lightning_posttrain.types import Completion, Record, UserError
from tests.tinyrun import Digits, build_grpo, prompts, train, trainer_for


class Logged(dict[str, list[float]]):
    """Every value a run logs, by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def keep(module: Any, values: dict[str, Any], **_: Any) -> None:
            for name, value in values.items():
                self.setdefault(name, []).append(float(value))

        monkeypatch.setattr(GRPOModule, "log_dict", keep)
        plain = GRPOModule.log

        def log(module: Any, name: str, value: Any, **options: Any) -> None:
            plain(module, name, value, **options)

        monkeypatch.setattr(GRPOModule, "log", log)


def run(folder: Path, steps: int = 3, per_step: int = 2, **options: Any) -> GRPOModule:
    module = build_grpo(**{"optimizer": OptimizerSpec(lr=1e-3), **options})
    trainer = trainer_for(folder, [], max_epochs=-1, max_steps=steps * module.updates_per_batch)
    trainer.fit(module, PromptLoader(prompts(), per_step, 60))
    return module


class Constant(Reward):
    name = "same"

    def __call__(self, record: Record, completion: Completion) -> float:
        return 1.0


def test_the_reward_rises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    run(tmp_path, steps=25, per_step=6, optimizer=OptimizerSpec(lr=1e-2))
    rewards = logged["rollout/reward"]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.2
    assert logged["rollout/rewards/low"] == rewards


def test_sampler_and_trainer_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    run(tmp_path, rollout=SamplingParams(max_new_tokens=8, temperature=0.7, top_k=50, top_p=0.9, min_p=0.01))
    assert max(logged["train/sampler_gap"]) < 1e-4


def test_the_gap_to_a_narrow_sampler_is_logged_and_corrected_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged, weights, real = Logged(monkeypatch), [], grpo.importance_weights

    def recorded(old: torch.Tensor, sampler: torch.Tensor, *rest: Any) -> torch.Tensor:
        found = real(old, sampler, *rest)
        torch.testing.assert_close(found, (old - sampler).exp().clamp(max=2.0))
        weights.append(found)
        return found

    monkeypatch.setattr(grpo, "importance_weights", recorded)
    options: dict[str, Any] = {"sampler": KVCacheSampler(dtype="bfloat16"), "importance": ImportanceSpec()}
    run(tmp_path / "narrow", **options)
    mean, most = logged["train/sampler_gap"], logged["train/sampler_gap_max"]
    assert all(0 < a < b < 0.5 for a, b in zip(mean, most, strict=True))
    assert float((torch.cat(weights) - 1).abs().max()) == pytest.approx(np.expm1(max(most)), rel=0.05)
    logged.clear()
    run(tmp_path / "exact", importance=ImportanceSpec())
    assert 10 * max(logged["train/sampler_gap_max"]) < min(most)


def test_a_narrow_sampler_draws_the_same_again(tmp_path: Path) -> None:
    found = []
    for name in "ab":
        run(tmp_path / name, sampler=KVCacheSampler(dtype="bfloat16", max_rows=3 if name == "a" else 128))
        found.append(read_steps(tmp_path / name).select("step, prompt, sample, completion_ids").order("all").fetchall())
    assert found[0] == found[1]


def test_a_ratio_moves_in_later_updates_of_a_step_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    plain = Objective.terms

    def terms(self: Objective, logps: Any, log_ratio: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(float(log_ratio.detach().abs().max()))
        return plain(self, logps, log_ratio, *rest)

    monkeypatch.setattr(Objective, "terms", terms)
    module = build_grpo(inner_epochs=2, minibatches=2, optimizer=OptimizerSpec(lr=1e-2))
    trainer = trainer_for(tmp_path, [], max_epochs=-1, max_steps=8)
    trainer.fit(module, PromptLoader(prompts(), 2, 10_000))
    assert trainer.global_step == 8
    assert len(seen) == 8
    assert seen[0] == pytest.approx(0, abs=1e-6)
    assert seen[4] == pytest.approx(0, abs=1e-6)
    assert min(seen[1:4] + seen[5:]) > 1e-4


def test_total_steps_count_updates(tmp_path: Path) -> None:
    module = build_grpo(inner_epochs=3)
    trainer = trainer_for(tmp_path, [], max_epochs=2)
    trainer.fit(module, PromptLoader(prompts(), 2, 10_000))
    assert module.total_steps == trainer.global_step == 2 * 3 * 3


@pytest.mark.parametrize("lora", [None, LoraSpec(r=2)])
def test_kl_starts_at_zero_and_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: LoraSpec | None) -> None:
    logged = Logged(monkeypatch)
    run(tmp_path, steps=4, kl=KLSpec(beta=0.1), lora=lora, optimizer=OptimizerSpec(lr=1e-2))
    assert logged["train/kl"][0] == pytest.approx(0, abs=1e-6)
    assert logged["train/kl"][-1] > 1e-5


def test_a_strong_penalty_holds_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    options: dict[str, Any] = {"steps": 12, "optimizer": OptimizerSpec(lr=1e-2)}
    run(tmp_path / "free", **options, kl=KLSpec(beta=1e-6))
    run(tmp_path / "held", **options, kl=KLSpec(beta=10.0, estimate="k2"))
    free, held = logged["train/kl"][:12], logged["train/kl"][12:]
    assert held[-1] < free[-1] / 2


def test_the_ledger_has_every_token(tmp_path: Path) -> None:
    module = run(tmp_path, steps=2, kl=KLSpec(beta=0.1))
    rows = read_steps(tmp_path).fetchall()
    columns = read_steps(tmp_path).columns
    assert len(rows) == 2 * 2 * module.samples_per_prompt
    for row in (dict(zip(columns, values, strict=True)) for values in rows):
        n = len(row["completion_ids"])
        assert n == len(row["sampler_logprobs"]) == len(row["trainer_logprobs"]) == len(row["reference_logprobs"])
        assert row["sampler_logprobs"] == pytest.approx(row["trainer_logprobs"], abs=1e-4)
        assert row["reward"] == pytest.approx(sum(t < 128 for t in row["completion_ids"]) / n)
        assert row["truncated"] == (n == 8 and row["completion_ids"][-1] not in module.renderer.stop_ids)


def test_groups_without_variance_teach_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    run(tmp_path, rewards=[Constant()], optimizer=OptimizerSpec(lr=1e-2, weight_decay=0.0))
    assert logged["rollout/zero_variance"] == [1.0] * 3
    assert logged["train/grad_norm"] == [0.0] * 3
    assert max(logged["train/run_share"]) < 0.2


def test_refilling_replaces_groups_without_variance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SomeKeys(Digits):
        def __call__(self, record: Record, completion: Completion) -> float:
            return super().__call__(record, completion) if int(record.id[1:]) < 4 else 0.5

    learned: list[set[int]] = []
    plain = GRPOModule.assess

    def assess(self: GRPOModule, groups: list[list[Rollout]]) -> None:
        learned.append({g[0].prompt.key for g in groups})
        plain(self, groups)

    monkeypatch.setattr(GRPOModule, "assess", assess)
    logged = Logged(monkeypatch)
    run(tmp_path, rewards=[SomeKeys()], refill_rounds=4)
    assert all(keys <= {0, 1, 2, 3} and len(keys) == 2 for keys in learned)
    assert max(logged["rollout/zero_variance"]) > 0  # of the groups as they were drawn


def test_truncated_completions_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    run(tmp_path, mask_truncated=True)
    assert min(logged["rollout/truncated"]) > 0.5
    rows = read_steps(tmp_path).query("r", "select masked, truncated, trained, advantage from r").fetchall()
    assert all(masked == truncated for masked, truncated, *_ in rows)


@pytest.mark.parametrize("name", NAMED)
def test_every_objective_trains(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    run(tmp_path, steps=2, objective=Objective(name=name), inner_epochs=2)
    assert all(np.isfinite(logged["train/loss"]))
    assert min(logged["train/grad_norm"]) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"advantage": AdvantageSpec(decoupled=True)},
        {"advantage": AdvantageSpec(scale="batch")},
        {"importance": ImportanceSpec(mode="mask", level="sequence")},
        {"entropy": EntropySpec(bonus=0.01)},
        {"entropy": EntropySpec(quantile=0.2)},
        {"off_policy_threshold": 0.1, "inner_epochs": 2},
        {"kl": KLSpec(beta=0.1, bias_correction=True)},
    ],
    ids=lambda o: next(iter(o)),
)
def test_options_change_what_is_learned(options: dict[str, Any], tmp_path: Path) -> None:
    import tests.tinyrun as tinyrun

    same = {k: v for k, v in options.items() if k == "inner_epochs"}
    module = {"optimizer": OptimizerSpec(lr=0.1)}
    plain = train(tmp_path / "plain", grpo=True, module={**module, **same}, max_epochs=2)[1]
    changed = train(tmp_path / "changed", grpo=True, module={**module, **options}, max_epochs=2)[1]
    if "importance" in options:  # sampler and trainer agree, so there is nothing to correct
        return
    assert tinyrun.digest
    assert plain != changed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples_per_prompt": 1}, "samples_per_prompt=1"),
        ({"rollout": SamplingParams(temperature=0.0)}, "temperature=0"),
        ({"entropy": EntropySpec(quantile=0.0)}, "quantile=0"),
        ({"lora": LoraSpec(dropout=0.1)}, "dropout=0.1"),
        ({"kl": KLSpec(beta=0.1), "rollout": SamplingParams(temperature=1.0, top_p=0.9)}, "top_p"),
        ({"rewards": []}, "reward"),
        ({"rewards": [Constant(), Constant()]}, "same"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_grpo(**options)


def test_more_minibatches_than_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="minibatches=3"):
        run(tmp_path, minibatches=3)


def test_a_short_last_step_makes_fewer_updates(tmp_path: Path) -> None:
    module = build_grpo(minibatches=4)
    trainer = trainer_for(tmp_path, [], max_epochs=1)
    trainer.fit(module, PromptLoader(prompts(), 4, 60))
    assert trainer.global_step == 4 + 2


def test_a_token_outside_the_truncation_has_no_weight() -> None:
    """Not even in its sequence's importance weight."""
    params = SamplingParams(max_new_tokens=8, temperature=1.0, top_k=30)
    spec = ImportanceSpec(mode="truncate", level="sequence", cap=2.0)
    found = []
    for importance in (None, spec):
        module = build_grpo(rollout=params, importance=importance)
        module.build(torch.float64)
        rollout = Rollout(prompts(1).prompts[0], 0, Completion(tuple(range(8)), (-3.4,) * 8, "", False), advantage=1.0)
        place = {"rank": 0, "world_size": 1, "epoch": 0, "index": 0}
        step = policy_step([rollout], tokens_per_micro=100, min_shared=16, run_all=True, **place)
        micro = step.micros[0]
        module._trainer = None
        logps = policy_logprobs(module.model, micro, module.truncation)[0].detach()
        assert 0 < int(torch.isfinite(logps).sum()) < 8
        micro.columns["sampler"] = torch.where(torch.isfinite(logps), logps, -3.4)
        module.micro_loss(micro, step)[0].backward()
        found.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))
    assert torch.allclose(found[0], found[1], rtol=1e-6, atol=1e-12)


def test_an_entropy_quantile_is_one_of_all_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups without variance have no gradient, but their tokens count where the quantile is taken."""
    logged = Logged(monkeypatch)
    run(tmp_path, rewards=[Constant()], entropy=EntropySpec(quantile=0.5))
    assert logged["train/run_share"] == [1.0] * 3


def test_an_off_policy_threshold_of_zero_is_one() -> None:
    assert build_grpo()._is_reinforce
    assert not build_grpo(off_policy_threshold=0.0)._is_reinforce


def test_a_failing_reward_names_the_sample(tmp_path: Path) -> None:
    class Broken(Reward):
        name = "broken"

        def __call__(self, record: Record, completion: Completion) -> float:
            raise ValueError("no")

    with pytest.raises(UserError, match=r"broken.*prompts.jsonl"):
        run(tmp_path, rewards=[Broken()])
