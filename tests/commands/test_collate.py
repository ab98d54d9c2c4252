"""Many evaluations as one table: columns, changes, gates, and what cannot be compared."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from lightning_posttrain.cli import main
from lightning_posttrain.reports.reference import read_reference
from lightning_posttrain.tasks.banking77 import Banking77
from lightning_posttrain.tasks.ifeval import IFEval
from lightning_posttrain.tasks.nl2sql import NL2SQL
from lightning_posttrain.tasks.pubmedqa import PubMedQA
from lightning_posttrain.tasks.safety.task import SimpleSafetyTests
from lightning_posttrain.tasks.tatqa import TatQA

ROOT = Path(__file__).parents[2]

HITS = {"base": [1, 0, 0, 0], "tuned": [1, 1, 1, 0]}


def bundle(folder, task="banking77", hits=(1, 0), ids=None):
    place = folder / "eval" / "step_000000" / task
    place.mkdir(parents=True)
    lines = [{"id": str(i), "prompt": f"{i}?"} for i in (ids or range(len(hits)))]
    (place / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mean = sum(hits) / len(hits)
    summary = {
        "task": task, "primary": "accuracy", "step": 0, "n": len(hits),
        "metrics": {"accuracy": mean, "macro_f1": mean / 2}, "stderr": {"accuracy": 0.1},
        "ci95": {"accuracy": [mean - 0.2, mean + 0.2]},
    }  # fmt: skip
    (place / "metrics.json").write_text(json.dumps(summary))
    return str(folder)


@pytest.fixture
def models(tmp_path):
    made = [f"{name}={bundle(tmp_path / name / 'a', hits=hits)}" for name, hits in HITS.items()]
    made += [f"{name}={bundle(tmp_path / name / 'b', 'pubmedqa', hits)}" for name, hits in HITS.items()]
    return made


def collated(tmp_path, models, *words):
    assert main(["collate", *models, "--output", str(tmp_path / "out"), *words]) == 0
    with (tmp_path / "out" / "collated.csv").open() as file:
        return {(r["model"], r["task"], r["metric"]): r for r in csv.DictReader(file)}


def test_every_metric_is_in_the_table_with_its_change(tmp_path, models):
    rows = collated(tmp_path, models, "--baseline", "base")
    assert len(rows) == 8
    found = rows["tuned", "pubmedqa", "accuracy"]
    assert (float(found["value"]), float(found["baseline"]), float(found["delta"])) == (0.75, 0.25, 0.5)
    assert float(found["low"]) == pytest.approx(0.55)
    assert (found["n"], found["stderr"]) == ("4", "0.1")
    assert rows["base", "banking77", "macro_f1"]["delta"] == ""
    text = (tmp_path / "out" / "collated.md").read_text()
    assert "| pubmedqa | accuracy | 0.250 ± 0.100 | 0.750 ± 0.100 (+0.500) |" in text
    assert "macro_f1" not in text
    assert (tmp_path / "out" / "collated.png").read_bytes().startswith(b"\x89PNG")


def test_more_metrics_are_shown_when_asked_for(tmp_path, models, capsys):
    collated(tmp_path, models, "--metrics", "macro_f1")
    assert "| banking77 | macro_f1 | 0.125 | 0.375 |" in (tmp_path / "out" / "collated.md").read_text()
    again = ["collate", *models, "--output", str(tmp_path / "out")]
    assert main(again) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*again, "--overwrite"]) == 0


def test_gates_are_shown_per_model(tmp_path, models):
    gates = {"gates": [{"task": "ifeval", "metric": "acc", "passed": False}]}
    (tmp_path / "tuned" / "a" / "eval" / "step_000000" / "gate.json").write_text(json.dumps(gates))
    rows = collated(tmp_path, models)
    assert rows["tuned", "pubmedqa", "accuracy"]["gates"] == "ifeval acc FAIL"
    assert rows["base", "pubmedqa", "accuracy"]["gates"] == ""
    assert "| gate | ifeval acc |  | FAIL |" in (tmp_path / "out" / "collated.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--baseline", "nobody"], "baseline=nobody: the models are base, tuned"),
        (["--metrics", "speed"], "no task has 'speed'"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, models, capsys, words, message):
    assert main(["collate", *models, "--output", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bundles_of_other_rows_or_of_one_task_twice_are_refused(tmp_path, capsys):
    one, other = bundle(tmp_path / "one"), bundle(tmp_path / "other", ids=[0, 7])
    out = ["--output", str(tmp_path / "out")]
    assert main(["collate", one, other, "--baseline", "one", *out]) == 2
    assert "row 7 is in the candidate only" in capsys.readouterr().err
    assert main(["collate", f"m={one}", f"m={other}", *out]) == 2
    assert "m: banking77 is in" in capsys.readouterr().err
    assert main(["collate", str(tmp_path / "nothing"), *out]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_other_rules_or_another_way_to_sample_are_not_compared(tmp_path, capsys):
    one, other = bundle(tmp_path / "one"), bundle(tmp_path / "other")
    for folder, rules in ((tmp_path / "one", "strict"), (tmp_path / "other", "compat")):
        path = folder / "eval" / "step_000000" / "banking77" / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"task_parameters": {"rules": rules}}))
    words = ["collate", one, other, "--output", str(tmp_path / "out")]
    assert main([*words, "--baseline", "one"]) == 2
    assert "evaluated differently (task_parameters.rules: 'compat' and 'strict')" in capsys.readouterr().err
    assert main(words) == 0


def test_a_baseline_without_a_common_task_is_refused(tmp_path, capsys):
    words = ["collate", bundle(tmp_path / "a"), bundle(tmp_path / "b", "pubmedqa"), "--output", str(tmp_path / "out")]
    assert main([*words, "--baseline", "a"]) == 2
    assert "baseline=a: shares no task with b, which has pubmedqa" in capsys.readouterr().err


def test_a_folder_called_eval_is_no_run(tmp_path):
    run = bundle(tmp_path / "eval" / "mine")
    assert ("mine", "banking77", "accuracy") in collated(tmp_path, [run])


def test_a_folder_gives_its_run_the_name(tmp_path):
    run = bundle(tmp_path / "run")
    for folder in (run, f"{run}/eval/step_000000", f"{run}/eval/step_000000/banking77"):
        assert ("run", "banking77", "accuracy") in collated(tmp_path, [folder], "--overwrite")


# ---- reported figures -----------------------------------------------------------------------------------------------

REPORTED = {"name": "paper", "tasks": {
    "banking77": {"n": 20, "metrics": {"accuracy": 0.45004, "macro_f1": 0.3}},
    "pubmedqa": {"n": 3, "metrics": {"accuracy": 0.9}, "comparable": False},
    "tatqa": {"n": 3, "metrics": {"f1": 0.1}, "note": "other rows"},
}}  # fmt: skip


def reported(tmp_path, content=REPORTED):
    path = tmp_path / "reported.yaml"
    path.write_text(yaml.safe_dump(content))
    return ["--reference", str(path)]


def test_reported_figures_stand_beside_ours_with_our_interval(tmp_path, models):
    rows = collated(tmp_path, models, *reported(tmp_path))
    # base: 0.25, from 0.05 to 0.45: the reported figure is the upper end but for its rounding. tuned: from 0.55.
    assert rows["base", "banking77", "accuracy"]["inside"] == "yes"
    assert rows["tuned", "banking77", "accuracy"]["inside"] == "no"
    assert (
        rows["base", "banking77", "accuracy"]["reference"],
        rows["base", "banking77", "accuracy"]["reference_n"],
    ) == (
        "0.45004",
        "20",
    )
    assert rows["base", "banking77", "macro_f1"]["inside"] == ""  # without an interval nothing is said
    assert rows["base", "pubmedqa", "macro_f1"]["reference"] == ""
    assert rows["base", "pubmedqa", "accuracy"]["inside"] == "not comparable"
    lines = (tmp_path / "out" / "collated.md").read_text().splitlines()
    assert lines[0] == (
        "| task | metric | paper | base | 95% interval | holds paper | tuned | 95% interval | holds paper | note |"
    )
    assert lines[2] == (
        "| banking77 | accuracy | 0.4500 (n 20) | 0.2500 (n 4) | 0.0500 to 0.4500 | yes | "
        "0.7500 (n 4) | 0.5500 to 0.9500 | no |  |"
    )
    assert "| tatqa | f1 | 0.1000 (n 3) |  |  |  |  |  |  | other rows |" in lines  # not evaluated, and seen to be so
    assert "| pubmedqa | accuracy | 0.9000 (n 3) | 0.2500 (n 4) | 0.0500 to 0.4500 | not comparable |" in "\n".join(
        lines
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {}}, "no figures"),
        ({"taskz": 1}, "unknown keys ['taskz']"),
        ({"tasks": {"banking77": {"n": 20, "metrics": {"accuracy": 0.4}, "source": "x"}}}, "unknown keys ['source']"),
        ({"tasks": {"banking77": {"metrics": {"accuracy": 0.4}}}}, "KeyError: 'n'"),
        ({"tasks": {"banking77": {"n": 20, "metrics": {"accuracy": "high"}}}}, "'high'"),
        ({"tasks": {"banking77": {"n": 20, "metrics": {"speed": 1.0}}}}, "banking77 has no metric 'speed'"),
    ],
)
def test_a_reference_that_is_none_is_refused(tmp_path, models, capsys, change, message):
    words = reported(tmp_path, REPORTED | change)
    assert main(["collate", *models, "--output", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_reference_and_a_baseline_are_two_tables(tmp_path, models, capsys):
    words = ["--baseline", "base", *reported(tmp_path)]
    assert main(["collate", *models, "--output", str(tmp_path / "out"), *words]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_the_committed_figures_name_metrics_that_the_tasks_have():
    figures = read_reference(str(ROOT / "data" / "reported" / "enterprise_smollm2.yaml")).figures
    tasks = {task.name: task for task in (Banking77, PubMedQA, TatQA, NL2SQL, IFEval, SimpleSafetyTests)}
    assert {task for task, _ in figures} == set(tasks)
    for task, metric in figures:
        assert f"``{metric}``" in tasks[task].__doc__
    assert figures["pubmedqa", "accuracy"].value == 0.45
    assert figures["nl2sql", "edit_similarity"].n == 3
