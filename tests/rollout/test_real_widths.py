"""The sampler at the widths of real models, where layers choose other products: against transformers' own forward."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from lightning_posttrain.ops.attention import AttentionOptions
from lightning_posttrain.rollout.kv_store import grouped_attention
from lightning_posttrain.rollout.sampler import SamplingParams, generate

VOCAB = 499


def build(hidden, heads, kv_heads, layers=2, dtype=torch.float32, kind="llama", head_dim=None):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim or hidden // heads,
        max_position_embeddings=256,
        initializer_range=1.5 * hidden**-0.5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return AutoModelForCausalLM.from_config(config).to(dtype).eval()


def make_prompts(*sizes, shared=0):
    rng = np.random.default_rng(0)
    common = rng.integers(3, VOCAB, shared).tolist()
    return [common + rng.integers(3, VOCAB, n).tolist() for n in sizes]


def sample(model, prompts, **options):
    temperature, n = options.pop("temperature", 0.0), options.pop("n", 1)
    params = SamplingParams(max_new_tokens=options.pop("max_new", 12), temperature=temperature)
    return generate(model, prompts, params, [], str, n=n, **options)


def worst_gap(model, prompts, groups):
    """Largest difference between the sampler's log-probs and those of an ordinary forward of each whole row."""
    worst = 0.0
    for prompt, group in zip(prompts, groups, strict=True):
        ids = torch.tensor([[*prompt, *c.tokens] for c in group])
        with torch.no_grad():
            logps = model(ids).logits[:, len(prompt) - 1 : -1].float().log_softmax(-1)
        expected = logps.gather(-1, ids[:, len(prompt) :, None])[..., 0]
        worst = max(worst, (expected - torch.tensor([c.logprobs for c in group])).abs().max().item())
    return worst


@pytest.mark.parametrize("kind", ["llama", "qwen3", "olmo2"])
@pytest.mark.parametrize("sizes", [(3, 10, 17, 6), (1, 1, 1, 1), (5,), tuple(range(1, 13))])
@pytest.mark.parametrize("shared", [0, 100])
def test_greedy_equals_transformers(kind, shared, sizes):
    model, prompts = build(576, 9, 3, kind=kind), make_prompts(*sizes, shared=shared)
    expected = []
    for prompt in prompts:
        out = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None)
        expected.append(tuple(out[0, len(prompt) :].tolist()))
    for layout in ({}, {"max_rows": 3}, {"max_tokens": 7}):
        assert [c.tokens for (c,) in sample(model, prompts, **layout)] == expected
    assert len({token for row in expected for token in row}) > 5  # no loop over a few tokens


@st.composite
def shapes(draw):
    """Hidden size, heads, key heads: odd counts, any grouping, weights on both sides of where products change."""
    kv_heads, group = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    heads = kv_heads * group
    size = draw(st.sampled_from([d for d in (8, 16, 24, 40, 64, 96, 128) if d * heads <= 1024] or [8]))
    return heads * size, heads, kv_heads


ROWS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 11, 16, 17, 32, 33])


@settings(max_examples=40)
@given(shapes(), ROWS, st.integers(1, 3), st.sampled_from([0, 40]), st.sampled_from([torch.float32, torch.bfloat16]))
def test_logprobs_are_those_of_an_ordinary_forward(shape, rows, count, shared, dtype):
    model = build(*shape, layers=1, dtype=dtype)
    prompts = make_prompts(*range(1, count + 1), shared=shared)
    groups = sample(model, prompts, n=rows, temperature=1.0, max_new=4)
    assert worst_gap(model, prompts, groups) < (1e-4 if dtype == torch.float32 else 0.15)


@settings(max_examples=60)
@given(shapes(), st.integers(1, 9), st.integers(1, 3), st.sampled_from(["q", "k", "v", "qkv"]), st.booleans())
def test_memory_layout_of_queries_keys_and_values_changes_nothing(shape, each, groups, turned, narrow):
    hidden, heads, kv_heads = shape
    size, dtype = hidden // heads, torch.bfloat16 if narrow else torch.float32
    torch.manual_seed(0)
    parts = {
        "q": torch.randn(groups * each, heads, size, dtype=dtype),
        "k": torch.randn(groups, kv_heads, 5, size, dtype=dtype),
        "v": torch.randn(groups, kv_heads, 5, size, dtype=dtype),
    }
    expected = grouped_attention(*parts.values(), None, AttentionOptions(0.2))
    other = {k: x.mT.contiguous().mT if k in turned else x for k, x in parts.items()}
    for found, right in zip(grouped_attention(*other.values(), None, AttentionOptions(0.2)), expected, strict=True):
        assert torch.equal(found, right)
