"""The sampler against transformers, against the training path, and against itself in every other batch layout."""

import random

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy import stats
from transformers import AutoConfig, AutoModelForCausalLM

from lightning_posttrain.batching.tree import collate
from lightning_posttrain.models.load import LoadSpec, LoraSpec, load_policy
from lightning_posttrain.ops.attention import ATTENTION, plain_attention, use_layout_attention
from lightning_posttrain.ops.logprobs import base_model, token_logprobs
from lightning_posttrain.ops.sampling import transform_logits
from lightning_posttrain.rollout import linears
from lightning_posttrain.rollout.sampler import SamplingParams, generate
from lightning_posttrain.types import Sequence, UserError

SIZES = {
    "vocab_size": 199,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "initializer_range": 0.2,
}
WINDOWED = {"gemma2", "gemma3_text", "olmo3", "mistral", "gpt_oss"}
NEEDS_EAGER = {"gemma2", "gpt_oss"}  # soft cap and sinks: transformers' sdpa has neither
STOPS = [1, 5, 9, 40, 77, 120]


def build(kind="qwen2", dtype=torch.float64, **changes):
    torch.manual_seed(0)
    extra = {"sliding_window": 12} if kind in WINDOWED else {}
    if kind == "gpt_oss":
        extra |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    config = AutoConfig.for_model(kind, **{**SIZES, **extra, **changes})
    return AutoModelForCausalLM.from_config(config).to(dtype)


def make_prompts() -> list[list[int]]:
    """Single tokens, duplicates, a long common prefix, and a prompt that is the beginning of others."""
    rng = np.random.default_rng(0)
    common = rng.integers(3, 199, 40).tolist()
    prompts = [rng.integers(3, 199, n).tolist() for n in (1, 5, 17, 30)]
    prompts += [common, *(common + rng.integers(3, 199, n).tolist() for n in (1, 9))]
    return [*prompts, prompts[1]]


PROMPTS = make_prompts()


@pytest.fixture(scope="module")
def model():
    model = build().eval()
    use_layout_attention(model)
    return model


def sample(model, prompts=PROMPTS, stops=STOPS, n=1, temperature=1.0, max_new=30, **options):
    distribution = {k: options.pop(k) for k in ("top_k", "top_p", "min_p") if k in options}
    params = SamplingParams(max_new_tokens=max_new, temperature=temperature, **distribution)
    return generate(model, prompts, params, stops, str, n=n, **options)


def tokens(groups) -> list[list[tuple[int, ...]]]:
    return [[c.tokens for c in group] for group in groups]


def flat(groups):
    return [c for group in groups for c in group]


def teacher_forced(model, prompt, completion, temperature=1.0) -> list[float]:
    """Log-probs of a completion by the training path."""
    ids = np.array([*prompt, *completion.tokens], dtype=np.int32)
    micro = collate([(Sequence(ids, np.arange(len(ids)) >= len(prompt)),)])
    with torch.no_grad():
        return token_logprobs(model, micro, temperature).tolist()


@pytest.mark.parametrize(
    "kind", ["llama", "qwen2", "qwen3", "olmo2", "olmo3", "mistral", "gemma2", "gemma3_text", "gpt_oss"]
)
def test_greedy_equals_transformers(kind):
    model = build(kind, torch.float32 if kind == "gpt_oss" else torch.float64).eval()
    if kind in NEEDS_EAGER:
        model.set_attn_implementation("eager")
    expected = []
    for prompt in PROMPTS:
        out = model.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False, eos_token_id=STOPS)
        expected.append([tuple(out[0, len(prompt) :].tolist())])
    use_layout_attention(model)
    for layout in ({}, {"max_rows": 3}, {"max_tokens": 50}):
        groups = sample(model, temperature=0.0, **layout)
        assert tokens(groups) == expected
    for prompt, (completion,) in zip(PROMPTS, groups, strict=True):
        assert completion.logprobs == pytest.approx(teacher_forced(model, prompt, completion), abs=1e-5)
    assert len({c.tokens for (c,) in groups}) > 5  # not the same loop everywhere


def test_samples_do_not_depend_on_the_batch(model):
    together = sample(model, n=5, seed=3, step=4)
    names = range(len(PROMPTS))
    order = [5, 2, 7, 0, 6, 3, 1, 4]
    permuted = sample(model, [PROMPTS[i] for i in order], n=5, seed=3, step=4, keys=order)
    others = {
        "one prompt at a time": [sample(model, [PROMPTS[i]], n=5, seed=3, step=4, keys=[i])[0] for i in names],
        "permuted": [permuted[order.index(i)] for i in names],
        "few rows, refilled": sample(model, n=5, seed=3, step=4, max_rows=5),
        "one row": sample(model, n=5, seed=3, step=4, max_rows=1),
        "many prefills": sample(model, n=5, seed=3, step=4, max_tokens=20),
        "two ranks": [
            *sample(model, PROMPTS[:3], n=5, seed=3, step=4, keys=range(3)),
            *sample(model, PROMPTS[3:], n=5, seed=3, step=4, keys=range(3, 8)),
        ],
    }
    fewer = sample(model, n=3, seed=3, step=4)
    assert tokens(fewer) == tokens(group[:3] for group in together)
    for name, groups in others.items():
        assert tokens(groups) == tokens(together), name
        for a, b in zip(flat(groups), flat(together), strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5), name
            assert (a.text, a.finished) == (b.text, b.finished)


