"""Log-probs and entropies of the distribution that was sampled from: against the plain model row by row, its autograd,
and the sampler."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from lightning_posttrain.batching.tree import collate
from lightning_posttrain.ops.attention import plain_attention, use_layout_attention
from lightning_posttrain.ops.logprobs import token_logprobs
from lightning_posttrain.ops.policy import policy_logprobs
from lightning_posttrain.rollout.sampler import SamplingParams, generate
from lightning_posttrain.types import MicroBatch, Sequence

SIZE = {
    "vocab_size": 67,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
KINDS = {"qwen2": {}, "qwen3": {"tie_word_embeddings": True}, "granite": {"logits_scaling": 2.0}}
PLAIN = (1.0, 0, 1.0, 0.0)
TRUNCATIONS = {
    "plain": PLAIN,
    "warm": (1.7, 0, 1.0, 0.0),
    "top_k": (0.8, 20, 1.0, 0.0),
    "top_p": (1.0, 0, 0.8, 0.0),
    "min_p": (1.3, 0, 1.0, 0.3),
    "all": (1.2, 40, 0.9, 0.05),
}


def build(kind: str = "qwen2", dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZE, **KINDS[kind])).to(dtype)
    use_layout_attention(model)
    return model


def rows() -> list[Sequence]:
    """They share a prefix of 18 tokens, and two are the same; predictions lie inside the prefix, too."""
    rng = np.random.default_rng(0)
    prefix = rng.integers(1, 67, 18)
    made = [np.concatenate([prefix, rng.integers(1, 67, n)]).astype(np.int32) for n in (9, 3, 6)]
    return [Sequence(ids, np.arange(len(ids)) > 12) for ids in [*made, made[0]]]


def pack(sequences: list[Sequence]) -> MicroBatch:
    return collate([(s,) for s in sequences])


def truncated(logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    """One row's log-probs (V,), a token at a time."""
    scaled = logits / (temperature or 1.0)
    kept = sorted(range(len(scaled)), key=lambda i: -scaled[i].item())
    if temperature:
        kept = kept[: top_k or None]
        probs = scaled[kept].softmax(0).tolist()
        before = [math.fsum(probs[:i]) for i in range(len(kept))]
        kept = [token for token, mass in zip(kept, before, strict=True) if mass < top_p]
        kept = [token for token in kept if (scaled[token] - scaled[kept[0]]).exp().item() >= min_p]
    out = torch.full_like(scaled, -torch.inf)
    out[kept] = scaled[kept].log_softmax(0)
    return out


