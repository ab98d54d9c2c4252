"""The chunked head against full logits: values and gradients, in every dtype it runs in, and at the extremes."""

import pytest
import torch
import torch.nn.functional as F

from lightning_posttrain.ops.linear_logprobs import linear_logprobs, linear_nll, rows_per_chunk

ROWS, WIDTH, VOCAB = 23, 8, 41


def inputs(dtype: torch.dtype = torch.float32, bias: bool = True, scale: float = 1.0) -> list[torch.Tensor | None]:
    """Hidden states, head weight and bias, each asking for a gradient."""
    torch.manual_seed(0)
    shapes = ((ROWS, WIDTH), (VOCAB, WIDTH), (VOCAB,))
    made = [(torch.randn(s, dtype=torch.float64) * scale).to(dtype).requires_grad_() for s in shapes]
    return made if bias else [*made[:2], None]


def targets() -> torch.Tensor:
    return torch.randint(VOCAB, (ROWS,), generator=torch.Generator().manual_seed(1))


def full(h: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, temperature: float = 1.0) -> torch.Tensor:
    """Log-probs of the targets from all logits at once."""
    return (F.linear(h, w, b) / temperature).log_softmax(-1)[torch.arange(ROWS), targets()]


def gradients(loss: torch.Tensor, over: list[torch.Tensor | None]) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [x for x in over if x is not None]))


def assert_close(a: list[torch.Tensor], b: list[torch.Tensor], tolerance: float) -> None:
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype
        assert (x - y).abs().max().item() <= tolerance * max(1.0, y.abs().max().item())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, ROWS, None])
def test_log_probs_equal_those_of_full_logits(dtype, tolerance, bias, chunk):
    tensors = inputs(dtype, bias)
    for temperature in (1.0, 0.6):
        logps = linear_logprobs(*tensors, targets(), temperature, chunk)
        expected = full(*tensors, temperature)
        assert_close([logps], [expected], tolerance)
        upstream = torch.randn(ROWS, dtype=dtype)  # of either sign, as in DPO and GRPO
        assert_close(
            gradients((upstream * logps).sum(), tensors), gradients((upstream * expected).sum(), tensors), tolerance
        )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, None])
def test_weighted_nll_equals_that_of_full_logits(dtype, tolerance, bias, chunk):
    tensors = inputs(dtype, bias)
    weights = torch.rand(ROWS, dtype=dtype)
    loss, logps, _ = linear_nll(*tensors, targets(), weights, chunk)
    expected = full(*tensors)
    assert_close([loss, logps], [-(weights * expected).sum(), expected], tolerance)
    assert not logps.requires_grad
    assert_close(gradients(3 * loss, tensors), gradients(-3 * (weights * expected).sum(), tensors), tolerance)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("chunk", "temperature"), [(1, 1.0), (7, 0.6), (None, 1.0)])
@pytest.mark.parametrize("z_loss", [1e-4, 0.3])
def test_z_loss_adds_the_squared_log_sum_exp(bias, chunk, temperature, z_loss):
    tensors = inputs(torch.float64, bias, scale=2.0)
    weights = torch.rand(ROWS, dtype=torch.float64)
    loss, _, z = linear_nll(*tensors, targets(), weights, chunk, temperature, z_loss)
    expected_z = (F.linear(*tensors) / temperature).logsumexp(-1)
    expected = (weights * (z_loss * expected_z**2 - full(*tensors, temperature))).sum()
    assert_close([loss, z], [expected, expected_z], 1e-9)
    assert_close(gradients(loss, tensors), gradients(expected, tensors), 1e-9)


def test_z_loss_survives_the_log_sum_exp_at_which_its_gradient_cancels():
    hidden, weight = torch.zeros(1, 2, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64)
    bias = torch.full((4,), -5.0 - torch.tensor(4.0).log(), dtype=torch.float64, requires_grad=True)  # z is -5
    ones = torch.ones(1, dtype=torch.float64)
    loss, _, z = linear_nll(hidden, weight, bias, torch.tensor([1]), ones, None, 1.0, 0.1)  # 1 + 2 * 0.1 * -5 is 0
    assert z.item() == pytest.approx(-5)
    assert torch.autograd.grad(loss, bias)[0].tolist() == pytest.approx([0, -1, 0, 0], abs=1e-5)


def test_improbable_targets_keep_their_log_probs():
    tensors = inputs(scale=15.0)  # hundreds of nats: most probabilities are zero in float32
    exact = full(*(x.double() for x in tensors))
    assert exact.min() < -500
    for logps in (linear_logprobs(*tensors, targets()), linear_nll(*tensors, targets(), torch.ones(ROWS))[1]):
        assert torch.allclose(logps.double(), exact, rtol=1e-5, atol=1e-4)


