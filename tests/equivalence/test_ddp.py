"""Two ranks equal one process, whatever the cutting, sharded or not; a signal to one of them stops both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_posttrain.batching.loader import StepLoader
from lightning_posttrain.callbacks.checkpoint_io import AtomicCheckpointIO
from tests.conftest import HANGS
from tests.tinyrun import STEPS, Rows

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
OPTIONS: dict[str, Any] = {"max_epochs": 2, "checkpoints": {"every_n_steps": 100}, "adam_eps": 1e-4}
THREE = {"per_step": 3, "tokens_per_micro": 44}
"""Steps of which some have more than two examples that fit with no other: one of two ranks is idle once."""
SIGTERM = {"kind": "signal_in", "place": "on_train_batch_start", "step": 3, "signal": 15}
EARLY = {
    f"{place}-{'both' if everywhere else 'one'}": {"kind": "signal_in", "place": place, "step": 0, "signal": 15}
    | {"everywhere": everywhere}
    for place in ("on_fit_start", "on_sanity_check_start", "on_validation_batch_start", "on_train_start")
    for everywhere in (False, True)
}
"""Signals before the first step, and where they arrive."""
BUSY = {
    f"{place}-{'both' if everywhere else 'one'}": {"kind": "signal_in", "place": place, "step": 3, "signal": 15}
    | {"everywhere": everywhere}
    for place in ("on_validation_batch_start", "on_after_backward")
    for everywhere in (False, True)
}
"""The same between and within steps."""
CASES: dict[str, Any] = {
    "one": {"attempts": [{}], "options": OPTIONS},
    "two": {"attempts": [{}], "options": {**OPTIONS, "world": 2}},
    "small-micros": {"attempts": [{}], "options": {**OPTIONS, "world": 2, "tokens_per_micro": 44}},
    "dpo-one": {"attempts": [{}], "options": {**OPTIONS, "dpo": True, "module": {"loss": "aot"}}},
    "dpo-two": {"attempts": [{}], "options": {**OPTIONS, "dpo": True, "module": {"loss": "aot"}, "world": 2}},
    "fsdp": {"attempts": [{}], "options": {**OPTIONS, "world": 2, "fsdp": True}},
    "fsdp-dpo": {
        "attempts": [{}],
        "options": {**OPTIONS, "dpo": True, "module": {"loss": "aot"}, "world": 2, "fsdp": True},
    },
    "three-one": {"attempts": [{}], "options": {**OPTIONS, **THREE}},
    "three-two": {"attempts": [{}], "options": {**OPTIONS, **THREE, "world": 2}},
    "three-fsdp": {"attempts": [{}], "options": {**OPTIONS, **THREE, "world": 2, "fsdp": True}},
    "fsdp-stopped": {"attempts": [SIGTERM, {}], "options": {**OPTIONS, "world": 2, "fsdp": True}},
    "fsdp-folders": {"attempts": [SIGTERM, {}], "options": {**OPTIONS, "world": 2, "fsdp": "folders"}},
    "stopped": {"attempts": [SIGTERM, {}], "options": {**OPTIONS, "world": 2}},
}
STEPWISE = {**OPTIONS, "world": 2, "val_check_interval": 3}
CASES |= {f"early-{k}": {"attempts": [v], "options": {**STEPWISE, "num_sanity_val_steps": 2}} for k, v in EARLY.items()}
CASES |= {f"busy-{k}": {"attempts": [v], "options": STEPWISE} for k, v in BUSY.items()}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "cases.json").write_text(json.dumps(CASES))
    command = [sys.executable, "-m", "tests.e2e.crash_runner", str(folder), str(folder / "cases.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=6 * HANGS)
    return folder


def values(folder: Path, key: str) -> list[float]:
    lines = [json.loads(x) for path in sorted(folder.glob("record-*.jsonl")) for x in path.read_text().splitlines()]
    return [float.fromhex(line[key]) for line in lines if key in line]


def exits(work: Path, name: str) -> list[int]:
    return json.loads((work / "results.json").read_text())[name]["exits"]


def steps(name: str) -> int:
    """Steps of an epoch."""
    return 6 if name.startswith("three") else STEPS


def weights(folder: Path, epoch: int) -> dict[str, Any]:
    return AtomicCheckpointIO().load_checkpoint(folder / "checkpoints" / f"step-{2 * epoch:08d}.ckpt")["state_dict"]


def test_the_case_of_an_idle_rank_has_one() -> None:
    loader = StepLoader(Rows(), THREE["per_step"], THREE["tokens_per_micro"], rank=1, world_size=2)
    assert any(micro.idle for step in loader for micro in step.micros)


@pytest.mark.parametrize(
    ("name", "single"),
    [
        ("two", "one"),
        ("small-micros", "one"),
        ("dpo-two", "dpo-one"),
        ("fsdp", "one"),
        ("fsdp-dpo", "dpo-one"),
        ("three-two", "three-one"),
        ("three-fsdp", "three-one"),
    ],
)
def test_two_ranks_equal_one(name: str, single: str, work: Path) -> None:
    stderr = "".join(path.read_text() for path in (work / name).glob("stderr-*"))
    assert exits(work, name) == [0, 0], stderr
    assert len(values(work / name, "loss")) == 2 * steps(name)
    assert values(work / name, "loss") == pytest.approx(values(work / single, "loss"), rel=1e-6)
    assert values(work / name, "nll") == pytest.approx(values(work / single, "nll"), rel=1e-6)
    expected = weights(work / single, steps(name))
    assert all((w - expected[k]).abs().max() < 1e-5 for k, w in weights(work / name, steps(name)).items())
    assert (work / name / "weights").read_text() == (work / name / "weights1").read_text(), "the ranks drifted apart"


@pytest.mark.parametrize(("name", "whole"), [("stopped", "two"), ("fsdp-stopped", "fsdp"), ("fsdp-folders", "fsdp")])
def test_a_signal_to_one_rank_stops_both_and_the_run_resumes(name: str, whole: str, work: Path) -> None:
    assert exits(work, name) == [143, 143, 0, 0]
    assert values(work / name, "loss") == values(work / whole, "loss")
    assert (work / name / "weights").read_text() == (work / whole / "weights").read_text()


@pytest.mark.parametrize("name", EARLY)
def test_a_signal_before_the_first_step_stops_all_ranks(name: str, work: Path) -> None:
    assert exits(work, f"early-{name}") == [143, 143]
    assert not list((work / f"early-{name}" / "checkpoints").glob("*.ckpt"))


@pytest.mark.parametrize("name", BUSY)
def test_a_signal_stops_all_ranks_within_a_step(name: str, work: Path) -> None:
    assert exits(work, f"busy-{name}") == [143, 143]
    (kept,) = (work / f"busy-{name}" / "checkpoints").glob("step-*.ckpt")
    assert int(kept.stem.rpartition("-")[2]) in (3, 4)
