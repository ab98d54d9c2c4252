"""From rollouts to micro-batches: divisors count all of them, and every number lies at its own token."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_posttrain.batching.prompts import Prompt
from lightning_posttrain.modules.policy_step import PolicyStep, detach, policy_step
from lightning_posttrain.rollout.rollouts import Rollout
from lightning_posttrain.types import Completion, Message, Record, UserError

GROUP = 4


def made_rollouts(prompts: int = 5, seed: int = 0) -> list[Rollout]:
    """Groups of completions whose log-prob is a function of prompt, sample and place, so that any mix-up shows.

    The prompts share a prefix; later prompts sort first, and some completions of a group are the same.
    """
    rng = np.random.default_rng(seed)
    made = []
    for key in range(prompts):
        ids = np.array([*range(20), 90 - key, *range(30, 30 + key)], np.int32)
        prompt = Prompt(Record(f"r{key}", (Message("user", "?"),), "4", f"rows.jsonl:{key + 1}"), ids, key)
        for sample in range(GROUP):
            count = int(rng.integers(1, 7))
            tokens = tuple(rng.integers(0, 90, count).tolist()) if sample else (7, 8, 9)
            tokens = (7, 8, 9) if sample == 2 else tokens
            logprobs = tuple(-(key + sample / 10 + (at + 1) / 1000) for at in range(len(tokens)))
            rollout = Rollout(prompt, sample, Completion(tokens, logprobs, "", True))
            rollout.advantage = float(key + 1) * (1 if sample % 2 else -1)
            made.append(rollout)
    return made


def step_of(rollouts: list[Rollout], rank: int = 0, world_size: int = 1, **options) -> PolicyStep:
    given = {"tokens_per_micro": 60, "min_shared": 4, "run_all": False, "epoch": 2, "index": 3}
    return policy_step(rollouts, rank=rank, world_size=world_size, **{**given, **options})


def run(*steps: PolicyStep) -> list[str]:
    return sorted(name for step in steps for micro in step.micros if not micro.idle for name in micro.ids)


def assert_aligned(step: PolicyStep, rollouts: list[Rollout]) -> None:
    """Every supervised token has its own rollout's id, sampler log-prob and advantage."""
    by_name = {r.name: r for r in rollouts}
    for micro in (m for m in step.micros if not m.idle):
        for index, name in enumerate(micro.ids):
            own, mine = micro.sequence == index, by_name[name]
            assert micro.targets[micro.gather][own].tolist() == list(mine.completion.tokens)
            drawn = torch.tensor(mine.completion.logprobs, dtype=torch.float32)
            assert torch.equal(micro.columns["sampler"][own], drawn)
            assert micro.columns["advantage"][own].tolist() == [np.float32(mine.advantage)] * len(drawn)
            assert micro.columns["counts"][own].tolist() == [float(not mine.masked)] * len(drawn)
            assert micro.origins[index] == mine.prompt.record.origin
        assert {len(c) for c in micro.columns.values()} == {len(micro.gather)}
        assert {c.dtype for c in micro.columns.values()} == {torch.float32}


def test_numbers_lie_at_their_tokens_though_the_forest_sorts_and_shares():
    rollouts = made_rollouts()
    step = step_of(rollouts)
    assert len(step.micros) > 1
    assert any(len(m.targets) < len(m.gather) for m in step.micros)  # equal completions are predicted once
    order = [name for micro in step.micros for name in micro.ids]
    assert order != [r.name for r in rollouts]
    assert sorted(order) == sorted(r.name for r in rollouts)
    assert_aligned(step, rollouts)
    assert (step.epoch, step.index, step.rollouts) == (2, 3, rollouts)


@settings(deadline=None)
@given(st.data())
def test_for_any_cut_ranks_and_choice(data):
    rollouts = made_rollouts(data.draw(st.integers(1, 5)), data.draw(st.integers(0, 99)))
    for rollout in rollouts:
        rollout.masked = data.draw(st.integers(0, 3)) == 0
        rollout.advantage *= data.draw(st.integers(0, 1))
    world = data.draw(st.integers(1, 3))
    options = {"tokens_per_micro": data.draw(st.integers(36, 400)), "min_shared": data.draw(st.integers(1, 50))}
    options["run_all"] = data.draw(st.booleans())
    ranks = [step_of(rollouts, rank, world, **options) for rank in range(world)]
    for step in ranks:
        assert_aligned(step, rollouts)
    assert len({len(step.micros) for step in ranks}) == 1
    assert min(len(step.micros) for step in ranks) >= 1
    needed = {r.name for r in rollouts if not r.masked and (options["run_all"] or r.advantage)}
    seen = run(*ranks)
    assert len(seen) == len(set(seen)) == max(len(needed), world)
    assert needed <= set(seen) == {r.name for r in rollouts if r.trained}


