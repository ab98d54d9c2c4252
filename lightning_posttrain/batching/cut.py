"""Cut one optimizer step's examples into micro-batches of bounded, balanced cost.

Examples are sorted by their tokens, so those that share a prefix end up in the same micro-batch; the sorted list is
then cut into consecutive groups so that the largest group is as small as it can be. The loss of a step does not
depend on any of this (tests/equivalence), only its time and memory do.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

from ..types import Example, Sequence, UserError
from .tree import common_prefix, sort_key


def distinct_tokens(sequences: list[Sequence], min_shared: int) -> int:
    """Tokens the decoder sees when ``sequences`` share their prefixes (an upper bound for nested short ones)."""
    ordered = sorted(sequences, key=sort_key)
    saved = (_shared(a, b, min_shared) for a, b in pairwise(ordered))
    return sum(len(s.ids) - 1 for s in sequences) - sum(saved)


def cut_step(
    examples: list[Example], tokens_per_micro: int, world_size: int, min_shared: int
) -> list[list[list[Example]]]:
    """Split a step's examples into micro-batches for every rank.

    Args:
        examples: the step's examples, all ranks together.
        tokens_per_micro: most distinct tokens in a micro-batch.
        world_size: number of ranks; each gets the same number of micro-batches.
        min_shared: shortest common prefix that is shared.

    Returns:
        ``[rank][micro] -> examples``.

    Raises:
        UserError: an example alone exceeds ``tokens_per_micro``, or there are fewer examples than ranks.
    """
    ordered = sorted(examples, key=lambda e: sort_key(e[0]))
    own = [distinct_tokens(list(e), min_shared) for e in ordered]
    for example, cost in zip(ordered, own, strict=True):
        if cost > tokens_per_micro:
            raise UserError(
                f"{example[0].origin or example[0].id}: the example has {cost} tokens, more than "
                f"tokens_per_micro={tokens_per_micro}; raise tokens_per_micro or lower max_length"
            )
    if len(examples) < world_size:
        raise UserError(
            f"a step has {len(examples)} examples for {world_size} ranks; raise examples_per_step or use fewer ranks"
        )
    gain = [0] + [_shared(a[0], b[0], min_shared) for a, b in pairwise(ordered)]
    count = len(_greedy(own, gain, tokens_per_micro))
    count = min(-(-count // world_size) * world_size, len(examples) // world_size * world_size)
    low, high = max(own), max(sum(own), 1)
    while low < high:  # the smallest capacity that still gives at most `count` groups
        middle = (low + high) // 2
        low, high = (low, middle) if len(_greedy(own, gain, middle)) <= count else (middle + 1, high)
    sizes = _exactly(count, _greedy(own, gain, low))
    stops = list(accumulate(sizes))
    groups = [ordered[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)]
    groups.sort(key=lambda g: -sum(len(s.ids) for e in g for s in e))
    return [groups[rank::world_size] for rank in range(world_size)]


def _shared(a: Sequence, b: Sequence, min_shared: int) -> int:
    n = common_prefix(a, b)
    return n if n >= min_shared else 0


def _greedy(own: list[int], gain: list[int], capacity: int) -> list[int]:
    """Group sizes when consecutive examples are added until the next would exceed ``capacity`` tokens."""
    sizes, used = [0], 0
    for cost, saved in zip(own, gain, strict=True):
        more = cost - saved if sizes[-1] else cost
        if sizes[-1] and used + more > capacity:
            sizes.append(0)
            used, more = 0, cost
        sizes[-1] += 1
        used += more
    return sizes


def _exactly(count: int, sizes: list[int]) -> list[int]:
    """Halve the largest groups until there are ``count``, so that every rank gets as many."""
    while len(sizes) < count:
        at = max(range(len(sizes)), key=lambda i: sizes[i])
        sizes[at : at + 1] = [sizes[at] // 2, sizes[at] - sizes[at] // 2]
    return sizes