def test_samples_depend_on_seed_step_key_and_sample(model):
    base = sample(model, PROMPTS[3:4], n=2)
    assert base[0][0].tokens != base[0][1].tokens
    for change in ({"seed": 1}, {"step": 1}, {"keys": [1]}, {"keys": ["0"]}):
        assert tokens(sample(model, PROMPTS[3:4], n=2, **change)) != tokens(base)
    first, second = tokens(sample(model, [PROMPTS[3]] * 2, n=2))  # a duplicate has another index: other completions
    assert first == tokens(base)[0] != second
    first, second = tokens(sample(model, [PROMPTS[3]] * 2, n=2, keys=["x", "x"]))
    assert first == second == tokens(sample(model, PROMPTS[3:4], n=2, keys=["x"]))[0]


def test_longer_limit_continues_the_same_completion(model):
    short, long = sample(model, n=2, max_new=7), sample(model, n=2, max_new=40)
    for a, b in zip(flat(short), flat(long), strict=True):
        assert b.tokens[: len(a.tokens)] == a.tokens


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_logprobs_equal_the_training_path(model, temperature):
    for prompt, group in zip(PROMPTS, sample(model, n=3, temperature=temperature), strict=True):
        for completion in group:
            expected = teacher_forced(model, prompt, completion, temperature)
            assert completion.logprobs == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("options", [{"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.2}, {"top_k": 20, "top_p": 0.7}])
def test_truncated_logprobs_are_renormalised(model, options):
    (group,) = sample(model, PROMPTS[3:4], n=4, temperature=1.3, **options)
    for completion in group:
        ids = torch.tensor([PROMPTS[3] + list(completion.tokens)])
        with plain_attention(model), torch.no_grad():
            logits = model(ids).logits[0, len(PROMPTS[3]) - 1 : -1]
        logps = transform_logits(logits, 1.3, **options)
        torch.testing.assert_close(logps.exp().sum(-1), torch.ones(len(logps), dtype=logps.dtype))
        expected = logps.gather(-1, ids[0, len(PROMPTS[3]) :, None])[:, 0]
        assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-5)
        plain = teacher_forced(model, PROMPTS[3], completion, 1.3)
        assert sum(completion.logprobs) > sum(plain) + 0.1


@pytest.mark.parametrize("options", [{}, {"top_k": 6}])
def test_frequencies_match_the_softmax(options):
    model = build(vocab_size=24, initializer_range=0.1).eval()
    prompt, count = [3, 7, 11], 4000
    (group,) = sample(model, [prompt], [], n=count, max_new=2, temperature=0.8, max_rows=count, **options)
    first = np.bincount([c.tokens[0] for c in group], minlength=24)
    common = int(first.argmax())
    second = np.bincount([c.tokens[1] for c in group if c.tokens[0] == common], minlength=24)
    for ids, observed in ((prompt, first), ([*prompt, common], second)):
        with plain_attention(model), torch.no_grad():
            expected = transform_logits(model(torch.tensor([ids])).logits[0, -1:], 0.8, **options)[0].exp().numpy()
        assert (observed[expected == 0] == 0).all()
        inside = expected > 0
        assert stats.chisquare(observed[inside], expected[inside] * observed.sum()).pvalue > 1e-3


def test_stop_token_ends_and_belongs_to_the_completion(model):
    for completion in flat(sample(model, n=8)):
        ends = [i for i, token in enumerate(completion.tokens) if token in STOPS]
        assert completion.finished == bool(ends)
        assert len(completion.tokens) == (ends[0] + 1 if ends else 30) == len(completion.logprobs)
        shown = completion.tokens[:-1] if completion.finished else completion.tokens
        assert completion.text == str(list(shown))


def test_stop_as_first_token_and_single_token_limit(model):
    unlimited = sample(model, n=2, stops=[])
    assert all(len(c.tokens) == 30 and not c.finished for c in flat(unlimited))
    everything = sample(model, n=2, stops=range(199))
    one = sample(model, n=2, stops=[], max_new=1)
    for long, stopped, single in zip(*(flat(x) for x in (unlimited, everything, one)), strict=True):
        assert stopped.tokens == single.tokens == long.tokens[:1]
        assert (stopped.finished, single.finished, stopped.text) == (True, False, "[]")
    assert sample(model, []) == []


def test_nothing_outside_is_touched():
    model = build(dtype=torch.float32)
    model.gradient_checkpointing_enable()
    model.train()
    model.model.layers[1].eval()
    modes = [m.training for m in model.modules()]

    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    with_gradients = sample(model, n=2)
    assert states() == before
    assert [m.training for m in model.modules()] == modes
    assert model.config._attn_implementation == "sdpa"
    use_layout_attention(model)
    with torch.no_grad():
        assert tokens(sample(model, n=2)) == tokens(with_gradients)
    with torch.inference_mode():
        assert tokens(sample(model, n=2)) == tokens(with_gradients)
    assert model.config._attn_implementation == ATTENTION
    ids = np.array(PROMPTS[2], dtype=np.int32)
    token_logprobs(model, collate([(Sequence(ids, np.arange(len(ids)) > 0),)])).sum().backward()  # still trainable
    assert all(p.grad is not None for p in model.parameters())


def test_modes_come_back_after_an_error(model):
    broken = build().train()
    broken.lm_head = None
    with pytest.raises((TypeError, AttributeError)):
        sample(broken)
    assert broken.training
    assert broken.config._attn_implementation == "sdpa"


def test_adapters_count():
    model = build()
    plain = sample(model, temperature=0.0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "lm_head"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    groups = sample(adapted, temperature=0.0)
    assert tokens(groups) != tokens(plain)
    use_layout_attention(base_model(adapted))
    for prompt, (completion,) in zip(PROMPTS, groups, strict=True):
        assert completion.logprobs == pytest.approx(teacher_forced(adapted.eval(), prompt, completion), abs=1e-5)


@pytest.mark.parametrize("kind", ["qwen2", "gemma2"])
@pytest.mark.parametrize("tied", [True, False])
def test_bfloat16(kind, tied):
    model = build(kind, torch.bfloat16, tie_word_embeddings=tied, initializer_range=0.05).eval()
    groups = sample(model, n=3)
    use_layout_attention(model)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for completion in group:
            assert completion.logprobs == pytest.approx(teacher_forced(model, prompt, completion), abs=0.05)


def test_few_rows_take_another_product_with_the_same_result():
    model = build(dtype=torch.float32, initializer_range=0.1).eval()
    model.lm_head.bias = torch.nn.Parameter(torch.randn(199))
    use_layout_attention(model)
    together = sample(model, n=8)
    for i, prompt in enumerate(PROMPTS):
        for j, completion in enumerate(sample(model, [prompt], n=8, keys=[i], max_rows=1)[0]):
            assert completion.tokens == together[i][j].tokens
            assert completion.logprobs == pytest.approx(together[i][j].logprobs, abs=1e-5)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_a_four_bit_base_is_sampled_as_its_own_forward_has_it(kind, monkeypatch, capsys):
    pytest.importorskip("bitsandbytes")
    sizes = {**SIZES, "hidden_size": 128, "intermediate_size": 256, "initializer_range": 0.1, "model_type": "qwen2"}
    del sizes["vocab_size"], sizes["head_dim"]
    model = load_policy(None, sizes, vocab_size=199, load=LoadSpec(quantization=kind), lora=LoraSpec(r=4))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    once = sample(model, n=2, max_new=12)
    for prompt, group in zip(PROMPTS, once, strict=True):
        for completion in group:
            expected = teacher_forced(model.eval(), prompt, completion)
            assert completion.logprobs == pytest.approx(expected, abs=1e-5)
    assert "dequantised again" not in capsys.readouterr().err
    monkeypatch.setattr(linears, "SHARE", 0.0)
    assert tokens(sample(model, n=2, max_new=12)) == tokens(once)
    assert "dequantised again for every token" in capsys.readouterr().err


def test_layers_that_do_not_attend_are_refused():
    linear = {"layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2}
    small = {"linear_num_value_heads": 2, "linear_num_key_heads": 2, "num_experts": 2, "num_experts_per_tok": 1}
    model = build("qwen3_next", torch.float32, **linear, **small)
    with pytest.raises(UserError, match=r"layers \[0\] mix tokens"):
        sample(model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.5),
        ("min_p", 1.5),
    ],
)
def test_parameters_out_of_range_are_refused(field, value):
    with pytest.raises(UserError, match=f"{field}={value}: use"):
        SamplingParams(**{field: value})


def test_bad_arguments_are_refused(model):
    with pytest.raises(UserError, match="prompt 1 is empty"):
        sample(model, [[3], []])
    with pytest.raises(UserError, match=r"prompt 0 has 250 tokens.*max_new_tokens=30.*256 positions"):
        sample(model, [[3] * 250])
    assert len(sample(model, [[3] * 226], [])[0][0].tokens) == 30
    with pytest.raises(UserError, match="2 keys for 1 prompts"):
        sample(model, [[3]], keys=[0, 1])
    for name in ("n", "max_rows", "max_tokens"):
        with pytest.raises(UserError, match=f"{name}=0: use at least 1"):
            sample(model, **{name: 0})