def test_only_what_asks_for_a_gradient_gets_one():
    hidden, weight, bias = inputs()
    frozen = (weight.detach(), bias.detach(), targets())
    expected = full(hidden, weight, bias)
    by_hidden = gradients(expected.sum(), [hidden])
    assert_close(gradients(linear_logprobs(hidden, *frozen).sum(), [hidden]), by_hidden, 1e-5)
    assert_close(gradients(-linear_nll(hidden, *frozen, torch.ones(ROWS))[0], [hidden]), by_hidden, 1e-5)
    with torch.no_grad():
        assert_close([linear_nll(hidden, *frozen, torch.ones(ROWS))[1]], [expected], 1e-5)


def test_softmax_is_in_float32_for_bfloat16_weights():
    tensors = inputs(torch.bfloat16)
    exact = [x.detach().float().requires_grad_() for x in tensors]
    logps = linear_logprobs(*tensors, targets())
    assert logps.dtype == torch.float32
    assert_close([logps], [full(*exact)], 0.02)
    expected = [g.bfloat16() for g in gradients(full(*exact).sum(), exact)]
    assert_close(gradients(logps.sum(), tensors), expected, 0.03)
    loss, *_ = linear_nll(*tensors, targets(), torch.ones(ROWS))
    assert_close(gradients(-loss, tensors), expected, 0.03)


@pytest.mark.parametrize("weighted", [True, False])
def test_many_chunks_round_the_heads_gradient_once(weighted: bool) -> None:
    """The gradient of a bf16 head is as far from the exact one with 256 chunks as with one."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(256, 8, generator=generator, dtype=torch.float64).bfloat16()
    weight = torch.randn(16, 8, generator=generator, dtype=torch.float64).bfloat16()
    bias = torch.randn(16, generator=generator, dtype=torch.float64).bfloat16()
    targets = torch.randint(0, 16, (256,), generator=generator)

    def of(dtype: torch.dtype, chunk: int) -> list[torch.Tensor]:
        leaves = [x.to(dtype).requires_grad_() for x in (hidden, weight, bias)]
        if weighted:
            loss = linear_nll(*leaves, targets, torch.ones(256, dtype=torch.float32), chunk=chunk)[0]
        else:
            loss = -linear_logprobs(*leaves, targets, chunk=chunk).sum()
        return [g.double() for g in torch.autograd.grad(loss, leaves)[1:]]

    for exact, whole, chunked in zip(
        of(torch.float64, 256), of(torch.bfloat16, 256), of(torch.bfloat16, 1), strict=True
    ):
        one, many = ((found - exact).norm() / exact.norm() for found in (whole, chunked))
        assert many < 1.5 * one < 0.01


def test_autocast_narrows_the_products_and_nothing_else():
    tensors = inputs()
    weights = torch.rand(ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        loss, logps, _ = linear_nll(*tensors, targets(), weights, 7)
        also = linear_logprobs(*tensors, targets(), 1.0, 7)
    expected = full(*tensors)
    assert loss.dtype == logps.dtype == also.dtype == torch.float32
    assert_close([logps, also], [expected, expected], 0.02)
    by_full = gradients(-(weights * expected).sum(), tensors)
    assert_close(gradients(loss, tensors), by_full, 0.03)
    assert_close(gradients(-(weights * also).sum(), tensors), by_full, 0.03)


def test_a_second_backward_is_an_error_not_another_gradient():
    loss, *_ = linear_nll(*inputs(), targets(), torch.ones(ROWS))
    loss.backward(retain_graph=True)
    with pytest.raises(AttributeError):
        loss.backward()


def test_the_buffer_of_logits_is_bounded():
    cpu = torch.device("cpu")
    assert rows_per_chunk(32_768, cpu) * 32_768 * 4 <= 30 << 20
    assert rows_per_chunk(256_000, cpu) == 128  # below that the products would wait for memory
    assert rows_per_chunk(32_768, torch.device("cuda")) > rows_per_chunk(32_768, cpu)


def test_the_gradient_of_a_narrow_head_is_rounded_once_however_many_chunks_it_is_made_of():
    torch.manual_seed(0)
    hidden, weight = torch.randn(512, 16).bfloat16(), torch.randn(32, 16).bfloat16()
    targets = torch.randint(32, (512,))

    def gradient(dtype: torch.dtype, chunk: int) -> torch.Tensor:
        head = weight.to(dtype, copy=True).requires_grad_()
        linear_logprobs(hidden.to(dtype), head, None, targets, chunk=chunk).sum().backward()
        return head.grad.double()

    exact = gradient(torch.float64, 512)
    once, often = (gradient(torch.bfloat16, chunk) for chunk in (512, 2))
    error, least = ((g - exact).norm() for g in (often, once))
    assert error < 1.5 * least
