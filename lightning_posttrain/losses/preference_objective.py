"""Preference objectives by name: what is scored, how the two scores of a pair are compared, and sums of such losses.

A step's loss is a sum over its pairs divided by the number of pairs of the step, so that it does not depend on how the
step is cut. `aot` and `aot_unpaired` sort all pairs of a step and cannot be cut: `PreferenceObjective.coupled` takes
the sums of the whole step and says what each completion weighs in a second pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..types import UserError
from . import preference as losses
from .divergence import Divergence, score
from .preference import Pairs, Scores

Name = Literal[
    "sigmoid", "hinge", "ipo", "exo", "nca", "robust", "bco", "sppo", "aot", "aot_unpaired", "apo_zero", "apo_down",
    "discopop", "dpo_norm", "simpo", "orpo", "cpo", "sft",
]  # fmt: skip


class Entry(NamedTuple):
    """One named loss."""

    compares: Literal["score", "log_ratio", "log_prob"]
    """A completion's log-ratio to the reference as the divergence scores it, as it is, or no reference at all."""
    loss: Callable[[PreferenceObjective, Scores, float], Tensor] | None
    """Objective, scores and beta -> (P,); None where it is not a function of the scores alone."""
    per_token: bool = False
    """Whether scores are divided by length."""
    options: tuple[str, ...] = ()
    """Fields it reads that not all do."""
    beta: float = 0.1
    """What is usual for it."""


SMOOTHED = ("label_smoothing",)
NAMED: dict[str, Entry] = {
    "sigmoid": Entry("score", lambda o, s, b: losses.sigmoid(s, b, o.label_smoothing), options=SMOOTHED),
    "hinge": Entry("score", lambda o, s, b: losses.hinge(s, b)),
    "ipo": Entry("score", lambda o, s, b: losses.ipo(s, b), per_token=True),
    "exo": Entry("score", lambda o, s, b: losses.exo(s, b, o.label_smoothing), options=SMOOTHED),
    "nca": Entry("score", lambda o, s, b: losses.nca(s, b)),
    "robust": Entry("score", lambda o, s, b: losses.robust(s, b, o.label_smoothing), options=SMOOTHED),
    "bco": Entry("score", lambda o, s, b: losses.bco(s, b)),
    "sppo": Entry("score", lambda o, s, b: losses.sppo(s, b), beta=0.001),
    "aot": Entry("log_ratio", None, options=SMOOTHED),
    "aot_unpaired": Entry("log_ratio", lambda o, s, b: losses.aot_unpaired(s, b, o.label_smoothing), options=SMOOTHED),
    "apo_zero": Entry("log_ratio", lambda o, s, b: losses.apo_zero(s, b)),
    "apo_down": Entry("log_ratio", lambda o, s, b: losses.apo_down(s, b)),
    "discopop": Entry("score", lambda o, s, b: losses.discopop(s, b, o.discopop_tau), options=("discopop_tau",)),
    "dpo_norm": Entry("score", lambda o, s, b: losses.sigmoid(s, b, o.label_smoothing), True, SMOOTHED, 5.0),
    "simpo": Entry(
        "log_prob",
        lambda o, s, b: losses.simpo(s, b, o.simpo_gamma, o.label_smoothing),
        True,
        (*SMOOTHED, "simpo_gamma"),
        2.0,
    ),
    "orpo": Entry("log_prob", lambda o, s, b: losses.orpo(s, b), per_token=True),
    "cpo": Entry("log_prob", lambda o, s, b: losses.sigmoid(s, b, o.label_smoothing), options=(*SMOOTHED, "cpo_alpha")),
    "sft": Entry("log_prob", None),
}
COUPLED = ("aot", "aot_unpaired")


class StepGradient(NamedTuple):
    """The loss of a whole step and its gradient with respect to the sums of its pairs."""

    loss: Tensor
    """Scalar."""
    chosen: Tensor
    """(P,) d loss / d chosen."""
    rejected: Tensor
    """(P,) d loss / d rejected."""
    nll: Tensor | None
    """(P,) d loss / d nll, where `Pairs.nll` is given."""

    def of(self, which: slice | Tensor) -> StepGradient:
        """That of some of the step's pairs."""
        nll = None if self.nll is None else self.nll[which]
        return StepGradient(self.loss, self.chosen[which], self.rejected[which], nll)

    def surrogate(self, pairs: Pairs) -> Tensor:
        """Scalar with the gradient of the step's loss (its value means nothing) for the pairs this gradient is of."""
        total = (self.chosen * pairs.chosen + self.rejected * pairs.rejected).sum()
        return total if self.nll is None or pairs.nll is None else total + (self.nll * pairs.nll).sum()


