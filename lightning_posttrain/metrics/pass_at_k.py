"""Two estimates from counts: pass@k of several samples of one problem, and Wilson's interval of a share."""

from __future__ import annotations

import math

from ..types import UserError


def pass_at_k(n: int, correct: int, k: int) -> float:
    r"""Probability that at least one of ``k`` samples is correct, without bias, from ``n`` of them.

    Chen et al. 2021, arXiv:2107.03374, eq. 1, as the product that needs no large binomials:

    .. math:: 1 - \binom{n-c}{k} \Big/ \binom{n}{k} = 1 - \prod_{i=n-c+1}^{n} \left(1 - \frac{k}{i}\right)

    Args:
        n: samples of the problem.
        correct: how many of them are.
        k: samples one would look at, at most ``n``.

    Raises:
        UserError: an argument out of range.
    """
    if n < 1:
        raise UserError(f"pass_at_k: n={n}; needs at least 1 sample")
    if not 0 <= correct <= n:
        raise UserError(f"pass_at_k: correct={correct} of n={n} samples; give a number from 0 to n")
    if not 1 <= k <= n:
        raise UserError(f"pass_at_k: k={k} of n={n} samples; give a number from 1 to n, or draw more samples")
    if n - correct < k:  # every k of them hold a correct one
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - correct + 1, n + 1))


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927): within [0, 1], and not a point where all or none succeed.

    Args:
        successes: how many of ``n`` succeeded.
        n: independent trials.
        z: half width in standard errors; 1.96 covers about 95%.

    Returns:
        Lower and upper end.

    Raises:
        UserError: an argument out of range.
    """
    if n < 1:
        raise UserError(f"wilson: n={n}; needs at least 1 trial")
    if not 0 <= successes <= n:
        raise UserError(f"wilson: successes={successes} of n={n} trials; give a number from 0 to n")
    if not 0 <= z < math.inf:
        raise UserError(f"wilson: z={z}; give a number from 0, such as 1.96")
    share, shrink = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Exact at the ends, where rounding would leave 1e-17.
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half
