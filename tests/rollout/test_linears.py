"""The sampler's linear layers: the numbers of the layers themselves, whatever they are in, and gone afterwards."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.utils import parametrize

from lightning_posttrain.rollout import linears
from lightning_posttrain.rollout.linears import LARGE, fast_linears

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")


def linear(shape=(192, 96), bias: bool = True, **options) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(shape[1], shape[0], bias=bias, **options)


def patched(layer: nn.Module, **options) -> bool:
    with fast_linears(nn.Sequential(layer), **options):
        inside = "forward" in vars(layer)
    assert "forward" not in vars(layer)
    return inside


SHAPES = st.tuples(st.integers(1, 400), st.integers(1, 400))


@given(st.integers(0, 70), SHAPES, st.booleans(), st.booleans())
def test_equal_to_linear(rows, shape, bias, keep):
    layer = linear(shape, bias)
    x = torch.randn(rows, shape[1], generator=torch.Generator().manual_seed(rows))
    with torch.no_grad():
        expected = layer(x)
        with fast_linears(layer, keep=keep):
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(layer(x[None]), expected[None], rtol=1e-5, atol=1e-5)
            assert layer(x).stride() == expected.stride()


@given(st.integers(1, 70), SHAPES, st.booleans())
def test_narrow_products_are_off_by_bfloat16_rounding_alone(rows, shape, bias):
    layer = linear(shape, bias)
    x = torch.randn(rows, shape[1], generator=torch.Generator().manual_seed(rows))
    half = copy.deepcopy(layer).bfloat16()
    with torch.no_grad():
        expected = half(x.bfloat16())
        with fast_linears(layer, "bfloat16"):
            found = layer(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2, 2), (4, 1), (1, 3, 1), (2, 1, 2)])
@pytest.mark.parametrize("dtype", ["model", "bfloat16"])
def test_any_leading_shape_and_memory_layout(shape, dtype):
    layer, x = linear(), torch.randn(*shape, 96)
    with torch.no_grad():
        expected = layer(x)
        turned = x.mT.contiguous().mT if x.dim() > 1 else x
        with fast_linears(layer, dtype):
            tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == "model" else {"rtol": 0.03, "atol": 0.03}
            torch.testing.assert_close(layer(x), expected, **tolerance)
            torch.testing.assert_close(layer(turned), expected, **tolerance)


class Quantised(nn.Linear):
    """As a library's subclass would be."""


def test_which_layers_take_it():
    small = (LARGE // 96 - 1, 96)
    assert patched(linear())
    assert not patched(linear(small))
    assert patched(linear(small), dtype="bfloat16")
    assert not patched(linear(dtype=torch.float64))
    assert not patched(Quantised(256, 512), dtype="bfloat16")
    own = linear()
    parametrize.register_parametrization(own, "weight", nn.Identity())
    assert not patched(own, dtype="bfloat16")


def test_auto_is_bfloat16_where_the_processor_multiplies_it(monkeypatch):
    layer, x = linear(), torch.randn(2, 96)
    for able in (True, False):
        monkeypatch.setattr(linears, "_native_bfloat16", lambda able=able: able)
        with torch.no_grad(), fast_linears(layer, "auto"):
            assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5) != able


@pytest.mark.parametrize("dtype", ["model", "bfloat16"])
@pytest.mark.parametrize("shape", [(192, 96), (576, 1536)])
def test_a_row_s_numbers_do_not_depend_on_the_others(shape, dtype):
    if not linears._onednn(torch.float32 if dtype == "model" else torch.bfloat16):
        pytest.skip("another library multiplies here")
    layer, x = linear(shape), torch.randn(64, shape[1])
    with torch.no_grad(), fast_linears(layer, dtype):
        together = layer(x)
        for rows in (1, 2, 3, 5, 8, 17, 33):
            assert torch.equal(layer(x[:rows]), together[:rows])


def test_without_room_weights_are_used_as_they_lie(monkeypatch):
    monkeypatch.setattr(linears, "SHARE", 0.0)
    layer, x = linear(), torch.randn(3, 96)
    with torch.no_grad():
        expected = layer(x)
        with fast_linears(layer):
            used = layer.forward.args[2] if "forward" in vars(layer) else layer.weight
            assert used.data_ptr() == layer.weight.data_ptr()
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_weights_are_those_of_now():
    layer, x = linear(), torch.randn(3, 96)
    with torch.no_grad():
        for _ in range(2):
            layer.weight.add_(1.0)
            with fast_linears(layer):
                torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-4)


