"""Preference objectives by name: against the papers' formulas as loops, for any cut, every option, and refusals."""

import math
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise

import pytest
import torch
from jsonargparse import ArgumentParser
from loss_pairs import CHOSEN, PairTokens, Row, pair_tokens, random_rows, rows_of, some_pairs
from loss_tokens import gradient
from torch import Tensor

from lightning_posttrain.losses.preference import Pairs, wpo_weights
from lightning_posttrain.losses.preference_objective import COUPLED, NAMED, PreferenceObjective
from lightning_posttrain.types import UserError

P, TOKENS = len(CHOSEN), sum(CHOSEN)
E, TAU, GAMMA, CPO_ALPHA = 0.15, 0.3, 0.7, 0.4


def spec(name: str, **options) -> PreferenceObjective:
    """With every option that the name reads away from its default."""
    given = {"label_smoothing": E, "discopop_tau": TAU, "simpo_gamma": GAMMA, "cpo_alpha": CPO_ALPHA}
    read = {option: given[option] for option in NAMED[name].options}
    beta = {} if name == "sft" else {"beta": 0.3}
    return PreferenceObjective(name, **{**beta, **read, **options})


def squares(t: PairTokens) -> Tensor:
    """A stand-in for log sum p^2 of each token."""
    return t.reference - 0.5


def weights_of(objective: PreferenceObjective, t: PairTokens) -> Tensor | None:
    return wpo_weights(t.logps, squares(t), t.sequence, t.count) if objective.weighted else None


def loss(objective: PreferenceObjective, t: PairTokens) -> Tensor:
    """Of a whole step."""
    pairs = objective.pairs(t.logps, t.reference if objective.needs_reference else None, t.sequence, t.count)
    return objective.loss(pairs, P, TOKENS, weights_of(objective, t))


# ---- the papers, literally ------------------------------------------------------------------------------------------


