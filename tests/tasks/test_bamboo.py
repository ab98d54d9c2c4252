"""The Bamboo scorer: every stage, every way to fail, and nothing that passes without being right."""

import copy
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_posttrain.sandbox import SandboxFault, SandboxSpec
from lightning_posttrain.tasks.bamboo.task import METRICS, STAGES, Bamboo, BambooReward
from lightning_posttrain.tasks.reward import RewardRunner
from lightning_posttrain.types import Completion, UserError
from tests.conftest import HANGS

COLUMNS = {"id": "int64", "region": "string", "amount": "float64", "units": "int64", "day": "date", "count": "int64"}
VISIBLE = [
    [1, "north", 2.5, 3, "2024-01-05", 1],
    [2, "south", 4.0, 1, "2024-02-05", 2],
    [3, "north", 1.5, 2, "2024-02-06", 3],
]
HIDDEN = [
    [
        [1, None, 2.5, 3, "2024-01-05", 1],
        [2, "west", None, None, "2024-02-05", 5],
        [3, "west", None, None, "2024-02-05", 5],
    ],
    [
        [7, "north", 1.5, 1, "2024-01-05", 1],
        [8, "north", 1.5, 1, "2023-01-05", 4],
        [9, "south", 9.0, 2, "2024-01-05", 2],
    ],
]


def make(expected, **compare):
    """A row: columns and the rows expected on each of the three fillings."""
    columns, *fillings = expected
    return {
        "prompt": "Which?",
        "gold_code": "result = sales",
        "tables": {"sales": {"columns": COLUMNS, "rows": VISIBLE}},
        "hidden_tables": [{"sales": rows} for rows in HIDDEN],
        "expected": {"columns": columns, "fillings": fillings},
        "compare": compare,
    }


TOTALS = make(
    (
        [["region", "string"], ["total", "int64"]],
        [["north", 5], ["south", 1]],
        [[None, 3], ["west", None]],
        [["north", 2], ["south", 2]],
    )
)
ONCE = (
    TOTALS
    | {  # for what takes its time
        "hidden_tables": TOTALS["hidden_tables"][:1],
        "expected": TOTALS["expected"] | {"fillings": TOTALS["expected"]["fillings"][:2]},
    }
)
GOLD = 'result = sales.group_by("region").agg(total=_.units.sum())'
SORTED = make(
    (
        [["id", "int64"], ["units", "int64"]],
        [[1, 3], [3, 2], [2, 1]],
        [[1, 3], [2, None], [3, None]],
        [[9, 2], [7, 1], [8, 1]],
    ),
    ordered=True,
    order_by=["units"],
)
NOT_NORTH = make(([["id", "int64"]], [[2]], [[1], [2], [3]], [[9]]))
LATER = make(([["id", "int64"]], [[2], [3]], [[2], [3]], [[8], [9]]))
NUMBERED = make(
    (
        [["id", "int64"], ["pos", "int64"]],
        [[1, 1], [2, 2], [3, 3]],
        [[1, 1], [2, 2], [3, 3]],
        [[7, 1], [8, 2], [9, 3]],
    )
)
THREE = make(([["n", "int64"]], [[3]], [[3]], [[3]]), column_names="relaxed")


def said(code: str) -> str:
    return f"<think>group and sum</think>\n```python\n{code}\n```"


