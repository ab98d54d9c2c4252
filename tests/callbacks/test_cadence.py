"""What is due every few steps is due once, however many steps a batch makes; and where a run ends."""

from types import SimpleNamespace

import lightning as L
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.batching.loader import StepLoader
from lightning_posttrain.callbacks.cadence import passed, total_steps
from lightning_posttrain.callbacks.checkpoint import Checkpoints
from lightning_posttrain.callbacks.checkpoint_io import checkpoints_in
from lightning_posttrain.callbacks.generation import GenerationEval
from lightning_posttrain.callbacks.progress import ProgressLines
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.text.tokenizer import TokenizerSpec
from tests.tinyrun import ARCHITECTURE, PER_STEP, STEPS, Rows, trainer_for


@pytest.mark.parametrize(
    ("every", "before", "now", "due"),
    [(4, 3, 4, True), (4, 4, 5, False), (4, 3, 9, True), (4, 5, 7, False), (4, 4, 4, False), (1, 0, 1, True)],
)
def test_a_multiple_was_passed(every, before, now, due):
    assert passed(every, before, now) is due


@given(st.integers(1, 50), st.integers(0, 500), st.integers(0, 60))
def test_it_is_whether_a_multiple_lies_between(every, before, jump):
    assert passed(every, before, before + jump) is any(s % every == 0 for s in range(before + 1, before + jump + 1))


def test_the_module_knows_the_end_of_a_run_better_than_the_trainer():
    trainer = SimpleNamespace(estimated_stepping_batches=10)
    assert total_steps(trainer, SimpleNamespace(total_steps=30)) == 30
    assert total_steps(trainer, SimpleNamespace()) == 10


class Thrice(SFTModule):
    """Three optimizer steps from each batch."""

    updates_per_batch = 3

    def training_step(self, batch, batch_idx):
        self.updated = [batch] * 3
        for _ in range(3):
            values = self.update(batch)
        self.log_step(values)


class Evaluation(GenerationEval):
    """Only notes when it would evaluate."""

    def __init__(self, every_n_steps):
        super().__init__(GSM8K(), "rows.jsonl", every_n_steps)
        self.at = []

    def setup(self, *_, **__):
        pass

    def evaluate(self, trainer, module):
        self.evaluated_at = trainer.global_step
        self.at.append(trainer.global_step)


def thrice(folder, callbacks, resume=None):
    module = Thrice(architecture=ARCHITECTURE, tokenizer=TokenizerSpec(kind="byte"))
    trainer = trainer_for(folder, callbacks, max_epochs=1)
    trainer.fit(module, StepLoader(Rows(), PER_STEP, 60), ckpt_path=resume)
    return trainer


class Stop(L.Callback):
    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = True


def test_batches_of_several_steps_miss_nothing_that_is_due(tmp_path, capsys):
    evaluation = Evaluation(4)
    trainer = thrice(tmp_path, [evaluation, Checkpoints(every_n_steps=5, keep=9), ProgressLines()])
    assert trainer.global_step == 3 * STEPS
    assert evaluation.at == [0, 6, 9, 12, 15]  # the ends of the batches that passed 4, 8, 12; then the end
    assert [m.step for _, m in checkpoints_in(tmp_path / "checkpoints")] == [6, 12, 15]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 3/15 ")
    assert lines[-1].startswith("step 15/15 ")
    assert lines[-1].endswith(" 0 s left")


def test_a_resumed_run_keeps_the_cadence(tmp_path):
    thrice(tmp_path, [Checkpoints(every_n_steps=100), Stop()])
    evaluation = Evaluation(4)
    thrice(tmp_path, [evaluation, Checkpoints(every_n_steps=5, keep=9)], tmp_path / "checkpoints" / "last.ckpt")
    assert evaluation.at == [6, 9, 12, 15]
    assert [m.step for _, m in checkpoints_in(tmp_path / "checkpoints")] == [3, 6, 12, 15]
