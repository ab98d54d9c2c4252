"""The validation of step 0 is the validation of any other step, for every module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from lightning_posttrain.batching.loader import StepLoader
from lightning_posttrain.batching.prompts import PromptLoader
from lightning_posttrain.callbacks.initial_validation import InitialValidation
from lightning_posttrain.modules.optim import OptimizerSpec
from lightning_posttrain.modules.pretrain import PretrainModule
from lightning_posttrain.text.tokenizer import TokenizerSpec
from tests.tinyrun import ARCHITECTURE, Pairs, Rows, build, build_dpo, build_grpo, digest, prompts, trainer_for


class Seen(L.pytorch.loggers.Logger):
    """Keeps what is logged, by step."""

    name, version = "seen", 0

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[int, dict[str, float]] = {}

    def log_hyperparams(self, *_: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        found = {k: v for k, v in metrics.items() if k.startswith("val/")}
        if found:
            assert step is not None
            assert step not in self.values
            self.values[step] = found


class Batches(L.Callback):
    """Which rows every validation saw."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[int, tuple[str, ...]]]] = []

    def on_validation_start(self, *_: Any) -> None:
        self.seen.append([])

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        self.seen[-1].append((batch.index, tuple(i for m in batch.micros for i in m.ids)))


def pretrain(**options: Any) -> PretrainModule:
    architecture = {**ARCHITECTURE, "model_type": "qwen3"}
    return PretrainModule(
        architecture=architecture,
        tokenizer=TokenizerSpec(kind="byte"),
        schedule=build().schedule_spec,
        **{"optimizer": OptimizerSpec(lr=1e-2), **options},
    )


MODULES: dict[str, Any] = {"sft": build, "dpo": build_dpo, "pretrain": pretrain, "grpo": build_grpo}


def fitted(folder: Path, name: str, initial: bool, **options: Any) -> tuple[Seen, Batches, Any, Any]:
    logger, batches = Seen(), Batches()
    module = MODULES[name](optimizer=OptimizerSpec(lr=1e-2))
    callbacks: list[L.Callback] = [batches, InitialValidation()] if initial else [batches]
    trainer = trainer_for(
        folder, callbacks, **{"max_epochs": 2, "logger": logger, "enable_checkpointing": False, **options}
    )
    make: Any = Pairs if name == "dpo" else Rows
    train = PromptLoader(prompts(), 2, 200) if name == "grpo" else StepLoader(make(8), 4, 200)
    trainer.fit(module, train, StepLoader(make(14, seed=1), 2, 100, seed=None))
    return logger, batches, module, trainer


@pytest.mark.parametrize("name", MODULES)
def test_step_0_is_logged_and_later_validations_do_not_know_of_it(name: str, tmp_path: Path) -> None:
    plain, _, without, _ = fitted(tmp_path / "plain", name, initial=False)
    both, _, module, _ = fitted(tmp_path / "both", name, initial=True)
    assert digest(module) == digest(without)
    first = both.values.pop(0)
    assert both.values == plain.values
    assert first.keys() == next(iter(plain.values.values())).keys()


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_step_0_is_what_a_model_that_does_not_learn_has_later(name: str, tmp_path: Path) -> None:
    logger, _, _, _ = fitted(tmp_path, name, initial=True, max_epochs=1)
    module = MODULES[name](optimizer=OptimizerSpec(lr=1e-12))
    still = Seen()
    make: Any = Pairs if name == "dpo" else Rows
    trainer = trainer_for(tmp_path, [], max_epochs=1, logger=still, enable_checkpointing=False)
    trainer.fit(module, StepLoader(make(8), 4, 200), StepLoader(make(14, seed=1), 2, 100, seed=None))
    assert logger.values[0] == pytest.approx(next(iter(still.values.values())), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("limits", [{"limit_val_batches": 3}, {"limit_val_batches": 0.5}, {"num_sanity_val_steps": 2}])
@pytest.mark.parametrize("seed", [None, 0])
def test_every_validation_sees_the_same_rows(seed: int | None, limits: dict[str, Any], tmp_path: Path) -> None:
    batches = Batches()
    trainer = trainer_for(tmp_path, [batches, InitialValidation()], max_epochs=3, **limits)
    trainer.fit(build(), StepLoader(Rows(8), 4, 200), [StepLoader(Rows(14, seed=1), 2, 100, seed=seed)])
    whole = max(batches.seen, key=len)
    assert [index for index, _ in whole] == list(range(3 if "limit_val_batches" in limits else 7))
    assert len(batches.seen) >= 4
    for seen in batches.seen:
        assert seen == whole[: len(seen)]
    assert sum(seen == whole for seen in batches.seen) >= 4


def test_no_validation_no_step_0(tmp_path: Path) -> None:
    logger, batches, _, _ = fitted(tmp_path, "sft", initial=True, limit_val_batches=0)
    assert not logger.values
    assert not batches.seen


def test_nothing_ranks_a_step_by_the_validation_of_step_0(tmp_path: Path) -> None:
    known: list[set[str]] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            known.append(set(trainer.callback_metrics))

    trainer = trainer_for(tmp_path, [InitialValidation(), Watch()], max_epochs=1)
    trainer.fit(build(), StepLoader(Rows(8), 4, 200), StepLoader(Rows(4, seed=1), 2, 100, seed=None))
    assert not any(name.startswith("val/") for name in known[0])
    assert torch.isfinite(trainer.callback_metrics["val/nll"])
