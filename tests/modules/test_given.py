"""Evaluation of answers that are in the file: no model, no training, and no doubt about what was evaluated."""

import json

import pytest
import yaml

from lightning_posttrain.cli import main

GOOD = {"question": "1+1?", "answer": "It is 2.\n#### 2"}
TALK = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


@pytest.fixture
def config(tmp_path):
    def write(others="error"):
        evaluation = {"class_path": "GenerationEval", "init_args": {"task": {"class_path": "GSM8K"}, "others": others}}
        path = tmp_path / "eval.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "model": {"class_path": "GivenAnswers"},
                    "data": {"class_path": "EvalDataModule", "init_args": {"path": "missing.jsonl"}},
                    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "callbacks": [evaluation]},
                    "run": {"dir": str(tmp_path / "run")},
                }
            )
        )
        return str(path)

    return write


def test_the_rows_own_answers_are_scored_and_labelled(config, write_rows, tmp_path, capsys):
    path = str(write_rows([GOOD, {"question": "2+2?", "answer": "It is 5.\n#### 5"}]))
    assert main(["validate", "-c", config(), "--data.path", path]) == 0
    summary = json.loads((tmp_path / "run" / "eval" / "step_000000" / "gsm8k" / "metrics.json").read_text())
    assert summary["n"] == 2
    assert summary["answers"] == "given in the rows (a check of the data, not of a model)"
    assert summary["metrics"]["accuracy"] == 1
    out = capsys.readouterr().out
    assert f"gsm8k: 2 rows of {path}, answers given in the rows" in out
    assert "accuracy" in out


def test_a_missing_file_is_named(config, capsys):
    assert main(["validate", "-c", config()]) == 2
    assert "missing.jsonl" in capsys.readouterr().err


def test_rows_of_other_tasks_are_an_error_unless_left_out(config, write_rows, monkeypatch, capsys):
    from lightning_posttrain.tasks.gsm8k import GSM8K

    monkeypatch.setattr(GSM8K, "reads", lambda self, row: "question" in row)
    path = str(write_rows([GOOD, TALK]))
    assert main(["validate", "-c", config(), "--data.path", path]) == 2
    assert "rows.jsonl:2" in capsys.readouterr().err
    assert main(["validate", "-c", config("skip"), "--data.path", path]) == 0
    assert "1 of 2 rows are of the task gsm8k" in capsys.readouterr().err


def test_it_cannot_be_trained(config, write_rows, capsys):
    assert main(["fit", "-c", config(), "--data.path", str(write_rows([GOOD]))]) == 2
    assert "GivenAnswers has no model to train" in capsys.readouterr().err
