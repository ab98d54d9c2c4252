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
from tests.conftest import HANGS
from tests.tinyrun import STEPS

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
LAST = 2 * STEPS
OPTIONS: dict[str, Any] = {"max_epochs": 2, "val_check_interval": 3}
SAVE_CALLS = 11
"""os calls of one checkpoint: sync, manifest, renames, link, pruning."""
SCORING = range(SAVE_CALLS + 1, SAVE_CALLS + 8)
"""The os calls after a validation that found a new best one: manifest and links."""
TERM, INT = int(signal.SIGTERM), int(signal.SIGINT)


def kills() -> dict[str, Any]:
    """Name -> how the first attempt dies."""
    found = {f"kill-after-{step}": {"kind": "after_step", "step": step} for step in range(1, LAST + 1)}
    for step in (3, STEPS + 3):
        place = "on_validation_batch_start"
        found[f"kill-in-validation-{step}"] = {"kind": "signal_in", "place": place, "step": step}
    for number in range(1, SAVE_CALLS + 2):
        found[f"kill-in-save-{number}"] = {"kind": "kill_in_save", "what": "calls", "step": STEPS, "number": number}
    for number in (1, 40):
        found[f"kill-in-write-{number}"] = {"kind": "kill_in_save", "what": "write", "step": 4, "number": number}
    for number in SCORING:
        found[f"kill-in-score-{number}"] = {"kind": "kill_in_save", "what": "calls", "step": 3, "number": number}
    return found


def stops() -> dict[str, Any]:
    """The same for signals that can be answered."""
    places = {"step": ("on_after_backward", 3), "validation": ("on_validation_batch_start", 3)}
    places |= {"epoch-end": ("on_after_backward", STEPS - 1), "start": ("on_train_batch_start", 0)}
    found = {
        f"{name}-in-{where}": {"kind": "signal_in", "place": place, "step": step, "signal": signum}
        for name, signum in (("sigterm", TERM), ("sigint", INT))
        for where, (place, step) in places.items()
    }
    return found | {"sigterms-while-saving": {"kind": "signals_while_saving", "step": 4, "number": 30, "signal": TERM}}


def cases() -> dict[str, Any]:
    found: dict[str, Any] = {name: {"attempts": [fault, {}]} for name, fault in (kills() | stops()).items()}
    found |= {kind: {"attempts": [{"kind": kind, "step": 4}, {}]} for kind in ("file_limit", "no_space")}
    found |= {
        "reference": {"attempts": [{}]},
        "best": {"attempts": [{}]},
        "nan": {"attempts": [{"kind": "nan", "step": 4}]},
    }
    found["sparse"] = {"attempts": [{"kind": "after_step", "step": 7}, {}]}
    found["three-kills"] = {"attempts": [*({"kind": "after_step", "step": s} for s in (1, 3, 4)), {}]}
    every = {"sigterm-": 100, "sigint-": 100, "sparse": 3}
    for name, case in found.items():
        checkpoints: dict[str, Any] = {
            "every_n_steps": next((n for key, n in every.items() if name.startswith(key)), 1)
        }
        if name == "best" or "score" in name:
            checkpoints["monitor"] = "val/nll"
        case["options"] = {**OPTIONS, "checkpoints": checkpoints}
    return found


CASES = cases()
RESUMED = [name for name in CASES if name not in ("reference", "nan")]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crashes")
    (folder / "cases.json").write_text(json.dumps(CASES))
    command = [sys.executable, "-m", "tests.e2e.crash_runner", str(folder), str(folder / "cases.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=6 * HANGS)
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
    names = ["best", *(f"kill-in-score-{n}" for n in SCORING)]
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