def test_the_head_keeps_its_type():
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = AutoConfig.for_model("qwen2", vocab_size=100, num_hidden_layers=1, pad_token_id=0, **sizes)
    model = AutoModelForCausalLM.from_config(config).eval()
    x = torch.randn(3, 32)
    with torch.no_grad():
        exact, inner = model.lm_head(x), model.model.layers[0].mlp.up_proj(x)
        with fast_linears(model, "bfloat16"):
            torch.testing.assert_close(model.lm_head(x), exact)
            assert not torch.allclose(model.model.layers[0].mlp.up_proj(x), inner, atol=1e-5)


def test_a_layer_with_a_forward_of_its_own_keeps_it():
    layer = linear()
    layer.forward = own = lambda x: x
    with fast_linears(layer):
        assert layer.forward is own
    assert layer.forward is own


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("dtype", ["model", "bfloat16"])
def test_layers_inside_adapters_take_it_and_hooks_still_run(dtype, dora):
    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(linear()), LoraConfig(r=4, target_modules=["0"], use_dora=dora))
    layer = model.base_model.model[0]
    nn.init.normal_(layer.lora_B.default.weight)
    base, calls = layer.base_layer, []
    base.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(3, 96)
    with torch.no_grad():
        expected = model(x)
        with fast_linears(model, dtype):
            assert "forward" in vars(base)
            bound = 1e-5 if dtype == "model" else 0.2
            torch.testing.assert_close(model(x), expected, rtol=bound, atol=bound)
    assert len(calls) == 2


def test_inputs_of_another_type_go_the_usual_way():
    layer = linear()
    with fast_linears(layer), pytest.raises(RuntimeError, match="dtype"):
        layer(torch.randn(1, 96, dtype=torch.float64))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["model", "bfloat16"])
def test_under_autocast_results_have_the_same_type(bias, dtype):
    layer, x = linear(bias=bias), torch.randn(2, 96)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = layer(x)
        with fast_linears(layer, dtype):
            found = layer(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2**-6, atol=2**-6)


def test_nested_and_after_an_exception_the_layers_are_as_before():
    layer = linear()

    def fail():
        with fast_linears(layer):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert "forward" not in vars(layer)
    with fast_linears(layer):
        outer = layer.forward
        with fast_linears(layer):
            assert layer.forward is outer
        assert layer.forward is outer
    assert layer.forward.__func__ is nn.Linear.forward


def test_compiled_layers_run_as_they_are():
    layer = linear()
    layer.compile(backend="eager")
    x = torch.randn(3, 96)
    with torch.no_grad(), fast_linears(layer, "bfloat16"):
        first = layer(x)
        torch.testing.assert_close(first, F.linear(x, layer.weight, layer.bias), rtol=0.03, atol=0.03)


def four_bits(shape=(192, 96), kind="nf4", compute=torch.float32):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(shape[1], shape[0], quant_type=kind, compute_dtype=compute)
    nn.init.normal_(layer.weight, std=0.1)
    layer.support_avx512bf16_for_cpu = False  # as when a model is loaded
    return layer.to("cpu")


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_four_bits_are_dequantised_once(kind, compute, monkeypatch):
    layer, x = four_bits(kind=kind, compute=compute), torch.randn(5, 96)
    packed, calls, real = layer.weight.data.clone(), [], linears._dequantised
    monkeypatch.setattr(linears, "_dequantised", lambda module: calls.append(1) or real(module))
    with torch.no_grad():
        expected = layer(x)
        with fast_linears(layer):
            for _ in range(3):
                found = layer(x)
    bound = 1e-5 if compute == torch.float32 else 0.03
    torch.testing.assert_close(found, expected, rtol=bound, atol=bound)
    assert found.dtype == expected.dtype
    assert len(calls) == 1
    assert torch.equal(layer.weight.data, packed)


def test_four_bits_without_room_stay_and_it_is_said(monkeypatch, capsys):
    monkeypatch.setattr(linears, "SHARE", 0.0)
    layer = four_bits()
    assert not patched(layer)
    assert "dequantised again for every token" in capsys.readouterr().err
    assert patched(layer, dtype="bfloat16")  # asked for, so made
    assert capsys.readouterr().err == ""
