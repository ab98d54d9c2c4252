"""Examples -> one micro-batch: sequences that start with the same tokens share them, found by sorting, at any depth.

The last token of a sequence is only ever a target, so it is not fed to the decoder. Sharing is found, never declared:
a system prompt, a label list, a DPO prompt and GRPO's completions all look alike here.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..types import Example, MicroBatch, Sequence, TreeLayout, UserError

MIN_SHARED = 16
"""Shorter common prefixes are run twice: another node costs more than it saves."""


def sort_key(sequence: Sequence) -> bytes:
    """Big-endian bytes compare like the token ids themselves, so sorting puts common prefixes side by side."""
    return sequence.ids.astype(">u4").tobytes()


def common_prefix(a: Sequence, b: Sequence) -> int:
    """Number of input tokens (all but the last) with which both sequences start."""
    n = min(len(a.ids), len(b.ids)) - 1
    differ = a.ids[:n] != b.ids[:n]
    return int(differ.argmax()) if differ.any() else n


class _Forest:
    """Nodes as they are laid out; ``place[s]`` collects the flat index of each input token of sequence s."""

    def __init__(self, sequences: list[Sequence], min_shared: int) -> None:
        self.sequences = sequences
        self.starts: list[int] = []
        self.lengths: list[int] = []
        self.parents: list[int] = []
        self.positions: list[int] = []
        self.tokens: list[np.ndarray] = []
        self.place: list[list[np.ndarray]] = [[] for _ in sequences]
        order = sorted(range(len(sequences)), key=lambda s: sort_key(sequences[s]))
        shared = [0] + [common_prefix(sequences[a], sequences[b]) for a, b in pairwise(order)]
        stack = [(order, shared, 0, -1)]  # members, their common prefix with the one before, depth, parent node
        while stack:
            members, shared, depth, parent = stack.pop()
            cuts = [i for i in range(len(members)) if i == 0 or shared[i] < depth + min_shared] + [len(members)]
            for lo, hi in reversed(list(pairwise(cuts))):
                if len(cuts) > 2:  # siblings: each is laid out with its whole subtree before the next
                    stack.append((members[lo:hi], [0, *shared[lo + 1 : hi]], depth, parent))
                    continue
                end = min(shared[1:hi]) if hi > 1 else len(sequences[members[0]].ids) - 1
                node = self._add(members, depth, end, parent)
                if hi > 1:
                    stack.append((members, shared, end, node))

    def _add(self, members: list[int], begin: int, end: int, parent: int) -> int:
        if begin == end:  # a sequence that ends where its parent does adds nothing
            return parent
        start = self.starts[-1] + self.lengths[-1] if self.starts else 0
        self.starts.append(start)
        self.lengths.append(end - begin)
        self.parents.append(parent)
        self.positions.append(begin)
        self.tokens.append(self.sequences[members[0]].ids[begin:end])
        for member in members:
            self.place[member].append(np.arange(start, start + end - begin))
        return len(self.starts) - 1

    def layout(self) -> TreeLayout:
        ends = [s + n for s, n in zip(self.starts, self.lengths, strict=True)]
        for node in reversed(range(len(ends))):
            if self.parents[node] >= 0:
                ends[self.parents[node]] = max(ends[self.parents[node]], ends[node])
        return TreeLayout(*map(tuple, (self.starts, self.lengths, self.parents, self.positions, ends)))


def distinct_tokens(sequences: list[Sequence], min_shared: int) -> int:
    """Tokens the decoder sees when ``sequences`` share their prefixes."""
    if len(sequences) == 1:
        return len(sequences[0].ids) - 1
    return sum(_Forest(sequences, min_shared).lengths)


def collate_idle(example: Example) -> MicroBatch:
    """The first two tokens of each sequence of ``example``, as a micro-batch that counts nothing."""
    short = [
        replace(s, ids=s.ids[:2], supervised=np.array([False, True]), columns={k: v[:1] for k, v in s.columns.items()})
        for s in example
    ]
    return replace(collate([tuple(short)]), idle=True)


def collate_all(groups: list[list[Example]], min_shared: int, example: Example) -> list[MicroBatch]:
    """A micro-batch for each group of `cut.cut_step`, an idle one like ``example`` for an empty group."""
    return [collate(group, min_shared) if group else collate_idle(example) for group in groups]


def collate(examples: list[Example], min_shared: int = MIN_SHARED) -> MicroBatch:
    """Lay out the sequences of ``examples`` as a forest and list what is to be predicted.

    Args:
        examples: at least one; every sequence has at least two tokens, one of them supervised.
        min_shared: shortest common prefix (tokens) worth sharing; a huge number turns sharing off.

    Raises:
        UserError: naming the row with no supervised token.
        ValueError: sequences with different columns.
    """
    sequences = [s for example in examples for s in example]
    for s in sequences:
        if not s.supervised[1:].any() or s.supervised[0]:
            raise UserError(
                f"{s.origin or s.id}: no supervised token that a context predicts ({len(s.ids)} tokens); "
                "give the row a non-empty answer or remove it"
            )
    forest = _Forest(sequences, min_shared)
    layout = forest.layout()
    sources, targets, owners = [], [], []
    for index, (s, parts) in enumerate(zip(sequences, forest.place, strict=True)):
        place = np.concatenate(parts)
        at = np.flatnonzero(s.supervised)
        sources.append(place[at - 1])
        targets.append(s.ids[at].astype(np.int64))
        owners.append(np.full(len(at), index))
    names = sequences[0].columns.keys()
    if any(s.columns.keys() != names for s in sequences):
        raise ValueError("the sequences of a micro-batch have different columns")
    pairs = (np.concatenate(sources) << 32) | np.concatenate(targets)
    distinct, gather = np.unique(pairs, return_inverse=True)
    input_ids, position_ids = _flat(forest, layout)
    return MicroBatch(
        input_ids=input_ids,
        position_ids=position_ids,
        layout=layout,
        sources=torch.from_numpy(distinct >> 32),
        targets=torch.from_numpy(distinct & 0xFFFFFFFF),
        gather=torch.from_numpy(gather),
        sequence=torch.from_numpy(np.concatenate(owners)),
        lengths=torch.tensor([len(s.ids) - 1 for s in sequences]),
        examples=len(examples),
        ids=tuple(s.id for s in sequences),
        origins=tuple(s.origin for s in sequences),
        columns={name: torch.from_numpy(np.concatenate([s.columns[name] for s in sequences])) for name in names},
    )


def build_forest(
    rows: list[np.ndarray], min_shared: int = MIN_SHARED
) -> tuple[Tensor, Tensor, TreeLayout, list[np.ndarray]]:
    """Lay out token rows that are fed whole, such as prompts, sharing their common prefixes like `collate` does.

    Args:
        rows: (T,) token ids each, none empty.
        min_shared: shortest common prefix (tokens) worth sharing.

    Returns:
        input_ids and position_ids (1, N) int64, the layout of those N distinct tokens, and for each row the flat
        index (T,) of each of its tokens.
    """
    closed = [Sequence(np.append(row, 0).astype(np.int32), np.zeros(0, bool)) for row in rows]  # the last is never fed
    forest = _Forest(closed, min_shared)
    layout = forest.layout()
    return *_flat(forest, layout), layout, [np.concatenate(parts) for parts in forest.place]


def _flat(forest: _Forest, layout: TreeLayout) -> tuple[Tensor, Tensor]:
    """Token ids and positions (1, N) int64 in layout order."""
    positions = np.concatenate([np.arange(p, p + n) for p, n in zip(layout.positions, layout.lengths, strict=True)])
    ids = np.concatenate(forest.tokens).astype(np.int64)
    return torch.from_numpy(ids)[None], torch.from_numpy(positions)[None]
