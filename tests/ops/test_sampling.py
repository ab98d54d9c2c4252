"""Truncations by hand, drawing against the exact distribution, and uniforms that never change."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_posttrain.ops import sampling
from lightning_posttrain.ops.sampling import LEVELS, draw, greedy, transform_logits, uniforms

PINNED = [
    [0.15229510201404062, 0.03777831168312462, 0.6762493496969635],
    [0.9917461942604704, 0.03709194251961734, 0.9994983856162579],
]
PROBS = torch.tensor([[0.1, 0.4, 0.05, 0.25, 0.2]], dtype=torch.float64)


def kept(**options) -> list[int]:
    logps = transform_logits(PROBS.log(), **options)
    torch.testing.assert_close(logps.exp().sum(-1), torch.ones(1, dtype=torch.float64))
    inside = logps[0].isfinite()
    expected = PROBS[0] ** (1 / options.get("temperature", 1.0))
    torch.testing.assert_close(logps[0, inside].exp(), expected[inside] / expected[inside].sum())
    return inside.nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"temperature": 0.5}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.39}, [1]),
        ({"top_p": 0.41}, [1, 3]),
        ({"top_p": 0.66}, [1, 3, 4]),
        ({"top_p": 1e-9}, [1]),
        ({"min_p": 0.45}, [1, 3, 4]),
        ({"min_p": 1.0}, [1]),
        ({"top_k": 2, "top_p": 0.6}, [1]),  # of the two left, the first has 0.4 / 0.65 = 0.615
        ({"temperature": 2.0, "top_p": 0.41}, [1, 3]),  # 0.294 and 0.233 after the temperature
        ({"temperature": 2.0, "top_p": 0.54}, [1, 3, 4]),
        ({"temperature": 2.0, "min_p": 0.45}, [0, 1, 3, 4]),
        ({"top_k": 4, "top_p": 0.8, "min_p": 0.6}, [1, 3]),
    ],
)
def test_truncation_by_hand(options, tokens):
    assert kept(**options) == tokens


def test_ties_are_kept_together():
    tied = torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]])
    assert transform_logits(tied, top_k=2)[0].isfinite().tolist() == [False, True, True, True, False]
    assert transform_logits(tied, top_p=0.2)[0].isfinite().tolist() == [False, True, True, True, False]


def test_temperature_zero_reports_the_plain_softmax():
    logits = torch.randn(3, 50)
    torch.testing.assert_close(transform_logits(logits, temperature=0.0, top_k=3), logits.log_softmax(-1))
    tokens, logps = greedy(logits)
    assert tokens.tolist() == logits.argmax(-1).tolist()
    torch.testing.assert_close(logps, logits.log_softmax(-1).amax(-1))


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_nucleus_equals_a_literal_transcription(top_p, spread):
    """Flat rows need the full sort, peaked ones the first look; rows of both kinds meet in one batch."""
    logits = torch.randn(6, 3 * sampling.FIRST_LOOK, dtype=torch.float64) * spread
    logits[0] *= 40
    got = transform_logits(logits, top_p=top_p)
    for row, logps in zip(logits, got, strict=True):
        probs, total, nucleus = row.softmax(-1), 0.0, []
        for token in row.argsort(descending=True).tolist():
            nucleus.append(token)
            total += probs[token].item()
            if total >= top_p:
                break
        assert logps.isfinite().nonzero()[:, 0].tolist() == sorted(nucleus)


def test_truncated_logprobs_are_differentiable():
    logits = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)

    def of_best(x):
        return transform_logits(x, 0.7, 20, 0.9, 0.05).amax(-1)

    assert torch.autograd.gradcheck(of_best, logits)


@pytest.mark.parametrize("vocab", [3, 64, 199, 5000])
def test_draw_follows_the_distribution(vocab):
    logits = torch.randn(1, vocab, generator=torch.Generator().manual_seed(vocab)) * 1.5
    numbers = torch.from_numpy(np.random.default_rng(1).random((100_000 if vocab < 1000 else 30_000, LEVELS)))
    counts = torch.zeros(vocab, dtype=torch.int64)
    for part in numbers.split(10_000):
        tokens, logps = draw(logits.expand(len(part), -1), part)
        counts += tokens.bincount(minlength=vocab)
        torch.testing.assert_close(logps, logits.log_softmax(-1)[0, tokens], atol=2e-6, rtol=0)
    expected = logits.double().softmax(-1)[0] * len(numbers)
    enough = expected >= 5
    observed, expected = counts[enough].double(), expected[enough]
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_draw_never_picks_what_is_forbidden():
    logits = torch.full((4, 1000), -torch.inf)
    logits[:, 700], logits[:, 130] = 0.0, -30.0
    extremes = torch.tensor([[0.0] * 3, [1 - 2**-53] * 3, [0.0, 1 - 2**-53, 0.0], [1 - 2**-53, 0.0, 1 - 2**-53]])
    tokens, logps = draw(logits, extremes.double())
    assert set(tokens.tolist()) <= {130, 700}
    assert logps.isfinite().all()
    only = torch.full((2, 7), -torch.inf)
    only[:, 5] = 3.0
    tokens, logps = draw(only, extremes[:2].double())
    assert (tokens.tolist(), logps.tolist()) == ([5, 5], [0.0, 0.0])


def test_uniforms_are_pinned():
    """Changing these numbers changes every recorded run: a seed must keep its meaning."""
    first = uniforms(seed=1, step=2, key="a", sample=3, count=2)
    assert first.tolist() == PINNED
    assert (uniforms(1, 2, "a", 3, 50)[:2] == first).all()
    assert (uniforms(np.int64(1), 2, np.int64(7), 3, 4) == uniforms(1, 2, 7, 3, 4)).all()


def test_uniforms_differ_in_every_argument_and_are_uniform():
    names = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, "1", 0), (0, 0, 0, 1)]
    assert len({uniforms(*name, 1)[0, 0] for name in names}) == len(names)
    first = np.array([uniforms(0, 0, key, sample, 1)[0] for key in range(200) for sample in range(10)])
    for level in first.T:
        assert stats.kstest(level, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first.T)[0, 1]) < 4 / math.sqrt(len(first))