def sg(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def smooth(x: float, e: float = E) -> float:
    return -(1 - e) * math.log(sg(x)) - e * math.log(sg(-x))


def odds(x: float) -> float:
    return math.exp(x) / (1 - math.exp(x))


def formula(name: str, row: Row, b: float, s) -> float:
    """One pair's loss; ``s`` is the score of a log-ratio."""
    r_w, r_l = row.w - row.ref_w, row.l - row.ref_l
    w, l = s(r_w), s(r_l)  # noqa: E741
    x, q = b * (w - l), sg(b * (w - l))
    mean_w, mean_l = row.w / row.n_w, row.l / row.n_l
    m = sg(x / TAU)
    return {
        "sigmoid": smooth(x),
        "hinge": max(0.0, 1 - x),
        "ipo": (w / row.n_w - l / row.n_l - 1 / (2 * b)) ** 2,
        "exo": q * (math.log(q) - math.log(1 - E)) + (1 - q) * (math.log(1 - q) - math.log(E)),
        "nca": -math.log(sg(b * w)) - 0.5 * math.log(sg(-b * w)) - 0.5 * math.log(sg(-b * l)),
        "robust": (-(1 - E) * math.log(sg(x)) + E * math.log(sg(-x))) / (1 - 2 * E),
        "bco": -math.log(sg(b * w)) - math.log(sg(-b * l)),
        "sppo": (w - 1 / (2 * b)) ** 2 + (l + 1 / (2 * b)) ** 2,
        "apo_zero": 1 - sg(b * r_w) + sg(b * r_l),
        "apo_down": sg(b * r_w) + 1 - sg(b * (r_w - r_l)),
        "discopop": (1 - m) * -math.log(sg(x)) + m * math.exp(-x),
        "dpo_norm": smooth(b * (w / row.n_w - l / row.n_l)),
        "simpo": smooth(b * (mean_w - mean_l - GAMMA / b)),
        "orpo": -b * math.log(sg(math.log(odds(mean_w) / odds(mean_l)))),
        "cpo": smooth(b * (row.w - row.l)),
        "sft": 0.0,
    }[name]


def paper(name: str, rows: list[Row], b: float = 0.3, s=lambda r: r) -> float:
    """The loss of a step."""
    if name == "aot":
        policy, reference = sorted(r.w - r.l for r in rows), sorted(r.ref_w - r.ref_l for r in rows)
        return sum(smooth(b * (x - y)) for x, y in zip(policy, reference, strict=True)) / len(rows)
    if name == "aot_unpaired":
        w, l = sorted(r.w - r.ref_w for r in rows), sorted(r.l - r.ref_l for r in rows)  # noqa: E741
        return sum(smooth(b * (x - y)) for x, y in zip(w, l, strict=True)) / len(rows)
    nll = -sum(r.w for r in rows) / sum(r.n_w for r in rows)
    return (
        sum(formula(name, r, b, s) for r in rows) / len(rows)
        + {"sft": 1, "orpo": 1, "cpo": CPO_ALPHA}.get(name, 0) * nll
    )


@pytest.mark.parametrize("name", NAMED)
def test_every_name_is_its_papers_formula(name):
    for seed in range(3):
        t = pair_tokens(seed, spread=1.5)
        assert loss(spec(name), t).item() == pytest.approx(paper(name, rows_of(t)), rel=1e-9)


@pytest.mark.parametrize("name", [name for name, entry in NAMED.items() if entry.compares == "score"])
@pytest.mark.parametrize(
    ("divergence", "score"),
    [
        ({"divergence": "forward_kl"}, lambda r: 1 - math.exp(-r)),
        ({"divergence": "js"}, lambda r: math.log(2 * math.exp(r) / (1 + math.exp(r)))),
        ({"divergence": "alpha", "divergence_alpha": 0.3}, lambda r: (math.exp(-0.7 * r) - 1) / -0.7),
    ],
    ids=["forward_kl", "js", "alpha"],
)
def test_divergences_score_what_is_compared(name, divergence, score):
    t = pair_tokens(1)
    assert loss(spec(name, **divergence), t).item() == pytest.approx(paper(name, rows_of(t), s=score), rel=1e-9)


def test_by_hand():
    """Log-ratios of log 9 and 0 with beta 1/2: sigma is 3/4. Two and one tokens, the chosen with probability 1/4."""
    row = Row(math.log(1 / 4), math.log(1 / 2), math.log(1 / 36), math.log(1 / 2), 2, 1)
    pairs = some_pairs([row, row])

    def got(name, **options) -> float:
        return PreferenceObjective(name, **options).loss(pairs, 2, 4).item()

    assert got("sigmoid", beta=0.5) == got("aot", beta=0.5) == pytest.approx(math.log(4 / 3))
    assert got("dpo_norm", beta=1.0) == pytest.approx(math.log(4 / 3))
    assert got("sft") == pytest.approx(math.log(2))
    assert got("cpo", beta=1.0) == pytest.approx(math.log(3) + math.log(2))
    assert got("simpo", beta=1.0, simpo_gamma=math.log(3)) == pytest.approx(math.log(4))
    assert got("orpo", beta=0.1) == pytest.approx(0.1 * math.log(2) + math.log(2))
    assert got({"sigmoid": 2.0, "sft": 0.5, "ipo": 0.0}, beta=0.5) == pytest.approx(
        2 * math.log(4 / 3) + math.log(2) / 2
    )


def test_usual_betas():
    rows = random_rows()
    for name, beta in (("sigmoid", 0.1), ("dpo_norm", 5.0), ("simpo", 2.0), ("sppo", 0.001)):
        usual, given = PreferenceObjective(name), PreferenceObjective(name, beta=beta)
        pairs = some_pairs(rows)
        assert usual.loss(pairs, P, TOKENS).item() == given.loss(pairs, P, TOKENS).item()
        assert usual.beta_of(name) == beta


def test_a_sum_is_its_parts():
    t, named = pair_tokens(2), {"sigmoid": 0.8, "bco": 1.0, "aot": 0.5, "sft": 0.2}
    objective = PreferenceObjective(named)
    pairs = objective.pairs(t.logps, t.reference, t.sequence, t.count)
    parts = objective.parts(pairs, P, TOKENS)
    alone = {name: loss(PreferenceObjective(name), t).item() for name in named}
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(alone)
    assert loss(objective, t).item() == pytest.approx(sum(named[name] * alone[name] for name in named))


def test_the_reward_is_what_is_compared():
    rows = random_rows()
    pairs = some_pairs(rows)
    row = rows[0]
    for name, expected in (
        ("sigmoid", 0.1 * (row.w - row.ref_w)),
        ({"sft": 1.0, "dpo_norm": 1.0}, 5 * (row.w - row.ref_w) / row.n_w),
        ("apo_zero", 0.1 * (row.w - row.ref_w)),
        ("simpo", 2 * row.w / row.n_w),
        ("cpo", 0.1 * row.w),
    ):
        rewards = PreferenceObjective(name).rewards(pairs)
        assert rewards.chosen[0].item() == pytest.approx(expected)
        assert not rewards.rejected.requires_grad
    js = PreferenceObjective(divergence="js").rewards(pairs).rejected[0].item()
    assert js == pytest.approx(0.1 * math.log(2 * sg(row.l - row.ref_l)))


# ---- a step and its micro-batches -----------------------------------------------------------------------------------

SUMS = [{"sigmoid": 1.0, "sft": 0.2}, {"apo_zero": 1.0, "orpo": 0.5, "cpo": 0.1}]


def objectives(*names) -> list[PreferenceObjective]:
    """With and without what reduces and weighs pairs, where it is not refused."""
    found = []
    for name in names:
        for extra in ({}, {"weighted": True}, {"ld_alpha": 0.4}):
            with suppress(UserError):
                found.append(PreferenceObjective(name, label_smoothing=E if name == "exo" else 0.0, **extra))
    return found


def test_those_are_what_they_should_be():
    assert len(objectives(*NAMED)) == 3 * len(NAMED) - 4 - 1 - 2  # per-token losses, aot_unpaired, sft


@pytest.mark.parametrize("objective", objectives(*(n for n in NAMED if n not in COUPLED), *SUMS), ids=str)
def test_any_cut_gives_the_same_loss_and_gradient(objective):
    t = pair_tokens(3)
    whole = loss(objective, t)
    expected = gradient(whole, t.logps)
    for cuts in ([0, 1, P], [0, 2, 3, P], list(range(P + 1))):
        parts = [loss(objective, t.part(slice(a, b))) for a, b in pairwise(cuts)]
        assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-12)
        torch.testing.assert_close(gradient(sum(parts), t.logps), expected)


