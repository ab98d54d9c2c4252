"""`report` and `evaluate_checkpoints`: curves and tables of what runs logged and checkpoints hold."""

import csv
import json
import shutil

from torch.utils.tensorboard import SummaryWriter

from lightning_posttrain.cli import main
from lightning_posttrain.reports import curves
from lightning_posttrain.reports.scalars import best, lower_is_better, read_curves

PNG = b"\x89PNG\r\n"


def test_the_curves_are_those_that_were_logged(run):
    found = read_curves(str(run))
    assert len(found.curves["train/loss"][0]) == 4
    assert found.curves["eval/gsm8k/accuracy"][0] == [0, 2, 4]
    accuracy = json.loads((run / "eval" / "step_000004" / "gsm8k" / "metrics.json").read_text())["metrics"]["accuracy"]
    assert found.curves["eval/gsm8k/accuracy"][1][-1] == accuracy
    assert found.facts["steps"] == 4


def test_a_report_of_two_runs(run, tmp_path, capsys):
    second = tmp_path / "second"
    shutil.copytree(run, second, symlinks=True)
    assert main(["report", str(run), str(second), "--output", str(tmp_path / "report")]) == 0
    assert "run, second" in capsys.readouterr().out
    assert (tmp_path / "report" / "curves.png").read_bytes().startswith(PNG)
    rows = list(csv.DictReader((tmp_path / "report" / "metrics.csv").open()))
    losses = {row["run"]: row for row in rows if row["metric"] == "train/loss"}
    assert set(losses) == {"run", "second"}
    values = read_curves(str(run)).curves["train/loss"][1]
    assert float(losses["run"]["last"]) == values[-1]
    assert float(losses["run"]["best"]) == min(values)
    assert losses["run"]["better is"] == "lower"
    page = (tmp_path / "report" / "report.md").read_text()
    assert "| second | finished | 4 |" in page
    assert "eval/gsm8k/accuracy" in page


def test_all_curves_adds_the_speed(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "plot_curves", lambda path, panels, **_: drawn.append(set(panels)))
    assert main(["report", str(run), "--output", str(tmp_path)]) == 0
    assert main(["report", str(run), "--output", str(tmp_path), "--all_curves"]) == 0
    assert "train/loss" in drawn[0]
    assert {"perf/sharing", "eval/gsm8k/seconds"} <= drawn[1] - drawn[0]


def test_of_a_step_done_twice_the_later_counts(tmp_path):
    for number, values in enumerate(((5.0, 4.0, 3.0), (2.0, 1.0))):
        with SummaryWriter(tmp_path / "tensorboard", filename_suffix=str(number)) as writer:
            for step, value in enumerate(values, start=number):
                writer.add_scalar("train/loss", value, step, walltime=1e9 + 100 * number + step)
    assert read_curves(str(tmp_path)).curves["train/loss"] == ([0, 1, 2], [5.0, 2.0, 1.0])


def test_best_knows_the_direction_and_skips_nan():
    assert best("val/nll", ([1, 2, 3], [2.0, 1.0, float("nan")])) == (2, 1.0)
    assert best("eval/x/accuracy", ([1, 2, 3], [0.5, 0.9, 0.7])) == (2, 0.9)
    assert best("eval/x/accuracy", ([1], [float("nan")])) is None
    assert lower_is_better("eval/format_following/duplicate_json_objects_rate")
    assert not lower_is_better("eval/format_following/format_success_rate")


def test_refusals(run, tmp_path, capsys):
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "neither" in capsys.readouterr().err
    assert main(["report", str(run), str(run), "--output", str(tmp_path / "out")]) == 2
    assert "one name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_checkpoints_score_as_they_did_in_training(run, tmp_path, capsys):
    assert main(["evaluate_checkpoints", str(run), "--output", str(tmp_path), "--task", "gsm8k"]) == 0
    assert "step 2: gsm8k/accuracy" in capsys.readouterr().out
    for step in ("step_000002", "step_000004"):
        for name in ("metrics.json", "predictions.jsonl"):
            place = f"eval/{step}/gsm8k/{name}"
            assert (tmp_path / place).read_text() == (run / place).read_text()
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [row["step"] for row in rows if row["metric"] == "accuracy"] == ["2", "4"]
    assert (tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_checkpoints_without_an_evaluation_are_refused(run, adapter_run, capsys):
    assert main(["evaluate_checkpoints", str(run), "--task", "sums"]) == 2
    assert "name one of gsm8k" in capsys.readouterr().err
    assert main(["evaluate_checkpoints", str(adapter_run)]) == 2
    assert "no GenerationEval" in capsys.readouterr().err
    assert main(["evaluate_checkpoints", str(run / "model")]) == 2
    assert "config.yaml" in capsys.readouterr().err
    assert not (run / "checkpoint_evals").exists()
