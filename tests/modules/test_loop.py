"""The loop: its random numbers, what it does with a step that is not finite, and what it tells of rollouts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from lightning_posttrain.batching.loader import StepLoader
from lightning_posttrain.batching.prompts import PromptLoader
from lightning_posttrain.losses.advantage import deviations
from lightning_posttrain.models.load import LoraSpec
from lightning_posttrain.models.reference import Reference
from lightning_posttrain.modules import base, finite
from lightning_posttrain.modules.grpo_spec import KLSpec
from lightning_posttrain.modules.optim import ScheduleSpec
from lightning_posttrain.modules.rollout_stats import rollout_stats
from lightning_posttrain.ops.seeds import seeded
from lightning_posttrain.types import Completion, UserError
from tests.tinyrun import ARCHITECTURE, Rows, build, digest, prompts, train, trainer_for


class Draws(L.Callback):
    """Draws from the global generator after every step, as a user's callback may."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.values.append(float(torch.rand(1)))


DROPOUT: dict[str, Any] = {"lora": LoraSpec(r=2, dropout=0.5)}


def drawn(folder: Path, seed: int, **options: Any) -> tuple[list[float], list[dict[str, Any]]]:
    callback = Draws()
    torch.manual_seed(seed)
    lines, _ = train(folder, callbacks=(callback,), max_epochs=1, validate=False, **options)
    return callback.values, lines


def test_the_global_generator_is_left_to_others_and_decides_nothing(tmp_path: Path) -> None:
    draws, losses = zip(*(drawn(tmp_path / str(seed), seed, module=DROPOUT) for seed in (1, 77)), strict=True)
    assert losses[0] == losses[1]
    assert not set(draws[0]) & set(draws[1])
    torch.manual_seed(77)
    expected = [float(torch.rand(1)) for _ in range(len(draws[1]))]
    assert draws[1] == expected


def test_dropout_belongs_to_seed_step_and_rank() -> None:
    def mask(*key: int) -> list[bool]:
        with seeded(torch.device("cpu"), *key):
            return (torch.rand(32) < 0.5).tolist()

    assert mask(0, 3, 1) == mask(0, 3, 1)
    keys = [(s, t, r) for s in range(2) for t in range(3) for r in range(2)]
    assert len({tuple(mask(*key)) for key in keys}) == len(keys)


# ---- steps that are not finite ---------------------------------------------------------------------------------------


class Engine:
    """Stands for DeepSpeed's, which steps before it tells the gradient's norm."""

    def __init__(self, norm: float) -> None:
        self.norm = norm

    def set_gradient_accumulation_boundary(self, last: bool) -> None:
        pass

    def get_global_grad_norm(self) -> float:
        return self.norm


@pytest.mark.parametrize(("norm", "loss", "updated"), [(float("nan"), 1.0, True), (1.0, float("inf"), False)])
def test_the_message_says_whether_deepspeed_has_stepped(
    norm: float, loss: float, updated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "deepspeed_engine", lambda trainer: Engine(norm))
    module = build(schedule=ScheduleSpec(name="constant"))
    before: list[str] = []

    class Before(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            before.append(digest(module))
            real = module.micro_loss
            monkeypatch.setattr(module, "micro_loss", lambda *a: (real(*a)[0] * loss, {}))

    with pytest.raises(UserError) as raised:
        trainer_for(tmp_path, [Before()], max_epochs=1).fit(module, StepLoader(Rows(8), 4, 200))
    message = str(raised.value)
    assert message.startswith("step 0 (epoch 0, batch 0): loss ")
    assert (digest(module) != before[0]) == updated
    assert ("the weights were spoilt" in message) == updated
    assert ("the weights were not updated" in message) == (not updated)


def test_ranks_stop_together_and_name_all_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "_broken", lambda model, batch: ["mine.jsonl:1"])
    monkeypatch.setattr(finite, "gather", lambda rows: [rows, [], ["theirs.jsonl:2", *rows]])
    batch: Any = SimpleNamespace(micros=[], epoch=0, index=0)
    good, bad = torch.tensor(1.0), torch.tensor(float("nan"))
    with pytest.raises(UserError, match=r"non-finite log-probs: mine.jsonl:1, theirs.jsonl:2\. Lower"):
        finite.check_finite(None, batch, 0, bad, good)  # type: ignore[arg-type]
    finite.check_finite(None, batch, 0, good, good)  # type: ignore[arg-type]


# ---- rollouts --------------------------------------------------------------------------------------------------------


def sample(total: float) -> Any:
    return SimpleNamespace(total=total, rewards=(total,), completion=Completion((1,), (0.0,), "x", True))


@pytest.mark.filterwarnings("error")
def test_a_reward_that_does_not_apply_is_in_no_deviation() -> None:
    nan = float("nan")
    groups = [[sample(nan), sample(1.0), sample(1.0), sample(1.0)], [sample(nan)] * 4]
    assert rollout_stats(groups, ["a"])["reward_std"] == 0.0
    groups = [[sample(nan), sample(0.0), sample(2.0)]]
    assert rollout_stats(groups, ["a"])["reward_std"] == pytest.approx(np.sqrt(2.0))
    assert rollout_stats([[sample(1.0)], [sample(2.0)]], ["a"])["reward_std"] == 0.0
    assert deviations(np.array([[nan, 3.0], [1.0, 3.0]])).tolist() == [0.0, pytest.approx(np.sqrt(2.0))]


def test_a_prompt_that_is_too_long_is_named_by_its_row(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^prompts\.jsonl:\d: the prompt has \d+ tokens, which with max_new_tokens=8"):
        train(tmp_path, grpo=True, module={"architecture": {**ARCHITECTURE, "max_position_embeddings": 16}})


def test_the_reference_takes_the_policys_place_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swaps: list[int] = []
    real = Reference._swap
    monkeypatch.setattr(Reference, "_swap", lambda self: (swaps.append(1), real(self))[1])
    train(tmp_path, grpo=True, module={"kl": KLSpec(beta=0.1), "minibatches": 2}, tokens_per_micro=40, max_epochs=1)
    assert len(swaps) == 2 * 3  # there and back, in each of three steps


def test_a_step_without_refill_draws_no_spares(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = PromptLoader(prompts(), 2, 200, seed=None)
    monkeypatch.setattr(np.random, "default_rng", lambda *_: pytest.fail("an order was drawn"))
    assert len(list(loader)) == 3
