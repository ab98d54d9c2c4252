"""Schedules by their numbers, optimizers by what they move."""

import copy
import math

import lightning as L
import pytest
import torch
from torch import nn

from lightning_posttrain.models.load import load_policy
from lightning_posttrain.models.spec import LoraSpec
from lightning_posttrain.modules.master_weights import MasterWeights
from lightning_posttrain.modules.optim import MuonAdamW, OptimizerSpec, ScheduleSpec, build_optimizer, schedule_factor
from lightning_posttrain.types import UserError
from tests import tinyrun


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
    with pytest.raises(UserError, match=r"model\.optimizer\.(lr|weight_decay)=.*give "):
        build_optimizer(Net(), spec)


def test_nothing_to_train_is_refused():
    with pytest.raises(UserError, match="no trainable"):
        build_optimizer(Net().requires_grad_(False), OptimizerSpec())


def test_embeddings_decay_only_if_asked_for():
    tiny = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "tie_word_embeddings": False}  # fmt: skip
    model = load_policy(None, tiny, vocab_size=20)
    for kept in (True, False):
        groups = build_optimizer(model, OptimizerSpec(weight_decay=0.1, decay_embeddings=kept)).param_groups
        decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
        assert (id(model.model.embed_tokens.weight) in decayed) is kept
        assert id(model.lm_head.weight) in decayed
        assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


def test_numbers_of_a_plan_need_one():
    for spec in (OptimizerSpec(lr=None), OptimizerSpec(betas=None)):
        with pytest.raises(UserError, match="chinchilla"):
            build_optimizer(Net(), spec)


def test_wsds_decays_to_zero_at_the_end_of_each_period_and_nowhere_else():
    spec = ScheduleSpec(name="wsds", warmup_ratio=0.02, period_ends=[0.2, 0.4, 0.8, 1.0])
    lr = [schedule_factor(spec, 5301)(step) for step in range(5301)]
    assert lr[0] == pytest.approx(1 / 107)
    assert lr[106] == lr[900] == 1.0
    low = [step + 1 for step, value in enumerate(lr) if value < 0.009]  # steps count from 1
    assert [step for step in low if step > 1] == [1060, 2120, 4239, 4240, 5301]
    assert lr[5300] == 0.0
    assert lr[1060] == lr[2120] == lr[4240] == 1.0  # back at the peak at once
    assert lr[5301 - 54] == pytest.approx(53 / 106.02)  # the last tenth of the last period is a straight line


def test_wsds_compat_learns_nothing_after_its_last_period():
    spec = ScheduleSpec(name="wsds_compat", period_ends=[0.2, 0.4, 0.8])
    lr = [schedule_factor(spec, 5301)(step) for step in range(5301)]
    assert all(value == 0.0 for value in lr[4240:])
    assert all(value > 0.0 for value in lr[:4240])


@pytest.mark.parametrize(
    ("options", "field"),
    [({}, "period_ends"), ({"period_ends": [0.5, 0.4]}, "period_ends"), ({"period_ends": [0.5, 1.1]}, "period_ends"),
     ({"period_ends": [1.0], "decay_ratio": 0.0}, "decay_ratio"),
     ({"period_ends": [0.1, 1.0], "warmup_ratio": 0.1}, "10 warm-up steps of 100 .* before step 9, .* constant")],
)  # fmt: skip
def test_impossible_periods_are_refused(options, field):
    with pytest.raises(UserError, match=field):
        schedule_factor(ScheduleSpec(name="wsds", **options), 100)


# ---- weights of 8 bits ----------------------------------------------------------------------------------------------


def moved(tmp_path, precision, **options):
    """Shares of all weights, and of the norms', that a short run at a low learning rate changes."""
    module = {"optimizer": OptimizerSpec(lr=1e-6, **options), "schedule": ScheduleSpec(name="constant")}
    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16-true" else torch.float32
    before = tinyrun.build().initial_policy(dtype)
    kept = {}

    class Keep(L.Callback):
        def on_train_end(self, trainer, pl_module):
            optimizer = pl_module.optimizers().optimizer
            kept.update(model=pl_module.model, optimizer=optimizer)

    tinyrun.train(tmp_path, max_epochs=1, validate=False, precision=precision, module=module, callbacks=(Keep(),))
    after, optimizer = kept["model"], kept["optimizer"]
    copies = getattr(optimizer, "copies", {})
    wide = {name: copies.get(p, p).detach().float() for name, p in after.named_parameters()}
    changed = {name: (wide[name] != p.float()) for name, p in before.named_parameters()}
    norms = torch.cat([x.flatten() for name, x in changed.items() if "norm" in name])
    everything = torch.cat([x.flatten() for x in changed.values()])
    return everything.float().mean().item(), norms.float().mean().item(), after, copies


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_narrow_weights_move_as_wide_ones_do(tmp_path, name):
    wide, wide_norms, *_ = moved(tmp_path / "wide", "32-true", name=name)
    narrow, narrow_norms, model, copies = moved(tmp_path / "narrow", "bf16-true", name=name)
    assert narrow > 0.95 * wide
    assert narrow_norms > 0.95 * wide_norms > 0
    for weight, wide_weight in copies.items():  # the model has them rounded
        assert torch.equal(weight, wide_weight.to(torch.bfloat16))
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())


def test_a_run_in_bf16_resumes_with_its_float32_weights(tmp_path):
    module = {"optimizer": OptimizerSpec(lr=1e-5), "schedule": ScheduleSpec(name="constant")}
    options = {"module": module, "precision": "bf16-true", "validate": False}
    whole, end = tinyrun.train(tmp_path / "a", max_epochs=2, **options)
    tinyrun.train(tmp_path / "b", max_epochs=1, **options)
    checkpoint = max((tmp_path / "b").rglob("*.ckpt"), key=lambda path: path.name)
    rest, again = tinyrun.train(tmp_path / "b", checkpoint, max_epochs=2, **options)
    assert again == end
    assert rest == whole[len(whole) - len(rest) :]


def test_adapters_are_wide_already(tmp_path):
    module = {"lora": LoraSpec(r=2), "optimizer": OptimizerSpec(lr=1e-6)}
    tinyrun.train(tmp_path, max_epochs=1, validate=False, precision="bf16-true", module=module)
    model = tinyrun.build(lora=LoraSpec(r=2)).initial_policy(torch.bfloat16)
    assert not isinstance(build_optimizer(model, OptimizerSpec()), MasterWeights)
