"""Several ranks: one of a machine tokenises before the others set up, and those find its work."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.trainer.states import TrainerFn

from lightning_posttrain.batching import corpus
from lightning_posttrain.datamodules.pretrain import PretrainDataModule
from lightning_posttrain.datamodules.sft import SFTDataModule
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.text import cache
from lightning_posttrain.text.spec import ChatSpec
from lightning_posttrain.text.tokenizer import TokenizerSpec
from tests.tinyrun import ARCHITECTURE, trainer_for


def sft(folder: Path) -> SFTDataModule:
    rows = [{"prompt": f"{i}?", "completion": f"{i}!"} for i in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SFTDataModule(str(folder / "rows.jsonl"), examples_per_step=2, cache_dir=str(folder / "cache"))


def pretrain(folder: Path) -> PretrainDataModule:
    (folder / "a.txt").write_text("words " * 50)
    sizes = {"sequence_length": 8, "tokens_per_step": 16}
    return PretrainDataModule({"a": str(folder / "a.txt")}, cache_dir=str(folder / "cache"), **sizes)


MODULE: dict[str, Any] = {
    "architecture": ARCHITECTURE,
    "tokenizer": TokenizerSpec(kind="byte"),
    "chat": ChatSpec("plain"),
}


@pytest.mark.parametrize("make", [sft, pretrain])
@pytest.mark.parametrize("stage", [TrainerFn.FITTING, TrainerFn.VALIDATING])
def test_what_one_rank_has_tokenised_the_others_read(
    make: Any, stage: TrainerFn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = [make(tmp_path) for _ in range(2)]
    for rank, data in enumerate(ranks):
        place = {"global_rank": rank, "world_size": 2, "state": SimpleNamespace(fn=stage)}
        data.trainer = SimpleNamespace(lightning_module=SFTModule(**MODULE), **place)
    ranks[0].prepare_data()
    for room in (cache, corpus):
        monkeypatch.setattr(room, "in_order" if room is corpus else "_write", lambda *_: pytest.fail("made twice"))
    for data in ranks:
        data.setup(stage.value)
    assert ranks[0].fingerprints() == ranks[1].fingerprints()
    assert len(ranks[1].train_dataloader()) == len(ranks[0].train_dataloader())


@pytest.mark.parametrize("make", [sft, pretrain])
def test_the_trainer_asks_for_it_before_any_set_up(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, order = make(tmp_path), []

    def noted(name: str, real: Any) -> Any:
        return lambda *words, **named: (order.append(name), real(*words, **named))[1]

    for name in ("prepare_data", "setup"):
        monkeypatch.setattr(data, name, noted(name, getattr(data, name)))
    trainer: L.Trainer = trainer_for(tmp_path, [], max_epochs=1, enable_checkpointing=False)
    trainer.fit(SFTModule(**MODULE), datamodule=data)
    assert order[0] == "prepare_data"
    assert order[-1] == "setup"
