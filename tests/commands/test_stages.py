"""Runs that start from one another's model, stage by stage."""

import json

from lightning_posttrain.callbacks.run_files import weights_sha256
from lightning_posttrain.reports.stages import stages_section


def run(folder, parent, model, metrics):
    """A run directory with an evaluation before (step 0) and after."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"parent_sha256": parent, "model_sha256": model}))
    for step, values in enumerate(metrics):
        place = folder / "eval" / f"step_{step:06d}" / "task"
        place.mkdir(parents=True)
        summary = {"task": "task", "step": step, "n": 4, "metrics": values, "stderr": {}}
        (place / "metrics.json").write_text(json.dumps(summary))
    return folder


def test_a_chain_is_told_stage_by_stage(tmp_path):
    runs = {
        "sft": run(tmp_path / "sft", None, "a" * 64, [{"f1": 0.0, "timeout": 0.0}, {"f1": 0.5, "timeout": 0.1}]),
        "dpo": run(tmp_path / "dpo", "a" * 64, "b" * 64, [{"f1": 0.5, "timeout": 0.1}, {"f1": 0.4, "timeout": 0.1}]),
        "rlvr": run(tmp_path / "rlvr", "b" * 64, "c" * 64, [{"f1": 0.4, "timeout": 0.1}, {"f1": 0.8, "timeout": 0.2}]),
    }
    page = stages_section(runs)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if "task/f1" in line]
    assert rows[0] == ["task/f1", "0", "0.5", "0.4", "0.8"]
    assert f"- dpo started from sft's model, sha256 {'a' * 12}" in page
    assert "- dpo: task/f1 0.5 -> 0.4" in page
    assert "- rlvr: task/timeout 0.1 -> 0.2" in page
    assert "- rlvr: task/f1" not in page


def test_runs_without_a_common_model_are_no_chain(tmp_path):
    one = run(tmp_path / "one", None, "a" * 64, [{"f1": 0.1}])
    other = run(tmp_path / "other", "x" * 64, "b" * 64, [{"f1": 0.2}])
    assert stages_section({"one": one, "other": other}) == ""
    assert stages_section({"one": one}) == ""


def test_the_hash_is_that_of_the_weights(tmp_path):
    assert weights_sha256(None) is None
    assert weights_sha256("org/hub-id") is None
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = weights_sha256(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert weights_sha256(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert weights_sha256(tmp_path) != first
