"""Reinforcement learning that is killed in any phase and resumed equals a run that never was, to the last bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_posttrain.callbacks.checkpoint_io import AtomicCheckpointIO
from lightning_posttrain.rollout.ledger import read_steps
from tests.conftest import HANGS

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
BATCHES = 3
"""Per epoch; two epochs, two updates each."""
OPTIONS: dict[str, Any] = {
    "grpo": True,
    "max_epochs": 2,
    "checkpoints": {"every_n_steps": 2},
    "module": {"inner_epochs": 2},
}
PHASES = {
    "generation": "lightning_posttrain.rollout.samplers:KVCacheSampler.generate",
    "decoding": "lightning_posttrain.rollout.decoding:Decoding.step",
    "rewards": "lightning_posttrain.tasks.reward:RewardRunner.evaluate",
    "advantages": "lightning_posttrain.modules.grpo:GRPOModule.assess",
    "learning": "lightning_posttrain.modules.grpo:GRPOModule.micro_loss",
    "update": "lightning_posttrain.modules.base:PolicyModule.update",
    "ledger": "lightning_posttrain.modules.grpo:write_step",
}


def cases() -> dict[str, Any]:
    found: dict[str, Any] = {"reference": {"attempts": [{}], "options": OPTIONS}}
    for name, place in PHASES.items():
        number = {"decoding": 20, "learning": 9, "update": 8}.get(name, 4)
        fault = {"kind": "kill_in_call", "place": place, "number": number}
        found[name] = {"attempts": [fault, {}], "options": OPTIONS}
    ddp = {**OPTIONS, "adam_eps": 1e-4}
    found["one"] = {"attempts": [{}], "options": ddp}
    found["two"] = {"attempts": [{}], "options": {**ddp, "world": 2}}
    return found


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grpo")
    (folder / "cases.json").write_text(json.dumps(cases()))
    command = [sys.executable, "-m", "tests.e2e.crash_runner", str(folder), str(folder / "cases.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=6 * HANGS)
    return folder


def exits(work: Path, name: str) -> list[int]:
    return json.loads((work / "results.json").read_text())[name]["exits"]


def ledger(folder: Path) -> list[Any]:
    return read_steps(folder).order("step, key, sample").fetchall()


def errors(work: Path, name: str) -> str:
    return "".join(path.read_text() for path in (work / name).glob("stderr-*"))


@pytest.mark.parametrize("name", PHASES)
def test_a_run_killed_in_any_phase_is_the_same_run(name: str, work: Path) -> None:
    assert exits(work, "reference") == [0], errors(work, "reference")
    assert exits(work, name) == [-9, 0], errors(work, name)
    assert (work / name / "weights").read_text() == (work / "reference" / "weights").read_text()
    assert ledger(work / name) == ledger(work / "reference")


def test_two_ranks_draw_and_learn_the_same(work: Path) -> None:
    assert exits(work, "one") == [0], errors(work, "one")
    assert exits(work, "two") == [0, 0], errors(work, "two")
    assert (work / "two" / "weights").read_text() == (work / "two" / "weights1").read_text(), "the ranks drifted apart"
    texts = "select step, key, sample, completion_ids, reward from r order by all"
    alone, together = (read_steps(work / n).query("r", texts).fetchall() for n in ("one", "two"))
    assert alone == together
    one, two = (weights(work / n) for n in ("one", "two"))
    assert all((two[k] - w).abs().max() < 1e-5 for k, w in one.items())


def weights(folder: Path) -> dict[str, Any]:
    path = folder / "checkpoints" / f"step-{2 * 2 * BATCHES:08d}.ckpt"
    return AtomicCheckpointIO().load_checkpoint(path)["state_dict"]
