"""`traces`: attempts are drawn only while they are needed, every count is exact, and no kill changes a byte."""

import fcntl
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.cli import main
from lightning_posttrain.commands.trace_file import PUBLIC, trace_file
from lightning_posttrain.commands.trace_rows import Problem, solve, statistics
from lightning_posttrain.commands.traces import read_problems, tracing_task
from lightning_posttrain.datamodules.sft import count_traces
from lightning_posttrain.rollout import sampler
from lightning_posttrain.rollout.sampler import SamplingParams
from lightning_posttrain.tasks.base import Score, Task
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.tasks.gsm8k_tags import GSM8KTags, TagFormat
from lightning_posttrain.types import Completion, UserError

CONFIGS = Path(__file__).parents[2] / "configs" / "gsm8k"
ORIGINAL = "two and two\n#### 4"
TASK = GSM8KTags()
RIGHT, WRONG = "thinking<end_working_out><SOLUTION>4</SOLUTION>", "hm<end_working_out><SOLUTION>5</SOLUTION>"
MISS, SAME = "<SOLUTION>4</SOLUTION>", "two and two <end_working_out><SOLUTION>4</SOLUTION>"


def said(text: str) -> Completion:
    return Completion((1,), (0.0,), text, True)


def make_problems(count: int, task: Task = TASK) -> list[Problem]:
    rows = [{"id": f"p{i}", "question": f"Question {i}?", "answer": ORIGINAL} for i in range(count)]
    return [Problem(i, row, task.record(row, f"f:{i + 1}")) for i, row in enumerate(rows)]


class Script:
    """Draws what is written for (problem, attempt), and remembers who was asked."""

    def __init__(self, *lines: list[str]) -> None:
        self.lines = lines
        self.asked: list[list[int]] = []

    def __call__(self, problems, attempt):
        self.asked.append([p.number for p in problems])
        return [said(self.lines[p.number][attempt]) for p in problems]


# ---- which attempt wins ---------------------------------------------------------------------------------------------


