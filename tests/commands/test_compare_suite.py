"""Suites: best values, changes, wins and noise, from tables and from run directories."""

import csv
import json
import math
from pathlib import Path
from statistics import fmean, stdev

import pytest
from scipy.stats import t
from torch.utils.tensorboard import SummaryWriter

from lightning_posttrain.cli import main
from lightning_posttrain.reports.suite_sources import suite_of_csv, suite_of_runs, task_group, without_seed
from lightning_posttrain.reports.suites import beyond_noise, summary
from lightning_posttrain.tasks.bpb.suites import SUITE
from lightning_posttrain.types import UserError


def table(path: Path, *rows: list) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def test_changes_and_wins_by_hand(tmp_path):
    path = table(
        tmp_path / "a.csv", ["task", "family", "base", "code", "wiki"],
        ["a", "x", 2.0, 1.5, 1.0], ["b", "x", 4.0, 5.0, 4.5], ["c", "y", 1.0, 0.5, 0.5],
    )  # fmt: skip
    found = summary(suite_of_csv(path))
    assert found["mean_change_percent"] == pytest.approx({"code": (-25 + 25 - 50) / 3, "wiki": (-50 + 12.5 - 50) / 3})
    assert found["mean_change_step_percent"]["code -> wiki"] == pytest.approx((-100 / 3 - 10 + 0) / 3)
    assert found["wins"] == {"base": 1, "code": 0, "wiki": 1}  # a tie is nobody's
    assert found["groups"]["x"]["wins"] == {"base": 1, "code": 0, "wiki": 1}
    assert found["average"]["base"] == pytest.approx(7 / 3)
    assert summary(suite_of_csv(path), higher=True)["wins"] == {"base": 2, "code": 1, "wiki": 0}


def test_the_shape_of_the_published_study(tmp_path, capsys):
    """Three lengths whose mean change is -18.5 %, and four mixes that win 30, 12, 9 and 9 of the 60 tasks."""
    ids = list(SUITE)
    winners = ["code"] * 30 + ["science"] * 12 + ["baseline"] * 9 + ["wiki"] * 9
    runs = ["baseline", "code", "science", "wiki"]
    rows = [[i, *(2.0 if run == w else 2.0 + 0.1 * (1 + runs.index(run)) for run in runs)]
            for i, w in zip(ids, winners, strict=True)]  # fmt: skip
    assert main(["compare", table(tmp_path / "a.csv", ["task", *runs], *rows)]) == 0
    assert "wins of 60: code 30, science 12, baseline 9, wiki 9" in capsys.readouterr().out
    durations = [[i, 3.0, 3.0 * 0.838, 3.0 * 0.815 * (1 + 1e-3 * (n % 2 - 0.5))] for n, i in enumerate(ids)]
    assert main(["compare", table(tmp_path / "b.csv", ["task", "0.5x", "2.5x", "5x"], *durations)]) == 0
    told = capsys.readouterr().out
    assert "5x: -18.5% against 0.5x" in told
    assert "0.5x -> 2.5x: -16.2%" in told


def test_basic_skills_in_coding_count_as_code():
    skills = [task for task in SUITE if task.startswith("basic_skills")]
    groups = {task: task_group(task) for task in skills}
    assert [task for task in skills if groups[task] == "code"] == ["basic_skills_coding_rc_5shot"]
    assert sum(group == "basic_skills" for group in groups.values()) == 5
    assert task_group("mmlu_stem_val_rc_5shot") == task_group("mmlu_other_test_rc_5shot") == "mmlu"
    assert task_group("held_out_wiki", ["heldout"]) == "heldout"
    assert task_group("drop", ["files"]) == "files"  # a file of one's own


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (
            "code",
            "basic_skills_coding basic_skills_coding:rc codex codex_humaneval humaneval mbpp mt_mbpp_python",
        ),
        ("math", "gsm8k minerva_math minerva_math_algebra minerva_math_algebra_0shot"),
        ("core_qa", "arc_easy arc_challenge:rc::olmes hellaswag piqa socialiqa csqa winogrande"),
        ("basic_skills", "basic_skills basic_skills_arithmetic basic_skills_pattern_rc"),
        ("mmlu", "mmlu mmlu_stem mmlu_other_test mmlu_social_sciences_val"),
        ("gen_qa", "drop squad lambada coqa jeopardy naturalqs"),
        ("science", "medqa medmcqa lab_bench_dbqa sciriff_yesno"),
        ("held", "held_out_wiki"),
        ("python", "python"),
    ],
)
def test_published_short_names_are_in_the_suites_groups(group, names):
    assert {task_group(name) for name in names.split()} == {group}


