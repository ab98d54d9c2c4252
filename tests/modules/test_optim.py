"""Schedules by their numbers, optimizers by what they move."""

import copy
import math

import pytest
import torch
from torch import nn

from lightning_posttrain.modules.optim import MuonAdamW, OptimizerSpec, ScheduleSpec, build_optimizer, schedule_factor
from lightning_posttrain.types import UserError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.norm = nn.LayerNorm(8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.norm(x).square().sum()


def trained(spec: OptimizerSpec) -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = Net()
    optimizer = build_optimizer(net, spec)
    for _ in range(3):
        (net(torch.arange(10)) * 1e-2 - net.embed.weight.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "paged_adamw_8bit", "muon"])
def test_every_optimizer_moves_every_parameter(name):
    torch.manual_seed(0)
    before = Net()
    net, _ = trained(OptimizerSpec(name=name, lr=1e-2))
    moved = [not torch.equal(a, b) for a, b in zip(before.parameters(), net.parameters(), strict=True)]
    assert all(moved)


def test_decay_spares_vectors():
    optimizer = build_optimizer(Net(), OptimizerSpec(weight_decay=0.1))
    for group in optimizer.param_groups:
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] > 0}


def test_muon_takes_the_layers_matrices_only():
    optimizer = build_optimizer(net := Net(), OptimizerSpec(name="muon", lr=1e-3, muon_lr=0.05))
    assert isinstance(optimizer, MuonAdamW)
    chosen = {id(p) for p in optimizer.parts[0].param_groups[0]["params"]}
    assert chosen == {id(layer.weight) for layer in net.layers}
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [1e-3, 0.05]


def test_muon_state_survives_saving():
    net, optimizer = trained(OptimizerSpec(name="muon", lr=1e-2))
    torch.manual_seed(0)
    twin = Net()
    twin.load_state_dict(net.state_dict())
    other = build_optimizer(twin, OptimizerSpec(name="muon", lr=1e-2))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as from a file: no tensor shared
    for model, opt in ((net, optimizer), (twin, other)):
        model(torch.arange(10)).backward()
        opt.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_schedules_move_muon_and_adamw_together():
    optimizer = build_optimizer(Net(), OptimizerSpec(name="muon", lr=1e-3, muon_lr=0.02))
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    scheduler.step()
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [5e-4, 0.01]
    assert sorted({g["lr"] for part in optimizer.parts for g in part.param_groups}) == [5e-4, 0.01]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ScheduleSpec("constant"), {0: 1, 9: 1}),
        (ScheduleSpec("linear"), {0: 1, 5: 0.5, 10: 0}),
        (ScheduleSpec("cosine"), {0: 1, 5: 0.5, 10: 0}),
        (ScheduleSpec("cosine", min_ratio=0.2), {5: 0.6, 10: 0.2}),
        (ScheduleSpec("wsd", decay_ratio=0.4), {0: 1, 6: 1, 8: 0.5, 10: 0}),
        (ScheduleSpec("linear", warmup_steps=4), {0: 0.25, 3: 1, 4: 1, 7: 0.5}),
        (ScheduleSpec("constant", warmup_ratio=0.2), {0: 0.5, 1: 1, 2: 1}),
    ],
)
def test_schedule_values(spec, expected):
    factor = schedule_factor(spec, 10)
    assert {step: factor(step) for step in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ScheduleSpec(warmup_ratio=0.1, warmup_steps=1), "not both"),
        (ScheduleSpec(warmup_steps=11), "do not fit"),
        (ScheduleSpec("wsd", warmup_steps=8, decay_ratio=0.5), "do not fit"),
    ],
)
def test_impossible_schedules_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        schedule_factor(spec, 10)


@pytest.mark.parametrize("spec", [OptimizerSpec(lr=0.0), OptimizerSpec(lr=math.nan), OptimizerSpec(weight_decay=-1.0)])
def test_impossible_optimizers_are_refused(spec):
    with pytest.raises(UserError, match="need lr > 0"):
        build_optimizer(Net(), spec)


def test_nothing_to_train_is_refused():
    with pytest.raises(UserError, match="no trainable"):
        build_optimizer(Net().requires_grad_(False), OptimizerSpec())
