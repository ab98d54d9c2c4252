"""The format-following data set as files: same spec same bytes, all or nothing, presets and the committed rows."""

import ast
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_posttrain.tasks import format_data, format_texts
from lightning_posttrain.tasks.format_data import FormatDataSpec, generate, make_splits
from lightning_posttrain.types import UserError
from tests.conftest import HANGS

ROOT = Path(__file__).parents[2]
PRESETS = ROOT / "configs" / "format_following" / "data"
TINY = ROOT / "data" / "format_following" / "tiny"
FILES = ["eval.jsonl", "stats.json", "stats.md", "train.jsonl"]


def small(**changes: Any) -> FormatDataSpec:
    return replace(FormatDataSpec(n_train=30, n_eval=10, fix_duplicate_json_prob_train=0.3), **changes)


def digest(directory: Path) -> str:
    data = b"".join((directory / name).read_bytes() for name in ("train.jsonl", "eval.jsonl", "stats.md"))
    return hashlib.sha256(data).hexdigest()


def test_files_stats_and_return_value(tmp_path: Path) -> None:
    spec = small(n_train=200, fix_bad_output_prob_train=0.5)
    stats = generate(tmp_path / "new" / "dir", spec)
    directory = tmp_path / "new" / "dir"
    assert sorted(path.name for path in directory.iterdir()) == FILES
    assert json.loads((directory / "stats.json").read_text()) == stats
    assert list(stats) == ["created_at", "out_dir", "params", "train", "eval"]
    assert stats["params"] == asdict(spec)
    for split, rows in make_splits(spec).items():
        assert [json.loads(line) for line in (directory / f"{split}.jsonl").read_text().splitlines()] == rows
        part = stats[split]
        assert part["num_rows"] == len(rows)
        for key in ("variant", "json_format", "instruction_strictness"):
            assert sum(part[f"{key}_counts"].values()) == len(rows)
    styles = stats["train"]["bad_output_style_counts"]
    assert styles["fix_duplicate_json"] == {"duplicate_json": stats["train"]["variant_counts"]["fix_duplicate_json"]}
    assert set(styles["fix_bad_output"]) == set(format_texts.BAD_OUTPUT_STYLES)
    page = (directory / "stats.md").read_text()
    assert f"- num_rows: {spec.n_train}\n" in page
    assert f"  - basic: {stats['train']['variant_counts']['basic']}\n" in page


def test_same_spec_same_bytes_another_seed_others(tmp_path: Path) -> None:
    for name, spec in {"a": small(), "b": small(), "c": small(seed=-7)}.items():
        generate(tmp_path / name, spec)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lightning_posttrain.tasks.format_data import *;"
        f"generate(Path(sys.argv[1]), {small()!r})"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True, env=env, timeout=HANGS)
    generate(tmp_path / "here", small())
    assert digest(tmp_path / "other") == digest(tmp_path / "here")


def test_text_is_utf8_with_real_letters(tmp_path: Path) -> None:
    generate(tmp_path, small(n_train=60))
    text = (tmp_path / "train.jsonl").read_bytes().decode("utf-8")
    assert "ë" in text
    assert "\\u" not in text


def test_the_size_of_one_split_does_not_change_the_other_nor_the_rows_before() -> None:
    short, long = make_splits(small()), make_splits(small(n_train=60, n_eval=20))
    assert long["train"][:30] == short["train"]
    assert long["eval"][:10] == short["eval"]


def test_a_failure_while_writing_keeps_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path, small())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_bytes

    def full_disk(path: Path, data: bytes) -> int:
        if "eval" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match=r"output_dir=.*No space left"):
        generate(tmp_path, small(seed=8))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="output_dir="):
        generate(tmp_path / "file", small())
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "change",
    [
        {"n_train": 0},
        {"n_eval": -1},
        {"n_train": True},
        {"n_eval": 2.5},
        {"seed": "7"},
        {"seed": 1.5},
        {"holdout": "no"},
        {"train_strictness": "harsh"},
        {"eval_strictness": None},
        {"hard_negative_prob_train": 1.01},
        {"hard_negative_prob_eval": -0.1},
        {"fix_bad_output_prob_train": float("nan")},
        {"fix_duplicate_json_prob_train": "0.5"},
        {"large_amount_prob": True},
    ],
)
def test_an_impossible_spec_is_refused_by_field_and_writes_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(UserError) as caught:
        generate(tmp_path / "out", small(**change))
    assert f"{name}={value!r}" in str(caught.value)
    assert "give " in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_every_field_of_the_spec_is_described() -> None:
    """The command line shows the text under each field as its help."""
    tree = ast.parse(Path(format_data.__file__).read_text())
    (spec,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "FormatDataSpec")
    described = {
        field.target.id
        for field, text in zip(spec.body, spec.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(field.target, ast.Name)
    }
    assert described == {field.name for field in fields(FormatDataSpec)}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            "example",
            FormatDataSpec(2000, 1000, 7, 0.4, 0.4, 0.25, eval_strictness="medium"),
        ),
        ("hard_eval", FormatDataSpec(2000, 2000, train_strictness="hard", eval_strictness="hard")),
        ("dupfix_v4", FormatDataSpec(3000, 2000, fix_duplicate_json_prob_train=0.35)),
        (
            "quickstart",
            FormatDataSpec(
                24000, 240, 7, 0.1, 0.2, 0.0, train_strictness="rising", eval_strictness="hard", large_amount_prob=0.0
            ),
        ),
    ],
)
def test_presets_hold_what_they_promise(preset: str, expected: FormatDataSpec) -> None:
    spec = FormatDataSpec(**yaml.safe_load((PRESETS / f"{preset}.yaml").read_text()))
    spec.check()
    assert spec == expected


def test_the_committed_tiny_set_is_what_the_generator_writes(tmp_path: Path) -> None:
    generate(tmp_path, FormatDataSpec(**yaml.safe_load((PRESETS / "tiny.yaml").read_text())))
    for name in ("train.jsonl", "eval.jsonl", "stats.md"):
        assert (tmp_path / name).read_bytes() == (TINY / name).read_bytes()
    made, kept = (json.loads((directory / "stats.json").read_text()) for directory in (tmp_path, TINY))
    assert {**made, "created_at": "", "out_dir": ""} == {**kept, "created_at": "", "out_dir": ""}
    assert set(kept["train"]["variant_counts"]) == {
        *("basic", "hard_negative_train_priming", "fix_bad_output", "fix_duplicate_json")
    }


def test_rising_strictness_is_a_curriculum_in_file_order():
    rows = make_splits(FormatDataSpec(n_train=9, n_eval=1, train_strictness="rising"))["train"]
    assert [row["instruction_strictness"] for row in rows] == ["strict"] * 3 + ["medium"] * 3 + ["hard"] * 3


def test_mixed_strictness_draws_each_level():
    rows = make_splits(FormatDataSpec(n_train=60, n_eval=60, train_strictness="mixed", eval_strictness="mixed"))
    for split in rows.values():
        assert {row["instruction_strictness"] for row in split} == {"strict", "medium", "hard"}


def test_evaluation_has_no_curriculum():
    with pytest.raises(UserError, match="eval_strictness='rising'"):
        FormatDataSpec(eval_strictness="rising").check()
