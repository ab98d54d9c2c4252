"""What is set in a model's config takes effect, or is refused with the name that does."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lightning_posttrain.models.load import load_policy
from lightning_posttrain.models.spec import LoadSpec
from lightning_posttrain.ops.positions import max_positions
from lightning_posttrain.types import UserError

from ..conftest import ARCHITECTURE

FIELDS = {name: value for name, value in ARCHITECTURE.items() if name != "model_type"}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 5e5}
    config = AutoConfig.for_model("qwen3", **FIELDS, vocab_size=260, rope_parameters=rope)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "m")
    return str(tmp_path / "m")


def built(folder, **overrides):
    return load_policy(folder, None, vocab_size=260, load=LoadSpec(overrides=overrides))


def frequencies(theta, factor=1.0):
    return theta ** -(torch.arange(0, 16, 2) / 16) / factor


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, frequencies(5e5)),
        ({"rope_theta": 1e6}, frequencies(1e6)),
        ({"rope_parameters": {"rope_theta": 1e6}}, frequencies(1e6)),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, frequencies(5e5, 4)),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, frequencies(5e5, 4)),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, frequencies(5e5, 4)),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 1e4}, frequencies(1e4, 4)),
        ({"rope_scaling": None}, frequencies(5e5)),
    ],
)
def test_rotary_frequencies_follow_the_overrides(folder, overrides, expected):
    model = built(folder, **overrides)
    assert torch.allclose(model.model.rotary_emb.inv_freq, expected, rtol=1e-5)


def test_rotary_settings_of_an_architecture_take_effect():
    for fields in ({"rope_theta": 1e6}, {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}):
        model = load_policy(None, {**ARCHITECTURE, **fields}, vocab_size=260)
        assert torch.allclose(model.model.rotary_emb.inv_freq, frequencies(1e6), rtol=1e-5)


def test_other_values_reach_the_layers(folder):
    model = built(folder, rms_norm_eps=0.1, max_position_embeddings=99)
    assert model.model.norm.variance_epsilon == 0.1
    assert max_positions(model.config) == 99


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"rope_thetaa": 1}, "no such field; did you mean 'rope_theta'"),
        ({"rms_norm_epss": 1e-5}, "did you mean 'rms_norm_eps'"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"attention_dropout": 0.1}, "packed batches have none"),
        ({"dtype": "bfloat16"}, r"trainer\.precision"),
        ({"quantization_config": {}}, r"load\.quantization"),
        ({"rope_scaling": 4}, "give a dict"),
        ({"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}}, "into rope_parameters"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "factor"),
        ({"rope_parameters": {"rope_type": "nonesuch"}}, "nonesuch"),
        ({"hidden_size": 64}, "shape"),
        ({"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}, "missing"),
    ],
)
def test_what_would_do_nothing_or_break_is_refused(folder, overrides, said):
    with pytest.raises(UserError, match=said) as refused:
        built(folder, **overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rope_thetaa": 1}, "did you mean 'rope_theta'"),
        ({"rope_parameters": {"rope_type": "nonesuch"}}, "nonesuch"),
        ({"pad_token_id": 999}, r"architecture\.pad_token_id: null"),
        ({"attention_dropout": 0.1}, "packed batches have none"),
    ],
)
def test_an_architecture_is_held_to_the_same(fields, said):
    with pytest.raises(UserError, match=said) as refused:
        load_policy(None, {**ARCHITECTURE, **fields}, vocab_size=260)
    assert "\n" not in str(refused.value)


def test_frequencies_of_each_type_of_layer_are_named_by_it(tmp_path):
    types = ["sliding_attention", "full_attention"]
    config = AutoConfig.for_model(
        "gemma3_text", **{**FIELDS, "num_hidden_layers": 2}, vocab_size=260, layer_types=types
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"into rope_parameters.*full_attention"):
        built(str(tmp_path), rope_theta=1e5)
    with pytest.raises(UserError, match=r"into rope_parameters.*full_attention"):
        load_policy(None, {**ARCHITECTURE, "model_type": "gemma3_text", "rope_theta": 1e5}, vocab_size=260)
    rope = {"full_attention": {"rope_theta": 1e5}}
    model = built(str(tmp_path), rope_parameters=rope)
    assert torch.allclose(model.model.rotary_emb.full_attention_inv_freq, frequencies(1e5), rtol=1e-5)
    assert model.config.rope_parameters["sliding_attention"]["rope_theta"] == 1e4
