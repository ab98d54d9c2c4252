"""Runs that are told to stop before they have done anything: the exit code says so in one line, and nothing is left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import yaml

from lightning_posttrain.cli import main

ROOT = Path(__file__).parents[1]
PLACES = {
    "before the data": "lightning_posttrain.datamodules.sft.SFTDataModule.__init__",
    "the Trainer": "lightning.pytorch.trainer.connectors.callback_connector._CallbackConnector.on_trainer_init",
    "tokenising": "lightning_posttrain.text.render.Renderer.draft",
    "building": "lightning_posttrain.modules.base.PolicyModule.build",
    "the optimizer": "lightning_posttrain.modules.base.PolicyModule.configure_optimizers",
    "run files": "lightning_posttrain.callbacks.run_files.RunFiles._start",
    "validating": "lightning_posttrain.modules.base.PolicyModule.validation_step",
}


def signalled(monkeypatch: pytest.MonkeyPatch, place: str, signum: int) -> None:
    """Have this process send itself a signal where ``place`` is first called."""
    module, _, name = place.rpartition(".")
    owner_module, _, owner_name = module.rpartition(".")
    owner = getattr(__import__(owner_module, fromlist=[owner_name]), owner_name)
    real, sent = getattr(owner, name), []

    def call(*args, **options):
        if not sent:
            sent.append(os.kill(os.getpid(), signum))
        return real(*args, **options)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", PLACES)
def test_a_run_without_a_step_leaves_nothing(tiny_config, tmp_path, monkeypatch, capfd, place, signum):
    signalled(monkeypatch, PLACES[place], signum)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-c", str(tiny_config)])
    assert stop.value.code == 128 + signum
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    err = capfd.readouterr().err
    assert f"{signum.name}: stopping; exit code {128 + signum}" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_an_evaluation_that_is_interrupted_may_begin_again(tiny_config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signalled(patch, PLACES["validating"], signal.SIGINT)
        with pytest.raises(SystemExit) as stop:
            main(["validate", "-c", str(tiny_config)])
    assert stop.value.code == 130
    assert not (tmp_path / "run").exists()
    assert main(["validate", "-c", str(tiny_config)]) == 0


def test_other_commands_say_that_they_were_interrupted(monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_posttrain.cli._other", interrupted)
    assert main(["preview"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


IMPORTING = """
import importlib.abc, os, signal, sys
from lightning_posttrain.cli import main

class AtImport(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            try:  # as library code that guards an import does
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException:
                pass

sys.meta_path.insert(0, AtImport())
raise SystemExit(main(["fit", "-c", "nowhere.yaml"]))
"""


@pytest.mark.parametrize("module", ["lightning_posttrain.types", "lightning.pytorch.trainer.trainer", "transformers"])
def test_an_interrupt_while_libraries_are_imported(module, tmp_path):
    command = [sys.executable, "-c", IMPORTING, module]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


class SignalAt(L.Callback):
    """Sends SIGTERM to this process at the start of training, in some ranks.

    Args:
        ranks: in which.
    """

    def __init__(self, ranks: list[int]) -> None:
        self.ranks = ranks

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_rank in self.ranks:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.e2e
@pytest.mark.parametrize("ranks", [[0], [1], [0, 1]])
def test_two_ranks_stop_in_the_initial_validation(tiny_config, tmp_path, ranks):
    config = yaml.safe_load(tiny_config.read_text())
    config["trainer"] |= {
        "devices": 2,
        "strategy": "ddp",
        "callbacks": [{"class_path": "tests.test_interrupts.SignalAt", "init_args": {"ranks": ranks}}],
    }
    tiny_config.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "lightning_posttrain.cli", "fit", "-c", str(tiny_config)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert "stopped before the first step" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_told_to_stop_after_a_step_keeps_it(tiny_config, tmp_path, monkeypatch):
    signalled(monkeypatch, "lightning_posttrain.modules.base.PolicyModule.update", signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-c", str(tiny_config)])
    assert stop.value.code == 143
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["status"], facts["steps"]) == ("stopped: Interrupted", 1)
    assert main(["fit", "-c", str(tiny_config), "--run.resume=true"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 3
