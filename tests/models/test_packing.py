"""Models that pack, from a folder and by their architecture; rows that may not be packed; widths of real models."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lightning_posttrain.batching.tree import collate
from lightning_posttrain.models.load import load_policy
from lightning_posttrain.models.packing import check_packing
from lightning_posttrain.ops.attention import plain_attention, use_layout_attention
from lightning_posttrain.ops.logprobs import token_logprobs
from lightning_posttrain.ops.positions import max_positions
from lightning_posttrain.types import Sequence, UserError
from tests.equivalence.test_packing import SIZE

EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 2,
}
WINDOW = {"sliding_window": 12}
MODELS = {
    "llama": {}, "qwen2": {}, "qwen3": {}, "smollm3": {}, "phi3": {}, "olmo2": {}, "mistral": WINDOW,
    "gemma2": WINDOW, "gemma3_text": WINDOW, "gpt_oss": {**WINDOW, **EXPERTS},
    "deepseek_v3": {**LATENT, "v_head_dim": 12}, "deepseek_v2": {**LATENT, "v_head_dim": 24, "topk_method": "greedy"},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
}  # fmt: skip


def fields(kind: str) -> dict:
    if kind == "gpt2":
        return {"vocab_size": 131, "bos_token_id": 1, "eos_token_id": 2, **MODELS[kind]}
    kept = {k: v for k, v in SIZE.items() if not (kind.startswith("deepseek") and k == "head_dim")}
    return {**kept, **MODELS[kind]}


def rows(lengths=(9, 30, 17), seed: int = 0, vocab: int = 131) -> list[Sequence]:
    """Random rows that share a prefix of 20 tokens."""
    rng = np.random.default_rng(seed)
    prefix = rng.integers(3, vocab, 20)
    made = []
    for i, n in enumerate(lengths):
        ids = np.concatenate([prefix, rng.integers(3, vocab, n)]).astype(np.int32)
        made.append(Sequence(ids, np.arange(len(ids)) > 4, str(i), f"rows.jsonl:{i + 1}"))
    return made


@torch.no_grad()
def alone(model, sequences: list[Sequence]) -> torch.Tensor:
    parts = []
    with plain_attention(model):
        for s in sequences:
            ids = torch.from_numpy(s.ids.astype(np.int64))
            logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
            at = torch.from_numpy(np.flatnonzero(s.supervised))
            parts.append(logits.log_softmax(-1)[at - 1, ids[at]])
    return torch.cat(parts)


@pytest.mark.parametrize("kind", list(MODELS))
def test_models_load_from_a_folder_and_by_their_architecture_and_pack(tmp_path, kind):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields(kind)))
    model.save_pretrained(tmp_path)
    for made in (
        load_policy(str(tmp_path), None, vocab_size=131),
        load_policy(None, {"model_type": kind, **fields(kind)}, vocab_size=131),
    ):
        made.eval()
        packed = token_logprobs(made, collate([(s,) for s in rows()], 8))
        assert (packed - alone(made, rows())).abs().max() < 2e-5
        packed.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", ["stablelm", "nemotron"])
def test_models_that_do_not_ask_for_the_layout_are_refused_in_words_that_help(tmp_path, kind):
    known = AutoConfig.for_model(kind).to_dict()
    small = {k: v for k, v in SIZE.items() if k in known or k == "head_dim"}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small)).save_pretrained(tmp_path)
    for pretrained, architecture in ((str(tmp_path), None), (None, {"model_type": kind, **small})):
        with pytest.raises(UserError, match=r"ForCausalLM cannot run packed batches.*AttentionInterface"):
            load_policy(pretrained, architecture, vocab_size=131)


def test_two_models_of_one_config_switch_apart():
    config = AutoConfig.for_model("qwen3", **SIZE)
    first, second = (AutoModelForCausalLM.from_config(config) for _ in range(2))
    before = second.config._attn_implementation
    use_layout_attention(first)
    assert second.config._attn_implementation == before
    third = AutoModelForCausalLM.from_config(first.config)
    with plain_attention(first):
        assert first.config._attn_implementation == "sdpa"
        assert all(m.config is first.config for m in first.modules() if hasattr(m, "config"))
        assert third.config._attn_implementation == "layout"
    assert first.config._attn_implementation == "layout"


# ---- positions ------------------------------------------------------------------------------------------------------

ROPES = {
    "default": ({"rope_type": "default", "rope_theta": 1e4}, 256),
    "linear": ({"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, 256),
    "yarn": ({"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}, 256),
    "longrope": (
        {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0] * 4,
            "long_factor": [8.0] * 4,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        64,
    ),
    "dynamic": ({"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}, 256),
}


@pytest.mark.parametrize("kind", list(ROPES))
def test_a_row_up_to_the_limit_changes_no_neighbour_and_a_longer_one_is_refused(kind):
    rope, limit = ROPES[kind]
    model = load_policy(None, {"model_type": "qwen3", **SIZE, "rope_parameters": dict(rope)}, vocab_size=131)
    assert max_positions(model.config) == limit
    short, longest = rows((10, limit - 20))
    with torch.no_grad():
        by_itself = token_logprobs(model, collate([(short,)]))
        together = collate([(longest,), (short,)])
        place = together.origins.index(short.origin)
        packed = token_logprobs(model, together)[together.sequence == place]
    assert (packed - by_itself).abs().max() < 1e-5
    over = rows((limit - 18,))[0]  # its last token is only predicted
    with pytest.raises(UserError, match=rf"rows.jsonl:1: the model would read {limit + 1} tokens.*{limit} positions"):
        token_logprobs(model, collate([(short,), (over,)]))


def test_the_probe_sees_frequencies_that_depend_on_a_neighbour():
    rope = {**ROPES["longrope"][0]}
    config = AutoConfig.for_model("qwen3", **SIZE, rope_parameters=rope)
    model = AutoModelForCausalLM.from_config(config)
    use_layout_attention(model)
    check_packing(model)
    model.config.rope_parameters["original_max_position_embeddings"] = 256  # the limit that the probe knows ...
    real = model.model.rotary_emb.config = AutoConfig.for_model("qwen3", **SIZE, rope_parameters=dict(rope))
    assert real.rope_parameters["original_max_position_embeddings"] == 64  # ... is not the one the layers use
    with pytest.raises(UserError, match="let neighbours see each other"):
        check_packing(model)


@pytest.mark.parametrize("positions", [2, 4, 16, 29])
def test_models_of_few_positions_are_probed_within_them(positions):
    for kind in ("qwen3", "gpt2"):
        name = "n_positions" if kind == "gpt2" else "max_position_embeddings"
        load_policy(None, {"model_type": kind, **fields(kind), name: positions}, vocab_size=131)


# ---- widths of real models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hidden", "heads", "kv", "feed_forward"), [(576, 9, 3, 1536), (960, 15, 5, 2560)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_equals_separate_at_the_widths_of_small_published_models(hidden, heads, kv, feed_forward, dtype):
    architecture = {
        "model_type": "llama", "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv,
        "intermediate_size": feed_forward, "num_hidden_layers": 2, "vocab_size": 512, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
    }  # fmt: skip
    sequences = rows((90, 3, 41, 200), vocab=512)
    wide = load_policy(None, architecture, vocab_size=512)
    model = load_policy(None, architecture, vocab_size=512, dtype=dtype)
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    packed = token_logprobs(model, collate([(s,) for s in sequences], 8))
    assert (packed - alone(wide, sequences)).abs().max() < tolerance
    ours = torch.autograd.grad(packed.sum(), list(model.parameters()))
    apart = sum(token_logprobs(wide, collate([(s,)])).sum() for s in sequences)
    theirs = torch.autograd.grad(apart, list(wide.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        assert (a.float() - b).norm() <= (1e-3 if dtype == torch.float32 else 0.05) * b.norm()
