"""Metrics stay exact where float32 would not, and no example leaves a denominator."""

import math

import pytest
import torch

from lightning_posttrain.metrics.means import NamedMeans
from lightning_posttrain.metrics.nll import TokenNLL


def test_nll_is_a_mean_over_tokens_not_over_batches():
    metric = TokenNLL()
    metric.update(torch.tensor([-1.0]))
    metric.update(torch.tensor([-3.0, -3.0, -3.0]))
    assert metric.compute().item() == 2.5


def test_nll_counts_beyond_float32():
    metric = TokenNLL()
    metric.count += 2**24
    metric.total += 2.0**24
    metric.update(torch.full((3,), -1.0))
    assert metric.count.item() == 2**24 + 3
    assert metric.compute().item() == 1.0


def test_nll_of_nothing_is_nan_and_cannot_look_perfect():
    assert math.isnan(TokenNLL().compute().item())


def test_means_and_standard_errors():
    metric = NamedMeans(["a", "b"])
    for a, b in ((1.0, 2.0), (0.0, 2.0), (1.0, 2.0), (0.0, 2.0)):
        metric.update({"a": a, "b": b})
    values = {k: v.item() for k, v in metric.compute().items()}
    assert values["a"] == 0.5
    assert values["a/stderr"] == pytest.approx(math.sqrt(1 / 3 / 4))
    assert values["b/stderr"] == 0.0


def test_one_example_has_no_standard_error():
    metric = NamedMeans(["a"])
    metric.update({"a": 1.0})
    assert math.isnan(metric.compute()["a/stderr"].item())


def test_missing_values_are_refused():
    with pytest.raises(ValueError, match="need values for"):
        NamedMeans(["a", "b"]).update({"a": 1.0})


def test_a_name_that_does_not_apply_leaves_only_its_own_mean_alone():
    metric = NamedMeans(["a", "b", "c"])
    metric.update({"a": 1.0, "b": float("nan"), "c": float("nan")})
    metric.update({"a": 0.0, "b": 1.0, "c": float("nan")})
    found = metric.compute()
    assert (found["a"], found["b"]) == (0.5, 1.0)
    assert found["c"].isnan()
    assert found["b/stderr"].isnan()