def row_by_row(model: nn.Module, sequences: list[Sequence], truncation) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies (N,) from the model as transformers runs it."""
    logps, entropies = [], []
    for s in sequences:
        with plain_attention(model):
            logits = model(torch.from_numpy(s.ids.astype(np.int64))[None]).logits[0]
        for at in np.flatnonzero(s.supervised):
            row = truncated(logits[at - 1], *truncation)
            logps.append(row[int(s.ids[at])])
            inside = row[row > -torch.inf]
            entropies.append(torch.distributions.Categorical(logits=inside).entropy())
    return torch.stack(logps), torch.stack(entropies)


def gradients(logps: Tensor, entropies: Tensor | None, model: nn.Module) -> list[Tensor]:
    """Of a random combination of both; tokens of probability 0 have weight 0."""
    weights = torch.randn(2, len(logps), generator=torch.Generator().manual_seed(1), dtype=logps.dtype)
    loss = (weights[0] * logps.masked_fill(logps == -torch.inf, 0.0)).sum()
    if entropies is not None:
        loss = loss + (weights[1] * entropies).sum()
    return list(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True))


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    """Relative to the largest; the norms of a float64 model still compute in float32."""
    for x, y in zip(found, expected, strict=True):
        assert not y.isnan().any()
        largest = y[y > -torch.inf].abs().max().item() if y.numel() else 0.0
        torch.testing.assert_close(x, y, rtol=0.0, atol=tolerance * max(1.0, largest))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truncation", TRUNCATIONS.values(), ids=TRUNCATIONS)
def test_values_and_gradients_are_those_of_the_plain_model_row_by_row(kind, truncation):
    model = build(kind)
    expected = row_by_row(model, rows(), truncation)
    out = expected[0] == -torch.inf
    assert out.any() == (truncation[1:] != PLAIN[1:])
    assert not out.all()
    both = policy_logprobs(model, pack(rows()), truncation, statistic="entropy")
    assert_same(list(both), list(expected))
    assert_same(gradients(*both, model), gradients(*expected, model))
    alone, nothing = policy_logprobs(model, pack(rows()), truncation)
    assert nothing is None
    assert_same([alone], [expected[0]])
    assert_same(gradients(alone, None, model), gradients(expected[0], None, model))


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_chunks_do_not_matter(chunk):
    model, batch = build(), pack(rows())
    for entropy in (True, False):
        whole = policy_logprobs(model, batch, TRUNCATIONS["all"], entropy)
        parts = policy_logprobs(model, batch, TRUNCATIONS["all"], entropy, chunk)
        assert_same([x for x in parts if x is not None], [x for x in whole if x is not None])
        assert_same(gradients(*parts, model), gradients(*whole, model))


def test_without_truncation_it_is_token_logprobs():
    model, batch = build(), pack(rows())
    for temperature in (0.7, 1.0):
        expected = token_logprobs(model, batch, temperature)
        for entropy in (True, False):
            assert_same([policy_logprobs(model, batch, (temperature, 0, 1.0, 0.0), entropy)[0]], [expected])


def test_temperature_zero_counts_as_one_and_truncates_nothing():
    model, batch = build(), pack(rows())
    expected = policy_logprobs(model, batch, PLAIN, statistic="entropy")
    for cut in ((0, 1.0, 0.0), (3, 0.5, 0.2)):
        assert_same(list(policy_logprobs(model, batch, (0.0, *cut), statistic="entropy")), list(expected))
        assert_same([policy_logprobs(model, batch, (0.0, *cut))[0]], [expected[0]])


def test_entropy_by_hand_and_its_limits():
    model, batch = build(), pack(rows())
    model.lm_head.weight.data.zero_()
    assert policy_logprobs(model, batch, PLAIN, statistic="entropy")[1].tolist() == pytest.approx(
        [math.log(67)] * len(batch.gather)
    )
    model = build()
    cold, warm, hot = (
        policy_logprobs(model, batch, (t, 0, 1.0, 0.0), statistic="entropy")[1] for t in (0.01, 1.0, 1e4)
    )
    assert (cold < warm).all()
    assert (warm < hot).all()
    assert hot.tolist() == pytest.approx([math.log(67)] * len(batch.gather), abs=1e-3)
    one = policy_logprobs(model, batch, (1.0, 1, 1.0, 0.0), statistic="entropy")[1]
    assert one.tolist() == [0.0] * len(batch.gather)
    assert all(torch.isfinite(g).all() for g in gradients(one, one, model))


def test_bfloat16_weights_give_float32_numbers():
    found = policy_logprobs(build(dtype=torch.bfloat16), pack(rows()), TRUNCATIONS["all"], statistic="entropy")
    assert [x.dtype for x in found] == [torch.float32] * 2
    assert torch.isfinite(found[1]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truncation", [*TRUNCATIONS.values(), (0.0, 0, 1.0, 0.0)], ids=[*TRUNCATIONS, "greedy"])
def test_the_samplers_log_probs_are_the_same(kind, truncation):
    model = build(kind, torch.float32)
    temperature, top_k, top_p, min_p = truncation
    prompts = [s.ids[:20].tolist() for s in rows()[:3]]
    params = SamplingParams(20, temperature, top_k, top_p, min_p)
    groups = generate(model, prompts, params, [1, 2, 3, 4], str, n=4, seed=5)
    made, expected = [], []
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            ids = np.array([*prompt, *completion.tokens], np.int32)
            made.append(Sequence(ids, np.arange(len(ids)) >= len(prompt)))
            expected += completion.logprobs
    with torch.no_grad():
        logps, _ = policy_logprobs(model, pack(made), truncation)
    assert logps.tolist() == pytest.approx(expected, abs=1e-4)
    assert min(expected) < -0.1


def test_log_squares_are_what_a_drawn_token_has_on_average():
    model, batch = build(), pack(rows())
    logps, squares = policy_logprobs(model, batch, PLAIN, statistic="log_squares")
    hidden = model.get_decoder()(
        input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, layout=batch.layout
    ).last_hidden_state[0][batch.sources]
    probs = model.lm_head(hidden).softmax(-1)
    assert squares.tolist() == pytest.approx(probs.square().sum(-1).log()[batch.gather].tolist(), abs=1e-12)
    assert torch.allclose(logps, token_logprobs(model, batch))
    assert (squares >= -math.log(67) - 1e-12).all()  # uniform over the vocabulary
