"""Objectives by name: the loss of a whole step against the papers' formulas as loops, its gradient, and its options."""

import math
from typing import Any

import pytest
import torch
from loss_tokens import LENGTHS, Tokens, gradient, reals, tokens
from torch import Tensor

from lightning_posttrain.losses.objective import NAMED, Objective, Scope
from lightning_posttrain.losses.ratio import log_ratios
from lightning_posttrain.types import UserError

LONGEST = 9


def scope(sequence: Tensor, micros: int = 1, whole: Tensor | None = None) -> Scope:
    """``sequence``'s tokens in a step of those of ``whole``."""
    whole = sequence if whole is None else whole
    completions, total = int(sequence.max()) + 1, int(whole.max()) + 1
    return Scope(sequence, completions, len(whole), total, micros, LONGEST)


def loss(objective: Objective, t: Tokens, of: Scope | None = None) -> Tensor:
    of = of or scope(t.sequence)
    return (objective.weights(of) * objective.terms(t.logps, log_ratios(t.logps, t.old), t.advantage, of)).sum()


# ---- the papers, literally ------------------------------------------------------------------------------------------


def ppo(rho: float, a: float) -> float:
    return min(rho * a, max(0.8, min(1.2, rho)) * a)


def sapo(rho: float, a: float) -> float:
    tau = 1.0 if a > 0 else 1.05
    return 4 / tau / (1 + math.exp(-tau * (rho - 1))) * a


def vespo(w: float, a: float) -> float:
    k, lam = (2, 3) if a >= 0 else (3, 2)
    return math.exp(lam) * w**k * math.exp(-lam * w)


def completion(name: str, rho: list[float], logps: list[float], a: float) -> float:
    """What one completion adds to the sum that the paper divides."""
    mean, product = math.prod(rho) ** (1 / len(rho)), math.prod(rho)
    if name in ("gspo", "luspo"):
        return ppo(mean, a) * (len(rho) if name == "luspo" else 1)
    if name == "cispo":
        return sum(min(r, 5.0) * a * p for r, p in zip(rho, logps, strict=True))
    if name == "vespo":
        return sum(vespo(product, a) * a * p for p in logps)
    total = sum((sapo if name == "sapo" else ppo)(r, a) for r in rho)
    return total / len(rho) if name in ("grpo", "sapo") else total


def paper(name: str, t: Tokens) -> float:
    """The objective (to be maximised) of a step, as the paper prints it."""
    count, size = len(t.spans), sum(len(span) for span in t.spans)
    total = 0.0
    for span in t.spans:
        new, old = ([x[i].item() for i in span] for x in (t.logps, t.old))
        rho = [math.exp(p) / math.exp(q) for p, q in zip(new, old, strict=True)]
        total += completion(name, rho, new, t.advantage[span[0]].item())
    if name == "dr_grpo":
        return total / (count * LONGEST)
    return total / (count if name in ("grpo", "gspo", "luspo", "sapo") else size)


@pytest.mark.parametrize("name", NAMED)
def test_every_name_is_its_papers_formula(name):
    for seed in range(3):
        t = tokens(seed)
        assert loss(Objective(name), t).item() == pytest.approx(-paper(name, t), rel=1e-5)


def test_by_hand():
    """Two completions, of one token and of two; the ratios are 1.5 and then 4 and 1/4."""
    moved, sequence, a = reals(1.5, 4.0, 0.25).log(), torch.tensor([0, 1, 1]), reals(2.0, -1.0, -1.0)
    t = Tokens(reals(-1.0, -2.0, -0.5), reals(-1.0, -2.0, -0.5) - moved, a, sequence)
    got = {name: loss(Objective(name), t).item() for name in NAMED}
    per_token = [-2 * 1.2, 4.0, 0.8]
    assert got["grpo"] == pytest.approx(per_token[0] / 2 + sum(per_token[1:]) / 4)
    assert got["dapo"] == got["bnpo"] == pytest.approx(sum(per_token) / 3)
    assert got["dr_grpo"] == pytest.approx(sum(per_token) / (2 * LONGEST))
    assert got["gspo"] == pytest.approx((-2.4 + 1.0) / 2)  # the geometric mean of 4 and 1/4 is 1
    assert got["luspo"] == pytest.approx((-2.4 + 2 * 1.0) / 2)
    assert got["cispo"] == pytest.approx((1.5 * 2 + 4 * -2.0 + 0.25 * -0.5) / 3)
    assert got["vespo"] == pytest.approx((2 * 1.5**2 * math.exp(3 - 4.5) - 2.0 - 0.5) / 3)  # the product is 1, too