def test_an_attempt_is_drawn_only_for_unsolved_problems_and_the_counts_are_exact():
    script = Script([RIGHT, "never"], [WRONG, MISS, RIGHT], [WRONG] * 4, [SAME, "", RIGHT], [MISS, SAME, MISS, WRONG])
    rows = solve(make_problems(5), script, GSM8KTags(), 4)
    assert script.asked == [[0, 1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [2, 4]]
    assert [row["attempts"] for row in rows] == [1, 3, 4, 3, 4]
    assert [row["source"] for row in rows] == ["generated", "generated", "original", "generated", "original"]
    assert [row["id"] for row in rows] == [f"p{i}" for i in range(5)]
    assert rows[1]["answer"] == "thinking\n\n#### 4"
    assert rows[2]["answer"] == ORIGINAL
    assert statistics(rows) == {
        "total_samples": 5,
        "grpo_successes": 3,
        "fallback_count": 2,
        "success_rate": 3 / 5,
        "avg_attempts_for_successes": 7 / 3,
        "avg_attempts_overall": 15 / 5,
        "format_miss": 3,
        "identical": 2,
    }


def test_nothing_is_drawn_once_all_are_solved_and_no_success_has_no_average():
    script = Script([RIGHT], [RIGHT])
    solve(make_problems(2), script, GSM8KTags(), 8)
    assert script.asked == [[0, 1]]
    stats = statistics(solve(make_problems(1), Script([WRONG] * 3), GSM8KTags(), 3))
    assert (stats["avg_attempts_for_successes"], stats["avg_attempts_overall"]) == (None, 3)


@given(st.lists(st.lists(st.sampled_from([RIGHT, WRONG, MISS, SAME]), min_size=5, max_size=5), min_size=1, max_size=4))
def test_no_generated_row_is_the_original_and_every_row_is_read_back(lines):
    script = Script(*lines)
    rows = solve(make_problems(len(lines)), script, GSM8KTags(), 5)
    drawn = Counter(number for asked in script.asked for number in asked)
    for number, (row, texts) in enumerate(zip(rows, lines, strict=True)):
        assert (row["source"] == "generated") == (RIGHT in texts)
        assert (row["answer"] == ORIGINAL) == (row["source"] == "original")
        assert row["attempts"] == drawn[number] == (texts.index(RIGHT) + 1 if RIGHT in texts else 5)
        seen = texts[: row["attempts"]]
        assert (row["format_miss"], row["identical"]) == (seen.count(MISS), seen.count(SAME))
        assert GSM8KTags().record(row, "f:1").meta["gold"] == "4"


def test_a_row_that_training_would_refuse_does_not_win():
    def check(record):
        if "thinking" in record.answer:
            raise UserError("no")

    rows = solve(make_problems(1), Script([RIGHT, RIGHT]), GSM8KTags(), 2, check)
    assert (rows[0]["source"], rows[0]["format_miss"]) == ("original", 2)


def test_the_plain_task_takes_the_text_before_the_number():
    script = Script(["#### 4", "two and two\n#### 4", "twice two\n\n#### 4"])
    rows = solve(make_problems(1, GSM8K()), script, GSM8K(), 3)
    assert rows[0]["answer"] == "twice two\n\n#### 4"
    assert (rows[0]["format_miss"], rows[0]["identical"]) == (1, 1)


def test_a_task_without_reasoning_is_refused():
    assert type(tracing_task("gsm8k_tags")) is GSM8KTags
    custom = GSM8KTags(TagFormat("<think>", "</think>"))
    assert tracing_task(custom) is custom
    with pytest.raises(UserError, match="takes gsm8k, gsm8k_tags"):
        tracing_task("format_following")
    with pytest.raises(UserError, match="no task 'gsm9k'"):
        tracing_task("gsm9k")


def test_problems_are_the_first_rows(write_rows):
    path = str(write_rows([{"question": f"{i}?", "answer": "#### 1"} for i in range(3)]))
    assert [p.row["question"] for p in read_problems(GSM8K(), path, 2)] == ["0?", "1?"]
    assert len(read_problems(GSM8K(), path, None)) == 3
    with pytest.raises(UserError, match="num_samples=4, but there are 3"):
        read_problems(GSM8K(), path, 4)


# ---- the file -------------------------------------------------------------------------------------------------------

ROWS = [{**dict.fromkeys(PUBLIC, f"\ud800 {i}"), "format_miss": i, "identical": 0} for i in range(3)]


def test_progress_is_on_disk_after_each_append_and_gone_in_the_end(tmp_path):
    out = tmp_path / "new" / "o.jsonl"
    with trace_file(out, {"seed": 1}) as done:
        done.append(ROWS[:2])
        assert len((tmp_path / "new" / "o.jsonl.partial.jsonl").read_bytes().splitlines()) == 3
    with trace_file(out, {"seed": 1}) as done:
        assert done.rows == ROWS[:2]
        done.keep(1)
        done.append(ROWS[1:])
        done.publish({"n": 3})
    assert [json.loads(line) for line in out.open()] == [{name: row[name] for name in PUBLIC} for row in ROWS]
    assert sorted(p.name for p in out.parent.iterdir()) == ["o.jsonl", "o.jsonl.stats.json"]


@pytest.mark.parametrize("torn", range(1, 40, 6))
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    out, partial = tmp_path / "o.jsonl", tmp_path / "o.jsonl.partial.jsonl"
    with trace_file(out, {"seed": 1}) as done:
        done.append(ROWS)
    whole = partial.read_bytes()
    partial.write_bytes(whole[:-torn])
    with trace_file(out, {"seed": 1}) as done:
        assert done.rows == ROWS[:2]
        done.append(ROWS[2:])
    assert partial.read_bytes() == whole


def test_other_settings_are_refused_by_name_unless_it_starts_again(tmp_path):
    out = tmp_path / "o.jsonl"
    with trace_file(out, {"seed": 1, "temperature": 1.0}) as done:
        done.append(ROWS)
    with pytest.raises(UserError, match=r"seed=1, now 2.*--resume false"), trace_file(out, {"seed": 2}):
        pass
    with trace_file(out, {"seed": 2}, resume=False) as done:
        assert done.rows == []
    assert not list(tmp_path.iterdir())  # nothing was drawn: nothing is left
    with trace_file(out, {"seed": 3}):
        pass


def test_damaged_progress_is_named(tmp_path):
    out, partial = tmp_path / "o.jsonl", tmp_path / "o.jsonl.partial.jsonl"
    for text in ("{}\n{}\n", "x\n{}\n", "[]\n{}\n"):
        partial.write_text(text)
        with pytest.raises(UserError, match=r"partial.jsonl: is no progress"), trace_file(out, {}):
            pass
        assert partial.read_text() == text


def test_an_output_is_replaced_only_when_asked(tmp_path):
    out = tmp_path / "o.jsonl"
    out.write_text("mine")
    with pytest.raises(UserError, match="--overwrite true"), trace_file(out, {}):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["o.jsonl"]
    with trace_file(out, {}, overwrite=True) as done:
        done.append(ROWS)
        assert out.read_text() == "mine"
    with trace_file(out, {}) as done:  # begun with --overwrite: may be finished without
        done.publish({})
    assert len(out.read_text().splitlines()) == 3


def test_two_processes_do_not_share_a_file(tmp_path):
    out, partial = tmp_path / "o.jsonl", tmp_path / "o.jsonl.partial.jsonl"
    with partial.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"), trace_file(out, {}):
            pass
    with pytest.raises(UserError, match="cannot be written"), trace_file(partial / "below.jsonl", {}):
        pass


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def words(run, tmp_path, write_rows) -> list[str]:
    """The command on ten problems: four batches of at most three."""
    rows = [{"question": f"What is {i}+{i}?", "answer": f"It is {2 * i}.\n#### {2 * i}"} for i in range(10)]
    options = {
        "model": run / "model",
        "data": write_rows(rows),
        "output_file": tmp_path / "out" / "traces.jsonl",
        "num_samples": 10,
        "batch_size": 3,
        "max_new_tokens": 4,
    }
    return ["traces", "-c", str(CONFIGS / "tiny" / "traces.yaml"), *(f"--{k}={v}" for k, v in options.items())]


@pytest.fixture
def fake(monkeypatch):
    """A sampler whose draws depend on (seed, attempt, key) alone: every third is right. ``calls`` may end it."""
    calls = {"count": 0, "most": 1 << 30, "last": {}, "says": "try"}

    def generate(model, prompts, params, stop_ids, decode_text, *, seed, step, keys, max_rows):
        calls["count"] += 1
        if calls["count"] > calls["most"]:
            raise KeyboardInterrupt
        asked, dtype = [decode_text(p) for p in prompts], next(model.parameters()).dtype
        calls["last"] = {"params": params, "max_rows": max_rows, "asked": asked, "dtype": dtype}
        numbers = [2 * key + ((seed + step + key) % 3 != 0) for key in keys]
        return [[said(f"{calls['says']} {step}<end_working_out><SOLUTION>{n}</SOLUTION>")] for n in numbers]

    monkeypatch.setattr(sampler, "generate", generate)
    return calls


def outputs(tmp_path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}


def test_the_command_writes_rows_in_order_that_sft_takes(words, fake, tmp_path, capsys):
    assert main(words) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "traces.jsonl").open()]
    assert [list(row) for row in rows] == [list(PUBLIC)] * 10
    assert [row["attempts"] for row in rows] == [-(3407 + i) % 3 + 1 for i in range(10)]
    assert [row["answer"] for row in rows] == [f"try {r['attempts'] - 1}\n\n#### {2 * i}" for i, r in enumerate(rows)]
    assert count_traces(str(tmp_path / "out" / "traces.jsonl")) == (10, 0)
    stats = json.loads((tmp_path / "out" / "traces.jsonl.stats.json").read_text())
    assert stats["settings"]["temperature"] == 1.0
    assert stats["settings"]["seed"] == 3407
    assert len(stats["settings"]["data_sha256"]) == len(stats["settings"]["model_sha256"]) == 64
    out = capsys.readouterr()
    assert "10 rows, 10 generated (100.0%), 0 original; 2.00 attempts a problem" in out.out
    assert "6/10 problems, 6 solved" in out.err
    assert fake["last"]["max_rows"] == 3
    assert "What is 9+9?" in fake["last"]["asked"][0]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_options_reach_the_model_and_the_sampler(words, fake):
    options = ["--top_k=5", "--top_p=0.9", "--min_p=0.1", "--temperature=0.7", "--dtype=bfloat16"]
    options += ["--template=tags", "--template_kwargs={start_working: <w>}"]
    assert main([*words, *options]) == 0
    assert fake["last"]["params"] == SamplingParams(4, 0.7, 5, 0.9, 0.1)
    assert fake["last"]["dtype"] == torch.bfloat16
    assert fake["last"]["asked"][0].endswith("What is 9+9?<w>")


