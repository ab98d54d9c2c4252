"""Keys and values of rows being generated, as a layout that attention layers ask.

A row's keys lie in up to three places: the prefix common to all prompts (kept once), the rest of its prompt (kept
once for all samples of that prompt) and its own tokens. Each is one attention that also returns its log-sum-exp, and
the parts are merged exactly. Rows of a store start together, so they always have equally many tokens of their own and
those need no mask. Paging, quantised keys and moving keys off the device are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..ops.attention import AttentionOptions, Layout, tree_attention
from ..ops.tree_attention import flash
from ..types import TreeLayout

MIN_ROOT = 32
"""A common prefix shorter than this is kept with each prompt: a third part costs more than it saves."""

FIRST_CAPACITY = 32
"""Own tokens per row that are allocated first; doubled when full, up to the most there can be."""

Pair = tuple[Tensor, Tensor]  # keys and values


@dataclass
class LayerStore:
    """One layer's keys and values.

    Args:
        root: prompt tokens kept in ``shared``.
        shared: (1, Hkv, root, D) x 2, or None.
        prompts: (P, Hkv, L, D) x 2, the rest of each prompt, padded on the right.
        own: (R, Hkv, capacity, D) x 2, the generated tokens.
    """

    root: int
    shared: Pair | None
    prompts: Pair
    own: Pair


class KVStore:
    """The store of one group of rows. Use: `prefill` passes, then per token `advance`, a decoder call, perhaps `drop`.

    Args:
        prompts: distinct prompts, (T,) token ids each; sorted by their tokens.
        owners: for each row the index of its prompt.
        max_new: most tokens a row can get.
        device: where the layers are called.
    """

    def __init__(
        self, prompts: Sequence[np.ndarray], owners: Sequence[int], max_new: int, device: torch.device
    ) -> None:
        self.lengths = [len(p) for p in prompts]
        self.owners = list(owners)
        self.max_new, self.device = max_new, device
        self.generated = 0
        self.layers: dict[int, LayerStore] = {}
        self.root = _common_prefix(prompts) if len(prompts) > 1 else 0
        if self.root < MIN_ROOT:
            self.root = 0
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}
        self._group()

    def prefill(self, layout: TreeLayout, places: list[np.ndarray], first: int) -> Layout:
        """The layout of a decoder call over prompts ``first``.. packed as ``layout``; it fills the store on the way.

        Args:
            places: for each of those prompts the flat index of each of its tokens.
        """
        return _Prefill(self, layout, places, first)

    def advance(self) -> None:
        """Make room for one more token per row; call it before each decoder call."""
        self.generated += 1
        self._masks = {key: mask for key, mask in self._masks.items() if key[1] is None}
        rows = len(self.owners)
        for layer in self.layers.values():
            capacity = layer.own[0].shape[2]
            if self.generated > capacity:
                more = min(self.max_new, max(FIRST_CAPACITY, 2 * capacity))
                layer.own = tuple(_grown(x[:rows, :, :capacity], more) for x in layer.own)  # type: ignore[assignment]

    def drop(self, ended: Iterable[int]) -> list[int]:
        """Forget rows. The last rows move into the gaps, so only those are copied.

        Returns:
            The former index of each remaining row.
        """
        order, moves = _fill_gaps(len(self.owners), set(ended))
        for layer in self.layers.values():
            _move(layer.own, moves, self.generated)
        owners = [self.owners[i] for i in order]
        slots, moves = _fill_gaps(len(self.lengths), set(range(len(self.lengths))) - set(owners))
        for layer in self.layers.values():
            _move(layer.prompts, moves, layer.prompts[0].shape[2])
        self.lengths = [self.lengths[i] for i in slots]
        place = {slot: i for i, slot in enumerate(slots)}
        self.owners = [place[i] for i in owners]
        self._masks = {}
        if self.owners:
            self._group()
        return order

    def _group(self) -> None:
        """Lay the rows out as a grid (prompts x rows of each, padded) so that one call serves all prompts."""
        members: list[list[int]] = [[] for _ in self.lengths]
        for row, owner in enumerate(self.owners):
            members[owner].append(row)
        width = max(map(len, members))
        grid = [row for rows in members for row in rows + rows[:1] * (width - len(rows))]
        self._grid = self._cell = None
        if grid != list(range(len(self.owners))):
            cell = [0] * len(self.owners)
            for prompt, rows in enumerate(members):
                for column, row in enumerate(rows):
                    cell[row] = prompt * width + column
            self._grid = torch.tensor(grid, device=self.device)
            self._cell = torch.tensor(cell, device=self.device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        """Attention of each row's newest token to all of its row: (1, H, R, D), (1, Hkv, R, D) x 2 -> (1, H, R, D)."""
        store, rows, now = self.layers[layer], len(self.owners), self.generated
        kind = query.dtype
        query, key, value = (x.to(store.own[0].dtype) for x in (query, key, value))
        q = query[0].transpose(0, 1)  # (R, H, D)
        for buffer, new in zip(store.own, (key, value), strict=True):
            buffer[:rows, :, now - 1] = new[0].transpose(0, 1)
        window = options.window
        seen = 0 if window is None else max(0, now - window)
        k, v = (x[:rows, :, seen:now] for x in store.own)
        out, lse = grouped_attention(q, k, v, None, options)
        if window is None or window > now:
            out, lse = _merge(out, lse, *self._attend_prompts(q, store, options))
            if store.shared is not None:
                out, lse = _merge(out, lse, *grouped_attention(q, *store.shared, None, options))
        if options.sinks is not None:  # a sink is a part with a score and no value
            out = out * torch.sigmoid(lse - options.sinks.to(lse.dtype))[..., None].to(out.dtype)
        return out.transpose(0, 1)[None].to(kind)

    def _attend_prompts(self, q: Tensor, store: LayerStore, options: AttentionOptions) -> Pair:
        longest = max(self.lengths) - store.root
        k, v = (x[: len(self.lengths), :, :longest] for x in store.prompts)
        mask = self._mask(store.root, options.window, q.dtype)
        if self._grid is None or self._cell is None:
            return grouped_attention(q, k, v, mask, options)
        out, lse = grouped_attention(q.index_select(0, self._grid), k, v, mask, options)
        return out.index_select(0, self._cell), lse.index_select(0, self._cell)

    def _mask(self, root: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """(P, 1, 1, L) additive: what each prompt's rows see of it, or None when that is everything."""
        if (root, window) not in self._masks:
            lengths = torch.tensor(self.lengths, device=self.device)[:, None]
            place = torch.arange(root, max(self.lengths), device=self.device)[None]
            seen = place < lengths
            if window is not None:
                seen &= place >= lengths + self.generated - window
            mask = torch.zeros(seen.shape, dtype=dtype, device=self.device).masked_fill_(~seen, -torch.inf)
            self._masks[root, window] = None if bool(seen.all()) else mask[:, None, None]
        return self._masks[root, window]


class _Prefill:
    """`tree_attention` over packed prompts that also keeps their keys and values."""

    def __init__(self, store: KVStore, layout: TreeLayout, places: list[np.ndarray], first: int) -> None:
        self.store, self.layout, self.first = store, layout, first
        longest = max(store.lengths)
        padded = np.stack([np.pad(p, (0, longest - len(p))) for p in places])
        self.place = torch.from_numpy(padded).to(store.device)  # (prompts of this pass, longest of all)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        store, keep = self.store, (_wide(key), _wide(value))
        if layer not in store.layers:
            longest = max(store.lengths)
            # rows see different parts of a common prefix through a window, so such a layer keeps it with each prompt
            sees_all = options.window is None or options.window >= longest + store.max_new
            root = store.root if sees_all else 0
            size = (len(store.lengths), longest - root)
            store.layers[layer] = LayerStore(
                root=root,
                shared=_both(lambda x: x[:, :, self.place[0, :root]], *keep) if root else None,
                prompts=_both(lambda x: x.new_empty(size[0], x.shape[1], size[1], x.shape[3]), *keep),
                own=_both(lambda x: x.new_empty(len(store.owners), x.shape[1], 0, x.shape[3]), *keep),
            )
        kept = store.layers[layer]
        place = self.place[:, kept.root :]
        for buffer, new in zip(kept.prompts, keep, strict=True):
            taken = new[0][:, place]  # (Hkv, prompts, L, D)
            buffer[self.first : self.first + len(place)] = taken.transpose(0, 1)
        return tree_attention(query, key, value, self.layout, options)


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: AttentionOptions
) -> Pair:
    """Attention of single tokens to keys that consecutive ones share, with its log-sum-exp; no window, no sinks.

    Args:
        query: (B * n, H, D); key, value: (B, Hkv, K, D): n consecutive queries see the same keys.
        mask: (B, 1, 1, K) additive, or None.

    Returns:
        (B * n, H, D) and (B * n, H).
    """
    groups, kv_heads = key.shape[:2]
    (rows, heads, _), ratio = query.shape, query.shape[1] // kv_heads
    each = rows // groups
    # Queries that share a key head go into one product where there are enough of them; flash attention on CPU is
    # otherwise faster with one call per head.
    joined = each * ratio >= 4 or key.device.type != "cpu"
    split = (groups, each, kv_heads, ratio, -1)
    if joined:
        q = query.view(split).permute(0, 2, 1, 3, 4).reshape(groups, kv_heads, each * ratio, -1)
    else:
        q = query.view(groups, each, heads, -1).transpose(1, 2)
    if q.device.type == "cpu" and options.softcap is None and key.shape[-1] == value.shape[-1]:
        out, lse = flash(q, key, value, 0.0, False, attn_mask=mask, scale=options.scale)
    else:
        out, lse = _plain(q, key, value, mask, options)
    if joined:
        out = out.view(groups, kv_heads, each, ratio, -1).permute(0, 2, 1, 3, 4)
        lse = lse.view(groups, kv_heads, each, ratio).transpose(1, 2)
    else:
        out, lse = out.transpose(1, 2), lse.transpose(1, 2)
    return out.reshape(rows, heads, -1), lse.reshape(rows, heads)