def test_divisors_count_what_is_not_run():
    rollouts = made_rollouts()
    everything = step_of(rollouts)
    for rollout in rollouts[:GROUP]:
        rollout.advantage = 0.0
    dropped = step_of(rollouts)
    tokens = sum(len(r.completion.tokens) for r in rollouts)
    idle = sum(len(r.completion.tokens) for r in rollouts[:GROUP])
    for step in (everything, dropped):
        assert (step.num_tokens, step.num_sequences, step.num_examples) == (tokens, 5 * GROUP, 5)
    assert (everything.run_tokens, dropped.run_tokens) == (tokens, tokens - idle)
    assert len(run(dropped)) == 4 * GROUP
    assert run(step_of(rollouts, run_all=True)) == run(everything)


def test_masked_completions_count_as_completions_but_have_no_loss_tokens():
    rollouts = made_rollouts()
    tokens = sum(len(r.completion.tokens) for r in rollouts)
    rollouts[1].masked = True
    for run_all in (False, True):
        step = step_of(rollouts, run_all=run_all)
        assert step.num_tokens == tokens - len(rollouts[1].completion.tokens) == step.run_tokens
        assert (step.num_sequences, step.num_examples) == (5 * GROUP, 5)
        assert rollouts[1].name not in run(step)
        assert not rollouts[1].trained


def test_two_ranks_share_a_step():
    rollouts = made_rollouts()
    ranks = [step_of(rollouts, rank, 2) for rank in (0, 1)]
    assert len(ranks[0].micros) == len(ranks[1].micros)
    assert run(*ranks) == sorted(r.name for r in rollouts)
    for name in ("num_tokens", "num_sequences", "num_examples", "run_tokens"):
        assert getattr(ranks[0], name) == getattr(ranks[1], name) == getattr(step_of(rollouts), name)


@pytest.mark.parametrize(("useful", "world"), [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_rank_without_work_gets_a_completion_with_a_loss_of_zero(useful, world, masked):
    rollouts = made_rollouts(2)
    for rollout in rollouts[useful:]:
        rollout.advantage, rollout.masked = (rollout.advantage, True) if masked else (0.0, False)
    ranks = [step_of(rollouts, rank, world) for rank in range(world)]
    assert [len(step.micros) for step in ranks] == [1] * world
    assert len(run(*ranks)) == world
    idle = 0
    for step in ranks:
        (micro,) = step.micros
        assert_aligned(step, rollouts)
        idle += not (micro.columns["advantage"] * micro.columns["counts"]).any()
        assert step.num_tokens == max(1, sum(len(r.completion.tokens) for r in rollouts if not r.masked))
    assert idle == world - useful
    assert sum(r.trained for r in rollouts) == world


def test_columns_go_along_to_a_device_and_detach_brings_them_back():
    rollouts = made_rollouts()
    steps = [step_of(rollouts[:8]).to("cpu"), step_of(rollouts[8:]).to("cpu")]
    assert isinstance(steps[0], PolicyStep)
    assert steps[0].rollouts == rollouts[:8]
    found = detach(steps, "sampler")
    assert sorted(found) == sorted(r.name for r in rollouts)
    for rollout in rollouts:
        assert found[rollout.name].dtype == np.float32
        assert found[rollout.name].tolist() == np.array(rollout.completion.logprobs, np.float32).tolist()
    steps[1].micros[0].columns["old"] = steps[1].micros[0].columns["sampler"].bfloat16()
    assert sorted(detach(steps, "old")) == sorted(steps[1].micros[0].ids)
    assert detach(steps, "reference") == {}


def test_a_completion_that_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"rows.jsonl:\d: .*tokens_per_micro=20"):
        step_of(made_rollouts(), tokens_per_micro=20)