@dataclass(frozen=True)
class PreferenceObjective:
    """A published loss of pairs, or a sum of several. Sources are in `losses/preference.py`."""

    name: Name | dict[Name, float] = "sigmoid"
    """One loss, or losses with weights: ``{sigmoid: 1.0, sft: 0.2}``; ``sft`` is the NLL per token of the chosen."""
    beta: float | None = None
    """Factor of what is compared (``orpo``: of its odds ratio); null = usual for the loss: ``dpo_norm`` 5, ``simpo`` 2,
    ``sppo`` 0.001, others 0.1."""
    label_smoothing: float = 0.0
    """Probability that a label is wrong: cDPO in ``sigmoid``, likewise in ``dpo_norm``, ``simpo``, ``cpo``, ``aot``,
    ``aot_unpaired``; without bias in ``robust``; how soft labels are in ``exo``."""
    divergence: Divergence = "reverse_kl"
    """What ties policy to reference; ``aot``, ``aot_unpaired``, ``apo_zero``, ``apo_down`` know reverse KL only."""
    divergence_alpha: float = 0.5
    """``divergence: alpha``: 1 would be reverse KL, 0 forward KL."""
    discopop_tau: float = 0.05
    """``discopop``: temperature of its blend."""
    simpo_gamma: float = 1.0
    """``simpo``: margin that rewards should have; 0.5 to 1.6 in the paper."""
    cpo_alpha: float = 1.0
    """``cpo``: weight of its NLL, per token of the chosen as in ``sft``."""
    ld_alpha: float | None = None
    """LD-DPO: weight of the tokens beyond the length of the pair's shorter completion; null = 1."""
    weighted: bool = False
    """WPO: weigh pairs by how much the policy itself would write them; NLL terms are not weighed."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def weights(self) -> dict[str, float]:
        """The losses that count, with their weights."""
        named = {self.name: 1.0} if isinstance(self.name, str) else self.name
        return {str(name): float(weight) for name, weight in named.items() if weight}

    @property
    def needs_reference(self) -> bool:
        """Whether any loss compares with a reference policy."""
        return any(NAMED[name].compares != "log_prob" for name in self.weights)

    @property
    def couples_pairs(self) -> bool:
        """Whether the loss of a pair depends on the other pairs of the step."""
        return any(name in COUPLED for name in self.weights)

    def beta_of(self, name: str) -> float:
        """``beta``, or what is usual for ``name``."""
        return NAMED[name].beta if self.beta is None else self.beta

    def pairs(self, logps: Tensor, reference: Tensor | None, sequence: Tensor, pairs: int) -> Pairs:
        """Tokens (N,) to pairs; arguments as in `preference.pairs_of_tokens`."""
        return losses.pairs_of_tokens(logps, reference, sequence, pairs, self.ld_alpha)

    def scores(self, pairs: Pairs, name: str) -> Scores:
        """What ``name`` compares."""
        compares, _, per_token, *_ = NAMED[name]
        found = losses.log_probs(pairs) if compares == "log_prob" else losses.log_ratios(pairs)
        if compares == "score":
            found = Scores(*(score(r, self.divergence, self.divergence_alpha) for r in found))
        return losses.per_token(found, pairs) if per_token else found

    def rewards(self, pairs: Pairs) -> Scores:
        """(P,) beta times what the first loss that is not ``sft`` compares, without gradient: what to log."""
        name = next((name for name in self.weights if name != "sft"), "sft")
        return Scores(*(self.beta_of(name) * s.detach() for s in self.scores(pairs, name)))

    def per_pair(self, pairs: Pairs, name: str) -> Tensor:
        """(P,) what ``name`` makes of each pair, without NLL terms: zeros for ``sft``."""
        loss = NAMED[name].loss
        if loss is not None:
            return loss(self, self.scores(pairs, name), self.beta_of(name))
        if name == "sft":
            return torch.zeros_like(pairs.chosen)
        policy, moved = losses.log_probs(pairs).margin, losses.log_ratios(pairs).margin
        return losses.aot(policy, (policy - moved).detach(), self.beta_of(name), self.label_smoothing)

    def parts(
        self, pairs: Pairs, total_pairs: int, total_chosen_tokens: int, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What the pairs add to each loss of the sum, before it is weighed; arguments as in `loss`."""
        if min(total_pairs, total_chosen_tokens) <= 0:
            raise ValueError(f"need positive divisors, got {total_pairs=} and {total_chosen_tokens=}")
        if self.couples_pairs and len(pairs.chosen) != total_pairs:
            raise ValueError(f"{self.name} needs all {total_pairs} pairs of the step, got {len(pairs.chosen)}")
        if self.weighted != (weights is not None):
            raise ValueError("weights of pairs (losses.preference.wpo_weights) go with weighted=True, and only with it")
        nll = pairs.chosen_nll.sum() / total_chosen_tokens
        likelihood = {"sft": nll, "orpo": nll, "cpo": self.cpo_alpha * nll}
        parts = {}
        for name in self.weights:
            values = self.per_pair(pairs, name)
            mean = (values if weights is None else weights * values).sum() / total_pairs
            parts[name] = mean + likelihood[name] if name in likelihood else mean
        return parts

    def loss(self, pairs: Pairs, total_pairs: int, total_chosen_tokens: int, weights: Tensor | None = None) -> Tensor:
        """The loss of a micro-batch; summed over the step's micro-batches and ranks it is the loss of the step.

        Comparisons are means over pairs; NLL terms are means over all tokens of the step's chosen, whatever their pair.

        Args:
            pairs: of this micro-batch; of the whole step if `couples_pairs`.
            total_pairs: pairs of the step, over all micro-batches and ranks.
            total_chosen_tokens: tokens of the chosen of the step, likewise.
            weights: (P,) `preference.wpo_weights`, if ``weighted``.

        Raises:
            ValueError: a divisor is not positive, pairs or weights are missing.
        """
        parts = self.parts(pairs, total_pairs, total_chosen_tokens, weights)
        return torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()

    def coupled(self, pairs: Pairs, weights: Tensor | None = None) -> StepGradient:
        """The loss of a whole step and its gradient, from sums that need none.

        For losses that couple pairs: a first pass without gradient makes the sums, gathered over micro-batches and
        ranks; a second pass adds up `StepGradient.surrogate` over micro-batches. Any other loss comes out the same.

        Args:
            pairs: all of the step.
            weights: (P,) as in `loss`.
        """
        sums = {name: getattr(pairs, name) for name in ("chosen", "rejected", "nll")}
        leaves = {name: x.detach().clone().requires_grad_() for name, x in sums.items() if x is not None}
        with torch.enable_grad():
            loss = self.loss(pairs._replace(**leaves), len(pairs.chosen), int(pairs.chosen_tokens.sum()), weights)
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return StepGradient(loss.detach(), found[0], found[1], found[2] if "nll" in leaves else None)


