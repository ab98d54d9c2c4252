"""Evaluation during training: when it runs, what it writes, and that nothing leaves the denominator."""

import json

import pytest
import yaml

from lightning_posttrain.callbacks.generation import GenerationEval, load_records
from lightning_posttrain.cli import main
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.types import UserError

PROBLEMS = [{"question": f"What is {i} + 1?", "answer": f"Add one.\n#### {i + 1}"} for i in range(5)]


@pytest.fixture
def config(tiny_config, write_rows):
    problems = write_rows(PROBLEMS, "problems.jsonl")
    value = yaml.safe_load(tiny_config.read_text())
    options = {
        "task": "GSM8K",
        "path": str(problems),
        "every_n_steps": 2,
        "max_examples": 4,
        "sampling": {"max_new_tokens": 3},
    }
    value["trainer"]["callbacks"] = [{"class_path": "GenerationEval", "init_args": options}]
    tiny_config.write_text(yaml.safe_dump(value))
    return tiny_config


def test_it_runs_at_the_start_every_n_steps_and_at_the_end(config, tmp_path):
    assert main(["fit", "-c", str(config)]) == 0
    folder = tmp_path / "run" / "eval"
    assert sorted(p.name for p in folder.iterdir()) == ["step_000000", "step_000002", "step_000003"]
    for step in folder.iterdir():
        summary = json.loads((step / "gsm8k" / "metrics.json").read_text())
        lines = (step / "gsm8k" / "predictions.jsonl").read_text().splitlines()
        assert summary["n"] == len(lines) == 4
        assert summary["step"] == int(step.name[5:])
        assert sum(summary["reasons"].values()) == 4  # an untrained model is wrong, and says why, each time


def test_validate_evaluates_once(config, tmp_path):
    assert main(["validate", "-c", str(config), "--run.dir", str(tmp_path / "v")]) == 0
    assert [p.name for p in (tmp_path / "v" / "eval").iterdir()] == ["step_000000"]


def test_training_is_the_same_with_and_without_it(config, tmp_path):
    for name, options in (("with", []), ("without", ["--trainer.callbacks=null"])):
        assert main(["fit", "-c", str(config), "--run.dir", str(tmp_path / name), *options]) == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]


def test_a_bad_evaluation_file_costs_no_run(config, tmp_path, capsys):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "?", "answer": "no number"}\n')
    assert main(["fit", "-c", str(config), "--trainer.callbacks.init_args.path", str(bad)]) == 2
    assert "bad.jsonl:1" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_drawn_rows_are_a_seeded_sample_in_file_order(write_rows):
    path = str(write_rows(PROBLEMS))
    drawn = [r.origin for r in load_records(GSM8K(), path, 3, seed=1)]
    assert drawn == sorted(drawn)
    assert drawn == [r.origin for r in load_records(GSM8K(), path, 3, seed=1)]
    assert len({tuple(r.origin for r in load_records(GSM8K(), path, 3, seed=s)) for s in range(8)}) > 1
    with pytest.raises(UserError, match="max_examples=6"):
        load_records(GSM8K(), path, 6, seed=0)


def test_impossible_intervals_are_refused():
    with pytest.raises(UserError, match="every_n_steps=0"):
        GenerationEval(GSM8K(), "x", every_n_steps=0)
