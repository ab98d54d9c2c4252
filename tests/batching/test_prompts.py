"""The loader of prompts: its order and state are the other loader's, its spares are a function of the step."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.batching.prompts import Prompt, PromptList, PromptLoader
from lightning_posttrain.batching.sources import split
from lightning_posttrain.types import Message, Record, UserError


def prompt(key: int, answer: str = "4") -> Prompt:
    record = Record(f"row-{key}", (Message("user", f"{key}?"),), answer, f"rows.jsonl:{key + 1}")
    return Prompt(record, np.array([1, 2, key], np.int32), key)


def prompts(n: int = 10) -> PromptList:
    return PromptList([prompt(100 + i) for i in range(n)])  # keys are row numbers, not places in the list


def loader(n: int = 10, per_step: int = 4, **options) -> PromptLoader:
    return PromptLoader(prompts(n), per_step, 512, **options)


def keys(made) -> list[int]:
    return [p.key for p in made]


def epochs(loader: PromptLoader, count: int = 1) -> list[tuple[int, int, list[int], list[int]]]:
    """Place, prompts and spares of every step."""
    return [(b.epoch, b.index, keys(b.prompts), keys(b.spares)) for _ in range(count) for b in loader]


@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 3))
def test_an_epoch_has_every_prompt_once(n, per_step, seed):
    steps = epochs(loader(n, per_step, seed=seed))
    assert sorted(key for _, _, own, _ in steps for key in own) == list(range(100, 100 + n))
    assert [(epoch, index) for epoch, index, _, _ in steps] == [(0, i) for i in range(len(steps))]
    assert len(steps) == len(loader(n, per_step, seed=seed))


def test_the_order_is_the_files_or_keyed_by_seed_and_epoch():
    assert [own for _, _, own, _ in epochs(loader(seed=None))] == [
        [100, 101, 102, 103],
        [104, 105, 106, 107],
        [108, 109],
    ]
    first, second = (steps := epochs(loader(seed=1), 2))[:3], steps[3:]
    assert [own for _, _, own, _ in first] != [own for _, _, own, _ in second]
    assert epochs(loader(seed=1), 2) == steps
    assert epochs(loader(seed=2)) != first


@given(st.integers(0, 8))
def test_a_state_continues_anywhere_with_the_same_spares(stop):
    expected = epochs(loader(), 4)
    running, seen = loader(), []
    while len(seen) < stop:
        for batch in running:
            seen.append((batch.epoch, batch.index, keys(batch.prompts), keys(batch.spares)))
            if len(seen) == stop:
                break
    resumed = loader()
    resumed.load_state_dict(running.state_dict())
    while len(seen) < 12:
        seen += epochs(resumed)
    assert seen[:12] == expected


@given(st.integers(1, 20), st.integers(1, 6), st.sampled_from([None, 0, 7]))
def test_spares_are_everything_but_the_steps_own(n, per_step, seed):
    for _, _, own, spares in epochs(loader(n, per_step, seed=seed), 2):
        assert sorted(own + spares) == list(range(100, 100 + n))


@pytest.mark.parametrize("seed", [None, 0])
def test_spares_come_in_an_order_of_their_own_in_every_step(seed):
    found = [spares for _, _, _, spares in epochs(loader(40, 8, seed=seed), 2)]
    assert len({tuple(s) for s in found}) == len(found)
    assert sorted(found[0]) != found[0]
    firsts = {s[0] for s in found}
    assert len(firsts) > len(found) // 2  # not always the same ones stand in
    assert epochs(loader(40, 8, seed=seed), 2) == epochs(loader(40, 8, seed=seed), 2)


def test_spares_are_taken_in_turn():
    (batch,) = islice(loader(), 1)
    taken = keys(islice(batch.spares, 2)) + keys(islice(batch.spares, 10))
    assert sorted(taken + keys(batch.prompts)) == list(range(100, 110))


def test_every_rank_sees_the_same_step():
    ranks = [epochs(loader(rank=rank, world_size=2), 2) for rank in (0, 1)]
    assert ranks[0] == ranks[1] == epochs(loader(), 2)


def test_a_remainder_smaller_than_the_ranks_joins_the_last_step():
    assert [len(own) for _, _, own, _ in epochs(loader(9, world_size=2))] == [4, 5]
    with pytest.raises(UserError, match="prompts_per_step=1 is fewer than the 2 ranks"):
        loader(per_step=1, world_size=2)
    with pytest.raises(UserError, match="no examples"):
        loader(0)


def test_the_fingerprint_names_keys_tokens_and_answers_in_order():
    first = prompt(100)
    changes = {
        "key": replace(first, key=99),
        "tokens": replace(first, ids=np.array([1, 2, 3], np.int32)),
        "fewer tokens": replace(first, ids=first.ids[:2]),
        "answer": prompt(100, "5"),
        "surrogate": prompt(100, "\ud800"),
    }
    rest = [prompt(101), prompt(102)]
    named = {name: PromptList([other, *rest]).fingerprint for name, other in changes.items()}
    named |= {"same": prompts(3).fingerprint, "order": PromptList([rest[0], first, rest[1]]).fingerprint}
    named["shorter"] = prompts(2).fingerprint
    assert len(set(named.values())) == len(named)
    assert PromptList([first, *rest]).fingerprint == named["same"]


@pytest.mark.parametrize(
    ("other", "named"),
    [(loader(11), "fingerprint"), (loader(per_step=5), "prompts_per_step"), (loader(seed=9), "seed")],
)
def test_a_state_of_other_data_is_refused(other, named):
    with pytest.raises(UserError, match=named):
        other.load_state_dict(loader().state_dict())


def test_another_budget_or_number_of_ranks_may_resume():
    PromptLoader(prompts(), 4, 64, rank=1, world_size=2, min_shared=3).load_state_dict(loader().state_dict())


def test_what_is_handed_on_and_views():
    source, _ = split(prompts(), 0, 4, seed=0)
    made = PromptLoader(source, 2, 77, min_shared=5)
    batch = next(iter(made))
    assert (batch.tokens_per_micro, batch.min_shared) == (77, 5)
    assert batch.load_seconds > 0
    assert sorted(keys(batch.prompts) + keys(batch.spares)) == sorted(source[i].key for i in range(4))
