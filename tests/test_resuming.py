"""Runs that are resumed by the command line: what they refuse, what they say and what they keep."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from lightning_posttrain.cli import main


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A folder with a configuration, its rows, and a run of two steps in ``run``."""
    from tests.conftest import ARCHITECTURE

    folder = tmp_path_factory.mktemp("begun")
    rows = [{"prompt": f"Add {i} and {i}.", "completion": str(2 * i)} for i in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "model": {
            "class_path": "SFTModule",
            "init_args": {"architecture": ARCHITECTURE, "tokenizer": {"kind": "byte"}, "optimizer": {"lr": 1e-3}},
        },
        "data": {
            "class_path": "SFTDataModule",
            "init_args": {"path": str(folder / "rows.jsonl"), "examples_per_step": 4, "tokens_per_micro": 256},
        },
        "checkpoint": {"every_n_steps": 1},
        "trainer": {"accelerator": "cpu", "max_steps": 2, "log_every_n_steps": 1, "enable_progress_bar": False},
        "run": {"dir": str(folder / "run")},
    }
    config["data"]["init_args"]["cache_dir"] = str(folder / "cache")
    (folder / "sft.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "-c", str(folder / "sft.yaml")]) == 0
    return folder


def resumed(begun: Path, tmp_path: Path, *options: str) -> int:
    """Resume a copy of the run in ``tmp_path/run`` and train two steps more."""
    if not (tmp_path / "run").exists():
        shutil.copytree(begun / "run", tmp_path / "run", symlinks=True)
    where = ["--run.dir", str(tmp_path / "run"), "--run.resume", "true", "--trainer.max_steps", "4"]
    return main(["fit", "-c", str(begun / "sft.yaml"), *where, *options])


def last_line(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model.schedule.name=linear"], "model.schedule.name is linear and was cosine"),
        (["--model.loss=dft"], "model.loss is dft and was nll"),
        (["--model.max_grad_norm=null"], "model.max_grad_norm is null and was 1.0"),
        (["--trainer.precision=bf16-mixed"], "trainer.precision is bf16-mixed and was null"),
        (["--seed_everything=3"], "seed_everything is 3 and was 0"),
        (["--trainer.callbacks=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"], "WeightAveraging"),
    ],
)
def test_another_computation_is_refused_by_name(begun, tmp_path, capsys, options, told):
    shutil.copytree(begun / "run", tmp_path / "run", symlinks=True)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert resumed(begun, tmp_path, *options) == 2
    line = last_line(capsys)
    assert line.startswith("error: cannot resume: ")
    assert told in line
    assert "--run.resume_changes record" in line
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {p: b for p, b in after.items() if p.name != ".lock"} == {
        p: b for p, b in before.items() if p.name != ".lock"
    }


@pytest.mark.parametrize("record", ["refuse", "record"])
@pytest.mark.parametrize(
    "option", ["model.optimizer.lr=0.5", "data.examples_per_step=2", "model.seed=4", "data.seed=4"]
)
def test_what_cannot_be_changed_is_refused_either_way(begun, tmp_path, capsys, option, record):
    assert resumed(begun, tmp_path, f"--{option}", "--run.resume_changes", record) == 2
    name, _, value = option.partition("=")
    assert f"cannot resume: {name} is {value}" in last_line(capsys)


def test_a_recorded_change_is_said_and_noted_with_its_step(begun, tmp_path, capsys):
    changed = ["--model.loss=dft", "--run.resume_changes=record"]
    assert resumed(begun, tmp_path, *changed) == 0
    assert "resumed: model.loss is dft and was nll" in capsys.readouterr().err
    run = tmp_path / "run"
    first, second = json.loads((run / "run.json").read_text())["parts"]
    assert (first["from_step"], first["steps"], first["status"], first["changes"]) == (0, 2, "finished", {})
    assert (second["from_step"], second["steps"]) == (2, 4)
    assert second["changes"]["model.loss"] == {"before": "nll", "now": "dft"}
    assert (run / "config.yaml").read_bytes() == (begun / "run" / "config.yaml").read_bytes()
    more = ["fit", "-c", str(begun / "sft.yaml"), "--run.dir", str(run), "--run.resume=true", "--trainer.max_steps=5"]
    assert main(more) == 2  # compared with the part before, which had the change
    assert "model.loss is nll and was dft" in last_line(capsys)
    assert main([*more, "--model.loss=dft"]) == 0
    assert len(json.loads((run / "run.json").read_text())["parts"]) == 3


def test_what_changes_no_number_may_differ(begun, tmp_path, capsys):
    free = [
        "--data.num_workers=1",
        "--trainer.log_every_n_steps=2",
        "--checkpoint.every_n_steps=3",
        "--trainer.logger=false",
    ]
    assert resumed(begun, tmp_path, *free) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("resumed: ")]
    assert len(said) == 1
    assert "trainer.max_steps is 4 and was 2" in said[0]


def test_another_way_of_cutting_is_said(begun, tmp_path, capsys):
    assert resumed(begun, tmp_path, "--data.tokens_per_micro=128") == 0
    assert "data.tokens_per_micro is 128 and was 256 in the part before: the same numbers" in capsys.readouterr().err


def test_moved_rows_are_the_same_rows(begun, tmp_path):
    shutil.copy(begun / "rows.jsonl", tmp_path / "elsewhere.jsonl")
    assert resumed(begun, tmp_path, "--data.path", str(tmp_path / "elsewhere.jsonl")) == 0


def test_other_rows_are_named(begun, tmp_path, capsys):
    (tmp_path / "other.jsonl").write_text((begun / "rows.jsonl").read_text().replace("Add 3", "Sum 3"))
    assert resumed(begun, tmp_path, "--data.path", str(tmp_path / "other.jsonl")) == 2
    line = last_line(capsys)
    assert f"data.path={tmp_path / 'other.jsonl'} has another content" in line
    assert str(begun / "rows.jsonl") in line


def test_other_weights_in_the_same_place_are_refused(begun, tmp_path, capsys):
    shutil.copytree(begun / "run" / "model", tmp_path / "base")
    other = ["--model.architecture=null", "--model.tokenizer.kind=null", "--model.pretrained", str(tmp_path / "base")]
    run = ["fit", "-c", str(begun / "sft.yaml"), "--run.dir", str(tmp_path / "run"), "--model.lora.r=2", *other]
    assert main(run) == 0
    shutil.copytree(tmp_path / "base", tmp_path / "moved")
    longer = [*run, "--run.resume=true", "--trainer.max_steps"]
    assert main([*longer, "3", "--model.pretrained", str(tmp_path / "moved")]) == 0
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "base" / "model.safetensors")
    save_file(
        {k: v + torch.ones_like(v) for k, v in weights.items()},
        tmp_path / "base" / "model.safetensors",
        {"format": "pt"},
    )
    capsys.readouterr()
    assert main([*longer, "4"]) == 2
    assert f"model.pretrained={tmp_path / 'base'}: these are other weights" in last_line(capsys)
