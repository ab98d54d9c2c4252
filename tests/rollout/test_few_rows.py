"""The product for few rows: the same numbers as F.linear, only where it pays, and gone afterwards."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from lightning_posttrain.rollout.few_rows import FEW_TALL, FEW_WIDE, LARGE, few_row_linears, pays, product

WIDE, TALL = (256, 512), (512, 256)


def linear(shape=TALL, bias: bool = True, **options) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(shape[1], shape[0], bias=bias, **options)


def patched(layer: nn.Module) -> bool:
    with few_row_linears(nn.Sequential(layer)):
        inside = "forward" in vars(layer)
    assert "forward" not in vars(layer)
    return inside


@settings(deadline=None)
@given(st.integers(0, 12), st.sampled_from([TALL, WIDE]), st.booleans())
def test_equal_to_linear_for_any_number_of_rows(rows, shape, bias):
    layer = linear(shape, bias)
    x = torch.randn(rows, shape[1], generator=torch.Generator().manual_seed(rows))
    expected = F.linear(x, layer.weight, layer.bias)
    with few_row_linears(layer), torch.no_grad():
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(layer(x[None]), expected[None], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(product(x, layer.weight), F.linear(x, layer.weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2, 2), (4, 1), (1, 3, 1), (2, 1, 2)])
def test_any_leading_shape(shape):
    layer = linear()
    x = torch.randn(*shape, 256)
    with torch.no_grad():
        expected = layer(x)
        with few_row_linears(layer):
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(layer(x.mT.contiguous().mT if x.dim() > 1 else x), expected)


def test_it_is_used_for_few_rows_of_large_weights_only():
    tall, wide = linear(TALL), linear(WIDE)
    assert [n for n in range(1, 20) if pays(tall.weight, n)] == list(range(1, FEW_TALL + 1))
    assert [n for n in range(1, 20) if pays(wide.weight, n)] == list(range(1, FEW_WIDE + 1))
    assert tall.weight.numel() == LARGE
    assert not pays(linear((511, 256)).weight, 1)


@pytest.mark.parametrize("rows", [1, FEW_TALL, FEW_TALL + 1])
def test_results_lie_in_memory_as_those_of_linear(rows):
    layer = linear(TALL)
    with few_row_linears(layer), torch.no_grad():
        assert layer(torch.randn(rows, 256)).stride() == (512, 1)


class Quantised(nn.Linear):
    """As a library's subclass would be."""


def test_only_large_plain_float32_layers_take_it():
    assert patched(linear())
    assert not patched(linear((64, 64)))
    assert not patched(linear(dtype=torch.bfloat16))
    assert not patched(linear(dtype=torch.float64))
    assert not patched(Quantised(256, 512))
    own = linear()
    parametrize.register_parametrization(own, "weight", nn.Identity())
    assert not patched(own)


def test_a_layer_with_a_forward_of_its_own_keeps_it():
    layer = linear()
    layer.forward = own = lambda x: x
    with few_row_linears(layer):
        assert layer.forward is own
    assert layer.forward is own


def test_layers_inside_adapters_take_it_and_hooks_still_run():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(linear(bias=True)), LoraConfig(r=4, target_modules=["0"]))
    nn.init.normal_(model.base_model.model[0].lora_B.default.weight)
    base, calls = model.base_model.model[0].base_layer, []
    base.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(3, 256)
    with torch.no_grad():
        expected = model(x)
        with few_row_linears(model):
            assert "forward" in vars(base)
            torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == 2


def test_inputs_of_another_type_go_the_usual_way():
    layer = linear()
    with few_row_linears(layer), pytest.raises(RuntimeError, match="dtype"):
        layer(torch.randn(1, 256, dtype=torch.float64))


@pytest.mark.parametrize("bias", [True, False])
def test_under_autocast_results_have_the_same_type(bias):
    layer, x = linear(bias=bias), torch.randn(2, 256)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = layer(x)
        with few_row_linears(layer):
            found = layer(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


def test_nested_and_after_an_exception_the_layers_are_as_before():
    layer = linear()

    def fail():
        with few_row_linears(layer):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert "forward" not in vars(layer)
    with few_row_linears(layer):
        outer = layer.forward
        with few_row_linears(layer):
            assert layer.forward is outer
        assert layer.forward is outer
    assert layer.forward.__func__ is nn.Linear.forward
