"""`report` and `evaluate_checkpoints`: curves and tables of what runs logged and checkpoints hold."""

import csv
import json
import shutil

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from lightning_posttrain.batching.prompts import Prompt
from lightning_posttrain.cli import main
from lightning_posttrain.reports import curves
from lightning_posttrain.reports.rollouts import SHOWN, parts, picks, rollout_section
from lightning_posttrain.reports.scalars import best, lower_is_better, read_curves
from lightning_posttrain.rollout.ledger import read_steps, write_step
from lightning_posttrain.rollout.rollouts import Rollout
from lightning_posttrain.types import Completion, Message, Record

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


def test_a_report_of_one_run_goes_into_its_directory(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "one", symlinks=True)
    assert main(["report", str(tmp_path / "one")]) == 0
    folder = tmp_path / "one" / "report"
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith(f"{folder}: report.md, metrics.csv and curves.png of one")
    )
    assert {path.name for path in folder.iterdir()} == {"report.md", "metrics.csv", "curves.png"}
    assert main(["report", str(tmp_path / "one"), str(run)]) == 2
    assert "--output FOLDER" in capsys.readouterr().err


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
    assert lower_is_better("train/skipped")
    assert lower_is_better("eval/bpb/heldout_wiki/bpb")
    assert not lower_is_better("eval/bpb_tokens_per_s")
    assert not lower_is_better("eval/bpb_sharing")


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
        folders = [where / f"eval/{step}/gsm8k" for where in (tmp_path, run)]
        found = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
        timeless = [{k: v for k, v in one.items() if k not in ("started", "seconds")} for one in found]
        assert timeless[0] == timeless[1]
        assert len({(folder / "predictions.jsonl").read_text() for folder in folders}) == 1
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


# ---- rollouts -------------------------------------------------------------------------------------------------------

NAMES = ["right", 'odd "name"']


def rollout(key, sample, right, other=np.nan, text="text", length=3, finished=True, question="How many?"):
    record = Record(f"row-{key}", (Message("user", question),), "4", f"rows.jsonl:{key + 1}")
    completion = Completion((1,) * length, (-0.5,) * length, text, finished)
    rewards = np.array([right, other])
    total = np.nan if np.isnan(rewards).all() else float(np.nansum(rewards))
    return Rollout(Prompt(record, np.array([5], np.int32), key), sample, completion, rewards, total, advantage=0.25)


def write_ledger(folder, steps):
    """Two prompts of two completions; the first prompt's are equally good, and everything gets better and longer."""
    for step in range(steps):
        same = [rollout(0, s, 1.0, text=f"same {step}.{s}") for s in range(2)]
        differ = [
            rollout(1, 0, float(step), 0.5, f"good {step}", 5, finished=False),
            rollout(1, 1, -1.0, text=f"bad {step}"),
        ]
        write_step(folder, step, [*same, *differ], NAMES)


def test_tenths_of_the_steps(tmp_path):
    write_ledger(tmp_path, 20)
    header, rows = parts(read_steps(tmp_path))
    assert header == ["steps", "reward", *NAMES, "length", "truncated", "zero variance"]
    assert [row[0] for row in rows] == [f"{2 * i}-{2 * i + 1}" for i in range(10)]
    # of steps 0 and 1: rewards 1, 1, step + 0.5, -1
    assert rows[0][1:] == ["0.5", "0.375", "0.5", "3.5", "0.25", "0.5"]
    assert rows[9][1:] == ["5", "4.875", "0.5", "3.5", "0.25", "0.5"]


def test_of_few_steps_each_has_a_row(tmp_path):
    write_ledger(tmp_path, 3)
    assert [row[0] for row in parts(read_steps(tmp_path))[1]] == ["0", "1", "2"]


def test_a_reward_that_never_applies_is_an_empty_cell(tmp_path):
    write_step(tmp_path, 0, [rollout(0, s, np.nan) for s in range(2)], NAMES)
    assert parts(read_steps(tmp_path))[1] == [["0", "", "", "", "3", "0", "1"]]
    assert list(picks(read_steps(tmp_path))) == []


def test_best_median_and_worst_of_the_first_middle_and_last_step(tmp_path):
    write_ledger(tmp_path, 5)
    found = [(s.step, s.place, s.text, s.reward) for s in picks(read_steps(tmp_path))]
    assert found == [
        (0, "best", "same 0.0", 1.0),
        (0, "median", "good 0", 0.5),
        (0, "worst", "bad 0", -1.0),
        (2, "best", "good 2", 2.5),
        (2, "median", "same 2.1", 1.0),
        (2, "worst", "bad 2", -1.0),
        (4, "best", "good 4", 4.5),
        (4, "median", "same 4.1", 1.0),
        (4, "worst", "bad 4", -1.0),
    ]


@pytest.mark.parametrize(("count", "places"), [(1, ["best"]), (2, ["best", "worst"])])
def test_of_few_completions_none_is_shown_twice(count, places, tmp_path):
    write_step(tmp_path, 0, [rollout(0, s, float(s)) for s in range(count)], NAMES)
    assert [s.place for s in picks(read_steps(tmp_path))] == places


def test_what_a_model_wrote_cannot_leave_its_block(tmp_path):
    text = "```\n# Not a heading\n````\x1b[2J\u202e"
    long = "a" * SHOWN + "middle" + "z" * SHOWN
    write_step(tmp_path, 0, [rollout(0, 0, 1.0, text=text), rollout(0, 1, 0.0, text=long)], NAMES)
    section = rollout_section({"mine": tmp_path, "other": tmp_path / "none"})
    assert "`````text\n```\n# Not a heading\n````␛[2J\\u202e\n`````\n" in section
    assert "\x1b" not in section
    assert f"a\n(6 more characters)\n{'z' * SHOWN}\n```" in section
    assert "## mine" in section
    assert "## other" not in section


def test_a_report_of_a_run_with_rollouts(run, tmp_path, capsys):
    grpo = tmp_path / "grpo"
    shutil.copytree(run, grpo, symlinks=True)
    write_ledger(grpo, 12)
    assert main(["report", str(run), str(grpo), "--output", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.md").read_text()
    assert page.count("# Rollouts\n") == 1
    assert page.index("# Metrics") < page.index("# Rollouts\n\n## grpo\n\n| steps | reward | right |")
    assert "| 0-1 | 0.5 |" in page
    assert "### Step 11, best: reward 11.5" in page
    assert 'right 11, odd "name" 0.5; advantage 0.25; 5 tokens, cut off by the length limit' in page
    assert "```text\nHow many?\n```" in page
    assert main(["report", str(run), "--output", str(tmp_path / "plain")]) == 0
    assert "Rollouts" not in (tmp_path / "plain" / "report.md").read_text()


def test_a_damaged_ledger_is_named(run, tmp_path, capsys):
    grpo = tmp_path / "grpo"
    shutil.copytree(run, grpo, symlinks=True)
    write_ledger(grpo, 1)
    path = grpo / "rollouts" / "step_000000.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["report", str(grpo), "--output", str(tmp_path / "report")]) == 2
    assert "rollouts: a file is damaged" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
