"""Weights of tokens that another policy drew: by hand, as loops, and where they do nothing."""

import math

import pytest
import torch
from loss_tokens import gradient, reals, tokens

from lightning_posttrain.losses.correction import importance_weights, off_policy_mask

CASES = [(mode, level) for mode in ("truncate", "mask") for level in ("token", "sequence")]


@pytest.mark.parametrize(
    ("mode", "level", "expected"),
    [
        ("truncate", "token", [2.0, 0.5, 1.5, 0.25]),
        ("mask", "token", [0.0, 0.5, 1.5, 0.25]),
        ("truncate", "sequence", [2.0, 2.0, 0.375, 0.375]),
        ("mask", "sequence", [0.0, 0.0, 0.375, 0.375]),
    ],
)
def test_importance_by_hand(mode, level, expected):
    ratios = reals(5.0, 0.5, 1.5, 0.25)  # of the two completions: 2.5 and 0.375
    sampler, sequence = reals(-2.0, -1.0, -3.0, -0.5), torch.tensor([0, 0, 1, 1])
    got = importance_weights(sampler + ratios.log(), sampler, sequence, 2, mode, level, 2.0)
    assert got.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("mode", "level"), CASES)
def test_importance_as_loops(mode, level):
    t, cap = tokens(spread=0.7), 1.3
    expected = []
    for span in t.spans:
        own = [math.exp(t.logps[i].item()) / math.exp(t.old[i].item()) for i in span]
        own = [math.prod(own)] * len(own) if level == "sequence" else own
        expected += [w if w <= cap else cap if mode == "truncate" else 0.0 for w in own]
    got = importance_weights(t.logps, t.old, t.sequence, len(t.spans), mode, level, cap)
    assert got.tolist() == pytest.approx(expected)
    assert len({w > cap or w in (0.0, cap) for w in expected}) == 2  # some are cut, others are not


@pytest.mark.parametrize(("mode", "level"), CASES)
def test_importance_is_one_for_the_trainers_own_and_finite_for_anything(mode, level):
    t = tokens(spread=0.0)
    got = importance_weights(t.logps, t.old, t.sequence, len(t.spans), mode, level, 1.0)
    assert got.tolist() == [1.0] * len(t.old)
    assert not got.requires_grad
    broken = torch.tensor([-1e4, -0.1] * 40)
    far = importance_weights(broken, broken.flip(0), torch.arange(2).repeat_interleave(40), 2, mode, level, 2.0)
    assert torch.isfinite(far).all()


def test_the_mask_by_hand():
    sequence, advantage = torch.tensor([0, 0, 1, 1, 2]), reals(-1.0, -1.0, 1.0, 1.0, -1.0)
    logps, sampler = reals(-3.0, -1.0, -9.0, -9.0, -1.0), reals(-1.0, -1.0, -1.0, -1.0, -9.0)
    for threshold, first in ((0.9, False), (1.0, True)):  # the first has drifted by 1 nat per token
        got = off_policy_mask(logps, sampler, advantage, sequence, 3, threshold)
        assert got.tolist() == [first, first, True, True, True]


def test_the_mask_as_loops():
    t, threshold = tokens(spread=0.7), 0.1
    expected = []
    for span in t.spans:
        drift = sum(t.old[i].item() - t.logps[i].item() for i in span) / len(span)
        expected += [not (t.advantage[i].item() < 0 and drift > threshold) for i in span]
    got = off_policy_mask(t.logps, t.old, t.advantage, t.sequence, len(t.spans), threshold)
    assert got.tolist() == expected
    assert len(set(expected)) == 2


def test_the_mask_keeps_everything_on_policy_and_stops_the_gradient_of_what_it_drops():
    same = tokens(spread=0.0)
    assert off_policy_mask(same.logps, same.old, same.advantage, same.sequence, len(same.spans), 1e-9).all()
    t = tokens(spread=0.7)
    kept = off_policy_mask(t.logps, t.old, t.advantage, t.sequence, len(t.spans), 0.1)
    assert ((gradient(-t.advantage * t.logps * kept, t.logps) != 0) == kept).all()
