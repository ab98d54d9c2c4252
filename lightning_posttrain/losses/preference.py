"""Losses of pairs (chosen, rejected), as functions of a number per completion; names are in `preference_objective.py`.

What is compared is a completion's log-prob under the policy, its log-ratio to a reference, or a function of these
(`Scores`); how it is compared is the loss. Each returns a loss per pair (P,), which a step averages. Only `aot` and
`aot_unpaired` look at several pairs at once. w stands for chosen, l for rejected, s for a score.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from .divergence import bounded_exp
from .ratio import sequence_sum


class Pairs(NamedTuple):
    """P pairs, float32 nats; sums run over the tokens of a completion."""

    chosen: Tensor
    """(P,) sums of log-probs under the policy, with gradient."""
    rejected: Tensor
    """(P,)"""
    reference_chosen: Tensor | None
    """(P,) the same under the reference, without gradient; None for losses without one."""
    reference_rejected: Tensor | None
    """(P,)"""
    chosen_tokens: Tensor
    """(P,) int64 tokens of each completion."""
    rejected_tokens: Tensor
    """(P,) int64."""
    nll: Tensor | None = None
    """(P,) negative log-likelihood of the chosen, with gradient; None = -chosen, which it is without LD-DPO."""

    @property
    def chosen_nll(self) -> Tensor:
        return -self.chosen if self.nll is None else self.nll


class Scores(NamedTuple):
    """What a loss compares, (P,) each."""

    chosen: Tensor
    rejected: Tensor

    @property
    def margin(self) -> Tensor:
        return self.chosen - self.rejected


# ---- from tokens to pairs -------------------------------------------------------------------------------------------


def pair_sums(values: Tensor, sequence: Tensor, pairs: int, ld_alpha: float | None = None) -> tuple[Tensor, Tensor]:
    """Sums over completions, (P,) of the chosen and (P,) of the rejected.

    Args:
        values: (N,) per token, row-major by sequence, then by position.
        sequence: (N,) int64; pair i is the sequences 2i (chosen) and 2i + 1 (rejected).
        pairs: P.
        ld_alpha: factor of the tokens beyond the length of the pair's shorter completion (LD-DPO, Liu et al. 2024,
            arXiv:2409.06411): 1 or None = plain sums, 0 = only the common length counts.
    """
    if ld_alpha is not None:
        lengths = torch.bincount(sequence, minlength=2 * pairs)
        position = torch.arange(len(sequence), device=sequence.device) - (lengths.cumsum(0) - lengths)[sequence]
        common = lengths.view(pairs, 2).amin(1).repeat_interleave(2)
        values = torch.where(position < common[sequence], values, ld_alpha * values)
    chosen, rejected = sequence_sum(values, sequence, 2 * pairs).view(pairs, 2).unbind(1)
    return chosen, rejected


def pairs_of_tokens(
    logps: Tensor, reference: Tensor | None, sequence: Tensor, pairs: int, ld_alpha: float | None = None
) -> Pairs:
    """`Pairs` from log-probs (N,) under the policy and the reference; the other arguments as in `pair_sums`."""
    lengths = torch.bincount(sequence, minlength=2 * pairs).view(pairs, 2)
    chosen, rejected = pair_sums(logps, sequence, pairs, ld_alpha)
    nll = None if ld_alpha is None else -pair_sums(logps, sequence, pairs)[0]
    found = Pairs(chosen, rejected, None, None, lengths[:, 0], lengths[:, 1], nll)
    if reference is None:
        return found
    held = pair_sums(reference.detach(), sequence, pairs, ld_alpha)
    return found._replace(reference_chosen=held[0], reference_rejected=held[1])


def wpo_weights(logps: Tensor, log_squares: Tensor, sequence: Tensor, pairs: int) -> Tensor:
    r"""WPO (Zhou et al. 2024, arXiv:2406.11827, eq. 2): how much a pair is what the policy itself would write.

    .. math:: \prod_{y \in \{w, l\}} \exp \frac{1}{|y|} \sum_t \Big(\log p_t - \log \sum_v p_{tv}^2\Big)

    The mean over tokens, not the sum, which would vanish for long completions.

    Args:
        logps: (N,) of the tokens.
        log_squares: (N,) log of the sum over the vocabulary of p^2, what a token drawn from the policy has on average.
        sequence, pairs: as in `pair_sums`.

    Returns:
        (P,) without gradient.
    """
    drawn = (logps - log_squares).detach()
    tokens = torch.bincount(sequence, minlength=2 * pairs).clamp(min=1)
    return (sequence_sum(drawn, sequence, 2 * pairs) / tokens).view(pairs, 2).sum(1).exp()


# ---- what is compared -----------------------------------------------------------------------------------------------


def log_probs(pairs: Pairs) -> Scores:
    """Sums of log-probs under the policy: CPO."""
    return Scores(pairs.chosen, pairs.rejected)


def log_ratios(pairs: Pairs) -> Scores:
    """log(p / p_ref) of whole completions: the reward of DPO divided by beta."""
    if pairs.reference_chosen is None or pairs.reference_rejected is None:
        raise ValueError("the loss compares with a reference, and these pairs have no reference log-probs")
    return Scores(pairs.chosen - pairs.reference_chosen, pairs.rejected - pairs.reference_rejected)


def per_token(scores: Scores, pairs: Pairs) -> Scores:
    """Scores divided by the number of tokens."""
    return Scores(
        scores.chosen / pairs.chosen_tokens.clamp(min=1), scores.rejected / pairs.rejected_tokens.clamp(min=1)
    )


# ---- how it is compared ---------------------------------------------------------------------------------------------


def logistic(logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy of "chosen is better" with logits (P,), when the label is wrong with probability e.

    .. math:: -(1 - e) \log\sigma(x) - e \log\sigma(-x)
    """
    if not label_smoothing:
        return -logsigmoid(logits)
    return -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)


