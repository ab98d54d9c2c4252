"""pass@k against enumeration, Wilson's interval against a published value and against its definition."""

import math
from itertools import combinations

import pytest

from lightning_posttrain.metrics.pass_at_k import pass_at_k, wilson
from lightning_posttrain.types import UserError


@pytest.mark.parametrize("n", range(1, 7))
def test_it_is_the_share_of_subsets_with_a_correct_sample(n):
    for correct in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(combinations(range(n), k))
            share = sum(any(i < correct for i in subset) for subset in subsets) / len(subsets)
            assert pass_at_k(n, correct, k) == pytest.approx(share, abs=1e-12)


def test_values_by_hand():
    assert pass_at_k(4, 1, 2) == 0.5  # 1 - C(3, 2) / C(4, 2)
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(5, 0, 5) == 0.0
    assert pass_at_k(5, 1, 5) == 1.0


def test_it_is_exact_where_binomials_overflow_a_float():
    exact = 1 - math.comb(99_000, 5_000) / math.comb(100_000, 5_000)  # integers of thousands of digits
    assert pass_at_k(100_000, 1_000, 5_000) == pytest.approx(exact, rel=1e-12)
    assert pass_at_k(100_000, 1, 1) == pytest.approx(1e-5)


def test_it_never_falls_with_more_samples_or_more_correct_ones():
    values = [[pass_at_k(20, c, k) for k in range(1, 21)] for c in range(21)]
    assert all(row == sorted(row) for row in values)
    assert all(list(column) == sorted(column) for column in zip(*values, strict=True))


@pytest.mark.parametrize(("arguments", "named"), [((0, 0, 1), "n=0"), ((3, 4, 1), "correct=4"), ((3, 1, 4), "k=4")])
def test_what_is_out_of_range_is_refused(arguments, named):
    with pytest.raises(UserError, match=named):
        pass_at_k(*arguments)


def test_wilson_solves_its_equation():
    for successes, n in ((81, 263), (1, 7), (6, 7), (500, 1000)):
        for end in wilson(successes, n):
            assert abs(successes / n - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / n))


def test_wilson_of_a_published_example():
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I, method 3


def test_wilson_stays_within_and_never_is_a_point():
    assert wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson(10, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    assert all(0 <= low < c / n < high <= 1 for n in (2, 9) for c in range(1, n) for low, high in [wilson(c, n)])


@pytest.mark.parametrize(("arguments", "named"), [((0, 0), "n=0"), ((-1, 3), "successes=-1"), ((1, 3, -1.0), "z=-1")])
def test_wilson_refuses_what_is_out_of_range(arguments, named):
    with pytest.raises(UserError, match=named):
        wilson(*arguments)