@pytest.mark.parametrize(
    "objective", objectives(*NAMED, {"aot": 1.0, "sft": 0.2}, {"aot_unpaired": 1.0, "cpo": 0.3}), ids=str
)
def test_two_passes_give_the_gradient_of_a_step_that_cannot_be_cut(objective):
    t = pair_tokens(4, spread=1.5)
    whole = loss(objective, t)
    expected = gradient(whole, t.logps)
    with torch.no_grad():
        sums = objective.pairs(t.logps, t.reference, t.sequence, t.count)
        found = objective.coupled(sums, weights_of(objective, t))
    assert found.loss.item() == pytest.approx(whole.item())
    got = torch.zeros_like(t.logps)
    for which in (slice(0, 2), slice(2, P)):
        part = t.part(which)
        pairs = objective.pairs(part.logps, part.reference, part.sequence, part.count)
        got += gradient(found.of(which).surrogate(pairs), t.logps)
    torch.testing.assert_close(got, expected)


def test_coupled_losses_refuse_a_part_of_the_step():
    t = pair_tokens()
    for name in COUPLED:
        with pytest.raises(ValueError, match="all 5 pairs"):
            loss(PreferenceObjective(name), t.part(slice(0, 2)))
        assert PreferenceObjective({name: 1.0, "sft": 1.0}).couples_pairs
    assert not PreferenceObjective({"sigmoid": 1.0, "aot": 0.0}).couples_pairs


