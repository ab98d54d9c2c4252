"""KL estimators: by hand, as loops, and what they are in expectation, by exact enumeration of a small vocabulary."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_tokens import gradient, reals, tokens
from torch import Tensor

from lightning_posttrain.losses.kl import bias_corrected, kl_estimate

KINDS = ("k1", "k2", "k3")


def distributions(spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (V,) of a policy, with gradient, and log-probs (V,) of it and of a reference."""
    made = torch.Generator().manual_seed(0)
    logits = torch.randn(7, generator=made, dtype=torch.float64).requires_grad_()
    moved = logits.detach() + spread * torch.randn(7, generator=made, dtype=torch.float64)
    return logits, logits.log_softmax(-1), moved.log_softmax(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum()


def test_by_hand():
    policy, reference = reals(0.5, 0.5).log(), reals(0.25, 1.0).log()  # r = -log 2, log 2
    two = math.log(2)
    assert kl_estimate(policy, reference, "k1").tolist() == pytest.approx([two, -two])
    assert kl_estimate(policy, reference, "k2").tolist() == pytest.approx([two**2 / 2] * 2)
    assert kl_estimate(policy, reference, "k3").tolist() == pytest.approx([0.5 + two - 1, 2 - two - 1])
    assert kl_estimate(policy, reference).tolist() == kl_estimate(policy, reference, "k3").tolist()
    assert bias_corrected(reals(2.0), reals(3.0).log()).item() == pytest.approx(6.0)


def test_as_loops():
    t = tokens(spread=1.0)
    expected: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for policy, reference in zip(t.logps.exp().tolist(), t.old.exp().tolist(), strict=True):
        expected["k1"].append(math.log(policy / reference))
        expected["k2"].append(0.5 * math.log(policy / reference) ** 2)
        expected["k3"].append(reference / policy - math.log(reference / policy) - 1)
    for kind in KINDS:
        assert kl_estimate(t.logps, t.old, kind).tolist() == pytest.approx(expected[kind], abs=1e-12)


@given(st.floats(-30, 0), st.floats(-30, 0))
def test_k3_and_k2_are_never_negative_and_zero_only_at_the_reference(policy, reference):
    for kind in ("k2", "k3"):
        value = kl_estimate(reals(policy), reals(reference), kind).item()
        assert value >= (-1e-15 if kind == "k3" else 0.0)
        if abs(policy - reference) > 1e-3:
            assert value > 0
    assert [kl_estimate(reals(policy), reals(policy), kind).item() for kind in KINDS] == [0, 0, 0]


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_unbiased_as_values(kind):
    _, policy, reference = distributions()
    mean = (policy.exp() * kl_estimate(policy, reference, kind)).sum()
    assert mean.item() == pytest.approx(divergence(policy, reference).item())


def test_k2_is_biased_as_a_value_but_not_near_the_reference():
    def error(spread):
        _, policy, reference = distributions(spread)
        mean = (policy.exp() * kl_estimate(policy, reference, "k2")).sum()
        return abs(mean.item() / divergence(policy, reference).item() - 1)

    assert error(1.0) > 0.05
    assert error(1e-3) < 1e-3


def expected_gradient(kind: str, corrected: bool = False, sampler: Tensor | None = None) -> Tensor:
    """Of the estimate as a loss, over tokens drawn from ``sampler``; from the policy itself by default."""
    logits, policy, reference = distributions()
    drawn = policy.detach() if sampler is None else sampler
    kl = kl_estimate(policy, reference, kind)
    return gradient(drawn.exp() * (bias_corrected(kl, policy - drawn) if corrected else kl), logits)


def true_gradient(reverse: bool = False) -> Tensor:
    logits, policy, reference = distributions()
    return gradient(divergence(reference, policy) if reverse else divergence(policy, reference), logits)


def test_gradients_in_expectation():
    torch.testing.assert_close(expected_gradient("k1"), torch.zeros(7, dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(expected_gradient("k2"), true_gradient())
    torch.testing.assert_close(
        expected_gradient("k3"), true_gradient(reverse=True)
    )  # biased: that of KL(ref || policy)
    assert (true_gradient() - true_gradient(reverse=True)).abs().max() > 0.05


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_the_correction_makes_gradients_unbiased_on_and_off_policy(kind):
    torch.testing.assert_close(expected_gradient(kind, corrected=True), true_gradient())
    stale = torch.randn(7, generator=torch.Generator().manual_seed(9), dtype=torch.float64).log_softmax(-1)
    torch.testing.assert_close(expected_gradient(kind, corrected=True, sampler=stale), true_gradient())


@pytest.mark.parametrize("kind", ["k2", "k3"])
def test_as_a_loss_it_pulls_towards_the_reference(kind):
    policy = reals(-1.0, -3.0).requires_grad_()
    more, less = gradient(kl_estimate(policy, reals(-2.0, -2.0), kind), policy).tolist()
    assert more > 0 > less


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_out_of_reach_is_finite_and_so_is_its_gradient(kind):
    policy = torch.tensor([-1e4, -0.1, -1.0], requires_grad=True)
    reference = torch.tensor([-0.1, -1e4, -torch.inf])
    kl = kl_estimate(policy, reference, kind)
    assert torch.isfinite(kl).all()
    assert torch.isfinite(gradient(kl, policy)).all()
