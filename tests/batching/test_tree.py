"""The forest: every sequence can be read back from it, whatever the sequences look like."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.batching.tree import collate, collate_idle, distinct_tokens
from lightning_posttrain.types import MicroBatch, Sequence, UserError

SHORT = st.lists(st.integers(0, 2), min_size=2, max_size=12)  # three tokens: prefixes meet often


def sequence(ids, supervised=None, name="x") -> Sequence:
    mask = np.arange(len(ids)) > 0 if supervised is None else np.array(supervised)
    return Sequence(np.array(ids, dtype=np.int32), mask, name, f"file:{name}")


def paths(micro: MicroBatch) -> list[list[int]]:
    """Tokens on the way from a root to each node's end."""
    layout, found = micro.layout, []
    for node in range(len(layout.starts)):
        tokens, at = [], node
        while at >= 0:
            part = micro.input_ids[0, layout.starts[at] : layout.starts[at] + layout.lengths[at]].tolist()
            tokens, at = part + tokens, layout.parents[at]
        found.append(tokens)
    return found


@given(st.lists(SHORT, min_size=1, max_size=9), st.integers(1, 6))
def test_every_sequence_lies_on_a_path(lists, min_shared):
    micro = collate([(sequence(ids),) for ids in lists], min_shared)
    assert all(ids[:-1] in paths(micro) for ids in lists)


@given(st.lists(SHORT, min_size=1, max_size=9), st.integers(1, 6))
def test_the_layout_is_depth_first(lists, min_shared):
    layout = collate([(sequence(ids),) for ids in lists], min_shared).layout
    flat = 0
    for node, (start, length, parent, position) in enumerate(
        zip(layout.starts, layout.lengths, layout.parents, layout.positions, strict=True)
    ):
        assert start == flat
        assert length > 0
        flat += length
        assert parent < node
        assert position == (0 if parent < 0 else layout.positions[parent] + layout.lengths[parent])
    assert layout.num_tokens == flat
    for node, end in enumerate(layout.ends):
        family = {node}
        for other in range(node + 1, len(layout.starts)):
            if layout.parents[other] in family:
                family.add(other)
        assert end == max(layout.starts[i] + layout.lengths[i] for i in family)


@given(st.lists(SHORT, min_size=1, max_size=9), st.integers(1, 6))
def test_every_supervised_token_is_counted_for_its_sequence(lists, min_shared):
    micro = collate([(sequence(ids),) for ids in lists], min_shared)
    targets = micro.targets[micro.gather].tolist()
    owners = micro.sequence.tolist()
    for index, ids in enumerate(lists):
        assert [t for t, o in zip(targets, owners, strict=True) if o == index] == ids[1:]
    pairs = list(zip(micro.sources.tolist(), micro.targets.tolist(), strict=True))
    assert pairs == sorted(set(pairs))  # each prediction once


@given(st.lists(SHORT, min_size=1, max_size=9), st.integers(1, 6))
def test_the_cost_is_the_tokens_laid_out(lists, min_shared):
    sequences = [sequence(ids) for ids in lists]
    real = collate([(s,) for s in sequences], min_shared).layout.num_tokens
    assert real <= sum(len(ids) - 1 for ids in lists)
    assert real == distinct_tokens(sequences, min_shared)


def test_an_idle_micro_batch_is_as_small_as_its_like_can_be():
    columns = {"advantage": np.array([3.0, 4.0], np.float32)}
    pair = tuple(Sequence(np.arange(9, dtype=np.int32), np.arange(9) > 6, name, "f:1", columns) for name in "ab")
    micro = collate_idle(pair)
    assert micro.idle
    assert not collate([pair]).idle
    assert (micro.examples, micro.num_sequences, micro.layout.num_tokens) == (1, 2, 2)
    assert micro.columns["advantage"].tolist() == [3.0, 3.0]
    assert micro.to("cpu").idle


def test_positions_continue_the_parents():
    micro = collate([(sequence([*range(20), 30, 31]),), (sequence([*range(20), 40, 41, 42]),)], 16)
    assert micro.layout.lengths == (20, 1, 2)
    assert micro.position_ids[0].tolist() == [*range(20), 20, 20, 21]
    assert micro.layout.longest == 22


def test_short_common_beginnings_are_run_twice():
    examples = [(sequence([1, 2, 3, 4]),), (sequence([1, 2, 3, 5]),)]
    assert collate(examples, 4).layout.num_tokens == 6
    assert collate(examples, 3).layout.num_tokens == 3  # the last tokens are only targets


def test_a_shared_prediction_is_made_once_and_counted_twice():
    micro = collate([(sequence([5, 6, 7], name="a"),), (sequence([5, 6, 8], name="b"),)], 1)
    assert len(micro.targets) == 3
    assert micro.gather.tolist() == [0, 1, 0, 2]
    assert micro.ids == ("a", "b")


def test_hundreds_of_nested_prefixes():
    ids = list(range(600))
    micro = collate([(sequence(ids[:n]),) for n in range(2, 601)], 1)
    assert micro.layout.num_tokens == 599
    assert torch.equal(micro.input_ids[0], torch.arange(599))


@pytest.mark.parametrize("supervised", [[False, False, False], [True, False, True]])
def test_a_row_without_anything_to_predict_is_refused(supervised):
    with pytest.raises(UserError, match="file:x"):
        collate([(sequence([1, 2, 3], supervised),)])
