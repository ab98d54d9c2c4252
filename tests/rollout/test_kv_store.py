"""The store against plain masked attention over each row's concatenated keys: any layer, any grouping, any dropping."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_posttrain.batching.tree import build_forest
from lightning_posttrain.ops.attention import AttentionOptions, masked_attention
from lightning_posttrain.rollout import kv_store
from lightning_posttrain.rollout.kv_store import KVStore, _fill_gaps, _plain, grouped_attention

D = 8
CPU = torch.device("cpu")


def tokens(*sizes: int, shared: int = 0) -> list[np.ndarray]:
    """Prompts of those sizes, sorted, that start with ``shared`` common tokens."""
    rng = np.random.default_rng(0)
    head = rng.integers(100, 200, shared)
    rows = [np.concatenate([head, [first], rng.integers(0, 99, n - shared - 1)]) for first, n in enumerate(sizes)]
    return [row.astype(np.int32) for row in rows]


class Twin:
    """A store beside plain lists of every row's keys and values."""

    def __init__(self, prompts, owners, max_new, heads, kv_heads, options, passes=1):
        self.rng = torch.Generator().manual_seed(0)
        self.heads, self.kv_heads, self.options = heads, kv_heads, options
        self.store = KVStore(prompts, owners, max_new, CPU)
        self.rows: list = []
        for part in np.array_split(np.arange(len(prompts)), passes):
            _, positions, layout, places = build_forest([prompts[i] for i in part])
            q, k, v = self.new(positions.shape[1])
            if self.rows:  # what a shared prefix holds does not depend on the pass
                k[:, :, : self.store.root], v[:, :, : self.store.root] = self.head
            self.head = k[:, :, : self.store.root], v[:, :, : self.store.root]
            self.store.prefill(layout, places, int(part[0])).attend(0, q, k, v, options)
            self.rows += [[k[:, :, place], v[:, :, place]] for place in map(torch.from_numpy, places)]
        self.rows = [list(self.rows[owner]) for owner in owners]

    def new(self, count):
        sizes = (self.heads, self.kv_heads, self.kv_heads)
        return [torch.randn(1, h, count, D, generator=self.rng, dtype=torch.float64) for h in sizes]

    def step(self):
        """The largest difference of one step."""
        q, k, v = self.new(len(self.rows))
        self.store.advance()
        got = self.store.attend(0, q, k, v, self.options)
        worst = 0.0
        for i, row in enumerate(self.rows):
            row[0], row[1] = (torch.cat([old, x[:, :, i : i + 1]], 2) for old, x in zip(row, (k, v), strict=True))
            length = row[0].shape[2]
            seen = torch.arange(length)[None] > length - 1 - (self.options.window or length)
            groups = self.heads // self.kv_heads
            wide = [x.repeat_interleave(groups, 1) for x in row]
            expected = masked_attention(q[:, :, i : i + 1], *wide, seen, self.options)
            worst = max(worst, (got[:, :, i : i + 1] - expected).abs().max().item())
        return worst

    def drop(self, ended):
        self.rows = [self.rows[i] for i in self.store.drop(ended)]


SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, 1.5])


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize(
    "options",
    [
        AttentionOptions(0.3),
        AttentionOptions(0.3, window=4),
        AttentionOptions(0.3, window=50),
        AttentionOptions(0.3, softcap=1.5),
        AttentionOptions(0.3, sinks=SINKS),
        AttentionOptions(0.3, window=6, softcap=1.5, sinks=SINKS),
    ],
)
@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 6), (6, 3), (6, 1)])
def test_equals_plain_attention(options, shared, heads, kv_heads, monkeypatch):
    monkeypatch.setattr(kv_store, "FIRST_CAPACITY", 3)  # the buffers grow within the test
    prompts = tokens(*(shared + n for n in (5, 1, 17, 9)), shared=shared)
    twin = Twin(prompts, [0, 0, 0, 1, 2, 2, 3, 3], 20, heads, kv_heads, options, passes=2)
    tolerance = 1e-6 if options.softcap or options.sinks is not None else 1e-12  # the check itself is float32 there
    for ended in ([], [], [3], [], [0, 6], [], [], [4, 1], [], [0], []):
        assert twin.step() < tolerance
        twin.drop(ended)
    assert twin.step() < tolerance
    assert len(twin.store.lengths) == len(set(twin.store.owners)) < len(prompts)  # prompts without rows are gone


def test_common_prefix_is_kept_once_but_leaves_every_prompt_a_token():
    prompts = tokens(60, 45, shared=40)
    options = AttentionOptions(0.3)
    twin = Twin(prompts, [0, 1], 4, 2, 2, options)
    assert twin.store.root == 40
    assert twin.store.layers[0].prompts[0].shape[2] == 20
    windowed = Twin(prompts, [0, 1], 4, 2, 2, replace(options, window=30))
    assert windowed.store.layers[0].shared is None
    whole = [prompts[0][:40], prompts[0]]  # one prompt is the beginning of the other
    assert Twin(whole, [0, 1], 4, 2, 2, options).store.root == 39
    assert Twin(whole, [0, 1], 4, 2, 2, options).step() < 1e-12


def test_kernel_and_plain_path_agree():
    options = AttentionOptions(0.4)
    q, k, v = torch.randn(6, 4, D), torch.randn(3, 2, 11, D), torch.randn(3, 2, 11, D)
    mask = torch.zeros(3, 1, 1, 11)
    mask[1, ..., 5:] = -torch.inf
    out, lse = grouped_attention(q, k, v, mask, options)
    joined = q.view(3, 2, 2, 2, D).permute(0, 2, 1, 3, 4).reshape(3, 2, 4, D)
    plain, plain_lse = _plain(joined, k, v, mask, options)
    plain = plain.view(3, 2, 2, 2, D).permute(0, 2, 1, 3, 4).reshape(6, 4, D)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(lse, plain_lse.view(3, 2, 2, 2).transpose(1, 2).reshape(6, 4))


def test_gaps_are_filled_from_the_end():
    assert _fill_gaps(5, set()) == ([0, 1, 2, 3, 4], [])
    assert _fill_gaps(5, {1, 4}) == ([0, 3, 2], [(1, 3)])
    assert _fill_gaps(3, {0, 1, 2}) == ([], [])
