"""Losses of pairs: by hand, their limits and the signs of their gradients, any numbers at all; tokens to pairs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_pairs import CHOSEN, REJECTED, Row, pair_tokens, random_rows, rows_of, some_pairs
from loss_tokens import gradient, reals
from torch import Tensor

from lightning_posttrain.losses import preference as losses
from lightning_posttrain.losses.preference import Scores

TWO = math.log(2)
THREE = math.log(3)

FORMS = {
    "sigmoid": lambda s: losses.sigmoid(s, 0.1),
    "cdpo": lambda s: losses.sigmoid(s, 0.1, 0.2),
    "hinge": lambda s: losses.hinge(s, 0.1),
    "ipo": lambda s: losses.ipo(s, 0.1),
    "exo": lambda s: losses.exo(s, 0.1, 0.01),
    "nca": lambda s: losses.nca(s, 0.1),
    "robust": lambda s: losses.robust(s, 0.1, 0.2),
    "bco": lambda s: losses.bco(s, 0.1),
    "sppo": lambda s: losses.sppo(s, 0.1),
    "apo_zero": lambda s: losses.apo_zero(s, 0.1),
    "apo_down": lambda s: losses.apo_down(s, 0.1),
    "discopop": lambda s: losses.discopop(s, 0.1, 0.05),
    "simpo": lambda s: losses.simpo(s, 2.0, 1.0),
    "aot_unpaired": lambda s: losses.aot_unpaired(s, 0.1),
}


def one(chosen: float, rejected: float) -> Scores:
    return Scores(reals(chosen).requires_grad_(), reals(rejected).requires_grad_())


def slopes(form, chosen: float, rejected: float) -> tuple[float, float]:
    """d loss / d chosen and d loss / d rejected of one pair."""
    scores = one(chosen, rejected)
    found = torch.autograd.grad(form(scores).sum(), scores, allow_unused=True)
    return tuple(0.0 if g is None else g.item() for g in found)


# ---- by hand: with scores of log 3 and -log 3, sigma is 3/4 --------------------------------------------------


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (lambda s: losses.sigmoid(s, 0.5), math.log(4 / 3)),
        (lambda s: losses.sigmoid(s, 0.5, 0.25), 0.75 * math.log(4 / 3) + 0.25 * math.log(4)),
        (lambda s: losses.hinge(s, 0.25), 1 - THREE / 2),
        (lambda s: losses.hinge(s, 0.5), 0.0),
        (lambda s: losses.ipo(s, 0.5), (2 * THREE - 1) ** 2),
        (lambda s: losses.exo(s, 0.5, 0.25), 0.0),
        (lambda s: losses.exo(s, 0.5, 0.5 - 1e-12), 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
        (lambda s: losses.robust(s, 0.5, 0.25), (0.75 * math.log(4 / 3) - 0.25 * math.log(4)) / 0.5),
        (lambda s: losses.sppo(s, 0.5), (THREE - 1) ** 2 + (-THREE + 1) ** 2),
        (lambda s: losses.apo_zero(s, 1.0), 0.25 + 0.25),
        (lambda s: losses.apo_down(s, 0.5), math.sqrt(3) / (1 + math.sqrt(3)) + 0.25),
        (lambda s: losses.discopop(s, 0.5, 1.0), 0.25 * math.log(4 / 3) + 0.75 / 3),
        (lambda s: losses.simpo(s, 1.0, THREE), math.log(4 / 3)),
        (lambda s: losses.aot_unpaired(s, 0.5), math.log(4 / 3)),
    ],
)
def test_by_hand(form, expected):
    assert form(one(THREE, -THREE)).item() == pytest.approx(expected)


def test_by_hand_where_both_scores_count():
    scores = one(THREE, TWO)
    assert losses.nca(scores, 1.0).item() == pytest.approx(math.log(4 / 3) + 0.5 * math.log(4) + 0.5 * THREE)
    assert losses.bco(scores, 1.0).item() == pytest.approx(math.log(4 / 3) + THREE)
    assert losses.apo_zero(scores, 1.0).item() == pytest.approx(1 / 4 + 2 / 3)
    assert losses.apo_down(scores, 1.0).item() == pytest.approx(3 / 4 + 2 / 5)
    assert losses.sppo(scores, 1.0).item() == pytest.approx((THREE - 0.5) ** 2 + (TWO + 0.5) ** 2)


def test_orpo_by_hand():
    scores = one(math.log(0.75), math.log(0.5))  # odds of 3 and of 1
    assert losses.log_odds(scores.chosen).item() == pytest.approx(THREE)
    assert losses.orpo(scores, 0.5).item() == pytest.approx(0.5 * math.log(4 / 3))


def test_aot_by_hand():
    policy, reference = reals(3.0, 1.0, 2.0), reals(0.5, 0.25, 0.0)
    expected = [-math.log(1 / (1 + math.exp(-d))) for d in (3 - 0.5, 1 - 0.0, 2 - 0.25)]
    assert losses.aot(policy, reference, 1.0).tolist() == pytest.approx(expected)
    both = Scores(reals(3.0, 1.0), reals(0.0, 2.0))
    expected = [-math.log(1 / (1 + math.exp(-d))) for d in (3 - 2, 1 - 0)]
    assert losses.aot_unpaired(both, 1.0).tolist() == pytest.approx(expected)


# ---- limits and signs -----------------------------------------------------------------------------------------------


def test_at_the_reference_sigmoid_is_exactly_log_two():
    row = random_rows()[0]
    for dtype in (torch.float32, torch.float64):
        same = some_pairs([Row(row.w, row.l, row.w, row.l, 3, 2)], dtype)
        expected = torch.tensor(2.0, dtype=dtype).log().item()
        assert losses.sigmoid(losses.log_ratios(same), 0.1).item() == expected
        assert losses.sigmoid(losses.log_ratios(same), 0.1, 0.3).item() == pytest.approx(TWO)


@pytest.mark.parametrize("name", [n for n in FORMS if n not in ("apo_down", "discopop")])
def test_at_the_reference_the_chosen_is_pushed_up_and_the_rejected_down(name):
    up, down = slopes(FORMS[name], 0.0, 0.0)
    assert up < 0 < down


def test_apo_down_pushes_both_down_and_the_rejected_more():
    chosen, rejected = slopes(FORMS["apo_down"], 0.5, -2.0)  # once they are told apart
    assert slopes(FORMS["apo_down"], 0.0, 0.0)[0] == pytest.approx(0)
    assert 0 < chosen < rejected


def test_nca_keeps_the_chosen_where_dpo_would_let_it_fall():
    """DPO's push depends on the margin alone; NCA's on where the chosen itself is."""
    fallen, risen = slopes(FORMS["nca"], -30.0, -60.0)[0], slopes(FORMS["nca"], 30.0, 0.0)[0]
    assert fallen < 0 < risen
    assert slopes(FORMS["sigmoid"], -30.0, -60.0) == pytest.approx(slopes(FORMS["sigmoid"], 30.0, 0.0))


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "bco", "apo_zero", "simpo", "discopop"])
def test_a_pair_that_is_right_by_far_is_left_alone(name):
    assert slopes(FORMS[name], 500.0, -500.0) == pytest.approx((0, 0), abs=1e-12)


def test_smoothed_losses_stop_where_the_margin_says_what_labels_are_worth():
    for e in (0.05, 0.3):
        at = math.log((1 - e) / e) / 0.1
        for form in (lambda s, e=e: losses.sigmoid(s, 0.1, e), lambda s, e=e: losses.exo(s, 0.1, e)):
            assert slopes(form, at, 0.0) == pytest.approx((0, 0), abs=1e-12)
            assert slopes(form, at - 1, 0.0)[0] < 0 < slopes(form, at + 1, 0.0)[0]
        assert losses.exo(one(at, 0.0), 0.1, e).item() == pytest.approx(0, abs=1e-12)


@given(st.floats(-40, 40), st.floats(0.0, 0.45))
def test_robust_is_unbiased_under_flipped_labels(margin, e):
    right, wrong = (losses.robust(one(m, 0.0), 0.3, e).item() for m in (margin, -margin))
    assert (1 - e) * right + e * wrong == pytest.approx(losses.sigmoid(one(margin, 0.0), 0.3).item(), abs=1e-9)


def test_squares_are_least_at_their_targets():
    assert losses.ipo(one(4.0, -1.0), 0.1).item() == 0
    assert losses.sppo(one(5.0, -5.0), 0.1).item() == 0
    assert slopes(FORMS["ipo"], 6.0, 0.0)[0] > 0 > slopes(FORMS["ipo"], 4.0, 0.0)[0]
    assert slopes(FORMS["sppo"], 6.0, 0.0)[0] > 0 > slopes(FORMS["sppo"], 4.0, 0.0)[0]


def test_discopop_first_pushes_a_pair_over_a_hump():
    """The discovered loss is not convex: its blend changes faster than either part around the reference."""
    assert [slopes(FORMS["discopop"], m, 0.0)[0] < 0 for m in (-20.0, 0.0, 20.0)] == [True, False, True]


def test_discopop_is_logistic_far_below_and_exponential_far_above():
    for margin in (-80.0, -20.0):
        scores = one(margin, 0.0)
        assert losses.discopop(scores, 0.1, 0.05).item() == pytest.approx(losses.sigmoid(scores, 0.1).item())
    assert losses.discopop(one(80.0, 0.0), 0.1, 0.05).item() == pytest.approx(math.exp(-8))


@given(st.floats(-12, -1e-3), st.floats(-12, -1e-3), st.floats(1e-3, 5))
def test_orpo_falls_with_the_chosen_and_rises_with_the_rejected(chosen, rejected, step):
    before = losses.orpo(one(chosen - step, rejected), 1.0).item()
    assert losses.orpo(one(chosen, rejected), 1.0).item() < before < losses.orpo(one(chosen - 2 * step, rejected), 1.0)
    assert losses.orpo(one(chosen, rejected - step), 1.0).item() < losses.orpo(one(chosen, rejected), 1.0).item()


def test_aot_of_one_pair_is_dpo_and_does_not_care_who_is_whose():
    rows = random_rows()
    for row in rows:
        pairs = some_pairs([row])
        policy, ratio = losses.log_probs(pairs).margin, losses.log_ratios(pairs)
        expected = losses.sigmoid(ratio, 0.1).item()
        assert losses.aot(policy, policy.detach() - ratio.margin.detach(), 0.1).item() == pytest.approx(expected)
        assert losses.aot_unpaired(ratio, 0.1).item() == pytest.approx(expected)
    ratio, order = losses.log_ratios(some_pairs(rows)), [3, 0, 4, 1, 2]
    mixed = Scores(ratio.chosen, ratio.rejected[order])
    torch.testing.assert_close(losses.aot_unpaired(mixed, 0.1), losses.aot_unpaired(ratio, 0.1))


# ---- any numbers at all ---------------------------------------------------------------------------------------------

WILD = st.floats(-1e5, 1e5, width=32)


@given(WILD, WILD)
def test_wild_scores_are_finite_and_so_are_their_gradients(chosen, rejected):
    for name, form in FORMS.items():
        scores = Scores(*(torch.tensor([x], requires_grad=True) for x in (chosen, rejected)))
        loss = form(scores)
        assert torch.isfinite(loss).all(), name
        for g in torch.autograd.grad(loss.sum(), scores):
            assert torch.isfinite(g).all(), name


@given(st.floats(0.5, 5.0), st.floats(-1e4, 1e4))
def test_discopop_is_finite_for_any_temperature(tau, margin):
    scores = Scores(torch.tensor([margin], requires_grad=True), torch.zeros(1))
    loss = losses.discopop(scores, 1.0, tau)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient(loss, scores.chosen)).all()


@given(st.floats(-1e4, 0, width=32), st.floats(-1e4, 0, width=32))
def test_orpo_is_finite_up_to_certainty(chosen, rejected):
    for dtype in (torch.float32, torch.float64):
        scores = Scores(*(torch.tensor([x], dtype=dtype, requires_grad=True) for x in (chosen, rejected)))
        loss = losses.orpo(scores, 0.1)
        assert torch.isfinite(loss).all()
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss.sum(), scores))


@given(st.floats(-700, -1e-6))
def test_log_odds_keep_their_digits(x):
    expected = x - (math.log(-math.expm1(x)) if x > -1 else math.log1p(-math.exp(x)))
    assert losses.log_odds(reals(x)).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


# ---- tokens to pairs ------------------------------------------------------------------------------------------------


def test_pair_sums_by_hand():
    values, sequence = reals(1.0, 2.0, 4.0, 8.0, 16.0, 32.0), torch.tensor([0, 0, 0, 1, 2, 3])
    chosen, rejected = losses.pair_sums(values, sequence, 2)
    assert (chosen.tolist(), rejected.tolist()) == ([7, 16], [8, 32])
    chosen, rejected = losses.pair_sums(values, sequence, 2, ld_alpha=0.5)
    assert (chosen.tolist(), rejected.tolist()) == ([1 + 3, 16], [8, 32])


@pytest.mark.parametrize("ld_alpha", [None, 0.0, 0.3, 1.0])
def test_pair_sums_as_loops(ld_alpha):
    t = pair_tokens()
    spans = t.spans()
    expected = []
    for i, span in enumerate(spans):
        common = min(len(span), len(spans[i ^ 1]))
        factor = 1.0 if ld_alpha is None else ld_alpha
        expected.append(sum(t.logps[k].item() * (1 if j < common else factor) for j, k in enumerate(span)))
    chosen, rejected = losses.pair_sums(t.logps, t.sequence, t.count, ld_alpha)
    assert chosen.tolist() == pytest.approx(expected[::2])
    assert rejected.tolist() == pytest.approx(expected[1::2])


def test_ld_one_is_plain_and_the_tail_gets_its_share_of_the_gradient():
    t = pair_tokens()
    torch.testing.assert_close(
        losses.pair_sums(t.logps, t.sequence, t.count, 1.0), losses.pair_sums(t.logps, t.sequence, t.count)
    )
    slope = gradient(losses.pair_sums(t.logps, t.sequence, t.count, 0.25)[0], t.logps)
    first = slope[: CHOSEN[0]].tolist()
    assert first == [1.0] * REJECTED[0] + [0.25] * (CHOSEN[0] - REJECTED[0])


@pytest.mark.parametrize("ld_alpha", [None, 0.5])
def test_pairs_of_tokens(ld_alpha):
    t = pair_tokens()
    pairs = losses.pairs_of_tokens(t.logps, t.reference, t.sequence, t.count, ld_alpha)
    assert pairs.chosen_tokens.tolist() == list(CHOSEN)
    assert pairs.rejected_tokens.tolist() == list(REJECTED)
    assert pairs.chosen_nll.tolist() == pytest.approx([-row.w for row in rows_of(t)])
    assert pairs.chosen_nll.requires_grad
    assert not pairs.reference_chosen.requires_grad
    if ld_alpha is None:
        assert pairs.reference_rejected.tolist() == pytest.approx([row.ref_l for row in rows_of(t)])
    alone = losses.pairs_of_tokens(t.logps, None, t.sequence, t.count, ld_alpha)
    assert alone.reference_chosen is None
    with pytest.raises(ValueError, match="no reference log-probs"):
        losses.log_ratios(alone)


def test_wpo_by_hand():
    """p of 1/2 and 1/4 where the vocabulary's squares are 1/4, then 1/8 against 1/2."""
    logps, squares = reals(1 / 2, 1 / 4, 1 / 8).log(), reals(1 / 4, 1 / 4, 1 / 2).log()
    got = losses.wpo_weights(logps, squares, torch.tensor([0, 0, 1]), 1)
    assert got.item() == pytest.approx(math.sqrt(2 * 1) * 1 / 4)


def test_wpo_as_loops_without_gradient():
    t = pair_tokens()
    squares = t.reference - 1
    weight = []
    for span in t.spans():
        own = [math.exp(t.logps[i].item()) / math.exp(squares[i].item()) for i in span]
        weight.append(math.prod(own) ** (1 / len(own)))
    got = losses.wpo_weights(t.logps, squares, t.sequence, t.count)
    assert got.tolist() == pytest.approx([a * b for a, b in zip(weight[::2], weight[1::2], strict=True)])
    assert not got.requires_grad


def test_wpo_does_not_vanish_with_length_and_is_one_for_a_uniform_policy():
    def weight(length: int, logp: float, square: float) -> float:
        sequence = torch.arange(2).repeat_interleave(length)
        values: Tensor = torch.full((2 * length,), logp)
        return losses.wpo_weights(values, torch.full_like(values, square), sequence, 1).item()

    assert weight(2000, -2.0, -1.5) == pytest.approx(weight(2, -2.0, -1.5), rel=1e-4)
    assert weight(7, -math.log(10), -math.log(10)) == pytest.approx(1)
