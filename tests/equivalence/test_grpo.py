"""GRPO's loss and gradients do not depend on how a step is packed, shared, cut, or thinned, and are what they claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_posttrain.batching.prompts import PromptBatch
from lightning_posttrain.losses.objective import NAMED, Objective
from lightning_posttrain.modules.grpo import GRPOModule
from lightning_posttrain.modules.grpo_spec import KLSpec
from lightning_posttrain.modules.policy_step import PolicyStep, policy_step
from lightning_posttrain.ops.attention import plain_attention
from lightning_posttrain.ops.policy import policy_logprobs
from lightning_posttrain.rollout.rollouts import Rollout
from lightning_posttrain.rollout.sampler import SamplingParams, generate
from tests.tinyrun import build_grpo, prompts

WHOLE = 100_000
NEVER = 1 << 62


def built(**options: Any) -> GRPOModule:
    module = build_grpo(**{"samples_per_prompt": 8, **options})
    module.build(torch.float64)
    module._trainer = None
    return module


def rollouts(module: GRPOModule, count: int = 3) -> list[list[Rollout]]:
    """Groups drawn from the module's own policy, with made-up rewards; the last group has no variance."""
    problems = prompts(count).prompts
    drawn = generate(
        module.model,
        [p.ids.tolist() for p in problems],
        module.rollout,
        module.renderer.stop_ids,
        module.decode,
        n=module.samples_per_prompt,
    )
    groups = [[Rollout(p, i, c) for i, c in enumerate(cs)] for p, cs in zip(problems, drawn, strict=True)]
    rng = torch.Generator().manual_seed(1)
    for number, group in enumerate(groups):
        for rollout in group:
            rollout.total = 1.0 if number == count - 1 else float(torch.rand((), generator=rng))
    module.assess(groups)
    return groups


def steps(
    groups: list[list[Rollout]], tokens_per_micro: int = WHOLE, min_shared: int = 4, run_all: bool = False
) -> PolicyStep:
    flat = [r for group in groups for r in group]
    place = {"rank": 0, "world_size": 1, "epoch": 0, "index": 0}
    return policy_step(flat, tokens_per_micro=tokens_per_micro, min_shared=min_shared, run_all=run_all, **place)


def gradients(module: GRPOModule, step: PolicyStep) -> tuple[float, dict[str, torch.Tensor]]:
    module.zero_grad()
    total = 0.0
    for micro in step.micros:
        loss, _ = module.micro_loss(micro, step)
        loss.backward()
        total += float(loss.detach())
    return total, {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-6) -> bool:
    """Equal up to the float32 in which these models compute their norms, whatever the weights are."""
    largest = max(float(g.abs().max()) for g in a.values())
    return a.keys() == b.keys() and all((a[k] - b[k]).abs().max() <= tolerance * largest for k in a)


def moved(step: PolicyStep, size: float = 0.3) -> PolicyStep:
    """``step`` as if its rollouts had been drawn from another policy: its old log-probs are others."""
    for number, rollout in enumerate(step.rollouts):
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(len(rollout.completion.tokens), generator=generator) * size
        rollout.logprobs = (torch.tensor(rollout.completion.logprobs) + noise).numpy()
    by_name = {r.name: r for r in step.rollouts}
    for micro in step.micros:
        micro.columns["old"] = torch.cat([torch.from_numpy(by_name[i].logprobs) for i in micro.ids]).double()
    return step


