"""Normalisers: what a token weighs, by hand, as the papers' sums, and whatever way the step is cut."""

import pytest
import torch
from loss_tokens import LENGTHS, tokens

from lightning_posttrain.losses import aggregate

CPU = torch.device("cpu")
N, S, LONGEST = sum(LENGTHS), len(LENGTHS), 8

WHOLE = {
    "sequence_mean": lambda sequence, count: aggregate.sequence_mean(sequence, count, S),
    "step_tokens": lambda sequence, _: aggregate.step_tokens(len(sequence), N, CPU),
    "constant": lambda sequence, _: aggregate.constant(len(sequence), S, LONGEST, CPU),
    "length_weighted": lambda sequence, _: aggregate.length_weighted(len(sequence), S, CPU),
}


def loops(name: str, losses: list[list[float]]) -> float:
    """The loss of a step from its token losses, completion by completion."""
    if name == "sequence_mean":
        return sum(sum(own) / len(own) for own in losses) / S
    if name == "step_tokens":
        return sum(sum(own) for own in losses) / sum(len(own) for own in losses)
    if name == "constant":
        return sum(sum(own) / LONGEST for own in losses) / S
    return sum((sum(own) / len(own)) * len(own) for own in losses) / S


def test_by_hand():
    sequence = torch.tensor([0, 1, 1, 1, 1])
    assert aggregate.sequence_mean(sequence, 2, 4).tolist() == [1 / 4, *[1 / 16] * 4]
    assert aggregate.step_tokens(2, 8, CPU).tolist() == [1 / 8, 1 / 8]
    assert aggregate.micro_tokens(2, 4, CPU).tolist() == [1 / 8, 1 / 8]
    assert aggregate.constant(2, 4, 8, CPU).tolist() == [1 / 32, 1 / 32]
    assert aggregate.length_weighted(2, 4, CPU).tolist() == [1 / 4, 1 / 4]


@pytest.mark.parametrize("name", WHOLE)
def test_as_loops_over_completions_and_for_any_cut(name):
    t = tokens()
    losses = torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = loops(name, [[losses[i].item() for i in span] for span in t.spans])
    for cut in range(S):
        first = t.sequence < cut
        total = 0.0
        for mine in (first, ~first):
            sequence = t.sequence[mine] - (0 if mine is first else cut)
            weights = WHOLE[name](sequence, cut if mine is first else S - cut)
            total += (weights * losses[mine]).sum().item()
        assert total == pytest.approx(expected, rel=1e-5), cut


def test_micro_tokens_as_loops_depends_on_the_cut():
    losses = torch.arange(4.0)
    halves = [(aggregate.micro_tokens(2, 2, CPU) * part).sum().item() for part in losses.split(2)]
    uneven = [(aggregate.micro_tokens(len(part), 2, CPU) * part).sum().item() for part in losses.split([1, 3])]
    assert sum(halves) == ((0 + 1) / 2 + (2 + 3) / 2) / 2
    assert sum(uneven) == pytest.approx((0 / 1 + (1 + 2 + 3) / 3) / 2)
    assert aggregate.micro_tokens(0, 2, CPU).tolist() == []


def test_means_of_ones_are_one_and_lengths_tell_them_apart():
    t = tokens()
    assert WHOLE["sequence_mean"](t.sequence, S).sum().item() == pytest.approx(1.0)
    assert WHOLE["step_tokens"](t.sequence, S).sum().item() == pytest.approx(1.0)
    assert WHOLE["constant"](t.sequence, S).sum().item() == pytest.approx(N / (S * LONGEST))
    assert WHOLE["length_weighted"](t.sequence, S).sum().item() == pytest.approx(N / S)
    per_completion = {name: [WHOLE[name](t.sequence, S)[span].sum().item() for span in t.spans] for name in WHOLE}
    assert per_completion["sequence_mean"] == pytest.approx([1 / S] * S)
    for name in ("step_tokens", "constant", "length_weighted"):  # a longer completion weighs more
        assert [w / per_completion[name][0] for w in per_completion[name]] == pytest.approx([n / 3 for n in LENGTHS])


def test_many_long_completions_do_not_lose_precision():
    sequence = torch.arange(4096).repeat_interleave(33)
    weights = aggregate.sequence_mean(sequence, 4096, 1 << 20)
    assert weights.dtype == torch.float32
    assert weights.sum(dtype=torch.float64).item() == pytest.approx(4096 / (1 << 20), rel=1e-6)
