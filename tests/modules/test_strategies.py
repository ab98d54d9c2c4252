"""What the loop tells strategies that shard, and what it refuses. Real shards are in tests/equivalence/test_ddp.py."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from lightning_posttrain.callbacks.checkpoint_folders import writes_folders
from lightning_posttrain.modules.strategies import data_mesh, deepspeed_engine, set_up_strategy
from lightning_posttrain.ops.sharding import full, gathered_state, local, set_gradient_sync, shard, whole_parameters
from lightning_posttrain.types import UserError
from tests.tinyrun import ARCHITECTURE, build


class DeepSpeedStrategy(SimpleNamespace):
    """Stands for Lightning's, which cannot be made without a GPU."""


def trainer(**config):
    return SimpleNamespace(strategy=DeepSpeedStrategy(config=config, model="engine"))


def test_deepspeed_is_told_the_loops_limits():
    told = trainer(zero_optimization={"stage": 2})
    set_up_strategy(told, 0.5)
    assert told.strategy.config["gradient_clipping"] == 0.5
    assert told.strategy.config["gradient_accumulation_steps"] == 1
    assert deepspeed_engine(told) == "engine"
    assert deepspeed_engine(SimpleNamespace(strategy=SimpleNamespace(model=1))) is None


@pytest.mark.parametrize("field", ["gradient_clipping", "gradient_accumulation_steps"])
def test_a_deepspeed_config_that_says_something_else_is_refused(field):
    with pytest.raises(UserError, match=f"{field}=4"):
        set_up_strategy(trainer(**{field: 4}), 1.0)
    set_up_strategy(trainer(**{field: "auto"}), 1.0)


def test_gradients_are_exchanged_with_the_last_backward_only():
    seen = []
    engine = SimpleNamespace(set_gradient_accumulation_boundary=seen.append)
    for last in (False, False, True):
        set_gradient_sync(torch.nn.Linear(1, 1), engine, last)
    assert seen == [False, False, True]


def test_layers_are_not_split():
    size = SimpleNamespace(size=lambda: 2)
    with pytest.raises(UserError, match="tensor_parallel_size=2"):
        data_mesh({"tensor_parallel": size, "data_parallel": size})


def test_a_head_that_is_the_embedding_is_not_sharded():
    module = build(architecture={**ARCHITECTURE, "tie_word_embeddings": True})
    module.build()
    with pytest.raises(UserError, match="tie_word_embeddings"):
        shard(module.model, None, None)


def test_nothing_changes_without_shards():
    layer = torch.nn.Linear(2, 2)
    assert gathered_state(layer) is None
    assert local(layer.weight) is full(layer.weight) is layer.weight
    with whole_parameters(layer):
        layer(torch.ones(1, 2))


def test_who_writes_folders():
    assert writes_folders(ModelParallelStrategy())
    assert not writes_folders(ModelParallelStrategy(save_distributed_checkpoint=False))
