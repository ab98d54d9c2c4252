"""Scores of log-ratios: by hand, as the derivatives of their divergences, their limits, and far away."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_tokens import gradient, reals
from torch import Tensor

from lightning_posttrain.losses.divergence import MAX_EXPONENT, bounded_exp, bounded_expm1, score

ALL = [("reverse_kl", 0.5), ("forward_kl", 0.5), ("js", 0.5), ("alpha", 0.5), ("alpha", 0.0), ("alpha", 2.0)]

# f of D_f(p || q) = E_q f(p / q), with f(1) = 0 = f'(1)
GENERATORS = {
    ("reverse_kl", 0.5): lambda u: u * math.log(u) - u + 1,
    ("forward_kl", 0.5): lambda u: -math.log(u) + u - 1,
    ("js", 0.5): lambda u: u * math.log(u) - (u + 1) * math.log((u + 1) / 2),
    ("alpha", 0.5): lambda u: (u**0.5 - 0.5 * u - 0.5) / (0.5 * (0.5 - 1)),
    ("alpha", 2.0): lambda u: (u**2 - 2 * u + 1) / 2,
}


def test_by_hand():
    r = reals(math.log(4), -math.log(4), 0.0)
    assert score(r).tolist() == r.tolist()
    assert score(r, "forward_kl").tolist() == pytest.approx([3 / 4, -3, 0])
    assert score(r, "js").tolist() == pytest.approx([math.log(8 / 5), math.log(2 / 5), 0])
    assert score(r, "alpha", 0.5).tolist() == pytest.approx([1, -2, 0])
    assert score(r, "alpha", 2.0).tolist() == pytest.approx([3, -3 / 4, 0])


@pytest.mark.parametrize("kind", GENERATORS, ids=str)
def test_as_the_derivative_of_the_divergence(kind):
    f, h = GENERATORS[kind], 1e-6
    for u in (0.2, 0.9, 1.0, 1.7, 6.0):
        slope = (f(u + h) - f(u - h)) / (2 * h)
        assert score(reals(math.log(u)), *kind).item() == pytest.approx(slope, abs=1e-7)


@given(st.floats(-5, 5))
def test_alpha_has_the_two_kl_divergences_as_limits(r):
    r = reals(r)
    assert score(r, "alpha", 1.0).item() == r.item()
    assert score(r, "alpha", 1 + 1e-9).item() == pytest.approx(r.item(), abs=1e-6)
    assert score(r, "alpha", 0.0).item() == pytest.approx(score(r, "forward_kl").item())


@given(st.floats(-1e6, 1e6), st.floats(0.01, 10))
def test_more_probable_never_scores_less_and_the_gradient_points_up(r, step):
    for kind in ALL:
        low, high = score(reals(r, r + step), *kind).tolist()
        assert low <= high
        x = torch.tensor([r], requires_grad=True)
        assert gradient(score(x, *kind), x).item() >= 0


@pytest.mark.parametrize("kind", ALL, ids=str)
def test_far_away_is_finite_in_float32_and_its_square_too(kind):
    r = torch.tensor([-100.0, -60.0, 60.0, 100.0], requires_grad=True)
    values = score(r, *kind)
    assert torch.isfinite(values.square()).all()
    assert torch.isfinite(gradient(values.square(), r)).all()


def test_a_completion_that_is_lost_keeps_its_gradient():
    r = torch.tensor([-1e4], requires_grad=True)
    for kind in (("forward_kl", 0.5), ("alpha", 0.5)):
        assert gradient(score(r, *kind), r).item() >= math.exp(MAX_EXPONENT) * 0.5


def test_the_tangent_begins_where_it_says():
    x = reals(-3.0, 0.0, MAX_EXPONENT - 1, MAX_EXPONENT + 2).requires_grad_()
    edge = math.exp(MAX_EXPONENT)
    expected = [math.exp(-3), 1, edge / math.e, 3 * edge]
    assert bounded_exp(x).tolist() == pytest.approx(expected)
    assert bounded_expm1(x).tolist() == pytest.approx([e - 1 for e in expected])
    slopes: list[Tensor] = [gradient(f(x), x) for f in (bounded_exp, bounded_expm1)]
    for slope in slopes:
        assert slope.tolist() == pytest.approx([math.exp(-3), 1, edge / math.e, edge])
    assert bounded_expm1(reals(1e-12)).item() == pytest.approx(1e-12)
