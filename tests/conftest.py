"""Every test runs offline and leaves no files outside its own folder."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are tiny, and the cores are for pytest's workers

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from lightning_posttrain import progress

progress.FIRST = float("inf")  # however slow the machine, lines about how far something is are in no test's output

settings.register_profile("offline", deadline=None, derandomize=True)  # the same cases everywhere, however slow
settings.load_profile("offline")

HANGS = 600.0
"""Seconds that bound a hang in a test, and decide nothing: no outcome may depend on how fast the machine is."""

ARCHITECTURE = {
    "model_type": "qwen3",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as JSON lines and returns the path."""

    def write(rows: list[dict], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def tiny_config(tmp_path: Path, write_rows: Callable[..., Path]) -> Path:
    """A whole configuration: a one-layer byte model on twelve prompt/completion rows, three steps an epoch."""
    rows = [{"prompt": f"Add {i} and {i}.", "completion": str(2 * i)} for i in range(12)]
    config = {
        "model": {
            "class_path": "SFTModule",
            "init_args": {
                "architecture": ARCHITECTURE,
                "tokenizer": {"kind": "byte"},
                "optimizer": {"lr": 1e-3},
            },
        },
        "data": {
            "class_path": "SFTDataModule",
            "init_args": {
                "path": str(write_rows(rows)),
                "val_examples": 2,
                "examples_per_step": 4,
                "tokens_per_micro": 256,
                "cache_dir": str(tmp_path / "cache"),
            },
        },
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "log_every_n_steps": 1, "enable_progress_bar": False},
        "run": {"dir": str(tmp_path / "run")},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
