"""A study of real runs: killed with its run in the third trial, given again, and its best configuration run."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from lightning_posttrain.cli import main
from tests.commands.conftest import write_config
from tests.conftest import HANGS

pytestmark = pytest.mark.e2e
TRIALS = 3
STEPS = 40
"""Enough that a run is not over before it is killed at its first checkpoint."""
LAST = f"eval/step_{STEPS:06d}/gsm8k/metrics.json"


def start(folder: Path) -> subprocess.Popen[bytes]:
    spec = {
        "base": [str(write_config(folder))],
        "space": {"model.optimizer.lr": {"type": "categorical", "choices": [1e-2, 1e-3, 2e-3]}},
        "fixed": {
            "trainer.callbacks.0.every_n_steps": None,
            "checkpoint.every_n_steps": 1,
            "trainer.max_steps": STEPS,
            "trainer.max_epochs": -1,
        },
        "objectives": [
            {"metric": "val/nll", "direction": "minimize"},
            {"metric": "eval/gsm8k/completion_tokens", "direction": "minimize"},
        ],
        "sampler": "grid",
        "keep_top_k": 1,
        "output_dir": str(folder / "out"),
    }
    (folder / "tune.yaml").write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-m", "lightning_posttrain.cli", "tune", "-c", str(folder / "tune.yaml")]
    with (folder / "tune.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def test_a_study_that_was_killed_is_finished_and_its_best_runs(tmp_path):
    out = tmp_path / "out"
    tune = start(tmp_path)
    end = time.monotonic() + HANGS
    while not list((out / "trial_2/checkpoints").glob("step-*.ckpt")):
        assert tune.poll() is None, (tmp_path / "tune.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.02)
    run = psutil.Process(tune.pid).children()
    tune.kill()
    tune.wait()
    for process in run:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(HANGS)
    began = [json.loads((out / f"trial_{n}/run.json").read_text())["started"] for n in (0, 1)]
    assert start(tmp_path).wait(240) == 0, (tmp_path / "tune.txt").read_text()

    with (out / "trials_results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["state"]) for row in rows] == [(str(n), "COMPLETE") for n in range(TRIALS)]
    assert began == [json.loads((out / f"trial_{n}/run.json").read_text())["started"] for n in (0, 1)]
    logs = [(out / f"trial_{n}/log.txt").read_text() for n in range(TRIALS)]
    assert [log.count("$ lightning-posttrain fit") for log in logs] == [1, 1, 2]
    assert "resuming from" in logs[2]
    for n, row in enumerate(rows):
        found = json.loads((out / f"trial_{n}" / LAST).read_text())
        assert float(row["value_eval/gsm8k/completion_tokens"]) == found["metrics"]["completion_tokens"]
        assert row["n_eval/gsm8k/completion_tokens"] == "4"
        assert 0 < float(row["value_val/nll"]) < 10
    assert len(list(out.glob("trial_*/model"))) == 1

    best = json.loads((out / "study.json").read_text())["best"][0]
    assert main(["fit", "-c", str(out / "best_1.yaml"), "--run.dir", str(tmp_path / "again")]) == 0
    again, first = (
        yaml.safe_load((p / "config.yaml").read_text()) for p in (tmp_path / "again", out / f"trial_{best}")
    )
    assert again["model"] == first["model"]
    assert again["trainer"] == first["trainer"] | {"default_root_dir": str(tmp_path / "again")}
    metrics = [json.loads((p / LAST).read_text())["metrics"] for p in (tmp_path / "again", out / f"trial_{best}")]
    assert metrics[0] == metrics[1]
