"""Methods over sample sizes: what is run, skipped and continued, and what the comparison says."""

import csv
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from lightning_posttrain.callbacks.generation import GenerationEval
from lightning_posttrain.cli import main
from lightning_posttrain.commands.processes import launch
from tests.commands.conftest import STEPS, write_config


class Launches:
    """Stands in for `launch`: runs in this process, keeps the words, and fails where it is told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failing: set[str] = set()

    def __call__(self, words: list[str], log: Path) -> tuple[int, int]:
        place = next(w for w in words if w.startswith("--run.dir=") or ("/" in w and not w.startswith("-")))
        self.names.append(f"{words[0]} {Path(place).name}" if words[0] != "fit" else log.parent.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"$ {words}\n")
        if log.parent.name in self.failing:
            log.write_text("earlier\nerror: the disk is full\n")
            return 1, 0
        try:
            return main(words), 0
        except RuntimeError:
            return 1, 0


@pytest.fixture
def launches(monkeypatch):
    made = Launches()
    monkeypatch.setattr(sys.modules["lightning_posttrain.commands.experiments"], "launch", made)
    return made


def write_grid(tmp_path: Path) -> Path:
    """An experiment of two methods and two sizes from one prepared model; its runs are in ``tmp_path / "out"``."""
    config = str(write_config(tmp_path))
    prepared = [f"--model.pretrained={tmp_path}/prep/model", "--model.tokenizer.kind=null"]
    spec = {
        "output_dir": str(tmp_path / "out"),
        "sizes": [4, 8],
        "task": "gsm8k",
        "metrics": ["accuracy", "completion_tokens"],
        "before": [{"config": [config], "dir": str(tmp_path / "prep")}],
        "methods": {
            "slow": {"config": [config], "size_key": "data.max_examples", "options": prepared},
            "fast": {
                "config": [config],
                "size_key": "data.max_examples",
                "options": [*prepared, "--model.optimizer.lr=0.1"],
            },
        },
    }
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@pytest.fixture
def grid(tmp_path):
    return write_grid(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished experiment, and what was run for it. Who changes it puts it back."""
    folder, made = tmp_path_factory.mktemp("done"), Launches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["lightning_posttrain.commands.experiments"], "launch", made)
        assert go(write_grid(folder)) == 0
    return folder, made.names


RUNS = ["slow-4", "fast-4", "slow-8", "fast-8"]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "comparison.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def go(grid: Path, *words: str) -> int:
    return main(["experiments", "-c", str(grid), *words])


def test_a_dry_run_prints_the_commands_and_does_nothing(grid, tmp_path, launches, capsys):
    assert go(grid, "--dry_run", "--overrides", '["--data.seed=3"]') == 0
    lines = capsys.readouterr().out.splitlines()
    assert not launches.names
    assert not (tmp_path / "out").exists()
    assert [line.split("--run.dir=")[1].split()[0].rsplit("/", 1)[1] for line in lines] == ["prep", *RUNS]
    assert "--data.max_examples=8" in lines[-1]
    assert lines[-1].index("--data.seed=3") < lines[-1].index("--model.optimizer.lr=0.1")
    assert "--data.seed" not in lines[0]
    assert all(line.startswith("lightning-posttrain fit -c ") for line in lines)


