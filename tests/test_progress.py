"""Lines that say how far something is: what they estimate, when they come, and that nothing long is without them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_posttrain import progress
from lightning_posttrain.cli import main
from lightning_posttrain.progress import Progress, doing, metered
from lightning_posttrain.records.sources import count_rows
from tests.tinyrun import build_dpo


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    monkeypatch.setattr(progress, "FIRST", 10.0)
    return made


def test_the_time_left_follows_from_what_is_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with doing("step 3"), Progress("generation", 40, "completions") as meter:
        for clock.now in (4, 9, 12, 20, 28):  # nothing before 10 s, then a line at most every 15 s
            meter.add(4)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "step 3: generation: 30 % of 40 completions, 12 s, about 28 s left",
        "step 3: generation: 50 % of 40 completions, 28 s, about 28 s left",
        "step 3: generation: 20 completions in 28 s",
    ]


def test_what_is_soon_over_is_not_mentioned(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in metered(range(5), "reading", 5, "rows"):
        clock.now += 1
    assert capsys.readouterr().err == ""


def test_a_total_is_found_out_only_if_it_is_needed(clock: Clock) -> None:
    asked: list[int] = []
    stream = io.StringIO()
    meter = Progress("reading", lambda: asked.append(1) or 8, "rows", stream)
    meter.add()
    assert not asked
    for clock.now in (10, 30):
        meter.add()
    assert asked == [1]
    assert stream.getvalue().splitlines() == [
        "reading: 25 % of 8 rows, 10 s, about 30 s left",
        "reading: 38 % of 8 rows, 30 s, about 50 s left",
    ]


def test_without_a_total_there_is_a_count(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    meter = Progress("reading", lambda: None, "rows")
    clock.now = 11
    meter.add(1200)
    assert capsys.readouterr().err == "reading: 1,200 rows, 11 s\n"


def test_more_than_the_total_is_all_of_it(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    meter = Progress("reading", 10, "rows")
    clock.now = 11
    meter.add(12)
    assert "100 % of 10 rows, 11 s, about 0 s left" in capsys.readouterr().err


def test_rows_are_counted_without_being_parsed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' * 70_000)
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text("[]")
    assert [count_rows(tmp_path / f"a.{kind}") for kind in ("jsonl", "parquet", "json")] == [70_000, 3, None]


# ---- nothing that may take long is without them ---------------------------------------------------------------------


@pytest.fixture
def all_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every count is worth a line."""
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)


def with_evaluation(config: Path, rows: Path) -> None:
    value = yaml.safe_load(config.read_text())
    value["trainer"].pop("enable_progress_bar")
    options = {"task": "GSM8K", "path": str(rows), "sampling": {"max_new_tokens": 3}}
    value["trainer"]["callbacks"] = [{"class_path": "GenerationEval", "init_args": options}]
    config.write_text(yaml.safe_dump(value))


PROBLEMS = [{"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"} for i in range(4)]


def test_a_run_says_how_far_each_of_its_parts_is(
    all_lines: None, tiny_config: Path, write_rows: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with_evaluation(tiny_config, write_rows(PROBLEMS, "problems.jsonl"))
    assert main(["fit", "-c", str(tiny_config), "--data.val_examples", "4"]) == 0
    out, said = capsys.readouterr()
    for begins in (
        "tokenising ",
        "step 0: validation: 100 % of 1 batches",
        "step 0: evaluation of gsm8k: generation: ",
        "step 2: validation: ",
        "step 2: evaluation of gsm8k: generation: 100 % of 4 completions",
    ):
        assert any(line.startswith(begins) for line in said.splitlines()), (begins, said)
    assert "\r" not in said + out


def test_a_reference_that_is_cached_and_rollouts_are_among_them(
    all_lines: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lightning_posttrain.modules.dpo import ReferenceSpec
    from tests.modules.test_dpo import SOURCE, _Data
    from tests.tinyrun import train, trainer_for

    module = build_dpo(reference=ReferenceSpec(cached=True, cache_dir=str(tmp_path / "cache")))
    trainer_for(tmp_path, [], max_epochs=1).fit(module, datamodule=_Data(SOURCE))
    train(tmp_path / "grpo", grpo=True, max_epochs=1)
    said = capsys.readouterr().err
    assert "log-probs of the reference: 100 % of" in said
    assert "step 1: generation: 100 % of 8 completions" in said
    assert "step 1: rewards: 100 % of 8 completions" in said


def test_a_log_file_holds_no_bars(tiny_config: Path, tmp_path: Path, write_rows: Any) -> None:
    """As a user has it: a process whose output goes to a file, with weights that are loaded."""
    with_evaluation(tiny_config, write_rows(PROBLEMS, "problems.jsonl"))
    command = [sys.executable, "-m", "lightning_posttrain.cli"]
    assert main(["fit", "-c", str(tiny_config), "--run.dir", str(tmp_path / "first")]) == 0
    value = yaml.safe_load(tiny_config.read_text())
    for name in ("architecture", "tokenizer"):
        value["model"]["init_args"].pop(name)
    value["model"]["init_args"]["pretrained"] = str(tmp_path / "first" / "model")
    tiny_config.write_text(yaml.safe_dump(value))
    with (tmp_path / "log").open("w") as log:
        words = ["fit", "-c", str(tiny_config), "--run.dir", str(tmp_path / "second")]
        subprocess.run([*command, *words], stdout=log, stderr=log, check=True, timeout=3600, env=dict(os.environ))
    text = (tmp_path / "log").read_text()
    assert "step 3/3" in text
    assert "\r" not in text
    assert "it/s" not in text
    assert json.loads((tmp_path / "second" / "run.json").read_text())["status"] == "finished"
