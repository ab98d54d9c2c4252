"""A row longer than the model takes is refused by every method, early where rows are read and at the step elsewhere."""

import pytest

from lightning_posttrain.cli import main
from lightning_posttrain.datamodules.preferences import PreferenceDataModule
from lightning_posttrain.datamodules.pretrain import PretrainDataModule
from lightning_posttrain.datamodules.prompts import PromptDataModule
from lightning_posttrain.datamodules.sft import SFTDataModule
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.text.tokenizer import TokenizerSpec
from lightning_posttrain.types import UserError
from tests import tinyrun

SHORT = {**tinyrun.ARCHITECTURE, "max_position_embeddings": 16}
LEARNED = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 16}


@pytest.mark.parametrize("architecture", [SHORT, LEARNED])
@pytest.mark.parametrize("method", [{}, {"dpo": True}, {"grpo": True}])
def test_rows_of_ones_own_loader_are_refused_at_the_step(tmp_path, architecture, method):
    module = {"architecture": architecture}
    with pytest.raises(UserError, match=r"(rows\.jsonl:\d+: |prompt).* 16 positions"):
        tinyrun.train(tmp_path, max_epochs=1, validate=False, module=module, **method)


def short_module() -> SFTModule:
    architecture = {**tinyrun.ARCHITECTURE, "max_position_embeddings": 64}
    return SFTModule(architecture=architecture, tokenizer=TokenizerSpec(kind="byte"))


ROWS = [
    {"prompt": "a", "completion": "b", "chosen": "c", "rejected": "d"},
    {"prompt": "a", "completion": "b" * 90, "chosen": "c", "rejected": "d" * 90},
    {"prompt": "e", "completion": "f", "chosen": "g", "rejected": "h"},
]
DATA = {SFTDataModule: ("prompt", "completion"), PreferenceDataModule: ("prompt", "chosen", "rejected")}


@pytest.mark.parametrize("kind", list(DATA))
def test_rows_are_refused_where_they_are_read_or_dropped_and_counted(tmp_path, write_rows, capsys, kind):
    path = str(write_rows([{name: row[name] for name in DATA[kind]} for row in ROWS]))
    renderer = short_module().training_renderer()
    with pytest.raises(UserError, match=r"rows\.jsonl:2: the row has \d+ tokens, above the model's positions 64"):
        kind(path, cache_dir=str(tmp_path / "c")).prepare(renderer)
    data = kind(path, overlong="drop", cache_dir=str(tmp_path / "c"))
    data.prepare(short_module().training_renderer(**data.limits))
    assert len(data.train_set) == 2
    assert "1" in capsys.readouterr().err


def test_prompts_leave_room_for_an_answer(write_rows):
    path = str(write_rows([{"question": "?" * n, "answer": "#### 1"} for n in (1, 2, 200)]))
    renderer = tinyrun.build_grpo().renderer
    PromptDataModule(path, GSM8K(), max_prompt_tokens=100).prepare(renderer, answer_tokens=8)
    with pytest.raises(UserError, match=r"rows\.jsonl:3: the prompt has \d+ tokens.*max_new_tokens=8.*128 positions"):
        PromptDataModule(path, GSM8K()).prepare(renderer, answer_tokens=8)


def test_blocks_are_no_longer_than_the_model_takes(tmp_path):
    (tmp_path / "a.txt").write_text("some text " * 100)
    data = PretrainDataModule({"a": str(tmp_path / "a.txt")}, sequence_length=128, tokens_per_step=128)
    module = short_module()
    with pytest.raises(UserError, match=r"data\.sequence_length=128.*64 positions"):
        data.prepare(module.tokenizer, positions=module.limits.positions)


@pytest.mark.parametrize("field", ["architecture.max_position_embeddings", "load.overrides.max_position_embeddings"])
def test_the_command_line_says_row_length_and_limit(tiny_config, capfd, field):
    assert main(["fit", "-c", str(tiny_config), f"--model.{field}=8"]) == 2
    assert "above the model's positions 8" in capfd.readouterr().err
