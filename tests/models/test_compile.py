"""`load.compile` compiles the decoder's layers, and the compiled model trains like the plain one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_posttrain.batching.tree import collate
from lightning_posttrain.models.load import LoadSpec, load_policy
from lightning_posttrain.ops.logprobs import token_logprobs
from lightning_posttrain.types import Sequence
from tests.tinyrun import ARCHITECTURE


def gradients(load: LoadSpec) -> dict[str, torch.Tensor]:
    model = load_policy(None, ARCHITECTURE, vocab_size=300, load=load)
    rng = np.random.default_rng(0)
    prefix = rng.integers(0, 300, 20)
    rows = [np.concatenate([prefix, rng.integers(0, 300, 5 + i)]).astype(np.int32) for i in range(3)]
    micro = collate([(Sequence(ids, np.arange(len(ids)) >= 20),) for ids in rows])
    token_logprobs(model, micro).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_compiled_layers_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    plain = nn.Module.compile

    def traced(module: nn.Module, *args: Any, **options: Any) -> None:
        compiled.append(module)
        plain(module, *args, backend="aot_eager", **options)  # traced forward and backward, without a C++ compiler

    monkeypatch.setattr(nn.Module, "compile", traced)
    expected = gradients(LoadSpec())
    assert not compiled
    found = gradients(LoadSpec(compile=True))
    assert len(compiled) == ARCHITECTURE["num_hidden_layers"]
    assert all(torch.allclose(found[name], grad, atol=1e-5) for name, grad in expected.items())