def test_a_table_of_published_names_is_grouped_as_the_suite_is(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("task,base,tuned\nbasic_skills_coding,1,0.5\nhumaneval,1,0.5\nbasic_skills_pattern,1,2\n")
    assert suite_of_csv(str(path)).groups == {
        "basic_skills_coding": "code",
        "humaneval": "code",
        "basic_skills_pattern": "basic_skills",
    }


def test_noise_is_the_pooled_scatter_of_the_seeds(tmp_path):
    base, code = [2.0, 2.1, 2.2], [1.8, 1.9, 1.7]
    columns = [f"{name}-seed{i}" for name in ("base", "code") for i in (1, 2, 3)]
    suite = suite_of_csv(table(tmp_path / "a.csv", ["task", *columns], ["a", *base, *code]))
    assert suite.runs == ("base", "code")
    pooled = math.sqrt((2 * stdev(base) ** 2 + 2 * stdev(code) ** 2) / 4)
    assert suite.band("a", "code") == pytest.approx(t.ppf(0.975, 4) * pooled * math.sqrt(2 / 3))
    assert suite.change("a", "code") == pytest.approx(100 * (fmean(code) / fmean(base) - 1))
    assert beyond_noise(suite, "a", "code") is True
    alone = suite_of_csv(table(tmp_path / "b.csv", ["task", "base", "code"], ["a", 1, 2]))
    assert alone.band("a", "code") is None


def test_runs_in_rows_are_the_same_table(tmp_path):
    wide = suite_of_csv(table(tmp_path / "a.csv", ["", "run", "name", "index", "a", "b"],
                              [0, "r1", "one", 0, 1, 2], [1, "r2", "two", 1, 3, 4]))  # fmt: skip
    assert wide.runs == ("one", "two")
    assert wide.values == {"a": {"one": [1.0], "two": [3.0]}, "b": {"one": [2.0], "two": [4.0]}}


@pytest.mark.parametrize(
    ("rows", "told"),
    [([["x", "y"], [1, 2]], "give a column `task`"), ([["task", "a", "b"], ["t", 1, "nan"]], ":2: b: 'nan'"),
     ([["task", "a", "b"], ["t", 1, 2], ["t", 1, 2]], ":3: the task 't' is there twice"),
     ([["task", "a"], ["t", 1]], "needs two"), ([["task", "a", "a", "b"], ["t", 1, 2, 3]], "'a' is there twice"),
     ([["task", "a", "b"]], "no rows")],
)  # fmt: skip
def test_bad_tables_are_refused_by_line(tmp_path, rows, told):
    with pytest.raises(UserError, match=told):
        suite_of_csv(table(tmp_path / "a.csv", *rows))


@pytest.mark.parametrize(
    ("name", "plain"),
    [("mix_code-seed3", "mix_code"), ("mix_code_seed_12", "mix_code"), ("a.seed1", "a"), ("seed1", "seed1"),
     ("mix_code", "mix_code"), ("seeds", "seeds")],
)  # fmt: skip
def test_seeds_are_cut_off_names(name, plain):
    assert without_seed(name) == plain


def run(folder: Path, values: dict[str, float], steps: tuple[int, ...] = (0, 10)) -> str:
    for step in steps:
        for task, value in values.items():
            place = folder / "eval" / f"step_{step:06d}" / task
            place.mkdir(parents=True)
            found = {"task": task, "step": step, "n": 5, "metrics": {"bpb": value + (step == 0)}, "stderr": {}}
            (place / "metrics.json").write_text(json.dumps({**found, "groups": ["heldout"]}))
    mixture = {
        "wiki": {"requested": 0.5, "realised": 0.5, "tokens": 500},
        "code": {"requested": 0.5, "realised": 0.5, "tokens": 500},
    }
    (folder / "run.json").write_text(json.dumps({"steps": 10, "mixture": mixture}))
    return str(folder)


def test_run_directories_and_their_pictures(tmp_path, capsys):
    runs = [run(tmp_path / f"{name}-seed{i}", {"wiki": 3 + i / 100 - d, "code": 2 + i / 100})
            for name, d in (("base", 0), ("heavy_wiki", 0.5)) for i in (1, 2)]  # fmt: skip
    out = tmp_path / "out"
    assert main(["compare", *runs, "--output", str(out)]) == 0
    told = capsys.readouterr().out
    assert "1 of 2 differences are beyond the noise" in told
    names = {path.name for path in out.iterdir()}
    assert names == {"suite.md", "suite.csv", "suite.json", "suite.png", "mixes.png", "tokens.png"}
    assert json.loads((out / "suite.json").read_text())["groups"]["heldout"]["tasks"] == 2
    assert main(["compare", *runs[:1], str(tmp_path / "base-seed2"), "--suite"]) == 0


def test_runs_with_other_tasks_are_refused(tmp_path):
    one, two = run(tmp_path / "one", {"a": 1.0, "b": 1.0}), run(tmp_path / "two", {"a": 1.0})
    with pytest.raises(UserError, match="b: two lack its bpb"):
        suite_of_runs([one, two], "bpb")
    with pytest.raises(UserError, match="accuracy"):
        suite_of_runs([one, two], "accuracy")


def test_a_report_of_runs_with_one_suite_has_its_tables(tmp_path):
    runs = [run(tmp_path / name, {"wiki": 3.0, "code": 2.0 + i}) for i, name in enumerate(("one", "two"))]
    for path in runs:
        writer = SummaryWriter(f"{path}/tensorboard")
        writer.add_scalar("train/loss", 1.0, 1)
        writer.close()
    assert main(["report", *runs, "--output", str(tmp_path / "report")]) == 0
    assert "(suite.md)" in (tmp_path / "report" / "report.md").read_text()
    assert "| heldout | code | 2.0000* | 3.0000 | +50.0 |" in (tmp_path / "report" / "suite.md").read_text()
    assert main(["report", runs[0], "--output", str(tmp_path / "alone")]) == 0
    assert not (tmp_path / "alone" / "suite.md").exists()


def test_some_tasks_of_a_suite(tmp_path, capsys):
    path = table(tmp_path / "a.csv", ["task", "base", "code"], ["a", 2, 1], ["b", 2, 4])
    assert main(["compare", path, "--tasks", "a"]) == 0
    assert "code: -50.0% against base (mean of the changes of 1 tasks)" in capsys.readouterr().out
    assert main(["compare", path, "--tasks", "c"]) == 2
    assert "choose among a, b" in capsys.readouterr().err