# ---- gradients and limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_on_policy_the_gradient_is_reinforces(name):
    t = tokens(spread=0.0)
    objective = Objective(name)
    got = gradient(loss(objective, t), t.logps)
    torch.testing.assert_close(got, -t.advantage * objective.weights(scope(t.sequence)).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", [n for n in NAMED if n != "bnpo"])
def test_any_cut_gives_the_same_loss_and_gradient(name):
    t, objective = tokens(3), Objective(name)
    whole = loss(objective, t)
    expected = gradient(whole, t.logps)
    for cut in range(1, len(LENGTHS)):
        parts = []
        for mine, first in ((t.sequence < cut, 0), (t.sequence >= cut, cut)):
            part = Tokens(*(x[mine] for x in t[:3]), t.sequence[mine] - first)
            parts.append(loss(objective, part, scope(part.sequence, 2, t.sequence)))
        assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)
        torch.testing.assert_close(gradient(sum(parts), t.logps), expected, rtol=1e-5, atol=1e-9)


def test_bnpo_is_the_mean_of_its_micro_batches():
    t, objective = tokens(3), Objective("bnpo")
    parts = [Tokens(*(x[mine] for x in t[:3]), t.sequence[mine] * 0) for mine in (t.sequence == 0, t.sequence == 2)]
    total = sum(loss(objective, part, scope(part.sequence, 2, t.sequence)) for part in parts)
    assert total.item() == pytest.approx(sum(loss(Objective("dapo"), part).item() for part in parts) / 2)


def test_luspo_is_gspo_with_every_completion_times_its_length():
    lengths = (1, 2, 6)
    for i, n in enumerate(lengths):
        t = tokens(i, lengths=(n,))
        assert loss(Objective("luspo"), t).item() == pytest.approx(n * loss(Objective("gspo"), t).item())


def test_gspo_clips_a_completion_as_a_whole():
    sequence, a = torch.tensor([0, 0, 1, 1]), reals(1.0, 1.0, 1.0, 1.0)
    logps = reals(-1.0, -1.0, -1.0, -1.0).requires_grad_()
    old = reals(-2.0, -1.0, -1.3, -0.9)  # log-ratios 1 and 0: clipped both; 0.3 and -0.1: neither
    got = gradient(loss(Objective("gspo"), Tokens(logps, old, a, sequence)), logps)
    assert got[:2].tolist() == [0.0, 0.0]
    assert got[2:].tolist() == pytest.approx([-math.exp(0.1) / 4] * 2)
    token = gradient(loss(Objective("grpo"), Tokens(logps, old, a, sequence)), logps)
    assert (token == 0).tolist() == [True, False, True, False]


def test_vespo_weighs_by_the_product_of_a_completions_ratios():
    logps, old = reals(-1.0, -1.0).requires_grad_(), reals(-1.5, -1.25)
    for a, (k, lam) in ((1.0, (2, 3)), (-1.0, (3, 2))):
        got = gradient(loss(Objective("vespo"), Tokens(logps, old, reals(a, a), torch.tensor([0, 0]))), logps)
        w = math.exp(0.75)
        assert got.tolist() == pytest.approx([-a / 2 * w**k * math.exp(lam - lam * w)] * 2)


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("dapo", {"clip_low": 0.1}),
        ("dapo", {"clip_high": 0.28}),
        ("dapo", {"delta": 1.3}),
        ("cispo", {"cap": 1.1}),
        ("sapo", {"tau_positive": 3.0}),
        ("sapo", {"tau_negative": 3.0}),
        ("vespo", {"gamma_positive": (1.0, 1.0)}),
        ("vespo", {"gamma_negative": (1.0, 1.0)}),
        ("dapo", {"ratio": "soft_gate"}),
        ("dapo", {"level": "sequence"}),
        ("cispo", {"level": "sequence"}),
        ("dapo", {"normaliser": "constant"}),
    ],
)
def test_every_option_changes_the_loss(name, option):
    t = tokens(1, spread=0.8)
    assert abs(loss(Objective(name, **option), t).item() - loss(Objective(name), t).item()) > 1e-4


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_its_parts(name):
    form, level, normaliser = NAMED[name]
    t = tokens()
    spelt = Objective("dapo", ratio=form, level=level, normaliser=normaliser)
    assert loss(spelt, t).item() == loss(Objective(name), t).item()
    assert spelt.parts == Objective(name).parts == NAMED[name]


