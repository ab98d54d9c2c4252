"""One small run with evaluations and checkpoints, and one with an adapter, shared by the tests of this folder."""

import json
from pathlib import Path

import pytest
import yaml

from lightning_posttrain.cli import main
from tests.conftest import ARCHITECTURE

STEPS = 4


def write_config(folder: Path) -> Path:
    """A configuration on arithmetic rows; its run directory is ``folder / "run"``."""
    question, answer = "What comes out when you add {i} to {i}?", "It is {n}.\n#### {n}"
    rows = [{"question": question.format(i=i), "answer": answer.format(n=2 * i)} for i in range(10)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = {
        "class_path": "GenerationEval",
        "init_args": {
            "task": "GSM8K",
            "path": str(folder / "rows.jsonl"),
            "max_examples": 4,
            "every_n_steps": 2,
            "sampling": {"max_new_tokens": 6},
        },
    }
    config = {
        "model": {
            "class_path": "SFTModule",
            "init_args": {"architecture": ARCHITECTURE, "tokenizer": {"kind": "byte"}, "optimizer": {"lr": 1e-2}},
        },
        "data": {
            "class_path": "SFTDataModule",
            "init_args": {
                "path": str(folder / "rows.jsonl"),
                "task": "GSM8K",
                "val_examples": 2,
                "examples_per_step": 4,
                "cache_dir": str(folder / "cache"),
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "max_steps": STEPS,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "callbacks": [evaluation],
        },
        "checkpoint": {"every_n_steps": 2, "keep": 5},
        "run": {"dir": str(folder / "run")},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of full weights: evaluated at steps 0, 2 and 4, checkpoints at 2 and 4."""
    folder = tmp_path_factory.mktemp("full")
    assert main(["fit", "-c", str(write_config(folder))]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def adapter_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an adapter on a base in 4 bits."""
    folder = tmp_path_factory.mktemp("adapter")
    options = ["--model.lora.r=2", "--model.load.quantization=nf4", "--trainer.callbacks=null", "--trainer.max_steps=2"]
    wide = ["--model.architecture.hidden_size=64", "--model.architecture.head_dim=32"]  # 4 bits come in blocks of 64
    assert main(["fit", "-c", str(write_config(folder)), *options, *wide]) == 0
    return folder / "run"
