"""Generated word problems: right answers, unseen operands, same spec same bytes."""

import ast
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lightning_posttrain.tasks import word_problems
from lightning_posttrain.tasks.gsm8k_tags import GSM8KTags
from lightning_posttrain.tasks.word_problems import QUESTIONS, WordProblemSpec, carries, generate, held_out, make_split
from lightning_posttrain.types import Completion, UserError

SPEC = WordProblemSpec(n_train=600, n_eval=200, max_operand=99, two_step_prob=0.4)


def operands(row: dict[str, str]) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in re.findall(r"\d+", row["question"])))


@pytest.fixture(scope="module")
def splits():
    return {"train": make_split(SPEC, "train"), "eval": make_split(SPEC, "eval")}


def test_files_stats_and_return_value(tmp_path, splits):
    stats = generate(tmp_path / "new", SPEC)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["eval.jsonl", "stats.json", "train.jsonl"]
    assert json.loads((tmp_path / "new" / "stats.json").read_text()) == stats
    for split, rows in splits.items():
        assert [json.loads(line) for line in (tmp_path / "new" / f"{split}.jsonl").read_text().splitlines()] == rows
        assert stats[split]["num_rows"] == len(rows) == sum(stats[split]["operation_counts"].values())
    assert set(stats["train"]["operation_counts"]) == set(QUESTIONS)
    two = sum(n for kind, n in stats["train"]["operation_counts"].items() if len(kind) == 2)
    assert abs(two / 600 - 0.4) < 0.06  # three sigma
    generate(tmp_path / "again", SPEC)
    for name in ("train.jsonl", "eval.jsonl", "stats.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "new" / name).read_bytes()
    assert make_split(replace(SPEC, seed=8), "train") != splits["train"]


def test_every_step_and_answer_is_right(splits):
    for row in splits["train"] + splits["eval"]:
        *steps, last = row["answer"].split("\n")
        for step in steps:
            left, sign, right, result = re.fullmatch(r"(\d+)([-+])(\d+)=(\d+)", step).groups()
            assert int(left) + int(f"{sign}{right}") == int(result)
        assert last == f"#### {result}"
        assert len(steps) == len(operands(row)) - 1


def test_questions_are_short_and_asked_once(splits):
    rows = splits["train"] + splits["eval"]
    assert len({row["question"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)
    assert max(len(row["question"].split()) for row in rows) <= 25
    words = {word for row in rows for word in re.findall("[A-Za-z]+", row["question"])}
    assert len(words) < 60


def test_no_numbers_are_evaluated_that_were_trained_whatever_the_seed(splits):
    seen = {operands(row) for row in splits["train"] + make_split(replace(SPEC, seed=3, max_operand=40), "train")}
    assert seen.isdisjoint(operands(row) for row in splits["eval"])
    assert held_out((3, 5)) == held_out((5, 3))
    pairs = [held_out((a, b)) for a in range(1, 100) for b in range(a, 100)]
    assert 0.17 < sum(pairs) / len(pairs) < 0.23


def test_the_size_of_a_split_changes_neither_the_other_nor_the_rows_before(splits):
    assert make_split(replace(SPEC, n_train=50), "train") == splits["train"][:50]
    assert make_split(replace(SPEC, n_train=50), "eval") == splits["eval"]


@pytest.mark.parametrize(("prob", "lengths"), [(0.0, {2}), (1.0, {3})])
def test_one_step_or_two(prob, lengths):
    assert {len(operands(row)) for row in make_split(replace(SPEC, n_train=50, two_step_prob=prob), "train")} == lengths


def test_the_smallest_operands_still_give_both_splits():
    spec = WordProblemSpec(n_train=100, n_eval=10, max_operand=5)
    assert len(make_split(spec, "train") + make_split(spec, "eval")) == 110
    assert all(max(operands(row)) <= 5 for row in make_split(spec, "train"))


def test_gold_scores_full_marks_in_the_task(splits):
    task = GSM8KTags()
    for row in splits["eval"]:
        record = task.record(row, "x")
        result = task.score(record, Completion((), (), record.answer, True))
        assert result.values["accuracy"] == result.values["format"] == result.values["thinking"] == 1


def test_more_rows_than_questions_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(word_problems, "ATTEMPTS", 300)
    monkeypatch.setattr(word_problems, "NAMES", ("Ann", "Ben"))
    monkeypatch.setattr(word_problems, "THINGS", ("pens",))
    spec = WordProblemSpec(n_train=10_000, max_operand=5, two_step_prob=0.0)
    with pytest.raises(UserError, match=r"n_train=10000.*max_operand=5.*raise max_operand"):
        generate(tmp_path / "out", spec)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [{"n_train": 0}, {"n_eval": True}, {"max_operand": 4}, {"max_operand": 1e2}, {"two_step_prob": 1.5}, {"seed": "7"}],
)
def test_an_impossible_spec_is_refused_by_field(tmp_path: Path, change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(UserError, match=re.escape(f"{name}={value!r} is not possible: give ")):
        generate(tmp_path / "out", replace(SPEC, **change))
    assert not (tmp_path / "out").exists()


def test_every_field_of_the_spec_is_described() -> None:
    """The command line shows the text under each field as its help."""
    tree = ast.parse(Path(word_problems.__file__).read_text())
    (spec,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "WordProblemSpec")
    described = {
        field.target.id
        for field, text in zip(spec.body, spec.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(field.target, ast.Name)
    }
    assert described == {field.name for field in fields(WordProblemSpec)}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_rows_that_carry_is_as_asked(share):
    rows = make_split(WordProblemSpec(n_train=300, carry_share=share, working="columns"), "train")
    found = sum(bool(re.search(r"\d[-+]\d+[-+]1=", row["answer"])) for row in rows) / len(rows)
    assert found == pytest.approx(share, abs=0.07)


@pytest.mark.parametrize(
    ("operations", "operands", "expected"),
    [("+", (19, 1), True), ("+", (18, 1), False), ("+", (50, 50), False), ("-", (20, 1), True), ("-", (21, 1), False)],
)
def test_what_carries(operations, operands, expected):
    assert carries(operations, operands) == expected
