"""Cutting a step: everything once, within the budget, as many micro-batches for each rank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.batching.cut import cut_step
from lightning_posttrain.batching.tree import collate, distinct_tokens
from lightning_posttrain.types import Sequence, UserError


def example(ids, name="x"):
    ids = np.array(ids, dtype=np.int32)
    return (Sequence(ids, np.arange(len(ids)) > 0, name, f"file:{name}"),)


LISTS = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=10), min_size=4, max_size=14)


@given(LISTS, st.integers(10, 40), st.integers(1, 3), st.integers(1, 8))
def test_every_example_once_within_the_budget_and_evenly(lists, budget, world, min_shared):
    examples = [example(ids, str(i)) for i, ids in enumerate(lists)]
    ranks = cut_step(examples, budget, world, min_shared)
    assert len(ranks) == world
    assert len({len(micros) for micros in ranks}) == 1
    groups = [group for micros in ranks for group in micros]
    assert sum(not group for group in groups) < world
    assert sorted(e[0].id for group in groups for e in group) == sorted(e[0].id for e in examples)
    for group in filter(None, groups):
        assert collate(group, min_shared).layout.num_tokens == distinct_tokens([e[0] for e in group], min_shared)
        assert collate(group, min_shared).layout.num_tokens <= budget


@pytest.mark.parametrize(("count", "tokens", "world"), [(3, 8000, 2), (9, 5000, 8), (15, 5000, 8), (5, 5000, 4)])
def test_a_limit_holds_where_examples_do_not_divide_by_ranks(count: int, tokens: int, world: int) -> None:
    rng = np.random.default_rng(0)
    examples = [example(rng.integers(0, 9999, tokens), str(i)) for i in range(count)]
    ranks = cut_step(examples, 8192, world, 32)
    assert {len(micros) for micros in ranks} == {-(-count // world)}
    assert all(distinct_tokens([e[0] for e in group], 32) <= 8192 for micros in ranks for group in micros if group)
    assert sum(len(group) for micros in ranks for group in micros) == count
    assert all(micros[0] for micros in ranks)  # nobody is idle for a whole step


def test_prefixes_nested_too_closely_do_not_exceed_the_limit() -> None:
    shared = list(range(100, 300))  # every prompt adds ten tokens to it: too few for a node of their own
    examples = [example([*shared, *[p] * 10, p, 40 + c, 50 + c], f"{p}/{c}") for p in range(16) for c in range(8)]
    groups = cut_step(examples, 900, 1, 16)[0]
    assert len(groups) > 1
    assert all(collate(group, 16).layout.num_tokens <= 900 for group in groups)


def test_rows_with_a_common_prefix_meet():
    rng = np.random.default_rng(0)
    prefixes = [rng.integers(10, 99, 50) for _ in range(3)]
    examples = [example(np.concatenate([prefixes[i % 3], [i, i + 1]]), str(i)) for i in range(12)]
    ranks = cut_step(examples, 60, 1, 16)
    assert len(ranks[0]) == 3
    for group in ranks[0]:
        assert len({int(e[0].id) % 3 for e in group}) == 1


def test_groups_are_balanced():
    examples = [example(list(range(i, i + 11)), str(i)) for i in range(0, 2000, 20)]
    costs = [sum(distinct_tokens(list(e), 16) for e in group) for group in cut_step(examples, 340, 1, 16)[0]]
    assert len(costs) == 3
    assert max(costs) == 340  # 1,000 tokens in examples of 10: no cut has a smaller largest group


def test_sequences_of_an_example_stay_together():
    chosen, rejected = example([1, 2, 3, 4])[0], example([9, 8, 7, 6])[0]
    ranks = cut_step([(chosen, rejected), example([5, 5, 5])], 8, 1, 16)
    assert [len(e) for group in ranks[0] for e in group].count(2) == 1


def test_too_long_an_example_is_named():
    with pytest.raises(UserError, match=r"file:long: the example has 19 tokens.*tokens_per_micro=10"):
        cut_step([example([1, 2], "short"), example(list(range(20)), "long")], 10, 1, 16)


def test_fewer_examples_than_ranks_is_refused():
    with pytest.raises(UserError, match="1 examples for 2 ranks"):
        cut_step([example([1, 2])], 10, 2, 16)
