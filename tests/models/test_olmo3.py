"""The ladder's parameter counts, its initialisation, and the arithmetic of its runs."""

import pytest
import torch

from lightning_posttrain.models.chinchilla import Plan
from lightning_posttrain.models.config import architecture_fields
from lightning_posttrain.models.load import load_policy
from lightning_posttrain.models.olmo3 import DOLMA2_VOCABULARY, SIZES, non_embedding, olmo3, padded
from lightning_posttrain.types import UserError

COUNTS = {  # without the input embedding, and in all; with dolma2's vocabulary
    "olmo3_1m": (1_244_396, 2_448_620),
    "olmo3_14m": (13_895_808, 26_740_864),
    "olmo3_30m": (29_102_336, 54_792_448),
    "olmo3_60m": (57_422_208, 95_957_376),
    "olmo3_100m": (101_736_960, 153_117_184),
    "olmo3_190m": (190_354_176, 267_424_512),
    "olmo3_370m": (371_262_464, 474_022_912),
    "olmo3_600m": (547_964_160, 676_414_720),
    "olmo3_760m": (758_220_288, 912_360_960),
    "olmo3_1b": (1_279_395_840, 1_484_916_736),
}


def test_every_size_has_its_number_of_parameters():
    assert {name: non_embedding(olmo3(name, DOLMA2_VOCABULARY)) for name in SIZES} == COUNTS


def test_parameters_are_counted_as_the_built_model_has_them():
    model = load_policy(None, {"name": "olmo3_1m"}, vocab_size=300)
    total = sum(p.numel() for p in model.parameters())
    assert model.config.vocab_size == 384
    assert non_embedding(olmo3("olmo3_1m", 300)) == (total - model.model.embed_tokens.weight.numel(), total)


def test_the_decoder_is_the_ladders():
    model = load_policy(None, {"name": "olmo3_14m"}, vocab_size=260)
    layer, config = model.model.layers[0], model.config
    assert layer.self_attn.q_norm.weight.shape == layer.self_attn.k_norm.weight.shape == (128,)  # the whole width
    assert not hasattr(layer, "input_layernorm")  # norms come after attention and feed-forward
    assert config.layer_types == ["sliding_attention"] * 3 + ["full_attention"]
    assert config.sliding_window == 4096
    assert {p["rope_theta"] for p in config.rope_parameters.values()} == {500_000.0}
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert not any(name.endswith("bias") for name, _ in model.named_parameters())
    assert model.model.embed_tokens.padding_idx is None


def test_matrices_are_drawn_from_a_normal_cut_off_at_three_deviations():
    model = load_policy(None, {"name": "olmo3_14m"}, vocab_size=4096, seed=3)
    same = load_policy(None, {"name": "olmo3_14m"}, vocab_size=4096, seed=3)
    for (name, a), b in zip(model.named_parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
        if a.ndim == 2:
            assert a.abs().max() <= 0.06
            assert a.std().item() == pytest.approx(0.0197, rel=0.03), name  # of the cut normal
        else:
            assert torch.equal(a, torch.ones_like(a))


def test_a_named_model_can_be_changed():
    fields = architecture_fields({"name": "olmo3_14m", "hidden_size": 64, "head_dim": 8}, 1000)
    assert (fields["hidden_size"], fields["num_hidden_layers"], fields["vocab_size"]) == (64, 4, 1024)
    assert architecture_fields({"name": "olmo3_14m", "vocab_size": 500}, 1000)["vocab_size"] == padded(500)


def test_an_unknown_name_is_told_which_there_are():
    with pytest.raises(UserError, match=r"olmo3_13m.*olmo3_14m"):
        load_policy(None, {"name": "olmo3_13m"}, vocab_size=300)


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"head_dim": 15}, r"model\.architecture: .*head_dim.*15"),
     ({"hidden_size": "x"}, r"model\.architecture: .*hidden_size"),
     ({"num_attention_heads": 0}, r"model\.architecture\.num_attention_heads=0: give a positive"),
     ({"head_dim": -2}, r"model\.architecture\.head_dim=-2"),
     ({"layer_types": ["a"]}, r"model\.architecture: .*layer_types")],
)  # fmt: skip
def test_a_field_that_cannot_be_is_refused_by_name(fields, told):
    architecture = {"name": "olmo3_1m", **fields}
    with pytest.raises(UserError, match=told):
        load_policy(None, architecture, vocab_size=300)
    with pytest.raises(UserError, match=told):
        non_embedding(architecture_fields(architecture, 300))


def test_the_plan_of_the_original_runs():
    plans = [Plan(13_895_808, c) for c in (0.5, 2.5, 5)]
    assert [p.tokens for p in plans] == [138_958_080, 694_790_400, 1_389_580_800]
    assert [p.steps for p in plans] == [1061, 5301, 10_602]
    assert {p.tokens_per_step for p in plans} == {131_072}
    assert plans[0].lr == pytest.approx(0.0046549, abs=5e-8)
    assert [p.warmup_tokens for p in plans] == [6_947_904, 13_895_808, 13_895_808]
    assert plans[0].betas == (0.9, 0.99)


@pytest.mark.parametrize(
    ("name", "lr", "batch"),
    [("olmo3_1m", 0.010405, 32_768), ("olmo3_60m", 0.002901, 262_144), ("olmo3_100m", 0.002397, 524_288),
     ("olmo3_370m", 0.001557, 1_048_576), ("olmo3_1b", 0.001031, 2_097_152)],
)  # fmt: skip
def test_learning_rate_and_batch_follow_the_size(name, lr, batch):
    plan = Plan(COUNTS[name][0], 1)
    assert plan.lr == pytest.approx(lr, abs=1e-6)
    assert plan.tokens_per_step == batch
    assert plan.betas[1] == (0.95 if batch >= 524_288 else 0.99)


@pytest.mark.parametrize(
    ("length", "ours", "original"),
    [(0.25, [1.0], [1.0]), (0.5, [1.0], [1.0]), (0.75, [2 / 3, 1.0], [2 / 3]), (2, [0.25, 0.5, 1.0], [0.25, 0.5, 1.0]),
     (2.5, [0.2, 0.4, 0.8, 1.0], [0.2, 0.4, 0.8]), (5, [0.1, 0.2, 0.4, 0.8, 1.0], [0.1, 0.2, 0.4, 0.8])],
)  # fmt: skip
def test_periods_end_with_the_run_unless_the_original_is_asked_for(length, ours, original):
    plan = Plan(13_895_808, length)
    assert plan.period_ends() == pytest.approx(ours)
    assert plan.period_ends(compat=True) == pytest.approx(original)


@pytest.mark.parametrize("length", [0, -1, float("nan"), float("inf")])
def test_a_run_without_length_is_refused(length):
    with pytest.raises(UserError, match="chinchilla"):
        Plan(1000, length)
