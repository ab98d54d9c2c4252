"""The other sampler: the same distribution, log-probs and bookkeeping as the default one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_posttrain.modules.optim import OptimizerSpec
from lightning_posttrain.ops.attention import ATTENTION
from lightning_posttrain.rollout.ledger import read_steps
from lightning_posttrain.rollout.sampler import SamplingParams
from lightning_posttrain.rollout.samplers import ContinuousBatchingSampler, KVCacheSampler
from lightning_posttrain.types import Completion
from tests.tinyrun import build_grpo, train

SMALL = ContinuousBatchingSampler(num_blocks=16, max_batch_tokens=128)
PROMPTS = [[1, 2, 3, 4, 5], [7, 8, 9]]


def drawn(sampler: Any, params: SamplingParams, step: int = 0) -> list[list[Completion]]:
    module = build_grpo()
    module.build()
    module.model.train()
    draw = {"n": 3, "seed": 0, "step": step, "keys": [0, 1]}
    groups = sampler.generate(module.model, PROMPTS, params, {200, 201, 202}, module.decode, **draw)
    assert module.model.training
    assert module.model.config._attn_implementation == ATTENTION
    return groups


def test_greedy_tokens_are_the_default_samplers() -> None:
    params = SamplingParams(max_new_tokens=6, temperature=0.0)
    ours, theirs = drawn(KVCacheSampler(), params), drawn(SMALL, params)
    assert [[c.tokens for c in g] for g in theirs] == [[c.tokens for c in g] for g in ours]
    assert [[c.finished for c in g] for g in theirs] == [[c.finished for c in g] for g in ours]


def test_draws_depend_on_the_step_and_repeat() -> None:
    params = SamplingParams(max_new_tokens=6, temperature=1.0)
    first, again, later = (drawn(SMALL, params, step) for step in (0, 0, 1))
    assert first == again
    assert first != later
    assert [len(g) for g in first] == [3, 3]


@pytest.mark.parametrize("truncation", [{}, {"temperature": 0.7}, {"temperature": 0.9, "top_p": 0.8, "top_k": 40}])
def test_the_trainer_agrees_with_its_log_probs(truncation: dict[str, Any], tmp_path: Path) -> None:
    params = SamplingParams(max_new_tokens=6, **{"temperature": 1.0, **truncation})
    module = {"sampler": SMALL, "rollout": params, "optimizer": OptimizerSpec(lr=1e-3)}
    train(tmp_path, grpo=True, module=module, max_epochs=1, checkpoints={"every_n_steps": 100})
    rows = read_steps(tmp_path).query("r", "select sampler_logprobs, trainer_logprobs from r").fetchall()
    pairs = [(torch.tensor(a), torch.tensor(b)) for a, b in rows if b is not None]
    assert pairs
    assert all((a - b).abs().max() < 1e-4 for a, b in pairs)
