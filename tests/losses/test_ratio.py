"""Ratio forms: values by hand, the papers' formulas as loops, and what each does to the gradient of a moved token."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_tokens import gradient, reals, tokens

from lightning_posttrain.losses import ratio

GATES = ((2.0, 3.0), (3.0, 2.0))
MOVED = st.floats(0.05, 6.0)
SIGN = st.sampled_from([-1.5, 1.5])

FORMS = {
    "clipped": lambda moved, a, logps: ratio.clipped(moved, a, 0.2, 0.28, 4.0),
    "capped": lambda moved, a, logps: ratio.capped(moved, a, logps, 5.0),
    "soft_gate": lambda moved, a, logps: ratio.soft_gate(moved, a, 1.0, 1.05),
    "gamma_gate": lambda moved, a, logps: ratio.gamma_gate(moved, a, logps, *GATES),
}


def slope(form, moved: float, advantage: float) -> float:
    """d loss / d log p of one token whose ratio is ``moved``."""
    logps = reals(math.log(moved) - 1).requires_grad_()
    return gradient(form(ratio.log_ratios(logps, reals(-1.0)), reals(advantage), logps), logps).item()


def clip_slope(moved: float, advantage: float, low: float = 0.2, high: float = 0.2, delta: float | None = None):
    return slope(lambda x, a, _: ratio.clipped(x, a, low, high, delta), moved, advantage)


# ---- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_at_ratio_one_the_gradient_is_reinforces(form):
    t = tokens(spread=0.0)
    got = gradient(form(ratio.log_ratios(t.logps, t.old), t.advantage, t.logps), t.logps)
    torch.testing.assert_close(got, -t.advantage, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_broken_token_is_finite_and_so_is_its_gradient(form):
    logps = torch.tensor([-1e4, -1e-9, -60.0, -0.5] * 2, requires_grad=True)
    old = torch.tensor([-0.5, -1e4, -1.0, -60.0] * 2)
    loss = form(ratio.log_ratios(logps, old), torch.tensor([1.0] * 4 + [-1.0] * 4), logps)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient(loss, logps)).all()


def test_log_ratios_by_hand():
    assert ratio.log_ratios(reals(-1.0, -90.0, -0.5), reals(-1.5, -1.0, -80.0)).tolist() == [0.5, -20.0, 20.0]


# ---- the level ------------------------------------------------------------------------------------------------------


def test_the_sequence_ratio_is_the_geometric_mean():
    moved = reals(2.0, 8.0, 3.0).log()
    got = ratio.sequence_mean(moved, torch.tensor([0, 0, 2]), 3).exp()  # a sequence without tokens is no division by 0
    assert got.tolist() == pytest.approx([4.0, 4.0, 3.0])


def test_sequence_means_and_sums_as_loops():
    t = tokens()
    moved = ratio.log_ratios(t.logps, t.old).detach()
    sums = [math.fsum(moved[i].item() for i in span) for span in t.spans]
    assert ratio.sequence_sum(moved, t.sequence, len(sums)).tolist() == pytest.approx(sums)
    means = [total / len(span) for total, span in zip(sums, t.spans, strict=True) for _ in span]
    assert ratio.sequence_mean(moved, t.sequence, len(sums)).tolist() == pytest.approx(means)


def test_a_sequence_ratio_hands_its_gradient_to_all_its_tokens_alike():
    t = tokens()
    got = gradient(ratio.sequence_mean(t.logps, t.sequence, len(t.spans))[t.sequence == 2][:1], t.logps)
    assert got.tolist() == pytest.approx([0.2 if s == 2 else 0.0 for s in t.sequence.tolist()])


# ---- clip -----------------------------------------------------------------------------------------------------------


def test_clipped_by_hand():
    moved, a = reals(1.5, 0.5, 1.5, 0.5).log(), reals(1.0, 1.0, -1.0, -1.0)
    assert ratio.clipped(moved, a, 0.2, 0.2).tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8])
    assert ratio.clipped(moved, a, 0.2, 0.28).tolist() == pytest.approx([-1.28, -0.5, 1.5, 0.8])
    assert ratio.clipped(moved, a, 0.3, 0.2, delta=1.4).tolist() == pytest.approx([-1.2, -0.5, 1.4, 0.7])


@pytest.mark.parametrize("delta", [None, 1.5])
def test_clipped_as_a_loop(delta):
    t = tokens(spread=0.6)
    expected = []
    for new, old, a in zip(t.logps.tolist(), t.old.tolist(), t.advantage.tolist(), strict=True):
        rho = math.exp(new) / math.exp(old)
        first = (rho if delta is None else min(rho, delta)) * a
        expected.append(-min(first, max(0.8, min(rho, 1.28)) * a))
    got = ratio.clipped(ratio.log_ratios(t.logps, t.old), t.advantage, 0.2, 0.28, delta)
    assert got.tolist() == pytest.approx(expected)


@given(MOVED.filter(lambda r: min(abs(r - 0.8), abs(r - 1.2)) > 1e-6), SIGN)
def test_the_clip_stops_a_token_that_has_moved_far_enough_in_the_direction_it_is_pushed(moved, a):
    stopped = moved > 1.2 if a > 0 else moved < 0.8
    assert clip_slope(moved, a) == pytest.approx(0.0 if stopped else -moved * a)


@given(MOVED.filter(lambda r: abs(r - 3.0) > 1e-6), SIGN)
def test_the_upper_bound_bites_only_where_the_advantage_is_negative(moved, a):
    stopped = a < 0 and moved > 3.0
    assert clip_slope(moved, a, delta=3.0) == (0.0 if stopped else clip_slope(moved, a))


def test_a_higher_upper_clip_frees_only_what_goes_up():
    assert clip_slope(1.25, 1.0, high=0.2) == 0.0
    assert clip_slope(1.25, 1.0, high=0.28) == pytest.approx(-1.25)
    assert clip_slope(1.3, 1.0, high=0.28) == 0.0
    assert clip_slope(0.79, -1.0, high=0.28) == 0.0


# ---- cap ------------------------------------------------------------------------------------------------------------


def test_capped_by_hand():
    moved, a, logps = reals(3.0, 0.5).log(), reals(1.0, -2.0), reals(-1.0, -3.0)
    assert ratio.capped(moved, a, logps, 2.0).tolist() == pytest.approx([2.0, -3.0])


def test_capped_as_a_loop():
    t = tokens(spread=0.8)
    rows = zip(t.logps.tolist(), t.old.tolist(), t.advantage.tolist(), strict=True)
    expected = [-min(math.exp(new - old), 1.5) * a * new for new, old, a in rows]
    got = ratio.capped(ratio.log_ratios(t.logps, t.old), t.advantage, t.logps, 1.5)
    assert got.tolist() == pytest.approx(expected)


@given(MOVED, SIGN, st.floats(0.5, 5.0))
def test_the_cap_bounds_a_gradient_and_never_stops_it(moved, a, cap):
    got = slope(lambda x, advantage, logps: ratio.capped(x, advantage, logps, cap), moved, a)
    assert got == pytest.approx(-min(moved, cap) * a)
    assert got != 0


# ---- soft gate ------------------------------------------------------------------------------------------------------


def test_soft_gate_by_hand():
    moved = reals(1.0, 1 + math.log(3) / 2, 1.0, 1 + math.log(3)).log()
    got = ratio.soft_gate(moved, reals(1.0, 1.0, -1.0, -1.0), 2.0, 1.0)
    assert got.tolist() == pytest.approx([-2 * 0.5, -2 * 0.75, 4 * 0.5, 4 * 0.75])


def test_soft_gate_as_a_loop():
    t = tokens(spread=0.8)
    expected = []
    for new, old, a in zip(t.logps.tolist(), t.old.tolist(), t.advantage.tolist(), strict=True):
        tau = 1.0 if a > 0 else 1.05
        expected.append(-(4 / tau) / (1 + math.exp(-tau * (math.exp(new - old) - 1))) * a)
    got = ratio.soft_gate(ratio.log_ratios(t.logps, t.old), t.advantage, 1.0, 1.05)
    assert got.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_soft_gate_is_open_at_one_and_closes_on_both_sides_faster_for_negative_advantages():
    def gate(moved, a, tau):
        return slope(lambda x, advantage, _: ratio.soft_gate(x, advantage, 1.0, tau), moved, a) / (-moved * a)

    assert gate(1.0, 2.0, 1.05) == gate(1.0, -2.0, 1.0) == pytest.approx(1.0)
    for away in ((1.0, 1.5, 2.0, 3.0, 6.0), (1.0, 0.8, 0.5, 0.2)):
        opening = [gate(moved, 1.0, 1.05) for moved in away]
        assert opening == sorted(opening, reverse=True)
        for moved in away[1:]:
            assert 0 < gate(moved, -1.0, 1.5) < gate(moved, 1.0, 1.5) < 1


# ---- gamma gate -----------------------------------------------------------------------------------------------------


def gamma(w: float, k: float, lam: float) -> float:
    """The weight that a whole sequence of ratio w gives its tokens."""
    return ratio.gamma_gate(reals(math.log(w)), reals(1.0), reals(-1.0), (k, lam), (0.0, 0.0)).item()


def test_gamma_gate_by_hand():
    got = ratio.gamma_gate(reals(2.0, 2.0).log(), reals(1.0, -1.0), reals(-1.0, -1.0), *GATES)
    assert got.tolist() == pytest.approx([4 * math.exp(-3), -8 * math.exp(-2)])
    at_zero = ratio.gamma_gate(reals(0.0), reals(0.0), reals(-1.0), *GATES)
    assert at_zero.item() == 0.0


def test_gamma_gate_as_a_loop():
    t = tokens(spread=0.3)
    expected = []
    for span in t.spans:
        w = math.prod(math.exp(t.logps[i].item()) / math.exp(t.old[i].item()) for i in span)
        for i in span:
            a = t.advantage[i].item()
            k, lam = (2, 3) if a >= 0 else (3, 2)
            expected.append(-(w**k) * math.exp(lam * (1 - w)) * a * t.logps[i].item())
    whole = ratio.sequence_sum(ratio.log_ratios(t.logps, t.old), t.sequence, len(t.spans))[t.sequence]
    assert ratio.gamma_gate(whole, t.advantage, t.logps, *GATES).tolist() == pytest.approx(expected)


@given(st.floats(1.0, 5.0), st.floats(0.2, 5.0))
def test_the_gamma_gate_is_one_at_one_largest_at_k_over_lambda_and_vanishes_far_away(k, lam):
    assert gamma(1.0, k, lam) == pytest.approx(1.0)
    mode = gamma(k / lam, k, lam)
    assert mode >= max(gamma(k / lam * factor, k, lam) for factor in (0.5, 0.9, 1.1, 2.0))
    assert gamma(1e-300, k, lam) <= 1e-6 * mode
    assert gamma(1e300, k, lam) == 0.0
