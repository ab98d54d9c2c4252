"""Runs that are killed, stopped, or out of disk, and then resumed, equal a run that never was, to the last bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_posttrain.callbacks.checkpoint_io import AtomicCheckpointIO, checkpoints_in, damage, find_resume
from tests.tinyrun import STEPS

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
LAST = 2 * STEPS
OPTIONS: dict[str, Any] = {"max_epochs": 2, "val_check_interval": 3}
SAVE_CALLS = 11
"""os calls of one checkpoint: sync, manifest, renames, link, pruning."""
SCORE_CALLS = 7
"""os calls after a validation that found a new best one: manifest and links."""
BEST = {"every_n_steps": 1, "monitor": "val/nll"}
TERM, INT = int(signal.SIGTERM), int(signal.SIGINT)


def cases() -> dict[str, Any]:
    found: dict[str, Any] = {"reference": {"attempts": [{}]}}
    for step in range(1, LAST + 1):
        found[f"kill-after-{step}"] = {"attempts": [{"kind": "after_step", "step": step}, {}]}
    for step in (4, 7):
        fault = {"kind": "after_step", "step": step}
        found[f"sparse-kill-after-{step}"] = {"attempts": [fault, {}], "checkpoints": {"every_n_steps": 3}}
    for step in (3, STEPS + 3):
        fault = {"kind": "signal_in", "place": "on_validation_batch_start", "step": step}
        found[f"kill-in-validation-{step}"] = {"attempts": [fault, {}]}
    for number in range(1, SAVE_CALLS + 1):
        fault = {"kind": "kill_in_save", "what": "calls", "step": STEPS, "number": number}
        found[f"kill-in-save-{number}"] = {"attempts": [fault, {}]}
    found["best"] = {"attempts": [{}], "checkpoints": BEST}
    for number in range(SAVE_CALLS + 1, SAVE_CALLS + SCORE_CALLS + 1):
        fault = {"kind": "kill_in_save", "what": "calls", "step": 3, "number": number}
        found[f"kill-in-score-{number}"] = {"attempts": [fault, {}], "checkpoints": BEST}
    for number in (1, 40):
        fault = {"kind": "kill_in_save", "what": "write", "step": 4, "number": number}
        found[f"kill-in-write-{number}"] = {"attempts": [fault, {}]}
    found["three-kills"] = {"attempts": [*({"kind": "after_step", "step": s} for s in (1, 3, 4)), {}]}
    for name, signum in (("sigterm", TERM), ("sigint", INT)):
        places = {"step": ("on_after_backward", 3), "validation": ("on_validation_batch_start", 3)}
        places |= {"epoch-end": ("on_after_backward", STEPS - 1), "start": ("on_train_batch_start", 0)}
        for where, (place, step) in places.items():
            fault = {"kind": "signal_in", "place": place, "step": step, "signal": signum}
            checkpoints = {"every_n_steps": 100}
            found[f"{name}-in-{where}"] = {"attempts": [fault, {}], "checkpoints": checkpoints}
    fault = {"kind": "signals_while_saving", "step": 4, "number": 30, "signal": TERM}
    found["sigterms-while-saving"] = {"attempts": [fault, {}]}
    for kind in ("file_limit", "no_space"):
        found[kind] = {"attempts": [{"kind": kind, "step": 4}, {}]}
    found["nan"] = {"attempts": [{"kind": "nan", "step": 4}]}
    for case in found.values():
        case["options"] = {**OPTIONS, "checkpoints": case.pop("checkpoints", {"every_n_steps": 1})}
    return found


CASES = cases()
RESUMED = [name for name in CASES if name not in ("reference", "nan")]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crashes")
    (folder / "cases.json").write_text(json.dumps(CASES))
    command = [sys.executable, "-m", "tests.e2e.crash_runner", str(folder), str(folder / "cases.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def results(work: Path) -> dict[str, Any]:
    return json.loads((work / "results.json").read_text())


def lines(folder: Path, attempt: int) -> list[dict[str, Any]]:
    path = folder / f"record-{attempt}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def record(folder: Path) -> list[dict[str, Any]]:
    """The lines of all attempts; what was run twice must have come out the same."""
    merged: dict[str, dict[str, Any]] = {}
    for attempt in range(len(list(folder.glob("stderr-*")))):
        for line in lines(folder, attempt):
            key = f"val {line['val']}" if "val" in line else f"step {line['step']}"
            assert merged.setdefault(key, line) == line
    return sorted(merged.values(), key=lambda line: (line.get("step", line.get("val")), "val" in line))


def errors(folder: Path, attempt: int = 0) -> str:
    return (folder / f"stderr-{attempt}").read_text()


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_equals_one_that_never_stopped(name: str, work: Path, results: dict[str, Any]) -> None:
    assert results["reference"]["exits"] == [0], errors(work / "reference")
    assert results[name]["exits"][-1] == 0, errors(work / name, len(results[name]["exits"]) - 1)
    assert record(work / name) == record(work / "reference")
    assert (work / name / "weights").read_text() == (work / "reference" / "weights").read_text()


@pytest.mark.parametrize("name", RESUMED)
def test_nothing_is_left_over_and_everything_kept_is_intact(name: str, work: Path, results: dict[str, Any]) -> None:
    folder = work / name / "checkpoints"
    assert not [f for f in results[name]["files"][-1] if f.startswith(".tmp")]
    kept = [path for path, _ in checkpoints_in(folder)]
    assert kept[-1] == (folder / "last.ckpt").resolve() == find_resume(folder)
    assert [damage(path) for path in kept] == [None] * len(kept)
    assert sorted(p.name for p in folder.glob("*.ckpt.json")) == sorted(f"{p.name}.json" for p in kept)
    assert len(kept) <= 3
    assert "step-00000010.ckpt" in [path.name for path in kept]


def test_a_kill_costs_at_most_the_steps_since_the_last_checkpoint(work: Path, results: dict[str, Any]) -> None:
    for name in (n for n in RESUMED if n.startswith("kill")):
        assert results[name]["exits"][0] == -signal.SIGKILL, name
        done = max(line["step"] for line in lines(work / name, 0) if "step" in line)
        first = next((line["step"] for line in lines(work / name, 1) if "step" in line), LAST + 1)
        assert first in (done, done + 1), name
    committed = ["step-00000005.ckpt" in results[f"kill-in-save-{n}"]["files"][0] for n in range(1, SAVE_CALLS + 1)]
    assert committed == sorted(committed)
    assert {True, False} == set(committed), "the kills must fall on both sides of the rename that commits"


def test_the_best_checkpoint_is_the_same_whenever_the_run_was_killed(work: Path, results: dict[str, Any]) -> None:
    names = ["best", *(f"kill-in-score-{n}" for n in range(SAVE_CALLS + 1, SAVE_CALLS + SCORE_CALLS + 1))]
    best = [{path.name: m.score for path, m in checkpoints_in(work / name / "checkpoints")} for name in names]
    assert all(found == best[0] for found in best[1:])
    assert {(work / name / "checkpoints" / "best.ckpt").resolve().name for name in names} == {"step-00000003.ckpt"}


def test_signals_save_the_step_and_exit_with_their_own_code(work: Path, results: dict[str, Any]) -> None:
    for name, code in (("sigterm", 143), ("sigint", 130)):
        for where, step in (("step", 4), ("validation", 3), ("epoch-end", STEPS)):
            result = results[f"{name}-in-{where}"]
            assert result["exits"] == [code, 0], (name, where, errors(work / f"{name}-in-{where}"))
            assert f"step-{step:08d}.ckpt" in result["files"][0], (name, where)
        start = results[f"{name}-in-start"]
        assert start["exits"] == [code, 0]
        assert start["files"][0] == [".lock"]
    assert results["sigterms-while-saving"]["exits"] == [143, 0]


@pytest.mark.parametrize("name", ["file_limit", "no_space"])
def test_a_full_disk_is_one_message_and_no_damage(name: str, work: Path, results: dict[str, Any]) -> None:
    assert results[name]["exits"] == [2, 0]
    assert {"step-00000002.ckpt", "step-00000003.ckpt"} < set(results[name]["files"][0])
    assert not [f for f in results[name]["files"][0] if f.startswith(".tmp") or "00004" in f]
    message = errors(work / name)
    assert "step-00000004.ckpt could not be written" in message
    assert "bytes" in message
    assert "keep fewer checkpoints" in message


def test_a_nan_loss_names_the_rows_and_leaves_finite_weights(work: Path, results: dict[str, Any]) -> None:
    assert results["nan"]["exits"] == [2]
    assert "rows.jsonl:" in errors(work / "nan")
    assert "the weights were not updated" in errors(work / "nan")
    newest = find_resume(work / "nan" / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000003.ckpt"
    state = AtomicCheckpointIO().load_checkpoint(newest)["state_dict"]
    assert all(torch.isfinite(weight).all() for weight in state.values())
