"""Cut one optimizer step's examples into micro-batches of bounded, balanced cost.

Examples are sorted by their tokens, so those that share a prefix end up in the same micro-batch; the sorted list is
then cut into consecutive groups so that the largest group is as small as it can be. The loss of a step does not
depend on any of this (tests/equivalence), only its time and memory do. Where there are too few examples for every rank
to get as many groups within the limit, some get an empty one, for which a loader puts an idle micro-batch.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TypeVar

from ..types import Example, Sequence, UserError
from .tree import common_prefix, distinct_tokens, sort_key

Item = TypeVar("Item")


def cut_step(
    examples: list[Example], tokens_per_micro: int, world_size: int, min_shared: int
) -> list[list[list[Example]]]:
    """Split a step's examples into micro-batches for every rank.

    Args:
        examples: the step's examples, all ranks together.
        tokens_per_micro: most distinct tokens in a micro-batch.
        world_size: number of ranks; each gets the same number of micro-batches, of which the last may be empty.
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
    limit = tokens_per_micro
    while True:
        count = len(_greedy(own, gain, limit))
        even = -(-count // world_size) * world_size
        sizes = _balanced(own, gain, min(even, len(examples)), limit)
        groups = _parts(ordered, sizes)
        nested = [g for g, saved in zip(groups, _parts(gain, sizes), strict=True) if _is_nested(g, saved)]
        over = max((distinct_tokens([s for e in g for s in e], min_shared) for g in nested), default=0)
        if over <= tokens_per_micro:
            break
        limit -= over - tokens_per_micro
    groups.sort(key=lambda g: -sum(len(s.ids) for e in g for s in e))
    groups += [[]] * (even - len(groups))
    return [groups[rank::world_size] for rank in range(world_size)]


def _balanced(own: list[int], gain: list[int], count: int, limit: int) -> list[int]:
    """Sizes of ``count`` groups of at most ``limit`` tokens, the largest of which is as small as it can be."""
    low, high = min(max(own), limit), limit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_greedy(own, gain, middle)) <= count else (middle + 1, high)
    return _exactly(count, _greedy(own, gain, low))


def _parts(items: list[Item], sizes: list[int]) -> list[list[Item]]:
    return [items[stop - size : stop] for size, stop in zip(sizes, accumulate(sizes), strict=True)]


def _is_nested(group: list[Example], saved: list[int]) -> bool:
    """Whether prefixes may lie within others, too closely for both to be shared: they save less than they promise."""
    return any(len(example) > 1 for example in group) or len(set(saved[1:]) - {0}) > 1


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