def test_divisors_and_weights_must_be_there():
    pairs = some_pairs(random_rows())
    for divisors in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="positive divisors"):
            PreferenceObjective().loss(pairs, *divisors)
    for objective, weights in ((PreferenceObjective(weighted=True), None), (PreferenceObjective(), torch.ones(P))):
        with pytest.raises(ValueError, match="weighted=True"):
            objective.loss(pairs, P, TOKENS, weights)


def test_which_need_a_reference():
    free = {name for name in NAMED if not spec(name).needs_reference}
    assert free == {"simpo", "orpo", "cpo", "sft"}
    assert PreferenceObjective({"simpo": 1.0, "sigmoid": 0.1}).needs_reference
    assert not PreferenceObjective({"simpo": 1.0, "sigmoid": 0.0}).needs_reference


# ---- options --------------------------------------------------------------------------------------------------------

FLIPS = [
    ("sigmoid", {"beta": 0.2}),
    ("orpo", {"beta": 0.2}),
    *((name, {"label_smoothing": 0.2}) for name in NAMED if "label_smoothing" in NAMED[name].options and name != "exo"),
    *((name, {"divergence": "js"}) for name in NAMED if NAMED[name].compares == "score" and name != "exo"),
    ("discopop", {"discopop_tau": 0.5}),
    ("simpo", {"simpo_gamma": 0.5}),
    ("cpo", {"cpo_alpha": 0.5}),
    ("cpo", {"cpo_alpha": 0.0}),
    ("sigmoid", {"ld_alpha": 0.5}),
    ("cpo", {"ld_alpha": 0.5}),
    ("aot", {"ld_alpha": 0.5}),
    ("sigmoid", {"weighted": True}),
    ("simpo", {"weighted": True}),
    ({"sigmoid": 1.0, "sft": 1.0}, {"name": {"sigmoid": 1.0, "sft": 0.5}}),
]


@pytest.mark.parametrize(("name", "option"), FLIPS, ids=str)
def test_every_option_changes_the_loss(name, option):
    t = pair_tokens(1, spread=0.8)
    before, after = PreferenceObjective(name), PreferenceObjective(**{"name": name, **option})
    assert abs(loss(after, t).item() - loss(before, t).item()) > 1e-4


def test_the_alpha_of_the_divergence_and_exos_smoothing_change_the_loss():
    t = pair_tokens(1, spread=0.8)
    for options in ([{"divergence": "alpha", "divergence_alpha": a} for a in (0.5, 0.2)],):
        assert len({round(loss(PreferenceObjective(**o), t).item(), 5) for o in options}) == 2
    assert len({round(loss(PreferenceObjective("exo", label_smoothing=e), t).item(), 5) for e in (0.1, 0.2)}) == 2


def test_every_field_has_been_flipped():
    flipped = {field for _, option in FLIPS for field in option} | {"divergence_alpha"}
    assert {f.name for f in fields(PreferenceObjective)} == flipped


def test_weights_leave_likelihoods_alone():
    t = pair_tokens()
    objective = PreferenceObjective({"sigmoid": 1.0, "sft": 1.0}, weighted=True)
    pairs = objective.pairs(t.logps, t.reference, t.sequence, t.count)
    none, double = (objective.parts(pairs, P, TOKENS, torch.full((P,), w)) for w in (0.0, 2.0))
    assert none["sigmoid"].item() == 0
    assert none["sft"].item() == double["sft"].item() == pytest.approx(paper("sft", rows_of(t)))


