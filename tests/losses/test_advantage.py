"""Advantages: by hand, as loops over groups, and what they cannot depend on."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightning_posttrain.losses.advantage import SMALL, decoupled_advantages, group_advantages, zero_variance

NAN = math.nan
REWARDS = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=st.floats(-3, 3).map(float))


def deviation(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return statistics.stdev(known) if len(known) > 1 else 0.0


def loops(totals: list[list[float]], scale: str) -> list[list[float]]:
    whole = deviation([r for group in totals for r in group])
    out = []
    for group in totals:
        known = [r for r in group if not math.isnan(r)]
        divisor = {"group": deviation(group) + SMALL, "batch": whole + SMALL, "none": 1.0}[scale]
        out.append([0.0 if math.isnan(r) else (r - statistics.mean(known)) / divisor for r in group])
    return out


def random_rewards(*shape: int) -> np.ndarray:
    """Some of them nan; one group all of them."""
    made = np.random.default_rng(0)
    rewards = made.normal(size=shape) * made.choice([0.1, 1.0, 30.0], size=shape[-1:])
    rewards[made.random(shape) < 0.3] = NAN
    rewards[1] = NAN
    return rewards


def test_by_hand():
    scored = np.array([[1.0, 0.0, 0.0, 1.0]])
    deviation = math.sqrt(1 / 3)
    half = 0.5 / (deviation + SMALL)
    assert group_advantages(scored)[0].tolist() == pytest.approx([half, -half, -half, half])
    assert group_advantages(scored, "none")[0].tolist() == [0.5, -0.5, -0.5, 0.5]


def test_a_group_of_two_keeps_only_the_sign():
    for gap in (0.3, 1.0, 50.0):
        expected = math.sqrt(0.5) * gap / (gap + math.sqrt(2) * SMALL)
        assert group_advantages(np.array([[7.0, 7.0 + gap]]))[0].tolist() == pytest.approx([-expected, expected])
    assert expected == pytest.approx(0.7071, abs=1e-4)


def test_the_batchs_deviation_keeps_the_groups_sizes_apart():
    totals = np.array([[0.0, 1.0], [0.0, 10.0]])
    deviation = math.sqrt(sum((x - 2.75) ** 2 for x in (0, 1, 0, 10)) / 3)
    small, large = 0.5 / (deviation + SMALL), 5 / (deviation + SMALL)
    assert group_advantages(totals, "batch").ravel().tolist() == pytest.approx([-small, small, -large, large])


def test_a_reward_that_does_not_apply_gives_no_advantage_and_does_not_count():
    got = group_advantages(np.array([[1.0, NAN, 3.0, 2.0], [NAN] * 4, [NAN, 5.0, NAN, NAN]]))
    one = 1 / (1 + SMALL)
    assert got[0].tolist() == pytest.approx([-one, 0.0, one, 0.0])
    assert got[1:].tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_as_loops(scale):
    totals = random_rewards(6, 4)
    np.testing.assert_allclose(group_advantages(totals, scale), loops(totals.tolist(), scale), atol=1e-12)


@given(REWARDS, st.floats(-5, 5))
def test_every_group_is_centred_keeps_its_order_and_ignores_a_common_shift(totals, shift):
    for scale in ("group", "batch", "none"):
        got = group_advantages(totals, scale)
        np.testing.assert_allclose(got.sum(-1), 0, atol=1e-9)
        np.testing.assert_allclose(group_advantages(totals + shift, scale), got, rtol=1e-3, atol=1e-8)
        order = np.argsort(totals, -1, kind="stable")
        assert (np.diff(np.take_along_axis(got, order, -1)) >= -1e-9).all()


# ---- decoupled ------------------------------------------------------------------------------------------------------


def test_decoupled_by_hand():
    rewards = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, NAN], [0.0, NAN]]])  # the two disagree on the first prompt
    equal = decoupled_advantages(rewards, np.array([1.0, 1.0]))
    assert equal[0].tolist() == [0.0, 0.0]
    unit = math.sqrt(0.5) / (math.sqrt(0.5) + SMALL)  # each reward after its own scaling is +-unit
    spread = math.sqrt((2 * unit**2) / 3)
    assert equal[1].tolist() == pytest.approx([unit / (spread + SMALL), -unit / (spread + SMALL)], rel=1e-3)
    tilted = decoupled_advantages(rewards, np.array([2.0, 1.0]))
    assert tilted[1, 0] == pytest.approx(2 * tilted[0, 0])
    assert tilted[0, 0] > 0


def test_decoupled_as_loops():
    rewards, weights = random_rewards(5, 4, 3), np.array([1.0, 0.5, -2.0])
    total = [[0.0] * 4 for _ in range(5)]
    for k in range(3):
        scaled = loops(rewards[..., k].tolist(), "group")
        for i in range(5):
            for j in range(4):
                total[i][j] += weights[k] * scaled[i][j]
    flat = [x for row in total for x in row]
    mean, deviation = statistics.mean(flat), statistics.stdev(flat)
    expected = [[(x - mean) / (deviation + SMALL) for x in row] for row in total]
    np.testing.assert_allclose(decoupled_advantages(rewards, weights), expected, atol=1e-12)


def test_decoupled_a_reward_that_varies_more_does_not_drown_the_others():
    made = np.random.default_rng(1)
    rewards = made.normal(size=(8, 4, 2))
    louder = rewards * [1.0, 1000.0]
    weights = np.array([1.0, 1.0])
    np.testing.assert_allclose(
        decoupled_advantages(louder, weights), decoupled_advantages(rewards, weights), rtol=1e-2, atol=1e-3
    )
    summed = [np.corrcoef(group_advantages(louder.sum(-1)).ravel(), rewards[..., k].ravel())[0, 1] for k in (0, 1)]
    apart = [np.corrcoef(decoupled_advantages(louder, weights).ravel(), rewards[..., k].ravel())[0, 1] for k in (0, 1)]
    assert summed[0] < 0.4 < 0.6 < apart[0]


# ---- groups that teach nothing --------------------------------------------------------------------------------------


def test_zero_variance_by_hand():
    totals = [[1, 1, 1], [1, 1, 2], [0.1 + 0.2, 0.3, 0.3], [NAN, 1, NAN], [NAN] * 3, [NAN, 1, 2], [0, 0, 1e-6]]
    assert zero_variance(np.array(totals, float)).tolist() == [True, False, True, True, True, False, False]


@given(st.floats(-1e3, 1e3), st.integers(2, 9))
def test_equal_rewards_have_no_variance_whatever_their_sum_rounds_to(value, count):
    totals = np.full((1, count), value)
    assert zero_variance(totals).tolist() == [True]
    assert np.abs(group_advantages(totals)).max() < 1e-7


@given(REWARDS)
def test_where_rewards_differ_there_is_something_to_learn(totals):
    gaps = totals.max(-1) - totals.min(-1)
    clear = (gaps == 0) | (gaps > 1e-6)
    assert (zero_variance(totals) == (gaps == 0))[clear].all()
