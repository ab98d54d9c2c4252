"""Snippets that must work, as models write them, and what comes out."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lightning_posttrain.sandbox import Database, Job, Outcome, Sandbox, SandboxSpec, Table, worker
from lightning_posttrain.sandbox.inside import frames
from lightning_posttrain.types import UserError

from .conftest import NUMBERS

SALES = Table(
    "sales",
    (("id", "int64"), ("region", "string"), ("amount", "float64"), ("day", "date"), ("price", "decimal(10,2)")),
    (
        (1, "north", 1.5, "2024-01-31", "10.50"),
        (2, "south", None, "2024-02-01", "0.10"),
        (3, "north", "NaN", None, None),
        (4, None, 4.0, "2024-02-29", "99999999.99"),
    ),
)
ORDERS = Table("orders", (("sale", "int64"), ("item", "string")), ((1, "a"), (1, "b"), (9, "c")))

ROWS = {
    "import ibis\nfrom ibis import _\nsales.filter(_.id > 2).select('id').order_by('id')": ((3,), (4,)),
    "sales.filter(_.id > 2).select('id').order_by('id')": ((3,), (4,)),
    "t = sales\nresult = t.region.nunique()\nprint('done')": ((2,),),
    "result = sales.group_by('region').agg(n=_.count()).order_by('region')": (("north", 2), ("south", 1), (None, 1)),
    "sales.join(orders, sales.id == orders.sale).order_by('item').select('id', 'item')": ((1, "a"), (1, "b")),
    "con.table('sales').id.max()": ((4,),),
    "sales.select('id').limit(1).execute()": ((1,),),
    "sales.id.sum().execute()": ((10,),),
    "sales.amount.execute()": ((1.5,), (None,), ("NaN",), (4.0,)),
    "sales.mutate(r=ibis.row_number().over(order_by=_.id.desc())).filter(_.r == 0).select('id')": ((4,),),
    "ibis.memtable({'a': [1, 2]}).a.sum()": ((3,),),
    "import datetime\nsales.filter(_.day >= datetime.date(2024, 2, 1)).count()": ((2,),),
    "sales.day.max()": (("2024-02-29",),),
    "sales.price.sum()": (("100000010.59",),),
    "import ibis.selectors as s\nsales.select(s.of_type('string')).distinct().count()": ((3,),),
    "def top(t, n):\n    return t.order_by(_.id.desc()).limit(n)\ntop(sales, 1).select('id')": ((4,),),
    "[t for t in [sales]][0].count()": ((4,),),
    "# open('x'), exec, COPY\nsales.filter(_.region == 'to_csv exec open __class__').count()": ((0,),),
    "import math\nmath.sqrt(4.0)": ((2.0,),),
    "import pandas as pd\nresult = pd.DataFrame({'a': [1, None]})": ((1.0,), (None,)),
    "df = sales.execute()\ndf[df.id > 3][['id']]": ((4,),),
    "import numpy as np\nnp.int64(3)": ((3,),),
    "sales.id.to_pyarrow()": ((1,), (2,), (3,), (4,)),
    "if __name__ == '__main__':\n    result = sales.count()": ((4,),),
    "ibis.set_backend('duckdb')\nsales.count()": ((4,),),
    "sales.mutate(os=1).os.sum()": ((4,),),
    "con.create_view('v', sales.filter(_.id < 3))\ncon.table('v').count()": ((2,),),
    "con.disconnect()\nsales.count()": ((4,),),
}

READERS = [
    "ibis.read_csv('sales.csv')",
    "ibis.read_csv('data/in/sales.csv', delim=';')",
    "ibis.read_parquet('x/sales.parquet')",
    "ibis.read_json('sales.json')",
    "con.read_csv('sales.csv', table_name='s')",
    "con.read_parquet(['sales.parquet'])",
    "ibis.duckdb.connect().table('sales')",
    "ibis.connect('duckdb://').read_csv('sales.csv')",
    "ibis.duckdb.connect(':memory:', threads=4).read_parquet('sales.parquet')",
]


def run(sandbox: Sandbox, code: str, *tables: Table, **options: object) -> Outcome:
    (outcome,) = sandbox.run([Job(code, tables or (SALES, ORDERS), **options)])  # type: ignore[arg-type]
    return outcome


@pytest.mark.parametrize("code", ROWS)
def test_rows(sandbox: Sandbox, code: str):
    outcome = run(sandbox, code)
    assert (outcome.status, outcome.stage, outcome.rows) == ("ok", "executes", ROWS[code]), outcome


@pytest.mark.parametrize("reader", READERS)
def test_reading_a_file_gives_the_table_of_its_name(sandbox: Sandbox, reader: str):
    outcome = run(sandbox, f"{reader}.filter(ibis._.id == 2).select('region')")
    assert outcome.rows == (("south",),), outcome


@pytest.mark.parametrize("path", ["other.csv", "/etc/passwd", "sales/other.csv", "https://x.org/a.csv"])
def test_other_files_are_the_snippets_mistake(sandbox: Sandbox, path: str):
    outcome = run(sandbox, f"ibis.read_csv({path!r})")
    assert (outcome.status, outcome.error_class) == ("error", "FileNotFoundError")
    assert "sales" in (outcome.error or "")


def test_sql(sandbox: Sandbox):
    outcome = run(sandbox, "SELECT region, sum(id) AS total FROM sales GROUP BY 1 ORDER BY 2;", language="sql")
    assert outcome.columns == (("region", "string"), ("total", "hugeint"))
    assert outcome.rows == (("south", 2), ("north", 4), (None, 4))
    assert not outcome.deferred
    pivot = run(sandbox, "PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)", language="sql")
    assert pivot.status == "ok"


def database(*statements: str) -> Database:
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
        return Database(db.serialize())


TWO = (
    database("CREATE TABLE t (a INTEGER, b TEXT)", "INSERT INTO t VALUES (7, 'x'), (2, NULL)"),
    database("CREATE TABLE t (a INTEGER, b TEXT)"),
)


def run_sqlite(sandbox: Sandbox, code: str) -> Outcome:
    (outcome,) = sandbox.run([Job(code, language="sqlite", databases=TWO)])
    return outcome


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("SELECT 7 / 2", 3),
        ("SELECT 'A' LIKE 'a'", 1),
        ('SELECT a FROM t WHERE b = "x"', 7),
        ("SELECT MAX(a, 5) FROM t", 7),
        ("SELECT a FROM t GROUP BY 1 ORDER BY 1 DESC", 7),
        ("SELECT strftime('%Y', '1839-12-27') + 0", 1839),
        ("SELECT SUM(a) FILTER (WHERE b IS 'x') FROM t", 7),
        ("SELECT group_concat(a, '-') FROM t", "7-2"),
        ("SELECT a FROM t WHERE a = '7'", 7),
        ("SELECT COUNT(*) FROM t NATURAL JOIN (SELECT 7 AS a)", 1),
        ("WITH RECURSIVE c(x) AS (SELECT 1 UNION SELECT x + 1 FROM c WHERE x < 9) SELECT SUM(x) FROM c", 45),
        ("SELECT SUM(value) FROM json_each('[1, 2]')", 3),
        ("SELECT x'00ff'", {"blob": "AP8="}),
        ("SELECT 9e999", {"real": "Infinity"}),
        ("SELECT 4611686018427387904 * 1", 2**62),
        ("SELECT CAST(x'ff41' AS TEXT)", "\ufffdA"),
        ("SELECT RANK() OVER (ORDER BY a DESC) FROM t", 1),
    ],
)
def test_sqlite_is_sqlite(sandbox: Sandbox, code: str, value: object):
    outcome = run_sqlite(sandbox, code)
    assert outcome.rows is not None, outcome
    assert outcome.rows[0][0] == value
    assert [part.status for part in outcome.parts or ()] == ["ok", "ok"]


def test_a_query_on_several_databases(sandbox: Sandbox):
    outcome = run_sqlite(sandbox, "SELECT a, b AS c FROM t ORDER BY a;  -- all")
    assert outcome.columns == (("a", "unknown"), ("c", "unknown"))
    assert [part.rows for part in outcome.parts or ()] == [((2, None), (7, "x")), ()]
    outcome = run_sqlite(sandbox, "SELECT ABS(a - 9223372036854775807 - a - 1) FROM t")  # fails where there are rows
    assert (outcome.status, outcome.rows, outcome.stage) == ("error", None, "none")
    assert [part.status for part in outcome.parts or ()] == ["error", "ok"]


def test_databases_that_cannot_be(sandbox: Sandbox):
    with pytest.raises(UserError, match="not a database"):
        sandbox.run([Job("SELECT 1", language="sqlite", databases=(Database(b"no database" * 100),))])
    with pytest.raises(UserError, match="databases belong to"):
        sandbox.run([Job("SELECT 1", language="sqlite")])
    with pytest.raises(UserError, match="databases belong to"):
        sandbox.run([Job("1", databases=TWO)])


def test_a_database_of_a_write_ahead_log(sandbox: Sandbox, tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t AS SELECT 5 AS a")
        db.commit()
    held = (Database((tmp_path / "x.db").read_bytes()),)
    (outcome,) = sandbox.run([Job("SELECT a FROM t", language="sqlite", databases=held)])
    assert outcome.rows == ((5,),)


def test_steps_are_counted_on_each_database(sandbox: Sandbox):
    counted = tuple(Database(one.image, most) for one, most in ((TWO[0], 10**9), (TWO[0], 20_000)))
    code = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000) SELECT COUNT(*) FROM c"
    (outcome,) = sandbox.run([Job(code, language="sqlite", databases=counted)])
    assert [part.status for part in outcome.parts or ()] == ["ok", "timeout"]


def test_a_worker_is_sent_a_database_once_and_forgets_those_used_longest_ago(monkeypatch: pytest.MonkeyPatch):
    sent: list[bytes] = []
    send = frames.send
    monkeypatch.setattr(worker.frames, "send", lambda sock, part: (sent.append(part), send(sock, part)))
    monkeypatch.setattr(worker, "HELD", 3)
    many = [database(f"CREATE TABLE t AS SELECT {number} AS a") for number in range(5)]

    def values(*numbers: int) -> list[object]:
        sent.clear()
        jobs = [Job(f"SELECT a + 0 * {n} FROM t", language="sqlite", databases=(many[n],)) for n in numbers]
        return [outcome.rows[0][0] for outcome in sandbox.run(jobs) if outcome.rows]

    with Sandbox(SandboxSpec(workers=1)) as sandbox:
        for numbers, new in (((0, 1, 2), 3), ((2, 1, 0, 2), 0), ((3, 4), 2), ((3, 4), 0)):
            assert values(*numbers) == list(numbers)
            assert sum(part in {one.image for one in many} for part in sent) == new
        assert len(sandbox._workers[0].held) == 3


@pytest.mark.parametrize(
    ("code", "status", "stage"),
    [
        ("SELEC 1", "error", "none"),
        ("SELECT 1; SELECT 2", "refused", "parses"),
        ("CREATE TABLE x AS SELECT 1; SELECT 2", "refused", "parses"),
        ("DROP TABLE sales", "refused", "parses"),
        ("", "refused", "parses"),
        ("SELECT nothing FROM sales", "error", "gate_ok"),
        ("SELECT region::INT FROM sales", "error", "builds"),
        ("SELECT 1", "ok", "executes"),
    ],
)
def test_stages_of_sql(sandbox: Sandbox, code: str, status: str, stage: str):
    outcome = run(sandbox, code, language="sql")
    assert (outcome.status, outcome.stage) == (status, stage), outcome


@pytest.mark.parametrize(
    ("code", "status", "stage"),
    [
        ("sales.filter(", "error", "none"),
        ("import os", "refused", "parses"),
        ("sales.nothing", "error", "gate_ok"),
        ("sales.region.cast('int64')", "error", "builds"),  # only executing it shows
        ("sales.count", "bad_result", "builds"),
        ("sales.group_by('region')", "bad_result", "builds"),
        ("result = None", "bad_result", "builds"),
        ("sales", "ok", "executes"),
    ],
)
def test_stages_of_python(sandbox: Sandbox, code: str, status: str, stage: str):
    outcome = run(sandbox, code)
    assert (outcome.status, outcome.stage) == (status, stage), outcome


def test_flags(sandbox: Sandbox):
    flags = {
        "sales": (True, False),
        "sales.execute()": (True, False),
        "len(sales.execute())": (True, False),
        "3": (False, False),
        "import pandas as pd\npd.DataFrame({'a': [1]})": (False, True),
        "import numpy\nsales": (True, True),
    }
    for code, expected in flags.items():
        outcome = run(sandbox, code)
        assert (outcome.deferred, outcome.used_pandas) == expected, code
    prelude = run(sandbox, "pd.DataFrame({'a': [1]})", prelude=("import pandas as pd",))
    assert (prelude.status, prelude.used_pandas) == ("ok", True)


def test_a_column_called_like_a_method_is_the_snippets_error(sandbox: Sandbox):
    table = Table("t", (("count", "int64"),), ((1,),))
    assert run(sandbox, "t.filter(t.count > 0)", table).error_class == "TypeError"
    assert run(sandbox, "t.filter(t['count'] > 0)", table).status == "ok"


def test_prelude(sandbox: Sandbox):
    assert run(sandbox, "big.count()", prelude=("big = sales.filter(_.id > 2)",)).rows == ((2,),)
    assert run(sandbox, "big.count()", prelude=("big = sales", "1/0", "raise SystemExit", "import os", "x =")).rows == (
        (4,),
    )
    assert run(sandbox, "sales.count()", prelude=("result = 7",)).rows == ((4,),)  # its answer is not the answer
    assert run(sandbox, "x = 1", prelude=("result = 7",)).rows == ((7,),)


def test_an_executed_frame_keeps_types_until_it_is_changed(sandbox: Sandbox):
    whole = run(sandbox, "result = sales.execute()")
    assert whole.columns is not None
    assert whole.columns[0] == ("id", "int64")
    assert (whole.rows or ())[2] == (3, "north", "NaN", None, None)
    changed = run(sandbox, "result = sales.execute()\nresult['id'] = 0")
    assert [row[0] for row in changed.rows or ()] == [0, 0, 0, 0]
    grouped = run(sandbox, "sales.execute().groupby('region').id.sum()")
    assert grouped.rows == (("north", 4), ("south", 2))


def test_types(sandbox: Sandbox):
    columns = {
        "hugeint": ("ibis.literal(2**63, 'decimal(38,0)') * 3", str(2**63 * 3)),
        "big": ("ibis.literal(-(2**63))", -(2**63)),
        "nan": ("ibis.literal(float('nan'))", "NaN"),
        "infinite": ("ibis.literal(float('-inf'))", "-Infinity"),
        "null": ("ibis.null('float64')", None),
        "stamp": ("ibis.timestamp('2024-01-02 03:04:05.6')", "2024-01-02T03:04:05.600000"),
        "zoned": ("ibis.literal('2024-01-02 03:04:05', 'timestamp(\"UTC\")')", "2024-01-02T03:04:05+00:00"),
        "time": ("ibis.time('01:02:03')", "01:02:03"),
        "span": ("ibis.interval(hours=1)", "PT3600S"),
        "list": ("ibis.array([1, 2])", [1, 2]),
        "struct": ("ibis.struct({'a': 1, 'b': 'x'})", {"a": 1, "b": "x"}),
        "map": ("ibis.map({'a': 1})", {"a": 1}),
        "flag": ("ibis.literal(True)", True),
        "uuid": ("ibis.uuid('0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0f')", "0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0f"),
        "bytes": ("ibis.literal(b'\\x00\\xff')", "00ff"),
    }
    code = "numbers.limit(1).select(" + ", ".join(f"{name}={value}" for name, (value, _) in columns.items()) + ")"
    outcome = run(sandbox, code, NUMBERS)
    assert outcome.status == "ok", outcome
    found = {name: value for (name, _), value in zip(outcome.columns or (), (outcome.rows or ((),))[0], strict=True)}
    assert found == {name: value for name, (_, value) in columns.items()}


def test_tables_of_all_types(sandbox: Sandbox):
    kinds = {
        "int8": 1, "uint64": 2**64 - 1, "float32": 0.5, "boolean": True, "string": "a'\"é\u2028", "date": "2024-02-29",
        "timestamp": "2024-01-02T03:04:05", "timestamp('UTC')": "2024-01-02T03:04:05+00:00", "time": "01:02:03",
        "decimal(5,1)": "12.5", "uuid": "0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0f", "array<int64>": [1, None],
        "struct<a: int64>": {"a": 1},
    }  # fmt: skip
    columns = tuple((f"c{i}", kind) for i, kind in enumerate(kinds))
    table = Table("t", columns, (tuple(kinds.values()), (None,) * len(kinds)))
    outcome = run(sandbox, "t", table)
    assert outcome.rows == table.rows, outcome
    assert run(sandbox, "t.count()", Table("t", columns, ())).rows == ((0,),)


@pytest.mark.parametrize(
    ("columns", "rows", "words"),
    [
        ((("x", "int64"),), (("one",),), "table t, column x"),
        ((("x", "nothing"),), ((1,),), "table t, column x"),
        ((("x", "date"),), (("yesterday",),), "table t"),
        ((("x", "int64"), ("x", "int64")), ((1, 2),), "x"),
        ((("x", "int64"),), ((1, 2),), "2 values"),
        ((("x", "int64"),), ((object(),),), "JSON"),
        ((), (), "table 't'"),
    ],
)
def test_tables_that_cannot_be_are_the_callers_mistake(sandbox: Sandbox, columns: tuple, rows: tuple, words: str):
    with pytest.raises(UserError, match=words):
        run(sandbox, "t", Table("t", columns, rows))
    assert run(sandbox, "sales.count()").status == "ok"


def test_names_that_cannot_be(sandbox: Sandbox):
    with pytest.raises(UserError, match="names must differ"):
        run(sandbox, "1", NUMBERS, NUMBERS)
    with pytest.raises(UserError, match="name of its own"):
        run(sandbox, "1", Table("con", NUMBERS.columns, ()))
    with pytest.raises(UserError, match="language"):
        run(sandbox, "1", language="r")
    odd = Table('my "table', NUMBERS.columns, NUMBERS.rows)
    assert run(sandbox, "con.table('my \"table').count()", odd).rows == ((3,),)


def test_tables_of_other_jobs_are_gone(sandbox: Sandbox):
    first, second = sandbox.run([Job("sales.count()", (SALES,)), Job("con.list_tables()[0] == 'numbers'", (NUMBERS,))])
    assert (first.rows, second.rows) == (((4,),), ((True,),))
    assert run(sandbox, "con.table('sales')", NUMBERS).status == "error"


def test_snippets_leave_nothing_to_the_next(sandbox: Sandbox):
    jobs = ["con.create_table('left', sales)\nibis.left = 1\nsales.count()", "con.list_tables()[-1]", "ibis.left"]
    outcomes = [run(sandbox, code) for code in jobs]
    assert [outcome.rows for outcome in outcomes] == [((4,),), (("sales",),), None]