def sigmoid(scores: Scores, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""DPO (Rafailov et al. 2023, arXiv:2305.18290, eq. 7); with label smoothing cDPO (Mitchell 2023, "A note on DPO
    with noisy preferences", eq. 3), whose gradient vanishes where the margin says what the labels are worth.

    .. math:: -(1 - e) \log\sigma(\beta (s_w - s_l)) - e \log\sigma(-\beta (s_w - s_l))
    """
    return logistic(beta * scores.margin, label_smoothing)


def hinge(scores: Scores, beta: float) -> Tensor:
    r"""RSO's hinge (Liu et al. 2023, arXiv:2309.06657), SLiC (Zhao et al. 2023, arXiv:2305.10425).

    .. math:: \max(0, 1 - \beta (s_w - s_l))
    """
    return relu(1 - beta * scores.margin)


def ipo(scores: Scores, beta: float) -> Tensor:
    r"""IPO (Azar et al. 2023, arXiv:2310.12036, eq. 17), of scores per token, as its authors ran it.

    .. math:: \Big(s_w - s_l - \frac{1}{2 \beta}\Big)^2
    """
    return (scores.margin - 1 / (2 * beta)).square()


def exo(scores: Scores, beta: float, label_smoothing: float) -> Tensor:
    r"""EXO (Ji et al. 2024, arXiv:2402.00856, eq. 16): reverse KL from q = sigma(beta (s_w - s_l)) to the label.

    .. math:: q \log\frac{q}{1 - e} + (1 - q) \log\frac{1 - q}{e}, \quad 0 < e < 1
    """
    logits = beta * scores.margin
    above = logits.sigmoid() * (logsigmoid(logits) - math.log1p(-label_smoothing))
    return above + (-logits).sigmoid() * (logsigmoid(-logits) - math.log(label_smoothing))


def nca(scores: Scores, beta: float) -> Tensor:
    r"""NCA for pairs (Chen et al. 2024, arXiv:2402.05369): also keeps the chosen's own score up.

    .. math:: -\log\sigma(\beta s_w) - \tfrac12 \log\sigma(-\beta s_w) - \tfrac12 \log\sigma(-\beta s_l)
    """
    chosen, rejected = beta * scores.chosen, beta * scores.rejected
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


def robust(scores: Scores, beta: float, label_smoothing: float) -> Tensor:
    r"""Robust DPO (Chowdhury et al. 2024, arXiv:2403.00409): unbiased when labels are flipped at rate e < 1/2.

    .. math:: \frac{-(1 - e) \log\sigma(x) + e \log\sigma(-x)}{1 - 2e}, \quad x = \beta (s_w - s_l)
    """
    logits = beta * scores.margin
    clean = -(1 - label_smoothing) * logsigmoid(logits) + label_smoothing * logsigmoid(-logits)
    return clean / (1 - 2 * label_smoothing)


def bco(scores: Scores, beta: float) -> Tensor:
    r"""BCO (Jung et al. 2024, arXiv:2404.04656) of pairs, without its reward shift: one classifier for both.

    .. math:: -\log\sigma(\beta s_w) - \log\sigma(-\beta s_l)
    """
    return -logsigmoid(beta * scores.chosen) - logsigmoid(-beta * scores.rejected)


def sppo(scores: Scores, beta: float) -> Tensor:
    r"""SPPO (Wu et al. 2024, arXiv:2405.00675, eq. 4.7) with win rates 1 and 0, and eta = 1 / beta.

    .. math:: \Big(s_w - \frac{1}{2 \beta}\Big)^2 + \Big(s_l + \frac{1}{2 \beta}\Big)^2
    """
    return (scores.chosen - 0.5 / beta).square() + (scores.rejected + 0.5 / beta).square()


def apo_zero(scores: Scores, beta: float) -> Tensor:
    r"""APO-zero (D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7): chosen up, rejected down.

    .. math:: 1 - \sigma(\beta s_w) + \sigma(\beta s_l)
    """
    return (-beta * scores.chosen).sigmoid() + (beta * scores.rejected).sigmoid()


def apo_down(scores: Scores, beta: float) -> Tensor:
    r"""APO-down (D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 8): both down, rejected more; for a model that is
    already better than the chosen.

    .. math:: \sigma(\beta s_w) + 1 - \sigma(\beta (s_w - s_l))
    """
    return (beta * scores.chosen).sigmoid() + (-beta * scores.margin).sigmoid()


def discopop(scores: Scores, beta: float, tau: float) -> Tensor:
    r"""DiscoPOP (Lu et al. 2024, arXiv:2406.08414, eq. 5): a discovered blend of logistic and exponential loss.

    .. math:: (1 - m) (-\log\sigma(x)) + m e^{-x}, \quad m = \sigma(x / \tau), \quad x = \beta (s_w - s_l)
    """
    logits = beta * scores.margin
    # m and e^-x in one exponent: apart they are 0 times inf for a pair that is far on the wrong side
    exponential = bounded_exp(logsigmoid(logits / tau) - logits)
    return -(-logits / tau).sigmoid() * logsigmoid(logits) + exponential


def simpo(scores: Scores, beta: float, gamma: float, label_smoothing: float = 0.0) -> Tensor:
    r"""SimPO (Meng et al. 2024, arXiv:2405.14734, eq. 6), of mean log-probs: no reference, and a margin to reach.

    .. math:: -\log\sigma(\beta (s_w - s_l) - \gamma)
    """
    return logistic(beta * scores.margin - gamma, label_smoothing)


def log_odds(mean_logps: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(mean log-prob) (P,).

    A completion of probability 1 would have infinite odds: p counts as at most 1 - eps of its float type.
    """
    x = mean_logps.clamp(max=-torch.finfo(mean_logps.dtype).eps)
    # log(1 - e^x), each way where it keeps its digits; both are finite for all x here: no branch spoils the gradient
    return x - torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def orpo(scores: Scores, beta: float) -> Tensor:
    r"""The odds ratio of ORPO (Hong et al. 2024, arXiv:2403.07691, eq. 6 and 7), of mean log-probs; lambda is beta.

    .. math:: -\lambda \log\sigma\Big(\log\frac{p_w}{1 - p_w} - \log\frac{p_l}{1 - p_l}\Big), \quad p = e^s
    """
    return -beta * logsigmoid(log_odds(scores.chosen) - log_odds(scores.rejected))


# ---- all pairs of a step at once ------------------------------------------------------------------------------------


def aot(policy: Tensor, reference: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""AOT, paired (Melnyk et al. 2024, arXiv:2406.05882): margins of the policy against those of the reference,
    quantile by quantile.

    .. math:: -(1 - e) \log\sigma(\beta d) - e \log\sigma(-\beta d), \quad d_k = m_{(k)} - m^{ref}_{(k)}

    Args:
        policy, reference: (P,) log p(chosen) - log p(rejected), of all pairs of the step.

    Returns:
        (P,) in the order of the pairs: each has the loss of its policy margin's quantile.
    """
    rank = policy.detach().argsort(stable=True).argsort()
    return logistic(beta * (policy - reference.sort().values[rank]), label_smoothing)


def aot_unpaired(scores: Scores, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""AOT, unpaired (Melnyk et al. 2024, arXiv:2406.05882): the k-th smallest score of the chosen against the
    k-th smallest of the rejected. As `aot`, with

    .. math:: d_k = s_{w, (k)} - s_{l, (k)}

    Returns:
        (P,) in the order of the chosen.
    """
    rank = scores.chosen.detach().argsort(stable=True).argsort()
    partner = scores.rejected.detach().argsort(stable=True)[rank]
    return logistic(beta * (scores.chosen - scores.rejected[partner]), label_smoothing)
