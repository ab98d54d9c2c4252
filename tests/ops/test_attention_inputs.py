"""The attention kernels get what they assume, whatever the strides, widths and head counts of what comes in."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_posttrain.ops.attention import AttentionOptions, tree_attention, tree_attention_by_node
from lightning_posttrain.ops.tree_attention import flash
from lightning_posttrain.types import TreeLayout

VIEWS = {
    "plain": lambda x: x.clone(),
    "heads first in memory": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "numbers apart": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every second number": lambda x: torch.stack([x, x + 1], -1).flatten(-2)[..., ::2],
    "cut from a longer head": lambda x: torch.cat([x, x, x], -1)[..., x.shape[-1] : 2 * x.shape[-1]],
    "one head for all": lambda x: x[:, :1].expand_as(x),
    "one number for all": lambda x: x[..., :1].expand_as(x),
    "one token for all": lambda x: x[:, :, :1].expand_as(x),
    "one number": lambda x: x.flatten()[:1].view(1, 1, 1, 1).expand_as(x),
}


def tree(lengths: tuple[int, ...]) -> TreeLayout:
    """A root, children of it, and a last tree of its own."""
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    total, last = sum(lengths), len(lengths) - 1
    parents = tuple(-1 if i in (0, last) else 0 for i in range(len(lengths)))
    positions = tuple(0 if parent < 0 else lengths[0] for parent in parents)
    ends = [starts[i] + lengths[i] for i in range(len(lengths))]
    if last > 0:
        ends[0] = starts[last]
    assert ends[-1] == total
    return TreeLayout(tuple(starts), lengths, parents, positions, tuple(ends))


def results(attention, inputs: list[Tensor], upstream: Tensor, layout: TreeLayout, scale: float) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = attention(*leaves, layout, AttentionOptions(scale))
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


@settings(max_examples=60)
@given(
    head=st.sampled_from([1, 3, 8, 12, 16, 64, 72, 80, 128]),
    kv=st.integers(1, 9),
    groups=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    views=st.tuples(*[st.sampled_from(sorted(VIEWS))] * 4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    value_head=st.sampled_from([None, 5, 64]),
    seed=st.integers(0, 100),
)
def test_any_views_give_the_values_and_gradients_of_plain_copies(
    head, kv, groups, lengths, views, dtype, value_head, seed
):
    heads = kv * groups
    if head * heads > 1024:
        heads = kv = max(1, 1024 // head // 2)
    torch.manual_seed(seed)
    total, wide = sum(lengths), value_head or head
    shapes = [(heads, head), (kv, head), (kv, wide), (heads, wide)]
    drawn = [torch.randn(1, n, total, d, dtype=torch.float64).to(dtype) for n, d in shapes]
    seen = [VIEWS[name](x) for name, x in zip(views, drawn, strict=True)]
    layout = tree(tuple(lengths))
    ours = results(tree_attention, seen[:3], seen[3], layout, head**-0.5)
    copies = [x.double().contiguous() for x in seen]
    theirs = results(tree_attention_by_node, copies[:3], copies[3], layout, head**-0.5)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.06}[dtype]
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a.double() - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))


@settings(max_examples=30)
@given(
    head=st.sampled_from([4, 16, 64]),
    view=st.tuples(*[st.sampled_from(sorted(VIEWS))] * 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_flash_attention_reads_any_view(head, view, dtype):
    torch.manual_seed(0)
    seen = [VIEWS[name](torch.randn(1, 3, 7, head).to(dtype)) for name in view]
    expected = flash(*[x.contiguous() for x in seen], 0.0, True, scale=0.3)
    for a, b in zip(flash(*seen, 0.0, True, scale=0.3), expected, strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-5 if dtype == torch.float32 else 0.03)


def test_mixed_dtypes_are_refused():
    q, k = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 4, 8, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="one dtype"):
        tree_attention(q, k, k, tree((4,)), AttentionOptions(1.0))