def test_only_the_advantages_sign_that_an_option_names_feels_it():
    t = tokens(1, spread=0.8)
    moved, base = log_ratios(t.logps, t.old), {"clip_low": 0.2, "clip_high": 0.2}
    for option, positive in (({"clip_high": 0.4}, True), ({"clip_low": 0.4}, False), ({"delta": 1.3}, False)):
        before, after = (
            Objective(**{**base, **o}).terms(t.logps, moved, t.advantage, scope(t.sequence)) for o in ({}, option)
        )
        changed = before != after
        assert changed.any()
        assert ((t.advantage[changed] > 0) == positive).all()


def test_the_upper_clip_is_the_lower_one_unless_given():
    assert Objective(clip_low=0.1).bounds == (0.1, 0.1)
    assert Objective(clip_low=0.1, clip_high=0.28).bounds == (0.1, 0.28)


# ---- what is logged -------------------------------------------------------------------------------------------------


def test_clip_counts_by_hand():
    moved, a = reals(0.7, 0.7, 1.3, 1.3, 1.0).log(), reals(1.0, -1.0, 1.0, -1.0, 1.0)
    one = scope(torch.zeros(5, dtype=torch.int64))
    assert Objective("dapo").clip_counts(moved, a, one) == {"clip_low": 1, "clip_high": 1}
    assert Objective("dapo", clip_high=0.4).clip_counts(moved, a, one) == {"clip_low": 1, "clip_high": 0}
    assert Objective("gspo").clip_counts(moved, a, one) == {"clip_low": 0, "clip_high": 0}
    for name in ("cispo", "sapo", "vespo"):
        assert Objective(name).clip_counts(moved, a, one) == {}


@pytest.mark.parametrize("name", ["grpo", "gspo"])
def test_clip_counts_are_the_tokens_without_a_gradient(name):
    t = tokens(1, spread=0.8)
    counts = Objective(name).clip_counts(log_ratios(t.logps, t.old), t.advantage, scope(t.sequence))
    stopped = gradient(loss(Objective(name), t), t.logps) == 0
    assert counts["clip_low"].item() == (stopped & (t.advantage < 0)).sum().item()
    assert counts["clip_high"].item() == (stopped & (t.advantage > 0)).sum().item()
    assert stopped.any()
    assert not stopped.all()


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("cispo", "cap", 0.5),
        ("cispo", "cap", float("nan")),
        ("grpo", "delta", 0.5),
        ("grpo", "delta", 1.1),
        ("dapo", "clip_low", -1.0),
        ("dapo", "clip_low", 0.0),
        ("dapo", "clip_low", 2.0),
        ("dapo", "clip_high", 0.0),
        ("gspo", "clip_high", float("nan")),
        ("sapo", "tau_positive", 0.0),
        ("sapo", "tau_negative", float("inf")),
        ("vespo", "gamma_positive", (0.0, 1.0)),
        ("vespo", "gamma_negative", (1.0, float("nan"))),
        ("grpo", "cap", 3.0),
        ("cispo", "clip_low", 0.1),
        ("cispo", "delta", 4.0),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused(name: Any, field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"objective: {field}="):
        Objective(name, **{field: value})


EDGES: list[tuple[Any, dict[str, Any]]] = [
    *((name, {}) for name in NAMED),
    ("cispo", {"cap": 1.0}),
    ("grpo", {"delta": 1.2}),
    ("dapo", {"clip_low": 1.0, "clip_high": 1e-4, "delta": 1.0001}),
    ("sapo", {"tau_positive": 1e-3, "tau_negative": 50.0}),
    ("vespo", {"gamma_positive": (1e-3, 9.0), "gamma_negative": (9.0, 1e-3)}),
]


@pytest.mark.parametrize(("name", "options"), EDGES)
def test_the_first_update_is_reinforce_whatever_the_numbers(name: Any, options: dict[str, Any]) -> None:
    sequence = torch.tensor([0, 0, 0, 1, 1])
    logps = torch.tensor([-0.1, -2.0, -0.5, -3.0, -1.0], requires_grad=True)
    advantage = torch.tensor([1.5, 1.5, 1.5, -0.5, -0.5])
    objective = Objective(name, **options)
    objective.terms(logps, log_ratios(logps, logps.detach()), advantage, scope(sequence)).sum().backward()
    assert logps.grad is not None
    assert torch.allclose(logps.grad, -advantage, rtol=1e-4)
