"""The committed Bamboo data: what it claims holds when it is run, and its generator writes the same bytes again.

A sample is run here; `BAMBOO_DATA=all` runs every row.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from lightning_posttrain.sandbox import SandboxSpec
from lightning_posttrain.tasks.bamboo import Bamboo, data, mutants
from lightning_posttrain.tasks.bamboo.data import SIZES, BambooDataSpec, Maker
from lightning_posttrain.tasks.bamboo.easy import CONDITIONS, easy_schemas, easy_templates
from lightning_posttrain.tasks.bamboo.schemas import ROLES, SCHEMAS
from lightning_posttrain.tasks.bamboo.templates_more import TEMPLATES
from lightning_posttrain.types import Completion, UserError
from tests.conftest import HANGS

DATA = Path(__file__).parents[2] / "data" / "bamboo"
FILES = {name: [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()] for name in SIZES}
EVERY = None if os.environ.get("BAMBOO_DATA") == "all" else 15


@pytest.fixture(scope="module")
def task():
    made = Bamboo(SandboxSpec(wall_seconds=HANGS, cpu_seconds=HANGS))
    yield made
    made.close()


def sample(name):
    """The rows of a file that are run, each with its line; which ones differs from file to file."""
    rows = list(enumerate(FILES[name], start=1))
    return rows if EVERY is None else rows[len(name) % EVERY :: EVERY * (1 + len(rows) // 200)]


def completion(text):
    return Completion((), (), text, True)


def test_every_gold_answer_passes(task):
    pairs, difficulties = [], Counter()
    for name in SIZES:
        for line, row in sample(name):
            record = task.record(row, f"{name}:{line}")
            gold = record.answer if "rlvr" not in name else f"<think></think>\n{record.answer}"
            pairs.append((record, completion(gold)))
            difficulties[row["difficulty"]] += 1
    for (record, _), score in zip(pairs, task.score_all(pairs), strict=True):
        missed = {key for key, value in score.values.items() if not value} - {"timeout"}
        assert not missed, (record.id, missed, score.detail)
        assert score.reason is None
    assert set(difficulties) == {"easy", "medium", "hard"}


def test_every_rejected_answer_fails_as_its_label_says(task):
    rows = [(f"{name}:{line}", row) for name in ("dpo_train", "dpo_val") for line, row in sample(name)]
    pairs = [(task.record(row, origin), completion(row["rejected"][0]["content"])) for origin, row in rows]
    for (origin, row), score in zip(rows, task.score_all(pairs), strict=True):
        assert score.values["values_hidden"] == 0.0, origin
        assert score.reason == row["rejected_reason"], origin


def test_labels_and_reasons_belong_together():
    reasons = {
        "syntax": {"syntax"},
        "raw_sql": {"refused"},
        "pandas_code": {"used_pandas"},
        "eager": {"used_pandas"},
        "hallucinated_method": {"builds"},
        "python_and": {"builds"},
    }
    found = Counter(row["rejected_kind"] for name in ("dpo_train", "dpo_val") for row in FILES[name])
    assert {
        *reasons,
        "hard_coded",
        "wrong_join",
        "wrong_aggregate",
        "off_by_one",
        "off_by_one_window",
        "null_handling",
    } <= set(found)
    for name in ("dpo_train", "dpo_val"):
        for row in FILES[name]:
            assert row["rejected_reason"] in reasons.get(row["rejected_kind"], {row["rejected_reason"]})
            assert row["chosen"] != row["rejected"]
            if row["rejected_kind"] == "hard_coded":
                assert row["rejected_reason"] not in {"syntax", "refused", "no_block"}


def test_files_have_the_rows_and_fields_they_should():
    assert sum(len(rows) for name, rows in FILES.items() if name.startswith("sft")) >= 400
    assert sum(len(rows) for name, rows in FILES.items() if name.startswith("dpo")) >= 200
    assert sum(len(rows) for name, rows in FILES.items() if name.startswith("rlvr")) >= 200
    assert sum((DATA / f"{name}.jsonl").stat().st_size for name in SIZES) < 4_000_000
    for name, rows in FILES.items():
        assert len(rows) == sum(SIZES[name])
        for row in rows:
            assert len(row["hidden_tables"]) >= 2
            assert row["split"] == name.rpartition("_")[2]
            answer = row["messages"][-1] if "messages" in row else (row.get("chosen") or [None])[0]
            if answer:
                assert re.fullmatch(r"<think>.+</think>\n.*```python\n.+\n```", answer["content"], re.DOTALL)
            if name.startswith("rlvr"):
                assert row["verifier"] == "ibis"


def test_nothing_of_one_split_is_in_another():
    by_split: dict[str, dict[str, set[str]]] = {}
    for rows in FILES.values():
        for row in rows:
            split = by_split.setdefault(row["split"], {"template": set(), "schema": set(), "prompt": set()})
            split["template"].add(row["template"])
            split["schema"].add(row["schema"])
            split["prompt"].add(json.dumps(row.get("prompt") or row["messages"][:-1]))
    for what in ("template", "schema", "prompt"):
        sets = [split[what] for split in by_split.values()]
        assert sum(map(len, sets)) == len(set().union(*sets))
    prompts = [json.dumps(row.get("prompt") or row["messages"][:-1]) for rows in FILES.values() for row in rows]
    assert len(set(prompts)) == len(prompts)


def test_hidden_tables_hold_what_trips_code_up():
    row = next(row for row in FILES["sft_train"] if row["template"] == "join_count")
    nulls, ties = ([tables[name] for name in row["tables"]] for tables in row["hidden_tables"])
    events, things = nulls
    assert any(value is None for event in events for value in event[:5])
    for filled in (nulls, ties):
        assert len({tuple(event[1:]) for event in filled[0]}) < len(filled[0])  # rows alike but for their keys
        assert {thing[0] for thing in filled[1]} - {event[1] for event in filled[0]}  # groups without rows
    assert {event[1] for event in ties[0]} - {thing[0] for thing in ties[1]} <= {99}
    assert len(things) == 5


def test_a_part_made_again_is_the_same(task):
    maker = Maker(0)
    maker.sandbox, maker.task = task.sandbox, task
    for name in ("sft_test", "dpo_val"):
        committed = {row["id"]: row for row in FILES[name]}
        for row in maker.rows(name, 1, 2):
            assert json.dumps(row) == json.dumps(committed[row["id"]])


def test_the_easy_tier_holds_out_combinations_of_known_parts():
    templates, schemas = easy_templates(), easy_schemas()
    for split in ("val", "test"):
        assert not {t.gold for t in templates[split]} & {t.gold for t in templates["train"]}
        for part in ("t", "cat", "qty", "num"):
            assert {getattr(s, part) for s in schemas[split]} <= {getattr(s, part) for s in schemas["train"]}
    code = " ".join(t.gold for t in templates["train"])
    assert all(f".{call}(" in code for call in ("sum", "mean", "max", "min", "count", "group_by"))
    assert all(condition in code for condition in CONDITIONS.values())


def test_templates_and_schemas_are_whole():
    families = {split: {t.family for t in TEMPLATES if t.split == split} for split in SCHEMAS}
    assert families["train"] == families["val"] == families["test"]
    assert len({t.name for t in TEMPLATES}) == len(TEMPLATES)
    for schemas in SCHEMAS.values():
        for schema in schemas:
            assert len({getattr(schema, role) for role in ROLES}) == len(ROLES)
            assert len(schema.cats) == 4
            assert len(schema.names) == 6


@pytest.mark.parametrize(
    ("gold", "label", "mutant"),
    [
        ("a.left_join(b, x)", "wrong_join", "a.join(b, x)"),
        ("t.agg(n=_.x.sum())", "wrong_aggregate", "t.agg(n=_.x.mean())"),
        ("t.filter(_.x > 4)", "off_by_one", "t.filter(_.x >= 4)"),
        ("t.filter(_.x > f(4)).agg(y=1)", "missing_filter", "t.agg(y=1)"),
        (
            "ibis.row_number().over(w).filter(_.p < 3)",
            "off_by_one_window",
            "ibis.row_number().over(w).filter(_.p <= 3)",
        ),
        ("_.x.fill_null(0)", "null_handling", "_.x"),
        ('t.order_by(ibis.desc("x"))', "wrong_order", 't.order_by("x")'),
    ],
)
def test_naive_versions(gold, label, mutant):
    assert (label, mutant) in mutants.naive(gold)


@pytest.mark.parametrize(("field", "value"), [("scale", 0), ("scale", 6.0), ("seed", 1.5)])
def test_an_impossible_spec_is_refused(tmp_path, field, value):
    with pytest.raises(UserError, match=f"{field}={value}"):
        data.generate(tmp_path / "x", BambooDataSpec(**{field: value}))
    assert not (tmp_path / "x").exists()


def test_a_template_that_tables_cannot_tell_from_naive_code_is_an_error(monkeypatch):
    monkeypatch.setattr(data, "ATTEMPTS", 0)
    with pytest.raises(UserError, match="sft_val: no tables tell"):
        Maker(0).rows("sft_val", 1, 0)