def test_the_comparison_holds_what_the_runs_wrote(done):
    folder, names = done
    assert names == ["prep", *RUNS]
    rows = table(folder)
    assert [(r["method"], r["n"]) for r in rows] == [
        ("prep", ""), ("slow", "4"), ("fast", "4"), ("slow", "8"), ("fast", "8")
    ]  # fmt: skip
    for row in rows:
        place = folder / ("out/" + f"{row['method']}-{row['n']}" if row["n"] else "prep")
        found = json.loads((place / f"eval/step_{STEPS:06d}/gsm8k/metrics.json").read_text())
        assert (row["status"], int(row["step"]), int(row["examples"])) == ("finished", STEPS, 4)
        for name in ("accuracy", "completion_tokens"):
            assert float(row[name]) == found["metrics"][name]
            assert [float(row[f"{name}_low"]), float(row[f"{name}_high"])] == found["ci95"][name]
    assert (folder / "out/comparison.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "out/comparison.md").read_text()
    assert "| fast | 8 | finished | 4 | 4 |" in page
    assert "comparison.png" in page
    assert json.loads((folder / "out/fast-8/run.json").read_text())["parent"] == f"{folder}/prep/model"


def test_what_is_finished_is_not_run_again(done, launches, capsys):
    folder, _ = done
    before = (folder / "out/comparison.md").read_text()
    assert go(folder / "experiments.yaml") == 0
    assert not launches.names
    assert "finished already" in capsys.readouterr().out
    assert (folder / "out/comparison.md").read_text() == before


def test_an_interrupted_grid_goes_on_where_it_stopped(grid, tmp_path, launches, monkeypatch, capsys):
    """The second run dies in its last evaluation; given again, it is continued, and nothing is done twice."""
    whole = GenerationEval.evaluate

    def dying(self, trainer, module):
        if trainer.global_step == STEPS and "fast-4" in trainer.default_root_dir:
            raise RuntimeError("killed")
        return whole(self, trainer, module)

    monkeypatch.setattr(GenerationEval, "evaluate", dying)
    assert go(grid) == 1
    assert launches.names == ["prep", "slow-4", "fast-4"]
    assert [r["status"] for r in table(tmp_path)] == ["finished", "finished", "failed", "not started", "not started"]
    assert (tmp_path / "out/comparison.png").is_file()
    monkeypatch.setattr(GenerationEval, "evaluate", whole)
    launches.names.clear()
    capsys.readouterr()
    assert go(grid) == 0
    assert launches.names == ["fast-4", "slow-8", "fast-8"]
    assert "step-00000002.ckpt" in capsys.readouterr().out
    assert {r["status"] for r in table(tmp_path)} == {"finished"}


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_failed_run_is_told_and_stops_unless_asked_otherwise(grid, tmp_path, launches, capsys, keep_going):
    launches.failing = {"fast-4"}
    assert go(grid, *(["--keep_going"] if keep_going else [])) == 1
    error = capsys.readouterr().err
    assert "fast, n=4: failed with exit code 1" in error
    assert "error: the disk is full" in error
    status = {(r["method"], r["n"]): r["status"] for r in table(tmp_path)}
    assert status["fast", "4"] == "failed"
    assert status["fast", "8"] == ("finished" if keep_going else "not started")
    assert "| failed |" in (tmp_path / "out/comparison.md").read_text()


def test_a_signal_stops_the_grid_with_its_number(grid, tmp_path, launches, monkeypatch, capsys):
    def stopped(words, log):
        return (143, signal.SIGTERM) if log.parent.name == "slow-4" else Launches()(words, log)

    monkeypatch.setattr(sys.modules["lightning_posttrain.commands.experiments"], "launch", stopped)
    assert go(grid, "--keep_going") == 143
    assert "the same command goes on" in capsys.readouterr().err
    assert [r["status"] for r in table(tmp_path)] == ["finished", *["not started"] * 4]


def test_nothing_is_compared_without_the_stage_before(grid, tmp_path, launches):
    launches.failing = {"prep"}
    assert go(grid, "--keep_going") == 1
    assert launches.names == ["prep"]


def test_a_last_evaluation_that_was_lost_is_made_up_for(done, launches):
    """Not the one of an earlier step is compared."""
    folder, _ = done
    before = table(folder)
    for path in (folder / f"out/fast-8/eval/step_{STEPS:06d}/gsm8k").iterdir():
        path.unlink()
    assert go(folder / "experiments.yaml") == 0
    assert launches.names == ["evaluate_checkpoints fast-8"]
    assert table(folder) == before


def test_runs_of_other_settings_are_not_mixed_in(done, launches, capsys):
    folder, _ = done
    grid, config = folder / "experiments.yaml", folder / "config.yaml"
    assert go(grid, "--overrides", '["--data.seed=3"]') == 2
    assert "--data.seed=3" in capsys.readouterr().err
    text = config.read_text()
    config.write_text(text.replace("max_new_tokens: 6", "max_new_tokens: 7"))
    try:
        assert go(grid) == 2
    finally:
        config.write_text(text)
    error = capsys.readouterr().err
    assert "config.yaml" in error
    assert "name another output_dir" in error
    assert not launches.names


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--sizes=[]", "sizes=[]"),
        ("--sizes=[4,4]", "sizes=[4, 4]"),
        ("--sizes=[0]", "sizes=[0]"),
        ("--methods={}", "methods=[]"),
        ("--metrics=[]", "metrics=[]"),
        ("--task=gsm8k_tags", "['gsm8k']"),
        ("--methods.slow.size_key=data.max_exampels", "slow, n=4"),
        ('--overrides=["--model.optimizer.lrr=1"]', "slow, n=4"),
        ("--before=[{config: [a.yaml], output: x}]", "before[0]"),
        ("--before=[{config: [a.yaml], command: traces, dir: x}]", "before[0]"),
        ("--before=[{config: [nowhere.yaml], command: traces, output: x}]", "nowhere.yaml"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(grid, tmp_path, launches, capsys, option, named):
    if option.startswith("--methods.slow"):
        text = grid.read_text().replace("data.max_examples", "data.max_exampels")
        grid.write_text(text)
        option = "--dry_run=false"
    assert go(grid, option) == 2
    assert named in capsys.readouterr().err
    assert not launches.names


@pytest.mark.e2e
def test_a_process_has_a_log_and_is_told_to_stop(tmp_path):
    assert launch(["tasks"], tmp_path / "a" / "log.txt") == (0, 0)
    assert "gsm8k" in (tmp_path / "a" / "log.txt").read_text()
    config = write_config(tmp_path)

    def stop_once_saved():
        while not list((tmp_path / "run" / "checkpoints").glob("step-*.ckpt")):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_once_saved, daemon=True).start()
    endless = ["--trainer.max_steps=1000000", "--trainer.callbacks=null"]
    before = signal.getsignal(signal.SIGTERM)
    assert launch(["fit", "-c", str(config), *endless], tmp_path / "log.txt") == (143, signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert "stopped after step" in (tmp_path / "log.txt").read_text()
