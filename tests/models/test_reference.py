"""The reference: the policy as it was, whatever it became, and a policy that does not notice."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_posttrain.batching.tree import collate
from lightning_posttrain.models.load import LoraSpec, load_policy
from lightning_posttrain.models.reference import Reference
from lightning_posttrain.ops.logprobs import token_logprobs
from lightning_posttrain.types import Sequence, UserError

ARCHITECTURE = {
    "model_type": "qwen2",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
KINDS = {
    "full": {},
    "lora": {"lora": LoraSpec(r=4)},
    "lora and head": {"lora": LoraSpec(r=4, modules_to_save=["lm_head"]), "tied": False},
    "dora": {"lora": LoraSpec(r=4, dora=True)},
}
NO_ADAPTER = ("full", "base")


def build(lora: LoraSpec | None = None, pretrained: str | None = None, tied: bool = True) -> nn.Module:
    architecture = {**ARCHITECTURE, "tie_word_embeddings": tied}
    return load_policy(pretrained, architecture, vocab_size=80, lora=lora, seed=3)


def micro():
    rng = np.random.default_rng(0)
    sequences = [Sequence(rng.integers(0, 80, n).astype(np.int32), np.arange(n) > 2) for n in (9, 6)]
    return collate([(s,) for s in sequences])


def logps(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return token_logprobs(model, micro())


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def train(model: nn.Module, steps: int = 3, reference: Reference | None = None) -> None:
    """Adam steps, with a penalty for leaving the reference if there is one to ask."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    for _ in range(steps):
        if reference is not None:
            with reference.active():
                token_logprobs(model, micro())
        token_logprobs(model, micro()).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def trained_adapter(folder) -> str:
    """A folder with an adapter that has learned something, beside its base."""
    build().save_pretrained(folder / "base")
    model = build(**KINDS["lora"])
    train(model)
    model.peft_config["default"].base_model_name_or_path = str(folder / "base")
    model.save_pretrained(folder / "adapter")
    return str(folder / "adapter")


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_it_gives_the_initial_log_probs_and_leaves_the_policy_as_it_is(options):
    model = build(**options)
    first = logps(model)
    reference = Reference(model)
    train(model)
    now, values = logps(model), weights(model)
    assert (now - first).abs().max() > 0.05
    for _ in range(2):
        with reference.active():
            assert torch.equal(logps(model), first)
            assert not token_logprobs(model, micro()).requires_grad
        assert same(weights(model), values)
        assert torch.equal(logps(model), now)
    assert token_logprobs(model, micro()).requires_grad


def test_only_what_is_trained_is_copied():
    model = build(**KINDS["lora"])
    copied = Reference(model).copies
    assert sum(c.numel() for c in copied) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert len(copied) < len(list(model.parameters()))
    assert Reference(model, "base").copies == []


@pytest.mark.parametrize("name", ["lora", "lora and head", "dora"])
def test_of_new_adapters_the_initial_policy_is_the_base(name):
    model, plain = build(**KINDS[name]), logps(build(**{**KINDS[name], "lora": None}))
    initial, base = Reference(model), Reference(model, "base")
    train(model)
    values = weights(model)
    gradients = [p.requires_grad for p in model.parameters()]
    with initial.active():
        first = logps(model)
    with base.active():
        off = logps(model)
    torch.testing.assert_close(first, off, rtol=0, atol=1e-6)
    torch.testing.assert_close(off, plain, rtol=0, atol=1e-6)
    assert same(weights(model), values)
    assert [p.requires_grad for p in model.parameters()] == gradients
    assert (logps(model) - first).abs().max() > 0.05


def test_of_an_adapter_that_is_trained_further_it_is_the_adapter_as_loaded(tmp_path):
    folder = trained_adapter(tmp_path)
    model = build(pretrained=folder)
    loaded, plain = logps(model), logps(build())
    initial, base = Reference(model), Reference(model, "base")
    train(model)
    with initial.active():
        assert torch.equal(logps(model), loaded)
    with base.active():
        torch.testing.assert_close(logps(model), plain, rtol=0, atol=1e-6)
    assert (loaded - plain).abs().max() > 0.05
    assert (logps(model) - loaded).abs().max() > 0.05


@pytest.mark.parametrize("which", ["initial", "base"])
def test_an_exception_inside_restores_the_policy(which):
    model = build(**KINDS["lora"])
    reference = Reference(model, which)
    train(model)
    now, values = logps(model), weights(model)

    def fail():
        with reference.active():
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert same(weights(model), values)
    assert torch.equal(logps(model), now)
    assert torch.is_grad_enabled()
    with reference.active():
        assert not torch.equal(logps(model), now)


@pytest.mark.parametrize(
    ("name", "which"), [(name, which) for name in KINDS for which in ("initial", "base") if (name, which) != NO_ADAPTER]
)
def test_training_goes_on_as_if_it_had_not_been_asked(name, which):
    options = KINDS[name]
    asked, alone = build(**options), build(**options)
    identities = [id(p) for p in asked.parameters()]
    train(asked, steps=4, reference=Reference(asked, which))
    train(alone, steps=4)
    assert [id(p) for p in asked.parameters()] == identities
    assert same(weights(asked), weights(alone))


def test_gradients_of_before_survive_a_look_at_the_reference():
    model = build()
    reference = Reference(model)
    loss = token_logprobs(model, micro()).sum()
    expected = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    loss.backward()
    with reference.active():
        logps(model)
    assert same([p.grad for p in model.parameters()], list(expected))


def test_base_needs_adapters():
    with pytest.raises(UserError, match="reference: base needs a model with adapters; use initial"):
        Reference(build(), "base")