@pytest.mark.parametrize("name", [n for n in NAMED if n != "bnpo"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_cutting_and_sharing_change_nothing(name: Any, beta: float) -> None:
    module = built(objective=Objective(name=name), kl=KLSpec(beta=beta))
    groups = rollouts(module)
    layouts = [{}, {"tokens_per_micro": 60}, {"min_shared": NEVER}, {"tokens_per_micro": 40, "min_shared": NEVER}]
    found = []
    for layout in layouts:
        step = moved(steps(groups, run_all=True, **layout))
        for micro in step.micros:
            if beta:
                micro.columns["reference"] = micro.columns["old"] + 0.1
        found.append(gradients(module, step))
    assert len(steps(groups, 60, run_all=True).micros) > 3
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-9)
        assert same(grads, found[0][1])


def test_a_group_of_eight_is_eight_singles() -> None:
    module = built()
    groups = rollouts(module)
    whole = gradients(module, moved(steps(groups)))[1]
    flat = [r for group in groups for r in group]
    parts: dict[str, torch.Tensor] = {}
    tokens = sum(len(r.completion.tokens) for r in flat)
    for rollout in flat:
        single = moved(steps([[rollout]], run_all=True))
        single.num_tokens, single.num_sequences = tokens, len(flat)
        number = flat.index(rollout)
        noise = torch.randn(len(rollout.completion.tokens), generator=torch.Generator().manual_seed(number)) * 0.3
        single.micros[0].columns["old"] = (torch.tensor(rollout.completion.logprobs) + noise).double()
        for key, grad in gradients(module, single)[1].items():
            parts[key] = parts.get(key, 0) + grad
    assert same(whole, parts)


def test_what_is_left_out_has_no_loss() -> None:
    module = built()
    groups = rollouts(module)
    thin, full = steps(groups), steps(groups, run_all=True)
    assert thin.run_tokens < full.run_tokens
    assert (thin.num_tokens, thin.num_sequences) == (full.num_tokens, full.num_sequences)
    assert same(gradients(module, thin)[1], gradients(module, full)[1])


def test_masked_completions_have_no_loss() -> None:
    module = built(objective=Objective(name="grpo"))
    groups = rollouts(module, 2)
    groups[0][3].masked = True
    step = steps(groups)
    assert groups[0][3].name not in {i for m in step.micros for i in m.ids}
    for rollout in groups[0]:
        rollout.masked = True
    only_masked = steps(groups[:1])
    loss, grads = gradients(module, only_masked)
    assert loss == 0
    assert all(not g.any() for g in grads.values())


def test_the_first_step_is_reinforce() -> None:
    """The gradient is that of -sum A log p / N over plain rows, written out."""
    module = built()
    groups = rollouts(module)
    grads = gradients(module, steps(groups))[1]
    flat = [r for group in groups for r in group]
    module.zero_grad()
    total = sum(len(r.completion.tokens) for r in flat)
    with plain_attention(module.model):
        for rollout in flat:
            ids = torch.from_numpy(rollout.sequence.ids).long()
            logps = module.model(ids[None]).logits[0].log_softmax(-1)
            at = torch.arange(len(rollout.prompt.ids), len(ids))
            (-rollout.advantage * logps[at - 1, ids[at]].sum() / total).backward()
    assert same(grads, {n: p.grad for n, p in module.named_parameters() if p.grad is not None})


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_update_may_know_its_weights_beforehand(name: Any, temperature: float) -> None:
    """The short way of the first update has the loss and the gradient of the long one."""
    params = SamplingParams(max_new_tokens=8, temperature=temperature)
    module = built(objective=Objective(name=name), rollout=params)
    groups = rollouts(module)
    short = gradients(module, steps(groups))
    step = steps(groups)
    for micro in step.micros:
        micro.columns["old"] = policy_logprobs(module.model, micro, module.truncation)[0].detach()
    long = gradients(module, step)
    assert short[0] == pytest.approx(long[0], abs=1e-9)
    assert same(short[1], long[1])


def test_gradients_are_finite_differences() -> None:
    module = built(
        objective=Objective(name="grpo", clip_low=0.5, clip_high=0.5), kl=KLSpec(beta=0.2, bias_correction=True)
    )
    step = moved(steps(rollouts(module), run_all=True), 0.1)
    for micro in step.micros:
        micro.columns["reference"] = micro.columns["old"] - 0.2
    grads = gradients(module, step)[1]
    name, parameter = max(module.named_parameters(), key=lambda item: float(grads[item[0]].abs().max()))
    place = int(grads[name].abs().argmax())
    losses = []
    for shift in (1e-3, -1e-3):
        with torch.no_grad():
            parameter.view(-1)[place] += shift
            losses.append(sum(float(module.micro_loss(m, step)[0]) for m in step.micros))
            parameter.view(-1)[place] -= shift
    assert (losses[0] - losses[1]) / 2e-3 == pytest.approx(float(grads[name].view(-1)[place]), rel=1e-3)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_new_tokens=8, temperature=1.0),
        SamplingParams(max_new_tokens=8, temperature=0.6),
        SamplingParams(max_new_tokens=8, temperature=1.3, top_k=20, top_p=0.9, min_p=0.02),
    ],
    ids=["plain", "temperature", "truncated"],
)
def test_the_trainer_scores_under_the_sampling_distribution(params: SamplingParams) -> None:
    module = built(rollout=params)
    step = steps(rollouts(module), run_all=True)
    for micro in step.micros:
        gap = float(module.micro_loss(micro, step)[1]["sampler_gap"])
        assert gap < 1e-5
        assert (micro.columns["old"] - micro.columns["sampler"]).abs().max() < 1e-4


def test_rollouts_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    module = built()
    problems = prompts(6).prompts

    def tokens(chosen: list[int]) -> list[Any]:
        groups = generate(
            module.model,
            [problems[i].ids.tolist() for i in chosen],
            module.rollout,
            module.renderer.stop_ids,
            module.decode,
            n=4,
            seed=3,
            step=7,
            keys=chosen,
            max_rows=5,
        )
        return [[c.tokens for c in group] for group in groups]

    together = tokens([0, 1, 2, 3, 4, 5])
    assert together[4:] + together[:1] == tokens([4, 5, 0])


def test_spares_are_the_same_on_every_rank() -> None:
    batch = PromptBatch(prompts(2).prompts, iter(prompts(6).prompts[2:]), 60, 4)
    assert [p.key for p in batch.spares] == [2, 3, 4, 5]