# ---- what cannot be meant -------------------------------------------------------------------------------------------

RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "beta": ("positive", lambda x: 0 < x < math.inf),
    "label_smoothing": ("at least 0 and below 0.5, where labels say nothing", lambda x: 0 <= x < 0.5),
    "divergence_alpha": ("finite", math.isfinite),
    "discopop_tau": ("positive", lambda x: 0 < x < math.inf),
    "simpo_gamma": ("at least 0", lambda x: 0 <= x < math.inf),
    "cpo_alpha": ("at least 0", lambda x: 0 <= x < math.inf),
    "ld_alpha": ("from 0 to 1", lambda x: 0 <= x <= 1),
}


def check(spec: PreferenceObjective) -> None:
    """Refuse values out of range, options that nothing reads, and combinations without a meaning."""
    check_names(spec)
    for field, (meaning, holds) in RANGES.items():
        value = getattr(spec, field)
        if value is not None and not holds(value):
            raise UserError(f"loss: {field}={value} must be {meaning}")
    given = {f.name: getattr(spec, f.name) for f in fields(spec)[1:] if getattr(spec, f.name) != f.default}
    for field, value in given.items():
        if not any(reads(spec, name, field) for name in spec.weights):
            raise UserError(f"loss: {field}={value} changes nothing in {', '.join(spec.weights)}; leave it out")
    if "exo" in spec.weights and not spec.label_smoothing:
        raise UserError("loss: exo compares with softened labels; give label_smoothing, for example 0.001")
    if spec.ld_alpha is not None and (own := [n for n in spec.weights if NAMED[n].per_token]):
        raise UserError(f"loss: {own[0]} divides by length already; leave out ld_alpha or {own[0]}")
    if spec.weighted and "aot_unpaired" in spec.weights:
        raise UserError("loss: aot_unpaired takes pairs apart, weighted weighs them; leave out one of them")


def check_names(spec: PreferenceObjective) -> None:
    named = {spec.name: 1.0} if isinstance(spec.name, str) else spec.name
    for name, weight in named.items():
        if name not in NAMED:
            raise UserError(f"loss: there is no {name!r}; choose from {', '.join(NAMED)}")
        if not 0 <= weight < math.inf:
            raise UserError(f"loss: the weight of {name} is {weight}; it must be at least 0 and finite")
    if not any(named.values()):
        raise UserError(f"loss: nothing to learn from name={named}; give at least one loss a positive weight")


def reads(spec: PreferenceObjective, name: str, field: str) -> bool:
    """Whether ``field`` changes the loss ``name``."""
    entry = NAMED[name]
    if field in ("divergence", "divergence_alpha"):
        return entry.compares == "score" and (field == "divergence" or spec.divergence == "alpha")
    return name != "sft" if field in ("beta", "ld_alpha", "weighted") else field in entry.options