def _wide(x: Tensor) -> Tensor:
    """bfloat16 as float32 on CPUs: attention of single tokens in it takes them several times as long."""
    return x.float() if x.device.type == "cpu" and x.dtype == torch.bfloat16 else x


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: AttentionOptions) -> Pair:
    """The same without a kernel: (B, H, Q, D), (B, Hkv, K, D) x 2 -> (B, H, Q, D), (B, H, Q), on any device."""
    groups, heads, length, _ = query.shape
    q = query.reshape(groups, key.shape[1], -1, query.shape[-1])
    scores = q @ key.transpose(-1, -2)
    scores = (scores if scores.dtype == torch.float64 else scores.float()) * options.scale
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    if mask is not None:
        scores = scores + mask
    out = scores.softmax(-1).to(value.dtype) @ value
    return out.reshape(groups, heads, length, -1), scores.logsumexp(-1).reshape(groups, heads, length)


def _merge(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> Pair:
    """Softmax over the union of two parts' keys: (R, H, D), (R, H) of each."""
    share = torch.sigmoid(other_lse - lse)
    return torch.lerp(out, other, share[..., None].to(out.dtype)), torch.logaddexp(lse, other_lse)


def _common_prefix(prompts: Sequence[np.ndarray]) -> int:
    """Tokens with which all of them start, short of a whole prompt. Sorted prompts: the first and last decide."""
    first, last = prompts[0], prompts[-1]
    n = min(len(p) for p in prompts) - 1
    differ = first[:n] != last[:n]
    return int(differ.argmax()) if differ.any() else n


def _fill_gaps(count: int, gone: set[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Former index of each of the remaining, and the (to, from) moves that get them there."""
    left = count - len(gone)
    gaps = [i for i in range(left) if i in gone]
    movers = [i for i in range(left, count) if i not in gone]
    order = list(range(left))
    for gap, mover in zip(gaps, movers, strict=True):
        order[gap] = mover
    return order, list(zip(gaps, movers, strict=True))


def _move(pair: Pair, moves: list[tuple[int, int]], length: int) -> None:
    for buffer in pair:
        for to, source in moves:
            buffer[to, :, :length] = buffer[source, :, :length]


def _grown(old: Tensor, capacity: int) -> Tensor:
    new = old.new_empty(old.shape[0], old.shape[1], capacity, old.shape[3])
    new[:, :, : old.shape[2]] = old
    return new


def _both(function: Callable[[Tensor], Tensor], key: Tensor, value: Tensor) -> Pair:
    return function(key), function(value)