def test_a_custom_task_reads_and_scores(words, fake, tmp_path):
    custom = {"class_path": "GSM8KTags", "init_args": {"tags": {"end_working": "</w>"}}}
    assert main([*words, f"--task={json.dumps(custom)}"]) == 0
    stats = json.loads((tmp_path / "out" / "traces.jsonl.stats.json").read_text())
    assert (stats["grpo_successes"], stats["format_miss"]) == (0, 13)  # right numbers, but no such tag
    assert '["end_working", "</w>"]' in stats["settings"]["task"]


def test_reasoning_with_a_special_token_does_not_win(words, fake, tmp_path):
    fake["says"] = "so <|im_end|>"
    assert main(words) == 0
    stats = json.loads((tmp_path / "out" / "traces.jsonl.stats.json").read_text())
    assert (stats["fallback_count"], stats["avg_attempts_overall"]) == (10, 4)
    assert stats["format_miss"] == 13


@pytest.mark.parametrize("most", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("torn", [0, 10, 200])
def test_a_killed_run_ends_with_the_bytes_of_an_unbroken_one(words, fake, tmp_path, most, torn):
    assert main(words) == 0
    whole = outputs(tmp_path)
    (tmp_path / "out" / "traces.jsonl").unlink()
    fake.update(count=0, most=most)
    assert main(words) == 130
    partial = tmp_path / "out" / "traces.jsonl.partial.jsonl"
    if partial.exists():
        partial.write_bytes(partial.read_bytes()[: -torn or None])
    fake.update(most=1 << 30)
    assert main(words) == 0
    assert outputs(tmp_path) == whole


def test_finished_progress_needs_no_model(words, fake, tmp_path, monkeypatch):
    from lightning_posttrain.commands.trace_file import TraceFile

    with monkeypatch.context() as patched:
        patched.setattr(TraceFile, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(words)
    drawn = fake["count"]
    assert main(words) == 0
    assert fake["count"] == drawn
    assert sorted(outputs(tmp_path)) == ["traces.jsonl", "traces.jsonl.stats.json"]


def test_other_settings_are_refused_after_a_kill(words, fake, capsys, run):
    fake.update(most=4)
    assert main(words) == 130
    assert main([*words, "--temperature=0.5", "--task=gsm8k"]) == 2
    err = capsys.readouterr().err
    assert "temperature=1.0, now 0.5" in err
    assert "task=" in err
    fake.update(most=1 << 30)
    assert main([*words, "--temperature=0.5", "--resume=false"]) == 0


def test_a_real_model_draws_the_same_rows_whatever_the_batch(words, tmp_path, monkeypatch):
    """A random model is never right, so everything counts as right; what is compared is what was drawn."""
    monkeypatch.setattr(GSM8KTags, "score", lambda *_: Score({"accuracy": 1.0}))
    monkeypatch.setattr(
        GSM8KTags, "trace", lambda self, record, c: f"{c.text}\n#### 1" if c.tokens[0] % 2 and c.text.strip() else None
    )
    results = []
    for extra in ([], ["--batch_size=10"], ["--seed=1"]):
        assert main([*words, *extra, "--overwrite"]) == 0
        results.append((tmp_path / "out" / "traces.jsonl").read_bytes())
    assert results[0] == results[1] != results[2]
    assert len({json.loads(line)["answer"] for line in results[0].splitlines()}) > 1


def test_wrong_values_are_refused_before_anything_is_loaded(words, capsys, tmp_path):
    for option, named in (
        ("--max_attempts=0", "max_attempts=0"),
        ("--batch_size=0", "batch_size=0"),
        ("--num_samples=0", "num_samples=0"),
        ("--num_samples=11", "there are 10 rows"),
        ("--temperature=0", "same solution every time"),
        ("--top_p=2", "top_p=2"),
        ("--task=format_following", "no reasoning"),
        ("--max_new_tokens=4000", "rows.jsonl:1: the prompt has"),
        ("--model=nowhere/at/all", "nowhere"),
    ):
        assert main([*words, option]) == 2, option
        assert named in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_the_full_config_differs_only_in_size():
    import yaml

    full, tiny = (yaml.safe_load((CONFIGS / name).read_text()) for name in ("traces.yaml", "tiny/traces.yaml"))
    assert set(full) == set(tiny)
    assert (full["num_samples"], full["max_attempts"]) == (2048, 8)