REPEATED = 'result = ibis.memtable({"region": ["north", "south"], "total": [5, 1]})'
CASES = {
    # name: (row, completion, last stage reached, reason)
    "gold": (TOTALS, said(GOLD), "values_hidden", None),
    "imports": (TOTALS, said(f"import ibis\nfrom ibis import _\n{GOLD}"), "values_hidden", None),
    "executed": (TOTALS, said(f"{GOLD}.execute()"), "values_hidden", None),
    "last expression": (TOTALS, said(GOLD.removeprefix("result = ")), "values_hidden", None),
    "read_csv": (TOTALS, said(f'import ibis\nsales = ibis.read_csv("sales.csv")\n{GOLD}'), "values_hidden", None),
    "template's think": (TOTALS, f"plan</think>\n```python\n{GOLD}\n```", "values_hidden", None),
    "sql words in a comment": (TOTALS, said(f"# not con.raw_sql('DROP')\n{GOLD}"), "values_hidden", None),
    "names of the thought": (
        TOTALS,
        '<think>```python\nby = sales.group_by("region")\n```</think>\n'
        "```python\nresult = by.agg(total=_.units.sum())\n```",
        "values_hidden",
        None,
    ),
    "broken thought not needed": (
        TOTALS,
        f"<think>```python\nwhile True: pass\n```</think>\n```python\n{GOLD}\n```",
        "values_hidden",
        None,
    ),
    "no block": (TOTALS, f"<think>x</think>\n{GOLD}", "think_closed", "no_block"),
    "unclosed thought": (TOTALS, f"<think>x\n```python\n{GOLD}\n```", "", "no_block"),
    "syntax": (TOTALS, said("result = sales.agg("), "block_found", "syntax"),
    "sql": (TOTALS, said("SELECT region, sum(units) FROM sales GROUP BY region"), "block_found", "syntax"),
    "raw sql": (TOTALS, said('result = sales.sql("SELECT 1")'), "parses", "refused"),
    "os": (TOTALS, said(f"import os\n{GOLD}"), "parses", "refused"),
    "open": (TOTALS, said(f'open("/etc/passwd").read()\n{GOLD}'), "parses", "refused"),
    "pandas": (TOTALS, said('import pandas as pd\nresult = pd.DataFrame({"region": []})'), "parses", "used_pandas"),
    "pandas after execute": (
        TOTALS,
        said(
            'd = sales.execute()\nresult = d.groupby("region", dropna=False)["units"].sum().reset_index(name="total")'
        ),
        "parses",
        "used_pandas",
    ),
    "aliased pandas": (
        TOTALS,
        said("d = sales.execute()\nf = d\nresult = f.groupby('region').sum()"),
        None,
        "used_pandas",
    ),
    "memtable of a frame": (
        TOTALS,
        said(GOLD.replace("sales.", "ibis.memtable(sales.to_pandas()).")),
        None,
        "used_pandas",
    ),
    "pandas in the thought": (
        TOTALS,
        "<think>```python\ndf = sales.execute()\ntop = df.head()\n```</think>\n"
        "```python\nresult = ibis.memtable(top)\n```",
        "parses",
        "used_pandas",
    ),
    "looked at": (TOTALS, said(f"{GOLD}.execute()\nprint(result.head())"), "values_hidden", None),
    "looked at on the way": (
        TOTALS,
        said(f"df = sales.execute()\nprint(df.to_string())\n{GOLD}"),
        "values_hidden",
        None,
    ),
    "typing": (TOTALS, said(f"from typing import Any\n{GOLD}"), "values_hidden", None),
    "sql by a view": (
        TOTALS,
        said(
            'con.con.execute("create view v as select region, sum(units) total from sales group by 1")\n'
            'result = con.table("v")'
        ),
        "parses",
        "refused",
    ),
    "parsed sql": (
        TOTALS,
        said(
            'q = "select region, sum(units) total from sales group by 1"\n'
            'result = ibis.parse_sql(q, {"sales": sales.schema()})'
        ),
        "parses",
        "refused",
    ),
    "empty": (TOTALS, "", "", "no_block"),
    "eager": (TOTALS, said(GOLD.replace("sales.", "sales.execute().")), "parses", "used_pandas"),
    "other file": (TOTALS, said('result = ibis.read_csv("/etc/passwd")'), "gate_ok", "builds"),
    "no such method": (TOTALS, said(GOLD.replace("group_by", "groupby")), "gate_ok", "builds"),
    "python and": (NOT_NORTH, said("result = sales.filter((_.id > 1) and (_.units > 1))"), "gate_ok", "builds"),
    "column named count": (LATER, said('result = sales.filter(sales.count > 1).select("id")'), "gate_ok", "builds"),
    "its column by name": (
        LATER,
        said('result = sales.filter(sales["count"] > 1).select("id")'),
        "values_hidden",
        None,
    ),
    "unknown name": (TOTALS, said("result = totals"), "gate_ok", "builds"),
    "exits": (TOTALS, said("raise SystemExit(0)"), "gate_ok", None),
    "nothing": (TOTALS, said("x = 1"), "builds", "bad_result"),
    "a text": (TOTALS, said('result = "north 5, south 1"'), "builds", "no_expression"),
    "fails when executed": (TOTALS, said('result = sales.select(total=_.region.cast("int64"))'), "builds", "executes"),
    "endless": (ONCE, said("while True: pass"), "gate_ok", "timeout"),
    "blow-up": (
        ONCE,
        said(
            "t = ibis.range(0, 10**7).unnest().name('i').as_table()\n"
            "result = t.cross_join(t.view()).agg(total=_.i.sum())"
        ),
        "builds",
        None,
    ),
    "too many rows": (
        THREE,
        said("result = ibis.range(0, 10**6).unnest().name('n').as_table()"),
        "builds",
        "output_limit",
    ),
    "repeats the visible result": (TOTALS, said(REPEATED), "values", "hidden_values"),
    "extra column": (TOTALS, said(GOLD.replace("agg(", "agg(n=_.count(), ")), "executes", "extra_columns"),
    "other name": (TOTALS, said(GOLD.replace("total", "sum_units")), "executes", "column_names"),
    "too few rows": (TOTALS, said(f"{GOLD}.limit(1)"), "executes", "row_count"),
    "text for a number": (TOTALS, said(f'{GOLD}.mutate(total=_.total.cast("string"))'), "shape", "types"),
    "other aggregate": (TOTALS, said(GOLD.replace("units.sum", "units.max")), "types", "values"),
    "0 for the sum of nothing": (TOTALS, said(GOLD.replace("sum()", "sum().fill_null(0)")), "values", "hidden_values"),
    "sorted": (SORTED, said('result = sales.order_by(_.units.desc()).select("id", "units")'), "values_hidden", None),
    "ties the other way": (
        SORTED,
        said('result = sales.order_by([_.units.desc(), _.id.desc()]).select("id", "units")'),
        "values_hidden",
        None,
    ),
    "not sorted": (SORTED, said('result = sales.order_by("units").select("id", "units")'), "types", "order"),
    "nulls lost": (
        NOT_NORTH,
        said('result = sales.filter(_.region != "north").select("id")'),
        "values",
        "hidden_row_count",
    ),
    "from 0": (
        NUMBERED,
        said('result = sales.select("id", pos=ibis.row_number().over(order_by="id"))'),
        "types",
        "values",
    ),
    "from 1": (
        NUMBERED,
        said('result = sales.select("id", pos=ibis.row_number().over(order_by="id") + 1)'),
        "values_hidden",
        None,
    ),
    "hugeint": (
        TOTALS,
        said('result = sales.group_by("region").agg(total=_.units.cast("decimal(38, 0)").sum())'),
        "values_hidden",
        None,
    ),
    "scalar, relaxed name": (THREE, said("result = sales.count()"), "values_hidden", None),
    "first of two blocks": (
        TOTALS,
        f"<think>x</think>\n```python\n{GOLD}\n```\nor\n```python\nresult = sales\n```",
        "executes",
        "extra_columns",
    ),
    "own set_backend": (TOTALS, said(f"ibis.set_backend('duckdb')\n{GOLD}"), None, None),
    "leaves a table": (TOTALS, said(f"ibis.get_backend().create_table('left', sales)\n{GOLD}"), None, None),
    "looks for that table": (TOTALS, said("result = ibis.get_backend().table('left')"), "gate_ok", "builds"),
}