def test_likelihoods_see_all_tokens_whatever_ld_alpha():
    t = pair_tokens()
    for name in ({"sigmoid": 1.0, "sft": 1.0}, {"cpo": 1.0}):
        plain, reduced = (
            objective.pairs(t.logps, t.reference, t.sequence, t.count)
            for objective in (PreferenceObjective(name), PreferenceObjective(name, ld_alpha=0.0))
        )
        torch.testing.assert_close(reduced.chosen_nll, plain.chosen_nll)
        assert (reduced.chosen != plain.chosen).any()


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "dpo"}, "there is no 'dpo'; choose from sigmoid"),
        ({"name": {"sigmoid": 1.0, "kto": 1.0}}, "there is no 'kto'"),
        ({"name": {}}, "nothing to learn from"),
        ({"name": {"sigmoid": 0.0}}, "nothing to learn from"),
        ({"name": {"sigmoid": 1.0, "sft": -0.1}}, "weight of sft is -0.1"),
        ({"name": {"sigmoid": math.nan}}, "weight of sigmoid is nan"),
        ({"beta": 0.0}, "beta=0.0 must be positive"),
        ({"beta": math.nan}, "beta=nan must be positive"),
        ({"name": "robust", "label_smoothing": 0.5}, "below 0.5"),
        ({"label_smoothing": -0.1}, "at least 0"),
        ({"name": "exo"}, "give label_smoothing, for example"),
        ({"name": "hinge", "label_smoothing": 0.1}, "label_smoothing=0.1 changes nothing in hinge"),
        ({"name": "simpo", "divergence": "js"}, "divergence=js changes nothing in simpo"),
        ({"name": "apo_zero", "divergence": "js"}, "divergence=js changes nothing in apo_zero"),
        ({"divergence_alpha": 0.3}, "divergence_alpha=0.3 changes nothing"),
        ({"divergence": "alpha", "divergence_alpha": math.inf}, "must be finite"),
        ({"discopop_tau": 0.1}, "changes nothing in sigmoid"),
        ({"name": "discopop", "discopop_tau": 0.0}, "must be positive"),
        ({"simpo_gamma": 0.1}, "changes nothing in sigmoid"),
        ({"name": "simpo", "simpo_gamma": -1.0}, "at least 0"),
        ({"cpo_alpha": 0.1}, "changes nothing in sigmoid"),
        ({"name": "cpo", "cpo_alpha": -1.0}, "at least 0"),
        ({"name": "sft", "beta": 0.2}, "beta=0.2 changes nothing in sft"),
        ({"name": "sft", "weighted": True}, "weighted=True changes nothing"),
        ({"ld_alpha": 1.5}, "from 0 to 1"),
        ({"name": {"sigmoid": 1.0, "ipo": 1.0}, "ld_alpha": 0.5}, "ipo divides by length already"),
        ({"name": "aot_unpaired", "weighted": True}, "takes pairs apart"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        PreferenceObjective(**options)


def test_yaml_and_command_line():
    default = PreferenceObjective()

    class Module:
        def __init__(self, loss: PreferenceObjective = default) -> None:
            self.loss = loss

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Module, "model")

    def parsed(*words: str) -> PreferenceObjective:
        return parser.instantiate(parser.parse_args(list(words))).model.loss

    assert parsed() == PreferenceObjective()
    assert parsed("--model.loss.name=simpo", "--model.loss.beta=2.5") == PreferenceObjective("simpo", beta=2.5)
    assert parsed("--model.loss={name: {sigmoid: 1, sft: 0.2}, divergence: js}") == PreferenceObjective(
        {"sigmoid": 1.0, "sft": 0.2}, divergence="js"
    )


# ---- precision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_float32_agrees_with_float64_and_broken_sums_are_finite(name):
    rows = random_rows(5)
    exact, rounded = (spec(name).loss(some_pairs(rows, d), P, TOKENS) for d in (torch.float64, torch.float32))
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=1e-5)
    for extra in ({}, {"divergence": "forward_kl"}, {"divergence": "alpha"}):
        if extra and NAMED[name].compares != "score":
            continue
        far = [Row(-9e3, -1e-9, -40.0, -35.0, 9, 2), Row(-1e-9, -9e3, -35.0, -40.0, 2, 9)]
        if extra:  # the square of e^40 is the most that float32 holds
            far = [Row(-90.0, -1e-9, -30.0, -35.0, 9, 2), Row(-1e-9, -90.0, -35.0, -30.0, 2, 9)]
        pairs: Pairs = some_pairs(far, torch.float32)
        value = spec(name, **extra).loss(pairs, 2, 11)
        assert torch.isfinite(value)
        for g in torch.autograd.grad(value, (pairs.chosen, pairs.rejected), allow_unused=True, materialize_grads=True):
            assert torch.isfinite(g).all()
