"""A rank that is idle for one of its micro-batches changes nothing: two ranks' shares add up to one process's step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lightning_posttrain.batching.loader import StepLoader
from lightning_posttrain.batching.prompts import Prompt
from lightning_posttrain.losses.objective import NAMED, Objective
from lightning_posttrain.metrics.nll import TokenNLL
from lightning_posttrain.modules.backward import backward
from lightning_posttrain.modules.grpo_spec import EntropySpec, KLSpec
from lightning_posttrain.modules.policy_step import PolicyStep, policy_step
from lightning_posttrain.modules.pretrain import PretrainModule
from lightning_posttrain.rollout.rollouts import Rollout
from lightning_posttrain.text.tokenizer import TokenizerSpec
from lightning_posttrain.types import Completion, Example, Message, Record, Sequence, StepBatch
from tests.tinyrun import ARCHITECTURE, build, build_dpo, build_grpo

LIMIT = 40


class Three(list[Example]):
    """Three examples of which no two fit into a micro-batch."""

    fingerprint = "three"

    def __init__(self, pairs: bool) -> None:
        rng = np.random.default_rng(3)
        for i in range(3):
            prompt = rng.integers(0, 250, 20)
            answers = [rng.integers(0, 250, 9) for _ in range(1 + pairs)]
            self.append(tuple(self._sequence(np.concatenate([prompt, a]), f"{i}{k}") for k, a in enumerate(answers)))

    def _sequence(self, ids: np.ndarray, name: str) -> Sequence:
        return Sequence(ids.astype(np.int32), np.arange(len(ids)) >= 20, name, f"rows.jsonl:{name}")


def shares(pairs: bool) -> tuple[list[StepBatch], StepBatch]:
    """The step as each of two ranks sees it, and as one process does."""
    ranks = [next(iter(StepLoader(Three(pairs), 3, LIMIT, rank=rank, world_size=2))) for rank in range(2)]
    return ranks, next(iter(StepLoader(Three(pairs), 3, LIMIT)))


def learned(module: Any, steps: list[Any]) -> tuple[torch.Tensor, dict[str, float], float]:
    """Gradients, logged sums and the loss of ``steps``, each a rank's share, as `backward` adds them."""
    module.zero_grad()
    sums: dict[str, float] = {}
    for step in steps:
        for name, value in backward(module, step, None).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return torch.cat([p.grad.flatten() for p in module.parameters()]), sums, sums["loss"]


def alone(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module without a Trainer, as the only rank."""
    from types import SimpleNamespace

    module.build()
    module._trainer = SimpleNamespace(world_size=1, strategy=None, global_rank=0)
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    return module


def agree(module: Any, ranks: list[Any], one: Any) -> None:
    assert [[micro.idle for micro in step.micros] for step in ranks] == [[False, False], [False, True]]
    together, single = learned(module, ranks), learned(module, [one])
    scale = single[0].abs().max()
    assert torch.allclose(together[0] / scale, single[0] / scale, atol=1e-6)
    assert together[1] == pytest.approx(single[1], rel=1e-6)


SUPERVISED: dict[str, Any] = {
    "nll": lambda: build(),
    "dft": lambda: build(loss="dft"),
    "pretrain": lambda: PretrainModule(architecture=ARCHITECTURE, tokenizer=TokenizerSpec(kind="byte")),
}


@pytest.mark.parametrize("name", SUPERVISED)
def test_supervised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agree(alone(SUPERVISED[name](), monkeypatch), *shares(pairs=False))


@pytest.mark.parametrize("loss", ["sigmoid", "simpo", "ipo", "orpo"])
def test_preferences(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = alone(build_dpo(loss=loss), monkeypatch)
    ranks, one = shares(pairs=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.01)  # so that policy and reference differ
    for step in (*ranks, one):
        module.annotate(step)
    agree(module, ranks, one)


def rollouts() -> list[Rollout]:
    rng = np.random.default_rng(4)
    made = []
    for i, (sequence,) in enumerate(Three(pairs=False)):
        prompt = Prompt(Record(str(i), (Message("user", "?"),), "", f"p:{i}"), sequence.ids[:20], i)
        logps = -rng.random(9)
        completion = Completion(tuple(sequence.ids[20:].tolist()), tuple(logps.tolist()), "", True)
        made.append(Rollout(prompt, 0, completion, advantage=float(i) - 0.9))
    return made


def policy(rank: int, world: int) -> PolicyStep:
    place = {"rank": rank, "world_size": world, "epoch": 0, "index": 0}
    return policy_step(rollouts(), tokens_per_micro=LIMIT, min_shared=16, run_all=True, **place)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("extras", [{}, {"kl": KLSpec(beta=0.1), "entropy": EntropySpec(bonus=0.1), "minibatches": 2}])
def test_policies(name: Any, extras: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module = alone(build_grpo(objective=Objective(name), **extras), monkeypatch)
    ranks, one = [policy(rank, 2) for rank in range(2)], policy(0, 1)
    for step in (*ranks, one):
        module.annotate([step])
    agree(module, ranks, one)


def test_validation_counts_no_token_twice() -> None:
    module = build()
    module.build()
    ranks, one = shares(pairs=False)
    found = []
    for steps in (ranks, [one]):
        module.val_nll = TokenNLL()
        with torch.no_grad():
            for step in steps:
                module.validation_step(step, 0)
        found.append(float(module.val_nll.compute()))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_an_idle_micro_batch_decides_nothing() -> None:
    """An entropy quantile is that of the tokens in the step."""
    module = build_grpo(entropy=EntropySpec(quantile=0.5))
    module.build()
    step, one = policy(1, 2), policy(0, 1)
    real = [micro for micro in step.micros if not micro.idle]
    for micro in step.micros:
        micro.columns["decides"] = torch.arange(len(micro.sequence)).float() + 100 * micro.idle
    from lightning_posttrain.modules.grpo import _decide

    _decide(step.micros, 0.5)
    assert [int(m.columns["decides"].sum()) for m in real] == [5]
    assert one.num_micros == policy(0, 2).num_micros == 3