@pytest.fixture(scope="module")
def task():
    made = Bamboo(SandboxSpec(wall_seconds=HANGS, cpu_seconds=3.0))
    yield made
    made.close()


def completion(text: str) -> Completion:
    return Completion((1,), (0.0,), text, True)


@pytest.fixture(scope="module")
def scores(task):
    pairs = [(task.record(row, f"f:{i}"), completion(text)) for i, (row, text, *_) in enumerate(CASES.values())]
    return dict(zip(CASES, task.score_all(pairs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_how_far_an_answer_gets(scores, name):
    _, _, last, reason = CASES[name]
    score = scores[name]
    reached = [stage for stage in STAGES if score.values[stage]]
    assert tuple(score.values) == METRICS
    assert set(score.values.values()) <= {0.0, 1.0}
    if last is not None:
        assert reached == list(STAGES[: STAGES.index(last) + 1 if last else 0])
        assert (score.reason is None) == (last == "values_hidden")
    if reason is not None:
        assert score.reason == reason


def test_what_is_told_about_a_failure(scores):
    assert scores["fails when executed"].detail["error_class"] == "ConversionException"
    assert scores["column named count"].detail["error_class"] == "TypeError"
    assert scores["repeats the visible result"].detail["filling"] == 1
    assert scores["endless"].values["timeout"] == 1.0
    assert sum(score.values["timeout"] for score in scores.values()) >= 1
    assert scores["gold"].values["timeout"] == 0.0
    assert scores["gold"].detail["seconds"] > 0


def test_gold_itself_is_told_apart(task):
    record = task.record(TOTALS | {"gold_code": GOLD}, "f:1")
    assert task.score(record, completion(record.answer)).detail["equals_gold"]
    assert not task.score(record, completion(said(GOLD))).detail["equals_gold"]


CONTINUED = "<think>```python\nby = sales.group_by('region')\n```</think>\n```python\n"
DRAFT = f"<think>```python\n{GOLD}\n```</think>\n"


@pytest.mark.parametrize(
    ("text", "agrees"),
    [
        (said(GOLD), 1.0),
        (f"{DRAFT}```python\n{GOLD}\n```", 1.0),
        (f"{DRAFT}```python\nresult = sales.group_by('region').agg(total=sales.units.sum())\n```", 1.0),
        (f"{DRAFT}```python\n{GOLD.replace('sum', 'max')}\n```", 0.0),
        (f"{DRAFT}Result: 5 and 1\n```python\n{GOLD}\n```", 1.0),
        (f"{DRAFT}Result: 6\n```python\n{GOLD}\n```", 0.0),
        (f"{DRAFT}Result: 5", 1.0),
        (f"{DRAFT}That is it.", 0.0),
        (f"<think>```python\nresult = sales.no()\n```</think>\n```python\n{GOLD}\n```", 0.0),
        ("<think>x</think>\nResult: 5", 0.0),
        (f"{CONTINUED}result = by.agg(total=_.units.sum())\n```", 1.0),
        (f"{CONTINUED}result = by.agg(total=_.units.no())\n```", 0.0),
        (f"{CONTINUED}{GOLD}\n```", 0.0),
        (f"{DRAFT}```python\n# as above\n```", 1.0),
    ],
)
def test_whether_thought_and_answer_agree(task, text, agrees):
    assert task.score(task.record(TOTALS, "f:1"), completion(text)).values["answer_agrees"] == agrees


def test_a_template_that_opens_the_thought(task):
    opened = Bamboo(opens_thought=True)
    opened.sandbox = task.sandbox
    values = opened.score(task.record(TOTALS, "f:1"), completion(f"```python\n{GOLD}\n```")).values
    assert not any(values.values())


def test_a_failing_sandbox_is_no_verdict(task, monkeypatch):
    def fail(jobs):
        raise SandboxFault("no workers")

    copied = copy.deepcopy(task)
    monkeypatch.setattr(copied.sandbox, "run", fail)
    with pytest.raises(SandboxFault, match="no workers"):
        copied.score(copied.record(TOTALS, "f:1"), completion(said(GOLD)))


def test_a_copy_has_workers_of_its_own():
    copied = pickle.loads(pickle.dumps(Bamboo(SandboxSpec(workers=1, wall_seconds=HANGS))))
    score = copied.score(pickle.loads(pickle.dumps(copied.record(TOTALS, "f:1"))), completion(said(GOLD)))
    assert score.values["values_hidden"] == 1.0
    copied.close()


PIECES = [
    "<think>",
    "</think>",
    "```python\n",
    "\n```\n",
    "~~~",
    GOLD,
    "result = ",
    "sales",
    "_.",
    "(",
    ")",
    "\x00",
    "\ud800",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_completion_is_scored(task, parts):
    score = task.score(task.record(TOTALS, "f:1"), completion("".join(parts)))
    assert tuple(score.values) == METRICS


def test_rewards_are_staged_and_full_only_for_right_answers(task, scores):
    pairs = [(task.record(row, f"f:{i}"), completion(text)) for i, (row, text, *_) in enumerate(CASES.values())]
    chosen = ["gold", "repeats the visible result", "other aggregate", "syntax", "unclosed thought"]
    picked = [pairs[list(CASES).index(name)] for name in chosen]
    reward = BambooReward(task)
    worth = reward.evaluate(picked)
    assert worth == sorted(worth, reverse=True)
    assert (worth[0], worth[-1]) == (1.0, 0.0)
    assert worth[1] == pytest.approx(0.5)
    assert reward(*picked[1]) == worth[1]
    only = BambooReward(task, weights={"values_hidden": 3.0}, weight=2.0, name="right")
    assert only.evaluate(picked) == [1.0, 0.0, 0.0, 0.0, 0.0]
    table = RewardRunner([reward, only]).evaluate(picked[:2])
    assert table.values.tolist() == [[1.0, 1.0], [worth[1], 0.0]]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"values_hidden": 0.0, "values": 1.0}, "values_hidden=0"),
        ({"values": 1.0}, "values_hidden=0"),
        ({"values_hidden": 1.0, "parses": -1.0}, "weights.parses=-1.0"),
        ({"values_hidden": 1.0, "style": 1.0}, "'style'"),
        ({"values_hidden": 1.0, "timeout": 1.0}, "'timeout'"),
        ({"values_hidden": float("inf")}, "weights.values_hidden=inf"),
    ],
)
def test_impossible_weights(weights, message):
    with pytest.raises(UserError, match=message):
        BambooReward(Bamboo(), weights)
